"""Commands that write orders into a vendor's files: export rockerbox."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from kit.cli.common import (
    TIMES,
    AppOption,
    JsonOption,
    app,
    console,
    counted,
    fail,
    kit_of,
    moment,
    print_json,
    store_of,
)
from kit.cli.csv_files import CsvFiles
from kit.destinations import Rockerbox
from kit.destinations.base import Skip
from kit.destinations.rockerbox_files import LARGEST_FILE, Identifier, columns, row
from kit.kit import Kit
from kit.store.exports import Sale, sales


class Kind(StrEnum):
    BATCH = "batch"
    ORDERS = "orders"


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What was written where, and how much was left out for which reason."""

    orders: int
    paths: list[Path]
    left_out: Counter[str]


export = typer.Typer(no_args_is_help=True, help="Orders as files, for vendors that take them so.")
app.add_typer(export, name="export")


@export.command()
def rockerbox(
    output: Annotated[Path, typer.Option(help="A folder, or the file to write.")],
    kind: Annotated[
        Kind, typer.Option(help="The daily conversions (yesterday's, in UTC), or all orders once.")
    ] = Kind.BATCH,
    since: Annotated[str | None, typer.Option(help=f"Only what happened then or later: {TIMES}.")] = None,
    until: Annotated[str | None, typer.Option(help=f"Only what happened before: {TIMES}.")] = None,
    identifier: Annotated[
        Identifier, typer.Option(help="Which one the identify pixel tells Rockerbox.")
    ] = Identifier.EMAIL,
    destination: Annotated[str | None, typer.Option(help="The account's name, where there are several.")] = None,
    app: AppOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write purchases as CSV for Rockerbox, at most 500,000 a file; tell what was left out, and why.

    Left out are other currencies than US dollars, orders without the identifier, what consent forbids and what the
    account does not take. An order whose buyer retention has forgotten has no identifier any more.
    """
    now = datetime.now(UTC)
    first, end = moment("--since", since, now=now), moment("--until", until, now=now)
    if kind is Kind.BATCH and first is None and end is None:
        end = now.replace(hour=0, minute=0, second=0, microsecond=0)
        first = end - timedelta(days=1)
    kit = kit_of(app)
    account = _account(kit, destination)
    store = store_of(kit.store.url.render_as_string(hide_password=False))
    try:
        if output.is_dir():
            day = "" if first is None else f"-{first:%Y-%m-%d}"
            output /= f"rockerbox-{kind}{day}.csv"
        written = _write(output, identifier, sales(store, since=first, until=end), partial(_kept_out, kit, account))
    except OSError as error:
        fail(f"--output cannot be written: {error.strerror}")
    finally:
        store.close()
    _show(written, as_json=as_json)


def _account(kit: Kit, name: str | None) -> Rockerbox | None:
    """Return the account whose rules count for its file; None in a shop that has none and writes files alone."""
    accounts = {one.name: one for one in kit.destinations if isinstance(one, Rockerbox)}
    if name is not None and name not in accounts:
        fail(f"--destination {name} is no account of Rockerbox's; known are {', '.join(accounts) or 'none'}")
    if name is None and len(accounts) > 1:
        fail(f"--destination is missing: each account has a file of its own; known are {', '.join(accounts)}")
    return accounts[name] if name is not None else next(iter(accounts.values()), None)


def _kept_out(kit: Kit, account: Rockerbox | None, sale: Sale) -> Skip | None:
    """Return why the webhook would not be told this either: the buyer's word, the shop's rule, the account's own."""
    if not kit.intake.may_keep(sale.consent) or not (account is None or account.allows(sale.consent)):
        return Skip("consent")
    try:
        wanted = account is None or account.wants(account.within_window(sale.dispatch))
    except Exception:  # noqa: BLE001 - the shop's own code, whose words may repeat what it was handed
        return Skip("unmappable")
    return None if wanted else Skip("policy")


def _write(
    output: Path, identifier: Identifier, found: Iterable[Sale], kept_out: Callable[[Sale], Skip | None]
) -> Written:
    left_out, orders = Counter[str](), 0
    with CsvFiles(output, columns(identifier), most=LARGEST_FILE) as files:
        for sale in found:
            line = kept_out(sale) or row(sale.dispatch, identifier)
            if isinstance(line, Skip):
                left_out[line.code] += 1
            else:
                files.write(line)
                orders += 1
    return Written(orders=orders, paths=files.paths, left_out=left_out)


def _show(written: Written, *, as_json: bool) -> None:
    if as_json:
        files = [str(path) for path in written.paths]
        print_json({"orders": written.orders, "files": files, "left_out": dict(written.left_out)})
        return
    for path in written.paths:
        console.print(str(path), highlight=False)
    typer.echo(f"{counted(written.orders, 'order')} written", err=True)
    for reason, number in written.left_out.most_common():
        typer.echo(f"{number} left out ({reason})", err=True)
