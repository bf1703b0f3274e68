"""`kit audience`: a file of people on its way to a list, counted, delivered, and safe to interrupt."""

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from kit.cli import app, common
from kit.cli.audience import members_of, stays_shut
from kit.sandbox import Sandbox
from kit.store import Store
from kit.store.overview import told
from tests.support import KEY

SHOP = """
from kit import Kit, Limits
from kit.destinations import Holdout, RoktAudience

attribution = Kit(
    secret_keys=[{key!r}],
    consent="opt_out",
    store={store!r},
    destinations=[
        RoktAudience(
            account="sandbox-account", public_key="rpub-sandbox", secret_key={secret!r}, base_url={url!r}, chunk=10,
            holdout=Holdout(name="2026-q4", percent={percent}),
        )
    ],
    limits=Limits(ballast_bytes=None),
    worker=False,
)
"""
PEOPLE = [f"customer-{number}@example.com" for number in range(25)]
# A module that was imported stays: each shop is one of its own.
NUMBERS = count()
runner = CliRunner()
DIGESTS = {hashlib.sha256(person.encode()).hexdigest() for person in PEOPLE}


@dataclass
class Scene:
    """A folder with a shop in it, and the sandbox that it is set up for."""

    folder: Path
    sandbox: Sandbox
    url: str

    name: str = ""

    def shop(self, *, secret: str = "rsec-sandbox", percent: float = 0.0001) -> None:
        store = f"sqlite:///{self.folder}/kit.db"
        text = SHOP.format(key=KEY, store=store, secret=secret, url=self.url, percent=percent)
        self.name = f"audience_shop_{next(NUMBERS)}"
        (self.folder / f"{self.name}.py").write_text(text)

    def run(self, *arguments: str, given: str | None = None) -> tuple[int, str, str]:
        done = runner.invoke(app, ["audience", *arguments, "--app", f"{self.name}:attribution"], input=given)
        assert done.exception is None or isinstance(done.exception, SystemExit)
        return done.exit_code, done.stdout, done.stderr

    def file(self, text: str) -> str:
        (self.folder / "people.txt").write_text(text, encoding="utf-8")
        return "people.txt"

    def states(self) -> list[str]:
        store = Store(f"sqlite:///{self.folder}/kit.db")
        found = store.read_sync(lambda connection: told(connection, order_id="audience:L"))
        store.close()
        return [one.state for one in found]


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(common.console, "width", 160)
    sandbox = Sandbox()
    with sandbox.serve() as addresses:
        made = Scene(tmp_path, sandbox, addresses.rokt_url)
        made.shop()
        yield made


def test_a_file_is_queued_delivered_and_counted(scene: Scene) -> None:
    """Every line of it: who is on the list, who was refused and why, and how the requests ended."""
    file = scene.file("\n".join([*PEOPLE, "", "nobody", "0cba00ca3da1b283a57287bcceb17e35"]))

    code, out, _ = scene.run("add", "L", file)

    assert code == 0
    assert "L: 25 added in 3 requests" in out
    assert "refused 2: 1 × neither one e-mail address nor a SHA-256 digest, 1 × an MD5 digest" in out
    assert "3 delivered" in out
    assert scene.sandbox.rokt_audience.members("L") == DIGESTS

    code, out, _ = scene.run("remove", "L", "-", given=f"{PEOPLE[0]}\n")

    assert (code, "L: 1 removed in 1 request\n" in out) == (0, True)
    assert scene.sandbox.rokt_audience.lists == {"L": 24}


def test_programs_get_numbers(scene: Scene) -> None:
    """`--json` alone on the standard output, the holdout among it."""
    scene.shop(percent=20)
    code, out, _ = scene.run("add", "L", scene.file("\n".join([*PEOPLE, "x"])), "--json")

    found = json.loads(out)
    assert code == 0
    assert found.pop("settled") == [{"state": "delivered", "reason": None, "n": found["requests"]}]
    assert found["added"] + found["held_out"] == 25
    assert found["held_out"] > 0
    assert (found["list"], found["refused"], found["stopped"]) == ("L", {"no_address": 1}, None)
    assert scene.sandbox.rokt_audience.lists == {"L": found["added"]}


def test_no_wait_only_queues(scene: Scene) -> None:
    """A worker delivers it later."""
    code, out, _ = scene.run("add", "L", scene.file("\n".join(PEOPLE)), "--no-wait")

    assert code == 0
    assert "3 queued" in out
    assert scene.states() == ["pending"] * 3
    assert scene.sandbox.rokt_audience.requests == ()


def test_one_request_is_said_as_one(scene: Scene) -> None:
    """In each line that counts them."""
    _, out, _ = scene.run("add", "L", scene.file(PEOPLE[0]), "--no-wait")

    assert out == "L: 1 added in 1 request\n1 queued; it stays queued, and `kit worker` delivers it\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nobody\nnowhere\n", "nobody in the file can be taken: 2 × neither one e-mail address"),
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("name,phone\njane,5\n", "name one with --column"),
    ],
)
def test_a_file_without_anybody_is_refused(scene: Scene, text: str, said: str) -> None:
    """Nothing is queued, and the error says what is wrong with it."""
    code, out, err = scene.run("add", "L", scene.file(text))

    assert (code, out) == (1, "")
    assert said in err
    assert scene.states() == []


