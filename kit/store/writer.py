"""One thread that writes. It takes everything queued into one transaction, so concurrent callers commit together."""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from kit import forks
from kit.errors import StoreUnavailable
from kit.store.limits import Room

log = logging.getLogger("kit")

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

#: A verb of the store: plain, synchronous, for as many arguments as were queued at once.
Verb = Callable[[Connection, Sequence[_Argument]], Sequence[_Result]]

NO_ANSWER = "no answer in time"
#: The most calls that one transaction takes.
GROUP = 512
#: How long to wait for the callers of the last group, as a share of what its commit took, and in seconds at most.
_LINGER, _LONGEST_LINGER, _LOOK = 0.5, 0.004, 0.0002

_EVERYBODYS = tuple(
    f"SQLITE_{name}" for name in ("BUSY", "LOCKED", "FULL", "IOERR", "CANTOPEN", "READONLY", "CORRUPT", "NOTADB")
)


class Waiter(Protocol):
    """Whoever asked for a write; told its result, or the exception, once, from the writer's thread."""

    def told(self, outcome: Any) -> None: ...


@dataclass(frozen=True, slots=True)
class _Call:
    verb: Verb[Any, Any]
    argument: Any
    waiter: Waiter
    expires: float


class LoopWaiter:
    """Answers an asyncio future. A whole group of one loop is told with one wake-up, see `_tell`."""

    __slots__ = ("future", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()

    def told(self, outcome: Any) -> None:
        _tell([(self, outcome)])

    def give_up(self) -> None:
        """Wait no longer; for the loop's own thread."""
        _resolve([(self.future, StoreUnavailable(NO_ANSWER))])


class ThreadWaiter:
    """Answers a `concurrent.futures.Future`."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def told(self, outcome: Any) -> None:
        _resolve([(self.future, outcome)])


def _tell(outcomes: Sequence[tuple[Waiter, Any]]) -> None:
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for waiter, outcome in outcomes:
        if isinstance(waiter, LoopWaiter):
            loops.setdefault(waiter.loop, []).append((waiter.future, outcome))
        else:
            waiter.told(outcome)
    for loop, futures in loops.items():
        # A loop that was closed meanwhile has nobody left who waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_resolve, futures)


def _resolve(futures: Sequence[tuple[asyncio.Future[Any] | Future[Any], Any]]) -> None:
    for future, outcome in futures:
        if future.done():
            continue
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)


class Writer:
    """The store's only writing thread in this process. Starts with the first call, ends with `close`."""

    def __init__(self, engine: Engine, room: Room) -> None:
        self._engine = engine
        self._room = room
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._connection: Connection | None = None
        self._last, self._took = 0, 0.0
        self._thread = threading.Thread(target=self._run, name="kit-store-writer", daemon=True)
        self._thread.start()

    def submit(self, verb: Verb[Any, Any], argument: Any, waiter: Waiter, *, timeout: float) -> None:
        """Queue one call. A call that still waits after `timeout` seconds is not run; its waiter is told so."""
        self._calls.put(_Call(verb, argument, waiter, time.monotonic() + timeout))

    @property
    def waiting(self) -> int:
        return self._calls.qsize()

    def close(self) -> None:
        """Finish what is queued and end the thread."""
        self._calls.put(None)
        self._thread.join()

    def _run(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                break
            self._linger()
            group = [call]
            ending = False
            while len(group) < GROUP and not self._calls.empty():
                call = self._calls.get()
                if call is None:
                    ending = True
                    break
                group.append(call)
            began = time.monotonic()
            self._commit_in_time(group)
            self._last, self._took = len(group), time.monotonic() - began
            if ending:
                break
        self._disconnect()

    def _linger(self) -> None:
        """Wait a little for as many callers as the last group had: they were told just now, and come back one by one.

        Without it the first of them has a commit of its own, with a wait for the disk in which the others stand behind
        it. A lone caller never waits.
        """
        ends = time.monotonic() + min(self._took * _LINGER, _LONGEST_LINGER)
        while self._calls.qsize() + 1 < self._last and time.monotonic() < ends:
            time.sleep(_LOOK)

    def _commit_in_time(self, group: Sequence[_Call]) -> None:
        now = time.monotonic()
        late = [call for call in group if call.expires <= now]
        _tell([(call.waiter, StoreUnavailable("the call waited too long")) for call in late])
        self._commit([call for call in group if call.expires > now])

    def _commit(self, group: Sequence[_Call]) -> None:
        """Commit the group as one; when that fails, each call alone, so that one bad call fails nobody else's."""
        if not group:
            return
        try:
            answers = self._transaction(group)
        except Exception as error:  # noqa: BLE001 - whatever a verb raises belongs to its own caller
            if isinstance(error, DBAPIError):
                self._disconnect(broken=True)
                if self._room.is_full(error):
                    self._make_do(group)
                    return
            if len(group) == 1 or _is_everybodys(error):
                _tell([(call.waiter, error) for call in group])
                return
            for call in group:
                self._commit_in_time([call])
        else:
            _tell([(call.waiter, answer) for call, answer in zip(group, answers, strict=True)])

    def _make_do(self, group: Sequence[_Call]) -> None:
        """Let go of the ballast, so that what is under way is still written down; the rest is refused."""
        if self._room.let_go():
            self._commit_in_time(group)
        else:
            _tell([(call.waiter, self._room.disk_full()) for call in group])

    def _transaction(self, group: Sequence[_Call]) -> list[Any]:
        answers: dict[int, Any] = {}
        with forks.kept_off():
            if self._connection is None:
                self._connection = self._engine.connect()
            with self._connection.begin():
                self._room.look(self._connection)
                for verb, places in _by_verb(group):
                    if (refusal := self._room.refusal(verb)) is not None:
                        answers.update(dict.fromkeys(places, refusal))
                        continue
                    results = verb(self._connection, [group[place].argument for place in places])
                    answers.update(zip(places, results, strict=True))
        return [answers[place] for place in range(len(group))]

    def _disconnect(self, *, broken: bool = False) -> None:
        """Give the connection back to its pool, or close it for good where it may be what is wrong."""
        if self._connection is not None:
            with forks.kept_off(), contextlib.suppress(DBAPIError):
                if broken:
                    self._connection.invalidate()
                self._connection.close()
            self._connection = None


def _is_everybodys(error: Exception) -> bool:
    """Return whether the database itself is locked, full or gone: asking for each call would only multiply the wait."""
    if not isinstance(error, DBAPIError):
        return False
    name = getattr(error.orig, "sqlite_errorname", "")
    return error.connection_invalidated or name.startswith(_EVERYBODYS)


def _by_verb(group: Sequence[_Call]) -> Iterator[tuple[Verb[Any, Any], list[int]]]:
    places: dict[Verb[Any, Any], list[int]] = {}
    for place, call in enumerate(group):
        places.setdefault(call.verb, []).append(place)
    yield from places.items()
