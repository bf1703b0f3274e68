"""How large the store may grow: limits past which reports are refused, and ballast for the day the disk is full."""

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, func, literal_column, select
from sqlalchemy.exc import DBAPIError

from kit.errors import ConfigurationError, StoreFull
from kit.store.attempts import open_attempts
from kit.store.events import report, report_from_page
from kit.store.outbox import claim
from kit.store.people import assert_links, keep_decisions, keep_links, keep_orders, keep_touches
from kit.store.tables import deliveries, metadata

log = logging.getLogger("kit")

_MIB = 1024 * 1024

#: How often the store is measured, in seconds; deliveries are counted this seldom, and for at most 1 % of the time.
EVERY, COUNT_EVERY, COUNT_SHARE = 1.0, 10.0, 0.01
#: A limit that was passed is passed until this share of it is reached again.
AGAIN_BELOW = 0.95
#: A disk with less than this is full, whatever SQLite calls the error: its journal could not be made or grown.
_NOTHING = 64 * 1024

#: What adds to the store and can be told again: refused past any limit.
_REPORTS = frozenset({report, report_from_page})
#: From this share of a limit on, what anybody can make a page say is refused: there is room left for orders.
CROWDED = 0.8
_FROM_PAGES = frozenset({report_from_page, keep_touches, assert_links, keep_decisions})
#: Without ballast also what is kept as best it can be, and what would begin a request: what is left is for settlements.
_PUT_OFF = _REPORTS | _FROM_PAGES | {keep_links, keep_orders, claim, open_attempts}

