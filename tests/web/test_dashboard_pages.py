"""What the dashboard shows: how destinations stand, orders and their stories, in words; and nothing personal."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from html import unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from kit import Conversion, Item, Kit
from kit.destinations import AdRoll, Rockerbox, Rokt
from kit.model import ClickId, Identifiers, Touchpoint, VisitorId
from kit.store import looking, people
from kit.store.answers import Seen, keep_answers
from kit.store.gates import Gate, set_gate
from kit.store.overview import standings
from kit.store.people import OrderLink, Touch
from kit.store.pixels import PixelReport, keep_pixel_reports
from kit.store.tables import deliveries, events, gates
from kit.web import dashboard
from tests.delivery.world import GRANTED, VISITOR, World, world
from tests.support import FPC, NOON, FrozenClock, adroll, make_kit, rokt

SAME = {"sec-fetch-site": "same-origin"}
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.1 Mobile/15E148 Safari/604.1"
)


@asynccontextmanager
async def looking_at(kit: Kit) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(dashboard(kit, authorize=lambda _: True))
    async with httpx.AsyncClient(transport=transport, base_url="https://www.shop.com/", headers=SAME) as client:
        yield client


def words(page: httpx.Response) -> str:
    """The page as somebody reads it."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", page.text.partition("<main")[2])).split())


async def event_of(kit: Kit, order: str) -> str:
    query = select(events.c.event_id).where(events.c.order_id == order)
    return str(await kit.store.read(lambda connection: connection.scalar(query)))


async def change(kit: Kit, order: str, destination: str, **values: Any) -> None:
    """Put one delivery where a vendor's odd day would have put it."""
    event = select(events.c.id).where(events.c.order_id == order).scalar_subquery()
    row = deliveries.update().where(deliveries.c.event == event, deliveries.c.destination == destination)
    await kit.store.write(lambda connection, asked: [connection.execute(row.values(**values)) and None], None)


# ---------------------------------------------------------------- nothing personal

CANARIES = {
    "email": "canary.person@example.com",
    "phone": "+41445550199",
    "ip": "12.34.56.89",
    "cookie": FPC,
    "adct": "canary-adct-click",
    "rokt click": "canary-rokt-click",
    "gclid": "canary-gclid",
    "name": "Canaria",
    "surname": "Canarienvogel",
    "street": "Canary Wharf 1",
    "customer": "canary-customer-7",
    "token": "sandbox-token",
    "secret": "rsec-sandbox",
    "extra": "canary-extra",
    "address in a URL": "canary.in.url@example.com",
    "told back": "canary.told.back@example.com",
}


async def _with_canaries(shop: World) -> None:
    kit = shop.kit
    found = Identifiers(
        visitor=VISITOR,
        click_ids=(
            ClickId("adroll", CANARIES["adct"], NOON - DAY),
            ClickId("rokt", CANARIES["rokt click"], NOON - DAY),
            ClickId("gclid", CANARIES["gclid"], NOON - DAY),
        ),
        first_party_cookie=CANARIES["cookie"],
        ip=CANARIES["ip"],
        user_agent=IPHONE,
        url=f"https://shop.com/checkout?adct={CANARIES['adct']}",
    )
    touch = Touchpoint(
        at=NOON - DAY,
        click_ids=(found.click_ids[0],),
        utm={"utm_source": "adroll", "utm_content": CANARIES["email"], "utm_id": CANARIES["adct"]},
        url=f"https://shop.com/for/{CANARIES['address in a URL']}?adct={CANARIES['adct']}",
        referrer=f"https://{CANARIES['customer']}@news.example/story",
    )
    seen = Touch(visitor=VISITOR, touchpoint=touch, first_party_cookie=CANARIES["cookie"], consent=GRANTED)
    await kit.store.write(people.keep_touches, seen)
    for order in ("sent", "held", "dead", "waiting"):
        await kit.store.write(people.keep_orders, OrderLink(order_id=order, identifiers=found, consent=GRANTED))
        await kit.report(
            Conversion(
                order_id=order,
                value="19.90",
                currency="USD",
                email=CANARIES["email"],
                phone=CANARIES["phone"],
                customer_id=CANARIES["customer"],
                first_name=CANARIES["name"],
                last_name=CANARIES["surname"],
                address={"line1": CANARIES["street"], "country": "CH"},
                items=(Item(id="shoe-1", name="Trail shoe", price="19.90"),),
                extra={"loyalty": CANARIES["extra"]},
            )
        )
        if order != "waiting":
            await shop.drain()
    back = ("told back", "ip", "adct", "surname", "street", "customer")
    said = f"HTTP 400: no such person: {', '.join(CANARIES[name] for name in back)}, token {CANARIES['token']}"
    for destination in ("adroll", "rokt", "rockerbox"):
        await change(kit, "held", destination, state="held", reason="outcome_unknown", detail=said)
        await change(kit, "dead", destination, state="dead", reason="rejected", detail=said)


