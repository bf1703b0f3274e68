"""What an ordinary page view costs a look at: two cookies, wherever they stand, and how old ours is."""

import pytest

from kit.capture import visitor_cookie
from kit.capture.freshness import Freshness
from kit.capture.signature import Signature

NOW = 1_763_726_400
FPC = b"__adroll_fpc=0123456789abcdef0123456789abcdef-1763700000000"


def issued(age: int) -> bytes:
    signature = Signature([b"a-key-for-tests-01234567"], visitor_cookie.SALT)
    return b"__Host-kit=" + visitor_cookie.token(visitor_cookie.mint(NOW), signature, now=NOW - age)


FRESH = issued(0)


@pytest.mark.parametrize(
    ("cookies", "both"),
    [
        (FRESH + b"; " + FPC, True),
        (FPC + b"; " + FRESH, True),
        (b"a=1; " + FRESH + b"; b=2; " + FPC + b"; c=3", True),
        (FRESH + b"; __adroll_fpc=" + b"a_-Z" * 8, True),
        (FRESH, False),
        (FPC, False),
        (b"", False),
        (b"x" + FRESH + b"; " + FPC, False),
        (FRESH + b"; x" + FPC, False),
        (FRESH + b"; __adroll_fpc=short", False),
        (FRESH + b"; __adroll_fpc=" + b"<" * 40, False),
        (b"__Host-kit=; " + FPC, False),
        (b"__Host-kit=rubbish; " + FPC, False),
        (FPC + b"; __Host-kit=", False),
    ],
    # The cookie is signed anew in each process.
    ids=lambda value: str(value).replace(str(FRESH)[2:-1], "FRESH"),
)
def test_both_cookies_are_seen_wherever_they_stand(cookies: bytes, both: bool) -> None:
    """First, last or between others; a namesake, a malformed value or a missing one is a no."""
    assert Freshness(b"__Host-kit=", lambda: NOW).both(cookies) is both


def test_the_visitors_cookie_is_fresh_for_a_day_and_not_from_the_future() -> None:
    """The unverified issue time decides; clocks of two web servers may differ by five minutes."""
    fresh = Freshness(b"__Host-kit=", lambda: NOW)

    seen = [fresh.both(issued(age) + b"; " + FPC) for age in (0, 86_399, 86_400, -300, -301)]

    assert seen == [True, True, False, True, False]


def test_what_is_fresh_moves_with_the_clock() -> None:
    """The bounds are renewed when the clock has gone on."""
    now = float(NOW)
    fresh = Freshness(b"__Host-kit=", lambda: now)
    seen = []

    for hours in (0, 23, 25):
        now = NOW + hours * 3600.0
        seen.append(fresh.both(FRESH + b"; " + FPC))

    assert seen == [True, True, False]
