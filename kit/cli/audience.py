"""Commands about audiences: add the people of a file to a list, remove them from it, and deliver that."""

import asyncio
import contextlib
import csv
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Connection

from kit.audiences import change_audience, one_of
from kit.cli.common import AppOption, JsonOption, app, console, counted, fail, kit_of, print_json
from kit.delivery.batch import fingerprint
from kit.destinations import RoktAudience
from kit.destinations.rokt.people import in_words
from kit.errors import StoreUnavailable
from kit.kit import Kit
from kit.model import DeliveryState
from kit.store.gates import STOPPED, gate_of
from kit.store.jobs import states
from kit.store.outbox import owners

audience = typer.Typer(
    no_args_is_help=True, help="Lists of customers at the vendor, for targeting and for sparing them."
)
app.add_typer(audience, name="audience")

_LOOK = 0.1

ListArgument = Annotated[str, typer.Argument(metavar="LIST", help="The list's name, made with its first member.")]
FileArgument = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="Addresses or their SHA-256 digests: one a line, or a CSV with a column for them. - is stdin.",
    ),
]
ColumnOption = Annotated[str | None, typer.Option("--column", help="The CSV's column; else the one named email.")]
DestinationOption = Annotated[str | None, typer.Option("--destination", help="Which, where there are several.")]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Only queue: a worker delivers.")]


@dataclass(slots=True)
class Tally:
    """What a command has done so far, in numbers."""

    action: str
    name: str
    added: int = 0
    removed: int = 0
    held_out: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    states: Counter[tuple[str, str | None]] = field(default_factory=Counter)
    halted: str = ""

    @property
    def settled(self) -> int:
        waiting = {DeliveryState.PENDING, DeliveryState.CLAIMED}
        return sum(number for (state, _), number in self.states.items() if state not in waiting)


@audience.command()
def add(
    name: ListArgument,
    file: FileArgument,
    column: ColumnOption = None,
    destination: DestinationOption = None,
    no_wait: NoWaitOption = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the people of a file to a list, but for the holdout, who are removed from it."""
    _change("add", name, file, column, destination, no_wait=no_wait, app=app, as_json=as_json)


@audience.command()
def remove(
    name: ListArgument,
    file: FileArgument,
    column: ColumnOption = None,
    destination: DestinationOption = None,
    no_wait: NoWaitOption = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Remove the people of a file from a list."""
    _change("remove", name, file, column, destination, no_wait=no_wait, app=app, as_json=as_json)


def _change(
    action: str,
    name: str,
    file: str,
    column: str | None,
    destination: str | None,
    *,
    no_wait: bool,
    app: str | None,
    as_json: bool,
) -> None:
    kit = kit_of(app)
    taker = one_of(kit.destinations, RoktAudience, destination)
    tally = Tally(action=action, name=name)
    try:
        with _progress() as progress:
            _queue(kit, taker, file, column, tally, progress)
            if not tally.halted and not no_wait:
                asyncio.run(_deliver(kit, taker, tally, progress))
    finally:
        kit.store.close()
    _tell(tally, as_json=as_json, waited=not no_wait)
    dead = any(state == DeliveryState.DEAD for state, _ in tally.states)
    raise typer.Exit(dead or bool(tally.halted))


# ---------------------------------------------------------------- queue


def _queue(kit: Kit, taker: RoktAudience, file: str, column: str | None, tally: Tally, progress: Progress) -> None:
    """Queue the file a chunk at a time, each durable before the next is read; what stops it short is in the tally."""
    bar = progress.add_task("queued members", total=None)
    try:
        with _opened(file) as lines:
            members = members_of(lines, column)
            while some := list(islice(members, taker.chunk)):
                given = {"add": (), "remove": (), tally.action: some}
                change, jobs = change_audience(taker, tally.name, **given)
                kit.sync.enqueue(jobs)
                tally.added += change.added
                tally.removed += change.removed
                tally.held_out += change.held_out
                tally.refused += Counter(change.refused)
                tally.ids += change.ids
                progress.update(bar, advance=change.accepted)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}")
    except csv.Error as error:
        queued = counted(len(tally.ids), "request, which is", "requests, which are")
        fail(f"the file is no CSV any more after {queued} queued: {error}")
    except KeyboardInterrupt:
        tally.halted = "interrupted while the file was read"
    except StoreUnavailable as error:
        tally.halted = f"{error}, while the file was read"
    if not tally.ids and not tally.halted:
        fail(f"nobody in the file can be taken: {in_words(tally.refused)}" if tally.refused else "the file is empty")