async def test_no_page_shows_anything_personal(tmp_path: Path) -> None:
    """Neither the pages nor the bodies in them, sent and to be sent; what is shown is that it is known."""
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as shop, looking_at(shop.kit) as client:
        await _with_canaries(shop)
        pages = [
            await client.get(page)
            for page in (
                "",
                "?days=28",
                "orders",
                "orders?state=dead",
                *[f"order?id={await event_of(shop.kit, order)}" for order in ("sent", "held", "dead", "waiting")],
            )
        ]

    assert {page.status_code for page in pages} == {200}
    for page in pages:
        assert [name for name, canary in CANARIES.items() if canary in unescape(page.text)] == []
        assert not re.search("canar", page.text, re.IGNORECASE)
    assert "AdRoll click, Rokt click, gclid click, AdRoll cookie, e-mail, phone, customer number, IP" in words(
        pages[-1]
    )
    assert pages[4].text.count("•••") > 10


# ---------------------------------------------------------------- one order's story


async def test_an_orders_story_is_told(tmp_path: Path) -> None:
    """What it was, how the buyer came and on which device, each request and what it meant, what was in it."""
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as shop, looking_at(shop.kit) as client:
        await _with_canaries(shop)
        page = words(await client.get(f"order?id={await event_of(shop.kit, 'sent')}"))

    assert "Order sent" in page
    assert "Value 19.90 USD" in page
    assert "Ordered on iPhone · Safari" in page
    assert "1 day before 2026-01-14 12:00 AdRoll used" in page
    assert "shop.com/for/[email]" in page
    assert "news.example/story" in page
    assert "HTTP 200 taken" in page
    assert '"order_id": "sent"' in page
    assert '"email_sha256": "•••"' in page
    assert '{ "name": "passbackconversiontrackingid", "value": "•••" }' in page
    assert "Send it again" not in page


async def test_the_other_device_of_a_customer_is_named(tmp_path: Path) -> None:
    """A click on a phone, an order on a laptop: the phone is shown, and how long before."""
    phone = VisitorId("p" * 22)
    async with world(tmp_path, AdRoll) as shop, looking_at(shop.kit) as client:
        kit = shop.kit
        clicked = ClickId("adroll", "click-on-the-phone", NOON - 3 * DAY)
        touch = Touchpoint(at=NOON - 3 * DAY, click_ids=(clicked,), url="https://shop.com/sale", user_agent=IPHONE)
        seen = Touch(visitor=phone, touchpoint=touch, first_party_cookie=FPC, consent=GRANTED)
        await kit.store.write(people.keep_touches, seen)
        for visitor in (phone, VISITOR):
            await kit.identify(visitor=visitor, customer_id="customer-1")
        await kit.report(
            Conversion(order_id="order-1", value="5", currency="USD", customer_id="customer-1"), visitor=VISITOR
        )
        page = words(await client.get(f"order?id={await event_of(kit, 'order-1')}"))

    assert (
        "3 days before 2026-01-12 12:00 AdRoll used iPhone · Safari another device of this customer shop.com/sale"
        in page
    )


