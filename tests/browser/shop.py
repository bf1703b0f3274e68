"""A small shop with the kit mounted, served over plain http on this machine, and a visitor's window on it."""

import html
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, BrowserContext, Page
from playwright.async_api import Request as Asked
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from kit import Kit
from kit.destinations import AdRoll, Rockerbox, Rokt
from kit.model import Mode
from kit.sandbox.sockets import served_in_loop
from kit.store import tables
from kit.web import CaptureMiddleware, endpoints, script_tag
from kit.web.assets import kit_js

# A headless browser names itself in its user agent, and is then a bot to us.
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"
FPC = "0123456789abcdef0123456789abcdef-1763700000000"
YEAR = 31_536_000

#: Resolves when kit.js has come and has posted what it has to.
SETTLED = """async () => {
  const there = () => window.kit && kit.collect && document.readyState === "complete";
  while (!there()) await new Promise((go) => setTimeout(go, 5));
  await kit.collect();
}"""

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
    body: str = ""
    tag: Mapping[str, Any] = field(default_factory=dict)


#: As contracts.md 1.3 has it: keeps a valid cookie, else makes one, for the exact host and a year.
PIXEL = """
window.adroll = {get_cookie(told) {
  const found = document.cookie.match(/(?:^|; )__adroll_fpc=([^;]{32,})/);
  const value = found ? found[1] : "f".repeat(32) + "-" + Date.now();
  document.cookie = "__adroll_fpc=" + value + "; Path=/; Max-Age=31557600; SameSite=Lax";
  setTimeout(() => told(value), 20);
}}"""

#: What Rockerbox's file does when it comes: takes over the queue.
ROCKERBOX = """
const {queue, source, disablePushState} = window.RB, seen = [];
window.RB.track = (...call) => seen.push(call);
queue.forEach((call) => window.RB.track(...call));
window.arrived = {seen, source, disablePushState, src: document.currentScript.src};"""

FORMS = """
<form id=whole data-kit-identify onsubmit="return false">
  <input type=email value="Ann@Example.com"><input type=email name=again value="other@example.com">
  <input type=tel value="(555) 010-9999"><input name=customer_id value=42>
  <input type=password name=password value=secret><fieldset><button id=send-whole></button></fieldset>
</form>
<form id=one action="/thanks">
  <input type=email name=friend value="friend@example.com">
  <input name=mail data-kit-identify=email value="ann@example.com"><button id=send-one></button>
</form>
<form id=other onsubmit="return false">
  <input type=email name=email value="no@example.com"><button id=send-other></button>
</form>"""

PAGES = {
    "/": Sort(),
    "/cached": Sort(headers=PUBLIC),
    "/plain": Sort(headers=PUBLIC, script="window.without = true"),
    "/thanks": Sort(headers=PUBLIC),
    "/router": Sort(headers=PUBLIC, script="history.replaceState(null, '', '/router')"),
    "/strict": Sort(headers=STRICT, tag={"nonce": "n0nce"}),
    "/digest": Sort(
        headers={**PUBLIC, "content-security-policy": f"script-src '{kit_js().integrity}'; connect-src 'self'"},
        tag={"integrity": True},
    ),
    "/opt-in": Sort(headers=PUBLIC, tag={"consent": "opt_in", "rockerbox": "source-1"}),
    "/broken": Sort(headers=PUBLIC, script="throw new Error('the shop\\'s own')"),
    "/further": Sort(headers=PUBLIC, tag={"params": ["awc", "irclickid"]}),
    "/pixel": Sort(
        headers=PUBLIC, script=f"window.adroll = {{get_cookie: (told) => setTimeout(() => told('{FPC}'), 20)}}"
    ),
    "/real-pixel": Sort(headers=PUBLIC, script=PIXEL),
    "/deaf-pixel": Sort(headers=PUBLIC, script="window.adroll = {get_cookie: () => {}}"),
    "/angry-pixel": Sort(headers=PUBLIC, script="window.adroll = {get_cookie: () => {throw new Error('no')}}"),
    "/old-pixel": Sort(headers=PUBLIC, script="window.adroll = {track: () => {}}"),
    "/rockerbox": Sort(headers=PUBLIC, script="window.RB = {calls: [], track(...values) {this.calls.push(values)}}"),
    "/all-pages": Sort(headers=PUBLIC, tag={"rockerbox": "source-1", "customer_id": "42"}),
    "/own-domain": Sort(
        headers={**PUBLIC, "content-security-policy": "script-src 'nonce-n0nce'; connect-src 'self'"},
        tag={"rockerbox": "source-1", "rockerbox_domain": "rb.shop.example", "nonce": "n0nce"},
    ),
    "/signed-in": Sort(tag={"email": "Ann@Example.com", "customer_id": "42"}),
    "/forms": Sort(headers=PUBLIC, body=FORMS),
    "/frame": Sort(headers=PUBLIC, body='<iframe sandbox="allow-scripts" src="/cached?adct=framed"></iframe>'),
    "/queue": Sort(
        headers=PUBLIC,
        script="window.kit = []; kit.push(['nonsense'], null, ['identify', {email: 'early@example.com'}])",
    ),
}


