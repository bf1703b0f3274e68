"""`kit erase`, `kit export-person`, `kit consent`: what they ask, print and write, and what they refuse."""

import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner, Result

from kit import Conversion
from kit.cli import app, common
from kit.intake import Person
from kit.model import Consent, VisitorId
from kit.store import people
from kit.store.tables import events
from tests.support import KEY, NOON, make_kit, rokt

runner = CliRunner()
SHOP = """
from kit import Kit, Limits
from kit.destinations import AdRoll, Rokt, RoktDeletion

attribution = Kit(
    secret_keys=[{key!r}],
    consent="opt_out",
    store={store!r},
    destinations=[
        AdRoll(advertisable="ADV", pixel="PIX", token="token"),
        Rokt(account="1", public_key="rpub-sandbox", secret_key="rsec-sandbox"),
        RoktDeletion(account="1", app_id="app-1", app_secret="secret-1"),
    ],
    limits=Limits(ballast_bytes=None),
    worker=False,
)
"""
JANE, VISITOR = "jane@example.com", VisitorId("v" * 22)


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop with one order of Jane's, one of Bob's, and one decision."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KIT_STORE", f"sqlite:///{tmp_path}/kit.db")
    monkeypatch.setattr(common.console, "width", 160)
    # A module of its own name each time: one that was imported stays.
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    await asyncio.to_thread(
        (tmp_path / f"{name}.py").write_text, SHOP.format(key=KEY, store=f"sqlite:///{tmp_path}/kit.db")
    )
    monkeypatch.setenv("KIT_APP", f"{name}:attribution")
    kit = make_kit(tmp_path, destinations=[rokt()])
    decision = Consent(granted=True, signal="tcf", at=NOON)
    await kit.store.write(people.keep_decisions, (VISITOR, decision))
    await kit.report(Conversion(order_id="order-1", email=JANE), visitor=VISITOR)
    await kit.report(Conversion(order_id="order-2", email="bob@example.com"))
    await asyncio.to_thread(kit.store.close)
    return tmp_path


async def run(*arguments: str, answer: str | None = None) -> Result:
    return await asyncio.to_thread(runner.invoke, app, list(arguments), input=answer)


async def stored(folder: Path) -> str:
    kit = make_kit(folder, destinations=[])
    found = await kit.store.read(lambda connection: str(connection.execute(select(events)).all()))
    kit.store.close()
    return found


async def test_erase_shows_what_there_is_and_asks(folder: Path) -> None:
    """A no changes nothing; a yes erases, and tells what Rokt is asked and what is to be written to AdRoll."""
    no = await run("erase", "--email", JANE, answer="n\n")
    kept = await stored(folder)
    yes = await run("erase", "--email", JANE, answer="y\n")

    assert no.exit_code == 1
    assert "1  event, of which the order and its money stay" in no.output
    assert JANE in kept
    assert yes.exit_code == 0
    assert "kit deletion list" in yes.output
    assert "by hand, adroll" in yes.output
    assert JANE not in yes.output
    assert JANE not in await stored(folder)
    assert "bob@example.com" in await stored(folder)


async def test_a_browser_of_several_people_is_said(folder: Path) -> None:
    """One of them is a browser, not browsers."""
    kit = make_kit(folder)
    for email in (JANE, "bob@example.com"):
        link = kit.intake.link(None, VISITOR, Person(email=email), level=people.VERIFIED, source="shop")
        assert link is not None
        await kit.store.write(people.keep_links, link)
    await asyncio.to_thread(kit.store.close)

    asked = await run("erase", "--email", JANE, answer="n\n")

    assert "1 browser is others' too: only the links to this person go" in asked.output


async def test_erase_for_programs(folder: Path) -> None:
    """Numbers as JSON; without --yes nobody could be asked, so nothing is erased."""
    unasked = await run("erase", "--email", JANE, "--json")
    found = json.loads((await run("erase", "--email", JANE, "--json", "--yes")).stdout)

    assert unasked.exit_code == 1
    assert (found["events"], found["deliveries"], found["visitors"]) == (1, 1, 1)
    assert len(found["requests"]) == 1
    assert set(found["by_hand"]) == {"adroll"}


