"""The outbox against its model: any verbs in any order, any time between them, workers that come back late."""

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection, create_engine, delete, select, text

from kit import Conversion
from kit.delivery.batch import outlived, released
from kit.delivery.lease import LEASE
from kit.delivery.pace import JUDGED
from kit.delivery.retry import LONGEST, LONGEST_THROTTLE, PROBE_EVERY, gate_after, settle
from kit.destinations.base import Judgement
from kit.model import DeliveryState, Identifiers, Verdict
from kit.store import Store
from kit.store.attempts import Closing, Opening, Settlement, close, open_attempts
from kit.store.events import Report, report
from kit.store.outbox import (
    Bounds,
    Claim,
    Claimed,
    Renewal,
    Takeover,
    absolve,
    claim,
    claim_lapsed,
    pull_back,
    renew,
)
from kit.store.overview import Pause, Replay, Resolve, pause, replay, resolve, resume
from kit.store.retention import Pruning, Retention, let_go
from kit.store.rows import identifiers_of, milliseconds
from kit.store.tables import attempts, conflicts, deliveries, earlier_attempts, events, gates
from tests.store.model import COSTS_NOTHING, Delivery, Event, Gate, Model
from tests.support import NOON, STORES

#: KIT_MODEL=50 tries fifty times as many runs.
EXAMPLES, STEPS = 60 * int(os.environ.get("KIT_MODEL", "1")), 80

ORDERS, OWNERS = ("order-1", "order-2", "order-3"), ("ann", "bob", "cyd")
#: Rokt tells a repeat, AdRoll does not.
DESTINATIONS = {"adroll": False, "rokt": True}
_ENDED = {"delivered", "dead", "held", "skipped"}

_orders, _owners, _destinations = (st.sampled_from(tuple(one)) for one in (ORDERS, OWNERS, DESTINATIONS))
_picks = st.integers(0, 99)
_seldom = st.integers(0, 9).map(lambda number: number == 9)
_durations = st.sampled_from(
    [timedelta(seconds=seconds) for seconds in (2, 25, LEASE.total_seconds() + 1, 16 * 60, 3600, 27 * 3600)]
)


