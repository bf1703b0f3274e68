"""The write-ahead log, which SQLite has where its build is free of the WAL-reset bug; for these tests, anywhere."""

import asyncio
import sqlite3
from contextlib import closing
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
from sqlalchemy import func, select

from kit import Conversion, StoreUnavailable
from kit.sandbox import Sandbox
from kit.store import engine
from kit.store.health import damage_at_start
from kit.store.tables import deliveries, events
from tests.faults.killed import begun
from tests.support import make_kit, rockerbox


def _is_safe(version: tuple[int, ...]) -> bool:
    return True


def with_log() -> None:
    engine.wal_is_safe = _is_safe


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "wal_is_safe", _is_safe)


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


def reports(pipe: Pipe, folder: str, first: int) -> None:
    """Report for ever; tell the number of each order that was accepted."""
    with_log()
    kit = make_kit(Path(folder), destinations=[rockerbox(mode="shadow")])
    number = first
    while True:
        kit.sync.report(order(number))
        pipe.send(number)
        number += 1


def test_what_was_accepted_is_there_after_a_kill_beside_another_that_writes(tmp_path: Path, log: None) -> None:
    """Two processes share the log; one is killed, the other goes on, and a third reads what both were told is kept."""
    one, theirs = begun(reports, str(tmp_path), 0)
    other, others = begun(reports, str(tmp_path), 1_000_000)
    told: set[int] = set()
    while sum(number < 1_000_000 for number in told) < 50 or sum(number >= 1_000_000 for number in told) < 50:
        told |= {pipe.recv() for pipe in (theirs, others) if pipe.poll(0.01)}
    one.kill()
    one.join()
    while theirs.poll():
        try:
            told.add(theirs.recv())
        except EOFError:
            break
    after = [others.recv() for _ in range(20)]
    other.kill()
    other.join()
    told |= set(after)

    kit = make_kit(tmp_path, destinations=[rockerbox(mode="shadow")])
    found = kit.store.read_sync(lambda connection: set(connection.scalars(select(events.c.order_id))))
    damage = kit.store.read_sync(damage_at_start)
    mode = kit.store.read_sync(lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    kit.store.close()
    assert {f"order-{number}" for number in told} <= found
    assert (damage, mode) == (None, "wal")


async def test_what_waits_is_delivered_while_a_reader_stays(tmp_path: Path, log: None) -> None:
    """A dashboard or a backup that reads for long holds nobody up."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        kit = make_kit(tmp_path, destinations=[rockerbox(base_url=vendors.rockerbox_url)])
        await asyncio.gather(*(kit.report(order(number)) for number in range(30)))
        with closing(sqlite3.connect(tmp_path / "kit.db", isolation_level=None)) as other:
            other.execute("BEGIN")
            before = other.execute("SELECT count(*) FROM deliveries WHERE state = 'pending'").fetchone()[0]
            await kit.worker.drain()
            as_before = other.execute("SELECT count(*) FROM deliveries WHERE state = 'pending'").fetchone()[0]
        query = select(deliveries.c.state, func.count()).group_by(deliveries.c.state)
        ended = await kit.store.read(lambda connection: connection.execute(query).all())
        kit.store.close()
    assert (before, as_before) == (30, 30)
    assert ended == [("delivered", 30)]
    assert sandbox.rockerbox.counted == 30


def test_a_backup_that_meets_the_log_of_what_was_there_is_refused(tmp_path: Path, log: None) -> None:
    """SQLite would put the old log's pages into it; without the log, as the error says, the backup is taken."""
    one, theirs = begun(reports, str(tmp_path), 0)
    told = [theirs.recv() for _ in range(20)]
    with closing(sqlite3.connect(tmp_path / "kit.db")) as there, closing(sqlite3.connect(tmp_path / "copy")) as copy:
        there.backup(copy)
    while theirs.recv() < 300:
        pass
    one.kill()
    one.join()
    backup = (tmp_path / "copy").read_bytes()
    (tmp_path / "kit.db").write_bytes(backup)

    kit = make_kit(tmp_path, destinations=[])
    with pytest.raises(StoreUnavailable, match=r"restore a backup, and remove kit\.db-wal and kit\.db-journal"):
        kit.sync.report(order(-1))
    (tmp_path / "kit.db-wal").unlink(missing_ok=True)
    (tmp_path / "kit.db").write_bytes(backup)
    new = kit.sync.report(order(-1)).new
    found = kit.store.read_sync(lambda connection: set(connection.scalars(select(events.c.order_id))))

    kit.store.close()
    assert new
    assert {f"order-{number}" for number in [*told, -1]} <= found


def test_a_store_whose_sqlite_is_set_back_goes_on_without_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deploy with an older SQLite: what the log held is in the file, and the next commits have no log."""
    with monkeypatch.context() as newer:
        newer.setattr(engine, "wal_is_safe", _is_safe)
        one, theirs = begun(reports, str(tmp_path), 0)
        last = [theirs.recv() for _ in range(20)][-1]
        one.kill()
        one.join()
    assert (tmp_path / "kit.db-wal").stat().st_size > 0
    monkeypatch.setattr(engine, "wal_is_safe", lambda _: False)

    kit = make_kit(tmp_path, destinations=[])
    new = kit.sync.report(order(-1)).new
    found = kit.store.read_sync(lambda connection: set(connection.scalars(select(events.c.order_id))))
    mode = kit.store.read_sync(lambda connection: connection.exec_driver_sql("PRAGMA journal_mode").scalar())

    kit.store.close()
    assert (new, mode) == (True, "truncate")
    assert {f"order-{number}" for number in range(last + 1)} <= found
    assert not (tmp_path / "kit.db-wal").exists()
