"""What people look at: events the newest first, one event's whole story, how well orders could be matched.

Each read is short, of a thousand events at most: in SQLite's TRUNCATE mode an open reader blocks every commit.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, case, exists, func, literal_column, or_, select, union_all

from kit.model import Consent, Conversion, Identifiers
from kit.store.answers import Seen, seen_answers
from kit.store.gates import Gate
from kit.store.outbox import OPEN
from kit.store.overview import LONGEST_SHOWN, gate_shown
from kit.store.pixels import pixels_of
from kit.store.rows import conversion_of, grouped, identifiers_of, milliseconds, moment
from kit.store.store import Store
from kit.store.tables import attempts, conflicts, deliveries, earlier_attempts, events, gates

#: Events that one read looks at.
RANGE = 1_000
#: Reads that one page makes before it is shown with what was found, and says how far back that goes.
MOST_READS = 100
#: Events on a page.
PAGE = 25

#: Pages that were opened, and jobs of the kit's own: shown where somebody asks for their destination.
_ASIDE = or_(
    events.c.name.in_(("page_view", "home_view", "data_deletion")),
    events.c.name.startswith("audience_", autoescape=True),
)
_IS_ORDER = events.c.order_id.is_not(None) & (events.c.name != "refund") & ~_ASIDE
_PENDING = deliveries.c.state == literal_column("'pending'")


# ---------------------------------------------------------------- how things stand at this moment


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What holds destinations back, when the longest waiting delivery of each was due, and answers nobody foresaw."""

    gates: dict[str, Gate]
    due: dict[str, datetime]
    strange: list[Seen]


def present(connection: Connection, destinations: Collection[str]) -> Present:
    """Return how these destinations, and those with a gate, stand at this moment: a few rows, each by an index."""
    found = {name: connection.scalar(_longest_due(name)) for name in destinations}
    return Present(
        gates=_gates(connection),
        due={name: moment(due) for name, due in found.items() if due is not None},
        strange=[answer for answer in seen_answers(connection) if not answer.known],
    )


def _longest_due(destination: str) -> Select[Any]:
    return select(func.min(deliveries.c.due_at)).where(deliveries.c.destination == destination, _PENDING)


def _gates(connection: Connection) -> dict[str, Gate]:
    return {row.destination: gate_shown(row) for row in connection.execute(select(gates))}


# ---------------------------------------------------------------- the newest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which events somebody wants to see: those with such a delivery, or of this very order.

    `before` is the key of the page before.
    """

    destination: str | None = None
    state: str | None = None
    reason: str | None = None
    named: str | None = None
    before: int | None = None

    def conditions(self, ids: range | None = None) -> list[ColumnElement[bool]]:
        """Return what an event has to meet; with `ids` those of a range of keys alone."""
        found: list[ColumnElement[bool]] = [] if self.destination or self.named else [~_ASIDE]
        if self.named is not None:
            found.append(or_(events.c.order_id == self.named, events.c.event_id == self.named))
        of_these = [deliveries.c.event == events.c.id]
        if ids is not None:
            found.append(_is_within(ids, events.c.id))
            of_these.append(_is_within(ids, deliveries.c.event))
        asked = {"destination": self.destination, "state": self.state, "reason": self.reason}
        such = [deliveries.c[name] == value for name, value in asked.items() if value is not None]
        if such:
            found.append(exists().where(*of_these, *such))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Where one delivery stands."""

    state: str
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One event as a list shows it: what it was, what was known of the buyer, where each delivery stands."""

    key: int
    event_id: str
    name: str
    order_id: str | None
    reported_at: datetime
    value: str | None
    identifiers: Identifiers
    deliveries: dict[str, Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some events, the newest first. `older` is the key that the next page begins before; None where this is the last.

    `looked_back_to` is set where the page is not full because looking further would take too long.
    """

    lines: Sequence[Line]
    older: int | None
    looked_back_to: datetime | None = None


def page(store: Store, wanted: Wanted) -> Page:
    """Return a page of events. An order's own are found by an index; else at most MOST_READS reads look back by key."""
    if wanted.named is not None:
        return Page(lines=store.read_sync(partial(_lines, where=wanted.conditions(), most=PAGE)), older=None)
    found: list[Line] = []
    for reads, ids in enumerate(_back(store, wanted.before), start=1):
        found += store.read_sync(partial(_lines, where=wanted.conditions(ids), most=PAGE + 1 - len(found)))
        if len(found) > PAGE:
            return Page(lines=found[:PAGE], older=found[PAGE - 1].key)
        if reads == MOST_READS:
            at = store.read_sync(partial(_reported_at, key=ids.start))
            return Page(lines=found, older=ids.start, looked_back_to=at)
    return Page(lines=found, older=None)