async def test_a_large_file_is_rewritten_when_that_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by itself, and that is said: nothing can be written for that time."""
    monkeypatch.setattr("kit.store.erasure.REWRITES", 1)

    unasked = await run("erase", "--email", JANE, "--yes")
    asked = json.loads((await run("erase", "--email", JANE, "--yes", "--rewrite", "--json")).stdout)

    assert "erase with --rewrite" in unasked.output
    assert asked["rewritten"]


@pytest.mark.parametrize("command", ["erase", "export-person"])
async def test_somebody_is_to_be_named(folder: Path, command: str) -> None:
    """A line that says how, and nothing done."""
    refused = await run(command, "--yes") if command == "erase" else await run(command, "--stdout")

    assert "name the person by one of them" in str(refused.exception)
    assert JANE in await stored(folder)


async def test_export_writes_a_file_for_its_owner_alone(folder: Path) -> None:
    """JSON with all of hers and nothing of his; a file that is there is not written over."""
    first = await run("export-person", "--email", JANE, "--output", "[x]jane.json")
    second = await run("export-person", "--email", JANE, "--output", "[x]jane.json")
    path = folder / "[x]jane.json"
    found: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_text))
    mode = await asyncio.to_thread(path.stat)

    assert first.exit_code == 0
    assert first.output == "1 event and all that belongs to it are in [x]jane.json\n"
    assert [event["conversion"]["email"] for event in found["events"]] == [JANE]
    assert "bob@example.com" not in json.dumps(found)
    assert stat.S_IMODE(mode.st_mode) == 0o600
    assert second.exit_code == 1
    assert "name a new file" in second.output


async def test_a_terminal_is_no_place_for_a_persons_data(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused, unless --stdout says that it is meant."""
    monkeypatch.setattr("kit.cli.people._is_terminal", lambda: True)

    refused = await run("export-person", "--email", JANE)
    printed = await run("export-person", "--email", JANE, "--stdout")

    assert refused.exit_code == 1
    assert JANE not in refused.output
    assert JANE in printed.stdout


async def test_consent_show_tells_one_visitors_decisions(folder: Path) -> None:
    """When, what and by which signal, for people and for programs."""
    shown = await run("consent", "show", VISITOR)
    found = json.loads((await run("consent", "show", VISITOR, "--json")).stdout)
    nobody = await run("consent", "show", "w" * 22)
    programs = await run("consent", "show", "w" * 22, "--json")

    assert "granted" in shown.output
    assert found == [{"visitor": VISITOR, "granted": True, "signal": "tcf", "at": NOON.isoformat()}]
    assert nobody.exit_code == 1
    assert (programs.exit_code, json.loads(programs.stdout)) == (1, [])


async def test_consent_export_is_of_one_person_or_of_a_period(folder: Path) -> None:
    """Decisions as they were taken, and as they counted for each event."""
    of_jane = json.loads((await run("consent", "export", "--email", JANE)).stdout)
    of_all = json.loads((await run("consent", "export")).stdout)
    later = json.loads((await run("consent", "export", "--since", "2026-01-16")).stdout)

    assert [one["signal"] for one in of_jane["decisions"]] == ["tcf"]
    assert [one["order_id"] for one in of_jane["applied"]] == ["order-1"]
    assert [one["order_id"] for one in of_all["applied"]] == ["order-1", "order-2"]
    assert later["decisions"] == []
    assert JANE not in json.dumps(of_all)


async def test_looking_makes_no_store(folder: Path, tmp_path: Path) -> None:
    """Where there is none, that is said."""
    await asyncio.to_thread((tmp_path / "kit.db").unlink)

    refused = await run("erase", "--email", JANE, "--yes")

    assert refused.exit_code == 1
    assert "there is no store" in refused.output
    assert not await asyncio.to_thread((tmp_path / "kit.db").exists)