async def test_each_request_of_a_delivery_is_shown(tmp_path: Path) -> None:
    """One that failed, one that was asked to wait, and the one that was taken, in this order."""
    async with world(tmp_path, Rokt) as shop, looking_at(shop.kit) as client:
        shop.sandbox.rokt.answers(status=500)
        shop.sandbox.rokt.answers(status=429, retry_after=7)
        await shop.order()
        for _ in range(3):
            await shop.drain()
            shop.clock.passes(HOUR)
        page = words(await client.get(f"order?id={await event_of(shop.kit, 'order-1')}"))

    assert re.search(r"HTTP 500 try again .* HTTP 429 asked to wait .* HTTP 200 taken", page)


async def test_what_would_be_sent_is_shown_while_it_waits(tmp_path: Path) -> None:
    """Before the first request there is no frozen body: it is made for the page alone, and nothing is stored."""
    async with world(tmp_path, Rockerbox) as shop, looking_at(shop.kit) as client:
        await shop.order()
        page = await client.get(f"order?id={await event_of(shop.kit, 'order-1')}")
        rows = await shop.rows()

    assert "What would be sent now" in page.text
    assert "&#34;action&#34;: &#34;purchase&#34;" in page.text
    assert "It is due at 2026-01-15 12:00:00" in words(page)
    assert rows[0].payload is None


async def test_a_destination_that_cannot_build_it_breaks_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shop's own destination may raise; one that is configured no more has nobody to ask."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("jane@example.com")

    async with world(tmp_path, AdRoll, Rokt) as shop, looking_at(shop.kit) as client:
        await shop.order()
        monkeypatch.setattr(Rokt, "payload", broken)
        page = await client.get(f"order?id={await event_of(shop.kit, 'order-1')}")
        object.__setattr__(shop.kit, "destinations", ())
        later, overview = await client.get(f"order?id={await event_of(shop.kit, 'order-1')}"), await client.get("")

    assert (page.status_code, later.status_code) == (200, 200)
    assert page.text.count("What would be sent now") == 1
    assert later.text.count("What would be sent now") == 0
    assert "Rokt is no destination of this shop any more, and 1 waits." in words(overview)


async def test_a_pixel_that_reported_the_order_too_is_named(tmp_path: Path) -> None:
    """With what it means: AdRoll may count both, Rokt tells a repeat."""
    async with world(tmp_path, AdRoll, Rokt) as shop, looking_at(shop.kit) as client:
        await shop.order()
        await shop.drain()
        for vendor in ("adroll", "rokt"):
            told = PixelReport(order_id="order-1", vendor=vendor, at=NOON)
            await shop.kit.store.write(keep_pixel_reports, told)
        page = words(await client.get(f"order?id={await event_of(shop.kit, 'order-1')}"))
        overview = words(await client.get(""))

    assert "AdRoll's pixel on the page reported this order too. AdRoll may count both: see pixel_reports=" in page
    assert "Rokt's pixel on the page reported this order too. Rokt tells a repeat by transactionid" in page
    assert (
        'sent to AdRoll and reported by its pixel on the page too: it may count both. pixel_reports={"purch' in overview
    )
    assert "sent to Rokt and reported" not in overview


async def test_a_repeat_that_said_otherwise_is_shown(kit: Kit) -> None:
    """The first report stands; what differed is named, not its value."""
    await kit.report(Conversion(order_id="order-1", value="5", currency="USD", email="jane@example.com"))
    await kit.report(Conversion(order_id="order-1", value="7.77", currency="EUR", email="jane@example.com"))

    async with looking_at(kit) as client:
        page = words(await client.get(f"order?id={await event_of(kit, 'order-1')}"))

    assert "It was reported again with another value, currency: the first report stands." in page
    assert "7.77" not in page


@pytest.mark.parametrize("asked", ["", "?id=", "?id=nobody", "?id=%00", "?id=%ED%A0%80", f"?id={'x' * 5_000}"])
async def test_an_order_that_is_not_there_is_said(kit: Kit, asked: str) -> None:
    """Also where what is asked for can be no id."""
    async with looking_at(kit) as client:
        answer = await client.get(f"order{asked}")

    assert answer.status_code == 404
    assert "There is no such order" in answer.text


