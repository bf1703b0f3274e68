"""Access: all that the store has of a person, for the person; and what visitors decided, for whoever must prove it.

What is read out is the person's own, in clear: who that is, `persons` says. Values are as JSON takes them.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, select, union_all

from kit.store.impersonal import impersonal
from kit.store.persons import VISITORS, Finder, Person, Subject, chunks, person_of, ranges, spoken
from kit.store.pixels import pixels_of
from kit.store.rows import grouped, milliseconds, moment
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
    touchpoints,
)

#: Events that one read fetches with all that became of them.
EVENTS = 200

#: A row as JSON takes it.
Json = dict[str, Any]


def export(store: Store, subject: Subject) -> Json:
    """Return what the store has of the person, and what each destination was told and when. Many short reads.

    A body that was sent is there for as long as `Retention.payloads` keeps it. Times are RFC 3339, in UTC.
    """
    person = person_of(store, subject)
    found = list(_events(store, person))
    order_ids = [one["order_id"] for one in found if one["order_id"] is not None]
    return {
        "person": {
            "emails": person.emails,
            "customer_ids": sorted(value for (kind, _), value in person.names.items() if kind == "customer"),
            "visitors": sorted(person.own),
            "visitors_shared_with_others": sorted(person.shared),
            "names_not_followed": person.not_followed,
        },
        "links": list(_links(store, person)),
        "touchpoints": list(_of_visitors(store, touchpoints, person)),
        "consents": list(_of_visitors(store, consents, person)),
        "orders": list(_orders(store, person, order_ids)),
        "events": found,
    }


def _links(store: Store, person: Person) -> Iterator[Json]:
    """Yield the person's links: of visitors that others are on too, theirs alone."""
    same = (identities.c.kind == links.c.kind) & (identities.c.lookup == links.c.lookup)
    columns = links.c
    query = select(
        columns.visitor, columns.kind, columns.lookup, identities.c.value, columns.level, columns.source, columns.at
    ).join(identities, same)
    for some in chunks(sorted(person.told), VISITORS):
        for row in _all(store, query.where(columns.visitor.in_(some)).order_by(columns.id)):
            if (row.kind, row.lookup) in person.told[row.visitor]:
                yield _plain(row, but={"lookup"})


def _of_visitors(store: Store, table: Any, person: Person) -> Iterator[Json]:
    for some in chunks(sorted(person.own), VISITORS):
        for row in _all(store, select(table).where(table.c.visitor.in_(some)).order_by(table.c.id)):
            yield _plain(row, but={"id"})


def _orders(store: Store, person: Person, order_ids: Sequence[str]) -> Iterator[Json]:
    """Yield what was known when the orders were placed: of the person's events, and of own visitors."""
    told = set(order_ids)
    for some in chunks(sorted(told), VISITORS):
        yield from map(_plain, _all(store, select(orders).where(orders.c.order_id.in_(some))))
    for some in chunks(sorted(person.own), VISITORS):
        others = select(events.c.order_id).where(events.c.order_id == orders.c.order_id).exists()
        query = select(orders).where(orders.c.visitor.in_(some), ~others)
        yield from map(_plain, _all(store, query))


def _events(store: Store, person: Person) -> Iterator[Json]:
    finder = Finder(person)
    for found in finder.events(store):
        for some in chunks([one.id for one in found if not one.borrowed], EVENTS):
            yield from store.read_sync(partial(_told, ids=some, finder=finder))


def _told(connection: Connection, *, ids: Sequence[int], finder: Finder) -> list[Json]:
    """Return these events, what repeats said differently, and each delivery with all its attempts."""
    rows = connection.execute(select(events).where(events.c.id.in_(ids)).order_by(events.c.id)).all()
    differing = grouped(connection.execute(select(conflicts).where(conflicts.c.event.in_(ids))), "event")
    sent = grouped(connection.execute(select(deliveries).where(deliveries.c.event.in_(ids))), "event")
    tried = _attempts(connection, ids)
    beside = pixels_of(connection, {row.order_id for row in rows if row.order_id is not None})
    return [
        {
            **_plain(row, but={"id", "revision"}),
            "said_differently": [_differing(one, row, finder) for one in differing.get(row.id, ())],
            "reported_by_pixels": list(beside.get(row.order_id, ())),
            "deliveries": [_delivery(one, tried.get(one.id, ())) for one in sent.get(row.id, ())],
        }
        for row in rows
    ]


