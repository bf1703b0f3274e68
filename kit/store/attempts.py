"""Attempts: opened before a byte leaves, closed with what became of each delivery. Whole groups at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from kit.model import DeliveryState
from kit.store.gates import Gate, Probe, gates_until, set_gate
from kit.store.outbox import OPEN, Claimed
from kit.store.rows import insert, insert_many, milliseconds
from kit.store.statements import Statement, many, on_all
from kit.store.tables import attempts, deliveries, earlier_attempts


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """One request that is about to be sent: its deliveries, and the body of each by its id.

    `after` is the attempt in whose place it goes: while that one is open, this one is not opened. `rewritten` are the
    deliveries whose frozen body is for a surface that is not there any more: theirs is replaced.
    """

    destination: str
    deliveries: tuple[Claimed, ...]
    payloads: dict[int, bytes] = field(repr=False)
    now: datetime
    after: int | None = None
    rewritten: frozenset[int] = frozenset()


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
    refused: bool = False
    in_doubt: bool | None = None
    crashed: bool = False
    lost: bool = False
    curable: bool = False
    revision: int | None = None


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


# ---------------------------------------------------------------- open


# In the order of the events: two writers that lock the same rows in the same order cannot deadlock.
_HELD = Statement(
    "SELECT deliveries.id, deliveries.lease_token, deliveries.lease_until, events.revision"
    " FROM deliveries JOIN events ON events.id = deliveries.event"
    " WHERE deliveries.id AMONG ? AND deliveries.state = 'claimed' ORDER BY events.id",
    # The deliveries too: a worker that is frozen after this must not write over the one that took them over.
    locking="FOR UPDATE OF deliveries FOR SHARE OF events",
)
_STILL_OPEN = Statement("SELECT id FROM attempts WHERE id AMONG ? AND outcome = 'open'")
#: The body freezes with the first attempt; before it, what shadow recorded is no promise.
_FIRST = (
    "WITH given (id, attempt, payload) AS (VALUES ?)"
    " UPDATE deliveries SET attempt = given.attempt, attempts = attempts + 1, outcome = 'open', payload = given.payload"
    " FROM given WHERE deliveries.id = given.id"
)
_AGAIN = Statement("UPDATE deliveries SET attempt = ?, attempts = attempts + 1, outcome = 'open' WHERE id = ?")
#: Written anew for another surface, whose form the body that was frozen before does not have.
_REWRITE = Statement("UPDATE deliveries SET payload = ? WHERE id = ?")


def open_attempts(connection: Connection, asked: Sequence[Opening]) -> Sequence[int | None]:
    """Commit an open attempt for each request before its bytes leave.

    None when a lease was lost meanwhile, or when an event has learnt or forgotten something since it was claimed, or
    when the attempt before it is still open.
    """
    until = gates_until(connection, {one.destination for one in asked})
    ids = [each.delivery_id for one in asked for each in one.deliveries]
    held = {row[0]: row[1:] for row in _HELD.on(connection, many(connection, ids))}
    earlier = [one.after for one in asked if one.after is not None]
    still_open = {row.id for row in _STILL_OPEN.on(connection, many(connection, earlier))} if earlier else set()
    allowed = [
        one
        for one in asked
        if _passes(one, until.get(one.destination)) and _is_held(one, held) and one.after not in still_open
    ]
    opened = dict(zip(map(id, allowed), _insert(connection, allowed), strict=True))
    _freeze(connection, [(opened[id(one)], one) for one in allowed])
    return [opened.get(id(one)) for one in asked]


def _passes(one: Opening, until: int | None) -> bool:
    probe = one.deliveries[0].probe
    return until is None or until <= milliseconds(one.now) or (probe is not None and until == probe.until)


def _is_held(one: Opening, held: Mapping[int, Sequence[Any]]) -> bool:
    now = milliseconds(one.now)
    for each in one.deliveries:
        token, until, revision = held.get(each.delivery_id, (None, 0, None))
        # Its event may have been erased or refused meanwhile: what is in hand is looked at again.
        if token != each.token or until <= now or revision != each.revision:
            return False
    return True


def _insert(connection: Connection, asked: Sequence[Opening]) -> list[int]:
    """Insert an attempt for each; returns their ids in that order."""
    rows = [(one.destination, milliseconds(one.now), OPEN, len(one.deliveries)) for one in asked]
    columns = ("destination", "opened_at", "outcome", "deliveries")
    inserted = insert_many(connection, attempts, columns, rows, f"RETURNING id,{','.join(columns)}")
    # In which order the new ids come is not promised; of rows that say the same, either may have either.
    alike: dict[tuple[Any, ...], list[int]] = {}
    for row in inserted:
        alike.setdefault(tuple(row[1:]), []).append(row[0])
    return [alike[row].pop() for row in rows]


def _freeze(connection: Connection, opened: Sequence[tuple[int, Opening]]) -> None:
    again, first, rewritten = [], [], []
    for attempt, one in opened:
        for each in one.deliveries:
            payload = one.payloads[each.delivery_id]
            if each.attempt is None:
                first.append((each.delivery_id, attempt, payload))
                continue
            again.append((attempt, each.delivery_id))
            if each.delivery_id in one.rewritten:
                rewritten.append((payload, each.delivery_id))
    if again:
        _keep_earlier(connection, [id_ for _, id_ in again])
        _AGAIN.on_each(connection, again)
    on_all(connection, _FIRST, first)
    _REWRITE.on_each(connection, rewritten)


def _keep_earlier(connection: Connection, ids: Sequence[int]) -> None:
    """Keep each delivery's own outcome of its latest attempt before a new one takes its place."""
    columns = deliveries.c
    before = select(columns.id, columns.attempt, func.coalesce(columns.outcome, OPEN), columns.detail).where(
        columns.id.in_(ids), columns.attempt.is_not(None)
    )
    names = ["delivery", "attempt", "outcome", "detail"]
    connection.execute(insert(connection, earlier_attempts).from_select(names, before).on_conflict_do_nothing())


