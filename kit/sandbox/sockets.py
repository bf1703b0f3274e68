"""The sandbox over real sockets: uvicorn, whose connections the app can end. Needs the `cli` extra."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from kit.sandbox.faults import TRANSPORT


class _Server(uvicorn.Server):
    """A server beside other work: it takes no signals, and stops without waiting for answers that are held back."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)

    def transport_of(self, caller: tuple[str, int]) -> asyncio.BaseTransport | None:
        """Return the transport of the connection from this address; one address has one connection at a time."""
        found = (each for each in self.server_state.connections if getattr(each, "client", None) == caller)
        return next((each.transport for each in found), None)


class _Reachable:
    """Gives each request's scope a function that returns its connection's transport."""

    server: _Server

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller = scope["client"]
        scope.setdefault("extensions", {})[TRANSPORT] = partial(self.server.transport_of, tuple(caller))
        await self.app(scope, receive, send)


def _prepared(app: ASGIApp) -> _Server:
    reachable = _Reachable(app)
    config = uvicorn.Config(
        reachable,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
    )
    reachable.server = _Server(config)
    return reachable.server


def _listening(host: str, port: int) -> tuple[socket.socket, str]:
    """Return a listening socket and its base URL. Callers wait in its backlog until the server is up."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends without delay only on sockets that name TCP; with Nagle's wait each answer takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError:
        listener.close()
        raise
    bound = listener.getsockname()[1]
    return listener, f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"


@contextlib.contextmanager
def served_in_thread(app: ASGIApp, host: str, port: int) -> Iterator[str]:
    """Serve in a thread with its own event loop; yield the base URL."""
    listener, url = _listening(host, port)
    server = _prepared(app)
    thread = threading.Thread(target=asyncio.run, args=(server.serve([listener]),), name="kit-sandbox", daemon=True)
    thread.start()
    try:
        yield url
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.asynccontextmanager
async def served_in_loop(app: ASGIApp, host: str, port: int) -> AsyncIterator[str]:
    """Serve in the running event loop; yield the base URL."""
    listener, url = _listening(host, port)
    server = _prepared(app)
    serving = asyncio.create_task(server.serve([listener]), name="kit-sandbox")
    try:
        yield url
    finally:
        server.should_exit = True
        await serving
        listener.close()
