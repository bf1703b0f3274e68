"""How long `report` holds the shop's event loop up: the longest gap between two turns of it, order by order.

    python -m tests.benchmarks stall
    python -m tests.benchmarks.bench_stall [--seconds 3] [--rounds 3]

The loop spins; every 2 ms an order is reported without being waited for, 500 a second, and the longest gap since the
one before is noted. Beside it the same loop with nothing reported, with the order made and dropped, with the bare
insert of the same rows on it, and with nothing reported while a worker on it delivers a backlog in hundreds.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from kit import Conversion, Kit
from tests.benchmarks.bench_drain import sink
from tests.benchmarks.bench_drain_worker import destination_of, fill, kit_of
from tests.benchmarks.bench_report import Bare, Numbers, conversion
from tests.benchmarks.table import Row, show
from tests.support import make_kit

EVERY = 1 / 500
#: Deliveries for each second: more than are sent.
BACKLOG = 10_000
Act = Callable[[], Awaitable[object] | None]


class Gaps(NamedTuple):
    """Seconds: the median, the 99th of a hundred, and the longest."""

    median: float
    p99: float
    longest: float


async def gaps(act: Act, seconds: float) -> Gaps:
    under_way: set[asyncio.Future[object]] = set()
    found: list[float] = []
    last = time.perf_counter()
    ends, due, longest = last + seconds, last, 0.0
    while last < ends:
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
        if now >= due:
            found.append(longest)
            longest, due = 0.0, due + EVERY
            if (asked := act()) is not None:
                future = asyncio.ensure_future(asked)
                under_way.add(future)
                future.add_done_callback(under_way.discard)
    await asyncio.gather(*under_way)
    return Gaps(statistics.median(found), statistics.quantiles(found, n=100)[-1], max(found))


def reporting(kit: Kit, numbers: Numbers) -> Act:
    return lambda: kit.report(conversion(numbers.take(1)[0]))


def made(_: Conversion) -> None:
    return None


async def delivering(folder: Path, seconds: float) -> Gaps:
    """Return the gaps while a worker on this loop delivers what waits, as it does in an app by default."""
    with sink() as url:
        kit = kit_of(f"sqlite:///{folder}/backlog.db", destination_of("AdRoll, page views", url))
        await kit.ready()
        await fill(kit, int(seconds * BACKLOG), page=True)
        worker = asyncio.create_task(kit.worker.run())
        found = await gaps(lambda: None, seconds)
        kit.worker.stop()
        await worker
        kit.store.close()
    return found


async def measure(folder: Path, seconds: float, rounds: int) -> dict[str, list[Gaps]]:
    kit = make_kit(folder, store_timeout=timedelta(seconds=30))
    numbers = Numbers()
    await kit.report(conversion(numbers.take(1)[0]))
    bare = Bare(folder / "kit.db")
    cases: dict[str, Act] = {
        "nothing": lambda: None,
        "the order made alone": lambda: made(conversion(numbers.take(1)[0])),
        "report": reporting(kit, numbers),
        "the bare commit on the loop": lambda: bare.commit(1),
    }
    found: dict[str, list[Gaps]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, act in cases.items():
            found[name].append(await gaps(act, seconds))
    found["a backlog delivered beside"] = [await delivering(folder, seconds)]
    bare.connection.close()
    kit.store.close()
    return found


def run(seconds: float = 3.0, rounds: int = 3) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(measure(Path(folder), seconds, rounds))
    best = {name: min(all_, key=lambda each: each.p99) for name, all_ in found.items()}
    rows = [
        Row(
            name=name,
            value=f"p99 {each.p99 * 1e6:,.0f} µs",
            rate=f"longest {each.longest * 1e3:,.1f} ms",
            ratio=f"median {each.median * 1e6:,.0f} µs, p99 {each.p99 / best['nothing'].p99:.2f} × nothing's",
        )
        for name, each in best.items()
    ]
    show("the event loop's longest gap between two orders, 500 orders a second", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="How long report holds the event loop up.")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    run(options.seconds, options.rounds)


if __name__ == "__main__":
    main()
