"""What the store hands out in bulk: the sales of a time, in short reads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, select

from kit.consent import weigh
from kit.model import Consent, Dispatch
from kit.store.people import newest_consents
from kit.store.rows import conversion_of, identifiers_of, milliseconds, moment
from kit.store.store import Store
from kit.store.tables import events

#: Primary keys that one read looks at. In SQLite's TRUNCATE mode an open reader blocks every commit.
RANGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """A purchase with all that may be told of it, and the decision that counts for it now."""

    dispatch: Dispatch
    consent: Consent


def sales(store: Store, *, since: datetime | None = None, until: datetime | None = None) -> Iterator[Sale]:
    """Yield the purchases that happened not before `since` and before `until`, the first reported first.

    Not for an event loop's thread. What is reported while it runs may be left out.
    """
    happened = [events.c.name == "purchase"]
    if since is not None:
        happened.append(events.c.at >= milliseconds(since))
    if until is not None:
        happened.append(events.c.at < milliseconds(until))
    for ids in _ranges(store):
        where = [events.c.id.between(ids.start, ids.stop - 1), *happened]
        rows, decided = store.read_sync(partial(_rows, where=where))
        # Read as values when the read is over: that takes longer than the read itself.
        yield from (_sale(row, decided.get(row.visitor)) for row in rows)


def _ranges(store: Store) -> Iterator[range]:
    """Yield ranges of primary keys that together hold every event there is now."""
    first, last = store.read_sync(
        lambda connection: connection.execute(select(func.min(events.c.id), func.max(events.c.id))).one()
    )
    if first is not None:
        yield from (range(start, min(start + RANGE, last + 1)) for start in range(first, last + 1, RANGE))


def _rows(connection: Connection, *, where: Sequence[ColumnElement[bool]]) -> tuple[Sequence[Any], dict[str, Consent]]:
    rows = connection.execute(select(events).where(*where).order_by(events.c.id)).all()
    return rows, newest_consents(connection, {row.visitor for row in rows if row.visitor})


def _sale(row: Any, newest: Consent | None) -> Sale:
    own = Consent(granted=row.granted, signal=row.signal, at=moment(row.consent_at))
    return Sale(
        dispatch=Dispatch(
            event_id=row.event_id,
            at=moment(row.at),
            conversion=conversion_of(row.conversion),
            identifiers=identifiers_of(row.identifiers),
        ),
        consent=weigh((own, newest), said=None, now=own.at),
    )
