"""The store as the rest of the house sees it: opens lazily in each process, runs verbs, and never outlasts its time."""

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from kit import forks
from kit.errors import ConfigurationError, StoreUnavailable
from kit.store.engine import Schema, clock_offset, connect, migrate, parse_url, schema_of
from kit.store.health import damage_at_start
from kit.store.limits import NO_LIMITS, Limits, Room, look
from kit.store.writer import NO_ANSWER, LoopWaiter, ThreadWaiter, Verb, Waiter, Writer

log = logging.getLogger("kit")

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")


#: A call may wait for the group before it and then for its own lock: both must end before its caller gives up, so
#: that "no answer" does not turn into a commit that nobody heard of.
_LOCK_SHARE = 0.45


#: A shop's own transaction, in the same database as the store's tables.
if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession
    from sqlalchemy.orm import Session

    OwnTransaction = AsyncConnection | AsyncSession
    OwnTransactionSync = Connection | Session
else:
    # A shop that has one has loaded its module, which takes memory, and asyncio's also needs greenlet.
    OwnTransaction = OwnTransactionSync = Any


async def write_on(connection: OwnTransaction, verb: Verb[_Argument, _Result], argument: _Argument) -> _Result:
    """Run one verb in the shop's own transaction: it is committed or rolled back with the shop's own rows."""
    return await connection.run_sync(write_on_sync, verb, argument)


def write_on_sync(connection: OwnTransactionSync, verb: Verb[_Argument, _Result], argument: _Argument) -> _Result:
    """`write_on` for code without an event loop."""
    own = connection if isinstance(connection, Connection) else connection.connection()
    return verb(own, [argument])[0]


def _look_over(readers: Engine) -> None:
    """Refuse a damaged file before anything is written to it; a backup in its place is taken without a restart."""
    with readers.connect() as connection:
        damage = damage_at_start(connection)
    if damage is not None:
        log.error("the store's file is damaged: nothing is written to it", extra={"kit.damage": damage})
        name = Path(readers.url.database or "").name
        raise StoreUnavailable(
            f"its file is damaged; stop the shop, keep a copy, restore a backup, and remove {name}-wal and"
            f" {name}-journal: what they hold is the old file's"
        )


