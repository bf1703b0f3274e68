"""`kit compare`: one order as each of Rokt's surfaces would be told it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from kit import Conversion
from kit.cli import app
from kit.model import ClickId, Identifiers, Mode
from kit.store import people
from tests.delivery.world import GRANTED, VISITOR
from tests.support import NOON, FrozenClock, make_kit, rokt

runner = CliRunner()
CLICK = "1bc29b36f623ba82aaf6724fd3b16718"
DAY = timedelta(days=1)
APP = """
from datetime import timedelta

from kit import Kit
from kit.destinations import Rokt

attribution = Kit(
    secret_keys=["a-key-for-tests-of-32-characters"], consent="opt_out", store="sqlite:///kit.db",
    insecure_cookies=True,
    destinations=[
        Rokt(name="one", account="1", hashing={"lastname"}),
        Rokt(name="two", api_key="key", environment="development", audiences={"purchase": ("buyers", "add")}, pod="eu1",
             amount_as="number"),
    ],
)
"""


def run(*arguments: str) -> Result:
    return runner.invoke(app, ["compare", "rokt", *arguments])


def compared(*arguments: str) -> dict[str, Any]:
    """Return the surfaces of the order's one event."""
    ran = run(*arguments, "--json")
    assert ran.exit_code == 0, ran.output
    (event,) = json.loads(ran.stdout)
    surfaces: dict[str, Any] = event["surfaces"]
    return surfaces


@pytest.fixture(autouse=True)
async def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A live shop without credentials, with an order of somebody known by e-mail, and one known by a click alone."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "KIT_MODE": "live",
        "KIT_STORE": f"sqlite:///{tmp_path}/kit.db",
        "KIT_ROKT_ACCOUNT": "12345",
        "KIT_ROKT_HASHING": "raw",
        "KIT_ROKT_BASE_URL": "http://127.0.0.1:1",
    }.items():
        monkeypatch.setenv(name, text)
    kit = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)], clock=FrozenClock())
    known = {"email": "jane@example.com", "first_name": "Jane", "phone": "3053211654", "customer_id": "c-17"}
    given = {"order_id": "order-1", "value": "19.90", "currency": "USD", "extra": {"seat": "12A"}, **known}
    await kit.report(Conversion.model_validate(given))
    found = Identifiers(visitor=VISITOR, click_ids=(ClickId("rokt", CLICK, NOON),))
    link = people.OrderLink(order_id="by-click", identifiers=found, consent=GRANTED)
    await kit.store.write(people.keep_orders, link)
    await kit.report(Conversion(order_id="by-click"))
    kit.store.close()


async def test_each_surface_stands_beside_the_others() -> None:
    """Without any credential: where it would go, what check says, each field under one name."""
    found = compared(
        "order-1",
    )

    assert {name: one["request"] for name, one in found.items()} == {
        "v1": "POST api.rokt.com/v1/events",
        "v2": "POST api.rokt.com/v2/events",
        "conversions": "POST s2s.us2.mparticle.com/v2/events",
        "postback": None,
    }
    assert found["v1"]["fields"] == found["v2"]["fields"]
    assert found["v2"]["fields"]["transactionid"] == found["conversions"]["fields"]["confirmationref"] == "order-1"
    # The clock of the test stood still long ago.
    assert (found["v2"]["skip"], found["conversions"]["skip"]["code"]) == (None, "time_old")
    assert found["postback"]["skip"]["code"] == "not this way"


async def test_what_tells_who_it_is_is_hidden() -> None:
    """A terminal is no place for people; `--clear` shows them."""
    hidden = compared("order-1")
    clear = compared("order-1", "--clear")

    assert not any(word in str(hidden) for word in ("jane", "Jane", "3053211654", "c-17"))
    assert {"email": "[email]", "firstname": "•••", "seat": "12A"}.items() <= hidden["v2"]["fields"].items()
    assert {"email": "jane@example.com", "customerid": "c-17"}.items() <= clear["conversions"]["fields"].items()


async def test_a_click_alone_can_go_by_postback() -> None:
    """There its column has something to say."""
    found = compared("by-click")["postback"]

    assert found == {
        "request": "GET apps.rokt.com/api/conv",
        "skip": None,
        "fields": {"passbackconversiontrackingid": "•••"},
    }


async def test_a_click_beyond_the_window_is_shown_as_untold(tmp_path: Path) -> None:
    """Of the destination's own window: no surface has it, and where it was all there is, check says so."""
    kit = make_kit(tmp_path, clock=FrozenClock(NOON + 40 * DAY))
    await kit.report(Conversion(order_id="by-click", event_id="later", name="late"))
    kit.store.close()
    (tmp_path / "windowed_app.py").write_text(
        APP.replace('name="one",', 'name="one", click_window=timedelta(days=30),')
    )

    ran = run("by-click", "--app", "windowed_app:attribution", "--destination", "one", "--clear", "--json")
    first, later = (event["surfaces"]["v2"] for event in json.loads(ran.stdout))

    assert first["fields"]["passbackconversiontrackingid"] == CLICK
    assert "passbackconversiontrackingid" not in later["fields"]
    assert later["skip"] == {"code": "identifier", "detail": "the click is 40 days old, the window is 30 days"}


async def test_the_settings_are_the_shops_own(tmp_path: Path) -> None:
    """Of the destination that is named; its app may have no credentials either."""
    (tmp_path / "attribution_app.py").write_text(APP)
    its_app = ("--app", "attribution_app:attribution")
    one = compared("order-1", *its_app, "--destination", "one", "--clear")
    two = compared("order-1", *its_app, "--destination", "two")

    assert one["v2"]["fields"]["firstname"] == "Jane"
    fields = two["conversions"]["fields"]
    assert (fields["environment"], fields["audience_name"]) == ("development", "buyers")
    assert fields["eventType"] == "audiencemembershipupdate, conversion"
    assert two["conversions"]["request"].startswith("POST s2s.eu1.mparticle.com/")
    refused = run("order-1", *its_app)
    assert (refused.exit_code, "known are one, two" in refused.stderr) == (1, True)


@pytest.mark.parametrize("columns", [80, 160])
async def test_people_get_a_table_that_fits(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Surfaces as columns, fields as rows, no line longer than the terminal."""
    monkeypatch.setenv("COLUMNS", str(columns))
    printed = run("order-1").stdout

    assert max(map(len, printed.splitlines())) <= columns
    for word in ("v1", "v2", "conversions", "postback", "confirmationref", "time_old", "not this"):
        assert word in printed
    assert "jane@" not in printed


async def test_what_is_wanting_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such order, no such destination, no Rokt at all."""
    assert "no event with the order id 'nope' was reported" in run("nope").stderr
    assert "known are rokt" in run("order-1", "--destination", "x").stderr
    for name in ("ACCOUNT", "HASHING", "BASE_URL"):
        monkeypatch.delenv(f"KIT_ROKT_{name}")
    assert "set KIT_ROKT_ACCOUNT or" in run("order-1").stderr
