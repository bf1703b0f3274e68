"""How long a claim is ours: renewed while its worker lives, checked on two clocks at the write, and pulled back."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from kit.delivery.lease import LEASE
from kit.destinations import Rockerbox, Rokt
from kit.store.outbox import Claim, claim
from kit.store.overview import Pause, pause
from tests.delivery.world import FrozenSteady, World, lane_of, row_of, worker_of, world
from tests.support import NOON, eventually

pytestmark = pytest.mark.usefixtures("both_engines")


def passes(it: World, steady: FrozenSteady, seconds: float) -> None:
    it.clock.passes(timedelta(seconds=seconds))
    steady.passes(timedelta(seconds=seconds))


async def test_what_a_living_worker_holds_is_renewed_and_sent(tmp_path: Path) -> None:
    """75 s after the claim, 45 after a renewal: nobody takes it over, and the write goes by the renewed lease."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        steady = FrozenSteady()
        lane = lane_of(it, steady)
        (batch,) = await lane.claim()

        passes(it, steady, 30)
        await lane.renew()
        passes(it, steady, 45)
        await it.kit.worker.free_lapsed()
        await lane.send(batch)
        await lane.aclose()

        assert it.sandbox.rokt.counted == 1
        assert [row.state for row in await it.rows()] == ["delivered"]


async def test_what_was_not_renewed_is_not_sent(tmp_path: Path) -> None:
    """At 49 s of 70 a request could outlast the lease: it is handed back and sent by the next claim."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        steady = FrozenSteady()
        lane = lane_of(it, steady)
        (batch,) = await lane.claim()

        passes(it, steady, 49)
        await lane.send(batch)
        await lane.aclose()

        assert it.sandbox.rokt.requests == ()
        assert [(row.state, row.attempts) for row in await it.rows()] == [("pending", 0)]


async def test_what_another_worker_took_over_is_neither_renewed_nor_sent(tmp_path: Path) -> None:
    """A worker that froze past its lease comes back: its token renews nothing, and its batch is not sent."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        frozen, other = FrozenSteady(), FrozenSteady()
        lane, taking = lane_of(it, frozen), lane_of(it, other)
        (batch,) = await lane.claim()
        it.clock.passes(timedelta(seconds=71))
        await taking.free_lapsed()
        (theirs,) = await taking.claim()

        await lane.renew()
        await lane.send(batch)
        sent_by_the_first = len(it.sandbox.rokt.requests)
        await taking.send(theirs)

        await lane.aclose()
        await taking.aclose()
        assert (sent_by_the_first, it.sandbox.rokt.counted) == (0, 1)
        assert [(row.state, row.attempts) for row in await it.rows()] == [("delivered", 1)]


async def test_a_wall_clock_set_back_does_not_prolong_a_lease(tmp_path: Path) -> None:
    """An hour back, 71 s later: by the wall clock the lease has an hour left; the steady one knows better."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        steady = FrozenSteady()
        lane = lane_of(it, steady)
        (batch,) = await lane.claim()

        it.clock.passes(timedelta(hours=-1))
        passes(it, steady, 71)
        await lane.send(batch)
        await lane.aclose()

        assert it.sandbox.rokt.requests == ()


class FrozenAtTheWrite(FrozenSteady):
    """Leaps past a lease when it is read for the third time: after the claim and the check before the attempt."""

    reads = 0

    def __call__(self) -> float:
        self.reads += 1
        return super().__call__() + (71 if self.reads >= 3 else 0)


async def test_a_lease_lost_between_the_attempt_and_the_write_sends_no_byte(tmp_path: Path) -> None:
    """The attempt is open and the worker freezes before the write: not sent, nothing counted, nothing gated."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        lane = lane_of(it, FrozenAtTheWrite())
        (batch,) = await lane.claim()

        await lane.send(batch)
        await lane.aclose()

        row = await row_of(it)
        assert it.sandbox.rokt.requests == ()
        assert (row.state, row.attempts, row.outcome, row.detail) == ("pending", 0, "not_sent", "LeaseLost")
        assert (await it.standing()).gate is None


async def test_a_running_worker_renews_while_its_requests_take_their_time(tmp_path: Path) -> None:
    """A third of the lease has passed with a request under way: the stored lease moves with it."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(delay=60, times=None)
        await it.order()
        steady = FrozenSteady()
        worker = worker_of(it, steady, drain=timedelta(0))
        running = asyncio.create_task(worker.run())
        await eventually(lambda: len(it.sandbox.rockerbox.requests) == 1)

        claimed_until = (await row_of(it)).lease_until
        passes(it, steady, 24)

        async def renewed() -> bool:
            return bool((await row_of(it)).lease_until > claimed_until + 20_000)

        await eventually(renewed)
        worker.stop()
        await running


async def test_times_that_a_stepped_clock_left_in_the_future_are_pulled_back(tmp_path: Path) -> None:
    """Retried, claimed and gated with the clock a year ahead: all of it is delivered in little more than an hour."""
    async with world(tmp_path, Rokt, Rockerbox) as it:
        it.clock.passes(timedelta(days=365))
        it.sandbox.rokt.answers(503)
        it.sandbox.rockerbox.answers(401)
        await it.order(time=NOON)
        await it.drain()
        await it.order("claimed", time=NOON)
        asked = Claim(destination="rokt", limit=10, owner="gone", lease=LEASE, now=it.clock())
        assert [one.conversion.order_id for one in await it.kit.store.write(claim, asked)] == ["claimed"]

        it.clock.passes(timedelta(days=-365))
        lanes = [lane_of(it, FrozenSteady(), place=place) for place in (0, 1)]
        for minutes in (0, 2, 0, 61):
            it.clock.passes(timedelta(minutes=minutes))
            for lane in lanes:
                await lane.sweep()
        await it.drain()

        for lane in lanes:
            await lane.aclose()
        assert (it.sandbox.rokt.counted, it.sandbox.rockerbox.counted) == (2, 2)


async def test_a_pause_by_an_operator_is_not_pulled_back(tmp_path: Path) -> None:
    """`kit pause` holds until `kit resume`, however far away that is."""
    async with world(tmp_path, Rokt) as it:
        await it.kit.store.write(pause, Pause(destination="rokt", reason="", now=it.clock()))
        await it.order()
        lane = lane_of(it, FrozenSteady())

        await lane.sweep()
        it.clock.passes(timedelta(days=2))
        await it.drain()
        await lane.aclose()

        assert it.sandbox.rokt.requests == ()


async def test_a_clock_set_forward_sends_nothing_twice(tmp_path: Path) -> None:
    """An hour ahead under a claim: what is not sent yet goes back, what is under way is another's to judge, once."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        steady = FrozenSteady()
        lane, other = lane_of(it, steady), lane_of(it, FrozenSteady())
        (batch,) = await lane.claim()

        it.clock.passes(timedelta(hours=1))
        await other.sweep()
        await lane.send(batch)
        await it.drain()
        await lane.aclose()
        await other.aclose()

        assert len(it.sandbox.rokt.requests) == it.sandbox.rokt.counted == 1
