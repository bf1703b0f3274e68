"""Which cookies an answer owes its visitor, and their Set-Cookie lines."""

from collections.abc import Sequence

from kit.capture import first_party_cookie, visitor_cookie
from kit.capture.answers import Header, Room
from kit.capture.first_party_cookie import FirstPartyCookie
from kit.capture.first_visit import Due as Due
from kit.capture.first_visit import NewTouch
from kit.capture.reading import Reading, Removed
from kit.capture.rules import CaptureRules
from kit.capture.visitor_cookie import VisitorCookie
from kit.model import Touchpoint


def due(reading: Reading, space: Room, headers: Sequence[Header]) -> Due | None:
    """Return what this answer must set, or None. A cookie that the page itself sets is the page's."""
    visitor, own, touch = _wanted(reading)
    taken = [value.partition(b"=")[0].strip() for name, value in headers if name.lower() == b"set-cookie"]
    added: list[Header] = []
    told: NewTouch | None = None
    if isinstance(visitor, VisitorCookie):
        if reading.rules.cookie_name not in taken:
            added.append((b"set-cookie", visitor_line(reading, visitor)))
            if touch is not None and touch.click_ids:
                told = visitor.id, touch, own.value if own is not None else None, reading.consent()
    elif visitor is Removed.VISITOR and reading.stored() is not None:
        added.append((b"set-cookie", removal_line(reading.rules)))
    if own is not None and first_party_cookie.NAME not in taken:
        added.append((b"set-cookie", first_party_line(reading, own)))
    if not added:
        return None
    if space is Room.BARE:
        added.append((b"cache-control", b"private"))
    return added, told


def _wanted(reading: Reading) -> tuple[VisitorCookie | Removed | None, FirstPartyCookie | None, Touchpoint | None]:
    """Return what is to be set; None leaves a cookie as it stands. Both are renewed together, a valid one as it was."""
    if reading.replaced is not None:
        return reading.replaced, None, None
    known = reading.known() if reading.may_set() else None
    if known is None:
        return None, None, None
    cookie, verified, touch = known
    own = reading.first_party_cookie()
    if verified and touch is None and not visitor_cookie.is_due(cookie.issued_at, reading.now):
        return None, None if own is not None else first_party_cookie.mint(reading.now, reading.rules.random), None
    return cookie, own or first_party_cookie.mint(reading.now, reading.rules.random), touch


def visitor_line(reading: Reading, cookie: VisitorCookie) -> bytes:
    """Return the visitor cookie's Set-Cookie value, issued now."""
    rules = reading.rules
    token = visitor_cookie.token(cookie, rules.signature, now=reading.now)
    return rules.cookie_needle + token + (reading.visitor_attributes() or b"")


def first_party_line(reading: Reading, cookie: FirstPartyCookie) -> bytes:
    """Return the Set-Cookie value of `__adroll_fpc`."""
    return first_party_cookie.NEEDLE + cookie.kept + reading.first_party_attributes()


def removal_line(rules: CaptureRules) -> bytes:
    """Return the Set-Cookie value that takes the visitor cookie away; the next page makes a new visitor."""
    secure = b"" if rules.insecure_cookies else b"; Secure"
    domain = b"" if rules.cookie_domain is None else b"; Domain=" + rules.cookie_domain.encode("ascii")
    return rules.cookie_needle + b"; Path=/; Max-Age=0; HttpOnly; SameSite=Lax" + secure + domain
