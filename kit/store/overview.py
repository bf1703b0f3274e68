"""What an operator asks of the outbox: how destinations stand, what became of an order, and to send again."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, func, or_, select

from kit.model import Consent, DeliveryState, Identifiers
from kit.store.gates import FOR_EVER, STOPPED, Gate
from kit.store.pixels import pixels_of
from kit.store.rows import conversion_of, grouped, identifiers_of, milliseconds, moment, upsert
from kit.store.store import Store
from kit.store.tables import conflicts, deliveries, events, gates
from kit.store.tombstones import ERASED


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How one destination stands: deliveries by state and reason, its oldest pending one, its gate."""

    destination: str
    counts: dict[tuple[str, str | None], int]
    oldest_pending: datetime | None
    gate: Gate | None


#: Primary keys that one read or one write looks at: a page in a few milliseconds. In SQLite's TRUNCATE mode an open
#: reader blocks every commit.
RANGE = 5_000
#: A longer body is not read along: a chunk of an audience is most of a megabyte.
LONGEST_SHOWN = 64 * 1024
#: The most deliveries that one transaction puts back.
REPLAYED = 500

#: The reason of a job that the shop took back.
CANCELLED = "cancelled"
#: Why nobody can have a delivery sent again: who was erased is told of to nobody, what was taken back stays so.
NEVER_AGAIN = (ERASED, CANCELLED)


def standings(store: Store) -> list[Standing]:
    """Return how each destination stands, counted range by range: each is a short read of its own."""
    counts: dict[str, Counter[tuple[str, str | None]]] = {}
    oldest: dict[str, int] = {}
    for within in _ranges(store):
        for row in store.read_sync(partial(_counted, within=within)):
            counts.setdefault(row.destination, Counter())[row.state, row.reason] += row.n
            if row.state == DeliveryState.PENDING:
                oldest[row.destination] = min(row.oldest, oldest.get(row.destination, row.oldest))
    held = {row.destination: row for row in store.read_sync(lambda connection: connection.execute(select(gates)).all())}
    return [
        Standing(
            destination=name,
            counts=dict(counts.get(name, {})),
            oldest_pending=moment(oldest[name]) if name in oldest else None,
            gate=_gate_of(held.get(name)),
        )
        for name in sorted(counts.keys() | held.keys())
    ]


def _counted(connection: Connection, *, within: range) -> Sequence[Any]:
    columns = deliveries.c
    by = (columns.destination, columns.state, columns.reason)
    query = select(*by, func.count().label("n"), func.min(columns.created_at).label("oldest"))
    return connection.execute(query.where(_is_within(within)).group_by(*by)).all()


def _ranges(store: Store) -> Iterator[range]:
    """Yield ranges of primary keys that together hold every delivery there is now."""
    first, last = store.read_sync(
        lambda connection: [connection.scalar(select(end(deliveries.c.id))) for end in (func.min, func.max)]
    )
    if first is not None and last is not None:
        yield from (range(start, min(start + RANGE, last + 1)) for start in range(first, last + 1, RANGE))


def _is_within(ids: range) -> ColumnElement[bool]:
    return deliveries.c.id.between(ids.start, ids.stop - 1)


def _gate_of(row: Any) -> Gate | None:
    return gate_shown(row) if row is not None else None


def gate_shown(row: Any) -> Gate:
    """Return a destination's gate as people are shown it."""
    return Gate(state=row.state, until=moment(row.until), reason=row.reason, since=moment(row.since))


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """An operator wants deliveries sent again: dead ones, held ones, or skipped ones; never delivered ones.

    `since` and `until` are about when they ended: not before, and before.
    """

    order_id: str | None = None
    event_id: str | None = None
    destination: str | None = None
    state: DeliveryState = DeliveryState.DEAD
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    now: datetime

    def conditions(self) -> list[ColumnElement[bool]]:
        columns = deliveries.c
        again = or_(columns.reason.is_(None), columns.reason.not_in(NEVER_AGAIN))
        found: list[ColumnElement[bool]] = [columns.state == self.state, again]
        if self.destination is not None:
            found.append(columns.destination == self.destination)
        if self.reason is not None:
            found.append(columns.reason == self.reason)
        if self.since is not None:
            found.append(columns.settled_at >= milliseconds(self.since))
        if self.until is not None:
            found.append(columns.settled_at < milliseconds(self.until))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """A few of the deliveries that an operator wants sent again."""

    asked: Replay
    ids: Sequence[int]


def replay(store: Store, asked: Replay) -> int:
    """Put the deliveries back to pending, with their keys and frozen bodies, a few at a time; returns how many.

    Idempotent: asking again, also after an interruption, puts back what is left. Not for an event loop's thread.
    """
    return sum(store.write_sync(_put_back, chunk) for chunk in _chunks(store, asked))


