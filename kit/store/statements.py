"""Statements of the hot path, written as the drivers take them: SQLAlchemy's own way there costs more than they do."""

import json
import re
from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import chain, count
from typing import Any

from sqlalchemy import Connection, CursorResult

#: Rows of one statement: SQLite takes 32,766 values.
_AT_ONCE = 1_000


class Statement:
    """One statement for both engines: `?` is a value, `AMONG ?` asks whether it is one of many, see `many`.

    `locking` is for PostgreSQL alone: SQLite's writer has the whole file.
    """

    __slots__ = ("_texts",)

    def __init__(self, text: str, *, locking: str = "") -> None:
        shared = f"{text} {locking}".replace("AMONG ?", "= ANY(?)")
        numbers = count(1)
        # By how the driver, which may be the shop's own, marks the place of a value: only SQLite's has question marks.
        self._texts = {
            "qmark": text.replace("AMONG ?", "IN (SELECT value FROM json_each(?))"),
            "numeric_dollar": re.sub(r"\?", lambda _: f"${next(numbers)}", shared),
        } | dict.fromkeys(("format", "pyformat"), shared.replace("?", "%s"))

    def on(self, connection: Connection, *values: Any) -> CursorResult[Any]:
        return connection.exec_driver_sql(self._texts[connection.dialect.paramstyle], values)

    def on_each(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it once for each row of values."""
        if rows:
            connection.exec_driver_sql(self._texts[connection.dialect.paramstyle], list(rows))


def on_all(connection: Connection, text: str, rows: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
    """Run a statement for all rows of values at once, which stand for its `VALUES ?`; returns the rows it returns."""
    found: list[Any] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        places = _places(connection.dialect.paramstyle, len(some), len(some[0]))
        values = tuple(chain.from_iterable(some))
        result = connection.exec_driver_sql(text.replace("VALUES ?", f"VALUES {places}"), values)
        if result.returns_rows:
            found += result.all()
    return found


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