_REASONS = {
    "waiting": "{} deliveries are waiting; `kit status` shows what holds them back; Limits(waiting=…) allows more",
    "store_bytes": "it holds {} MiB; shorten Retention, or allow more by Limits(store_bytes=…)",
    "free_disk_bytes": "its disk has only {} MiB left; make room, or allow less by Limits(free_disk_bytes=…)",
    "disk": "its disk is full; make room: it goes on by itself",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much the store may hold. Past a limit `report` raises StoreFull, until 95 % of it is reached again.

    From 80 % on what anybody can send is refused, so that nobody can fill it before an order: page views and what pages
    `track`, and from 80 % of `store_bytes` also touchpoints (their cookies still have them), what pages identify, their
    notes of pixels, and decisions, but for a no of a visitor of whom the store has anything.

    `waiting`          deliveries that wait to be sent; 5,000,000.
    `store_bytes`      bytes that the store's tables and indexes take; 2 GiB.
    `free_disk_bytes`  bytes that stay free on the disk of SQLite's file; 256 MiB.
    `ballast_bytes`    bytes of a file beside SQLite's, let go when the disk is full, so that what is under way can
                       still be written down; 8 MiB. It is made again when twice as much is free.

    None or 0 switches a limit off. Orders' links and verified links are kept as long as the disk takes them; settling,
    replaying and deleting always run. Raises ConfigurationError for a negative number.
    """

    waiting: int | None = 5_000_000
    store_bytes: int | None = 2048 * _MIB
    free_disk_bytes: int | None = 256 * _MIB
    ballast_bytes: int | None = 8 * _MIB

    def __post_init__(self) -> None:
        for name in ("waiting", "store_bytes", "free_disk_bytes", "ballast_bytes"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigurationError(f"limits.{name}", "is negative; None switches it off")


NO_LIMITS = Limits(waiting=None, store_bytes=None, free_disk_bytes=None, ballast_bytes=None)


class Room:
    """Whether the store may grow, as this process's writer last saw it: measured between its groups, asked by anyone.

    `file` is SQLite's; a PostgreSQL has neither a disk that we see nor ballast.
    """

    def __init__(self, limits: Limits, file: Path | None) -> None:
        self._limits = limits
        self._file = file
        self._ballast = file.with_name(f"{file.name}-ballast") if file is not None and limits.ballast_bytes else None
        self._past: dict[str, int] = {}
        self._crowded: dict[str, int] = {}
        self._looked = self._count_again = float("-inf")
        self._counted, self._newest = 0, 0

    @property
    def is_stale(self) -> bool:
        """Whether a second has passed since the store was measured."""
        return time.monotonic() - self._looked >= EVERY and self._limits != NO_LIMITS

    def refusal(self, verb: object) -> StoreFull | None:
        """Return why this verb is not run now, or None."""
        past: Mapping[str, int] = self._past if verb in (_PUT_OFF if "disk" in self._past else _REPORTS) else {}
        past = past or (self._crowded_for(verb) if verb in _FROM_PAGES else {})
        if not past:
            return None
        name, amount = next(iter(past.items()))
        shown = amount // _MIB if name.endswith("bytes") else amount
        return StoreFull(name, _REASONS[name].format(f"{shown:,}"))

    def _crowded_for(self, verb: object) -> Mapping[str, int]:
        """Return the limits that are near: how many deliveries wait is nothing to what adds none."""
        adds_deliveries = verb is report_from_page
        return {name: amount for name, amount in self._crowded.items() if adds_deliveries or name != "waiting"}

    def look(self, connection: Connection) -> None:
        """Measure again when a second has passed; inside the writer's transaction, so that no lock is waited for."""
        if not self.is_stale:
            return
        self._looked = time.monotonic()
        before = set(self._past)
        if self._file is not None:
            with contextlib.suppress(OSError):  # a disk that cannot be asked is no reason to refuse
                self._look_at_disk(self._file)
        if self._limits.store_bytes:
            size = _bytes_of(connection)
            self._crowd("store_bytes", size, self._limits.store_bytes)
            self._judge("store_bytes", size, past=size > self._eased("store_bytes", self._limits.store_bytes))
        if self._limits.waiting:
            self._look_at_waiting(connection, self._limits.waiting)
        self._tell(before)

    def let_go(self) -> bool:
        """Let go of the ballast, for a disk is full; returns whether there was any."""
        if self._ballast is None:
            return False
        before = set(self._past)
        try:
            self._ballast.unlink()
        except OSError:
            return False
        self._past["disk"] = 0
        self._tell(before)
        return True

    def is_full(self, error: DBAPIError) -> bool:
        """Return whether this error says that the disk is full."""
        name = getattr(error.orig, "sqlite_errorname", "")
        if name.startswith(("SQLITE_IOERR", "SQLITE_CANTOPEN")) and self._file is not None:
            try:
                return _free(self._file) < _NOTHING
            except OSError:
                return False
        return name == "SQLITE_FULL" or getattr(error.orig, "sqlstate", "") == "53100"

    @staticmethod
    def disk_full() -> StoreFull:
        return StoreFull("disk", _REASONS["disk"])

    # ------------------------------------------------------------ measuring

    def _look_at_disk(self, file: Path) -> None:
        free = _free(file)
        if self._limits.free_disk_bytes:
            least = self._limits.free_disk_bytes
            past = free < (least / AGAIN_BELOW if "free_disk_bytes" in self._past else least)
            self._judge("free_disk_bytes", free, past=past)
        if self._ballast is not None and self._limits.ballast_bytes:
            # Seen on the disk, not remembered: any process may let it go or make it again.
            there = self._ballast.exists() or self._make_ballast(self._ballast, self._limits.ballast_bytes, free)
            self._judge("disk", 0, past=not there)

    def _make_ballast(self, ballast: Path, size: int, free: int) -> bool:
        if free < 2 * size:
            return False
        try:
            _allocate(ballast, size)
        except FileExistsError:
            return True
        except OSError as error:
            log.warning("the store has no ballast", extra={"kit.error": type(error).__name__})
            # A file system that cannot set bytes aside is no reason to take no orders.
            self._ballast = None
        return True

    def _look_at_waiting(self, connection: Connection, limit: int) -> None:
        """Judge by an upper bound: what was counted last, and every delivery since. Count only when that is too much.

        What was replayed since is not in it: an operator's replay adds nothing to the store.
        """
        newest = connection.scalar(select(func.max(deliveries.c.id))) or 0
        if not self._newest:
            self._newest = (connection.scalar(select(func.min(deliveries.c.id))) or 1) - 1
        bound = self._counted + max(newest - self._newest, 0)
        self._crowd("waiting", bound, limit)
        if bound <= self._eased("waiting", limit):
            self._judge("waiting", bound, past=False)
        elif time.monotonic() >= self._count_again and (counted := self._count(connection, limit)) is not None:
            self._counted, self._newest = counted, newest
            self._crowd("waiting", counted, limit)
            self._judge("waiting", counted, past=counted > self._eased("waiting", limit))

    def _count(self, connection: Connection, limit: int) -> int | None:
        """Count what waits, up to a little past the limit. None where the database does not do it in time."""
        is_pending = deliveries.c.state == literal_column("'pending'")
        pending: Select[Any] = select(literal_column("1")).where(is_pending).limit(limit + 1)
        began = time.monotonic()
        try:
            with connection.begin_nested():
                return connection.scalar(select(func.count()).select_from(pending.subquery()))
        except DBAPIError:
            return None
        finally:
            took = time.monotonic() - began
            self._count_again = time.monotonic() + max(COUNT_EVERY, took / COUNT_SHARE)

    def _eased(self, name: str, limit: int) -> float:
        return limit * AGAIN_BELOW if name in self._past else limit

    def _crowd(self, name: str, amount: int, limit: int) -> None:
        if amount > limit * CROWDED:
            self._crowded[name] = amount
        else:
            self._crowded.pop(name, None)

    def _judge(self, name: str, amount: int, *, past: bool) -> None:
        if past:
            self._past[name] = amount
        else:
            self._past.pop(name, None)

    def _tell(self, before: set[str]) -> None:
        for name in self._past.keys() - before:
            log.warning("the store is full: reports are refused until there is room", extra={"kit.limit": name})
        for name in before - self._past.keys():
            log.warning("the store has room again", extra={"kit.limit": name})


def look(_: Connection, asked: Sequence[None]) -> Sequence[None]:
    """Do nothing: a turn of the writer's, in which it measures the store."""
    return [None] * len(asked)


def _bytes_of(connection: Connection) -> int:
    """Return what the tables and indexes take; pages that deleted rows left free do not count in SQLite."""
    if connection.dialect.name == "sqlite":
        pages, free, size = (
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)
    names: list[Any] = [func.pg_total_relation_size(name) for name in metadata.tables]
    total = connection.scalar(select(sum(names[1:], names[0])))
    return int(total or 0)


def _free(file: Path) -> int:
    found = os.statvfs(file.parent)
    return found.f_bavail * found.f_frsize


def _allocate(ballast: Path, size: int) -> None:
    """Set the bytes aside for real: a file with a hole would give nothing back."""
    descriptor = os.open(ballast, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.write(descriptor, bytes(size))
    except OSError:
        with contextlib.suppress(OSError):
            ballast.unlink()
        raise
    finally:
        os.close(descriptor)
