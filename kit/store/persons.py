"""Who a person is to the store: what is read out or erased when somebody asks about themselves, and what is not.

A person is *named* by e-mail addresses, customer numbers and visitors. From there it goes so far, and no further:

1. A visitor is the person's *own* when the shop said so, of nobody else: by customer number, whatever the e-mails; by
   e-mail where no other e-mail and no other customer number was said of it. The shop's word is a verified link, or an
   order's. Where there is none, a visitor is own when a page named the person, and nobody else. A visitor that is named
   is own, whoever else is linked to it.
2. What the shop said of own visitors beside a name, a customer number beside an e-mail or an e-mail beside a customer
   number, is *followed*: it counts as named. Not an address that was only typed at a checkout: it may be anybody's. Not
   what a link or an event has beside another e-mail or customer number: a till's number for everybody would lead to
   everybody. And what was not said of an account, at a sign-in with both, only where each link and event that has it
   has a name of the person too. `Person.not_followed` counts what is left alone.
3. Another visitor that is linked to the person is *shared*. Of its links are theirs those to the person, and what was
   told in the same breath, and phones of which nobody can tell whose they are; its clicks, its decisions and other
   people's links are not.
4. An event is theirs when its own e-mail or customer number says so. One that has neither is theirs on an own visitor,
   or when what was gathered for it names them. Of anybody else's event is theirs what was gathered of them, the
   clicks of own visitors too.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import JSON, ColumnElement, Connection, Select, cast, exists, func, or_, select, tuple_

from kit import identity
from kit.store.people import VERIFIED, Identity
from kit.store.rows import grouped
from kit.store.store import Store
from kit.store.tables import conflicts, events, identities, links

#: Events and conflicts that one read looks at, and visitors whose links one read fetches.
RANGE, VISITORS = 5_000, 500

#: What a link names: its kind (email, customer, phone) and its lookup key.
Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Whom a request is about: e-mails and customer numbers with their keys, and visitors."""

    identities: tuple[Identity, ...] = ()
    visitors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who that is. `names` holds what is named and followed, `told` of each visitor the links that are theirs.

    The values of both are in normal form.
    """

    names: Mapping[Key, str] = field(repr=False)
    own: frozenset[str]
    shared: frozenset[str]
    told: Mapping[str, Mapping[Key, str]] = field(repr=False)
    not_followed: int

    @property
    def emails(self) -> list[str]:
        return sorted(value for (kind, _), value in self.names.items() if kind == "email")

    def values(self) -> frozenset[tuple[str, str]]:
        """Return what tells of them wherever it stands, names and phones, as (kind, normal form)."""
        told = [(kind, value) for its in self.told.values() for (kind, _), value in its.items() if kind == "phone"]
        return frozenset([*told, *((kind, value) for (kind, _), value in self.names.items())])


def normal(kind: str, value: str) -> str:
    """Return the form in which two values of one kind are the same."""
    return identity.email(value) or value if kind == "email" else value


# ---------------------------------------------------------------- visitors


def person_of(store: Store, subject: Subject) -> Person:
    """Return who the subject is, by rules 1 to 3. Reads a few visitors at a time."""
    named = {(one.kind, one.lookup): normal(one.kind, one.value) for one in subject.identities}
    rows = _links_of(store, _linked_to(store, named))
    beside = {
        key: value
        for its in rows.values()
        if _may_be_own(its, named)
        for key, value in _said(its).items()
        if key not in named
    }
    names = {**named, **_followed(store, beside, rows, named)}
    rows.update(_links_of(store, _linked_to(store, names) - rows.keys()))
    own = {visitor for visitor, its in rows.items() if _is_own(its, names)}
    rows.update(_links_of(store, subject.visitors))
    told = {visitor: _told(its, names, is_own=visitor in own) for visitor, its in rows.items()}
    told.update({visitor: _values(rows[visitor]) for visitor in subject.visitors if visitor in rows})
    own.update(subject.visitors)
    return Person(
        names=names,
        own=frozenset(own),
        shared=frozenset(rows.keys() - own),
        told=told,
        not_followed=len(beside.keys() - names.keys()),
    )


def _linked_to(store: Store, keys: Collection[Key]) -> set[str]:
    if not keys:
        return set()
    named = tuple_(links.c.kind, links.c.lookup).in_(list(keys))
    return set(store.read_sync(lambda connection: connection.scalars(select(links.c.visitor).where(named)).all()))


_OF_SAME = (identities.c.kind == links.c.kind) & (identities.c.lookup == links.c.lookup)


def _links_of(store: Store, visitors: Collection[str]) -> dict[str, list[Any]]:
    """Return every link of these visitors, with its value in clear."""
    found: dict[str, list[Any]] = {}
    for some in chunks(sorted(visitors), VISITORS):
        query = select(links, identities.c.value).join(identities, _OF_SAME).where(links.c.visitor.in_(some))
        found.update(grouped(store.read_sync(partial(_all, query=query)), "visitor"))
    return found


def _all(connection: Connection, *, query: Select[Any]) -> Sequence[Any]:
    return connection.execute(query).all()


def chunks(found: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (found[start : start + size] for start in range(0, len(found), size))


def _values(rows: Iterable[Any]) -> dict[Key, str]:
    return {(row.kind, row.lookup): normal(row.kind, row.value) for row in rows}


def _said(rows: Iterable[Any]) -> dict[Key, str]:
    """Return the names that the shop itself said of a visitor."""
    return _values(row for row in rows if row.kind != "phone" and (row.level == VERIFIED or row.source == "order"))


def _of(keys: Iterable[Key], kind: str) -> set[Key]:
    return {key for key in keys if key[0] == kind}


def _may_be_own(rows: Sequence[Any], named: Collection[Key]) -> bool:
    """Return whether one kind of name that the shop said of this visitor is the person's, and theirs alone."""
    said = _said(rows)
    return any(theirs <= set(named) for theirs in (_of(said, "customer"), _of(said, "email")) if theirs)


