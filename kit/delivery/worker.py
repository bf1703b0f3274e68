"""The worker: one lane for each destination, until it is told to stop."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from kit.delivery.batch import named
from kit.delivery.credential import Credential
from kit.delivery.lane import Lane
from kit.delivery.lease import LEASE, Steady, steady_now
from kit.delivery.owner import this_process
from kit.delivery.pace import Pace
from kit.delivery.retry import Dice
from kit.destinations.base import Destination
from kit.errors import StoreUnavailable
from kit.model import Clock, Consent
from kit.store import Store
from kit.store.retention import Retention, prune

log = logging.getLogger("kit")

#: How often an idle worker looks for deliveries that another process reported.
POLL = timedelta(seconds=1)
#: How often a worker looks for what dead workers hold, and after how long it renews its own leases.
SWEEP = timedelta(seconds=1)
RENEW = LEASE / 3
#: How long what is under way may take after a stop, and how long its outcome may then take to be written.
DRAIN = timedelta(seconds=13)
LAST_WORDS = timedelta(seconds=2)
#: How often it is said that the store does not answer.
SAY_AGAIN = timedelta(minutes=1)
#: How long the store is left alone between two batches of what it no longer needs, and when nothing is left of it.
PRUNE_ON, PRUNE_AGAIN = timedelta(milliseconds=50), timedelta(minutes=1)

_Result = TypeVar("_Result")


class Worker:
    """Delivers for a set of destinations until stopped. Any number may run, in any number of processes."""

    def __init__(
        self,
        *,
        store: Store,
        destinations: Sequence[Destination],
        may_send: Callable[[Consent], bool],
        retention: Retention,
        clock: Clock,
        steady: Steady = steady_now,
        dice: Dice = random.random,
        drain: timedelta = DRAIN,
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._may_send = may_send
        self._retention = retention
        self._host_clock = clock
        self._steady = steady
        self._dice = dice
        self._drain = drain
        self._paces = {destination.name: Pace() for destination in destinations}
        self._credentials = {destination.name: Credential() for destination in destinations}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: dict[str, asyncio.Event] = {}
        self._room: dict[str, asyncio.Event] = {}
        self._say_again = float("-inf")
        self._stopping = False
        self._stop = asyncio.Event()

    def wake(self) -> None:
        """Say that there is work. May be called from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._ring)

    def stop(self) -> None:
        """Claim nothing more; `run` returns when what is under way is settled."""
        self._stopping = True
        self.wake()
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end)

    async def run(self) -> None:
        """Deliver until `stop`, then finish what is under way, for at most 15 seconds."""
        self._loop = asyncio.get_running_loop()
        self._work = {destination.name: asyncio.Event() for destination in self._destinations}
        self._room = {destination.name: asyncio.Event() for destination in self._destinations}
        async with asyncio.TaskGroup() as lanes:
            lanes.create_task(self._prune(), name="kit-prune")
            for destination in self._destinations:
                lanes.create_task(self._run_lane(destination), name=f"kit-{destination.name}")
        # Not at the beginning: a stop may come before the first step.
        self._stopping, self._stop = False, asyncio.Event()

    async def drain(self) -> None:
        """Deliver all that is due now, then return. For tests and one-shot jobs."""
        for destination in self._destinations:
            async with self._lane(destination) as lane:
                while batches := await lane.claim():
                    await asyncio.gather(*(lane.send(batch) for batch in batches))

    async def free_lapsed(self) -> None:
        """Take over what other workers held past their leases."""
        for destination in self._destinations:
            async with self._lane(destination) as lane:
                await lane.free_lapsed()

    def _now(self) -> datetime:
        """Return the time by the clock that all workers of this store share."""
        return self._host_clock() + self._store.offset

    def _end(self) -> None:
        self._stop.set()
        for event in self._room.values():
            event.set()

    def _ring(self) -> None:
        for event in self._work.values():
            event.set()

    @contextlib.asynccontextmanager
    async def _lane(self, destination: Destination) -> AsyncIterator[Lane]:
        lane = Lane(
            destination,
            store=self._store,
            may_send=self._may_send,
            clock=self._now,
            steady=self._steady,
            dice=self._dice,
            owner=this_process(),
            pace=self._paces[destination.name],
            credential=self._credentials[destination.name],
        )
        try:
            yield lane
        finally:
            await lane.aclose()

    async def _run_lane(self, destination: Destination) -> None:
        tasks = set[asyncio.Task[None]]()
        async with self._lane(destination) as lane:
            try:
                await self._work_lane(lane, destination, tasks)
                await self._guarded(lane.stop(), destination)
                await _ended(tasks, within=self._drain)
                # Closed under them, the requests that still wait for an answer end as unknown, and say so.
                await lane.aclose()
                await _ended(tasks, within=LAST_WORDS)
            finally:
                for task in tasks:
                    task.cancel()

    async def _work_lane(self, lane: Lane, destination: Destination, tasks: set[asyncio.Task[None]]) -> None:
        """Claim and send until stopped; `tasks` are what is under way meanwhile."""

        room, work = self._room[destination.name], self._work[destination.name]

        def ended(task: asyncio.Task[None]) -> None:
            tasks.discard(task)
            room.set()
            # What waited for it, as a refund for its purchase, may be due now.
            work.set()

        def begin(work: Coroutine[None, None, None]) -> None:
            task = asyncio.create_task(work)
            tasks.add(task)
            task.add_done_callback(ended)

        begin(self._tend(lane))
        while not self._stopping:
            batches = await self._guarded(lane.claim(), destination) or []
            for batch in batches:
                begin(self._guarded(lane.send(batch), destination))
            while len(tasks) > destination.max_in_flight and not self._stopping:
                room.clear()
                await room.wait()
            if not batches:
                await self._idle(destination)

    async def _tend(self, lane: Lane) -> None:
        """Sweep and renew while the lane works, however long its requests take."""
        renewed = self._steady()
        while not self._stopping:
            await self._guarded(self._store.measure_clock(), lane.destination)
            await self._guarded(lane.sweep(), lane.destination)
            begins = self._steady()
            if begins - renewed >= RENEW.total_seconds() and await self._guarded(lane.renew(), lane.destination):
                renewed = begins
            await self._pause(SWEEP)

    async def _prune(self) -> None:
        """Let go of what the store has kept for long enough, in steps that leave room for others."""
        while not self._stopping:
            more = await self._guarded(prune(self._store, self._retention, self._now()))
            await self._pause(PRUNE_ON if more else PRUNE_AGAIN)

    async def _pause(self, length: timedelta) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(length.total_seconds()):
                await self._stop.wait()

    async def _idle(self, destination: Destination) -> None:
        work = self._work[destination.name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL.total_seconds()):
                await work.wait()
        work.clear()

    async def _guarded(self, work: Awaitable[_Result], destination: Destination | None = None) -> _Result | None:
        """Await the work. What goes wrong in it must not end the lane: leases lapse, and the rows are found again."""
        try:
            return await work
        except StoreUnavailable:
            # Not once a second for each lane, while an outage lasts.
            if self._steady() >= self._say_again:
                self._say_again = self._steady() + SAY_AGAIN.total_seconds()
                log.warning("the store does not answer; the worker tries again", extra=named(destination))
        except Exception as error:  # noqa: BLE001 - the outermost loop: nothing may end it
            log.error("the worker met something unforeseen", extra=named(destination, error=error))
        await asyncio.sleep(POLL.total_seconds())
        return None


async def _ended(tasks: set[asyncio.Task[None]], *, within: timedelta) -> None:
    if tasks:
        await asyncio.wait(tasks, timeout=within.total_seconds())
