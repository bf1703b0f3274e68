"""Events and pages that a real browser reports, up to what a vendor is sent."""

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import pytest

from kit.sandbox import Sandbox
from tests.support import adroll

from .shop import Shop

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


async def test_an_event_is_reported_for_this_browsers_visitor(shop: OpenShop) -> None:
    """With its items and money, exactly as written, and the page that it happened on."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached?adct=click123")
        told = await window.page.evaluate(
            """kit.track("add_to_cart", {
                items: [{id: "shoe-1", price: 56.78, quantity: 2}], value: 113.56, currency: "USD"
            })"""
        )
        events = await opened.events()
        visitor = await window.visitor()

    [event] = events
    assert told is True
    assert (event.name, event.visitor) == ("add_to_cart", visitor)
    assert json.loads(event.conversion)["value"] == "113.56"
    assert json.loads(event.conversion)["items"] == [{"id": "shoe-1", "price": "56.78", "quantity": 2}]
    assert json.loads(event.conversion)["url"] == opened.url + "/cached"


async def test_an_event_whose_answer_was_lost_is_one_event(shop: OpenShop) -> None:
    """The next page posts it again, under the id that it was given first."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached?adct=click123")

        async def lost(route: object) -> None:
            await route.fetch()  # type: ignore[attr-defined]
            await route.abort()  # type: ignore[attr-defined]

        await window.page.route("**/kit/track", lost)
        told = await window.page.evaluate("kit.track('demo_request')")
        await window.page.unroute("**/kit/track")
        async with window.page.expect_response("**/kit/track"):
            await window.open("/plain")
        await window.open("/cached")
        events = await opened.events()

    assert told is False
    assert [body["name"] for body in window.posted("track")] == ["demo_request"] * 2
    assert [event.name for event in events] == ["demo_request"]


async def test_nothing_is_tracked_after_a_no(shop: OpenShop) -> None:
    """An event of a visitor who refused is not even kept by the page."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await window.page.evaluate("kit.consent(false)")
        told = await window.page.evaluate("kit.track('live_chat')")
        await window.page.evaluate("kit.consent(true)")
        await window.open("/cached")

    assert told is False
    assert window.posted("track") == []


async def test_what_cannot_be_written_down_is_not_tracked(shop: OpenShop) -> None:
    """Circles and strangers resolve to false; the events after them are told."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        answers = await window.page.evaluate(
            """async () => {
                const circle = {};
                circle.circle = circle;
                const calls = [["live_chat", circle], ["live_chat", {value: 1n}], ["live_chat", null]];
                return Promise.all(calls.map((call) => kit.track(...call)));
            }"""
        )

    assert answers == [False, False, True]
    assert window.errors == []


async def test_the_pages_own_tags_name_the_order_as_the_server_does(shop: OpenShop) -> None:
    """`kit.order` gives the two ids that Rokt tells a repeat by, and the click that it knows the visitor by."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached?rclid=rokt-click")
        given = await window.page.evaluate("kit.order('1001')")
        await window.page.evaluate("kit.consent(false)")
        refused = await window.page.evaluate("kit.order('1001')")

    ids = {"order_id": "1001", "confirmationref": "1001", "transactionid": "1001"}
    assert given == {**ids, "passbackconversiontrackingid": "rokt-click"}
    assert refused == ids


async def test_three_pages_are_three_page_views_in_one_request(shop: OpenShop) -> None:
    """AdRoll hears of the pages that a real browser opened, of none from a cache, and of no post of kit.js's."""
    sandbox = Sandbox()
    async with (
        sandbox.serving() as vendors,
        shop(
            destinations=[adroll(base_url=vendors.adroll_url, page_views=True)], trusted_proxies=["127.0.0.1"]
        ) as opened,
        opened.window(extra_http_headers={"x-forwarded-for": "12.34.56.89"}) as window,
    ):
        for path in ("/", "/cached", "/signed-in", "/signed-in?adct=click123"):
            await window.open(path)
        await window.page.evaluate("kit.identify({customer_id: '42'})")
        await opened.kit.worker.drain()
        cookies = await window.cookies()

    [request] = sandbox.adroll.requests
    assert [(event["event_name"], event["page_location"]) for event in request.events] == [
        ("homeView", opened.url + "/"),
        ("pageView", opened.url + "/signed-in"),
        ("pageView", opened.url + "/signed-in?adct=click123"),
    ]
    assert {event["identifiers"]["first_party_cookie"] for event in request.events} == {
        cookies["__adroll_fpc"]["value"]
    }
    assert request.refused == ()


async def test_the_pages_of_a_visitor_who_refused_are_nobodys(shop: OpenShop) -> None:
    """Not one view of theirs is stored."""
    destinations = [adroll(page_views=True, mode="shadow")]
    async with shop(destinations=destinations) as opened, opened.window() as window:
        await window.context.add_cookies([{"name": "kit-consent", "value": "denied", "url": opened.url}])
        for path in ("/", "/signed-in"):
            await window.open(path)
        await window.context.clear_cookies()
        await window.open("/")
        await window.page.evaluate("kit.identify({customer_id: '42'})")
        events = await opened.events()

    assert [event.name for event in events] == ["home_view"]
