"""Landings that no server sees: single-page apps, pages that come back, tabs opened together, tunnels."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from tests.support import known_of

from .shop import FPC, Shop

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


# ---------------------------------------------------------------- single-page apps


@pytest.mark.parametrize("move", ["pushState", "replaceState"])
async def test_a_click_id_that_an_app_navigates_to_is_told(shop: OpenShop, move: str) -> None:
    """The address alone has changed; addresses without a click tell nothing, however many."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await window.page.evaluate(
            f"""() => {{
                for (const at of ["/a", "/a#1", "/b?page=2"]) history.{move}(null, "", at);
                history.{move}({{kept: 1}}, "", "/c?adct=click123&utm_source=adroll");
                history.{move}({{kept: 2}}, "", "/d");
            }}"""
        )
        await window.settled()
        state = await window.page.evaluate("history.state")
        cookies = await window.cookies()

    assert [(body["params"], body["url"]) for body in window.posted("collect")] == [
        ({}, opened.url + "/cached"),
        ({"adct": "click123", "utm_source": "adroll"}, opened.url + "/c?adct=click123&utm_source=adroll"),
    ]
    assert "click123" in cookies["kit"]["value"]
    assert state == {"kept": 2}
    assert window.errors == []


async def test_a_click_id_is_found_when_the_visitor_goes_back_to_it(shop: OpenShop) -> None:
    """`popstate` shows addresses that no call of the app's did."""
    async with shop(consent="opt_in") as opened, opened.window() as window:
        await window.open("/opt-in?adct=one")
        await window.page.evaluate("history.pushState(null, '', '/opt-in?adct=two')")
        await window.page.evaluate(
            "new Promise((done) => { addEventListener('popstate', done, {once: true}); history.back(); })"
        )
        await window.page.evaluate("history.pushState(null, '', '/elsewhere')")
        await window.page.evaluate("kit.consent(true)")

    assert [body["params"] for body in window.posted("collect")] == [{"adct": "one"}]


async def test_a_router_may_be_quicker_than_the_file(shop: OpenShop) -> None:
    """What the address was when the page was opened is still known."""
    async with shop() as opened, opened.window() as window:
        await window.open("/router?adct=click123")

    assert [(body["params"], body["url"]) for body in window.posted("collect")] == [
        ({"adct": "click123"}, opened.url + "/router?adct=click123")
    ]


# ---------------------------------------------------------------- pages that come back


async def test_a_page_that_comes_back_tells_again_what_it_could_not(shop: OpenShop) -> None:
    """Out of the back-forward cache no script runs again; the page hears that it is shown."""
    async with shop() as opened, opened.window() as window:
        await window.page.route("**/kit/collect", lambda route: route.abort())
        await window.open("/cached?adct=click123")
        await window.page.evaluate("window.here = 'all the time'")
        await window.open("/plain")
        before = await window.cookies()
        await window.page.unroute("**/kit/collect")
        async with window.page.expect_response("**/kit/collect"):
            await window.page.evaluate("setTimeout(() => history.back())")
        here = await window.page.evaluate("window.here")
        await window.settled()
        after = await window.cookies()

    assert before == {}
    assert here == "all the time"
    assert "click123" in after["kit"]["value"]


