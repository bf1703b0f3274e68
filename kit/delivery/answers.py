"""In which shapes a vendor answered since this was last written down."""

from datetime import datetime

from kit.destinations.base import Answer, Destination
from kit.destinations.shape import Shape, shape_of
from kit.store.answers import Seen

#: A vendor that says something new each time is no less strange for being counted further.
_MOST_SHAPES = 50


class Answers:
    """Counts one destination's answers by status and shape, until they are taken to be kept."""

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._seen: dict[tuple[int, Shape, bool], tuple[int, datetime, datetime]] = {}

    def saw(self, answer: Answer, *, now: datetime) -> None:
        """Count one complete answer."""
        key = (answer.status, shape_of(answer), self._is_known(answer))
        if key not in self._seen and len(self._seen) >= _MOST_SHAPES:
            return
        times, first, _ = self._seen.get(key, (0, now, now))
        self._seen[key] = (times + 1, first, now)

    def taken(self) -> list[Seen]:
        """Return what was counted, and begin anew."""
        seen, self._seen = self._seen, {}
        return [
            Seen(
                destination=self._destination.name,
                status=status,
                shape=shape.digest,
                sketch=shape.sketch,
                known=known,
                seen=times,
                first_at=first,
                last_at=last,
            )
            for (status, shape, known), (times, first, last) in seen.items()
        ]

    def _is_known(self, answer: Answer) -> bool:
        try:
            return self._destination.is_known(answer)
        except Exception:  # noqa: BLE001 - a destination may be the shop's own code
            return False