def _is_own(rows: Sequence[Any], names: Collection[Key]) -> bool:
    """Rule 1, for a visitor that is linked to the person."""
    said = _said(rows)
    if not said:
        theirs = _values(_same_breath(rows, names))
        return all((row.kind, row.lookup) in theirs for row in rows if row.kind != "phone")
    customers = _of(said, "customer")
    return (customers or set(said)) <= set(names)


def _followed(
    store: Store, beside: Mapping[Key, str], rows: Mapping[str, Sequence[Any]], named: Mapping[Key, str]
) -> dict[Key, str]:
    """Return what of the names beside the person's is theirs too, by rule 2."""
    verified = {(row.kind, row.lookup) for its in rows.values() for row in its if row.level == VERIFIED}
    accounts = _accounts(rows, named)
    found = {
        key: value
        for key, value in beside.items()
        if key in verified
        and not store.read_sync(partial(_is_beside_others, key=key, named=named))
        and (key in accounts or not store.read_sync(partial(_is_without, key=key, named=named)))
    }
    strangers = _strangers(store, found, named, accounts) if found else set()
    return {key: value for key, value in found.items() if key not in strangers}


def _accounts(rows: Mapping[str, Sequence[Any]], named: Collection[Key]) -> set[Key]:
    """Return the names that the shop said of a visitor at sign-ins, one of them the person's."""
    found = set[Key]()
    for its in rows.values():
        account = {(row.kind, row.lookup) for row in its if row.level == VERIFIED and row.source != "order"}
        if not account.isdisjoint(named):
            found |= account
    return found


def _strangers(store: Store, found: Mapping[Key, str], named: Mapping[Key, str], accounts: Collection[Key]) -> set[Key]:
    """Return which of these names an event has without one of the person's: of an account's, beside somebody else's."""
    theirs = {(kind, value) for (kind, _), value in named.items()}
    keys = {(kind, value): (kind, lookup) for (kind, lookup), value in found.items()}
    strangers = set[Key]()
    for ids in ranges(store, events.c.id):
        for row in store.read_sync(partial(_rows, ids=ids)):
            said = spoken(row.said_email, row.said_customer)
            if said.isdisjoint(theirs):
                strangers |= {keys[one] for one in said & keys.keys() if len(said) > 1 or keys[one] not in accounts}
    return strangers


