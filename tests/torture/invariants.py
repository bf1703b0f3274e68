"""The invariants of a delivery (the study's I1 to I15), as far as they show from outside and in the store."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from tests.torture.evidence import Evidence, Row
from tests.torture.notes import Disturbance, Noted

#: A repeat after one of these is justified: the vendor refused, or nobody knows.
_JUSTIFY = {"transient", "unknown", "throttle", "setup", "invalid", "oversize", "open"}
_UNCOUNTED = {"not_sent", "throttle", "setup"}
_ENDED = {"delivered", "dead", "held", "skipped"}

#: What was under way when a gate closed, or when an outcome was being written, may still arrive.
_UNDER_WAY = 1.0
_WRITING = 0.1


@dataclass(frozen=True, slots=True)
class Broken:
    """One broken promise: of which delivery, where it is one's, and how."""

    invariant: str
    words: str
    delivery: int | None = None


Check = Callable[[Evidence], Iterator[tuple[str, int | None]]]


def _lost(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for event_id in found.told.ledger.acked:
        if event_id not in found.stored:
            yield f"{event_id} was acknowledged and is not stored", None
    for row in found.rows.values():
        if row.state not in _ENDED:
            yield f"still {row.state} after the drain", row.id


def _spurious(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for event_id in found.stored - found.issued:
        yield f"{event_id} is stored and was never issued", None
    known = set(found.bodies.values())
    for request in found.told.ledger.requests:
        for (delivery, _), body in zip(request.entries, request.digests, strict=False):
            if body not in known:
                yield f"request {request.number} at {request.vendor} carries what is nobody's body", delivery


def _incomplete(found: Evidence) -> Iterator[tuple[str, int | None]]:
    vendors = Counter((row.event_id, row.destination) for row in found.rows.values())
    for event_id in found.stored:
        if any(vendors[event_id, vendor] != 1 for vendor in ("adroll", "rokt", "rockerbox")):
            yield f"{event_id} has not one delivery for each destination", None
    if len(found.rows) != 3 * len(found.stored):
        yield f"{len(found.rows)} deliveries of {len(found.stored)} events", None


def _accepted_twice(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for event_id, answers in found.told.ledger.acked.items():
        if answers.count(True) > 1:
            yield f"{event_id} was new to {answers.count(True)} callers", None


def _altered(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for delivery, requests in found.requests.items():
        row = found.rows.get(delivery)
        for request in requests:
            body = found.digest_in(request, delivery)
            if row is None or (body is not None and body != found.bodies.get((row.destination, row.event_id))):
                yield f"request {request.number} carries other bytes than this delivery's", delivery


def _stale(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for delivery, requests in found.requests.items():
        numbers = [_number(request, delivery) for request in requests]
        if any(after < before for before, after in pairwise(numbers)):
            yield f"sent as attempts {numbers}", delivery


def _number(request: Noted, delivery: int) -> int:
    return next(attempts for entry, attempts in request.entries if entry == delivery)


def _unjustified(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for delivery, requests in found.requests.items():
        row = found.rows[delivery]
        justified = sum(tried.outcome in _JUSTIFY for tried in row.tried)
        if len(requests) > 1 + justified:
            yield f"{len(requests)} requests, {justified} attempts justify another", delivery


def _unrecorded(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for delivery, requests in found.requests.items():
        sent = sum(tried.outcome != "not_sent" for tried in found.rows[delivery].tried)
        if len(requests) > sent:
            yield f"{len(requests)} requests, {sent} attempts that sent something", delivery


def _held_twice(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for row in found.rows.values():
        if row.destination == "adroll" and row.name == "purchase":
            for first, _ in pairwise(found.requests.get(row.id, ())):
                if first.status is None or first.status < 400:
                    yield f"sent again although nobody knows what became of request {first.number}", row.id


def _after_end(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for row in found.rows.values():
        for request in found.requests.get(row.id, ()):
            if row.settled_at is not None and request.at > row.settled_at + _WRITING:
                yield f"request {request.number} came {request.at - row.settled_at:.3f} s after its end", row.id


def _out_of_order(found: Evidence) -> Iterator[tuple[str, int | None]]:
    orders: dict[tuple[str | None, str], list[Row]] = defaultdict(list)
    for row in found.rows.values():
        if row.order_id is not None:
            orders[row.order_id, row.destination].append(row)
    for rows in orders.values():
        for first, second in pairwise(sorted(rows, key=lambda row: row.event)):
            before, after = found.requests.get(first.id, ()), found.requests.get(second.id, ())
            if before and after and before[-1].number > after[0].number:
                yield f"its {first.name} (delivery {first.id}) was sent after it", second.id


def _early(found: Evidence) -> Iterator[tuple[str, int | None]]:
    """Nothing is opened once the wait that a vendor asked for is written down, until it has passed."""
    for waits in (request for request in found.told.ledger.requests if request.retry_after is not None):
        (delivery, _) = waits.entries[0]
        tried = found.tried_with(waits, delivery)
        if tried is None or tried.outcome != "throttle" or tried.closed_at is None or waits.answered is None:
            continue  # the worker died with the answer, which nobody else can know
        begins, ends = tried.closed_at + _UNDER_WAY, waits.answered + (waits.retry_after or 0)
        if any(_delays(blow, waits, ends) for blow in found.told.blows):
            continue  # it was written down late, and nobody else could know
        for request in found.told.ledger.requests:
            if request.vendor == waits.vendor and begins < request.at < ends - 0.05:
                opened = found.tried_with(request, request.entries[0][0])
                if opened is not None and opened.opened_at > begins:
                    yield f"request {request.number} came {ends - request.at:.2f} s early", request.entries[0][0]


def _delays(blow: Disturbance, waits: Noted, ends: float) -> bool:
    overlaps = blow.at - 2 * _UNDER_WAY <= ends and blow.ended + 2 * _UNDER_WAY >= waits.at
    return overlaps and (blow.role == "store" or blow.pid == waits.pid)


def _burnt(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for row in found.rows.values():
        counted = sum(tried.outcome not in _UNCOUNTED for tried in row.tried)
        if row.attempts != counted:
            yield f"{row.attempts} attempts are counted, {counted} were the vendor's or nobody's", row.id


def _unreasoned(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for row in found.rows.values():
        if row.state in {"dead", "held", "skipped"} and not row.reason:
            yield f"{row.state} without a reason", row.id


def _not_taken(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for row in found.rows.values():
        taken = any(found.took(request, row.id) for request in found.requests.get(row.id, ()))
        if row.state == "delivered" and not taken:
            yield "delivered, and no vendor took it", row.id


def _left_open(found: Evidence) -> Iterator[tuple[str, int | None]]:
    if found.open_attempts:
        yield f"{found.open_attempts} attempts were never closed", None


def _unsound(found: Evidence) -> Iterator[tuple[str, int | None]]:
    if found.integrity != "ok":
        yield f"integrity_check says {found.integrity}", None


def _unforeseen(found: Evidence) -> Iterator[tuple[str, int | None]]:
    lines = [line.partition(" ")[2] for line in found.told.log.splitlines()]
    for line, times in Counter(line for line in lines if line.startswith(("ERROR", "CRITICAL"))).items():
        yield f"logged {times} times: {line}", None


def _unsteady(found: Evidence) -> Iterator[tuple[str, int | None]]:
    for words in found.told.unasked:
        yield words, None
    for code in found.told.exits:
        if code != 0:
            yield f"a worker ended with {code} after SIGTERM", None


def _stuck(found: Evidence) -> Iterator[tuple[str, int | None]]:
    if found.told.drained is None:
        yield "the quiet phase ended with deliveries that wait", None
    if found.told.probed is None:
        yield "a fresh conversion did not reach every vendor in time", None


CHECKS: Mapping[str, Check] = {
    "I1 lost": _lost,
    "I2 a delivery for each destination": _incomplete,
    "I3 unjustified resends": _unjustified,
    "I4 altered": _altered,
    "I5 spurious": _spurious,
    "I6 sent after the end": _after_end,
    "I9 stale sends": _stale,
    "I9 sent without an attempt": _unrecorded,
    "I8 attempts left open": _left_open,
    "I11 out of order": _out_of_order,
    "I12 attempts miscounted": _burnt,
    "I14 without a reason": _unreasoned,
    "I15 stuck": _stuck,
    "accepted twice": _accepted_twice,
    "delivered but not taken": _not_taken,
    "AdRoll: sent after unknown": _held_twice,
    "sent before Retry-After": _early,
    "database unsound": _unsound,
    "unforeseen errors": _unforeseen,
    "ended by themselves": _unsteady,
}


def broken(found: Evidence) -> dict[str, list[Broken]]:
    """Return what is broken of each invariant; every list is empty when all is well."""
    return {name: [Broken(name, words, delivery) for words, delivery in check(found)] for name, check in CHECKS.items()}
