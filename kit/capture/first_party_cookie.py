"""AdRoll's first-party cookie `__adroll_fpc` (contracts.md 1.3): read, normalised as the pixel does, minted."""

import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from kit.capture.cookies import values_of

NAME = b"__adroll_fpc"
NEEDLE = NAME + b"="

_VALUE = re.compile(rb"[0-9A-Za-z_-]{32,128}")
_LONGEST = 256

#: Matches at a place in a Cookie header where a well-formed value stands; nothing is cut out for it.
well_formed_at = re.compile(rb"[0-9A-Za-z_-]{32,128}(?:;|$)").match


class FirstPartyCookie(NamedTuple):
    """`kept` is written back on a refresh, unchanged where it can be; `value` is what AdRoll is told."""

    kept: bytes
    value: str

    def __repr__(self) -> str:
        return "FirstPartyCookie(...)"


def normalised(value: bytes) -> str | None:
    """Return the value as the pixel reads it back, or None when it is no first-party id."""
    if not 32 <= len(value) <= _LONGEST:
        return None
    value = value.replace(b"-s2-", b"-", 1)
    value = value.removesuffix(b"-")
    if value[32:33] == b"-" and not value[33:].isdigit():
        value = _with_epoch(value)
    return value.decode("ascii") if _VALUE.fullmatch(value) else None


def first_valid(cookies: bytes) -> FirstPartyCookie | None:
    """Return the first valid one of a Cookie header; a pixel and a server may both have set theirs."""
    for raw in values_of(cookies, NEEDLE):
        value = normalised(raw)
        if value is not None:
            return FirstPartyCookie(raw if _VALUE.fullmatch(raw) else value.encode("ascii"), value)
    return None


def mint(now: float, random: Callable[[int], bytes] = os.urandom) -> FirstPartyCookie:
    """Return a new one."""
    value = minted_value(random(16), now)
    return FirstPartyCookie(value.encode("ascii"), value)


def minted_value(bits: bytes, now: float) -> str:
    """Return 32 hex digits (of 16 random bytes), a hyphen, epoch milliseconds in 13 digits."""
    return f"{bits.hex()}-{int(now * 1000)}"


def _with_epoch(value: bytes) -> bytes:
    text = value[33:].decode("latin-1").replace("%20", " ").replace("%3A", ":")
    for parse in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            moment = parse(text)
        except (ValueError, OverflowError):
            continue
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return value[:33] + b"%d" % int(moment.timestamp() * 1000)
    return value
