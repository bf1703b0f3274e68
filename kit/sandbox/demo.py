"""`kit demo`: three sandbox vendors, the demo shop, and real visits over HTTP; then the table, checked row by row."""

import asyncio
import contextlib
import logging
import socket
import tempfile
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kit.errors import ConfigurationError
from kit.kit import Kit
from kit.sandbox.ledger import Line, lines_of
from kit.sandbox.server import Addresses, Sandbox
from kit.sandbox.shop import attribution_kit, shop

console = Console()

VENDORS = ("adroll", "rokt", "rockerbox")
#: How long the visits' orders may take to reach the vendors.
_PATIENCE = timedelta(seconds=30)

_CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/142.0.0.0 Safari/537.36"
)
_SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/26.1 Mobile/15E148 Safari/604.1"
)
_ADROLL_LANDING = (
    "/?utm_source=adroll&utm_medium=display&utm_campaign=Autumn%20Sale&trk_id=9f-3&adct=click123&irclickid=x%2By"
)
_ROKT_LANDING = "/?rtid=1bc29b36f623ba82aaf6724fd3b16718&utm_source=rokt&cid=77"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a visit's order must come to. `told` is what each vendor's own record must hold of it."""

    visit: str
    order: str
    captured: tuple[str, ...]
    outcome: str = "accepted"
    adct: str | None = None
    rokt_id: str | None = None
    devices: tuple[str, ...] = ()


@dataclass(slots=True)
class Browser:
    """One browser: its cookies, its address, and what it says with every page it opens."""

    base: str
    ip: str
    agent: str = _CHROME
    extra: dict[str, str] = field(default_factory=dict)
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        headers = {"user-agent": self.agent, "accept": "text/html", "x-forwarded-for": self.ip, **self.extra}
        self.client = httpx.AsyncClient(base_url=self.base, headers=headers, follow_redirects=True, trust_env=False)

    async def open(self, path: str) -> None:
        (await self.client.get(path, headers={"sec-fetch-mode": "navigate"})).raise_for_status()

    async def submit(self, path: str, **fields: str) -> str:
        answer = await self.client.post(path, data=fields, headers={"sec-fetch-mode": "navigate"})
        return answer.raise_for_status().text

    async def tell_kit(self, path: str, body: dict[str, object]) -> None:
        """Post as kit.js does."""
        answer = await self.client.post(f"/kit/{path}", json=body, headers={"sec-fetch-site": "same-origin"})
        answer.raise_for_status()

    async def sign_in(self, email: str, customer: str) -> None:
        await self.submit("/sign-in", email=email, customer=customer)

    async def buy(self, product: str, *, email: str = "", pay: str = "now") -> str:
        """Buy and return the order's number, as the page says it."""
        await self.open(f"/product/{product}")
        page = await self.submit(f"/checkout/{product}", email=email, pay=pay)
        return page.partition("<strong>")[2].partition("</strong>")[0]