@contextlib.contextmanager
def _opened(file: str) -> Iterator[TextIO]:
    """Open the file as UTF-8; what is not becomes U+FFFD, and its line is refused alone."""
    if file == "-":
        sys.stdin.reconfigure(encoding="utf-8-sig", errors="replace", newline="")  # type: ignore[union-attr]
        yield sys.stdin
        return
    with Path(file).open(encoding="utf-8-sig", errors="replace", newline="") as opened:
        yield opened


def members_of(lines: Iterator[str], column: str | None) -> Iterator[str]:
    """Yield what stands on each line that is not blank, or in one column where the first line is a CSV's header."""
    header = next((line for line in lines if line.strip()), "")
    mark = next((mark for mark in ",;\t" if mark in header), ",")
    names = [cell.strip().lower() for cell in next(csv.reader([header], delimiter=mark), [])]
    wanted = (column or "email").strip().lower()
    if wanted not in names:
        if column is not None:
            fail("--column names none of the first line's columns")
        if len(names) > 1:
            fail("the first line has several columns, none of them email; name one with --column")
        yield from (line for line in chain([header], lines) if line.strip())
        return
    place = names.index(wanted)
    for row in csv.reader(lines, delimiter=mark):
        if row:
            yield row[place] if place < len(row) else ""


# ---------------------------------------------------------------- deliver


async def _deliver(kit: Kit, taker: RoktAudience, tally: Tally, progress: Progress) -> None:
    """Deliver until every job of this command is settled, Ctrl-C, or a gate that does not open by itself."""
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    worker = kit.worker_for([taker])
    delivering = asyncio.create_task(worker.run())
    bar = progress.add_task("settled requests", total=len(tally.ids))
    try:
        while not delivering.done():
            tally.states = await kit.store.read(lambda connection: states(connection, tally.ids))
            progress.update(bar, completed=tally.settled)
            if tally.settled == len(tally.ids):
                return
            gate, holders = await kit.store.read(partial(_held_back, name=taker.name))
            if gate is not None and stays_shut(gate, ours=fingerprint(taker), under_way=bool(holders)):
                tally.halted = f"{taker.name} is {gate.state}: {gate.reason}"
                return
            progress.update(bar, description=f"settled requests ({gate.state})" if gate else "settled requests")
            # What waited for the request before it need not wait for the worker's next look.
            worker.wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(interrupted.wait(), _LOOK)
            if interrupted.is_set():
                tally.halted = "interrupted"
                return
    finally:
        worker.stop()
        await delivering
        loop.remove_signal_handler(signal.SIGINT)
        tally.states = await kit.store.read(lambda connection: states(connection, tally.ids))


def _held_back(connection: Connection, *, name: str) -> tuple[Any, set[str]]:
    return gate_of(connection, name), owners(connection, name)


def stays_shut(gate: Any, *, ours: str, under_way: bool) -> bool:
    """Return whether waiting is of no use: an operator stopped it, or it was tried with these very settings."""
    return gate.state == STOPPED or (gate.state == "paused" and gate.fingerprint == ours and not under_way)


# ---------------------------------------------------------------- tell


def _progress() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _tell(tally: Tally, *, as_json: bool, waited: bool) -> None:
    if as_json:
        print_json(_as_json(tally))
        return
    done = {"added": tally.added, "removed": tally.removed, "held out": tally.held_out}
    said = ", ".join(f"{number:,} {what}" for what, number in done.items() if number)
    console.print(f"{tally.name}: {said or 'nobody'} in {counted(len(tally.ids), 'request')}")
    if tally.refused:
        number = sum(tally.refused.values())
        console.print(f"refused {number:,}: {in_words(tally.refused)}", style="yellow")
    for (state, reason), number in sorted(tally.states.items(), key=str):
        shown = f"{state} ({reason})" if reason else state
        console.print(f"  {number:,} {shown}")
    left = len(tally.ids) - tally.settled
    if tally.halted:
        console.print(f"stopped: {tally.halted}", style="red")
    if left and (tally.halted or not waited):
        it, them = ("it stays", "it") if left == 1 else ("they stay", "them")
        console.print(f"{left:,} queued; {it} queued, and `kit worker` delivers {them}")


def _as_json(tally: Tally) -> dict[str, object]:
    return {
        "list": tally.name,
        "added": tally.added,
        "removed": tally.removed,
        "held_out": tally.held_out,
        "refused": dict(tally.refused),
        "requests": len(tally.ids),
        "settled": [
            {"state": state, "reason": reason, "n": number}
            for (state, reason), number in sorted(tally.states.items(), key=str)
        ],
        "stopped": tally.halted or None,
    }
