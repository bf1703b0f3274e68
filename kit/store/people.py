"""Visitors and who they are: touchpoints, links, consents, order snapshots, and all identifiers of any of them."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from kit.model import ClickId, Consent, Identifiers, Touchpoint, VisitorId
from kit.store.quarantine import ASSERTED as ASSERTED
from kit.store.quarantine import QUARANTINE, Quarantine, refuses_identity, refuses_visitor, write_in_its_place
from kit.store.quarantine import VERIFIED as VERIFIED
from kit.store.rows import (
    grouped,
    identifiers_of,
    identifiers_text,
    insert_many,
    insert_new,
    milliseconds,
    moment,
    truth,
    upsert,
)
from kit.store.statements import Statement, many
from kit.store.tables import consents, identities, links, orders, touchpoints
from kit.store.tombstones import ERASED, erased_among, erased_visitors

#: Nothing is known.
NOBODY = Identifiers()


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """A new click to keep for a visitor. `touchpoint` is one, or makes it when it is written."""

    visitor: VisitorId
    touchpoint: Touchpoint | Callable[[], Touchpoint] = field(repr=False)
    first_party_cookie: str | None = field(default=None, repr=False)
    consent: Consent

    def made(self) -> Touchpoint:
        return self.touchpoint if isinstance(self.touchpoint, Touchpoint) else self.touchpoint()


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """One thing that names a person: `kind` is email, phone or customer; `lookup` its keyed hash."""

    kind: str
    lookup: str
    value: str = field(repr=False)


def naming(people: Iterable[Identity]) -> list[str]:
    """Return the keys of what names one person: a phone may be a household's."""
    return [person.lookup for person in people if person.kind != "phone"]


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
    quarantine: Quarantine = QUARANTINE


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderLink:
    """What was known of the visitor when an order was placed."""

    order_id: str
    identifiers: Identifiers
    consent: Consent


#: Clicks that are kept of one visitor, and under one first-party cookie: all are looked through at each report, and
#: anybody can post ever new ones. A visitor's newest click stands in their own cookie all the same.
MOST_TOUCHES = 200
#: Changes of mind that are kept of one visitor.
MOST_DECISIONS = 50


def keep_touches(connection: Connection, touches: Sequence[Touch]) -> Sequence[None]:
    """Keep each new (visitor, click) once, and `MOST_TOUCHES` at most; an erased visitor's are not kept."""
    erased = erased_visitors(connection, {touch.visitor for touch in touches})
    kept = _within_room(connection, [(touch, touch.made()) for touch in touches if touch.visitor not in erased])
    rows = [
        (
            touch.visitor,
            click.vendor,
            click.value,
            milliseconds(click.clicked_at),
            made.url,
            made.referrer,
            "&".join(f"{name}={value}" for name, value in made.utm.items()) or None,
            touch.first_party_cookie,
            _printable(made.user_agent),
        )
        for touch, made in kept
        for click in made.click_ids
    ]
    insert_new(connection, touchpoints, _TOUCHPOINT, rows, by=3)
    keep_consents(connection, [(touch.visitor, touch.consent) for touch, _ in kept])
    return [None] * len(touches)


_TOUCHPOINT = (
    "visitor", "vendor", "click_id", "at", "url", "referrer", "utm", "first_party_cookie", "user_agent",
)  # fmt: skip


def _printable(text: str | None) -> str | None:
    """Return what a header said without what PostgreSQL does not take, and a terminal would obey."""
    return "".join(filter(str.isprintable, text)) or None if text else None


