"""What every sandbox vendor does alike: receive, record, rule, count each event once, answer or fail as scripted."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import ClassVar

from pydantic import JsonValue
from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from kit.sandbox.faults import (
    Answer,
    Fault,
    Reset,
    Script,
    Waiting,
    When,
    encoded,
    fault_headers,
    give,
    spoilt,
    waiting_headers,
)
from kit.sandbox.memory import Memory, Taken
from kit.sandbox.record import LARGEST_BODY, Event, Received, Refusal, Ruling, events_in, masked, parsed, whole_body
from kit.sandbox.settings import Settings
from kit.sandbox.tally import Money, View


class Vendor(ABC):
    """One ad API on this machine: an ASGI app that rules as the vendor would and remembers what it got."""

    name: ClassVar[str]
    #: How the paths begin that belong to this surface, where several share one address.
    paths: ClassVar[tuple[str, ...]] = ()
    #: The key of the list of events in a body; empty where the body is the list or the event.
    envelope: ClassVar[str] = ""
    #: Whether an event without a deduplication key is counted.
    counts_without_key: ClassVar[bool] = True
    #: The longest request body that is read; more is answered with 413.
    largest_body: ClassVar[int] = LARGEST_BODY

    def __init__(self, settings: Settings) -> None:
        self.strict = settings.strict
        self.clock = settings.clock
        self._numbers = settings.numbers
        self._script = Script()
        self._memory = Memory(settings.keep)

    # ---------------------------------------------------------------- the vendor's own rules

    @abstractmethod
    def judge(self, received: Received, authorization: str) -> Ruling:
        """Return how the vendor answers. `authorization` is the header's true value, empty when missing."""

    @abstractmethod
    def trouble(self, status: int) -> object:
        """Return the JSON body in which this vendor reports a status; None for an empty body."""

    def read(self, received: Received) -> tuple[Event, ...]:
        """Return the events of a request. Raises ValueError when there are none to be read."""
        return events_in(parsed(received.text), self.envelope)

    def order_of(self, event: Event) -> str | None:
        """Return the event's order id."""
        return None

    def ids_of(self, event: Event) -> tuple[str, ...]:
        """Return the names by which a scripted fault may choose this event."""
        order = self.order_of(event)
        return () if order is None else (order,)

    def money_of(self, event: Event) -> Money | None:
        """Return what the event is worth to this vendor."""
        return None

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        """Return the names of the identifiers that the event carries."""
        return ()

    def without(self, received: Received, ruling: Ruling, places: Collection[int]) -> Ruling:
        """Return the ruling as it is when these events fail at the vendor; a vendor of one event fails the request."""
        return Ruling(status=400, body=self.trouble(400), events=ruling.events, authorized=ruling.authorized)

    def took(self, event: Event) -> None:
        """Do what an event that was taken does at this vendor, a repeat too."""
        return

    def details(self) -> dict[str, JsonValue]:
        """Return what only this vendor knows, for its view."""
        return {}

    def dedupe_key(self, event: Event, at: datetime) -> str | None:
        """Return what this vendor tells a repeat by, for an event that arrived at that time; None for nothing."""
        return None

    # ---------------------------------------------------------------- what a test asks and scripts

    @property
    def requests(self) -> tuple[Received, ...]:
        """Return all requests that are remembered, the oldest first."""
        return self._memory.requests

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
        with self._memory.lock:
            return self._memory.tally.counted

    @property
    def orders(self) -> Counter[str]:
        """Return how often each order id was counted: above 1, money was counted twice."""
        return Counter(order for event in self.accepted if (order := self.order_of(event)) is not None)

    @property
    def view(self) -> View:
        """Return what this vendor would count, and what it would not."""
        reasons = Counter(f"{each.field} {each.message}" for received in self.refusals for each in received.refused)
        details = self.details()
        with self._memory.lock:
            tally = self._memory.tally
            return View(
                vendor=self.name,
                requests=tally.requests,
                counted=tally.counted,
                repeated=tally.repeated,
                refused=tally.refused,
                orders=tally.orders,
                more_than_once=tally.more_than_once,
                money=dict(tally.money),
                reasons=reasons,
                details=details,
            )

    @property
    def faults(self) -> tuple[str, ...]:
        """Return the faults that wait, in words."""
        return self._script.waiting

    def answers(
        self,
        status: int | None = None,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        retry_after: Waiting | Sequence[Waiting] | None = None,
        body: object = None,
        delay: float = 0.0,
        drip: float = 0.0,
        reset: Reset | None = None,
        close: bool = False,
        gzipped: bool = False,
        refuse: Collection[str] = (),
        counts: bool | None = None,
        times: int | None = 1,
        about: Collection[str] = (),
        when: When | None = None,
    ) -> None:
        """Script a fault for the next `times` requests that it is meant for (None: until cleared).

        Faults are tried in the order given; the first that meets the request is played.

        `status`  answered instead of the vendor's own; None keeps it
        `headers` set over the vendor's own, pairs when a name is to come twice
        `retry_after` that header: seconds, a time, any text, or a list of them for as many lines
        `body`    bytes, text or JSON in place of the vendor's own
        `delay`   seconds before the answer, after the request was recorded
        `drip`    seconds after each byte of the body
        `reset`   RST: "before" the request body is read, "during" the answer's body, or "after" the request counted
        `close`   a clean close without an answer, after the request counted
        `gzipped` the body comes compressed, asked for or not
        `refuse`  order or event ids; these events fail as this vendor tells of single ones, the others count
        `counts`  whether the vendor takes the request all the same; by default unless `status` is 300 or more.
                  A request reset "before" is never taken; `when` sees it without its body.
        `about`   order or event ids: only requests that carry one of them, as `refuse` alone already says
        `when`    a function of the request
        """
        fault = Fault(
            status=status,
            headers=(*fault_headers(headers), *waiting_headers(retry_after)),
            body=None if body is None else encoded(body),
            delay=delay,
            drip=drip,
            reset=reset,
            close=close,
            counts=(status is None or status < 300) if counts is None else counts,
            gzipped=gzipped,
            refuse=frozenset(refuse),
            when=self._meant(frozenset(about) or frozenset(refuse), when),
        )
        self._script.add(fault, times)

    def clear_faults(self) -> None:
        """Forget the faults that wait; keep what was received."""
        self._script.clear()

    def clear(self) -> None:
        """Forget everything: requests, counted events, faults."""
        self._script.clear()
        self._memory.clear()

    # ---------------------------------------------------------------- the ASGI app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        head = self._head(scope, headers)
        if fault := self._script.at_the_door(head):
            self._memory.add(replace(head, complete=False, fault=fault.words))
            await give(Answer(status=0, headers=(), body=b""), fault, scope, receive, send)
            return
        body, complete = await whole_body(receive, self.largest_body)
        received = replace(head, body=body, complete=complete)
        if not complete and len(body) <= self.largest_body:
            self._memory.add(received)
            return
        fault = self._script.next(received)
        ruling = self._rule(received, headers.get("authorization", ""), fault)
        answer = self._answer(ruling, fault)
        for place in ruling.taken:
            self.took(ruling.events[place])
        taken = [self._taken(place, ruling.events[place], received.at) for place in ruling.taken]
        self._memory.add(_ruled(received, ruling, answer, fault), taken)
        await give(answer, fault, scope, receive, send)

    def _head(self, scope: Scope, headers: Headers) -> Received:
        return Received(
            number=next(self._numbers),
            at=self.clock(),
            vendor=self.name,
            method=scope["method"],
            path=scope["path"].removeprefix(scope.get("root_path", "")),
            query=QueryParams(scope.get("query_string", b"")),
            headers=Headers(raw=[(name, masked(name, value)) for name, value in headers.raw]),
            reader=self.read,
        )

    def _rule(self, received: Received, authorization: str, fault: Fault | None) -> Ruling:
        if fault is not None and not fault.counts:
            return Ruling(status=fault.status or 200, body=self.trouble(fault.status or 200))
        if not received.complete:
            refusal = Refusal(field="body", message=f"is longer than {self.largest_body} bytes")
            return Ruling(status=413, body=self.trouble(413), refused=(refusal,))
        ruling = self.judge(received, authorization)
        chosen = fault.refuse if fault is not None else frozenset()
        places = {place for place in ruling.taken if chosen.intersection(self.ids_of(ruling.events[place]))}
        return self.without(received, ruling, places) if places else ruling

    def _answer(self, ruling: Ruling, fault: Fault | None) -> Answer:
        date = format_datetime(self.clock().astimezone(UTC), usegmt=True)
        headers = (("date", date), ("content-type", "application/json"), *ruling.headers)
        answer = Answer(status=ruling.status, headers=headers, body=encoded(ruling.body))
        return spoilt(answer, fault or Fault(), self.trouble)

    def _meant(self, ids: frozenset[str], when: When | None) -> When | None:
        if not ids:
            return when
        return lambda received: (
            (when is None or when(received))
            and any(not ids.isdisjoint(self.ids_of(event)) for event in received.events)
        )

    def _taken(self, place: int, event: Event, at: datetime) -> Taken:
        key = self.dedupe_key(event, at)
        return Taken(
            place=place,
            key=self.counts_without_key if key is None else key,
            order=self.order_of(event),
            money=self.money_of(event),
        )


def _ruled(received: Received, ruling: Ruling, answer: Answer, fault: Fault | None) -> Received:
    return replace(
        received,
        authorized=ruling.authorized,
        status=None if fault and fault.silent else answer.status,
        refused=ruling.refused,
        repeated=ruling.repeated,
        warnings=ruling.warnings,
        fault=fault.words if fault else "",
    )
