"""What a browser makes of a Set-Cookie line: kept or refused, for how long, readable by whom, sent where."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from ipaddress import ip_address

import httpx

from kit.capture.first_party_cookie import NAME, normalised
from kit.capture.hosts import is_loopback, registrable_domain
from kit.doctor import Finding
from kit.site.facts import Fetched, host

FIRST_PARTY = NAME.decode()
#: Of which the kit sets one, by its `cookie_domain` and `insecure_cookies`.
VISITOR = ("__Host-kit", "__Secure-kit", "kit")
#: Browsers drop a cookie whose name and value are longer together.
LONGEST = 4_096
#: The kit sets a year; Chrome cuts off what is over 400 days.
SHORTEST_LIFE, LONGEST_LIFE = timedelta(days=360), timedelta(days=400)

_SECONDS = re.compile(r"-?[0-9]{1,10}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookie:
    """One Set-Cookie line of an answer to `url`; names of attributes are in lower case."""

    url: httpx.URL = field(repr=False)
    name: str
    value: str = field(repr=False)
    attributes: Mapping[str, str]

    @property
    def host(self) -> str:
        return host(self.url)

    @property
    def domain(self) -> str:
        """The Domain attribute, "" where the cookie is for its own host alone."""
        return self.attributes.get("domain", "").removeprefix(".").lower()

    @property
    def path(self) -> str:
        return self.attributes.get("path", "")


def cookies_of(fetched: Fetched) -> list[Cookie]:
    """Return the cookies that an answer sets, in order."""
    return [_cookie(line, fetched.url) for line in fetched.headers.get_list("set-cookie")]


def visitor_cookies(fetched: Fetched | None) -> list[Cookie]:
    """Return those that carry the kit's visitor."""
    return [one for one in cookies_of(fetched) if one.name in VISITOR] if fetched is not None else []


def _cookie(line: str, url: httpx.URL) -> Cookie:
    pair, *rest = line.split(";")
    name, _, value = pair.partition("=")
    named = (part.partition("=") for part in rest)
    attributes = {key.strip().lower(): text.strip() for key, _, text in named}
    return Cookie(url=url, name=name.strip(), value=value.strip(), attributes=attributes)


def refusal(cookie: Cookie) -> str:
    """Return why a browser does not keep this cookie at all, "" when it does (RFC 6265bis, 5.7)."""
    secure = "secure" in cookie.attributes
    setter = cookie.host
    if secure and cookie.url.scheme != "https" and not is_loopback(cookie.url.netloc):
        return "Secure over plain http"
    if cookie.name.startswith(("__Host-", "__Secure-")) and not secure:
        return f"the name {cookie.name} asks for Secure, which is gone"
    if cookie.name.startswith("__Host-") and (cookie.domain or cookie.path != "/"):
        return f"the name {cookie.name} allows no Domain and no Path but /"
    # A Domain that is the host's own name is taken for none where the host is a suffix or an address.
    if cookie.domain not in {"", setter}:
        if _is_address(setter) or not setter.endswith("." + cookie.domain):
            return f"Domain={cookie.domain} is not of {setter}"
        if registrable_domain(cookie.domain.encode()) is None:
            return f"Domain={cookie.domain} is a public suffix"
    if cookie.attributes.get("samesite", "").lower() == "none" and not secure:
        return "SameSite=None without Secure"
    if len(cookie.name) + len(cookie.value) > LONGEST:
        return f"longer than {LONGEST:,} bytes"
    return ""


def is_sent_to(cookie: Cookie, url: httpx.URL) -> bool:
    """Return whether a browser that got this cookie sends it along to this URL. Paths are not looked at."""
    if refusal(cookie) or cookie.attributes.get("max-age") == "0":
        return False
    if "secure" in cookie.attributes and url.scheme != "https" and not is_loopback(url.netloc):
        return False
    within = host(url).endswith("." + cookie.domain) if cookie.domain else False
    return host(url) == (cookie.domain or cookie.host) or within


def life(cookie: Cookie, now: datetime) -> timedelta | None:
    """Return how long the cookie is to live, None until the browser is closed. Max-Age goes before Expires."""
    seconds = cookie.attributes.get("max-age", "")
    if _SECONDS.fullmatch(seconds):
        return timedelta(seconds=int(seconds))
    try:
        return parsedate_to_datetime(cookie.attributes.get("expires", "")) - now
    except (ValueError, TypeError):
        return None


def judged(cookies: Sequence[Cookie], where: str, now: datetime) -> Iterator[Finding]:
    """Say of each of the kit's cookies what a browser will do with it; `where` names the answer that sets them."""
    for cookie in cookies:
        if cookie.name not in (*VISITOR, FIRST_PARTY):
            continue
        about = f"{cookie.name} of {where}"
        if reason := refusal(cookie):
            yield Finding(about, "bad", f"no browser keeps it: {reason}", _REWRITTEN)
            continue
        faults = [*_life_faults(cookie, now), *_reach_faults(cookie)]
        scope = f"{cookie.domain} and its subdomains" if cookie.domain else f"{cookie.host} alone"
        if faults:
            yield Finding(about, "bad", "; ".join(faults), _REWRITTEN)
        else:
            yield Finding(about, "good", f"kept for a year, for {scope}")


_REWRITTEN = "the kit does not set it so: see what in front of the shop rewrites Set-Cookie, and whether TLS ends there"


def _life_faults(cookie: Cookie, now: datetime) -> Iterator[str]:
    lives = life(cookie, now)
    if lives is None:
        yield "no Max-Age: it ends with the browser's session"
    elif lives <= timedelta(0):
        yield "it is taken away, not set"
    elif lives < SHORTEST_LIFE:
        yield f"it lives {lives.days} days instead of a year"
    elif lives > LONGEST_LIFE:
        yield f"it is to live {lives.days} days, and browsers cut that to 400"


def _reach_faults(cookie: Cookie) -> Iterator[str]:
    own = cookie.name != FIRST_PARTY
    same_site = cookie.attributes.get("samesite", "").lower()
    if own and "httponly" not in cookie.attributes:
        yield "no HttpOnly: every script of the page can read it"
    if not own and "httponly" in cookie.attributes:
        yield "HttpOnly: neither AdRoll's pixel nor kit.js can read it"
    if not own and normalised(cookie.value.encode()) is None:
        yield "its value is no first-party id of AdRoll's"
    if "secure" not in cookie.attributes and cookie.url.scheme == "https":
        yield "no Secure: it is sent over plain http as well"
    if same_site == "strict":
        yield "SameSite=Strict: it stays away on arrival from an ad, and every click makes another visitor"
    elif same_site != "lax":
        yield f"SameSite={same_site}, not Lax" if same_site else "no SameSite, on which browsers differ"
    if cookie.path != "/":
        yield f"Path={cookie.path}: pages outside of it do not get it" if cookie.path else "no Path: it is this path's"


def doubled(cookies: Sequence[Cookie], page: httpx.URL) -> Finding | None:
    """Return a finding when a browser comes to send two `__adroll_fpc` cookies to this page."""
    own = [one for one in cookies if one.name == FIRST_PARTY and is_sent_to(one, page)]
    places = sorted({f"{one.domain or one.host + ' alone'}{one.path}" for one in own})
    if len(places) < 2:
        return None
    said = f"two of them stand side by side: for {' and '.join(places)}"
    advice = (
        "set it in one place: one cookie_domain for the pages and /kit, and no server code of AdRoll's beside the kit"
    )
    return Finding(FIRST_PARTY, "bad", said, advice)


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
