"""The sandbox serves from a loop or from a thread, beside other work, and lets go of everything when it stops."""

import asyncio
import http.client
import json
import signal
from urllib.parse import urlsplit

import httpx
import pytest

from kit.sandbox import Addresses, Sandbox

from .callers import Caller, until_recorded
from .vectors import EVENT, WEBHOOK


async def test_an_answer_without_a_fault_comes_over_the_socket(sandbox: Sandbox, served: Addresses) -> None:
    """One connection carries several requests."""
    caller = await Caller.to(served)

    for order in ("1", "2"):
        await caller.post(order=order)
        assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await caller.reader.readexactly(2) == b"{}"

    assert sandbox.rockerbox.orders == {"1": 1, "2": 1}
    await caller.close()


async def test_a_server_that_stops_lets_go_of_held_answers(sandbox: Sandbox) -> None:
    """Leaving the context ends a connection whose answer is delayed for an hour."""
    sandbox.rockerbox.answers(delay=3600)

    async with asyncio.timeout(10), sandbox.serving() as addresses:
        caller = await Caller.to(addresses)
        await caller.post()
        await until_recorded(sandbox)

    assert await caller.reader.read() == b""
    await caller.close()


async def test_a_caller_that_leaves_before_its_body_is_whole_is_not_counted(
    sandbox: Sandbox, served: Addresses
) -> None:
    """The record shows what arrived."""
    caller = await Caller.to(served)

    await caller.post(promised=1000)
    await caller.close()
    await until_recorded(sandbox)

    (received,) = sandbox.rockerbox.requests
    assert (received.complete, received.status, received.counted) == (False, None, ())


def test_a_thread_serves_and_stops(sandbox: Sandbox) -> None:
    """Synchronous code gets the same server, its faults included, and the port is free afterwards."""
    sandbox.rockerbox.answers(429, headers={"retry-after": "30"})
    sandbox.rockerbox.answers(reset="after")

    with sandbox.serve() as addresses:
        port = urlsplit(addresses.rockerbox_url).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("POST", WEBHOOK, json.dumps(EVENT))
        answer = connection.getresponse()
        answer.read()
        connection.request("POST", WEBHOOK, json.dumps(EVENT))
        with pytest.raises(ConnectionResetError):
            connection.getresponse()
        connection.close()

    assert (answer.status, answer.headers["retry-after"]) == (429, "30")
    assert sandbox.rockerbox.counted == 1
    again = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with pytest.raises(ConnectionRefusedError):
        again.connect()


def test_reads_from_another_thread_are_whole(sandbox: Sandbox) -> None:
    """While the server thread records, what a reader sees only grows and its sums agree."""
    with sandbox.serve() as addresses:
        connection = http.client.HTTPConnection("127.0.0.1", urlsplit(addresses.url).port, timeout=5)
        for number in range(50):
            body = json.dumps(EVENT | {"order_id": str(number)})
            connection.request("POST", WEBHOOK, body)
            connection.getresponse().read()
            assert len(sandbox.rockerbox.accepted) == sandbox.rockerbox.counted == number + 1
        connection.close()


async def test_serving_leaves_signals_alone(sandbox: Sandbox) -> None:
    """Ctrl-C stays the test runner's while a sandbox is served."""
    before = signal.getsignal(signal.SIGINT)

    async with sandbox.serving() as addresses, httpx.AsyncClient() as client:
        await client.get(addresses.url)
        during = signal.getsignal(signal.SIGINT)

    assert during is before


async def test_a_port_that_is_taken_raises_at_once(sandbox: Sandbox, served: Addresses) -> None:
    """Two sandboxes do not share an address in silence."""
    port = urlsplit(served.url).port

    with pytest.raises(OSError, match="in use"):
        async with sandbox.serving(port=port or 0):
            pass
