"""Was a page opened just now, and by whom? Asked of an answer that is on its way, where a destination wants to know."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from kit.capture import first_party_cookie
from kit.capture.answers import Header, Room, room
from kit.capture.reading import Reading
from kit.capture.state import Capture
from kit.model import Consent, Identifiers

_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class PageView:
    """One page that a visitor opened: its path, what the request showed, and the consent it was seen under."""

    path: str
    identifiers: Identifiers = field(repr=False)
    consent: Consent


def page_view(capture: Capture, status: int, headers: Sequence[Header]) -> PageView | None:
    """Return the view that this answer is, or None; `headers` are as they go out, our cookies among them.

    It is one of HTML, 200, that no cache may hand to somebody else, opened by a person whose visitor cookie was
    verified or is being set, and who allows it.
    """
    if status != _OK or capture.scope["method"] != "GET" or not _is_html(headers):
        return None
    reading = capture.reading()
    if not reading.may_set() or reading.replaced is not None or room("GET", status, headers) is Room.NONE:
        return None
    set_now = [value for name, value in headers if name == b"set-cookie"]
    known = reading.known()
    if known is None or not (known.verified or any(line.startswith(reading.rules.cookie_needle) for line in set_now)):
        return None
    visitor = known.cookie.visitor()
    return PageView(
        path=capture.scope["path"],
        identifiers=Identifiers(
            visitor=visitor.id,
            click_ids=visitor.click_ids,
            first_party_cookie=_first_party_cookie(reading, set_now),
            ip=reading.ip(),
            user_agent=reading.user_agent(),
            url=reading.url(),
            referrer=reading.referrer(),
        ),
        consent=reading.consent(),
    )


def _is_html(headers: Sequence[Header]) -> bool:
    for name, value in headers:
        if name.lower() == b"content-type":
            return value.lower().startswith(b"text/html")
    return False


def _first_party_cookie(reading: Reading, set_now: Sequence[bytes]) -> str | None:
    """Return the one that this answer sets, else the request's."""
    for line in set_now:
        if line.startswith(first_party_cookie.NEEDLE):
            cookie = first_party_cookie.first_valid(line.partition(b";")[0])
            return cookie.value if cookie is not None else None
    own = reading.first_party_cookie()
    return own.value if own is not None else None
