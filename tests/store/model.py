"""What the outbox's verbs must do, in dicts: a model without SQL, for the model test to hold the store against."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from kit.delivery.lease import LEASE
from kit.delivery.retry import LONGEST, LONGEST_THROTTLE, PROBE_EVERY, SUSPECT
from kit.model import Verdict
from kit.store.attempts import Closing, Opening, Settlement
from kit.store.outbox import SLACK, Claim, Claimed
from kit.store.rows import milliseconds

FOR_EVER = 253_402_300_799_000
RETENTION = {"body": timedelta(days=7), "delivery": timedelta(days=30), "event": timedelta(days=400)}


@dataclass(slots=True)
class Event:
    key: str
    order: str
    value: int
    reported_at: int
    knows_email: bool
    refused: bool
    revision: int = 0
    conflicts: set[int] = field(default_factory=set)


@dataclass(slots=True)
class Delivery:
    event: int
    destination: str
    due_at: int
    state: str = "pending"
    reason: str | None = None
    curable: bool = False
    settled_at: int | None = None
    attempts: int = 0
    crashes: int = 0
    lost: int = 0
    refused: int = 0
    in_doubt: bool = False
    batch_limit: int | None = None
    payload: bytes | None = None
    attempt: int | None = None
    outcome: str | None = None
    lease_token: str | None = None
    lease_until: int | None = None
    owner: str | None = None

    def is_free(self) -> None:
        self.lease_token = self.lease_until = self.owner = None


@dataclass(slots=True)
class Gate:
    state: str
    until: int
    since: int
    fingerprint: str | None = None


class Model:
    """Holds what the store must hold, by primary key, after the same verbs."""

    def __init__(self) -> None:
        self.events: dict[int, Event] = {}
        self.deliveries: dict[int, Delivery] = {}
        self.attempts: dict[int, str] = {}
        self.earlier: dict[tuple[int, int], str] = {}
        self.gates: dict[str, Gate] = {}

    def event_of(self, key: str) -> int | None:
        return next((id_ for id_, event in self.events.items() if event.key == key), None)

    def of_event(self, event: int) -> list[Delivery]:
        return [one for one in self.deliveries.values() if one.event == event]

    # ------------------------------------------------------------ report

    def reported_again(self, id_: int, *, value: int, email: bool, refuse: bool) -> bool:
        """Take a repeat; returns whether it differs."""
        event, all_ = self.events[id_], self.of_event(id_)
        event.refused = event.refused or (refuse and bool(all_))
        allowed = not event.refused and not refuse and bool(all_)
        differs = value != event.value
        if differs:
            event.conflicts.add(value)
        elif allowed and email and not event.knows_email:
            event.knows_email = True
            event.revision += 1
            for one in all_:
                if one.state == "skipped" and one.curable and one.attempts == 0:
                    one.state, one.reason, one.settled_at, one.curable = "pending", None, None, False
        if not allowed and all_:
            event.revision += 1
            if all(one.attempt is None for one in all_):
                event.knows_email = False
        return differs

    # ------------------------------------------------------------ claim

    def due(self, asked: Claim) -> list[int]:
        """Return what this claim must get, and pass the gate."""
        now = milliseconds(asked.now)
        gate = None if asked.ungated else self.gates.get(asked.destination)
        if gate is not None and gate.until > now and not _mended(gate, asked.fingerprint):
            return []
        found = [
            (one.due_at, id_)
            for id_, one in self.deliveries.items()
            if one.destination == asked.destination
            and one.state == "pending"
            and one.due_at <= now
            and not self.waits(one)
        ]
        ids = [id_ for _, id_ in sorted(found)][: asked.limit if gate is None else 1]
        suspect = next((place for place, id_ in enumerate(ids) if self.deliveries[id_].lost >= SUSPECT), len(ids))
        ids = ids[: suspect or 1]
        if ids and gate is not None:
            gate.until = now + LEASE // timedelta(milliseconds=1)
            gate.fingerprint = asked.fingerprint or gate.fingerprint
        return ids

    def waits(self, one: Delivery) -> bool:
        """I11: something earlier of the same order is not through with this destination."""
        order = self.events[one.event].order
        return any(
            other.destination == one.destination
            and other.event < one.event
            and self.events[other.event].order == order
            and other.state in {"pending", "claimed"}
            for other in self.deliveries.values()
        )

    def lapsed(self, destination: str, *, now: datetime, dead: Collection[str]) -> set[int]:
        return {
            id_
            for id_, one in self.deliveries.items()
            if one.destination == destination
            and one.state == "claimed"
            and ((one.lease_until or 0) < milliseconds(now) or one.owner in dead)
        }

    def leased(self, claimed: Sequence[Claimed], owner: str) -> None:
        for each in claimed:
            one = self.deliveries[each.delivery_id]
            one.state, one.owner = "claimed", owner
            one.lease_token, one.lease_until = each.token, milliseconds(each.lease_until)

    def renewed(self, token: str, *, until: datetime, now: datetime) -> set[int]:
        found = set()
        for id_, one in self.deliveries.items():
            if one.lease_token == token and (one.lease_until or 0) > milliseconds(now):
                one.lease_until = milliseconds(until)
                found.add(id_)
        return found

    # ------------------------------------------------------------ attempts

    def may_open(self, asked: Opening) -> bool:
        now, gate, probe = milliseconds(asked.now), self.gates.get(asked.destination), asked.deliveries[0].probe
        if gate is not None and gate.until > now and (probe is None or probe.until != gate.until):
            return False
        return all(self._is_held(each, now) for each in asked.deliveries)

    def _is_held(self, each: Claimed, now: int) -> bool:
        one = self.deliveries.get(each.delivery_id)
        if one is None or one.lease_token != each.token or (one.lease_until or 0) <= now:
            return False
        return self.events[one.event].revision == each.revision

    def opened(self, attempt: int, asked: Opening) -> None:
        self.attempts[attempt] = "open"
        for each in asked.deliveries:
            one = self.deliveries[each.delivery_id]
            if one.attempt is None:
                one.payload = asked.payloads[each.delivery_id]
            else:
                self.earlier.setdefault((each.delivery_id, one.attempt), one.outcome or "open")
            one.attempt, one.outcome = attempt, "open"
            one.attempts += 1

    def closed(self, asked: Closing) -> None:
        if asked.attempt is not None and self.attempts.get(asked.attempt) == "open":
            self.attempts[asked.attempt] = str(asked.outcome)
        for settlement in asked.settlements:
            self._settled(settlement, milliseconds(asked.now))
        self._gated(asked)

    def _settled(self, to: Settlement, now: int) -> None:
        one = self.deliveries.get(to.delivery_id)
        if one is None or one.lease_token != to.token:
            return
        one.is_free()
        if to.revision is not None and self.events[one.event].revision != to.revision:
            one.state = "pending"
            return
        one.state, one.reason, one.curable = str(to.state), to.reason, to.curable
        one.due_at = milliseconds(to.due_at) if to.due_at else one.due_at
        one.outcome, one.payload = to.outcome or one.outcome, to.payload or one.payload
        one.batch_limit = to.batch_limit or one.batch_limit
        one.attempts -= to.uncounted
        one.crashes += to.crashed
        one.lost += to.lost
        one.refused += to.refused
        one.in_doubt = one.in_doubt if to.in_doubt is None else to.in_doubt
        one.settled_at = None if one.state == "pending" else now

    def _gated(self, asked: Closing) -> None:
        known = self.gates.get(asked.destination)
        if known is not None and known.state == "stopped":
            return
        is_probe = known is not None and asked.probe is not None and known.until == asked.probe.until
        if asked.gate is not None:
            until = milliseconds(asked.gate.until)
            if known is None or is_probe or known.until <= until:
                since = milliseconds(asked.gate.since or asked.now)
                self.gates[asked.destination] = Gate(asked.gate.state, until, since, asked.gate.fingerprint)
        elif known is not None and is_probe:
            if asked.judged:
                del self.gates[asked.destination]
            else:
                known.until = milliseconds(asked.now)

    # ------------------------------------------------------------ clocks and operators

    def pulled_back(self, destination: str, now: datetime) -> None:
        def pulled(at: int, bound: timedelta) -> int:
            return milliseconds(now + bound) if at > milliseconds(now + bound + SLACK) else at

        for one in (each for each in self.deliveries.values() if each.destination == destination):
            if one.state == "pending":
                one.due_at = pulled(one.due_at, LONGEST)
            elif one.state == "claimed":
                one.lease_until = pulled(one.lease_until or 0, LEASE)
        gate = self.gates.get(destination)
        if gate is not None and gate.state != "stopped":
            gate.until = pulled(gate.until, LONGEST_THROTTLE if gate.state == "throttled" else PROBE_EVERY)

    def paused(self, destination: str, now: datetime) -> None:
        known = self.gates.get(destination)
        self.gates[destination] = Gate("stopped", FOR_EVER, milliseconds(now), known.fingerprint if known else None)

    def put_back(self, now: datetime, *, state: str, order: str | None, destination: str | None) -> int:
        found = [
            one
            for one in self.deliveries.values()
            if one.state == state
            and (destination is None or one.destination == destination)
            and (order is None or self.events[one.event].order == order)
        ]
        for one in found:
            one.state, one.reason, one.settled_at, one.crashes = "pending", None, None, 0
            one.lost = 0
            one.due_at = milliseconds(now)
        return len(found)

    def resolved(self, now: datetime, *, order: str, destination: str, delivered: bool) -> int:
        at, found = milliseconds(now), 0
        for one in self.deliveries.values():
            if (one.state, one.destination, self.events[one.event].order) == ("held", destination, order):
                one.due_at, found = at, found + 1
                one.state, one.reason, one.settled_at = (
                    ("delivered", "by operator", at) if delivered else ("pending", None, None)
                )
        return found

    def pruned(self, now: datetime) -> None:
        before = {name: milliseconds(now - kept) for name, kept in RETENTION.items()}
        for one in self.deliveries.values():
            if one.state == "delivered" and one.settled_at is not None and one.settled_at < before["body"]:
                one.payload = None
        gone = {
            id_: one
            for id_, one in self.deliveries.items()
            if one.settled_at is not None and one.settled_at < before["delivery"]
        }
        tried = {one.attempt for one in gone.values()} | {attempt for id_, attempt in self.earlier if id_ in gone}
        self.deliveries = {id_: one for id_, one in self.deliveries.items() if id_ not in gone}
        self.earlier = {key: said for key, said in self.earlier.items() if key[0] not in gone}
        still = {one.attempt for one in self.deliveries.values()} | {attempt for _, attempt in self.earlier}
        self.attempts = {id_: said for id_, said in self.attempts.items() if id_ not in tried or id_ in still}
        for id_, event in list(self.events.items()):
            if self.of_event(id_):
                continue
            if id_ in {one.event for one in gone.values()}:
                event.knows_email = False
                event.conflicts.clear()
            if event.reported_at < before["event"]:
                del self.events[id_]


def _mended(gate: Gate, fingerprint: str | None) -> bool:
    return fingerprint is not None and gate.state in {"paused", "unreachable"} and gate.fingerprint != fingerprint


#: What the vendor never judged: it costs a delivery nothing (I12).
COSTS_NOTHING = frozenset({Verdict.NOT_SENT, Verdict.THROTTLE, Verdict.SETUP})
