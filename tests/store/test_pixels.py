"""What pages noted of vendors' pixels: kept once, counted beside what was delivered, and let go of."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kit import Kit, Retention
from kit.store import persons
from kit.store.pixels import DoubleReport, PixelReport, double_reports, keep_pixel_reports, pixels_of
from kit.store.retention import prune
from kit.store.tables import pixel_reports
from tests.store.traces import JANE, shop
from tests.support import NOON, make_kit

pytestmark = pytest.mark.usefixtures("both_engines")

DAY = timedelta(days=1)


async def note(kit: Kit, order_id: str, vendor: str, *, after: timedelta = timedelta(0)) -> None:
    await kit.store.write(keep_pixel_reports, PixelReport(order_id=order_id, vendor=vendor, at=NOON + after))


async def kept(kit: Kit) -> Sequence[tuple[str, str, int]]:
    columns = (pixel_reports.c.order_id, pixel_reports.c.vendor, pixel_reports.c.at)
    query = select(*columns).order_by(pixel_reports.c.id)
    return await kit.store.read(lambda connection: [(row[0], row[1], row[2]) for row in connection.execute(query)])


async def test_the_first_note_of_an_order_and_vendor_stays(tmp_path: Path) -> None:
    """A page that is loaded again says it again; the time is the first one's."""
    kit = make_kit(tmp_path)
    await kit.ready()

    for vendor, after in (("rokt", DAY), ("adroll", DAY), ("rokt", 2 * DAY)):
        await note(kit, "order-1", vendor, after=after)
    found = await kept(kit)
    beside = await kit.store.read(lambda connection: pixels_of(connection, {"order-1", "order-2"}))
    kit.store.close()

    at = int((NOON + DAY).timestamp() * 1000)
    assert found == [("order-1", "rokt", at), ("order-1", "adroll", at)]
    assert beside == {"order-1": ("adroll", "rokt")}


async def test_an_order_counts_twice_where_it_was_delivered_to_the_pixels_vendor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not where it waits, where another vendor's pixel reported it, nor where the note is older than asked for."""
    monkeypatch.setattr(persons, "RANGE", 2)
    async with shop(tmp_path) as it:
        for number in range(4):
            await it.order(f"order-{number}", email=JANE[1])
        await it.kit.worker.drain()
        await it.order("order-4", email=JANE[1])
        for number in range(5):
            await note(it.kit, f"order-{number}", "rokt", after=number * DAY)
        await note(it.kit, "order-1", "adroll", after=DAY)
        await note(it.kit, "never-reported", "rokt", after=DAY)
        vendors = {"rokt": "rokt", "rockerbox": "rockerbox"}

        found = await asyncio.to_thread(double_reports, it.kit.store, vendors, since=NOON + DAY)
        unknown = await asyncio.to_thread(double_reports, it.kit.store, {"rokt": "adroll"}, since=NOON + 2 * DAY)

        assert found == [DoubleReport(destination="rokt", vendor="rokt", name="purchase", orders=3)]
        assert unknown == []


async def test_notes_are_let_go_of_after_thirty_days(tmp_path: Path) -> None:
    """Also those of orders that nobody ever reported here."""
    kit = make_kit(tmp_path)
    await kit.ready()
    await note(kit, "order-1", "adroll")
    await note(kit, "order-2", "adroll", after=DAY)

    while await prune(kit.store, Retention(), NOON + 30 * DAY + timedelta(seconds=1)):
        pass
    found = await kept(kit)
    kit.store.close()

    assert [row[0] for row in found] == ["order-2"]


async def test_an_erased_persons_orders_are_not_noted_any_more(tmp_path: Path) -> None:
    """When a page of theirs was open goes with the rest, and a page that is opened again brings nothing back."""
    async with shop(tmp_path) as it:
        await it.touch("a", "click")
        await it.snapshot("order-1", "a")
        await it.snapshot("order-2", "a")
        await it.order("order-1", "a", email=JANE[1])
        await it.order("order-3", "b", email="bob@example.com")
        for number in (1, 2, 3):
            await note(it.kit, f"order-{number}", "adroll")

        await it.erase(email=JANE[1])
        left = [row[0] for row in await kept(it.kit)]
        for number in (1, 2):
            await note(it.kit, f"order-{number}", "rokt")

        assert left == ["order-3"]
        assert [row[0] for row in await kept(it.kit)] == ["order-3"]


async def test_a_person_is_given_which_pixels_reported_their_orders(tmp_path: Path) -> None:
    """Beside what each destination was told."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1])
        await it.order("order-2", "a", email=JANE[1])
        await note(it.kit, "order-1", "adroll")

        found = await it.kit.export_person(email=JANE[1])

        assert [event["reported_by_pixels"] for event in found["events"]] == [["adroll"], []]
