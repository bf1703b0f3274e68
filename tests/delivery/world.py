"""A kit, its sandboxed vendors, and a clock that all of them go by."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import select

from kit import Conversion, Kit
from kit.delivery.lane import Lane
from kit.delivery.worker import Worker
from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.model import ClickId, Consent, Identifiers, VisitorId
from kit.sandbox import Sandbox
from kit.store import people
from kit.store.overview import Standing, Told, standings, told
from kit.store.retention import Retention
from kit.store.tables import deliveries, events
from tests.support import FPC, NOON, FrozenClock, adroll, make_kit, rockerbox, rokt

VISITOR = VisitorId("v" * 22)
GRANTED = Consent(granted=True, signal="test", at=NOON)


@dataclass
class World:
    """A kit, its vendors, and a clock that all of them go by."""

    kit: Kit
    sandbox: Sandbox
    clock: FrozenClock

    async def order(self, number: str = "order-1", **fields: Any) -> None:
        """Report an order whose buyer's identifiers are all known."""
        found = Identifiers(
            visitor=VISITOR,
            click_ids=(ClickId("adroll", "click123", NOON), ClickId("rokt", "rokt-click", NOON)),
            first_party_cookie=FPC,
            ip="12.34.56.89",
            user_agent="Browser/1.0",
            url="https://shop.com/checkout",
        )
        await self.kit.store.write(
            people.keep_orders, people.OrderLink(order_id=number, identifiers=found, consent=GRANTED)
        )
        given = {"order_id": number, "value": "19.90", "currency": "USD", "email": "jane@example.com", **fields}
        await self.kit.report(Conversion(**given))

    async def drain(self) -> None:
        await self.kit.worker.drain()

    async def rows(self, order: str | None = None) -> list[Told]:
        return await self.kit.store.read(lambda connection: told(connection, order_id=order))

    async def standing(self) -> Standing:
        return (await asyncio.to_thread(standings, self.kit.store))[0]


@asynccontextmanager
async def world(folder: Path, *kinds: type[Destination], **settings: Any) -> AsyncIterator[World]:
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    async with sandbox.serving() as vendors:
        makers: dict[type[Destination], Destination] = {
            AdRoll: adroll(base_url=vendors.adroll_url, **settings.pop("adroll", {})),
            Rokt: rokt(base_url=vendors.rokt_url, **settings.pop("rokt", {})),
            Rockerbox: rockerbox(base_url=vendors.rockerbox_url, **settings.pop("rockerbox", {})),
        }
        made = make_kit(folder, destinations=[makers[kind] for kind in kinds], clock=clock, **settings)
        made.open()
        try:
            yield World(made, sandbox, clock)
        finally:
            made.store.close()


class FrozenSteady:
    """A clock that nobody can step, at the second that the test says it is."""

    def __init__(self) -> None:
        self.seconds = 1_000.0

    def __call__(self) -> float:
        return self.seconds

    def passes(self, duration: timedelta) -> None:
        self.seconds += duration.total_seconds()


def lane_of(it: World, steady: FrozenSteady, *, place: int = 0) -> Lane:
    """Return a lane of a worker beside the kit's own, to be led step by step."""
    return Lane(
        it.kit.destinations[place],
        store=it.kit.store,
        may_send=it.kit.intake.may_keep,
        clock=it.clock,
        steady=steady,
        dice=lambda: 0.5,
        owner="this test",
    )


def worker_of(it: World, steady: FrozenSteady, **settings: Any) -> Worker:
    """Return a worker beside the kit's own, which goes by this steady clock."""
    return Worker(
        store=it.kit.store,
        destinations=it.kit.destinations,
        may_send=it.kit.intake.may_keep,
        retention=Retention(),
        clock=it.clock,
        steady=steady,
        **settings,
    )


async def row_of(it: World, order: str = "order-1") -> Any:
    """Return the stored delivery of an order."""
    query = select(deliveries).join(events, events.c.id == deliveries.c.event).where(events.c.order_id == order)
    return await it.kit.store.read(lambda connection: connection.execute(query).one())
