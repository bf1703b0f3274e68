"""Capture: one request's state in `scope["kit.visitor"]`. It answers for the visitor, and for the cookies due."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kit.capture import due, first_party_cookie, query, urls, visitor_cookie
from kit.capture.answers import Header, Room, room
from kit.capture.cookies import LONGEST_HEADER, joined
from kit.capture.due import Due, Removed
from kit.capture.first_party_cookie import FirstPartyCookie, well_formed_at
from kit.capture.reading import Reading
from kit.capture.rules import CaptureRules, Faults
from kit.capture.visitor_cookie import DAY, SKEW, VisitorCookie
from kit.model import Consent, Touchpoint, Visit, Visitor

STATE = "kit.visitor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """What a posted arrival came to. `set_cookies` are values of Set-Cookie headers for an answer with no-store.

    `touchpoint` is there when the arrival tells something new: record it when it has click ids.
    """

    visitor: Visitor
    set_cookies: tuple[bytes, ...] = field(repr=False)
    touchpoint: Touchpoint | None
    first_party_cookie: str = field(repr=False)
    consent: Consent


class Capture:
    """The state of one request. Nothing is read before somebody asks, or a page turns out to owe a cookie."""

    __slots__ = ("_reading", "_replaced", "faults", "rules", "scope")

    def __init__(self, rules: CaptureRules, scope: Mapping[str, Any], faults: Faults) -> None:
        self.rules = rules
        self.scope = scope
        self.faults = faults
        self._reading: Reading | None = None
        self._replaced: VisitorCookie | Removed | None = None

    # ------------------------------------------------------------ for the page

    def visitor(self) -> Visitor | None:
        """Return the visitor: of the verified cookie, else the one minted on this page, whose cookie is about to be
        set. None without consent, for bots, and where no page is being opened."""
        if self._replaced is not None:
            return self._replaced.visitor() if isinstance(self._replaced, VisitorCookie) else None
        return self.reading().visitor()

    def visit(self) -> Visit:
        """Return what this request shows.

        Without consent: the consent alone. Without a verified visitor cookie: AdRoll's cookie at most, and no address
        (a payment provider's ip is nobody's). After `replace` the visitor is the new one.
        """
        reading = self.reading()
        consent = reading.consent()
        if not reading.may_keep():
            return Visit(visitor=None, consent=consent)
        cookie = reading.first_party_cookie()
        known = reading.known()
        if known is None or not known.verified:
            return Visit(visitor=None, first_party_cookie=cookie.value if cookie else None, consent=consent)
        return Visit(
            visitor=self.visitor(),
            first_party_cookie=cookie.value if cookie else None,
            ip=reading.ip(),
            user_agent=reading.user_agent(),
            url=reading.url(),
            referrer=reading.referrer(),
            consent=consent,
        )

    def replace(self) -> Visitor | None:
        """Make this browser a new visitor with this answer, on any method, and return that visitor.

        For a shared device: somebody signed out, or somebody else signed in. Without consent the old cookie is taken
        away and None returned. The answer's cache headers still decide whether a cookie can be set at all.
        """
        reading = self.reading()
        if reading.may_keep() and reading.can_hold_cookies() and self.scope["type"] == "http":
            self._replaced = visitor_cookie.mint(reading.now)
            return self._replaced.visitor()
        self._replaced = Removed.VISITOR
        return None

    def collect(
        self,
        params: Mapping[str, str],
        *,
        pixel_cookie: str | None = None,
        url: str | None = None,
        referrer: str | None = None,
    ) -> Collected | None:
        """Return what a posted arrival comes to, or None when nothing may be kept (consent, a bot, the host).

        `params` are the landing URL's parameters by name, percent-decoded once; `pixel_cookie` is what
        `adroll.get_cookie` gave: when valid it wins over the request's own, so that both sides agree. Both cookies are
        always renewed: one that a script had set lives seven days in Safari.
        """
        reading = self.reading()
        if not reading.can_hold_cookies() or reading.is_bot() or not reading.may_keep():
            return None
        cookie = self._replaced if isinstance(self._replaced, VisitorCookie) else reading.stored()
        cookie = cookie or visitor_cookie.mint(reading.now)
        arrival = query.from_params(params, self.rules.watched)
        touch = visitor_cookie.touched(cookie, arrival, reading.at) if arrival is not None else None
        if touch is not None:
            cookie = visitor_cookie.with_touch(cookie, touch)
        posted = first_party_cookie.normalised((pixel_cookie or "").encode("utf-8", "replace"))
        own = FirstPartyCookie(posted.encode("ascii"), posted) if posted else reading.first_party_cookie()
        own = own or first_party_cookie.mint(reading.now)
        return Collected(
            visitor=cookie.visitor(),
            set_cookies=(due.visitor_line(reading, cookie), due.first_party_line(reading, own)),
            touchpoint=_placed(touch, reading, url, referrer),
            first_party_cookie=own.value,
            consent=reading.consent(),
        )

    # ------------------------------------------------------------ for the answer

    def settle(self) -> None:
        """Let go of the scope, and keep a copy for whoever still asks: the scope holds this state, and a circle of the
        two would have every request wait for the garbage collector."""
        self.scope = scope = dict(self.scope)
        scope.pop(STATE, None)
        if self._reading is not None:
            self._reading.scope = scope

    def owes_nothing(self) -> bool:
        """Return whether this answer surely needs no cookie: an ordinary page view, both cookies there and fresh.

        Nothing is verified or decoded for that; whoever looks at the visitor has it verified, and healed if need be.
        """
        scope = self.scope
        if self._replaced is not None:
            return False
        if scope["method"] != "GET":
            return True
        if self._reading is not None:
            return False
        rules = self.rules
        text = scope["query_string"]
        if text:
            arrival = query.read(text, rules.watched)
            if arrival is not None:
                self._reading = Reading(rules, scope, arrival)
                return False
        # From the back: browsers and proxies write Cookie last or nearly so.
        for name, value in reversed(scope["headers"]):
            if name == b"cookie":
                return _both_fresh(value, rules.cookie_needle, rules.seconds()) or _both_fresh(
                    joined(scope["headers"], b"cookie", b"; "), rules.cookie_needle, rules.seconds()
                )
        return False

    def due(self, status: int, headers: Sequence[Header]) -> Due | None:
        """Return what this answer must set, or None: nothing is due, or the request or the answer does not allow it."""
        space = room(self.scope["method"], status, headers)
        if space is Room.NONE:
            return None
        changes = due.changes(self.reading(), self._replaced)
        return due.due(self.reading(), changes, space, headers) if changes is not None else None

    def reading(self) -> Reading:
        """Return the request's facts, read once."""
        if self._reading is None:
            self._reading = Reading(self.rules, self.scope)
        return self._reading


def _both_fresh(cookies: bytes, needle: bytes, now: float) -> bool:
    """Return whether both cookies stand here well-formed and the visitor's is under a day old.

    Every page view pays for this, so it is one flat pass. A doubt (a namesake such as `x__adroll_fpc`, that comes
    first) is a no: then the thorough way decides.
    """
    at = cookies.find(needle, 0, LONGEST_HEADER)
    if at < 0 or (at and cookies[at - 1] not in b"; "):
        return False
    at += len(needle) + 23
    try:
        issued = int(cookies[at : at + 10])
    except ValueError:
        return False
    if not now - DAY < issued <= now + SKEW:
        return False
    at = cookies.find(b"__adroll_fpc=", 0, LONGEST_HEADER)
    if at < 0 or (at and cookies[at - 1] not in b"; "):
        return False
    return well_formed_at(cookies, at + 13) is not None


def _placed(touch: Touchpoint | None, reading: Reading, url: str | None, referrer: str | None) -> Touchpoint | None:
    if touch is None:
        return None
    page = reading.by_rule(url) if url else None
    return replace(
        touch, url=page, referrer=urls.clean_referrer(referrer.encode("utf-8", "replace")) if referrer else None
    )
