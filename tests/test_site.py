"""The visit from outside: shops over real sockets, each fault by a proxy in front of one, and rules by facts."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp
from typer.testing import CliRunner

from kit import Kit
from kit.cli import app as command
from kit.destinations.base import Answer
from kit.doctor import Finding
from kit.errors import ConfigurationError
from kit.site import cookies, examine_site, policy, safari
from kit.site.facts import Addresses, Fetched, Seen, Tag
from kit.site.findings import judged
from kit.site.html import Markup
from kit.site.visiting import addresses_of
from kit.store.tables import touchpoints
from kit.web import CaptureMiddleware, endpoints, script_tag
from tests.support import FPC, eventually, make_kit

CERTIFICATES = Path(__file__).parent / "destinations" / "certificates"
NOW = datetime(2026, 1, 15, 12, tzinfo=UTC)
YEAR = "Path=/; Max-Age=31536000; SameSite=Lax"

Forward = Callable[..., Awaitable[Response]]
Fault = Callable[[Request, Forward], Awaitable[Response]]
Served = Callable[..., str]
Visit = Callable[..., Awaitable[dict[str, Finding]]]


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    """Yields `served(app, tls)`, which serves over a socket of this machine and returns the base URL."""
    under_way: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
    with ExitStack() as listeners:

        def served(app: ASGIApp, *, tls: bool = False) -> str:
            files: dict[str, Any] = {
                "ssl_certfile": CERTIFICATES / "good.pem",
                "ssl_keyfile": CERTIFICATES / "server.key",
            }
            settings = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False, **(files if tls else {}))
            listener = listeners.enter_context(socket.create_server(("127.0.0.1", 0)))
            server = uvicorn.Server(settings)
            under_way.append((server, asyncio.create_task(server.serve([listener]))))
            return f"http{'s' if tls else ''}://localhost:{listener.getsockname()[1]}"

        yield served
        for server, _ in under_way:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in under_way))


def shop(
    kit: Kit, *, middleware: bool = True, mounted: bool = True, html: str | None = None, **headers: str
) -> ASGIApp:
    async def landing(_request: Request) -> Response:
        page = f"<!doctype html><title>Shop</title>{script_tag('/kit')}" if html is None else html
        return HTMLResponse(page, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return Starlette(
        routes=[Route("/", landing), *([Mount("/kit", endpoints(kit))] if mounted else [])],
        middleware=[Middleware(CaptureMiddleware, kit=kit)] if middleware else [],
    )


def proxy(target: str, fault: Fault) -> ASGIApp:
    """A reverse proxy in front of `target` that does what `fault` makes of each exchange."""

    async def forward(request: Request, **headers: str | None) -> Response:
        changed = {**request.headers, **{name.replace("_", "-"): value for name, value in headers.items()}}
        sent = {name: value for name, value in changed.items() if value is not None}
        url = httpx.URL(target, raw_path=request.scope["raw_path"] + b"?" + request.scope["query_string"])
        async with httpx.AsyncClient(trust_env=False, verify=False) as client:
            answer = await client.request(request.method, url, headers=sent, content=await request.body())
        response = Response(answer.content, answer.status_code)
        response.raw_headers = [(name.lower(), value) for name, value in answer.headers.raw]
        return response

    async def at(request: Request) -> Response:
        return await fault(request, forward)

    return Starlette(routes=[Route("/{path:path}", at, methods=["GET", "POST"])])


def here(host: str) -> Addresses:
    return Addresses(canonical=host, ips=["127.0.0.1"])


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving() as served:
        yield served


@pytest.fixture
def visit(served: Served) -> Visit:
    """Visits a shop over TLS, behind a proxy with this fault; each finding by what it is about."""

    async def visited(app: ASGIApp, fault: Fault | None = None, path: str = "/") -> dict[str, Finding]:
        url = served(app if fault is None else proxy(served(app), fault), tls=True)
        trusted = ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")
        found = await examine_site(url + path, resolve=here, tls=trusted)
        by_name = {one.about: one for one in found}
        assert len(by_name) == len(found)
        return by_name

    return visited


@pytest.fixture
def kit(tmp_path: Path) -> Any:
    made = make_kit(tmp_path, insecure_cookies=False)
    made.open()
    yield made
    made.store.close()


def wrong(found: Mapping[str, Finding]) -> dict[str, str]:
    return {about: one.state for about, one in found.items() if one.state != "good"}


# ---------------------------------------------------------------- over real servers


async def test_a_shop_where_everything_is_good(visit: Visit, kit: Kit) -> None:
    """Every finding is good, and the visit leaves one visitor with one click."""
    found = await visit(shop(kit))

    assert {about: one.state for about, one in found.items()} == dict.fromkeys(
        (
            "visit", "https", "page", "__Host-kit of the page", "__adroll_fpc of the page", "kit.js in the page",
            "kit.js", "/kit/collect", "__Host-kit of /kit/collect", "__adroll_fpc of /kit/collect",
            "posts from other sites", "lifetime in Safari",
        ),
        "good",
    )  # fmt: skip
    assert "adct=kit-doctor" in found["visit"].said
    assert not any(one.advice for one in found.values())

    async def clicks() -> list[str]:
        query = select(touchpoints.c.click_id)
        return list(await kit.store.read(lambda connection: connection.execute(query).scalars().all()))

    async def kept() -> bool:
        return bool(await clicks())

    await eventually(kept)
    assert await clicks() == ["kit-doctor"]


async def test_a_shop_under_opt_in_is_seen_with_a_yes(visit: Visit, tmp_path: Path) -> None:
    """The visit says yes by the kit's own cookie, else nothing could be seen."""
    asking = make_kit(tmp_path, insecure_cookies=False, consent="opt_in")
    asking.open()

    found = await visit(shop(asking))

    assert wrong(found) == {}
    asking.store.close()


