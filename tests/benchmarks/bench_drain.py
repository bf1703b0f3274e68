"""Delivering what waits, to a vendor on this machine that answers at once, beside clients that record nothing.

    python -m tests.benchmarks drain
    python -m tests.benchmarks.bench_drain [--batched 10000] [--singles 2000] [--rounds 2] [--no-postgresql]

Each measured party is a process of its own; its seconds of processor are its own, those of the sink and of PostgreSQL
are not in them. Parties take turns; every figure is the best of its rounds. "everything" means that each request was
committed before its first byte left, and each delivery's outcome after its answer. The peers' events are ready in
memory when the clock starts, and are gone when their process is.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.table import Row, show
from tests.postgres import Server, serving

#: Nothing here takes longer, unless it hangs.
_TIMEOUT = 120
_WORKER = "tests.benchmarks.bench_drain_worker"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """What delivering took: seconds of the wall and of the processor, and how many answers each worker had."""

    wall: float
    cpu: float
    shares: tuple[int, ...] = ()


def _start(module: str, *arguments: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", module, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if not line:
        raise SystemExit(f"{process.args!r} said nothing")
    return line


@contextmanager
def sink() -> Iterator[str]:
    process = _start("tests.benchmarks.peers.sink")
    try:
        yield f"http://127.0.0.1:{_line(process)}"
    finally:
        process.kill()
        process.communicate()


def peer(module: str, *arguments: object) -> Spent:
    said = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, timeout=_TIMEOUT, check=True,
    ).stdout  # fmt: skip
    figures = json.loads(said.splitlines()[-1])
    return Spent(wall=figures["wall"], cpu=figures["cpu"])


def ours(store: str, url: str, case: str, events: int, *, workers: int = 1) -> Spent:
    """Let so many workers deliver what the first of them has reported."""
    started: list[subprocess.Popen[str]] = []
    try:
        for number in range(workers):
            started.append(_start(_WORKER, store, url, case, 0 if number else events))
            _line(started[-1])  # it is ready
        outputs = []
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            outputs.append(json.loads(process.communicate(timeout=_TIMEOUT)[0]))
            if process.returncode:
                raise SystemExit(f"a worker failed at {case}")
    finally:
        for process in started:
            if process.poll() is None:
                process.kill()
                process.communicate()
    return Spent(
        wall=max(each["wall"] for each in outputs),
        cpu=sum(each["cpu"] for each in outputs),
        shares=tuple(each["answered"] for each in outputs),
    )


def sqlite(url: str, case: str, events: int) -> Spent:
    with tempfile.TemporaryDirectory(prefix="kit-drain-") as folder:
        return ours(f"sqlite:///{Path(folder)}/kit.db", url, case, events)


Cases = dict[str, Callable[[], Spent]]


def best_of(cases: Cases, rounds: int) -> dict[str, Spent]:
    """Alternate the cases, so that a busy moment of the machine falls on all of them."""
    found: dict[str, list[Spent]] = {name: [] for name in cases}
    for _ in range(rounds):
        for name, case in cases.items():
            found[name].append(case())
    return {
        name: Spent(
            wall=min(each.wall for each in all_),
            cpu=min(each.cpu for each in all_),
            shares=all_[-1].shares,
        )
        for name, all_ in found.items()
    }


def to_vendor(url: str, vendors: tuple[str, ...], events: int, batch: int, rounds: int) -> list[Row]:
    """Return a table of one size of request: ours, the bare client with the same bytes, and the peers."""
    cases: Cases = {}
    for vendor in vendors:
        cases[f"{vendor}: ours, everything recorded"] = lambda vendor=vendor: sqlite(url, vendor, events)  # type: ignore[misc]
        cases[f"{vendor}: reading and writing JSON alone"] = lambda vendor=vendor: peer(  # type: ignore[misc]
            _WORKER, "floor", url, vendor, events
        )
        cases[f"{vendor}: bare httpx-aiohttp, nothing"] = lambda vendor=vendor: peer(  # type: ignore[misc]
            _WORKER, "bare", url, vendor, events
        )
    peers = {
        "segment-analytics-python, nothing": "tests.benchmarks.peers.segment",
        "snowplow-tracker, nothing": "tests.benchmarks.peers.snowplow",
    }
    for name, module in peers.items():
        cases[name] = lambda module=module: peer(module, url, events, batch)  # type: ignore[misc]
    spent = best_of(cases, rounds)
    best = min(peers, key=lambda name: spent[name].wall)
    leanest = min(peers, key=lambda name: spent[name].cpu)
    rows = [
        Row(
            name=name,
            value=f"{each.cpu / events * 1e6:,.1f} µs CPU",
            rate=f"{events / each.wall:,.0f} events/s",
            ratio=f"{spent[best].wall / each.wall:.2f} × {best.split(',')[0]}'s rate, "
            f"{each.cpu / spent[leanest].cpu:.2f} × {leanest.split(',')[0]}'s CPU",
        )
        for name, each in spent.items()
    ]
    show(f"{events} events in requests of {batch}; SQLite, synchronous=FULL; what each records", rows)
    return rows


def side_by_side(server: Server, url: str, events: int, rounds: int) -> list[Row]:
    """Return how one, two and four workers share one outbox on PostgreSQL."""

    def case(workers: int) -> Spent:
        with server.database() as store:
            return ours(store, url, "counted", events, workers=workers)

    spent = best_of({str(workers): lambda workers=workers: case(workers) for workers in (1, 2, 4)}, rounds)  # type: ignore[misc]
    rows = [
        Row(
            name=f"{name} worker{'s' if name != '1' else ''}",
            value=f"{each.cpu / events * 1e6:,.0f} µs CPU",
            rate=f"{events / each.wall:,.0f} posts/s",
            ratio=f"{spent['1'].wall / each.wall:.2f} × 1 worker, shares {' '.join(map(str, each.shares))}",
        )
        for name, each in spent.items()
    ]
    show(f"{events} single posts to Rockerbox by workers on one PostgreSQL", rows)
    return rows


def claim_and_settle(server: Server, url: str, events: int, rounds: int) -> list[Row]:
    """Return claim and settle by hundreds beside pgqueuer's jobs that do nothing."""

    def own() -> Spent:
        with server.database() as store:
            return ours(store, url, "settle", events)

    def pgqueuer() -> Spent:
        with server.database() as store:
            return peer("tests.benchmarks.peers.queuer", store, events)

    spent = best_of({"ours": own, "pgqueuer": pgqueuer}, rounds)
    rows = [
        Row(
            name=name,
            value=f"{each.cpu / events * 1e6:,.1f} µs CPU",
            rate=f"{events / each.wall:,.0f}/s",
            ratio=f"{spent['pgqueuer'].wall / each.wall:.2f} × pgqueuer",
        )
        for name, each in spent.items()
    ]
    show(f"claim and settle {events} by hundreds on PostgreSQL", rows)
    return rows


def run(batched: int = 10_000, singles: int = 2_000, rounds: int = 2, *, postgresql: bool = True) -> list[Row]:
    with sink() as url:
        rows = to_vendor(url, ("AdRoll, page views", "Rokt"), batched, 100, rounds)
        rows += to_vendor(url, ("Rockerbox", "AdRoll, purchases"), singles, 1, rounds)
        if postgresql:
            with serving() as server:
                rows += side_by_side(server, url, singles, 1)
                rows += claim_and_settle(server, url, batched, rounds)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="Delivering what waits, beside clients that record nothing.")
    parser.add_argument("--batched", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-postgresql", action="store_true")
    options = parser.parse_args()
    run(options.batched, options.singles, options.rounds, postgresql=not options.no_postgresql)


if __name__ == "__main__":
    main()
