"""What the store knows of visitors and customers, fetched in a few queries for a whole group of callers."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import chain
from typing import Any, NamedTuple

from sqlalchemy import Connection

from kit.model import CLICK_WINDOW, ClickId, Consent, Identifiers, VisitorId
from kit.store.people import NOBODY, VERIFIED, Identity, joined, newest_consents, orders_of
from kit.store.quarantine import Quarantine, serving
from kit.store.rows import grouped, milliseconds, moment
from kit.store.statements import Statement, many
from kit.store.tombstones import visitor_key

_WINDOW = CLICK_WINDOW // timedelta(milliseconds=1)
#: A customer number that a till uses for everybody has thousands of devices: the newest ones speak for it.
MOST_DEVICES = 50


@dataclass(slots=True)
class Known:
    """What the store knows of a set of visitors and customers, fetched in a few queries for a whole group."""

    links_of: dict[str, list[Any]]
    devices_of: dict[str, list[Any]]
    touches_of: dict[str, list[Any]]
    sharing: dict[str, list[Any]]
    decided: Mapping[str, Consent]

    def names(self) -> set[str]:
        """Return the keys under which anybody here may have been erased."""
        found = chain(*self.links_of.values(), *self.devices_of.values())
        sharing = (row.visitor for rows in self.sharing.values() for row in rows)
        return {row.lookup for row in found if row.kind != "phone"} | set(map(visitor_key, sharing))

    def forget(self, gone: Collection[str]) -> None:
        """Let go of what leads to somebody erased, while it is still there: links, what was told with them, clicks."""
        for links_of in (self.links_of, self.devices_of):
            for key, rows in links_of.items():
                told = {(row.visitor, row.at) for row in rows if row.lookup in gone}
                links_of[key] = [row for row in rows if row.lookup not in gone and (row.visitor, row.at) not in told]
        for cookie, rows in self.sharing.items():
            self.sharing[cookie] = [row for row in rows if visitor_key(row.visitor) not in gone]

    def customers(self, visitor: str) -> list[Any]:
        return [row for row in self.links_of.get(visitor, ()) if row.kind == "customer" and row.level == VERIFIED]

    def verified_emails(self, visitor: str) -> set[str]:
        """Return the keys of the e-mails that the shop itself knows this visitor by."""
        return {row.lookup for row in self.links_of.get(visitor, ()) if row.kind == "email" and row.level == VERIFIED}

    def consent(self, visitor: str | None, customers: Iterable[str]) -> Consent | None:
        """Return the visitor's newest decision; without a visitor the newest on any of the customer's devices."""
        if visitor is not None:
            return self.decided.get(visitor)
        devices = {row.visitor for lookup in customers for row in self.devices_of.get(lookup, ())}
        decisions = [self.decided[device] for device in devices if device in self.decided]
        return max(decisions, key=lambda decision: decision.at, default=None)

    def identity(self, visitor: str, rule: Quarantine) -> Identifiers:
        """Return who this visitor is, verified links before asserted ones, newest first; of a quarantine's nothing.

        What stands first for an event: what its order says, then what is verified, then what is asserted of this very
        visitor. Of no other visitor is anything taken that is not verified: see `customer`.
        """
        rows = serving(self.links_of.get(visitor, ()), rule)
        return _person(sorted(rows, key=lambda row: (row.level != VERIFIED, -row.at)))

    def customer(self, lookup: str, *, at: datetime) -> Identifiers:
        """Return what this customer's verified devices know: the person, the newest clicks, the newest cookie."""
        if lookup not in self.devices_of:
            return NOBODY
        devices = (row for row in self.devices_of.get(lookup, ()) if not self.refused(row.visitor))
        rows = sorted(devices, key=lambda row: -row.at)
        visitors = dict.fromkeys(row.visitor for row in rows)
        return joined(_person(rows), self.clicks(visitors, at=at))

    def clicks(self, visitors: Iterable[str], *, at: datetime) -> Identifiers:
        """Return the newest eligible click of each vendor on these visitors, and their newest first-party cookie."""
        return _newest((row for visitor in visitors for row in self.touches_of.get(visitor, ())), at=at)

    def sharing_cookie(self, cookie: str, *, at: datetime) -> Identifiers:
        """Return the clicks of visitors that had this first-party cookie and whom nobody has named."""
        unnamed = (row for row in self.sharing.get(cookie, ()) if row.visitor not in self.links_of)
        return _newest((row for row in unnamed if not self.refused(row.visitor)), at=at)

    def refused(self, visitor: str) -> bool:
        """Return whether the visitor's newest decision is a no."""
        decision = self.decided.get(visitor)
        return decision is not None and decision.granted is False


