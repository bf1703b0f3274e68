"""What the middleware adds to a request, beside its peers: microseconds over a bare Starlette app, in one run.

    python -m tests.benchmarks.bench_middleware [--rounds 11] [--requests 4000] [--json FILE]

    page      an ordinary page view: both cookies there and fresh, 6 cookies of about 330 bytes, 14 headers
    landing   opens a page with adct, fbclid and three utm parameters, and no cookie at all; both cookies are set

"ours" keeps until a no (consent="opt_out"); "ours, opt_in" asks first, and finds its consent cookie: one more cookie on
the page, the only one on the landing.

The app is driven directly, with no server. Variants take turns; every figure is a median of rounds, and the garbage
collector is off while the clock runs. Each variant first has to show that it does its work.
"""

import argparse
import asyncio
import base64
import gc
import json
import secrets
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import itsdangerous
from asgi_correlation_id import CorrelationIdMiddleware
from capi_param_builder import ParamBuilder
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from kit.capture import CaptureRules, first_party_cookie, visitor_cookie
from kit.capture.query import Arrival
from kit.consent import ConsentPolicy, ConsentRule
from kit.web.middleware import CaptureMiddleware
from tests.benchmarks.table import Row, show

try:
    import uvloop

    new_event_loop: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
except ImportError:
    new_event_loop = asyncio.new_event_loop

App = Callable[..., Awaitable[None]]
SECRET = "0123456789abcdef0123456789abcdef"
CLICK = "Y2xpY2stMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6"
LANDING = (
    f"adct={CLICK}&utm_source=adroll&utm_medium=cpc&utm_campaign=retargeting-2026"
    "&fbclid=IwAR0aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789"
).encode()
OTHER_COOKIES = (
    "_ga=GA1.2.1234567890.1700000000; _gid=GA1.2.987654321.1763700000; "
    "_fbp=fb.1.1763700000000.123456789.AQIBAQMC; cart=5f2c1d7e9b; "
)
OURS = {"ours": "opt_out", "ours, opt_in": "opt_in"}
CONSENT_COOKIE = "kit-consent=granted"
#: Cookies that each variant sets on the page, and on the landing.
SETS = {
    "bare": (0, 0),
    "ours": (0, 2),
    "ours, opt_in": (0, 2),
    "asgi-correlation-id": (0, 0),
    "SessionMiddleware": (0, 1),
    "capi-param-builder": (0, 2),
}
Samples = dict[str, dict[str, list[float]]]
Figures = dict[str, dict[str, dict[str, float]]]


class Stand:
    """What the middleware asks of a kit, and nothing behind it."""

    def __init__(self, rule: ConsentRule) -> None:
        self.rules = CaptureRules(secret_keys=[SECRET.encode()], consent=ConsentPolicy(rule))
        self.faults = self
        self.touches = 0
        self.failed: list[str] = []

    def count(self, where: str) -> None:
        self.failed.append(where)

    def record_touch(self, *_: object) -> None:
        self.touches += 1


class Capi:
    """Meta's capi-param-builder in the least middleware that can hold it; its state is one request's."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        host = cookie = referer = ""
        for name, value in scope["headers"]:
            if name == b"host":
                host = value.decode("latin-1")
            elif name == b"cookie":
                cookie = value.decode("latin-1")
            elif name == b"referer":
                referer = value.decode("latin-1")
        builder = ParamBuilder(["example.com"])
        query = {key: [value] for key, value in _pairs(scope["query_string"].decode("latin-1"))}
        made = builder.process_request(host, query, cookie_parser(cookie), referer or None)

        async def setting(message: Any) -> None:
            if made and message["type"] == "http.response.start":
                lines = [f"{c.name}={c.value}; Max-Age={c.max_age}; Domain={c.domain}; Path=/" for c in made]
                headers = [*message.get("headers", ()), *((b"set-cookie", line.encode("latin-1")) for line in lines)]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, setting)


def _pairs(query: str) -> list[tuple[str, str]]:
    return [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&")) if name]


async def _page(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


async def _session_page(request: Request) -> PlainTextResponse:
    """Does with a session what our middleware does by itself: reads it, and keeps a new click."""
    click = request.query_params.get("adct")
    if click:
        request.session["adct"] = click
    if "id" not in request.session:
        request.session["id"] = secrets.token_hex(16)
    return PlainTextResponse("ok")


def variant(name: str, stand: Stand | None) -> App:
    app = Starlette(routes=[Route("/p", _session_page if name == "SessionMiddleware" else _page)])
    if stand is not None:
        app.add_middleware(CaptureMiddleware, kit=stand)
    elif name == "asgi-correlation-id":
        app.add_middleware(CorrelationIdMiddleware)
    elif name == "SessionMiddleware":
        app.add_middleware(SessionMiddleware, secret_key=SECRET)
    elif name == "capi-param-builder":
        app.add_middleware(Capi)
    return app


def own_cookies(name: str, stand: Stand | None) -> str:
    """Return the cookies that this variant finds on an ordinary page view, fresh."""
    now = int(time.time())
    if stand is not None:
        asked = f"; {CONSENT_COOKIE}" if OURS[name] == "opt_in" else ""
        at = datetime.fromtimestamp(now, UTC)
        cookie = visitor_cookie.mint(now)
        touch = visitor_cookie.touched(cookie, Arrival({"adroll": CLICK}, {}, []), at)
        assert touch is not None
        token = visitor_cookie.token(visitor_cookie.with_touch(cookie, touch), stand.rules.signature, now=now)
        return f"__adroll_fpc={first_party_cookie.mint(now).value}; __Host-kit={token.decode()}{asked}"
    if name == "SessionMiddleware":
        body = base64.b64encode(json.dumps({"id": "f3b1c2d4e5a60718293a4b5c6d7e8f90", "adct": CLICK}).encode())
        return (
            "_fbc=fb.1.1763700000000.IwAR0abc.AQIBAQMC; session="
            + itsdangerous.TimestampSigner(SECRET).sign(body).decode()
        )
    return "_fbc=fb.1.1763700000000.IwAR0abc.AQIBAQMC; last=" + "x" * 120


def scope_of(kind: str, cookies: str) -> dict[str, Any]:
    page = kind == "page"
    agent = b"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
    headers = [
        (b"host", b"shop.example.com"),
        (b"connection", b"keep-alive"),
        (b"sec-ch-ua", b'"Chromium";v="131", "Not_A Brand";v="24"'),
        (b"sec-ch-ua-mobile", b"?0"),
        (b"sec-ch-ua-platform", b'"Linux"'),
        (b"upgrade-insecure-requests", b"1"),
        (b"user-agent", agent),
        (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        (b"sec-fetch-site", b"same-origin" if page else b"cross-site"),
        (b"sec-fetch-mode", b"navigate"),
        (b"accept-encoding", b"gzip, deflate, br, zstd"),
        (b"accept-language", b"en-US,en;q=0.9"),
        (b"referer", b"https://shop.example.com/" if page else b"https://www.news.example.net/story?id=3"),
    ]
    if cookies:
        headers.append((b"cookie", cookies.encode()))
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "method": "GET",
        "root_path": "",
        "path": "/p",
        "raw_path": b"/p",
        "query_string": b"" if page else LANDING,
        "headers": headers,
    }


async def _receive() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def check(name: str, kind: str, app: App, scope: dict[str, Any]) -> None:
    """Fail unless this variant does its work on this request: a fast nothing is no result."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app({**scope, "headers": list(scope["headers"]), "state": {}}, _receive, send)
    lines = [value for key, value in sent[0]["headers"] if key == b"set-cookie"]
    wanted = SETS[name][0 if kind == "page" else 1]
    # capi-param-builder finds no _fbc of its own on our page, and writes what it finds afresh.
    if len(lines) != wanted and not (name == "capi-param-builder" and kind == "page"):
        raise SystemExit(f"{name} sets {len(lines)} cookies on the {kind}, not {wanted}")
    if (
        name in OURS
        and kind == "landing"
        and {line.partition(b"=")[0] for line in lines} != {b"__Host-kit", b"__adroll_fpc"}
    ):
        raise SystemExit(f"{name} does not set both of its cookies")


