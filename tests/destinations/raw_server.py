"""Raw TCP servers on loopback that answer as they are told, byte by byte."""

import asyncio
import socket
import ssl
import struct
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Vendor:
    """A TCP server that answers the n-th request by the n-th script and records the bytes of every connection."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def url(self, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/api?a=1"


Script = Callable[[Reader, Writer], Awaitable[None]]


async def read_request(reader: Reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    return head + await reader.readexactly(length)


@asynccontextmanager
async def vendor(*scripts: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Vendor]:
    state, left, tasks = Vendor(), list(scripts), set[asyncio.Task[None]]()

    async def talk(reader: Reader, writer: Writer) -> None:
        state.connections += 1
        try:
            while not writer.is_closing():
                state.requests.append(await read_request(reader))
                await (left.pop(0) if left else answers(OK))(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def connected(reader: Reader, writer: Writer) -> None:
        task = asyncio.ensure_future(talk(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    state.port = server.sockets[0].getsockname()[1]
    try:
        yield state
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


def answers(*parts: bytes, close: bool = False, pause: float = 0.0) -> Script:
    async def script(_reader: Reader, writer: Writer) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)
        if close:
            writer.close()

    return script


async def resets(_reader: Reader, writer: Writer) -> None:
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
