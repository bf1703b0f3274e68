"""What silence costs: a refused post, what a million callers leave in memory, and a known e-mail beside an unknown one.

    python -m tests.benchmarks identify
    python -m tests.benchmarks.bench_identify [--refusals 20000] [--keys 1000000] [--calls 20000]

    refusal   a post to identify that is past a limit, driven directly, with no server
    memory    what all limits remember once so many visitors, addresses and identities have posted
    probing   posts over one connection to uvicorn, of e-mails that the shop knows and of such that nobody knows, in
              random turns, each by a visitor of its own: so many calls of both together, answered by the same bytes

The server is in this process: what it adds is on both sides of the comparison.
"""

import argparse
import asyncio
import gc
import random
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from kit import Kit
from kit.capture import visitor_cookie
from kit.model import VisitorId
from kit.sandbox.sockets import served_in_loop
from kit.web import PostLimits, Rate, endpoints
from kit.web.limits import Buckets
from tests.attacks.exchanges import post
from tests.attacks.mutations import POST, Asked
from tests.attacks.shop import UNLIMITED, asked_json, attacked_kit
from tests.benchmarks.table import Row, show

REFUSALS, KEYS, CALLS = 20_000, 1_000_000, 20_000
#: How long the keys of visitors, addresses and identities are.
LENGTHS = {"visitor": 22, "address": 15, "asserted": 22, "identity": 64}
#: Each person whom the shop knows is asked for so often: fewer times than make an e-mail frozen.
TIMES = 10


def cookie(kit: Kit) -> bytes:
    """Return the cookie of a new visitor."""
    now = int(time.time())
    token = visitor_cookie.token(visitor_cookie.mint(now), kit.rules.signature, now=now)
    return kit.rules.cookie_name + b"=" + token