def _back(store: Store, before: int | None) -> Iterator[range]:
    """Yield ranges of events' keys, the newest first, that hold RANGE events each."""
    while (ids := store.read_sync(partial(_range_before, key=before))) is not None:
        yield ids
        before = ids.start


def _range_before(connection: Connection, *, key: int | None) -> range | None:
    newest = select(events.c.id).order_by(events.c.id.desc()).limit(RANGE)
    some = (newest if key is None else newest.where(events.c.id < key)).subquery()
    first, last = connection.execute(select(func.min(some.c.id), func.max(some.c.id))).one()
    return None if first is None else range(first, last + 1)


def _is_within(ids: range, column: ColumnElement[int]) -> ColumnElement[bool]:
    """Return whether an event's key is one of these.

    A join says it of both sides: PostgreSQL does not conclude the one from the other, and would read every delivery.
    """
    return column.between(ids.start, ids.stop - 1)


def _reported_at(connection: Connection, *, key: int) -> datetime | None:
    at = connection.scalar(select(events.c.reported_at).where(events.c.id == key))
    return None if at is None else moment(at)


def _lines(connection: Connection, *, where: Sequence[ColumnElement[bool]], most: int) -> list[Line]:
    rows = connection.execute(select(events).where(*where).order_by(events.c.id.desc()).limit(most)).all()
    columns = [deliveries.c[name] for name in ("event", "destination", "state", "reason", "detail")]
    query = select(*columns).where(deliveries.c.event.in_([row.id for row in rows]))
    theirs = grouped(connection.execute(query.order_by(deliveries.c.id)) if rows else (), "event")
    return [_line(row, theirs.get(row.id, ())) for row in rows]


def _line(row: Any, theirs: Sequence[Any]) -> Line:
    return Line(
        key=row.id,
        event_id=row.event_id,
        name=row.name,
        order_id=row.order_id,
        reported_at=moment(row.reported_at),
        value=_value(conversion_of(row.conversion)),
        identifiers=identifiers_of(row.identifiers),
        deliveries={one.destination: Outcome(state=one.state, reason=one.reason, detail=one.detail) for one in theirs},
    )


def _value(conversion: Conversion) -> str | None:
    return None if conversion.value is None else f"{conversion.value:f} {conversion.currency}"


# ---------------------------------------------------------------- one event


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One request that a delivery was part of. `outcome` and `detail` are what it meant for this one."""

    opened_at: datetime
    closed_at: datetime | None
    status: int | None
    outcome: str
    detail: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What one destination was told, or why not. `payload` is the frozen body, where it is kept and not too long."""

    destination: str
    state: str
    reason: str | None
    detail: str | None
    due_at: datetime
    settled_at: datetime | None
    payload: bytes | None = field(repr=False)
    tries: Sequence[Try]


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """All that is known of one event.

    `differing` names what a repeat said differently, `pixels` the vendors whose pixels reported the order too; `gates`
    are what holds destinations back at this moment.
    """

    event_id: str
    conversion: Conversion
    at: datetime
    reported_at: datetime
    value: str | None
    identifiers: Identifiers
    consent: Consent
    differing: Sequence[str]
    deliveries: Sequence[Delivery]
    pixels: Sequence[str]
    gates: dict[str, Gate]


def story(connection: Connection, *, event_id: str) -> Story | None:
    """Return what became of one event; None where there is none of this id."""
    row = connection.execute(select(events).where(events.c.event_id == event_id)).one_or_none()
    if row is None:
        return None
    conversion = conversion_of(row.conversion)
    differing = select(conflicts.c.fields).where(conflicts.c.event == row.id).order_by(conflicts.c.id)
    return Story(
        event_id=row.event_id,
        conversion=conversion,
        at=moment(row.at),
        reported_at=moment(row.reported_at),
        value=_value(conversion),
        identifiers=identifiers_of(row.identifiers),
        consent=Consent(granted=row.granted, signal=row.signal, at=moment(row.consent_at)),
        differing=list(connection.scalars(differing)),
        deliveries=_deliveries(connection, row.id),
        pixels=pixels_of(connection, [row.order_id]).get(row.order_id, ()) if row.order_id is not None else (),
        gates=_gates(connection),
    )