async def test_a_consent_rule_that_says_no_is_told_from_a_stripped_cookie(visit: Visit, tmp_path: Path) -> None:
    """/kit/consent sets its cookie for everybody, so Set-Cookie comes through and the rule it is."""
    refusing = make_kit(tmp_path, insecure_cookies=False, consent=lambda _scope: False)
    refusing.open()

    found = await visit(shop(refusing))

    assert wrong(found) == {"page": "warning", "/kit/collect": "warning"}
    assert "consent rule said no" in found["page"].said
    refusing.store.close()


async def strips_cookies(request: Request, forward: Forward) -> Response:
    response = await forward(request)
    response.raw_headers = [pair for pair in response.raw_headers if pair[0] != b"set-cookie"]
    return response


async def strips_cookies_of_pages(request: Request, forward: Forward) -> Response:
    return await (strips_cookies if request.method == "GET" else only_forwards)(request, forward)


async def only_forwards(request: Request, forward: Forward) -> Response:
    return await forward(request)


async def test_a_cdn_that_strips_set_cookie(visit: Visit, kit: Kit) -> None:
    """Nothing comes through, not even from the endpoint that sets a cookie for everybody."""
    found = await visit(shop(kit), strips_cookies)

    assert wrong(found) == {"page": "bad", "/kit/collect": "bad"}
    assert "which sets one for every visitor" in found["page"].said
    assert "pass Set-Cookie on" in found["page"].advice


async def test_a_cdn_that_strips_set_cookie_of_pages_alone(visit: Visit, kit: Kit) -> None:
    """The page says private, as the kit makes it along with its cookies, and the endpoint's come through."""
    found = await visit(shop(kit), strips_cookies_of_pages)

    assert wrong(found) == {"page": "bad"}
    assert "strips its Set-Cookie" in found["page"].advice


async def test_a_missing_middleware(visit: Visit, kit: Kit) -> None:
    """The endpoints set cookies, the page sets none and says nothing about caches."""
    found = await visit(shop(kit, middleware=False))

    assert wrong(found) == {"page": "bad"}
    assert "put CaptureMiddleware around this page" in found["page"].advice


async def test_missing_endpoints(visit: Visit, kit: Kit) -> None:
    """Neither kit.js nor what it posts to is there; the page's own cookies are."""
    found = await visit(shop(kit, mounted=False))

    assert wrong(found) == {"kit.js": "bad", "/kit/collect": "bad"}
    assert "HTTP 404" in found["kit.js"].said
    assert "mount endpoints(kit)" in found["/kit/collect"].advice


async def test_a_page_that_a_cdn_may_keep(visit: Visit, kit: Kit) -> None:
    """It has no cookie, which is right: kit.js has them set."""
    found = await visit(shop(kit, cache_control="public, max-age=600"))

    assert wrong(found) == {}
    assert "cache-control: public, max-age=600" in found["page"].said
    assert "__Host-kit of the page" not in found


async def test_a_cacheable_page_without_kit_js(visit: Visit, kit: Kit) -> None:
    """Nothing would ever set a cookie for it."""
    found = await visit(shop(kit, html="<title>Shop</title>", expires="Thu, 01 Jan 2037 00:00:00 GMT"))

    assert wrong(found) == {"page": "bad", "kit.js in the page": "bad"}
    assert "kit.js does not have one set either" in found["page"].said


async def adds_public(request: Request, forward: Forward) -> Response:
    response = await forward(request)
    if request.method == "GET":
        response.headers["cache-control"] = "public, max-age=60"
    return response


