"""`kit export rockerbox`: the documented columns, what is left out and why, and files that are whole or not there."""

import csv
import json
import stat
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kit import Conversion, Kit
from kit.cli import app
from kit.cli.csv_files import CsvFiles
from kit.destinations.rockerbox_files import LARGEST_FILE
from kit.model import ClickId, Consent, Identifiers, VisitorId
from kit.store import people
from tests.support import KEY, make_kit

runner = CliRunner()

VISITOR = VisitorId("v" * 22)
BRANDS = ("shoes", "hats")
#: A noon of long ago, and one of yesterday.
LONG_AGO = datetime(2026, 1, 14, 12, 0, 0, 250_000, tzinfo=UTC)
YESTERDAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)


@pytest.fixture
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kit:
    """A shop of the environment with orders of every kind, and `export` set up to find it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # taken back at the end, with what the command adds
    for name, text in {
        "KIT_SECRET_KEYS": KEY,
        "KIT_CONSENT": "opt_out",
        "KIT_STORE": f"sqlite:///{tmp_path}/kit.db",
        "KIT_ROCKERBOX_ADVERTISER": "acme",
        "KIT_MODE": "shadow",
    }.items():
        monkeypatch.setenv(name, text)
    return make_kit(tmp_path, clock=lambda: datetime.now(UTC))


def order(number: str, **more: Any) -> Conversion:
    given = {"order_id": number, "value": "19.90", "currency": "USD", "email": "Jane@Example.com", "time": LONG_AGO}
    return Conversion.model_validate({**given, **more})


def export(*arguments: str) -> Result:
    return runner.invoke(app, ["export", "rockerbox", *arguments])


def rows(path: str) -> list[list[str]]:
    with Path(path).open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def found(pattern: str) -> list[str]:
    """Return the files in the shop's folder, hidden ones too."""
    return sorted(path.name for path in [*Path().glob(pattern), *Path().glob(f".{pattern}")])


def publish(path: str) -> None:
    Path(path).write_text("public")
    Path(path).chmod(0o644)


def mode_of(path: str) -> int:
    return stat.S_IMODE(Path(path).stat().st_mode)


async def test_orders_stand_in_the_documented_columns(shop: Kit) -> None:
    """contracts.md 7.4: UTC, dollars with two decimals, the pixel's e-mail, coupon and products where there are any."""
    item = {"id": "shoe-1", "name": 'Shoe, "red"', "price": "9.95", "quantity": 2}
    await shop.report(order("o-1", value="1234.565", coupon="SPRING", items=[item], customer_id="c-1"))
    await shop.report(order("ö,2", email="x@y.co", value="5"))
    shop.store.close()

    ran = export("--kind", "orders", "--output", "orders.csv")

    assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "orders.csv\n", "2 orders written\n")
    products = '[{"id":"shoe-1","name":"Shoe, \\"red\\"","price":"9.95","quantity":2}]'
    assert rows("orders.csv") == [
        ["timestamp", "order_id", "revenue", "email", "coupon", "products"],
        ["2026-01-14 12:00:00.250", "o-1", "1234.57", "jane@example.com", "SPRING", products],
        ["2026-01-14 12:00:00.250", "ö,2", "5.00", "x@y.co", "", ""],
    ]


async def test_the_file_is_its_owners_alone(shop: Kit) -> None:
    """It holds addresses in clear: mode 0600, also where another one stood before, and nothing beside it."""
    await shop.report(order("o-1"))
    shop.store.close()
    publish("orders.csv")

    export("--kind", "orders", "--output", "orders.csv")

    assert mode_of("orders.csv") == 0o600
    assert rows("orders.csv")[1][1] == "o-1"
    assert found("*.csv*") == ["orders.csv"]


async def test_what_is_left_out_is_counted_with_its_reason(shop: Kit) -> None:
    """Another currency, no identifier, no order id, no value, a test; what is no purchase is not looked at."""
    await shop.report(order("good"))
    await shop.report(order("euro", currency="EUR"))
    await shop.report(order("nobody", email=None, customer_id="c-1"))
    await shop.report(order("unused", order_id=None, event_id="event-1"))
    await shop.report(order("worth nothing", value=None))
    await shop.report(order("test", test=True))
    await shop.report(order("good", name="refund"))
    shop.store.close()

    by_email = export("--kind", "orders", "--output", "a.csv", "--json")
    by_user = export("--kind", "orders", "--output", "b.csv", "--identifier", "user_id")

    assert json.loads(by_email.stdout) == {
        "orders": 1,
        "files": ["a.csv"],
        "left_out": {"currency": 1, "identifier": 1, "order_id": 1, "value": 1, "test": 1},
    }
    assert [row[1] for row in rows("a.csv")] == ["order_id", "good"]
    assert rows("b.csv") == [
        ["timestamp", "order_id", "revenue", "user_id", "coupon", "products"],
        ["2026-01-14 12:00:00.250", "nobody", "19.90", "c-1", "", ""],
    ]
    assert by_user.stderr.startswith("1 order written\n")
    assert {"1 left out (currency)", "1 left out (identifier)"} < set(by_user.stderr.splitlines())


