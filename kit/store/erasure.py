"""Erasure: all that the store has of a person goes, in short transactions that may be begun again; nothing comes back.

Who a person is, `persons` says. What holds at each moment, after each crash, and beside any number of workers:

- The tombstones are written first. Once they stand nothing of the person is kept any more, however often it is reported
  again; what was told before, in transactions that are still open, is waited for.
- The links go last, those that were named the very last: they lead to everything else. An erasure that was cut off is
  ended by asking again; one that has ended finds nothing.
- An event of theirs is the order and its money, with the signal `erased`, a refusal for good: no repeat fills it and no
  replay sends it. A repeat of it, and a report that names somebody erased, is stored like that too.
- After `erase` has returned no body of theirs is sent. A request that was under way then is not called back: its
  outcome is recorded, and its body is gone already.
- Nobody else loses anything but what was gathered of the person for their events.

On PostgreSQL a transaction of the shop's own at REPEATABLE READ or above, begun before and going on, does not see the
tombstones; it should not report.
"""

import contextlib
import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, delete, exists, func, select, text, tuple_

from kit.errors import StoreUnavailable
from kit.identity import email_sha256
from kit.model import DeliveryState
from kit.store.engine import connect
from kit.store.impersonal import erase_events, forget_conflict
from kit.store.jobs import Job, Jobs, queue
from kit.store.people import NOBODY
from kit.store.persons import Finder, Key, Person, Subject, chunks, person_of, ranges
from kit.store.rows import identifiers_of, identifiers_text, in_order, insert, milliseconds, upsert
from kit.store.store import Store
from kit.store.tables import (
    conflicts,
    consents,
    deliveries,
    events,
    identities,
    links,
    orders,
    pixel_reports,
    tombstones,
    touchpoints,
)
from kit.store.tombstones import ERASED, visitor_key

#: Events, and rows of other kinds, that one transaction erases: a few milliseconds.
EVENTS, ROWS = 100, 500
#: How long what was told before the tombstones stood is waited for, and how often it is looked for.
PATIENCE, _LOOK = timedelta(seconds=10), 0.02

#: The largest SQLite file, in bytes, that is written anew without being asked: within a `store_timeout`.
REWRITES = 32 * 1024 * 1024