async def test_a_proxy_that_makes_pages_public(visit: Visit, kit: Kit) -> None:
    """One visitor's cookie in a shared cache makes everybody that visitor."""
    found = await visit(shop(kit), adds_public)

    assert wrong(found) == {"page": "bad"}
    assert "all would be one visitor" in found["page"].said


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ({"cf_cache_status": "HIT"}, "bad"),
        ({"x_cache": "Hit from cloudfront"}, "bad"),
        ({"age": "17"}, "bad"),
        ({"cdn_cache_control": "max-age=60", "cache_control": "private"}, "bad"),
        ({"cf_cache_status": "DYNAMIC", "x_cache": "Miss from cloudfront", "age": "0"}, "good"),
    ],
)
def test_a_page_out_of_a_cache_with_a_cookie_in_it(headers: Mapping[str, Any], state: str) -> None:
    """Whatever Cache-Control says, the CDN says that it kept the page, or will."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN, **headers)

    assert states(Seen(hops=[page]))["page"] == state


async def drops_the_script(request: Request, forward: Forward) -> Response:
    response = await forward(request)
    if not request.url.path.startswith("/kit/"):
        del response.headers["content-length"]
        response.body = bytes(response.body).replace(b"<script", b"<noscript")
        response.headers["content-length"] = str(len(response.body))
    return response


async def test_a_rewritten_page_that_lost_its_script(visit: Visit, kit: Kit) -> None:
    """The cookies are set; who they belong to, kit.js cannot tell any more."""
    found = await visit(shop(kit), drops_the_script)

    assert wrong(found) == {"kit.js in the page": "warning"}
    assert "/kit/kit.js is there" in found["kit.js in the page"].said


async def adds_a_policy(request: Request, forward: Forward) -> Response:
    response = await forward(request)
    response.headers["content-security-policy"] = (
        "default-src 'self'; script-src https://cdn.example; connect-src 'none'"
    )
    return response


async def test_a_policy_that_forbids_kit_js(visit: Visit, kit: Kit) -> None:
    """Both of it are named: the directive that keeps it from loading, and the one that keeps it from posting."""
    policies = shop(
        kit, html=f"{script_tag('/kit')}<meta http-equiv=content-security-policy content=\"default-src 'none'\">"
    )

    found = await visit(policies)
    by_proxy = await visit(shop(kit), adds_a_policy)

    assert found["kit.js blocked"].said == "Content-Security-Policy: default-src 'none'"
    assert wrong(by_proxy) == {"kit.js blocked": "bad", "posts of kit.js blocked": "bad"}
    assert "script-src https://cdn.example" in by_proxy["kit.js blocked"].said


async def loses_the_query(request: Request, forward: Forward) -> Response:
    return RedirectResponse("/", 301) if request.url.path == "/ad" else await forward(request)


async def keeps_the_query(request: Request, forward: Forward) -> Response:
    return RedirectResponse(f"/?{request.url.query}", 302) if request.url.path == "/ad" else await forward(request)


async def test_a_redirect_that_drops_the_query(visit: Visit, kit: Kit) -> None:
    """The click id is gone before the shop sees it, and the step is named."""
    found = await visit(shop(kit), loses_the_query, "/ad")

    assert wrong(found) == {"redirects": "bad"}
    assert "/ad leads to" in found["redirects"].said


async def test_a_redirect_that_keeps_the_query(visit: Visit, kit: Kit) -> None:
    """One hop, and nothing is wrong with it."""
    found = await visit(shop(kit), keeps_the_query, "/ad?colour=red")

    assert wrong(found) == {}
    assert found["redirects"].said == "1, and the click id came along"


async def test_a_redirect_of_the_shops_own_keeps_the_click_in_its_cookie(visit: Visit, kit: Kit) -> None:
    """The middleware saw it there; kit.js and the pixel did not."""

    async def home(_request: Request) -> Response:
        return HTMLResponse(str(script_tag("/kit")))

    async def ad(_request: Request) -> Response:
        return RedirectResponse("/")

    routes = [Route("/", home), Route("/ad", ad), Mount("/kit", endpoints(kit))]
    found = await visit(Starlette(routes=routes, middleware=[Middleware(CaptureMiddleware, kit=kit)]), path="/ad")

    assert wrong(found)["redirects"] == "warning"
    assert "the kit kept it" in found["redirects"].said


async def test_redirects_without_end(visit: Visit, kit: Kit) -> None:
    """After ten it is given up, and said."""
    asked: list[str] = []

    async def turns_in_circles(request: Request, _forward: Forward) -> Response:
        asked.append(request.url.path)
        return RedirectResponse(f"/again?{request.url.query}")

    found = await visit(shop(kit), turns_in_circles)

    assert len(asked) == 11
    assert wrong(found) == {"visit": "bad"}
    assert "more than 10 redirects" in found["visit"].said


async def test_cookies_on_the_way_are_a_browsers(visit: Visit, kit: Kit) -> None:
    """What a hop sets goes along where a browser would send it, once, the newest value of each."""
    seen: list[str] = []

    async def sets_cookies(request: Request, forward: Forward) -> Response:
        seen.append(request.headers["cookie"])
        if request.url.path != "/ad":
            return await forward(request)
        response = RedirectResponse(f"/?{request.url.query}")
        for line in ("session=1; Path=/", "session=2; Path=/", "other=1; Domain=shop.com", "gone=1; Max-Age=0"):
            response.headers.append("set-cookie", line)
        return response

    found = await visit(shop(kit), sets_cookies, "/ad")

    assert wrong(found) == {}
    assert seen[:2] == ["kit-consent=granted", "kit-consent=granted; session=2"]


async def is_same_origin_to_all(request: Request, forward: Forward) -> Response:
    return await forward(request, sec_fetch_site="same-origin")


async def is_cross_site_to_all(request: Request, forward: Forward) -> Response:
    return await forward(request, sec_fetch_site="cross-site")


async def test_a_proxy_that_rewrites_sec_fetch_site(visit: Visit, kit: Kit) -> None:
    """One way no post of the shop's own is taken, the other way everybody's is."""
    closed = await visit(shop(kit), is_cross_site_to_all)
    opened = await visit(shop(kit), is_same_origin_to_all)

    assert wrong(closed) == {"/kit/collect": "bad"}
    assert "HTTP 403" in closed["/kit/collect"].said
    assert "Sec-Fetch-Site" in closed["/kit/collect"].advice
    assert wrong(opened) == {"posts from other sites": "bad"}


async def drops_sec_fetch(request: Request, forward: Forward) -> Response:
    return await forward(request, sec_fetch_mode=None, sec_fetch_site=None, sec_fetch_dest=None)


async def test_a_proxy_that_drops_sec_fetch_headers(visit: Visit, kit: Kit) -> None:
    """Accept, Origin and Host tell the same: nothing is wrong."""
    found = await visit(shop(kit), drops_sec_fetch)

    assert wrong(found) == {}


def rewriting(old: bytes, new: bytes) -> Fault:
    async def rewrites(request: Request, forward: Forward) -> Response:
        response = await forward(request)
        response.raw_headers = [
            (name, value.replace(old, new) if name == b"set-cookie" else value) for name, value in response.raw_headers
        ]
        return response

    return rewrites


@pytest.mark.parametrize(
    ("old", "new", "cookie", "words"),
    [
        (b"; Secure", b"", "__Host-kit", "asks for Secure"),
        (b"Path=/", b"Path=/shop", "__Host-kit", "no Path but /"),
        (b"SameSite=Lax", b"SameSite=Lax; Domain=localhost", "__Host-kit", "allows no Domain"),
        (b"SameSite=Lax", b"SameSite=Lax; Domain=shop.com", "__adroll_fpc", "is not of localhost"),
        (b"; HttpOnly", b"", "__Host-kit", "no HttpOnly"),
        (b"Secure", b"Secure; HttpOnly", "__adroll_fpc", "neither AdRoll's pixel nor kit.js"),
        (b"SameSite=Lax", b"SameSite=Strict", "__Host-kit", "every click makes another visitor"),
        (b"; SameSite=Lax", b"", "__adroll_fpc", "no SameSite"),
        (b"Max-Age=31536000", b"Max-Age=604800", "__adroll_fpc", "7 days instead of a year"),
        (b"; Max-Age=31536000", b"", "__Host-kit", "browser's session"),
        (b"Max-Age=31536000", b"Max-Age=99999999", "__Host-kit", "cut that to 400"),
        (b"Max-Age=31536000", b"Max-Age=0", "__Host-kit", "taken away"),
        (b"; Secure", b"", "__adroll_fpc", "sent over plain http as well"),
        (b"Path=/", b"Path=/shop", "__adroll_fpc", "pages outside of it"),
        (b"SameSite=Lax", b"SameSite=None", "__Host-kit", "SameSite=none, not Lax"),
        (b"__adroll_fpc=", b"__adroll_fpc=.", "__adroll_fpc", "no first-party id"),
    ],
)
async def test_a_proxy_that_rewrites_cookies(
    visit: Visit, kit: Kit, old: bytes, new: bytes, cookie: str, words: str
) -> None:
    """What a browser makes of the rewritten cookie is said, of the page and of the endpoint."""
    found = await visit(shop(kit), rewriting(old, new))

    for where in ("the page", "/kit/collect"):
        assert found[f"{cookie} of {where}"].state == "bad"
        assert words in found[f"{cookie} of {where}"].said


async def test_plain_http_on_this_machine(served: Served, kit: Kit) -> None:
    """It is for development: a warning, and nothing more."""
    found = await examine_site(served(shop(kit)), resolve=here)

    assert [(one.about, one.state) for one in found if one.state != "good"] == [("https", "warning")]


async def test_a_shop_that_is_not_there() -> None:
    """Nobody listens; that is the one finding."""
    found = await examine_site("http://127.0.0.1:9/", resolve=here)

    assert [(one.about, one.state) for one in found] == [("visit", "bad")]


async def test_a_certificate_that_browsers_refuse(served: Served, kit: Kit) -> None:
    """No visitor gets past it; its own words are said."""
    found = await examine_site(served(shop(kit), tls=True), resolve=here)

    assert len(found) == 1
    assert "CERTIFICATE_VERIFY_FAILED" in found[0].said


@pytest.mark.parametrize("location", ["https://shop.com:99999/", "https://shop.com:x/", "intent://shop"])
async def test_a_redirect_to_nowhere(visit: Visit, kit: Kit, location: str) -> None:
    """No browser follows it, so there is no page."""

    async def leads_away(_request: Request, _forward: Forward) -> Response:
        return Response(status_code=302, headers={"location": location})

    found = await visit(shop(kit), leads_away)

    assert wrong(found) == {"visit": "bad"}
    assert list(found) == ["visit"]


async def refuses_visits(_request: Request, _forward: Forward) -> Response:
    return Response("Just a moment...", 403)


async def test_a_bot_wall(visit: Visit, kit: Kit) -> None:
    """Nothing is said of a page that was not seen."""
    found = await visit(shop(kit), refuses_visits)

    assert list(found) == ["visit"]
    assert "HTTP 403" in found["visit"].said


async def test_a_page_without_end_in_sight(visit: Visit, kit: Kit) -> None:
    """A mebibyte of it is read."""
    found = await visit(shop(kit, html="<p>" + "x" * 2**20 + str(script_tag("/kit"))))

    assert "first MiB" in found["kit.js in the page"].said


async def test_user_info_is_not_printed(served: Served, kit: Kit) -> None:
    """A staging shop's password stands in the URL and nowhere else."""
    found = await examine_site(served(shop(kit)).replace("//", "//jane:secret@"), resolve=here)

    assert "secret" not in repr(found)
    assert found[0].state == "good"


