"""The doctor: what it looks at, and that each thing it can find is found."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kit import Conversion, Kit, Quarantine
from kit.destinations import Destination
from kit.doctor import Finding, examine
from kit.intake import Person
from kit.model import Mode, VisitorId
from kit.sandbox import Addresses, Sandbox
from kit.store import engine, people
from kit.store.overview import Pause, pause
from kit.store.pixels import PixelReport, keep_pixel_reports
from kit.store.tables import deliveries
from tests.postgres import Server
from tests.support import FrozenClock, adroll, make_kit, rockerbox, rokt


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def vendors(sandbox: Sandbox) -> Iterator[Addresses]:
    with sandbox.serve() as addresses:
        yield addresses


def live(vendors: Addresses) -> list[Destination]:
    return [
        adroll(base_url=vendors.adroll_url),
        rokt(base_url=vendors.rokt_url),
        rockerbox(base_url=vendors.rockerbox_url),
    ]


async def found_by(kit: Kit, **asked: bool) -> dict[str, Finding]:
    findings = await examine(kit, **asked)
    kit.store.close()
    return {finding.about: finding for finding in findings}


@pytest.mark.parametrize(("has_log", "said"), [(True, "journal_mode=WAL"), (False, "; with SQLite 3.51.3 or newer")])
async def test_an_older_sqlite_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_log: bool, said: str
) -> None:
    """Both are safe; what a newer build would be worth is said where it would be worth something."""
    monkeypatch.setattr(engine, "wal_is_safe", lambda _: has_log)

    durability = (await found_by(make_kit(tmp_path, destinations=[])))["durability"]

    assert (durability.state, said in durability.said) == ("good", True)
    assert ("3.51.3" in durability.said) is not has_log


async def test_a_shop_that_is_set_up_well(tmp_path: Path, sandbox: Sandbox, vendors: Addresses) -> None:
    """Everything is good, and no vendor counts anything for it."""
    found = await found_by(make_kit(tmp_path, destinations=live(vendors)), read_all=True)

    assert {about: finding.state for about, finding in found.items()} == dict.fromkeys(
        (
            "store", "durability", "file", "disk", "clock of the database",
            "adroll", "clock of adroll", "rokt", "rockerbox",
        ),
        "good",
    )  # fmt: skip
    assert "dry run" in found["adroll"].said
    assert not any(finding.advice for finding in found.values())
    assert [vendor.counted for vendor in (sandbox.adroll, sandbox.rokt, sandbox.rockerbox)] == [0, 0, 0]


async def test_a_wrong_token_is_found_before_the_first_order(tmp_path: Path, vendors: Addresses) -> None:
    """The vendor's own answer to a dry run says so; the token is not repeated."""
    wrong = adroll(base_url=vendors.adroll_url, token="a-wrong-token")

    finding = (await found_by(make_kit(tmp_path, destinations=[wrong])))["adroll"]

    assert finding.state == "bad"
    assert finding.said.startswith("HTTP 401")
    assert "a-wrong-token" not in repr(finding)


async def test_a_vendor_that_cannot_be_reached(tmp_path: Path) -> None:
    """Nobody listens there."""
    nowhere = rockerbox(base_url="http://127.0.0.1:9")

    finding = (await found_by(make_kit(tmp_path, destinations=[nowhere])))["rockerbox"]

    assert finding.state == "bad"
    assert "cannot be reached" in finding.said


async def test_a_clock_that_is_off(tmp_path: Path) -> None:
    """The vendor's Date header is ten minutes behind ours."""
    sandbox = Sandbox(clock=lambda: datetime.now(UTC) - timedelta(minutes=10))
    with sandbox.serve() as vendors:
        found = await found_by(make_kit(tmp_path, destinations=[adroll(base_url=vendors.adroll_url)]))

    assert found["clock of adroll"].state == "bad"
    assert "behind" in found["clock of adroll"].said


