"""Touchpoints on their way to the store, with nobody waiting for them."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from kit import forks
from kit.errors import StoreUnavailable
from kit.store import Store, people
from kit.store.people import Touch

#: Touchpoints that may wait for the store before new ones are counted and let go; the cookie still has them.
MOST = 10_000
#: How often each is tried, and how long the store is left alone in between.
TRIES = 10
AGAIN = timedelta(seconds=1)


class Touches:
    """Posts touchpoints to the store's writer. `begin` opens a store that is not open; `lost` is told of each loss."""

    def __init__(self, store: Store, *, begin: Callable[[], object], lost: Callable[[], None]) -> None:
        self._store = store
        self._begin = begin
        self._lost = lost
        self._waiting: deque[tuple[Touch, int]] = deque()
        self._timer: threading.Timer | None = None
        forks.watch(self)

    def record(self, touch: Touch) -> None:
        """Keep the touchpoint, some time soon."""
        if self._store.waiting + len(self._waiting) >= MOST:
            self._lost()
            return
        self._waiting.append((touch, TRIES))
        # Asked after appending: an opening that ends in between posts it.
        if self._store.is_open:
            self.post()
        else:
            self._open()

    def post(self) -> None:
        """Hand all that waits to the store's writer."""
        while self._waiting:
            try:
                touch, tries = self._waiting.popleft()
            except IndexError:  # another thread took it
                return
            self._store.post(people.keep_touches, touch, _Posted(self, touch, tries - 1))

    def again(self, touch: Touch, tries: int) -> None:
        """Try once more after a pause, all that failed meanwhile together."""
        if not tries:
            self._lost()
            return
        self._waiting.append((touch, tries))
        if self._timer is None or not self._timer.is_alive():
            self._timer = threading.Timer(AGAIN.total_seconds(), self._try)
            self._timer.daemon = True
            self._timer.start()

    def _open(self) -> None:
        # What waits is posted when the store has been opened, by whomever.
        with contextlib.suppress(StoreUnavailable):
            self._begin()

    def _try(self) -> None:
        self._timer = None
        if self._store.is_open:
            self.post()
        else:
            self._open()

    def renew(self) -> None:
        """In a forked child: the parent posts what it took."""
        self._waiting, self._timer = deque(), None


class _Posted:
    """Hears what became of one touchpoint."""

    __slots__ = ("_touch", "_touches", "_tries")

    def __init__(self, touches: Touches, touch: Touch, tries: int) -> None:
        self._touches = touches
        self._touch = touch
        self._tries = tries

    def told(self, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            self._touches.again(self._touch, self._tries)
