"""SQLite's file on a disk of its own, which loses its power, and behind writes that fail half-way."""

import asyncio
import fcntl
import os
import resource
import sqlite3
import struct
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from kit import Conversion, Kit, StoreUnavailable
from kit.sandbox import Sandbox
from kit.store.limits import NO_LIMITS
from kit.store.tables import deliveries, events
from tests.end_to_end.test_processes import until
from tests.faults.killed import begun, delivers, ended, kit_of, report, reports
from tests.store.test_limits import fill, small_disk
from tests.support import Browser, make_kit

__all__ = ["small_disk"]

#: Ends a file system as a power cut does: what was not flushed is gone (`ioctl_fs`, FS_IOC_SHUTDOWN).
_SHUTDOWN, _WITHOUT_FLUSH = 0x8004587D, struct.pack("I", 2)
#: More than the store wants to leave free; the image has holes and takes little of it.
_SIZE, _SMALL = 600 * 2**20, 8 * 2**20


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", email="jane@example.com")


def told_of(kit: Kit, number: int) -> bool | None:
    """Return what `report` said of the order; None where it could not be stored."""
    try:
        return kit.sync.report(order(number)).new
    except StoreUnavailable:
        return None


def counted(connection: Connection) -> Counter[str]:
    """Return the deliveries of each order."""
    query = select(events.c.order_id).join(deliveries, deliveries.c.event == events.c.id)
    return Counter(connection.scalars(query))


def is_whole(file: Path) -> bool:
    with sqlite3.connect(file) as database:
        found: list[tuple[str]] = database.execute("PRAGMA integrity_check").fetchall()
    database.close()
    return found == [("ok",)]


# ---------------------------------------------------------------- power


class Disk:
    """An ext4 in an image file, whose holes take no room."""

    def __init__(self, folder: Path, image: Path) -> None:
        self.folder, self.image = folder, image
        self.folder.mkdir()

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    def make(self, size: int, *options: str) -> None:
        with self.image.open("wb") as image:
            image.truncate(size)
        self.run("mkfs.ext4", "-q", "-F", *options, str(self.image))
        self.mount()

    def mount(self) -> None:
        self.run("mount", "-o", "loop", str(self.image), str(self.folder))

    def loses_power(self) -> None:
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, _WITHOUT_FLUSH)
        finally:
            os.close(descriptor)

    def comes_back(self) -> None:
        # Not before the last file on it is closed: until then it would be the same dead one.
        self.run("umount", str(self.folder))
        self.mount()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk", tmp_path / "image")
    try:
        made.make(_SIZE)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount an ext4 in a file")
    yield made
    with suppress(subprocess.CalledProcessError):
        made.run("umount", "-l", str(made.folder))


@pytest.fixture
def failing_disk(small_disk: Path, tmp_path: Path) -> Iterator[Disk]:
    """A disk that takes every write, and fails to flush it where `small_disk` beneath it is full."""
    made = Disk(tmp_path / "failing", small_disk / "image")
    try:
        made.make(8 * _SMALL, "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs to mount an ext4 in a file")
    yield made
    with suppress(subprocess.CalledProcessError):
        made.run("umount", "-l", str(made.folder))


@pytest.mark.parametrize("moment", [1, 12])
def test_a_power_cut_under_load_loses_nothing_that_was_answered(disk: Disk, moment: int) -> None:
    """S06: two shops and a worker; what was told is there, the file is whole, and each order counts once."""
    sandbox, store = Sandbox(), f"sqlite:///{disk.folder}/kit.db"
    with sandbox.serve() as vendors:
        kit = kit_of(store, vendors.url)
        for number in range(10):
            report(kit, number)
        all_ = [
            begun(reports, store, vendors.url, None, range(10, 80)),
            begun(reports, store, vendors.url, None, range(80, 150)),
            begun(delivers, store, vendors.url, None),
        ]
        until(lambda: sandbox.rockerbox.counted >= moment)
        disk.loses_power()
        for process, _ in all_:
            process.kill()
        answered = [number for _, told in [ended(*one) for one in all_] for number, _ in told]
        kit.store.close()
        disk.comes_back()

        assert ended(*begun(delivers, store, vendors.url, None)) == (0, [])
        looking = kit_of(store, vendors.url)
        found = looking.store.read_sync(counted)
        states = looking.store.read_sync(
            lambda it: set(it.execute(select(deliveries.c.destination, deliveries.c.state)))
        )
        looking.store.close()
    assert is_whole(disk.folder / "kit.db")
    assert len(answered) > 1
    assert {f"order-{number}" for number in [*range(10), *answered]} <= set(found)
    assert set(found.values()) == {3}
    assert {state for name, state in states if name != "adroll"} == {"delivered"}
    assert {state for name, state in states if name == "adroll"} <= {"delivered", "held"}
    assert all(set(vendor.orders.values()) == {1} for vendor in sandbox.vendors)