class Visits:
    """The visits of the demo. Each returns what its order must come to."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._browsers: list[Browser] = []

    def browser(self, ip: str, *, agent: str = _CHROME, **extra: str) -> Browser:
        browser = Browser(self._base, ip, agent, {name.replace("_", "-"): value for name, value in extra.items()})
        self._browsers.append(browser)
        return browser

    async def close(self) -> None:
        for browser in self._browsers:
            await browser.client.aclose()

    async def run(self) -> list[Expected]:
        expected = [
            await self.adroll_click(),
            await self.rokt_click(),
            await self.no_click(),
            await self.second_device(),
            await self.payment_webhook(),
            await self.refused(),
            await self.global_privacy_control(),
        ]
        return [*expected, *await self.shared_device()]

    async def adroll_click(self) -> Expected:
        browser = self.browser("12.34.56.10")
        await browser.open(_ADROLL_LANDING)
        order = await browser.buy("trail-shoe", email="Jane.Doe@Example.com")
        captured = ("adct", "fpc", "e-mail", "ip")
        return Expected(visit="an AdRoll click that buys", order=order, captured=captured, adct="click123")

    async def rokt_click(self) -> Expected:
        browser = self.browser("12.34.56.11", agent=_SAFARI)
        await browser.open(_ROKT_LANDING)
        order = await browser.buy("rain-jacket", email="søren@example.com")
        captured = ("rokt click", "fpc", "e-mail", "ip")
        rokt_id = "1bc29b36f623ba82aaf6724fd3b16718"
        return Expected(visit="a Rokt click that buys", order=order, captured=captured, rokt_id=rokt_id)

    async def no_click(self) -> Expected:
        browser = self.browser("2001:4860:4860::8888")
        await browser.open("/")
        order = await browser.buy("socks", email="max@example.com")
        return Expected(visit="a visit without a click", order=order, captured=("fpc", "e-mail", "ip"))

    async def second_device(self) -> Expected:
        phone = self.browser("12.34.56.12", agent=_SAFARI)
        await phone.open("/?adct=click-on-the-phone")
        await phone.sign_in("ada@example.com", "customer-7")
        laptop = self.browser("12.34.56.13")
        await laptop.open("/")
        await laptop.sign_in("ada@example.com", "customer-7")
        order = await laptop.buy("trail-shoe")
        captured = ("adct", "fpc", "e-mail", "customer id", "ip")
        return Expected(
            visit="a customer's second device",
            order=order,
            captured=captured,
            adct="click-on-the-phone",
            devices=("iPhone · Safari",),
        )

    async def payment_webhook(self) -> Expected:
        browser = self.browser("12.34.56.14")
        await browser.open("/?adct=click-before-payment")
        order = await browser.buy("rain-jacket", email="kim@example.com", pay="later")
        async with httpx.AsyncClient(base_url=self._base, trust_env=False) as provider:
            (await provider.post("/webhooks/payment", json={"order": order})).raise_for_status()
        captured = ("adct", "fpc", "e-mail", "ip")
        return Expected(
            visit="confirmed by a webhook, no browser", order=order, captured=captured, adct="click-before-payment"
        )

    async def refused(self) -> Expected:
        browser = self.browser("12.34.56.15")
        await browser.open("/?adct=click-refused")
        await browser.tell_kit("consent", {"granted": False})
        order = await browser.buy("socks", email="private@example.com")
        return Expected(visit="refused consent", order=order, captured=(), outcome="not sent: consent (cookie)")

    async def global_privacy_control(self) -> Expected:
        browser = self.browser("12.34.56.16", sec_gpc="1")
        await browser.open("/?adct=click-with-gpc")
        order = await browser.buy("socks", email="gpc@example.com")
        return Expected(visit="Sec-GPC: 1", order=order, captured=(), outcome="not sent: consent (gpc)")

    async def shared_device(self) -> list[Expected]:
        browser = self.browser("12.34.56.17")
        await browser.open("/?adct=click-of-the-first")
        await browser.sign_in("first@example.com", "customer-1")
        first = await browser.buy("trail-shoe")
        await browser.submit("/sign-out")
        await browser.open("/")
        await browser.sign_in("second@example.com", "customer-2")
        second = await browser.buy("socks")
        named = ("fpc", "e-mail", "customer id", "ip")
        return [
            Expected(
                visit="shared device, first customer",
                order=first,
                captured=("adct", *named),
                adct="click-of-the-first",
            ),
            Expected(visit="shared device, second customer", order=second, captured=named),
        ]


def run(*, once: bool, port: int) -> int:
    """Run the demo; returns the exit code: 1 when a row is not what it should be."""
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory(prefix="kit-demo-") as folder, contextlib.suppress(KeyboardInterrupt):
        return asyncio.run(_demo(Path(folder), once=once, port=0 if once else port))
    return 0


async def _demo(folder: Path, *, once: bool, port: int) -> int:
    sandbox = Sandbox()
    async with sandbox.serving() as vendors:
        attribution = attribution_kit(sandbox.credentials, vendors, f"sqlite:///{folder}/shop.db")
        async with _served(shop(attribution), port) as (base, server):
            visits = Visits(base)
            try:
                expected = await visits.run()
            finally:
                await visits.close()
            lines = await _settled_lines(attribution)
            wrong = _wrong(expected, lines, sandbox)
            console.print(table(lines, {one.order: one.visit for one in expected}))
            for text in wrong:
                console.print(f"not as it should be: {text}", style="red", markup=False)
            if not wrong:
                console.print(f"{len(expected)} orders, each as it should be.", style="green")
            if not once:
                await _keep_open(base, vendors, attribution, server)
    return 1 if wrong else 0


@contextlib.asynccontextmanager
async def _served(app: Any, port: int) -> AsyncIterator[tuple[str, uvicorn.Server]]:
    """Serve the shop on loopback until the block ends, or until Ctrl-C."""
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError:
        raise ConfigurationError("--port", f"{port} is taken; name another one, or 0 for any") from None
    config = uvicorn.Config(app, log_level="warning", proxy_headers=False)
    server = uvicorn.Server(config)
    with listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn tells by a flag alone
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{listening.getsockname()[1]}", server
        finally:
            server.should_exit = True
            await serving


async def _settled_lines(attribution: Kit) -> list[Line]:
    """Wait until every order is settled at every destination, or patience ends."""
    deadline = asyncio.get_running_loop().time() + _PATIENCE.total_seconds()
    while True:
        lines = await lines_of(attribution)
        if all(line.settled for line in lines) or asyncio.get_running_loop().time() > deadline:
            return lines
        await asyncio.sleep(0.1)


async def _keep_open(base: str, vendors: Addresses, attribution: Kit, server: uvicorn.Server) -> None:
    console.print(f"\nThe shop is open:          {base}/?adct=click123")
    console.print(f"What was reported:         {base}/reported")
    console.print(f"The dashboard:             {base}/attribution/")
    console.print(f"What the vendors received: {vendors.url}/")
    console.print("Ctrl-C closes it. Orders that you place appear here:\n")
    shown = {line.order for line in await lines_of(attribution)}
    while not server.should_exit:
        await asyncio.sleep(0.5)
        new = [line for line in await lines_of(attribution) if line.settled and line.order not in shown]
        if new:
            shown |= {line.order for line in new}
            console.print(table(new, {}))


def table(lines: Iterable[Line], visits: dict[str, str]) -> Table:
    """Return the table: an order a row."""
    shown = Table("order", "visit", "captured", *VENDORS, box=SIMPLE, pad_edge=False)
    for line in lines:
        outcomes = [_styled(line.destinations.get(vendor, "")) for vendor in VENDORS]
        captured = ", ".join(line.captured) or "nothing"
        if line.devices:
            captured = f"{captured}; clicked on {', '.join(line.devices)}"
        shown.add_row(escape(line.order), visits.get(line.order, "yours"), captured, *outcomes)
    return shown


def _styled(outcome: str) -> str:
    return f"[green]{outcome}[/]" if outcome == "accepted" else f"[yellow]{escape(outcome)}[/]"


def _wrong(expected: Sequence[Expected], lines: Sequence[Line], sandbox: Sandbox) -> list[str]:
    """Compare with what our table says, and with what the vendors themselves hold of each order."""
    by_order = {line.order: line for line in lines}
    wrong = []
    for one in expected:
        line = by_order.get(one.order)
        if line is None:
            wrong.append(f"{one.visit}: the order was not reported")
            continue
        if line.captured != one.captured:
            wrong.append(f"{one.visit}: captured {line.captured}, not {one.captured}")
        if line.devices != one.devices:
            wrong.append(f"{one.visit}: clicked on {line.devices}, not {one.devices}")
        wrong += [
            f"{one.visit}: {vendor} says {line.destinations.get(vendor)!r}, not {one.outcome!r}"
            for vendor in VENDORS
            if line.destinations.get(vendor) != one.outcome
        ]
        wrong += _wrong_at_vendors(one, sandbox)
    return wrong


def _wrong_at_vendors(one: Expected, sandbox: Sandbox) -> list[str]:
    times = 1 if one.outcome == "accepted" else 0
    wrong = [
        f"{one.visit}: {vendor.name} holds the order {vendor.orders[one.order]} times, not {times}"
        for vendor in sandbox.vendors
        if vendor.orders[one.order] != times
    ]
    if not times:
        return wrong
    adct = next((_adct(event) for event in sandbox.adroll.accepted if _order(event) == one.order), None)
    rokt_id = next((_rokt_id(event) for event in sandbox.rokt.accepted if _order(event) == one.order), None)
    for vendor, found, wanted in (("adroll", adct, one.adct), ("rokt", rokt_id, one.rokt_id)):
        if found != wanted:
            wrong.append(f"{one.visit}: {vendor} holds the click {found!r}, not {wanted!r}")
    return wrong


def _order(event: Any) -> str | None:
    if "objectData" in event:
        return _rokt_value(event, "transactionid")
    order: str | None = event["event_attributes"].get("order_id")
    return order


def _adct(event: Any) -> str | None:
    value: str | None = event["identifiers"].get("adct")
    return value


def _rokt_id(event: Any) -> str | None:
    return _rokt_value(event, "passbackconversiontrackingid")


def _rokt_value(event: Any, name: str) -> str | None:
    return next((pair["value"] for pair in event["objectData"] if pair["name"] == name), None)
