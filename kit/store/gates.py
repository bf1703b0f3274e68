"""What holds a whole destination back until a time: read, passed by a probe, closed, moved and opened."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kit.store.rows import milliseconds, moment, upsert
from kit.store.statements import Statement, many
from kit.store.tables import gates

#: What a wrong set-up closes, and a mended one may ask about at once.
_MENDABLE = ("paused", "unreachable")
#: The gate that an operator closed, which no answer of a vendor opens or moves: until the year 9999.
STOPPED = "stopped"
FOR_EVER = 253_402_300_799_000

_COLUMNS = "SELECT destination, state, until, since, reason, fingerprint FROM gates WHERE destination = ?"
_BY_NAME, _TO_CHANGE = Statement(_COLUMNS), Statement(_COLUMNS, locking="FOR UPDATE")
_TIMES = Statement("SELECT destination, until FROM gates WHERE destination AMONG ?")


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
class Probe:
    """The gate that one delivery passed, to find out: its state, since when it stands, and the time set meanwhile."""

    state: str
    since: datetime
    until: int


def gate_of(connection: Connection, destination: str) -> Any:
    """Return the row of this destination's gate, or None."""
    return next(iter(_BY_NAME.on(connection, destination)), None)


def gates_until(connection: Connection, destinations: Iterable[str]) -> dict[str, int]:
    """Return until when those of these destinations are held back that have a gate."""
    return {row.destination: row.until for row in _TIMES.on(connection, many(connection, sorted(destinations)))}


def is_mended(gate: Any, fingerprint: str | None) -> bool:
    """Return whether a worker begins with another set-up than the one that the gate was closed on."""
    return fingerprint is not None and gate.state in _MENDABLE and gate.fingerprint != fingerprint


def pass_gate(connection: Connection, gate: Any, *, until: datetime, fingerprint: str | None) -> Probe | None:
    """Keep others from passing the gate while a probe is under way. None where it was moved since it was read."""
    ends = milliseconds(until)
    passed = connection.execute(
        gates.update()
        .where(gates.c.destination == gate.destination, gates.c.state == gate.state, gates.c.until == gate.until)
        .values(until=ends, fingerprint=fingerprint or gate.fingerprint)
    )
    if not passed.rowcount:
        return None
    return Probe(state=gate.state, since=moment(gate.since), until=ends)


def set_gate(
    connection: Connection, destination: str, gate: Gate | None, *, probe: Probe | None, judged: bool, now: datetime
) -> None:
    """Close, move or open the gate. What the vendor asked for is never cut short by an answer that came beside it."""
    if gate is None and probe is None:
        return
    # Locked, so that an operator's stop, or what another worker heard, does not come in between.
    known = next(iter(_TO_CHANGE.on(connection, destination)), None)
    if known is not None and known.state == STOPPED:
        return
    here = gates.c.destination == destination
    is_probe = known is not None and probe is not None and known.until == probe.until
    if gate is not None:
        until = milliseconds(gate.until)
        if known is not None and not is_probe and known.until > until:
            return
        row = {
            "destination": destination,
            "state": gate.state,
            "until": until,
            "since": milliseconds(gate.since or now),
            "reason": gate.reason,
            "fingerprint": gate.fingerprint,
        }
        # Where there was none to lock, another may have come meanwhile: then the longer one stands.
        upsert(connection, gates, [row], key="destination", unless=None if known else gates.c.until > until)
    elif is_probe and judged:
        connection.execute(gates.delete().where(here))
    elif is_probe:
        connection.execute(gates.update().where(here).values(until=milliseconds(now)))
