"""The command for the day after a disaster: restored."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from kit.cli.common import TIMES, JsonOption, StoreOption, app, console, moment, print_json, store_of
from kit.store.restored import Restored, hold_restored


@app.command()
def restored(
    before: Annotated[str | None, typer.Option(help=f"Only what happened before; else before now: {TIMES}.")] = None,
    destination: Annotated[str | None, typer.Option(help="Only this destination's.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say that the store is a backup: what it has yet to send may have been sent since, so it is held.

    Run it before a worker starts, and again after you reported the orders that the backup lacks. `kit hold list` shows
    what is held. `kit replay --state held --reason restored --destination NAME` sends it, where the vendor knows a
    repeat; `kit hold resolve` decides one by one.
    """
    now = datetime.now(UTC)
    asked = Restored(before=moment("--before", before, now=now) or now, destination=destination, now=now)
    opened = store_of(store)
    held = hold_restored(opened, asked)
    opened.close()
    if as_json:
        print_json({"held": dict(held)})
        return
    for name, number in sorted(held.items()):
        console.print(f"{name}: {number:,} held")
    if not held:
        console.print("nothing was pending")
