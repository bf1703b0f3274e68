"""The outbox's verbs: claim, open an attempt, settle, free what a dead worker held, and what an operator asks."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, exists, func, literal_column, or_, select

from kit.model import Consent, Conversion, DeliveryState, Identifiers
from kit.store.people import newest_consents
from kit.store.rows import conversion_of, identifiers_of, insert, milliseconds, moment, upsert
from kit.store.tables import attempts, deliveries, earlier_attempts, events, gates

# Written out, not bound: SQLite uses a partial index only when it sees its condition in the statement.
_IS_PENDING = deliveries.c.state == literal_column("'pending'")
_IS_CLAIMED = deliveries.c.state == literal_column("'claimed'")

OPEN = "open"

#: The gate that an operator closed, which no answer of a vendor opens or moves: until the year 9999.
STOPPED = "stopped"
FOR_EVER = 253_402_300_799_000

_earlier, _earlier_event = deliveries.alias("earlier"), events.alias("earlier_event")
#: A refund or cancellation never overtakes its purchase: an order's events go to one destination in their order.
_WAITS = exists().where(
    _earlier_event.c.order_id == events.c.order_id,
    _earlier_event.c.id < events.c.id,
    _earlier.c.event == _earlier_event.c.id,
    _earlier.c.destination == deliveries.c.destination,
    _earlier.c.state.in_([literal_column("'pending'"), literal_column("'claimed'")]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker asks for up to `limit` due deliveries of one destination, leased to it for `lease`."""

    destination: str
    limit: int
    owner: str
    lease: timedelta
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover(Claim):
    """A worker asks for what others hold and cannot send any more: past its lease, or of an owner proven dead."""

    dead: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is this worker's until `lease_until`, with all that is needed to send it.

    `payload` is set once an attempt froze it; `orphaned` says that its last attempt's worker is gone without a word.
    """

    delivery_id: int
    destination: str
    token: str
    lease_until: datetime
    event_id: str
    at: datetime
    reported_at: datetime
    conversion: Conversion
    identifiers: Identifiers
    consent: Consent
    created_at: datetime
    attempts: int
    crashes: int
    batch_limit: int | None
    payload: bytes | None = field(repr=False)
    attempt: int | None
    orphaned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One request that is about to be sent: its deliveries with their leases and frozen bodies."""

    destination: str
    deliveries: tuple[tuple[int, str, bytes], ...] = field(repr=False)
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Where one delivery goes next. Takes effect only while its lease token is still its own."""

    delivery_id: int
    token: str
    state: DeliveryState
    reason: str | None = None
    detail: str | None = None
    due_at: datetime | None = None
    outcome: str | None = None
    payload: bytes | None = field(default=None, repr=False)
    batch_limit: int | None = None
    uncounted: bool = False
    crashed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What holds a destination back until a time: throttled (it asked) or paused (its set-up is wrong)."""

    state: str
    until: datetime
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of one attempt, or of no attempt at all (`attempt` None: found out before sending)."""

    destination: str
    attempt: int | None
    outcome: str
    status: int | None = None
    detail: str | None = None
    settlements: tuple[Settlement, ...]
    gate: Gate | None = None
    opens_gate: bool = False
    now: datetime


def claim(connection: Connection, asked: Sequence[Claim]) -> Sequence[list[Claimed]]:
    """Lease due deliveries, the longest due first. A gated destination yields nothing, or one as a probe."""
    return [_claim(connection, one) for one in asked]


def _claim(connection: Connection, asked: Claim) -> list[Claimed]:
    now = milliseconds(asked.now)
    limit = _through_gate(connection, asked)
    if not limit:
        return []
    due = (
        select(deliveries.c.id)
        .join(events, events.c.id == deliveries.c.event)
        .where(deliveries.c.destination == asked.destination, _IS_PENDING, deliveries.c.due_at <= now, ~_WAITS)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=deliveries)
    )
    ids = list(connection.scalars(due))
    if not ids:
        return []
    return _lease(connection, asked, ids)


def _through_gate(connection: Connection, asked: Claim) -> int:
    """Return how many may be claimed now. The one that passes a gate whose time is up keeps others from passing."""
    gate = connection.execute(select(gates).where(gates.c.destination == asked.destination)).one_or_none()
    if gate is None:
        return asked.limit
    if gate.until > milliseconds(asked.now):
        return 0
    until = milliseconds(asked.now + asked.lease)
    connection.execute(gates.update().where(gates.c.destination == asked.destination).values(until=until))
    return 1


def _lease(connection: Connection, asked: Claim, ids: Sequence[int]) -> list[Claimed]:
    token, until = secrets.token_hex(8), asked.now + asked.lease
    leased = {"lease_token": token, "lease_until": milliseconds(until), "owner": asked.owner}
    connection.execute(
        deliveries.update().where(deliveries.c.id.in_(ids)).values(state=DeliveryState.CLAIMED, **leased)
    )
    columns = deliveries.c
    query = (
        select(
            columns.id, columns.destination, columns.created_at, columns.attempts, columns.crashes,
            columns.batch_limit, columns.payload, columns.attempt, columns.outcome, columns.due_at,
            events.c.event_id, events.c.at, events.c.reported_at, events.c.conversion, events.c.identifiers,
            events.c.granted, events.c.signal, events.c.consent_at, events.c.visitor,
        )
        .join(events, events.c.id == columns.event)
        .where(columns.id.in_(ids))
        .order_by(columns.due_at, columns.id)
    )  # fmt: skip
    rows = connection.execute(query).all()
    decided = newest_consents(connection, {row.visitor for row in rows if row.visitor})
    return [_claimed(row, token=token, until=until, decided=decided) for row in rows]


def _claimed(row: Any, *, token: str, until: datetime, decided: dict[str, Consent]) -> Claimed:
    consent = Consent(granted=row.granted, signal=row.signal, at=moment(row.consent_at))
    newest = decided.get(row.visitor or "")
    if newest is not None and newest.granted is not None and newest.at >= consent.at:
        consent = newest
    return Claimed(
        delivery_id=row.id,
        destination=row.destination,
        token=token,
        lease_until=until,
        event_id=row.event_id,
        at=moment(row.at),
        reported_at=moment(row.reported_at),
        conversion=conversion_of(row.conversion),
        identifiers=identifiers_of(row.identifiers),
        consent=consent,
        created_at=moment(row.created_at),
        attempts=row.attempts,
        crashes=row.crashes,
        batch_limit=row.batch_limit,
        payload=row.payload,
        attempt=row.attempt,
        orphaned=row.outcome == OPEN,
    )


def owners(connection: Connection, destinations: Sequence[str]) -> Sequence[set[str]]:
    """Return who holds claims of each destination."""
    held = select(deliveries.c.destination, deliveries.c.owner).where(_IS_CLAIMED).distinct()
    rows = connection.execute(held).all()
    return [{row.owner for row in rows if row.destination == name} for name in destinations]


def claim_lapsed(connection: Connection, asked: Sequence[Takeover]) -> Sequence[list[Claimed]]:
    """Lease what a dead worker holds, and what any worker held past its time.

    The caller decides what became of an attempt that was left open.
    """
    answers = []
    for one in asked:
        lapsed = (
            select(deliveries.c.id)
            .where(
                deliveries.c.destination == one.destination,
                _IS_CLAIMED,
                or_(deliveries.c.lease_until < milliseconds(one.now), deliveries.c.owner.in_(one.dead)),
            )
            .limit(one.limit)
            .with_for_update(skip_locked=True)
        )
        ids = list(connection.scalars(lapsed))
        answers.append(_lease(connection, one, ids) if ids else [])
    return answers


def open_attempts(connection: Connection, asked: Sequence[Opening]) -> Sequence[int | None]:
    """Commit an open attempt for each request before its bytes leave; None when a lease was lost meanwhile."""
    answers: list[int | None] = []
    for one in asked:
        ids = [delivery for delivery, _, _ in one.deliveries]
        tokens = {token for _, token, _ in one.deliveries}
        held = select(func.count()).where(deliveries.c.id.in_(ids), deliveries.c.lease_token.in_(tokens), _IS_CLAIMED)
        if connection.scalar(held) != len(ids):
            answers.append(None)
            continue
        answers.append(_open(connection, one, ids))
    return answers


def _open(connection: Connection, one: Opening, ids: Sequence[int]) -> int:
    row = {
        "destination": one.destination,
        "opened_at": milliseconds(one.now),
        "outcome": OPEN,
        "deliveries": len(ids),
    }
    attempt: int = connection.execute(insert(connection, attempts).returning(attempts.c.id), row).scalar_one()
    before = select(
        deliveries.c.id, deliveries.c.attempt, func.coalesce(deliveries.c.outcome, OPEN), deliveries.c.detail
    ).where(deliveries.c.id.in_(ids), deliveries.c.attempt.is_not(None))
    names = ["delivery", "attempt", "outcome", "detail"]
    connection.execute(insert(connection, earlier_attempts).from_select(names, before).on_conflict_do_nothing())
    parameters = [{"b_id": delivery, "b_payload": payload} for delivery, _, payload in one.deliveries]
    connection.execute(_freeze_statement(), [{**each, "b_attempt": attempt} for each in parameters])
    return attempt


def _freeze_statement() -> Any:
    return (
        deliveries.update()
        .where(deliveries.c.id == bindparam("b_id"))
        .values(
            attempt=bindparam("b_attempt"),
            attempts=deliveries.c.attempts + 1,
            outcome=OPEN,
            payload=func.coalesce(deliveries.c.payload, bindparam("b_payload")),
        )
    )


def close(connection: Connection, asked: Sequence[Closing]) -> Sequence[None]:
    """Write what became of each request: its outcome once, each delivery's next state, the destination's gate."""
    rows: list[dict[str, Any]] = []
    for one in asked:
        if one.attempt is not None:
            connection.execute(
                attempts.update()
                .where(attempts.c.id == one.attempt, attempts.c.outcome == OPEN)
                .values(closed_at=milliseconds(one.now), outcome=one.outcome, status=one.status, detail=one.detail)
            )
        rows += [_settled_row(settlement, one.now) for settlement in one.settlements]
        _set_gate(connection, one)
    if rows:
        connection.execute(_settle_statement(), rows)
    return [None] * len(asked)


def _settled_row(settlement: Settlement, now: datetime) -> dict[str, Any]:
    at = milliseconds(now)
    final = settlement.state not in {DeliveryState.PENDING, DeliveryState.CLAIMED}
    return {
        "b_id": settlement.delivery_id,
        "b_token": settlement.token,
        "b_state": settlement.state,
        "b_reason": settlement.reason,
        "b_detail": settlement.detail,
        "b_due_at": milliseconds(settlement.due_at) if settlement.due_at else None,
        "b_outcome": settlement.outcome,
        "b_payload": settlement.payload,
        "b_batch_limit": settlement.batch_limit,
        "b_uncounted": int(settlement.uncounted),
        "b_crashed": int(settlement.crashed),
        "b_settled_at": at if final else None,
    }


def _settle_statement() -> Any:
    columns = deliveries.c
    return (
        deliveries.update()
        .where(columns.id == bindparam("b_id"), columns.lease_token == bindparam("b_token"), _IS_CLAIMED)
        .values(
            state=bindparam("b_state"),
            reason=bindparam("b_reason"),
            detail=bindparam("b_detail"),
            due_at=func.coalesce(bindparam("b_due_at"), columns.due_at),
            outcome=func.coalesce(bindparam("b_outcome"), columns.outcome),
            payload=func.coalesce(columns.payload, bindparam("b_payload")),
            batch_limit=func.coalesce(bindparam("b_batch_limit"), columns.batch_limit),
            attempts=columns.attempts - bindparam("b_uncounted"),
            crashes=columns.crashes + bindparam("b_crashed"),
            settled_at=bindparam("b_settled_at"),
            lease_token=None,
            lease_until=None,
            owner=None,
        )
    )


def _set_gate(connection: Connection, one: Closing) -> None:
    if one.gate is None and not one.opens_gate:
        return
    state = connection.scalar(select(gates.c.state).where(gates.c.destination == one.destination))
    if state == STOPPED:
        return
    if one.gate is not None:
        row = {
            "destination": one.destination,
            "state": one.gate.state,
            "until": milliseconds(one.gate.until),
            "since": milliseconds(one.now),
            "reason": one.gate.reason,
        }
        upsert(connection, gates, [row], key="destination")
    elif state is not None:
        connection.execute(gates.delete().where(gates.c.destination == one.destination))


def next_due(connection: Connection, destinations: Sequence[str]) -> Sequence[datetime | None]:
    """Return when each destination's next delivery is due, its gate considered."""
    held = {row.destination: row.until for row in connection.execute(select(gates.c.destination, gates.c.until))}
    answers = []
    for name in destinations:
        query = select(func.min(deliveries.c.due_at)).where(deliveries.c.destination == name, _IS_PENDING)
        due = connection.scalar(query)
        answers.append(None if due is None else moment(max(due, held.get(name, 0))))
    return answers
