"""`/track`: which events a page may report, for whom, and that its answer tells nothing."""

import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select
from starlette.applications import Starlette
from starlette.routing import Mount

from kit import Conversion, Kit
from kit.errors import ConfigurationError
from kit.store import tables
from kit.web import endpoints
from kit.web.tracking import TRACKED
from tests.support import adroll, make_kit

AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"
PAGE = "http://localhost:8000/shoes"


@asynccontextmanager
async def visiting(kit: Kit, *, track: Collection[str] = TRACKED) -> AsyncIterator[httpx.AsyncClient]:
    """A browser whose visitor is known, on a page of the shop."""
    app = Starlette(routes=[Mount("/kit", endpoints(kit, track=track))])
    headers = {"user-agent": AGENT, "sec-fetch-site": "same-origin", "referer": PAGE + "?email=a@b.co"}
    transport = httpx.ASGITransport(app=app)
    async with (
        kit.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="http://localhost:8000/kit", headers=headers) as client,
    ):
        await client.post("/collect", json={"params": {"adct": "click123"}})
        yield client


def shop(folder: Path, **settings: Any) -> Kit:
    return make_kit(folder, destinations=[adroll(mode="shadow")], **settings)


async def events_of(kit: Kit) -> Sequence[Any]:
    query = select(tables.events).order_by(tables.events.c.id)
    return await kit.store.read(lambda connection: connection.execute(query).all())


