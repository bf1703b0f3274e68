"""A small shop with the kit mounted, served over plain http on this machine, and a visitor's window on it."""

import html
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from kit import Kit
from kit.destinations import AdRoll, Rockerbox, Rokt
from kit.model import Mode
from kit.sandbox.sockets import served_in_loop
from kit.web import CaptureMiddleware, endpoints, script_tag

# A headless browser names itself in its user agent, and is then a bot to us.
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"
FPC = "0123456789abcdef0123456789abcdef-1763700000000"
YEAR = 31_536_000

PUBLIC = {"cache-control": "public, max-age=600"}
STRICT = {
    **PUBLIC,
    "content-security-policy": "default-src 'none'; script-src 'nonce-n0nce'; connect-src 'self'; "
    "base-uri 'none'; require-trusted-types-for 'script'",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """One kind of page of the shop: what it sends beside the script tag."""

    headers: Mapping[str, str] = field(default_factory=dict)
    script: str = ""
    tag: Mapping[str, Any] = field(default_factory=dict)


PAGES = {
    "/": Sort(),
    "/cached": Sort(headers=PUBLIC),
    "/plain": Sort(headers=PUBLIC, script="window.without = true"),
    "/strict": Sort(headers=STRICT, tag={"nonce": "n0nce"}),
    "/opt-in": Sort(headers=PUBLIC, tag={"consent": "opt_in"}),
    "/broken": Sort(headers=PUBLIC, script="throw new Error('the shop\\'s own')"),
    "/further": Sort(headers=PUBLIC, tag={"params": ["awc", "irclickid"]}),
    "/pixel": Sort(
        headers=PUBLIC, script=f"window.adroll = {{get_cookie: (told) => setTimeout(() => told('{FPC}'), 20)}}"
    ),
    "/deaf-pixel": Sort(headers=PUBLIC, script="window.adroll = {get_cookie: () => {}}"),
    "/angry-pixel": Sort(headers=PUBLIC, script="window.adroll = {get_cookie: () => {throw new Error('no')}}"),
    "/rockerbox": Sort(headers=PUBLIC, script="window.RB = {calls: [], track(...values) {this.calls.push(values)}}"),
    "/queue": Sort(
        headers=PUBLIC,
        script="window.kit = []; kit.push(['nonsense'], null, ['identify', {email: 'early@example.com'}])",
    ),
}


async def page(request: Request) -> Response:
    sort = PAGES[request.url.path]
    tag = script_tag("/kit", **sort.tag)
    text = f"<!doctype html><title>Shop</title><script>{sort.script}</script>{tag}<p>{html.escape(request.url.path)}"
    return HTMLResponse(text if sort.script else text.replace("<script></script>", ""), headers=dict(sort.headers))


def shop_app(kit: Kit) -> Starlette:
    return Starlette(
        routes=[*(Route(path, page) for path in PAGES), Mount("/kit", endpoints(kit))],
        middleware=[Middleware(CaptureMiddleware, kit=kit)],
    )


@dataclass(slots=True, kw_only=True)
class Window:
    """One visitor's browser: what its pages posted to the kit, and the errors that reached them."""

    context: BrowserContext
    page: Page
    url: str
    posts: list[tuple[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Open a page and wait until kit.js has posted what it has to."""
        await self.page.goto(self.url + path)
        await self.settled()

    async def settled(self) -> None:
        await self.page.wait_for_function("window.kit && kit.collect && document.readyState === 'complete'")
        await self.page.evaluate("kit.collect()")

    async def cookies(self) -> dict[str, dict[str, Any]]:
        return {cookie["name"]: dict(cookie) for cookie in await self.context.cookies()}

    async def visitor(self) -> str:
        return str((await self.cookies())["kit"]["value"])[1:23]

    def posted(self, path: str) -> list[Any]:
        return [body for to, body in self.posts if to == f"/kit/{path}"]


@dataclass(slots=True, kw_only=True)
class Shop:
    """A running shop, and the browser that visits it."""

    kit: Kit
    url: str
    browser: Browser

    @asynccontextmanager
    async def window(self, *, scripts: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Window]:
        """A visitor with a profile of its own. `scripts` run before any page's."""
        context = await self.browser.new_context(**{"user_agent": AGENT, **options})
        try:
            for script in scripts:
                await context.add_init_script(script)
            window = Window(context=context, page=await context.new_page(), url=self.url)
            window.page.on("pageerror", lambda error: window.errors.append(error.message))
            window.page.on(
                "request",
                lambda asked: (
                    window.posts.append((asked.url.removeprefix(self.url), asked.post_data_json))
                    if asked.method == "POST"
                    else None
                ),
            )
            yield window
        finally:
            await context.close()


@asynccontextmanager
async def open_shop(browser: Browser, folder: Path, **options: Any) -> AsyncIterator[Shop]:
    kit = Kit(
        secret_keys=["a secret of sixteen characters"],
        store=f"sqlite:///{folder / 'kit.db'}",
        destinations=[
            AdRoll(advertisable="ADV", pixel="PIX", mode=Mode.SHADOW),
            Rokt(account="123", mode=Mode.SHADOW),
            Rockerbox(mode=Mode.SHADOW),
        ],
        insecure_cookies=True,
        worker=False,
        **{"consent": "opt_out", **options},
    )
    async with kit.lifespan(), served_in_loop(shop_app(kit), "127.0.0.1", 0) as url:
        yield Shop(kit=kit, url=url, browser=browser)


def lasts_a_year(cookie: Mapping[str, Any]) -> bool:
    return bool(abs(cookie["expires"] - time.time() - YEAR) < 60)
