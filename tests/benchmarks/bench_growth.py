"""The store with a million deliveries waiting beside the same with ten thousand: report, claim, `kit status`.

    python -m tests.benchmarks growth
    python -m tests.benchmarks.bench_growth [--size 1000000] [--rounds 9] [--postgresql [--snapshot]]

Both stores are filled through their tables, and take turns, so that a busy moment of the machine falls on both. Every
figure is a median of rounds; a claim leases 100 deliveries, and each takes others. At the end a worker, a process of
its own, delivers from each for some seconds, and says what memory it took. With --snapshot a transaction that began
before stays open on both: PostgreSQL can let go of no row that was changed since.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, select, text

from kit import Conversion, Kit
from kit.model import DeliveryState, Identifiers
from kit.store.outbox import Claim, claim
from kit.store.overview import standings
from kit.store.rows import conversion_text, identifiers_text, insert_many, milliseconds
from kit.store.tables import deliveries, events
from tests.benchmarks.bench_drain import sink
from tests.benchmarks.bench_report import Numbers, conversion
from tests.benchmarks.table import Row, show
from tests.postgres import serving
from tests.support import STORES, make_kit

SMALL, LARGE = 10_000, 1_000_000
ONE, MANY, CALLERS, CLAIMS = 60, 1_280, 64, 8
_PAGE = 5_000


def fill(kit: Kit, waiting: int) -> None:
    """Let so many deliveries wait, of orders like those that are reported."""
    names = [destination.name for destination in kit.destinations]
    now = milliseconds(datetime.now(UTC)) - 3_600_000
    orders = waiting // len(names)
    for start in range(1, orders + 1, _PAGE):
        numbers = range(start, min(start + _PAGE, orders + 1))
        rows = [_event(number, now + number) for number in numbers]
        told = [_delivery(number, name, now + number) for number in numbers for name in names]
        kit.store.write_sync(_insert, (rows, told))
    kit.store.write_sync(_settled_in, None)


def _insert(connection: Connection, asked: Any) -> list[None]:
    for rows, told in asked:
        for table, found in ((events, rows), (deliveries, told)):
            insert_many(connection, table, tuple(found[0]), [tuple(row.values()) for row in found])
    return [None] * len(asked)


def _settled_in(connection: Connection, asked: Any) -> list[None]:
    """Let PostgreSQL hand out further keys, and know what it has."""
    if connection.dialect.name == "postgresql":
        for table in ("events", "deliveries"):
            connection.execute(text(f"SELECT setval('{table}_id_seq', (SELECT max(id) FROM {table}))"))
            connection.execute(text(f"ANALYZE {table}"))
    return [None] * len(asked)


def _event(number: int, at: int) -> dict[str, Any]:
    return {
        "id": number,
        "event_id": str(uuid.uuid5(uuid.NAMESPACE_OID, f"{number}")),
        "name": "purchase",
        "order_id": f"waiting-{number}",
        "visitor": f"{uuid.uuid5(uuid.NAMESPACE_URL, f'{number}').hex[:22]}",
        "at": at,
        "reported_at": at,
        "conversion": _CONVERSION.replace("waiting-1", f"waiting-{number}"),
        "identifiers": _IDENTIFIERS,
        "granted": True,
        "signal": "opt_out",
        "consent_at": at,
        "revision": 0,
    }


_CONVERSION = conversion_text(Conversion(order_id="waiting-1", value="123.45", currency="USD"))
_IDENTIFIERS = identifiers_text(Identifiers(email="jane@example.com", user_agent="x" * 80))


def _delivery(number: int, destination: str, at: int) -> dict[str, Any]:
    return {
        "event": number,
        "destination": destination,
        "state": DeliveryState.PENDING.value,
        "due_at": at,
        "created_at": at,
        "attempts": 0,
        "crashes": 0,
        "curable": False,
    }


class Shop:
    """One store under measure."""

    def __init__(self, folder: Path, waiting: int) -> None:
        self.kit = make_kit(folder, store_timeout=timedelta(seconds=60))
        self.waiting = waiting
        self.numbers = Numbers()
        self.kit.open()
        fill(self.kit, waiting)

    async def report_one(self) -> float:
        orders = [conversion(number) for number in self.numbers.take(ONE)]
        taken = []
        for order in orders:
            began = time.perf_counter()
            await self.kit.report(order)
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    async def report_many(self) -> float:
        waiting = iter([conversion(number) for number in self.numbers.take(MANY)])

        async def caller() -> None:
            for order in waiting:
                await self.kit.report(order)

        began = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(CALLERS)))
        return (time.perf_counter() - began) / MANY

    async def claim(self) -> float:
        taken = []
        for _ in range(CLAIMS):
            asked = Claim(destination="rokt", limit=100, owner="bench", lease=timedelta(hours=1), now=datetime.now(UTC))
            began = time.perf_counter()
            claimed = await self.kit.store.write(claim, asked)
            taken.append(time.perf_counter() - began)
            assert len(claimed) == 100
        return statistics.median(taken)

    def status_read(self) -> float:
        """Return how long one of the reads takes that `kit status` consists of."""
        read, taken = self.kit.store.read_sync, list[float]()

        def timed(query: Callable[[Connection], Any]) -> Any:
            began = time.perf_counter()
            found = read(query)
            taken.append(time.perf_counter() - began)
            return found

        self.kit.store.read_sync = timed  # type: ignore[method-assign]  # a stopwatch around the real one
        for _ in range(3):
            standings(self.kit.store)
        self.kit.store.read_sync = read  # type: ignore[method-assign]
        return statistics.quantiles(taken, n=10)[-1]


@contextlib.contextmanager
def snapshot(shop: Shop) -> Iterator[None]:
    """Keep a transaction open that sees the store as it is now."""
    engine = create_engine(shop.kit.store.url, isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        connection.execute(select(deliveries.c.id).limit(1)).all()
        yield
    engine.dispose()


def memory(shop: Shop, sink_url: str, seconds: float = 5.0) -> tuple[float, int]:
    """Return the MiB that a worker took at this backlog, and how many it delivered."""
    store = shop.kit.store.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.benchmarks.bench_growth_worker", store, sink_url, str(seconds)]
    said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout)
    return said["peak_kib"] / 1024, said["delivered"]


async def measure(small: Shop, large: Shop, rounds: int) -> dict[str, tuple[float, float]]:
    cases = {"report, 1 caller": "report_one", "report, 64 callers": "report_many", "claim of 100": "claim"}
    seconds: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in cases}
    for turn in range(rounds + 1):
        for name, method in cases.items():
            for place, shop in enumerate((small, large)):
                spent = await getattr(shop, method)()
                if turn:  # the first turn warms caches up
                    seconds[name][place].append(spent)
    return {name: (statistics.median(one), statistics.median(other)) for name, (one, other) in seconds.items()}


@contextlib.contextmanager
def stores(postgresql: bool) -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as open_until:
        folders = Path(folder) / "small", Path(folder) / "large"
        server = open_until.enter_context(serving()) if postgresql else None
        for each in folders:
            each.mkdir()
            if server is not None:
                STORES[each] = open_until.enter_context(server.database())
                open_until.callback(STORES.pop, each)
        yield folders


def run(
    size: int = LARGE, rounds: int = 9, postgresql: bool = False, snapshots: bool = False, worker_seconds: float = 5.0
) -> list[Row]:
    with stores(postgresql) as folders:
        small, large = Shop(folders[0], SMALL), Shop(folders[1], size)
        with contextlib.ExitStack() as open_until:
            for shop in (small, large) if snapshots else ():
                open_until.enter_context(snapshot(shop))
            medians = asyncio.run(measure(small, large, rounds))
        medians["kit status, the slowest tenth of its reads"] = small.status_read(), large.status_read()
        for shop in (small, large):
            shop.kit.store.close()
        with sink() as url:
            took, gone = zip(*(memory(shop, url, worker_seconds) for shop in (small, large)), strict=True)
    rows = [
        Row(
            name=name,
            value=f"{few * 1e6:,.0f} µs",
            rate=f"{many * 1e6:,.0f} µs",
            ratio=f"{many / few:.2f} × with {size:,} waiting",
        )
        for name, (few, many) in medians.items()
    ]
    rows.append(
        Row(
            name="a worker's memory",
            value=f"{took[0]:,.0f} MiB",
            rate=f"{took[1]:,.0f} MiB",
            ratio=f"{took[1] / took[0]:.2f} × with {size:,} waiting, after {gone[0]:,} and {gone[1]:,} delivered",
        )
    )
    engine = f"PostgreSQL{', a snapshot open,' if snapshots else ''}" if postgresql else "SQLite"
    show(f"{engine} with {SMALL:,} deliveries waiting, and with {size:,}", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="What a backlog costs those who report and claim.")
    parser.add_argument("--size", type=int, default=LARGE)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--snapshot", action="store_true", help="with --postgresql: an old transaction stays open")
    options = parser.parse_args()
    run(options.size, options.rounds, options.postgresql, options.snapshot)


if __name__ == "__main__":
    main()
