"""`report` beside the bare database commit of the same rows: one caller, and sixty-four at once.

    python -m tests.benchmarks report

The bare commit is Python's own sqlite3 with the same file settings, inserting the very rows that a report leaves: one
event and a delivery for each of three destinations. For sixty-four callers it commits sixty-four orders together.
"""

import asyncio
import contextlib
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from kit import Conversion, Item, Kit
from kit.store.engine import journal_mode
from tests.benchmarks.table import Row, show
from tests.support import make_kit

ROUNDS = 7
ONE, MANY, CALLERS = 300, 6_400, 64


def conversion(number: int) -> Conversion:
    return Conversion(
        order_id=f"order-{number}",
        value="123.45",
        currency="USD",
        email=f"jane.{number}@example.com",
        items=[Item(id="shoe-1", name="Trail shoe", price="123.45")],
    )


class Numbers:
    """Order numbers that are never used twice."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> range:
        self.next += count
        return range(self.next - count, self.next)


async def ours_one(kit: Kit, numbers: Numbers) -> float:
    orders = [conversion(number) for number in numbers.take(ONE)]
    began = time.perf_counter()
    for order in orders:
        await kit.report(order)
    return (time.perf_counter() - began) / ONE


async def ours_many(kit: Kit, numbers: Numbers) -> float:
    orders = [conversion(number) for number in numbers.take(MANY)]
    waiting = iter(orders)

    async def caller() -> None:
        for order in waiting:
            await kit.report(order)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return (time.perf_counter() - began) / MANY


class Bare:
    """The same rows by the bare driver, in a copy of the store's file."""

    def __init__(self, store: Path) -> None:
        copy = store.with_name("bare.db")
        self.connection = sqlite3.connect(copy, isolation_level=None)
        # By SQLite itself: with a write-ahead log the file alone is not all of it.
        with contextlib.closing(sqlite3.connect(store)) as ours:
            ours.backup(self.connection)
        for pragma in (f"journal_mode={journal_mode()}", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            self.connection.execute(f"PRAGMA {pragma}").close()
        self.events = self.connection.execute("select * from events limit 1").fetchone()
        self.deliveries = self.connection.execute("select * from deliveries order by id limit 3").fetchall()
        self.event = self.connection.execute("select max(id) from events").fetchone()[0]
        self.delivery = self.connection.execute("select max(id) from deliveries").fetchone()[0]

    def commit(self, orders: int) -> None:
        events, deliveries = [], []
        for _ in range(orders):
            self.event += 1
            events.append((self.event, f"bare-{self.event}", *self.events[2:]))
            for row in self.deliveries:
                self.delivery += 1
                deliveries.append((self.delivery, self.event, *row[2:]))
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany(f"insert into events values ({','.join('?' * len(events[0]))})", events)
        self.connection.executemany(f"insert into deliveries values ({','.join('?' * len(deliveries[0]))})", deliveries)
        self.connection.execute("COMMIT")

    def one(self) -> float:
        began = time.perf_counter()
        for _ in range(ONE):
            self.commit(1)
        return (time.perf_counter() - began) / ONE

    def many(self) -> float:
        began = time.perf_counter()
        for _ in range(MANY // CALLERS):
            self.commit(CALLERS)
        return (time.perf_counter() - began) / MANY


async def measure(folder: Path) -> dict[str, list[float]]:
    """Alternate the four cases, so that a busy moment of the machine falls on all of them."""
    kit = make_kit(folder, store_timeout=timedelta(seconds=30))
    numbers = Numbers()
    await kit.report(conversion(numbers.take(1)[0]))
    bare = Bare(folder / "kit.db")
    cases: dict[str, Callable[[], Any]] = {
        "bare commit, 1 caller": bare.one,
        "report, 1 caller": lambda: ours_one(kit, numbers),
        "bare grouped commit, 64 orders": bare.many,
        "report, 64 callers": lambda: ours_many(kit, numbers),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(ROUNDS + 1):
        for name, case in cases.items():
            found = case()
            spent = await found if asyncio.iscoroutine(found) else found
            if turn:  # the first turn warms caches up
                seconds[name].append(spent)
    bare.connection.close()
    kit.store.close()
    return seconds


def run() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = asyncio.run(measure(Path(folder)))
    medians = {name: statistics.median(each) for name, each in seconds.items()}
    beside = {
        "report, 1 caller": "bare commit, 1 caller",
        "report, 64 callers": "bare grouped commit, 64 orders",
    }
    rows = [
        Row(
            name=name,
            value=f"{medians[name] * 1e6:,.0f} µs",
            rate=f"{1 / medians[name]:,.0f}/s",
            ratio=f"{medians[name] / medians[beside[name]]:.2f} × {beside[name]}" if name in beside else "",
        )
        for name in seconds
    ]
    show(f"report on SQLite ({journal_mode()}, synchronous=FULL), for one order with three deliveries", rows)
    return rows
