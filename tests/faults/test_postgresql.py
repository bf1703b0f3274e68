"""PostgreSQL that dies, falls silent, or says no: callers hear it in time, and what was answered is there."""

import asyncio
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, select, text

from kit import Conversion, Kit, StoreUnavailable
from kit.store import Store
from kit.store.tables import deliveries, events
from tests.faults.proxy import Proxy, before
from tests.postgres import Server
from tests.support import STORES, eventually, make_kit, rokt
from tests.torture.databases import postgresql


@pytest.fixture
def database(postgres: Server, tmp_path: Path) -> Iterator[str]:
    with postgres.database() as url:
        STORES[tmp_path] = url
        yield url
        del STORES[tmp_path]


@pytest.fixture
def proxy(database: str, tmp_path: Path) -> Iterator[Proxy]:
    """Every kit of the test reaches the database through it."""
    with before(database) as (proxy, url):
        STORES[tmp_path] = url
        yield proxy


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


async def known(kit: Kit) -> set[str]:
    query = select(events.c.order_id)
    return await kit.store.read(lambda connection: set(connection.scalars(query)))


async def taken(kit: Kit, number: int) -> bool | None:
    """Return what `report` said of the order; None where it could not be stored in time."""
    try:
        return (await kit.report(order(number))).new
    except StoreUnavailable:
        return None


async def test_a_server_that_is_killed_under_load_loses_nothing_that_was_answered(tmp_path: Path) -> None:
    """S12: kill -9 and a restart; some reports fail, all of them succeed when told again, without a restart of ours."""
    with postgresql() as (url, blows):
        if "server killed" not in blows:
            pytest.skip("the server is not ours to kill")
        STORES[tmp_path] = url
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
        await eventually(lambda: len(answered) > 50)
        await asyncio.to_thread(blows["server killed"])
        await asyncio.gather(*shops)

        found = await known(kit)
        query = select(deliveries.c.id)
        rows = await kit.store.read(lambda connection: connection.scalars(query).all())
        kit.store.close()
        del STORES[tmp_path]
    assert len(answered) == len(found) == 800
    assert len(rows) == 3 * 800


@pytest.mark.parametrize("stored", [False, True])
async def test_a_connection_that_is_lost_at_the_commit(proxy: Proxy, tmp_path: Path, stored: bool) -> None:
    """S13: nobody can say whether it was stored; told again the order is one event either way."""
    kit = make_kit(tmp_path)
    await taken(kit, 1)
    proxy.cut_at, proxy.passing_it_on = b"COMMIT", stored

    first = await taken(kit, 2)
    again = await taken(kit, 2)

    found = await known(kit)
    kit.store.close()
    assert (first, again, proxy.cuts) == (None, not stored, 1)
    assert found == {"order-1", "order-2"}


async def test_a_server_that_becomes_read_only_is_one_that_is_away(database: str, tmp_path: Path) -> None:
    """S14: after a failover to a replica reports fail in time; when there is a primary again they succeed."""
    kit = make_kit(tmp_path)
    await taken(kit, 1)
    await asyncio.to_thread(_set_read_only, database, "on")

    away = [await taken(kit, number) for number in (2, 3)]
    await asyncio.to_thread(_set_read_only, database, "off")
    answers = [await taken(kit, number) for number in (2, 3, 4)]

    kit.store.close()
    assert away == [None, None]
    assert answers[1:] == [True, True]


def _set_read_only(url: str, value: str) -> None:
    engine = create_engine(Store(url).url, isolation_level="AUTOCOMMIT")
    with engine.connect() as admin:
        admin.execute(text("SET default_transaction_read_only = off"))
        admin.execute(text(f"ALTER DATABASE {engine.url.database} SET default_transaction_read_only = {value}"))
        others = "pid <> pg_backend_pid() AND datname = current_database()"
        admin.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))
    engine.dispose()


async def test_a_line_that_falls_silent_is_heard_by_its_caller_in_time(proxy: Proxy, tmp_path: Path) -> None:
    """S17: no answer and no reset; the caller is told so and not kept waiting."""
    kit = make_kit(tmp_path)
    await taken(kit, 1)

    proxy.falls_silent()
    answer = await asyncio.wait_for(taken(kit, 2), 20)

    # What hangs on the silent line must not hang the test.
    proxy._ending.set()
    kit.store.close()
    assert answer is None


async def test_after_a_line_fell_silent_the_writer_takes_another_one(proxy: Proxy, tmp_path: Path) -> None:
    """S17: new connections are served; reports succeed again within seconds, without a restart."""
    kit = make_kit(tmp_path)
    await taken(kit, 1)

    proxy.falls_silent()
    answers = [await taken(kit, 2) for _ in range(3)]

    proxy._ending.set()
    kit.store.close()
    assert answers[0] is None
    assert answers[-1] is not None


async def test_no_state_is_left_in_a_session(database: str, tmp_path: Path) -> None:
    """S18: behind a pooler that gives each transaction another session, settings and locks must not outlive it."""
    kit = make_kit(tmp_path, destinations=[rokt(mode="shadow")])
    for number in range(20):
        await taken(kit, number)
    await kit.worker.drain()

    def left(connection: Connection, *_: object) -> list[list[str]]:
        session = connection.connection.driver_connection
        assert session is not None
        # What a transaction sets for itself goes with it.
        session.rollback()
        queries = (
            "SELECT name FROM pg_settings WHERE source = 'session'",
            "SELECT locktype FROM pg_locks WHERE locktype = 'advisory'",
            "SELECT channel FROM pg_listening_channels() AS channel",
        )
        return [[row[0] for query in queries for row in session.execute(query)]]

    found = await kit.store.write(left, None)
    kit.store.close()
    assert found == []


async def test_no_statement_is_prepared_in_a_session(database: str, tmp_path: Path) -> None:
    """S18: a pooler in transaction mode gives the next transaction a session that does not know the statement."""
    kit = make_kit(tmp_path)
    for number in range(20):
        await taken(kit, number)

    def prepared(connection: Connection, *_: object) -> list[list[str]]:
        return [[row[0] for row in connection.exec_driver_sql("SELECT statement FROM pg_prepared_statements")]]

    found = await kit.store.write(prepared, None)
    kit.store.close()
    assert found == []
