"""Capture: one request's state in `scope["kit.visitor"]`. It answers for the visitor, and for the cookies due."""

from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kit.capture import due, first_party_cookie, query, urls, visitor_cookie
from kit.capture.answers import Header, Room, is_silent, room
from kit.capture.cookies import joined
from kit.capture.due import Due
from kit.capture.first_party_cookie import FirstPartyCookie
from kit.capture.first_visit import FirstVisit, first_visit, ordinary
from kit.capture.freshness import Freshness
from kit.capture.query import Arrival
from kit.capture.reading import Reading, Removed
from kit.capture.rules import CaptureRules, Faults
from kit.capture.visitor_cookie import VisitorCookie
from kit.model import Consent, Touchpoint, Visit, Visitor, VisitorId

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

    __slots__ = ("facts", "scope", "shared")

    def __init__(self, shared: "Shared", scope: MutableMapping[str, Any]) -> None:
        self.shared = shared
        self.scope = scope
        #: What is known so far: nothing, what the query carries, what a first visit's answer set, or all.
        self.facts: Reading | FirstVisit | Arrival | None = None

    @property
    def rules(self) -> CaptureRules:
        return self.shared.rules

    @property
    def faults(self) -> Faults:
        return self.shared.faults

    # ------------------------------------------------------------ for the page

    def visitor(self) -> Visitor | None:
        """Return the visitor: of the verified cookie, else the one minted on this page, whose cookie is about to be
        set. None without consent, for bots, and where no page is being opened."""
        reading = self.reading()
        if reading.replaced is not None:
            return reading.replaced.visitor() if isinstance(reading.replaced, VisitorCookie) else None
        return reading.visitor()

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
            reading.replaced = visitor_cookie.mint(reading.now, self.rules.random)
            return reading.replaced.visitor()
        reading.replaced = Removed.VISITOR
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
        cookie = reading.replaced if isinstance(reading.replaced, VisitorCookie) else reading.stored()
        cookie = cookie or visitor_cookie.mint(reading.now, self.rules.random)
        arrival = query.from_params(params, self.rules.watched)
        touch = visitor_cookie.touched(cookie, arrival, reading.at) if arrival is not None else None
        if touch is not None:
            cookie = visitor_cookie.with_touch(cookie, touch)
        posted = first_party_cookie.normalised((pixel_cookie or "").encode("utf-8", "replace"))
        own = FirstPartyCookie(posted.encode("ascii"), posted) if posted else reading.first_party_cookie()
        own = own or first_party_cookie.mint(reading.now, self.rules.random)
        return Collected(
            visitor=cookie.visitor(),
            set_cookies=(due.visitor_line(reading, cookie), due.first_party_line(reading, own)),
            touchpoint=_placed(touch, reading, url, referrer),
            first_party_cookie=own.value,
            consent=reading.consent(),
        )

    # ------------------------------------------------------------ for the answer

    def settle(self) -> None:
        """Let go of the scope, or be let go of by it: a circle of the two would have every request wait for the garbage
        collector. Whoever asks later is answered from a copy of the scope."""
        if isinstance(self.facts, Reading):
            self.scope = self.facts.scope = without_state(self.scope)
        else:
            self.scope[STATE] = self.shared, self.facts

    def owes_nothing(self) -> bool:
        """Return whether this answer surely needs no cookie: an ordinary page view, both cookies there and fresh.

        Nothing is verified or decoded for that; whoever looks at the visitor has it verified, and healed if need be.
        """
        if self.facts is not None:
            return False
        scope = self.scope
        if scope["query_string"]:
            self.facts = query.read(scope["query_string"], self.shared.rules.watched)
            if self.facts is not None:
                return False
        # From the back: browsers and proxies write Cookie last or nearly so.
        for name, value in reversed(scope["headers"]):
            if name == b"cookie":
                fresh = self.shared.fresh
                if fresh.both(value) or fresh.both(joined(scope["headers"], b"cookie", b"; ")):
                    return True
                break
        return bool(scope["method"] != "GET")

    def due(self, status: int, headers: Sequence[Header]) -> Due | None:
        """Return what this answer must set, or None: nothing is due, or the request or the answer does not allow it."""
        facts, rules = self.facts, self.shared.rules
        # Whoever has asked already is told the same here: his reading decides.
        if (facts is None or isinstance(facts, Arrival)) and is_silent(status, headers):
            by_name = ordinary(rules, self.scope)
            if by_name is not None:
                first = first_visit(rules, self.scope, by_name, facts)
                if first is None:
                    return None
                self.facts, owed = first
                return owed
        space = room(self.scope["method"], status, headers)
        return due.due(self.reading(), space, headers) if space is not Room.NONE else None

    def reading(self) -> Reading:
        """Return the request's facts, read once."""
        facts = self.facts
        if isinstance(facts, Reading):
            return facts
        if isinstance(facts, FirstVisit):
            self.facts = reading = Reading.of_first(facts, self.rules, self.scope)
        else:
            self.facts = reading = Reading(self.rules, self.scope, facts)
        return reading


@dataclass(frozen=True, slots=True)
class Shared:
    """What all requests of one shop share."""

    rules: CaptureRules
    faults: Faults
    fresh: Freshness
    record_touch: Callable[[VisitorId, Touchpoint | Callable[[], Touchpoint], str | None, Consent], None]


Answered = tuple[Shared, FirstVisit | Arrival | None]
"""Stands in the scope of an answered request that nobody asked about; a plain tuple, for every landing makes one."""


def late(answered: Answered, scope: Mapping[str, Any]) -> Capture:
    """Return the state for a late reader."""
    shared, facts = answered
    capture = Capture(shared, without_state(scope))
    capture.facts = facts
    return capture


def without_state(scope: Mapping[str, Any]) -> dict[str, Any]:
    copy = dict(scope)
    copy.pop(STATE, None)
    return copy


def _placed(touch: Touchpoint | None, reading: Reading, url: str | None, referrer: str | None) -> Touchpoint | None:
    if touch is None:
        return None
    page = reading.rules.kept_url(url) if url else None
    return replace(
        touch,
        url=page,
        referrer=urls.clean_referrer(referrer.encode("utf-8", "replace")) if referrer else None,
        user_agent=reading.user_agent(),
    )
