"""Looks a shop's set-up over before a vendor or a crash does: store, disk, clocks, credentials, a worker that works."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal

from kit.destinations import Destination
from kit.destinations.base import Answer, Trial
from kit.destinations.wire import Wire
from kit.errors import ConfigurationError, StoreUnavailable
from kit.kit import Kit
from kit.model import Mode, Verdict
from kit.store.health import damage, health

#: A clock this far off makes vendors refuse events, or count them for another day.
SKEW = timedelta(seconds=120)
#: What is due for longer than this, with nothing holding it back, has no worker.
STALL = timedelta(minutes=5)
_DEADLINE = timedelta(seconds=10)

State = Literal["good", "warning", "bad"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` says what to do unless it is good."""

    about: str
    state: State
    said: str
    advice: str = ""


async def examine(kit: Kit, *, ask_vendors: bool = True, read_all: bool = False) -> list[Finding]:
    """Return what was found. Vendors are asked only what they count nowhere; `read_all` checks all of SQLite's file."""
    findings = [finding async for finding in _store(kit, read_all=read_all)]
    for destination in kit.destinations:
        findings += [finding async for finding in _destination(destination, ask=ask_vendors)]
    return findings


async def _store(kit: Kit, *, read_all: bool) -> AsyncIterator[Finding]:
    names = [destination.name for destination in kit.destinations]
    try:
        await kit.ready()
        found = await kit.store.read(lambda connection: health(connection, names))
        broken = await kit.store.read(damage) if read_all else None
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
        yield Finding("durability", "good", found.durable_by)
    if read_all and kit.store.url.get_backend_name() == "sqlite":
        yield (
            Finding("file", "bad", broken, "stop the shop, keep a copy, restore a backup")
            if broken
            else Finding("file", "good", "undamaged")
        )
    if kit.store.url.get_backend_name() == "sqlite":
        yield _disk(Path(kit.store.url.database or ""))
    yield _clock("clock of the database", found.offset)
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


async def _destination(destination: Destination, *, ask: bool) -> AsyncIterator[Finding]:
    name = destination.name
    if destination.mode == Mode.SHADOW:
        yield Finding(name, "warning", "in shadow mode: nothing is sent", 'mode="live" or KIT_MODE=live sends')
        return
    trial = destination.trial(now=datetime.now(UTC)) if ask else None
    if trial is None:
        yield Finding(name, "good", "live, and not asked")
        return
    wire = Wire(max_connections=1, deadline=_DEADLINE)
    try:
        exchange = await wire.send(trial.request, lease=lambda: True)
    finally:
        await wire.aclose()
    if exchange.answer is None:
        yield Finding(name, "bad", f"cannot be reached ({exchange.error})", "network, DNS, firewall, certificate?")
        return
    yield _tried(destination, trial, exchange.answer)
    if (date := exchange.answer.headers.get("date")) is not None:
        yield _clock(f"clock of {name}", _ahead(date))


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