class Store:
    """`timeout` bounds every call, lock waits included; past it the call raises StoreUnavailable.

    Past one of the `limits` a report raises StoreFull.
    """

    def __init__(self, url: str, *, timeout: timedelta = timedelta(seconds=2), limits: Limits = NO_LIMITS) -> None:
        self.url = parse_url(url)
        self.timeout = timeout
        is_file = self.url.get_backend_name() == "sqlite"
        self._room = Room(limits, Path(self.url.database or "") if is_file else None)
        #: How far the database's clock is ahead of this host's; whoever shares the outbox goes by the database's.
        self.offset = timedelta(0)
        self._opening = threading.Lock()
        self._writer: Writer | None = None
        self._readers: Engine | None = None
        self._writers: Engine | None = None
        forks.watch(self)

    def migrate(self, *, lock_timeout: timedelta = timedelta(seconds=30)) -> None:
        """Bring the schema up to date. SQLite does this by itself at first use; PostgreSQL by `kit migrate`.

        Raises StoreUnavailable, as `open` does.
        """
        try:
            engine = connect(self.url, lock_timeout=lock_timeout)
            try:
                migrate(engine)
            finally:
                engine.dispose()
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(type(error).__name__) from None

    @property
    def is_open(self) -> bool:
        return self._writer is not None

    def open(self) -> Writer:
        """Connect and start the writer, once in each process."""
        if self._writer is not None:
            return self._writer
        with self._opening, forks.kept_off():
            if self._writer is not None:
                return self._writer
            try:
                self._writers, self._readers = self._engines()
            except (SQLAlchemyError, OSError) as error:
                raise StoreUnavailable(type(error).__name__) from None
            self._writer = Writer(self._writers, self._room)
            return self._writer

    def _engines(self) -> tuple[Engine, Engine]:
        with contextlib.ExitStack() as half_open:
            opened = []
            for read_only in (False, True):
                engine = connect(self.url, lock_timeout=self.timeout * _LOCK_SHARE, read_only=read_only)
                half_open.callback(engine.dispose)
                opened.append(engine)
            writers, readers = opened
            _look_over(readers)
            self._ensure_schema(readers)
            with readers.connect() as connection:
                self.offset = clock_offset(connection)
            half_open.pop_all()
        return writers, readers

    def _ensure_schema(self, readers: Engine) -> None:
        with readers.connect() as connection:
            schema = schema_of(connection)
        if schema is Schema.USABLE:
            return
        if schema is Schema.TOO_NEW:
            raise ConfigurationError("store", "its schema is of a newer version of the kit; deploy that one here too")
        if self.url.get_backend_name() != "sqlite":
            raise ConfigurationError("store", "its schema is not up to date; run `kit migrate`")
        self.migrate(lock_timeout=self.timeout * _LOCK_SHARE)

    def close(self) -> None:
        """Finish what is queued and close every connection of this process."""
        with self._opening:
            if self._writer is not None:
                self._writer.close()
                for engine in (self._writers, self._readers):
                    if engine is not None:
                        engine.dispose()
            self._writer = self._writers = self._readers = None

    def renew(self) -> None:
        """In a forked child: let go of the parent's connections without closing them, and of its writer."""
        for inherited in (self._writers, self._readers):
            if inherited is not None:
                inherited.dispose(close=False)
        self._writer = self._writers = self._readers = None
        self._opening = threading.Lock()

    async def write(
        self, verb: Verb[_Argument, _Result], argument: _Argument, *, until: float | None = None
    ) -> _Result:
        """Run one verb, grouped with whatever else is queued; returns when it is committed with fsync.

        `until` is an end on the loop's clock that is sooner than the store's own timeout.
        """
        loop = asyncio.get_running_loop()
        waiter = LoopWaiter(loop)
        ends = until if until is not None else loop.time() + self.timeout.total_seconds()
        if not self.is_open:
            try:
                async with asyncio.timeout_at(ends):
                    await asyncio.to_thread(self.open)
            except TimeoutError:
                raise StoreUnavailable(NO_ANSWER) from None
        self.open().submit(verb, argument, waiter, timeout=ends - loop.time())
        # asyncio.timeout takes three times as long, and every report would pay for it.
        ending = loop.call_at(ends, waiter.give_up)
        try:
            result: _Result = await waiter.future
        except TimeoutError:
            raise StoreUnavailable(NO_ANSWER) from None
        except SQLAlchemyError as error:
            raise StoreUnavailable(type(error).__name__) from None
        finally:
            ending.cancel()
        return result

    def write_sync(self, verb: Verb[_Argument, _Result], argument: _Argument, *, until: float | None = None) -> _Result:
        """`write` for code without an event loop; `until` is on the clock of `time.monotonic`."""
        waiter = ThreadWaiter()
        ends = until if until is not None else time.monotonic() + self.timeout.total_seconds()
        try:
            self.open().submit(verb, argument, waiter, timeout=ends - time.monotonic())
            result: _Result = waiter.future.result(ends - time.monotonic())
        except FutureTimeout:
            raise StoreUnavailable(NO_ANSWER) from None
        except SQLAlchemyError as error:
            raise StoreUnavailable(type(error).__name__) from None
        return result

    def post(self, verb: Verb[_Argument, Any], argument: _Argument, waiter: Waiter) -> None:
        """Queue one verb, for as long as it takes, and return at once; `waiter` is told from the writer's thread."""
        self.open().submit(verb, argument, waiter, timeout=math.inf)

    def check_room(self, verb: Verb[_Argument, Any]) -> None:
        """Raise StoreFull where the writer would refuse this verb: for what a shop runs in its own transaction."""
        if self._room.is_stale:
            self.post(look, None, ThreadWaiter())
        if (refusal := self._room.refusal(verb)) is not None:
            raise refusal

    @property
    def waiting(self) -> int:
        """How many calls are queued in this process."""
        return self._writer.waiting if self._writer is not None else 0

    def read_sync(self, query: Callable[[Connection], _Result]) -> _Result:
        """Run a short query beside the writer. It must fetch all it needs before it returns."""
        try:
            self.open()
            if self._readers is None:
                raise StoreUnavailable("it is being closed")
            with forks.kept_off(), self._readers.begin() as connection:
                return query(connection)
        except SQLAlchemyError as error:
            raise StoreUnavailable(type(error).__name__) from None

    async def read(self, query: Callable[[Connection], _Result]) -> _Result:
        """`read_sync` in a thread."""
        return await asyncio.to_thread(self.read_sync, query)

    async def measure_clock(self) -> None:
        """Find the database's clock again: hosts drift, and are corrected, while a worker runs."""
        if self.url.get_backend_name() != "sqlite":
            self.offset = await self.read(clock_offset)
