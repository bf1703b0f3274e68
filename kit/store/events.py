"""Events: a report becomes one event and a delivery for each destination, once, with every identifier known."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, select

from kit import identity
from kit.consent import told_of, weigh
from kit.model import CLICK_WINDOW, Consent, Conversion, DeliveryState, Identifiers, Reported
from kit.store.impersonal import PERSONAL, erase_events, keep_conflict
from kit.store.known import Known, known_of
from kit.store.people import (
    ASSERTED,
    NOBODY,
    VERIFIED,
    Identity,
    Link,
    OrderLink,
    joined,
    keep_consents,
    naming,
    orders_of,
    write_links,
)
from kit.store.quarantine import QUARANTINE, Quarantine
from kit.store.rows import (
    conversion_of,
    conversion_text,
    identifiers_of,
    identifiers_text,
    insert_many,
    milliseconds,
    moment,
)
from kit.store.tables import deliveries, events
from kit.store.tombstones import ERASED, erased_among, visitor_key

_NOTHING = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report as the front door hands it over.

    `said` is what the shop says of the buyer, `seen` what the request shows; `consent` is the request's decision and
    `said_consent` the shop's word. `unknown_is_granted` says what the shop's rule makes of no decision at all.
    `store_ahead` is how far the clock that the workers go by is ahead of the one that `now` was read from.
    """

    event_id: str
    conversion: Conversion
    said: Identifiers
    seen: Identifiers
    people: tuple[Identity, ...] = ()
    order_id: str | None
    consent: Consent | None
    said_consent: bool | None
    unknown_is_granted: bool
    destinations: tuple[str, ...]
    now: datetime
    store_ahead: timedelta = _NOTHING
    quarantine: Quarantine = QUARANTINE

    @property
    def at(self) -> datetime:
        """When it happened."""
        return self.now if self.conversion.time is None else self.conversion.time

    def allows(self, consent: Consent) -> bool:
        return self.unknown_is_granted if consent.granted is None else consent.granted

    def lookups(self, kind: str) -> list[str]:
        return [person.lookup for person in self.people if person.kind == kind]


@dataclass(slots=True)
class _Gathered:
    """A report with everything the store could add."""

    report: Report
    identifiers: Identifiers
    consent: Consent
    allowed: bool
    link: bool
    event: int = field(default=0)

    @property
    def erased(self) -> bool:
        return self.consent.signal == ERASED


def report(connection: Connection, reports: Sequence[Report]) -> Sequence[Reported]:
    """Write each report's event and deliveries, unless its event is there already; then compare, fill and say so."""
    answers: dict[int, Reported] = {}
    for places in _rounds(reports):
        gathered = _gather(connection, [reports[place] for place in places])
        inserted = _insert(connection, gathered)
        _lock(connection, [one.report.event_id for one in gathered if one.report.event_id not in inserted])
        for place, one in zip(places, gathered, strict=True):
            if one.report.event_id in inserted:
                answers[place] = Reported(event_id=one.report.event_id, new=True)
            else:
                answers[place] = _repeat(connection, one.report)
    return [answers[place] for place in range(len(reports))]


def _lock(connection: Connection, repeated: Collection[str]) -> None:
    """Lock the events of repeats by their ids, as everybody does: two that lock the same cannot deadlock."""
    if repeated and connection.dialect.name != "sqlite":
        ids = select(events.c.id).where(events.c.event_id.in_(repeated)).order_by(events.c.id)
        connection.execute(ids.with_for_update()).all()


def report_from_page(connection: Connection, reports: Sequence[Report]) -> Sequence[Reported]:
    """Do as `report`, for what anybody can make a page say: a store that fills up refuses it before any order."""
    return report(connection, reports)


def _rounds(reports: Sequence[Report]) -> Iterator[list[int]]:
    """Yield places so that no round holds one event twice: callers of one group may report the same order."""
    waiting = list(range(len(reports)))
    while waiting:
        seen: set[str] = set()
        now: list[int] = []
        later: list[int] = []
        for place in waiting:
            (later if reports[place].event_id in seen else now).append(place)
            seen.add(reports[place].event_id)
        yield now
        waiting = later


