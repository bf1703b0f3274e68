"""A TCP proxy that is led by a test: it passes bytes on, falls silent, or cuts the line at a word."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import make_url

_TICK = 0.02


@dataclass
class Proxy:
    """`silent`: what is connected stays connected and hears nothing. `cut_at` ends the line when the word passes.

    With `passing_it_on` the word still reaches the other side, whose answer does not come back.
    """

    port: int = 0
    silent: bool = False
    cut_at: bytes | None = None
    passing_it_on: bool = False
    cuts: int = 0
    connections: int = 0
    _ending: threading.Event = field(default_factory=threading.Event)
    _muted: set[int] = field(default_factory=set)

    def falls_silent(self) -> None:
        """Let every connection there is now hear nothing any more; new ones are served."""
        self._muted = set(range(self.connections + 1))

    def _is_mute(self, number: int) -> bool:
        return self.silent or number in self._muted

    def carry(self, client: socket.socket, server: socket.socket, number: int) -> None:
        with client, server:
            while not self._ending.is_set():
                if self._is_mute(number):
                    self._ending.wait(_TICK)
                    continue
                readable, _, _ = select.select([client, server], [], [], _TICK)
                for one in readable:
                    if self._is_mute(number) or not self._pass(one, client, server):
                        break
                else:
                    continue
                if not self._is_mute(number):
                    return

    def _pass(self, one: socket.socket, client: socket.socket, server: socket.socket) -> bool:
        with contextlib.suppress(OSError):
            data = one.recv(65_536)
            if not data:
                return False
            if one is client and self.cut_at is not None and self.cut_at in data:
                self.cut_at, self.cuts = None, self.cuts + 1
                if self.passing_it_on:
                    server.sendall(data)
                    # What comes back is the proof that it was done, and goes no further.
                    server.recv(65_536)
                return False
            (server if one is client else client).sendall(data)
            return True
        return False


@contextlib.contextmanager
def proxied(target: Path | tuple[str, int]) -> Iterator[Proxy]:
    """Proxy from a port of the loopback to a Unix socket, or to another port."""
    proxy, threads = Proxy(), list[threading.Thread]()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(_TICK)
    proxy.port = listener.getsockname()[1]

    def accept() -> None:
        while not proxy._ending.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = listener.accept()
                server = _connected(target)
                proxy.connections += 1
                carrying = threading.Thread(target=proxy.carry, args=(client, server, proxy.connections))
                threads.append(carrying)
                carrying.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield proxy
    finally:
        proxy._ending.set()
        accepting.join()
        for thread in threads:
            thread.join()
        listener.close()


def _connected(target: Path | tuple[str, int]) -> socket.socket:
    if isinstance(target, tuple):
        return socket.create_connection(target)
    server = socket.socket(socket.AF_UNIX)
    server.connect(str(target))
    return server


@contextlib.contextmanager
def before(store: str) -> Iterator[tuple[Proxy, str]]:
    """Yield a proxy before the PostgreSQL of this URL, and the URL through it."""
    url = make_url(store)
    port = url.port or 5432
    target: Path | tuple[str, int] = (url.host or "127.0.0.1", port)
    if (folder := url.query.get("host")) is not None:
        target = Path(str(folder)) / f".s.PGSQL.{port}"
    with proxied(target) as proxy:
        through = url.set(host="127.0.0.1", port=proxy.port, query={"sslmode": "disable", "gssencmode": "disable"})
        yield proxy, through.render_as_string(hide_password=False)
