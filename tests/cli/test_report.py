"""`kit report`: conversions from a file, each once, and a bad line named without what stands in it."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from typer.testing import CliRunner, Result

from kit import Conversion, Kit
from kit.cli import app
from kit.store import Store
from kit.store.tables import deliveries, events
from tests.support import KEY

runner = CliRunner()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop that is set up by its environment, with one destination that sends nothing."""
    monkeypatch.chdir(tmp_path)
    for name, text in {
        "KIT_SECRET_KEYS": KEY,
        "KIT_CONSENT": "opt_in",
        "KIT_STORE": f"sqlite:///{tmp_path}/kit.db",
        "KIT_ROCKERBOX_ADVERTISER": "acme",
        "KIT_MODE": "shadow",
    }.items():
        monkeypatch.setenv(name, text)
    return tmp_path


def report(*lines: object, arguments: tuple[str, ...] = ()) -> Result:
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    Path("orders.jsonl").write_text(text, encoding="utf-8")
    return runner.invoke(app, ["report", "orders.jsonl", *arguments])


def order(number: int, **more: Any) -> dict[str, Any]:
    return {"order_id": f"o-{number}", "value": "19.90", "currency": "USD", "email": "jane@example.com", **more}


def stored(folder: Path) -> list[tuple[str, str]]:
    """Return the events by their order, and what became of each."""
    store = Store(f"sqlite:///{folder}/kit.db")
    query = (
        select(func.coalesce(events.c.order_id, events.c.event_id), func.coalesce(deliveries.c.reason, ""))
        .join(deliveries, deliveries.c.event == events.c.id)
        .order_by(events.c.id)
    )
    found = store.read_sync(lambda connection: connection.execute(query).all())
    store.close()
    return [(name, reason) for name, reason in found]


def test_each_line_is_a_report_and_the_same_file_reports_nothing_new(folder: Path) -> None:
    """The second time says so, changes nothing, and is no error."""
    lines = order(1), "", order(2), {"name": "form_fill", "email": "a@b.co", "time": "2026-01-01T00:00:00Z"}

    first = report(*lines, arguments=("--consent", "yes"))
    before = stored(folder)
    again = report(*lines, arguments=("--consent", "yes"))

    assert (first.exit_code, first.stdout) == (0, "3 reported\n")
    assert (again.exit_code, again.stdout) == (0, "nothing new was reported\n3 known before\n")
    assert [name for name, _ in before][:2] == ["o-1", "o-2"]
    assert stored(folder) == before


@pytest.mark.parametrize(("said", "reason"), [("yes", ""), ("no", "consent"), (None, "consent")])
def test_the_shops_word_on_consent_counts_for_all(folder: Path, said: str | None, reason: str) -> None:
    """Under opt_in, orders without a browser wait for the shop's own yes."""
    report(order(1), order(2), arguments=("--consent", said) if said else ())

    assert stored(folder) == [("o-1", reason), ("o-2", reason)]


BAD = [
    ({"order_id": "o-9", "value": "5"}, "currency", "is missing; a value needs its ISO 4217 currency"),
    (order(9, email="jane at example.com"), "email", "is not an e-mail address such as name@example.com"),
    (order(9, items=[{"id": "a", "price": "ten"}]), "items.price", "is not a plain decimal number"),
    (order(9, **{"jane@example.com": 1}), "[email]", "is no field of a Conversion"),
    (order(9, time="2026-01-01T00:00:00"), "time", "timezone"),
    (order(9, items=[{"id": "a", "quantity": "jane@example.com"}]), "items.0.quantity", "valid integer"),
    ({"name": "form_fill", "email": "jane@example.com"}, "time", "it tells a line from its repeat"),
    ('{"order_id": "jane@example.com"', "line", "is not JSON in UTF-8"),
    ("[" * 100_000, "line", "is not JSON in UTF-8"),
    ('["jane@example.com"]', "line", "is not a JSON object"),
    ('{"order_id": "o-9", "value": NaN, "currency": "USD"}', "value", "is a float"),
]


@pytest.mark.parametrize(("line", "field", "reason"), BAD)
def test_a_bad_line_is_named_by_number_and_field_and_the_rest_is_reported(
    folder: Path, line: object, field: str, reason: str
) -> None:
    """Exit code 1 at the end; what stood in the line is in no output."""
    ran = report(order(1), line, order(2), arguments=("--consent", "yes"))

    assert ran.exit_code == 1
    assert f"line 2: {field}: " in ran.stderr
    assert reason in ran.stderr
    assert ran.stdout == "2 reported\n1 refused\n"
    assert "jane" not in ran.output
    assert [name for name, _ in stored(folder)] == ["o-1", "o-2"]


def test_for_programs_everything_is_counted(folder: Path) -> None:
    """One JSON object: new, known, what a repeat said differently, and what was refused."""
    report(order(1), order(2), arguments=("--consent", "yes"))

    ran = report(
        order(1), order(2, value="29.90"), order(3), {"order_id": ""}, arguments=("--json", "--consent", "yes")
    )

    assert ran.exit_code == 1
    assert json.loads(ran.stdout) == {
        "new": 1,
        "known": 2,
        "conflicts": [{"line": 2, "fields": ["value"]}],
        "refused": 1,
        "faults": [{"line": 4, "field": "order_id", "reason": "is empty; leave it out instead"}],
    }
    assert "line 2: reported before with another value; the first report stands" in ran.stderr


def test_standard_input_and_a_byte_order_mark_are_read(folder: Path) -> None:
    """`-` is a pipe; numbers of JSON keep their digits, for money is no float."""
    line = (
        b'\xef\xbb\xbf{"order_id": "o-1", "value": 0.10, "currency": "USD", "email": "j\xc3\xbcrgen@example.com"}\r\n'
    )

    ran = runner.invoke(app, ["report", "-", "--consent", "yes"], input=line)

    assert (ran.exit_code, ran.stdout) == (0, "1 reported\n")
    kit = Kit.from_env()
    repeated = kit.sync.report(Conversion(order_id="o-1", value="0.10", currency="USD"))
    other = kit.sync.report(Conversion(order_id="o-1", value="0.11", currency="USD"))
    kit.store.close()
    assert (repeated.new, repeated.conflict, other.conflict) == (False, (), ("value",))


def test_lines_without_an_order_differ_by_anything_they_say(folder: Path) -> None:
    """The same words in another order of keys are the same event; another time is another one."""
    one = {"name": "form_fill", "time": "2026-01-01T00:00:00Z", "email": "a@b.co"}
    turned = dict(reversed(one.items()))

    ran = report(one, turned, one | {"time": "2026-01-01T00:00:01Z"}, one | {"email": "c@d.co"})

    assert ran.stdout == "3 reported\n1 known before\n"


def test_a_file_that_cannot_be_read_is_one_line(folder: Path) -> None:
    """Exit code 1, and no store is made for it."""
    ran = runner.invoke(app, ["report", "nowhere.jsonl"])

    assert (ran.exit_code, ran.stderr) == (1, "nowhere.jsonl cannot be read: No such file or directory\n")
    assert list(folder.iterdir()) == []


def test_a_store_that_does_not_answer_ends_it_at_a_line_and_says_how_to_go_on(folder: Path) -> None:
    """What was reported stays reported, so the same command goes on where it ended."""
    Path("kit.db").write_bytes(b"this is no database" * 100)

    ran = report(order(1))

    assert ran.exit_code == 1
    assert " ".join(ran.stderr.split()) == (
        "line 1: the store is not available: DatabaseError; the lines before it are done, so run the same again"
    )
