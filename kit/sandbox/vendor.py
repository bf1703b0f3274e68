"""What every sandbox vendor does alike: receive, record, rule, count each event once, answer or fail as scripted."""

from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from itertools import count
from threading import Lock
from typing import ClassVar

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from kit.sandbox.faults import Answer, Fault, Reset, Script, When, encoded, fault_headers, give
from kit.sandbox.record import LARGEST_BODY, Event, Received, Refusal, Ruling

Clock = Callable[[], datetime]
"""Returns the time now, aware, in UTC."""

#: Raw bodies kept by one vendor; the oldest requests are forgotten first.
_KEEP_BYTES = 256 * 1024 * 1024

#: Deduplication remembers this many times more events than requests are kept.
_KEYS_PER_REQUEST = 10


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all vendors of a sandbox share.

    `strict`   refuse what the vendor's pages forbid or leave open; else only what would certainly be refused
    `clock`    returns the time now, aware; time windows and records go by it
    `keep`     how many requests a vendor remembers (at most 256 MiB of bodies); older ones are forgotten
    `numbers`  numbers the requests of all vendors
    """

    strict: bool = True
    clock: Clock = utc_now
    keep: int = 100_000
    numbers: Iterator[int] = field(default_factory=lambda: count(1))


class Vendor(ABC):
    """One ad API on this machine: an ASGI app that rules as the vendor would and remembers what it got."""

    name: ClassVar[str]
    #: The key of the list of events in a body; empty where the body is the list or the event.
    envelope: ClassVar[str] = ""
    #: Whether an event without a deduplication key is counted.
    counts_without_key: ClassVar[bool] = True

    def __init__(self, settings: Settings) -> None:
        self.strict = settings.strict
        self.clock = settings.clock
        self._keep = settings.keep
        self._numbers = settings.numbers
        self._script = Script()
        self._lock = Lock()
        self._requests: deque[Received] = deque()
        self._bytes = 0
        self._seen: dict[str, None] = {}
        self._total = 0

    # ---------------------------------------------------------------- the vendor's own rules

    @abstractmethod
    def judge(self, received: Received, authorization: str) -> Ruling:
        """Return how the vendor answers. `authorization` is the header's true value, empty when missing."""

    @abstractmethod
    def trouble(self, status: int) -> object:
        """Return the JSON body in which this vendor reports a status; None for an empty body."""

    @abstractmethod
    def order_of(self, event: Event) -> str | None:
        """Return the event's order id."""

    @abstractmethod
    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        """Return the names of the identifiers that the event carries."""

    def dedupe_key(self, event: Event, at: datetime) -> str | None:
        """Return what this vendor tells a repeat by, for an event that arrived at that time; None for nothing."""
        return None

    # ---------------------------------------------------------------- what a test asks and scripts

    @property
    def requests(self) -> tuple[Received, ...]:
        """Return all requests that are remembered, the oldest first."""
        with self._lock:
            return tuple(self._requests)

    @property
    def refusals(self) -> tuple[Received, ...]:
        """Return the requests that were refused by a rule, whole or in part; scripted faults are none."""
        return tuple(received for received in self.requests if received.refused)

    @property
    def accepted(self) -> tuple[Event, ...]:
        """Return the events that were counted, each once; decoded anew with every call."""
        return tuple(event for received in self.requests for event in received.accepted)

    @property
    def counted(self) -> int:
        """Return how many events were counted since the last clear(), those of forgotten requests included."""
        with self._lock:
            return self._total

    @property
    def orders(self) -> Counter[str]:
        """Return how often each order id was counted: above 1, money was counted twice."""
        return Counter(order for event in self.accepted if (order := self.order_of(event)) is not None)

    @property
    def faults(self) -> tuple[str, ...]:
        """Return the faults that wait, in words."""
        return self._script.waiting

    def answers(
        self,
        status: int | None = None,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        body: object = None,
        delay: float = 0.0,
        drip: float = 0.0,
        reset: Reset | None = None,
        close: bool = False,
        counts: bool | None = None,
        times: int | None = 1,
        when: When | None = None,
    ) -> None:
        """Script a fault for the next `times` requests that `when` accepts (None: until cleared).

        Faults are tried in the order given; the first that meets the request is played.

        `status`  answered instead of the vendor's own; None keeps it
        `headers` set over the vendor's own, pairs when a name is to come twice
        `body`    bytes, text or JSON in place of the vendor's own
        `delay`   seconds before the answer, after the request was recorded
        `drip`    seconds after each byte of the body
        `reset`   RST: "before" the request body is read, "during" the answer's body, or "after" the request counted
        `close`   a clean close without an answer, after the request counted
        `counts`  whether the vendor takes the request all the same; by default unless `status` is 300 or more.
                  A request reset "before" is never taken; `when` sees it without its body.
        """
        fault = Fault(
            status=status,
            headers=fault_headers(headers),
            body=None if body is None else encoded(body),
            delay=delay,
            drip=drip,
            reset=reset,
            close=close,
            counts=(status is None or status < 300) if counts is None else counts,
            when=when,
        )
        self._script.add(fault, times)

    def clear_faults(self) -> None:
        """Forget the faults that wait; keep what was received."""
        self._script.clear()

    def clear(self) -> None:
        """Forget everything: requests, counted events, faults."""
        self._script.clear()
        with self._lock:
            self._requests.clear()
            self._seen.clear()
            self._bytes = self._total = 0

    # ---------------------------------------------------------------- the ASGI app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        head = self._head(scope, headers)
        if fault := self._script.at_the_door(head):
            self._remember(replace(head, complete=False, fault=fault.words), ())
            await give(Answer(status=0, headers=(), body=b""), fault, scope, receive, send)
            return
        body, complete = await _read(receive)
        received = replace(head, body=body, complete=complete)
        if not complete and len(body) <= LARGEST_BODY:
            self._remember(received, ())
            return
        fault = self._script.next(received)
        ruling = self._rule(received, headers.get("authorization", ""), fault)
        answer = self._answer(ruling, fault)
        self._remember(_ruled(received, ruling, answer, fault), ruling.events, taken=ruling.taken)
        await give(answer, fault, scope, receive, send)

    def _head(self, scope: Scope, headers: Headers) -> Received:
        return Received(
            number=next(self._numbers),
            at=self.clock(),
            vendor=self.name,
            method=scope["method"],
            path=scope["path"].removeprefix(scope.get("root_path", "")),
            query=QueryParams(scope.get("query_string", b"")),
            headers=Headers(raw=[(name, _masked(name, value)) for name, value in headers.raw]),
            envelope=self.envelope,
        )

    def _rule(self, received: Received, authorization: str, fault: Fault | None) -> Ruling:
        if fault is not None and not fault.counts:
            return Ruling(status=fault.status or 200, body=self.trouble(fault.status or 200))
        if not received.complete:
            refusal = Refusal(field="body", message=f"is longer than {LARGEST_BODY} bytes")
            return Ruling(status=413, body=self.trouble(413), refused=(refusal,))
        return self.judge(received, authorization)

    def _answer(self, ruling: Ruling, fault: Fault | None) -> Answer:
        status, body = ruling.status, encoded(ruling.body)
        given = fault.headers if fault else ()
        if fault and fault.status is not None and fault.status != status:
            status, body = fault.status, encoded(self.trouble(fault.status))
        if fault and fault.body is not None:
            body = fault.body
        if status in {204, 304}:
            body = b""
        date = format_datetime(self.clock().astimezone(UTC), usegmt=True)
        headers = {"date": date, "content-type": "application/json"}
        if status not in {204, 304}:
            headers["content-length"] = str(len(body))
        for name, _ in given:
            headers.pop(name, None)
        return Answer(status=status, headers=(*headers.items(), *given), body=body)

    def _remember(self, received: Received, events: Sequence[Event], taken: Iterable[int] = ()) -> None:
        with self._lock:
            counted: list[int] = []
            repeated: list[int] = []
            for place in taken:
                (counted if self._first_time(events[place], received.at) else repeated).append(place)
            self._total += len(counted)
            self._requests.append(replace(received, counted=tuple(counted), repeated=tuple(repeated)))
            self._bytes += len(received.body)
            while len(self._requests) > self._keep or (self._bytes > _KEEP_BYTES and len(self._requests) > 1):
                self._bytes -= len(self._requests.popleft().body)

    def _first_time(self, event: Event, at: datetime) -> bool:
        key = self.dedupe_key(event, at)
        if key is None:
            return self.counts_without_key
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._keep * _KEYS_PER_REQUEST:
            del self._seen[next(iter(self._seen))]
        return True


def _ruled(received: Received, ruling: Ruling, answer: Answer, fault: Fault | None) -> Received:
    return replace(
        received,
        authorized=ruling.authorized,
        status=None if fault and fault.silent else answer.status,
        refused=ruling.refused,
        warnings=ruling.warnings,
        fault=fault.words if fault else "",
    )


def _masked(name: bytes, value: bytes) -> bytes:
    if name != b"authorization":
        return value
    scheme, space, _ = value.partition(b" ")
    return scheme + b" ***" if space else b"***"


async def _read(receive: Receive) -> tuple[bytes, bool]:
    """Return the request's body and whether that is all of it. Stops past LARGEST_BODY."""
    body = bytearray()
    while len(body) <= LARGEST_BODY:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body), False
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body), len(body) <= LARGEST_BODY
    return bytes(body), False


def sorted_out(found: Iterable[Refusal], *, strict: bool) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """Return what is refused, and in words what is only warned of because the vendor is lenient."""
    refused, warned = [], []
    for refusal in found:
        if refusal.soft and not strict:
            warned.append(f"{refusal.field} {refusal.message}")
        else:
            refused.append(refusal)
    return tuple(refused), tuple(warned)


def phrase(status: int) -> str:
    """Return the standard words of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"
