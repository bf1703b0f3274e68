"""`kit deletion`: ask for people to be erased, see how far it is, take it back."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kit.cli import app, common
from tests.support import KEY

runner = CliRunner()
SHOP = """
from kit import Kit, Limits
from kit.destinations import RoktDeletion

attribution = Kit(
    secret_keys=[{key!r}],
    consent="opt_out",
    store={store!r},
    destinations=[RoktDeletion(account="1", app_id="app-1", app_secret="secret-1")],
    limits=Limits(ballast_bytes=None),
    worker=False,
)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop whose Rokt app may erase people, and no worker."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KIT_STORE", f"sqlite:///{tmp_path}/kit.db")
    monkeypatch.setattr(common.console, "width", 160)
    # A module of its own name each time: one that was imported stays.
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(SHOP.format(key=KEY, store=f"sqlite:///{tmp_path}/kit.db"))
    monkeypatch.setenv("KIT_APP", f"{name}:attribution")
    return tmp_path


def run(*arguments: str) -> Result:
    return runner.invoke(app, ["deletion", *arguments])


def request(*arguments: str) -> list[str]:
    found = json.loads(run("request", *arguments, "--json").stdout)
    return [str(each) for each in found["ids"]]


def listed() -> list[dict[str, str | None]]:
    found: list[dict[str, str | None]] = json.loads(run("list", "--json").stdout)
    return found


def test_people_are_queued_and_listed(folder: Path) -> None:
    """By words on the command line, or by a file with one a line; the newest request first."""
    (folder / "people.txt").write_text("jane@example.com\n\njohn@example.com\n")
    (first,) = request("jim@example.com")
    (second,) = request("--file", "people.txt")

    found = listed()

    assert [(one["id"], one["destination"], one["state"]) for one in found] == [
        (second, "rokt-deletion", "pending"),
        (first, "rokt-deletion", "pending"),
    ]
    printed = run("list").stdout
    assert first in printed
    assert "jim" not in printed


def test_a_request_says_how_to_take_it_back(folder: Path) -> None:
    """The id is all that a person needs."""
    result = run("request", "jane@example.com", "john@example.com")

    assert result.exit_code == 0
    assert "2 to be erased" in result.stdout
    assert str(listed()[0]["id"]) in result.stdout


def test_one_wrong_line_requests_nothing(folder: Path) -> None:
    """All or nobody, in one line that names nobody."""
    (before,) = request("jim@example.com")
    result = run("request", "jane@example.com", "nobody")

    assert result.exit_code == 1
    assert "1 of 2 name nobody" in str(result.exception)
    assert "jane" not in str(result.exception)
    assert [one["id"] for one in listed()] == [before]


def test_nobody_is_an_error(folder: Path) -> None:
    """An empty file is no erasure."""
    (folder / "people.txt").write_text("\n")

    assert run("request").exit_code == 1
    assert "nobody is named" in run("request", "--file", "people.txt").stderr


def test_a_request_is_taken_back_once(folder: Path) -> None:
    """The second time it is over, and an id that is none is unknown: both exit 1."""
    (known,) = request("jane@example.com")

    first, second, none = run("cancel", known), run("cancel", known), run("cancel", "no-such-id", "--json")

    assert (first.exit_code, second.exit_code, none.exit_code) == (0, 1, 1)
    assert "it was not sent yet, and will not be" in first.stdout
    assert "nothing is left to cancel" in second.stderr
    assert json.loads(none.stdout) == {"id": "no-such-id", "cancelled": "unknown"}
    assert [(one["state"], one["reason"]) for one in listed()] == [("skipped", "cancelled")]


def test_what_was_taken_back_is_not_replayed(folder: Path) -> None:
    """Its body is gone, and the shop's word stands: `kit replay` says that nothing is pending again."""
    (known,) = request("jane@example.com")
    run("cancel", known)

    replayed = runner.invoke(app, ["replay", "--state", "skipped"])

    assert replayed.stdout == "0 deliveries are pending again\n"
    assert [(one["state"], one["reason"]) for one in listed()] == [("skipped", "cancelled")]


def test_a_narrow_list_cuts_no_id(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of what `kit deletion cancel` needs is there, on as many lines as it takes."""
    (known,) = request("jane@example.com")
    monkeypatch.setattr(common.console, "width", 60)

    printed = run("list").stdout

    cells = [line.split("│")[1].strip() for line in printed.splitlines() if line.startswith("│")]
    assert "".join(cells) == known


def test_an_empty_list_says_so(folder: Path) -> None:
    """A store in which nobody is to be erased."""
    runner.invoke(app, ["migrate"])

    assert run("list").stdout == "nobody was asked to be erased\n"
    assert listed() == []
