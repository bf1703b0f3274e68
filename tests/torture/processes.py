"""What the processes of a run do: producers report, workers deliver. All that they use of the kit is the real thing."""

import asyncio
import ctypes
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from kit import Conversion, Kit
from kit.errors import StoreUnavailable
from kit.model import Reported
from tests.support import KEY, Browser, Page
from tests.torture.orders import AGENT, Order, order_of
from tests.torture.plan import CALLERS, Plan
from tests.torture.shortened import shorten
from tests.torture.vendors import traced_vendors

_PR_SET_PDEATHSIG = 1
_AGAIN = 0.05

_Result = TypeVar("_Result")


class _OneLine(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(record).replace("\n", " | ")


@contextmanager
def a_kit(store: str, url: str) -> Iterator[Kit]:
    kit = Kit(
        secret_keys=[KEY],
        consent="opt_out",
        store=store,
        destinations=traced_vendors(url),
        insecure_cookies=True,
        trusted_proxies=["127.0.0.1"],
        worker=False,
    )
    try:
        yield kit
    finally:
        kit.store.close()


def begin(log: Path) -> None:
    """Settle a process in: it dies with its parent, and its log goes where the verdict reads it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    fields = {"kit.error": "", "kit.destination": "", "kit.delivery": ""}
    words = "%(process)d %(levelname)s %(message)s %(kit.destination)s %(kit.delivery)s %(kit.error)s"
    keeper = logging.FileHandler(log, mode="a")
    keeper.setFormatter(_OneLine(words, defaults=fields))
    logging.getLogger().addHandler(keeper)


# ---------------------------------------------------------------- workers


def be_worker(store: str, url: str, log: Path) -> None:
    """Deliver until SIGTERM, as `kit worker` does."""
    begin(log)
    shorten()
    with a_kit(store, url) as kit:
        asyncio.run(_deliver(kit))


async def _deliver(kit: Kit) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, kit.worker.stop)
    while True:
        try:
            await kit.ready()
        except StoreUnavailable:
            continue
        break
    await kit.worker.run()


# ---------------------------------------------------------------- producers


def be_producer(plan: Plan, store: str, url: str, port: int, log: Path) -> None:
    """Report what the oracle issues, several orders at a time, until it has no more."""
    begin(log)
    with a_kit(store, url) as kit:
        asyncio.run(_report_all(plan, kit, port))


async def _report_all(plan: Plan, kit: Kit, port: int) -> None:
    await asyncio.gather(*(_call(plan, kit, port) for _ in range(CALLERS)))


async def _call(plan: Plan, kit: Kit, port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        writer.write(b"claim\n")
        match (await reader.readline()).decode().strip():
            case "done" | "":
                break
            case "wait":
                await asyncio.sleep(_AGAIN)
            case number:
                async for reported in report_order(kit, order_of(plan, int(number))):
                    writer.write(f"acked {reported.event_id} {'new' if reported.new else 'known'}\n".encode())
                    await writer.drain()
    writer.close()


async def report_order(kit: Kit, order: Order) -> AsyncIterator[Reported]:
    """Report the order's events one after the other, each until the store has it; yield what `report` returned."""
    browser = Browser(kit, ip=order.ip, headers={"user-agent": AGENT})
    browser.cookies["__adroll_fpc"] = order.fpc
    if order.way != "bare":
        await browser.open(order.landing)
    if order.way == "linked":
        await _visit(browser, partial(_until_linked, kit, order))
    for conversion in order.conversions:
        if order.way == "bare" or (order.way == "linked" and conversion.order_id is not None):
            yield await _until_stored(kit, conversion, None)
        else:
            yield await _visit(browser, partial(_until_stored, kit, conversion))


async def _visit(browser: Browser, act: Callable[[Page], Awaitable[_Result]]) -> _Result:
    """Open a page, and return what the shop's code did while it was served."""
    answers: list[_Result] = []

    async def acting(page: Page) -> None:
        answers.append(await act(page))

    await browser.open("/thanks", act=acting)
    return answers[0]


async def _until_linked(kit: Kit, order: Order, page: Page) -> None:
    linked = False
    while not linked:
        linked = await kit.link(page, order_id=order.order_id)


async def _until_stored(kit: Kit, conversion: Conversion, page: Page | None) -> Reported:
    while True:
        try:
            return await kit.report(conversion, page)
        except StoreUnavailable:
            await asyncio.sleep(_AGAIN)
