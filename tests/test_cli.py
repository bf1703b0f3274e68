"""The command: what it prints for people and for programs, and its one-line errors."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import Connection

from kit import Conversion
from kit.cli import main
from kit.cli.common import counted, fail, print_json, span
from kit.model import ClickId, Consent, Identifiers, Mode, VisitorId
from kit.store import people
from kit.store.answers import Seen, keep_answers
from kit.store.overview import Pause, pause
from kit.store.pixels import PixelReport, keep_pixel_reports
from kit.store.tables import deliveries
from tests.support import NOON, Browser, FrozenClock, adroll, make_kit, rockerbox, rokt

HOUR = timedelta(hours=1)


def run(*arguments: str, folder: Path, columns: int = 160) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kit", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=folder,
        env={"PATH": "", "KIT_STORE": f"sqlite:///{folder}/kit.db", "COLUMNS": str(columns)},
    )


@pytest.fixture
async def shop(tmp_path: Path) -> Path:
    """A store with one order: Rokt in shadow, Rockerbox without what it needs."""
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW), rockerbox(mode=Mode.SHADOW)])
    await kit.report(Conversion(order_id="order-1", value="19.90", currency="USD", email="jane@example.com"))
    await kit.report(Conversion(order_id="order-2"))
    await kit.worker.drain()
    kit.store.close()
    return tmp_path


async def test_status_counts_by_destination_state_and_reason(shop: Path) -> None:
    """For programs: every number, with its reason."""
    found = json.loads(run("status", "--json", folder=shop).stdout)

    assert {
        (one["destination"], count["state"], count["reason"], count["n"]) for one in found for count in one["counts"]
    } == {
        ("rokt", "skipped", "shadow", 1),
        ("rokt", "skipped", "identifier", 1),
        ("rockerbox", "skipped", "shadow", 1),
        ("rockerbox", "skipped", "identifier", 1),
    }


async def test_status_is_a_table_for_people(shop: Path) -> None:
    """A destination a line, its reasons beside it."""
    printed = run("status", folder=shop).stdout

    assert "rokt" in printed
    assert "skipped (shadow)" in printed


async def test_why_tells_one_orders_story_without_its_values(shop: Path) -> None:
    """Which identifiers there were and what became of it; never the e-mail itself."""
    printed = run("why", "order-1", folder=shop).stdout

    assert "19.90 USD" in printed
    assert "email" in printed
    assert "shadow" in printed
    assert "jane@example.com" not in printed


@pytest.fixture
async def two_devices(tmp_path: Path) -> Path:
    """A customer who clicked on the phone, three days later on the laptop, and bought there."""
    clock = FrozenClock()
    kit = make_kit(tmp_path, destinations=[adroll(mode=Mode.SHADOW)], clock=clock)
    phone = Browser(kit, headers={"user-agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1) Mobile Safari/604.1"})
    laptop = Browser(kit, headers={"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Firefox/145.0"})
    for browser, landing in ((phone, "/?adct=on-the-phone"), (laptop, "/?gclid=on-the-laptop")):
        await browser.open(landing)
        await browser.open("/in", act=lambda page: kit.identify(page, customer_id="c-1"))
        clock.passes(timedelta(days=3))
    clock.passes(timedelta(days=-2))
    await laptop.open("/", act=lambda page: kit.report(Conversion(order_id="order-1", email="jane@example.com"), page))
    kit.store.close()
    return tmp_path


async def test_why_says_on_which_device_each_click_was_made(two_devices: Path) -> None:
    """And how long before the order: in its own browser, or on another one of the same customer's."""
    printed = run("why", "order-1", folder=two_devices).stdout.splitlines()

    assert "  gclid        1 day before, in the browser of this order: Linux · Firefox" in printed
    assert "  adroll       4 days before, on another device of this customer: iPhone · Safari" in printed
    assert not [line for line in printed if "on-the-" in line]


