"""What one request says, read when somebody asks and then remembered: consent, cookies, click ids, address, URLs."""

from collections.abc import Mapping
from enum import Enum
from typing import Any, NamedTuple

from kit.capture import client_ip, first_party_cookie, query, urls, visitor_cookie
from kit.capture.bots import LONGEST_AGENT, is_bot
from kit.capture.cookies import first_party_attributes, joined, values_of, visitor_attributes
from kit.capture.first_party_cookie import FirstPartyCookie
from kit.capture.first_visit import FirstVisit
from kit.capture.hosts import LONGEST_HOST
from kit.capture.query import Arrival
from kit.capture.rules import CaptureRules
from kit.capture.visitor_cookie import VisitorCookie
from kit.model import Consent, Touchpoint, Visitor


class Known(NamedTuple):
    """The visitor of a request: `verified` from its own cookie, or minted; `touch` is what this landing adds."""

    cookie: VisitorCookie
    verified: bool
    touch: Touchpoint | None


class Removed(Enum):
    """Stands where a replaced visitor would, when consent allows none."""

    VISITOR = "visitor"


class Reading:
    """One request's facts. `at` is the time of the request in whole seconds, as the cookie keeps it."""

    __slots__ = (
        "_arrival",
        "_consent",
        "_known",
        "_may_set",
        "_stored",
        "at",
        "headers",
        "host",
        "now",
        "replaced",
        "rules",
        "scope",
    )

    def __init__(self, rules: CaptureRules, scope: Mapping[str, Any], arrival: Arrival | None = None) -> None:
        self.rules = rules
        self.scope = scope
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        if len(self.headers) != len(scope["headers"]):
            self.headers[b"cookie"] = joined(scope["headers"], b"cookie", b"; ")
            self.headers[b"x-forwarded-for"] = joined(scope["headers"], b"x-forwarded-for", b",")
            self.headers[b"sec-gpc"] = joined(scope["headers"], b"sec-gpc", b",")
        self.host = self.headers.get(b"host", b"")[:LONGEST_HOST]
        self.now = int(rules.seconds())
        self.at = visitor_cookie.moment(self.now)
        #: The new visitor that this answer makes of the browser, whoever it was.
        self.replaced: VisitorCookie | Removed | None = None
        self._arrival: Arrival | bool | None = arrival
        self._consent: Consent | None = None
        self._may_set: bool | None = None
        self._stored: VisitorCookie | bool | None = None
        self._known: Known | bool | None = None

    @classmethod
    def of_first(cls, first: FirstVisit, rules: CaptureRules, scope: Mapping[str, Any]) -> "Reading":
        """Return the facts of a request whose answer has made a visitor already: that one is its visitor."""
        touch = first.touchpoint() if first.arrival is not None else None
        reading = cls(rules, scope, first.arrival)
        reading.now, reading.at = first.now, visitor_cookie.moment(first.now)
        reading._consent, reading._may_set = first.consent, True
        cookie = VisitorCookie(first.visitor, first.now, first.now)
        known = visitor_cookie.with_touch(cookie, touch) if touch is not None else cookie
        reading._known = Known(known, False, touch)
        return reading

    @property
    def cookies(self) -> bytes:
        return self.headers.get(b"cookie", b"")

    def consent(self) -> Consent:
        if self._consent is None:
            self._consent = self.rules.consent.decide(self.scope, now=self.at, headers=self.headers)
        return self._consent

    def may_keep(self) -> bool:
        return self.rules.consent.may_keep(self.consent())

    def may_set(self) -> bool:
        """Return whether a page of this request may set cookies at all, whatever its answer says."""
        if self._may_set is None:
            self._may_set = self.is_navigation() and self.can_hold_cookies() and not self.is_bot() and self.may_keep()
        return self._may_set

    def can_hold_cookies(self) -> bool:
        """Return whether this host is one that our cookies may be set on (with `insecure_cookies`: loopback)."""
        return self.visitor_attributes() is not None

    def is_navigation(self) -> bool:
        """Return whether a person is opening a page: no fetch, no frame of an image, no prefetch or prerender."""
        headers = self.headers
        if self.scope["type"] != "http" or self.scope["method"] != "GET":
            return False
        mode = headers.get(b"sec-fetch-mode")
        if mode is not None and mode != b"navigate":
            return False
        if mode is None and b"text/html" not in headers.get(b"accept", b""):
            return False
        purpose = headers.get(b"sec-purpose") or headers.get(b"purpose") or headers.get(b"x-moz")
        return purpose is None or not (b"prefetch" in purpose.lower() or b"prerender" in purpose.lower())

    def is_bot(self) -> bool:
        return is_bot(self.headers.get(b"user-agent", b"")[:LONGEST_AGENT])

    def stored(self) -> VisitorCookie | None:
        """Return the visitor cookie: the first of this name that verifies."""
        if self._stored is None:
            self._stored = self._open() or False
        return self._stored if isinstance(self._stored, VisitorCookie) else None

    def _open(self) -> VisitorCookie | None:
        needle, signature = self.rules.cookie_needle, self.rules.signature
        for token in values_of(self.cookies, needle) if self.cookies else ():
            cookie = visitor_cookie.opened(token, signature)
            if cookie is not None:
                return cookie
        return None

    def known(self) -> Known | None:
        """Return the visitor with what this landing adds, minted where a cookie may be set; None without consent."""
        if self._known is None:
            self._known = self._find() or False
        return self._known if isinstance(self._known, Known) else None

    def _find(self) -> Known | None:
        stored = self.stored()
        if not self.may_set():
            return Known(stored, True, None) if stored is not None and self.may_keep() else None
        cookie = stored or visitor_cookie.mint(self.now, self.rules.random)
        arrival = self.arrival()
        touch = visitor_cookie.touched(cookie, arrival, self.at, self.place) if arrival is not None else None
        return Known(visitor_cookie.with_touch(cookie, touch) if touch else cookie, stored is not None, touch)

    def arrival(self) -> Arrival | None:
        """Return what the URL carries of click ids and utm parameters."""
        if self._arrival is None:
            self._arrival = query.read(self.scope["query_string"], self.rules.watched) or False
        return self._arrival if isinstance(self._arrival, Arrival) else None

    def place(self) -> visitor_cookie.Place:
        """Return what a touch has beside what the cookie has room for."""
        return self.url(), self.referrer(), self.user_agent()

    def visitor(self) -> Visitor | None:
        known = self.known()
        return known.cookie.visitor() if known is not None else None

    def first_party_cookie(self) -> FirstPartyCookie | None:
        return first_party_cookie.first_valid(self.cookies) if self.cookies else None

    def visitor_attributes(self) -> bytes | None:
        return visitor_attributes(self.host, self.rules.cookie_domain, self.rules.insecure_cookies)

    def first_party_attributes(self) -> bytes:
        secure = not self.rules.insecure_cookies or self.scope.get("scheme") in {"https", "wss"}
        return first_party_attributes(self.host, self.rules.cookie_domain, secure)

    def user_agent(self) -> str | None:
        agent = self.headers.get(b"user-agent")
        return agent[:LONGEST_AGENT].decode("latin-1") if agent else None

    def url(self) -> str | None:
        rule = self.rules.clean_url
        if rule is None:
            arrival = self.arrival()
            return urls.page_url(self.scope, self.host, arrival.pairs if arrival is not None else ())
        whole = urls.page_url(self.scope, self.host, (self.scope["query_string"],))
        return self.rules.kept_url(whole) if whole is not None else None

    def referrer(self) -> str | None:
        referrer = self.headers.get(b"referer")
        return urls.clean_referrer(referrer[: urls.LONGEST_URL]) if referrer else None

    def ip(self) -> str | None:
        """Return the visitor's address. One that is not global is nobody's: a proxy stands unnamed in between."""
        peer = self.scope.get("client")
        forwarded = self.headers.get(b"x-forwarded-for", b"")
        address = client_ip.client_ip(peer[0] if peer else None, forwarded, self.rules.proxies)
        if address is None:
            return None
        if not client_ip.is_public(address):
            self.rules.warn_once(
                "trusted_proxies",
                "a client's address is not global and is not kept; name your proxies in trusted_proxies",
            )
            return None
        return str(address)
