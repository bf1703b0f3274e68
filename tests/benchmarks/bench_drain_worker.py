"""One worker of ours in its own process: waits for a line on its input, delivers all that waits, says what it spent.

    python -m tests.benchmarks.bench_drain_worker STORE SINK CASE FILL [PROFILE]

FILL events are reported first. With the word `bare` for STORE it posts the same bytes by httpx over aiohttp alone; with
`floor` it reads the events as they are stored and writes the vendor's JSON, and sends and records nothing.
"""

import asyncio
import cProfile
import gc
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
from httpx_aiohttp import AiohttpTransport
from sqlalchemy import Connection, literal_column, select

from kit import Conversion, Item, Kit, Limits
from kit.destinations import Destination, Rockerbox
from kit.destinations.base import Answer, Judgement, Sending, encoded
from kit.model import ClickId, DeliveryState, Dispatch, Identifiers, event_id_of
from kit.store.attempts import Closing, Settlement, close
from kit.store.outbox import Claim, claim
from kit.store.rows import conversion_of, conversion_text, identifiers_of, identifiers_text
from kit.store.tables import deliveries, events
from tests.benchmarks.peers.spent import spent
from tests.support import FPC, KEY, adroll, rockerbox, rokt

_answered = [0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted(Rockerbox):
    """Counts the answers that this worker had."""

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        _answered[0] += len(sendings)
        return Rockerbox.judge(self, sendings, answer, now=now)


def destination_of(case: str, sink: str) -> Destination:
    if case == "Rokt":
        return rokt(base_url=sink)
    if case == "Rockerbox":
        return rockerbox(base_url=sink)
    if case in {"counted", "settle"}:
        return Counted(advertiser="sandbox-advertiser", base_url=sink)
    return adroll(base_url=sink, identifier_policy="any")


def conversion(number: int, *, page: bool) -> Conversion:
    name, order = ("page_view", None) if page else ("purchase", f"order-{number}")
    return Conversion(
        name=name,
        order_id=order,
        event_id=f"event-{number}",
        value=None if page else "123.45",
        currency=None if page else "USD",
        email=f"jane.{number}@example.com",
        url="https://shop.example.com/shoe",
        items=[Item(id="shoe-1", name="Trail shoe", price="123.45")],
    )


KNOWN = Identifiers(
    visitor=None,
    click_ids=(ClickId("adroll", "Y2xpY2stMTIzNDU2Nzg5MGFiY2RlZmdo", datetime.now(UTC) - timedelta(days=1)),),
    first_party_cookie=FPC,
    ip="203.0.113.7",
    user_agent="Mozilla/5.0 (X11; Linux x64) Firefox/145.0",
)


def kit_of(store: str, destination: Destination) -> Kit:
    return Kit(
        secret_keys=[KEY],
        consent="opt_out",
        store=store,
        destinations=[destination],
        insecure_cookies=True,
        worker=False,
        store_timeout=timedelta(seconds=30),
        limits=Limits(ballast_bytes=None),
    )


async def fill(kit: Kit, count: int, *, page: bool) -> None:
    """Report so many events, with what a browser would have left of them."""
    for start in range(0, count, 500):
        numbers = range(start, min(start + 500, count))
        await asyncio.gather(*(kit.report(conversion(number, page=page), consent=True) for number in numbers))
    await kit.store.write(_know, identifiers_text(KNOWN))


def _know(connection: Connection, asked: Sequence[str]) -> Sequence[None]:
    for known in asked:
        connection.execute(events.update().values(identifiers=known))
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE")
    return [None] * len(asked)


def _waits(connection: Connection) -> bool:
    # Written out, so that SQLite uses its partial indexes.
    for state in ("pending", "claimed"):
        query = select(deliveries.c.id).where(deliveries.c.state == literal_column(f"'{state}'")).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


async def deliver(kit: Kit) -> None:
    """Run the worker until nothing waits."""
    running = asyncio.create_task(kit.worker.run())
    while await kit.store.read(_waits):  # noqa: ASYNC110 - another process may take the last
        await asyncio.sleep(0.05)
    kit.worker.stop()
    await running


async def settle_only(kit: Kit) -> None:
    """Claim by hundreds and settle them as delivered, without a vendor."""
    (destination,) = kit.destinations
    while True:
        now = datetime.now(UTC)
        asked = Claim(destination=destination.name, limit=100, owner="bench", lease=timedelta(seconds=70), now=now)
        found = await kit.store.write(claim, asked)
        if not found:
            return
        settlements = tuple(
            Settlement(delivery_id=one.delivery_id, token=one.token, state=DeliveryState.DELIVERED, outcome="ok")
            for one in found
        )
        closing = Closing(
            destination=destination.name, attempt=None, outcome="ok", settlements=settlements, now=datetime.now(UTC)
        )
        await kit.store.write(close, closing)


async def bare(destination: Destination, count: int, *, page: bool) -> None:
    """Post the same bytes by httpx over aiohttp alone, as many at once as a worker would."""
    now = datetime.now(UTC)
    sendings = []
    for number in range(count):
        event = conversion(number, page=page)
        dispatch = Dispatch(event_id=event_id_of(event), at=now, conversion=event, identifiers=KNOWN)
        body = json.dumps(destination.payload(dispatch, now=now), separators=(",", ":")).encode()
        sendings.append(
            Sending(
                delivery_id=number, event_id=dispatch.event_id, event_name=event.name, order_id=event.order_id,
                at=now, monetary=event.monetary, attempts=0, payload=body,
            )
        )  # fmt: skip
    size = destination.batch_limit(sendings[0])
    requests = iter([destination.build(sendings[start : start + size]) for start in range(0, count, size)])

    async with httpx.AsyncClient(transport=AiohttpTransport(), trust_env=False) as client:

        async def caller() -> None:
            for request in requests:
                answer = await client.post(request.url, content=request.content, headers=request.headers)
                answer.raise_for_status()

        with spent():
            await asyncio.gather(*(caller() for _ in range(destination.max_in_flight)))


def floor(destination: Destination, count: int, *, page: bool) -> None:
    """Do what no worker can leave out: read each event as it is stored, check it, write the vendor's JSON."""
    now, known = datetime.now(UTC), identifiers_text(KNOWN)
    stored = [conversion_text(conversion(number, page=page)) for number in range(count)]
    gc.collect()
    gc.freeze()
    with spent():
        for said in stored:
            event = conversion_of(said)
            told = Dispatch(event_id=event.event_id, at=now, conversion=event, identifiers=identifiers_of(known))
            destination.check(told, now=now)
            encoded(destination.payload(told, now=now))


async def ours(store: str, destination: Destination, count: int, *, page: bool, only_settle: bool) -> None:
    kit = kit_of(store, destination)
    await kit.ready()
    await fill(kit, count, page=page)
    await kit.store.read(_waits)
    # As `kit worker` does.
    gc.collect()
    gc.freeze()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    with spent() as facts:
        await (settle_only(kit) if only_settle else deliver(kit))
        facts["answered"] = _answered[0]
    states = await kit.store.read(lambda connection: set(connection.scalars(select(deliveries.c.state).distinct())))
    if states - {"delivered"}:
        raise SystemExit(f"not all was delivered: {states}")
    kit.store.close()


def main() -> None:
    store, sink, case, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    profile = sys.argv[5] if len(sys.argv) > 5 else None
    page = case.startswith("AdRoll, page")
    if store == "bare":
        asyncio.run(bare(destination_of(case, sink), count, page=page))
        return
    if store == "floor":
        floor(destination_of(case, sink), count, page=page)
        return
    work = ours(store, destination_of(case, sink), count, page=page, only_settle=case == "settle")
    if profile:
        with cProfile.Profile() as seen:
            asyncio.run(work)
        seen.dump_stats(profile)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
