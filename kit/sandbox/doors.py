"""How a caller shows its credential: the Authorization schemes of the vendors, and what they let in."""

import base64
import binascii
from datetime import datetime, timedelta
from hmac import compare_digest
from secrets import token_urlsafe
from threading import Lock


def basic_pair(authorization: str) -> bytes | None:
    """Return the decoded `name:secret` of a Basic credential; None when there is none."""
    scheme, _, credential = authorization.partition(" ")
    try:
        pair = base64.b64decode(credential, validate=True)
    except binascii.Error:
        return None
    return pair if scheme.lower() == "basic" and b":" in pair else None


def opens(authorization: str, name: str, secret: str) -> bool:
    """Return whether this is the Basic credential of that pair."""
    pair = basic_pair(authorization)
    return pair is not None and compare_digest(pair, f"{name}:{secret}".encode())


class Tokens:
    """The bearer tokens that were issued and still live. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._ends: dict[str, datetime] = {}

    def issue(self, now: datetime, life: timedelta) -> str:
        token = token_urlsafe(32)
        with self._lock:
            self._ends = {held: end for held, end in self._ends.items() if end > now} | {token: now + life}
        return token

    def admits(self, authorization: str, now: datetime) -> bool:
        """Return whether this is a Bearer credential whose token lives."""
        scheme, _, token = authorization.partition(" ")
        with self._lock:
            end = self._ends.get(token)
        return scheme.lower() == "bearer" and end is not None and now < end

    def live(self, now: datetime) -> int:
        """Return how many tokens live."""
        with self._lock:
            return sum(end > now for end in self._ends.values())

    def expire(self) -> None:
        """End every token that was issued."""
        with self._lock:
            self._ends.clear()