def spoken(email: str | None, customer: str | None) -> set[tuple[str, str]]:
    """Return what an event or a repeat of it says itself of who its buyer is, as (kind, normal form)."""
    said = (("email", email), ("customer", customer))
    return {(kind, normal(kind, value)) for kind, value in said if value is not None}


def _is_without(connection: Connection, *, key: Key, named: Collection[Key]) -> bool:
    """Return whether the shop said this name of a visitor of whom it did not say, at a sign-in as well, a named one."""
    kind, lookup = key
    one, beside = links.alias("one"), links.alias("beside")
    is_named = exists().where(
        beside.c.visitor == one.c.visitor,
        tuple_(beside.c.kind, beside.c.lookup).in_(list(named)),
        _is_said(beside),
        or_(one.c.source == "order", beside.c.source != "order"),
    )
    lacking = select(one.c.id).where(one.c.kind == kind, one.c.lookup == lookup, _is_said(one), ~is_named)
    return connection.scalar(lacking.limit(1)) is not None


def _is_beside_others(connection: Connection, *, key: Key, named: Collection[Key]) -> bool:
    """Return whether the shop said this name of a visitor beside another of the other kind, which is not named."""
    kind, lookup = key
    other = "email" if kind == "customer" else "customer"
    one, beside = links.alias("one"), links.alias("beside")
    named_ones = [known for _, known in _of(named, other)]
    query = (
        select(beside.c.id)
        .join(one, one.c.visitor == beside.c.visitor)
        .where(one.c.kind == kind, one.c.lookup == lookup, _is_said(one))
        .where(beside.c.kind == other, beside.c.lookup.not_in(named_ones), _is_said(beside))
        .limit(1)
    )
    return connection.scalar(query) is not None


def _is_said(table: Any) -> ColumnElement[bool]:
    return or_(table.c.level == VERIFIED, table.c.source == "order")


def _same_breath(rows: Sequence[Any], names: Collection[Key]) -> list[Any]:
    """Return the links to the person, and what was told at the same moment by the same source."""
    theirs = [row for row in rows if (row.kind, row.lookup) in names]
    moments = {(row.source, row.at) for row in theirs}
    others = _said(rows).keys() - set(names)
    return [row for row in rows if (row.source, row.at) in moments and (row.kind, row.lookup) not in others]


def _told(rows: Sequence[Any], names: Collection[Key], *, is_own: bool) -> dict[Key, str]:
    """Return of a visitor's links those that are the person's: of an own one all but what a page said of others.

    A phone that a page said beside a name which was known already can be anybody's: it goes with whoever goes first.
    """
    theirs = _values(_same_breath(rows, names)) | (_said(rows) if is_own else {})
    told = [row for row in rows if row.kind != "phone"]
    others = {(row.source, row.at) for row in told if not is_own or (row.kind, row.lookup) not in theirs}
    phones = [row for row in rows if row.kind == "phone" and (is_own or row.level != VERIFIED)]
    return theirs | _values(row for row in phones if (row.source, row.at) not in others)


# ---------------------------------------------------------------- events


class Found(NamedTuple):
    """An event that is the person's, or of which only what was gathered is (`borrowed`)."""

    id: int
    order_id: str | None
    borrowed: bool


