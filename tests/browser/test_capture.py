"""Landings in a real browser: which cookies it then holds, and who set them."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import httpx
import pytest

from tests.support import known_of

from .shop import AGENT, FPC, Shop, lasts_a_year

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


async def test_a_landing_leaves_both_cookies_as_the_browser_should_hold_them(shop: OpenShop) -> None:
    """Ours is for the server alone, AdRoll's for its pixel too; both last a year."""
    async with shop() as opened, opened.window() as window:
        await window.page.goto(opened.url + "/?adct=click123")
        cookies = await window.cookies()

    ours, adroll = cookies["kit"], cookies["__adroll_fpc"]
    assert set(cookies) == {"kit", "__adroll_fpc"}
    assert (ours["httpOnly"], adroll["httpOnly"]) == (True, False)
    assert {ours["sameSite"], adroll["sameSite"]} == {"Lax"}
    assert {ours["path"], adroll["path"]} == {"/"}
    assert {ours["domain"], adroll["domain"]} == {"127.0.0.1"}
    assert lasts_a_year(ours)
    assert lasts_a_year(adroll)


async def test_the_next_page_view_sets_nothing(shop: OpenShop) -> None:
    """Cookies that are fresh are left alone, by the page and by kit.js."""
    async with shop() as opened, opened.window() as window:
        await window.open("/?adct=click123")
        before, told = await window.cookies(), len(window.posts)
        answer = await window.page.goto(opened.url + "/")
        await window.settled()
        headers = await answer.all_headers() if answer is not None else {}
        after = await window.cookies()

    assert "set-cookie" not in headers
    assert headers.get("cache-control") is None
    assert after == before
    assert len(window.posts) == told
    assert window.errors == []


async def test_a_page_from_a_cache_gets_its_cookies_through_kit_js(shop: OpenShop) -> None:
    """The page sets none; the server's answer to the post does, so they last a year in every browser."""
    async with shop() as opened, opened.window() as window:
        answer = await window.page.goto(opened.url + "/cached?adct=click123&utm_source=adroll&email=a@b.co#top")
        headers = await answer.all_headers() if answer is not None else {}
        await window.settled()
        cookies = await window.cookies()
        await window.page.evaluate("kit.identify({customer_id: 'c-1'})")
        known = await known_of(opened.kit, await window.visitor())

    assert "set-cookie" not in headers
    assert window.posted("collect")[0] == {
        "params": {"adct": "click123", "utm_source": "adroll"},
        "fpc": "",
        "url": opened.url + "/cached?adct=click123&utm_source=adroll",
        "referrer": "",
    }
    assert lasts_a_year(cookies["kit"])
    assert lasts_a_year(cookies["__adroll_fpc"])
    assert cookies["kit"]["httpOnly"] is True
    assert known.click_id("adroll") == "click123"
    assert known.first_party_cookie == cookies["__adroll_fpc"]["value"]


async def test_kit_js_posts_only_what_differs_from_what_it_last_posted(shop: OpenShop) -> None:
    """A reload and a page without parameters post nothing; a new click does."""
    async with shop() as opened, opened.window() as window:
        for path in ("/cached?adct=one", "/cached?adct=one", "/cached", "/plain?page=2", "/cached?adct=two"):
            await window.open(path)

    assert [body["params"] for body in window.posted("collect")] == [{"adct": "one"}, {"adct": "two"}]
    assert window.errors == []


async def test_the_server_takes_the_pixels_cookie_for_its_own(shop: OpenShop) -> None:
    """Where the pixel runs, both sides agree on the pixel's value."""
    async with shop() as opened, opened.window() as window:
        await window.open("/pixel?adct=click123")
        cookies = await window.cookies()
        await window.open("/pixel")

    assert [body["fpc"] for body in window.posted("collect")] == [FPC]
    assert cookies["__adroll_fpc"]["value"] == FPC


@pytest.mark.parametrize("path", ["/deaf-pixel", "/angry-pixel"])
async def test_a_pixel_that_does_not_answer_holds_nothing_up(shop: OpenShop, path: str) -> None:
    """The cookie in the document stands in for it."""
    async with shop() as opened, opened.window() as window:
        await window.context.add_cookies([{"name": "__adroll_fpc", "value": FPC, "url": opened.url}])
        await window.page.clock.install()
        async with window.page.expect_response("**/kit/collect"):
            await window.page.goto(opened.url + path + "?adct=click123")
            await window.page.clock.run_for(2_000)

    assert [body["fpc"] for body in window.posted("collect")] == [FPC]
    assert window.errors == []


async def test_parameters_of_the_shops_own_are_read_too(shop: OpenShop) -> None:
    """The tag names them."""
    async with (
        shop(click_params={"awc": "awin", "irclickid": "impact"}) as opened,
        opened.window() as window,
    ):
        await window.open("/further?irclickid=i1&awc=a1&other=o1")

    assert window.posted("collect")[0]["params"] == {"irclickid": "i1", "awc": "a1"}


async def test_an_arrival_that_is_too_long_is_told_without_the_least_of_it(shop: OpenShop) -> None:
    """The server takes 8 KiB; the click ids of ours come before all else."""
    long = "é" * 250
    query = "&".join(f"{name}={long}" for name in ("utm_source", "utm_medium", "utm_campaign", "utm_term"))
    clicks = "&".join(f"{name}={'%3D' * 500}" for name in ("gclid", "fbclid"))

    async with shop() as opened, opened.window() as window:
        await window.open(f"/cached?adct=click123&{clicks}&{query}")
        cookies = await window.cookies()

    assert window.posted("collect")[0]["params"]["adct"] == "click123"
    assert len(window.posted("collect")) == 1
    assert "click123" in cookies["kit"]["value"]


async def test_a_prefetch_mints_nothing(shop: OpenShop) -> None:
    """Nobody has opened that page yet."""
    headers = {"sec-purpose": "prefetch", "accept": "text/html", "user-agent": AGENT, "sec-fetch-mode": "navigate"}

    async with shop() as opened, httpx.AsyncClient(headers=headers) as client:
        page = await client.get(opened.url + "/?adct=click123")
        post = await client.post(
            opened.url + "/kit/collect",
            json={"params": {"adct": "click123"}},
            headers={"sec-fetch-site": "same-origin"},
        )

    assert (page.status_code, post.status_code) == (200, 204)
    assert "set-cookie" not in page.headers
    assert "set-cookie" not in post.headers
