"""S18: a real PgBouncer in transaction mode, with the settings that it comes with, between the kit and PostgreSQL."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, select, text

from kit import Conversion, Kit, StoreUnavailable
from kit.sandbox import Sandbox
from kit.store import Store
from kit.store.tables import deliveries, events
from tests.faults.killed import begun, delivers, ended, kit_of, report, reports, reports_at_once
from tests.faults.pooler import SESSIONS, Pooler, pooled
from tests.postgres import Server
from tests.support import STORES, eventually, make_kit

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def direct(postgres: Server) -> Iterator[str]:
    """The URL of a database, past the pooler."""
    with postgres.database() as url:
        yield url


@pytest.fixture
def pooler(direct: str, tmp_path: Path) -> Iterator[Pooler]:
    """Every kit of the test reaches its database through it."""
    with pooled(direct) as (pooler, url):
        STORES[tmp_path] = url
        yield pooler
        del STORES[tmp_path]


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


async def taken(kit: Kit, number: int) -> bool | None:
    """Return what `report` said of the order; None where it could not be stored in time."""
    try:
        return (await kit.report(order(number))).new
    except StoreUnavailable:
        return None


def counted(connection: Connection) -> Counter[str]:
    """Return the deliveries of each order."""
    query = select(events.c.order_id).join(deliveries, deliveries.c.event == events.c.id)
    return Counter(connection.scalars(query))


@pytest.mark.usefixtures("pooler")
def test_processes_that_report_the_same_orders_through_it_store_each_once(tmp_path: Path) -> None:
    """Three processes share two sessions; of those that told an order, one heard that it was new."""
    store = STORES[tmp_path]
    shops = [begun(reports_at_once, store, NOWHERE, numbers) for numbers in (range(200), range(199, -1, -1), range(50))]
    told = [ended(*shop) for shop in shops]

    new = Counter(number for _, answers in told for number, is_new in answers if is_new)
    looking = Store(store)
    found = looking.read_sync(counted)
    looking.close()
    assert [code for code, _ in told] == [0, 0, 0]
    assert new == dict.fromkeys(range(200), 1)
    assert found == {f"order-{number}": 3 for number in range(200)}


@pytest.mark.usefixtures("pooler")
def test_two_workers_beside_a_shop_send_each_order_once(tmp_path: Path) -> None:
    """Claims, attempts and settlements, each in a session of somebody else's, double nothing and leave nothing."""
    store, sandbox = STORES[tmp_path], Sandbox()
    with sandbox.serve() as vendors:
        kit = kit_of(store, vendors.url)
        for number in range(30):
            report(kit, number)
        all_ = [
            begun(reports, store, vendors.url, None, range(30, 60)),
            *(begun(delivers, store, vendors.url, None) for _ in range(2)),
        ]
        codes = [ended(*one)[0] for one in all_]
        codes.append(ended(*begun(delivers, store, vendors.url, None))[0])

        states = kit.store.read_sync(lambda connection: Counter(connection.scalars(select(deliveries.c.state))))
        kit.store.close()
    assert codes == [0, 0, 0, 0]
    assert states == {"delivered": 180}
    assert all(set(vendor.orders.values()) == {1} and len(vendor.orders) == 60 for vendor in sandbox.vendors)


@pytest.mark.usefixtures("pooler")
async def test_a_lock_is_waited_for_within_the_stores_time(direct: str, tmp_path: Path) -> None:
    """The limits of time reach whatever session a transaction is given, and nothing follows a call that failed."""
    kit = make_kit(tmp_path)
    await taken(kit, 1)
    engine = create_engine(Store(direct).url)
    with engine.connect() as other:
        other.execute(text("LOCK TABLE events IN ACCESS EXCLUSIVE MODE"))
        away = await taken(kit, 2)
        waits = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
        await eventually(lambda: other.scalar(waits) == 0)
        other.rollback()
    engine.dispose()

    stored = await kit.store.read(counted)
    again = await taken(kit, 2)
    kit.store.close()
    assert away is None
    assert list(stored) == ["order-1"]
    assert again is True


@pytest.mark.usefixtures("pooler")
async def test_nothing_of_ours_is_left_in_the_sessions_that_others_get(tmp_path: Path) -> None:
    """Limits of time and a reader's read-only are gone with their transaction: the shop's own code shares the pool."""
    kit = make_kit(tmp_path)
    await asyncio.gather(*(taken(kit, number) for number in range(20)))
    await asyncio.gather(*(kit.store.read(counted) for _ in range(20)))
    names = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_read_only")

    engine = create_engine(Store(STORES[tmp_path]).url, connect_args={"prepare_threshold": None})
    found = set()
    with engine.connect() as one, engine.connect() as other:
        for session in (one, other):
            pid = session.scalar(text("SELECT pg_backend_pid()"))
            found.add((pid, *(session.scalar(text(f"SHOW {name}")) for name in names)))
    engine.dispose()
    kit.store.close()

    assert {settings for _, *settings in map(list, found) for settings in settings} == {"0", "off"}
    assert len(found) == SESSIONS


async def test_one_that_is_killed_under_load_loses_nothing_that_was_answered(pooler: Pooler, tmp_path: Path) -> None:
    """kill -9 and a start; some reports fail, all of them succeed when told again, without a restart of ours."""
    kit = make_kit(tmp_path)
    await kit.ready()
    answered: dict[int, bool] = {}

    async def told(number: int) -> bool:
        new = await taken(kit, number)
        if new is not None:
            answered[number] = new
        return new is not None

    async def report_all(numbers: range) -> None:
        for number in numbers:
            await eventually(partial(told, number))

    shops = [asyncio.create_task(report_all(range(start, start + 100))) for start in range(0, 800, 100)]
    await eventually(lambda: len(answered) > 25)
    await asyncio.to_thread(pooler.kill)
    before = set(answered)
    away = await taken(kit, 1_000)
    await asyncio.to_thread(pooler.start)
    await asyncio.gather(*shops)

    found = await kit.store.read(counted)
    kit.store.close()
    assert away is None
    assert before < set(range(800))
    assert found == {f"order-{number}": 3 for number in range(800)}


async def test_the_schema_is_brought_up_to_date_through_it(postgres: Server, tmp_path: Path) -> None:
    """`kit migrate` is one transaction, so it needs no line of its own past the pooler."""
    with postgres.database() as direct, pooled(direct) as (_, through):
        engine = create_engine(Store(direct).url, isolation_level="AUTOCOMMIT")
        with engine.connect() as admin:
            admin.execute(text("DROP SCHEMA public CASCADE"))
            admin.execute(text("CREATE SCHEMA public"))
        engine.dispose()

        await asyncio.to_thread(Store(through).migrate)
        kit = make_kit(tmp_path, store=through)
        new = await taken(kit, 1)
        kit.store.close()
    assert new is True
