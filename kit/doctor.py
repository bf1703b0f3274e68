"""Looks a shop's set-up over before a vendor or a crash does: store, disk, clocks, credentials, a worker that works,
and whether the vendors still answer as they did."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from pathlib import Path
from typing import Literal

from kit.destinations import AdRoll, Destination
from kit.destinations.base import Answer, Authentication, Token, Trial
from kit.destinations.shape import Shape, shape_of
from kit.destinations.wire import Exchange, Wire
from kit.errors import ConfigurationError, StoreUnavailable
from kit.kit import Kit
from kit.model import Mode, Verdict
from kit.store.answers import Seen, keep_answers, seen_answers
from kit.store.health import damage, health
from kit.store.pixels import PIXELS, DoubleReport, double_reports
from kit.store.quarantine import quarantined

#: A clock this far off makes vendors refuse events, or count them for another day.
SKEW = timedelta(seconds=120)
#: What is due for longer than this, with nothing holding it back, has no worker.
STALL = timedelta(minutes=5)
#: How far back what pages noted of vendors' pixels is looked at.
WEEK = timedelta(days=7)
_DEADLINE = timedelta(seconds=10)

State = Literal["good", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do unless it is good."""

    about: str
    state: State
    said: str
    advice: str = ""


async def examine(
    kit: Kit, *, ask_vendors: bool = True, read_all: bool = False, compare: bool = False
) -> list[Finding]:
    """Return what was found. Vendors are asked only what they count nowhere; `read_all` checks all of SQLite's file.

    `compare` holds the shape of each vendor's answer against the one of last time, and keeps it for the next.
    """
    findings = [finding async for finding in _store(kit, read_all=read_all)]
    # What the store cannot tell now was said once, above.
    can_tell = findings[0].state == "good"
    for destination in kit.destinations:
        exchange = await _asked(destination) if ask_vendors and destination.mode != Mode.SHADOW else None
        findings += _destination(destination, exchange)
        if can_tell:
            findings += await _answers(kit, destination.name)
        if can_tell and compare and exchange is not None and exchange.answer is not None:
            findings.append(await _compared(kit, destination, exchange.answer))
    if can_tell:
        findings += await _reported_beside(kit)
    return findings


#: Older builds can lose what their write-ahead log holds, so they have none here (store/engine.py).
_FASTER = "with SQLite 3.51.3 or newer a report takes half the time"


async def _store(kit: Kit, *, read_all: bool) -> AsyncIterator[Finding]:
    names = [destination.name for destination in kit.destinations]
    try:
        await kit.ready()
        found = await kit.store.read(lambda connection: health(connection, names))
        broken = await kit.store.read(damage) if read_all else None
        doubted = await kit.store.read(partial(quarantined, rule=kit.quarantine))
    except ConfigurationError as error:
        yield Finding("store", "bad", error.setting, error.reason)
        return
    except StoreUnavailable as error:
        yield Finding("store", "bad", str(error), "is the database up, the disk writable, the URL right?")
        return
    yield Finding("store", "good", f"{found.engine}, {kit.store.url.render_as_string(hide_password=True)}")
    if found.unsafe:
        yield Finding("durability", "bad", ", ".join(found.unsafe), "with it a power cut loses what was accepted")
    else:
        without_log = "TRUNCATE" in found.durable_by and found.network is None
        yield Finding("durability", "good", f"{found.durable_by}; {_FASTER}" if without_log else found.durable_by)
    if read_all and kit.store.url.get_backend_name() == "sqlite":
        yield (
            Finding("file", "bad", broken, "stop the shop, keep a copy; README: Restoring a backup")
            if broken
            else Finding("file", "good", "undamaged")
        )
    if kit.store.url.get_backend_name() == "sqlite":
        yield _disk(Path(kit.store.url.database or ""))
    if found.network is not None:
        yield Finding("file system", "warning", found.network, "a local disk for SQLite; PostgreSQL for many machines")
    yield _clock("clock of the database", found.offset)
    if doubted:
        visitors = "1 visitor is" if len(doubted) == 1 else f"{len(doubted):,} visitors are"
        said = f"{visitors} in quarantine: too many people were asserted of each"
        yield Finding("identities", "warning", said, "`kit identity list` names them; a shared device? an attack?")
    now = datetime.now(UTC)
    for name, due in found.overdue.items():
        if now - due > STALL:
            yield Finding(
                f"worker for {name}",
                "bad",
                f"something is due for {(now - due) // timedelta(minutes=1)} minutes and nothing holds it back",
                "run `kit worker`, or let the app's lifespan deliver",
            )


def _disk(file: Path) -> Finding:
    usage = shutil.disk_usage(file.parent)
    said = f"{usage.free // 2**20:,} MiB free"
    if usage.free < 256 * 2**20:
        return Finding("disk", "bad", said, "reports are refused when it is full; make room")
    if usage.free < usage.total // 20:
        return Finding("disk", "warning", said, "less than 5 % is free; make room")
    return Finding("disk", "good", said)


def _destination(destination: Destination, exchange: Exchange | None) -> Iterator[Finding]:
    name = destination.name
    for warning in destination.warnings():
        yield Finding(f"settings of {name}", "warning", warning, "look whether it was written as the vendor issued it")
    if destination.mode == Mode.SHADOW:
        yield Finding(name, "warning", "in shadow mode: nothing is sent", 'mode="live" or KIT_MODE=live sends')
        return
    if exchange is None:
        yield Finding(name, "good", "live, and not asked")
        return
    if exchange.answer is None:
        yield Finding(name, "bad", f"cannot be reached ({exchange.error})", "network, DNS, firewall, certificate?")
        return
    if destination.authentication is not None:
        yield _token(name, destination.authentication, exchange.answer)
    elif (trial := destination.trial(now=datetime.now(UTC))) is not None:
        yield _tried(destination, trial, exchange.answer)
    if (date := exchange.answer.headers.get("date")) is not None:
        yield _clock(f"clock of {name}", _ahead(date))