@pytest.mark.parametrize("url", ["shop.com", "ftp://shop.com/", "https://", "https://shop.com:99999/", ""])
async def test_what_is_no_url_is_refused(url: str) -> None:
    """The text names the option and says what to write."""
    with pytest.raises(ConfigurationError, match="--site: is no http URL; write https://"):
        await examine_site(url)


async def test_the_command(served: Served, kit: Kit) -> None:
    """`kit doctor --site` needs no kit of its own, prints JSON, and fails when one finding is bad."""
    good, bad = served(shop(kit)), served(shop(kit, mounted=False))

    well = await asyncio.to_thread(CliRunner().invoke, command, ["doctor", "--site", good, "--json"])
    ill = await asyncio.to_thread(CliRunner().invoke, command, ["doctor", "--site", bad])

    assert well.exit_code == 0
    assert json.loads(well.output)[0]["about"] == "visit"
    assert ill.exit_code == 1
    assert "/kit/collect" in ill.output


# ---------------------------------------------------------------- by facts


def fetched(url: str, *set_cookies: str, status: int = 200, **headers: str) -> Fetched:
    pairs = [("set-cookie", line) for line in set_cookies]
    pairs += [(name.replace("_", "-"), value) for name, value in headers.items()]
    return Fetched(url=httpx.URL(url), answer=Answer(status=status, headers=httpx.Headers(pairs)))


