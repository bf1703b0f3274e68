"""Events: a report becomes one event and a delivery for each destination, once, with every identifier known."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from kit.model import Consent, Conversion, DeliveryState, Identifiers, Reported
from kit.store.people import (
    CLICK_WINDOW,
    VERIFIED,
    Identity,
    Known,
    Link,
    OrderLink,
    joined,
    keep_consents,
    known_of,
    newest_consents,
    orders_of,
    write_links,
)
from kit.store.rows import (
    conversion_of,
    conversion_text,
    identifiers_of,
    identifiers_text,
    insert,
    milliseconds,
    moment,
)
from kit.store.tables import conflicts, deliveries, events

#: Skipped for want of what a later report of the same order may bring: looked at again when it does.
_WANTING = ("consent", "identifier", "ip", "page_location")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One report as the front door hands it over. `identifiers` is what the request and the conversion carry.

    `consent` is None where the caller knows of no decision; `may_send` says what the shop's rule makes of one.
    """

    event_id: str
    conversion: Conversion
    identifiers: Identifiers
    people: tuple[Identity, ...] = ()
    order_id: str | None
    consent: Consent | None
    unknown_is_granted: bool
    destinations: tuple[str, ...]
    now: datetime

    def allows(self, consent: Consent) -> bool:
        return self.unknown_is_granted if consent.granted is None else consent.granted


@dataclass(slots=True)
class _Gathered:
    """A report with everything the store could add."""

    report: Report
    identifiers: Identifiers
    consent: Consent
    allowed: bool
    link: bool
    event: int = field(default=0)


def report(connection: Connection, reports: Sequence[Report]) -> Sequence[Reported]:
    """Write each report's event and deliveries, unless its event is there already; then compare, fill and say so."""
    answers: dict[int, Reported] = {}
    for places in _rounds(reports):
        gathered = _gather(connection, [reports[place] for place in places])
        inserted = _insert(connection, gathered)
        for place, one in zip(places, gathered, strict=True):
            if one.report.event_id in inserted:
                answers[place] = Reported(event_id=one.report.event_id, new=True)
            else:
                answers[place] = _repeat(connection, one)
    return [answers[place] for place in range(len(reports))]


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


def _gather(connection: Connection, reports: Sequence[Report]) -> list[_Gathered]:
    snapshots = orders_of(connection, {one.order_id for one in reports if one.order_id})
    visitors: set[str] = set()
    cookies: set[str] = set()
    customers = {person.lookup for one in reports for person in one.people if person.kind == "customer"}
    for one in reports:
        for known_from in (one.identifiers, _snapshot_of(one, snapshots).identifiers):
            if known_from.visitor:
                visitors.add(known_from.visitor)
                if known_from.first_party_cookie:
                    cookies.add(known_from.first_party_cookie)
    known = known_of(connection, visitors=visitors, customers=customers, cookies=cookies)
    decided = newest_consents(connection, visitors)
    return [_join(one, _snapshot_of(one, snapshots), known, decided) for one in reports]


def _snapshot_of(one: Report, snapshots: dict[str, OrderLink]) -> OrderLink:
    nothing = OrderLink(
        order_id="", identifiers=Identifiers(), consent=Consent(granted=None, signal="none", at=one.now)
    )
    return snapshots.get(one.order_id or "", nothing)


def _join(one: Report, snapshot: OrderLink, known: Known, decided: dict[str, Consent]) -> _Gathered:
    """Join the report, the order's snapshot, the visitor and the customer's devices; the first with a value wins."""
    found = joined(one.identifiers, snapshot.identifiers)
    consent = _consent_of(one, snapshot, decided.get(found.visitor or ""))
    allowed = one.allows(consent)
    lookups = [person.lookup for person in one.people if person.kind == "customer"]
    since = one.now - CLICK_WINDOW
    theirs = True
    if (visitor := found.visitor) is not None:
        verified = {row.lookup for row in known.customers(visitor)}
        theirs = not (lookups and verified and lookups[0] not in verified)
        found = joined(found, known.clicks([visitor], since=since))
        if theirs:
            found = joined(found, known.identity(visitor))
            lookups = lookups or sorted(verified)
        if visitor not in known.touches_of and not verified and found.first_party_cookie:
            found = joined(found, known.sharing_cookie(found.first_party_cookie, since=since))
    for lookup in lookups:
        found = joined(found, known.customer(lookup, since=since))
    fresh = tuple(click for click in found.click_ids if click.clicked_at >= since)
    return _Gathered(
        report=one,
        identifiers=replace(found, click_ids=fresh) if allowed else Identifiers(),
        consent=consent,
        allowed=allowed,
        link=bool(allowed and theirs and found.visitor and one.people),
    )


def _consent_of(one: Report, snapshot: OrderLink, decided: Consent | None) -> Consent:
    """Return the decision that counts: the caller's own, else the newest that is known; a refusal by GPC stays."""
    if one.consent is not None and one.consent.granted is not None:
        return one.consent
    known = [kept for kept in (snapshot.consent, decided) if kept is not None and kept.granted is not None]
    if known:
        return max(known, key=lambda kept: kept.at)
    return one.consent or snapshot.consent