async def test_shadow_is_said_and_nobody_is_asked(tmp_path: Path) -> None:
    """Staging must not be taken for live."""
    found = await found_by(make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW, base_url="http://127.0.0.1:9")]))

    assert found["rokt"].state == "warning"
    assert "shadow" in found["rokt"].said


async def test_orders_that_nobody_delivers(tmp_path: Path, clock: FrozenClock) -> None:
    """No worker runs: what is due waits. What an operator holds back does not count."""
    clock.now = datetime.now(UTC) - timedelta(minutes=30)
    kit = make_kit(tmp_path, destinations=[rokt(), rockerbox()], clock=clock)
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
    await kit.store.write(pause, Pause(destination="rokt", reason="by operator", now=datetime.now(UTC)))

    found = await found_by(kit, ask_vendors=False)

    assert found["worker for rockerbox"].state == "bad"
    assert "30 minutes" in found["worker for rockerbox"].said
    assert "worker for rokt" not in found


async def test_a_damaged_file(tmp_path: Path) -> None:
    """SQLite's file has a page that is none: found at its opening, and said in words that help."""
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)])
    for number in range(200):
        await kit.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
    kit.store.close()
    file = tmp_path / "kit.db"
    with sqlite3.connect(file) as other:
        page = other.execute("select rootpage from sqlite_schema where name = 'ix_events_order_id'").fetchone()[0]
    other.close()
    with file.open("r+b") as raw:
        raw.seek((page - 1) * 4096)
        raw.write(b"\xff" * 4096)

    found = await found_by(make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)]))

    assert found["store"].state == "bad"
    assert "its file is damaged; stop the shop, keep a copy, restore a backup" in found["store"].said


async def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    """A finding, not a traceback."""
    folder = tmp_path / "gone"
    folder.mkdir()
    kit = make_kit(folder, destinations=[rokt(mode=Mode.SHADOW)])
    folder.rmdir()

    assert (await found_by(kit))["store"].state == "bad"


async def test_postgresql_is_judged_by_its_own_settings(tmp_path: Path, postgres: Server) -> None:
    """`synchronous_commit=off` gives up what was accepted in a power cut."""
    with postgres.database() as url:
        kit = make_kit(tmp_path, store=url, destinations=[])
        kit.store.migrate()
        assert (await found_by(kit))["durability"].state == "good"
        careless = make_kit(
            tmp_path,
            store=f"{url}{'&' if '?' in url else '?'}options=-csynchronous_commit%3Doff",
            destinations=[],
        )

        found = await found_by(careless)

    assert found["durability"].state == "bad"
    assert "synchronous_commit=off" in found["durability"].said
    assert found["store"].said.startswith("PostgreSQL ")


def test_the_command_tells_people_and_programs(tmp_path: Path, vendors: Addresses, sandbox: Sandbox) -> None:
    """Exit code 1 when something is bad."""
    environment = {
        "PATH": "",
        "COLUMNS": "160",
        "KIT_STORE": f"sqlite:///{tmp_path}/kit.db",
        "KIT_SECRET_KEYS": "a-key-for-tests-of-32-characters",
        "KIT_CONSENT": "opt_in",
        "KIT_ADROLL_ADVERTISABLE": "SANDBOXADVERTISABLE001",
        "KIT_ADROLL_PIXEL": "SANDBOXPIXEL0000000001",
        "KIT_ADROLL_TOKEN": "a-wrong-token",
        "KIT_ADROLL_BASE_URL": vendors.adroll_url,
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "kit", "doctor", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)

    told, programs, offline = run(), run("--json"), run("--offline")

    assert told.returncode == programs.returncode == 1
    assert "HTTP 401" in told.stdout
    assert {"about": "durability", "state": "good"}.items() <= json.loads(programs.stdout)[1].items()
    assert offline.returncode == 0
    assert "a-wrong-token" not in told.stdout + programs.stdout + told.stderr