async def round_of(app: App, scope: dict[str, Any], requests: int) -> float:
    """Return microseconds a request. Each gets a fresh scope and header list, as from a server."""

    async def send(message: Any) -> None:
        pass

    headers = scope["headers"]
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for _ in range(requests):
            await app({**scope, "headers": list(headers), "state": {}}, _receive, send)
        return (time.perf_counter() - started) / requests * 1e6
    finally:
        gc.enable()


def measure(rounds: int, requests: int) -> Samples:
    loop = new_event_loop()
    asyncio.set_event_loop(loop)
    stands = {"ours": Stand("opt_out"), "ours, opt_in": Stand("opt_in")}
    runs: dict[tuple[str, str], tuple[App, dict[str, Any]]] = {}
    for name in SETS:
        stand = stands.get(name)
        on_landing = CONSENT_COOKIE if OURS.get(name) == "opt_in" else ""
        runs["page", name] = variant(name, stand), scope_of("page", OTHER_COOKIES + own_cookies(name, stand))
        runs["landing", name] = variant(name, stand), scope_of("landing", on_landing)
    for (kind, name), (app, scope) in runs.items():
        loop.run_until_complete(check(name, kind, app, scope))
    samples: Samples = {"page": {}, "landing": {}}
    for turn in range(rounds + 1):
        for (kind, name), (app, scope) in runs.items():
            taken = loop.run_until_complete(round_of(app, scope, requests))
            if turn:  # the first turn warms up
                samples[kind].setdefault(name, []).append(taken)
    loop.close()
    for name, stand in stands.items():
        if stand.failed or not stand.touches:
            raise SystemExit(f"{name} failed at {set(stand.failed)} with {stand.touches} touches")
    return samples


def figures_of(samples: Samples) -> Figures:
    """Return medians: microseconds over the bare app, and as a multiple of asgi-correlation-id."""
    figures: Figures = {}
    for kind, by_name in samples.items():
        bare = statistics.median(by_name["bare"])
        added = {name: statistics.median(taken) - bare for name, taken in by_name.items() if name != "bare"}
        figures[kind] = {
            name: {"added_us": round(us, 3), "ratio": round(us / added["asgi-correlation-id"], 3)}
            for name, us in added.items()
        }
    return figures


def rows_of(figures: Figures) -> list[Row]:
    return [
        Row(
            name=f"{kind}: {name}",
            value=f"{figure['added_us']:.2f} µs",
            ratio=f"{figure['ratio']:.2f} × asgi-correlation-id",
        )
        for kind, by_name in figures.items()
        for name, figure in by_name.items()
    ]


def run(rounds: int = 11, requests: int = 4000, json_file: Path | None = None) -> list[Row]:
    figures = figures_of(measure(rounds, requests))
    rows = rows_of(figures)
    show("the middleware: added to a request of a bare Starlette app", rows)
    if json_file:
        json_file.write_text(json.dumps(figures, indent=2) + "\n")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What the middleware adds to a request, beside its peers.")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    run(options.rounds, options.requests, options.json)


if __name__ == "__main__":
    main()