# ---------------------------------------------------------------- the overview


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (
            Gate(state="throttled", until=NOON + HOUR, reason="HTTP 429", since=NOON),
            "waits Rokt waits: it asked to wait until 13:00 UTC (HTTP 429). Nothing to do",
        ),
        (
            Gate(state="throttled", until=NOON - HOUR, reason="HTTP 429", since=NOON - DAY),
            "waits Rokt asked to wait (HTTP 429), and is being asked again now.",
        ),
        (
            Gate(state="paused", until=NOON + HOUR, reason="HTTP 401: no", since=NOON - DAY),
            "needs you Rokt is paused since 2026-01-14 12:00 UTC: its token is refused (HTTP 401: no). Mend",
        ),
        (
            Gate(state="unreachable", until=NOON + HOUR, reason="ConnectError", since=NOON),
            "down Rokt cannot be reached since 12:00 UTC (ConnectError). Orders are kept, and it is asked again at",
        ),
        (
            Gate(state="failing", until=NOON, reason="HTTP 500", since=NOON),
            "down Rokt answers with errors since 12:00 UTC (HTTP 500). Orders are kept, and it is being asked again",
        ),
        (
            Gate(state="stopped", until=NOON + DAY, reason="by operator", since=NOON),
            "paused Rokt is paused by operator since 12:00 UTC. Orders are kept",
        ),
        (
            Gate(state="stopped", until=NOON + DAY, reason="price import", since=NOON),
            "paused Rokt is paused since 12:00 UTC (price import). Orders are kept",
        ),
    ],
    ids=lambda one: one.state if isinstance(one, Gate) else "",
)
async def test_what_holds_a_destination_back_is_said_in_words(kit: Kit, gate: Gate, said: str) -> None:
    """Since when, until when, why, and what to do; and a button opens it."""

    def close(connection: Any, asked: Any) -> list[None]:
        set_gate(connection, "rokt", gate, probe=None, judged=False, now=NOON)
        return [None]

    await kit.store.write(close, None)
    async with looking_at(kit) as client:
        before = words(await client.get(""))
        await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
        order = words(await client.get(f"order?id={await event_of(kit, 'order-1')}"))
        gone_on = await client.post("resume", data={"destination": "rokt"})
        after = words(await client.get(gone_on.headers["location"]))

    assert said in before
    assert said.partition(" Rokt ")[2].partition(". ")[0] in order
    assert "Go on Rokt" in before
    assert "It goes on." in after
    assert "Pause Rokt" in after


async def test_a_destination_without_a_gate_is_said_in_words(tmp_path: Path) -> None:
    """Nothing yet, on its way, all sent, held and failed, and nobody delivers."""
    async with world(tmp_path, Rokt) as shop:

        async def headline() -> str:
            # What was counted is kept for some seconds.
            async with looking_at(shop.kit) as anew:
                return words(await anew.get("")).partition("Orders of the last")[0]

        said = [await headline()]
        await shop.order()
        said.append(await headline())
        shop.clock.passes(2 * HOUR)
        said.append(await headline())
        await shop.drain()
        said.append(await headline())
        await shop.order("order-2")
        await change(shop.kit, "order-1", "rokt", state="held", reason="outcome_unknown")
        await change(shop.kit, "order-2", "rokt", state="dead", reason="rejected")
        said.append(await headline())

    for found, wanted in zip(
        said,
        [
            "ready Rokt: nothing was reported yet.",
            "sending Rokt: 1 on the way.",
            "needs you Rokt is not sent to: the longest waits for 2 hours, and nothing holds it back. Is a",
            "all sent Rokt: all sent that may be.",
            "needs you Rokt: 1 held for you to decide and 1 failed.",
        ],
        strict=True,
    ):
        assert wanted in found


async def test_a_shadow_destination_is_called_so(tmp_path: Path, clock: FrozenClock) -> None:
    """Nothing is sent there, whatever is counted."""
    kit = make_kit(tmp_path, destinations=[rokt(mode="shadow")], clock=clock)
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
    await kit.worker.drain()
    async with looking_at(kit) as client:
        page = words(await client.get(""))
    kit.store.close()

    assert "Rokt is in shadow mode: nothing is sent. 1 not sent : shadow mode: checked and recorded only" in page