def _person(rows: Iterable[Any]) -> Identifiers:
    found: dict[str, str] = {}
    for row in rows:
        found.setdefault(row.kind, row.value)
    return Identifiers(email=found.get("email"), phone=found.get("phone"), customer_id=found.get("customer"))


def _newest(rows: Iterable[Any], *, at: datetime) -> Identifiers:
    """Return of each vendor the newest click that was made by then, else one made later; none older than the window."""
    clicks: dict[str, ClickId] = {}
    cookie = None
    until, since = milliseconds(at), milliseconds(at) - _WINDOW
    # Of two in one millisecond the later one written.
    for row in sorted(rows, key=lambda row: (row.at > until, -row.at, -row.id)):
        cookie = cookie or row.first_party_cookie
        if row.at >= since:
            clicks.setdefault(row.vendor, ClickId(row.vendor, row.click_id, moment(row.at), VisitorId(row.visitor)))
    return Identifiers(click_ids=tuple(clicks.values()), first_party_cookie=cookie)


def known_of(connection: Connection, *, visitors: set[str], customers: set[str], cookies: set[str]) -> Known:
    """Fetch what is known of these visitors, of these customers' devices, and by these first-party cookies."""
    sharing = _touches(connection, _BY_COOKIE, cookies)
    own = _links(connection, visitors | {row.visitor for row in sharing})
    customers = customers | {row.lookup for row in own if row.kind == "customer" and row.level == VERIFIED}
    devices = _devices(connection, customers)
    everybody = visitors | {row.visitor for row in devices}
    return Known(
        links_of=grouped(own, "visitor"),
        devices_of=grouped(devices, "customer"),
        touches_of=grouped(_touches(connection, _BY_VISITOR, everybody), "visitor"),
        sharing=grouped(sharing, "first_party_cookie"),
        decided=newest_consents(connection, everybody | {row.visitor for row in sharing}),
    )


_LINKS = Statement(
    "SELECT links.visitor, links.kind, links.lookup, links.level, links.at, identities.value"
    " FROM links JOIN identities ON identities.kind = links.kind AND identities.lookup = links.lookup"
    " WHERE links.visitor AMONG ?"
)


def _links(connection: Connection, visitors: set[str]) -> Sequence[Any]:
    return _LINKS.on(connection, many(connection, visitors)) if visitors else ()


_DEVICES = Statement(
    "SELECT visitor, lookup FROM ("
    "SELECT visitor, lookup, row_number() OVER (PARTITION BY lookup ORDER BY at DESC) AS place"
    " FROM links WHERE kind = 'customer' AND lookup AMONG ? AND level = ?"
    ") AS ranked WHERE place <= ?"
)


def _devices(connection: Connection, customers: Collection[str]) -> Sequence[Any]:
    """Return every verified link of the newest visitors that are verified as these customers."""
    if not customers:
        return ()
    found = _DEVICES.on(connection, many(connection, customers), VERIFIED, MOST_DEVICES)
    customer_of = {row.visitor: row.lookup for row in found}
    rows = (row for row in _links(connection, set(customer_of)) if row.level == VERIFIED)
    return [_Device(row.visitor, row.kind, row.lookup, row.at, row.value, customer_of[row.visitor]) for row in rows]


class _Device(NamedTuple):
    visitor: str
    kind: str
    lookup: str
    at: int
    value: str
    customer: str


def _touches(connection: Connection, statement: Statement, keys: set[str]) -> Sequence[Any]:
    if not keys:
        return ()
    return statement.on(connection, many(connection, keys))


_TOUCHES = "SELECT id, visitor, vendor, click_id, at, first_party_cookie FROM touchpoints WHERE"
_BY_VISITOR = Statement(f"{_TOUCHES} visitor AMONG ?")
_BY_COOKIE = Statement(f"{_TOUCHES} first_party_cookie AMONG ?")


def identifiers_by(
    connection: Connection,
    *,
    visitor: str | None = None,
    customer: Identity | None = None,
    order_id: str | None = None,
    quarantine: Quarantine,
    now: datetime,
) -> Identifiers:
    """Return all identifiers kept of a visitor, a customer or an order."""
    snapshot = orders_of(connection, {order_id} if order_id else set()).get(order_id or "")
    known_order = snapshot.identifiers if snapshot else Identifiers()
    visitor = visitor or known_order.visitor
    lookups = {customer.lookup} if customer else set()
    known = known_of(connection, visitors={visitor} if visitor else set(), customers=lookups, cookies=set())
    found = known_order
    if visitor:
        found = joined(found, replace(known.identity(visitor, quarantine), visitor=VisitorId(visitor)))
        found = joined(found, known.clicks([visitor], at=now), at=now)
        lookups |= {row.lookup for row in known.customers(visitor)}
    for lookup in lookups:
        found = joined(found, known.customer(lookup, at=now), at=now)
    return found