async def test_why_says_it_to_programs_too(two_devices: Path) -> None:
    """With the time of the click, and no click id."""
    (found,) = json.loads(run("why", "order-1", "--json", folder=two_devices).stdout)

    assert {click.pop("vendor"): click for click in found["clicks"]} == {
        "gclid": {
            "at": "2026-01-18T12:00:00+00:00",
            "seconds_before": 86_400,
            "own": True,
            "device": "Linux · Firefox",
        },
        "adroll": {
            "at": "2026-01-15T12:00:00+00:00",
            "seconds_before": 345_600,
            "own": False,
            "device": "iPhone · Safari",
        },
    }


async def test_why_does_not_guess_a_device(tmp_path: Path) -> None:
    """An event from before clicks had one, whose touchpoint is gone; and a click that came after the order."""
    clock = FrozenClock()
    kit = make_kit(tmp_path, destinations=[adroll(mode=Mode.SHADOW)], clock=clock)
    found = Identifiers(
        visitor=VisitorId("v" * 22),
        click_ids=(ClickId("adroll", "a", NOON - timedelta(seconds=50)), ClickId("gclid", "b", NOON + HOUR)),
    )
    granted = Consent(granted=True, signal="test", at=NOON)
    await kit.store.write(people.keep_orders, people.OrderLink(order_id="order-1", identifiers=found, consent=granted))
    await kit.report(Conversion(order_id="order-1"))
    kit.store.close()

    printed = run("why", "order-1", folder=tmp_path).stdout

    assert "adroll       less than a minute before, in a browser that is not known any more\n" in printed
    assert "gclid        afterwards, in a browser that is not known any more\n" in printed


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "less than a minute"), (60, "1 minute"), (7_199, "1 hour"), (86_400, "1 day"), (864_000, "10 days")],
)
def test_a_duration_is_said_in_its_largest_unit(seconds: int, said: str) -> None:
    """Rounded down, in English."""
    assert span(timedelta(seconds=seconds)) == said


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0 answers"), (1, "1 answer"), (2, "2 answers"), (1_000, "1,000 answers")]
)
def test_words_agree_with_their_number(number: int, said: str) -> None:
    """Of one without the s."""
    assert counted(number, "answer") == said


async def test_one_answer_is_no_answers(shop: Path) -> None:
    """`kit status` says of a vendor's strange answers how many there were."""
    odd = Seen(
        destination="rokt", status=200, shape="a" * 16, sketch="[]", known=False, seen=1, first_at=NOON, last_at=NOON
    )
    kit = make_kit(shop)
    await kit.store.write(keep_answers, [odd])
    kit.store.close()

    assert "rokt gave 1 answer of an unknown shape: see" in run("status", folder=shop).stdout


async def test_replay_puts_back_what_was_skipped_and_says_how_many(shop: Path) -> None:
    """Idempotent: the second time there is nothing left to replay."""
    asked = ("replay", "--order", "order-1", "--state", "skipped", "--json")

    first = json.loads(run(*asked, folder=shop).stdout)
    second = json.loads(run(*asked, folder=shop).stdout)

    assert (first, second) == ({"replayed": 2}, {"replayed": 0})


@pytest.mark.parametrize(
    ("times", "number"),
    [
        (("--since", "2h"), 4),
        (("--since", "3d", "--until", "1h"), 0),
        (("--until", "2h"), 0),
        (("--since", "2020-01-01", "--until", "2999-12-31T23:59:59+02:00"), 4),
    ],
)
async def test_replay_takes_only_what_ended_in_a_time(shop: Path, times: tuple[str, ...], number: int) -> None:
    """So long ago, or a time with or without its zone."""
    ran = run("replay", "--state", "skipped", *times, "--json", folder=shop)

    assert json.loads(ran.stdout) == {"replayed": number}


async def test_foreign_text_is_shown_as_it_is(tmp_path: Path) -> None:
    """An order id or a vendor's words that look like the terminal's markup break nothing and are not hidden."""
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)])
    await kit.report(Conversion(order_id="A[/b]1", email="jane@example.com"))
    now = datetime.now(UTC)
    await kit.store.write(pause, Pause(destination="rokt", reason="401: [/error]", now=now))
    kit.store.close()

    assert "A[/b]1" in run("why", "A[/b]1", folder=tmp_path).stdout
    assert "401: [/error]" in run("status", folder=tmp_path).stdout