def _chunks(store: Store, asked: Replay) -> Iterator[_Chunk]:
    if asked.order_id is not None or asked.event_id is not None:
        wanted: list[ColumnElement[bool]] = [_is_of(asked)]
    else:
        wanted = [_is_within(ids) for ids in _ranges(store)]
    for where in wanted:
        query = select(deliveries.c.id).where(where, *asked.conditions())
        found = store.read_sync(partial(_ids, query=query))
        for start in range(0, len(found), REPLAYED):
            yield _Chunk(asked=asked, ids=found[start : start + REPLAYED])


def _is_of(asked: "Replay | Resolve") -> ColumnElement[bool]:
    """Return whether a delivery is of the order or the event that is asked for."""
    named = events.c.event_id == asked.event_id if asked.order_id is None else _is_named(asked.order_id)
    return deliveries.c.event.in_(select(events.c.id).where(named))


def _is_named(name: str) -> ColumnElement[bool]:
    """Return whether an event is of this order, or is called so itself, as one without an order is shown."""
    return or_(events.c.order_id == name, events.c.event_id == name)


def _ids(connection: Connection, *, query: Select[Any]) -> Sequence[int]:
    return connection.scalars(query).all()


def _put_back(connection: Connection, asked: Sequence[_Chunk]) -> Sequence[int]:
    return [
        connection.execute(
            deliveries.update()
            .where(deliveries.c.id.in_(one.ids), *one.asked.conditions())
            .values(
                state=DeliveryState.PENDING,
                reason=None,
                due_at=milliseconds(one.asked.now),
                # A series of its own: what was tried for two weeks before is not over at once.
                created_at=milliseconds(one.asked.now),
                settled_at=None,
                crashes=0,
                lost=0,
            )
        ).rowcount
        for one in asked
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolve:
    """An operator knows what became of a held delivery: the vendor has it (`delivered`), or it may be sent again.

    Of an order, or with `event_id` of that one event alone.
    """

    order_id: str | None = None
    event_id: str | None = None
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
        if not one.delivered:
            ended["created_at"] = milliseconds(one.now)
        result = connection.execute(
            deliveries.update()
            .where(
                deliveries.c.state == DeliveryState.HELD,
                deliveries.c.destination == one.destination,
                _is_of(one),
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
    at: datetime
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
    #: The vendors whose pixels reported the order from the page, `kit.store.pixels`.
    pixels: tuple[str, ...] = ()


def told(connection: Connection, *, order_id: str | None = None, newest: int = 100) -> list[Told]:
    """Return the deliveries of one order, or of the newest events, the newest event first."""
    chosen = select(events.c.id).order_by(events.c.id.desc()).limit(newest)
    if order_id is not None:
        chosen = select(events.c.id).where(_is_named(order_id))
    return _all_told(connection, events.c.id.in_(chosen), (events.c.id.desc(), deliveries.c.id))


def held(connection: Connection, *, most: int = 500) -> list[Told]:
    """Return the deliveries that wait for an operator's decision, the longest held first."""
    oldest = (
        select(deliveries.c.id).where(deliveries.c.state == DeliveryState.HELD).order_by(deliveries.c.id).limit(most)
    )
    return _all_told(connection, deliveries.c.id.in_(oldest), (deliveries.c.id,))


def _all_told(connection: Connection, chosen: ColumnElement[bool], order: Sequence[ColumnElement[Any]]) -> list[Told]:
    small = case((func.length(deliveries.c.payload) <= LONGEST_SHOWN, deliveries.c.payload)).label("body")
    columns = [column for column in deliveries.c if column is not deliveries.c.payload]
    query = select(events, *columns, small).join_from(events, deliveries).where(chosen).order_by(*order)
    rows = [row._mapping for row in connection.execute(query)]
    differing = grouped(
        connection.execute(
            select(conflicts.c.event, conflicts.c.fields).where(
                conflicts.c.event.in_({row[events.c.id] for row in rows})
            )
        ),
        "event",
    )
    beside = pixels_of(connection, {order_id for row in rows if (order_id := row[events.c.order_id]) is not None})
    return [
        _told(
            row,
            [each.fields for each in differing.get(row[events.c.id], ())],
            beside.get(row[events.c.order_id], ()),
        )
        for row in rows
    ]


def _told(row: Any, differing: Sequence[str], beside: tuple[str, ...]) -> Told:
    conversion = conversion_of(row[events.c.conversion])
    value = None if conversion.value is None else f"{conversion.value:f} {conversion.currency}"
    return Told(
        event_id=row[events.c.event_id],
        name=conversion.name,
        order_id=conversion.order_id,
        at=moment(row[events.c.at]),
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
        payload=row["body"],
        conflicts=tuple(differing),
        pixels=beside,
    )