def _gather(
    connection: Connection,
    reports: Sequence[Report],
    stored: Consent | None = None,
    buyer: str | None = None,
    at: datetime | None = None,
) -> list[_Gathered]:
    """Find what is known of each report's buyer. `stored`, `buyer` and `at` are the decision, visitor and time that a
    repeat's event has already."""
    snapshots = orders_of(connection, {one.order_id for one in reports if one.order_id})
    visitors: set[str] = set()
    cookies: set[str] = set()
    for one in reports:
        for found in (one.said, one.seen, _snapshot_of(one, snapshots).identifiers):
            if found.visitor:
                visitors.add(found.visitor)
                if found.first_party_cookie:
                    cookies.add(found.first_party_cookie)
    customers = {lookup for one in reports for lookup in one.lookups("customer")}
    known = known_of(connection, visitors=visitors, customers=customers, cookies=cookies)
    # Asked for after all that it is held against: an erasure waits for whoever looked too early.
    named = {lookup for one in reports for lookup in naming(one.people)}
    gone = erased_among(connection, named | known.names() | {visitor_key(visitor) for visitor in visitors})
    if gone:
        known.forget(gone)
    return [
        _join(*_of_the_living(one, _snapshot_of(one, snapshots), buyer, gone), known, stored, buyer, at or one.at)
        for one in reports
    ]


def _of_the_living(
    one: Report, snapshot: OrderLink, buyer: str | None, gone: frozenset[str]
) -> tuple[Report, OrderLink]:
    """Return the report and its order's snapshot without what an erased visitor shows.

    Where it names nobody else, or names somebody erased, what is returned says that its buyer was erased.
    """
    named = naming(one.people)
    if gone and not gone.isdisjoint(named):
        return one, _ERASED
    visitor = one.said.visitor or snapshot.identifiers.visitor or buyer or one.seen.visitor
    if snapshot.consent.signal != ERASED and (visitor is None or visitor_key(visitor) not in gone):
        return one, snapshot
    if not named:
        return one, _ERASED
    return replace(one, said=replace(one.said, visitor=None), seen=NOBODY), _NO_SNAPSHOT


_NO_SNAPSHOT = OrderLink(
    order_id="", identifiers=NOBODY, consent=Consent(granted=None, signal="none", at=datetime.min.replace(tzinfo=UTC))
)


_ERASED = replace(_NO_SNAPSHOT, consent=replace(_NO_SNAPSHOT.consent, granted=False, signal=ERASED))


def _snapshot_of(one: Report, snapshots: dict[str, OrderLink]) -> OrderLink:
    return snapshots.get(one.order_id or "", _NO_SNAPSHOT)


def _join(
    one: Report, snapshot: OrderLink, known: Known, stored: Consent | None, buyer: str | None, at: datetime
) -> _Gathered:
    """Join what the shop says, the order's snapshot, the request, the visitor and the customer's devices.

    The first with a value wins; but of each vendor's clicks the newest, wherever of these it was made: of those made
    before the event, at most `CLICK_WINDOW` before it, else of those made later. Of two of one time the first named
    here wins. The clicks of visitors that only share its first-party cookie come last, whatever their age. Of somebody
    erased nothing is joined. A request of another visitor than the order's gives nothing: somebody in the back office,
    another device, pressed a button.
    """
    if snapshot is _ERASED or (stored is not None and stored.signal == ERASED):
        refused = replace(snapshot.consent, granted=False, signal=ERASED, at=one.now)
        return _Gathered(report=one, identifiers=NOBODY, consent=refused, allowed=False, link=False)
    linked, seen, asked = snapshot.identifiers, one.seen, one.consent
    if one.said.visitor and linked.visitor and linked.visitor != one.said.visitor:
        linked = NOBODY
    buyer = one.said.visitor or linked.visitor or buyer
    if buyer and seen.visitor and buyer != seen.visitor:
        seen, asked = NOBODY, None
    found = joined(one.said, joined(_eligible(linked, at), _eligible(seen, at), at=at))
    customers, sharing = one.lookups("customer"), NOBODY
    theirs = _is_theirs(one, known, found.visitor)
    consent = weigh(
        (stored, asked, snapshot.consent, known.consent(found.visitor, customers)), said=one.said_consent, now=one.now
    )
    if (visitor := found.visitor) is not None:
        if theirs:
            found = joined(
                joined(found, known.clicks([visitor], at=at), at=at), known.identity(visitor, one.quarantine)
            )
            customers = customers or sorted({row.lookup for row in known.customers(visitor)})
        else:
            found = replace(found, click_ids=())
        if visitor not in known.touches_of and visitor not in known.links_of and found.first_party_cookie:
            sharing = known.sharing_cookie(found.first_party_cookie, at=at)
    for lookup in customers:
        found = joined(found, known.customer(lookup, at=at), at=at)
    found = joined(found, sharing)
    allowed = one.allows(consent)
    return _Gathered(
        report=one,
        identifiers=found if allowed else NOBODY,
        consent=consent,
        allowed=allowed,
        link=bool(allowed and theirs and found.visitor and one.people),
    )


