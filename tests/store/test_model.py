"""The outbox against its model: any verbs in any order, any time between them, workers that come back late."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import Connection, create_engine, delete, select, text

from kit import Conversion
from kit.delivery.batch import released
from kit.delivery.lease import LEASE
from kit.delivery.pace import JUDGED
from kit.delivery.retry import LONGEST, LONGEST_THROTTLE, PROBE_EVERY, gate_after, settle
from kit.destinations.base import Judgement
from kit.model import DeliveryState, Identifiers, Verdict
from kit.store import Store
from kit.store.events import Report, report
from kit.store.outbox import (
    Bounds,
    Claim,
    Claimed,
    Closing,
    Opening,
    Renewal,
    Settlement,
    Takeover,
    claim,
    claim_lapsed,
    close,
    open_attempts,
    pull_back,
    renew,
)
from kit.store.overview import Pause, Replay, Resolve, pause, replay, resolve, resume
from kit.store.retention import Pruning, Retention, let_go
from kit.store.rows import identifiers_of, milliseconds
from kit.store.tables import attempts, conflicts, deliveries, earlier_attempts, events, gates
from tests.store.model import COSTS_NOTHING, Delivery, Event, Gate, Model
from tests.support import NOON, STORES

#: KIT_MODEL=50 tries fifty times as much.
EXAMPLES, STEPS = 60 * int(os.environ.get("KIT_MODEL", "1")), 60

ORDERS, OWNERS = ("order-1", "order-2", "order-3"), ("ann", "bob", "cyd")
#: Rokt tells a repeat, AdRoll does not.
DESTINATIONS = {"adroll": False, "rokt": True}
_ENDED = {"delivered", "dead", "held", "skipped"}

_orders, _owners, _destinations = (st.sampled_from(tuple(one)) for one in (ORDERS, OWNERS, DESTINATIONS))
_picks = st.integers(0, 99)
_seldom = st.integers(0, 9).map(lambda number: number == 9)
_durations = st.sampled_from(
    [timedelta(seconds=2), timedelta(seconds=25), LEASE + timedelta(seconds=1), timedelta(minutes=16)]
    + [timedelta(hours=1), timedelta(hours=27)]
)


@dataclass
class Hand:
    """What one worker got by one claim: not begun, and under way by attempt. It may not be its own any more."""

    destination: str
    claimed: list[Claimed]
    taken_over: bool = False
    under_way: dict[int, list[Claimed]] = field(default_factory=dict)


class Outbox(RuleBasedStateMachine):
    """Does the same to the store and to the model, and compares answers and rows after each step."""

    def __init__(self, store: Store) -> None:
        super().__init__()
        self.store = store
        self.now = NOON
        self.model = Model()
        self.hands: list[Hand] = []
        self.rows: dict[int, Any] = {}
        self.outcomes: dict[int, str] = {}
        self.tokens: set[str] = set()
        #: Whether an operator, or what a repeat brought, may have let ended deliveries go again in this step.
        self.let_go_on = False
        store.write_sync(_clear, None)

    # ------------------------------------------------------------ the shop

    @rule(
        order=_orders,
        name=st.sampled_from(["purchase", "refund"]),
        value=st.sampled_from([10, 10, 10, 11]),
        email=st.booleans(),
        refuse=_seldom,
        to=st.sampled_from([("adroll", "rokt"), ("adroll", "rokt"), ("rokt",)]),
    )
    def reports(self, order: str, name: str, value: int, email: bool, refuse: bool, to: tuple[str, ...]) -> None:
        key = f"{name}-{order}"
        said = Report(
            event_id=key,
            conversion=Conversion(name=name, order_id=order, value=value, currency="USD"),
            said=Identifiers(email="jane@example.com" if email else None),
            seen=Identifiers(),
            order_id=order,
            consent=None,
            said_consent=False if refuse else None,
            unknown_is_granted=True,
            destinations=to,
            now=self.now,
        )
        answer = self.store.write_sync(report, said)
        known = self.model.event_of(key)
        if known is None:
            assert (answer.new, answer.conflict) == (True, ())
            self._learn(said, value, email and not refuse, refuse)
        else:
            differs = self.model.reported_again(known, value=value, email=email, refuse=refuse)
            assert (answer.new, answer.conflict) == (False, ("value",) if differs else ())
            self.let_go_on = True

    def _learn(self, said: Report, value: int, knows_email: bool, refused: bool) -> None:
        now = milliseconds(self.now)
        rows = self.store.read_sync(partial(_new, key=said.event_id))
        event = Event(said.event_id, said.order_id or "", value, now, knows_email, refused)
        self.model.events[rows[0].event] = event
        assert [row.destination for row in rows] == list(said.destinations)  # I2
        for row in rows:
            one = Delivery(row.event, row.destination, now)
            if refused:
                one.state, one.reason, one.settled_at, one.curable = "skipped", "consent", now, True
            self.model.deliveries[row.id] = one

    # ------------------------------------------------------------ workers

    @rule(
        destination=_destinations,
        owner=_owners,
        limit=st.integers(1, 4),
        fingerprint=st.sampled_from([None, None, "old", "new"]),
        ungated=_seldom,
    )
    def claims(self, destination: str, owner: str, limit: int, fingerprint: str | None, ungated: bool) -> None:
        asked = Claim(
            destination=destination,
            limit=limit,
            owner=owner,
            lease=LEASE,
            now=self.now,
            ungated=ungated,
            fingerprint=fingerprint,
        )
        expected = self.model.due(asked)
        claimed = self.store.write_sync(claim, asked)
        assert [one.delivery_id for one in claimed] == expected
        self._take(Hand(destination, claimed), owner)

    @rule(
        destination=_destinations, owner=_owners, limit=st.sampled_from([1, 100, 100]), dead=st.sets(_owners, max_size=2)
    )
    def takes_over(self, destination: str, owner: str, limit: int, dead: set[str]) -> None:
        asked = Takeover(
            destination=destination, limit=limit, owner=owner, lease=LEASE, now=self.now, dead=tuple(dead - {owner})
        )
        lapsed = self.model.lapsed(destination, now=self.now, dead=asked.dead)
        claimed = self.store.write_sync(claim_lapsed, asked)
        assert {one.delivery_id for one in claimed} <= lapsed
        assert len(claimed) == min(limit, len(lapsed))
        self._take(Hand(destination, claimed, taken_over=True), owner)

    def _take(self, hand: Hand, owner: str) -> None:
        if not hand.claimed:
            return
        (token,) = {one.token for one in hand.claimed}
        assert token not in self.tokens  # I7
        self.tokens.add(token)
        for one in hand.claimed:
            model = self.model.deliveries[one.delivery_id]
            said = (one.attempts, one.crashes, one.payload, one.attempt, one.orphaned, one.revision, one.batch_limit)
            assert said == (
                model.attempts, model.crashes, model.payload, model.attempt, model.outcome == "open",
                self.model.events[model.event].revision, model.batch_limit,
            )  # fmt: skip
        self.model.leased(hand.claimed, owner)
        self.hands = [*self.hands[-11:], hand]

    def _hand(self, pick: int, fits: Callable[[Hand], object]) -> Hand | None:
        found = [hand for hand in self.hands if fits(hand)]
        return found[pick % len(found)] if found else None

    @precondition(lambda self: self.hands)
    @rule(pick=_picks)
    def renews(self, pick: int) -> None:
        hand = self.hands[pick % len(self.hands)]
        token = next(one.token for one in [*hand.claimed, *(each for all_ in hand.under_way.values() for each in all_)])
        asked = Renewal(token=token, until=self.now + LEASE, now=self.now)
        kept = self.store.write_sync(renew, asked)
        assert kept == self.model.renewed(token, until=asked.until, now=self.now)

    @precondition(lambda self: self.hands)
    @rule(pick=_picks, size=st.integers(1, 3))
    def opens(self, pick: int, size: int) -> None:
        hand = self._hand(pick, lambda one: one.claimed and not one.taken_over)
        if hand is None:
            return
        batch = tuple(hand.claimed[:size])
        bodies = {one.delivery_id: one.payload or secrets.token_bytes(4) for one in batch}
        asked = Opening(destination=hand.destination, deliveries=batch, payloads=bodies, now=self.now)
        may = self.model.may_open(asked)
        attempt = self.store.write_sync(open_attempts, asked)
        assert (attempt is not None) == may
        if attempt is not None:
            for one in batch:
                # I3: what is under way or was taken is not sent again.
                assert self.model.deliveries[one.delivery_id].outcome not in {"open", "ok"}
            self.model.opened(attempt, asked)
            hand.claimed = hand.claimed[size:]
            hand.under_way[attempt] = list(batch)

    @precondition(lambda self: any(hand.under_way for hand in self.hands))
    @rule(
        pick=_picks,
        verdict=st.sampled_from(list(Verdict)),
        first=st.sampled_from([None, None, Verdict.OK]),
        smaller=st.sampled_from([None, 1]),
        wait=st.sampled_from([None, timedelta(hours=2)]),
        failing=_seldom,
        fingerprint=st.sampled_from(["old", "new"]),
    )
    def closes(
        self,
        pick: int,
        verdict: Verdict,
        first: Verdict | None,
        smaller: int | None,
        wait: timedelta | None,
        failing: bool,
        fingerprint: str,
    ) -> None:
        """An answer comes, in time or too late; the first of a batch may fare better than the others."""
        hand = self._hand(pick, lambda one: one.under_way)
        assert hand is not None
        attempt = list(hand.under_way)[pick % len(hand.under_way)]
        batch = hand.under_way.pop(attempt)
        verdicts = [verdict] * len(batch)
        if first is not None and len(batch) > 1:
            verdicts[0] = first
        settlements = [
            self._settlement(one, said, smaller=smaller, wait=wait, alone=len(batch) == 1)
            for one, said in zip(batch, verdicts, strict=True)
        ]
        judgement = Judgement(verdict=verdict, wait=wait)
        gate = gate_after(judgement, now=self.now, dice=lambda: 0.5, probe=batch[0].probe, failing=failing)
        self._close(
            Closing(
                destination=hand.destination,
                attempt=attempt,
                outcome=verdict,
                settlements=tuple(settlements),
                gate=None if gate is None else _met_by(gate, fingerprint),
                judged=gate is None and any(said in JUDGED for said in verdicts),
                probe=batch[0].probe,
                now=self.now,
            )
        )

    def _settlement(self, one: Claimed, verdict: Verdict, *, crashed: bool = False, **how: Any) -> Settlement:
        before = self.model.deliveries.get(one.delivery_id)
        found = settle(
            one,
            Judgement(verdict=verdict, wait=how.pop("wait", None)),
            repeat_is_safe=DESTINATIONS[one.destination],
            now=self.now,
            dice=lambda: 0.5,
            crashed=crashed,
            **{"alone": True, "smaller": None, **how},
        )
        if verdict in COSTS_NOTHING and before is not None and before.lease_token == one.token:
            assert before.attempts - found.uncounted == one.attempts  # I12
        return found

    @precondition(lambda self: any(hand.taken_over for hand in self.hands))
    @rule(pick=_picks)
    def judges_what_was_taken_over(self, pick: int) -> None:
        """As the lane does: an open attempt's outcome is unknown, the others go back."""
        hand = self._hand(pick, lambda one: one.taken_over)
        assert hand is not None
        self.hands.remove(hand)
        by_attempt: dict[int | None, list[Claimed]] = {}
        for one in hand.claimed:
            by_attempt.setdefault(one.attempt if one.orphaned else None, []).append(one)
        for attempt, found in by_attempt.items():
            settlements = [
                released(one) if attempt is None else self._settlement(one, Verdict.UNKNOWN, crashed=True)
                for one in found
            ]
            self._close(self._unsent(hand, attempt, settlements))

    @precondition(lambda self: self.hands)
    @rule(pick=_picks, how=st.sampled_from(["released", "skipped", "curable", "dead"]))
    def ends_unsent(self, pick: int, how: str) -> None:
        hand = self._hand(pick, lambda one: one.claimed and not one.taken_over)
        if hand is None:
            return
        settlements = [_unsent(one, how) for one in hand.claimed]
        probe = hand.claimed[0].probe
        hand.claimed = []
        self._close(self._unsent(hand, None, settlements, probe=probe))

    def _unsent(self, hand: Hand, attempt: int | None, settlements: list[Settlement], **further: Any) -> Closing:
        return Closing(
            destination=hand.destination,
            attempt=attempt,
            outcome=Verdict.UNKNOWN if attempt is not None else Verdict.NOT_SENT,
            settlements=tuple(settlements),
            now=self.now,
            **further,
        )

    def _close(self, asked: Closing) -> None:
        self.store.write_sync(close, asked)
        self.model.closed(asked)
        self.hands = [hand for hand in self.hands if hand.claimed or hand.under_way]

    # ------------------------------------------------------------ time and operators

    @rule(duration=_durations)
    def passes(self, duration: timedelta) -> None:
        self.now += duration

    @rule(destination=_destinations, back=st.sampled_from([timedelta(0), timedelta(0), timedelta(hours=3)]))
    def sweeps(self, destination: str, back: timedelta) -> None:
        self.now -= back
        bounds = {"retry": LONGEST, "lease": LEASE, "gate": PROBE_EVERY, "throttle": LONGEST_THROTTLE}
        self.store.write_sync(pull_back, Bounds(destination=destination, now=self.now, **bounds))
        self.model.pulled_back(destination, self.now)

    @rule(destination=_destinations, seldom=_seldom)
    def pauses(self, destination: str, seldom: bool) -> None:
        if seldom:
            self.store.write_sync(pause, Pause(destination=destination, reason="", now=self.now))
            self.model.paused(destination, self.now)

    @rule(destination=_destinations)
    def resumes(self, destination: str) -> None:
        there = self.store.write_sync(resume, destination)
        assert there == (self.model.gates.pop(destination, None) is not None)

    @rule(order=_orders, destination=_destinations, delivered=st.booleans())
    def resolves(self, order: str, destination: str, delivered: bool) -> None:
        asked = Resolve(order_id=order, destination=destination, delivered=delivered, now=self.now)
        number = self.model.resolved(self.now, order=order, destination=destination, delivered=delivered)
        assert self.store.write_sync(resolve, asked) == number
        self.let_go_on = True

    @rule(
        order=st.none() | _orders,
        destination=st.none() | _destinations,
        state=st.sampled_from([DeliveryState.DEAD, DeliveryState.HELD, DeliveryState.SKIPPED]),
    )
    def replays(self, order: str | None, destination: str | None, state: DeliveryState) -> None:
        asked = Replay(order_id=order, destination=destination, state=state, now=self.now)
        number = self.model.put_back(self.now, state=state, order=order, destination=destination)
        assert replay(self.store, asked) == number
        self.let_go_on = True

    @rule(after=st.sampled_from([8, 31, 401]), seldom=_seldom)
    def prunes(self, after: int, seldom: bool) -> None:
        """Weeks later, with every worker of that time gone: what was kept for long enough goes."""
        if not seldom:
            return
        self.now += timedelta(days=after)
        self.hands.clear()
        while self.store.write_sync(let_go, Pruning(retention=Retention(), now=self.now)):
            pass
        self.model.pruned(self.now)
        self.rows = {id_: row for id_, row in self.rows.items() if id_ in self.model.deliveries}
        self.outcomes = {id_: said for id_, said in self.outcomes.items() if id_ in self.model.attempts}

    # ------------------------------------------------------------ after each step

    @invariant()
    def the_rows_are_the_models(self) -> None:
        found = self.store.read_sync(_all)
        model = self.model
        assert found["events"] == {
            id_: (event.key, event.order, event.revision, event.knows_email, event.refused)
            for id_, event in model.events.items()
        }
        assert found["conflicts"] == {(id_, value) for id_, event in model.events.items() for value in event.conflicts}
        rows = {row.id: row for row in found["deliveries"]}
        assert {id_: Delivery(*[getattr(row, name) for name in Delivery.__slots__]) for id_, row in rows.items()} == (
            model.deliveries
        )
        assert found["attempts"] == model.attempts
        assert found["earlier"] == model.earlier
        assert found["gates"] == model.gates
        self._hold(rows, found["attempts"])
        self.rows, self.outcomes, self.let_go_on = rows, found["attempts"], False

    def _hold(self, rows: dict[int, Any], outcomes: dict[int, str]) -> None:
        """Check what must hold whatever the model says."""
        assert {(row.event, row.destination) for row in rows.values()} == {
            (one.event, one.destination) for one in self.model.deliveries.values()
        }  # I2, I13: nobody vanishes, nobody is there twice
        assert len(rows) == len(self.model.deliveries)
        for id_, row in rows.items():
            before = self.rows.get(id_)
            if before is not None and before.state in _ENDED and row.state != before.state:
                # I6: only a person, or a repeat that brings more, lets go on; and never what was delivered.
                assert self.let_go_on
                assert before.state != "delivered"
            leased = (row.lease_token, row.lease_until, row.owner)
            assert all(leased) if row.state == "claimed" else leased == (None, None, None)  # I7
            assert row.reason or row.state not in {"dead", "held", "skipped"}  # I14
            assert (row.settled_at is not None) == (row.state in _ENDED)
            assert row.attempts >= 0
            if before is not None and before.attempt is not None and row.state != "delivered":
                assert row.payload == before.payload  # I4: the body is frozen with the first attempt
        for id_, outcome in self.outcomes.items():
            assert outcomes.get(id_) == outcome or outcome == "open"  # I8