def _deliveries(connection: Connection, event: int) -> list[Delivery]:
    small = case((func.length(deliveries.c.payload) <= LONGEST_SHOWN, deliveries.c.payload)).label("body")
    columns = [column for column in deliveries.c if column is not deliveries.c.payload]
    rows = connection.execute(select(*columns, small).where(deliveries.c.event == event).order_by(deliveries.c.id))
    tried = _tries(connection, event)
    return [
        Delivery(
            destination=row.destination,
            state=row.state,
            reason=row.reason,
            detail=row.detail,
            due_at=moment(row.due_at),
            settled_at=None if row.settled_at is None else moment(row.settled_at),
            payload=row.body,
            tries=[_try(one) for one in tried.get(row.id, ())],
        )
        for row in rows
    ]


def _tries(connection: Connection, event: int) -> dict[int, list[Any]]:
    """Return every attempt of this event's deliveries, the earlier ones first."""
    columns = (attempts.c.opened_at, attempts.c.closed_at, attempts.c.status)
    earlier = (
        select(earlier_attempts.c.delivery, *columns, earlier_attempts.c.outcome, earlier_attempts.c.detail)
        .join(attempts, attempts.c.id == earlier_attempts.c.attempt)
        .join(deliveries, deliveries.c.id == earlier_attempts.c.delivery)
        .where(deliveries.c.event == event)
    )
    latest = (
        select(deliveries.c.id.label("delivery"), *columns, deliveries.c.outcome, deliveries.c.detail)
        .join(attempts, attempts.c.id == deliveries.c.attempt)
        .where(deliveries.c.event == event)
    )
    return grouped(connection.execute(union_all(earlier, latest).order_by("opened_at")), "delivery")


def _try(row: Any) -> Try:
    return Try(
        opened_at=moment(row.opened_at),
        closed_at=None if row.closed_at is None else moment(row.closed_at),
        status=row.status,
        outcome=row.outcome or OPEN,
        detail=row.detail,
    )


# ---------------------------------------------------------------- how well orders can be matched


@dataclass(slots=True, kw_only=True)
class Matching:
    """Of the orders since a time: how many had which identifier, and where they stand at each destination.

    `identified` counts by the identifier's name, a click by its vendor's in `clicks`. `outcomes` counts by destination,
    then by (state, reason, detail); the detail of consent and identifier alone, whose words are few.
    """

    orders: int = 0
    clicks: Counter[str] = field(default_factory=Counter)
    identified: Counter[str] = field(default_factory=Counter)
    outcomes: dict[str, Counter[tuple[str, str | None, str | None]]] = field(default_factory=dict)


def matching(store: Store, *, since: datetime) -> Matching:
    """Return how well the orders reported since then can be matched.

    Reads back by key, a thousand events at a time, until the time is passed: about 10 ms for each thousand. Whoever
    shows it to many keeps it for a while. An event whose last delivery was let go of counts without its buyer, so no
    time before the newest 30 days says much (`Retention.deliveries`).
    """
    found = Matching()
    for ids in _back(store, None):
        texts, rows, first_at = store.read_sync(partial(_orders_within, ids=ids, since=milliseconds(since)))
        for text in texts:
            _count(found, text)
        for row in rows:
            found.outcomes.setdefault(row.destination, Counter())[row.state, row.reason, row.why] += row.n
        if first_at is not None and first_at < since:
            break
    return found


def _orders_within(
    connection: Connection, *, ids: range, since: int
) -> tuple[Sequence[str], Sequence[Any], datetime | None]:
    """Return the orders' identifiers as they are stored, how many deliveries stand how, when the first was reported."""
    where = (_is_within(ids, events.c.id), events.c.reported_at >= since, _IS_ORDER)
    texts = connection.scalars(select(events.c.identifiers).where(*where)).all()
    why = case((deliveries.c.reason.in_(("consent", "identifier")), deliveries.c.detail)).label("why")
    by = (deliveries.c.destination, deliveries.c.state, deliveries.c.reason, why)
    theirs = select(*by, func.count().label("n")).join_from(events, deliveries)
    query = theirs.where(*where, _is_within(ids, deliveries.c.event)).group_by(*by)
    return texts, connection.execute(query).all(), _reported_at(connection, key=ids.start)


#: Their names in the stored JSON, whose values hold no quotation mark without a backslash before it.
_NAMED = re.compile(r'"(first_party_cookie|email|phone|customer_id|ip)":"|"vendor":"([^"\\]+)"')


def _count(found: Matching, identifiers: str) -> None:
    """Count one order. Its JSON is searched, not read: that takes a tenth of the time, which the event loop shares."""
    named = _NAMED.findall(identifiers)
    found.orders += 1
    found.identified.update({name for name, _ in named if name})
    found.clicks.update({vendor for _, vendor in named if vendor})
