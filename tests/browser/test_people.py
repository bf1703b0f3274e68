"""Who a visitor is, from markup and forms, and what Rockerbox hears of it; all in a real browser."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from playwright.async_api import Route

from tests.support import known_of

from .shop import ROCKERBOX, Shop, Window

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]

ANN = {"email": "ann@example.com", "customer_id": "42", "phone": "5550109999"}
GPC = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})"
#: What Rockerbox's own tag of a shop puts there when it comes.
LOADER = "window.RB = {calls: [], track(...values) {this.calls.push(values)}}"


async def rockerbox_stands_in(window: Window, host: str) -> None:
    async def arrives(route: Route) -> None:
        await route.fulfill(content_type="text/javascript", body=ROCKERBOX)

    await window.context.route(f"https://{host}/**", arrives)


async def arrived(window: Window) -> Any:
    """What Rockerbox's file found when it came. Playwright's own waiting needs eval, which some pages forbid."""
    for _ in range(400):
        if found := await window.page.evaluate("window.arrived"):
            return found
        await asyncio.sleep(0.01)
    raise AssertionError("Rockerbox's file did not come")


# ---------------------------------------------------------------- named by markup and forms


async def test_the_tag_says_who_is_signed_in(shop: OpenShop) -> None:
    """Two attributes are a call of `kit.identify`."""
    async with shop() as opened, opened.window() as window:
        async with window.page.expect_response("**/kit/identify"):
            await window.open("/signed-in")
        known = await known_of(opened.kit, await window.visitor())

    assert window.posted("identify") == [{"email": "ann@example.com", "customer_id": "42"}]
    assert known.email == "ann@example.com"


async def test_a_marked_form_is_read_when_it_is_sent(shop: OpenShop) -> None:
    """By its fields' types and names, the first of each; nothing else of it leaves, and other forms are not read."""
    async with shop() as opened, opened.window() as window:
        await window.open("/forms")
        await window.page.click("#send-other")
        async with window.page.expect_response("**/kit/identify"):
            await window.page.click("#send-whole")

    assert window.posted("identify") == [ANN]


async def test_a_marked_field_is_read_when_its_form_is_sent_away(shop: OpenShop) -> None:
    """The page is left at once; what the field says arrives all the same."""
    async with shop() as opened, opened.window() as window:
        await window.open("/forms")
        await window.page.click("#send-one")
        await window.page.wait_for_url("**/thanks?*")
        await window.settled()
        known = await known_of(opened.kit, await window.visitor())

    assert window.posted("identify") == [{"email": "ann@example.com"}]
    assert known.email == "ann@example.com"
    assert window.errors == []


async def test_under_opt_in_a_form_tells_nothing_before_a_yes(shop: OpenShop) -> None:
    """What it said is held by the page alone, until somebody agrees."""
    async with shop(consent="opt_in") as opened, opened.window() as window:
        await window.page.route("https://getrockerbox.com/**", lambda route: route.abort())
        await window.open("/opt-in")
        await window.page.evaluate(
            """() => {
                document.body.innerHTML = '<form data-kit-identify><input type=email value="ann@example.com"></form>';
                document.forms[0].addEventListener("submit", (event) => event.preventDefault());
                document.forms[0].requestSubmit();
            }"""
        )
        before = list(window.posts)
        async with window.page.expect_response("**/kit/identify"):
            await window.page.evaluate("kit.consent(true)")

    assert before == []
    assert window.posted("identify") == [{"email": "ann@example.com"}]


# ---------------------------------------------------------------- Rockerbox


