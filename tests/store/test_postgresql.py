"""What is PostgreSQL's alone: locks, time limits, the schema by command, workers that share."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, select, text
from sqlalchemy.ext.asyncio import create_async_engine

from kit import ConfigurationError, Conversion, Kit, StoreUnavailable
from kit.model import DeliveryState
from kit.store import postgresql, statements
from kit.store.attempts import Closing, Opening, Settlement, close, open_attempts
from kit.store.events import report
from kit.store.gates import Gate, gate_of, pass_gate, set_gate
from kit.store.outbox import Claim, Claimed, Takeover, claim, claim_lapsed
from kit.store.overview import Pause, pause, resume, standings
from kit.store.store import Store
from kit.store.tables import deliveries, events
from tests.postgres import Server
from tests.support import STORES, FrozenClock, make_kit, rokt


@pytest.fixture
def database(postgres: Server, tmp_path: Path) -> object:
    with postgres.database() as url:
        STORES[tmp_path] = url
        yield url
        del STORES[tmp_path]


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


async def reported(kit: Kit, numbers: range) -> list[bool]:
    return [one.new for one in await asyncio.gather(*(kit.report(order(number)) for number in numbers))]


async def test_two_webs_that_report_the_same_orders_the_other_way_round_both_succeed(
    database: str, tmp_path: Path
) -> None:
    """No deadlock reaches a caller, and every order is one event."""
    one, other = make_kit(tmp_path), make_kit(tmp_path)

    forward, backward = await asyncio.gather(reported(one, range(300)), reported(other, range(299, -1, -1)))

    counts = (await asyncio.to_thread(standings, one.store))[0].counts
    one.store.close()
    other.store.close()
    assert sum(forward) + sum(backward) == 300
    assert sum(counts.values()) == 300


async def test_repeats_lock_their_events_as_everybody_does(database: str, tmp_path: Path) -> None:
    """In the order of their ids, whatever the events are called: an erasure that locks them so cannot deadlock."""
    kit = make_kit(tmp_path, store_timeout=timedelta(seconds=20))
    for event_id in ("b", "a"):
        await kit.report(Conversion(name="signup_plan", event_id=event_id, email="jane@example.com"))
    ids = await kit.store.read(lambda connection: connection.scalars(select(events.c.id).order_by(events.c.id)).all())
    engine = create_engine(kit.store.url)
    waits = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    repeats = [
        kit.intake.report(
            Conversion(name="signup_plan", event_id=event_id, email="jane@example.com", phone="3238675309"),
            store_ahead=timedelta(0),
        )
        for event_id in ("a", "b")
    ]

    def together(connection: Connection, asked: Sequence[Any]) -> Sequence[None]:
        report(connection, asked[0])
        return [None]

    with engine.connect() as first, engine.connect() as looks, engine.connect() as second:
        first.execute(select(events.c.id).where(events.c.id == ids[0]).with_for_update())
        repeating = asyncio.create_task(kit.store.write(together, repeats))
        while not looks.scalar(waits):
            looks.rollback()
            await asyncio.sleep(0.01)
        # Held by nobody: the repeat waits for the first of them, and has no other.
        free = second.scalars(select(events.c.id).where(events.c.id == ids[1]).with_for_update(nowait=True)).all()
        second.rollback()
        first.rollback()
        await repeating
    engine.dispose()
    kit.store.close()

    assert free == [ids[1]]


async def test_a_lock_is_waited_for_within_the_stores_time_and_nothing_follows(database: str, tmp_path: Path) -> None:
    """A call that failed for a lock is not committed once the lock is gone."""
    kit = make_kit(tmp_path)
    await kit.ready()
    engine = create_engine(kit.store.url)
    with engine.connect() as other:
        other.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await kit.report(order(1))
        waited = time.monotonic() - began
        other.rollback()
    engine.dispose()
    await asyncio.sleep(0.5)

    assert waited < 2.5
    assert await asyncio.to_thread(standings, kit.store) == []
    assert (await kit.report(order(1))).new
    kit.store.close()


async def test_a_schema_that_is_not_there_asks_for_kit_migrate(postgres: Server, tmp_path: Path) -> None:
    """PostgreSQL is never changed by a web process that happens to start."""
    with pytest.raises(ConfigurationError, match="run `kit migrate`"):
        Store(postgres.url.set(drivername="postgresql").render_as_string(hide_password=False)).open()


async def test_workers_share_what_is_due_and_double_nothing(database: str, tmp_path: Path) -> None:
    """SKIP LOCKED: four workers claim at once, each delivery is settled once."""
    kits = [make_kit(tmp_path, destinations=[rokt(mode="shadow")]) for _ in range(4)]
    await reported(kits[0], range(400))

    await asyncio.gather(*(kit.worker.drain() for kit in kits))

    counts = (await asyncio.to_thread(standings, kits[0].store))[0].counts
    for kit in kits:
        kit.store.close()
    assert counts == {("skipped", "shadow"): 400}


async def test_a_backend_that_is_ended_is_replaced(database: str, tmp_path: Path) -> None:
    """An administrator ends every connection of the shop: one call may fail, the next works without a restart."""
    kit = make_kit(tmp_path)
    await kit.report(order(1))
    engine = create_engine(kit.store.url, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        admin.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    engine.dispose()

    answers: list[bool | None] = []
    for number in range(2, 5):
        try:
            answers.append((await kit.report(order(number))).new)
        except StoreUnavailable:
            answers.append(None)

    kit.store.close()
    assert answers[1:] == [True, True]


async def test_a_writer_that_is_frozen_in_the_middle_is_given_up(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off with rows locked, it keeps them from nobody; when it goes on, nothing of its own is committed."""
    monkeypatch.setattr(postgresql, "LONGEST_IDLE", timedelta(milliseconds=300))
    kit = make_kit(tmp_path)
    await kit.report(order(1))

    def frozen(connection: Connection, asked: Sequence[None]) -> Sequence[None]:
        connection.execute(deliveries.update().values(reason="mine"))
        time.sleep(1)
        connection.execute(deliveries.update().values(reason="mine"))
        return asked

    with pytest.raises(StoreUnavailable):
        await kit.store.write(frozen, None)

    reasons = await kit.store.read(lambda connection: set(connection.scalars(select(deliveries.c.reason))))
    assert reasons == {None}
    assert (await kit.report(order(2))).new
    kit.store.close()