def _differing(conflict: Any, event: Any, finder: Finder) -> Json:
    """Return what a repeat said differently; where it names somebody else, the order and its money."""
    found = _plain(conflict, but={"id", "event", "digest"})
    said = _spoken(conflict)
    if said.isdisjoint(_spoken(event)) and finder.is_anothers(said, visitor=event.visitor):
        found["conversion"] = json.loads(impersonal(conflict.conversion))
    return found


def _spoken(row: Any) -> set[tuple[str, str]]:
    said = json.loads(row.conversion)
    return spoken(said.get("email"), said.get("customer_id"))


def _delivery(row: Any, tried: Sequence[Any]) -> Json:
    return {
        "destination": row.destination,
        "state": row.state,
        "reason": row.reason,
        "detail": row.detail,
        "settled_at": _time(row.settled_at),
        "told": _read(row.payload),
        "attempts": [_plain(one, but={"delivery"}) for one in tried],
    }


def _attempts(connection: Connection, ids: Sequence[int]) -> dict[int, list[Any]]:
    """Return every attempt of these events' deliveries, the earlier ones first."""
    columns = (attempts.c.opened_at, attempts.c.closed_at, attempts.c.status)
    mine = deliveries.c.event.in_(ids)
    earlier = (
        select(earlier_attempts.c.delivery, *columns, earlier_attempts.c.outcome)
        .join(attempts, attempts.c.id == earlier_attempts.c.attempt)
        .join(deliveries, deliveries.c.id == earlier_attempts.c.delivery)
    )
    latest = select(deliveries.c.id.label("delivery"), *columns, deliveries.c.outcome).join(
        attempts, attempts.c.id == deliveries.c.attempt
    )
    query = union_all(earlier.where(mine), latest.where(mine)).order_by("opened_at")
    return grouped(connection.execute(query), "delivery")


# ---------------------------------------------------------------- decisions


def decisions(
    store: Store, *, visitors: Sequence[str] | None, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Json]:
    """Yield what these visitors decided, or all, when and by which signal: not before `since`, and before `until`."""
    within = _within(consents.c.at, since, until)
    query = select(consents.c.visitor, consents.c.granted, consents.c.signal, consents.c.at).order_by(consents.c.id)
    for where in _parts(store, consents, visitors):
        yield from map(_plain, _all(store, query.where(where, *within)))


def applied(
    store: Store, *, visitors: Sequence[str] | None, since: datetime | None = None, until: datetime | None = None
) -> Iterator[Json]:
    """Yield what decision counted for each event of these visitors, or of all, and what became of its deliveries."""
    within = _within(events.c.reported_at, since, until)
    columns = (
        events.c.event_id, events.c.name, events.c.order_id, events.c.visitor, events.c.reported_at,
        events.c.granted, events.c.signal, events.c.consent_at,
        deliveries.c.destination, deliveries.c.state, deliveries.c.reason, deliveries.c.settled_at,
    )  # fmt: skip
    query = select(*columns).join(deliveries, deliveries.c.event == events.c.id).order_by(deliveries.c.id)
    for where in _parts(store, events, visitors):
        yield from map(_plain, _all(store, query.where(where, *within)))


def _parts(store: Store, table: Any, visitors: Sequence[str] | None) -> Iterator[ColumnElement[bool]]:
    if visitors is not None:
        yield from (table.c.visitor.in_(some) for some in chunks(sorted(visitors), VISITORS))
    else:
        yield from (table.c.id.between(ids.start, ids.stop - 1) for ids in ranges(store, table.c.id))


def _within(column: Any, since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    found = []
    if since is not None:
        found.append(column >= milliseconds(since))
    if until is not None:
        found.append(column < milliseconds(until))
    return found


# ---------------------------------------------------------------- as JSON takes it


def _all(store: Store, query: Select[Any]) -> Sequence[Any]:
    return store.read_sync(lambda connection: connection.execute(query).all())


_JSON = frozenset({"conversion", "identifiers"})
_TIMES = frozenset({"at", "reported_at", "consent_at", "opened_at", "closed_at", "settled_at"})


def _plain(row: Any, but: frozenset[str] | set[str] = frozenset()) -> Json:
    found: Mapping[str, Any] = row._mapping
    return {name: _value(name, value) for name, value in found.items() if name not in but}


def _value(name: str, value: Any) -> Any:
    if name in _TIMES:
        return _time(value)
    return json.loads(value) if name in _JSON else value


def _time(value: int | None) -> str | None:
    return None if value is None else moment(value).isoformat()


def _read(payload: bytes | None) -> Any:
    """Return a body as JSON where it is JSON, else as text."""
    if payload is None:
        return None
    words = payload.decode(errors="replace")
    try:
        return json.loads(words)
    except ValueError:
        return words
