"""Does this page view surely need no cookie? Asked of every one, so it is a look at two places and no more."""

from collections.abc import Callable

from kit.capture.first_party_cookie import NEEDLE, well_formed_at
from kit.capture.visitor_cookie import DAY, ISSUED, SKEW


class Freshness:
    """Knows one shop's cookie name, and which issue times are fresh in the second that it was last asked in."""

    __slots__ = ("_inside", "_issued", "_needle", "_newest", "_oldest", "_seconds", "_until")

    def __init__(self, needle: bytes, seconds: Callable[[], float]) -> None:
        self._needle = needle
        self._inside = b" " + needle
        self._issued = len(self._inside) + ISSUED.start
        self._seconds = seconds
        self._until = 0.0
        self._oldest = self._newest = b""

    def both(self, cookies: bytes) -> bool:
        """Return whether both cookies stand here well-formed and the visitor's is under a day old.

        Nothing is verified. A doubt (blanks left out, a namesake) is a no: then the thorough way decides.
        """
        at = cookies.find(self._inside)
        if at < 0 and not cookies.startswith(self._needle):
            return False
        now = self._seconds()
        if now >= self._until:
            self._renew(now)
        # A cookie that stands first has no blank before it: found at -1, its value begins where it would for 0 - 1.
        at += self._issued
        # Ten digits compare as the numbers do that they stand for.
        if not self._oldest < cookies[at : at + 10] <= self._newest:
            return False
        at = cookies.find(b" __adroll_fpc=")
        if at < 0 and not cookies.startswith(NEEDLE):
            return False
        # As AdRoll writes it: 32 hex digits, and more after a hyphen. Other forms are taken too, and cost more.
        own = cookies[at + 14 : at + 46]
        return (own.isalnum() and len(own) == 32) or well_formed_at(cookies, at + 14) is not None

    def _renew(self, now: float) -> None:
        self._until = now + 1.0
        self._oldest, self._newest = b"%010d" % (now - DAY), b"%010d" % (now + SKEW)
