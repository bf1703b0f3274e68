"""Visitors and who they are: touchpoints, links, consents, order snapshots, and all identifiers of any of them."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from kit.model import ClickId, Consent, Identifiers, Touchpoint, VisitorId
from kit.store.rows import grouped, identifiers_of, identifiers_text, insert_new, milliseconds, moment, upsert
from kit.store.tables import consents, identities, links, orders, touchpoints

#: A click older than this is nobody's credit any more.
CLICK_WINDOW = timedelta(days=90)

VERIFIED, ASSERTED = "verified", "asserted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A new click to keep for a visitor."""

    visitor: VisitorId
    touchpoint: Touchpoint
    first_party_cookie: str | None = field(default=None, repr=False)
    consent: Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One thing that names a person: `kind` is email, phone or customer; `lookup` its keyed hash."""

    kind: str
    lookup: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Somebody says that this visitor is that person. `level` is verified (the shop) or asserted (the browser)."""

    visitor: VisitorId
    identities: tuple[Identity, ...]
    level: str
    source: str
    consent: Consent
    unknown_is_granted: bool
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLink:
    """What was known of the visitor when an order was placed."""

    order_id: str
    identifiers: Identifiers
    consent: Consent


def keep_touches(connection: Connection, touches: Sequence[Touch]) -> Sequence[None]:
    """Keep each new (visitor, click) once."""
    rows = [
        {
            "visitor": touch.visitor,
            "vendor": click.vendor,
            "click_id": click.value,
            "at": milliseconds(click.clicked_at),
            "url": touch.touchpoint.url,
            "referrer": touch.touchpoint.referrer,
            "utm": "&".join(f"{name}={value}" for name, value in touch.touchpoint.utm.items()) or None,
            "first_party_cookie": touch.first_party_cookie,
        }
        for touch in touches
        for click in touch.touchpoint.click_ids
    ]
    insert_new(connection, touchpoints, rows)
    keep_consents(connection, [(touch.visitor, touch.consent) for touch in touches])
    return [None] * len(touches)


def keep_links(connection: Connection, asked: Sequence[Link]) -> Sequence[bool]:
    """Link visitors to people; answers whether the visitor was verified as another customer already.

    When it was, nothing is linked: the caller gives the browser a new visitor and links that one.
    """
    decided = newest_consents(connection, {link.visitor for link in asked if link.consent.granted is None})
    answers = []
    for link in asked:
        customer = next((identity for identity in link.identities if identity.kind == "customer"), None)
        consent = link.consent if link.consent.granted is not None else decided.get(link.visitor, link.consent)
        allowed = link.unknown_is_granted if consent.granted is None else consent.granted
        other = customer is not None and link.level == VERIFIED and _is_another(connection, link.visitor, customer)
        if allowed and not other:
            write_links(connection, [link])
            keep_consents(connection, [(link.visitor, consent)])
        answers.append(allowed and other)
    return answers


def _is_another(connection: Connection, visitor: VisitorId, customer: Identity) -> bool:
    known = select(links.c.lookup).where(
        links.c.visitor == visitor, links.c.kind == "customer", links.c.level == VERIFIED
    )
    lookups = set(connection.scalars(known))
    return bool(lookups) and customer.lookup not in lookups


def write_links(connection: Connection, asked: Iterable[Link]) -> None:
    identity_rows, link_rows = [], []
    for link in asked:
        for identity in link.identities:
            identity_rows.append({"kind": identity.kind, "lookup": identity.lookup, "value": identity.value})
            link_rows.append(
                {
                    "visitor": link.visitor,
                    "kind": identity.kind,
                    "lookup": identity.lookup,
                    "level": link.level,
                    "source": link.source,
                    "at": milliseconds(link.at),
                }
            )
    insert_new(connection, identities, identity_rows)
    insert_new(connection, links, link_rows)


def keep_decisions(connection: Connection, asked: Sequence[tuple[VisitorId, Consent]]) -> Sequence[None]:
    """Keep what visitors decided."""
    keep_consents(connection, asked)
    return [None] * len(asked)


def keep_consents(connection: Connection, decisions: Sequence[tuple[VisitorId, Consent]]) -> None:
    """Keep a decision where it differs from the visitor's newest one."""
    if not decisions:
        return
    newest = newest_consents(connection, {visitor for visitor, _ in decisions})
    rows = []
    for visitor, consent in decisions:
        known = newest.get(visitor)
        if known is not None and (known.granted, known.signal) == (consent.granted, consent.signal):
            continue
        newest[visitor] = consent
        at = milliseconds(consent.at)
        rows.append({"visitor": visitor, "granted": consent.granted, "signal": consent.signal, "at": at})
    if rows:
        connection.execute(consents.insert(), rows)


