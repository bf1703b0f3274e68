"""Statements of the hot path, written as the drivers take them: SQLAlchemy's own way there costs more than they do."""

import json
import re
from collections import namedtuple
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain, count
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_OWN = "kit_own"
#: Of the store's own engines' connections: nobody else listens to them, and nobody is cancelled on them.
OWN: Mapping[str, bool] = {_OWN: True}
#: Rows of one statement: SQLite takes 32,766 values.
_AT_ONCE = 1_000


class Statement:
    """One statement for both engines: `?` is a value, `AMONG ?` asks whether it is one of many, see `many`.

    `locking` is for PostgreSQL alone: SQLite's writer has the whole file. Rows have their columns' names.
    """

    __slots__ = ("_row", "_texts")

    def __init__(self, text: str, *, locking: str = "") -> None:
        self._texts = {
            "sqlite": text.replace("AMONG ?", "IN (SELECT value FROM json_each(?))"),
            "postgresql": f"{text} {locking}".replace("AMONG ?", "= ANY(?)"),
        }
        self._row: Callable[[Any], Any] | None = None

    def on(self, connection: Connection, *values: Any) -> list[Any]:
        """Run it; returns its rows."""
        columns, rows = run(connection, self._texts[connection.dialect.name], values)
        if self._row is None:
            self._row = _row_of(columns)
        return list(map(self._row, rows))

    def on_each(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it once for each row of values."""
        if rows:
            run(connection, self._texts[connection.dialect.name], list(rows))


def on_all(connection: Connection, text: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Run a statement for all rows of values at once, which stand for its `VALUES ?`; returns the rows it returns."""
    found: list[Any] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        places = ",".join([f"({','.join('?' * len(some[0]))})"] * len(some))
        values = tuple(chain.from_iterable(some))
        found += run(connection, text.replace("VALUES ?", f"VALUES {places}"), values)[1]
    return found


def _row_of(columns: Sequence[str]) -> Callable[[Any], Any]:
    row: Any = namedtuple("Row", " ".join(columns), rename=True)  # type: ignore[misc]
    made: Callable[[Any], Any] = row._make
    return made


def run(
    connection: Connection, text: str, values: tuple[Any, ...] | list[tuple[Any, ...]]
) -> tuple[Sequence[str], Sequence[Any]]:
    """Run a statement with these values, or once for each of a list of them; returns its columns' names and its rows.

    On a connection of the store's own by the driver's cursor: SQLAlchemy takes four times what SQLite needs for a short
    statement. What goes wrong there is raised as SQLAlchemy raises it, without text and values.
    """
    if connection.dialect.name != "sqlite":
        text = _marked(text, connection.dialect.paramstyle)
    if not connection.get_execution_options().get(_OWN):
        result = connection.exec_driver_sql(text, values)
        return (list(result.keys()), result.all()) if result.returns_rows else ((), ())
    # As each statement of SQLAlchemy's does: else its commit would know of nothing to commit.
    if not connection.in_transaction():
        connection.begin()
    dialect, line = connection.dialect, connection.connection
    try:
        with closing(line.cursor()) as cursor:
            (cursor.executemany if isinstance(values, list) else cursor.execute)(text, values)
            columns = [column[0] for column in cursor.description or ()]
            return columns, cursor.fetchall() if columns else ()
    except dialect.loaded_dbapi.Error as error:
        if gone := dialect.is_disconnect(error, line.dbapi_connection, None):
            connection.invalidate(error)
        known = dialect.loaded_dbapi.Error
        raise DBAPIError.instance(None, None, error, known, connection_invalidated=gone, dialect=dialect) from error


@lru_cache(maxsize=128)
def _marked(text: str, style: str) -> str:
    """Return the statement as a driver of PostgreSQL's, which may be the shop's own, wants its values' places."""
    if style == "numeric_dollar":
        numbers = count(1)
        return re.sub(r"\?", lambda _: f"${next(numbers)}", text)
    return text.replace("?", "%s")


def many(connection: Connection, values: Collection[int] | Collection[str]) -> Any:
    """Return the value of `AMONG ?`: one for any number, so that the statement's text stays the same."""
    return json.dumps(list(values)) if connection.dialect.name == "sqlite" else list(values)
