"""Commands about deliveries: status, why, replay, hold, pause, resume, answers."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from typing import Annotated

import typer
from rich.text import Text
from sqlalchemy import Connection

from kit.cli.common import (
    TIMES,
    JsonOption,
    StoreOption,
    age,
    app,
    clock,
    console,
    counted,
    fail,
    moment,
    print_json,
    print_table,
    span,
    store_of,
    written,
)
from kit.devices import device_name
from kit.model import DeliveryState
from kit.store.answers import seen_answers
from kit.store.gates import STOPPED, Gate
from kit.store.journey import UsedClick, journey, used_clicks
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
from kit.store.pixels import PIXELS


@app.command()
def status(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show how each destination stands: deliveries by state and reason, the oldest pending one, what holds it back."""
    opened = store_of(store)
    found = standings(opened)
    strange = Counter[str]()
    for answer in opened.read_sync(seen_answers):
        strange[answer.destination] += 0 if answer.known else answer.seen
    if as_json:
        print_json([_standing_json(one, strange[one.destination]) for one in found])
        return
    if not found:
        console.print("nothing was reported yet")
        return
    rows = (row for one in found for row in _standing_rows(one))
    print_table("destination", "state", "deliveries", "oldest pending", "held back", rows=rows)
    for destination, number in strange.items():
        if number:
            gave = counted(number, "answer of an unknown shape", "answers of unknown shapes")
            console.print(f"{destination} gave {gave}: see `kit answers --unknown`")