async def test_the_overview_counts_what_orders_can_be_matched_by(kit: Kit) -> None:
    """Orders of the window alone: no refund, no event without an order, none that is older."""
    clock = kit.clock
    assert isinstance(clock, FrozenClock)
    clicks = (ClickId("adroll", "a", NOON), ClickId("gclid", "g", NOON))
    known = Identifiers(visitor=VISITOR, click_ids=clicks, first_party_cookie=FPC, ip="12.34.56.89")
    await kit.report(Conversion(order_id="old", email="jane@example.com"))
    clock.passes(20 * DAY)
    await kit.store.write(people.keep_orders, OrderLink(order_id="one", identifiers=known, consent=GRANTED))
    await kit.report(Conversion(order_id="one", email="jane@example.com"))
    await kit.report(Conversion(order_id="two", customer_id="7", phone="+41445550199"), consent=True)
    await kit.report(Conversion(order_id="three", email="jane@example.com"), consent=False)
    await kit.report(Conversion(name="refund", order_id="one", event_id="refund-1"))
    await kit.report(Conversion(name="signup_plan"))

    async with looking_at(kit) as client:
        week, month = words(await client.get("")), words(await client.get("?days=28"))

    assert "3 orders were reported" in week
    assert "A click from AdRoll 1 33 %" in week
    assert "A click from gclid 1 33 %" in week
    assert "AdRoll cookie 1 33 %" in week
    assert "E-mail 1 33 %" in week
    assert "Phone 1 33 %" in week
    assert "Customer number 1 33 %" in week
    assert "IP address 1 33 %" in week
    assert "AdRoll 0 0 % 2 waiting, 1 not sent" in week
    assert "AdRoll not sent the shop refused" in week
    assert "4 orders were reported" in month
    assert "E-mail 2 50 %" in month


async def test_answers_that_nobody_foresaw_are_shown(kit: Kit) -> None:
    """Their shape alone, and whose they are."""

    def seen(shape: str, known: bool) -> Seen:
        return Seen(
            destination="adroll", status=200, shape=shape, sketch=f"{{{shape}: text}}", known=known, seen=3,
            first_at=NOON, last_at=NOON,
        )  # fmt: skip

    await kit.store.write(keep_answers, [seen("usual", True), seen("odd", False)])
    async with looking_at(kit) as client:
        page = words(await client.get(""))

    assert "AdRoll HTTP 200 {odd: text} 3 2026-01-15 12:00" in page
    assert "usual" not in page


async def test_an_empty_shop_has_pages_too(tmp_path: Path) -> None:
    """No destination, no order."""
    kit = make_kit(tmp_path, destinations=[])
    async with looking_at(kit) as client:
        overview, orders = words(await client.get("")), words(await client.get("orders"))
    kit.store.close()

    assert "This shop has no destination." in overview
    assert "No order was reported in this time." in overview
    assert "No order is like that." in orders


# ---------------------------------------------------------------- the list


@pytest.fixture
async def listed(tmp_path: Path) -> AsyncIterator[World]:
    """Seven orders at two destinations: one failed at Rokt, one held at AdRoll, one that Rokt cannot match."""
    async with world(tmp_path, AdRoll, Rokt) as shop:
        for number in range(7):
            await shop.order(f"order-{number}")
            shop.clock.passes(HOUR)
        await shop.drain()
        await change(shop.kit, "order-2", "rokt", state="dead", reason="rejected")
        await change(shop.kit, "order-4", "adroll", state="held", reason="outcome_unknown")
        await change(shop.kit, "order-5", "rokt", state="skipped", reason="identifier")
        yield shop


