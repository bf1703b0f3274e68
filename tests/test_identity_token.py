"""Identity tokens: what is signed is believed of one visitor, in one shop, for so long; everything else is not."""

import hashlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer

from kit.errors import InvalidInput
from kit.model import VisitorId
from kit.tokens import SALT, IdentityTokens, Refusal
from tests.support import FrozenClock

OLD, NEW = b"an old key of more than 16 bytes", b"a newer key of more than 16 bytes"
JANE, OTHER = VisitorId("j" * 22), VisitorId("o" * 22)
HOUR = timedelta(hours=1)
WHO = {"email": "jane@example.com", "customer_id": "c-1", "phone": None}


def tokens(*keys: bytes, audience: str = "__Host-kit", clock: FrozenClock | None = None) -> IdentityTokens:
    return IdentityTokens(keys or (NEW,), audience=audience, clock=clock or FrozenClock())


def test_a_token_names_its_visitor_until_it_expires(clock: FrozenClock) -> None:
    """What was signed comes back to the last second; the next one it does not."""
    made = tokens(clock=clock)
    token = made.issued(JANE, WHO, max_age=HOUR)

    clock.passes(HOUR)
    last = made.opened(token, JANE)
    clock.passes(timedelta(seconds=1))

    assert last == WHO
    assert made.opened(token, JANE) is Refusal.EXPIRED


@pytest.mark.parametrize("visitor", [OTHER, None, VisitorId(""), VisitorId("J" * 22)])
def test_another_browser_cannot_replay_it(visitor: VisitorId | None) -> None:
    """A token that was copied names nobody on any other visitor, nor on none."""
    assert tokens().opened(tokens().issued(JANE, WHO, max_age=HOUR), visitor) is Refusal.VISITOR


def test_another_shop_with_the_same_keys_does_not_take_it() -> None:
    """The audience is part of what is signed."""
    token = tokens(audience="__Secure-kit shop.com").issued(JANE, WHO, max_age=HOUR)

    assert tokens(audience="__Secure-kit shop.de").opened(token, JANE) is Refusal.AUDIENCE


def test_keys_rotate() -> None:
    """The newest key signs, all verify, and a token of a key that was withdrawn is forged."""
    before, both, after = tokens(OLD), tokens(OLD, NEW), tokens(NEW)

    old, new = before.issued(JANE, WHO, max_age=HOUR), both.issued(JANE, WHO, max_age=HOUR)

    assert both.opened(old, JANE) == WHO
    assert after.opened(new, JANE) == WHO
    assert after.opened(old, JANE) is Refusal.FORGED


@pytest.mark.parametrize("behind", [timedelta(minutes=5), timedelta(minutes=5, seconds=1)])
def test_two_servers_clocks_may_differ_by_five_minutes(clock: FrozenClock, behind: timedelta) -> None:
    """A token from a clock that is ahead is good at once; one from further in the future is not."""
    token = tokens(clock=FrozenClock(clock.now + behind)).issued(JANE, WHO, max_age=HOUR)

    opened = tokens(clock=clock).opened(token, JANE)

    assert opened == (WHO if behind == timedelta(minutes=5) else Refusal.EXPIRED)


@pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "\ud800", "é.é.é", "a" * 8_000, "=" * 100, "\x00"])
def test_what_is_no_token_is_forged(token: str) -> None:
    """No text that a page can post raises."""
    assert tokens().opened(token, JANE) is Refusal.FORGED


@given(place=st.integers(0, 300), letter=st.sampled_from("Ab0-_.~ \u00e9\ud800"))
def test_no_letter_of_a_token_can_be_changed(place: int, letter: str) -> None:
    """Every change is seen, wherever it is made."""
    made = tokens()
    token = made.issued(JANE, WHO, max_age=HOUR)
    place %= len(token)
    changed = token[:place] + letter + token[place + 1 :]

    # The last letter of a signature holds bits that say nothing.
    if changed != token and place != len(token) - 1:
        assert made.opened(changed, JANE) is Refusal.FORGED


@pytest.mark.parametrize("said", [None, 5, {}, [], ["__Host-kit"], ["__Host-kit", JANE], ["__Host-kit", JANE, "x", 1]])
def test_what_the_same_key_signed_for_something_else_is_forged(clock: FrozenClock, said: object) -> None:
    """Another salt is another signature, and what another version of this file wrote is not believed."""
    digest = {"digest_method": hashlib.sha256}
    same = URLSafeTimedSerializer([NEW], salt=SALT, signer_kwargs=digest)
    elsewhere = URLSafeTimedSerializer([NEW], salt=b"session", signer_kwargs=digest)

    assert tokens(clock=clock).opened(same.dumps(said), JANE) is Refusal.FORGED
    assert tokens(clock=clock).opened(elsewhere.dumps(["__Host-kit", JANE, 3600, "a@b.c"]), JANE) is Refusal.FORGED


def test_a_token_is_short_and_holds_no_more_than_it_must() -> None:
    """Under 200 characters, and no name but the ones that were given."""
    token = tokens().issued(JANE, WHO, max_age=HOUR)

    said = URLSafeTimedSerializer([NEW], salt=SALT, signer_kwargs={"digest_method": hashlib.sha256}).loads(token)

    assert len(token) < 200
    assert said == ["__Host-kit", JANE, 3600, "jane@example.com", "c-1", None]


@pytest.mark.parametrize("max_age", [timedelta(0), timedelta(milliseconds=999), timedelta(seconds=-1)])
def test_a_token_that_is_never_good_is_refused(max_age: timedelta) -> None:
    """Such a setting is a mistake, and said when the page is made."""
    with pytest.raises(InvalidInput, match="max_age"):
        tokens().issued(JANE, WHO, max_age=max_age)