@pytest.mark.parametrize("name", ["[/red]", "[bold]1", "A:bug:1"])
async def test_an_events_own_id_is_shown_as_it_is(tmp_path: Path, name: str) -> None:
    """What would end a style, begin one, or be a picture."""
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)])
    await kit.report(Conversion(event_id=name, email="jane@example.com"))
    kit.store.close()

    ran = run("why", name, folder=tmp_path)

    assert (ran.returncode, ran.stderr) == (0, "")
    assert f"event {name}\n" in ran.stdout


async def test_a_destinations_name_is_shown_as_it_is(shop: Path) -> None:
    """By what pauses it, shows it and lets it go on."""
    paused = run("pause", "[/x]", "--force", folder=shop)
    shown = run("status", folder=shop)
    resumed = run("resume", "[/x]", folder=shop)

    assert paused.stdout == "[/x] is paused; `kit resume [/x]` lets it go on\n"
    assert "[/x]" in shown.stdout
    assert resumed.stdout == "[/x] goes on\n"


async def test_a_table_cuts_no_id(tmp_path: Path) -> None:
    """In 80 columns, as into a pipe: what `kit hold resolve` needs is all there, below one another."""
    order = "ORDER-2026-01-15-" + "0123456789" * 4
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)])
    await kit.report(Conversion(order_id=order, email="jane@example.com"))

    def held(connection: Connection, asked: Sequence[None]) -> Sequence[None]:
        connection.execute(deliveries.update().values(state="held", reason="no answer", detail="a timeout " * 10))
        return asked

    await kit.store.write(held, None)
    kit.store.close()

    printed = run("hold", "list", folder=tmp_path, columns=80).stdout

    cells = [line.split("│")[1].strip() for line in printed.splitlines() if line.startswith("│")]
    assert "".join(cells) == order


async def test_an_operator_pauses_and_resumes_and_sees_it(shop: Path) -> None:
    """Each verb says what it did, and `kit status` shows what holds a destination back."""
    paused = run("pause", "rokt", "--reason", "a new account", folder=shop)
    shown = run("status", folder=shop).stdout
    resumed = run("resume", "rokt", folder=shop)

    assert "rokt is paused" in paused.stdout
    assert "stopped for" in shown
    assert "account" in shown
    assert "rokt goes on" in resumed.stdout
    assert "was not held back" in run("resume", "rokt", folder=shop).stdout


async def test_why_shows_what_a_repeat_said_differently(tmp_path: Path) -> None:
    """The operator reads that the shop reported two amounts for one order."""
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)])
    await kit.report(Conversion(order_id="order-1", value="19.90", currency="USD"))
    await kit.report(Conversion(order_id="order-1", value="29.90", currency="USD"))
    kit.store.close()

    assert "reported again with another value" in run("why", "order-1", folder=tmp_path).stdout