# ---------------------------------------------------------------- close


_CLOSE = Statement(
    "UPDATE attempts SET closed_at = ?, outcome = ?, status = ?, detail = ? WHERE id = ? AND outcome = 'open'"
)
_SETTLED = (
    "UPDATE deliveries SET state = ?, reason = ?, detail = ?, due_at = COALESCE(?, due_at),"
    " outcome = COALESCE(?, outcome), payload = COALESCE(?, payload), batch_limit = COALESCE(?, batch_limit),"
    " attempts = attempts - ?, crashes = crashes + ?, lost = lost + ?, refused = refused + ?,"
    " in_doubt = COALESCE(?, in_doubt), curable = ?, settled_at = ?,"
    " lease_token = NULL, lease_until = NULL, owner = NULL"
    " WHERE lease_token = ? AND state = 'claimed' AND"
)
_SETTLE = Statement(f"{_SETTLED} id = ?")
_SETTLE_ALIKE = Statement(f"{_SETTLED} id AMONG ?")
_SETTLE_AS_SEEN = Statement(
    f"{_SETTLED} id = ? AND (SELECT revision FROM events WHERE events.id = deliveries.event) = ?"  # noqa: S608 - ours
)
_UNCHANGED = Statement(
    "SELECT events.id FROM deliveries JOIN events ON events.id = deliveries.event WHERE deliveries.id AMONG ?"
    " ORDER BY events.id",
    locking="FOR SHARE OF events",
)
_LOOK_AGAIN = Statement(
    "UPDATE deliveries SET state = 'pending', lease_token = NULL, lease_until = NULL, owner = NULL"
    " WHERE lease_token = ? AND state = 'claimed' AND id = ?"
)

_ON_ITS_WAY = (DeliveryState.PENDING, DeliveryState.CLAIMED)


def close(connection: Connection, asked: Sequence[Closing]) -> Sequence[None]:
    """Write what became of each request: its outcome once, each delivery's next state, the destination's gate."""
    ended = [
        (milliseconds(one.now), str(one.outcome), one.status, one.detail, one.attempt)
        for one in asked
        if one.attempt is not None
    ]
    _CLOSE.on_each(connection, ended)
    for one in asked:
        set_gate(connection, one.destination, one.gate, probe=one.probe, judged=one.judged, now=one.now)
    settled = [(settlement, _values(settlement, one.now)) for one in asked for settlement in one.settlements]
    _settle(connection, [(each.delivery_id, values) for each, values in settled if each.revision is None])
    seen = [(each, values) for each, values in settled if each.revision is not None]
    if seen:
        # A report that is about to fill the gap is waited for: it would find nothing to bring back, and we the old gap.
        _UNCHANGED.on(connection, many(connection, [each.delivery_id for each, _ in seen]))
    _SETTLE_AS_SEEN.on_each(connection, [(*values, each.delivery_id, each.revision) for each, values in seen])
    _LOOK_AGAIN.on_each(connection, [(each.token, each.delivery_id) for each, _ in seen])
    return [None] * len(asked)


def _settle(connection: Connection, settled: Sequence[tuple[int, tuple[Any, ...]]]) -> None:
    """Settle many that fare alike, as a batch that was taken, with one statement; the others one by one."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for id_, values in settled:
        alike.setdefault(values, []).append(id_)
    single = [(*values, ids[0]) for values, ids in alike.items() if len(ids) == 1]
    for values, ids in alike.items():
        if len(ids) > 1:
            _SETTLE_ALIKE.on(connection, *values, many(connection, ids))
    _SETTLE.on_each(connection, single)


def _values(settlement: Settlement, now: datetime) -> tuple[Any, ...]:
    return (
        settlement.state.value,
        settlement.reason,
        settlement.detail,
        milliseconds(settlement.due_at) if settlement.due_at else None,
        None if settlement.outcome is None else str(settlement.outcome),
        settlement.payload,
        settlement.batch_limit,
        int(settlement.uncounted),
        int(settlement.crashed),
        int(settlement.lost),
        int(settlement.refused),
        settlement.in_doubt,
        settlement.curable,
        None if settlement.state in _ON_ITS_WAY else milliseconds(now),
        settlement.token,
    )