@dataclass
class Hand:
    """What one worker got by one claim: not begun, and under way by attempt. It may not be its own any more."""

    destination: str
    claimed: list[Claimed]
    taken_over: bool = False
    under_way: dict[int, list[Claimed]] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One thing that may happen: how often, when, with what."""

    name: str
    weight: int
    when: Callable[["Outbox"], object]
    arguments: st.SearchStrategy[dict[str, Any]]


_Method = TypeVar("_Method", bound=Callable[..., None])
_STEPS: list[Step] = []


def step(
    weight: int, *, when: Callable[["Outbox"], object] = lambda _: True, **arguments: st.SearchStrategy[Any]
) -> Callable[[_Method], _Method]:
    def kept(method: _Method) -> _Method:
        _STEPS.append(Step(method.__name__, weight, when, st.fixed_dictionaries(arguments)))
        return method

    return kept


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
        for order in ORDERS[:2]:
            self.reports(order, "purchase", 10, email=False, refuse=False, to=tuple(DESTINATIONS))

    @rule(data=st.data())
    def something_happens(self, data: st.DataObject) -> None:
        """One rule for all: hypothesis leaves whole rules out of a run, and a delivery needs most of them to end."""
        possible = [one.name for one in _STEPS for _ in range(one.weight) if one.when(self)]
        name = data.draw(st.sampled_from(possible))
        chosen = next(one for one in _STEPS if one.name == name)
        getattr(self, name)(**data.draw(chosen.arguments))

    def some(self, *states: str) -> bool:
        return any(one.state in states for one in self.model.deliveries.values())

    # ------------------------------------------------------------ the shop

    @step(
        6,
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

    @step(
        9,
        when=lambda self: self.some("pending"),
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

    @step(
        4,
        when=lambda self: self.some("claimed"),
        destination=_destinations,
        owner=_owners,
        limit=st.sampled_from([1, 100, 100]),
        dead=st.sampled_from([set(), set(), set(), {"ann"}, {"ann", "bob"}]),
    )
    def takes_over(self, destination: str, owner: str, limit: int, dead: set[str]) -> None:
        asked = Takeover(
            destination=destination, limit=limit, owner=owner, lease=LEASE, now=self.now, dead=tuple(dead - {owner})
        )
        lapsed = self.model.lapsed(destination, now=self.now, dead=asked.dead)
        claimed = self.store.write_sync(claim_lapsed, asked)
        assert {one.delivery_id for one in claimed} <= lapsed
        assert len(claimed) == min(limit, len(lapsed))
        for one in claimed:
            assert one.abandoned == (self.model.deliveries[one.delivery_id].owner in asked.dead)
        self._take(Hand(destination, claimed, taken_over=True), owner)

    def _take(self, hand: Hand, owner: str) -> None:
        if not hand.claimed:
            return
        (token,) = {one.token for one in hand.claimed}
        assert token not in self.tokens  # I7
        self.tokens.add(token)
        for one in hand.claimed:
            model = self.model.deliveries[one.delivery_id]
            said = (
                one.attempts, one.crashes, one.lost, one.refused, one.in_doubt, one.payload, one.attempt, one.orphaned,
                one.revision, one.batch_limit,
            )  # fmt: skip
            assert said == (
                model.attempts, model.crashes, model.lost, model.refused, model.in_doubt, model.payload, model.attempt,
                model.outcome == "open", self.model.events[model.event].revision, model.batch_limit,
            )  # fmt: skip
        self.model.leased(hand.claimed, owner)
        self.hands = [*self.hands[-11:], hand]

    def _hand(self, pick: int, fits: Callable[[Hand], object]) -> Hand | None:
        found = [hand for hand in self.hands if fits(hand)]
        return found[pick % len(found)] if found else None

    @step(1, when=lambda self: self.hands, pick=_picks)
    def renews(self, pick: int) -> None:
        hand = self.hands[pick % len(self.hands)]
        token = next(one.token for one in [*hand.claimed, *(each for all_ in hand.under_way.values() for each in all_)])
        asked = Renewal(token=token, until=self.now + LEASE, now=self.now)
        kept = self.store.write_sync(renew, asked)
        assert kept == self.model.renewed(token, until=asked.until, now=self.now)

    @step(
        10,
        when=lambda self: any(hand.claimed and not hand.taken_over for hand in self.hands),
        pick=_picks,
        size=st.integers(1, 2),
        side_by_side=st.integers(1, 3),
    )
    def opens(self, pick: int, size: int, side_by_side: int) -> None:
        """Some workers at once, in one transaction."""
        found = [hand for hand in self.hands if hand.claimed and not hand.taken_over]
        hands = [found[(pick + place) % len(found)] for place in range(min(side_by_side, len(found)))]
        asked = [self._opening(hand, size) for hand in hands]
        may = [self.model.may_open(one) for one in asked]
        opened = self.store.write_sync(_together, (open_attempts, asked))
        assert [attempt is not None for attempt in opened] == may
        for hand, one, attempt in zip(hands, asked, opened, strict=True):
            if attempt is not None:
                for each in one.deliveries:
                    # I3: what is under way or was taken is not sent again.
                    assert self.model.deliveries[each.delivery_id].outcome not in {"open", "ok"}
                self.model.opened(attempt, one)
                hand.claimed = hand.claimed[size:]
                hand.under_way[attempt] = list(one.deliveries)

    def _opening(self, hand: Hand, size: int) -> Opening:
        batch = tuple(hand.claimed[:size])
        bodies = {one.delivery_id: one.payload or secrets.token_bytes(4) for one in batch}
        return Opening(destination=hand.destination, deliveries=batch, payloads=bodies, now=self.now)

    @step(
        5,
        when=lambda self: any(hand.under_way for hand in self.hands),
        pick=_picks,
        together=st.booleans(),
        verdict=st.sampled_from([*[Verdict.OK] * 5, Verdict.UNKNOWN, Verdict.THROTTLE, *Verdict]),
        first=st.sampled_from([None, None, Verdict.OK]),
        smaller=st.sampled_from([None, 1]),
        wait=st.sampled_from([timedelta(hours=2), timedelta(hours=2), None]),
        failing=_seldom,
        fingerprint=st.sampled_from(["old", "new"]),
    )
    def closes(
        self,
        pick: int,
        together: bool,
        verdict: Verdict,
        first: Verdict | None,
        smaller: int | None,
        wait: timedelta | None,
        failing: bool,
        fingerprint: str,
    ) -> None:
        """An answer comes, in time or too late; the first of a batch may fare better than the others.

        `together`: whatever else is under way fares alike, and all of it is written down in one transaction.
        """
        closings = []
        while hand := self._hand(pick, lambda one: one.under_way):
            attempt = list(hand.under_way)[pick % len(hand.under_way)]
            batch = hand.under_way.pop(attempt)
            closings.append(self._closing(hand.destination, attempt, batch, verdict, first, smaller, wait, failing))
            if not together:
                break
            wait = None  # What one answer asked for, the others beside it do not know.
        named = [
            one if one.gate is None else replace(one, gate=replace(one.gate, fingerprint=fingerprint))
            for one in closings
        ]
        self._close(*named)

    def _closing(
        self,
        destination: str,
        attempt: int,
        batch: list[Claimed],
        verdict: Verdict,
        first: Verdict | None,
        smaller: int | None,
        wait: timedelta | None,
        failing: bool,
    ) -> Closing:
        verdicts = [verdict] * len(batch)
        if first is not None and len(batch) > 1:
            verdicts[0] = first
        settlements = [
            self._settlement(one, said, smaller=smaller, wait=wait, alone=len(batch) == 1)
            for one, said in zip(batch, verdicts, strict=True)
        ]
        judgement = Judgement(verdict=verdict, wait=wait)
        gate = gate_after(judgement, now=self.now, dice=lambda: 0.5, probe=batch[0].probe, failing=failing)
        return Closing(
            destination=destination,
            attempt=attempt,
            outcome=verdict,
            settlements=tuple(settlements),
            gate=gate,
            judged=gate is None and any(said in JUDGED for said in verdicts),
            probe=batch[0].probe,
            now=self.now,
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

    @step(3, when=lambda self: any(hand.taken_over for hand in self.hands), pick=_picks)
    def judges_what_was_taken_over(self, pick: int) -> None:
        """As the lane does: an open attempt's outcome is unknown, the others go back."""
        hand = self._hand(pick, lambda one: one.taken_over)
        assert hand is not None
        self.hands.remove(hand)
        by_attempt: dict[int | None, list[Claimed]] = {}
        closings = []
        for one in hand.claimed:
            by_attempt.setdefault(one.attempt if one.orphaned else None, []).append(one)
        for attempt, found in by_attempt.items():
            settlements = [
                outlived(one) if attempt is None else self._settlement(one, Verdict.UNKNOWN, crashed=True)
                for one in found
            ]
            closings.append(self._unsent(hand, attempt, settlements))
        self._close(*closings)

    @step(1, when=lambda self: any(hand.claimed for hand in self.hands), pick=_picks)
    def absolves(self, pick: int) -> None:
        hand = self._hand(pick, lambda one: one.claimed)
        assert hand is not None
        ids = [one.delivery_id for one in hand.claimed]
        self.store.write_sync(absolve, ids)
        for id_ in ids:
            if id_ in self.model.deliveries:
                self.model.deliveries[id_].lost = 0

    @step(
        1,
        when=lambda self: any(hand.claimed and not hand.taken_over for hand in self.hands),
        pick=_picks,
        how=st.sampled_from(["released", "skipped", "curable", "dead"]),
    )
    def ends_unsent(self, pick: int, how: str) -> None:
        hand = self._hand(pick, lambda one: one.claimed and not one.taken_over)
        assert hand is not None
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

    def _close(self, *asked: Closing) -> None:
        self.store.write_sync(_together, (close, asked))
        for one in asked:
            self.model.closed(one)
        self.hands = [hand for hand in self.hands if hand.claimed or hand.under_way]

    # ------------------------------------------------------------ time and operators

    @step(6, duration=_durations)
    def passes(self, duration: timedelta) -> None:
        self.now += duration

    @step(2, destination=_destinations, back=st.sampled_from([timedelta(0), timedelta(0), timedelta(hours=3)]))
    def sweeps(self, destination: str, back: timedelta) -> None:
        self.now -= back
        bounds = {"retry": LONGEST, "lease": LEASE, "gate": PROBE_EVERY, "throttle": LONGEST_THROTTLE}
        self.store.write_sync(pull_back, Bounds(destination=destination, clock=lambda: self.now, **bounds))
        self.model.pulled_back(destination, self.now)

    @step(1, destination=_destinations)
    def pauses(self, destination: str) -> None:
        self.store.write_sync(pause, Pause(destination=destination, reason="", now=self.now))
        self.model.paused(destination, self.now)

    @step(3, when=lambda self: self.model.gates, destination=_destinations)
    def resumes(self, destination: str) -> None:
        there = self.store.write_sync(resume, destination)
        assert there == (self.model.gates.pop(destination, None) is not None)

    @step(1, when=lambda self: self.some("held"), order=_orders, destination=_destinations, delivered=st.booleans())
    def resolves(self, order: str, destination: str, delivered: bool) -> None:
        asked = Resolve(order_id=order, destination=destination, delivered=delivered, now=self.now)
        number = self.model.resolved(self.now, order=order, destination=destination, delivered=delivered)
        assert self.store.write_sync(resolve, asked) == number
        self.let_go_on = True

    @step(
        1,
        when=lambda self: self.some("dead", "held", "skipped"),
        order=st.none() | _orders,
        destination=st.none() | _destinations,
        state=st.sampled_from([DeliveryState.DEAD, DeliveryState.HELD, DeliveryState.SKIPPED]),
    )
    def replays(self, order: str | None, destination: str | None, state: DeliveryState) -> None:
        asked = Replay(order_id=order, destination=destination, state=state, now=self.now)
        number = self.model.put_back(self.now, state=state, order=order, destination=destination)
        assert replay(self.store, asked) == number
        self.let_go_on = True

    @step(1, after=st.sampled_from([8, 31, 401]), seldom=_seldom)
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