class Finder:
    """Tells whose an event is, by rule 4."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self._names = {(kind, value) for (kind, _), value in person.names.items()}
        self._told: dict[str | None, set[tuple[str, str]]] = {
            visitor: {(kind, value) for (kind, _), value in its.items()} for visitor, its in person.told.items()
        }
        self._values = person.values()

    def events(self, store: Store, *, but: str | None = None) -> Iterator[list[Found]]:
        """Yield the person's events, range by range of primary keys; `but` leaves out those with this signal."""
        for ids in ranges(store, events.c.id):
            rows = store.read_sync(partial(_rows, ids=ids))
            found = [self._found(row) for row in rows if but is None or row.signal != but]
            yield [one for one in found if one is not None]

    def conflicts(self, store: Store) -> Iterator[list[int]]:
        """Yield what repeats said of the person, on whosoever's event."""
        for ids in ranges(store, conflicts.c.id):
            rows = store.read_sync(partial(_conflict_rows, ids=ids))
            yield [row.id for row in rows if self._any(self._names, email=row.email, customer=row.customer)]

    def borrowed(self, kind: str, value: str | None, *, visitor: str | None) -> bool:
        """Return whether this, gathered for somebody else's event of that visitor, is of the person."""
        return self._any(self._told_of(visitor), **{kind: value})

    def clicked(self, visitor: str | None) -> bool:
        """Return whether a click of this visitor is the person's."""
        return visitor in self._person.own

    def is_anothers(self, said: set[tuple[str, str]], *, visitor: str | None) -> bool:
        """Return whether what was `spoken`, on an event of that visitor, is of nobody but others."""
        return bool(said) and said.isdisjoint(self._names | self._told.get(visitor, set()))

    def _told_of(self, visitor: str | None) -> Collection[tuple[str, str]]:
        return self._values | self._told.get(visitor, set())

    def _found(self, row: Any) -> Found | None:
        if self._is_theirs(row):
            return Found(row.id, row.order_id, borrowed=False)
        known = self._told_of(row.visitor)
        gathered = self._any(known, email=row.email, customer=row.customer, phone=row.phone)
        if gathered or (row.clicks and any(self.clicked(one.get("visitor")) for one in json.loads(row.clicks))):
            return Found(row.id, row.order_id, borrowed=True)
        return None

    def _is_theirs(self, row: Any) -> bool:
        if row.said_email is not None or row.said_customer is not None:
            return self._any(self._names, email=row.said_email, customer=row.said_customer)
        if row.visitor is not None and row.visitor in self._person.own:
            return True
        kind, value = ("customer", row.customer) if row.customer is not None else ("email", row.email)
        return self._any(self._names | self._told.get(row.visitor, set()), **{kind: value})

    @staticmethod
    def _any(known: Collection[tuple[str, str]], **said: str | None) -> bool:
        return any(value is not None and (kind, normal(kind, value)) in known for kind, value in said.items())


def ranges(store: Store, column: Any) -> Iterator[range]:
    ends = select(func.min(column), func.max(column))
    first, last = store.read_sync(lambda connection: connection.execute(ends).one())
    if first is not None:
        yield from (range(start, min(start + RANGE, last + 1)) for start in range(first, last + 1, RANGE))


def _json(connection: Connection, column: Any, name: str) -> ColumnElement[Any]:
    """Return a field of a column that holds JSON as text."""
    found: ColumnElement[Any] = cast(column, JSON)[name].as_string()
    return func.json_extract(column, f"$.{name}") if connection.dialect.name == "sqlite" else found


def _rows(connection: Connection, *, ids: range) -> Sequence[Any]:
    columns = events.c
    query = select(
        columns.id,
        columns.order_id,
        columns.visitor,
        columns.signal,
        _json(connection, columns.conversion, "email").label("said_email"),
        _json(connection, columns.conversion, "customer_id").label("said_customer"),
        _json(connection, columns.identifiers, "email").label("email"),
        _json(connection, columns.identifiers, "customer_id").label("customer"),
        _json(connection, columns.identifiers, "phone").label("phone"),
        _json(connection, columns.identifiers, "click_ids").label("clicks"),
    ).where(columns.id.between(ids.start, ids.stop - 1))
    return connection.execute(query).all()


def _conflict_rows(connection: Connection, *, ids: range) -> Sequence[Any]:
    said = conflicts.c.conversion
    email, customer = _json(connection, said, "email"), _json(connection, said, "customer_id")
    query = select(conflicts.c.id, email.label("email"), customer.label("customer"))
    return connection.execute(query.where(conflicts.c.id.between(ids.start, ids.stop - 1))).all()
