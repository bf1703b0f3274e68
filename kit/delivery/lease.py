"""How long what was claimed is ours: a lease ends by the clock that all workers share, and by one that nobody steps."""

import time
from collections.abc import Callable, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

#: The longest that one request may take, the answer's body included.
DEADLINE = timedelta(seconds=20)
LEASE = 3 * DEADLINE + timedelta(seconds=10)
#: A request is sent only while its lease outlasts the request by this much.
MARGIN = timedelta(seconds=2)

#: Seconds on a clock that only ever goes forward, and while the machine sleeps too where the system has such a one.
Steady = Callable[[], float]

_ASLEEP_TOO = getattr(time, "CLOCK_BOOTTIME", None)


def steady_now() -> float:
    return time.monotonic() if _ASLEEP_TOO is None else time.clock_gettime(_ASLEEP_TOO)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Lease:
    """What one claim holds. `gated` says that a gate was closed since: what was not sent yet goes back.

    Both ends are counted from before the store was asked, so neither is later than what others see.
    """

    token: str
    deliveries: Set[int]
    until: datetime
    steady_until: float
    gated: bool = False

    def outlasts(self, deliveries: Set[int], *, now: datetime, steady: float) -> bool:
        """Return whether a request that begins now ends while these are ours."""
        needed = DEADLINE + MARGIN
        lasts = now + needed < self.until and steady + needed.total_seconds() < self.steady_until
        return lasts and deliveries <= self.deliveries

    def renewed(self, deliveries: Set[int], *, until: datetime, steady_until: float) -> None:
        """Keep these until then; the others are lost."""
        self.deliveries, self.until, self.steady_until = deliveries, until, steady_until