def _within_room(connection: Connection, touches: Sequence[tuple[Touch, Touchpoint]]) -> list[tuple[Touch, Touchpoint]]:
    """Return the touches that there is room for, without a first-party cookie under which there is none."""
    of_visitor = _touches_by(connection, touchpoints.c.visitor, {touch.visitor for touch, _ in touches})
    cookies = {touch.first_party_cookie for touch, _ in touches if touch.first_party_cookie}
    of_cookie = _touches_by(connection, touchpoints.c.first_party_cookie, cookies)
    kept = []
    for touch, made in touches:
        cookie, new = touch.first_party_cookie, len(made.click_ids)
        of_visitor[touch.visitor] += new
        if of_visitor[touch.visitor] > MOST_TOUCHES:
            continue
        if cookie is not None:
            of_cookie[cookie] += new
        full = cookie is not None and of_cookie[cookie] > MOST_TOUCHES
        kept.append((replace(touch, first_party_cookie=None) if full else touch, made))
    return kept


def _touches_by(connection: Connection, column: Any, keys: Collection[str]) -> Counter[str]:
    """Return how many touches there are of each key."""
    if not keys:
        return Counter()
    counted = select(column, func.count()).where(column.in_(keys)).group_by(column)
    return Counter({row[0]: row[1] for row in connection.execute(counted)})


def keep_links(connection: Connection, asked: Sequence[Link]) -> Sequence[bool]:
    """Link visitors to people; answers whether the visitor was verified as another customer already, or was erased.

    When it was, nothing is linked: the caller gives the browser a new visitor and links that one. A link that names
    somebody who was erased is not kept at all, nor one that is asserted against `quarantine`'s rules.
    """
    gone = erased_among(connection, {lookup for link in asked for lookup in naming(link.identities)})
    erased = erased_visitors(connection, {link.visitor for link in asked})
    decided = newest_consents(connection, {link.visitor for link in asked if link.consent.granted is None})
    answers = []
    for link in asked:
        consent = link.consent if link.consent.granted is not None else decided.get(link.visitor, link.consent)
        allowed = link.unknown_is_granted if consent.granted is None else consent.granted
        believed = _believed(connection, link, gone)
        known = bool(allowed and believed.identities)
        other = link.level == VERIFIED and (link.visitor in erased or _is_another(connection, link))
        if known and not other and link.visitor not in erased:
            write_links(connection, [believed])
            keep_consents(connection, [(link.visitor, consent)])
        elif allowed and link.level == ASSERTED:
            write_in_its_place(connection, link.at)
        answers.append(known and other)
    return answers


def assert_links(connection: Connection, asked: Sequence[Link]) -> Sequence[bool]:
    """Do as `keep_links`, for what anybody can type: a store that fills up refuses it before any order."""
    return keep_links(connection, asked)


def _believed(connection: Connection, link: Link, gone: frozenset[str]) -> Link:
    """Return the link without what a page may not assert any more; of one that names somebody erased nothing."""
    if not gone.isdisjoint(naming(link.identities)):
        return replace(link, identities=())
    if link.level == VERIFIED:
        return link
    rule = link.quarantine
    if refuses_visitor(connection, link.visitor, rule):
        return replace(link, identities=())
    free = [
        one for one in link.identities if not refuses_identity(connection, one.kind, one.lookup, now=link.at, rule=rule)
    ]
    return replace(link, identities=tuple(free))


def _is_another(connection: Connection, link: Link) -> bool:
    """Return whether the visitor is verified as somebody else: by customer number, or by e-mail where there is none."""
    verified = (links.c.visitor == link.visitor) & (links.c.level == VERIFIED)
    known = grouped(connection.execute(select(links.c.kind, links.c.lookup).where(verified)), "kind")
    for kind in ("customer", "email"):
        lookups = {row.lookup for row in known.get(kind, ())}
        said = {identity.lookup for identity in link.identities if identity.kind == kind}
        if lookups and said:
            return not said <= lookups
    return False


def write_links(connection: Connection, asked: Iterable[Link]) -> None:
    identity_rows, link_rows = [], []
    for link in asked:
        for identity in link.identities:
            identity_rows.append((identity.kind, identity.lookup, identity.value))
            link_rows.append(
                (link.visitor, identity.kind, identity.lookup, link.level, link.source, milliseconds(link.at))
            )
    insert_new(connection, identities, ("kind", "lookup", "value"), identity_rows, by=2)
    insert_new(connection, links, ("visitor", "kind", "lookup", "level", "source", "at"), link_rows, by=4)


