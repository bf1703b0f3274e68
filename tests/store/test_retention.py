"""What the store lets go of and when, and what stays known: each kind of row, on both engines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from kit import ConfigurationError, Conversion, Kit, Retention
from kit.model import ClickId, Consent, DeliveryState, Identifiers, Touchpoint, VisitorId
from kit.sandbox import Sandbox
from kit.store import people, retention
from kit.store.overview import Told, told
from kit.store.people import OrderLink, Touch
from kit.store.retention import prune
from kit.store.tables import (
    attempts,
    conflicts,
    consents,
    deliveries,
    earlier_attempts,
    events,
    identities,
    links,
    orders,
    touchpoints,
)
from tests.support import FPC, NOON, FrozenClock, make_kit, rockerbox, rokt

DAY = timedelta(days=1)
VISITOR = VisitorId("v" * 22)
GRANTED = Consent(granted=True, signal="test", at=NOON)


@dataclass
class Shop:
    kit: Kit
    sandbox: Sandbox
    clock: FrozenClock

    async def order(self, number: int = 1, **fields: Any) -> bool:
        given = {"value": "19.90", "currency": "USD", "email": "jane@example.com", "first_name": "Jane", **fields}
        return (await self.kit.report(Conversion(order_id=f"order-{number}", **given), visitor=VISITOR)).new

    async def prune(self, given: Retention | None = None) -> None:
        while await prune(self.kit.store, given or Retention(), self.clock()):
            pass

    async def after(self, duration: timedelta) -> None:
        self.clock.passes(duration)
        await self.prune()

    async def rows(self) -> list[Told]:
        return await self.kit.store.read(lambda connection: told(connection))

    async def count(self, table: Any) -> int:
        query = select(func.count()).select_from(table)
        return await self.kit.store.read(lambda connection: connection.scalar(query) or 0)

    async def text(self) -> str:
        """Return all that is stored of events and of what repeats said."""
        return await self.kit.store.read(
            lambda connection: str([connection.execute(select(table)).all() for table in (events, conflicts)])
        )


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    async with sandbox.serving() as vendors:
        made = [rokt(base_url=vendors.rokt_url), rockerbox(base_url=vendors.rockerbox_url)]
        kit = make_kit(folder, destinations=made, clock=clock)
        try:
            yield Shop(kit, sandbox, clock)
        finally:
            kit.store.close()


pytestmark = pytest.mark.usefixtures("both_engines")


async def test_a_delivered_body_goes_after_seven_days_and_the_delivery_after_thirty(tmp_path: Path) -> None:
    """Each from the day when it was delivered; nothing goes a day before."""
    async with shop(tmp_path) as it:
        await it.order()
        await it.kit.worker.drain()

        await it.after(7 * DAY - timedelta(seconds=1))
        bodies = [bool(row.payload) for row in await it.rows()]
        await it.after(timedelta(seconds=2))
        later = [(row.state, row.payload) for row in await it.rows()]
        await it.after(23 * DAY - timedelta(seconds=2))
        kept = (await it.count(deliveries), await it.count(attempts))
        await it.after(timedelta(seconds=2))

        assert bodies == [True, True]
        assert later == [("delivered", None), ("delivered", None)]
        assert kept == (2, 2)
        assert [await it.count(table) for table in (deliveries, attempts, events)] == [0, 0, 1]


async def test_an_event_forgets_its_buyer_and_is_still_the_same_order(tmp_path: Path) -> None:
    """After thirty days: the order and its money, no person. A repeat is no new event, and tells nothing anew."""
    async with shop(tmp_path) as it:
        await it.order()
        await it.order(value="29.90", phone="+15551234567")
        await it.kit.worker.drain()
        assert "jane@example.com" in await it.text()

        await it.after(31 * DAY)
        left = await it.text()
        repeats = [await it.order(last_name="Doe"), await it.order(value="29.90")]
        await it.kit.worker.drain()

        assert "jane@example.com" not in left
        assert "Jane" not in left
        assert "15551234567" not in left
        assert VISITOR not in left
        assert '"value":"19.90"' in left
        assert repeats == [False, False]
        assert await it.text() != ""
        assert not {"jane@example.com", "Doe", VISITOR} & set((await it.text()).replace('"', " ").split())
        assert it.sandbox.rokt.counted == 1


async def test_an_order_is_known_for_400_days(tmp_path: Path) -> None:
    """Then its key goes too, with what repeats said differently."""
    async with shop(tmp_path) as it:
        await it.order()
        await it.kit.worker.drain()
        await it.after(31 * DAY)
        await it.order(value="29.90")

        await it.after(368 * DAY)
        known = await it.count(events)
        await it.after(2 * DAY)

        assert known == 1
        assert [await it.count(table) for table in (events, conflicts)] == [0, 0]


async def test_what_waits_is_never_removed(tmp_path: Path) -> None:
    """Pending for two years and under way for two years: still there, with its buyer and its body."""
    async with shop(tmp_path) as it:
        await it.order()
        it.sandbox.rokt.answers(503)
        it.sandbox.rockerbox.answers(503)
        await it.kit.worker.drain()

        await it.after(730 * DAY)

        assert [row.state for row in await it.rows()] == ["pending", "pending"]
        assert all(row.payload for row in await it.rows())
        assert "jane@example.com" in await it.text()


async def test_one_destination_that_waits_keeps_the_buyer_for_itself(tmp_path: Path) -> None:
    """Rokt is done and goes; Rockerbox still needs what the event knows."""
    async with shop(tmp_path) as it:
        await it.order()
        it.sandbox.rockerbox.answers(503)
        await it.kit.worker.drain()

        await it.after(31 * DAY)

        assert [(row.destination, row.state) for row in await it.rows()] == [("rockerbox", "pending")]
        assert "jane@example.com" in await it.text()


async def test_what_an_operator_has_to_decide_keeps_its_body_for_thirty_days(tmp_path: Path) -> None:
    """A dead delivery can be replayed, with its body, until it goes with its attempts."""
    async with shop(tmp_path) as it:
        it.sandbox.rokt.answers(400)
        await it.order()
        await it.kit.worker.drain()

        await it.after(29 * DAY)
        dead = [bool(row.payload) for row in await it.rows() if row.state == DeliveryState.DEAD]
        await it.after(2 * DAY)

        assert dead == [True]
        assert [await it.count(table) for table in (deliveries, attempts)] == [0, 0]


async def test_the_attempts_before_the_last_go_along(tmp_path: Path) -> None:
    """A delivery that was tried three times leaves nothing behind."""
    async with shop(tmp_path) as it:
        it.sandbox.rokt.answers(503, times=2)
        await it.order()
        for _ in range(3):
            await it.kit.worker.drain()
            it.clock.passes(timedelta(hours=2))
        assert await it.count(earlier_attempts) == 2

        await it.after(31 * DAY)

        assert [await it.count(table) for table in (deliveries, attempts, earlier_attempts)] == [0, 0, 0]


async def test_clicks_and_order_snapshots_go_after_ninety_days_people_after_four_hundred(tmp_path: Path) -> None:
    """An e-mail goes with the last link to it."""
    async with shop(tmp_path) as it:
        click = ClickId("rokt", "click", NOON)
        touch = Touch(visitor=VISITOR, touchpoint=Touchpoint(at=NOON, click_ids=(click,)), consent=GRANTED)
        await it.kit.store.write(people.keep_touches, touch)
        snapshot = Identifiers(visitor=VISITOR, first_party_cookie=FPC)
        await it.kit.store.write(
            people.keep_orders, OrderLink(order_id="order-1", identifiers=snapshot, consent=GRANTED)
        )
        await it.kit.identify(visitor=VISITOR, email="jane@example.com", customer_id="c-1")
        it.clock.passes(10 * DAY)
        await it.kit.identify(visitor=VisitorId("w" * 22), customer_id="c-1")

        await it.after(79 * DAY)
        at_89 = [await it.count(table) for table in (touchpoints, orders, links, identities)]
        await it.after(2 * DAY)
        at_91 = [await it.count(table) for table in (touchpoints, orders, consents, links, identities)]
        await it.after(310 * DAY)
        at_401 = [await it.count(table) for table in (consents, links, identities)]
        await it.after(10 * DAY)
        at_411 = [await it.count(table) for table in (consents, links, identities)]

        assert at_89 == [1, 1, 3, 2]
        assert at_91 == [0, 0, 2, 3, 2]
        assert at_401 == [1, 1, 1]
        assert at_411 == [0, 0, 0]


async def test_an_order_that_nobody_is_told_of_keeps_no_buyer(tmp_path: Path) -> None:
    """Without destinations there is nobody to send to: the order's key and its money, from the beginning."""
    kit = make_kit(tmp_path, destinations=[], clock=FrozenClock())
    first = await kit.report(Conversion(order_id="1", email="jane@example.com"), visitor=VISITOR)
    again = await kit.report(Conversion(order_id="1", email="jane@example.com"), visitor=VISITOR)
    stored = await kit.store.read(lambda connection: str(connection.execute(select(events)).all()))
    kit.store.close()

    assert (first.new, again.new) == (True, False)
    assert "jane@example.com" not in stored
    assert VISITOR not in stored


