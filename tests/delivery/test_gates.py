"""What holds a destination back, and how it is let go on: a wrong set-up, an outage, requests that fail."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kit import Conversion
from kit.destinations import Rockerbox, Rokt
from kit.store.gates import Gate
from kit.store.overview import standings, told
from kit.store.rows import moment
from kit.store.tables import gates
from tests.delivery.world import World, world
from tests.destinations.test_wire import tls_vendor
from tests.support import FrozenClock, make_kit, rockerbox, rokt

pytestmark = pytest.mark.usefixtures("both_engines")


async def gate_of(it: World) -> Gate:
    gate = (await it.standing()).gate
    assert gate is not None
    return gate


async def since(it: World) -> datetime:
    return moment(await it.kit.store.read(lambda connection: connection.scalars(select(gates.c.since)).one()))


async def orders(it: World, number: int, *, first: int = 0) -> None:
    """Report so many orders of buyers known by e-mail."""
    given = [Conversion(order_id=f"order-{n}", email=f"{n}@example.com") for n in range(first, first + number)]
    await asyncio.gather(*(it.kit.report(one) for one in given))


async def attempts_of(it: World) -> set[int]:
    found = await it.kit.store.read(lambda connection: told(connection, newest=10_000))
    return {row.attempts for row in found}


# ---------------------------------------------------------------- a wrong set-up


async def test_a_backlog_with_a_wrong_token_is_one_request_a_quarter_of_an_hour(tmp_path: Path) -> None:
    """One request at the start, one for each quarter of an hour, no attempt burnt; mended, everything is delivered."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(401, times=None)
        await orders(it, 300)
        requests = []
        for _ in range(4):
            for _ in range(3):
                await it.drain()
                it.clock.passes(timedelta(minutes=5))
            requests.append(len(it.sandbox.rockerbox.requests))
        assert requests == [1, 2, 3, 4]
        assert await attempts_of(it) == {0}

        it.sandbox.rockerbox.clear_faults()
        await it.drain()

        assert it.sandbox.rockerbox.counted == 300
        assert await attempts_of(it) == {1}


async def test_a_worker_that_begins_with_another_set_up_asks_at_once(tmp_path: Path) -> None:
    """The same wrong token waits its quarter of an hour whoever starts; a mended one delivers without waiting."""
    async with world(tmp_path, Rockerbox) as it:
        wrong = rockerbox(base_url=it.kit.destinations[0].base_url, advertiser="wrong")  # type: ignore[attr-defined]
        first, second = (make_kit(tmp_path, destinations=[wrong], clock=it.clock) for _ in range(2))
        it.sandbox.rockerbox.answers(401, times=None, when=lambda received: "wrong" in str(received.query))
        await orders(it, 10)
        await first.worker.drain()
        await second.worker.drain()
        assert len(it.sandbox.rockerbox.requests) == 1

        await it.drain()

        first.store.close()
        second.store.close()
        assert it.sandbox.rockerbox.counted == 10


async def test_another_set_up_that_is_wrong_too_asks_once(tmp_path: Path) -> None:
    """One probe for the change, then a quarter of an hour like everybody."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(401, times=None)
        await orders(it, 10)
        await it.drain()
        other = rockerbox(base_url=it.kit.destinations[0].base_url, advertiser="other")  # type: ignore[attr-defined]
        changed = make_kit(tmp_path, destinations=[other], clock=it.clock)

        for _ in range(3):
            await changed.worker.drain()

        changed.store.close()
        assert len(it.sandbox.rockerbox.requests) == 2


async def test_another_set_up_does_not_cut_short_what_a_vendor_asked_for(tmp_path: Path) -> None:
    """429 is the vendor's word, and no set-up of ours changes it."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(429, headers={"retry-after": "600"})
        await orders(it, 2)
        await it.drain()
        other = rockerbox(base_url=it.kit.destinations[0].base_url, advertiser="other")  # type: ignore[attr-defined]
        changed = make_kit(tmp_path, destinations=[other], clock=it.clock)

        await changed.worker.drain()

        changed.store.close()
        assert len(it.sandbox.rockerbox.requests) == 1


async def test_a_wrong_certificate_pauses_and_burns_nothing(tmp_path: Path) -> None:
    """It is a matter of set-up, and `kit status` says what is wrong."""
    async with tls_vendor("self_signed") as api:
        made = make_kit(tmp_path, destinations=[rokt(base_url=f"https://localhost:{api.port}")], clock=FrozenClock())
        await made.report(Conversion(order_id="1", email="jane@example.com"))

        await made.worker.drain()

    row, gate = (await made.store.read(told))[0], (await asyncio.to_thread(standings, made.store))[0].gate
    made.store.close()
    assert (row.state, row.attempts, api.requests) == ("pending", 0, [])
    assert gate is not None
    assert gate.state == "paused"
    assert gate.reason == "certificate: self-signed certificate"