def states(seen: Seen) -> dict[str, str]:
    return {one.about: one.state for one in judged(seen, NOW)}


VISITOR = f"__Host-kit=1; {YEAR}; HttpOnly; Secure"
OWN = f"__adroll_fpc={FPC}; {YEAR}; Secure"


@pytest.mark.parametrize(
    ("url", "line", "reason"),
    [
        ("https://www.shop.co.uk/", f"{OWN}; Domain=shop.co.uk", ""),
        ("https://www.shop.co.uk/", f"{OWN}; Domain=.shop.co.uk", ""),
        ("https://www.shop.co.uk/", f"{OWN}; Domain=co.uk", "Domain=co.uk is a public suffix"),
        ("https://jane.github.io/", f"{OWN}; Domain=github.io", "Domain=github.io is a public suffix"),
        ("https://www.shop.com/", f"{OWN}; Domain=hop.com", "Domain=hop.com is not of www.shop.com"),
        ("https://192.0.2.10/", f"{OWN}; Domain=0.2.10", "Domain=0.2.10 is not of 192.0.2.10"),
        ("https://www.shop.com/", f"__Secure-kit=1; {YEAR}; Secure; Domain=shop.com", ""),
        ("https://www.shop.com/", f"__Secure-kit=1; {YEAR}", "the name __Secure-kit asks for Secure, which is gone"),
        ("https://www.shop.com/", "__adroll_fpc=1; SameSite=None", "SameSite=None without Secure"),
        ("https://www.shop.com/", f"kit={'x' * 4_096}", "longer than 4,096 bytes"),
        ("http://www.shop.com/", VISITOR, "Secure over plain http"),
        ("http://localhost/", VISITOR, ""),
        ("http://[::1]:8000/", VISITOR, ""),
        ("https://www.münchen.example/", f"{OWN}; Domain=xn--mnchen-3ya.example", ""),
    ],
)
def test_whether_a_browser_keeps_a_cookie(url: str, line: str, reason: str) -> None:
    """By RFC 6265bis and the public suffix list."""
    assert cookies.refusal(cookies.cookies_of(fetched(url, line))[0]) == reason


@pytest.mark.parametrize(
    ("line", "url", "sent"),
    [
        ("a=b", "https://shop.com/", True),
        ("a=b", "https://www.shop.com/", False),
        ("a=b; Domain=shop.com", "https://www.shop.com/", True),
        ("a=b; Domain=shop.com", "https://notshop.com/", False),
        ("a=b; Domain=com", "https://shop.com/", False),
        ("a=b; Max-Age=0", "https://shop.com/", False),
        ("a=b; Secure", "http://shop.com/", False),
        ("a=b", "http://shop.com/", True),
    ],
)
def test_where_a_browser_sends_a_cookie(line: str, url: str, sent: bool) -> None:
    """What it keeps goes to the host that set it, or to its Domain's hosts, and Secure to https alone."""
    cookie = cookies.cookies_of(fetched("https://shop.com/", line))[0]

    assert cookies.is_sent_to(cookie, httpx.URL(url)) is sent


@pytest.mark.parametrize(
    ("attributes", "days"),
    [
        ("Max-Age=86400", 1),
        ("Max-Age=86400; Expires=Thu, 01 Jan 2037 00:00:00 GMT", 1),
        ("Expires=Fri, 16 Jan 2026 12:00:00 GMT", 1),
        ("Max-Age=never; Expires=Fri, 16 Jan 2026 12:00:00 GMT", 1),
        ("expire=Fri, 16 Jan 2026 12:00:00 GMT", None),
        ("Expires=soon", None),
    ],
)
def test_how_long_a_cookie_lives(attributes: str, days: int | None) -> None:
    """Max-Age goes before Expires; without either it ends with the session."""
    found = cookies.life(cookies.cookies_of(fetched("https://shop.com/", f"a=b; {attributes}"))[0], NOW)

    assert (found.days if found is not None else None) == days


