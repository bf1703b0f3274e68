"""The index key: what e-mails, phones and customer ids are looked up by. Kept by the store or the shop."""

import hashlib
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, select

from kit.errors import ConfigurationError
from kit.store.rows import insert_new
from kit.store.tables import meta

_KEY, _FINGERPRINT = "index_key", "index_key_fingerprint"


def kept_index_key(connection: Connection, given: bytes | None) -> bytes | None:
    """Return the key in use, or None where this store has none yet. One that the shop passes must be the one kept."""
    kept = {row.key: row.value for row in connection.execute(select(meta))}
    if _FINGERPRINT not in kept:
        return None
    key = given or bytes.fromhex(kept.get(_KEY, ""))
    if kept[_FINGERPRINT] != _fingerprint(key):
        reason = "is not the key that this store was made with" if key else "is missing; this store was made with one"
        raise ConfigurationError("KIT_INDEX_KEY", f"{reason}; people already kept could not be found")
    return key


def index_key(connection: Connection, asked: Sequence[bytes | None]) -> Sequence[bytes]:
    """Return the key in use; the first caller's own, or a new one, becomes it."""
    return [kept_index_key(connection, given) or _make_key(connection, given) for given in asked]


def _make_key(connection: Connection, given: bytes | None) -> bytes:
    key = given or secrets.token_bytes(32)
    rows = [(_FINGERPRINT, _fingerprint(key))]
    if given is None:
        rows.append((_KEY, key.hex()))
    insert_new(connection, meta, ("key", "value"), rows, by=1)
    # Another process may have been first by a moment: then its key is the one.
    return kept_index_key(connection, given) or key


def _fingerprint(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()[:16]
