"""Statements of the hot path, written as the drivers take them: SQLAlchemy's own way there costs more than they do."""

import json
import re
from collections import namedtuple
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from itertools import chain, count
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

#: Rows of one statement: SQLite takes 32,766 values.
_AT_ONCE = 1_000


class Statement:
    """One statement for both engines: `?` is a value, `AMONG ?` asks whether it is one of many, see `many`.

    `locking` is for PostgreSQL alone: SQLite's writer has the whole file. Rows have their columns' names.
    """

    __slots__ = ("_row", "_texts")

    def __init__(self, text: str, *, locking: str = "") -> None:
        shared = f"{text} {locking}".replace("AMONG ?", "= ANY(?)")
        numbers = count(1)
        # By how the driver, which may be the shop's own, marks the place of a value: only SQLite's has question marks.
        self._texts = {
            "qmark": text.replace("AMONG ?", "IN (SELECT value FROM json_each(?))"),
            "numeric_dollar": re.sub(r"\?", lambda _: f"${next(numbers)}", shared),
        } | dict.fromkeys(("format", "pyformat"), shared.replace("?", "%s"))
        self._row: Callable[[Any], Any] | None = None

    def on(self, connection: Connection, *values: Any) -> list[Any]:
        """Run it; returns its rows."""
        columns, rows = run(connection, self._texts[connection.dialect.paramstyle], values)
        if self._row is None:
            self._row = _row_of(columns)
        return list(map(self._row, rows))

    def on_each(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it once for each row of values."""
        if rows:
            run(connection, self._texts[connection.dialect.paramstyle], rows, each=True)


def on_all(connection: Connection, text: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Run a statement for all rows of values at once, which stand for its `VALUES ?`; returns the rows it returns."""
    found: list[Any] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        places = _places(connection.dialect.paramstyle, len(some), len(some[0]))
        values = tuple(chain.from_iterable(some))
        found += run(connection, text.replace("VALUES ?", f"VALUES {places}"), values)[1]
    return found


def _row_of(columns: Sequence[Any]) -> Callable[[Any], Any]:
    row: Any = namedtuple("Row", " ".join(column[0] for column in columns), rename=True)  # type: ignore[misc]
    made: Callable[[Any], Any] = row._make
    return made


def run(connection: Connection, text: str, values: Sequence[Any], *, each: bool = False) -> tuple[Any, Sequence[Any]]:
    """Run a statement in SQLAlchemy's transaction, with these values or with `each` of them; returns columns and rows.

    What goes wrong is raised as SQLAlchemy raises it, without the values. `Connection.exec_driver_sql` does the same in
    four times what SQLite needs for a short statement.
    """
    # As each statement of SQLAlchemy's does: else its commit would know of nothing to commit.
    if not connection.in_transaction():
        connection.begin()
    line, dialect = connection.connection, connection.dialect
    cursor = line.cursor()
    try:
        (cursor.executemany if each else cursor.execute)(text, values)
        columns = cursor.description or ()
        rows = cursor.fetchall() if columns else ()
    except dialect.loaded_dbapi.Error as error:
        if gone := dialect.is_disconnect(error, line.dbapi_connection, cursor):
            connection.invalidate(error)
        raise DBAPIError.instance(
            None,
            None,
            error,
            dialect.loaded_dbapi.Error,
            hide_parameters=True,
            connection_invalidated=gone,
            dialect=dialect,
        ) from error
    finally:
        cursor.close()
    return columns, rows


@lru_cache(maxsize=512)
def _places(style: str, rows: int, columns: int) -> str:
    """Return a place for each value, as the driver, which may be the shop's own, wants it."""
    if style == "numeric_dollar":
        marks = [f"${number}" for number in range(1, rows * columns + 1)]
    else:
        marks = ["?" if style == "qmark" else "%s"] * (rows * columns)
    return ",".join(f"({','.join(marks[start : start + columns])})" for start in range(0, len(marks), columns))


def many(connection: Connection, values: Collection[int] | Collection[str]) -> Any:
    """Return the value of `AMONG ?`: one for any number, so that the statement's text stays the same."""
    return json.dumps(list(values)) if connection.dialect.name == "sqlite" else list(values)