async def linked(kit: Kit, number: str, visitor: VisitorId, *, signal: str = "cookie") -> None:
    seen = Identifiers(visitor=visitor, click_ids=(ClickId("adroll", "click123", LONG_AGO),))
    consent = Consent(granted=True, signal=signal, at=LONG_AGO)
    link = people.OrderLink(order_id=number, identifiers=seen, consent=consent)
    await kit.store.write(people.keep_orders, link)
    await kit.report(order(number))


async def test_consent_is_asked_again_when_the_file_is_written(shop: Kit) -> None:
    """Refused at the order, by the visitor since, for this vendor, and by the shop's rule where nobody decided."""
    await shop.report(order("refused"), consent=False)
    await linked(shop, "taken back", VISITOR)
    await linked(shop, "kept", VisitorId("w" * 22))
    await linked(shop, "not for this vendor", VisitorId("x" * 22), signal="tcf -rockerbox")
    no = Consent(granted=False, signal="page", at=datetime.now(UTC))
    await shop.store.write(people.keep_decisions, (VISITOR, no))
    await shop.report(order("nobody decided"))
    shop.store.close()

    opted_out = json.loads(export("--kind", "orders", "--output", "out.csv", "--json").stdout)
    opted_in = runner.invoke(
        app,
        ["export", "rockerbox", "--kind", "orders", "--output", "in.csv", "--json"],
        env={"KIT_CONSENT": "opt_in"},
    )

    assert opted_out["left_out"] == {"consent": 3}
    assert [row[1] for row in rows("out.csv")[1:]] == ["kept", "nobody decided"]
    assert json.loads(opted_in.stdout)["left_out"] == {"consent": 4}
    assert [row[1] for row in rows("in.csv")[1:]] == ["kept"]


def write_shop(folder: Path, *accounts: str) -> tuple[str, str]:
    """Write a shop's own program with these accounts of Rockerbox's; returns the option that names it."""
    name = f"shop_{uuid.uuid4().hex}"
    (folder / f"{name}.py").write_text(
        "from kit import Kit\nfrom kit.destinations import Rockerbox\n"
        f"attribution = Kit(secret_keys=[{KEY!r}], consent='opt_out', store='sqlite:///kit.db', destinations=["
        + ", ".join(f"Rockerbox(advertiser='acme', {account})" for account in accounts)
        + "])\n"
    )
    return "--app", f"{name}:attribution"


async def test_a_destination_that_needs_a_yes_needs_it_for_the_file_too(shop: Kit, tmp_path: Path) -> None:
    """`Rockerbox(consent="opt_in")` in a shop that is opt_out: what nobody said yes to is in no file."""
    await shop.report(order("nobody decided"))
    await linked(shop, "nobody was asked", VisitorId("w" * 22), signal="opt_out")
    await linked(shop, "agreed", VISITOR)
    shop.store.close()

    export("--kind", "orders", "--output", "a.csv", *write_shop(tmp_path, "consent='opt_in'"))

    assert [row[1] for row in rows("a.csv")[1:]] == ["agreed"]


async def test_each_account_has_a_file_of_its_own_orders(shop: Kit, tmp_path: Path) -> None:
    """One brand's buyers are in no file of another's; what `takes` leaves out is counted."""
    await shop.report(order("shoes-1", extra={"brand": "shoes"}))
    await shop.report(order("hats-1", extra={"brand": "hats"}))
    shop.store.close()
    brands = [f"name={name!r}, takes=lambda told: told.conversion.extra['brand'] == {name!r}" for name in BRANDS]
    of_the_shop = (
        "--kind",
        "orders",
        "--output",
        "a.csv",
        *write_shop(tmp_path, *brands, "name='none', takes={'refund'}"),
    )

    ran = export(*of_the_shop, "--destination", "hats", "--json")
    taken = [row[1] for row in rows("a.csv")[1:]]
    nothing = export(*of_the_shop, "--destination", "none", "--json")

    assert json.loads(ran.stdout)["left_out"] == {"policy": 1}
    assert taken == ["hats-1"]
    assert json.loads(nothing.stdout)["left_out"] == {"policy": 2}
    for further, said in (
        ((), "--destination is missing: each account has a file of its own; known are shoes, hats, none"),
        (("--destination", "socks"), "--destination socks is no account of Rockerbox's; known are shoes, hats, none"),
    ):
        refused = export(*of_the_shop, *further)
        assert (refused.exit_code, " ".join(refused.stderr.split())) == (1, said)