async def test_why_tells_whose_pixel_reported_the_order_too(tmp_path: Path) -> None:
    """What to do where the vendor counts both; nothing where it tells a repeat, or the setting says it already."""
    for name, reports in (("counts", frozenset[str]()), ("left", frozenset({"purchase"}))):
        (tmp_path / name).mkdir()
        kit = make_kit(tmp_path / name, destinations=[adroll(mode=Mode.SHADOW, pixel_reports=reports)])
        await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
        await kit.worker.drain()
        for vendor in ("adroll", "rokt"):
            note = PixelReport(order_id="order-1", vendor=vendor, at=datetime.now(UTC))
            await kit.store.write(keep_pixel_reports, note)
        kit.store.close()

    counts, left = (run("why", "order-1", folder=tmp_path / name).stdout for name in ("counts", "left"))
    programs = json.loads(run("why", "order-1", "--json", folder=tmp_path / "counts").stdout)

    said = "AdRoll's pixel on the page reported this order too"
    assert (
        f'{said}: if the delivery counts as well, AdRoll(pixel_reports={{"purchase"}}) leaves it to the pixel' in counts
    )
    assert "Rokt's pixel on the page reported this order too: Rokt tells a repeat by transactionid" in counts
    assert f"{said}, as pixel_reports says" in left
    assert [one["reported_by_pixels"] for one in programs] == [["adroll", "rokt"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("pause", "adrol"), "nothing was ever reported to 'adrol'; known are rockerbox, rokt"),
        (("replay", "--order", "typo"), "no event with the order id 'typo' was reported"),
        (("hold", "resolve", "order-1", "rokt", "--resend"), "nothing of order 'order-1' is held at rokt"),
        (("sandbox", "--host", "0.0.0.0"), "--host is no loopback address"),
        (("why", "no-such-order"), "no event with the order id 'no-such-order' was reported"),
        (("replay", "--state", "delivered"), "--state is dead, held or skipped"),
        (("replay", "--since", "yesterday"), "--since is no time; write a time such as 2026-01-31T18:00Z"),
        (("replay", "--until", "99999d"), "--until is no time"),
        (("replay", "--since", "0001-01-01T00:00+23:00"), "--since is no time"),
        (("status", "--store", "mysql://x"), "store: is a mysql URL"),
        (("status", "--store", "postgresql://kit@db:/x"), "store: is not a URL"),
        (("migrate", "--store", "postgresql://kit@127.0.0.1:1/x"), "the store is not available: OperationalError"),
        (("migrate", "--store", "sqlite:///no.db"), "the store is not available: DatabaseError"),
        (("status", "--store", "sqlite:///no.db"), "the store is not available: DatabaseError"),
        (("why", "\udcff"), "argument 2 is not in UTF-8"),
        (("pause", "\udcff", "--force"), "argument 2 is not in UTF-8"),
        (("worker",), "KIT_CONSENT: is missing"),
        (("worker", "--app", "nowhere:kit"), "--app: cannot be loaded"),
    ],
)
async def test_an_error_is_one_line_that_says_what_to_do(shop: Path, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 1, no traceback."""
    (shop / "no.db").write_text("no database\n" * 100)

    ran = run(*arguments, folder=shop)

    assert ran.returncode == 1
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


def test_an_error_is_one_line_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The terminal breaks it, so that a log or a search finds it whole."""
    monkeypatch.setenv("COLUMNS", "20")

    with pytest.raises(SystemExit):
        fail("there is no store at /srv/shop/kit.db; name it")

    assert capsys.readouterr().err == "there is no store at /srv/shop/kit.db; name it\n"


@pytest.fixture
def barred() -> Iterator[Path]:
    """A folder that this process may not look into; where it is root, whom nothing bars, by being somebody else."""
    user = os.geteuid()
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0)
        os.seteuid(user or 65_534)
        yield folder
        os.seteuid(user)
        folder.chmod(0o700)


@pytest.mark.parametrize("file", ["kit.db", "folder/kit.db"])
def test_a_folder_without_permission_is_said(
    barred: Path, file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the store's own folder, and of one above it: no word that it is not there, which nobody knows."""
    monkeypatch.setattr(sys, "argv", ["kit", "status", "--store", f"sqlite:///{barred}/{file}"])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 1
    assert "cannot be looked at: Permission denied" in capsys.readouterr().err


async def test_nothing_found_is_exit_1_for_programs_too(shop: Path) -> None:
    """With JSON that a program can read."""
    ran = run("why", "no-such-order", "--json", folder=shop)

    assert (ran.returncode, json.loads(ran.stdout)) == (1, [])


def test_a_store_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    """`kit status` on a mistyped path says so and leaves no file behind."""
    ran = run("status", folder=tmp_path)

    assert ran.returncode == 1
    assert "there is no store" in ran.stderr
    assert list(tmp_path.iterdir()) == []


def test_what_others_wrote_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """JSON leaves C1 controls as they are, and terminals obey them."""
    print_json({"agent": "a\x9b31mb\x7f", "name": "Zoë"})

    printed = capsys.readouterr().out
    assert json.loads(printed) == {"agent": "a\x9b31mb\x7f", "name": "Zoë"}
    assert "\x9b" not in printed
    assert "\x7f" not in printed
    assert "Zoë" in printed