def orders_on(page: httpx.Response) -> list[str]:
    return re.findall(r'<a href="order\?id=[^"]+">([^<]+)</a>', page.text)


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("", [6, 5, 4, 3, 2, 1, 0]),
        ("?state=dead", [2]),
        ("?destination=adroll&state=dead", []),
        ("?destination=rokt&state=skipped&reason=identifier", [5]),
        ("?reason=outcome_unknown", [4]),
        ("?destination=adroll", [6, 5, 4, 3, 2, 1, 0]),
        ("?order=order-3", [3]),
        ("?order=order", []),
        ("?order=order-3&destination=adroll&state=held", []),
        ("?destination=nobody", []),
        ("?state=nonsense&before=nonsense&before=99999999999999999999", [6, 5, 4, 3, 2, 1, 0]),
    ],
)
async def test_the_list_is_narrowed(listed: World, asked: str, found: list[int]) -> None:
    """By destination, state and reason of one delivery, and by the order's exact id; newest first."""
    async with looking_at(listed.kit) as client:
        page = await client.get(f"orders{asked}")

    assert page.status_code == 200
    assert orders_on(page) == [f"order-{number}" for number in found]


async def test_the_list_goes_on_by_key(listed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No order is missed and none comes twice, although one more is reported meanwhile."""
    monkeypatch.setattr(looking, "PAGE", 3)
    found = []
    async with looking_at(listed.kit) as client:
        page = await client.get("orders?destination=adroll")
        found.append(orders_on(page))
        await listed.order("order-7")
        while (older := re.search(r'rel="next" href="([^"]+)"', page.text)) is not None:
            page = await client.get(unescape(older[1]))
            found.append(orders_on(page))

    assert found == [["order-6", "order-5", "order-4"], ["order-3", "order-2", "order-1"], ["order-0"]]
    assert ">Newest</a>" in page.text


async def test_a_long_search_says_how_far_it_looked(listed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One page makes so many reads and no more; a link looks further back, to the end."""
    monkeypatch.setattr(looking, "RANGE", 2)
    monkeypatch.setattr(looking, "MOST_READS", 2)
    async with looking_at(listed.kit) as client:
        first = await client.get("orders?state=dead")
        further = re.search(r'rel="next" href="([^"]+)"', first.text)
        assert further is not None
        second = await client.get(unescape(further[1]))

    assert orders_on(first) == []
    assert "No further order is like that. Looked back to 2026-01-15 15:00" in words(first)
    assert "Look further back" in first.text
    assert orders_on(second) == ["order-2"]


async def test_page_views_and_jobs_are_listed_only_where_asked_for(kit: Kit) -> None:
    """A shop's orders must not drown in the pages that were opened."""
    await kit.report(Conversion(name="page_view", url="https://shop.com/"))
    await kit.report(Conversion(order_id="order-1"))

    async with looking_at(kit) as client:
        orders, of_rokt = await client.get("orders"), await client.get("orders?destination=rokt")

    assert orders_on(orders) == ["order-1"]
    assert len(orders_on(of_rokt)) == 2


# ---------------------------------------------------------------- buttons


async def standing_of(kit: Kit, destination: str) -> dict[tuple[str, str | None], int]:
    found = await asyncio.to_thread(standings, kit.store)
    return next(one.counts for one in found if one.destination == destination)


async def test_one_failed_delivery_is_sent_again(listed: World) -> None:
    """And no other; the vendor then has it once more, and pressing twice does no more."""
    event = await event_of(listed.kit, "order-2")
    await change(listed.kit, "order-3", "rokt", state="dead", reason="rejected")
    form = {"event": event, "destination": "rokt", "state": "dead"}
    async with looking_at(listed.kit) as client:
        before = await client.get(f"order?id={event}")
        first = await client.post("replay", data=form)
        again = await client.get(first.headers["location"])
        second = await client.post("replay", data=form)
        late = await client.get(second.headers["location"])
    pending = await standing_of(listed.kit, "rokt")
    await listed.drain()

    assert "Mend what Rokt names, then send it again." in words(before)
    assert first.status_code == 303
    assert "It will be sent again." in words(again)
    assert "Nothing was changed" in words(late)
    assert pending[("pending", None)] == 1
    assert await standing_of(listed.kit, "rokt") == {
        ("delivered", None): 5,
        ("dead", "rejected"): 1,
        ("skipped", "identifier"): 1,
    }


async def test_all_that_failed_at_a_destination_is_sent_again(listed: World) -> None:
    """From the list that shows them, for the reason that it shows; the held and the skipped stay."""
    await change(listed.kit, "order-3", "rokt", state="dead", reason="oversize")
    async with looking_at(listed.kit) as client:
        page = await client.get("orders?destination=rokt&state=dead&reason=rejected")
        done = await client.post("replay", data={"destination": "rokt", "state": "dead", "reason": "rejected"})

    assert "1 failed. When what was wrong is mended:" in words(page)
    assert done.headers["location"] == "orders?destination=rokt&done=again"
    counts = await standing_of(listed.kit, "rokt")
    assert counts[("pending", None)] == 1
    assert counts[("dead", "oversize")] == 1
    assert counts[("skipped", "identifier")] == 1


@pytest.mark.parametrize(
    ("outcome", "state"), [("delivered", ("delivered", "by operator")), ("again", ("pending", None))]
)
async def test_a_held_delivery_is_decided(listed: World, outcome: str, state: tuple[str, str | None]) -> None:
    """The vendor has it, or it is sent again: a person said so."""
    event = await event_of(listed.kit, "order-4")
    async with looking_at(listed.kit) as client:
        page = await client.get(f"order?id={event}")
        done = await client.post("resolve", data={"event": event, "destination": "adroll", "outcome": outcome})
        shown = await client.get(done.headers["location"])

    assert ">AdRoll has it</button>" in page.text
    assert ">AdRoll has it</button>" not in shown.text
    assert (await standing_of(listed.kit, "adroll"))[state] == 1


@pytest.mark.parametrize(
    ("button", "form"),
    [
        ("pause", {"destination": "nobody"}),
        ("pause", {}),
        ("replay", {"destination": "rokt", "state": "delivered", "event": "any"}),
        ("replay", {"destination": "rokt", "state": "held"}),
        ("replay", {"destination": "rokt", "state": "dead", "event": ""}),
        ("replay", {"destination": "rokt", "state": "dead", "event": "e\x00"}),
        ("replay", {"destination": "rokt", "state": "dead", "event": "e" * 201}),
        ("replay", {"destination": "rokt", "state": "dead", "reason": "\u0085"}),
        ("replay", {"state": "dead"}),
        ("resolve", {"event": "any", "destination": "adroll", "outcome": "burn"}),
        ("resolve", {"destination": "adroll", "outcome": "again"}),
    ],
)
async def test_what_no_button_sends_is_refused(listed: World, button: str, form: dict[str, str]) -> None:
    """Nothing that was delivered, nothing held in bulk, no destination that nobody knows."""
    before = await asyncio.to_thread(standings, listed.kit.store)

    async with looking_at(listed.kit) as client:
        answer = await client.post(button, data=form)

    assert answer.status_code == 400
    assert await asyncio.to_thread(standings, listed.kit.store) == before


@pytest.mark.parametrize("named", ["R\u00e9f\u00a0123", "\u0627\u200d\u0644", "a\u202eb"])
async def test_whatever_a_shop_may_call_an_order_has_its_page(kit: Kit, named: str) -> None:
    """A no-break space, a joiner, a mark that turns the direction: listed, found by its name, and opened."""
    await kit.report(Conversion(order_id=named, event_id=named[:3], email="jane@example.com"))

    async with looking_at(kit) as client:
        listed = await client.get("orders", params={"order": named})
        opened = await client.get("order", params={"id": named[:3]})

    assert listed.text.count("order?id=") == 1
    assert (opened.status_code, f"Order {named}" in opened.text) == (200, True)


async def test_an_order_that_is_numbered_by_an_e_mail_shows_none(kit: Kit) -> None:
    """Neither in the list nor on its page nor in what is sent; it is found by its number all the same."""
    await kit.report(Conversion(order_id="jane@example.com", value="1.00", currency="USD"), consent=True)

    async with looking_at(kit) as client:
        listed = await client.get("orders")
        found = await client.get("orders", params={"order": "jane@example.com"})
        opened = await client.get(f"order?id={await event_of(kit, 'jane@example.com')}")

    assert "[email]" in listed.text
    assert "Order [email]" in opened.text
    assert "order?id=" in found.text
    assert "jane@" not in listed.text + opened.text


async def test_no_button_sends_against_consent(kit: Kit) -> None:
    """Who refused has none; a newer yes of the visitor brings the order back by itself."""
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"), consent=False)

    async with looking_at(kit) as client:
        page = await client.get(f"order?id={await event_of(kit, 'order-1')}")

    assert "The shop refused." in words(page)
    assert "Refused, by the shop's own word" in words(page)
    assert "Send it again" not in page.text


async def test_looking_changes_nothing(listed: World) -> None:
    """Every page, read twice, leaves each row as it was."""

    def rows(connection: Any) -> list[Any]:
        return [connection.execute(select(table)).all() for table in (deliveries, events, gates)]

    before = await listed.kit.store.read(rows)
    async with looking_at(listed.kit) as client:
        for page in ("", "orders", f"order?id={await event_of(listed.kit, 'order-2')}") * 2:
            assert (await client.get(page)).status_code == 200

    assert await listed.kit.store.read(rows) == before


# ---------------------------------------------------------------- hostile words


HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}<img src=x onerror=alert(1)>'


