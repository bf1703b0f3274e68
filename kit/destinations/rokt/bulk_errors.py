"""Which batch of a bulk request an error is about: a 202 may hold errors beside what was taken (contracts.md 4.1)."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from kit.destinations.base import Answer, json_object

_PATH = re.compile(r"Path '\[(\d{1,4})\]")
_POSITION = re.compile(r"position (\d{1,9})")

#: A position counts bytes, characters or UTF-16's units: nobody says which.
_COUNTS: tuple[Callable[[bytes], int], ...] = (
    len,
    lambda payload: len(payload.decode()),
    lambda payload: len(payload.decode().encode("utf-16-le")) // 2,
)


@dataclass(frozen=True, slots=True)
class Located:
    """What was said of a batch; `alone` says that it is about no other."""

    message: str
    alone: bool


def messages(answer: Answer) -> list[str]:
    """Return what the errors of an answer say; none where it holds none."""
    errors = (json_object(answer.body) or {}).get("errors") or []
    return [_words(error) for error in (errors if isinstance(errors, list) else [errors])]


def located(payloads: Sequence[bytes], said: Iterable[str]) -> dict[int, Located]:
    """Return what was said of which batch, by its place; what names no batch of ours is said of all."""
    found: dict[int, Located] = {}
    for message in said:
        places = _places(payloads, message) or range(len(payloads))
        for place in places:
            if place not in found or len(places) == 1:
                found[place] = Located(message, alone=len(places) == 1)
    return found


def _words(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    return ": ".join(str(error[key]) for key in ("code", "message") if error.get(key)) or "no reason given"


def _places(payloads: Sequence[bytes], message: str) -> set[int]:
    """Return the batch that a path names (zero-based), else those in which its position (one-based) may lie."""
    if (path := _PATH.search(message)) is not None:
        return {int(path[1])} & set(range(len(payloads)))
    if (position := _POSITION.search(message)) is None:
        return set()
    offset = int(position[1]) - 1
    return {place for count in _COUNTS if (place := _place_at(offset, [count(each) for each in payloads])) is not None}


def _place_at(offset: int, lengths: Sequence[int]) -> int | None:
    """Return the place of the batch that holds this offset of `[first,second]`; None outside of all."""
    starts = list(accumulate((length + 1 for length in lengths), initial=1))
    return bisect_right(starts, offset) - 1 if 0 < offset < starts[-1] else None
