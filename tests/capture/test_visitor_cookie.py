"""The visitor cookie: signed by itsdangerous' rule, never over 1,024 bytes, and never believed when it is not ours."""

import hashlib
import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import BadSignature, Signer, URLSafeTimedSerializer

from kit.capture import visitor_cookie
from kit.capture.query import UTM, Arrival
from kit.capture.signature import Signature
from kit.capture.visitor_cookie import SALT, VisitorCookie
from kit.model import ClickId, Touchpoint, VisitorId

OLD, NEW = b"an-old-key-0123456789", b"a-new-key-0123456789-"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
NOW = int(NOON.timestamp())
SIGNATURE = Signature([NEW], SALT)
ITSDANGEROUS = Signer([NEW], salt=SALT, digest_method=hashlib.sha256)

clicks = st.text("abcXYZ0189-_.~%!*|$:/+=&#", min_size=1, max_size=120)
times = st.integers(0, 4_000_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))
utm = st.dictionaries(st.sampled_from(UTM), st.text(min_size=1, max_size=40).filter(str.isprintable), max_size=3)


def arrival(**vendors: str) -> Arrival:
    return Arrival(vendors, {}, [])


def landed(cookie: VisitorCookie, found: Arrival, at: datetime = NOON) -> VisitorCookie:
    touch = visitor_cookie.touched(cookie, found, at)
    return visitor_cookie.with_touch(cookie, touch) if touch else cookie


def there_and_back(cookie: VisitorCookie, now: int = NOW) -> VisitorCookie | None:
    return visitor_cookie.opened(visitor_cookie.token(cookie, SIGNATURE, now=now), SIGNATURE)


def test_itsdangerous_accepts_our_tokens_and_we_accept_its() -> None:
    """Our pre-keyed HMAC writes, byte for byte, what itsdangerous.Signer writes."""
    payload = visitor_cookie.token(visitor_cookie.mint(NOW), SIGNATURE, now=NOW).rpartition(b".")[0]

    assert ITSDANGEROUS.sign(payload) == SIGNATURE.signed(payload)
    assert ITSDANGEROUS.unsign(SIGNATURE.signed(payload)) == payload
    assert SIGNATURE.verified(ITSDANGEROUS.sign(payload)) == payload


@given(key=st.binary(min_size=16, max_size=100), payload=st.binary(max_size=300))
def test_itsdangerous_signs_the_same_with_every_key(key: bytes, payload: bytes) -> None:
    """Keys shorter and longer than a hash block, payloads of none to several blocks."""
    assert Signer([key], salt=SALT, digest_method=hashlib.sha256).sign(payload) == Signature([key], SALT).signed(
        payload
    )


def test_the_newest_key_signs_and_every_key_verifies() -> None:
    """Keys rotate without losing a visitor; a key that is gone is believed no longer."""
    token = visitor_cookie.token(visitor_cookie.mint(NOW), Signature([OLD], SALT), now=NOW)
    both = Signature([OLD, NEW], SALT)

    assert visitor_cookie.opened(token, both) is not None
    assert visitor_cookie.opened(token, Signature([NEW], SALT)) is None
    assert both.signed(b"x") == Signature([NEW], SALT).signed(b"x")


@given(adct=clicks, foreign=clicks, one=utm, two=utm, first=times, second=times)
@settings(max_examples=150, deadline=None)
def test_what_fits_comes_back_as_it_was(
    adct: str, foreign: str, one: dict[str, str], two: dict[str, str], first: datetime, second: datetime
) -> None:
    """Visitor id, birth, clicks, first and last touch survive the cookie."""
    cookie = landed(visitor_cookie.mint(NOW), Arrival({"adroll": adct}, one, []), first)
    cookie = landed(cookie, Arrival({"gclid": foreign, "rokt": "r1"}, two, []), second)
    value = visitor_cookie.token(cookie, SIGNATURE, now=NOW + 5)

    back = visitor_cookie.opened(value, SIGNATURE)

    assert back is not None
    assert len(value) <= 1024
    assert (back.id, back.born_at, back.issued_at) == (cookie.id, NOW, NOW + 5)
    if len(value) < 700:
        assert set(back.clicks) == set(cookie.clicks)
        assert (back.first, back.last) == (cookie.first, cookie.last)


@given(
    st.dictionaries(st.sampled_from(["adroll", "rokt", "gclid", "fbclid", "a|b"]), st.text(min_size=1, max_size=512)),
    utm,
)
@settings(max_examples=150, deadline=None)
def test_a_cookie_is_never_over_1024_bytes_and_never_needs_quoting(
    found: dict[str, str], words: dict[str, str]
) -> None:
    """Whatever is kept, the value is 1,024 printable bytes at most, without quotes, commas, semicolons or blanks."""
    touch = Touchpoint(at=NOON, click_ids=tuple(ClickId(*pair, NOON) for pair in found.items()), utm=words)
    value = visitor_cookie.token(visitor_cookie.with_touch(visitor_cookie.mint(NOW), touch), SIGNATURE, now=NOW)

    assert len(value) <= 1024
    assert all(33 <= byte <= 126 and byte not in b'",;\\' for byte in value)
    assert visitor_cookie.opened(value, SIGNATURE) is not None


