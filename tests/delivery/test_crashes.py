"""What a worker that dies leaves behind: what is in doubt, who is suspected, and what is given up."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select, update

from kit.delivery.lease import LEASE
from kit.destinations import AdRoll, Rokt
from kit.store.attempts import Opening, open_attempts
from kit.store.outbox import Claim, Claimed, claim
from kit.store.tables import attempts, deliveries
from tests.delivery.world import FrozenSteady, World, lane_of, row_of, worker_of, world
from tests.support import eventually

pytestmark = pytest.mark.usefixtures("both_engines")


async def crashes(it: World, *, limit: int = 100) -> Sequence[Claimed]:
    """Let a worker claim, open one attempt for all that it claimed, and die."""
    asked = Claim(destination="rokt", limit=limit, owner="gone", lease=LEASE, now=it.clock())
    claimed = await it.kit.store.write(claim, asked)
    bodies = {one.delivery_id: b"{}" for one in claimed}
    opening = Opening(destination="rokt", deliveries=tuple(claimed), payloads=bodies, now=it.clock())
    assert await it.kit.store.write(open_attempts, opening) is not None
    it.clock.passes(LEASE + timedelta(seconds=1))
    await it.kit.worker.free_lapsed()
    # Whatever its backoff is by now.
    it.clock.passes(timedelta(minutes=5))
    return claimed


async def test_a_delivery_over_which_five_workers_died_is_given_up(tmp_path: Path) -> None:
    """dead(poison) after the fifth, with every attempt counted; nothing was sent by those who took over."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        seen = []

        for _ in range(5):
            await crashes(it)
            row = await row_of(it)
            seen.append((row.state, row.reason, row.crashes))

        assert seen == [("pending", None, crashed) for crashed in range(1, 5)] + [("dead", "poison", 5)]
        assert it.sandbox.rokt.requests == ()


async def test_a_crash_counts_only_where_an_attempt_was_open(tmp_path: Path) -> None:
    """What the dead worker had claimed and not begun is innocent."""
    async with world(tmp_path, Rokt) as it:
        await it.order("begun")
        asked = Claim(destination="rokt", limit=100, owner="gone", lease=LEASE, now=it.clock())
        await it.order("claimed")
        (begun, _) = await it.kit.store.write(claim, asked)
        opening = Opening(destination="rokt", deliveries=(begun,), payloads={begun.delivery_id: b"{}"}, now=it.clock())
        await it.kit.store.write(open_attempts, opening)
        it.clock.passes(LEASE + timedelta(seconds=1))

        await it.kit.worker.free_lapsed()

        assert ((await row_of(it, "begun")).crashes, (await row_of(it, "claimed")).crashes) == (1, 0)


async def test_one_attempt_of_many_deliveries_ends_once(tmp_path: Path) -> None:
    """Its outcome is unknown, written once; each of its deliveries has its own way on."""
    async with world(tmp_path, Rokt) as it:
        for number in range(3):
            await it.order(f"order-{number}")

        await crashes(it)

        found = await it.kit.store.read(lambda connection: connection.execute(select(attempts)).all())
        assert [(row.outcome, row.deliveries) for row in found] == [("unknown", 3)]
        assert {(row.state, row.attempts) for row in await it.rows()} == {("pending", 1)}


async def test_the_suspects_go_alone_and_the_others_in_one_request(tmp_path: Path) -> None:
    """Three crashes over a batch of four: each of the four by itself, beside a whole batch of new orders."""
    async with world(tmp_path, Rokt) as it:
        for number in range(4):
            await it.order(f"suspect-{number}")
        for _ in range(3):
            await crashes(it)
        for number in range(5):
            await it.order(f"new-{number}")
        lane = lane_of(it, FrozenSteady())

        found = await lane.claim()
        await asyncio.gather(*(lane.send(batch) for batch in found))
        await lane.aclose()

        assert sorted(len(request.events) for request in it.sandbox.rokt.requests) == [1, 1, 1, 1, 5]


async def test_money_that_cannot_be_told_from_its_repeat_is_held_however_often_it_crashed(tmp_path: Path) -> None:
    """Unknown at AdRoll is a person's to decide; it does not turn into poison."""
    async with world(tmp_path, AdRoll) as it:
        await it.order()
        await it.kit.store.write(_set_crashes, 4)
        asked = Claim(destination="adroll", limit=1, owner="gone", lease=LEASE, now=it.clock())
        (claimed,) = await it.kit.store.write(claim, asked)
        bodies = {claimed.delivery_id: b"{}"}
        opening = Opening(destination="adroll", deliveries=(claimed,), payloads=bodies, now=it.clock())
        await it.kit.store.write(open_attempts, opening)
        it.clock.passes(LEASE + timedelta(seconds=1))

        await it.kit.worker.free_lapsed()

        assert [(row.state, row.reason) for row in await it.rows()] == [("held", "outcome_unknown")]


def _set_crashes(connection: Connection, asked: Sequence[int]) -> Sequence[None]:
    connection.execute(update(deliveries).values(crashes=asked[0]))
    return [None]


def _one_by_one(connection: Connection, asked: Sequence[int]) -> Sequence[None]:
    connection.execute(update(deliveries).values(batch_limit=asked[0]))
    return [None]


@pytest.mark.parametrize(("name", "most"), [("purchase", 4), ("page_view", 12)])
async def test_at_most_four_orders_are_in_doubt_at_once(tmp_path: Path, name: str, most: int) -> None:
    """However many requests AdRoll may have under way: what one kill leaves unknown is four of its orders."""
    async with world(tmp_path, AdRoll, adroll={"max_in_flight": 12}) as it:
        fields = {"name": name} if name == "purchase" else {"name": name, "value": None, "currency": None}
        worker = worker_of(it, FrozenSteady(), drain=timedelta(0))
        await it.order("first", **fields)
        await worker.drain()
        it.sandbox.adroll.answers(delay=60, times=None)
        for number in range(30):
            await it.order(f"order-{number}", **fields)
        await it.kit.store.write(_one_by_one, 1)

        running = asyncio.create_task(worker.run())
        await eventually(lambda: len(it.sandbox.adroll.requests) >= 1 + most)
        query = select(func.count()).select_from(attempts).where(attempts.c.outcome == "open")
        opened = await it.kit.store.read(lambda connection: connection.scalars(query).one())
        worker.stop()
        await running

        assert opened == most
        assert len(it.sandbox.adroll.requests) == 1 + most
