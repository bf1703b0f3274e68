"""After a backup was restored: what was on its way when it was taken may have arrived since, and waits for a person."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from sqlalchemy import ColumnElement, Connection, case, select

from kit.model import DeliveryState, Verdict
from kit.store.outbox import OPEN
from kit.store.overview import REPLAYED
from kit.store.persons import chunks, ranges
from kit.store.rows import milliseconds
from kit.store.store import Store
from kit.store.tables import attempts, deliveries, events

#: Why they are held.
RESTORED = "restored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """The store is a backup: nobody knows whether what it still has to send was sent since.

    It is about events that happened `before`, whenever they were reported, of one destination or of all.
    """

    before: datetime
    destination: str | None = None
    now: datetime

    def conditions(self) -> list[ColumnElement[bool]]:
        columns = deliveries.c
        happened = select(events.c.id).where(events.c.id == columns.event, events.c.at < milliseconds(self.before))
        found: list[ColumnElement[bool]] = [
            columns.state.in_((DeliveryState.PENDING, DeliveryState.CLAIMED)),
            happened.exists(),
        ]
        if self.destination is not None:
            found.append(columns.destination == self.destination)
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    asked: Restored
    ids: Sequence[int]


def hold_restored(store: Store, asked: Restored) -> Counter[str]:
    """Hold what is pending or claimed, a few at a time; returns how many of each destination.

    A worker that has one of them in hand neither sends nor settles it any more. Idempotent. Not for an event loop's
    thread.
    """
    found = Counter[str]()
    for chunk in _chunks(store, asked):
        found += store.write_sync(_hold, chunk)
    return found


def _chunks(store: Store, asked: Restored) -> Iterator[_Chunk]:
    for within in ranges(store, deliveries.c.id):
        ids = store.read_sync(partial(_ids, asked=asked, within=within))
        yield from (_Chunk(asked=asked, ids=some) for some in chunks(ids, REPLAYED))


def _ids(connection: Connection, *, asked: Restored, within: range) -> Sequence[int]:
    columns = deliveries.c
    query = select(columns.id).where(columns.id.between(within.start, within.stop - 1), *asked.conditions())
    return connection.scalars(query).all()


def _hold(connection: Connection, asked: Sequence[_Chunk]) -> Sequence[Counter[str]]:
    return [_held(connection, one) for one in asked]


def _held(connection: Connection, chunk: _Chunk) -> Counter[str]:
    columns, now = deliveries.c, milliseconds(chunk.asked.now)
    theirs = (columns.id.in_(chunk.ids), *chunk.asked.conditions())
    was_open = attempts.c.id.in_(select(columns.attempt).where(*theirs)) & (attempts.c.outcome == OPEN)
    connection.execute(attempts.update().where(was_open).values(outcome=Verdict.UNKNOWN, closed_at=now))
    held = connection.scalars(
        deliveries.update()
        .where(*theirs)
        .values(
            state=DeliveryState.HELD,
            reason=RESTORED,
            settled_at=now,
            outcome=case((columns.outcome == OPEN, Verdict.UNKNOWN), else_=columns.outcome),
            in_doubt=True,
            lease_token=None,
            lease_until=None,
            owner=None,
        )
        .returning(columns.destination)
    )
    return Counter(held)
