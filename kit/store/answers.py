"""Answers: in which shapes each vendor answered, how often, and since when."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select

from kit.store.rows import in_order, insert, milliseconds, moment
from kit.store.tables import answers


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """So many answers of one shape. `known` says that its destination was written for it."""

    destination: str
    status: int
    shape: str
    sketch: str
    known: bool
    seen: int
    first_at: datetime
    last_at: datetime


def keep_answers(connection: Connection, found: Sequence[Sequence[Seen]]) -> Sequence[None]:
    """Add these to what was seen before."""
    rows = [
        {
            "destination": one.destination,
            "status": one.status,
            "shape": one.shape,
            "sketch": one.sketch,
            "known": one.known,
            "seen": one.seen,
            "first_at": milliseconds(one.first_at),
            "last_at": milliseconds(one.last_at),
        }
        for some in found
        for one in some
    ]
    if rows:
        statement = insert(connection, answers)
        more = {
            "seen": answers.c.seen + statement.excluded.seen,
            "known": statement.excluded.known,
            "last_at": statement.excluded.last_at,
        }
        keys = ["destination", "status", "shape"]
        connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=more), in_order(rows, *keys))
    return [None] * len(found)


def seen_answers(connection: Connection, destination: str | None = None) -> list[Seen]:
    """Return what was seen, the oldest shape of each destination first."""
    query = select(answers).order_by(answers.c.destination, answers.c.first_at, answers.c.shape)
    if destination is not None:
        query = query.where(answers.c.destination == destination)
    return [
        Seen(
            destination=row.destination,
            status=row.status,
            shape=row.shape,
            sketch=row.sketch,
            known=row.known,
            seen=row.seen,
            first_at=moment(row.first_at),
            last_at=moment(row.last_at),
        )
        for row in connection.execute(query)
    ]