@app.command()
def why(
    order: Annotated[str, typer.Argument(help="The order's id.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what became of one order at each destination, and why something was not sent."""
    opened = store_of(store)
    found = opened.read_sync(lambda connection: told(connection, order_id=order))
    clicks = opened.read_sync(partial(_clicks_of, found=found))
    if as_json:
        print_json([{**_told_json(one), "clicks": _clicks_json(one, clicks[one.event_id])} for one in found])
        raise typer.Exit(not found)
    if not found:
        fail(f"no event with the order id {order!r} was reported")
    for event_id, deliveries in groupby(found, key=lambda one: one.event_id):
        _print_story(event_id, list(deliveries), clicks[event_id])


@app.command(name="replay")
def replay_command(
    order: Annotated[str | None, typer.Option("--order", help="Only this order's deliveries.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only this destination's.")] = None,
    state: Annotated[str, typer.Option(help="dead, held or skipped.")] = "dead",
    reason: Annotated[str | None, typer.Option(help="Only these, such as rejected, consent or identifier.")] = None,
    since: Annotated[str | None, typer.Option(help=f"Only what ended then or later: {TIMES}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only what ended before: {TIMES}.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send again what is dead, held or skipped, with the same keys. What was delivered is never sent again."""
    if state not in {"dead", "held", "skipped"}:
        fail("--state is dead, held or skipped; what is pending or delivered cannot be replayed")
    now = datetime.now(UTC)
    asked = Replay(
        order_id=order,
        destination=destination,
        state=DeliveryState(state),
        reason=reason,
        since=moment("--since", since, now=now),
        until=moment("--until", until, now=now),
        now=now,
    )
    opened = store_of(store)
    if order is not None and not opened.read_sync(lambda connection: told(connection, order_id=order)):
        fail(f"no event with the order id {order!r} was reported")
    number = replay(opened, asked)
    opened.close()
    if as_json:
        print_json({"replayed": number})
    else:
        console.print(f"{counted(number, 'delivery is', 'deliveries are')} pending again")


hold = typer.Typer(no_args_is_help=True, help="Deliveries whose outcome nobody knows, and what to make of them.")
app.add_typer(hold, name="hold")


@hold.command(name="list")
def hold_list(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Show what is held, the longest first: ask the vendor about each, then `kit hold resolve`."""
    found = store_of(store).read_sync(held)
    if as_json:
        print_json([_told_json(one) for one in found])
        return
    if not found:
        console.print("nothing is held")
        return
    rows = (
        (
            one.order_id or one.event_id,
            one.destination,
            one.value or "",
            clock(one.reported_at),
            ": ".join(filter(None, (one.reason, one.detail))),
        )
        for one in found
    )
    print_table("order", "destination", "value", "reported", "why", rows=rows)


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
    if not written(store, resolve, asked):
        fail(f"nothing of order {order!r} is held at {destination}")
    console.print("it counts as delivered" if delivered else "it is pending again")


@app.command(name="pause")
def pause_command(
    destination: Annotated[str, typer.Argument(help="The destination's name.")],
    reason: Annotated[str, typer.Option(help="Shown by `kit status`.")] = "by operator",
    force: Annotated[bool, typer.Option("--force", help="Also one that this store has never heard of.")] = False,
    store: StoreOption = None,
) -> None:
    """Send nothing more to a destination until `kit resume`. Orders are still accepted and wait."""
    known = [one.destination for one in standings(store_of(store))]
    if destination not in known and not force:
        fail(f"nothing was ever reported to {destination!r}; known are {', '.join(known) or 'none'}; or say --force")
    written(store, pause, Pause(destination=destination, reason=reason, now=datetime.now(UTC)))
    console.print(f"{destination} is paused; `kit resume {destination}` lets it go on")


@app.command(name="resume")
def resume_command(
    destination: Annotated[str, typer.Argument(help="The destination's name.")], store: StoreOption = None
) -> None:
    """Let a destination go on, whoever or whatever held it back."""
    was = written(store, resume, destination)
    console.print(f"{destination} goes on" if was else f"{destination} was not held back")


@app.command()
def answers(
    destination: Annotated[str | None, typer.Argument(help="Only this destination's.")] = None,
    unknown: Annotated[bool, typer.Option("--unknown", help="Only shapes that nobody foresaw.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show in which shapes vendors answered: names and kinds of fields, how often, since when."""
    found = store_of(store).read_sync(lambda connection: seen_answers(connection, destination))
    found = [one for one in found if not (unknown and one.known)]
    if as_json:
        print_json(
            [{**asdict(one), "first_at": one.first_at.isoformat(), "last_at": one.last_at.isoformat()} for one in found]
        )
        return
    if not found:
        console.print("no vendor answered yet" if not unknown else "every answer was of a known shape")
        return
    rows = (
        (
            one.destination,
            str(one.status),
            one.sketch if one.known else f"unknown: {one.sketch}",
            str(one.seen),
            clock(one.first_at),
            clock(one.last_at),
        )
        for one in found
    )
    print_table("destination", "status", "shape", "answers", "first", "latest", rows=rows)


def _standing_rows(one: Standing) -> Iterator[tuple[str, ...]]:
    """Yield a line for each state and reason, the destination's name and what holds it back in the first one."""
    name, gate = one.destination, _held(one.gate) if one.gate is not None else ""
    if not one.counts:
        yield name, "", "0", "", gate
    for (state, reason), number in sorted(one.counts.items(), key=str):
        oldest = age(one.oldest_pending) if state == DeliveryState.PENDING else ""
        yield name, f"{state} ({reason})" if reason else state, str(number), oldest, gate
        name = gate = ""


def identifier_names(one: Told) -> Iterable[str]:
    """Yield which identifiers were gathered, by name: a terminal is no place for their values."""
    found = one.identifiers
    yield from (click.vendor for click in found.click_ids)
    for name in ("first_party_cookie", "email", "phone", "customer_id", "ip"):
        if getattr(found, name):
            yield name


def _clicks_of(connection: Connection, *, found: Iterable[Told]) -> dict[str, list[UsedClick]]:
    """Return of each event the clicks that were gathered for it, with the browsers that made them."""
    known = {one.event_id: one.identifiers for one in found}
    return {id_: used_clicks(identifiers, journey(connection, event_id=id_)) for id_, identifiers in known.items()}


def _where(click: UsedClick) -> str:
    if click.own is None:
        return "in a browser that is not known any more"
    place = "in the browser of this order" if click.own else "on another device of this customer"
    return f"{place}: {device_name(click.user_agent)}"


def _print_story(event_id: str, deliveries: list[Told], clicks: Iterable[UsedClick]) -> None:
    """Print one event: what it was, what was known of the buyer, and what became of it at each destination."""
    one = deliveries[0]
    granted = {True: "granted", False: "refused", None: "not known"}[one.consent.granted]
    about = f" {one.order_id or ''} {one.value or ''}   event {event_id}"
    console.print(Text.assemble((one.name, "bold"), about))
    console.print(f"  reported     {clock(one.reported_at)}")
    console.print(f"  consent      {granted} ({one.consent.signal})")
    console.print(f"  identifiers  {', '.join(identifier_names(one)) or 'none'}")
    for click in clicks:
        when = f"{span(one.at - click.at)} before" if click.at <= one.at else "afterwards"
        console.print(f"  {click.vendor:<12} {when}, {_where(click)}")
    for conflict in one.conflicts:
        console.print(f"  reported again with another {conflict}: the first report stands", style="yellow")
    for pixel in one.pixels:
        console.print(f"  {_reported_beside(pixel, deliveries)}")
    for each in deliveries:
        state = f"{each.state} ({each.reason})" if each.reason else each.state
        tried = f", {counted(each.attempts, 'attempt')}" if each.attempts else ""
        said = f": {each.detail}" if each.detail else ""
        console.print(f"  {each.destination:<12} {state}{tried}{said}")


def _reported_beside(vendor: str, deliveries: list[Told]) -> str:
    """Return that the vendor's pixel reported the order too, and what that means for its deliveries."""
    pixel = PIXELS[vendor]
    said = f"{pixel.title}'s pixel on the page reported this order too"
    if pixel.repeat is not None:
        return f"{said}: {pixel.repeat}"
    if any(each.reason == "pixel_reports" for each in deliveries):
        return f"{said}, as pixel_reports says"
    setting = f'{pixel.title}(pixel_reports={{"{deliveries[0].name}"}})'
    return f"{said}: if the delivery counts as well, {setting} leaves it to the pixel"


def _standing_json(one: Standing, strange: int) -> dict[str, object]:
    return {
        "destination": one.destination,
        "counts": [
            {"state": state, "reason": reason, "n": n} for (state, reason), n in sorted(one.counts.items(), key=str)
        ],
        "oldest_pending": one.oldest_pending.isoformat() if one.oldest_pending else None,
        "unknown_answers": strange,
        "gate": {
            "state": one.gate.state,
            "since": one.gate.since.isoformat() if one.gate.since else None,
            "until": one.gate.until.isoformat(),
            "reason": one.gate.reason,
        }
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
        "reported_by_pixels": list(one.pixels),
    }


def _clicks_json(one: Told, clicks: Iterable[UsedClick]) -> list[dict[str, object]]:
    return [
        {
            "vendor": click.vendor,
            "at": click.at.isoformat(),
            "seconds_before": int((one.at - click.at).total_seconds()),
            "own": click.own,
            "device": None if click.own is None else device_name(click.user_agent),
        }
        for click in clicks
    ]


def _held(gate: Gate) -> str:
    until = "" if gate.state == STOPPED else f" until {clock(gate.until)}"
    since = f" for {age(gate.since)}" if gate.since else ""
    return f"{gate.state}{since}{until}: {gate.reason}"