def test_a_file_that_is_not_there_is_one_line(scene: Scene) -> None:
    """So is a folder in its place."""
    code, _, err = scene.run("add", "L", "nowhere.txt")

    assert (code, err.strip()) == (1, "nowhere.txt cannot be read: No such file or directory")
    assert scene.run("add", "L", ".")[0] == 1


def test_a_wrong_key_ends_the_wait_and_keeps_the_queue(scene: Scene) -> None:
    """The command says what is wrong and stops; mended, the next one delivers what was left and its own."""
    scene.shop(secret="rsec-wrong")
    code, out, _ = scene.run("add", "L", scene.file("\n".join(PEOPLE)))

    assert code == 1
    assert "stopped: rokt-audience is paused: HTTP 401" in out
    assert "3 queued; they stay queued" in out
    assert scene.states() == ["pending"] * 3

    scene.shop()
    code, _, _ = scene.run("add", "L", scene.file("late@example.com"))

    assert code == 0
    assert scene.states() == ["delivered"] * 4
    assert scene.sandbox.rokt_audience.lists == {"L": 26}


def test_an_operators_pause_ends_the_wait(scene: Scene) -> None:
    """`kit pause` is not waited for."""
    assert scene.run("add", "L", scene.file(PEOPLE[0]))[0] == 0
    runner.invoke(app, ["pause", "rokt-audience", "--store", f"sqlite:///{scene.folder}/kit.db"])

    code, out, _ = scene.run("add", "L", scene.file(PEOPLE[1]))

    assert code == 1
    assert "stopped: rokt-audience is stopped: by operator" in out


def test_a_refused_request_is_told(scene: Scene) -> None:
    """Some of the people are not on the list: exit 1."""
    scene.sandbox.rokt_audience.answers(400)
    code, out, _ = scene.run("add", "L", scene.file("\n".join(PEOPLE)))

    assert code == 1
    assert "1 dead (rejected)" in out
    assert "2 delivered" in out


def test_ctrl_c_loses_nothing(scene: Scene) -> None:
    """While the vendor is down: what is queued stays queued, and the command says so."""
    scene.sandbox.rokt_audience.answers(500, times=None)
    arguments = ["audience", "add", "L", scene.file("\n".join(PEOPLE)), "--app", f"{scene.name}:attribution"]
    with subprocess.Popen(
        [sys.executable, "-m", "kit", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "", "COLUMNS": "160", "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        while process.poll() is None and not scene.sandbox.rokt_audience.requests:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "stopped: interrupted" in out
    assert "3 queued; they stay queued" in out
    assert "Traceback" not in err
    assert scene.states() == ["pending"] * 3


@pytest.mark.parametrize(
    ("state", "fingerprint", "under_way", "expected"),
    [
        ("paused", "ours", False, True),
        ("paused", "ours", True, False),
        ("paused", "before", False, False),
        ("throttled", "ours", False, False),
        ("stopped", None, True, True),
    ],
)
def test_only_a_hopeless_gate_ends_the_wait(
    state: str, fingerprint: str | None, under_way: bool, expected: bool
) -> None:
    """An operator's stop, or settings that were tried and refused; not while a probe of mended ones is on its way."""
    gate = SimpleNamespace(state=state, fingerprint=fingerprint)

    assert stays_shut(gate, ours="ours", under_way=under_way) == expected


# ---------------------------------------------------------------- files


def members(text: str, column: str | None = None) -> list[str]:
    return list(members_of(iter(io.StringIO(text, newline="")), column))


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("a@x.com\n\n b@x.com\r\n", None, ["a@x.com", "b@x.com"]),
        ("email\na@x.com\nb@x.com\n", None, ["a@x.com", "b@x.com"]),
        ("Id, Email ,name\n1,a@x.com,Jane\n2,,John\n3\n\n4,b@x.com,x\n", None, ["a@x.com", "", "", "b@x.com"]),
        ('id;mail\n1;"a@x.com"\n', "MAIL", ["a@x.com"]),
        ("id\tmail\n1\ta@x.com\n", "mail", ["a@x.com"]),
        ('email,note\na@x.com,"two\nlines"\nb@x.com,\n', None, ["a@x.com", "b@x.com"]),
    ],
)
def test_a_file_is_lines_or_a_csv(text: str, column: str | None, expected: list[str]) -> None:
    """One a line; or, where the first line names the column, that column, in every usual separator."""
    assert [each.strip() for each in members(text, column)] == expected


def test_a_column_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Reading another one in its place would send the wrong people."""
    with pytest.raises(SystemExit):
        members("email\na@x.com\n", "mail")

    assert "--column" in capsys.readouterr().err


def test_a_million_lines_take_no_more_memory_than_a_few() -> None:
    """Members are read one by one."""

    def lines() -> Iterator[str]:
        yield "email,id\n"
        for number in range(100_000):
            yield f"customer-{number}@example.com,{number}\n"

    found: Any = members_of(lines(), None)
    tracemalloc.start()
    count = sum(1 for _ in found)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 100_000
    assert most < 100_000
