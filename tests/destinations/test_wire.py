"""The wire against raw TCP servers on loopback: what was sent, what came back, and that it never raises for either."""

import asyncio
import gzip
import ssl
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from kit.destinations.wire import Exchange, Wire

from .raw_server import OK, Script, Vendor, answers, resets, vendor


def held() -> bool:
    return True


@asynccontextmanager
async def wire(
    *, deadline: float = 5.0, connect: float = 2.0, connections: int = 4, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Wire]:
    it = Wire(
        max_connections=connections,
        connect_timeout=timedelta(seconds=connect),
        deadline=timedelta(seconds=deadline),
        tls=tls,
    )
    try:
        yield it
    finally:
        await it.aclose()


def post(url: str, body: bytes = b"[1]") -> httpx.Request:
    return httpx.Request("POST", url, content=body, headers={"Content-Type": "application/json"})


METHODS = pytest.mark.parametrize("method", ["POST", "GET"])


def ask(method: str, url: str) -> httpx.Request:
    return post(url) if method == "POST" else httpx.Request("GET", url)


# ---------------------------------------------------------------- a complete answer


@METHODS
async def test_a_complete_answer_comes_back_whole(method: str) -> None:
    """Status, headers and body of the answer are given as they came."""
    async with vendor(answers(b"HTTP/1.1 400 Bad\r\nX-A: b\r\nContent-Length: 3\r\n\r\nabc")) as api, wire() as w:
        exchange = await w.send(ask(method, api.url()), lease=held)

    assert exchange.sent
    assert exchange.answer is not None
    assert (exchange.answer.status, exchange.answer.body, exchange.answer.cut) == (400, b"abc", False)
    assert exchange.answer.headers["x-a"] == "b"


async def test_the_header_bytes_of_two_requests_are_exactly_these() -> None:
    """Nothing is added but Accept-Encoding; an answer's Set-Cookie is not sent with the next request."""
    cookie = b"HTTP/1.1 200 OK\r\nSet-Cookie: v=1; Path=/\r\nContent-Length: 2\r\n\r\n{}"
    async with vendor(answers(cookie)) as api, wire() as w:
        await w.send(post(api.url("localhost")), lease=held)
        await w.send(post(api.url("localhost")), lease=held)

    expected = (
        f"POST /api?a=1 HTTP/1.1\r\nhost: localhost:{api.port}\r\ncontent-type: application/json\r\n"
        "content-length: 3\r\naccept-encoding: identity\r\n\r\n[1]"
    ).encode()
    assert [lower_names(request) for request in api.requests] == [expected, expected]
    assert api.connections == 1


def lower_names(request: bytes) -> bytes:
    """The client writes known names in its own capitals; names have no case, everything else is compared exactly."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    pairs = [line.partition(b":") for line in lines]
    return b"\r\n".join([first, *(name.lower() + colon + value for name, colon, value in pairs)]) + b"\r\n\r\n" + body


async def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    """A 307 to another place comes back as 307, and that place is never asked."""
    async with vendor() as other:
        moved = f"HTTP/1.1 307 Moved\r\nLocation: {other.url()}\r\nContent-Length: 0\r\n\r\n".encode()
        async with vendor(answers(moved)) as api, wire() as w:
            exchange = await w.send(post(api.url()), lease=held)

    assert exchange.answer is not None
    assert exchange.answer.status == 307
    assert other.requests == []


async def test_a_long_answer_is_cut() -> None:
    """Of ten megabytes 64 KiB and twice the request are read; the connection is not used again."""
    long = b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 10_000_000
    async with vendor(answers(long), answers(OK)) as api, wire() as w:
        exchange = await w.send(post(api.url()), lease=held)
        after = await w.send(post(api.url()), lease=held)

    assert exchange.answer is not None
    assert (len(exchange.answer.body), exchange.answer.cut) == (65_536 + 6, True)
    assert after.answer is not None
    assert api.connections == 2


async def test_a_compressed_answer_is_not_unpacked() -> None:
    """A gzip bomb stays as small as it came."""
    bomb = gzip.compress(b"\0" * 5_000_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    async with vendor(answers(head + bomb)) as api, wire() as w:
        exchange = await w.send(post(api.url()), lease=held)

    assert exchange.answer is not None
    assert exchange.answer.body == bomb


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """HTTP_PROXY points nowhere, and the request arrives all the same."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with vendor() as api, wire() as w:
        exchange = await w.send(post(api.url()), lease=held)

    assert exchange.answer is not None
    assert exchange.answer.status == 200


