"""When to try again, and what an answer makes of a delivery. Pure: the time and the dice come in as arguments."""

from collections.abc import Callable
from datetime import datetime, timedelta

from kit.destinations.base import Judgement
from kit.model import DeliveryState, Verdict
from kit.store.outbox import Claimed, Gate, Settlement

#: How long a delivery is tried before it is given up (faults.md 2.1).
HORIZON = timedelta(days=14)
#: How often a destination with a wrong set-up is asked whether it is mended.
PROBE_EVERY = timedelta(minutes=15)

_FIRST = timedelta(seconds=2)
_LONGEST = timedelta(hours=1)
_UNREACHABLE = timedelta(seconds=5)

#: Returns a number from 0 to 1.
Dice = Callable[[], float]

#: These cost a delivery nothing: the vendor never judged it.
_UNCOUNTED = {Verdict.NOT_SENT, Verdict.THROTTLE, Verdict.SETUP}


def backoff(attempts: int, *, dice: Dice) -> timedelta:
    """Return how long to wait after so many attempts: full jitter over 2 s doubled each time, at most an hour."""
    longest: timedelta = min(_FIRST * 2 ** min(attempts, 20), _LONGEST)
    return longest * dice()


def expired(claimed: Claimed, *, now: datetime) -> bool:
    return now - claimed.created_at > HORIZON


def settle(
    claimed: Claimed,
    judgement: Judgement,
    *,
    alone: bool,
    smaller: int | None,
    repeat_is_safe: bool,
    now: datetime,
    dice: Dice,
) -> Settlement:
    """Return where the delivery goes. `alone`: the request carried only it; `smaller`: the size of the next batch."""
    state, reason, due = DeliveryState.PENDING, None, now
    match judgement.verdict:
        case Verdict.OK:
            state = DeliveryState.DELIVERED
        case Verdict.INVALID | Verdict.OVERSIZE:
            if alone or smaller is None:
                state = DeliveryState.DEAD
                reason = "rejected" if judgement.verdict is Verdict.INVALID else "oversize"
        case Verdict.UNKNOWN if not repeat_is_safe:
            state, reason = DeliveryState.HELD, "outcome_unknown"
        case Verdict.UNKNOWN | Verdict.TRANSIENT:
            due = now + backoff(claimed.attempts, dice=dice)
        case Verdict.THROTTLE | Verdict.SETUP | Verdict.NOT_SENT:
            pass  # the gate holds it
    if state is DeliveryState.PENDING and expired(claimed, now=now):
        state, reason = DeliveryState.DEAD, "expired"
    return Settlement(
        delivery_id=claimed.delivery_id,
        token=claimed.token,
        state=state,
        reason=reason,
        detail=judgement.detail or None,
        due_at=due if state is DeliveryState.PENDING else None,
        outcome=judgement.verdict,
        batch_limit=smaller if judgement.verdict in {Verdict.INVALID, Verdict.OVERSIZE} else None,
        uncounted=judgement.verdict in _UNCOUNTED,
    )


def gate_after(judgement: Judgement, *, now: datetime, dice: Dice) -> Gate | None:
    """Return what holds the whole destination back after this answer, if anything does."""
    match judgement.verdict:
        case Verdict.THROTTLE:
            wait = max(judgement.wait or timedelta(0), _FIRST) * (1 + 0.1 * dice())
            return Gate(state="throttled", until=now + wait, reason=judgement.detail)
        case Verdict.SETUP:
            return Gate(state="paused", until=now + PROBE_EVERY, reason=judgement.detail)
        case Verdict.NOT_SENT:
            return Gate(state="unreachable", until=now + _UNREACHABLE * (1 + dice()), reason=judgement.detail)
        case _:
            return None
