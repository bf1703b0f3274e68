"""What an operator asks of the outbox: how destinations stand, what became of an order, and to send again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, literal_column, select

from kit.model import Consent, DeliveryState, Identifiers
from kit.store.outbox import FOR_EVER, STOPPED, Gate
from kit.store.rows import conversion_of, grouped, identifiers_of, milliseconds, moment, upsert
from kit.store.tables import conflicts, deliveries, events, gates


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one destination stands: deliveries by state and reason, its oldest pending one, its gate."""

    destination: str
    counts: dict[tuple[str, str | None], int]
    oldest_pending: datetime | None
    gate: Gate | None


def standings(connection: Connection) -> list[Standing]:
    """Return how each destination stands."""
    columns = deliveries.c
    counted = connection.execute(
        select(columns.destination, columns.state, columns.reason, func.count().label("n")).group_by(
            columns.destination, columns.state, columns.reason
        )
    ).all()
    first = (
        select(columns.destination, func.min(columns.created_at).label("at"))
        .where(columns.state == literal_column("'pending'"))
        .group_by(columns.destination)
    )
    oldest = {row.destination: row.at for row in connection.execute(first)}
    held = {
        row.destination: Gate(state=row.state, until=moment(row.until), reason=row.reason)
        for row in connection.execute(select(gates))
    }
    names = sorted({row.destination for row in counted} | set(held))
    return [
        Standing(
            destination=name,
            counts={(row.state, row.reason): row.n for row in counted if row.destination == name},
            oldest_pending=moment(oldest[name]) if name in oldest else None,
            gate=held.get(name),
        )
        for name in names
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """An operator wants deliveries sent again: dead ones, held ones, or skipped ones; never delivered ones."""

    order_id: str | None = None
    destination: str | None = None
    state: DeliveryState = DeliveryState.DEAD
    reason: str | None = None
    now: datetime


def replay(connection: Connection, asked: Sequence[Replay]) -> Sequence[int]:
    """Put the deliveries back to pending, with their keys and frozen bodies; answers how many."""
    answers = []
    for one in asked:
        where = [deliveries.c.state == one.state]
        if one.order_id is not None:
            where.append(deliveries.c.event.in_(select(events.c.id).where(events.c.order_id == one.order_id)))
        if one.destination is not None:
            where.append(deliveries.c.destination == one.destination)
        if one.reason is not None:
            where.append(deliveries.c.reason == one.reason)
        result = connection.execute(
            deliveries.update()
            .where(*where)
            .values(state=DeliveryState.PENDING, reason=None, due_at=milliseconds(one.now), settled_at=None, crashes=0)
        )
        answers.append(result.rowcount)
    return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """An operator knows what became of a held delivery: the vendor has it (`delivered`), or it may be sent again."""

    order_id: str
    destination: str
    delivered: bool
    now: datetime


def resolve(connection: Connection, asked: Sequence[Resolve]) -> Sequence[int]:
    """End what is held of an order at one destination; answers how many."""
    answers = []
    for one in asked:
        ended = {
            "state": DeliveryState.DELIVERED if one.delivered else DeliveryState.PENDING,
            "reason": "by operator" if one.delivered else None,
            "due_at": milliseconds(one.now),
            "settled_at": milliseconds(one.now) if one.delivered else None,
        }
        result = connection.execute(
            deliveries.update()
            .where(
                deliveries.c.state == DeliveryState.HELD,
                deliveries.c.destination == one.destination,
                deliveries.c.event.in_(select(events.c.id).where(events.c.order_id == one.order_id)),
            )
            .values(**ended)
        )
        answers.append(result.rowcount)
    return answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """An operator holds a destination back until `resume`."""

    destination: str
    reason: str
    now: datetime


def pause(connection: Connection, asked: Sequence[Pause]) -> Sequence[None]:
    """Close the gate; what is under way ends, nothing more is claimed, nothing is lost."""
    for one in asked:
        row = {
            "destination": one.destination,
            "state": STOPPED,
            "until": FOR_EVER,
            "since": milliseconds(one.now),
            "reason": one.reason,
        }
        upsert(connection, gates, [row], key="destination")
    return [None] * len(asked)


def resume(connection: Connection, destinations: Sequence[str]) -> Sequence[bool]:
    """Open the gate, whatever closed it; answers whether there was one."""
    return [connection.execute(gates.delete().where(gates.c.destination == name)).rowcount > 0 for name in destinations]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One delivery of one event, for people: where it stands, why, and what the vendor last said."""

    event_id: str
    name: str
    order_id: str | None
    reported_at: datetime
    value: str | None
    identifiers: Identifiers
    consent: Consent
    destination: str
    state: str
    reason: str | None
    detail: str | None
    attempts: int
    payload: bytes | None = field(repr=False)
    conflicts: tuple[str, ...] = ()


def told(connection: Connection, *, order_id: str | None = None, newest: int = 100) -> list[Told]:
    """Return the deliveries of one order, or of the newest events, the newest event first."""
    chosen = select(events.c.id).order_by(events.c.id.desc()).limit(newest)
    if order_id is not None:
        chosen = select(events.c.id).where(events.c.order_id == order_id)
    query = (
        select(events, deliveries)
        .join(deliveries, deliveries.c.event == events.c.id)
        .where(events.c.id.in_(chosen))
        .order_by(events.c.id.desc(), deliveries.c.id)
    )
    rows = [row._mapping for row in connection.execute(query)]
    differing = grouped(
        connection.execute(
            select(conflicts.c.event, conflicts.c.fields).where(
                conflicts.c.event.in_({row[events.c.id] for row in rows})
            )
        ),
        "event",
    )
    return [_told(row, [each.fields for each in differing.get(row[events.c.id], ())]) for row in rows]


def _told(row: Any, differing: Sequence[str]) -> Told:
    conversion = conversion_of(row[events.c.conversion])
    value = None if conversion.value is None else f"{conversion.value:f} {conversion.currency}"
    return Told(
        event_id=row[events.c.event_id],
        name=conversion.name,
        order_id=conversion.order_id,
        reported_at=moment(row[events.c.reported_at]),
        value=value,
        identifiers=identifiers_of(row[events.c.identifiers]),
        consent=Consent(
            granted=row[events.c.granted], signal=row[events.c.signal], at=moment(row[events.c.consent_at])
        ),
        destination=row[deliveries.c.destination],
        state=row[deliveries.c.state],
        reason=row[deliveries.c.reason],
        detail=row[deliveries.c.detail],
        attempts=row[deliveries.c.attempts],
        payload=row[deliveries.c.payload],
        conflicts=tuple(differing),
    )
