"""Touchpoints and page views on their way to the store, with nobody waiting for them."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any, Generic, TypeVar

from kit import forks
from kit.capture import PageView
from kit.errors import ConfigurationError, StoreUnavailable
from kit.intake import Intake
from kit.model import Conversion
from kit.store import Store
from kit.store.events import Report
from kit.store.writer import Verb

_Entry = TypeVar("_Entry")

#: How many may wait for the store before further ones are counted and let go; the cookie still has its touchpoint.
#: Orders wait behind them in the writer's one queue, so they are no more than it writes in a fraction of a second.
MOST = 1_000
#: How often each is tried, and how long the store is left alone in between.
TRIES = 10
AGAIN = timedelta(seconds=1)


class Touches(Generic[_Entry]):
    """Posts what `verb` takes to the store's writer. `begin` opens a store that is not open; `lost` is told of each
    loss. What was tried may have been kept: the verb takes a repeat for what it is."""

    def __init__(
        self, store: Store, verb: Verb[_Entry, Any], *, begin: Callable[[], object], lost: Callable[[], None]
    ) -> None:
        self._store = store
        self._verb = verb
        self._begin = begin
        self._lost = lost
        self._waiting: deque[tuple[_Entry, int]] = deque()
        self._timer: threading.Timer | None = None
        forks.watch(self)

    def record(self, entry: _Entry) -> None:
        """Keep it, some time soon."""
        if self._store.waiting + len(self._waiting) >= MOST:
            self._lost()
            return
        self._waiting.append((entry, TRIES))
        # Asked after appending: an opening that ends in between posts it.
        if self._store.is_open:
            self.post()
        else:
            self._open()

    def post(self) -> None:
        """Hand all that waits to the store's writer."""
        while self._waiting:
            try:
                entry, tries = self._waiting.popleft()
            except IndexError:  # another thread took it
                return
            self._store.post(self._verb, entry, _Posted(self, entry, tries - 1))

    def again(self, entry: _Entry, tries: int) -> None:
        """Try once more after a pause, all that failed meanwhile together."""
        if not tries:
            self._lost()
            return
        self._waiting.append((entry, tries))
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


class _Posted(Generic[_Entry]):
    """Hears what became of one."""

    __slots__ = ("_entry", "_touches", "_tries")

    def __init__(self, touches: Touches[_Entry], entry: _Entry, tries: int) -> None:
        self._touches = touches
        self._entry = entry
        self._tries = tries

    def told(self, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            self._touches.again(self._entry, self._tries)


_PAGE, _HOME = Conversion(name="page_view"), Conversion(name="home_view")


class Views:
    """Reports the pages that visitors open, to the destinations that want them; the shop's page at `home` is its own.

    No worker is woken for one: what comes within a second goes out together.
    """

    def __init__(
        self, touches: Touches[Report], store: Store, intake: Intake, *, destinations: tuple[str, ...], home: str
    ) -> None:
        if not home.startswith("/"):
            raise ConfigurationError("home", "is no path such as /")
        self._touches = touches
        self._store = store
        self._intake = intake
        self._destinations = destinations
        self._home = home

    def record(self, view: PageView) -> None:
        """Report the view, some time soon: returns at once and never raises."""
        conversion = _HOME if view.path == self._home else _PAGE
        entry = self._intake.report(conversion, store_ahead=self._store.offset)
        self._touches.record(
            replace(entry, seen=view.identifiers, consent=view.consent, destinations=self._destinations)
        )
