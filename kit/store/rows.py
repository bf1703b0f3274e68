"""Values to columns and back: times as epoch milliseconds, identifiers and conversions as JSON text."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter
from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, Table
from sqlalchemy.dialects import postgresql, sqlite

from kit.model import Address, Conversion, Device, Identifiers, Item
from kit.store.statements import on_all

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_Model = TypeVar("_Model", bound=BaseModel)
_identifiers = TypeAdapter(Identifiers)
#: What a field is that was left out.
_CONVERSION = {name: field.default for name, field in Conversion.model_fields.items()}
_ITEM = {name: field.default for name, field in Item.model_fields.items()}
_ADDRESS = {name: field.default for name, field in Address.model_fields.items()}
_DEVICE = {name: field.default for name, field in Device.model_fields.items()}


def milliseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MILLISECOND


def truth(value: Any) -> bool | None:
    """Return a column's truth as a statement of ours brings it: SQLite tells it in numbers."""
    return None if value is None else bool(value)


# Most of an event's times are the one at which it was reported.
@lru_cache(maxsize=1024)
def moment(milliseconds: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=milliseconds)


def identifiers_text(identifiers: Identifiers) -> str:
    return _identifiers.dump_json(identifiers, exclude_none=True).decode()


def identifiers_of(text: str) -> Identifiers:
    return _identifiers.validate_json(text)


def conversion_text(conversion: Conversion) -> str:
    return conversion.model_dump_json(exclude_unset=True)


def conversion_of(text: str) -> Conversion:
    """Return what `conversion_text` wrote. It was checked at the door: here it is only put together again."""
    said = from_json(text)
    for name in ("value", "margin"):
        if said.get(name) is not None:
            said[name] = Decimal(said[name])
    if said.get("time") is not None:
        said["time"] = datetime.fromisoformat(said["time"])
    if said.get("birth_date") is not None:
        said["birth_date"] = date.fromisoformat(said["birth_date"])
    for name, kind, left_out in _NESTED:
        if said.get(name) is not None:
            said[name] = _made(kind, said[name], left_out)
    if "items" in said:
        said["items"] = tuple(_item_of(item) for item in said["items"])
    return _made(Conversion, said, _CONVERSION, extra={}, metadata={})


_NESTED: tuple[tuple[str, type[BaseModel], Mapping[str, Any]], ...] = (
    ("address", Address, _ADDRESS),
    ("billing_address", Address, _ADDRESS),
    ("device", Device, _DEVICE),
)


def _item_of(said: dict[str, Any]) -> Item:
    if said.get("price") is not None:
        said["price"] = Decimal(said["price"])
    return _made(Item, said, _ITEM)


def _made(kind: type[_Model], said: dict[str, Any], left_out: Mapping[str, Any], **fresh: Any) -> _Model:
    """Return the model as pickle would: `model_construct` takes twice as long. No two may share a `fresh` default."""
    made = kind.__new__(kind)
    _set(made, "__pydantic_fields_set__", set(said))
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    _set(made, "__dict__", {**left_out, **fresh, **said})
    return made


_set = object.__setattr__


def insert_many(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], tail: str = ""
) -> Sequence[Any]:
    """Insert rows in the columns' order, values as the driver takes them; returns what `tail` says, such as RETURNING.

    For the hot path: SQLAlchemy's own takes three times as long to bring rows of dicts to the driver.
    """
    text = f"INSERT INTO {table.name} ({','.join(columns)}) VALUES ? {tail}"  # noqa: S608 - the tables' own names
    return on_all(connection, text, rows)


def insert_new(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[tuple[Any, ...]], *, by: int
) -> None:
    """Insert the rows that do not break a unique rule; leave the others as they stand. `by` columns are the key."""
    # By key: two writers that lock the same rows in the same order cannot deadlock.
    in_order = sorted(rows, key=lambda row: row[:by])
    insert_many(connection, table, columns, in_order, "ON CONFLICT DO NOTHING")


def upsert(
    connection: Connection,
    table: Table,
    rows: Sequence[Mapping[str, Any]],
    *,
    key: str,
    unless: ColumnElement[bool] | None = None,
) -> None:
    """Insert the rows, or overwrite the ones with the same key, unless this is so of what is there."""
    if rows:
        statement = insert(connection, table)
        update = {name: statement.excluded[name] for name in rows[0] if name != key}
        where = None if unless is None else ~unless
        statement = statement.on_conflict_do_update(index_elements=[key], set_=update, where=where)
        connection.execute(statement, in_order(rows, key))


def in_order(rows: Sequence[Mapping[str, Any]], *keys: str) -> list[Mapping[str, Any]]:
    """Return the rows by key: two writers that lock the same rows in the same order cannot deadlock."""
    return sorted(rows, key=lambda row: tuple(row[key] for key in keys))


def insert(connection: Connection, table: Table) -> Any:
    """Return the dialect's INSERT, which knows ON CONFLICT."""
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def grouped(rows: Iterable[Any], key: str) -> dict[Any, list[Any]]:
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        groups.setdefault(getattr(row, key), []).append(row)
    return groups
