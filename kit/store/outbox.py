"""The outbox's verbs: claim, open an attempt, settle, free what a dead worker held, and what an operator asks."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, case, exists, func, literal_column, or_, select

from kit.model import Consent, Conversion, DeliveryState, Identifiers
from kit.store.people import newest_consents
from kit.store.rows import conversion_of, identifiers_of, insert, milliseconds, moment, upsert
from kit.store.tables import attempts, deliveries, earlier_attempts, events, gates

# Written out, not bound: SQLite uses a partial index only when it sees its condition in the statement.
_IS_PENDING = deliveries.c.state == literal_column("'pending'")
_IS_CLAIMED = deliveries.c.state == literal_column("'claimed'")

OPEN = "open"
_MILLISECOND = timedelta(milliseconds=1)

#: What a wrong set-up closes, and a mended one may ask about at once.
_MENDABLE = ("paused", "unreachable")
#: The gate that an operator closed, which no answer of a vendor opens or moves: until the year 9999.
STOPPED = "stopped"
FOR_EVER = 253_402_300_799_000

_earlier, _earlier_event = deliveries.alias("earlier"), events.alias("earlier_event")
#: A refund or cancellation never overtakes its purchase: an order's events go to one destination in their order.
_WAITS = exists().where(
    _earlier_event.c.order_id == events.c.order_id,
    _earlier_event.c.id < events.c.id,
    _earlier.c.event == _earlier_event.c.id,
    _earlier.c.destination == deliveries.c.destination,
    _earlier.c.state.in_([literal_column("'pending'"), literal_column("'claimed'")]),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A worker asks for up to `limit` due deliveries of one destination, leased to it for `lease`.

    `ungated` is for a destination that sends nothing: no vendor holds it back. `fingerprint` is of a set-up that this
    worker begins with: where the gate was closed on another one, a probe passes at once.
    """

    destination: str
    limit: int
    owner: str
    lease: timedelta
    now: datetime
    ungated: bool = False
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover(Claim):
    """A worker asks for what others hold and cannot send any more: past its lease, or of an owner proven dead."""

    dead: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Renewal:
    """A worker that lives asks to keep what it holds under one token until a later time."""

    token: str
    until: datetime
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How far ahead of now each time of one destination's can rightly stand; beyond it, a clock was stepped."""

    destination: str
    retry: timedelta
    lease: timedelta
    gate: timedelta
    throttle: timedelta
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """The gate that one delivery passed, to find out: its state, since when it stands, and the time set meanwhile."""

    state: str
    since: datetime
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A delivery that is this worker's until `lease_until`, with all that is needed to send it.

    `payload` is set once an attempt froze it; `orphaned` says that its last attempt's worker is gone without a word;
    `revision` is its event's; `probe` is set on the one delivery that passed a gate.
    """

    delivery_id: int
    destination: str
    token: str
    lease_until: datetime
    event_id: str
    at: datetime
    reported_at: datetime
    conversion: Conversion
    identifiers: Identifiers
    consent: Consent
    created_at: datetime
    attempts: int
    crashes: int
    batch_limit: int | None
    payload: bytes | None = field(repr=False)
    attempt: int | None
    orphaned: bool
    revision: int
    probe: Probe | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One request that is about to be sent: its deliveries, and the body of each by its id."""

    destination: str
    deliveries: tuple[Claimed, ...]
    payloads: dict[int, bytes] = field(repr=False)
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """Where one delivery goes next. Takes effect only while its lease token is still its own.

    With a `revision`, only while its event still stands there; else the delivery is pending again, to be looked at.
    """

    delivery_id: int
    token: str
    state: DeliveryState
    reason: str | None = None
    detail: str | None = None
    due_at: datetime | None = None
    outcome: str | None = None
    payload: bytes | None = field(default=None, repr=False)
    batch_limit: int | None = None
    uncounted: bool = False
    crashed: bool = False
    curable: bool = False
    revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What holds a destination back until a time.

    throttled (it asked), paused (its set-up is wrong), unreachable (no connection), failing (too many requests fail),
    stopped (by an operator). `since` is when this began, over all probes; `fingerprint` of the set-up that met it.
    """

    state: str
    until: datetime
    reason: str
    since: datetime | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Closing:
    """The end of one attempt, or of no attempt at all (`attempt` None: found out before sending).

    `judged` says that the vendor answered about the deliveries themselves. A probe that was judged opens its gate; one
    that was not sent hands the gate back.
    """

    destination: str
    attempt: int | None
    outcome: str
    status: int | None = None
    detail: str | None = None
    settlements: tuple[Settlement, ...]
    gate: Gate | None = None
    judged: bool = False
    probe: Probe | None = None
    now: datetime


def claim(connection: Connection, asked: Sequence[Claim]) -> Sequence[list[Claimed]]:
    """Lease due deliveries, the longest due first. A gated destination yields nothing, or one as a probe."""
    return [_claim(connection, one) for one in asked]


def _claim(connection: Connection, asked: Claim) -> list[Claimed]:
    now = milliseconds(asked.now)
    gate = None if asked.ungated else connection.execute(_gate_of(asked.destination)).one_or_none()
    if gate is not None and gate.until > now and not _is_mended(gate, asked):
        return []
    due = (
        select(deliveries.c.id)
        .join(events, events.c.id == deliveries.c.event)
        .where(deliveries.c.destination == asked.destination, _IS_PENDING, deliveries.c.due_at <= now, ~_WAITS)
        .order_by(deliveries.c.due_at, deliveries.c.id)
        .limit(asked.limit if gate is None else 1)
        .with_for_update(skip_locked=True, of=deliveries)
    )
    ids = list(connection.scalars(due))
    if not ids:
        return []
    return _lease(connection, asked, ids, probe=None if gate is None else _pass(connection, asked, gate))


def _gate_of(destination: str) -> Any:
    return select(gates).where(gates.c.destination == destination)


def _is_mended(gate: Any, asked: Claim) -> bool:
    """Return whether this worker begins with another set-up than the one that the gate was closed on."""
    return asked.fingerprint is not None and gate.state in _MENDABLE and gate.fingerprint != asked.fingerprint


def _pass(connection: Connection, asked: Claim, gate: Any) -> Probe:
    """Keep others from passing the gate while a probe is under way."""
    until = milliseconds(asked.now + asked.lease)
    here = gates.c.destination == asked.destination
    connection.execute(
        gates.update().where(here).values(until=until, fingerprint=asked.fingerprint or gate.fingerprint)
    )
    return Probe(state=gate.state, since=moment(gate.since), until=until)


def _lease(connection: Connection, asked: Claim, ids: Sequence[int], probe: Probe | None = None) -> list[Claimed]:
    token, until = secrets.token_hex(8), asked.now + asked.lease
    leased = {"lease_token": token, "lease_until": milliseconds(until), "owner": asked.owner}
    connection.execute(
        deliveries.update().where(deliveries.c.id.in_(ids)).values(state=DeliveryState.CLAIMED, **leased)
    )
    columns = deliveries.c
    query = (
        select(
            columns.id, columns.destination, columns.created_at, columns.attempts, columns.crashes,
            columns.batch_limit, columns.payload, columns.attempt, columns.outcome, columns.due_at,
            events.c.event_id, events.c.at, events.c.reported_at, events.c.conversion, events.c.identifiers,
            events.c.granted, events.c.signal, events.c.consent_at, events.c.visitor, events.c.revision,
        )
        .join(events, events.c.id == columns.event)
        .where(columns.id.in_(ids))
        .order_by(columns.due_at, columns.id)
    )  # fmt: skip
    rows = connection.execute(query).all()
    decided = newest_consents(connection, {row.visitor for row in rows if row.visitor})
    return [_claimed(row, token=token, until=until, decided=decided, probe=probe) for row in rows]


def _claimed(row: Any, *, token: str, until: datetime, decided: dict[str, Consent], probe: Probe | None) -> Claimed:
    consent = Consent(granted=row.granted, signal=row.signal, at=moment(row.consent_at))
    newest = decided.get(row.visitor or "")
    final = consent.granted is False and consent.signal in {"gpc", "shop"}
    if not final and newest is not None and newest.granted is not None and newest.at >= consent.at:
        consent = newest
    return Claimed(
        delivery_id=row.id,
        destination=row.destination,
        token=token,
        lease_until=until,
        event_id=row.event_id,
        at=moment(row.at),
        reported_at=moment(row.reported_at),
        conversion=conversion_of(row.conversion),
        identifiers=identifiers_of(row.identifiers),
        consent=consent,
        created_at=moment(row.created_at),
        attempts=row.attempts,
        crashes=row.crashes,
        batch_limit=row.batch_limit,
        payload=row.payload,
        attempt=row.attempt,
        orphaned=row.outcome == OPEN,
        revision=row.revision,
        probe=probe,
    )


def renew(connection: Connection, asked: Sequence[Renewal]) -> Sequence[frozenset[int]]:
    """Prolong what is still claimed with each token and has not lapsed; answers which deliveries those are."""
    return [
        frozenset(
            connection.scalars(
                deliveries.update()
                .where(
                    _IS_CLAIMED,
                    deliveries.c.lease_until > milliseconds(one.now),
                    deliveries.c.lease_token == one.token,
                )
                .values(lease_until=milliseconds(one.until))
                .returning(deliveries.c.id)
            )
        )
        for one in asked
    ]


def pull_back(connection: Connection, asked: Sequence[Bounds]) -> Sequence[None]:
    """Bring times that stand further ahead than any rule can put them back to where a rule could."""
    for one in asked:
        now, here = milliseconds(one.now), deliveries.c.destination == one.destination
        for column, state, bound in (
            (deliveries.c.due_at, _IS_PENDING, one.retry),
            (deliveries.c.lease_until, _IS_CLAIMED, one.lease),
        ):
            latest = now + bound // _MILLISECOND
            connection.execute(deliveries.update().where(here, state, column > latest).values({column: latest}))
        named, ours = now + one.throttle // _MILLISECOND, now + one.gate // _MILLISECOND
        longest = case((gates.c.state == "throttled", named), else_=ours)
        gated = (gates.c.destination == one.destination) & (gates.c.state != STOPPED)
        connection.execute(gates.update().where(gated, gates.c.until > longest).values(until=longest))
    return [None] * len(asked)


def owners(connection: Connection, destination: str) -> set[str]:
    """Return who holds claims of this destination."""
    held = select(deliveries.c.owner).where(_IS_CLAIMED, deliveries.c.destination == destination).distinct()
    return set(connection.scalars(held))


def claim_lapsed(connection: Connection, asked: Sequence[Takeover]) -> Sequence[list[Claimed]]:
    """Lease what a dead worker holds, and what any worker held past its time.

    The caller decides what became of an attempt that was left open.
    """
    answers = []
    for one in asked:
        lapsed = (
            select(deliveries.c.id)
            .where(
                deliveries.c.destination == one.destination,
                _IS_CLAIMED,
                or_(deliveries.c.lease_until < milliseconds(one.now), deliveries.c.owner.in_(one.dead)),
            )
            .limit(one.limit)
            .with_for_update(skip_locked=True)
        )
        ids = list(connection.scalars(lapsed))
        answers.append(_lease(connection, one, ids) if ids else [])
    return answers


def open_attempts(connection: Connection, asked: Sequence[Opening]) -> Sequence[int | None]:
    """Commit an open attempt for each request before its bytes leave.

    None when a lease was lost meanwhile, or when an event has learnt more since its body was built.
    """
    return [_open(connection, one) if _may_open(connection, one) else None for one in asked]


def _may_open(connection: Connection, one: Opening) -> bool:
    held = (
        select(deliveries.c.id, deliveries.c.lease_token, deliveries.c.attempt, events.c.revision)
        .join(events, events.c.id == deliveries.c.event)
        .where(deliveries.c.id.in_(one.payloads), _IS_CLAIMED, deliveries.c.lease_until > milliseconds(one.now))
        .with_for_update(read=True, of=events)
    )
    gate, probe = connection.execute(_gate_of(one.destination)).one_or_none(), one.deliveries[0].probe
    if gate is not None and gate.until > milliseconds(one.now) and (probe is None or gate.until != probe.until):
        return False
    rows = {row.id: row for row in connection.execute(held)}
    return all(
        (row := rows.get(each.delivery_id)) is not None
        and row.lease_token == each.token
        and (row.attempt is not None or row.revision == each.revision)
        for each in one.deliveries
    )


def _open(connection: Connection, one: Opening) -> int:
    row = {
        "destination": one.destination,
        "opened_at": milliseconds(one.now),
        "outcome": OPEN,
        "deliveries": len(one.deliveries),
    }
    attempt: int = connection.execute(insert(connection, attempts).returning(attempts.c.id), row).scalar_one()
    again = [each.delivery_id for each in one.deliveries if each.attempt is not None]
    if again:
        _keep_earlier(connection, again)
        connection.execute(_AGAIN, {"b_ids": again, "b_attempt": attempt})
    first = [each.delivery_id for each in one.deliveries if each.attempt is None]
    if first:
        frozen = [{"b_id": id_, "b_payload": one.payloads[id_], "b_attempt": attempt} for id_ in first]
        connection.execute(_FIRST, frozen)
    return attempt


def _keep_earlier(connection: Connection, ids: Sequence[int]) -> None:
    """Keep each delivery's own outcome of its latest attempt before a new one takes its place."""
    columns = deliveries.c
    before = select(columns.id, columns.attempt, func.coalesce(columns.outcome, OPEN), columns.detail).where(
        columns.id.in_(ids), columns.attempt.is_not(None)
    )
    names = ["delivery", "attempt", "outcome", "detail"]
    connection.execute(insert(connection, earlier_attempts).from_select(names, before).on_conflict_do_nothing())


