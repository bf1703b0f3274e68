"""Processes that kill themselves at a named point of the product: wrapped from here, known to nothing in `kit/`."""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from multiprocessing import get_context
from multiprocessing.connection import Connection as Pipe
from multiprocessing.context import ForkServerProcess
from typing import Any, Literal

from sqlalchemy import Engine, event

from kit import Conversion, Kit
from kit.delivery.worker import Worker
from kit.destinations.wire import Wire
from kit.model import ClickId, Consent, DeliveryState, Identifiers, VisitorId, utc_now
from kit.sandbox import Addresses
from kit.store import Store, overview, people, statements, writer
from kit.store.retention import Retention, prune
from tests.support import FPC, KEY, adroll, rockerbox, rokt

When = Literal["before commit", "after commit"]

_context = get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.killed"])


def begun(work: Callable[..., None], *arguments: Any) -> tuple[ForkServerProcess, Pipe]:
    """Begin the work in a process of its own; what it tells comes by the pipe."""
    ours, theirs = _context.Pipe()
    process = _context.Process(target=work, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def ended(process: ForkServerProcess, pipe: Pipe) -> tuple[int | None, list[Any]]:
    """Wait for the end of the process; return its exit code and all that it told."""
    told = []
    try:
        while pipe.poll(60):
            told.append(pipe.recv())
    except EOFError:
        process.join(60)
    finally:
        pipe.close()
        code = process.exitcode
        if process.is_alive():
            process.kill()
            process.join()
        process.close()
    return code, told


# ---------------------------------------------------------------- the points


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_commit(verb: str, when: When, nth: int) -> None:
    """Die at the n-th transaction in which this verb of the store runs."""
    transaction = writer.Writer._transaction
    seen, armed = 0, False

    def counted(self: writer.Writer, group: Sequence[Any]) -> list[Any]:
        nonlocal seen, armed
        if any(call.verb.__name__ == verb for call in group):
            seen += 1
            armed = seen == nth and when == "before commit"
        answers = transaction(self, group)
        if seen == nth and any(call.verb.__name__ == verb for call in group):
            die()
        return answers

    writer.Writer._transaction = counted  # type: ignore[method-assign]
    event.listen(Engine, "commit", lambda _: die() if armed else None)


def killed_at_send(nth: int) -> None:
    """Die at the n-th request, between its attempt's commit and its first byte."""
    send, seen = Wire.send, 0

    async def counted(self: Wire, *arguments: Any, **named: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == nth:
            die()
        return await send(self, *arguments, **named)

    Wire.send = counted  # type: ignore[method-assign]


def killed_at_statement(nth: int | None) -> Callable[[], int]:
    """Die before the n-th statement or commit that reaches the database; returns how to ask for their number so far."""
    seen = 0

    def counted(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == nth:
            die()

    run = statements.run

    def counted_and_run(*given: Any, **named: Any) -> Any:
        counted()
        return run(*given, **named)

    # By SQLAlchemy, and by ourselves.
    event.listen(Engine, "before_cursor_execute", counted)
    statements.run = counted_and_run
    event.listen(Engine, "commit", counted)
    return lambda: seen


# ---------------------------------------------------------------- the work


def kit_of(store: str, url: str) -> Kit:
    vendors = Addresses(url)
    return Kit(
        secret_keys=[KEY],
        consent="opt_out",
        store=store,
        destinations=[
            adroll(base_url=vendors.adroll_url),
            rokt(base_url=vendors.rokt_url),
            rockerbox(base_url=vendors.rockerbox_url),
        ],
        insecure_cookies=True,
        worker=False,
    )


def order_of(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


def link(kit: Kit, number: int) -> None:
    """Keep what the landing and the checkout of this order's buyer showed, so that each vendor can be told."""
    found = Identifiers(
        visitor=VisitorId(f"visitor-{number}".ljust(22, "x")),
        click_ids=(ClickId("adroll", "click123", utc_now()),),
        first_party_cookie=FPC,
        ip="12.34.56.89",
        user_agent="Browser/1.0",
        url="https://shop.com/checkout",
    )
    consent = Consent(granted=True, signal="test", at=utc_now())
    kit.store.write_sync(
        people.keep_orders, people.OrderLink(order_id=f"order-{number}", identifiers=found, consent=consent)
    )


def report(kit: Kit, number: int) -> bool:
    """Report one order with all that every vendor wants to know; returns whether it is new."""
    link(kit, number)
    return kit.sync.report(order_of(number)).new


def reports(pipe: Pipe, store: str, url: str, point: tuple[When, int] | None, numbers: Sequence[int]) -> None:
    """Report these orders, and tell what the shop was told."""
    kit = kit_of(store, url)
    asyncio.run(kit.ready())
    if point is not None:
        killed_at_commit("report", *point)
    for number in numbers:
        pipe.send((number, report(kit, number)))
    kit.store.close()


def reports_at_once(pipe: Pipe, store: str, url: str, numbers: Sequence[int]) -> None:
    """Report these orders side by side, each bare; tell of each whether it was new."""
    kit = kit_of(store, url)

    async def all_of_them() -> list[bool]:
        await kit.ready()
        return [one.new for one in await asyncio.gather(*(kit.report(order_of(number)) for number in numbers))]

    for number, new in zip(numbers, asyncio.run(all_of_them()), strict=True):
        pipe.send((number, new))
    kit.store.close()


def delivers(pipe: Pipe, store: str, url: str, point: tuple[str, When, int] | int | None) -> None:
    """Take over what the dead left, and deliver all that is due: what a worker does, without its pauses."""
    kit = kit_of(store, url)
    if isinstance(point, int):
        killed_at_send(point)
    elif point is not None:
        killed_at_commit(*point)
    deliver_once(kit)


def deliver_once(kit: Kit) -> None:
    """Do what a worker does, without its pauses."""
    worker = Worker(
        store=kit.store,
        destinations=kit.destinations,
        may_send=kit.intake.may_keep,
        retention=Retention(),
        clock=utc_now,
        dice=lambda: 0.0,
    )

    async def all_of_it() -> None:
        await kit.ready()
        await worker.free_lapsed()
        await worker.drain()

    asyncio.run(all_of_it())
    kit.store.close()


def migrates(pipe: Pipe, store: str, nth: int | None) -> None:
    """Bring the schema up to date; tells how many statements that took."""
    seen = killed_at_statement(nth)
    Store(store).migrate()
    pipe.send(seen())


def prunes(pipe: Pipe, store: str, days: int, point: tuple[When, int] | int | None) -> None:
    """Let go of everything that is too old so many days from now."""
    opened = Store(store)
    opened.open()
    if isinstance(point, int):
        killed_at_statement(point)
    elif point is not None:
        killed_at_commit("let_go", *point)

    async def all_of_it() -> None:
        while await prune(opened, Retention(), utc_now() + timedelta(days=days)):
            pass

    asyncio.run(all_of_it())
    opened.close()


def replays(pipe: Pipe, store: str, point: tuple[When, int] | None) -> None:
    """Put back everything dead, two deliveries at a time; tells how many."""
    opened = Store(store)
    opened.open()
    overview.REPLAYED = 2
    if point is not None:
        killed_at_commit("_put_back", *point)
    pipe.send(overview.replay(opened, overview.Replay(state=DeliveryState.DEAD, now=utc_now())))
    opened.close()
