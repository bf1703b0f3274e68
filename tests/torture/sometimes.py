"""What must have happened at least once: a run that met none of some trouble has not shown how it is borne."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from tests.torture.evidence import Evidence, Row
from tests.torture.notes import Noted

#: An answer that came while its worker was frozen is written down, or not, within this time of the thaw.
_LATE = 0.5


def happened(found: Evidence) -> dict[str, int]:
    """Return how often each trouble was met."""
    outcomes = Counter(tried.outcome for row in found.rows.values() for tried in row.tried)
    plays = Counter(request.play for request in found.told.ledger.requests)
    answers = found.told.ledger.acked.values()
    return {
        "justified resend": sum(len(requests) > 1 for requests in found.requests.values()),
        "repeat known to the store": sum(False in each for each in answers),
        "AdRoll: unknown outcome held": sum(
            row.destination == "adroll" and row.reason == "outcome_unknown" for row in found.rows.values()
        ),
        "taken over after a kill": len({row.id for row, request in _crashed(found) if _struck(found, request, "kill")}),
        "lease lapsed in a freeze": len(
            {row.id for row, request in _crashed(found) if _struck(found, request, "freeze")}
        ),
        "late answer fenced": sum(1 for _ in _fenced(found)),
        "partial failure sent again": sum(1 for _ in _refused(found, "delivered")),
        "partial failure dead": sum(1 for _ in _refused(found, "dead")),
        "gate: throttled": outcomes["throttle"],
        "gate: wrong set-up": outcomes["setup"],
        "reset after accept": plays["reset after"],
        "reset before reading": plays["reset before"],
        "dripping answer": plays["drip"],
        "200 with garbage": plays["garbage"],
        "refund behind its purchase": sum(
            row.name == "refund" and bool(found.requests.get(row.id)) for row in found.rows.values()
        ),
        "skipped with a reason": sum(row.state == "skipped" for row in found.rows.values()),
    }


def _crashed(found: Evidence) -> Iterator[tuple[Row, Noted]]:
    for row in found.rows.values():
        if row.crashes:
            for request in found.requests.get(row.id, ()):
                yield row, request


def _struck(found: Evidence, request: Noted, what: str) -> bool:
    """Return whether the request's worker was struck while it was under way, as far as the oracle can tell."""
    ends = (request.answered or request.at + 5) + _LATE
    return any(
        blow.what == what and blow.pid == request.pid and request.at - _LATE <= blow.at <= ends
        for blow in found.told.blows
    )


def _fenced(found: Evidence) -> Iterator[Row]:
    """Yield what a frozen worker woke up to find taken over: its answer changed nothing."""
    for row, request in _crashed(found):
        if not _struck(found, request, "freeze"):
            continue
        tried = found.tried_with(request, row.id)
        if tried is not None and tried.outcome == "unknown" and request.status == 200:
            yield row


def _refused(found: Evidence, state: str) -> Iterator[Row]:
    for request in found.told.ledger.requests:
        for place in request.refused:
            row = found.rows[request.entries[place][0]]
            if row.state == state:
                yield row


def resends(found: Evidence) -> Counter[str]:
    """Return why requests were repeated: the outcome of the attempt before each."""
    reasons: Counter[str] = Counter()
    for delivery, requests in found.requests.items():
        for first, _ in pairwise(requests):
            tried = found.tried_with(first, delivery)
            reasons[tried.outcome if tried else "?"] += 1
    return reasons