def keep_decisions(connection: Connection, asked: Sequence[tuple[VisitorId, Consent]]) -> Sequence[None]:
    """Keep what visitors decided, but for those who were erased."""
    erased = erased_visitors(connection, {visitor for visitor, _ in asked})
    keep_consents(connection, [(visitor, consent) for visitor, consent in asked if visitor not in erased])
    return [None] * len(asked)


_OF_WHOM_SOMETHING_IS_KEPT = Statement(
    " UNION ".join(
        f"SELECT visitor FROM {table} WHERE visitor AMONG ?"  # noqa: S608 - the tables' own names
        for table in ("touchpoints", "links", "orders", "consents", "events")
    )
)


def keep_refusals(connection: Connection, asked: Sequence[tuple[VisitorId, Consent]]) -> Sequence[None]:
    """Do as `keep_decisions`, for visitors of whom anything is kept: another's no has nothing to stop.

    It stands in their browser all the same. Anybody can say no for ever new visitors, and a store that fills up takes
    what any of its own visitors says.
    """
    visitors = many(connection, {visitor for visitor, _ in asked})
    known = {row.visitor for row in _OF_WHOM_SOMETHING_IS_KEPT.on(connection, *[visitors] * 5)}
    keep_decisions(connection, [(visitor, consent) for visitor, consent in asked if visitor in known])
    return [None] * len(asked)


def keep_consents(connection: Connection, decisions: Sequence[tuple[VisitorId, Consent]]) -> None:
    """Keep a decision where it differs from the visitor's newest one; past `MOST_DECISIONS` in its place."""
    if not decisions:
        return
    kept = _decisions(connection, {visitor for visitor, _ in decisions})
    newest = {visitor: _consent_of(rows[-1]) for visitor, rows in kept.items()}
    new, in_place = [], []
    for visitor, consent in decisions:
        known = newest.get(visitor)
        # The shop's word is for one order, and what the rule gives by itself is no change of mind.
        if consent.signal == "shop" or (consent.signal == "opt_out" and known is not None):
            continue
        consent = consent.after(known) if known is not None else consent
        if known is not None and (known.granted, known.signal) == (consent.granted, consent.signal):
            continue
        newest[visitor] = consent
        row = (consent.granted, consent.signal, milliseconds(consent.at))
        before = kept.get(visitor, [])
        if len(before) < MOST_DECISIONS:
            new.append((visitor, *row))
        else:
            in_place.append((*row, before[-1].id))
    insert_many(connection, consents, ("visitor", "granted", "signal", "at"), new)
    _DECIDE_ANEW.on_each(connection, in_place)


_DECIDE_ANEW = Statement("UPDATE consents SET granted = ?, signal = ?, at = ? WHERE id = ?")
_CONSENTS = Statement("SELECT id, visitor, granted, signal, at FROM consents WHERE visitor AMONG ? ORDER BY at, id")


def newest_consents(connection: Connection, visitors: Collection[str]) -> dict[str, Consent]:
    """Return each visitor's newest kept decision."""
    return {visitor: _consent_of(rows[-1]) for visitor, rows in _decisions(connection, visitors).items()}


def _decisions(connection: Connection, visitors: Collection[str]) -> dict[str, list[Any]]:
    """Return each visitor's kept decisions, the oldest first."""
    if not visitors:
        return {}
    return grouped(_CONSENTS.on(connection, many(connection, visitors)), "visitor")


def _consent_of(row: Any) -> Consent:
    return Consent(granted=truth(row.granted), signal=row.signal, at=moment(row.at))