_OPENED = deliveries.update().values(
    attempt=bindparam("b_attempt"),
    attempts=deliveries.c.attempts + literal_column("1"),
    outcome=literal_column(f"'{OPEN}'"),
)
#: The body freezes with the first attempt; before it, what shadow recorded is no promise.
_FIRST = _OPENED.where(deliveries.c.id == bindparam("b_id")).values(payload=bindparam("b_payload"))
_AGAIN = _OPENED.where(deliveries.c.id.in_(bindparam("b_ids", expanding=True)))


def close(connection: Connection, asked: Sequence[Closing]) -> Sequence[None]:
    """Write what became of each request: its outcome once, each delivery's next state, the destination's gate."""
    rows: list[dict[str, Any]] = []
    for one in asked:
        if one.attempt is not None:
            connection.execute(
                attempts.update()
                .where(attempts.c.id == one.attempt, attempts.c.outcome == OPEN)
                .values(closed_at=milliseconds(one.now), outcome=one.outcome, status=one.status, detail=one.detail)
            )
        rows += [_settled_row(settlement, one.now) for settlement in one.settlements]
        _set_gate(connection, one)
    _settle(connection, [row for row in rows if row["b_revision"] is None])
    if seen := [row for row in rows if row["b_revision"] is not None]:
        connection.execute(_SETTLE_AS_SEEN, seen)
        connection.execute(_LOOK_AGAIN, [{"b_id": row["b_id"], "b_token": row["b_token"]} for row in seen])
    return [None] * len(asked)