def spread(seconds: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 95th percentile."""
    return statistics.median(seconds), statistics.quantiles(seconds, n=20)[-1]


# ---------------------------------------------------------------- refusal


async def refused(kit: Kit, limits: PostLimits, refusals: int) -> list[float]:
    """Return how long each post took that was past a limit, after the one that was not."""
    app = endpoints(kit, limits=limits)
    asked = Asked(b"POST", b"/kit/identify", b"", [*POST, (b"cookie", cookie(kit))], asked_json({"email": "a@b.com"}))
    before, seconds = sum(kit.faults.counts.values()), []
    for _ in range(refusals + 1):
        scope = {**asked.scope(), "client": ("8.8.8.8", 50_000)}
        began = time.perf_counter()
        await app(scope, _receiving(asked.body), _answered)
        seconds.append(time.perf_counter() - began)
    if sum(kit.faults.counts.values()) != before + refusals:
        raise SystemExit("not every post was refused")
    return seconds[1:]


def _receiving(body: bytes) -> Any:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _answered(message: Any) -> None:
    if message["type"] == "http.response.start" and message["status"] != 204:
        raise SystemExit(f"answered {message['status']}")


async def refusal(folder: Path, refusals: int) -> list[Row]:
    one, wide = Rate(posts=1, per=timedelta(days=1)), Rate(posts=10**9, per=timedelta(days=1))
    cases = {
        "past the visitor's limit": replace(UNLIMITED, visitor=one),
        # As far as a post can come that is refused.
        "past everybody's, and all others looked at": PostLimits(
            visitor=wide, address=wide, asserted=wide, identity=wide, everybody=one
        ),
    }
    kit = attacked_kit(folder)
    await kit.ready()
    seconds = {}
    for name, limits in cases.items():
        await refused(kit, limits, refusals // 10)  # warms caches up
        gc.disable()
        seconds[name] = spread(await refused(kit, limits, refusals))
        gc.enable()
    kit.store.close()
    return [
        Row(name=name, value=f"{median * 1e6:,.1f} µs", rate=f"{1 / median:,.0f}/s", ratio=f"p95 {p95 * 1e6:,.1f} µs")
        for name, (median, p95) in seconds.items()
    ]


# ---------------------------------------------------------------- memory


def memory(keys: int) -> list[Row]:
    limits = PostLimits()
    tracemalloc.start()
    kept = {
        name: Buckets(getattr(limits, name), remembered=limits.remembered, seconds=time.monotonic) for name in LENGTHS
    }
    for number in range(keys):
        for name, buckets in kept.items():
            buckets.take(f"{number:0{LENGTHS[name]}d}")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    remembered = sum(map(len, kept.values()))
    return [
        Row(
            name=f"{keys:,} of each of {len(kept)} kinds",
            value=f"{peak / 2**20:,.1f} MiB",
            ratio=f"at most, for the {remembered:,} that are remembered",
        )
    ]


# ---------------------------------------------------------------- probing


class Line:
    """One connection, on which posts wait for their answers."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def asks(self, email: str, visitor: bytes) -> tuple[float, bytes]:
        """Return how long the answer took, and its bytes; it has no body."""
        sent = post(b"/identify", asked_json({"email": email}), b"Cookie: " + visitor, close=b"")
        began = time.perf_counter()
        self._writer.write(sent)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        return time.perf_counter() - began, answer

    async def close(self) -> None:
        self._writer.close()
        await self._writer.wait_closed()


def turns(calls: int, people: int) -> Iterator[tuple[str, str]]:
    """Yield pairs of side and e-mail: both sides by turns, the first of each two at random."""
    chance = random.Random(6)
    for number in range(calls // 2):
        two = [("known", f"known-{number % people}@example.com"), ("unknown", f"nobody-{number}@example.com")]
        chance.shuffle(two)
        yield from two


async def probing(folder: Path, calls: int) -> list[Row]:
    kit = attacked_kit(folder, store_timeout=timedelta(seconds=30))
    people = max(calls // 2 // TIMES, 1)
    await asyncio.gather(
        *(
            kit.identify(visitor=VisitorId(f"known-{number:016}"), email=f"known-{number}@example.com")
            for number in range(people)
        )
    )
    seconds: dict[str, list[float]] = {"known": [], "unknown": []}
    answers: set[bytes] = set()
    async with served_in_loop(endpoints(kit, limits=UNLIMITED), "127.0.0.1", 0) as url:
        line = Line(*await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2])))
        for _ in range(200):  # warms caches up
            await line.asks("warm@example.com", cookie(kit))
        for side, email in turns(calls, people):
            spent, answer = await line.asks(email, cookie(kit))
            seconds[side].append(spent)
            answers.add(answer)
        await line.close()
    kit.store.close()
    if len(answers) != 1 or kit.faults.counts:
        raise SystemExit(f"{len(answers)} different answers, faults {dict(kit.faults.counts)}")
    found = {side: spread(each) for side, each in seconds.items()}
    rows = [
        Row(name=f"{side} e-mail", value=f"p95 {p95 * 1e3:,.3f} ms", rate=f"median {median * 1e3:,.3f} ms")
        for side, (median, p95) in found.items()
    ]
    (known, known_p95), (unknown, unknown_p95) = found["known"], found["unknown"]
    apart = Row(
        name="apart",
        value=f"p95 {abs(known_p95 - unknown_p95) * 1e3:,.3f} ms",
        rate=f"median {abs(known - unknown) * 1e3:,.3f} ms",
        ratio="and the same bytes",
    )
    return [*rows, apart]


def run(refusals: int = REFUSALS, keys: int = KEYS, calls: int = CALLS) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        parts = {
            f"{refusals:,} posts to identify that were refused": asyncio.run(refusal(Path(folder), refusals)),
            "what the limits remember": memory(keys),
            f"{calls:,} posts to identify on SQLite, in random turns": asyncio.run(probing(Path(other), calls)),
        }
    for title, rows in parts.items():
        show(title, rows)
    return [row for rows in parts.values() for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description="What silence costs.")
    parser.add_argument("--refusals", type=int, default=REFUSALS)
    parser.add_argument("--keys", type=int, default=KEYS)
    parser.add_argument("--calls", type=int, default=CALLS)
    options = parser.parse_args()
    run(options.refusals, options.keys, options.calls)


if __name__ == "__main__":
    main()
