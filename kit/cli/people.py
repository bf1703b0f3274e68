"""Commands about one person: erase, export-person, and what visitors decided."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import (
    TIMES,
    AppOption,
    JsonOption,
    StoreOption,
    app,
    console,
    counted,
    fail,
    kit_of,
    moment,
    print_json,
    print_table,
    store_of,
)
from kit.erasing import Erased
from kit.kit import Kit
from kit.store import access, erasure
from kit.store.persons import person_of

EmailOption = Annotated[str | None, typer.Option("--email", help="The person's e-mail address.")]
CustomerOption = Annotated[str | None, typer.Option("--customer", help="The shop's number of the person.")]
VisitorOption = Annotated[str | None, typer.Option("--visitor", help="A browser's id, and nobody beyond it.")]

#: How the numbers of an erasure read: of one, and of several.
_FOUND = {
    "visitors": ("browser that is theirs", "browsers that are theirs"),
    "events": ("event, of which the order and its money stay", "events, of which the order and its money stay"),
    "deliveries": ("delivery of those that is not sent any more", "deliveries of those that are not sent any more"),
    "orders": ("order's snapshot", "orders' snapshots"),
    "touchpoints": ("click", "clicks"),
    "consents": ("decision on consent", "decisions on consent"),
    "links": ("link of a browser to them", "links of browsers to them"),
}


@app.command(name="erase")
def erase_command(
    email: EmailOption = None,
    customer: CustomerOption = None,
    visitor: VisitorOption = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    rewrite: Annotated[
        bool, typer.Option("--rewrite", help="Write a large SQLite file anew too; no report is taken meanwhile.")
    ] = False,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a person: from the store and what waits to be sent, and at Rokt where it has an API for that."""
    if as_json and not yes:
        fail("--json asks nobody; say --yes too")
    with _opened(app) as kit:
        subject = kit.erasing.subject(email=email, customer_id=customer, visitor=visitor)
        if not yes:
            _show(kit.erasing.survey(subject))
            if not typer.confirm("Erase them? It cannot be undone"):
                fail("nothing was erased")
        erased = kit.erasing.erase(subject, rewrites=sys.maxsize if rewrite else erasure.REWRITES)
        is_file = kit.store.url.get_backend_name() == "sqlite"
    if as_json:
        print_json({**asdict(erased.found), "by_hand": dict(erased.by_hand)})
        return
    if yes:
        _show(erased.found)
    _show_done(erased, is_file=is_file)


def _show(found: erasure.Erased) -> None:
    for name, (one, several) in _FOUND.items():
        number = getattr(found, name)
        console.print(f"  {number:>9,}  {one if number == 1 else several}", highlight=False)
    if found.shared:
        shared = counted(found.shared, "browser is", "browsers are")
        console.print(f"{shared} others' too: only the links to this person go", style="yellow")
    if found.not_followed:
        words = counted(
            found.not_followed,
            "customer number or e-mail beside theirs is others' too, and is left alone; name it if it is not",
            "customer numbers or e-mails beside theirs are others' too, and are left alone; name them if they are not",
        )
        console.print(words, style="yellow")


def _show_done(erased: Erased, *, is_file: bool) -> None:
    console.print("erased; what is told of them from now on is not kept")
    for request in erased.found.requests:
        console.print(f"Rokt is asked to erase them too: `kit deletion list` follows {request}")
    for destination, words in erased.by_hand.items():
        console.print(f"by hand, {destination}: {words}")
    if is_file and not erased.found.rewritten:
        words = "the store's file was not written anew: copies may be left in it; at a quiet hour, erase with --rewrite"
        console.print(words, style="yellow")


@app.command(name="export-person")
def export_command(
    email: EmailOption = None,
    customer: CustomerOption = None,
    visitor: VisitorOption = None,
    output: Annotated[Path | None, typer.Option("--output", help="A new file, for its owner's eyes alone.")] = None,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it, also to a terminal.")] = False,
    app: AppOption = None,
) -> None:
    """Write all that the store has of a person as JSON, in clear: for the person, and nobody else."""
    if output is None and not stdout and _is_terminal():
        fail("this is a person's own data; name a file with --output, or say --stdout")
    with _opened(app) as kit:
        found = kit.erasing.export(kit.erasing.subject(email=email, customer_id=customer, visitor=visitor))
    if output is None:
        print_json(found)
        return
    try:
        written = os.open(output, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    except OSError as error:
        fail(f"{output} cannot be made ({error.strerror}); name a new file")
    with os.fdopen(written, "w", encoding="utf-8") as file:
        json.dump(found, file, indent=2, ensure_ascii=False)
    words = ("event and all that belongs to it are", "events and all that belongs to them are")
    console.print(f"{counted(len(found['events']), *words)} in {output}", highlight=False)


def _is_terminal() -> bool:
    return sys.stdout.isatty()


consent = typer.Typer(no_args_is_help=True, help="What visitors decided, and what became of it.")
app.add_typer(consent, name="consent")


@consent.command()
def show(
    visitor: Annotated[str, typer.Argument(help="The visitor's id.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show what one visitor decided, when, and by which signal."""
    opened = store_of(store)
    found = list(access.decisions(opened, visitors=[visitor]))
    opened.close()
    if as_json:
        print_json(found)
        raise typer.Exit(not found)
    if not found:
        fail(f"no decision of visitor {visitor!r} is kept")
    words = {True: "granted", False: "refused", None: "not known"}
    rows = ((one["at"], words[one["granted"]], one["signal"]) for one in found)
    print_table("at", "decision", "signal", rows=rows)


@consent.command(name="export")
def export_consents(
    email: EmailOption = None,
    customer: CustomerOption = None,
    visitor: VisitorOption = None,
    since: Annotated[str | None, typer.Option(help=f"Only then or later: {TIMES}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only before: {TIMES}.")] = None,
    app: AppOption = None,
) -> None:
    """Print decisions as JSON: as they were taken, and as they counted for each event; of one person or of all."""
    now = datetime.now(UTC)
    period = {"since": moment("--since", since, now=now), "until": moment("--until", until, now=now)}
    with _opened(app) as kit:
        visitors = None
        if email is not None or customer is not None or visitor is not None:
            subject = kit.erasing.subject(email=email, customer_id=customer, visitor=visitor)
            visitors = sorted(person_of(kit.store, subject).own)
        found = {
            "decisions": list(access.decisions(kit.store, visitors=visitors, **period)),
            "applied": list(access.applied(kit.store, visitors=visitors, **period)),
        }
    print_json(found)


@contextmanager
def _opened(app: str | None) -> Iterator[Kit]:
    """Open the shop's Kit for the block. Looking must not make a store."""
    kit = kit_of(app)
    store_of(kit.store.url.render_as_string(hide_password=False))
    kit.open()
    try:
        yield kit
    finally:
        kit.store.close()
