"""Cookies on the wire: values of one name in Cookie headers, and the attributes of the cookies that we set."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from kit.capture.hosts import host_name, is_loopback, registrable_domain

Header = tuple[bytes, bytes]

#: Chrome caps a cookie's life at 400 days, AdRoll asks for a year.
YEAR = 31_536_000

#: No honest browser sends more; the rest is not looked at.
LONGEST_HEADER = 65_536

#: Cookies of one name, or near misses of it, that are looked at: more are somebody's attempt to keep us busy.
MOST_NAMESAKES = 32


def joined(headers: Iterable[Header], name: bytes, by: bytes) -> bytes:
    """Return all values of one header as one: HTTP/2 servers may hand over several Cookie headers."""
    return by.join([value for key, value in headers if key == name])


def place_of(cookies: bytes, needle: bytes, start: int = 0) -> int:
    """Return where the value of the first cookie with this name stands (`needle` is `name=`), or -1."""
    at = cookies.find(needle, start, LONGEST_HEADER)
    for _ in range(MOST_NAMESAKES):
        if at <= 0 or cookies[at - 2 : at] == b"; " or cookies[max(0, at - 8) : at].rstrip(b" \t").endswith(b";"):
            return -1 if at < 0 else at + len(needle)
        at = cookies.find(needle, at + 1, LONGEST_HEADER)
    return -1


def values_of(cookies: bytes, needle: bytes) -> Iterator[bytes]:
    """Yield the values of the first cookies with this name, in order, without surrounding blanks and quotes."""
    at = place_of(cookies, needle)
    for _ in range(MOST_NAMESAKES):
        if at < 0:
            return
        end = cookies.find(b";", at)
        value = (cookies[at:end] if end >= 0 else cookies[at:]).strip(b" \t")
        yield value[1:-1] if value[:1] == value[-1:] == b'"' and len(value) > 1 else value
        at = place_of(cookies, needle, at) if end >= 0 else -1


@lru_cache(maxsize=1024)
def visitor_attributes(host: bytes, cookie_domain: str | None, insecure: bool) -> bytes | None:
    """Return the visitor cookie's attributes for this Host header; None when it must not be set there."""
    if insecure and not is_loopback(host):
        return None
    attributes = b"; Path=/; Max-Age=%d; HttpOnly; SameSite=Lax" % YEAR
    if not insecure:
        attributes += b"; Secure"
    return attributes + _domain(cookie_domain if _covers(cookie_domain, host) else None)


@lru_cache(maxsize=1024)
def first_party_attributes(host: bytes, cookie_domain: str | None, secure: bool) -> bytes:
    """Return the attributes of `__adroll_fpc` for this Host header: readable by the pixel, so not HttpOnly."""
    attributes = b"; Path=/; Max-Age=%d; SameSite=Lax" % YEAR
    if secure:
        attributes += b"; Secure"
    return attributes + _domain(cookie_domain if _covers(cookie_domain, host) else registrable_domain(host))


# Both in one: a new visitor's page asks for both.
@lru_cache(maxsize=1024)
def both_attributes(host: bytes, scheme: str, cookie_domain: str | None, insecure: bool) -> tuple[bytes, bytes] | None:
    """Return the attributes of the visitor cookie and of `__adroll_fpc`; None when the first must not be set there."""
    visitor = visitor_attributes(host, cookie_domain, insecure)
    if visitor is None:
        return None
    return visitor, first_party_attributes(host, cookie_domain, not insecure or scheme in {"https", "wss"})


def _covers(cookie_domain: str | None, host: bytes) -> bool:
    name = host_name(host)
    return (
        cookie_domain is not None and name is not None and (name == cookie_domain or name.endswith("." + cookie_domain))
    )


def _domain(domain: str | None) -> bytes:
    return b"" if domain is None else b"; Domain=" + domain.encode("ascii")