def test_plain_http_loses_every_cookie() -> None:
    """The page over http is bad, and so is each of its cookies."""
    seen = Seen(hops=[fetched("http://www.shop.com/?adct=kit-doctor", VISITOR, OWN, cache_control="private")])

    found = states(seen)

    assert found["https"] == "bad"
    assert found["__Host-kit of the page"] == "bad"
    assert found["__adroll_fpc of the page"] == "bad"


def test_a_host_with_letters_beyond_ascii() -> None:
    """Its name is compared and printed as it goes over the wire."""
    own = f"{OWN}; Domain=xn--mnchen-3ya.example"
    page = fetched("https://www.münchen.example/?adct=kit-doctor", VISITOR, own)

    found = judged(Seen(hops=[page], script=fetched("https://www.münchen.example/kit/kit.js")), NOW)

    assert found[0].said.startswith("https://www.xn--mnchen-3ya.example/ ")
    assert [one.said for one in found if one.about == "__adroll_fpc of the page"] == [
        "kept for a year, for xn--mnchen-3ya.example and its subdomains"
    ]


def test_http_to_https_without_the_query() -> None:
    """What the http hop set is of no use: no browser keeps a Secure cookie from it."""
    first = fetched("http://shop.com/?adct=kit-doctor", VISITOR, status=301)

    assert states(Seen(hops=[first, fetched("https://shop.com/", VISITOR, OWN)]))["redirects"] == "bad"


def test_apex_to_www_without_the_query() -> None:
    """A host's own cookie does not get to www; one with the shop's Domain does."""
    page = fetched("https://www.shop.com/", VISITOR, OWN)
    landing = "https://shop.com/?adct=kit-doctor"
    shared = f"__Secure-kit=1; {YEAR}; Secure; HttpOnly; Domain=shop.com"

    assert states(Seen(hops=[fetched(landing, VISITOR, status=301), page]))["redirects"] == "bad"
    assert states(Seen(hops=[fetched(landing, shared, status=301), page]))["redirects"] == "warning"


def test_ads_that_lead_to_another_site() -> None:
    """The click came along, and the first site's cookies did not."""
    first = fetched("https://ads.example/?adct=kit-doctor", status=302)

    found = judged(Seen(hops=[first, fetched("https://shop.com/?adct=kit-doctor", VISITOR, OWN)]), NOW)

    assert any("another site" in one.said and one.state == "warning" for one in found)


def test_two_first_party_cookies() -> None:
    """The page's for the domain and the endpoint's for the host alone stand side by side; twice the same is one."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, f"{OWN}; Domain=shop.com")
    other = fetched("https://www.shop.com/kit/collect", VISITOR, OWN, status=204)
    same = fetched("https://www.shop.com/kit/collect", VISITOR, f"{OWN}; Domain=.shop.com", status=204)

    assert states(Seen(hops=[page], collect=other))["__adroll_fpc"] == "bad"
    assert "__adroll_fpc" not in states(Seen(hops=[page], collect=same))


def test_a_first_party_cookie_that_is_missing_alone() -> None:
    """The kit sets both; something takes one of them away."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR)

    assert states(Seen(hops=[page]))["page"] == "bad"


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ({}, "bad"),
        ({"access_control_allow_origin": "https://www.shop.com"}, "bad"),
        (
            {"access_control_allow_origin": "https://www.shop.com", "access_control_allow_credentials": "true"},
            "good",
        ),
    ],
)
def test_endpoints_on_another_origin(headers: Mapping[str, str], state: str) -> None:
    """A browser keeps an answer and its cookies only where CORS says so, credentials included."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)
    collect = fetched("https://kit.shop.com/kit/collect", VISITOR, OWN, status=204, **headers)

    assert states(Seen(hops=[page], collect=collect))["/kit/collect"] == state


def tag(src: str = "https://www.shop.com/kit/kit.js", **attributes: str) -> Tag:
    return Tag(url=httpx.URL(src), attributes=attributes)


@pytest.mark.parametrize(
    ("attributes", "state"),
    [
        ({}, "good"),
        ({"type": "module"}, "good"),
        ({"type": "text/plain"}, "warning"),
        ({"src": "http://www.shop.com/kit/kit.js"}, "bad"),
    ],
)
def test_what_is_wrong_with_a_tag(attributes: Mapping[str, str], state: str) -> None:
    """Consent managers and script optimizers change its type; http in an https page is blocked."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)

    assert states(Seen(hops=[page], tags=[tag(**attributes)]))["kit.js in the page"] == state


