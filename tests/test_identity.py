"""Identity: contracts.md 9.0, every vector with its literal value."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import identity

UPPER = "FAB1E2E699B3B927CBF875046A64F2225DF02D5CB306F3857424C2BBB87BE61F"


@pytest.mark.parametrize(
    ("text", "digest"),
    [
        ("john@email.com", "fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f"),
        (" Jane.Doe@Example.COM ", "86e0b9e56c17cc4d12387e1949b85053fbe73bc3ce5a1188713a9d300cc6133d"),
        ("Jane.Doe@Example.COM", "86e0b9e56c17cc4d12387e1949b85053fbe73bc3ce5a1188713a9d300cc6133d"),
        ("test.email@test.com", "d2a904f42a7f3632a0b9df96d33071b7ea31517d38fe3a8b1333f1ccec475f8c"),
        (UPPER, "fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f"),
        (identity.EMPTY_SHA256, None),
        ("", None),
        ("  ", None),
        (None, None),
        ("not-an-email", None),
        ("a@b@c", None),
        ("a b@c.com", None),
    ],
)
def test_an_email_has_one_digest(text: str | None, digest: str | None) -> None:
    """Case and outer spaces do not matter, a digest is not hashed twice, what is no address has none."""
    assert identity.email_sha256(text) == digest


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (" Jane.Doe@Example.COM ", "jane.doe@example.com"),
        ("e\u0301@x.fr", "\u00e9@x.fr"),
        ("a+tag@x.com", "a+tag@x.com"),
        ("not-an-email", None),
        ("a@b@c", None),
        ("a b@c.com", None),
        ("@x.com", None),
        ("a@", None),
        ("", None),
    ],
)
def test_an_email_is_stripped_lowered_and_nothing_else(text: str, address: str | None) -> None:
    """NFC, strip, lower; no vendor applies Gmail's tricks, so neither do we."""
    assert identity.email(text) == address


def test_the_md5_of_an_email_is_the_vendors() -> None:
    """AdRoll's email_md5 of the normal form."""
    assert identity.md5("jane.doe@example.com") == "0cba00ca3da1b283a57287bcceb17e35"


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("+1 (323) 867-5309", "3238675309"),
        ("+1 (212) 867-5309", "2128675309"),
        ("3053211654", "3053211654"),
        ("+44 20 7946 0018", None),
        ("12345", None),
        ("23238675309", None),
        ("\u0663\u0662\u0663\u0668\u0666\u0667\u0665\u0663\u0660\u0669", None),
        ("", None),
    ],
)
def test_a_phone_is_ten_digits_or_nothing(text: str, digits: str | None) -> None:
    """Eleven digits that start with 1 lose the 1; any other length is no number that the vendors take."""
    assert identity.phone10(text) == digits


@pytest.mark.parametrize(
    ("normal", "digest"),
    [
        (identity.phone10("+1 (323) 867-5309"), "d3d2ab878af46f2dae0bc9179c5ee11e590b64c8a151171a10cace70de9baae7"),
        (identity.phone10("3053211654"), "665a5bdf7030c76e37029bb729fd37df879df747a48c9b9f8b2d980b355da64a"),
        (identity.compact_name("John"), "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a"),
        (identity.compact_name("Mary Ann"), "16b3f07f0ec2f9dd127b71dc2e6c791b7d93116a1c3bc99d057eaa7a8a077e73"),
        (identity.spaced_name("Mary Ann"), "343b97011010c3549fe7fcd6c226ed9431ea37b0b77ed78f6300a0098925faf1"),
        (identity.zip5(" 12345 "), "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5"),
        (identity.zip9("12345-6789"), "09d6f6e0c0c781a6c49153db62c72e4d8b159f742a42e8c4cfb18fc2b9c44224"),
    ],
)
def test_phone_name_and_zip_have_the_vendors_digests(normal: str | None, digest: str) -> None:
    """Rokt's published rules, contracts.md 3.5."""
    assert identity.sha256(normal or "") == digest