#: Makes of e-mail digests what asks a vendor to erase these people.
Deletion = Callable[[Sequence[str]], tuple[Job, ...]]
#: Makes of a job's body one that adds none of these members; None where it would add nobody.
Without = Callable[[bytes, Collection[str]], bytes | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """Somebody is to be erased. `deletion` is what is queued with the tombstones of e-mails that have none yet.

    `joining` names the destinations that put people on lists, and how somebody is taken out of a body of theirs.
    `store_ahead` as in `events.Report`. SQLite's file is written anew at the end where it has at most `rewrites` bytes:
    for that time, about a second for each 100 MiB, nothing else can be written.
    """

    subject: Subject
    now: datetime
    store_ahead: timedelta
    deletion: Deletion | None = None
    joining: Mapping[str, Without] = field(default_factory=dict)
    rewrites: int = REWRITES


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What there was of a person, in numbers, and the ids of the vendors' jobs that were queued.

    `visitors`  the person's own; `shared` are those on which others are too: of them the person's links went alone.
    `not_followed`  customer numbers and e-mails beside the person's that others have too, so that they were left alone.
    `events`  what became the order and its money; `deliveries` those of them that are not sent any more.
    `rewritten`  whether SQLite's file was written anew: until then a page may hold a copy of what was moved in it.
                 PostgreSQL's vacuum does that in its own time.
    """

    visitors: int
    shared: int
    not_followed: int
    events: int
    deliveries: int
    orders: int
    touchpoints: int
    consents: int
    links: int
    requests: tuple[str, ...] = ()
    rewritten: bool = False


def erase(store: Store, asked: Erasure) -> Erased:
    """Erase the person; returns when that is done. Idempotent. Not for an event loop's thread.

    Raises StoreUnavailable.
    """
    person, requests = _bury(store, asked)
    gone = Counter[str]()
    finder = Finder(person)
    for found in finder.events(store, but=ERASED):
        theirs = [one for one in found if not one.borrowed]
        for some in chunks(theirs, EVENTS):
            ids, order_ids = [one.id for one in some], [one.order_id for one in some if one.order_id is not None]
            gone += store.write_sync(
                _erase_events, _Events(ids=ids, order_ids=order_ids, now=asked.now + asked.store_ahead)
            )
        for some in chunks([one.id for one in found if one.borrowed], EVENTS):
            store.write_sync(_take_out, _Borrowed(ids=some, finder=finder))
    for ids in finder.conflicts(store):
        for part in chunks(ids, EVENTS):
            store.write_sync(_forget_conflicts, part)
    _take_off_lists(store, asked, person.emails)
    for visitors in chunks(sorted(person.own), ROWS):
        for kind, verb in (("orders", _empty_orders), ("touchpoints", _remove_touches), ("consents", _remove_consents)):
            while number := store.write_sync(verb, visitors):
                gone[kind] += number
    for links_gone in _leading_last(person, asked.subject):
        gone["links"] += store.write_sync(_remove_links, links_gone)
    return replace(_erased(person, gone), requests=requests, rewritten=_rewrite(store, asked.rewrites))


def _erased(person: Person, gone: Counter[str]) -> Erased:
    return Erased(
        visitors=len(person.own),
        shared=len(person.shared),
        not_followed=person.not_followed,
        events=gone["events"],
        deliveries=gone["deliveries"],
        orders=gone["orders"],
        touchpoints=gone["touchpoints"],
        consents=gone["consents"],
        links=gone["links"],
    )


def survey(store: Store, subject: Subject) -> Erased:
    """Return what `erase` would find now, and change nothing."""
    person = person_of(store, subject)
    found = Counter[str](links=sum(map(len, person.told.values())))
    for theirs in Finder(person).events(store, but=ERASED):
        ids = [one.id for one in theirs if not one.borrowed]
        found["events"] += len(ids)
        of_them = and_(deliveries.c.event.in_(ids), deliveries.c.state != "delivered")
        found["deliveries"] += _count(store, deliveries, of_them)
    for visitors in chunks(sorted(person.own), ROWS):
        for table in (orders, touchpoints, consents):
            found[table.name] += _count(store, table, table.c.visitor.in_(visitors))
    return _erased(person, found)


def _count(store: Store, table: Table, where: Any) -> int:
    query = select(func.count()).select_from(table).where(where)
    return store.read_sync(lambda connection: connection.scalar(query) or 0)


def lift(connection: Connection, asked: Sequence[Subject]) -> Sequence[int]:
    """Take tombstones away: from now on what is told of these is kept again. Answers how many there were."""
    answers = []
    for one in asked:
        keys = [each.lookup for each in one.identities] + [visitor_key(visitor) for visitor in one.visitors]
        answers.append(connection.execute(delete(tombstones).where(tombstones.c.key.in_(keys))).rowcount)
    return answers


# ---------------------------------------------------------------- tombstones


@dataclass(frozen=True, slots=True, kw_only=True)
class _Burial:
    """Tombstones to write, kinds by their keys, and the e-mails behind them."""

    kinds: dict[str, str]
    emails: dict[str, str] = field(repr=False)
    asked: Erasure


def _bury(store: Store, asked: Erasure) -> tuple[Person, tuple[str, ...]]:
    """Write the tombstones, and again while what was under way leads to more; returns the person and the jobs' ids."""
    standing = set[str]()
    requests: tuple[str, ...] = ()
    while True:
        person = person_of(store, asked.subject)
        kinds = _kinds(person)
        if kinds.keys() <= standing:
            return person, requests
        emails = {lookup: value for (kind, lookup), value in person.names.items() if kind == "email"}
        for some in chunks(list(kinds), ROWS):
            theirs = {key: emails[key] for key in some if key in emails}
            part = _Burial(kinds={key: kinds[key] for key in some}, emails=theirs, asked=asked)
            requests += store.write_sync(_write_tombstones, part)
        standing |= kinds.keys()
        _outlast(store)


def _kinds(person: Person) -> dict[str, str]:
    """Return the keys of the person's tombstones, names first."""
    names = {lookup: kind for kind, lookup in person.names}
    return names | {visitor_key(visitor): "visitor" for visitor in sorted(person.own)}


def _write_tombstones(connection: Connection, asked: Sequence[_Burial]) -> Sequence[tuple[str, ...]]:
    return [_write_some(connection, one) for one in asked]


def _write_some(connection: Connection, one: _Burial) -> tuple[str, ...]:
    at = milliseconds(one.asked.now)
    rows = in_order([{"key": key, "kind": kind, "at": at} for key, kind in one.kinds.items()], "key")
    # Of two erasures at once one inserts it: that one asks the vendor.
    inserting = insert(connection, tombstones).on_conflict_do_nothing().returning(tombstones.c.key)
    inserted = set(connection.scalars(inserting, rows)) if rows else set()
    upsert(connection, tombstones, rows, key="key")
    fresh = [digest for key, value in one.emails.items() if key in inserted and (digest := email_sha256(value))]
    if not fresh or one.asked.deletion is None:
        return ()
    jobs = one.asked.deletion(fresh)
    queue(connection, [Jobs(jobs=jobs, now=one.asked.now, store_ahead=one.asked.store_ahead)])
    return tuple(job.conversion.event_id for job in jobs)


#: The transactions that have looked at the tombstones and go on. Each that could keep something looks at them first, by
#: `erased_among`; a backup has another lock.
_LOOKING = text(
    "SELECT DISTINCT virtualtransaction FROM pg_locks"
    " WHERE relation = 'tombstones'::regclass AND mode = 'RowShareLock' AND granted AND pid <> pg_backend_pid()"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def _outlast(store: Store) -> None:
    """Wait for the transactions that may have looked before the tombstones stood. SQLite has one at a time."""
    if store.url.get_backend_name() == "sqlite":
        return

    def looking() -> set[str]:
        return set(store.read_sync(lambda connection: connection.scalars(_LOOKING).all()))

    before, ends = looking(), time.monotonic() + PATIENCE.total_seconds()
    while before and (before := before & looking()):
        if time.monotonic() > ends:
            raise StoreUnavailable("a transaction that began before the erasure goes on; erase again when it has ended")
        time.sleep(_LOOK)


# ---------------------------------------------------------------- what goes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Events:
    ids: Sequence[int]
    order_ids: Sequence[str]
    now: datetime


def _erase_events(connection: Connection, asked: Sequence[_Events]) -> Sequence[Counter[str]]:
    """Leave of the person's events the order and its money, and of their orders' snapshots that they were erased."""
    return [
        erase_events(connection, one.ids, now=one.now) + Counter(orders=_empty(connection, one.order_ids))
        for one in asked
    ]


_EMPTY = {"visitor": None, "identifiers": identifiers_text(NOBODY), "granted": False, "signal": ERASED}


def _empty(connection: Connection, order_ids: Sequence[str]) -> int:
    """Empty these orders' snapshots, and forget when a page of theirs was open."""
    connection.execute(delete(pixel_reports).where(pixel_reports.c.order_id.in_(order_ids)))
    named = (orders.c.order_id.in_(order_ids), orders.c.signal != ERASED)
    return connection.execute(orders.update().where(*named).values(**_EMPTY)).rowcount


def _empty_orders(connection: Connection, asked: Sequence[Sequence[str]]) -> Sequence[int]:
    """Empty snapshots of these visitors, but of orders that were reported as somebody else's."""
    others = exists().where(events.c.order_id == orders.c.order_id, events.c.signal != ERASED)
    answers = []
    for visitors in asked:
        query = select(orders.c.order_id).where(orders.c.visitor.in_(visitors), ~others).limit(ROWS)
        answers.append(_empty(connection, connection.scalars(query).all()))
    return answers


def _remove_touches(connection: Connection, asked: Sequence[Sequence[str]]) -> Sequence[int]:
    return [_remove_some(connection, touchpoints, visitors) for visitors in asked]


def _remove_consents(connection: Connection, asked: Sequence[Sequence[str]]) -> Sequence[int]:
    return [_remove_some(connection, consents, visitors) for visitors in asked]


def _remove_some(connection: Connection, table: Table, visitors: Sequence[str]) -> int:
    ids = connection.scalars(select(table.c.id).where(table.c.visitor.in_(visitors)).limit(ROWS)).all()
    return connection.execute(delete(table).where(table.c.id.in_(ids))).rowcount if ids else 0


def _forget_conflicts(connection: Connection, asked: Sequence[Sequence[int]]) -> Sequence[None]:
    for ids in asked:
        for row in connection.execute(select(conflicts).where(conflicts.c.id.in_(ids))).all():
            forget_conflict(connection, row)
    return [None] * len(asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Borrowed:
    ids: Sequence[int]
    finder: Finder


def _take_out(connection: Connection, asked: Sequence[_Borrowed]) -> Sequence[None]:
    """Take what was gathered of the person out of other people's events, and the bodies that may hold it."""
    for one in asked:
        columns = (events.c.id, events.c.visitor, events.c.conversion, events.c.identifiers)
        query = select(*columns).where(events.c.id.in_(one.ids))
        for row in connection.execute(query.order_by(events.c.id).with_for_update()).all():
            said, gathered = json.loads(row.conversion), identifiers_of(row.identifiers)
            fields = {"email": "email", "phone": "phone", "customer": "customer_id"}
            theirs = [
                name
                for kind, name in fields.items()
                if one.finder.borrowed(kind, getattr(gathered, name), visitor=row.visitor)
            ]
            gone: dict[str, Any] = {name: None for name in theirs if said.get(name) is None}
            clicks = tuple(click for click in gathered.click_ids if not one.finder.clicked(click.visitor))
            if len(clicks) < len(gathered.click_ids):
                gone["click_ids"] = clicks
            if gone:
                left = {"identifiers": identifiers_text(replace(gathered, **gone)), "revision": events.c.revision + 1}
                connection.execute(events.update().where(events.c.id == row.id).values(**left))
                connection.execute(deliveries.update().where(deliveries.c.event == row.id).values(payload=None))
    return [None] * len(asked)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Joining:
    """A job, by its delivery, that puts these members on a list."""

    delivery: int
    members: frozenset[str] = field(repr=False)
    without: Without
    now: datetime


def _take_off_lists(store: Store, asked: Erasure, emails: Sequence[str]) -> None:
    """Take these people out of the jobs that would put them on a list: a body at a time, it may hold a million."""
    members = frozenset([*emails, *filter(None, map(email_sha256, emails))])
    if not members or not asked.joining:
        return
    for ids in ranges(store, deliveries.c.id):
        for delivery, taker in store.read_sync(partial(_joining, ids=ids, takers=list(asked.joining))):
            payload = select(deliveries.c.payload).where(deliveries.c.id == delivery)
            body = store.read_sync(partial(Connection.scalar, statement=payload)) or b""
            if any(json.dumps(member, ensure_ascii=False).encode() in body for member in members):
                now, without = asked.now + asked.store_ahead, asked.joining[taker]
                one = _Joining(delivery=delivery, members=members, without=without, now=now)
                store.write_sync(_take_off_list, one)


def _joining(connection: Connection, *, ids: range, takers: Sequence[str]) -> Sequence[Any]:
    """Return what these destinations have not got yet."""
    within = (deliveries.c.id.between(ids.start, ids.stop - 1), deliveries.c.destination.in_(takers))
    waiting = (deliveries.c.state != DeliveryState.DELIVERED, deliveries.c.payload.is_not(None))
    return connection.execute(select(deliveries.c.id, deliveries.c.destination).where(*within, *waiting)).all()


def _take_off_list(connection: Connection, asked: Sequence[_Joining]) -> Sequence[None]:
    """Write each body without these members; a worker that has it in hand looks again. A job for nobody is erased."""
    query = select(deliveries.c.event, deliveries.c.state, deliveries.c.payload)
    for one in asked:
        event = select(deliveries.c.event).where(deliveries.c.id == one.delivery).scalar_subquery()
        connection.execute(select(events.c.id).where(events.c.id == event).with_for_update())
        row = connection.execute(query.where(deliveries.c.id == one.delivery).with_for_update()).one_or_none()
        if row is None or row.payload is None or row.state == DeliveryState.DELIVERED:
            continue
        body = one.without(row.payload, one.members)
        if body is None:
            erase_events(connection, [row.event], now=one.now)
        elif body != row.payload:
            again = events.update().where(events.c.id == row.event)
            connection.execute(again.values(revision=events.c.revision + 1))
            connection.execute(deliveries.update().where(deliveries.c.id == one.delivery).values(payload=body))
    return [None] * len(asked)


def _leading_last(person: Person, subject: Subject) -> Iterator[Sequence[tuple[str, Key]]]:
    """Yield the person's links in portions, those to what was named the last."""
    named = {(one.kind, one.lookup) for one in subject.identities}
    theirs = [(visitor, key) for visitor, keys in sorted(person.told.items()) for key in keys]
    yield from chunks([one for one in theirs if one[1] not in named], ROWS)
    yield from chunks([one for one in theirs if one[1] in named], ROWS)


_LINK = delete(links).where(
    links.c.visitor == bindparam("b_visitor"),
    links.c.kind == bindparam("b_kind"),
    links.c.lookup == bindparam("b_lookup"),
)


def _remove_links(connection: Connection, asked: Sequence[Sequence[tuple[str, Key]]]) -> Sequence[int]:
    """Remove links, and in clear whom nobody is linked to then."""
    for some in asked:
        connection.execute(
            _LINK, [{"b_visitor": who, "b_kind": kind, "b_lookup": known} for who, (kind, known) in some]
        )
        still = exists().where(links.c.kind == identities.c.kind, links.c.lookup == identities.c.lookup)
        named = tuple_(identities.c.kind, identities.c.lookup).in_({key for _, key in some})
        connection.execute(delete(identities).where(named, ~still))
    return [len(some) for some in asked]


def _rewrite(store: Store, most: int) -> bool:
    """Write SQLite's file anew, its log too. SQLite overwrites what is deleted, but not what it moved between pages."""
    if store.url.get_backend_name() != "sqlite" or Path(store.url.database or "").stat().st_size > most:
        return False
    engine = connect(store.url, lock_timeout=store.timeout)
    try:
        with contextlib.closing(engine.raw_connection()) as raw:
            for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                raw.cursor().execute(statement).close()
    except sqlite3.OperationalError:  # others are at it all the time, or there is no room for a second one
        return False
    finally:
        engine.dispose()
    return True
