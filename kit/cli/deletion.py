"""Commands about data deletion: ask the vendor to erase people, see how far it is, take it back."""

from pathlib import Path
from typing import Annotated

import typer

from kit.audiences import DELETION
from kit.cli.common import (
    AppOption,
    JsonOption,
    StoreOption,
    app,
    clock,
    console,
    fail,
    kit_of,
    print_json,
    print_table,
    store_of,
)
from kit.store.jobs import Cancelled, Listed, newest

deletion = typer.Typer(no_args_is_help=True, help="People whom the vendor is asked to erase.")
app.add_typer(deletion, name="deletion")

_WORDS = {
    Cancelled.HERE: "it was not sent yet, and will not be",
    Cancelled.IN_DOUBT: "it is not sent again; an earlier try had no answer, so ask the vendor whether it has it",
    Cancelled.ASKED: "the vendor is asked to cancel it; `kit deletion list` shows what it says",
    Cancelled.UNDER_WAY: "it is being sent at this moment; ask again",
    Cancelled.OVER: "it has ended: nothing is left to cancel",
    Cancelled.UNKNOWN: "there is no such request; `kit deletion list` shows them",
}
_DONE = {Cancelled.HERE, Cancelled.IN_DOUBT, Cancelled.ASKED}

DestinationOption = Annotated[str | None, typer.Option("--destination", help="Which, where there are several.")]


@deletion.command()
def request(
    emails: Annotated[list[str] | None, typer.Argument(metavar="EMAIL...", help="Or their SHA-256 digests.")] = None,
    file: Annotated[Path | None, typer.Option("--file", help="One a line.", exists=True, dir_okay=False)] = None,
    destination: DestinationOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Queue that these people are erased, all of them or nobody; a worker asks the vendor and follows it."""
    lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines() if file is not None else []
    people = [*(emails or ()), *filter(str.strip, lines)]
    if not people:
        fail("nobody is named; write addresses, or --file with one a line")
    kit = kit_of(app)
    try:
        ids = kit.sync.request_deletion(people, destination=destination)
    finally:
        kit.store.close()
    if as_json:
        print_json({"people": len(people), "ids": ids})
        return
    console.print(f"{len(people):,} to be erased; cancel with `kit deletion cancel ID`:")
    for each in ids:
        console.print(f"  {each}", highlight=False)


@deletion.command(name="list")
def list_command(
    store: StoreOption = None,
    most: Annotated[int, typer.Option("--most", help="How many, the newest first.", min=1)] = 100,
    as_json: JsonOption = False,
) -> None:
    """Show how far each deletion request is."""
    found = newest(store_of(store), DELETION, most=most)
    if as_json:
        print_json([_listed_json(one) for one in found])
        return
    if not found:
        console.print("nobody was asked to be erased")
        return
    print_table("id", "destination", "asked", "state", "what was said", rows=map(_row, found))


@deletion.command()
def cancel(
    request_id: Annotated[str, typer.Argument(metavar="ID", help="As `kit deletion list` shows it.")],
    destination: DestinationOption = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a deletion request back: here while it waits, else by asking the vendor."""
    kit = kit_of(app)
    try:
        answer = kit.sync.cancel_deletion(request_id, destination=destination)
    finally:
        kit.store.close()
    if as_json:
        print_json({"id": request_id, "cancelled": answer})
    elif answer in _DONE:
        console.print(_WORDS[answer])
    else:
        fail(_WORDS[answer])
    raise typer.Exit(answer not in _DONE)


def _row(one: Listed) -> tuple[str, ...]:
    state = f"{one.state} ({one.reason})" if one.reason else one.state
    return one.event_id, one.destination, clock(one.asked_at), state, one.detail or ""


def _listed_json(one: Listed) -> dict[str, object]:
    return {
        "id": one.event_id,
        "destination": one.destination,
        "asked_at": one.asked_at.isoformat(),
        "state": one.state,
        "reason": one.reason,
        "detail": one.detail,
    }