async def test_the_daily_batch_is_yesterdays(shop: Kit) -> None:
    """In UTC, and by the time it happened; the folder gets a file named after the day."""
    midnight = YESTERDAY.replace(hour=0)
    await shop.report(order("before", time=midnight - timedelta(milliseconds=1)))
    await shop.report(order("first", time=midnight))
    await shop.report(order("last", time=midnight + timedelta(days=1, milliseconds=-1)))
    await shop.report(order("today", time=midnight + timedelta(days=1)))
    shop.store.close()

    ran = export("--output", ".")

    assert ran.stdout == f"rockerbox-batch-{YESTERDAY:%Y-%m-%d}.csv\n"
    assert [row[1] for row in rows(ran.stdout.strip())[1:]] == ["first", "last"]


@pytest.mark.parametrize(
    ("times", "numbers"),
    [
        ((), ["a", "b", "c"]),
        (("--since", "2026-01-14"), ["b", "c"]),
        (("--until", "2026-01-14"), ["a"]),
        (("--since", "2026-01-14T00:00+00:00", "--until", "2026-01-15"), ["b"]),
        (("--since", "2026-02-01", "--until", "2026-01-01"), []),
    ],
)
async def test_orders_of_a_time(shop: Kit, times: tuple[str, ...], numbers: list[str]) -> None:
    """Not before `--since`, and before `--until`; a file is there also when it has no rows."""
    for number, day in zip("abc", (13, 14, 15), strict=True):
        await shop.report(order(number, time=datetime(2026, 1, day, tzinfo=UTC)))
    shop.store.close()

    export("--kind", "orders", "--output", "orders.csv", *times)

    assert [row[1] for row in rows("orders.csv")[1:]] == numbers


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--output", "nowhere/orders.csv"), "--output cannot be written: No such file or directory"),
        (("--output", f"{'a' * 300}/orders.csv"), "--output cannot be written: File name too long"),
        (("--output", "a.csv", "--since", "soon"), "--since is no time"),
    ],
)
async def test_an_error_is_one_line(shop: Kit, arguments: tuple[str, ...], said: str) -> None:
    """Exit code 1 and no file."""
    await shop.report(order("o-1"))
    shop.store.close()

    ran = export("--kind", "orders", *arguments)

    assert ran.exit_code == 1
    assert ran.stderr.startswith(said)
    assert found("*.csv*") == []


def test_a_store_that_is_not_there_is_not_made(shop: Kit) -> None:
    """A mistyped path is no shop without orders."""
    ran = export("--output", ".")

    assert ran.exit_code == 1
    assert "there is no store at" in ran.stderr
    assert list(Path().iterdir()) == []


# ---------------------------------------------------------------- the files


@pytest.mark.parametrize(
    ("number", "names"),
    [(0, {"a.csv": 0}), (2, {"a.csv": 2}), (3, {"a-1.csv": 2, "a-2.csv": 1}), (4, {"a-1.csv": 2, "a-2.csv": 2})],
)
def test_more_rows_than_a_file_may_have_go_into_numbered_ones(
    tmp_path: Path, number: int, names: dict[str, int]
) -> None:
    """Each with its header, none over the limit; one file alone keeps its name."""
    with CsvFiles(tmp_path / "a.csv", ("n",), most=2) as files:
        for place in range(number):
            files.write((str(place),))

    assert [path.name for path in files.paths] == list(names)
    assert sorted(path.name for path in tmp_path.iterdir()) == list(names)
    for path, length in zip(files.paths, names.values(), strict=True):
        assert path.read_text().splitlines()[0] == "n"
        assert len(path.read_text().splitlines()) == length + 1
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_ends_half_way_leaves_nothing_and_the_old_file_as_it_was(tmp_path: Path) -> None:
    """Rockerbox may fetch a file at any time: it is the old one or the whole new one."""
    target = tmp_path / "a.csv"
    target.write_text("old")

    def half_way() -> None:
        with CsvFiles(target, ("n",), most=2) as files:
            files.write(("1",))
            files.write(("2",))
            files.write(("3",))
            assert target.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        half_way()

    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert target.read_text() == "old"


def test_a_file_holds_what_the_vendor_takes() -> None:
    """contracts.md 7.4: up to 500,000 records."""
    assert LARGEST_FILE == 500_000


async def test_own_code_that_raises_leaves_an_order_out_and_is_not_quoted(
    shop: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `takes` that fails on an order: it is counted as unmappable, and nobody's address is on the terminal."""
    await shop.report(order("1"))
    shop.store.close()

    def wants(*_: object) -> bool:
        raise KeyError("jane@example.com")

    monkeypatch.setattr("kit.destinations.base.Destination.wants", wants)

    result = export("--kind", "orders", "--since", "2026-01-01", "--output", "orders.csv")

    assert "unmappable" in result.output
    assert "jane@example.com" not in result.output
