"""Statements of the hot path, written as the drivers take them: SQLAlchemy's own way there costs more than they do."""

import json
from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult


class Statement:
    """One statement for both engines: `?` is a value, `AMONG ?` asks whether it is one of many, see `many`.

    `locking` is for PostgreSQL alone: SQLite's writer has the whole file. Only for connections of the store's own.
    """

    __slots__ = ("_texts",)

    def __init__(self, text: str, *, locking: str = "") -> None:
        self._texts = {
            "sqlite": text.replace("AMONG ?", "IN (SELECT value FROM json_each(?))"),
            "postgresql": f"{text} {locking}".replace("AMONG ?", "= ANY(?)").replace("?", "%s"),
        }

    def on(self, connection: Connection, *values: Any) -> CursorResult[Any]:
        return connection.exec_driver_sql(self._texts[connection.dialect.name], values)

    def on_each(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run it once for each row of values."""
        if rows:
            connection.exec_driver_sql(self._texts[connection.dialect.name], list(rows))


def many(connection: Connection, values: Collection[int] | Collection[str]) -> Any:
    """Return the value of `AMONG ?`: one for any number, so that the statement's text stays the same."""
    return json.dumps(list(values)) if connection.dialect.name == "sqlite" else list(values)