async def page(request: Request) -> Response:
    sort = PAGES[request.url.path]
    tag = script_tag("/kit", **sort.tag)
    text = f"<!doctype html><title>Shop</title><script>{sort.script}</script>{tag}<p>{html.escape(request.url.path)}"
    text = text if sort.script else text.replace("<script></script>", "")
    return HTMLResponse(text + sort.body, headers=dict(sort.headers))


def shop_app(kit: Kit) -> Starlette:
    return Starlette(
        routes=[*(Route(path, page) for path in PAGES), Mount("/kit", endpoints(kit))],
        middleware=[Middleware(CaptureMiddleware, kit=kit)],
    )


@dataclass(slots=True, kw_only=True)
class Window:
    """One visitor's browser: what its pages posted to the kit, asked elsewhere, and the errors that reached them."""

    context: BrowserContext
    page: Page
    url: str
    posts: list[tuple[str, Any]] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def open(self, path: str) -> None:
        """Open a page and wait until kit.js has posted what it has to."""
        await self.page.goto(self.url + path)
        await self.settled()

    async def settled(self) -> None:
        await self.page.evaluate(SETTLED)

    async def cookies(self) -> dict[str, dict[str, Any]]:
        return {cookie["name"]: dict(cookie) for cookie in await self.context.cookies()}

    async def visitor(self) -> str:
        return str((await self.cookies())["kit"]["value"])[1:23]

    def saw(self, request: Asked) -> None:
        if not request.url.startswith(self.url):
            self.elsewhere.append(request.url)
        elif request.method == "POST":
            self.posts.append((request.url.removeprefix(self.url), request.post_data_json))

    def posted(self, path: str) -> list[Any]:
        return [body for to, body in self.posts if to == f"/kit/{path}"]


@dataclass(slots=True, kw_only=True)
class Shop:
    """A running shop, and the browser that visits it."""

    kit: Kit
    url: str
    browser: Browser

    async def events(self) -> Sequence[Any]:
        """The events that were reported, in order, as the store has them."""
        return await self.kit.store.read(
            lambda connection: connection.execute(select(tables.events).order_by(tables.events.c.id)).all()
        )

    @asynccontextmanager
    async def window(self, *, scripts: tuple[str, ...] = (), **options: Any) -> AsyncIterator[Window]:
        """A visitor with a profile of its own. `scripts` run before any page's."""
        context = await self.browser.new_context(**{"user_agent": AGENT, **options})
        try:
            for script in scripts:
                await context.add_init_script(script)
            window = Window(context=context, page=await context.new_page(), url=self.url)
            window.page.on("pageerror", lambda error: window.errors.append(error.message))
            context.on("request", lambda asked: window.saw(asked))
            yield window
        finally:
            await context.close()


@asynccontextmanager
async def open_shop(browser: Browser, folder: Path, **options: Any) -> AsyncIterator[Shop]:
    given: dict[str, Any] = {
        "consent": "opt_out",
        "destinations": [
            AdRoll(advertisable="ADV", pixel="PIX", mode=Mode.SHADOW),
            Rokt(account="123", mode=Mode.SHADOW),
            Rockerbox(mode=Mode.SHADOW),
        ],
        **options,
    }
    kit = Kit(
        secret_keys=["a secret of sixteen characters"],
        store=f"sqlite:///{folder / 'kit.db'}",
        insecure_cookies=True,
        worker=False,
        **given,
    )
    async with kit.lifespan(), served_in_loop(shop_app(kit), "127.0.0.1", 0) as url:
        yield Shop(kit=kit, url=url, browser=browser)


def lasts_a_year(cookie: Mapping[str, Any]) -> bool:
    return bool(abs(cookie["expires"] - time.time() - YEAR) < 60)
