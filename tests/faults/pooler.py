"""A real PgBouncer in transaction mode before the tests' PostgreSQL: started, killed and started again by a test."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy import make_url
from sqlalchemy.engine import URL

#: Sessions at the server, for however many clients: fewer than any test has, so that each gets what another had.
SESSIONS = 2
_PORT = 6432
_PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


@dataclass
class Pooler:
    """Serves at a socket in `folder`, with the settings that PgBouncer comes with."""

    folder: Path
    command: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        socket = self.folder / f".s.PGSQL.{_PORT}"
        ends = time.monotonic() + 10
        while not socket.exists() and self.process.poll() is None and time.monotonic() < ends:
            time.sleep(0.01)
        assert socket.exists(), (self.folder / "log").read_text()

    def kill(self) -> None:
        """End it as kill -9 does, and every line with it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        (self.folder / f".s.PGSQL.{_PORT}").unlink(missing_ok=True)


@contextlib.contextmanager
def pooled(store: str) -> Iterator[tuple[Pooler, str]]:
    """Yield a pooler before the PostgreSQL of this URL, and the URL through it."""
    if _PROGRAM is None:
        pytest.skip("needs PgBouncer")
    server = make_url(store)
    with tempfile.TemporaryDirectory(prefix="kit-pgbouncer-") as name:
        folder = Path(name)
        settings, user = folder / "pgbouncer.ini", _user_for(server)
        settings.write_text(_settings(server, folder), encoding="utf-8")
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(settings, user)
        pooler = Pooler(folder, [_PROGRAM, *(["--user", user] if user else []), str(settings)])
        pooler.start()
        try:
            through = URL.create(
                "postgresql", username="anybody", database=server.database, query={"host": name, "port": str(_PORT)}
            )
            yield pooler, through.render_as_string()
        finally:
            pooler.kill()


def _settings(server: URL, folder: Path) -> str:
    given = {
        "host": server.query.get("host") or server.host or "127.0.0.1",
        "port": server.port or 5432,
        "user": server.username or "postgres",
        **({"password": server.password} if server.password else {}),
    }
    target = " ".join(f"{name}={value}" for name, value in given.items())
    return (
        f"[databases]\n* = {target}\n[pgbouncer]\nlisten_addr =\nlisten_port = {_PORT}\nunix_socket_dir = {folder}\n"
        f"auth_type = any\npool_mode = transaction\ndefault_pool_size = {SESSIONS}\nlogfile = {folder}/log\n"
    )


def _user_for(server: URL) -> str | None:
    """Return as whom it runs, which is never root: as whoever may open the server's socket."""
    if os.geteuid() != 0:
        return None
    folder = server.query.get("host")
    return Path(str(folder)).owner() if folder else "nobody"
