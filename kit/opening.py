"""Opens the store and its index key, once in each process, in a thread of its own, for however many wait."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from kit import forks
from kit.errors import StoreUnavailable
from kit.intake import Intake
from kit.store import Store, keys


class Opening:
    """`then` is called, in the opening thread, whenever the store has been opened."""

    def __init__(self, store: Store, intake: Intake, *, index_key: bytes | None, then: Callable[[], None]) -> None:
        self._store = store
        self._intake = intake
        self._given = index_key
        self._then = then
        self._lock = threading.Lock()
        self._opened: Future[None] | None = None
        forks.watch(self)

    @property
    def is_done(self) -> bool:
        return bool(self._intake.index_key) and self._store.is_open

    def begin(self) -> Future[None]:
        """Open unless somebody does already; the shop's executor is not ours to fill, so in one thread of our own."""
        with self._lock:
            if self._opened is None or (self._opened.done() and not self.is_done):
                opened = Future[None]()
                try:
                    threading.Thread(target=self._open_for, args=(opened,), name="kit-open", daemon=True).start()
                except RuntimeError:  # the system gives no more threads
                    raise StoreUnavailable("no thread could be started to open it") from None
                self._opened = opened
            return self._opened

    def wait(self) -> float:
        """Open within the store's timeout; returns when that time ends, on the monotonic clock."""
        until = time.monotonic() + self._store.timeout.total_seconds()
        if not self.is_done:
            try:
                self.begin().result(self._store.timeout.total_seconds())
            except FutureTimeout:
                raise StoreUnavailable("it could not be opened in time") from None
        return until

    async def ready(self) -> float:
        """`wait`, without blocking the event loop; returns when the time ends on the loop's clock."""
        until = asyncio.get_running_loop().time() + self._store.timeout.total_seconds()
        if not self.is_done:
            try:
                opened = asyncio.wrap_future(self.begin())
                # It may fail after we have given up; asyncio would log that as an error that nobody looked at.
                opened.add_done_callback(_looked_at)
                async with asyncio.timeout_at(until):
                    await asyncio.shield(opened)
            except TimeoutError:
                raise StoreUnavailable("it could not be opened in time") from None
        return until

    def _open_for(self, waiting: Future[None]) -> None:
        try:
            self._store.open()
            if not self._intake.index_key:
                self._intake.index_key = self._index_key()
        except Exception as error:  # noqa: BLE001 - belongs to whoever waits
            waiting.set_exception(error)
            return
        waiting.set_result(None)
        self._then()

    def _index_key(self) -> bytes:
        # Read first: the shop's own transaction may hold SQLite's write lock while its first report asks for the key.
        kept = self._store.read_sync(lambda connection: keys.kept_index_key(connection, self._given))
        return kept or self._store.write_sync(keys.index_key, self._given)

    def renew(self) -> None:
        """A forked child has no thread that would ever end its parent's opening."""
        self._lock, self._opened = threading.Lock(), None


def _looked_at(opened: "asyncio.Future[None]") -> None:
    if not opened.cancelled():
        opened.exception()
