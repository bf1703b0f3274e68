"""A shop where two people leave their traces, told a second apart, for the tests of erasure and access."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, select

from kit import Conversion, Kit
from kit.model import ClickId, Consent, Identifiers, Touchpoint, VisitorId
from kit.sandbox import Sandbox
from kit.store import people
from kit.store.erasure import Erased
from kit.store.overview import Told, told
from kit.store.people import ASSERTED, VERIFIED, Link, Touch
from kit.store.tables import metadata
from tests.support import FPC, NOON, FrozenClock, make_kit, rockerbox, rokt

JANE, JANES, BOB = ("email", "jane@example.com"), ("customer", "1"), ("email", "bob@example.com")
BOBS, PHONE, BOBS_PHONE = ("customer", "2"), ("phone", "+15551234567"), ("phone", "+15559876543")
SHOP, PAGE, ORDER = (VERIFIED, "shop"), (ASSERTED, "page"), (VERIFIED, "order")

GRANTED = Consent(granted=True, signal="page", at=NOON)
MOMENT = timedelta(seconds=1)


def visitor(name: str) -> VisitorId:
    return VisitorId(f"visitor-{name}".ljust(22, "-"))


@dataclass
class Shop:
    """A kit with its vendors; each word of it is told a second after the last."""

    kit: Kit
    sandbox: Sandbox
    clock: FrozenClock = field(default_factory=FrozenClock)

    async def link(self, browser: str, level: str, source: str, *people_said: tuple[str, str]) -> None:
        """Write what was told at one moment of one browser."""
        self.clock.passes(MOMENT)
        said = tuple(self.kit.intake.identity(kind, value) for kind, value in people_said)
        asked = [
            Link(
                visitor=visitor(browser),
                identities=(each,),
                # As a report does: the shop's number is its word, an address is the buyer's.
                level=level if source != "order" or each.kind == "customer" else ASSERTED,
                source=source,
                consent=GRANTED,
                unknown_is_granted=True,
                at=self.clock(),
            )
            for each in said
        ]
        await self.kit.store.write(_write_links, asked)

    async def touch(self, browser: str, click: str) -> None:
        self.clock.passes(MOMENT)
        touchpoint = Touchpoint(
            at=self.clock(),
            click_ids=(ClickId("rokt", click, self.clock()),),
            url=f"https://shop.com/{click}",
            utm={"utm_source": click},
        )
        touch = Touch(visitor=visitor(browser), touchpoint=touchpoint, first_party_cookie=None, consent=GRANTED)
        await self.kit.store.write(people.keep_touches, touch)

    async def order(self, number: str, browser: str | None = None, **fields: Any) -> bool:
        self.clock.passes(MOMENT)
        given = {"value": "19.90", "currency": "USD", **fields}
        who = visitor(browser) if browser else None
        return (await self.kit.report(Conversion(order_id=number, **given), visitor=who)).new

    async def snapshot(self, number: str, browser: str) -> None:
        self.clock.passes(MOMENT)
        seen = Identifiers(visitor=visitor(browser), first_party_cookie=FPC, ip="12.34.56.89")
        await self.kit.store.write(
            people.keep_orders, people.OrderLink(order_id=number, identifiers=seen, consent=GRANTED)
        )

    async def erase(self, **named: Any) -> Erased:
        self.clock.passes(MOMENT)
        return (await self.kit.erase(**named)).found

    async def text(self, *, but: Sequence[str] = ()) -> str:
        """Return every value of every table."""

        def everything(connection: Connection) -> str:
            tables = [table for table in metadata.sorted_tables if table.name not in but]
            return "\n".join(f"{table.name} {row!r}" for table in tables for row in connection.execute(select(table)))

        return await self.kit.store.read(everything)

    async def rows(self, order: str) -> list[Told]:
        return await self.kit.store.read(lambda connection: told(connection, order_id=order))

    async def states(self, order: str) -> set[tuple[str, str | None]]:
        return {(row.state, row.reason) for row in await self.rows(order)}


def _write_links(connection: Connection, asked: Sequence[Sequence[Link]]) -> Sequence[None]:
    people.write_links(connection, [link for links in asked for link in links])
    return [None] * len(asked)


@asynccontextmanager
async def shop(folder: Path, **given: Any) -> AsyncIterator[Shop]:
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    async with sandbox.serving() as vendors:
        made = [rokt(base_url=vendors.rokt_url), rockerbox(base_url=vendors.rockerbox_url)]
        kit = make_kit(folder, **{"destinations": made, "clock": clock, **given})
        kit.open()
        try:
            yield Shop(kit, sandbox, clock)
        finally:
            kit.store.close()
