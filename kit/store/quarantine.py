"""Quarantine: what pages assert of visitors is not believed any more where too many different things were asserted.

Two rules, by the exact counts of the links table and the figures of `Quarantine`:

- A visitor of which more than `names` e-mails, customer numbers or phones were asserted within `window`, by pages or by
  orders, is in quarantine: none of it serves any event, and pages add nothing. Verified links are never touched. It
  ends by a link that is verified later: what was asserted before stays out, what is asserted then counts afresh. Or an
  operator ends it, who releases what is there.
- An identity that was asserted of `visitors` visitors within `day` is linked to no further one by a page's word.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import attrgetter
from typing import Any

from sqlalchemy import Connection, delete, exists, func, select, tuple_

from kit.errors import ConfigurationError
from kit.model import VisitorId
from kit.store.rows import milliseconds, moment, upsert
from kit.store.tables import identities, links, meta

VERIFIED, ASSERTED = "verified", "asserted"
#: Asserted, and found harmless by an operator: it serves its own visitor, and is not counted.
RELEASED = "released"

_MOST, _LONGEST = 1_000_000, timedelta(days=3_650)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """How much may be asserted before it is believed no more. It holds for what is stored already, as for what comes.

    `names`     e-mails, customer numbers or phones, of each kind, that may be asserted of one visitor within `window`;
                5 within 30 days: a family's, or one person's private and business ones. One more is a quarantine.
    `visitors`  of how many visitors pages may assert one identity within `day`; 25 within a day: somebody's browsers
                that keep no cookie. They link it to no further one then; what is linked stays.

    Raises ConfigurationError for a number that is not from 1 to a million, which is how one is switched off, and for a
    time that is not longer than nothing, or longer than 3,650 days.
    """

    names: int = 5
    window: timedelta = timedelta(days=30)
    visitors: int = 25
    day: timedelta = timedelta(days=1)

    def __post_init__(self) -> None:
        for name in ("names", "visitors"):
            if not 1 <= getattr(self, name) <= _MOST:
                raise ConfigurationError(f"quarantine.{name}", "is not from 1 to 1,000,000; the latter switches it off")
        for name in ("window", "day"):
            if not timedelta(0) < getattr(self, name) <= _LONGEST:
                raise ConfigurationError(f"quarantine.{name}", "is not a timedelta longer than 0 and up to 3,650 days")


QUARANTINE = Quarantine()


# ---------------------------------------------------------------- the rule


def serving(rows: Sequence[Any], rule: Quarantine = QUARANTINE) -> Sequence[Any]:
    """Return of one visitor's links, all of them, those that may serve it. A row has kind, lookup, level and at."""
    if len(rows) <= rule.names:
        return rows
    refused = {id(row) for told in _told(rows) if _are_too_many(told, rule) for row in told}
    return [row for row in rows if id(row) not in refused]


def is_over(rows: Sequence[Any], rule: Quarantine = QUARANTINE) -> bool:
    """Return whether the visitor of these links, all of them, is in quarantine now."""
    return len(rows) > rule.names and _are_too_many(_told(rows)[1], rule)