# ---------------------------------------------------------------- outages


async def test_half_of_the_requests_failing_rests_the_destination(tmp_path: Path) -> None:
    """Ten failures and no more; then one probe after 30 s, later and later to a quarter of an hour; then all flows."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(500, times=None)
        await orders(it, 100)
        await it.drain()
        assert len(it.sandbox.rockerbox.requests) == 10
        began, waits = it.clock(), []
        for _ in range(12):
            gate = await gate_of(it)
            assert (gate.state, await since(it)) == ("failing", began)
            waits.append(gate.until - it.clock())
            it.clock.now = gate.until
            await it.drain()
        assert len(it.sandbox.rockerbox.requests) == 10 + 12
        assert waits[0] >= timedelta(seconds=30)
        assert waits == sorted(waits)
        assert waits[-1] == timedelta(minutes=15)

        it.sandbox.rockerbox.clear_faults()
        it.clock.passes(timedelta(hours=1))
        await it.drain()

        assert it.sandbox.rockerbox.counted == 100
        # Those that were never tried paid nothing for the outage.
        found = await it.kit.store.read(lambda connection: told(connection, newest=1_000))
        assert sum(row.attempts for row in found) == len(it.sandbox.rockerbox.requests)
        assert (await it.standing()).gate is None


async def test_a_few_failures_among_many_successes_hold_nothing_back(tmp_path: Path) -> None:
    """Three 500s among fifty orders: each is tried again by itself, the others do not wait."""
    async with world(tmp_path, Rockerbox) as it:
        await orders(it, 10)
        await it.drain()
        it.sandbox.rockerbox.answers(500, times=3)
        await orders(it, 40, first=10)

        await it.drain()

        assert it.sandbox.rockerbox.counted == 47
        assert (await it.standing()).gate is None


async def test_a_probe_that_fails_keeps_the_others_waiting(tmp_path: Path) -> None:
    """After a pause the probe meets a 500: the next one waits too, instead of taking its turn at once."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(401)
        it.sandbox.rockerbox.answers(500, times=None)
        await orders(it, 10)
        await it.drain()

        it.clock.passes(timedelta(minutes=16))
        for _ in range(3):
            await it.drain()

        assert len(it.sandbox.rockerbox.requests) == 2
        assert (await gate_of(it)).state == "failing"


async def test_a_batch_with_one_bad_record_is_no_failure_of_the_vendor(tmp_path: Path) -> None:
    """Rokt's own trouble with one record of a batch, twelve times: the others were taken, nothing is gated."""
    async with world(tmp_path, Rokt) as it:
        for number in range(12):
            await orders(it, 2, first=2 * number)
            record = (await it.rows(f"order-{2 * number}"))[0].event_id
            error = {"error": {"code": "InternalServerError", "message": "no"}, "record": {"clientEventId": record}}
            it.sandbox.rokt.answers(200, body={"data": {"unprocessedRecords": [error]}})
            await it.drain()

        assert (await it.standing()).gate is None


@asynccontextmanager
async def listening(port: int = 0) -> AsyncIterator[int]:
    """Yield the port of a vendor that takes everything, until the block ends."""
    writers = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
            await reader.readexactly(length)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.ensure_future(talk(reader, writer)))

    tasks: list[asyncio.Future[None]] = []
    server = await asyncio.start_server(connected, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.close()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_vendor_that_flaps_is_asked_soon_again_and_one_that_stays_away_is_not(tmp_path: Path) -> None:
    """Each short outage begins with seconds; a long one ends with a quarter of an hour; nothing is burnt by either."""
    clock = FrozenClock()
    async with listening() as port:
        pass
    destination = rockerbox(base_url=f"http://127.0.0.1:{port}")
    made = make_kit(tmp_path, destinations=[destination], clock=clock)
    firsts = []
    for number in range(3):
        await made.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
        await made.worker.drain()
        gate = (await asyncio.to_thread(standings, made.store))[0].gate
        assert gate is not None
        assert gate.state == "unreachable"
        firsts.append(gate.until - clock())
        clock.now = gate.until
        async with listening(port):
            await made.worker.drain()
        assert {row.state for row in await made.store.read(told)} == {"delivered"}
    await made.report(Conversion(order_id="long", email="jane@example.com"))
    for _ in range(14):
        await made.worker.drain()
        gate = (await asyncio.to_thread(standings, made.store))[0].gate
        assert gate is not None
        last, clock.now = gate.until - clock(), gate.until

    rows = await made.store.read(told)
    made.store.close()
    assert all(timedelta(seconds=5) <= first <= timedelta(seconds=7.5) for first in firsts)
    assert last == timedelta(minutes=15)
    assert {row.order_id: row.attempts for row in rows}["long"] == 0