def newest_consents(connection: Connection, visitors: Collection[str]) -> dict[str, Consent]:
    """Return each visitor's newest kept decision."""
    if not visitors:
        return {}
    query = (
        select(consents.c.visitor, consents.c.granted, consents.c.signal, consents.c.at)
        .where(consents.c.visitor.in_(visitors))
        .order_by(consents.c.at, consents.c.id)
    )
    return {
        row.visitor: Consent(granted=row.granted, signal=row.signal, at=moment(row.at))
        for row in connection.execute(query)
    }


def keep_orders(connection: Connection, asked: Sequence[OrderLink]) -> Sequence[None]:
    """Keep each order's snapshot; linking again fills and renews it, and never empties a value."""
    known = orders_of(connection, {link.order_id for link in asked})
    rows: dict[str, dict[str, Any]] = {}
    for link in asked:
        earlier = known.get(link.order_id)
        merged = link if earlier is None else replace(link, identifiers=joined(link.identifiers, earlier.identifiers))
        known[link.order_id] = merged
        rows[link.order_id] = {
            "order_id": link.order_id,
            "visitor": merged.identifiers.visitor,
            "identifiers": identifiers_text(merged.identifiers),
            "granted": link.consent.granted,
            "signal": link.consent.signal,
            "at": milliseconds(link.consent.at),
        }
    upsert(connection, orders, list(rows.values()), key="order_id")
    keep_consents(connection, [(link.identifiers.visitor, link.consent) for link in asked if link.identifiers.visitor])
    return [None] * len(asked)


def orders_of(connection: Connection, order_ids: Collection[str]) -> dict[str, OrderLink]:
    """Return the kept snapshots of these orders."""
    if not order_ids:
        return {}
    return {
        row.order_id: OrderLink(
            order_id=row.order_id,
            identifiers=identifiers_of(row.identifiers),
            consent=Consent(granted=row.granted, signal=row.signal, at=moment(row.at)),
        )
        for row in connection.execute(select(orders).where(orders.c.order_id.in_(order_ids)))
    }


def joined(first: Identifiers, second: Identifiers) -> Identifiers:
    """Return `first` with its gaps filled from `second`; of one vendor the first's click stands."""
    vendors = {click.vendor for click in first.click_ids}
    clicks = first.click_ids + tuple(click for click in second.click_ids if click.vendor not in vendors)
    return Identifiers(
        visitor=first.visitor or second.visitor,
        click_ids=clicks,
        first_party_cookie=first.first_party_cookie or second.first_party_cookie,
        email=first.email or second.email,
        phone=first.phone or second.phone,
        customer_id=first.customer_id or second.customer_id,
        ip=first.ip or second.ip,
        user_agent=first.user_agent or second.user_agent,
        url=first.url or second.url,
        referrer=first.referrer or second.referrer,
    )


@dataclass(slots=True)
class Known:
    """What the store knows of a set of visitors and customers, fetched in a few queries for a whole group."""

    links_of: dict[str, list[Any]]
    devices_of: dict[str, list[Any]]
    touches_of: dict[str, list[Any]]
    sharing: dict[str, list[Any]]

    def customers(self, visitor: str) -> list[Any]:
        return [row for row in self.links_of.get(visitor, ()) if row.kind == "customer" and row.level == VERIFIED]

    def identity(self, visitor: str) -> Identifiers:
        """Return who this visitor is, verified links before asserted ones, newest first."""
        return _person(sorted(self.links_of.get(visitor, ()), key=lambda row: (row.level != VERIFIED, -row.at)))

    def customer(self, lookup: str, *, since: datetime) -> Identifiers:
        """Return what this customer's verified devices know: the person, the newest clicks, the newest cookie."""
        rows = sorted(self.devices_of.get(lookup, ()), key=lambda row: -row.at)
        visitors = dict.fromkeys(row.visitor for row in rows)
        return joined(_person(rows), self.clicks(visitors, since=since))

    def clicks(self, visitors: Iterable[str], *, since: datetime) -> Identifiers:
        """Return the newest eligible click of each vendor on these visitors, and their newest first-party cookie."""
        return _newest((row for visitor in visitors for row in self.touches_of.get(visitor, ())), since=since)

    def sharing_cookie(self, cookie: str, *, since: datetime) -> Identifiers:
        """Return the clicks of unidentified visitors that had this first-party cookie."""
        rows = [row for row in self.sharing.get(cookie, ()) if not self.customers(row.visitor)]
        return _newest(rows, since=since)


