"""Commands that run something, or look the set-up over: demo, worker, migrate, doctor, sandbox."""

import asyncio
import dataclasses
import gc
import signal
from typing import Annotated

import typer
from rich.text import Text

from kit import settings
from kit.cli.common import AppOption, JsonOption, StoreOption, app, console, fail, kit_of, print_json, print_table
from kit.destinations.base import is_loopback
from kit.doctor import Finding, examine
from kit.kit import Kit
from kit.store import Store

_MARKS = {"good": "green", "warning": "yellow", "bad": "red"}
_ENDING = (signal.SIGTERM, signal.SIGINT)


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
    asyncio.run(_work(kit_of(app)))


@app.command()
def migrate(store: StoreOption = None) -> None:
    """Bring the store's schema up to date."""
    Store(store or settings.read().store).migrate()
    console.print("the schema is up to date", style="green")


@app.command()
def doctor(
    app: AppOption = None,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no vendor anything.")] = False,
    deep: Annotated[bool, typer.Option("--deep", help="Read all of SQLite's file; commits wait meanwhile.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Compare how each vendor answers with last time.")] = False,
    site: Annotated[str | None, typer.Option("--site", help="Visit this page instead, as a browser would.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Look the set-up over: store, disk, clocks, credentials by dry run, a worker that works. Exit 1 if one is bad.

    With --site URL: say what browsers do with the kit's cookies on that page. It makes one visitor without an order.
    """
    if site is not None:
        # Not at the start of every command: it brings the whole of the web.
        from kit.site import examine_site

        findings = asyncio.run(examine_site(site))
    else:
        findings = asyncio.run(_examined(kit_of(app), ask_vendors=not offline, read_all=deep, compare=live))
    if as_json:
        print_json([dataclasses.asdict(finding) for finding in findings])
    else:
        rows = ((one.about, Text(one.state, style=_MARKS[one.state]), one.said, one.advice) for one in findings)
        print_table("looked at", "", "found", "what to do", rows=rows)
    raise typer.Exit(any(one.state == "bad" for one in findings))


@app.command()
def sandbox(
    host: Annotated[str, typer.Option(help="A loopback address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free port.", min=0, max=65_535)] = 8900,
) -> None:
    """Serve the three vendors' sandboxes on loopback until stopped."""
    from kit.sandbox import Sandbox

    if not is_loopback(host):
        fail("--host is no loopback address; the sandbox knows no secrets and serves this machine only")
    served = Sandbox()
    try:
        with served.serve(host=host, port=port) as addresses:
            console.print(f"The vendors' page: {addresses.url}/\nFor the shop's environment:\n")
            for line in served.environment(addresses):
                console.print(line, highlight=False)
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except OSError as error:
        fail(f"--port {port} cannot be served: {error.strerror}")


async def _work(attribution: Kit) -> None:
    await attribution.ready()
    # What is loaded by now stays: no collection need look through it again.
    gc.collect()
    gc.freeze()
    names = ", ".join(f"{one.name} ({one.mode})" for one in attribution.destinations)
    console.print(f"delivering to {names or 'nobody: no destination is configured'}")
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


async def _examined(attribution: Kit, **asked: bool) -> list[Finding]:
    try:
        return await examine(attribution, **asked)
    finally:
        attribution.store.close()
