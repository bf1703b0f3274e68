"""Vendors that are away for weeks, hang, or ask for time in every way there is, on a clock that a test holds."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kit import Conversion
from kit.delivery.retry import LONGEST_THROTTLE
from kit.destinations import AdRoll, Rockerbox, Rokt
from kit.model import HORIZON
from kit.store.rows import moment
from kit.store.tables import gates
from tests.delivery.world import FrozenSteady, World, worker_of, world
from tests.support import eventually

HOUR = timedelta(hours=1)


async def orders(it: World, numbers: range, *, name: str = "purchase") -> None:
    given = [
        Conversion(name=name, order_id=f"order-{n}", value="19.90", currency="USD", email=f"{n}@example.com")
        for n in numbers
    ]
    await asyncio.gather(*(it.kit.report(one) for one in given))


async def states(it: World) -> dict[tuple[str, str | None], int]:
    return (await it.standing()).counts


@pytest.mark.usefixtures("both_engines")
async def test_two_weeks_of_503_lose_nothing_and_keep_the_order(tmp_path: Path) -> None:
    """N16: 1,200 conversions and 13.9 days; none is dead, few are asked about, and refunds come after purchases."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(503, times=None)
        await orders(it, range(1_000))
        await orders(it, range(200), name="refund")
        ends = it.clock() + HORIZON - 2 * HOUR
        while it.clock() < ends:
            await it.drain()
            it.clock.passes(6 * HOUR)
        it.clock.now = ends
        assert await states(it) == {("pending", None): 1_200}
        asked = len(it.sandbox.rokt.requests)

        it.sandbox.rokt.clear_faults()
        while ("pending", None) in await states(it):
            await it.drain()
            it.clock.passes(timedelta(minutes=10))
            assert it.clock() < ends + 2 * HOUR

        assert await states(it) == {("delivered", None): 1_200}
        # One request asks for all of them: no batch of the others burns its tries meanwhile.
        assert asked < 1_200
        assert it.sandbox.rokt.counted == 1_200
        came = [
            (str(it.sandbox.rokt.order_of(event)), "refund" in str(event).lower()) for event in it.sandbox.rokt.accepted
        ]
        refunded = [order for order, is_refund in came if is_refund]
        assert len(refunded) == 200
        assert all(came.index((order, False)) < came.index((order, True)) for order in refunded)


async def test_one_vendor_that_hangs_holds_nobody_else_up(tmp_path: Path) -> None:
    """N22: AdRoll accepts and never answers; a running worker delivers all to the two others meanwhile."""
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as it:
        it.sandbox.adroll.answers(delay=60, times=None)
        worker = worker_of(it, FrozenSteady(), drain=timedelta(0))
        for number in range(50):
            await it.order(f"order-{number}")
        running = asyncio.create_task(worker.run())

        await eventually(lambda: it.sandbox.rokt.counted == it.sandbox.rockerbox.counted == 50)

        assert 1 <= len(it.sandbox.adroll.requests) <= 4
        worker.stop()
        await running


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize(
    ("status", "headers", "least"),
    [
        (429, [("Retry-After", "0")], timedelta(seconds=2)),
        (429, [("Retry-After", "7")], timedelta(seconds=7)),
        (503, [("Retry-After", "3600")], HOUR),
        (429, [("Retry-After", "Thu, 15 Jan 2026 12:30:00 GMT")], timedelta(minutes=30)),
        (429, [("Retry-After", "1e9")], timedelta(hours=24)),
        (429, [("Retry-After", "-1")], timedelta(seconds=2)),
        (429, [("Retry-After", "NaN")], timedelta(seconds=2)),
        (429, [("Retry-After", "soon")], timedelta(seconds=2)),
        (429, [], timedelta(seconds=2)),
        (429, [("Retry-After", "60"), ("Retry-After", "90")], timedelta(seconds=60)),
    ],
)
async def test_a_storm_of_429_is_one_request_for_each_time_it_asks_for(
    tmp_path: Path, status: int, headers: list[tuple[str, str]], least: timedelta
) -> None:
    """N15: never early, at most a tenth late, a day at the longest; one probe when it is over, no try burnt."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(status, headers=headers, times=2)
        await orders(it, range(30))
        await it.drain()
        until = moment(await it.kit.store.read(lambda connection: connection.scalars(select(gates.c.until)).one()))
        now = it.clock()
        assert least <= until - now <= min(least * 1.1, LONGEST_THROTTLE)

        it.clock.now = until - timedelta(milliseconds=1)
        await it.drain()
        early = len(it.sandbox.rockerbox.requests)
        it.clock.now = until
        await it.drain()
        on_time = len(it.sandbox.rockerbox.requests)
        it.clock.passes(timedelta(days=2))
        await it.drain()

        assert (early, on_time, it.sandbox.rockerbox.counted) == (1, 2, 30)
        assert {(row.state, row.attempts) for row in await it.rows()} == {("delivered", 1)}
