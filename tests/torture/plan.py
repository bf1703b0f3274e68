"""What one run is to do: how many conversions and disturbances, from which seed, and how short its waits are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

Engine = Literal["sqlite", "postgresql"]

PRODUCERS = 2
CALLERS = 4
WORKERS = 3

#: A frozen process must lose its leases within the run; kit/delivery's own are made for real vendors.
LEASE = timedelta(seconds=4)
DEADLINE = timedelta(seconds=1.2)
MARGIN = timedelta(seconds=0.3)
FREEZE = LEASE + timedelta(seconds=1)

DRAIN = timedelta(seconds=120)
PROBE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`number` counts events, most of them orders; `pg_kills` servers are restarted and as many times backends ended.

    `start` is before the first order's time, so that every payload is a function of seed and order alone.
    """

    seed: int
    number: int
    kills: int
    freezes: int
    pg_kills: int = 0
    engine: Engine
    start: datetime
