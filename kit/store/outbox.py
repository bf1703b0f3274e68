"""The outbox's verbs: claim, renew, free what a dead worker held, and pull back what a stepped clock left ahead."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, case, literal_column, select

from kit.model import Clock, Consent, Conversion, Identifiers
from kit.store.gates import STOPPED, Probe, gate_of, is_mended, pass_gate
from kit.store.people import newest_consents
from kit.store.rows import conversion_of, identifiers_of, milliseconds, moment, truth
from kit.store.statements import Statement, many
from kit.store.tables import deliveries, gates

# Written out, not bound: SQLite uses a partial index only when it sees its condition in the statement.
_IS_PENDING = deliveries.c.state == literal_column("'pending'")
_IS_CLAIMED = deliveries.c.state == literal_column("'claimed'")

OPEN = "open"
#: After so many workers that ended over a delivery it goes alone.
SUSPECT = 3
#: More than a worker can be stopped between reading the time and writing by it: PostgreSQL ends its session before.
SLACK = timedelta(seconds=30)

_MILLISECOND = timedelta(milliseconds=1)


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
    """How far ahead of now each time of one destination's can rightly stand; well beyond it, a clock was stepped.

    The time is asked for when the transaction has begun: what waited for its lock with an older one in hand would cut
    the leases of workers that live.
    """

    destination: str
    retry: timedelta
    lease: timedelta
    gate: timedelta
    throttle: timedelta
    clock: Clock


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """A delivery that is this worker's until `lease_until`, with all that is needed to send it.

    `said` and `known` are its event's conversion and identifiers as they are stored: JSON, decoded when asked for, not
    while the store is locked. `payload` is set once an attempt froze it; `orphaned` says that its last attempt's
    worker is gone without a word, `abandoned` that whoever held it before this claim is dead; `lost` counts those that
    were, with nothing sent; `revision` is its event's; `probe` is set on the one delivery that passed a gate.
    """

    delivery_id: int
    destination: str
    token: str
    lease_until: datetime
    event_id: str
    at: datetime
    reported_at: datetime
    said: str = field(repr=False)
    known: str = field(repr=False)
    consent: Consent
    created_at: datetime
    attempts: int
    crashes: int
    lost: int = 0
    refused: int = 0
    in_doubt: bool = False
    batch_limit: int | None
    payload: bytes | None = field(repr=False)
    attempt: int | None
    orphaned: bool
    revision: int
    probe: Probe | None = None
    abandoned: bool = False

    @cached_property
    def conversion(self) -> Conversion:
        return conversion_of(self.said)

    @cached_property
    def identifiers(self) -> Identifiers:
        return identifiers_of(self.known)


# ---------------------------------------------------------------- claim

_CLAIMED = (
    "SELECT events.visitor, deliveries.id, deliveries.destination, deliveries.created_at, deliveries.attempts,"
    " deliveries.crashes, deliveries.lost, deliveries.refused, deliveries.in_doubt, deliveries.batch_limit,"
    " deliveries.payload, deliveries.attempt, deliveries.outcome,"
    " events.event_id, events.at, events.reported_at, events.conversion, events.identifiers, events.granted,"
    " events.signal, events.consent_at, events.revision, deliveries.owner"
    " FROM deliveries JOIN events ON events.id = deliveries.event"
)
# A refund or cancellation never overtakes its purchase: an order's events go to one destination in their order.
_DUE = Statement(
    f"{_CLAIMED} WHERE deliveries.destination = ? AND deliveries.state = 'pending'"  # noqa: S608 - ours
    " AND deliveries.due_at <= ?"
    " AND NOT EXISTS (SELECT 1 FROM deliveries AS earlier, events AS earlier_event"
    " WHERE earlier_event.order_id = events.order_id AND earlier_event.id < events.id"
    " AND earlier.event = earlier_event.id AND earlier.destination = deliveries.destination"
    " AND earlier.state IN ('pending', 'claimed')"
    ") ORDER BY deliveries.due_at, deliveries.id LIMIT ?",
    locking="FOR UPDATE OF deliveries SKIP LOCKED",
)
_LEASE = Statement(
    "UPDATE deliveries SET state = 'claimed', lease_token = ?, lease_until = ?, owner = ? WHERE id AMONG ?"
)


def claim(connection: Connection, asked: Sequence[Claim]) -> Sequence[list[Claimed]]:
    """Lease due deliveries, the longest due first. A gated destination yields nothing, or one as a probe."""
    return [_claim(connection, one) for one in asked]


def _claim(connection: Connection, asked: Claim) -> list[Claimed]:
    now = milliseconds(asked.now)
    gate = None if asked.ungated else gate_of(connection, asked.destination)
    if gate is not None and gate.until > now and not is_mended(gate, asked.fingerprint):
        return []
    rows = _in_safe_company(_DUE.on(connection, asked.destination, now, asked.limit if gate is None else 1))
    if not rows:
        return []
    probe = None
    if gate is not None:
        probe = pass_gate(connection, gate, until=asked.now + asked.lease, fingerprint=asked.fingerprint)
        if probe is None:
            return []
    return _lease(connection, asked, rows, probe=probe)


def _in_safe_company(due: Sequence[Any]) -> Sequence[Any]:
    """Return what is claimed together: one whose claimers keep dying before they can send goes by itself."""
    suspect = next((place for place, row in enumerate(due) if row.lost >= SUSPECT), len(due))
    return due[: suspect or 1]


def _lease(connection: Connection, asked: Claim, rows: Sequence[Any], probe: Probe | None = None) -> list[Claimed]:
    """Lease these; what each was before is in its row."""
    token, until = secrets.token_hex(8), asked.now + asked.lease
    _LEASE.on(connection, token, milliseconds(until), asked.owner, many(connection, [row.id for row in rows]))
    decided = newest_consents(connection, {row.visitor for row in rows if row.visitor})
    return [_claimed(row, token=token, until=until, decided=decided, probe=probe) for row in rows]


def _claimed(row: Any, *, token: str, until: datetime, decided: dict[str, Consent], probe: Probe | None) -> Claimed:
    (
        visitor, id_, destination, created_at, attempts, crashes, lost, refused, in_doubt, batch_limit, payload,
        attempt, outcome, event_id, at, reported_at, conversion, identifiers, granted, signal, consent_at, revision,
        _owner,
    ) = row  # fmt: skip
    consent = Consent(granted=truth(granted), signal=signal, at=moment(consent_at))
    newest = decided.get(visitor)
    final = consent.granted is False and signal in {"gpc", "shop"}
    if not final and newest is not None and newest.granted is not None and newest.at >= consent.at:
        consent = newest
    return Claimed(
        delivery_id=id_,
        destination=destination,
        token=token,
        lease_until=until,
        event_id=event_id,
        at=moment(at),
        reported_at=moment(reported_at),
        said=conversion,
        known=identifiers,
        consent=consent,
        created_at=moment(created_at),
        attempts=attempts,
        crashes=crashes,
        lost=lost,
        refused=refused,
        in_doubt=bool(in_doubt),
        batch_limit=batch_limit,
        payload=payload,
        attempt=attempt,
        orphaned=outcome == OPEN,
        revision=revision,
        probe=probe,
    )


# ---------------------------------------------------------------- while and after a worker lives

_RENEW = Statement(
    "UPDATE deliveries SET lease_until = ?"
    " WHERE state = 'claimed' AND lease_until > ? AND lease_token = ? RETURNING id"
)  # fmt: skip
_LAPSED = Statement(
    f"{_CLAIMED} WHERE deliveries.destination = ? AND deliveries.state = 'claimed'"
    " AND (deliveries.lease_until < ? OR deliveries.owner AMONG ?) ORDER BY deliveries.id LIMIT ?",
    locking="FOR UPDATE OF deliveries SKIP LOCKED",
)


def renew(connection: Connection, asked: Sequence[Renewal]) -> Sequence[frozenset[int]]:
    """Prolong what is still claimed with each token and has not lapsed; answers which deliveries those are."""
    answers = []
    for one in asked:
        kept = _RENEW.on(connection, milliseconds(one.until), milliseconds(one.now), one.token)
        answers.append(frozenset(row.id for row in kept))
    return answers


def pull_back(connection: Connection, asked: Sequence[Bounds]) -> Sequence[None]:
    """Bring times that stand further ahead than any rule can put them back to where a rule could."""
    for one in asked:
        now, here = milliseconds(one.clock()), deliveries.c.destination == one.destination
        for column, state, bound in (
            (deliveries.c.due_at, _IS_PENDING, one.retry),
            (deliveries.c.lease_until, _IS_CLAIMED, one.lease),
        ):
            latest = now + bound // _MILLISECOND
            stepped = column > latest + SLACK // _MILLISECOND
            connection.execute(deliveries.update().where(here, state, stepped).values({column: latest}))
        named, ours = now + one.throttle // _MILLISECOND, now + one.gate // _MILLISECOND
        longest = case((gates.c.state == "throttled", named), else_=ours)
        gated = (gates.c.destination == one.destination) & (gates.c.state != STOPPED)
        stepped = gates.c.until > longest + SLACK // _MILLISECOND
        connection.execute(gates.update().where(gated, stepped).values(until=longest))
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
        dead = many(connection, one.dead)
        lapsed = _LAPSED.on(connection, one.destination, milliseconds(one.now), dead, one.limit)
        found = _lease(connection, one, lapsed) if lapsed else []
        pairs = zip(found, lapsed, strict=True)
        answers.append([replace(each, abandoned=row.owner in one.dead) for each, row in pairs])
    return answers


def absolve(connection: Connection, asked: Sequence[Sequence[int]]) -> Sequence[None]:
    """Forget of these deliveries that workers ended over them: they were built, and nothing happened."""
    ids = [id_ for some in asked for id_ in some]
    connection.execute(deliveries.update().where(deliveries.c.id.in_(ids)).values(lost=0))
    return [None] * len(asked)
