"""Opens the database: SQLite's settings by its version, schema at its newest revision."""

import enum
import os
import sqlite3
import threading
import time
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISDIR
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, InvalidRequestError, OperationalError
from sqlalchemy.pool import ConnectionPoolEntry

from kit.errors import ConfigurationError
from kit.store.mounts import network_of
from kit.store.statements import OWN
from kit.store.tables import meta
from kit.store.turn import Turn

# Alembic is loaded where there is something to migrate: it takes 11 MiB of every process.
if TYPE_CHECKING:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

_MIGRATIONS = Path(__file__).with_name("migrations")

#: The newest of the revisions in `migrations`; a test holds it to them.
NEWEST = "0005"

#: The oldest revision that code must know to work with the schema, where a migration took something away.
NEEDS = "schema_needs"

#: Alembic knows one migration at a time: of two, the later one would go on with the earlier one's connection.
_ALEMBIC = threading.Lock()

#: How often whoever has the turn asks for SQLite's lock, in seconds: SQLite's own waiting grows to 100 ms.
_PAUSE = 0.0002


def wal_is_safe(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite is free of the WAL-reset bug (https://sqlite.org/wal.html#walresetbug)."""
    if version >= (3, 51, 3):
        return True
    return version[:2] in {(3, 50), (3, 44)} and version >= ((3, 50, 7) if version[1] == 50 else (3, 44, 6))


def journal_mode(file: Path | None = None) -> str:
    """Return the journal mode for the SQLite in use: WAL where it cannot lose a commit, TRUNCATE elsewhere.

    Elsewhere is also a `file` on a network file system: the log's index is in memory, which machines do not share.
    """
    if file is not None and network_of(file) is not None:
        return "TRUNCATE"
    return "WAL" if wal_is_safe(sqlite3.sqlite_version_info) else "TRUNCATE"


def parse_url(store: str) -> URL:
    """Return the store's URL; `postgresql://` means psycopg 3. Raises ConfigurationError for anything else."""
    try:
        url = make_url(store)
    except (ArgumentError, ValueError):
        # A port that is no number is a ValueError.
        raise ConfigurationError(
            "store", "is not a URL such as sqlite:///kit.db or postgresql://user@host:5432/name"
        ) from None
    backend = url.get_backend_name()
    if backend == "sqlite":
        if url.database in {None, "", ":memory:"}:
            raise ConfigurationError("store", "is in memory and would lose what was accepted; use sqlite:///kit.db")
        _check_folder(Path(url.database or "").parent)
        return url
    if backend == "postgresql":
        if find_spec("psycopg") is None:
            raise ConfigurationError("store", "needs PostgreSQL's driver: pip install 'attribution-kit[postgresql]'")
        return url.set(drivername="postgresql+psycopg")
    raise ConfigurationError("store", f"is a {backend} URL; use sqlite:///kit.db or postgresql://…")


def _check_folder(folder: Path) -> None:
    """Raise ConfigurationError where there is no such folder, or this process may not know."""
    try:
        is_folder = S_ISDIR(folder.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        is_folder = False
    except OSError as error:
        raise ConfigurationError("store", f"its folder {folder} cannot be looked at: {error.strerror}") from None
    if not is_folder:
        raise ConfigurationError("store", f"its folder {folder} does not exist")


def connect(url: URL, *, lock_timeout: timedelta, read_only: bool = False) -> Engine:
    """Return an engine whose transactions are ours to begin: IMMEDIATE for the writer, query_only for a reader."""
    if url.get_backend_name() != "sqlite":
        # Its driver is an extra.
        from kit.store import postgresql

        return postgresql.engine_of(url, lock_timeout=lock_timeout, read_only=read_only)
    file = Path(url.database or "")
    _make_private(file)
    journal, seconds = journal_mode(file), lock_timeout.total_seconds()
    turn = Turn(Path(f"{url.database}-turn"), patience=lock_timeout / 2)
    # Without its parameters: an error of the database's must not carry an e-mail into a log.
    engine = create_engine(
        url,
        connect_args={"timeout": seconds, "check_same_thread": False},
        execution_options=OWN,
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _settings(dbapi: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver must not begin transactions on its own; `_begin` below does, with the right lock.
        dbapi.isolation_level = None
        for pragma in (
            f"journal_mode={journal}",
            "synchronous=FULL",
            "foreign_keys=ON",
            "trusted_schema=OFF",
            "secure_delete=ON",
            "cell_size_check=ON",
            "mmap_size=0",
            f"query_only={'ON' if read_only else 'OFF'}",
        ):
            dbapi.cursor().execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        with turn.taken() as waited:
            _lock(connection, within=seconds - waited, read_only=read_only)

    event.listen(engine, "engine_disposed", lambda _: turn.close())
    return engine


def _lock(connection: Connection, *, within: float, read_only: bool) -> None:
    """Begin a transaction that holds its lock: the write lock, or the one that a reader shares."""
    dbapi = connection.connection.driver_connection
    if dbapi is None:
        raise InvalidRequestError("the connection is closed")
    ends = time.monotonic() + within
    waits = dbapi.execute("PRAGMA busy_timeout").fetchone()[0]
    dbapi.execute("PRAGMA busy_timeout=0")
    try:
        if read_only:
            dbapi.execute("BEGIN")
        while True:
            try:
                # BEGIN alone locks nothing for a reader.
                connection.exec_driver_sql("SELECT 1 FROM sqlite_schema" if read_only else "BEGIN IMMEDIATE").close()
            except OperationalError as error:
                if "SQLITE_BUSY" not in getattr(error.orig, "sqlite_errorname", "") or time.monotonic() > ends:
                    raise
                time.sleep(_PAUSE)
            else:
                return
    finally:
        dbapi.execute(f"PRAGMA busy_timeout={waits}")


def clock_offset(connection: Connection) -> timedelta:
    """Return how far the database's clock is ahead of this host's; zero where the way there took longer than that.

    SQLite has no clock but the host's.
    """
    if connection.dialect.name == "sqlite":
        return timedelta(0)
    asked = datetime.now(UTC)
    told: datetime = connection.scalars(select(func.clock_timestamp())).one()
    way = (datetime.now(UTC) - asked) / 2
    offset = told - asked - way
    return offset if abs(offset) > way else timedelta(0)


def _make_private(path: Path) -> None:
    """Create the file readable by its owner alone; it will hold e-mail addresses."""
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


class Schema(enum.Enum):
    """How the schema of a store stands to this version of the kit."""

    OLDER = "to be migrated"
    USABLE = "this version's own, or a newer one that this version can work with"
    TOO_NEW = "a newer one that this version cannot work with"


def schema_of(connection: Connection) -> Schema:
    """Return how the schema stands to the revisions that this package ships.

    Migrations add, so in a rolling deploy the old code goes on beside the new schema. One that takes something away
    writes its own revision to `meta` as NEEDS: code that does not ship it must not work there any more.
    """
    revision = _revision(connection)
    if revision == NEWEST:
        return Schema.USABLE
    ours = {script.revision for script in scripts().walk_revisions()}
    if revision is None or revision in ours:
        return Schema.OLDER
    needs = connection.scalar(select(meta.c.value).where(meta.c.key == NEEDS))
    return Schema.USABLE if needs is None or needs in ours else Schema.TOO_NEW


def _revision(connection: Connection) -> str | None:
    """Return the revision that Alembic wrote down; None of an empty store."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def migrate(engine: Engine) -> None:
    """Bring the schema to the newest revision, in one transaction that holds the write lock; a newer one stays."""
    with engine.begin() as connection:
        if schema_of(connection) is not Schema.OLDER:
            return
        from alembic import command

        config = _config()
        config.attributes["connection"] = connection
        with _ALEMBIC:
            command.upgrade(config, "head")


def _config() -> "Config":
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    return config


def scripts() -> "ScriptDirectory":
    """Return the migrations that this package ships."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(_config())
