"""Commands about whom a visitor is linked to: show, undo, release, and who is in quarantine."""

from datetime import datetime
from functools import partial
from typing import Annotated

import typer

from kit.cli.common import (
    AppOption,
    JsonOption,
    StoreOption,
    app,
    clock,
    console,
    counted,
    fail,
    kit_of,
    print_json,
    print_table,
    store_of,
)
from kit.cli.common import written as write
from kit.intake import Person
from kit.kit import Kit
from kit.model import VisitorId
from kit.store import Store, quarantine
from kit.store.quarantine import QUARANTINE, Quarantine, Told, Undoing

VisitorArgument = Annotated[str, typer.Argument(help="The visitor's id.")]

identity = typer.Typer(no_args_is_help=True, help="Whom visitors are linked to, and what was asserted too often.")
app.add_typer(identity, name="identity")


@identity.command(name="list")
def list_command(app: AppOption = None, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """List the visitors in quarantine: of them too many e-mails, customer numbers or phones were asserted."""
    opened, rule = _looked_at(app, store)
    found = opened.read_sync(partial(quarantine.quarantined, rule=rule))
    opened.close()
    if as_json:
        print_json(list(found))
        return
    for visitor in found:
        console.print(visitor, highlight=False)
    number = counted(len(found), "visitor is", "visitors are")
    console.print(f"{number} in quarantine; `kit identity show` tells of one", highlight=False)


@identity.command()
def show(
    visitor: VisitorArgument, app: AppOption = None, store: StoreOption = None, as_json: JsonOption = False
) -> None:
    """Show whom one visitor is linked to, by whose word, and whether that serves its orders. Values are masked."""
    opened, rule = _looked_at(app, store)
    found = opened.read_sync(partial(quarantine.links_of, visitor=visitor, rule=rule))
    opened.close()
    if as_json:
        print_json([_plain(one) for one in found])
        raise typer.Exit(not found)
    if not found:
        fail(f"visitor {visitor!r} is linked to nobody")
    print_table("at", "kind", "value", "level", "source", "serves orders", rows=map(_row, found))


@identity.command()
def undo(
    visitor: VisitorArgument,
    email: Annotated[str | None, typer.Option("--email", help="The address that is not theirs.")] = None,
    customer: Annotated[str | None, typer.Option("--customer", help="The customer number that is not theirs.")] = None,
    phone: Annotated[str | None, typer.Option("--phone", help="The phone number that is not theirs.")] = None,
    app: AppOption = None,
) -> None:
    """Undo a visitor's link to an e-mail, a customer number or a phone, at whatever level."""
    person = Person(email=email, customer_id=customer, phone=phone).checked()
    named = {"email": person.email, "customer": person.customer_id, "phone": person.phone}
    given = {kind: value for kind, value in named.items() if value is not None}
    if not given:
        fail("name what is not theirs with --email, --customer or --phone")
    kit = kit_of(app)
    # A wrong setting must not make a store.
    _store_of_kit(kit).close()
    kit.open()
    keys = [kit.intake.identity(kind, value).lookup for kind, value in given.items()]
    asked = [Undoing(visitor=VisitorId(visitor), kind=kind, lookup=key) for kind, key in zip(given, keys, strict=True)]
    gone = sum(kit.store.write_sync(quarantine.undo, one) for one in asked)
    kit.store.close()
    if not gone:
        fail(f"visitor {visitor!r} is not linked to that")
    console.print(f"{counted(gone, 'link')} undone", highlight=False)


@identity.command()
def release(visitor: VisitorArgument, store: StoreOption = None) -> None:
    """Let what was asserted of a visitor serve its orders again: it is a shared device, or one person's addresses."""
    released = write(store, quarantine.release, VisitorId(visitor))
    if not released:
        fail(f"nothing was asserted of visitor {visitor!r}")
    said = f"{counted(released, 'link')} released; what is asserted from now on counts afresh"
    console.print(said, highlight=False)


def _looked_at(app: str | None, store: str | None) -> tuple[Store, Quarantine]:
    """Return the store to look at and the figures of its shop; without an app, those by default."""
    if app is None:
        return store_of(store), QUARANTINE
    kit = kit_of(app)
    return store_of(store) if store is not None else _store_of_kit(kit), kit.quarantine


def _store_of_kit(kit: Kit) -> Store:
    return store_of(kit.store.url.render_as_string(hide_password=False))


def _row(one: Told) -> tuple[str, ...]:
    return clock(one.at), one.kind, _masked(one), one.level, one.source, "yes" if one.serves else "no, too many"


def _plain(one: Told) -> dict[str, str | bool]:
    return {
        "at": _time(one.at),
        "kind": one.kind,
        "value": _masked(one),
        "level": one.level,
        "source": one.source,
        "serves": one.serves,
    }


def _time(at: datetime) -> str:
    return at.isoformat().replace("+00:00", "Z")


def _masked(one: Told) -> str:
    """Return what tells an operator the links of one visitor apart, and a passer-by nothing."""
    if one.kind == "customer":
        return one.value
    if one.kind == "phone":
        return f"…{one.value[-2:]}"
    local, _, domain = one.value.partition("@")
    return f"{local[:1]}…@{domain}"