async def test_what_is_opened_is_locked_until_it_is_written(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker stopped between looking at its lease and opening the attempt: nobody takes the delivery meanwhile."""
    kit = make_kit(tmp_path, destinations=[rokt()])
    await kit.report(order(1))
    now = datetime.now(UTC)
    asked = Claim(destination="rokt", limit=1, owner="slow", lease=timedelta(seconds=4), now=now)
    (one,) = await kit.store.write(claim, asked)
    later = Takeover(
        destination="rokt",
        limit=1,
        owner="other",
        lease=timedelta(seconds=4),
        now=now + timedelta(seconds=5),
        dead=(),
    )
    opening = Opening(destination="rokt", deliveries=(one,), payloads={one.delivery_id: b"{}"}, now=now)
    taken: list[list[Claimed]] = []
    engine = create_engine(kit.store.url)

    run = statements.run

    def stopped(connection: Connection, statement: str, *given: Any, **named: Any) -> Any:
        if statement.startswith("INSERT INTO attempts"):
            taken.append(kit.store.write_sync(claim_lapsed, later))
        return run(connection, statement, *given, **named)

    monkeypatch.setattr(statements, "run", stopped)
    with engine.begin() as slow:
        (attempt,) = open_attempts(slow, [opening])
    engine.dispose()
    (orphan,) = await kit.store.write(claim_lapsed, later)

    kit.store.close()
    assert taken == [[]]
    assert (orphan.attempt, orphan.orphaned) == (attempt, True)


async def test_a_gap_that_is_filled_while_it_is_skipped_is_looked_at_again(database: str, tmp_path: Path) -> None:
    """A report that brings the e-mail commits just after a worker wrote "no identifier": neither misses the other."""
    kit = make_kit(tmp_path, destinations=[rokt()])
    await kit.report(Conversion(order_id="order-1"))
    now = datetime.now(UTC)
    asked = Claim(destination="rokt", limit=1, owner="one", lease=timedelta(minutes=1), now=now)
    (one,) = await kit.store.write(claim, asked)
    skipped = Settlement(
        delivery_id=one.delivery_id,
        token=one.token,
        state=DeliveryState.SKIPPED,
        reason="identifier",
        curable=True,
        revision=one.revision,
    )
    closing = Closing(destination="rokt", attempt=None, outcome="not_sent", settlements=(skipped,), now=now)
    engine = create_async_engine(kit.store.url)
    async with engine.begin() as filling:
        await kit.report(Conversion(order_id="order-1", email="jane@example.com"), connection=filling)
        settling = asyncio.create_task(kit.store.write(close, closing))
        await asyncio.sleep(0.3)
    await settling
    await engine.dispose()

    state = await kit.store.read(lambda connection: connection.scalar(select(deliveries.c.state)))
    kit.store.close()
    assert state == "pending"


async def test_an_operators_stop_is_not_overwritten_by_what_was_under_way(database: str, tmp_path: Path) -> None:
    """`kit pause` commits between a worker's look at the gate and its write: the stop stands."""
    kit = make_kit(tmp_path, destinations=[rokt()])
    await kit.report(order(1))
    now = datetime.now(UTC)
    stop = Pause(destination="rokt", reason="by operator", now=now)
    throttled = Gate(state="throttled", until=now + timedelta(minutes=1), reason="HTTP 429")
    engine = create_engine(kit.store.url)
    with engine.begin() as worker:

        @event.listens_for(worker, "before_cursor_execute")
        def _meanwhile(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            if statement.startswith("INSERT INTO gates"):
                kit.store.write_sync(pause, stop)

        set_gate(worker, "rokt", throttled, probe=None, judged=False, now=now)
    with engine.begin() as worker:
        gate = gate_of(worker, "rokt")
        await kit.store.write(resume, "rokt")
        await kit.store.write(pause, stop)
        passed = pass_gate(worker, throttled_row(gate), until=now + timedelta(minutes=1), fingerprint=None)
    engine.dispose()

    (standing,) = await asyncio.to_thread(standings, kit.store)
    kit.store.close()
    assert passed is None
    assert standing.gate is not None
    assert standing.gate.state == "stopped"
    assert standing.gate.until.year == 9999


def throttled_row(gate: Any) -> Any:
    """Return the gate as a worker read it before the stop."""
    return SimpleNamespace(
        destination=gate.destination, state="throttled", since=gate.since, until=gate.since, fingerprint=None
    )


async def test_the_workers_time_is_the_databases(database: str, tmp_path: Path) -> None:
    """The database's clock is an hour ahead of this host's: reports are due by it, and leases end by it (C02)."""
    ahead = "SELECT pg_catalog.clock_timestamp() + interval '1 hour'"
    engine = create_engine(Store(database).url, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        admin.execute(text(f"CREATE FUNCTION clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ {ahead} $$"))
        name = engine.url.database
        admin.execute(text(f"ALTER DATABASE {name} SET search_path = public, pg_catalog"))
    engine.dispose()
    kit = make_kit(tmp_path, destinations=[rokt(mode="shadow")], clock=FrozenClock())
    await kit.report(order(1))

    await kit.worker.drain()

    measured = kit.store.offset
    await kit.store.measure_clock()
    counts = (await asyncio.to_thread(standings, kit.store))[0].counts
    kit.store.close()
    assert counts == {("skipped", "shadow"): 1}
    assert [round(offset / timedelta(hours=1), 1) for offset in (measured, kit.store.offset)] == [1.0, 1.0]
