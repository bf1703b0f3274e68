"""Sales in bulk: every purchase of a time, once, in short reads between which others write."""

import asyncio
from datetime import timedelta
from pathlib import Path

from kit import Conversion
from kit.destinations import Rockerbox
from kit.model import Mode
from kit.store import exports
from kit.store.exports import sales
from tests.support import NOON, FrozenClock, make_kit


async def test_every_purchase_comes_once_and_in_order_over_many_reads(tmp_path: Path) -> None:
    """More than one range holds; what is no purchase, or happened at another time, is passed over."""
    kit = make_kit(tmp_path, clock=FrozenClock(), destinations=[Rockerbox(mode=Mode.SHADOW)])
    number = exports.RANGE + 50
    await asyncio.gather(*(kit.report(Conversion(order_id=f"o-{place}", email="a@b.co")) for place in range(number)))
    await kit.report(Conversion(name="add_to_cart", email="a@b.co"))
    await kit.report(Conversion(order_id="late", time=NOON - timedelta(days=3)))

    found = await asyncio.to_thread(lambda: list(sales(kit.store)))
    since = await asyncio.to_thread(lambda: list(sales(kit.store, since=NOON)))
    until = await asyncio.to_thread(lambda: list(sales(kit.store, until=NOON)))
    kit.store.close()

    orders = [sale.dispatch.conversion.order_id for sale in found]
    assert sorted(orders[:-1], key=str) == sorted((f"o-{place}" for place in range(number)), key=str)
    assert orders[-1] == "late"
    assert [len(since), len(until)] == [number, 1]
    assert found[0].dispatch.identifiers.email == "a@b.co"


async def test_a_store_without_events_has_none(tmp_path: Path) -> None:
    """Nothing, and no error."""
    kit = make_kit(tmp_path)
    kit.open()

    assert await asyncio.to_thread(lambda: list(sales(kit.store))) == []
    kit.store.close()


async def test_who_reads_slowly_stops_nobody_from_writing(tmp_path: Path) -> None:
    """No read is open between two sales: in SQLite's TRUNCATE mode it would block every commit."""
    kit = make_kit(tmp_path, clock=FrozenClock())
    await kit.report(Conversion(order_id="o-1", email="a@b.co"))
    reading = sales(kit.store)

    first = await asyncio.to_thread(next, reading)
    await kit.report(Conversion(order_id="o-2", email="a@b.co"))
    kit.store.close()

    assert first.dispatch.conversion.order_id == "o-1"
