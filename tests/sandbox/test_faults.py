"""Scripted faults do over a real socket what they say, in the order given, and the record says what was counted."""

import asyncio
import http.client
import json
import signal
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import httpx
import pytest

from kit.sandbox import Addresses, Sandbox

EVENT = {"action": "purchase", "timestamp": "1768435110", "customer_id": "c", "order_id": "1"}


@pytest.fixture
async def served(sandbox: Sandbox) -> AsyncIterator[Addresses]:
    async with sandbox.serving() as addresses:
        yield addresses


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


async def test_an_answer_without_a_fault_comes_over_the_socket(sandbox: Sandbox, served: Addresses) -> None:
    """One connection carries several requests."""
    caller = await Caller.to(served)

    for order in ("1", "2"):
        await caller.post(order=order)
        assert (await caller.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await caller.reader.readexactly(2) == b"{}"

    assert sandbox.rockerbox.orders == {"1": 1, "2": 1}
    await caller.close()


@pytest.mark.parametrize(("when", "counted"), [("before", 0), ("after", 1)])
async def test_a_reset_is_a_reset(sandbox: Sandbox, served: Addresses, when: str, counted: int) -> None:
    """Before the body nothing is counted; after it the request is, and the caller cannot know."""
    sandbox.rockerbox.answers(reset="before" if when == "before" else "after")
    caller = await Caller.to(served)

    await caller.post()
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()

    assert sandbox.rockerbox.counted == counted
    (received,) = sandbox.rockerbox.requests
    assert (received.status, received.fault, received.complete) == (None, f"reset {when}", when == "after")
    await caller.close()


async def test_a_reset_before_does_not_wait_for_the_body(sandbox: Sandbox, served: Addresses) -> None:
    """The connection ends though the body never arrives whole."""
    sandbox.rockerbox.answers(reset="before")
    caller = await Caller.to(served)

    await caller.post(promised=1000)
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()

    assert sandbox.rockerbox.requests[0].body == b""
    await caller.close()


async def test_a_reset_during_the_answer_cuts_its_body(sandbox: Sandbox, served: Addresses) -> None:
    """The status and half of the body arrive, then the connection is reset."""
    sandbox.rockerbox.answers(200, body="0123456789", reset="during")
    caller = await Caller.to(served)

    await caller.post()
    head = await caller.reader.readuntil(b"\r\n\r\n")
    half = await caller.reader.readexactly(5)
    with pytest.raises(ConnectionResetError):
        await caller.reader.read()

    assert (head.startswith(b"HTTP/1.1 200 OK"), half) == (True, b"01234")
    assert sandbox.rockerbox.counted == 1
    await caller.close()


async def test_a_clean_close_gives_no_byte(sandbox: Sandbox, served: Addresses) -> None:
    """The request is counted, and the caller reads the end of the stream."""
    sandbox.rockerbox.answers(close=True)
    caller = await Caller.to(served)

    await caller.post()

    assert await caller.reader.read() == b""
    assert (sandbox.rockerbox.counted, sandbox.rockerbox.requests[0].status) == (1, None)
    await caller.close()


async def test_a_drip_sends_the_body_byte_by_byte(sandbox: Sandbox, served: Addresses) -> None:
    """The first byte comes alone, the whole body in the end."""
    sandbox.rockerbox.answers(200, body="abc", drip=0.1)
    caller = await Caller.to(served)

    await caller.post()
    head = await caller.reader.readuntil(b"\r\n\r\n")
    first = await caller.reader.read(100)
    rest = await caller.reader.readexactly(2)

    assert b"content-length: 3\r\n" in head
    assert (first, rest) == (b"a", b"bc")
    await caller.close()


async def test_a_delayed_answer_is_recorded_before_it_is_given(sandbox: Sandbox, served: Addresses) -> None:
    """A caller that gives up has been counted all the same, and does not hold the server up."""
    sandbox.rockerbox.answers(delay=3600)
    caller = await Caller.to(served)

    await caller.post()
    await until_recorded(sandbox)
    await caller.close()

    assert sandbox.rockerbox.counted == 1


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


async def test_faults_play_in_order_and_then_end(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """429 twice with its header, then 503, then the vendor itself; nothing scripted is counted or a refusal."""
    sandbox.rockerbox.answers(429, headers={"Retry-After": "30"}, times=2)
    sandbox.rockerbox.answers(503)

    answers = [await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [429, 429, 503, 200]
    assert [answer.headers.get("retry-after") for answer in answers] == ["30", "30", None, None]
    assert sandbox.rockerbox.counted == 1
    assert sandbox.rockerbox.refusals == ()
    assert sandbox.rockerbox.faults == ()


async def test_a_fault_without_times_plays_until_cleared(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """times=None goes on; clear_faults() ends it and keeps the record."""
    sandbox.rockerbox.answers(500, times=None)

    answers = [await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT) for _ in range(3)]
    sandbox.rockerbox.clear_faults()
    last = await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT)

    assert [answer.status_code for answer in [*answers, last]] == [500, 500, 500, 200]
    assert len(sandbox.rockerbox.requests) == 4


async def test_a_predicate_chooses_the_request(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The fault waits for the order it is meant for; others pass."""
    sandbox.rockerbox.answers(503, when=lambda received: received.events[0]["order_id"] == "2")

    answers = [
        await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT | {"order_id": order})
        for order in ("1", "2", "2")
    ]

    assert [answer.status_code for answer in answers] == [200, 503, 200]


@pytest.mark.parametrize(
    ("status", "counts", "counted"), [(200, None, 1), (200, False, 0), (500, None, 0), (500, True, 1), (409, True, 1)]
)
async def test_whether_a_scripted_answer_counts_can_be_said(
    sandbox: Sandbox, client: httpx.AsyncClient, status: int, counts: bool | None, counted: int
) -> None:
    """By default a success counts and a failure does not; `counts` turns it round."""
    sandbox.rockerbox.answers(status, body="<html>", counts=counts)

    answer = await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT)

    assert (answer.status_code, answer.text) == (status, "<html>")
    assert sandbox.rockerbox.counted == counted


async def test_a_header_may_come_twice_and_a_204_is_empty(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Pairs repeat a name; the vendor's own Date gives way to a scripted one."""
    pairs = [("Retry-After", "1"), ("Retry-After", "9"), ("Date", "Thu, 15 Jan 2026 00:10:00 GMT")]
    sandbox.rockerbox.answers(429, headers=pairs)
    sandbox.rockerbox.answers(204)

    twice = await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT)
    empty = await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT)

    assert twice.headers.get_list("retry-after") == ["1", "9"]
    assert twice.headers.get_list("date") == ["Thu, 15 Jan 2026 00:10:00 GMT"]
    assert (empty.status_code, empty.content) == (204, b"")


@pytest.mark.parametrize(
    ("vendor", "status", "body"),
    [
        ("adroll", 503, {"errors": [{"message": "Service Unavailable", "code": 503}]}),
        ("rokt", 503, {"data": {"code": "ServiceUnavailableError", "message": "Service Unavailable"}}),
        ("rokt", 429, {"data": {"message": "Too Many Requests"}}),
        ("rockerbox", 500, {"error": "Internal Server Error"}),
    ],
)
async def test_a_scripted_status_speaks_as_its_vendor(
    sandbox: Sandbox, client: httpx.AsyncClient, vendor: str, status: int, body: object
) -> None:
    """Without a body of its own a fault answers in the vendor's error shape."""
    getattr(sandbox, vendor).answers(status)

    answer = await client.post(f"/{vendor}/anything")

    assert (answer.status_code, answer.json()) == (status, body)


async def test_without_a_socket_a_reset_is_a_connection_reset_error(
    sandbox: Sandbox, client: httpx.AsyncClient
) -> None:
    """In process there is no connection to end; the caller gets the error itself."""
    sandbox.rockerbox.answers(reset="after")

    with pytest.raises(ConnectionResetError):
        await client.post("/rockerbox/webhook/data?advertiser=ADV_ID", json=EVENT)


def test_a_thread_serves_and_stops(sandbox: Sandbox) -> None:
    """Synchronous code gets the same server, its faults included, and the port is free afterwards."""
    sandbox.rockerbox.answers(429, headers={"retry-after": "30"})
    sandbox.rockerbox.answers(reset="after")

    with sandbox.serve() as addresses:
        port = urlsplit(addresses.rockerbox_url).port
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("POST", "/rockerbox/webhook/data?advertiser=ADV_ID", json.dumps(EVENT))
        answer = connection.getresponse()
        answer.read()
        connection.request("POST", "/rockerbox/webhook/data?advertiser=ADV_ID", json.dumps(EVENT))
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
            connection.request("POST", "/rockerbox/webhook/data?advertiser=ADV_ID", body)
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