async def _asked(destination: Destination) -> Exchange | None:
    """Return what came of asking for a token, else of the destination's trial; None where there is neither."""
    trial = destination.trial(now=datetime.now(UTC))
    authentication = destination.authentication
    request = authentication.ask() if authentication is not None else trial.request if trial is not None else None
    if request is None:
        return None
    wire = Wire(max_connections=1, deadline=_DEADLINE)
    try:
        return await wire.send(request, lease=lambda: True)
    finally:
        await wire.aclose()


def _token(name: str, authentication: Authentication, answer: Answer) -> Finding:
    found = authentication.read(answer, now=datetime.now(UTC))
    if isinstance(found, Token):
        return Finding(name, "good", "gave a token, so its credentials are right")
    if found.verdict is Verdict.SETUP:
        return Finding(name, "bad", found.detail, "the app's id or secret is wrong, or may not be used here")
    return Finding(name, "warning", found.detail, "it could not give a token just now")


async def _answers(kit: Kit, name: str) -> list[Finding]:
    """Return how often this vendor answered orders in a way that its destination was not written for."""
    seen = [one for one in await kit.store.read(lambda connection: seen_answers(connection, name)) if not one.known]
    if not seen:
        return []
    latest = max(seen, key=lambda one: one.last_at)
    said = f"{sum(one.seen for one in seen)} in unknown shapes, the latest {latest.last_at:%Y-%m-%d}: {_worded(latest)}"
    return [
        Finding(f"answers of {name}", "warning", said, "`kit answers` lists them; did the vendor change something?")
    ]


async def _reported_beside(kit: Kit) -> list[Finding]:
    """Return how many orders of the last week were delivered to a vendor whose pixel reported them from the page."""
    since = datetime.now(UTC) - WEEK
    vendors = {destination.name: destination.vendor for destination in kit.destinations}
    left = {one.name: one.pixel_reports for one in kit.destinations if isinstance(one, AdRoll)}
    found = await asyncio.to_thread(double_reports, kit.store, vendors, since=since)
    return [_doubled(one) for one in found if one.name not in left.get(one.destination, ())]


def _doubled(one: DoubleReport) -> Finding:
    pixel = PIXELS[one.vendor]
    about = f"pixel beside {one.destination}"
    said = f"{one.orders:,} {one.name} events of the last week were reported by {pixel.title}'s pixel too"
    if pixel.repeat is not None:
        return Finding(about, "good", f"{said}; {pixel.repeat}")
    setting = f'{pixel.title}(pixel_reports={{"{one.name}"}})'
    return Finding(about, "warning", said, f"{pixel.title} counts both; {setting} leaves them to the pixel")


async def _compared(kit: Kit, destination: Destination, answer: Answer) -> Finding:
    """Hold the answer to a question that counts nowhere against the one of last time."""
    about, asked = f"contract of {destination.name}", f"{destination.name} (doctor)"[-64:]
    before = await kit.store.read(lambda connection: seen_answers(connection, asked))
    found = _as_seen(asked, answer, shape_of(answer), known=destination.is_known(answer))
    await kit.store.write(keep_answers, [found])
    if not before:
        return Finding(about, "good", f"{_worded(found)}; kept, to be compared the next time")
    last = max(before, key=lambda one: one.last_at)
    if (last.status, last.shape) == (found.status, found.shape):
        return Finding(about, "good", f"as on {last.last_at:%Y-%m-%d}: {_worded(found)}")
    said = f"on {last.last_at:%Y-%m-%d} {_worded(last)}, now {_worded(found)}"
    return Finding(about, "warning", said, "the vendor answers in another way; see its change log")


def _as_seen(name: str, answer: Answer, shape: Shape, *, known: bool) -> Seen:
    now = datetime.now(UTC)
    return Seen(
        destination=name,
        status=answer.status,
        shape=shape.digest,
        sketch=shape.sketch,
        known=known,
        seen=1,
        first_at=now,
        last_at=now,
    )


def _worded(one: Seen) -> str:
    return f"HTTP {one.status} {one.sketch}"


def _tried(destination: Destination, trial: Trial, answer: Answer) -> Finding:
    if trial.sending is None:
        return Finding(destination.name, "good", "can be reached; it has no dry run, so no credentials were tried")
    judged = destination.judge([trial.sending], answer, now=datetime.now(UTC))[0]
    if judged.verdict is Verdict.OK:
        return Finding(destination.name, "good", "took a dry run, so its credentials are right")
    if judged.verdict is Verdict.SETUP:
        return Finding(destination.name, "bad", judged.detail, "the token or the account's ids are wrong")
    return Finding(destination.name, "warning", judged.detail, "it answered a dry run in an unforeseen way")


def _ahead(date: str) -> timedelta:
    try:
        return parsedate_to_datetime(date) - datetime.now(UTC)
    except (ValueError, TypeError):
        return timedelta(0)


def _clock(about: str, ahead: timedelta) -> Finding:
    if abs(ahead) > SKEW:
        seconds = int(abs(ahead).total_seconds())
        return Finding(
            about, "bad", f"{seconds} s {'ahead' if ahead > timedelta(0) else 'behind'}", "set up NTP here or there"
        )
    return Finding(about, "good", "agrees with this host's")
