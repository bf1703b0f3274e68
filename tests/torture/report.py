"""What a run came to: a table for people, JSON for programs, and the story of each delivery that broke a promise."""

import platform
import sqlite3
from collections import Counter
from importlib.metadata import version
from typing import Any

from tests.torture.evidence import Evidence
from tests.torture.invariants import broken
from tests.torture.notes import Noted
from tests.torture.sometimes import happened, resends

#: From these sizes on every trouble is certain to be met.
CERTAIN = {"number": 1500, "kills": 20, "freezes": 4}
_STORIES = 5
#: A blow so many seconds from an attempt or a request belongs to the story.
_NEAR = 1.0


def summary(found: Evidence) -> dict[str, Any]:
    """Return the run as JSON. `green` says that nothing is broken and nothing is missing."""
    plan, told, met, failures = found.plan, found.told, happened(found), broken(found)
    large = all(getattr(plan, name) >= least for name, least in CERTAIN.items())
    missing = [name for name, times in met.items() if not times] if large else []
    blows = Counter(f"{blow.what} {blow.role}" for blow in told.blows)
    breaches = [breach for each in failures.values() for breach in each]
    return {
        "green": not breaches and not missing,
        "seed": plan.seed,
        "engine": plan.engine,
        "asked": {"number": plan.number, "kills": plan.kills, "freezes": plan.freezes, "pg_kills": plan.pg_kills},
        "blows": {**blows, "aimed": sum(blow.aimed for blow in told.blows)},
        "counts": {
            "issued": len(found.issued),
            "acknowledged": len(told.ledger.acked),
            "stored": len(found.stored),
            "deliveries": len(found.rows),
            "requests": len(told.ledger.requests),
            "requests of events": sum(map(len, found.requests.values())),
        },
        "states": dict(Counter(f"{row.destination} {_standing(row)}" for row in found.rows.values())),
        "resends": dict(resends(found)),
        "plays": dict(Counter(f"{request.vendor} {request.play}" for request in told.ledger.requests)),
        "invariants": {name: len(each) for name, each in failures.items()},
        "sometimes": met,
        "missing": missing,
        "seconds": {"all": round(told.lasted, 1), "drain": _rounded(told.drained), "probe": _rounded(told.probed)},
        "versions": _versions(),
        "broken": [{"invariant": each.invariant, "delivery": each.delivery, "how": each.words} for each in breaches],
        "stories": [
            story(found, delivery)
            for delivery in dict.fromkeys(each.delivery for each in breaches if each.delivery is not None)
        ][: 4 * _STORIES],
    }


def _standing(row: Any) -> str:
    return f"{row.state} ({row.reason})" if row.reason else str(row.state)


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 2)


def _versions() -> dict[str, str]:
    names = ("attribution-kit", "sqlalchemy", "psycopg", "aiohttp", "httpx", "uvicorn")
    return {"python": platform.python_version(), "sqlite": sqlite3.sqlite_version} | {
        name: version(name) for name in names
    }


def story(found: Evidence, delivery: int) -> list[str]:
    """Return what became of one delivery, in the order of time: the store's attempts, the oracle's requests."""
    row = found.rows.get(delivery)
    if row is None:
        return [f"delivery {delivery} is not in the store"]
    lines = [
        (tried.opened_at, f"attempt {tried.id} opened; {tried.outcome}, closed {_clock(tried.closed_at)}")
        for tried in row.tried
    ]
    lines += [(request.at, _of(request, delivery)) for request in found.requests.get(delivery, ())]
    times = [at for at, _ in lines]
    lines += [
        (blow.at, f"{blow.what} of {blow.role} {blow.pid} until {_clock(blow.ended)}")
        for blow in found.told.blows
        if any(blow.at - _NEAR <= at <= blow.ended + _NEAR for at in times)
    ]
    if row.settled_at is not None:
        lines.append((row.settled_at, f"settled as {_standing(row)}"))
    head = f"delivery {row.id}: {row.name} of {row.order_id or row.event_id} for {row.destination}, {_standing(row)}"
    counted = f"attempts {row.attempts}, crashes {row.crashes}"
    return [f"{head}, {counted}", *(f"  {_clock(at)} {words}" for at, words in sorted(set(lines)))]


def _of(request: Noted, delivery: int) -> str:
    entries = dict(request.entries)
    sent = f"request {request.number} from {request.pid}, attempt {entries[delivery]}, {len(entries)} in it"
    return f"{sent}: {request.play}, {request.status}, answered {_clock(request.answered)}"


def _clock(at: float | None) -> str:
    return "never" if at is None else f"{at % 100_000:.3f}"


def table(said: dict[str, Any]) -> str:
    """Return the run as text for a terminal."""
    lines = [f"torture on {said['engine']}, seed {said['seed']}: {'green' if said['green'] else 'NOT GREEN'}"]
    parts = ("asked", "blows", "counts", "states", "resends", "seconds", "versions")
    lines += [f"\n{part}\n{_pairs(said[part])}" for part in parts]
    lines.append("\ninvariants, and how often each was broken\n" + _pairs(said["invariants"]))
    lines.append("\nsometimes, and how often each was met\n" + _pairs(said["sometimes"]))
    if said["missing"]:
        lines.append("\nnever met: " + ", ".join(said["missing"]))
    lines += [
        f"\nBROKEN {each['invariant']}: {each['how']} (delivery {each['delivery']})"
        for each in said["broken"][: 4 * _STORIES]
    ]
    lines += ["\n" + "\n".join(each) for each in said["stories"][:_STORIES]]
    return "\n".join(lines)


def _pairs(values: dict[str, Any]) -> str:
    return "\n".join(f"  {name:<36} {value}" for name, value in sorted(values.items()))