def test_what_has_no_normal_form_is_none() -> None:
    """Blank names and foreign postcodes are left out."""
    assert (identity.compact_name(" \t"), identity.spaced_name(" ")) == (None, None)
    assert (identity.zip5("SW1A 1AA"), identity.zip5("12345-6789"), identity.zip9("12345")) == (None, None, None)


@pytest.mark.parametrize("text", ["", "  ", "\n", identity.EMPTY_SHA256, identity.EMPTY_SHA256.upper()])
def test_nothing_is_never_hashed(text: str) -> None:
    """A blank text, or the digest of one, is a mistake of the caller's."""
    with pytest.raises(ValueError, match="nothing to hash"):
        identity.sha256(text)
    with pytest.raises(ValueError, match="nothing to hash"):
        identity.md5(text)


@given(st.text(max_size=80))
def test_a_digest_of_an_email_is_stable(text: str) -> None:
    """Hashing what was hashed, or the normal form again, changes nothing; nothing raises."""
    digest = identity.email_sha256(text)

    assert digest != identity.EMPTY_SHA256
    if digest is not None:
        assert identity.email_sha256(digest) == digest


def test_a_lookup_key_depends_on_secret_kind_and_value() -> None:
    """HMAC-SHA256 over kind, unit separator and value."""
    key = identity.lookup_key(b"secret", "email", "jane.doe@example.com")

    assert key == "0466a6250ef2e4c381dc022b8e86aa192936e47e73faf88f55fe1da272aa2ac0"
    assert identity.lookup_key(b"other", "email", "jane.doe@example.com") != key
    assert identity.lookup_key(b"secret", "phone", "jane.doe@example.com") != key


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("jane.doe@example.com", "[email]"),
        (" a@b ", "[email]"),
        ("Gift card for jane.doe@example.com!", "Gift card for [email]"),
        ("cust jane@x.co", "cust [email]"),
        ("mailto:j@x.co", "mailto:[email]"),
        ("Jane<j@x.de>, joe@y.org", "Jane<[email]>, [email]"),
        ('{"email":"jane@x.com"}', '{"email":[email]"}'),
        ("https://x.com/p?e=jane%40x.com&a=1", "https://x.com/p?e=[email]&a=1"),
        ("/n?u=%2Fa%3Fe%3Djane%2540x.com#x", "/n?u=[email]#x"),
        ("\u00e9@x.fr", "[email]"),
        ("jane@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444", "[email]"),
        ("order-o'neil+tag@x.com-1", "[email]"),
        ("@jane", "@jane"),
        ("2 @ 3.50", "2 @ 3.50"),
        ("tea 2@3.50 each", "tea 2@3.50 each"),
        ("https://maps.test/@52.5,13.4", "https://maps.test/@52.5,13.4"),
        ("40 % off", "40 % off"),
        ("100%40 off", "100%40 off"),
        ("", ""),
    ],
)
def test_an_address_inside_of_a_text_is_found(text: str, masked: str) -> None:
    """By itself, among words, in a URL, encoded twice; what only has its sign stays as it is."""
    assert identity.without_addresses(text) == masked
    assert identity.holds_address(text) == (text != masked)
    assert not identity.holds_address(masked)


def test_an_id_with_an_address_is_its_digest() -> None:
    """It shows nobody, and two of them stay two."""
    first, second = (identity.id_without_address(f"jane@x.com-{number}") for number in (1, 2))

    assert identity.id_without_address("order-1") == "order-1"
    assert first != second
    assert (len(first), first) == (64, identity.sha256("jane@x.com-1"))


@given(st.text(alphabet=list('ab@.%40 "<&'), max_size=60))
def test_no_masked_text_holds_an_address(text: str) -> None:
    """Masking is done at once."""
    assert not identity.holds_address(identity.without_addresses(text))
