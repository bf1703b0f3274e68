"""Scripted faults do over a real socket what they say, in the order given, and the record says what was counted."""

import gzip
from datetime import timedelta
from typing import Any

import httpx
import pytest

from kit.sandbox import Addresses, Sandbox

from .callers import Caller, until_recorded
from .vectors import EVENT, NOW, WEBHOOK


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


async def test_faults_play_in_order_and_then_end(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """429 twice with its header, then 503, then the vendor itself; nothing scripted is counted or a refusal."""
    sandbox.rockerbox.answers(429, headers={"Retry-After": "30"}, times=2)
    sandbox.rockerbox.answers(503)

    answers = [await client.post(WEBHOOK, json=EVENT) for _ in range(4)]

    assert [answer.status_code for answer in answers] == [429, 429, 503, 200]
    assert [answer.headers.get("retry-after") for answer in answers] == ["30", "30", None, None]
    assert sandbox.rockerbox.counted == 1
    assert sandbox.rockerbox.refusals == ()
    assert sandbox.rockerbox.faults == ()


async def test_a_fault_without_times_plays_until_cleared(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """times=None goes on; clear_faults() ends it and keeps the record."""
    sandbox.rockerbox.answers(500, times=None)

    answers = [await client.post(WEBHOOK, json=EVENT) for _ in range(3)]
    sandbox.rockerbox.clear_faults()
    last = await client.post(WEBHOOK, json=EVENT)

    assert [answer.status_code for answer in [*answers, last]] == [500, 500, 500, 200]
    assert len(sandbox.rockerbox.requests) == 4


async def test_a_predicate_chooses_the_request(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The fault waits for the order it is meant for; others pass."""
    sandbox.rockerbox.answers(503, when=lambda received: received.events[0]["order_id"] == "2")

    answers = [await client.post(WEBHOOK, json=EVENT | {"order_id": order}) for order in ("1", "2", "2")]

    assert [answer.status_code for answer in answers] == [200, 503, 200]


@pytest.mark.parametrize(
    ("status", "counts", "counted"), [(200, None, 1), (200, False, 0), (500, None, 0), (500, True, 1), (409, True, 1)]
)
async def test_whether_a_scripted_answer_counts_can_be_said(
    sandbox: Sandbox, client: httpx.AsyncClient, status: int, counts: bool | None, counted: int
) -> None:
    """By default a success counts and a failure does not; `counts` turns it round."""
    sandbox.rockerbox.answers(status, body="<html>", counts=counts)

    answer = await client.post(WEBHOOK, json=EVENT)

    assert (answer.status_code, answer.text) == (status, "<html>")
    assert sandbox.rockerbox.counted == counted


async def test_a_header_may_come_twice_and_a_204_is_empty(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Pairs repeat a name; the vendor's own Date gives way to a scripted one."""
    pairs = [("Retry-After", "1"), ("Retry-After", "9"), ("Date", "Thu, 15 Jan 2026 00:10:00 GMT")]
    sandbox.rockerbox.answers(429, headers=pairs)
    sandbox.rockerbox.answers(204)

    twice = await client.post(WEBHOOK, json=EVENT)
    empty = await client.post(WEBHOOK, json=EVENT)

    assert twice.headers.get_list("retry-after") == ["1", "9"]
    assert twice.headers.get_list("date") == ["Thu, 15 Jan 2026 00:10:00 GMT"]
    assert (empty.status_code, empty.content) == (204, b"")


@pytest.mark.parametrize(
    ("waiting", "lines"),
    [
        (30, ["30"]),
        (2.5, ["2.5"]),
        (-1, ["-1"]),
        (10**40, [str(10**40)]),
        ("in a while", ["in a while"]),
        (NOW + timedelta(minutes=10), ["Thu, 15 Jan 2026 00:10:00 GMT"]),
        ([7, NOW], ["7", "Thu, 15 Jan 2026 00:00:00 GMT"]),
    ],
)
async def test_retry_after_can_say_anything(
    sandbox: Sandbox, served: Addresses, waiting: Any, lines: list[str]
) -> None:
    """Seconds, broken, negative, huge, words, a time as an HTTP date, and two lines at once, over a real socket."""
    sandbox.rockerbox.answers(429, retry_after=waiting)

    async with httpx.AsyncClient() as over_socket:
        answer = await over_socket.post(served.url + WEBHOOK, json=EVENT)

    assert (answer.status_code, answer.headers.get_list("retry-after")) == (429, lines)


async def test_an_answer_can_come_compressed_though_nobody_asked(sandbox: Sandbox, served: Addresses) -> None:
    """Its bytes are gzip, its length is theirs, and it counts."""
    sandbox.rockerbox.answers(200, body="0123456789" * 10, gzipped=True)
    caller = await Caller.to(served)

    await caller.post()
    head = await caller.reader.readuntil(b"\r\n\r\n")
    length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await caller.reader.readexactly(length)

    assert b"content-encoding: gzip\r\n" in head
    assert gzip.decompress(body) == b"0123456789" * 10
    assert sandbox.rockerbox.counted == 1
    await caller.close()


async def test_a_fault_about_some_orders_waits_for_them(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Together with `when`: both must be true."""
    sandbox.rockerbox.answers(503, about=["2"], when=lambda received: "late" in received.query)

    answers = [
        await client.post(WEBHOOK + further, json=EVENT | {"order_id": order})
        for order, further in (("1", "&late=1"), ("2", ""), ("2", "&late=1"), ("2", "&late=1"))
    ]

    assert [answer.status_code for answer in answers] == [200, 200, 503, 200]


async def test_a_partial_failure_says_what_waits(sandbox: Sandbox) -> None:
    """In words, for the page."""
    sandbox.rokt.answers(refuse=["a", "b"], gzipped=True, times=None)

    assert sandbox.rokt.faults == ("gzip, refuses 2 of the events (always)",)


@pytest.mark.parametrize(
    ("vendor", "status", "body"),
    [
        ("adroll", 503, {"errors": [{"message": "Service Unavailable", "code": 503}]}),
        ("rokt", 503, {"data": {"code": "ServiceUnavailableError", "message": "Service Unavailable"}}),
        ("rokt", 429, {"data": {"message": "Too Many Requests"}}),
        ("rockerbox", 500, {"error": "Internal Server Error"}),
        ("rokt-conversions", 401, {"errors": [{"code": "UNAUTHORIZED", "message": "Unauthorized"}]}),
        ("rokt-conversions", 403, {"errors": [{"code": "FORBIDDEN", "message": "Forbidden"}]}),
        ("rokt-conversions", 503, {"errors": [{"code": "Service Unavailable", "message": "Service Unavailable"}]}),
    ],
)
async def test_a_scripted_status_speaks_as_its_vendor(
    sandbox: Sandbox, client: httpx.AsyncClient, vendor: str, status: int, body: object
) -> None:
    """Without a body of its own a fault answers in the vendor's error shape."""
    getattr(sandbox, vendor.replace("-", "_")).answers(status)

    answer = await client.post(f"/{vendor}/anything")

    assert (answer.status_code, answer.json()) == (status, body)


async def test_without_a_socket_a_reset_is_a_connection_reset_error(
    sandbox: Sandbox, client: httpx.AsyncClient
) -> None:
    """In process there is no connection to end; the caller gets the error itself."""
    sandbox.rockerbox.answers(reset="after")

    with pytest.raises(ConnectionResetError):
        await client.post(WEBHOOK, json=EVENT)
