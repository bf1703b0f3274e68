"""Answers that cost something to find, kept for a while: many people may look at once."""

import asyncio
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar

_Answer = TypeVar("_Answer")

#: An answer is kept for so many times as long as it took to find, and so many seconds at least.
_TIMES, _LEAST = 10, 5.0


class Kept:
    """Asks in a thread, for one thing at a time: looking costs at most a tenth of a core, however many look."""

    def __init__(self, *, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._answers: dict[Hashable, _Found] = {}
        self._changes = 0
        self._asking = asyncio.Lock()

    async def get(self, name: Hashable, ask: Callable[[], _Answer]) -> _Answer:
        """Return what `ask` answered a while ago, or answers now."""
        if not self._is_kept(name):
            async with self._asking:
                # Whoever waited finds what the one before them asked for.
                if not self._is_kept(name):
                    self._answers[name] = await self._found(ask)
        answer: _Answer = self._answers[name].answer
        return answer

    def forget(self) -> None:
        """Ask anew the next time: somebody changed something."""
        self._changes += 1

    def _is_kept(self, name: Hashable) -> bool:
        found = self._answers.get(name)
        return found is not None and found.changes == self._changes and self._seconds() < found.until

    async def _found(self, ask: Callable[[], object]) -> "_Found":
        changes, began = self._changes, self._seconds()
        answer = await asyncio.to_thread(ask)
        ended = self._seconds()
        return _Found(answer, until=ended + max((ended - began) * _TIMES, _LEAST), changes=changes)


@dataclass(frozen=True, slots=True)
class _Found:
    """An answer, until when it is kept, and how many changes there had been when it was asked for."""

    answer: Any
    until: float
    changes: int