# ---------------------------------------------------------------- not sent


async def test_a_refused_connection_is_not_sent() -> None:
    """No listener, no mark."""
    async with vendor() as api:
        pass
    async with wire() as w:
        exchange = await w.send(post(api.url()), lease=held)

    assert (exchange.sent, exchange.answer) == (False, None)
    assert exchange.error


@pytest.mark.parametrize("url", ["https://127.0.0.1:{port}/", "http://no-such-host.invalid:{port}/"])
async def test_no_tls_and_no_address_are_not_sent(url: str) -> None:
    """A handshake with a server that speaks none, and a name without an address, end before the first byte."""
    async with vendor() as api, wire(deadline=3) as w:
        exchange = await w.send(post(url.format(port=api.port)), lease=held)

    assert (exchange.sent, exchange.answer) == (False, None)


@pytest.mark.parametrize("asked", [[False], [True, False]], ids=["when headers are made", "right before they leave"])
async def test_a_lost_lease_sends_nothing(asked: list[bool]) -> None:
    """The server sees the connection and zero bytes, also when the process was frozen after the headers were made."""
    seen = bytearray()
    done = asyncio.Event()

    async def watch(reader: Reader, writer: Writer) -> None:
        seen.extend(await reader.read())
        writer.close()
        done.set()

    server = await asyncio.start_server(watch, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with wire() as w:
        answers = iter(asked)
        exchange = await w.send(post(f"http://127.0.0.1:{port}/"), lease=lambda: next(answers))
    await asyncio.wait_for(done.wait(), 2)
    server.close()

    assert exchange == Exchange(sent=False, error="LeaseLost")
    assert bytes(seen) == b""


async def test_a_stalled_handshake_is_not_sent() -> None:
    """A server that accepts and never speaks TLS costs the connect timeout, and no byte of the request."""
    seen = bytearray()

    async def silent(reader: Reader, writer: Writer) -> None:
        seen.extend(await reader.read())
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with wire(connect=0.3) as w:
        exchange = await w.send(post(f"https://127.0.0.1:{port}/"), lease=held)
    server.close()
    await asyncio.sleep(0.05)

    assert (exchange.sent, exchange.answer) == (False, None)
    assert b"POST" not in seen


# ---------------------------------------------------------------- certificates

#: Made for these tests by an authority that nobody trusts, for localhost; valid until 2120 but for the expired one.
CERTIFICATES = Path(__file__).with_name("certificates")


@asynccontextmanager
async def tls_vendor(certificate: str) -> AsyncIterator[Vendor]:
    """A vendor that shows this certificate."""
    shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shown.load_cert_chain(CERTIFICATES / f"{certificate}.pem", CERTIFICATES / "server.key")
    async with vendor(tls=shown) as api:
        yield api


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=CERTIFICATES / "ca.pem")


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        ("expired", "certificate has expired"),
        ("self_signed", "self-signed certificate"),
        ("wrong_host", "certificate is not valid for 'localhost'"),
    ],
)
async def test_a_wrong_certificate_is_said_and_nothing_is_sent(certificate: str, words: str) -> None:
    """No byte of the request leaves, and the exchange tells what is wrong with the certificate."""
    async with tls_vendor(certificate) as api, wire(tls=trusting()) as w:
        exchange = await w.send(post(f"https://localhost:{api.port}/"), lease=held)

    assert (exchange.sent, exchange.answer) == (False, None)
    assert words in exchange.certificate
    assert api.requests == []


async def test_a_right_certificate_is_taken() -> None:
    """The same authority, the right host, in time: sent, and nothing to say of it."""
    async with tls_vendor("good") as api, wire(tls=trusting()) as w:
        exchange = await w.send(post(f"https://localhost:{api.port}/"), lease=held)

    assert exchange.answer is not None
    assert (exchange.answer.status, exchange.certificate) == (200, "")


# ---------------------------------------------------------------- sent, and nobody knows

