"""What a vendor remembers: its newest requests, which events it has seen, and the sums of what it counted."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock

from kit.sandbox.record import Received
from kit.sandbox.tally import Money, Tally

#: Raw bodies kept by one vendor; the oldest requests are forgotten first.
_KEEP_BYTES = 256 * 1024 * 1024

#: Deduplication and the count of orders remember this many times more events than requests are kept.
_EVENTS_PER_REQUEST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """One event of a request that the vendor took. `key` tells a repeat; without one, whether it counts at all."""

    place: int
    key: str | bool
    order: str | None
    money: Money | None


class Memory:
    """Keeps the newest `keep` requests of one vendor. Safe to use from several threads."""

    def __init__(self, keep: int) -> None:
        self.lock = Lock()
        self._keep = keep
        self._requests: deque[Received] = deque()
        self._bytes = 0
        self._seen: dict[str, None] = {}
        self.tally = Tally(keep * _EVENTS_PER_REQUEST)

    @property
    def requests(self) -> tuple[Received, ...]:
        """Return the requests that are remembered, the oldest first."""
        with self.lock:
            return tuple(self._requests)

    def clear(self) -> None:
        with self.lock:
            self._requests.clear()
            self._seen.clear()
            self._bytes = 0
            self.tally = Tally(self._keep * _EVENTS_PER_REQUEST)

    def add(self, received: Received, taken: Sequence[Taken] = ()) -> None:
        """Remember a request and count each taken event once."""
        with self.lock:
            counted: list[int] = []
            repeated = list(received.repeated)
            for event in taken:
                if not self._counts(event.key):
                    repeated.append(event.place)
                    continue
                counted.append(event.place)
                self.tally.count(event.order, event.money)
            self.tally.requests += 1
            self.tally.repeated += len(repeated)
            self.tally.refused += bool(received.refused)
            self._keep_newest(replace(received, counted=tuple(counted), repeated=tuple(repeated)))

    def _counts(self, key: str | bool) -> bool:
        if isinstance(key, bool):
            return key
        if key in self._seen:
            return False
        self._seen[key] = None
        if len(self._seen) > self._keep * _EVENTS_PER_REQUEST:
            del self._seen[next(iter(self._seen))]
        return True

    def _keep_newest(self, received: Received) -> None:
        self._requests.append(received)
        self._bytes += len(received.body)
        while len(self._requests) > self._keep or (self._bytes > _KEEP_BYTES and len(self._requests) > 1):
            self._bytes -= len(self._requests.popleft().body)