def _told(rows: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Return what was asserted before the visitor's newest verified link, and what since then."""
    verified_at = max((row.at for row in rows if row.level == VERIFIED), default=-1)
    asserted = [row for row in rows if row.level == ASSERTED]
    return [row for row in asserted if row.at < verified_at], [row for row in asserted if row.at >= verified_at]


def _are_too_many(asserted: Iterable[Any], rule: Quarantine) -> bool:
    times = defaultdict(list)
    for row in asserted:
        times[row.kind].append(row.at)
    return any(_crowded(sorted(each), rule) for each in times.values())


def _crowded(times: Sequence[int], rule: Quarantine) -> bool:
    window = rule.window // timedelta(milliseconds=1)
    return any(last - first <= window for first, last in zip(times, times[rule.names :], strict=False))


# ---------------------------------------------------------------- what is counted

_LINKS = select(links.c.visitor, links.c.kind, links.c.lookup, links.c.level, links.c.source, links.c.at)


def refuses_visitor(connection: Connection, visitor: str, rule: Quarantine = QUARANTINE) -> bool:
    """Return whether pages may assert nothing more of this visitor."""
    return is_over(connection.execute(_LINKS.where(links.c.visitor == visitor)).all(), rule)


def refuses_identity(
    connection: Connection, kind: str, lookup: str, *, now: datetime, rule: Quarantine = QUARANTINE
) -> bool:
    """Return whether this identity was asserted of so many visitors that pages may not link it any more."""
    told = select(links.c.id).where(
        links.c.kind == kind,
        links.c.lookup == lookup,
        links.c.level == ASSERTED,
        links.c.at > milliseconds(now - rule.day),
    )
    found = connection.scalar(select(func.count()).select_from(told.limit(rule.visitors).subquery()))
    return bool(found == rule.visitors)


def write_in_its_place(connection: Connection, at: datetime) -> None:
    """Write as much as a link would be: from the time of the answer nobody learns that somebody was erased."""
    upsert(connection, meta, [{"key": "refused_at", "value": str(milliseconds(at))}], key="key")


def quarantined(connection: Connection, rule: Quarantine = QUARANTINE) -> Sequence[str]:
    """Return the visitors that are in quarantine."""
    many = (
        select(links.c.visitor)
        .where(links.c.level == ASSERTED)
        .group_by(links.c.visitor, links.c.kind)
        .having(func.count() > rule.names)
    )
    rows = connection.execute(_LINKS.where(links.c.visitor.in_(many)).order_by(links.c.visitor))
    return [visitor for visitor, its in groupby(rows, attrgetter("visitor")) if is_over(list(its), rule)]


# ---------------------------------------------------------------- for an operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One link of a visitor: what, at which level, by which source, when, and whether it serves events."""

    kind: str
    value: str = field(repr=False)
    level: str
    source: str
    at: datetime
    serves: bool


def links_of(connection: Connection, visitor: str, rule: Quarantine = QUARANTINE) -> Sequence[Told]:
    """Return all that is kept of who this visitor is, the oldest first."""
    same = (identities.c.kind == links.c.kind) & (identities.c.lookup == links.c.lookup)
    query = _LINKS.add_columns(identities.c.value).join(identities, same).where(links.c.visitor == visitor)
    rows = connection.execute(query.order_by(links.c.at, links.c.id)).all()
    good = {id(row) for row in serving(rows, rule)}
    return [
        Told(
            kind=row.kind,
            value=row.value,
            level=row.level,
            source=row.source,
            at=moment(row.at),
            serves=id(row) in good,
        )
        for row in rows
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Undoing:
    """A link that was wrong: of this visitor to the identity of this kind and key, at whatever level."""

    visitor: VisitorId
    kind: str
    lookup: str


def undo(connection: Connection, asked: Sequence[Undoing]) -> Sequence[int]:
    """Remove links, and in clear whom nobody is linked to then; returns how many there were of each."""
    return [_undone(connection, one) for one in asked]


def _undone(connection: Connection, one: Undoing) -> int:
    of_one = (links.c.kind == one.kind, links.c.lookup == one.lookup)
    gone = connection.execute(delete(links).where(links.c.visitor == one.visitor, *of_one)).rowcount
    still = exists().where(links.c.kind == identities.c.kind, links.c.lookup == identities.c.lookup)
    connection.execute(
        delete(identities).where(identities.c.kind == one.kind, identities.c.lookup == one.lookup, ~still)
    )
    return gone


def release(connection: Connection, visitors: Sequence[VisitorId]) -> Sequence[int]:
    """Let what was asserted of these visitors serve them again; returns how many links of each that are.

    What is asserted from then on counts afresh.
    """
    return [_released(connection, visitor) for visitor in visitors]


def _released(connection: Connection, visitor: VisitorId) -> int:
    its = links.c.visitor == visitor
    already = select(links.c.kind, links.c.lookup).where(its, links.c.level == RELEASED)
    again = tuple_(links.c.kind, links.c.lookup).in_(already)
    connection.execute(delete(links).where(its, links.c.level == ASSERTED, again))
    asserted = links.update().where(its, links.c.level == ASSERTED)
    return connection.execute(asserted.values(level=RELEASED)).rowcount
