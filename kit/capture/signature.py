"""Genuine itsdangerous.Signer tokens (SHA-256), with each key derived once and its HMAC ready to be copied."""

import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Sequence
from typing import Any

from itsdangerous import Signer

#: The two hashes of an HMAC (RFC 2104), its key in each.
_Keyed = tuple[Any, Any]
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))

#: A SHA-256 in base64 without padding, and the dot before it.
OVERHEAD = 44

URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Signature:
    """Signs with the newest (last) key, verifies with all. `itsdangerous.Signer` reads and writes the same tokens."""

    __slots__ = ("_newest", "_newest_first")

    def __init__(self, secret_keys: Sequence[bytes], salt: bytes) -> None:
        signer = Signer(list(secret_keys), salt=salt, digest_method=hashlib.sha256)
        # Signer derives the key and keys the HMAC at every call: 3.0 µs a token, copies of these 0.9 µs. A copy of
        # hmac.new's object takes 1.2 µs.
        self._newest_first = [_keyed(signer.derive_key(key)) for key in reversed(signer.secret_keys)]
        self._newest = self._newest_first[0]

    def signed(self, payload: bytes) -> bytes:
        """Return the token of this payload."""
        return payload + b"." + _signature(self._newest, payload)

    def verified(self, token: bytes) -> bytes | None:
        """Return the payload of a token of ours, else None. The time does not depend on where a forgery differs."""
        payload, dot, signature = token.rpartition(b".")
        if not dot or len(signature) != OVERHEAD - 1:
            return None
        for keyed in self._newest_first:
            if hmac.compare_digest(_signature(keyed, payload), signature):
                return payload
        return None


def _keyed(key: bytes) -> _Keyed:
    """Return the hashes of a key of at most 64 bytes: Signer's are digests of 32."""
    block = key.ljust(64, b"\0")
    return hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))


def _signature(keyed: _Keyed, payload: bytes) -> bytes:
    inner, outer = keyed[0].copy(), keyed[1].copy()
    inner.update(payload)
    outer.update(inner.digest())
    return b2a_base64(outer.digest(), newline=False).translate(URL_SAFE, b"=")
