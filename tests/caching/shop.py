"""A shop whose pages say different things to caches, with or without a shared cache before it."""

import html
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Browser
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from kit import Kit
from kit.sandbox.sockets import served_in_loop
from kit.web import CaptureMiddleware, endpoints, script_tag
from tests.browser.shop import AGENT, Window
from tests.caching.cache import SharedCache
from tests.support import FrozenClock, known_of, make_kit

#: As a shop would list what its campaigns add to a link.
MARKETING = ("adct", "rclid", "rtid", "utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id")
IGNORING = {"no-vary-search": "params=(" + " ".join(f'"{name}"' for name in MARKETING) + ")"}
LAST_MODIFIED = {"last-modified": "Mon, 01 Jan 2024 00:00:00 GMT"}

PAGES: Mapping[str, Mapping[str, str]] = {
    "/cached": {"cache-control": "public, max-age=600"},
    "/validated": {"cache-control": "public, no-cache", "etag": '"one"'},
    "/silent": LAST_MODIFIED,
    "/private": {"cache-control": "private"},
    "/ignoring": {"cache-control": "public, max-age=600", **IGNORING},
    "/ignoring-validated": {"cache-control": "public, no-cache", "etag": '"one"', **IGNORING},
    "/ignoring-private": {"cache-control": "private", **IGNORING},
    "/ignoring-changed": {"cache-control": "private, no-cache", **IGNORING},
    "/ignoring-dated": {"cache-control": "private", **LAST_MODIFIED, **IGNORING},
}


@dataclass(slots=True, kw_only=True)
class CachedShop:
    """A running shop, the cache before it, and the targets of the pages that its server was asked for."""

    kit: Kit
    clock: FrozenClock
    url: str
    browser: Browser
    cache: SharedCache
    asked: list[str]

    @asynccontextmanager
    async def visitor(self) -> AsyncIterator[Window]:
        """Somebody with a browser of their own."""
        context = await self.browser.new_context(user_agent=AGENT)
        try:
            window = Window(context=context, page=await context.new_page(), url=self.url)
            context.on("request", lambda asked: window.saw(asked))
            yield window
        finally:
            await context.close()


@asynccontextmanager
async def cached_shop(
    browser: Browser, folder: Path, *, cached: bool = True, keeps_cookies: bool = False, ignored: Collection[str] = ()
) -> AsyncIterator[CachedShop]:
    """Serve the shop; `cached` puts a shared cache before it. See SharedCache for the other two."""
    clock, asked = FrozenClock(), list[str]()
    kit = make_kit(folder, clock=clock)
    async with (
        kit.lifespan(),
        served_in_loop(shop_app(kit, asked), "127.0.0.1", 0) as origin,
        httpx.AsyncClient(base_url=origin, trust_env=False) as client,
    ):
        cache = SharedCache(origin=client, keeps_cookies=keeps_cookies, ignored=ignored)
        async with served_in_loop(cache, "127.0.0.1", 0) as outside:
            url = outside if cached else origin
            yield CachedShop(kit=kit, clock=clock, url=url, browser=browser, cache=cache, asked=asked)


def shop_app(kit: Kit, asked: list[str]) -> Starlette:
    async def page(request: Request) -> Response:
        headers = dict(PAGES[request.url.path])
        if request.url.path == "/ignoring-changed":
            headers["etag"] = f'"{len(asked)}"'
        asked.append(request.url.path + (f"?{request.url.query}" if request.url.query else ""))
        if "etag" in headers and request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        text = f"<!doctype html><title>Shop</title>{script_tag('/kit')}<p>{html.escape(request.url.query)}"
        return HTMLResponse(text, headers=headers)

    return Starlette(
        routes=[*(Route(path, page) for path in PAGES), Mount("/kit", endpoints(kit))],
        middleware=[Middleware(CaptureMiddleware, kit=kit)],
    )


async def click_of(shop: CachedShop, window: Window) -> str | None:
    """Return the newest AdRoll click that the shop's server knows of this visitor."""
    # In turn: the touchpoint is written before this is.
    await window.page.evaluate("kit.identify({customer_id: 'c-1'})")
    return (await known_of(shop.kit, await window.visitor())).click_id("adroll")


def headers_of(answer: Any) -> dict[str, str]:
    assert answer is not None
    return dict(answer.headers)
