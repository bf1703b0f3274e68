"""The rule of retries: what each verdict makes of a delivery, as a table."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kit.delivery.retry import PROBE_EVERY, backoff, gate_after, settle
from kit.destinations.base import Judgement
from kit.model import HORIZON, Consent, Conversion, DeliveryState, Identifiers, Verdict
from kit.store.gates import Probe
from kit.store.outbox import Claimed
from kit.store.rows import conversion_text, identifiers_text
from tests.support import NOON

CLAIMED = Claimed(
    delivery_id=1,
    destination="rokt",
    token="token",
    lease_until=NOON + timedelta(seconds=70),
    event_id="event",
    at=NOON,
    reported_at=NOON,
    said=conversion_text(Conversion(order_id="1")),
    known=identifiers_text(Identifiers()),
    consent=Consent(granted=True, signal="test", at=NOON),
    created_at=NOON,
    attempts=0,
    crashes=0,
    batch_limit=None,
    payload=None,
    attempt=None,
    orphaned=False,
    revision=0,
)


@pytest.mark.parametrize(
    ("verdict", "alone", "smaller", "safe", "state", "reason"),
    [
        (Verdict.OK, True, None, False, "delivered", None),
        (Verdict.NOT_SENT, True, None, False, "pending", None),
        (Verdict.TRANSIENT, True, None, False, "pending", None),
        (Verdict.THROTTLE, True, None, False, "pending", None),
        (Verdict.SETUP, True, None, False, "pending", None),
        (Verdict.INVALID, True, None, False, "dead", "rejected"),
        (Verdict.INVALID, False, 5, False, "pending", None),
        (Verdict.INVALID, False, None, False, "dead", "rejected"),
        (Verdict.OVERSIZE, True, None, False, "dead", "oversize"),
        (Verdict.OVERSIZE, False, 5, False, "pending", None),
        (Verdict.UNKNOWN, True, None, True, "pending", None),
        (Verdict.UNKNOWN, True, None, False, "held", "outcome_unknown"),
    ],
)
def test_each_verdict_has_one_consequence(
    verdict: Verdict, alone: bool, smaller: int | None, safe: bool, state: str, reason: str | None
) -> None:
    """State and reason follow from the verdict, the batch, and whether the vendor tells a repeat."""
    settled = settle(
        CLAIMED,
        Judgement(verdict=verdict),
        alone=alone,
        smaller=smaller,
        repeat_is_safe=safe,
        now=NOON,
        dice=lambda: 1.0,
    )

    assert (settled.state, settled.reason) == (state, reason)


@pytest.mark.parametrize("verdict", [Verdict.NOT_SENT, Verdict.THROTTLE, Verdict.SETUP])
def test_what_the_vendor_never_judged_costs_nothing(verdict: Verdict) -> None:
    """Gates burn no attempt (I12)."""
    judgement = Judgement(verdict=verdict)

    settled = settle(CLAIMED, judgement, alone=True, smaller=None, repeat_is_safe=True, now=NOON, dice=lambda: 1.0)

    assert settled.uncounted


@pytest.mark.parametrize(("attempts", "seconds"), [(0, 2), (1, 4), (5, 64), (11, 3600), (500, 3600)])
def test_the_wait_doubles_from_two_seconds_to_an_hour(attempts: int, seconds: int) -> None:
    """Full jitter: the dice choose between nothing and the whole wait."""
    assert backoff(attempts, dice=lambda: 1.0) == timedelta(seconds=seconds)
    assert backoff(attempts, dice=lambda: 0.0) == timedelta(0)


def test_after_fourteen_days_a_delivery_is_dead() -> None:
    """The horizon ends the retries; the row is kept and says so."""
    old = replace(CLAIMED, created_at=NOON - HORIZON - timedelta(seconds=1))
    judgement = Judgement(verdict=Verdict.TRANSIENT)

    settled = settle(old, judgement, alone=True, smaller=None, repeat_is_safe=True, now=NOON, dice=lambda: 1.0)

    assert (settled.state, settled.reason) == (DeliveryState.DEAD, "expired")


def test_a_vendor_that_asks_for_time_gets_it_and_a_little_more() -> None:
    """Never earlier than asked; jitter goes upward only."""
    judgement = Judgement(verdict=Verdict.THROTTLE, wait=timedelta(seconds=30))

    early = gate_after(judgement, now=NOON, dice=lambda: 0.0)
    late = gate_after(judgement, now=NOON, dice=lambda: 1.0)

    assert early is not None
    assert late is not None
    assert (early.until - NOON, late.until - NOON) == (timedelta(seconds=30), timedelta(seconds=33))


def test_a_wrong_set_up_is_asked_about_every_quarter_of_an_hour() -> None:
    """401 and its kin pause the destination, not the delivery."""
    gate = gate_after(Judgement(verdict=Verdict.SETUP, detail="HTTP 401"), now=NOON, dice=lambda: 0.5)

    assert gate is not None
    assert (gate.state, gate.until, gate.reason) == ("paused", NOON + PROBE_EVERY, "HTTP 401")


@pytest.mark.parametrize(
    ("verdict", "before", "age", "wait"),
    [
        (Verdict.NOT_SENT, None, 0, 5),
        (Verdict.NOT_SENT, "unreachable", 5, 5),
        (Verdict.NOT_SENT, "unreachable", 40, 40),
        (Verdict.NOT_SENT, "failing", 40, 40),
        (Verdict.NOT_SENT, "paused", 36_000, 5),
        (Verdict.NOT_SENT, "unreachable", 86_400, 900),
        (Verdict.TRANSIENT, None, 0, 30),
        (Verdict.UNKNOWN, "failing", 31, 31),
        (Verdict.TRANSIENT, "unreachable", 3_600, 900),
        (Verdict.TRANSIENT, "throttled", 3_600, 30),
    ],
)
def test_an_outage_is_asked_about_less_often_the_longer_it_lasts(
    verdict: Verdict, before: str | None, age: int, wait: int
) -> None:
    """From 5 s where nothing connects, 30 s where requests fail, doubling to a quarter of an hour; by its own age."""
    since = NOON - timedelta(seconds=age)
    probe = Probe(state=before, since=since, until=0) if before else None
    judgement = Judgement(verdict=verdict)

    early = gate_after(judgement, now=NOON, dice=lambda: 0.0, probe=probe, failing=True)
    late = gate_after(judgement, now=NOON, dice=lambda: 1.0, probe=probe, failing=True)

    assert early is not None
    assert late is not None
    assert early.until - NOON == timedelta(seconds=wait)
    assert late.until - NOON == min(timedelta(seconds=wait * 1.5), PROBE_EVERY)


@pytest.mark.parametrize("verdict", [Verdict.TRANSIENT, Verdict.UNKNOWN, Verdict.OK, Verdict.INVALID, Verdict.OVERSIZE])
def test_one_failure_closes_no_gate(verdict: Verdict) -> None:
    """A 500 is the delivery's own; only many are the destination's."""
    assert gate_after(Judgement(verdict=verdict), now=NOON, dice=lambda: 0.5) is None


@pytest.mark.parametrize(
    ("crashes", "safe", "state", "reason"),
    [(3, True, "pending", None), (4, True, "dead", "poison"), (4, False, "held", "outcome_unknown")],
)
def test_the_fifth_crash_is_the_last(crashes: int, safe: bool, state: str, reason: str | None) -> None:
    """dead(poison), unless a person must decide about its money first."""
    settled = settle(
        replace(CLAIMED, crashes=crashes),
        Judgement(verdict=Verdict.UNKNOWN),
        alone=True,
        smaller=None,
        repeat_is_safe=safe,
        now=NOON,
        dice=lambda: 1.0,
        crashed=True,
    )

    assert (settled.state, settled.reason, settled.crashed) == (state, reason, True)
