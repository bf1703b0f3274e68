"""The visit itself: opens the page as a person's browser would, and asks of its endpoints what kit.js would ask."""

import asyncio
import json
import socket
import ssl
from collections.abc import Iterable, Mapping, Sequence

import httpx

from kit import consent
from kit.capture.hosts import is_loopback
from kit.destinations.base import Answer
from kit.errors import ConfigurationError
from kit.site.cookies import Cookie, cookies_of, is_sent_to, visitor_cookies
from kit.site.facts import CLICK, Addresses, Fetched, Resolve, Seen, Tag, host, origin, site, web_url
from kit.site.html import Markup

MOST_HOPS = 10
LONGEST_BODY = 1024 * 1024
#: For one request, its answer's last byte included, in seconds.
DEADLINE = 15.0

_BROWSER = {
    # A real one: what calls itself a bot gets no cookie.
    "user-agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.1 Safari/605.1.15",
    "accept-language": "en-US,en;q=0.9",
    "accept-encoding": "gzip, deflate",
}
_PAGE = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
_PARAMS = {"adct": CLICK, "utm_source": CLICK}
#: The visitor has said yes, by the kit's own cookie: under opt_in nothing could be seen otherwise.
_CONSENT = f"{consent.COOKIE.decode()}=granted"
#: A name that belongs to nobody (RFC 6761).
_FOREIGN = "https://kit-doctor.invalid"

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError)


async def visit(url: str, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None) -> Seen:
    """Open the page and return what came of it; nothing that a shop answers raises.

    `resolve` finds a host's addresses, `tls` says whom to trust. Raises ConfigurationError for what is no http URL.
    """
    first = _landing(url)
    # Proxies of this machine's environment are not asked: they are not what stands between a visitor and the shop.
    async with httpx.AsyncClient(headers=_BROWSER, verify=tls or True, trust_env=False, timeout=DEADLINE) as client:
        visitor = _Visitor(client)
        hops = await visitor.follow(first)
        if hops[-1].status != 200:
            return Seen(hops=hops)
        markup = Markup(hops[-1].url, hops[-1].body)
        asked = await visitor.ask(hops[-1].url, markup.tags)
    hosts = {host(hops[-1].url), host(asked["script"].url)}
    return Seen(
        hops=hops,
        tags=markup.tags,
        policies=[*hops[-1].headers.get_list("content-security-policy"), *markup.policies],
        **asked,
        addresses=await asyncio.to_thread(_resolved, hosts, resolve or addresses_of),
    )


