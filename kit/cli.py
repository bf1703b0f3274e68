"""The `kit` command, for people; with `--json` for programs."""

import asyncio
import dataclasses
import importlib
import json
import re
import signal
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

from kit import settings
from kit.destinations.base import is_loopback
from kit.doctor import Finding, examine
from kit.errors import ConfigurationError, KitError
from kit.kit import Kit
from kit.model import DeliveryState
from kit.store import Store
from kit.store.gates import STOPPED, Gate
from kit.store.overview import (
    Pause,
    Replay,
    Resolve,
    Standing,
    Told,
    held,
    pause,
    replay,
    resolve,
    resume,
    standings,
    told,
)
from kit.store.writer import Verb

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ImportError:  # pragma: no cover - shown where the extra is missing
    sys.exit("the kit command needs its extra: pip install 'attribution-kit[cli]'")

_Argument = TypeVar("_Argument")
_Result = TypeVar("_Result")

_ENDING = (signal.SIGTERM, signal.SIGINT)

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console()

AppOption = Annotated[
    str | None,
    typer.Option("--app", envvar="KIT_APP", help="Where your Kit is, as module:name; else KIT_* variables make one."),
]
StoreOption = Annotated[
    str | None, typer.Option("--store", help="The store's URL; else KIT_STORE, else sqlite:///kit.db.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_TIMES = 'a time such as 2026-01-31T18:00Z, or "2h" or "3d" for so long ago; without a zone it is UTC'
_UNITS = {"min": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


def main() -> None:
    """Run the command; an error that we foresaw is one line, not a traceback."""
    try:
        app()
    except KitError as error:
        _fail(str(error))


@app.command()
def demo(
    once: Annotated[bool, typer.Option("--once", help="Stop after the table; exit 1 if a row is wrong.")] = False,
    port: Annotated[int, typer.Option(help="The demo shop's port; 0 takes a free one.", min=0, max=65_535)] = 8000,
) -> None:
    """Start three sandbox vendors and a demo shop, drive real visits through them, and show what each vendor got."""
    from kit.sandbox.demo import run

    raise typer.Exit(run(once=once, port=port))


@app.command()
def worker(app: AppOption = None) -> None:
    """Deliver until stopped. SIGTERM finishes what is under way, for at most 15 seconds."""
    asyncio.run(_work(_kit(app)))


@app.command()
def migrate(store: StoreOption = None) -> None:
    """Bring the store's schema up to date."""
    Store(store or settings.read().store).migrate()
    console.print("the schema is up to date", style="green")


@app.command()
def status(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show how each destination stands: deliveries by state and reason, the oldest pending one, what holds it back."""
    found = standings(_store(store))
    if as_json:
        _print_json([_standing_json(one) for one in found])
        return
    if not found:
        console.print("nothing was reported yet")
        return
    table = Table("destination", "state", "deliveries", "oldest pending", "held back")
    for one in found:
        if not one.counts and one.gate is not None:
            table.add_row(escape(one.destination), "", "0", "", escape(_held(one.gate)))
        for place, ((state, reason), number) in enumerate(sorted(one.counts.items(), key=str)):
            name = one.destination if place == 0 else ""
            oldest = _age(one.oldest_pending) if state == DeliveryState.PENDING else ""
            held = _held(one.gate) if one.gate and place == 0 else ""
            shown = f"{state} ({reason})" if reason else state
            # What vendors and shops wrote is text, not the terminal's markup.
            table.add_row(*map(escape, (name, shown, str(number), oldest, held)))
    console.print(table)


@app.command()
def why(
    order: Annotated[str, typer.Argument(help="The order's id.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what became of one order at each destination, and why something was not sent."""
    found = _store(store).read_sync(lambda connection: told(connection, order_id=order))
    if as_json:
        _print_json([_told_json(one) for one in found])
        return
    if not found:
        _fail(f"no event with the order id {order!r} was reported")
    for event_id, deliveries in groupby(found, key=lambda one: one.event_id):
        _print_story(event_id, list(deliveries))


@app.command(name="replay")
def replay_command(
    order: Annotated[str | None, typer.Option("--order", help="Only this order's deliveries.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only this destination's.")] = None,
    state: Annotated[str, typer.Option(help="dead, held or skipped.")] = "dead",
    reason: Annotated[str | None, typer.Option(help="Only these, such as rejected, consent or identifier.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only what ended then or later: {_TIMES}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only what ended before: {_TIMES}.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send again what is dead, held or skipped, with the same keys. What was delivered is never sent again."""
    if state not in {"dead", "held", "skipped"}:
        _fail("--state is dead, held or skipped; what is pending or delivered cannot be replayed")
    now = datetime.now(UTC)
    asked = Replay(
        order_id=order,
        destination=destination,
        state=DeliveryState(state),
        reason=reason,
        since=_moment("--since", since, now=now),
        until=_moment("--until", until, now=now),
        now=now,
    )
    opened = _store(store)
    if order is not None and not opened.read_sync(lambda connection: told(connection, order_id=order)):
        _fail(f"no event with the order id {order!r} was reported")
    number = replay(opened, asked)
    opened.close()
    if as_json:
        _print_json({"replayed": number})
    else:
        console.print(f"{number} {'delivery is' if number == 1 else 'deliveries are'} pending again")


hold = typer.Typer(no_args_is_help=True, help="Deliveries whose outcome nobody knows, and what to make of them.")
app.add_typer(hold, name="hold")


@hold.command(name="list")
def hold_list(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what is held, the longest first: ask the vendor about each, then `kit hold resolve`."""
    found = _store(store).read_sync(held)
    if as_json:
        _print_json([_told_json(one) for one in found])
        return
    if not found:
        console.print("nothing is held")
        return
    table = Table("order", "destination", "value", "reported", "why")
    for one in found:
        why = ": ".join(filter(None, (one.reason, one.detail)))
        row = (one.order_id or one.event_id, one.destination, one.value or "", _clock(one.reported_at), why)
        table.add_row(*map(escape, row))
    console.print(table)


@hold.command(name="resolve")
def hold_resolve(
    order: Annotated[str, typer.Argument(help="The order whose delivery is held.")],
    destination: Annotated[str, typer.Argument(help="The destination that holds it.")],
    delivered: Annotated[
        bool, typer.Option("--delivered/--resend", help="The vendor has it, or it may be sent again.")
    ],
    store: StoreOption = None,
) -> None:
    """Decide about a delivery whose outcome is unknown, after asking the vendor."""
    asked = Resolve(order_id=order, destination=destination, delivered=delivered, now=datetime.now(UTC))
    if not _written(store, resolve, asked):
        _fail(f"nothing of order {order!r} is held at {destination}")
    console.print("it counts as delivered" if delivered else "it is pending again")


@app.command(name="pause")
def pause_command(
    destination: Annotated[str, typer.Argument(help="The destination's name.")],
    reason: Annotated[str, typer.Option(help="Shown by `kit status`.")] = "by operator",
    force: Annotated[bool, typer.Option("--force", help="Also one that this store has never heard of.")] = False,
    store: StoreOption = None,
) -> None:
    """Send nothing more to a destination until `kit resume`. Orders are still accepted and wait."""
    known = [one.destination for one in standings(_store(store))]
    if destination not in known and not force:
        _fail(f"nothing was ever reported to {destination!r}; known are {', '.join(known) or 'none'}; or say --force")
    _written(store, pause, Pause(destination=destination, reason=reason, now=datetime.now(UTC)))
    console.print(f"{destination} is paused; `kit resume {destination}` lets it go on")


@app.command(name="resume")
def resume_command(
    destination: Annotated[str, typer.Argument(help="The destination's name.")], store: StoreOption = None
) -> None:
    """Let a destination go on, whoever or whatever held it back."""
    was = _written(store, resume, destination)
    console.print(f"{destination} goes on" if was else f"{destination} was not held back")


@app.command()
def doctor(
    app: AppOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no vendor anything.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read all of SQLite's file; commits wait meanwhile.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look the set-up over: store, disk, clocks, credentials by dry run, a worker that works. Exit 1 if one is bad."""
    findings = asyncio.run(_examined(_kit(app), ask_vendors=not offline, read_all=deep))
    if as_json:
        _print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        table = Table("looked at", "", "found", "what to do")
        for one in findings:
            mark = {"good": "[green]good[/]", "warning": "[yellow]warning[/]", "bad": "[red]bad[/]"}[one.state]
            table.add_row(escape(one.about), mark, escape(one.said), escape(one.advice))
        console.print(table)
    raise typer.Exit(any(one.state == "bad" for one in findings))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free port.", min=0, max=65_535)] = 8900,
) -> None:
    """Serve the three vendors' sandboxes on loopback until stopped."""
    from kit.sandbox import Sandbox

    if not is_loopback(host):
        _fail("--host is no loopback address; the sandbox knows no secrets and serves this machine only")
    served = Sandbox()
    try:
        with served.serve(host=host, port=port) as addresses:
            console.print(f"The vendors' page: {addresses.url}/\nFor the shop's environment:\n")
            for line in served.environment(addresses):
                console.print(line, markup=False, highlight=False, soft_wrap=True)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except OSError as error:
        _fail(f"--port {port} cannot be served: {error.strerror}")


# ---------------------------------------------------------------- pieces


async def _work(attribution: Kit) -> None:
    await attribution.ready()
    names = ", ".join(f"{one.name} ({one.mode})" for one in attribution.destinations)
    console.print(f"delivering to {names or 'nobody: no destination is configured'}", markup=False)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        attribution.worker.stop()
        # The second signal ends the process at once.
        for number in _ENDING:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in _ENDING:
        loop.add_signal_handler(number, stop)
    try:
        await attribution.worker.run()
    finally:
        attribution.store.close()


async def _examined(attribution: Kit, *, ask_vendors: bool, read_all: bool) -> list[Finding]:
    try:
        return await examine(attribution, ask_vendors=ask_vendors, read_all=read_all)
    finally:
        attribution.store.close()


def _kit(app: str | None) -> Kit:
    if app is None:
        return Kit.from_env()
    module, _, name = app.partition(":")
    sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), name or "attribution")
    except Exception as error:
        reason = f"cannot be loaded ({type(error).__name__}: {error}); write module:name, such as shop:attribution"
        raise ConfigurationError("--app", reason) from error
    if not isinstance(found, Kit):
        raise ConfigurationError("--app", f"is a {type(found).__name__}, not a Kit")
    return found


def _moment(option: str, text: str | None, *, now: datetime) -> datetime | None:
    """Return the time that an option names, in UTC."""
    if text is None:
        return None
    ago = re.fullmatch(r"([0-9]{1,4})(min|h|d)", text)
    if ago is not None:
        return now - int(ago[1]) * _UNITS[ago[2]]
    try:
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=found.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        _fail(f"{option} is no time; write {_TIMES}")


def _written(url: str | None, verb: Verb[_Argument, _Result], argument: _Argument) -> _Result:
    opened = _store(url)
    try:
        return opened.write_sync(verb, argument)
    finally:
        opened.close()


def _store(url: str | None) -> Store:
    """Return the store to look at; looking must not make one."""
    found = Store(url or settings.read().store)
    if found.url.get_backend_name() == "sqlite" and not Path(found.url.database or "").exists():
        _fail(f"there is no store at {found.url.database}; name it with --store or KIT_STORE")
    return found


def identifier_names(one: Told) -> Iterable[str]:
    """Yield which identifiers were gathered, by name: a terminal is no place for their values."""
    found = one.identifiers
    yield from (click.vendor for click in found.click_ids)
    for name in ("first_party_cookie", "email", "phone", "customer_id", "ip"):
        if getattr(found, name):
            yield name


def _print_story(event_id: str, deliveries: list[Told]) -> None:
    """Print one event: what it was, what was known of the buyer, and what became of it at each destination."""
    one = deliveries[0]
    granted = {True: "granted", False: "refused", None: "not known"}[one.consent.granted]
    console.print(f"[bold]{escape(one.name)}[/] {escape(one.order_id or '')} {one.value or ''}   event {event_id}")
    console.print(f"  reported     {_clock(one.reported_at)}")
    console.print(f"  consent      {granted} ({one.consent.signal})")
    console.print(f"  identifiers  {', '.join(identifier_names(one)) or 'none'}")
    for conflict in one.conflicts:
        console.print(f"  reported again with another {conflict}: the first report stands", style="yellow")
    for each in deliveries:
        state = f"{each.state} ({each.reason})" if each.reason else each.state
        tried = "" if not each.attempts else f", {each.attempts} attempt{'s' if each.attempts > 1 else ''}"
        said = f": {each.detail}" if each.detail else ""
        console.print(f"  {each.destination:<12} {state}{tried}{said}", markup=False, soft_wrap=True)


def _standing_json(one: Standing) -> dict[str, object]:
    return {
        "destination": one.destination,
        "counts": [
            {"state": state, "reason": reason, "n": n} for (state, reason), n in sorted(one.counts.items(), key=str)
        ],
        "oldest_pending": one.oldest_pending.isoformat() if one.oldest_pending else None,
        "gate": {"state": one.gate.state, "until": one.gate.until.isoformat(), "reason": one.gate.reason}
        if one.gate
        else None,
    }


def _told_json(one: Told) -> dict[str, object]:
    return {
        "event_id": one.event_id,
        "name": one.name,
        "order_id": one.order_id,
        "reported_at": one.reported_at.isoformat(),
        "value": one.value,
        "identifiers": list(identifier_names(one)),
        "consent": {"granted": one.consent.granted, "signal": one.consent.signal},
        "destination": one.destination,
        "state": one.state,
        "reason": one.reason,
        "detail": one.detail,
        "attempts": one.attempts,
        "conflicts": list(one.conflicts),
    }


def _age(moment: datetime | None) -> str:
    if moment is None:
        return ""
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    for unit, size in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def _held(gate: Gate) -> str:
    until = "" if gate.state == STOPPED else f" until {_clock(gate.until)}"
    return f"{gate.state}{until}: {gate.reason}"


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _print_json(value: object) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))


def _fail(message: str) -> NoReturn:
    Console(stderr=True).print(message, style="red", markup=False, highlight=False)
    raise SystemExit(1)