def _insert(connection: Connection, gathered: Sequence[_Gathered]) -> set[str]:
    """Insert events and deliveries; returns the ids of the events that were not there before."""
    statement = insert(connection, events).on_conflict_do_nothing().returning(events.c.id, events.c.event_id)
    inserted = {row.event_id: row.id for row in connection.execute(statement, [_event_row(one) for one in gathered])}
    new = [one for one in gathered if one.report.event_id in inserted]
    for one in new:
        one.event = inserted[one.report.event_id]
    rows = [row for one in new for row in _delivery_rows(one)]
    if rows:
        connection.execute(deliveries.insert(), rows)
    _keep_people(connection, new)
    return set(inserted)


def _keep_people(connection: Connection, gathered: Iterable[_Gathered]) -> None:
    linked = [one for one in gathered if one.link]
    write_links(
        connection,
        [
            Link(
                visitor=one.identifiers.visitor,
                identities=one.report.people,
                level=VERIFIED,
                source="order",
                consent=one.consent,
                unknown_is_granted=True,
                at=one.report.now,
            )
            for one in linked
            if one.identifiers.visitor
        ],
    )
    keep_consents(connection, [(one.identifiers.visitor, one.consent) for one in linked if one.identifiers.visitor])


def _event_row(one: _Gathered) -> dict[str, Any]:
    conversion, now = one.report.conversion, one.report.now
    return {
        "event_id": one.report.event_id,
        "name": conversion.name,
        "order_id": conversion.order_id,
        "visitor": one.identifiers.visitor,
        "at": milliseconds(conversion.time or now),
        "reported_at": milliseconds(now),
        "conversion": conversion_text(conversion if one.allowed else _impersonal(conversion)),
        "identifiers": identifiers_text(one.identifiers),
        "granted": one.consent.granted,
        "signal": one.consent.signal,
        "consent_at": milliseconds(one.consent.at),
    }


def _impersonal(conversion: Conversion) -> Conversion:
    """Return what may be kept of a sale whose buyer allowed nothing: the order and its money."""
    personal = ("email", "phone", "customer_id", "first_name", "last_name", "url", "extra")
    fields = {name: value for name in conversion.model_fields_set if (value := getattr(conversion, name)) is not None}
    return Conversion(**{name: value for name, value in fields.items() if name not in personal})


def _delivery_rows(one: _Gathered) -> Iterator[dict[str, Any]]:
    now = milliseconds(one.report.now)
    for destination in one.report.destinations:
        yield {
            "event": one.event,
            "destination": destination,
            "state": DeliveryState.PENDING if one.allowed else DeliveryState.SKIPPED,
            "reason": None if one.allowed else "consent",
            "detail": None if one.allowed else one.consent.signal,
            "due_at": now,
            "created_at": now,
            "settled_at": None if one.allowed else now,
            "attempts": 0,
            "crashes": 0,
        }


# ---------------------------------------------------------------- the same order again


def _repeat(connection: Connection, one: _Gathered) -> Reported:
    """Compare with what is stored. What differs is kept for the operator; what is more fills the gaps."""
    row = connection.execute(select(events).where(events.c.event_id == one.report.event_id)).one()
    stored, said = conversion_of(row.conversion), one.report.conversion
    differing = tuple(
        name
        for name in ("name", "order_id", "value", "currency")
        if _differ(getattr(stored, name), getattr(said, name))
    )
    if differing:
        _keep_conflict(connection, row.id, differing, one)
        return Reported(event_id=one.report.event_id, new=False, conflict=differing)
    if one.allowed:
        _enrich(connection, row, stored, one)
        _keep_people(connection, [one])
    return Reported(event_id=one.report.event_id, new=False)


def _differ(stored: object, said: object) -> bool:
    return said is not None and stored != said


def _keep_conflict(connection: Connection, event: int, fields: tuple[str, ...], one: _Gathered) -> None:
    conversion = one.report.conversion if one.allowed else _impersonal(one.report.conversion)
    row = {
        "event": event,
        "fields": ",".join(fields),
        "conversion": conversion_text(conversion),
        "at": milliseconds(one.report.now),
    }
    connection.execute(conflicts.insert(), row)


def _enrich(connection: Connection, row: Any, stored: Conversion, one: _Gathered) -> None:
    """Fill the event's gaps. A delivery whose body is frozen keeps it; one that was skipped for want looks again."""
    conversion, identifiers = _filled(stored, one.report.conversion), identifiers_of(row.identifiers)
    more = joined(identifiers, one.identifiers)
    kept = Consent(granted=row.granted, signal=row.signal, at=moment(row.consent_at))
    consent = one.consent if kept.granted is None or one.consent.at >= kept.at else kept
    if (conversion, more, consent.granted) == (stored, identifiers, kept.granted):
        return
    connection.execute(
        events.update()
        .where(events.c.id == row.id)
        .values(
            conversion=conversion_text(conversion),
            identifiers=identifiers_text(more),
            visitor=more.visitor,
            granted=consent.granted,
            signal=consent.signal,
            consent_at=milliseconds(consent.at),
        )
    )
    if one.report.allows(consent):
        connection.execute(
            deliveries.update()
            .where(
                deliveries.c.event == row.id,
                deliveries.c.state == DeliveryState.SKIPPED,
                deliveries.c.reason.in_(_WANTING),
                deliveries.c.attempts == 0,
            )
            .values(state=DeliveryState.PENDING, reason=None, detail=None, settled_at=None)
        )


def _filled(stored: Conversion, said: Conversion) -> Conversion:
    gaps = {
        name: getattr(said, name)
        for name in said.model_fields_set - stored.model_fields_set
        if getattr(said, name) is not None
    }
    return stored.model_copy(update=gaps) if gaps else stored