async def test_hostile_words_stay_words(tmp_path: Path) -> None:
    """Of a vendor, of a page's landing, of the shop's own goods and ids: text on every page."""
    async with world(tmp_path, AdRoll, Rokt) as shop, looking_at(shop.kit) as client:
        kit = shop.kit
        clicked = ClickId("adroll", "click", NOON)
        touch = Touchpoint(
            at=NOON,
            click_ids=(clicked,),
            url=f"https://shop.com/{HOSTILE}",
            utm={"utm_source": HOSTILE},
            referrer=f"https://[{HOSTILE}",
        )
        await kit.store.write(
            people.keep_touches, Touch(visitor=VISITOR, touchpoint=touch, first_party_cookie=None, consent=GRANTED)
        )
        await shop.order(HOSTILE, items=(Item(id=HOSTILE, name=HOSTILE),))
        await shop.drain()
        await change(kit, HOSTILE, "rokt", state="dead", reason=HOSTILE[:32], detail=HOSTILE)
        odd = Seen(
            destination="rokt", status=200, shape="x", sketch=HOSTILE, known=False, seen=1, first_at=NOON, last_at=NOON
        )
        await kit.store.write(keep_answers, [odd])
        event = await event_of(kit, HOSTILE)
        pages = [await client.get(page) for page in ("", "orders", f"order?id={event}", "orders?state=dead")]
        pages.append(await client.get("orders", params={"order": HOSTILE, "reason": HOSTILE, "destination": HOSTILE}))

    for page in pages:
        assert page.status_code == 200
        assert "<script" not in page.text
        assert "<img" not in page.text
        assert "49" not in re.sub(r"[0-9a-f-]{36}", "", words(page)).replace(HOSTILE, "")


# ---------------------------------------------------------------- PostgreSQL


@pytest.mark.usefixtures("both_engines")
async def test_both_databases_answer_alike(tmp_path: Path) -> None:
    """Every page, and a button, over SQLite and over PostgreSQL."""
    kit = make_kit(tmp_path, destinations=[adroll(), rokt()], clock=FrozenClock())
    await kit.ready()
    await kit.report(Conversion(order_id="order-1", value="5", currency="USD", email="jane@example.com"))
    event = await event_of(kit, "order-1")
    async with looking_at(kit) as client:
        overview, orders = words(await client.get("")), await client.get("orders?destination=rokt&state=pending")
        order = words(await client.get(f"order?id={event}"))
        await change(kit, "order-1", "rokt", state="dead", reason="rejected", settled_at=1)
        done = await client.post("replay", data={"event": event, "destination": "rokt", "state": "dead"})
        strange = await client.get("orders", params={"order": "\x00"})
    kit.store.close()

    assert "1 order was reported" in overview
    assert "E-mail 1 100 %" in overview
    assert orders_on(orders) == ["order-1"]
    assert "Rokt waiting" in order
    assert done.headers["location"].endswith("done=again")
    assert strange.status_code == 200
