"""SQLite's file when the disk is read-only, another program holds it, or its bytes are not what they were."""

import asyncio
import sqlite3
import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kit import Conversion, Kit, StoreUnavailable
from kit.destinations import Rockerbox
from kit.doctor import examine
from kit.store import health
from kit.store.engine import journal_mode
from kit.store.limits import NO_LIMITS
from kit.store.tables import events
from tests.delivery.world import world
from tests.store.test_limits import small_disk
from tests.support import Browser, eventually, make_kit

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


async def test_a_foreign_reader_that_stays_holds_nothing_up_for_ever(tmp_path: Path) -> None:
    """S10: without a write-ahead log no commit is possible beside it: reports fail in time, and nothing follows."""
    kit = make_kit(tmp_path)
    assert await taken(kit, 1)
    other = sqlite3.connect(tmp_path / "kit.db", isolation_level=None)
    other.execute("BEGIN")
    other.execute("SELECT count(*) FROM events").fetchone()

    told = [await taken(kit, number) for number in (2, 3)]
    page = await Browser(kit).open("/?adct=click123")
    other.execute("ROLLBACK")
    other.close()
    query = select(events.c.order_id).order_by(events.c.id)
    stored = await kit.store.read(lambda connection: connection.scalars(query).all())
    again = await taken(kit, 3)

    kit.store.close()
    is_log = journal_mode() == "WAL"
    assert (told, page.status) == ([True, True] if is_log else [None, None], 200)
    assert stored == (["order-1", "order-2", "order-3"] if is_log else ["order-1"])
    assert again is not is_log


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


def damaged_page(file: Path, table: str) -> bytes:
    """Damage the first page of this table; return what the file was."""
    with sqlite3.connect(file) as database:
        page, size = database.execute(
            "SELECT rootpage, page_size FROM sqlite_schema, pragma_page_size WHERE name = ?", (table,)
        ).fetchone()
    database.close()
    whole = file.read_bytes()
    start = (page - 1) * size
    file.write_bytes(whole[:start] + b"\xff" * size + whole[start + size :])
    return whole


async def test_a_damaged_page_in_the_middle_is_found_before_anything_is_written(tmp_path: Path) -> None:
    """S07: orders are refused and pages served, the file stays as it is; a backup put in its place is taken at once."""
    before = make_kit(tmp_path)
    assert await taken(before, 1)
    before.store.close()
    file = tmp_path / "kit.db"
    whole = damaged_page(file, "touchpoints")
    damaged = file.read_bytes()
    kit = make_kit(tmp_path)

    page = await Browser(kit).open("/?adct=click123")
    refused = []
    for number in (2, 3):
        with pytest.raises(StoreUnavailable, match="its file is damaged; stop the shop, keep a copy") as error:
            await kit.report(order(number))
        refused.append(error.value)
    with pytest.raises(StoreUnavailable, match="its file is damaged"):
        await kit.worker.drain()
    after = file.read_bytes()
    backup = tmp_path / "backup.db"
    backup.write_bytes(whole)
    backup.replace(file)
    answers: list[bool | None] = []

    async def answered() -> bool:
        # One that was being opened meanwhile is the damaged file still.
        answers.append(await taken(kit, 1))
        return answers[-1] is not None

    await eventually(answered)
    new = await taken(kit, 2)

    kit.store.close()
    assert (len(refused), page.status) == (2, 200)
    assert after == damaged
    assert (answers[-1], new) == (False, True)


@pytest.mark.parametrize(
    "bound", [{"LARGEST": 4096}, {"LOOKING": timedelta(0), "_STEPS": 1}], ids=["a large file", "a slow disk"]
)
async def test_what_takes_too_long_to_look_over_delays_no_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: dict[str, object]
) -> None:
    """S07: past its bounds the look at start is given up, orders are taken, and the doctor reads it all."""
    before = make_kit(tmp_path, destinations=[])
    assert await taken(before, 1)
    before.store.close()
    damaged_page(tmp_path / "kit.db", "touchpoints")
    for name, value in bound.items():
        monkeypatch.setattr(health, name, value)
    kit = make_kit(tmp_path, destinations=[])

    new = await taken(kit, 2)
    found = {one.about: one for one in await examine(kit, ask_vendors=False, read_all=True)}

    kit.store.close()
    assert new is True
    assert found["file"].state == "bad"
