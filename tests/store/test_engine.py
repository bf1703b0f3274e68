"""How the database is opened: journal by version, a private file, the schema by migrations."""

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

import kit.store
from kit import ConfigurationError, Conversion, StoreUnavailable
from kit.store import Store
from kit.store.engine import NEEDS, NEWEST, Schema, connect, journal_mode, parse_url, schema_of, scripts, wal_is_safe
from kit.store.tables import meta, metadata
from tests.support import make_kit

MIGRATIONS = Path(kit.store.__file__).with_name("migrations") / "versions"


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        ((3, 7, 0), False),
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_wal_is_used_only_where_it_cannot_lose_a_commit(version: tuple[int, ...], safe: bool) -> None:
    """The WAL-reset bug: every version to 3.51.2, but for two back-ports."""
    assert wal_is_safe(version) is safe


def test_a_new_store_is_migrated_private_and_flushed(tmp_path: Path) -> None:
    """First use makes a file that its owner alone can read, at the newest schema, with full synchronous commits."""
    store = Store(f"sqlite:///{tmp_path}/kit.db")
    store.open()
    engine = connect(store.url, lock_timeout=timedelta(seconds=1))

    with engine.connect() as connection:
        current = schema_of(connection) is Schema.USABLE
        differences = compare_metadata(MigrationContext.configure(connection), metadata)
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    engine.dispose()
    store.close()

    assert current
    assert differences == []
    assert settings == {
        "journal_mode": journal_mode().lower(), "synchronous": 2, "foreign_keys": 1, "secure_delete": 1
    }  # fmt: skip
    assert (tmp_path / "kit.db").stat().st_mode & 0o777 == 0o600


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    """Queries of the status page or the CLI cannot change a row."""
    store = Store(f"sqlite:///{tmp_path}/kit.db")

    with pytest.raises(Exception, match="OperationalError"):
        store.read_sync(lambda connection: connection.exec_driver_sql("DELETE FROM events"))
    store.close()


def test_the_newest_revision_is_the_one_that_is_shipped() -> None:
    """A store that stands there is used as it is, and Alembic is not loaded for it."""
    assert scripts().get_current_head() == NEWEST


def test_four_processes_that_start_at_once_upgrade_once(tmp_path: Path) -> None:
    """Each waits for the one that holds the lock; all of them end with a store that works."""
    script = f"from kit.store import Store; s = Store('sqlite:///{tmp_path}/kit.db'); s.open(); s.close()"
    processes = [subprocess.Popen([sys.executable, "-W", "error", "-c", script]) for _ in range(4)]

    codes = [process.wait(timeout=60) for process in processes]

    assert codes == [0, 0, 0, 0]
    newest = max(path.stem.split("_")[0] for path in MIGRATIONS.glob("0*.py"))
    with sqlite3.connect(tmp_path / "kit.db") as other:
        assert other.execute("select version_num from alembic_version").fetchall() == [(newest,)]
    other.close()


def test_stores_that_are_opened_at_once_in_one_process_are_each_migrated(tmp_path: Path) -> None:
    """By threads of their own, as the kits of several shops are: each gets its own schema on its own connection."""
    stores = [Store(f"sqlite:///{tmp_path}/{number}.db", timeout=timedelta(seconds=60)) for number in range(6)]
    together = threading.Barrier(len(stores))

    def opened(store: Store) -> bool:
        together.wait()
        store.open()
        usable = store.read_sync(schema_of) is Schema.USABLE
        store.close()
        return usable

    with ThreadPoolExecutor(len(stores)) as threads:
        found = list(threads.map(opened, stores))

    assert found == [True] * len(stores)


def test_postgresql_means_psycopg_3() -> None:
    """The URL that every host hands out works as it is."""
    assert parse_url("postgresql://u:p@db/shop").drivername == "postgresql+psycopg"


def test_a_folder_that_is_not_there_is_refused_at_start(tmp_path: Path) -> None:
    """A typing mistake in the path is found when the kit is made."""
    with pytest.raises(ConfigurationError, match="does not exist"):
        Store(f"sqlite:///{tmp_path}/nowhere/kit.db")


@pytest.mark.parametrize("url", ["postgresql://kit@db:/x", "postgresql://kit:secret@db:$PORT/x", "kit.db"])
def test_what_is_no_url_is_refused_at_start(url: str) -> None:
    """Also a port that is no number, as of a variable that is not set; the password is not repeated."""
    with pytest.raises(ConfigurationError, match="is not a URL such as") as refused:
        parse_url(url)

    assert "secret" not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_folder_that_cannot_be_looked_at_is_refused_at_start(tmp_path: Path) -> None:
    """Whatever the reason, which is said: here a name longer than any may be."""
    with pytest.raises(ConfigurationError, match="cannot be looked at: File name too long"):
        Store(f"sqlite:///{tmp_path}/{'a' * 300}/kit.db")


@pytest.mark.parametrize("url", ["sqlite:///{folder}/kit.db", "postgresql://kit@127.0.0.1:1/x"])
def test_a_migration_of_no_database_says_so_as_opening_does(tmp_path: Path, url: str) -> None:
    """A file of something else, and a server that is not there."""
    (tmp_path / "kit.db").write_text("no database\n" * 100)
    store = Store(url.format(folder=tmp_path))

    with pytest.raises(StoreUnavailable, match="Error"):
        store.migrate()


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize("needs", [None, "0001"])
async def test_old_code_works_on_beside_a_newer_schema(tmp_path: Path, needs: str | None) -> None:
    """A rolling deploy: `kit migrate` came first, and an old process is started once more."""
    await as_of_the_future(tmp_path, needs)
    old = make_kit(tmp_path)

    reported = await old.report(Conversion(order_id="order-1", email="jane@example.com"))

    old.store.close()
    assert reported.new


@pytest.mark.usefixtures("both_engines")
async def test_old_code_refuses_a_schema_that_it_cannot_work_with(tmp_path: Path) -> None:
    """A migration that took something away says so; old code stops at its start. Its `kit migrate` changes nothing."""
    await as_of_the_future(tmp_path, "9999")

    with pytest.raises(ConfigurationError, match="its schema is of a newer version of the kit"):
        make_kit(tmp_path).open()
    make_kit(tmp_path).store.migrate()


async def as_of_the_future(folder: Path, needs: str | None) -> None:
    """Leave a store whose schema a later version has migrated."""
    new = make_kit(folder)
    await new.ready()

    def migrated(connection: Connection, asked: Sequence[None]) -> Sequence[None]:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        connection.exec_driver_sql("ALTER TABLE events ADD COLUMN channel VARCHAR(32)")
        if needs is not None:
            connection.execute(meta.insert(), {"key": NEEDS, "value": needs})
        return asked

    await new.store.write(migrated, None)
    new.store.close()
