"""What an operator asks of a large outbox: counted and put back a little at a time, with the same answers."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from kit import Conversion, Kit
from kit.model import DeliveryState
from kit.store import overview
from kit.store.outbox import Claim, claim
from kit.store.overview import Replay, Resolve, replay, resolve, standings, told
from kit.store.rows import milliseconds
from kit.store.tables import deliveries
from tests.support import NOON, FrozenClock, make_kit, rockerbox, rokt

pytestmark = pytest.mark.usefixtures("both_engines", "small_steps")
DAY = timedelta(days=1)


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three keys a read, two deliveries a write."""
    monkeypatch.setattr(overview, "RANGE", 3)
    monkeypatch.setattr(overview, "REPLAYED", 2)


@pytest.fixture
async def shop(tmp_path: Path, both_engines: None) -> Kit:
    """A day apart, seven orders that two shadow destinations skipped; and two that wait."""
    clock = FrozenClock()
    kit = make_kit(tmp_path, destinations=[rokt(mode="shadow"), rockerbox(mode="shadow")], clock=clock)
    for number in range(7):
        await kit.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
        await kit.worker.drain()
        clock.passes(DAY)
    await kit.report(Conversion(order_id="order-7", email="jane@example.com"))
    return kit


async def states(kit: Kit) -> list[str]:
    def read(connection: Connection) -> list[str]:
        return list(connection.scalars(select(deliveries.c.state).order_by(deliveries.c.id)))

    return await kit.store.read(read)


async def test_standings_count_every_delivery_once(shop: Kit) -> None:
    """Over the borders of the ranges, with a gap where rows were removed."""
    gone = [1, 2, 3, 4]
    await shop.store.write(
        lambda connection, asked: [connection.execute(deliveries.delete().where(deliveries.c.id.in_(gone)))], None
    )

    found = await asyncio.to_thread(standings, shop.store)

    shop.store.close()
    assert {one.destination: one.counts for one in found} == {
        "rockerbox": {("skipped", "shadow"): 5, ("pending", None): 1},
        "rokt": {("skipped", "shadow"): 5, ("pending", None): 1},
    }
    assert {one.oldest_pending for one in found} == {NOON + 7 * DAY}


async def test_a_replay_puts_back_all_of_it_once(shop: Kit) -> None:
    """In writes of two deliveries; the second time nothing is left."""
    asked = Replay(state=DeliveryState.SKIPPED, destination="rokt", now=NOON)

    numbers = [await asyncio.to_thread(replay, shop.store, asked) for _ in range(2)]

    found = await states(shop)
    shop.store.close()
    assert numbers == [7, 0]
    assert found == ["pending", "skipped"] * 7 + ["pending", "pending"]


async def test_a_replay_takes_only_what_ended_in_its_time(shop: Kit) -> None:
    """From the second day, that day included, to the fourth, that one not."""
    asked = Replay(
        state=DeliveryState.SKIPPED, reason="shadow", since=NOON + 2 * DAY, until=NOON + 4 * DAY, now=NOON + 9 * DAY
    )

    number = await asyncio.to_thread(replay, shop.store, asked)

    found = await states(shop)
    shop.store.close()
    assert number == 4
    assert found == ["skipped"] * 4 + ["pending"] * 4 + ["skipped"] * 6 + ["pending"] * 2


async def test_a_replay_never_touches_what_moved_on_since_it_was_found(shop: Kit) -> None:
    """Two people press at once, and a worker claims in between: nothing is put back twice."""
    asked = Replay(state=DeliveryState.SKIPPED, now=NOON)
    chunks = list(overview._chunks(shop.store, asked))
    first = await asyncio.to_thread(replay, shop.store, asked)
    claiming = Claim(destination="rokt", limit=100, owner="worker", lease=DAY, now=NOON + 9 * DAY)
    claimed = await shop.store.write(claim, claiming)

    late = [await shop.store.write(overview._put_back, chunk) for chunk in chunks]

    found = await states(shop)
    shop.store.close()
    assert (first, sum(late), len(claimed)) == (14, 0, 8)
    assert found == ["claimed", "pending"] * 8


async def test_an_empty_store_has_no_standing(tmp_path: Path) -> None:
    """Nothing was reported: nothing is counted, nothing put back."""
    kit = make_kit(tmp_path)

    found = await asyncio.to_thread(standings, kit.store)
    number = await asyncio.to_thread(replay, kit.store, Replay(now=NOON))

    kit.store.close()
    assert (found, number) == ([], 0)


async def test_what_is_put_back_is_tried_as_if_it_were_new(tmp_path: Path) -> None:
    """After more than the two weeks of retries: an operator's word begins a series of its own, by either command."""
    kit, now = make_kit(tmp_path), NOON + timedelta(days=40)
    await kit.ready()
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
    await kit.report(Conversion(name="signup_plan", event_id="event-2", value="5", currency="USD"))
    ended = deliveries.update().values(state="held", reason="outcome_unknown", settled_at=0, created_at=0)
    await kit.store.write(lambda connection, asked: [connection.execute(ended) and None for _ in asked], None)

    resent = await kit.store.write(resolve, Resolve(order_id="event-2", destination="rokt", delivered=False, now=now))
    replayed = await asyncio.to_thread(replay, kit.store, Replay(order_id="order-1", state=DeliveryState.HELD, now=now))
    rows = await kit.store.read(lambda connection: connection.execute(select(deliveries)).all())
    named = await kit.store.read(lambda connection: told(connection, order_id="event-2"))
    kit.store.close()

    assert (resent, replayed) == (1, 3)
    pending = [row for row in rows if row.state == "pending"]
    assert [row.created_at for row in pending] == [milliseconds(now)] * 4
    assert {one.event_id for one in named} == {"event-2"}
