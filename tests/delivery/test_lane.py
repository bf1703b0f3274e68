"""How a lane uses the store: what it writes together, what it waits for, and how much it takes at once."""

import asyncio
from pathlib import Path
from typing import Any, cast

from sqlalchemy import func, select

from kit.delivery.batch import Ready
from kit.delivery.lane import Lane
from kit.delivery.pace import Pace
from kit.destinations import AdRoll, Rockerbox
from kit.errors import StoreUnavailable
from kit.store import Store
from kit.store.attempts import close, open_attempts
from kit.store.tables import attempts
from tests.support import eventually

from .world import FrozenSteady, World, world


class Watched:
    """A store that tells what was asked of it, and refuses to write outcomes while the test says so."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.asked: list[str] = []
        self.refuses = False
        self.may_close = asyncio.Event()
        self.may_close.set()

    async def write(self, verb: Any, argument: Any) -> Any:
        name = {open_attempts: "open", close: "close"}.get(verb, "")
        self.asked.append(name)
        if self.refuses and verb is close:
            raise StoreUnavailable("a test")
        if verb is close:
            await self.may_close.wait()
        answer = await self.store.write(verb, argument)
        self.asked.append(f"{name} done")
        return answer


def lane_on(it: World, store: Watched) -> Lane:
    """Return a lane that has seen its vendor answer."""
    pace = Pace()
    pace.proven = True
    return Lane(
        it.kit.destinations[0],
        store=cast("Store", store),
        may_send=it.kit.intake.may_keep,
        clock=it.clock,
        steady=FrozenSteady(),
        dice=lambda: 0.5,
        owner="this test",
        pace=pace,
    )


async def claimed(it: World, lane: Lane, orders: range, **fields: Any) -> list[list[Ready]]:
    for number in orders:
        await it.order(f"order-{number}", **fields)
    return await lane.claim()


async def test_an_outcome_is_written_together_with_the_next_opening(tmp_path: Path) -> None:
    """The next request is opened right after the answer's outcome was handed over, not only when that is committed."""
    async with world(tmp_path, Rockerbox, rockerbox={"max_in_flight": 1}) as it:
        store = Watched(it.kit.store)
        lane = lane_on(it, store)
        batches = await claimed(it, lane, range(2))
        store.asked.clear()

        await asyncio.gather(*(lane.send(batch) for batch in batches))

        await lane.aclose()
        assert store.asked[:5] == ["open", "open done", "close", "open", "close done"]
        assert [row.state for row in await it.rows()] == ["delivered"] * 2


async def test_no_fifth_order_is_in_doubt_while_an_outcome_is_on_its_way(tmp_path: Path) -> None:
    """Its opening goes along with the outcome of the one before it, and is refused where that did not arrive."""
    async with world(tmp_path, AdRoll, adroll={"max_in_flight": 12}) as it:
        store = Watched(it.kit.store)
        lane = lane_on(it, store)
        batches = await claimed(it, lane, range(6))
        store.asked.clear()
        store.may_close.clear()

        sending = [asyncio.create_task(lane.send(batch)) for batch in batches]
        await eventually(lambda: store.asked.count("close") == 4)
        await eventually(lambda: store.asked.count("open done") == 6)
        query = select(func.count()).select_from(attempts).where(attempts.c.outcome == "open")
        opened = await it.kit.store.read(lambda connection: connection.scalars(query).one())
        meanwhile = len(it.sandbox.adroll.requests)
        store.may_close.set()
        await asyncio.gather(*sending)

        await lane.aclose()
        assert (opened, meanwhile, len(it.sandbox.adroll.requests)) == (4, 4, 6)
        assert [(row.state, row.attempts) for row in await it.rows()] == [("delivered", 1)] * 6


async def test_nothing_begins_while_an_outcome_cannot_be_written(tmp_path: Path) -> None:
    """The store is gone: what waits keeps waiting, instead of failing one by one; then it goes on."""
    async with world(tmp_path, Rockerbox) as it:
        store = Watched(it.kit.store)
        lane = lane_on(it, store)
        first, second = await claimed(it, lane, range(2))
        store.refuses = True
        begun = asyncio.create_task(lane.send(first))
        await eventually(lambda: "close" in store.asked)

        waiting = asyncio.create_task(lane.send(second))
        await asyncio.sleep(0.1)
        meanwhile = len(it.sandbox.rockerbox.requests)
        store.refuses = False
        await asyncio.gather(begun, waiting)

        await lane.aclose()
        assert (meanwhile, len(it.sandbox.rockerbox.requests)) == (1, 2)
        assert [row.state for row in await it.rows()] == ["delivered"] * 2


async def test_what_goes_one_by_one_is_not_claimed_long_before_it_is_sent(tmp_path: Path) -> None:
    """Other workers find some of it too; what fills a request together is claimed by hundreds."""
    async with world(tmp_path, AdRoll, adroll={"max_in_flight": 1}) as it:
        lane = lane_on(it, Watched(it.kit.store))
        views = {"name": "page_view", "value": None, "currency": None}

        sizes = [
            [len(batch) for batch in await claimed(it, lane, orders, **fields)]
            for orders, fields in ((range(6), {}), (range(6, 12), {}), (range(12, 18), views), (range(18, 24), views))
        ]

        await lane.aclose()
        assert sizes == [[1] * 6, [1] * 4, [1] * 2 + [2], [10]]