def _together(connection: Connection, asked: Any) -> list[Any]:
    """Run one verb for all that came at once, as the writer does."""
    ((verb, arguments),) = asked
    return [verb(connection, arguments)]


def _clear(connection: Connection, asked: Any) -> list[None]:
    for table in (earlier_attempts, deliveries, attempts, conflicts, events, gates):
        connection.execute(delete(table))
    return [None] * len(asked)


def _new(connection: Connection, *, key: str) -> Any:
    query = select(deliveries).join(events, events.c.id == deliveries.c.event).where(events.c.event_id == key)
    return connection.execute(query.order_by(deliveries.c.id)).all()


def _all(connection: Connection) -> dict[str, Any]:
    run = connection.execute
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
            (row.event, int(Conversion.model_validate_json(row.conversion).value or 0))
            for row in run(select(conflicts))
        },
        "deliveries": run(select(deliveries)).all(),
        "attempts": {row.id: row.outcome for row in run(select(attempts))},
        "earlier": {(row.delivery, row.attempt): row.outcome for row in run(select(earlier_attempts))},
        "gates": {
            row.destination: Gate(row.state, row.until, row.since, row.fingerprint) for row in run(select(gates))
        },
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
        lambda: Outbox(store),  # type: ignore[arg-type] # it is called, and a class is not asked for
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
