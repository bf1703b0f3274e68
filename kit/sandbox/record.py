"""What a sandbox vendor received, and how it ruled: plain values that a test or a person reads afterwards."""

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from math import isfinite
from typing import Any

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive

Event = dict[str, Any]
"""One event as the caller sent it: JSON of any depth, so that a test reads `event["identifiers"]["adct"]`."""

#: The longest body, sent or inflated, that a sandbox vendor reads; more is answered with 413.
LARGEST_BODY = 16 * 1024 * 1024

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request or one of its events was not taken.

    `event`   the event's place in the request, from 0; None for the whole request.
    `soft`    a lenient sandbox only warns of it: the vendor's pages recommend it or leave it open.
    """

    field: str
    message: str
    event: int | None = None
    soft: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request, as it stood on the wire, and what became of it.

    `number`      counts up over all vendors of one sandbox, so that their requests can be put in order.
    `headers`     the header lines as they came, but the credential in Authorization is replaced by `***`.
    `authorized`  whether the credential was accepted; None when it was not looked at.
    `body`        the bytes on the wire, still compressed where they were sent compressed.
    `complete`    False when the caller left, or was cut off, before the whole body was read.
    `status`      the status answered; None when the connection ended without one.
    `counted`     places of the events that the vendor counted; `repeated` of those it took for a repeat.
    `reader`      reads the events out of the request, as its vendor does; raises ValueError where there are none.
    `fault`       the scripted fault that was played, in words; empty for none.
    """

    number: int
    at: datetime
    vendor: str
    method: str
    path: str
    query: QueryParams
    headers: Headers = field(repr=False)
    authorized: bool | None = None
    body: bytes = field(default=b"", repr=False)
    complete: bool = True
    reader: Callable[["Received"], tuple[Event, ...]] = field(repr=False, compare=False)
    status: int | None = None
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    counted: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()
    fault: str = ""

    @property
    def text(self) -> bytes:
        """Return the body inflated; one that does not inflate is returned as it came."""
        try:
            return inflated(self.headers, self.body)
        except ValueError:
            return self.body

    @property
    def events(self) -> tuple[Event, ...]:
        """Return the decoded events; empty when the body is not JSON. What is not an object stands as {}."""
        try:
            return self.reader(self)
        except ValueError:
            return ()

    @property
    def accepted(self) -> tuple[Event, ...]:
        """Return the events of this request that the vendor counted."""
        events = self.events if self.counted else ()
        return tuple(events[place] for place in self.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """How a vendor answers a request by its own rules.

    `taken` are places in `events`, before deduplication; `repeated` those that the vendor knows for a repeat already.
    """

    status: int
    body: object
    headers: tuple[tuple[str, str], ...] = ()
    events: tuple[Event, ...] = ()
    taken: tuple[int, ...] = ()
    repeated: tuple[int, ...] = ()
    refused: tuple[Refusal, ...] = ()
    warnings: tuple[str, ...] = ()
    authorized: bool | None = None


def parsed(text: bytes) -> object:
    """Return the JSON value. What JSON or UTF-8 does not know raises ValueError: NaN, 1e999, half of a surrogate."""
    try:
        found = json.loads(text, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError as exc:
        raise ValueError("is nested too deeply") from exc
    if _SURROGATE.search(text):
        json.dumps(found, ensure_ascii=False).encode()
    return found


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    if not isfinite(number := float(text)):
        raise ValueError("a number is out of range")
    return number


def events_in(found: object, envelope: str) -> tuple[Event, ...]:
    """Return the events of a decoded body: of its list, of the list under `envelope`, or the one object itself."""
    if envelope and isinstance(found, dict):
        found = found.get(envelope)
    items = found if isinstance(found, list) else [found]
    return tuple(item if isinstance(item, dict) else {} for item in items)


def inflated(headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the body without its gzip coding; ValueError when it is broken, too large or in another coding."""
    coding = headers.get("content-encoding", "identity").strip().lower()
    if coding == "identity":
        return body
    if coding != "gzip":
        raise ValueError("the content coding is not gzip")
    inflater = zlib.decompressobj(wbits=31)
    try:
        text = inflater.decompress(body, LARGEST_BODY)
    except zlib.error as exc:
        raise ValueError("the body is not gzip") from exc
    if not inflater.eof or inflater.unused_data:
        raise ValueError("the gzip body is cut, is followed by more, or is too large")
    return text


async def whole_body(receive: Receive, largest: int) -> tuple[bytes, bool]:
    """Return the request's body and whether that is all of it. Stops past `largest` bytes."""
    body = bytearray()
    while len(body) <= largest:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body), False
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body), len(body) <= largest
    return bytes(body), False


def masked(name: bytes, value: bytes) -> bytes:
    """Return a header's value without the credential in it."""
    if name != b"authorization":
        return value
    scheme, space, _ = value.partition(b" ")
    return scheme + b" ***" if space else b"***"