async def test_a_changed_contract_is_said(tmp_path: Path, sandbox: Sandbox, vendors: Addresses) -> None:
    """`--live` keeps the shape of an answer; the next time another one is a warning that shows both."""

    async def looked() -> Finding:
        kit = make_kit(tmp_path, destinations=[adroll(base_url=vendors.adroll_url)])
        return (await found_by(kit, compare=True))["contract of adroll"]

    first, second = await looked(), await looked()
    sandbox.adroll.answers(200, body={"accepted": 1})
    third = await looked()

    assert (first.state, second.state) == ("good", "good")
    assert "compared the next time" in first.said
    assert second.said.startswith("as on ")
    assert third.state == "warning"
    assert third.said.endswith("HTTP 200 {}, now HTTP 200 {accepted: number}")


async def test_answers_that_nobody_foresaw_are_counted(tmp_path: Path, sandbox: Sandbox, vendors: Addresses) -> None:
    """A 2xx that is not what the vendor documents is taken, and said with its shape."""
    kit = make_kit(tmp_path, destinations=[rockerbox(base_url=vendors.rockerbox_url)])
    sandbox.rockerbox.answers(200, body="<html>hello jane@example.com</html>", times=2)
    for number in range(3):
        await kit.report(Conversion(order_id=str(number), email="jane@example.com"))
    await kit.worker.drain()

    finding = (await found_by(kit))["answers of rockerbox"]

    assert finding.state == "warning"
    assert finding.said.startswith("2 in unknown shapes")
    assert finding.said.endswith("HTTP 200 not JSON")


async def test_visitors_in_quarantine_are_counted(tmp_path: Path) -> None:
    """Of whom too many people were asserted: with the command that names them."""
    kit = make_kit(tmp_path, destinations=[])
    await kit.ready()
    for number in range(6):
        person = Person(email=f"victim{number}@example.com")
        link = kit.intake.link(None, VisitorId("v" * 22), person, level=people.ASSERTED, source="page")
        assert link is not None
        await kit.store.write(people.keep_links, link)

    found = await found_by(kit)
    lenient = await found_by(make_kit(tmp_path, destinations=[], quarantine=Quarantine(names=6)))

    assert "identities" not in lenient
    assert found["identities"].state == "warning"
    assert found["identities"].said.startswith("1 visitor is in quarantine")
    assert "kit identity list" in found["identities"].advice


async def test_orders_that_a_pixel_reported_as_well(tmp_path: Path) -> None:
    """AdRoll counts both: with the setting to write. Rokt tells a repeat; what is left to the pixel is no fault."""
    made = [adroll(), rokt(), adroll(name="adroll-b", pixel_reports={"purchase"})]
    kit = make_kit(tmp_path, destinations=made)
    for number in range(3):
        await kit.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
    delivered = deliveries.update().values(state="delivered")
    await kit.store.write(lambda connection, asked: [connection.execute(delivered) and None for _ in asked], None)
    noted = [("order-0", "adroll", 6), ("order-1", "adroll", 6), ("order-2", "adroll", 8), ("order-2", "rokt", 6)]
    for order_id, vendor, days in noted:
        note = PixelReport(order_id=order_id, vendor=vendor, at=datetime.now(UTC) - timedelta(days=days))
        await kit.store.write(keep_pixel_reports, note)

    found = await found_by(kit, ask_vendors=False)

    doubled, told = found["pixel beside adroll"], found["pixel beside rokt"]
    assert (doubled.state, doubled.said) == (
        "warning",
        "2 purchase events of the last week were reported by AdRoll's pixel too",
    )
    assert 'AdRoll(pixel_reports={"purchase"}) leaves them to the pixel' in doubled.advice
    assert (told.state, told.advice) == ("good", "")
    assert told.said.startswith(
        "1 purchase events of the last week were reported by Rokt's pixel too; Rokt tells a repeat"
    )
    assert "pixel beside adroll-b" not in found
