"""A report in the shop's own transaction: order and report are there together, or neither is."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, MetaData, String, Table, create_engine, event, func, select
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from kit import Kit
from tests.postgres import Server
from tests.support import STORES, make_kit
from tests.test_kit import purchase, rows

shop_orders = Table("shop_orders", MetaData(), Column("number", String(32), primary_key=True))


@pytest.fixture
def shop(postgres: Server, tmp_path: Path) -> Iterator[Kit]:
    """A shop whose own tables and the kit's are in one PostgreSQL."""
    with postgres.database() as url:
        STORES[tmp_path] = url
        kit = make_kit(tmp_path)
        engine = create_engine(kit.store.url)
        shop_orders.create(engine)
        engine.dispose()
        yield kit
        kit.store.close()
        del STORES[tmp_path]


@pytest.mark.parametrize("commits", [True, False])
async def test_order_and_report_commit_or_roll_back_together(shop: Kit, commits: bool) -> None:
    """With an AsyncSession: after a rollback there is neither the order nor its report, and it can be placed again."""
    engine = create_async_engine(shop.store.url)
    async with AsyncSession(engine) as session:
        await session.execute(shop_orders.insert(), {"number": "order-1"})
        reported = await shop.report(purchase(), connection=session)
        await (session.commit() if commits else session.rollback())
    async with engine.connect() as connection:
        orders = await connection.scalar(select(func.count()).select_from(shop_orders))
    await engine.dispose()

    assert reported.new
    assert orders == int(commits)
    assert len(await rows(shop)) == (3 if commits else 0)
    assert (await shop.report(purchase())).new is not commits


async def test_an_async_connection_does_as_well(shop: Kit) -> None:
    """The shop begins and commits; the report is a part of it."""
    engine = create_async_engine(shop.store.url)
    async with engine.begin() as connection:
        await shop.report(purchase(), connection=connection)
    await engine.dispose()

    assert len(await rows(shop)) == 3


async def test_a_report_that_is_cancelled_half_way_cannot_be_committed(shop: Kit) -> None:
    """By the shop's own timeout, between event and deliveries: nothing is kept, and the next report is whole."""
    engine = create_async_engine(shop.store.url)
    told: list[str] = []
    async with engine.connect() as connection:
        await connection.execute(select(1))
        reporting = asyncio.create_task(shop.report(purchase(), connection=connection))

        @event.listens_for(engine.sync_engine, "before_cursor_execute")
        def _cancelled(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            told.append(" ".join(statement.split()[:3]))
            if told[-1] == "INSERT INTO events":
                reporting.get_loop().call_soon(reporting.cancel)

        with pytest.raises(asyncio.CancelledError):
            await reporting
        with pytest.raises(PendingRollbackError):
            await connection.commit()
    await engine.dispose()

    # Whoever listens to their own engine hears of every statement on it.
    assert told[-1] == "INSERT INTO events"
    assert await rows(shop) == []
    assert (await shop.report(purchase())).new
    assert len(await rows(shop)) == 3


@pytest.mark.parametrize("commits", [True, False])
async def test_synchronous_shops_have_the_same(shop: Kit, commits: bool) -> None:
    """With a Session of Django's or a task's own."""
    engine = create_engine(shop.store.url)
    with Session(engine) as session:
        session.execute(shop_orders.insert(), {"number": "order-1"})
        shop.sync.report(purchase(), connection=session)
        if commits:
            session.commit()
    engine.dispose()

    assert len(await rows(shop)) == (3 if commits else 0)


async def test_the_shops_own_sqlite_serves_too(tmp_path: Path) -> None:
    """One file for a small shop: its own connection, its own transaction."""
    kit = make_kit(tmp_path)
    kit.open()
    engine = create_engine(f"sqlite:///{tmp_path}/kit.db")
    with engine.begin() as connection:
        kit.sync.report(purchase(), connection=connection)
    engine.dispose()

    assert len(await rows(kit)) == 3
    kit.store.close()


async def test_the_first_report_of_a_process_may_come_late_in_a_transaction(tmp_path: Path) -> None:
    """A Celery task writes its order first: the kit opens beside SQLite's one writer and only reads."""
    before = make_kit(tmp_path)
    before.open()
    before.store.close()
    kit = make_kit(tmp_path)
    engine = create_engine(f"sqlite:///{tmp_path}/kit.db")
    shop_orders.create(engine)
    with engine.begin() as connection:
        connection.execute(shop_orders.insert(), {"number": "order-1"})
        kit.sync.report(purchase(), connection=connection)
    engine.dispose()

    assert len(await rows(kit)) == 3
    kit.store.close()