def _eligible(found: Identifiers, at: datetime) -> Identifiers:
    """Return the identifiers without clicks that are nobody's credit any more."""
    kept = tuple([click for click in found.click_ids if at - click.clicked_at <= CLICK_WINDOW])
    return found if len(kept) == len(found.click_ids) else replace(found, click_ids=kept)


def _is_theirs(one: Report, known: Known, visitor: str | None) -> bool:
    """Return whether this browser's past may be the buyer's: nobody else is verified on it."""
    if visitor is None:
        return True
    verified = {row.lookup for row in known.customers(visitor)}
    customers, emails = one.lookups("customer"), one.lookups("email")
    if customers and verified:
        return customers[0] in verified
    names = known.verified_emails(visitor)
    return emails[0] in names if emails and names else True


def _insert(connection: Connection, gathered: Sequence[_Gathered]) -> set[str]:
    """Insert events and deliveries; returns the ids of the events that were not there before."""
    rows = sorted([_event_row(one) for one in gathered], key=itemgetter(0))
    tail = "ON CONFLICT DO NOTHING RETURNING id, event_id"
    inserted = {event_id: id_ for id_, event_id in insert_many(connection, events, _EVENT, rows, tail)}
    new = [one for one in gathered if one.report.event_id in inserted]
    for one in new:
        one.event = inserted[one.report.event_id]
    insert_many(connection, deliveries, _DELIVERY, [row for one in new for row in _delivery_rows(one)])
    _keep_people(connection, new)
    return set(inserted)


def _keep_people(connection: Connection, gathered: Iterable[_Gathered]) -> None:
    """Link the visitor to the buyer: verified by the shop's customer id, asserted by e-mail and phone."""
    found = []
    for one in gathered:
        if not one.link or one.identifiers.visitor is None:
            continue
        for person in one.report.people:
            level = VERIFIED if person.kind == "customer" else ASSERTED
            found.append(
                Link(
                    visitor=one.identifiers.visitor,
                    identities=(person,),
                    level=level,
                    source="order",
                    consent=one.consent,
                    unknown_is_granted=True,
                    at=one.report.now,
                )
            )
    write_links(connection, found)
    keep_consents(connection, list({link.visitor: link.consent for link in found}.items()))


_EVENT = (
    "event_id", "name", "order_id", "visitor", "at", "reported_at", "conversion", "identifiers", "granted", "signal",
    "consent_at", "revision",
)  # fmt: skip


def _event_row(one: _Gathered) -> tuple[Any, ...]:
    conversion, now = one.report.conversion, milliseconds(one.report.now)
    # Without a destination nobody will be told: no more is kept than after a refusal.
    kept = one.allowed and bool(one.report.destinations)
    identifiers = one.identifiers if kept else NOBODY
    return (
        one.report.event_id,
        conversion.name,
        conversion.order_id,
        identifiers.visitor,
        milliseconds(conversion.time) if conversion.time is not None else now,
        now,
        conversion_text(conversion if kept else _impersonal(conversion)),
        identifiers_text(identifiers),
        one.consent.granted,
        one.consent.signal,
        milliseconds(one.consent.at),
        0,
    )


def _impersonal(conversion: Conversion) -> Conversion:
    """Return what may be kept of a sale whose buyer allowed nothing: the order and its money."""
    fields = {name: value for name in conversion.model_fields_set if (value := getattr(conversion, name)) is not None}
    return Conversion(**{name: value for name, value in fields.items() if name not in PERSONAL})


_DELIVERY = (
    "event", "destination", "state", "reason", "detail", "due_at", "created_at", "settled_at", "attempts", "crashes",
    "curable",
)  # fmt: skip


def _delivery_rows(one: _Gathered) -> Iterator[tuple[Any, ...]]:
    now = milliseconds(one.report.now + one.report.store_ahead)
    state: tuple[str, str | None, str | None] = (DeliveryState.PENDING.value, None, None)
    if one.erased:
        state = (DeliveryState.SKIPPED.value, ERASED, None)
    elif not one.allowed:
        state = (DeliveryState.SKIPPED.value, "consent", told_of(one.consent))
    settled_at = None if one.allowed else now
    for destination in one.report.destinations:
        yield (one.event, destination, *state, now, now, settled_at, 0, 0, not one.allowed and not one.erased)


# ---------------------------------------------------------------- the same order again