HOSTILE: dict[str, Script] = {
    "reset after the whole request": resets,
    "clean close after the whole request": answers(close=True),
    "close inside the body": answers(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", close=True),
    "close inside a chunk": answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}", close=True),
    "bad chunk size": answers(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n", close=True),
    "garbage status line": answers(b"\x00\xff\xfe garbage\r\n\r\n", close=True),
    "another protocol": answers(b"SSH-2.0-OpenSSH_9.6\r\n", close=True),
    "bad status number": answers(b"HTTP/1.1 abc OK\r\n\r\n", close=True),
    "negative length": answers(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", close=True),
    "two lengths": answers(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}", close=True),
    "length and chunked": answers(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", close=True
    ),
    "bad header name": answers(b"HTTP/1.1 200 OK\r\nA b\x00: c\r\nContent-Length: 2\r\n\r\n{}", close=True),
    "reason that is no text": answers(b"HTTP/1.1 200 \xff\xfe\r\nContent-Length: 2\r\n\r\n{}", close=True),
    "very long header": answers(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\n\r\n", close=True),
    "endless headers": answers(b"HTTP/1.1 200 OK\r\n", *[b"X-Header: y\r\n" * 100] * 50, close=True),
    "only interim answers": answers(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 20, close=True),
    "switching protocols": answers(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", close=True),
    "headers only": answers(b"HTTP/1.1 200 OK\r\nContent-Le", close=True),
}


@METHODS
@pytest.mark.parametrize("fault", HOSTILE)
async def test_a_hostile_answer_is_a_value(fault: str, method: str) -> None:
    """Whatever comes back, send returns an exchange that is marked sent, and nothing is sent twice."""
    async with vendor(HOSTILE[fault]) as api, wire(deadline=2) as w:
        exchange = await w.send(ask(method, api.url()), lease=held)

    assert exchange.sent
    assert len(api.requests) == 1
    if fault.startswith(("reset", "clean", "close", "garbage", "headers only")):
        assert exchange.answer is None
        assert exchange.error


@METHODS
async def test_a_stale_connection_is_not_written_twice(method: str) -> None:
    """The server closes between two requests: the second is unknown or goes over a new connection, never both."""
    async with vendor(answers(OK, close=True), answers(OK)) as api, wire() as w:
        first = await w.send(ask(method, api.url()), lease=held)
        second = await w.send(ask(method, api.url()), lease=held)

    assert first.answer is not None
    assert len(api.requests) == (1 if second.answer is None else 2)
    assert second.sent


@METHODS
async def test_a_connection_reset_under_the_second_request_is_unknown(method: str) -> None:
    """aiohttp would repeat a GET by itself here; the second write is refused and the outcome stays unknown."""
    async with vendor(answers(OK), resets, answers(OK)) as api, wire() as w:
        await w.send(ask(method, api.url()), lease=held)
        second = await w.send(ask(method, api.url()), lease=held)

    assert (second.sent, second.answer) == (True, None)
    assert len(api.requests) == 2


async def test_a_dripping_answer_ends_with_the_deadline() -> None:
    """One byte per 0.2 s keeps no attempt open past its deadline."""
    drip = answers(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n", *[b"x"] * 50, pause=0.2)
    async with vendor(drip) as api, wire(deadline=0.7) as w:
        exchange = await w.send(post(api.url()), lease=held)

    assert exchange == Exchange(sent=True, error="TimeoutError")


async def test_cancellation_is_passed_on() -> None:
    """A worker that shuts down is not told that its request failed."""
    async with vendor(answers(b"", pause=5)) as api, wire() as w:
        task = asyncio.ensure_future(w.send(post(api.url()), lease=held))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_second_answer_that_nobody_asked_for_is_not_the_next_ones() -> None:
    """Extra bytes after an answer are not taken for the answer to the next request."""
    stray = b"HTTP/1.1 500 Stray\r\nContent-Length: 0\r\n\r\n"
    async with vendor(answers(OK + stray), answers(OK)) as api, wire() as w:
        await w.send(post(api.url()), lease=held)
        await asyncio.sleep(0.05)
        second = await w.send(post(api.url()), lease=held)

    assert second.answer is None or second.answer.status == 200


async def test_many_attempts_at_once_keep_their_own_marks() -> None:
    """Half of the leases are lost; exactly the other half arrives."""
    async with vendor() as api, wire(connections=8) as w:
        exchanges = await asyncio.gather(
            *(w.send(post(api.url()), lease=lambda ok=number % 2 == 0: ok) for number in range(40))  # type: ignore[misc]
        )

    assert [exchange.sent for exchange in exchanges] == [True, False] * 20
    assert len(api.requests) == 20


async def test_a_closed_wire_sends_nothing() -> None:
    """After aclose a send is a value too."""
    async with vendor() as api:
        async with wire() as w:
            await w.send(post(api.url()), lease=held)
        exchange = await w.send(post(api.url()), lease=held)

    assert (exchange.sent, exchange.answer) == (False, None)
