"""Scripted faults: which request they meet, and how an answer is spoilt on its way back."""

import asyncio
import gzip
import json
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from threading import Lock
from typing import Literal

from starlette.types import Receive, Scope, Send

from kit.sandbox.record import Received

Reset = Literal["before", "during", "after"]
When = Callable[[Received], bool]

Waiting = float | str | datetime
"""What one Retry-After header says: seconds, whole, broken or negative; a time, written as an HTTP date; any text."""

#: Where a served request's scope has a function that returns its connection's transport, to end it as no ASGI
#: message can.
TRANSPORT = "kit.transport"

#: Long enough on loopback for the first half of an answer to arrive before the reset does.
_HALF_ARRIVES = 0.02

_LINGER_NONE = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer, ready to send."""

    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One scripted answer; `Vendor.answers` says what each field does."""

    status: int | None = None
    headers: Sequence[tuple[str, str]] = ()
    body: bytes | None = field(default=None, repr=False)
    delay: float = 0.0
    drip: float = 0.0
    reset: Reset | None = None
    close: bool = False
    counts: bool = True
    gzipped: bool = False
    refuse: frozenset[str] = frozenset()
    when: When | None = None

    @property
    def words(self) -> str:
        """Return what this does, for people."""
        said = [
            f"answers {self.status}" if self.status is not None else "",
            "other body" if self.body is not None else "",
            f"delay {self.delay:g} s" if self.delay else "",
            f"one byte every {self.drip:g} s" if self.drip else "",
            f"reset {self.reset}" if self.reset else "",
            "closed without an answer" if self.close else "",
            "gzip" if self.gzipped else "",
            f"refuses {len(self.refuse)} of the events" if self.refuse else "",
        ]
        return ", ".join(part for part in said if part) or "other headers"

    @property
    def silent(self) -> bool:
        """Whether the caller never sees a status."""
        return self.close or self.reset in {"before", "after"}

    def meets(self, received: Received) -> bool:
        return self.when is None or self.when(received)


def encoded(body: object) -> bytes:
    """Return a body as bytes: bytes and text as they are, nothing as nothing, all else as JSON."""
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


class Script:
    """The faults still to be played, in the order in which they were given. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: list[tuple[Fault, int | None]] = []

    def add(self, fault: Fault, times: int | None) -> None:
        with self._lock:
            self._waiting.append((fault, times))

    def clear(self) -> None:
        with self._lock:
            self._waiting.clear()

    @property
    def waiting(self) -> tuple[str, ...]:
        """Return what is still to come, in words."""
        with self._lock:
            return tuple(f"{fault.words} ({'always' if left is None else left})" for fault, left in self._waiting)

    def at_the_door(self, head: Received) -> Fault | None:
        """Use up and return the fault that resets this request before its body is read, when its turn has come."""
        with self._lock:
            for place, (fault, _) in enumerate(self._waiting):
                if fault.reset == "before":
                    if fault.meets(head):
                        return self._use(place)
                elif fault.when is None:
                    return None
        return None

    def next(self, received: Received) -> Fault | None:
        """Use up and return the first fault that meets this whole request."""
        with self._lock:
            for place, (fault, _) in enumerate(self._waiting):
                if fault.reset != "before" and fault.meets(received):
                    return self._use(place)
        return None

    def _use(self, place: int) -> Fault:
        fault, left = self._waiting[place]
        if left is not None and left <= 1:
            del self._waiting[place]
        elif left is not None:
            self._waiting[place] = (fault, left - 1)
        return fault


def fault_headers(given: Mapping[str, str] | Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    pairs = given.items() if isinstance(given, Mapping) else given
    return tuple((name.lower(), value) for name, value in pairs)


def waiting_headers(given: Waiting | Sequence[Waiting] | None) -> tuple[tuple[str, str], ...]:
    """Return a Retry-After line for each waiting that is given."""
    if given is None:
        return ()
    each = given if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    return tuple(("retry-after", _waiting_text(one)) for one in each)


def _waiting_text(waiting: Waiting) -> str:
    if isinstance(waiting, datetime):
        return format_datetime(waiting.astimezone(UTC), usegmt=True)
    return str(waiting)


def spoilt(answer: Answer, fault: Fault, trouble: Callable[[int], object]) -> Answer:
    """Return the vendor's answer with the status, body and headers of the fault; `trouble` words a bare status."""
    status = answer.status if fault.status is None else fault.status
    body = answer.body if status == answer.status else encoded(trouble(status))
    body = body if fault.body is None else fault.body
    body = b"" if status in {204, 304} else body
    headers = dict(answer.headers)
    if fault.gzipped and body:
        body = gzip.compress(body, mtime=0)
        headers["content-encoding"] = "gzip"
    headers["content-length"] = str(len(body))
    if status in {204, 304}:
        del headers["content-length"]
    for name, _ in fault.headers:
        headers.pop(name, None)
    return Answer(status=status, headers=(*headers.items(), *fault.headers), body=body)


async def give(answer: Answer, fault: Fault | None, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the answer, spoilt as the fault says. Stops early when the caller leaves."""
    fault = fault or Fault()
    if fault.delay and not await _stays(receive, fault.delay):
        return
    if fault.reset in {"before", "after"} or fault.close:
        await hang_up(scope, receive, reset=not fault.close)
        return
    lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": lines})
    if fault.reset == "during":
        await send({"type": "http.response.body", "body": answer.body[: len(answer.body) // 2], "more_body": True})
        await asyncio.sleep(_HALF_ARRIVES)
        await hang_up(scope, receive, reset=True)
        return
    sent = 0
    while fault.drip and sent < len(answer.body):
        await send({"type": "http.response.body", "body": answer.body[sent : sent + 1], "more_body": True})
        sent += 1
        if not await _stays(receive, fault.drip):
            return
    await send({"type": "http.response.body", "body": answer.body[sent:], "more_body": False})


async def hang_up(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """End the connection: by RST, or cleanly without an answer. Raises ConnectionResetError where there is none."""
    find = scope.get("extensions", {}).get(TRANSPORT)
    transport = find() if find else None
    if not isinstance(transport, asyncio.WriteTransport):
        raise ConnectionResetError("the sandbox ended this connection by a scripted fault")
    if reset:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NONE)
        transport.abort()
    else:
        transport.close()
    await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _stays(receive: Receive, seconds: float) -> bool:
    """Wait, and return whether the caller is still there."""
    try:
        async with asyncio.timeout(seconds):
            await _gone(receive)
    except TimeoutError:
        return True
    return False
