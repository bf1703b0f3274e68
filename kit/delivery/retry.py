"""When to try again, and what an answer makes of a delivery. Pure: the time and the dice come in as arguments."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from kit.destinations.base import LONGEST_WAIT, Judgement, masked
from kit.model import HORIZON, DeliveryState, Verdict
from kit.store.attempts import Settlement
from kit.store.gates import Gate, Probe
from kit.store.outbox import SUSPECT as SUSPECT
from kit.store.outbox import Claimed

#: How often a destination with a wrong set-up is asked whether it is mended.
PROBE_EVERY = timedelta(minutes=15)
#: The longest wait for a retry, and the longest that a vendor's own word makes a destination wait.
LONGEST = timedelta(hours=1)
LONGEST_THROTTLE = LONGEST_WAIT * 1.1
#: After so many crashes over it a delivery is given up; from SUSPECT on it goes alone.
POISON = 5

_FIRST = timedelta(seconds=2)
_UNREACHABLE = timedelta(seconds=5)
_FAILING = timedelta(seconds=30)

#: Returns a number from 0 to 1.
Dice = Callable[[], float]

#: These cost a delivery nothing: the vendor never judged it.
_UNCOUNTED = {Verdict.NOT_SENT, Verdict.THROTTLE, Verdict.SETUP}
#: The vendor answered, and did not take it: its idempotency key may be used up.
_REFUSED = {Verdict.TRANSIENT, Verdict.OVERSIZE, Verdict.INVALID}
#: The same, but for a try before that had no answer: this says nothing of what became of that one.
_TURNED_AWAY = {Verdict.THROTTLE, Verdict.SETUP}


def backoff(attempts: int, *, dice: Dice, longest: timedelta = LONGEST) -> timedelta:
    """Return how long to wait after so many attempts: full jitter over 2 s doubled each time, up to `longest`."""
    most: timedelta = min(_FIRST * 2 ** min(attempts, 20), longest)
    return most * dice()


def expired(claimed: Claimed, *, now: datetime, horizon: timedelta = HORIZON) -> bool:
    return now - claimed.created_at > horizon


def settle(
    claimed: Claimed,
    judgement: Judgement,
    *,
    alone: bool,
    smaller: int | None,
    repeat_is_safe: bool,
    now: datetime,
    dice: Dice,
    horizon: timedelta = HORIZON,
    longest: timedelta = LONGEST,
    crashed: bool = False,
    remarks: Sequence[str] = (),
) -> Settlement:
    """Return where the delivery goes.

    `alone`: the request carried only it; `smaller`: the size of the next batch; `crashed`: the worker died over it;
    `remarks`: what is kept with it once it is delivered.
    """
    state, reason, due, detail = DeliveryState.PENDING, None, now, judgement.detail
    if judgement.again_alone and not alone:
        smaller = 1
    match judgement.verdict:
        case Verdict.OK if judgement.follow is not None:
            due = now + (judgement.wait or longest)
        case Verdict.OK:
            state, detail = DeliveryState.DELIVERED, with_remarks(detail, remarks)
        case Verdict.INVALID | Verdict.OVERSIZE:
            if alone or smaller is None:
                state = DeliveryState.DEAD
                reason = "rejected" if judgement.verdict is Verdict.INVALID else "oversize"
        case Verdict.UNKNOWN if judgement.hold or not repeat_is_safe:
            state, reason = DeliveryState.HELD, "outcome_unknown"
        case Verdict.UNKNOWN if crashed and claimed.crashes + 1 >= POISON:
            state, reason = DeliveryState.DEAD, "poison"
        case Verdict.UNKNOWN | Verdict.TRANSIENT:
            due = now + backoff(claimed.attempts, dice=dice, longest=longest)
        case Verdict.THROTTLE | Verdict.SETUP | Verdict.NOT_SENT:
            pass  # the gate holds it
    refused = judgement.verdict in _REFUSED or (judgement.verdict in _TURNED_AWAY and not claimed.in_doubt)
    if state is DeliveryState.PENDING and expired(claimed, now=now, horizon=horizon):
        state, reason = DeliveryState.DEAD, "expired"
    return Settlement(
        delivery_id=claimed.delivery_id,
        token=claimed.token,
        state=state,
        reason=reason,
        detail=detail or None,
        due_at=due if state is DeliveryState.PENDING else None,
        outcome=judgement.verdict,
        payload=judgement.follow,
        batch_limit=smaller if judgement.verdict in {Verdict.INVALID, Verdict.OVERSIZE} else None,
        uncounted=judgement.verdict in _UNCOUNTED or judgement.follow is not None,
        refused=refused,
        in_doubt=True if judgement.verdict is Verdict.UNKNOWN else False if refused else None,
        crashed=crashed,
    )


def with_remarks(detail: str, remarks: Sequence[str]) -> str:
    """Return the detail and what the destination remarked, masked: a destination may be the shop's own code."""
    return masked("; ".join(filter(None, [detail, *remarks]))) if remarks else detail


def gate_after(
    judgement: Judgement, *, now: datetime, dice: Dice, probe: Probe | None = None, failing: bool = False
) -> Gate | None:
    """Return what holds the whole destination back after this answer, if anything does.

    `failing`: too many requests of late failed, or the probe did. An outage is asked about less often the longer it
    lasts: first after seconds, at last every quarter of an hour.
    """
    match judgement.verdict:
        case Verdict.THROTTLE:
            state = "throttled"
        case Verdict.SETUP:
            state = "paused"
        case Verdict.NOT_SENT:
            state = "unreachable"
        case Verdict.TRANSIENT | Verdict.UNKNOWN if failing:
            state = "failing"
        case _:
            return None
    since = probe.since if probe is not None and _KIND.get(probe.state) == _KIND[state] else now
    match state:
        case "throttled":
            wait = max(judgement.wait or timedelta(0), _FIRST) * (1 + 0.1 * dice())
        case "paused":
            wait = PROBE_EVERY
        case _:
            least = _UNREACHABLE if state == "unreachable" else _FAILING
            wait = min(max(now - since, least) * (1 + dice() / 2), PROBE_EVERY)
    return Gate(state=state, until=now + wait, reason=judgement.detail, since=since)


#: A gate's age goes on while it stays of one kind: a vendor that is down refuses connections now and answers 500 then.
_KIND = {"throttled": "throttled", "paused": "paused", "unreachable": "outage", "failing": "outage"}