def _met_by(gate: Any, fingerprint: str) -> Any:
    from dataclasses import replace

    return replace(gate, fingerprint=fingerprint)


def _unsent(one: Claimed, how: str) -> Settlement:
    if how == "released":
        return released(one)
    if how == "dead":
        return Settlement(delivery_id=one.delivery_id, token=one.token, state=DeliveryState.DEAD, reason="unmappable")
    return Settlement(
        delivery_id=one.delivery_id,
        token=one.token,
        state=DeliveryState.SKIPPED,
        reason="no_identifier",
        curable=how == "curable",
        revision=one.revision,
    )


def _clear(connection: Connection, asked: Any) -> list[None]:
    for table in (earlier_attempts, deliveries, attempts, conflicts, events, gates):
        connection.execute(delete(table))
    return [None] * len(asked)


def _new(connection: Connection, *, key: str) -> Any:
    query = select(deliveries).join(events, events.c.id == deliveries.c.event).where(events.c.event_id == key)
    return connection.execute(query.order_by(deliveries.c.id)).all()


def _all(connection: Connection) -> dict[str, Any]:
    run = connection.execute
    earlier = earlier_attempts.c
    return {
        "events": {
            row.id: (
                row.event_id,
                row.order_id,
                row.revision,
                identifiers_of(row.identifiers).email is not None,
                row.granted is False,
            )
            for row in run(select(events))
        },
        "conflicts": {
            (row.event, int(Conversion.model_validate_json(row.conversion).value or 0)) for row in run(select(conflicts))
        },
        "deliveries": run(select(deliveries)).all(),
        "attempts": {row.id: row.outcome for row in run(select(attempts))},
        "earlier": {(row.delivery, row.attempt): row.outcome for row in run(select(earlier_attempts))},
        "gates": {row.destination: Gate(row.state, row.until, row.since, row.fingerprint) for row in run(select(gates))},
    }


@pytest.fixture
def store(both_engines: None, tmp_path: Path) -> Iterator[Store]:
    url = STORES.get(tmp_path, f"sqlite:///{tmp_path}/kit.db")
    made = Store(url, timeout=timedelta(seconds=30))
    if made.url.get_backend_name() == "postgresql":
        engine = create_engine(made.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as admin:
            # Nothing is killed here: what a flush is for is tested elsewhere.
            admin.execute(text(f"ALTER DATABASE {made.url.database} SET synchronous_commit = off"))
        engine.dispose()
    yield made
    made.close()


def test_the_outbox_is_its_model(store: Store) -> None:
    """Whatever is done in whatever order, the store answers and holds what the model does, and the invariants hold."""
    run_state_machine_as_test(
        lambda: Outbox(store),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
