"""A caller that reads what comes over the socket, byte for byte."""

import asyncio
import json
from urllib.parse import urlsplit

from kit.sandbox import Addresses, Sandbox

from .vectors import EVENT


class Caller:
    """One connection that writes a webhook and reads what comes, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, addresses: Addresses) -> "Caller":
        parts = urlsplit(addresses.url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def post(self, *, order: str = "1", promised: int = 0) -> None:
        """Write a webhook; `promised` adds bytes to Content-Length that are never written."""
        body = json.dumps(EVENT | {"order_id": order}).encode()
        head = "POST /rockerbox/webhook/data?advertiser=ADV_ID HTTP/1.1\r\nHost: localhost\r\n"
        self.writer.write(f"{head}Content-Length: {len(body) + promised}\r\n\r\n".encode() + body)
        await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass


async def until_recorded(sandbox: Sandbox, requests: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(sandbox.rockerbox.requests) < requests:  # noqa: ASYNC110 - a vendor tells nobody of a request
            await asyncio.sleep(0.005)
