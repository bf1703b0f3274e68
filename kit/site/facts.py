"""What a visit from outside brought home: every answer, the page's tag, and where the hosts' names lead."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from kit.capture.hosts import registrable_domain
from kit.destinations.base import Answer

#: The click that a visit arrives with. It can be told from every vendor's own, and no order follows it.
CLICK = "kit-doctor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """One request. Without an answer, `error` says why in a few words."""

    url: httpx.URL = field(repr=False)
    answer: Answer | None = None
    error: str = ""

    @property
    def status(self) -> int:
        """The answer's status, 0 without one."""
        return self.answer.status if self.answer is not None else 0

    @property
    def headers(self) -> httpx.Headers:
        return self.answer.headers if self.answer is not None else httpx.Headers()

    @property
    def body(self) -> bytes:
        return self.answer.body if self.answer is not None else b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """The script element of kit.js as it stands in the page; `url` is what a browser makes of its `src`."""

    url: httpx.URL = field(repr=False)
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a host name leads. `canonical` is the name at the end of its CNAMEs, the host itself where it has none."""

    canonical: str
    ips: Sequence[str]


Resolve = Callable[[str], Addresses]
"""Raises OSError for a name that leads nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A visit: its hops, of which the last one is the page, and what was asked of kit.js and its endpoints there.

    `script`    the file that the tag names, or `/kit/kit.js` where there is no tag.
    `collect`   what kit.js would have posted from the page.
    `consent`   asked where `collect` set no cookie: this endpoint sets one for everybody.
    `foreign`   what a page of another site would post; asked where `collect` was answered.
    `addresses` by host name; a name that leads nowhere is absent.
    """

    hops: Sequence[Fetched]
    tags: Sequence[Tag] = ()
    policies: Sequence[str] = ()
    script: Fetched | None = None
    collect: Fetched | None = None
    consent: Fetched | None = None
    foreign: Fetched | None = None
    addresses: Mapping[str, Addresses] = field(default_factory=dict)

    @property
    def page(self) -> Fetched:
        return self.hops[-1]


def web_url(base: httpx.URL, reference: str) -> httpx.URL | None:
    """Return where a link of this page or answer leads; None where no browser would go."""
    try:
        url = base.join(reference.strip())
    except (httpx.InvalidURL, ValueError):
        return None
    return url if url.scheme in {"http", "https"} and url.host and (url.port or 0) < 65_536 else None


def host(url: httpx.URL) -> str:
    """Return the host's name as it goes over the wire; httpx's own attribute turns it into Unicode."""
    return url.raw_host.decode("ascii")


def site(url: httpx.URL) -> str:
    """Return the registrable domain, or the host where it has none."""
    return registrable_domain(url.netloc) or host(url)


def origin(url: httpx.URL) -> str:
    """Return the origin of a URL, as the header of that name writes it."""
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def shown(url: httpx.URL) -> str:
    """Return a URL fit to be printed: no user info, no query."""
    return origin(url) + url.path


def printable(text: str) -> str:
    """Return a page's own words fit for a terminal: short, and no control character in them."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:200])
