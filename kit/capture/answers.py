"""May this answer carry a Set-Cookie? Only one that no shared cache may keep: a cached cookie is everybody's."""

import re
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

Header = tuple[bytes, bytes]

#: Named by some CDN and stronger there than Cache-Control; so is every other name that ends in `-cache-control`.
_CDN = frozenset({b"surrogate-control", b"edge-control", b"x-accel-expires", b"cache-tag-ttl"})

#: What stands in quotes holds no directives; without an end it goes on to the last byte.
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*(?:"|$)', re.DOTALL)


class Room(Enum):
    """Whether a cookie may be set: no; yes; yes when `Cache-Control: private` is added."""

    NONE = "none"
    OPEN = "open"
    BARE = "bare"


def room(method: str, status: int, headers: Sequence[Header]) -> Room:
    """Return what this answer has room for. Expires counts only where Cache-Control is silent (RFC 9111, 5.3)."""
    if method == "HEAD" or status < 200 or status == 206 or status == 304:
        return Room.NONE
    control: list[bytes] = []
    expires = False
    for key, value in headers:
        name = key.lower()
        if name == b"cache-control":
            control.append(value)
        elif name == b"expires":
            expires = True
        elif name.endswith(b"-cache-control") or name in _CDN:
            if not _shut(value) and value.strip() != b"0":
                return Room.NONE
            # A CDN that is told not to keep it says nothing about the caches behind it.
            expires = True
    if not control:
        return Room.NONE if expires else Room.BARE
    return Room.OPEN if _shut(b",".join(control)) else Room.NONE


def is_silent(status: int, headers: Sequence[Header]) -> bool:
    """Return whether the answer to a GET is `Room.BARE` and sets no cookie of its own: nothing in it is of interest."""
    if status < 200 or status == 206 or status == 304:
        return False
    for name, _ in headers:  # noqa: SIM110 - a generator costs more than the look
        if _tells(name):
            return False
    return True


# The names of an app's headers are few.
@lru_cache(maxsize=512)
def _tells(name: bytes) -> bool:
    """Return whether a header of this name says something of caches or cookies."""
    name = name.lower()
    return name in {b"cache-control", b"expires", b"set-cookie"} or name.endswith(b"-cache-control") or name in _CDN


def _shut(value: bytes) -> bool:
    """Return whether no shared cache may keep it.

    A qualified `private="x-name"` covers that one header only. Beside `must-understand`, `no-store` counts for those
    caches alone that do not know the status (RFC 9111, 5.2.2.3).
    """
    if b'"' in value:
        value = _QUOTED.sub(b"", value)
    words = {word.strip() for word in value.lower().split(b",")}
    if b"public" in words or any(word.startswith(b"s-maxage") for word in words):
        return False
    return b"private" in words or (b"no-store" in words and b"must-understand" not in words)
