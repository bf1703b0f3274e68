"""The writer thread: concurrent calls commit together, and one caller's fault is nobody else's."""

import asyncio
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, func, select

from kit import StoreUnavailable
from kit.store import Store
from kit.store.tables import meta


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(f"sqlite:///{tmp_path}/kit.db", timeout=timedelta(seconds=2))
    made.open()
    yield made
    made.close()


groups: list[int] = []


def keep(connection: Connection, keys: Sequence[str]) -> Sequence[str]:
    groups.append(len(keys))
    connection.execute(meta.insert(), [{"key": key, "value": "x"} for key in keys])
    return keys


def refuse(connection: Connection, keys: Sequence[str]) -> Sequence[str]:
    raise ValueError("this call cannot be")


def counted(store: Store) -> int:
    return store.read_sync(lambda connection: connection.scalar(select(func.count()).select_from(meta)) or 0)


async def test_concurrent_callers_commit_together(store: Store) -> None:
    """Two hundred calls take far fewer transactions than two hundred, and every caller gets its own answer."""
    groups.clear()

    answers = await asyncio.gather(*(store.write(keep, f"key-{number}") for number in range(200)))

    assert answers == [f"key-{number}" for number in range(200)]
    assert counted(store) == 200
    assert len(groups) < 100


async def test_a_call_that_fails_fails_alone(store: Store) -> None:
    """Its neighbours in the same group are committed; the failure reaches its own caller."""
    calls = [store.write(keep, "first"), store.write(refuse, "bad"), store.write(keep, "last")]

    answers = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(answer) for answer in answers] == [str, ValueError, str]
    assert counted(store) == 2


def overload(connection: Connection, keys: Sequence[str]) -> Sequence[str]:
    connection.exec_driver_sql("select " + "+".join("1" * 5_000))
    return keys


async def test_an_operational_error_of_one_call_is_not_everybodys(store: Store) -> None:
    """A statement that this database cannot take fails its own caller; a locked database fails them all."""
    answers = await asyncio.gather(store.write(keep, "first"), store.write(overload, "bad"), return_exceptions=True)

    assert [type(answer) for answer in answers] == [str, StoreUnavailable]
    assert counted(store) == 1


async def test_a_row_that_breaks_a_rule_fails_alone(store: Store) -> None:
    """A constraint violation rolls its group back, and the others are tried by themselves."""
    answers = await asyncio.gather(
        store.write(keep, "same"), store.write(keep, "same"), store.write(keep, "other"), return_exceptions=True
    )

    assert sum(isinstance(answer, StoreUnavailable) for answer in answers) == 1
    assert counted(store) == 2


async def test_a_caller_who_gave_up_is_not_served_later(store: Store, tmp_path: Path) -> None:
    """Calls that wait behind a lock fail within their time, and none of them is committed afterwards."""
    other = sqlite3.connect(tmp_path / "kit.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    first = asyncio.ensure_future(store.write(keep, "first"))
    await asyncio.sleep(0.05)

    answers = await asyncio.gather(first, store.write(keep, "second"), return_exceptions=True)
    other.execute("ROLLBACK")
    other.close()
    await asyncio.sleep(0.2)

    assert all(isinstance(answer, StoreUnavailable) for answer in answers)
    assert counted(store) == 0


async def test_closing_finishes_what_is_queued(store: Store) -> None:
    """Shutdown loses nothing that was handed over."""
    calls = [asyncio.ensure_future(store.write(keep, f"key-{number}")) for number in range(50)]
    await asyncio.sleep(0)

    await asyncio.to_thread(store.close)
    await asyncio.gather(*calls)

    assert counted(store) == 50
