"""What a verdict is drawn from: what the store says at the end, beside what the oracle and the monkey noted."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, func, select, text

from kit.model import event_id_of
from kit.store import Store
from kit.store.tables import attempts, deliveries, earlier_attempts, events
from tests.torture.notes import Noted
from tests.torture.oracle import digest
from tests.torture.orders import order_of, payloads_of
from tests.torture.plan import Plan
from tests.torture.run import Told
from tests.torture.vendors import traced_vendors


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One attempt as the store has it for one delivery: the delivery's own outcome, the request's own times."""

    id: int
    outcome: str
    opened_at: float
    closed_at: float | None


@dataclass(slots=True, kw_only=True)
class Row:
    """One delivery as the store has it. Times are epoch seconds."""

    id: int
    event: int
    event_id: str
    order_id: str | None
    name: str
    destination: str
    state: str
    reason: str | None
    attempts: int
    crashes: int
    settled_at: float | None
    tried: list[Tried] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Evidence:
    """`issued` has the events that the oracle issued, `bodies` the one right digest of each at each destination.

    `requests` has each delivery's requests, in the order of their arrival.
    """

    plan: Plan
    told: Told
    rows: dict[int, Row]
    stored: set[str]
    issued: set[str]
    bodies: dict[tuple[str, str], str]
    requests: dict[int, list[Noted]]
    open_attempts: int
    integrity: str

    def of_event(self) -> dict[str, list[Row]]:
        grouped = defaultdict(list)
        for row in self.rows.values():
            grouped[row.event_id].append(row)
        return grouped

    def digest_in(self, request: Noted, delivery: int) -> str | None:
        """Return what a request carried for this delivery; None when its body never came."""
        places = [place for place, (entry, _) in enumerate(request.entries) if entry == delivery]
        return request.digests[places[0]] if request.digests else None

    def took(self, request: Noted, delivery: int) -> bool:
        return any(request.entries[place][0] == delivery for place in request.taken)

    def tried_with(self, request: Noted, delivery: int) -> Tried | None:
        """Return the attempt that a request belongs to: the newest that was opened before it came."""
        before = [tried for tried in self.rows[delivery].tried if tried.opened_at <= request.at + 0.002]
        return before[-1] if before else None


def gather(plan: Plan, store: str, told: Told) -> Evidence:
    """Read the store and set it beside what was noted."""
    destinations = traced_vendors("http://127.0.0.1")
    issued, bodies = set[str](), dict[tuple[str, str], str]()
    for number in range(1, told.ledger.orders + 1):
        order = order_of(plan, number)
        issued |= {event_id_of(conversion) for conversion in order.conversions}
        bodies |= {key: digest(body) for key, body in payloads_of(order, destinations).items()}
    requests: dict[int, list[Noted]] = defaultdict(list)
    for request in told.ledger.requests:
        for delivery, _ in request.entries:
            requests[delivery].append(request)
    reader = Store(store)
    try:
        rows, stored, unclosed, integrity = reader.read_sync(_read)
    finally:
        reader.close()
    return Evidence(
        plan=plan,
        told=told,
        rows=rows,
        stored=stored,
        issued=issued,
        bodies=bodies,
        requests=requests,
        open_attempts=unclosed,
        integrity=integrity,
    )


def _read(connection: Connection) -> tuple[dict[int, Row], set[str], int, str]:
    columns = deliveries.c
    asked = select(
        columns.id, columns.event, columns.destination, columns.state, columns.reason, columns.attempts,
        columns.crashes, columns.settled_at, events.c.event_id, events.c.order_id, events.c.name,
    ).join(events, events.c.id == columns.event).order_by(columns.id)  # fmt: skip
    rows = {
        row.id: Row(**{**row._mapping, "settled_at": None if row.settled_at is None else row.settled_at / 1000})
        for row in connection.execute(asked)
    }
    for delivery, tried in _all_tried(connection):
        rows[delivery].tried.append(tried)
    stored = set(connection.scalars(select(events.c.event_id)))
    unclosed = connection.scalar(select(func.count()).where(attempts.c.outcome == "open")) or 0
    integrity = "ok"
    if connection.dialect.name == "sqlite":
        integrity = str(connection.scalar(text("PRAGMA integrity_check")))
    return rows, stored, unclosed, integrity


def _all_tried(connection: Connection) -> Sequence[tuple[int, Tried]]:
    """Return each delivery's attempts, the oldest first."""
    earlier = select(
        earlier_attempts.c.delivery, earlier_attempts.c.attempt, earlier_attempts.c.outcome,
        attempts.c.opened_at, attempts.c.closed_at,
    ).join(attempts, attempts.c.id == earlier_attempts.c.attempt)  # fmt: skip
    latest = select(
        deliveries.c.id, deliveries.c.attempt, deliveries.c.outcome, attempts.c.opened_at, attempts.c.closed_at
    ).join(attempts, attempts.c.id == deliveries.c.attempt)
    found = {(row[0], row[1]): row for asked in (earlier, latest) for row in connection.execute(asked)}
    return [(delivery, _tried(row)) for (delivery, _), row in sorted(found.items())]


def _tried(row: Any) -> Tried:
    closed = None if row[4] is None else row[4] / 1000
    return Tried(id=row[1], outcome=row[2] or "open", opened_at=row[3] / 1000, closed_at=closed)
