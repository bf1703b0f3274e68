"""What the database is and how it is set: what decides whether "accepted" means durable."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, func, literal_column, select
from sqlalchemy.exc import DatabaseError

from kit.store.engine import clock_offset, journal_mode
from kit.store.mounts import network_of
from kit.store.rows import moment
from kit.store.tables import deliveries, gates

#: What of SQLite's file is looked over at each start: 64 MiB take 130 ms where it is in memory (2 cores, SQLite 3.40).
LARGEST, LOOKING = 64 * 2**20, timedelta(milliseconds=250)
#: How many steps of SQLite's lie between two looks at the clock.
_STEPS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`durable_by` names the settings that a commit's safety rests on; `unsafe` those that break it.

    `network` is the kind of network file system that SQLite's file is on; `offset` is how far the database's clock is
    ahead of this host's; `overdue` when the longest waiting delivery of a destination became due, where nothing holds
    it back.
    """

    engine: str
    durable_by: str
    unsafe: tuple[str, ...]
    network: str | None
    offset: timedelta
    overdue: dict[str, datetime]


def health(connection: Connection, destinations: Sequence[str]) -> Health:
    """Return how the database stands."""
    is_file = connection.dialect.name == "sqlite"
    engine, settings, expected = _sqlite(connection) if is_file else _postgresql(connection)
    return Health(
        engine=engine,
        durable_by=", ".join(f"{name}={value}" for name, value in settings.items()),
        unsafe=tuple(f"{name}={value}" for name, value in settings.items() if value not in expected[name]),
        network=network_of(_file(connection)) if is_file else None,
        offset=clock_offset(connection),
        overdue={name: at for name in destinations if (at := _overdue(connection, name)) is not None},
    )


def damage_at_start(connection: Connection) -> str | None:
    """Return the first damage in a SQLite file of at most LARGEST bytes that is found within LOOKING; else None.

    While it is looked for, an open read holds commits up: a larger file is left to `damage`.
    """
    if connection.dialect.name != "sqlite" or _size(connection) > LARGEST:
        return None
    dbapi: Any = connection.connection.driver_connection
    ends = time.monotonic() + LOOKING.total_seconds()
    dbapi.set_progress_handler(lambda: time.monotonic() > ends, _STEPS)
    try:
        return damage(connection)
    except DatabaseError as error:
        if getattr(error.orig, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            return None
        raise
    finally:
        dbapi.set_progress_handler(None, 0)


def damage(connection: Connection) -> str | None:
    """Return the first damage that SQLite finds, reading all of its file; None where all is well, and on PostgreSQL."""
    if connection.dialect.name != "sqlite":
        return None
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    return None if found == "ok" else found


def _size(connection: Connection) -> int:
    pages, size = (connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("page_count", "page_size"))
    return int(pages * size)


def _file(connection: Connection) -> Path:
    return Path(connection.engine.url.database or "")


def _sqlite(connection: Connection) -> tuple[str, dict[str, str], dict[str, set[str]]]:
    version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()).upper()
    full = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    settings = {"journal_mode": mode, "synchronous": {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[full]}
    return (
        f"SQLite {version}",
        settings,
        {"journal_mode": {journal_mode(_file(connection))}, "synchronous": {"FULL", "EXTRA"}},
    )


def _postgresql(connection: Connection) -> tuple[str, dict[str, str], dict[str, set[str]]]:
    version, *values = (
        str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
        for name in ("server_version", "synchronous_commit", "fsync", "full_page_writes")
    )
    settings = dict(zip(("synchronous_commit", "fsync", "full_page_writes"), values, strict=True))
    waits = {"on", "local", "remote_write", "remote_apply"}
    return f"PostgreSQL {version}", settings, {"synchronous_commit": waits, "fsync": {"on"}, "full_page_writes": {"on"}}


def _overdue(connection: Connection, destination: str) -> datetime | None:
    if connection.scalar(select(gates.c.until).where(gates.c.destination == destination)) is not None:
        return None
    is_pending = deliveries.c.state == literal_column("'pending'")
    due = connection.scalar(
        select(func.min(deliveries.c.due_at)).where(deliveries.c.destination == destination, is_pending)
    )
    return None if due is None else moment(due)