def _repeat(connection: Connection, one: Report) -> Reported:
    """Compare with what is stored. What differs is kept for the operator; what is more fills the gaps."""
    row = connection.execute(select(events).where(events.c.event_id == one.event_id).with_for_update()).one()
    kept = Consent(granted=row.granted, signal=row.signal, at=moment(row.consent_at))
    gathered = _gather(connection, [one], stored=kept, buyer=row.visitor, at=moment(row.at))[0]
    stored = conversion_of(row.conversion)
    # Nobody is to be told any more: the order stays known, and its buyer forgotten.
    over = connection.scalar(select(deliveries.c.id).where(deliveries.c.event == row.id).limit(1)) is None
    gathered.allowed = gathered.allowed and not over
    differing = tuple(
        name for name in ("name", "order_id", "value", "currency") if _differ(stored, one.conversion, name)
    )
    if differing:
        _keep_conflict(connection, row.id, differing, gathered)
    elif gathered.allowed and not _is_anothers(stored, one.conversion):
        _enrich(connection, row, stored, gathered)
        _keep_people(connection, [gathered])
    if gathered.erased:
        if row.signal != ERASED and (stored.email or stored.customer_id):
            # Who it names was not erased: what is said of it now by somebody who was is dropped.
            return Reported(event_id=one.event_id, new=False, conflict=differing)
        erase_events(connection, [row.id], now=one.now + one.store_ahead)
    elif not gathered.allowed and not over:
        connection.execute(_changed(row.id, gathered.consent, _forgotten(connection, row.id, stored)))
    return Reported(event_id=one.event_id, new=False, conflict=differing)


def _forgotten(connection: Connection, event: int, stored: Conversion) -> dict[str, Any]:
    """Return what remains of an event that is refused before anything of it was tried: the order and its money."""
    tried = select(deliveries.c.id).where(deliveries.c.event == event, deliveries.c.attempt.is_not(None)).limit(1)
    if connection.scalar(tried) is not None:
        return {}
    return {
        "conversion": conversion_text(_impersonal(stored)),
        "identifiers": identifiers_text(Identifiers()),
        "visitor": None,
    }


def _is_anothers(stored: Conversion, said: Conversion) -> bool:
    """Return whether the repeat names another person: one body must not tell of two."""
    emails = stored.email and said.email and identity.email(stored.email) != identity.email(said.email)
    customers = stored.customer_id and said.customer_id and stored.customer_id != said.customer_id
    return bool(emails or customers)


def _differ(stored: Conversion, said: Conversion, name: str) -> bool:
    value = getattr(said, name)
    return value is not None and getattr(stored, name) != value


def _keep_conflict(connection: Connection, event: int, fields: tuple[str, ...], one: _Gathered) -> None:
    conversion = one.report.conversion if one.allowed else _impersonal(one.report.conversion)
    keep_conflict(connection, event, ",".join(fields), conversion_text(conversion), at=milliseconds(one.report.now))


def _enrich(connection: Connection, row: Any, stored: Conversion, one: _Gathered) -> None:
    """Fill the event's gaps. A delivery whose body is frozen keeps it; one that lacked something is looked at again."""
    identifiers = identifiers_of(row.identifiers)
    conversion, more = _filled(stored, one.report.conversion), joined(identifiers, one.identifiers)
    if (conversion, more, one.consent.granted) == (stored, identifiers, row.granted):
        return
    known = {"conversion": conversion_text(conversion), "identifiers": identifiers_text(more), "visitor": more.visitor}
    connection.execute(_changed(row.id, one.consent, known))
    connection.execute(
        deliveries.update()
        .where(
            deliveries.c.event == row.id,
            deliveries.c.state == DeliveryState.SKIPPED,
            deliveries.c.curable,
            deliveries.c.attempts == 0,
        )
        .values(state=DeliveryState.PENDING, reason=None, detail=None, settled_at=None, curable=False)
    )


def _changed(event: int, consent: Consent, known: dict[str, Any]) -> Any:
    """Return the update of an event. Its revision tells a worker that looked at the older one to look again."""
    return (
        events.update()
        .where(events.c.id == event)
        .values(
            **known,
            granted=consent.granted,
            signal=consent.signal,
            consent_at=milliseconds(consent.at),
            revision=events.c.revision + 1,
        )
    )


def _filled(stored: Conversion, said: Conversion) -> Conversion:
    """Return the stored conversion with its gaps filled; what it says already stands."""
    gaps = {name: getattr(said, name) for name in said.model_fields_set if getattr(stored, name) in (None, (), {})}
    gaps = {name: value for name, value in gaps.items() if value not in (None, (), {})}
    return stored.model_copy(update=gaps) if gaps else stored