def _settle(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Settle many that fare alike, as a batch that was taken, with one statement; the others one by one."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(value for name, value in row.items() if name != "b_id"), []).append(row)
    single = []
    for group in alike.values():
        if len(group) == 1:
            single += group
        else:
            connection.execute(_SETTLE_ALIKE, {**group[0], "b_ids": [row["b_id"] for row in group]})
    if single:
        connection.execute(_SETTLE, single)


def _settled_row(settlement: Settlement, now: datetime) -> dict[str, Any]:
    at = milliseconds(now)
    final = settlement.state not in {DeliveryState.PENDING, DeliveryState.CLAIMED}
    return {
        "b_id": settlement.delivery_id,
        "b_token": settlement.token,
        "b_state": settlement.state,
        "b_reason": settlement.reason,
        "b_detail": settlement.detail,
        "b_due_at": milliseconds(settlement.due_at) if settlement.due_at else None,
        "b_outcome": settlement.outcome,
        "b_payload": settlement.payload,
        "b_batch_limit": settlement.batch_limit,
        "b_uncounted": int(settlement.uncounted),
        "b_crashed": int(settlement.crashed),
        "b_curable": settlement.curable,
        "b_revision": settlement.revision,
        "b_settled_at": at if final else None,
    }


_FREE = {"lease_token": None, "lease_until": None, "owner": None}
_WITH_TOKEN = (deliveries.c.lease_token == bindparam("b_token")) & _IS_CLAIMED
_STILL_OURS = (deliveries.c.id == bindparam("b_id")) & _WITH_TOKEN

_SETTLED = deliveries.update().values(
    state=bindparam("b_state"),
    reason=bindparam("b_reason"),
    detail=bindparam("b_detail"),
    due_at=func.coalesce(bindparam("b_due_at"), deliveries.c.due_at),
    outcome=func.coalesce(bindparam("b_outcome"), deliveries.c.outcome),
    payload=func.coalesce(bindparam("b_payload"), deliveries.c.payload),
    batch_limit=func.coalesce(bindparam("b_batch_limit"), deliveries.c.batch_limit),
    attempts=deliveries.c.attempts - bindparam("b_uncounted"),
    crashes=deliveries.c.crashes + bindparam("b_crashed"),
    curable=bindparam("b_curable"),
    settled_at=bindparam("b_settled_at"),
    **_FREE,
)
_SETTLE = _SETTLED.where(_STILL_OURS)
_SETTLE_ALIKE = _SETTLED.where(deliveries.c.id.in_(bindparam("b_ids", expanding=True)), _WITH_TOKEN)
_SETTLE_AS_SEEN = _SETTLE.where(
    select(events.c.revision).where(events.c.id == deliveries.c.event).scalar_subquery() == bindparam("b_revision")
)
_LOOK_AGAIN = deliveries.update().where(_STILL_OURS).values(state=DeliveryState.PENDING, **_FREE)


def _set_gate(connection: Connection, one: Closing) -> None:
    """Close, move or open the gate. What the vendor asked for is never cut short by an answer that came beside it."""
    if one.gate is None and one.probe is None:
        return
    here = gates.c.destination == one.destination
    known = connection.execute(_gate_of(one.destination)).one_or_none()
    if known is not None and known.state == STOPPED:
        return
    is_probe = known is not None and one.probe is not None and known.until == one.probe.until
    if one.gate is not None:
        until = milliseconds(one.gate.until)
        if known is not None and not is_probe and known.until > until:
            return
        row = {
            "destination": one.destination,
            "state": one.gate.state,
            "until": until,
            "since": milliseconds(one.gate.since or one.now),
            "reason": one.gate.reason,
            "fingerprint": one.gate.fingerprint,
        }
        upsert(connection, gates, [row], key="destination")
    elif is_probe and one.judged:
        connection.execute(gates.delete().where(here))
    elif is_probe:
        connection.execute(gates.update().where(here).values(until=milliseconds(one.now)))
