"""How long the store keeps what it no longer needs, and the verb that lets go of it, a few hundred rows at a time."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, and_, delete, exists, literal_column, select, tuple_

from kit.errors import ConfigurationError
from kit.model import HORIZON, DeliveryState
from kit.store.impersonal import FORGET, impersonal
from kit.store.rows import milliseconds
from kit.store.store import Store
from kit.store.tables import (
    attempts,
    conflicts,
    consents,
    deliveries,
    earlier_attempts,
    events,
    identities,
    links,
    orders,
    pixel_reports,
    tombstones,
    touchpoints,
)

#: The most rows of one kind that one transaction lets go of.
BATCH = 500
#: Fewer where each takes its attempts and its event's identifiers with it.
_ENDED_BATCH = 100

_HAS_ENDED = deliveries.c.state.not_in([DeliveryState.PENDING, DeliveryState.CLAIMED])


_AT_LEAST = (("events", "deliveries"), ("people", "touchpoints"), ("tombstones", "events"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind of row is kept, as timedeltas.

    `payloads`     the body that was sent, after its delivery: 7 days. What is dead, held or skipped keeps its body, to
                   be replayed.
    `deliveries`   a delivery that ended (delivered, dead, held, skipped), with its attempts: 30 days after it ended.
                   With its last delivery an event forgets its buyer, and keeps the order and its money. What is
                   pending or under way is never removed. As long what pages noted of vendors' pixels, from the note on.
    `events`       the event after that, so that the same order is still the same event: 400 days after its report.
    `touchpoints`  clicks, and what was known of a visitor when an order was placed: 90 days, as long as a click counts.
    `people`       links of visitors to people, decisions on consent, and e-mails, phones and customer numbers that no
                   visitor is linked to any more: 400 days after the link or decision was made. What a decision of
                   that age was about is gone by then as well.
    `tombstones`   the keyed hash of somebody who was erased: 400 days. For as long nothing that comes back of them is
                   kept.

    Raises ConfigurationError for one but `payloads` that is shorter than the 14 days for which a delivery may be tried,
    for `events` shorter than `deliveries`, for `people` shorter than `touchpoints`, and for `tombstones` shorter than
    `events`: a repeat of an order that is still known must not bring its buyer back.
    """

    payloads: timedelta = timedelta(days=7)
    deliveries: timedelta = timedelta(days=30)
    events: timedelta = timedelta(days=400)
    touchpoints: timedelta = timedelta(days=90)
    people: timedelta = timedelta(days=400)
    tombstones: timedelta = timedelta(days=400)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            least = timedelta(0) if name == "payloads" else HORIZON
            if getattr(self, name) < least:
                raise ConfigurationError(f"retention.{name}", f"is shorter than {least.days} days: deliveries need it")
        for longer, shorter in _AT_LEAST:
            if getattr(self, longer) < getattr(self, shorter):
                raise ConfigurationError(f"retention.{longer}", f"is shorter than retention.{shorter}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruning:
    """A worker asks to let go of what has been kept for long enough."""

    retention: Retention
    now: datetime

    def before(self, kept: timedelta) -> int:
        return milliseconds(self.now - kept)


async def prune(store: Store, retention: Retention, now: datetime) -> bool:
    """Let go of one batch of what is too old; returns whether there may be more. Any number of workers may."""
    return await store.write(let_go, Pruning(retention=retention, now=now))


def let_go(connection: Connection, asked: Sequence[Pruning]) -> Sequence[bool]:
    """Let go of a batch of the first kind that has any: each call is a short transaction."""
    return [any(step(connection, one) for step in _STEPS) for one in asked]


def _scrub_payloads(connection: Connection, asked: Pruning) -> bool:
    old = (
        select(deliveries.c.id)
        # Written out as in the index, which SQLite uses only then.
        .where(
            deliveries.c.state == literal_column("'delivered'"),
            deliveries.c.payload.is_not(None),
            deliveries.c.settled_at < asked.before(asked.retention.payloads),
        )
        .order_by(deliveries.c.settled_at)
        .limit(BATCH)
        .with_for_update(skip_locked=True)
    )
    ids = list(connection.scalars(old))
    if ids:
        connection.execute(deliveries.update().where(deliveries.c.id.in_(ids)).values(payload=None))
    return bool(ids)


def _remove_ended(connection: Connection, asked: Pruning) -> bool:
    """Remove old deliveries; an event whose last one went forgets its buyer."""
    is_old = and_(deliveries.c.settled_at < asked.before(asked.retention.deliveries), _HAS_ENDED)
    candidates = select(deliveries.c.event).where(is_old).order_by(deliveries.c.settled_at).limit(_ENDED_BATCH)
    # An event's deliveries go under its lock, so that of two workers one sees which was the last.
    mine = (
        select(events.c.id)
        .where(events.c.id.in_(set(connection.scalars(candidates))))
        .order_by(events.c.id)
        .with_for_update(skip_locked=True)
    )
    event_ids = list(connection.scalars(mine))
    if not event_ids:
        return False
    rows = connection.execute(
        select(deliveries.c.id, deliveries.c.attempt)
        .where(deliveries.c.event.in_(event_ids), is_old)
        .with_for_update(skip_locked=True)
    ).all()
    _remove_deliveries(connection, [row.id for row in rows], {row.attempt for row in rows if row.attempt is not None})
    left = set(connection.scalars(select(deliveries.c.event).where(deliveries.c.event.in_(event_ids))))
    over = [event for event in event_ids if event not in left]
    # Of a page that somebody opened nothing is worth keeping once it was told.
    views = events.c.id.in_(over) & events.c.name.in_(("page_view", "home_view")) & events.c.order_id.is_(None)
    connection.execute(delete(events).where(views))
    _forget_buyers(connection, over)
    return True


def _remove_deliveries(connection: Connection, ids: Collection[int], tried: set[int]) -> None:
    """Remove deliveries with their attempts, but for an attempt that other deliveries were part of too."""
    earlier = earlier_attempts.c
    tried |= set(connection.scalars(select(earlier.attempt).where(earlier.delivery.in_(ids))))
    # Locked before its deliveries go, so that of two workers one sees which was the last.
    connection.execute(select(attempts.c.id).where(attempts.c.id.in_(tried)).order_by(attempts.c.id).with_for_update())
    connection.execute(delete(earlier_attempts).where(earlier.delivery.in_(ids)))
    connection.execute(delete(deliveries).where(deliveries.c.id.in_(ids)))
    connection.execute(
        delete(attempts).where(
            attempts.c.id.in_(tried),
            ~exists().where(deliveries.c.attempt == attempts.c.id),
            ~exists().where(earlier.attempt == attempts.c.id),
        )
    )


def _forget_buyers(connection: Connection, event_ids: Collection[int]) -> None:
    """Leave of these events the order and its money."""
    connection.execute(delete(conflicts).where(conflicts.c.event.in_(event_ids)))
    query = select(events.c.id, events.c.conversion).where(events.c.id.in_(event_ids))
    rows = [{"b_id": row.id, "b_kept": impersonal(row.conversion)} for row in connection.execute(query)]
    if rows:
        connection.execute(FORGET, rows)


def _remove_events(connection: Connection, asked: Pruning) -> bool:
    """Remove the oldest events that have no delivery any more."""
    oldest = _oldest(events, events.c.reported_at)
    old = select(oldest.c.id).where(
        oldest.c.at < asked.before(asked.retention.events), ~exists().where(deliveries.c.event == oldest.c.id)
    )
    ids = list(connection.scalars(old))
    if ids:
        connection.execute(delete(conflicts).where(conflicts.c.event.in_(ids)))
        connection.execute(delete(events).where(events.c.id.in_(ids)))
    return bool(ids)


def _remove_pixel_reports(connection: Connection, asked: Pruning) -> bool:
    return _remove_oldest(connection, pixel_reports, asked.before(asked.retention.deliveries))


def _remove_touchpoints(connection: Connection, asked: Pruning) -> bool:
    return _remove_oldest(connection, touchpoints, asked.before(asked.retention.touchpoints))


def _remove_consents(connection: Connection, asked: Pruning) -> bool:
    return _remove_oldest(connection, consents, asked.before(asked.retention.people))


def _remove_orders(connection: Connection, asked: Pruning) -> bool:
    old = select(orders.c.order_id).where(orders.c.at < asked.before(asked.retention.touchpoints)).limit(BATCH)
    ids = list(connection.scalars(old))
    if ids:
        connection.execute(delete(orders).where(orders.c.order_id.in_(ids)))
    return bool(ids)


def _remove_tombstones(connection: Connection, asked: Pruning) -> bool:
    old = select(tombstones.c.key).where(tombstones.c.at < asked.before(asked.retention.tombstones)).limit(BATCH)
    keys = list(connection.scalars(old))
    if keys:
        connection.execute(delete(tombstones).where(tombstones.c.key.in_(keys)))
    return bool(keys)


def _remove_links(connection: Connection, asked: Pruning) -> bool:
    """Remove old links, and whom nobody is linked to then."""
    oldest = _oldest(links, links.c.at, links.c.kind, links.c.lookup)
    rows = connection.execute(select(oldest).where(oldest.c.at < asked.before(asked.retention.people))).all()
    if not rows:
        return False
    connection.execute(delete(links).where(links.c.id.in_([row.id for row in rows])))
    still = exists().where(links.c.kind == identities.c.kind, links.c.lookup == identities.c.lookup)
    named = tuple_(identities.c.kind, identities.c.lookup).in_({(row.kind, row.lookup) for row in rows})
    connection.execute(delete(identities).where(named, ~still))
    return True


def _remove_oldest(connection: Connection, table: Any, before: int) -> bool:
    oldest = _oldest(table, table.c.at)
    ids = list(connection.scalars(select(oldest.c.id).where(oldest.c.at < before)))
    if ids:
        connection.execute(delete(table).where(table.c.id.in_(ids)))
    return bool(ids)


def _oldest(table: Any, at: Any, *further: Any) -> Any:
    """Return the first rows by primary key, which is their order in time but for what was late: no index is needed."""
    return select(table.c.id, at.label("at"), *further).order_by(table.c.id).limit(BATCH).subquery("oldest")


_STEPS: tuple[Callable[[Connection, Pruning], bool], ...] = (
    _scrub_payloads,
    _remove_ended,
    _remove_events,
    _remove_pixel_reports,
    _remove_touchpoints,
    _remove_orders,
    _remove_links,
    _remove_consents,
    _remove_tombstones,
)
