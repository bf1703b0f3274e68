"""The index key: what e-mails, phones and customer ids are looked up by. Kept by the store or the shop."""

import hashlib
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, select

from kit.errors import ConfigurationError
from kit.store.rows import insert_new
from kit.store.tables import meta

_KEY, _FINGERPRINT = "index_key", "index_key_fingerprint"


def index_key(connection: Connection, asked: Sequence[bytes | None]) -> Sequence[bytes]:
    """Return the key in use. One that the shop passes must be the one that this store has always been used with."""
    return [_index_key(connection, given) for given in asked]


def _index_key(connection: Connection, given: bytes | None) -> bytes:
    kept = {row.key: row.value for row in connection.execute(select(meta))}
    key = given or bytes.fromhex(kept.get(_KEY) or secrets.token_hex(32))
    fingerprint = hashlib.sha256(key).hexdigest()[:16]
    if kept.get(_FINGERPRINT, fingerprint) != fingerprint:
        raise ConfigurationError(
            "KIT_INDEX_KEY", "is not the key that this store was made with; people already kept could not be found"
        )
    rows = [{"key": _FINGERPRINT, "value": fingerprint}]
    if given is None:
        rows.append({"key": _KEY, "value": key.hex()})
    insert_new(connection, meta, rows, by=("key",))
    return key