async def test_a_loader_that_comes_later_hears_all_in_order(shop: OpenShop) -> None:
    """Names given before Rockerbox's own tag was there are called when it is."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        for person in ("{email: 'Ann@Example.com'}", "{customer_id: 42, phone: '+1 555 010 9999'}"):
            await window.page.evaluate(f"kit.identify({person})")
        await window.page.evaluate(LOADER)
        await window.page.wait_for_function("RB.calls.length == 2")
        calls = await window.page.evaluate("RB.calls")

    assert calls == [
        ["identify", {"email": "ann@example.com"}],
        ["identify", {"external_id": "42", "phone_number": "5550109999"}],
    ]


async def test_a_refusal_silences_names_that_still_wait(shop: OpenShop) -> None:
    """The loader that comes after a no hears nothing."""
    async with shop() as opened, opened.window() as window:
        await window.page.clock.install()
        await window.open("/cached")
        await window.page.evaluate("kit.identify({email: 'ann@example.com'}), kit.consent(false)")
        await window.page.evaluate(LOADER)
        await window.page.clock.run_for(20_000)
        calls = await window.page.evaluate("RB.calls")

    assert calls == []


async def test_nobody_waits_for_ever_for_a_loader(shop: OpenShop) -> None:
    """After ten seconds a page that has no Rockerbox keeps no name for it."""
    async with shop() as opened, opened.window() as window:
        await window.page.clock.install()
        await window.open("/cached")
        await window.page.evaluate("kit.identify({email: 'ann@example.com'})")
        await window.page.clock.run_for(11_000)
        await window.page.evaluate(LOADER)
        await window.page.clock.run_for(20_000)
        calls = await window.page.evaluate("RB.calls")

    assert calls == []


async def test_it_loads_the_all_pages_tag(shop: OpenShop) -> None:
    """Rockerbox sees the view and then who it is, by its own queue, with the source id and without its own routing."""
    async with shop() as opened, opened.window() as window:
        await rockerbox_stands_in(window, "getrockerbox.com")
        await window.open("/all-pages")
        rockerbox = await arrived(window)

    assert rockerbox == {
        "seen": [["view"], ["identify", {"external_id": "42"}]],
        "source": "source-1",
        "disablePushState": True,
        "src": "https://getrockerbox.com/assets/wxyz.v2.js",
    }


async def test_the_all_pages_tag_comes_from_the_shops_own_domain_under_a_nonce(shop: OpenShop) -> None:
    """A policy that lets in only scripts with its nonce lets this one in."""
    async with shop() as opened, opened.window() as window:
        await rockerbox_stands_in(window, "rb.shop.example")
        await window.page.goto(opened.url + "/own-domain")
        await window.page.wait_for_load_state("networkidle")
        rockerbox = await arrived(window)

    assert rockerbox["src"] == "https://rb.shop.example/assets/wxyz.v2.js"
    assert rockerbox["seen"] == [["view"]]
    assert {url.split("/")[2] for url in window.elsewhere} == {"rb.shop.example"}
    assert window.errors == []


async def test_no_vendor_is_loaded_before_a_yes(shop: OpenShop) -> None:
    """Under opt-in the tag comes with the consent, in the same page."""
    async with shop(consent="opt_in") as opened, opened.window() as window:
        await rockerbox_stands_in(window, "getrockerbox.com")
        await window.open("/opt-in")
        before = list(window.elsewhere), await window.page.evaluate("'RB' in window")
        await window.page.evaluate("kit.consent(true)")
        rockerbox = await arrived(window)

    assert before == ([], False)
    assert rockerbox["seen"] == [["view"]]


@pytest.mark.parametrize("refusal", ["gpc", "cookie"])
async def test_no_vendor_is_loaded_after_a_no(shop: OpenShop, refusal: str) -> None:
    """Neither Rockerbox's file nor its queue is there, whoever is signed in."""
    scripts = (GPC,) if refusal == "gpc" else ()
    async with shop() as opened, opened.window(scripts=scripts) as window:
        if refusal == "cookie":
            await window.context.add_cookies([{"name": "kit-consent", "value": "denied", "url": opened.url}])
        await window.open("/all-pages")
        rockerbox = await window.page.evaluate("'RB' in window")

    assert (rockerbox, window.elsewhere, window.posts) == (False, [], [])


async def test_a_shops_own_rockerbox_tag_is_left_alone(shop: OpenShop) -> None:
    """It was there first: no second file, no second view."""
    async with shop() as opened, opened.window(scripts=(LOADER,)) as window:
        await window.open("/all-pages")
        calls = await window.page.evaluate("RB.calls")

    assert calls == [["identify", {"external_id": "42"}]]
    assert window.elsewhere == []


async def test_who_was_held_back_is_forgotten_with_a_reset(shop: OpenShop) -> None:
    """Ann signs in and out before anybody was asked; the next one at this device allows it, and is not Ann."""
    async with shop(consent="opt_in") as opened, opened.window() as window:
        await window.open("/opt-in")
        await window.page.evaluate("kit.identify({email: 'ann@example.com'})")
        await window.page.evaluate("kit.reset()")
        await window.page.evaluate("kit.consent(true)")
        await window.page.evaluate("kit.identify({email: 'bob@example.com'})")
        told = [post["email"] for post in window.posted("identify")]

    assert told == ["bob@example.com"]
