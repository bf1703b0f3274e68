"""How a vendor of the oracle answers its next request: a scripted list first, so that no run misses one; then dice."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from kit.sandbox.faults import Fault
from tests.torture.plan import DEADLINE

_NO_FAULT = Fault()


@dataclass(frozen=True, slots=True, kw_only=True)
class Play:
    """One way to answer. `takes` says that the vendor counts the request's events all the same."""

    name: str
    status: int = 200
    fault: Fault = _NO_FAULT
    retry_after: int | None = None
    garbage: bool = False
    partial: bool = False

    @property
    def takes(self) -> bool:
        return self.status == 200 and self.fault.reset != "before"


_TOO_LONG = DEADLINE.total_seconds() * 2

GOOD = Play(name="good")
HELD = Play(name="held back", fault=Fault(delay=0.4))
REFUSED = Play(name="401", status=401)
PLAYS: Mapping[str, Play] = {
    play.name: play
    for play in (
        Play(name="503", status=503),
        Play(name="500", status=500),
        Play(name="429", status=429, retry_after=2),
        Play(name="reset before", fault=Fault(reset="before")),
        Play(name="reset during", fault=Fault(reset="during")),
        Play(name="reset after", fault=Fault(reset="after")),
        Play(name="drip", fault=Fault(drip=_TOO_LONG)),
        Play(name="slow", fault=Fault(delay=0.3)),
        Play(name="too slow", fault=Fault(delay=_TOO_LONG)),
        Play(name="garbage", garbage=True),
        Play(name="partial", partial=True),
        Play(name="401 phase", status=401),
    )
}
#: How often each is played among a thousand requests; Rokt's are few and large.
_RATES: Mapping[str, Mapping[str, float]] = {
    "adroll": {"503": 8, "500": 4, "reset before": 2, "reset during": 1, "reset after": 3, "slow": 5, "garbage": 3,
               "drip": 0.5, "too slow": 0.5, "429": 1},
    "rokt": {"503": 20, "500": 10, "reset before": 10, "reset during": 5, "reset after": 20, "slow": 20, "garbage": 10,
             "drip": 3, "too slow": 3, "429": 5, "partial": 150},
    "rockerbox": {"503": 8, "500": 4, "reset before": 3, "reset during": 2, "reset after": 6, "slow": 5, "garbage": 3,
                  "drip": 0.5, "too slow": 0.5, "429": 1},
}  # fmt: skip
_SCRIPT = ("503", "reset after", "429", "reset before", "garbage", "drip", "401 phase", "500", "reset during")
#: A play of the script is every so-manieth request.
_EVERY = {"adroll": 25, "rokt": 3, "rockerbox": 25}
_PHASE = 1.0
#: Whole destinations wait for these; more of them would only make the run longer.
_SELDOM = {"429": 8.0}


class Director:
    """Chooses one vendor's plays, from the run's seed."""

    def __init__(self, vendor: str, seed: int) -> None:
        self._dice = Random(f"{seed} {vendor}")
        partial = ["partial"] * 3 if vendor == "rokt" else []
        self._script = [*partial, *_SCRIPT, *partial]
        self._every = _EVERY[vendor]
        self._names, self._weights = zip(*_RATES[vendor].items(), strict=True)
        self._good = 1000 - sum(self._weights)
        self._asked = 0
        self._refuses_until = 0.0
        self._last: dict[str, float] = {}
        self._codes = ("InternalError", "RequestValidationError")
        self.quiet = False

    def next(self) -> Play:
        if self.quiet:
            return GOOD
        self._asked += 1
        now = time.monotonic()
        if now < self._refuses_until:
            return REFUSED
        if self._script and self._asked % self._every == 0:
            name = self._script.pop(0)
        else:
            name = self._dice.choices((*self._names, ""), (*self._weights, self._good))[0]
        if now - self._last.get(name, 0.0) < _SELDOM.get(name, 0.0):
            name = ""
        self._last[name] = now
        if name == "401 phase":
            self._refuses_until = now + _PHASE
        return PLAYS[name] if name else GOOD

    def refused(self, places: int) -> dict[int, str]:
        """Return which events of a batch Rokt refuses, and by which code: its own trouble and the event's in turn."""
        chosen = self._dice.sample(range(places), min(places, 2 + places // 20))
        self._codes = self._codes[::-1]
        return {place: self._codes[turn % 2] for turn, place in enumerate(chosen)}