async def test_a_disk_that_fails_under_a_shop_refuses_orders_and_serves_pages(disk: Disk) -> None:
    """S05: every read, write and flush fails, and no report is told that it was stored; then the shop starts again."""
    kit = make_kit(disk.folder, limits=NO_LIMITS)
    assert await asyncio.to_thread(told_of, kit, 1)
    disk.loses_power()

    away = [await asyncio.to_thread(told_of, kit, number) for number in (2, 3)]
    page = await Browser(kit).open("/?adct=click123")
    kit.store.close()
    disk.comes_back()
    kit = make_kit(disk.folder, limits=NO_LIMITS)
    answers = [await asyncio.to_thread(told_of, kit, number) for number in (1, 2, 3)]
    found = await kit.store.read(counted)

    kit.store.close()
    assert (away, page.status) == ([None, None], 200)
    assert answers == [False, True, True]
    assert found == {f"order-{number}": 3 for number in (1, 2, 3)}


async def test_a_flush_that_fails_is_never_taken_for_one_that_succeeded(failing_disk: Disk, small_disk: Path) -> None:
    """S05: what was written and could not be flushed was told to nobody, also when a later flush has nothing to do."""
    kit = make_kit(failing_disk.folder, limits=NO_LIMITS)
    before = [await asyncio.to_thread(told_of, kit, number) for number in range(5)]
    fill(small_disk)

    told = [await asyncio.to_thread(told_of, kit, number) for number in range(5, 60)]
    (small_disk / "filler").unlink()
    told += [await asyncio.to_thread(told_of, kit, number) for number in range(60, 65)]
    kit.store.close()
    failing_disk.comes_back()
    kit = make_kit(failing_disk.folder, limits=NO_LIMITS)
    found = await kit.store.read(counted)
    after = await asyncio.to_thread(told_of, kit, 100)

    kit.store.close()
    assert before == [True] * 5
    assert None in told
    assert {f"order-{number}" for number, new in enumerate(before + told) if new} <= set(found)
    assert set(found.values()) == {3}
    assert after is True
    assert is_whole(failing_disk.folder / "kit.db")


# ---------------------------------------------------------------- writes that fail half-way


def reports_past(pipe: Pipe, folder: str, room: int) -> None:
    """Report until a write fails because no file may grow by more than `room` bytes, and again when they may."""
    kit = make_kit(Path(folder), limits=NO_LIMITS)
    told_of(kit, 0)
    size = (Path(folder) / "kit.db").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, resource.RLIM_INFINITY))
    number, failed = 1, 0
    while failed < 3:
        new = told_of(kit, number)
        pipe.send((number, new))
        failed += new is None
        number += 1
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    for again in range(number):
        pipe.send((again, told_of(kit, again)))
    kit.store.close()


@pytest.mark.parametrize("room", [4096, 4096 * 5 + 100, 4096 * 7 + 4000], ids=["no write", "short", "almost whole"])
def test_a_write_that_fails_half_way_stores_nothing_and_takes_nothing_away(tmp_path: Path, room: int) -> None:
    """S05: the transaction is undone, its caller told so, and the same process goes on when writes succeed."""
    code, told = ended(*begun(reports_past, str(tmp_path), room))

    assert code == 0
    last = max(number for number, _ in told)
    first, again = told[: -last - 1], dict(told[-last - 1 :])
    answered = {number for number, new in first if new}
    assert [new for _, new in first].count(None) == 3
    assert again == {number: number != 0 and number not in answered for number in range(last + 1)}
    kit = make_kit(tmp_path)
    found = kit.store.read_sync(counted)
    kit.store.close()
    assert is_whole(tmp_path / "kit.db")
    assert found == {f"order-{number}": 3 for number in range(last + 1)}