def _person(rows: Iterable[Any]) -> Identifiers:
    found: dict[str, str] = {}
    for row in rows:
        found.setdefault(row.kind, row.value)
    return Identifiers(email=found.get("email"), phone=found.get("phone"), customer_id=found.get("customer"))


def _newest(rows: Iterable[Any], *, since: datetime) -> Identifiers:
    clicks: dict[str, ClickId] = {}
    cookie = None
    for row in sorted(rows, key=lambda row: -row.at):
        cookie = cookie or row.first_party_cookie
        if row.at >= milliseconds(since):
            clicks.setdefault(row.vendor, ClickId(row.vendor, row.click_id, moment(row.at)))
    return Identifiers(click_ids=tuple(clicks.values()), first_party_cookie=cookie)


def known_of(connection: Connection, *, visitors: set[str], customers: set[str], cookies: set[str]) -> Known:
    """Fetch what is known of these visitors, of these customers' other visitors, and by these first-party cookies."""
    sharing = _touches(connection, touchpoints.c.first_party_cookie, cookies)
    own = _links(connection, visitors | {row.visitor for row in sharing})
    customers = customers | {row.lookup for row in own if row.kind == "customer" and row.level == VERIFIED}
    devices = _devices(connection, customers)
    touches = _touches(connection, touchpoints.c.visitor, visitors | {row.visitor for row in devices})
    return Known(
        links_of=grouped(own, "visitor"),
        devices_of=grouped(devices, "customer"),
        touches_of=grouped(touches, "visitor"),
        sharing=grouped(sharing, "first_party_cookie"),
    )


def _links(connection: Connection, visitors: set[str]) -> Sequence[Any]:
    if not visitors:
        return ()
    of_same = (identities.c.kind == links.c.kind) & (identities.c.lookup == links.c.lookup)
    return connection.execute(
        select(links.c.visitor, links.c.kind, links.c.lookup, links.c.level, links.c.at, identities.c.value)
        .join(identities, of_same)
        .where(links.c.visitor.in_(visitors))
    ).all()


def _devices(connection: Connection, customers: set[str]) -> Sequence[Any]:
    """Return every verified link of every visitor that is verified as one of these customers."""
    if not customers:
        return ()
    anchor = links.alias("anchor")
    of_same = (identities.c.kind == links.c.kind) & (identities.c.lookup == links.c.lookup)
    return connection.execute(
        select(links.c.visitor, links.c.kind, links.c.at, identities.c.value, anchor.c.lookup.label("customer"))
        .join_from(anchor, links, links.c.visitor == anchor.c.visitor)
        .join(identities, of_same)
        .where(
            anchor.c.kind == "customer",
            anchor.c.level == VERIFIED,
            anchor.c.lookup.in_(customers),
            links.c.level == VERIFIED,
        )
    ).all()


def _touches(connection: Connection, column: Any, keys: set[str]) -> Sequence[Any]:
    if not keys:
        return ()
    columns = touchpoints.c
    return connection.execute(
        select(columns.visitor, columns.vendor, columns.click_id, columns.at, columns.first_party_cookie).where(
            column.in_(keys)
        )
    ).all()


def identifiers_by(
    connection: Connection,
    *,
    visitor: str | None = None,
    customer: Identity | None = None,
    order_id: str | None = None,
    now: datetime,
) -> Identifiers:
    """Return all identifiers kept of a visitor, a customer or an order."""
    snapshot = orders_of(connection, {order_id} if order_id else set()).get(order_id or "")
    known_order = snapshot.identifiers if snapshot else Identifiers()
    visitor = visitor or known_order.visitor
    lookups = {customer.lookup} if customer else set()
    known = known_of(connection, visitors={visitor} if visitor else set(), customers=lookups, cookies=set())
    since = now - CLICK_WINDOW
    found = known_order
    if visitor:
        found = joined(found, replace(known.identity(visitor), visitor=VisitorId(visitor)))
        found = joined(found, known.clicks([visitor], since=since))
        lookups |= {row.lookup for row in known.customers(visitor)}
    for lookup in lookups:
        found = joined(found, known.customer(lookup, since=since))
    return found
