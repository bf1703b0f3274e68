"""Jobs: what a destination is asked beside conversions, its body ready. One event and one delivery each."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select

from kit.model import Conversion, DeliveryState, Verdict
from kit.store.outbox import OPEN
from kit.store.overview import CANCELLED
from kit.store.people import NOBODY
from kit.store.rows import conversion_text, identifiers_text, insert_many, milliseconds, moment
from kit.store.statements import Statement, many
from kit.store.store import Store
from kit.store.tables import deliveries, earlier_attempts, events

#: Deliveries that one read looks at, see `overview.RANGE`.
_RANGE = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One request to make. Its `conversion` has a name, an order id and an event id, and tells of nobody.

    Jobs of one order id go out one after the other, in the order in which they were queued. Those that have ended when
    more are queued are found under `<order id>@<day>` from then on, so that a claim looks at the others alone.
    """

    destination: str
    conversion: Conversion
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Jobs:
    """The jobs of one call, durable together. `store_ahead` as in `events.Report`."""

    jobs: tuple[Job, ...]
    now: datetime
    store_ahead: timedelta


def queue(connection: Connection, asked: Sequence[Jobs]) -> Sequence[None]:
    """Write each job's event and delivery. The shop asks for it itself, so its word is the consent."""
    _archive(connection, {job.conversion.order_id for one in asked for job in one.jobs})
    rows = [_event_row(job, one) for one in asked for job in one.jobs]
    found = insert_many(connection, events, _EVENT, rows, "RETURNING id,event_id")
    ids = {event_id: id_ for id_, event_id in found}
    waiting = [_delivery_row(ids[job.conversion.event_id], job, one) for one in asked for job in one.jobs]
    insert_many(connection, deliveries, _DELIVERY, waiting)
    return [None] * len(asked)


_ENDED = Statement(
    "SELECT id, order_id, reported_at FROM events WHERE order_id AMONG ? AND NOT EXISTS (SELECT 1 FROM deliveries"
    " WHERE deliveries.event = events.id AND deliveries.state NOT IN ('delivered', 'skipped')) ORDER BY id"
)
_RENAME = Statement("UPDATE events SET order_id = ? WHERE id = ?")


def _archive(connection: Connection, orders: Collection[str | None]) -> None:
    ended = _ENDED.on(connection, many(connection, [order for order in orders if order]))
    _RENAME.on_each(connection, [(f"{order}@{moment(at):%Y-%m-%d}", id_) for id_, order, at in ended])


_EVENT = (
    "event_id", "name", "order_id", "visitor", "at", "reported_at", "conversion", "identifiers", "granted", "signal",
    "consent_at", "revision",
)  # fmt: skip
_DELIVERY = ("event", "destination", "state", "curable", "due_at", "created_at", "attempts", "crashes", "payload")


def _event_row(job: Job, asked: Jobs) -> tuple[Any, ...]:
    now, told = milliseconds(asked.now), job.conversion
    text, nobody = conversion_text(told), identifiers_text(NOBODY)
    return (told.event_id, told.name, told.order_id, None, now, now, text, nobody, True, "shop", now, 0)


def _delivery_row(event: int, job: Job, asked: Jobs) -> tuple[Any, ...]:
    due = milliseconds(asked.now + asked.store_ahead)
    return (event, job.destination, DeliveryState.PENDING.value, False, due, due, 0, 0, job.payload)


# ---------------------------------------------------------------- what became of them


_STATES = Statement(
    "SELECT deliveries.state, deliveries.reason, count(*) FROM deliveries JOIN events ON events.id = deliveries.event"
    " WHERE events.event_id AMONG ? GROUP BY deliveries.state, deliveries.reason"
)


def states(connection: Connection, event_ids: Sequence[str]) -> Counter[tuple[str, str | None]]:
    """Return how many of these jobs stand in each state, for each reason."""
    rows = _STATES.on(connection, many(connection, event_ids))
    return Counter({(state, reason): number for state, reason, number in rows})


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """Where one job stands, for people."""

    event_id: str
    destination: str
    asked_at: datetime
    state: str
    reason: str | None
    detail: str | None


