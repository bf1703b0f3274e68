"""How large the store may grow: what is refused past a limit, what goes on, and how a full disk is survived."""

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from kit import ConfigurationError, Conversion, Kit, Limits, StoreFull, StoreUnavailable
from kit.destinations import Rokt
from kit.model import ClickId, Consent, Identifiers, Touchpoint, VisitorId
from kit.sandbox import Sandbox
from kit.store import people
from kit.store.events import report, report_from_page
from kit.store.limits import _bytes_of, look
from kit.store.outbox import Claim, claim
from kit.store.overview import told
from kit.store.tables import consents
from tests.support import NOON, Browser, FrozenClock, eventually, make_kit, rokt

MIB = 1024 * 1024
VISITOR = VisitorId("v" * 22)
GRANTED = Consent(granted=True, signal="test", at=NOON)


def only(**limits: int) -> Limits:
    """Return these limits and no other."""
    none = {"waiting": None, "store_bytes": None, "free_disk_bytes": None, "ballast_bytes": None}
    return Limits(**{**none, **limits})


def order(number: int) -> Conversion:
    return Conversion(order_id=f"order-{number}", value="19.90", currency="USD", email=f"jane.{number}@example.com")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every group measures, every passed bound counts."""
    monkeypatch.setattr("kit.store.limits.EVERY", 0.0)
    monkeypatch.setattr("kit.store.limits.COUNT_EVERY", 0.0)
    monkeypatch.setattr("kit.store.limits.COUNT_SHARE", 1.0)


async def accepted(kit: Kit, numbers: range) -> int:
    """Report one after the other until one is refused; returns how many were taken."""
    for place, number in enumerate(numbers):
        try:
            await kit.report(order(number))
        except StoreFull:
            return place
    return len(numbers)


def claiming(number: int) -> Claim:
    return Claim(destination="rokt", limit=number, owner="test", lease=timedelta(minutes=1), now=NOON)


@pytest.mark.usefixtures("both_engines", "at_once")
async def test_past_the_waiting_limit_reports_are_refused_until_well_below_it(tmp_path: Path) -> None:
    """20 may wait: the 22nd order is refused, and orders are taken again when fewer than 19 wait."""
    kit = make_kit(tmp_path, destinations=[rokt()], limits=only(waiting=20), clock=FrozenClock())

    first = await accepted(kit, range(30))
    await kit.store.write(claim, claiming(1))
    still = await accepted(kit, range(30, 31))
    await kit.store.write(claim, claiming(2))
    again = await accepted(kit, range(31, 60))

    kit.store.close()
    assert (first, still, again) == (21, 0, 3)


@pytest.mark.usefixtures("both_engines", "at_once")
async def test_a_refusal_names_its_limit_and_what_to_do_and_nothing_else_is_refused(tmp_path: Path) -> None:
    """A store past its size: a report is a StoreUnavailable for the shop; links, noes and the outbox go on."""
    kit = make_kit(tmp_path, destinations=[rokt(mode="shadow")], limits=only(waiting=1), clock=FrozenClock())
    await accepted(kit, range(2))
    kit.store.close()
    kit = make_kit(tmp_path, destinations=[rokt(mode="shadow")], limits=only(store_bytes=1), clock=FrozenClock())

    with pytest.raises(StoreUnavailable, match=r"it holds .* MiB; shorten Retention") as refused:
        await kit.report(order(3))
    with pytest.raises(StoreFull):
        kit.sync.report(order(3))
    link = people.OrderLink(order_id="4", identifiers=Identifiers(visitor=VISITOR), consent=GRANTED)
    await kit.store.write(people.keep_orders, link)
    no = Consent(granted=False, signal="page", at=NOON)
    await kit.store.write(people.keep_refusals, (VISITOR, no))
    await kit.worker.drain()

    decided = await kit.store.read(lambda connection: people.newest_consents(connection, {VISITOR}))
    found = await kit.store.read(lambda connection: told(connection))
    kit.store.close()
    assert isinstance(refused.value, StoreFull)
    assert refused.value.limit == "store_bytes"
    assert [row.state for row in found] == ["skipped", "skipped"]
    assert decided == {VISITOR: no}


@pytest.mark.usefixtures("both_engines", "at_once")
async def test_a_store_that_fills_up_takes_the_noes_of_those_who_are_in_it(tmp_path: Path) -> None:
    """From 80 % on, a landing's visitor who says no is not told of; one who is in it nowhere adds nothing to it."""
    kit = make_kit(tmp_path, destinations=[rokt()], clock=FrozenClock())
    kit.open()
    known, unknown = Browser(kit), Browser(kit)
    await known.open("/?rtid=click1234")
    await kit.store.write(look, None)
    size = await kit.store.read(_bytes_of)
    kit.store.close()
    kit = make_kit(tmp_path, destinations=[rokt()], limits=only(store_bytes=size + size // 10), clock=FrozenClock())
    for browser, granted in ((known, False), (unknown, False), (unknown, True)):
        browser.kit = kit
        await browser.open("/")
        await browser.open("/decide", method="POST", act=partial(kit.keep_consent, granted=granted))

    by_page = select(consents.c.granted).where(consents.c.signal == "page")
    kept = await kit.store.read(lambda connection: connection.scalars(by_page).all())
    kit.store.close()
    assert kept == [False]
    assert kit.faults.counts["consent"] == 1


@pytest.mark.usefixtures("both_engines", "at_once")
async def test_an_order_that_is_known_is_refused_like_any_other_and_lost_by_neither(tmp_path: Path) -> None:
    """The provider tries again; when there is room the same order is still one event."""
    small = make_kit(tmp_path, destinations=[rokt()], limits=only(waiting=1), clock=FrozenClock())
    assert await accepted(small, range(3)) == 2
    with pytest.raises(StoreFull):
        await small.report(order(0))
    small.store.close()

    roomy = make_kit(tmp_path, destinations=[rokt()], clock=FrozenClock())
    answers = [await roomy.report(order(number)) for number in (0, 1, 2)]

    roomy.store.close()
    assert [answer.new for answer in answers] == [False, False, True]


@pytest.mark.usefixtures("at_once")
async def test_too_little_free_disk_refuses_reports(tmp_path: Path) -> None:
    """A disk that must keep more free than it has."""
    kit = make_kit(tmp_path, limits=only(free_disk_bytes=1 << 60), clock=FrozenClock())

    with pytest.raises(StoreFull, match=r"its disk has only .* MiB left") as refused:
        await kit.report(order(1))

    kit.store.close()
    assert refused.value.limit == "free_disk_bytes"


@pytest.mark.usefixtures("both_engines")
async def test_a_report_in_the_shops_own_transaction_is_refused_too(tmp_path: Path) -> None:
    """What is written past the writer asks it first, and has it measure when nobody else writes."""
    kit = make_kit(tmp_path, destinations=[rokt()], limits=only(store_bytes=1))
    await kit.ready()

    def refused() -> bool:
        with kit.store.open()._engine.connect() as connection:
            try:
                kit.sync.report(order(1), connection=connection)
            except StoreFull:
                return True
            return False

    await eventually(refused)
    kit.store.close()


def test_a_negative_limit_is_refused_at_start() -> None:
    """Named, when the value is made."""
    with pytest.raises(ConfigurationError, match=r"limits\.waiting: is negative"):
        Limits(waiting=-1)


# ---------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False, timeout=10).returncode:
        pytest.skip("needs to mount a small tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True, timeout=10)


def fill(disk: Path) -> None:
    with contextlib.suppress(OSError), (disk / "filler").open("ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))


class Filling(Rokt):
    """Fills the disk at a moment of the test's choice: before its request is opened, or after it was answered."""

    def fill_at(self, disk: Path, when: str) -> "Filling":
        object.__setattr__(self, "moment", (disk, when))
        return self

    def build(self, sendings: Any) -> Any:
        self._reached("before")
        return super().build(sendings)

    def judge(self, *args: Any, **kwargs: Any) -> Any:
        self._reached("after")
        return super().judge(*args, **kwargs)

    def _reached(self, when: str) -> None:
        disk, wanted = getattr(self, "moment", (Path(), ""))
        if when == wanted:
            fill(disk)


@contextlib.asynccontextmanager
async def shop_on(disk: Path, when: str) -> Any:
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    async with sandbox.serving() as vendors:
        given: Any = {"account": "sandbox-account", "public_key": "rpub-sandbox", "secret_key": "rsec-sandbox"}
        destination = Filling(**given, base_url=vendors.rokt_url).fill_at(disk, when)
        limits = only(ballast_bytes=1 * MIB)
        kit = make_kit(disk, destinations=[destination], clock=clock, limits=limits)
        await kit.ready()
        yield kit, sandbox.rokt, destination, clock
        kit.store.close()


async def taken(kit: Kit, number: int) -> bool:
    """Return False where the order is refused for a full disk."""
    try:
        await kit.report(order(number))
    except StoreFull as error:
        if error.limit != "disk":
            raise
        return False
    return True


async def test_what_was_in_flight_when_the_disk_filled_is_settled_and_sent_once(small_disk: Path) -> None:
    """The ballast goes, the answer is written down, orders are refused; with space all goes on without a restart."""
    async with shop_on(small_disk, "after") as (kit, vendor, destination, _):
        ballast = small_disk / "kit.db-ballast"
        await kit.report(order(1))
        assert (ballast.stat().st_blocks * 512, ballast.stat().st_mode & 0o777) == (1 * MIB, 0o600)

        for _ in range(2):
            with pytest.raises(StoreFull):  # it looks for more
                await kit.worker.drain()
        rows = await kit.store.read(lambda connection: told(connection))

        assert [row.state for row in rows] == ["delivered"]
        assert not ballast.exists()
        assert not await taken(kit, 2)
        assert len(vendor.requests) == 1

        destination.fill_at(small_disk, "never")
        (small_disk / "filler").unlink()
        await eventually(lambda: taken(kit, 2))
        await kit.worker.drain()

        assert ballast.exists()
        assert vendor.counted == len(vendor.requests) == 2


async def test_an_attempt_that_cannot_be_written_down_is_not_sent(small_disk: Path) -> None:
    """The disk is full before the request: nothing leaves, and with space it is sent once."""
    async with shop_on(small_disk, "before") as (kit, vendor, destination, clock):
        await kit.report(order(1))

        with pytest.raises(StoreFull):
            await kit.worker.drain()
        assert vendor.requests == ()

        destination.fill_at(small_disk, "never")
        (small_disk / "filler").unlink()
        clock.passes(timedelta(minutes=2))

        async def sent() -> bool:
            with contextlib.suppress(StoreFull):
                await kit.worker.free_lapsed()
                await kit.worker.drain()
            return bool(vendor.requests)

        await eventually(sent)
        assert vendor.counted == len(vendor.requests) == 1


async def test_without_ballast_a_full_disk_refuses_and_heals(small_disk: Path) -> None:
    """SQLITE_FULL is a StoreFull; nothing is half written, and the next order after there is room is taken."""
    kit = make_kit(small_disk, destinations=[rokt()], limits=only())
    await kit.report(order(1))
    fill(small_disk)

    numbers = iter(range(2, 10_000))

    async def refused() -> bool:
        return not await taken(kit, next(numbers))

    await eventually(refused)
    (small_disk / "filler").unlink()
    answer = await kit.report(order(10_000))
    checked = kit.store.read_sync(lambda connection: connection.exec_driver_sql("PRAGMA integrity_check").scalar())

    kit.store.close()
    assert answer.new
    assert checked == "ok"


async def test_a_disk_without_room_for_ballast_takes_no_orders(small_disk: Path) -> None:
    """Two webs on one store: what one let go, the other sees; neither makes it again without twice its room."""
    one = make_kit(small_disk, destinations=[rokt()], limits=only(ballast_bytes=3 * MIB))
    await one.report(order(1))
    with (small_disk / "filler").open("wb") as filler:
        filler.write(bytes(2 * MIB))
    (small_disk / "kit.db-ballast").unlink()
    other = make_kit(small_disk, destinations=[rokt()], limits=only(ballast_bytes=3 * MIB))

    assert not await taken(other, 2)
    await eventually(lambda: _refuses(one))

    one.store.close()
    other.store.close()


async def _refuses(kit: Kit) -> bool:
    return not await taken(kit, 1)


async def test_a_disk_that_cannot_set_bytes_aside_is_no_reason_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems cannot allocate: the kit says so once and works without ballast."""

    def cannot(*_: object) -> None:
        raise OSError(95, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    kit = make_kit(tmp_path, destinations=[rokt()], limits=only(ballast_bytes=1 * MIB))

    answer = await kit.report(order(1))

    kit.store.close()
    assert answer.new
    assert not (tmp_path / "kit.db-ballast").exists()


async def test_pages_are_refused_before_orders(tmp_path: Path) -> None:
    """What anybody can make a page say may fill four fifths of the store; the rest is for orders."""
    kit = make_kit(tmp_path, limits=Limits(waiting=50, ballast_bytes=None, store_bytes=None, free_disk_bytes=None))
    for number in range(14):
        await kit.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
    kit.store._room._looked = float("-inf")
    await kit.report(Conversion(order_id="one-more", email="jane@example.com"))
    room = kit.store._room

    assert isinstance(room.refusal(report_from_page), StoreFull)
    assert {room.refusal(verb) for verb in (report, people.keep_touches, people.assert_links)} == {None}
    assert (await kit.report(Conversion(order_id="another", email="jane@example.com"))).new
    kit.store.close()


@pytest.mark.usefixtures("both_engines", "at_once")
async def test_what_anybody_can_send_leaves_bytes_for_orders(tmp_path: Path) -> None:
    """A flood of clicks, and then what is typed, ends at four fifths of the store; what the shop says goes on."""
    kit = make_kit(tmp_path, destinations=[rokt()], limits=only(store_bytes=2 * MIB))
    await kit.ready()
    link = people.Link(
        visitor=VISITOR,
        identities=(kit.intake.identity("email", "jane@example.com"),),
        level=people.ASSERTED,
        source="page",
        consent=GRANTED,
        unknown_is_granted=True,
        at=NOON,
    )

    with pytest.raises(StoreFull):
        await flood(kit)

    with pytest.raises(StoreFull):
        await kit.store.write(people.assert_links, link)
    await kit.store.write(people.keep_links, link)
    assert await accepted(kit, range(100)) == 100
    kit.store.close()


async def flood(kit: Kit) -> None:
    for number in range(200):
        await asyncio.gather(*(kit.store.write(people.keep_touches, click(f"{number}-{each}")) for each in range(100)))


def click(name: str) -> people.Touch:
    touchpoint = Touchpoint(at=NOON, click_ids=(ClickId("adroll", f"click-{name}", NOON),), url="https://shop.example/")
    return people.Touch(visitor=VisitorId(name), touchpoint=touchpoint, first_party_cookie=None, consent=GRANTED)