def addresses_of(name: str) -> Addresses:
    """Return where a name leads, as this machine is told. Raises OSError for a name that leads nowhere."""
    ips = {str(found[4][0]).partition("%")[0] for found in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    try:
        canonical = socket.gethostbyname_ex(name)[0]
    except OSError:  # IPv6 alone
        canonical = name
    return Addresses(canonical=canonical.rstrip(".").lower(), ips=sorted(ips))


def _resolved(hosts: Iterable[str], resolve: Resolve) -> Mapping[str, Addresses]:
    found = {}
    for name in hosts:
        try:
            found[name] = resolve(name)
        except OSError:
            continue
    return found


def _landing(url: str) -> httpx.URL:
    parsed = web_url(httpx.URL(""), url)
    if parsed is None:
        raise ConfigurationError("--site", "is no http URL; write https://www.shop.com/")
    return parsed.copy_merge_params(_PARAMS)


class _Visitor:
    """One browser: its connections and its cookies."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.cookies: list[Cookie] = []

    async def follow(self, url: httpx.URL) -> Sequence[Fetched]:
        """Return every hop up to the page, or up to where it ended without one."""
        hops: list[Fetched] = []
        while True:
            headers = {**_PAGE, **_fetched_as(url, mode="navigate", dest="document", relation="cross-site")}
            hop = await self.fetch("GET", url, headers)
            hops.append(hop)
            target = _target(hop)
            if target is None:
                return hops
            if len(hops) > MOST_HOPS:
                return [*hops, Fetched(url=target, error=f"more than {MOST_HOPS} redirects")]
            url = target

    async def ask(self, page: httpx.URL, tags: Sequence[Tag]) -> dict[str, Fetched]:
        """Return the script and the answers of the endpoints beside it, by their field of `Seen`."""
        source = tags[0].url if tags else page.copy_with(path="/kit/kit.js", query=None, fragment=None)
        as_script = _fetched_as(page, mode="no-cors", dest="script", relation=_relation(page, source))
        asked = {"script": await self.fetch("GET", source, as_script)}
        arrival = {"params": _PARAMS, "url": f"{origin(page)}{page.path}", "referrer": ""}
        asked["collect"] = collect = await self._post(page, source.join("collect"), arrival)
        if collect.status == 204:
            if not visitor_cookies(collect):
                asked["consent"] = await self._post(page, source.join("consent"), {"granted": True})
            asked["foreign"] = await self._post(page, source.join("collect"), {}, foreign=True)
        return asked

    async def _post(self, page: httpx.URL, url: httpx.URL, body: object, *, foreign: bool = False) -> Fetched:
        headers = {
            "content-type": "application/json",
            "origin": _FOREIGN if foreign else origin(page),
            **_fetched_as(page, mode="cors", dest="empty", relation="cross-site" if foreign else _relation(page, url)),
        }
        return await self.fetch("POST", url, headers, json.dumps(body).encode())

    async def fetch(self, method: str, url: httpx.URL, headers: Mapping[str, str], body: bytes = b"") -> Fetched:
        """Ask once, with the cookies that a browser would send, and remember those that were set.

        With a Cookie header of ours the client's own jar adds nothing.
        """
        sent = [f"{one.name}={one.value}" for one in self.cookies if is_sent_to(one, url)]
        cookie = "; ".join([_CONSENT, *(pair for pair in sent if pair.isascii())])
        request = self.client.build_request(method, url, headers={**headers, "cookie": cookie}, content=body or None)
        try:
            async with asyncio.timeout(DEADLINE):
                answer = await self._answer(request)
        except _FAILURES as error:
            # Of a certificate the words say what is wrong; they repeat nothing of the visit.
            return Fetched(url=url, error=f"{type(error).__name__}: {error}"[:300].rstrip(": "))
        fetched = Fetched(url=url, answer=answer)
        self._keep(cookies_of(fetched))
        return fetched

    async def _answer(self, request: httpx.Request) -> Answer:
        response = await self.client.send(request, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LONGEST_BODY:
                    break
        finally:
            await response.aclose()
        cut = len(body) > LONGEST_BODY
        return Answer(status=response.status_code, headers=response.headers, body=bytes(body[:LONGEST_BODY]), cut=cut)

    def _keep(self, set_now: Sequence[Cookie]) -> None:
        for cookie in set_now:
            place = cookie.name, cookie.domain or cookie.host
            self.cookies = [one for one in self.cookies if (one.name, one.domain or one.host) != place]
            self.cookies.append(cookie)


def _target(hop: Fetched) -> httpx.URL | None:
    """Return where a redirect leads; None for a page, and for a target that no browser follows."""
    location = hop.headers.get("location")
    if hop.status not in {301, 302, 303, 307, 308} or location is None:
        return None
    return web_url(hop.url, location)


def _fetched_as(url: httpx.URL, *, mode: str, dest: str, relation: str) -> dict[str, str]:
    """Return the Sec-Fetch headers, which browsers send to secure origins alone."""
    if url.scheme != "https" and not is_loopback(url.netloc):
        return {}
    return {"sec-fetch-mode": mode, "sec-fetch-dest": dest, "sec-fetch-site": relation}


def _relation(page: httpx.URL, url: httpx.URL) -> str:
    """Return what a browser calls a request of this page to that URL in Sec-Fetch-Site."""
    if origin(page) == origin(url):
        return "same-origin"
    return "same-site" if (page.scheme, site(page)) == (url.scheme, site(url)) else "cross-site"