@pytest.mark.parametrize(
    ("html", "urls"),
    [
        ('<script src="/kit/kit.0123456789ab.js" async></script>', ["https://www.shop.com/kit/kit.0123456789ab.js"]),
        ("<SCRIPT SRC=kit/kit.js></SCRIPT>", ["https://www.shop.com/shoes/kit/kit.js"]),
        ("<base href='https://cdn.shop.com/a/'><script src=kit.js></script>", ["https://cdn.shop.com/a/kit.js"]),
        ("<!-- <script src='/kit/kit.js'></script> -->", []),
        ("<script src='/kit/kit.js/other.js'></script><script src='/toolkit.js'></script><script>kit.js</script>", []),
        ("<script src='https://cdn.example:no/kit.js'></script>", []),
        ("<!doctype html><![oops[ ]]><![ ><script src='/kit/kit.js'></script>", ["https://www.shop.com/kit/kit.js"]),
        (
            "<script src='/kit/kit.js'></script><script src='/kit/kit.js'></script>",
            ["https://www.shop.com/kit/kit.js"] * 2,
        ),
    ],
)
def test_the_tags_of_a_page(html: str, urls: Sequence[str]) -> None:
    """The script elements whose file is kit.js, as a browser resolves them."""
    found = Markup(httpx.URL("https://www.shop.com/shoes/red?adct=kit-doctor"), html.encode())

    assert [str(one.url) for one in found.tags] == urls


def test_a_page_that_cannot_be_read() -> None:
    """Without its HTML nothing is said of its tag but that; a tag that stands there twice is said."""
    packed = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN, content_encoding="br")
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)

    assert [one.said[:13] for one in judged(Seen(hops=[packed]), NOW) if one.state != "good"] == ["it came as br"]
    assert states(Seen(hops=[page], tags=[tag(), tag()]))["kit.js in the page"] == "warning"


@pytest.mark.parametrize(
    ("set_cookies", "media_type", "page_state"),
    [
        ([VISITOR, OWN], "text/javascript", "good"),
        ([VISITOR, OWN], "text/html", "bad"),
        ([], "text/javascript", "bad"),
        ([VISITOR.replace("; Secure", ""), OWN], "text/javascript", "bad"),
    ],
)
def test_a_page_that_relies_on_kit_js(set_cookies: Sequence[str], media_type: str, page_state: str) -> None:
    """A cacheable page is good only where kit.js runs and a browser keeps what its endpoint sets."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", cache_control="public, max-age=60")
    script = fetched("https://www.shop.com/kit/kit.js", content_type=media_type)
    collect = fetched("https://www.shop.com/kit/collect", *set_cookies, status=204)

    assert states(Seen(hops=[page], tags=[tag()], script=script, collect=collect))["page"] == page_state


def test_an_endpoint_that_sets_one_cookie_of_two() -> None:
    """Something takes AdRoll's away."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)
    collect = fetched("https://www.shop.com/kit/collect", VISITOR, status=204)

    assert states(Seen(hops=[page], collect=collect))["/kit/collect"] == "bad"


def test_what_a_page_says_is_printed_without_control_characters() -> None:
    """A page must not write to the operator's terminal."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)
    posted = fetched("https://www.shop.com/kit/collect", VISITOR, OWN, status=204)
    strange = tag(type="\x1b]0;owned\x07")
    seen = Seen(hops=[page], tags=[strange], policies=["script-src \x1b[2J"], collect=posted)

    said = "".join(one.said + one.advice for one in judged(seen, NOW))

    assert "]0;owned" in said
    assert said.isprintable()


def test_a_file_that_is_not_what_the_tag_promises() -> None:
    """Minified on the way, it differs from the tag's integrity; HTML under its name is a catch-all's."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)
    promised = tag(integrity="sha384-AAAA")
    file = fetched("https://www.shop.com/kit/kit.js", content_type="text/javascript")
    html = fetched("https://www.shop.com/kit/kit.js", content_type="text/html; charset=utf-8")

    assert states(Seen(hops=[page], tags=[promised], script=file))["kit.js"] == "bad"
    assert states(Seen(hops=[page], tags=[tag()], script=html))["kit.js"] == "bad"
    assert states(Seen(hops=[page], tags=[tag()], script=file))["kit.js"] == "good"


PAGE = httpx.URL("https://www.shop.com/")


@pytest.mark.parametrize(
    ("policies", "lets"),
    [
        ([], True),
        (["img-src 'none'"], True),
        (["default-src 'self'"], True),
        (["default-src 'none'"], False),
        (["default-src 'none'; script-src 'self'"], True),
        (["script-src 'self'; script-src-elem 'none'"], False),
        (["script-src 'self'", "script-src 'none'"], False),
        (["script-src 'self', script-src 'none'"], False),
        (["script-src 'nonce-abc'"], True),
        (["script-src 'nonce-other'"], False),
        (["script-src 'self' 'strict-dynamic'"], False),
        (["script-src 'nonce-abc' 'strict-dynamic'"], True),
        (["script-src 'sha384-AAAA'"], True),
        (["script-src *"], True),
        (["script-src https:"], True),
        (["script-src http:"], False),
        (["script-src *.shop.com"], True),
        (["script-src *.other.com"], False),
        (["script-src http://www.shop.com"], True),
        (["script-src https://www.shop.com:443"], True),
        (["script-src www.shop.com:8443"], False),
        (["script-src www.shop.com:*"], True),
        (["script-src www.shop.com/kit/"], True),
        (["script-src www.shop.com/kit/kit.js"], True),
        (["script-src www.shop.com/assets/"], False),
        (["script-src"], False),
        (["script-src 'unsafe-inline'"], False),
    ],
)
def test_whether_a_policy_lets_kit_js_load(policies: Sequence[str], lets: bool) -> None:
    """By CSP level 3: the closest directive, in every policy."""
    found = policy.forbids_script(policies, tag(nonce="abc", integrity="sha384-AAAA"), PAGE)

    assert (found == "") is lets