def keep_orders(connection: Connection, asked: Sequence[OrderLink]) -> Sequence[None]:
    """Keep each order's snapshot. A later link counts: see `_newer`. Of an erased visitor's, that it is one."""
    known = orders_of(connection, {link.order_id for link in asked})
    erased = erased_visitors(connection, {link.identifiers.visitor for link in asked if link.identifiers.visitor})
    for link in (_emptied(link) if link.identifiers.visitor in erased else link for link in asked):
        known[link.order_id] = _newer(link, known.get(link.order_id))
    rows = [
        {
            "order_id": link.order_id,
            "visitor": link.identifiers.visitor,
            "identifiers": identifiers_text(link.identifiers),
            "granted": link.consent.granted,
            "signal": link.consent.signal,
            "at": milliseconds(link.consent.at),
        }
        for link in (known[order_id] for order_id in dict.fromkeys(link.order_id for link in asked))
    ]
    upsert(connection, orders, rows, key="order_id")
    seen = [(link.identifiers.visitor, link.consent) for link in asked]
    keep_consents(connection, [(visitor, consent) for visitor, consent in seen if visitor and visitor not in erased])
    return [None] * len(asked)


def _emptied(link: OrderLink) -> OrderLink:
    return replace(link, identifiers=NOBODY, consent=replace(link.consent, granted=False, signal=ERASED))


def _newer(link: OrderLink, earlier: OrderLink | None) -> OrderLink:
    """Return what is kept of an order that is linked again.

    Of the same visitor, gaps are filled; of another one, nothing is taken over; a request that shows no visitor changes
    nothing but a refusal, which empties the snapshot. What was erased stays empty, and empties
    nothing.
    """
    if earlier is not None and ERASED in {earlier.consent.signal, link.consent.signal}:
        return earlier
    if earlier is None or link.consent.granted is False:
        return link
    if link.identifiers.visitor is None:
        return replace(link, identifiers=earlier.identifiers, consent=earlier.consent)
    if link.identifiers.visitor != earlier.identifiers.visitor:
        return link
    return replace(link, identifiers=joined(link.identifiers, earlier.identifiers))


_ORDERS = Statement("SELECT order_id, identifiers, granted, signal, at FROM orders WHERE order_id AMONG ?")


def orders_of(connection: Connection, order_ids: Collection[str]) -> dict[str, OrderLink]:
    """Return the kept snapshots of these orders."""
    if not order_ids:
        return {}
    return {
        row.order_id: OrderLink(
            order_id=row.order_id, identifiers=identifiers_of(row.identifiers), consent=_consent_of(row)
        )
        for row in _ORDERS.on(connection, many(connection, order_ids))
    }


def joined(first: Identifiers, second: Identifiers, *, at: datetime | None = None) -> Identifiers:
    """Return `first` with its gaps filled from `second`; of one vendor the first's click stands.

    With `at`, when something was bought, the newer of two clicks that were made by then stands, and one made by then
    before one made later. Of two of one time, or two made later, the first's.
    """
    if second is NOBODY:
        return first
    return Identifiers(
        visitor=first.visitor or second.visitor,
        click_ids=_of_each_vendor(first.click_ids, second.click_ids, at) if second.click_ids else first.click_ids,
        first_party_cookie=first.first_party_cookie or second.first_party_cookie,
        email=first.email or second.email,
        phone=first.phone or second.phone,
        customer_id=first.customer_id or second.customer_id,
        ip=first.ip or second.ip,
        user_agent=first.user_agent or second.user_agent,
        url=first.url or second.url,
        referrer=first.referrer or second.referrer,
    )


def _of_each_vendor(
    first: tuple[ClickId, ...], second: tuple[ClickId, ...], at: datetime | None
) -> tuple[ClickId, ...]:
    found = {click.vendor: click for click in first}
    for click in second:
        stands = found.get(click.vendor)
        if stands is None or (at is not None and _is_nearer(click, stands, at)):
            found[click.vendor] = click
    return tuple(found.values())


def _is_nearer(click: ClickId, stands: ClickId, at: datetime) -> bool:
    """Return whether this click was made by then, and the other one earlier, or not by then."""
    return click.clicked_at <= at and not click.clicked_at <= stands.clicked_at <= at
