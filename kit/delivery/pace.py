"""How fast a lane goes: one request at a time until the vendor judged one, then side by side; a rest when many fail."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from kit.model import Verdict

#: The vendor looked at the deliveries themselves.
JUDGED = frozenset({Verdict.OK, Verdict.INVALID, Verdict.OVERSIZE})
_FAILED = frozenset({Verdict.NOT_SENT, Verdict.TRANSIENT, Verdict.UNKNOWN})

_WINDOW = 20
_FEWEST = 10


class Pace:
    """What one worker has seen of one vendor. `proven` says that it judged a request since a gate was last closed."""

    def __init__(self) -> None:
        self.proven = False
        self._failed: deque[bool] = deque(maxlen=_WINDOW)

    def saw(self, verdict: Verdict) -> bool:
        """Note how a request ended; returns whether half of the latest failed, and then begins to count anew."""
        self.proven = self.proven or verdict in JUDGED
        if verdict in JUDGED or verdict in _FAILED:
            self._failed.append(verdict in _FAILED)
        failing = len(self._failed) >= _FEWEST and 2 * sum(self._failed) >= len(self._failed)
        if failing:
            self._failed.clear()
        return failing

    def gated(self) -> None:
        """Begin with one request again."""
        self.proven = False


class Slots:
    """Lets so many requests go side by side, in the order in which they came. Some must go alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def one(self, *, alone: Callable[[], bool]) -> AsyncIterator[None]:
        """Hold one slot, or all of them; `alone` is asked again with each."""
        held = 0
        try:
            async with self._turn:
                while held < (self._most if alone() else 1):
                    await self._free.acquire()
                    held += 1
            yield
        finally:
            for _ in range(held):
                self._free.release()


class Spacing:
    """Keeps requests so far apart that no more begin in a second than a destination allows; None: as they come."""

    def __init__(
        self,
        per_second: float | None,
        *,
        steady: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._apart = 1 / per_second if per_second else 0.0
        self._steady = steady
        self._sleep = sleep
        self._next = 0.0

    async def wait(self) -> None:
        """Return when the next request may begin, in the order of the calls."""
        if self._apart:
            now = self._steady()
            begins, self._next = self._next, max(now, self._next) + self._apart
            if begins > now:
                await self._sleep(begins - now)


@dataclass(slots=True)
class Turn:
    """One of the few places for requests in doubt: the attempt that had it last, and the writing of its outcome."""

    attempt: int | None = None
    written: asyncio.Task[None] | None = None

    @property
    def unwritten(self) -> int | None:
        """The attempt that may still be open in the store."""
        return self.attempt if self.written is not None and not self.written.done() else None

    async def ended(self) -> None:
        """Wait until its outcome is written, or cannot be any more."""
        if self.written is not None:
            await asyncio.wait([self.written])


def turns(most: int) -> asyncio.Queue[Turn]:
    """Return so many turns, to be taken and put back."""
    free = asyncio.Queue[Turn]()
    for _ in range(most):
        free.put_nowait(Turn())
    return free
