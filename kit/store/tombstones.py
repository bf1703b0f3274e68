"""Tombstones: keyed hashes of whom the store erased, by which what comes back of them is known, and not kept."""

from collections.abc import Collection

from sqlalchemy import Connection

from kit.identity import lookup_key
from kit.store.statements import Statement, many

#: The reason of a delivery, and the signal of an event and of an order's snapshot, whose person was erased.
ERASED = "erased"


def visitor_key(visitor: str) -> str:
    """Return the key of a visitor's tombstone. Without a secret: an id is 128 random bits, which nobody can try."""
    return lookup_key(b"visitor", "visitor", visitor)


# On PostgreSQL its lock on the table tells an erasure who may keep something: a backup that reads it has another.
_AMONG = Statement("SELECT key FROM tombstones WHERE key AMONG ?", locking="FOR KEY SHARE")


def erased_among(connection: Connection, keys: Collection[str]) -> frozenset[str]:
    """Return which of these keys have a tombstone, for a transaction that keeps nothing of them."""
    return frozenset(row.key for row in _AMONG.on(connection, many(connection, keys))) if keys else frozenset()


def erased_visitors(connection: Connection, visitors: Collection[str]) -> set[str]:
    """Return which of these visitors were erased."""
    keys = {visitor_key(visitor): visitor for visitor in visitors}
    return {keys[key] for key in erased_among(connection, keys)}
