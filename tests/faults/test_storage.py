"""SQLite's file when the disk is read-only, another program holds it, or its bytes are not what they were."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kit import Conversion, Kit, StoreUnavailable
from kit.destinations import Rockerbox
from kit.store.limits import NO_LIMITS
from tests.delivery.world import world
from tests.store.test_limits import small_disk
from tests.support import Browser, make_kit

__all__ = ["small_disk"]


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", email="jane@example.com")


async def taken(kit: Kit, number: int) -> bool | None:
    """Return what `report` said of the order; None where it could not be stored in time."""
    try:
        return (await kit.report(order(number))).new
    except StoreUnavailable:
        return None


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True, capture_output=True, timeout=10)


async def read_only(disk: Path) -> Kit:
    """Return a kit whose store was there before its disk became read-only."""
    before = make_kit(disk, limits=NO_LIMITS)
    assert await taken(before, 1)
    # A file system with a file open for writing cannot be made read-only on purpose.
    before.store.close()
    await asyncio.to_thread(remount, disk, "ro")
    return make_kit(disk, limits=NO_LIMITS)


async def test_a_disk_that_is_read_only_refuses_orders_and_serves_pages(small_disk: Path) -> None:
    """S04: each report is told so, and pages go on."""
    kit = await read_only(small_disk)

    away = [await taken(kit, number) for number in (1, 2)]
    page = await Browser(kit).open("/?adct=click123")

    kit.store.close()
    assert (away, page.status) == ([None, None], 200)


async def test_a_disk_that_can_be_written_again_is_used_without_a_restart(small_disk: Path) -> None:
    """S04: as soon as the disk takes writes, orders are taken."""
    kit = await read_only(small_disk)
    away = await taken(kit, 2)

    await asyncio.to_thread(remount, small_disk, "rw")
    answers = [await taken(kit, number) for number in (1, 2, 3)]

    kit.store.close()
    assert away is None
    assert answers == [False, True, True]


async def test_another_program_that_holds_the_file_is_waited_for_in_time(tmp_path: Path) -> None:
    """S03: reports fail within their time and are not made up for later; what is claimed is delivered afterwards."""
    async with world(tmp_path, Rockerbox) as it:
        await it.order("order-1")
        other = sqlite3.connect(tmp_path / "kit.db", isolation_level=None)
        other.execute("BEGIN EXCLUSIVE")

        away = await taken(it.kit, 2)
        with pytest.raises(StoreUnavailable):
            await it.drain()
        other.execute("ROLLBACK")
        other.close()
        again = await taken(it.kit, 2)
        await it.drain()

        assert (away, again) == (None, True)
        assert it.sandbox.rockerbox.counted == len(it.sandbox.rockerbox.requests) == 2


# ---------------------------------------------------------------- a file that is damaged

_DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "its first page": lambda whole: b"\xff" * 4096 + whole[4096:],
    "half of it gone": lambda whole: whole[: len(whole) // 2],
    "cut in its header": lambda whole: whole[:100],
    "another file": lambda _: b"hello " * 1000,
}


@pytest.mark.parametrize("damage", _DAMAGE)
def test_a_damaged_file_is_an_unavailable_store_and_is_left_as_it_is(tmp_path: Path, damage: str) -> None:
    """S07: reports fail as they do when the store is away, nothing is written over what could be saved."""
    kit = make_kit(tmp_path)
    for number in range(50):
        kit.sync.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
    kit.store.close()
    file = tmp_path / "kit.db"
    file.write_bytes(_DAMAGE[damage](file.read_bytes()))
    before = file.read_bytes()

    for _ in range(2):
        damaged = make_kit(tmp_path)
        with pytest.raises(StoreUnavailable):
            damaged.sync.report(Conversion(order_id="order-x", email="jane@example.com"))
        damaged.store.close()

    assert file.read_bytes() == before