async def test_an_event_is_the_visitors_own(tmp_path: Path) -> None:
    """Money is exact, and who it was is the cookie's word: an e-mail or a customer's id in it is not looked at."""
    kit = shop(tmp_path)
    body = (
        '{"name": "add_to_cart", "value": 19.99, "currency": "USD", "items": [{"id": "shoe-1", "price": 19.99}],'
        ' "email": "ann@example.com", "customer_id": "42", "visitor": "' + "v" * 22 + '", "order_id": "1001"}'
    )

    async with visiting(kit) as client:
        answer = await client.post("/track", content=body, headers={"content-type": "application/json"})
        [event] = await events_of(kit)
        visitor = client.cookies["kit"][1:23]

    conversion, identifiers = json.loads(event.conversion), json.loads(event.identifiers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert (event.name, event.visitor, event.order_id) == ("add_to_cart", visitor, None)
    assert (conversion["value"], conversion["items"]) == ("19.99", [{"id": "shoe-1", "price": "19.99"}])
    assert conversion["url"] == PAGE
    assert "ann@example.com" not in event.conversion + event.identifiers
    assert '"42"' not in event.conversion + event.identifiers
    assert identifiers["visitor"] == visitor


async def test_a_repeat_under_a_pages_own_id_is_the_same_event(tmp_path: Path) -> None:
    """Another name, and another visitor's event of the same id, are events of their own."""
    kit = shop(tmp_path)
    event = {"name": "form_fill", "event_id": "0123456789abcdef"}

    async with visiting(kit) as client:
        for body in (event, event, {**event, "name": "live_chat"}):
            await client.post("/track", json=body)
        client.cookies.clear()
        await client.post("/collect", json={})
        await client.post("/track", json=event)
        events = await events_of(kit)

    assert [each.name for each in events] == ["form_fill", "live_chat", "form_fill"]
    assert len({each.event_id for each in events}) == 3


async def test_without_an_id_each_is_an_event(tmp_path: Path) -> None:
    """So is one whose id is not usable."""
    kit = shop(tmp_path)

    async with visiting(kit) as client:
        for given in ({}, {}, {"event_id": 5}, {"event_id": "x" * 65}, {"event_id": "a b c d e f g h"}):
            await client.post("/track", json={"name": "live_chat", **given})
        events = await events_of(kit)

    assert len(events) == 5


async def test_no_page_can_take_an_orders_place(tmp_path: Path) -> None:
    """An id that the shop's own report will have is good for nothing here."""
    kit = shop(tmp_path)

    async with visiting(kit) as client:
        taken = (await kit.report(Conversion(name="add_to_cart", order_id="1001"))).event_id
        await client.post("/track", json={"name": "add_to_cart", "event_id": taken})
        events = await events_of(kit)

    assert [each.event_id == taken for each in events] == [True, False]


@pytest.mark.parametrize(
    "body",
    [
        {"name": "purchase", "order_id": "1001", "value": "1", "currency": "USD"},
        {"name": "page_view"},
        {"name": "home_view"},
        {"name": "refund", "order_id": "1001"},
        {"name": ["add_to_cart"]},
        {"name": {}},
        {},
        [],
        "add_to_cart",
        None,
        {"name": "add_to_cart", "items": [{"id": "shoe-1"}] * 101},
        {"name": "add_to_cart", "items": {"id": "shoe-1"}},
        {"name": "add_to_cart", "items": [{"id": "shoe-1", "email": "a@b.co"}]},
        {"name": "add_to_cart", "items": ["shoe-1"]},
        {"name": "add_to_cart", "value": "12"},
        {"name": "add_to_cart", "value": "-1", "currency": "USD"},
        {"name": "add_to_cart", "value": 1e300, "currency": "USD"},
        {"name": "add_to_cart", "keywords": "k" * 513},
        {"name": "add_to_cart", "url": ["https://shop.com/"]},
    ],
)
async def test_what_is_not_listed_or_not_valid_is_counted_and_answered_alike(tmp_path: Path, body: object) -> None:
    """A page learns nothing from it, and nothing of it is kept."""
    kit = shop(tmp_path)

    async with visiting(kit) as client:
        answer = await client.post("/track", content=json.dumps(body), headers={"content-type": "application/json"})
        events = await events_of(kit)

    assert (answer.status_code, answer.content) == (204, b"")
    assert list(events) == []
    assert kit.faults.counts == {"track.input": 1}


async def test_a_number_that_no_decimal_holds_is_a_bad_request(tmp_path: Path) -> None:
    """As any other text that is no usable JSON."""
    async with visiting(shop(tmp_path)) as client:
        answer = await client.post(
            "/track",
            content=b'{"name": "add_to_cart", "value": 1e9999999999999999999}',
            headers={"content-type": "application/json"},
        )

    assert answer.status_code == 400


async def test_a_hundred_items_are_taken(tmp_path: Path) -> None:
    """A full cart is one event."""
    kit = shop(tmp_path)

    async with visiting(kit) as client:
        await client.post("/track", json={"name": "add_to_cart", "items": [{"id": f"shoe-{n}"} for n in range(100)]})
        [event] = await events_of(kit)

    assert len(json.loads(event.conversion)["items"]) == 100


async def test_the_shop_lists_what_its_pages_may_report(tmp_path: Path) -> None:
    """A purchase so reported is the order's own event: the server's report of it is a repeat."""
    kit = shop(tmp_path)
    order = {"order_id": "1001", "value": "12.50", "currency": "USD"}

    async with visiting(kit, track={"purchase", "newsletter"}) as client:
        for body in ({"name": "purchase", **order}, {"name": "newsletter"}, {"name": "add_to_cart"}):
            await client.post("/track", json=body)
        again = await kit.report(Conversion(name="purchase", **order))
        events = await events_of(kit)

    assert [(each.name, each.order_id) for each in events] == [("purchase", "1001"), ("newsletter", None)]
    assert (again.new, again.conflict) == (False, ())


@pytest.mark.parametrize("names", ["add_to_cart", {"x" * 65}, {""}, {5}])
def test_a_list_of_names_that_is_none_is_refused(tmp_path: Path, names: Any) -> None:
    """At the start, by the setting's name."""
    with pytest.raises(ConfigurationError, match="track"):
        endpoints(shop(tmp_path), track=names)


@pytest.mark.parametrize(
    "headers", [{"sec-gpc": "1"}, {"cookie": "kit-consent=denied"}, {"user-agent": "Googlebot/2.1"}]
)
async def test_nobody_is_reported_without_a_visitor_who_allows_it(tmp_path: Path, headers: dict[str, str]) -> None:
    """Nor is that counted as a fault."""
    kit = shop(tmp_path)

    async with visiting(kit) as client:
        if "cookie" in headers or "user-agent" in headers:
            client.cookies.clear()
        answer = await client.post("/track", json={"name": "live_chat"}, headers=headers)
        events = await events_of(kit)

    assert answer.status_code == 204
    assert list(events) == []
    assert kit.faults.counts == {}


async def test_a_store_that_does_not_answer_is_counted(tmp_path: Path) -> None:
    """The page is not to blame."""
    kit = shop(tmp_path)

    async with visiting(kit) as client:
        kit.store.close()
        (tmp_path / "kit.db").rename(tmp_path / "gone.db")
        (tmp_path / "kit.db").mkdir()
        answer = await client.post("/track", json={"name": "live_chat"})
        (tmp_path / "kit.db").rmdir()

    assert answer.status_code == 204
    assert kit.faults.counts == {"track": 1}