async def test_batches_are_small_and_two_workers_share_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve orders in batches of five, two workers at once: all is gone, no event keeps a buyer, nothing fails."""
    monkeypatch.setattr(retention, "BATCH", 5)
    monkeypatch.setattr(retention, "_ENDED_BATCH", 5)
    async with shop(tmp_path) as it:
        await asyncio.gather(*(it.order(number) for number in range(12)))
        await it.kit.worker.drain()
        it.clock.passes(31 * DAY)
        other = make_kit(tmp_path, destinations=it.kit.destinations, clock=it.clock)
        first = await prune(it.kit.store, Retention(), it.clock())
        bodies = [row.payload for row in await it.rows()]

        await asyncio.gather(it.prune(), Shop(other, it.sandbox, it.clock).prune())
        await it.prune()

        other.store.close()
        assert first
        assert bodies.count(None) == 5
        assert [await it.count(table) for table in (deliveries, attempts, events)] == [0, 0, 12]
        assert "jane@example.com" not in await it.text()


async def test_pruning_twice_changes_nothing(tmp_path: Path) -> None:
    """Nothing is left to do, and it says so."""
    async with shop(tmp_path) as it:
        await it.order()
        await it.kit.worker.drain()
        await it.after(31 * DAY)
        before = await it.text()

        more = await prune(it.kit.store, Retention(), it.clock())

        assert not more
        assert await it.text() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"deliveries": 13 * DAY}, r"retention\.deliveries: is shorter than 14 days"),
        ({"events": 13 * DAY}, r"retention\.events: is shorter than 14 days"),
        ({"touchpoints": DAY}, r"retention\.touchpoints: is shorter than 14 days"),
        ({"people": DAY}, r"retention\.people: is shorter than 14 days"),
        ({"payloads": -DAY}, r"retention\.payloads: is shorter than 0 days"),
        ({"events": 20 * DAY}, r"retention\.events: is shorter than retention\.deliveries"),
        ({"people": 60 * DAY}, r"retention\.people: is shorter than retention\.touchpoints"),
    ],
)
def test_a_retention_that_could_lose_something_is_refused_at_start(given: dict[str, timedelta], said: str) -> None:
    """Shorter than a delivery may be tried for: refused, naming the field."""
    with pytest.raises(ConfigurationError, match=said):
        Retention(**given)


@pytest.mark.usefixtures("both_engines")
async def test_a_page_view_goes_with_its_last_delivery(tmp_path: Path) -> None:
    """Nothing of it is worth keeping; an order keeps its money, and another goal its day."""
    clock = FrozenClock()
    kit = make_kit(tmp_path, destinations=[rockerbox(mode="shadow")], clock=clock)
    for name in ("page_view", "home_view", "signup_plan"):
        await kit.report(Conversion(name=name, email="jane@example.com"))
    await kit.report(Conversion(name="page_view", order_id="order-1", email="jane@example.com"))
    await kit.worker.drain()
    clock.passes(31 * DAY)
    while await prune(kit.store, Retention(), clock()):
        pass
    left = await kit.store.read(lambda connection: connection.execute(select(events.c.name, events.c.order_id)).all())
    kit.store.close()

    assert sorted(tuple(row) for row in left) == [("page_view", "order-1"), ("signup_plan", None)]