def test_adct_and_the_rokt_id_stay_when_the_cookie_is_full() -> None:
    """Of a visitor with more than 1 KB the id, the last adct and the last Rokt id stay first."""
    words = dict.fromkeys(UTM, "w" * 256)
    cookie = landed(visitor_cookie.mint(NOW), Arrival({"fbclid": "f" * 300}, words, []))
    cookie = landed(cookie, Arrival({"fbclid": "g" * 512, "adroll": "a" * 512, "rokt": "r" * 256}, words, []))

    back = there_and_back(cookie)

    assert back is not None
    assert {click.vendor: click.value for click in back.clicks} == {"adroll": "a" * 512, "rokt": "r" * 256}


def test_a_known_click_keeps_its_time_and_a_new_one_replaces_it() -> None:
    """The same click is no news; a later one takes its place, and the first touch stays."""
    cookie = landed(visitor_cookie.mint(NOW), arrival(adroll="one"))
    later = NOON + timedelta(hours=1)

    assert visitor_cookie.touched(cookie, arrival(adroll="one"), later) is None
    cookie = landed(cookie, arrival(adroll="two"), later)

    assert cookie.clicks == (ClickId("adroll", "two", later),)
    assert cookie.first is not None
    assert cookie.first.click_ids == (ClickId("adroll", "one", NOON),)
    assert there_and_back(cookie) == cookie._replace(issued_at=NOW)


def test_a_campaign_link_without_click_is_a_touch_once() -> None:
    """utm alone makes a touch when it differs from the last one, and not on every reload."""
    cookie = landed(visitor_cookie.mint(NOW), Arrival({}, {"utm_source": "letter"}, []))

    assert visitor_cookie.touched(cookie, Arrival({}, {"utm_source": "letter"}, []), NOON) is None
    assert visitor_cookie.touched(cookie, Arrival({}, {"utm_source": "other"}, []), NOON) is not None


def test_nothing_forged_is_ever_believed() -> None:
    """20,000 mutations of a valid token - bits flipped, bytes cut, swapped, added - verify not once."""
    token = visitor_cookie.token(landed(visitor_cookie.mint(NOW), arrival(adroll="click")), SIGNATURE, now=NOW)
    dice = random.Random(7)
    believed = 0

    for _ in range(20_000):
        forged = bytearray(token)
        kind = dice.randrange(4)
        at = dice.randrange(len(forged))
        if kind == 0:
            forged[at] ^= 1 << dice.randrange(8)
        elif kind == 1:
            del forged[at]
        elif kind == 2:
            forged.insert(at, dice.randrange(256))
        else:
            del forged[at:]
        believed += bytes(forged) != token and visitor_cookie.opened(bytes(forged), SIGNATURE) is not None

    assert believed == 0


@pytest.mark.parametrize(
    "token",
    [
        b"",
        b".",
        b"x",
        Signer([NEW], salt=b"kit.identity", digest_method=hashlib.sha256).sign(b"1" + b"a" * 22 + b"1" * 20),
        Signer([OLD], salt=SALT, digest_method=hashlib.sha256).sign(b"1" + b"a" * 22 + b"1" * 20),
        Signer([NEW], salt=SALT).sign(b"1" + b"a" * 22 + b"1" * 20),
        URLSafeTimedSerializer(NEW, salt=SALT).dumps({"id": 1}).encode(),
        b"a" * 100_000 + b".sig",
        "é.".encode() + b"x" * 43,
    ],
    ids=["empty", "dot", "short", "salt", "key", "digest", "product", "long", "not ASCII"],
)
def test_a_token_of_another_salt_key_digest_or_product_is_none(token: bytes) -> None:
    """Only this purpose, these keys and this digest count."""
    assert visitor_cookie.opened(token, SIGNATURE) is None


@pytest.mark.parametrize(
    "payload",
    [b"", b"2" + b"a" * 22 + b"1" * 20, b"1short", b"1" + b"a" * 22 + b"x" * 20, b"1" + b"a" * 22 + b"1" * 20 + b"!c"],
)
def test_a_signed_payload_of_another_version_is_none(payload: bytes) -> None:
    """After a rollback an unreadable cookie is a new visitor, not an error."""
    assert visitor_cookie.opened(SIGNATURE.signed(payload), SIGNATURE) is None


def test_a_cookie_is_due_when_it_is_a_day_old_or_from_the_future() -> None:
    """The clocks of two web servers may differ by five minutes."""
    assert [visitor_cookie.is_due(NOW - age, NOW) for age in (0, 86_399, 86_400, -200, -400)] == [
        False,
        False,
        True,
        False,
        True,
    ]


def test_a_visitor_is_given_with_first_and_last_touch() -> None:
    """The model's Visitor carries what the cookie says."""
    cookie = landed(VisitorCookie(VisitorId("a" * 22), NOW, NOW), arrival(adroll="one"))

    visitor = cookie.visitor()

    assert (visitor.id, visitor.issued_at) == ("a" * 22, NOON)
    assert visitor.first_touch == visitor.last_touch == Touchpoint(at=NOON, click_ids=visitor.click_ids)


def test_a_forgery_is_refused_by_itsdangerous_too() -> None:
    """The reference agrees on what is not ours."""
    with pytest.raises(BadSignature):
        ITSDANGEROUS.unsign(SIGNATURE.signed(b"payload") + b"x")
