"""What the database is and how it is set: what decides whether "accepted" means durable."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, literal_column, select

from kit.store.engine import clock_offset, journal_mode
from kit.store.rows import moment
from kit.store.tables import deliveries, gates


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """`durable_by` names the settings that a commit's safety rests on; `unsafe` those that break it.

    `offset` is how far the database's clock is ahead of this host's; `overdue` when the longest waiting delivery of a
    destination became due, where nothing holds it back.
    """

    engine: str
    durable_by: str
    unsafe: tuple[str, ...]
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
        offset=clock_offset(connection),
        overdue={name: at for name in destinations if (at := _overdue(connection, name)) is not None},
    )


def damage(connection: Connection) -> str | None:
    """Return the first damage that SQLite finds, reading all of its file; None where all is well, and on PostgreSQL."""
    if connection.dialect.name != "sqlite":
        return None
    found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
    return None if found == "ok" else found


def _sqlite(connection: Connection) -> tuple[str, dict[str, str], dict[str, set[str]]]:
    version = connection.exec_driver_sql("SELECT sqlite_version()").scalar_one()
    mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()).upper()
    full = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
    settings = {"journal_mode": mode, "synchronous": {0: "OFF", 1: "NORMAL", 2: "FULL", 3: "EXTRA"}[full]}
    return f"SQLite {version}", settings, {"journal_mode": {journal_mode()}, "synchronous": {"FULL", "EXTRA"}}


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
