"""What all vendors of one sandbox share."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

Clock = Callable[[], datetime]
"""Returns the time now, aware, in UTC."""


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all vendors of a sandbox share.

    `strict`   refuse what the vendor's pages forbid or leave open; else only what would certainly be refused
    `clock`    returns the time now, aware; time windows and records go by it
    `keep`     how many requests a vendor remembers (at most 256 MiB of bodies); older ones are forgotten
    `numbers`  numbers the requests of all vendors
    """

    strict: bool = True
    clock: Clock = utc_now
    keep: int = 100_000
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
