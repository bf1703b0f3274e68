"""A shop as it is in earnest: https, a domain with subdomains, and visitors without JavaScript."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.async_api import Browser, BrowserContext

from kit import Kit
from kit.destinations import AdRoll
from kit.model import Mode
from tests.support import known_of

from .shop import AGENT, lasts_a_year, shop_app

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

CERTIFICATES = Path(__file__).parents[1] / "destinations" / "certificates"


@asynccontextmanager
async def shop_over_https(folder: Path, **options: Any) -> AsyncIterator[tuple[Kit, int]]:
    """Yield the kit and the port of a shop that answers to every host under shop.test."""
    kit = Kit(
        secret_keys=["a secret of sixteen characters"],
        consent="opt_out",
        store=f"sqlite:///{folder / 'kit.db'}",
        destinations=[AdRoll(advertisable="ADV", pixel="PIX", mode=Mode.SHADOW)],
        worker=False,
        **options,
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        files = {"ssl_certfile": CERTIFICATES / "good.pem", "ssl_keyfile": CERTIFICATES / "server.key"}
        server = uvicorn.Server(uvicorn.Config(shop_app(kit), lifespan="off", log_config=None, **files))  # type: ignore[arg-type]
        serving = asyncio.create_task(server.serve([listener]))
        try:
            async with kit.lifespan():
                yield kit, listener.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def visitor(browser: Browser, **options: Any) -> AsyncIterator[BrowserContext]:
    """Yield a profile of its own. The certificate is for another host: the tests are not about that."""
    context = await browser.new_context(user_agent=AGENT, ignore_https_errors=True, **options)
    try:
        yield context
    finally:
        await context.close()


async def jar(context: BrowserContext) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the cookies by name and domain, as the browser stored them."""
    return {(cookie["name"], cookie["domain"]): dict(cookie) for cookie in await context.cookies()}


async def test_a_click_on_one_subdomain_is_known_on_another(browser: Browser, tmp_path: Path) -> None:
    """With cookie_domain both cookies are the whole site's: the checkout's host sees the landing's visitor."""
    async with shop_over_https(tmp_path, cookie_domain="shop.test") as (kit, port), visitor(browser) as context:
        page = await context.new_page()
        await page.goto(f"https://www.shop.test:{port}/?adct=click123")
        landed = await jar(context)
        answer = await page.goto(f"https://pay.shop.test:{port}/")
        headers = await answer.all_headers() if answer is not None else {}
        paid = await jar(context)
        known = await known_of(kit, paid["__Secure-kit", ".shop.test"]["value"][1:23])

    ours, adroll = landed["__Secure-kit", ".shop.test"], landed["__adroll_fpc", ".shop.test"]
    assert len(landed) == 2
    assert (ours["secure"], ours["httpOnly"], ours["sameSite"], ours["path"]) == (True, True, "Lax", "/")
    assert (adroll["secure"], adroll["httpOnly"], adroll["sameSite"], adroll["path"]) == (True, False, "Lax", "/")
    assert lasts_a_year(ours)
    assert lasts_a_year(adroll)
    assert "set-cookie" not in headers
    # kit.js posts the landing on its own, and the answer issues the visitor's cookie anew.
    assert paid.keys() == landed.keys()
    assert paid["__Secure-kit", ".shop.test"]["value"][1:23] == ours["value"][1:23]
    assert paid["__adroll_fpc", ".shop.test"]["value"] == adroll["value"]
    assert known.click_id("adroll") == "click123"


async def test_without_a_shared_domain_the_visitor_is_the_hosts_own(browser: Browser, tmp_path: Path) -> None:
    """`__Host-kit` stays with its host; AdRoll's cookie is the site's, as its pixel has it, and is minted once."""
    async with shop_over_https(tmp_path) as (_kit, port), visitor(browser) as context:
        page = await context.new_page()
        await page.goto(f"https://www.shop.test:{port}/?adct=click123")
        landed = await jar(context)
        await page.goto(f"https://pay.shop.test:{port}/")
        both = await jar(context)

    assert set(landed) == {("__Host-kit", "www.shop.test"), ("__adroll_fpc", ".shop.test")}
    assert set(both) == {*landed, ("__Host-kit", "pay.shop.test")}
    assert both["__adroll_fpc", ".shop.test"]["value"] == landed["__adroll_fpc", ".shop.test"]["value"]
    assert both["__Host-kit", "pay.shop.test"]["value"] != both["__Host-kit", "www.shop.test"]["value"]


async def test_without_javascript_the_server_does_it_all(browser: Browser, tmp_path: Path) -> None:
    """Both cookies, the click, and the visitor of the next page: no script takes part."""
    async with shop_over_https(tmp_path) as (kit, port), visitor(browser, java_script_enabled=False) as context:
        page = await context.new_page()
        posts: list[str] = []
        page.on("request", lambda asked: posts.append(asked.url) if asked.method == "POST" else None)
        await page.goto(f"https://www.shop.test:{port}/?adct=click123")
        landed = await jar(context)
        await page.goto(f"https://www.shop.test:{port}/thanks")
        later = await jar(context)
        known = await known_of(kit, landed["__Host-kit", "www.shop.test"]["value"][1:23])

    assert set(landed) == {("__Host-kit", "www.shop.test"), ("__adroll_fpc", ".shop.test")}
    assert later == landed
    assert known.click_id("adroll") == "click123"
    assert posts == []