def newest(store: Store, name: str, *, most: int = 100) -> list[Listed]:
    """Return the newest jobs of this name, the newest first; read range by range, each a short read of its own."""
    found: list[Listed] = []
    for ids in _ranges_backwards(store):
        found += store.read_sync(partial(_listed, name=name, ids=ids))
        if len(found) >= most:
            break
    return found[:most]


def _ranges_backwards(store: Store) -> Iterator[range]:
    first, last = store.read_sync(
        lambda connection: [connection.scalar(select(end(deliveries.c.id))) for end in (func.min, func.max)]
    )
    if first is not None and last is not None:
        yield from (range(max(end - _RANGE + 1, first), end + 1) for end in range(last, first - 1, -_RANGE))


def _listed(connection: Connection, *, name: str, ids: range) -> list[Listed]:
    query = (
        select(deliveries, events.c.event_id, events.c.reported_at)
        .join(events, events.c.id == deliveries.c.event)
        .where(deliveries.c.id.between(ids.start, ids.stop - 1), events.c.name == name)
        .order_by(deliveries.c.id.desc())
    )
    return [
        Listed(
            event_id=row.event_id,
            destination=row.destination,
            asked_at=moment(row.reported_at),
            state=row.state,
            reason=row.reason,
            detail=row.detail,
        )
        for row in connection.execute(query)
    ]


# ---------------------------------------------------------------- taken back


class Cancelled(StrEnum):
    """What came of taking a job back.

    here       it was not taken by the vendor, and will not be sent
    in_doubt   as `here`, but a try had no answer: the vendor may have it all the same
    asked      the vendor has it, and is asked to cancel
    under_way  it is being sent at this moment; ask again
    over       it has ended: nothing is left to take back
    unknown    there is no such job
    """

    HERE = "here"
    IN_DOUBT = "in_doubt"
    ASKED = "asked"
    UNDER_WAY = "under_way"
    OVER = "over"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Somebody takes a job back.

    `cancelling` makes of its payload what asks the vendor to cancel; None where the vendor has nothing of it yet.
    """

    event_id: str
    destination: str
    cancelling: Callable[[bytes], bytes | None]
    now: datetime


def cancel(connection: Connection, asked: Sequence[Cancel]) -> Sequence[Cancelled]:
    """End what waits here, or put the vendor's own way to cancel in its place, due at once."""
    return [_cancel(connection, one) for one in asked]


_NOT_TAKEN = (DeliveryState.PENDING, DeliveryState.HELD, DeliveryState.DEAD)


def _cancel(connection: Connection, asked: Cancel) -> Cancelled:
    query = select(deliveries).join(events, events.c.id == deliveries.c.event)
    here = (events.c.event_id == asked.event_id, deliveries.c.destination == asked.destination)
    row = connection.execute(query.where(*here).with_for_update(of=deliveries)).one_or_none()
    if row is None:
        return Cancelled.UNKNOWN
    if row.state == DeliveryState.CLAIMED:
        return Cancelled.UNDER_WAY
    if row.state not in _NOT_TAKEN or row.payload is None:
        return Cancelled.OVER
    change = deliveries.update().where(deliveries.c.id == row.id)
    now, body = milliseconds(asked.now), asked.cancelling(row.payload)
    if body is None:
        ended = {"state": DeliveryState.SKIPPED, "reason": CANCELLED, "settled_at": now}
        connection.execute(change.values(**ended, payload=None))
        return Cancelled.IN_DOUBT if row.in_doubt or _had_no_answer(connection, row.id) else Cancelled.HERE
    if row.state != DeliveryState.PENDING:
        return Cancelled.OVER
    connection.execute(change.values(payload=body, due_at=now))
    return Cancelled.ASKED


def _had_no_answer(connection: Connection, delivery: int) -> bool:
    """Return whether any earlier try may have reached the vendor for all we know."""
    columns = earlier_attempts.c
    lost = select(columns.attempt).where(columns.delivery == delivery, columns.outcome.in_((Verdict.UNKNOWN, OPEN)))
    return connection.scalar(lost.limit(1)) is not None