@pytest.mark.parametrize(
    ("policies", "lets"),
    [
        (["script-src 'none'"], True),
        (["default-src 'none'; script-src 'self'"], False),
        (["default-src 'none'; connect-src 'self'"], True),
        (["connect-src https://kit.shop.com"], False),
    ],
)
def test_whether_a_policy_lets_kit_js_post(policies: Sequence[str], lets: bool) -> None:
    """connect-src, else default-src."""
    found = policy.forbids_posting(policies, httpx.URL("https://www.shop.com/kit/collect"), PAGE)

    assert (found == "") is lets


def test_a_shop_that_uses_no_kit_js() -> None:
    """A shop may do it all on its server: that is a warning, whatever a catch-all route answers at /kit."""
    page = fetched("https://www.shop.com/?adct=kit-doctor", VISITOR, OWN)
    html = fetched("https://www.shop.com/kit/kit.js", content_type="text/html")

    found = states(Seen(hops=[page], script=html, collect=html))

    assert found["kit.js in the page"] == found["/kit/collect"] == "warning"
    assert "bad" not in found.values()
    assert "kit.js" not in found


def test_a_consent_rule_is_not_blamed_for_a_stripped_cookie() -> None:
    """Another's cookie, such as a CDN's own, does not show that the kit's come through."""
    page = fetched("https://www.shop.com/?adct=kit-doctor")
    nothing = fetched("https://www.shop.com/kit/collect", status=204)
    of_the_cdn = fetched("https://www.shop.com/kit/consent", "__cf_bm=1; Path=/", status=204)
    of_the_kit = fetched("https://www.shop.com/kit/consent", "kit-consent=granted; Path=/", status=204)

    assert states(Seen(hops=[page], collect=nothing, consent=of_the_cdn))["page"] == "bad"
    assert states(Seen(hops=[page], collect=nothing, consent=of_the_kit))["page"] == "warning"


def test_where_a_name_leads() -> None:
    """This machine's own resolver; an address leads to itself."""
    found = addresses_of("127.0.0.1")

    assert (found.canonical, found.ips) == ("127.0.0.1", ["127.0.0.1"])
    assert not {"127.0.0.1", "::1"}.isdisjoint(addresses_of("localhost").ips)


SHOP = Addresses(canonical="www.shop.com", ips=["203.0.113.10", "2001:db8:1:1::10"])


@pytest.mark.parametrize(
    ("endpoint", "state", "words"),
    [
        (Addresses(canonical="kit.shop.com", ips=["203.0.200.77", "2001:db8:1:1::99"]), "good", "203.0.0.0/16"),
        (Addresses(canonical="origin.shop.com", ips=["198.51.100.7"]), "good", "the shop's own"),
        (Addresses(canonical="kit.shop.com", ips=["203.0.113.10"]), "warning", "several networks"),
        (Addresses(canonical="kit.shop.com", ips=["198.51.100.7"]), "bad", "198.51.0.0/16"),
        (Addresses(canonical="kit.shop.com", ips=["2001:db8:1:2::10"]), "bad", "2001:db8:1:2::/64"),
        (Addresses(canonical="kit.shop.com", ips=["203.0.113.10", "198.51.100.7"]), "warning", "several networks"),
        (Addresses(canonical="shop.tracker.example", ips=SHOP.ips), "bad", "CNAME of shop.tracker.example"),
    ],
)
def test_where_safari_caps_the_endpoints_cookies(endpoint: Addresses, state: str, words: str) -> None:
    """Another site's CNAME, or another network: the first 16 bits of IPv4, the first 64 of IPv6."""
    found = safari.judged("www.shop.com", "kit.shop.com", {"www.shop.com": SHOP, "kit.shop.com": endpoint})

    assert found.state == state
    assert words in found.said
    assert ("7 days" in found.said) is (state != "good")


def test_a_whole_site_behind_cnames_of_one_site_is_not_capped() -> None:
    """Pages and endpoints that resolve to names of the same site are no cloak, whatever their networks."""
    pages = Addresses(canonical="shop.edge.example", ips=["203.0.113.10"])
    endpoints = Addresses(canonical="kit.edge.example", ips=["198.51.100.7"])

    found = safari.judged("www.shop.com", "kit.shop.com", {"www.shop.com": pages, "kit.shop.com": endpoints})

    assert found.state == "good"


def test_hosts_that_need_no_comparison() -> None:
    """One host is good whatever its addresses; another site keeps no cookie; a name that leads nowhere is said."""
    split = Addresses(canonical="www.shop.com", ips=["203.0.113.10", "198.51.100.7"])

    one_host = safari.judged("www.shop.com", "www.shop.com", {"www.shop.com": split})

    assert one_host.state == "good"
    assert "another of its networks" in one_host.said
    assert safari.judged("www.shop.com", "www.shop.com", {}).state == "good"
    assert safari.judged("www.shop.com", "cdn.example", {}).state == "bad"
    assert safari.judged("www.shop.com", "kit.shop.com", {"www.shop.com": SHOP}).state == "warning"