async def test_an_older_tab_does_not_outdo_a_newer_click(shop: OpenShop) -> None:
    """The click that another tab told of meanwhile stays the newest."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached?adct=one")
        other = await window.context.new_page()
        await other.goto(opened.url + "/cached?adct=two")
        await other.evaluate("kit.collect()")
        await window.settled()
        cookies = await window.cookies()

    assert [body["params"] for body in window.posted("collect")] == [{"adct": "one"}, {"adct": "two"}]
    assert "two" in cookies["kit"]["value"]


# ---------------------------------------------------------------- tabs and tunnels


async def test_tabs_that_open_together_post_once(shop: OpenShop) -> None:
    """A landing restored in several tabs is one landing."""
    async with shop() as opened, opened.window() as window:
        tabs = [window.page, await window.context.new_page(), await window.context.new_page()]
        await asyncio.gather(*(tab.goto(opened.url + "/cached?adct=click123") for tab in tabs))
        await asyncio.gather(*(tab.evaluate("kit.collect()") for tab in tabs))

    assert [body["params"] for body in window.posted("collect")] == [{"adct": "click123"}]


async def test_a_tab_that_sleeps_keeps_no_other_waiting(shop: OpenShop) -> None:
    """After three seconds its turn is over."""
    async with shop() as opened, opened.window() as window:
        other = await window.context.new_page()
        await other.goto(opened.url + "/plain")
        await other.evaluate(
            "kit.collect().then(() => { navigator.locks.request('kit.js', () => new Promise(() => 0)) })"
        )
        await window.page.clock.install()
        await window.page.goto(opened.url + "/cached?adct=click123")
        before = len(window.posted("collect"))
        async with window.page.expect_response("**/kit/collect"):
            await window.page.clock.run_for(4_000)

    assert before == 1
    assert [body["params"] for body in window.posted("collect")] == [{}, {"adct": "click123"}]


async def test_a_landing_without_a_network_is_told_on_the_next_page(shop: OpenShop) -> None:
    """The tab remembers it, as it was, until it has been told once."""
    async with shop() as opened, opened.window() as window:
        await window.page.route("**/kit/collect", lambda route: route.abort())
        await window.open("/cached?adct=click123&utm_source=adroll")
        await window.page.unroute("**/kit/collect")
        window.posts.clear()
        await window.open("/plain")
        waiting = await window.page.evaluate("sessionStorage.getItem('kit.landing')")
        await window.open("/cached")
        known = await known_of(opened.kit, await window.visitor())

    assert [(body["params"], body["url"]) for body in window.posted("collect")] == [
        ({"adct": "click123", "utm_source": "adroll"}, opened.url + "/cached?adct=click123&utm_source=adroll")
    ]
    assert known.click_id("adroll") == "click123"
    assert waiting is None


async def test_when_the_network_returns_the_same_page_tells(shop: OpenShop) -> None:
    """What an app reached, and reported, without a network is told as soon as there is one."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await window.context.set_offline(True)
        await window.page.evaluate("history.pushState(null, '', '/c?adct=click123')")
        tracked = await window.page.evaluate("kit.track('add_to_cart', {items: [{id: 'shoe-1'}]})")
        await window.settled()
        window.posts.clear()
        async with window.page.expect_response("**/kit/track"):
            await window.context.set_offline(False)
        await window.settled()
        cookies = await window.cookies()

    assert tracked is False
    assert [to for to, _ in window.posts] == ["/kit/collect", "/kit/track"]
    assert "click123" in cookies["kit"]["value"]
    assert window.errors == []


# ---------------------------------------------------------------- the pixel, and no cookies at all


async def test_the_pixel_and_the_server_agree_on_one_cookie(shop: OpenShop) -> None:
    """Whoever was first: a pixel that makes its own value is believed, and keeps the server's where there is one."""
    async with shop() as opened, opened.window() as window:
        await window.open("/real-pixel?adct=click123")
        of_pixel = (await window.cookies())["__adroll_fpc"]
        known = await known_of(opened.kit, await window.visitor())
        await window.context.clear_cookies()
        await window.page.goto(opened.url + "/")
        of_server = (await window.cookies())["__adroll_fpc"]["value"]
        await window.open("/real-pixel")
        kept = (await window.cookies())["__adroll_fpc"]["value"]

    assert of_pixel["value"].startswith("f" * 32 + "-")
    assert known.first_party_cookie == of_pixel["value"]
    assert of_server != of_pixel["value"]
    assert kept == of_server


async def test_a_pixel_without_the_question_is_not_asked(shop: OpenShop) -> None:
    """Older builds have no `get_cookie`; the document's cookie is AdRoll's too."""
    async with shop() as opened, opened.window() as window:
        await window.context.add_cookies([{"name": "__adroll_fpc", "value": FPC, "url": opened.url}])
        await window.open("/old-pixel?adct=click123")

    assert [body["fpc"] for body in window.posted("collect")] == [FPC]
    assert window.errors == []


async def test_a_page_that_may_hold_no_cookies_gets_no_error(shop: OpenShop) -> None:
    """In a sandboxed frame cookies, storage and locks all raise: nothing is kept there, and nothing breaks."""
    async with shop() as opened, opened.window() as window:
        await window.page.goto(opened.url + "/frame")
        frame = window.page.frames[1]
        answers = [
            await frame.evaluate("kit." + call) for call in ("collect()", "consent(false)", "track('live_chat')")
        ]

    assert answers == [False, False, False]
    assert window.errors == []


async def test_a_browser_that_keeps_no_cookies_is_served_all_the_same(shop: OpenShop) -> None:
    """Where `document.cookie` is empty for ever, each page tells of its landing, and nothing breaks."""
    async with shop() as opened, opened.window() as window:
        session = await window.context.new_cdp_session(window.page)
        await session.send("Emulation.setDocumentCookieDisabled", {"disabled": True})
        await window.page.goto(opened.url + "/cached?adct=click123")
        told = await window.page.evaluate("kit.collect()")

    assert told is True
    assert {body["params"]["adct"] for body in window.posted("collect")} == {"click123"}
    assert window.errors == []
