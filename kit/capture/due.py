"""Which cookies an answer owes its visitor, and their Set-Cookie lines."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from kit.capture import first_party_cookie, visitor_cookie
from kit.capture.answers import Header, Room
from kit.capture.first_party_cookie import FirstPartyCookie
from kit.capture.reading import Reading
from kit.capture.rules import CaptureRules
from kit.capture.visitor_cookie import VisitorCookie
from kit.model import Consent, Touchpoint, VisitorId


class Removed(Enum):
    """Stands where a replaced visitor would, when consent allows none."""

    VISITOR = "visitor"


class Changes(NamedTuple):
    """What is to be set; None leaves a cookie as it stands."""

    visitor: VisitorCookie | Removed | None
    first_party: FirstPartyCookie | None
    touch: Touchpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTouch:
    """A landing with a new click id, whose cookie is being set: what `kit.record_touch` is told."""

    visitor_id: VisitorId
    touchpoint: Touchpoint
    first_party_cookie: str | None = field(repr=False)
    consent: Consent


class Due(NamedTuple):
    """Headers to add to an answer, and the touch that thereby became the visitor's."""

    headers: list[Header]
    touch: NewTouch | None


def changes(reading: Reading, replaced: VisitorCookie | Removed | None) -> Changes | None:
    """Return what this visitor is owed, or None. Both cookies are renewed together; a valid one keeps its value."""
    if replaced is not None:
        return Changes(replaced, None)
    if not reading.may_set():
        return None
    known, own = reading.known(), reading.first_party_cookie()
    if known is None:
        return None
    if not known.verified or known.touch is not None or visitor_cookie.is_due(known.cookie.issued_at, reading.now):
        return Changes(known.cookie, own or first_party_cookie.mint(reading.now), known.touch)
    return None if own is not None else Changes(None, first_party_cookie.mint(reading.now))


def due(reading: Reading, wanted: Changes, space: Room, headers: Sequence[Header]) -> Due | None:
    """Return the headers for these changes. A cookie that the page itself sets is the page's."""
    taken = {value.partition(b"=")[0].strip() for name, value in headers if name.lower() == b"set-cookie"}
    visitor, own, touch = wanted
    lines: list[bytes] = []
    if isinstance(visitor, VisitorCookie) and reading.rules.cookie_name not in taken:
        lines.append(visitor_line(reading, visitor))
    else:
        touch = None
        if visitor is Removed.VISITOR and reading.stored() is not None:
            lines.append(removal_line(reading.rules))
    if own is not None and first_party_cookie.NAME not in taken:
        lines.append(first_party_line(reading, own))
    if not lines:
        return None
    added = [(b"set-cookie", line) for line in lines]
    if space is Room.BARE:
        added.append((b"cache-control", b"private"))
    if touch is None or not touch.click_ids or not isinstance(visitor, VisitorCookie):
        return Due(added, None)
    return Due(added, _new_touch(reading, visitor, own, touch))


def visitor_line(reading: Reading, cookie: VisitorCookie) -> bytes:
    """Return the visitor cookie's Set-Cookie value, issued now."""
    token = visitor_cookie.token(cookie, reading.rules.signature, now=reading.now)
    return reading.rules.cookie_needle + token + (reading.visitor_attributes() or b"")


def first_party_line(reading: Reading, cookie: FirstPartyCookie) -> bytes:
    """Return the Set-Cookie value of `__adroll_fpc`."""
    return first_party_cookie.NEEDLE + cookie.kept + reading.first_party_attributes()


def removal_line(rules: CaptureRules) -> bytes:
    """Return the Set-Cookie value that takes the visitor cookie away; the next page makes a new visitor."""
    secure = b"" if rules.insecure_cookies else b"; Secure"
    domain = b"" if rules.cookie_domain is None else b"; Domain=" + rules.cookie_domain.encode("ascii")
    return rules.cookie_needle + b"; Path=/; Max-Age=0; HttpOnly; SameSite=Lax" + secure + domain


def _new_touch(reading: Reading, visitor: VisitorCookie, own: FirstPartyCookie | None, touch: Touchpoint) -> NewTouch:
    return NewTouch(
        visitor_id=visitor.id,
        touchpoint=touch,
        first_party_cookie=own.value if own is not None else None,
        consent=reading.consent(),
    )
