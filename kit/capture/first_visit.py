"""The straight way for most new visitors: a page opened without a cookie of ours, and nothing unusual about it.

It comes to what `reading` and `due` come to, at half their price: no object is made that nobody asks for.
tests/capture/test_first_visit.py holds the two ways to each other.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from kit.capture import first_party_cookie, urls, visitor_cookie
from kit.capture.answers import Header
from kit.capture.bots import LONGEST_AGENT, is_bot
from kit.capture.cookies import both_attributes
from kit.capture.hosts import LONGEST_HOST
from kit.capture.query import Arrival
from kit.capture.rules import CaptureRules
from kit.model import ClickId, Consent, Touchpoint, VisitorId

NewTouch = tuple[VisitorId, Touchpoint | Callable[[], Touchpoint], str | None, Consent]
"""A landing with a new click id, whose cookie is being set: the arguments of `kit.record_touch`."""

Due = tuple[list[Header], NewTouch | None]
"""Headers to add to an answer, and the touch that thereby became the visitor's."""

_PRIVATE = b"cache-control", b"private"
_NOTHING = Arrival({}, {}, [])


class FirstVisit(NamedTuple):
    """What an answer has made of a new visitor, for whoever asks after it; of a landing also its bytes as they came."""

    visitor: VisitorId
    now: int
    consent: Consent
    arrival: Arrival | None = None
    scheme: str = ""
    host: bytes = b""
    path: bytes = b""
    referrer: bytes = b""
    agent: bytes = b""

    def touchpoint(self) -> Touchpoint:
        """Return the touchpoint that its `arrival` makes. No page waits for it."""
        at, visitor, arrival = visitor_cookie.moment(self.now), self.visitor, self.arrival or _NOTHING
        return Touchpoint(
            at=at,
            click_ids=tuple([ClickId(vendor, value, at, visitor) for vendor, value in arrival.clicks.items()]),
            utm=arrival.utm,
            url=urls.assembled(self.scheme, self.host, self.path, arrival.pairs, plain=arrival.plain),
            referrer=urls.clean_referrer(self.referrer[: urls.LONGEST_URL]) if self.referrer else None,
            user_agent=self.agent.decode("latin-1") or None,
        )


def ordinary(rules: CaptureRules, scope: Mapping[str, Any]) -> dict[bytes, bytes] | None:
    """Return the headers by name when this is a first visit with nothing unusual, else None: a doubt is a no."""
    raw = scope["headers"]
    headers: dict[bytes, bytes] = dict(raw)
    if (
        len(headers) != len(raw)
        or scope["method"] != "GET"
        or headers.get(b"sec-fetch-mode") != b"navigate"
        or b"sec-purpose" in headers
        or b"purpose" in headers
        or b"x-moz" in headers
        or rules.clean_url is not None
    ):
        return None
    cookies = headers.get(b"cookie")
    # A mere mention of either name, wherever it stands, is for the thorough way.
    if cookies and (rules.cookie_needle in cookies or first_party_cookie.NEEDLE in cookies):
        return None
    return headers


def first_visit(
    rules: CaptureRules, scope: Mapping[str, Any], headers: Mapping[bytes, bytes], arrival: Arrival | None
) -> tuple[FirstVisit, Due] | None:
    """Return the visitor that this page makes, whose answer is silent; None when nothing may be set."""
    host = headers.get(b"host", b"")[:LONGEST_HOST]
    attributes = both_attributes(host, scope.get("scheme", ""), rules.cookie_domain, rules.insecure_cookies)
    agent = headers.get(b"user-agent", b"")[:LONGEST_AGENT]
    if attributes is None or is_bot(agent):
        return None
    now = int(rules.seconds())
    at = visitor_cookie.moment(now)
    consent = rules.consent.decide(scope, now=at, headers=headers)
    if not rules.consent.may_keep(consent):
        return None
    bits = rules.random(32)  # one call to the system for both ids
    visitor = visitor_cookie.minted_id(bits[:16])
    own = first_party_cookie.minted_value(bits[16:], now)
    token = visitor_cookie.first_token(visitor, arrival, rules.signature, now=now)
    set_cookies = [
        (b"set-cookie", rules.cookie_needle + token + attributes[0]),
        (b"set-cookie", first_party_cookie.NEEDLE + own.encode("ascii") + attributes[1]),
        _PRIVATE,
    ]
    if arrival is None:
        return FirstVisit(visitor, now, consent), (set_cookies, None)
    path, referrer = urls.whole_path(scope), headers.get(b"referer", b"")
    first = FirstVisit(visitor, now, consent, arrival, scope.get("scheme", "http"), host, path, referrer, agent)
    return first, (set_cookies, (visitor, first.touchpoint, own, consent) if arrival.clicks else None)
