"""The worker: one lane for each destination, until it is told to stop."""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar

from kit.delivery.lane import Lane, named
from kit.delivery.owner import this_process
from kit.delivery.retry import Dice
from kit.destinations.base import Destination
from kit.errors import StoreUnavailable
from kit.model import Clock, Consent
from kit.store import Store

log = logging.getLogger("kit")

#: How often an idle worker looks for deliveries that another process reported.
POLL = timedelta(seconds=1)
#: How often a worker looks for what dead workers hold.
SWEEP = timedelta(seconds=1)
DRAIN = timedelta(seconds=15)

_Result = TypeVar("_Result")


class Worker:
    """Delivers for a set of destinations until stopped. Any number may run, in any number of processes."""

    def __init__(
        self,
        *,
        store: Store,
        destinations: Sequence[Destination],
        may_send: Callable[[Consent], bool],
        clock: Clock,
        dice: Dice = random.random,
    ) -> None:
        self._store = store
        self._destinations = destinations
        self._may_send = may_send
        self._clock = clock
        self._dice = dice
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: dict[str, asyncio.Event] = {}
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
            self._loop.call_soon_threadsafe(self._stop.set)

    async def run(self) -> None:
        """Deliver until `stop`, then finish what is under way, for at most 15 seconds."""
        self._loop = asyncio.get_running_loop()
        self._work = {destination.name: asyncio.Event() for destination in self._destinations}
        async with asyncio.TaskGroup() as lanes:
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

    def _ring(self) -> None:
        for event in self._work.values():
            event.set()

    @contextlib.asynccontextmanager
    async def _lane(self, destination: Destination) -> AsyncIterator[Lane]:
        lane = Lane(
            destination,
            store=self._store,
            may_send=self._may_send,
            clock=self._clock,
            dice=self._dice,
            owner=this_process(),
        )
        try:
            yield lane
        finally:
            await lane.aclose()

    async def _run_lane(self, destination: Destination) -> None:
        under_way = set[asyncio.Task[None]]()
        swept = self._clock() - SWEEP
        async with self._lane(destination) as lane:
            while not self._stopping:
                if self._clock() - swept >= SWEEP:
                    swept = self._clock()
                    await self._guarded(lane.free_lapsed(), destination)
                batches = await self._guarded(lane.claim(), destination) or []
                for batch in batches:
                    task = asyncio.create_task(self._guarded(lane.send(batch), destination))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                while len(under_way) >= destination.max_in_flight and not self._stopping:
                    stopped = asyncio.create_task(self._stop.wait())
                    await asyncio.wait({*under_way, stopped}, return_when=asyncio.FIRST_COMPLETED)
                    stopped.cancel()
                if not batches:
                    await self._idle(destination)
            lane.stop()
            if under_way:
                await asyncio.wait(under_way, timeout=DRAIN.total_seconds())

    async def _idle(self, destination: Destination) -> None:
        work = self._work[destination.name]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POLL.total_seconds()):
                await work.wait()
        work.clear()

    async def _guarded(self, work: Awaitable[_Result], destination: Destination) -> _Result | None:
        """Await the work. What goes wrong in it must not end the lane: leases lapse, and the rows are found again."""
        try:
            return await work
        except StoreUnavailable:
            log.warning("the store does not answer; the worker tries again", extra=named(destination))
        except Exception as error:  # noqa: BLE001 - the outermost loop: nothing may end it
            log.error("the worker met something unforeseen", extra=named(destination, error=error))
        await asyncio.sleep(POLL.total_seconds())
        return None
