"""Bytes to a real server and back: nothing on the way repairs them."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import Receive, Scope, Send

from tests.attacks.shop import Headers, Shop

#: Nobody waits so long: a server that says nothing by then hangs.
PATIENCE = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Server:
    """A shop on a port of this machine, and the paths of all requests that reached it."""

    parser: str
    port: int
    shop: Shop
    reached: list[str]

    def ask(self, sent: bytes) -> list[Answer]:
        """Send these bytes on a connection of their own; return what came back until the server closed it."""
        with self.line() as line:
            # Beside the reading: what is refused early is not taken to its end.
            sender = threading.Thread(target=_send, args=(line, sent))
            sender.start()
            answers = answers_in(b"".join(_received(line)))
            sender.join(PATIENCE)
        return answers

    def line(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


def _send(line: socket.socket, sent: bytes) -> None:
    with contextlib.suppress(OSError):
        line.sendall(sent)


def _received(line: socket.socket) -> Iterator[bytes]:
    with contextlib.suppress(ConnectionResetError):
        while piece := line.recv(65_536):
            yield piece


def answers_in(wire: bytes) -> list[Answer]:
    """Return the answers in these bytes; none of them has a body in chunks, and none answers HEAD."""
    answers: list[Answer] = []
    while wire:
        head, _, wire = wire.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        version, status = first.split(b" ", 2)[:2]
        assert version == b"HTTP/1.1"
        headers = [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
        length = int(dict(headers).get(b"content-length", len(wire) if status == b"400" else 0))
        answers.append(Answer(int(status), headers, wire[:length]))
        wire = wire[length:]
    return answers


@contextlib.contextmanager
def serving(shop: Shop, parser: str) -> Iterator[Server]:
    """Serve the shop by uvicorn with this parser, in a thread with an event loop of its own."""
    reached: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await shop.app(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(app, http=parser, lifespan="off", ws="none", log_config=None, log_level="warning")
    )
    thread = threading.Thread(target=server.run, args=([listener],), name=f"shop-{parser}", daemon=True)
    thread.start()
    try:
        yield Server(parser, listener.getsockname()[1], shop, reached)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
