"""`kit identity`: what an operator sees of a visitor's links, and what he can put right."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kit.cli import app, common
from kit.intake import Person
from kit.model import VisitorId
from kit.store import people
from tests.cli.test_people import SHOP
from tests.support import KEY, make_kit

runner = CliRunner()
GOOD, BAD = VisitorId("g" * 22), VisitorId("b" * 22)


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A shop with one visitor that it knows, and one of whom pages said six things."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("KIT_STORE", f"sqlite:///{tmp_path}/kit.db")
    monkeypatch.setattr(common.console, "width", 160)
    # A module of its own name each time: one that was imported stays.
    name = f"shop_{tmp_path.name.replace('-', '_')}"
    shop = SHOP.format(key=KEY, store=f"sqlite:///{tmp_path}/kit.db")
    await asyncio.to_thread((tmp_path / f"{name}.py").write_text, shop)
    monkeypatch.setenv("KIT_APP", f"{name}:attribution")
    kit = make_kit(tmp_path)
    await kit.ready()
    told = [(GOOD, Person(email="jane@example.com", customer_id="c-1", phone="3238675309"), people.VERIFIED, "shop")]
    told += [(BAD, Person(email=f"v{number}@example.com"), people.ASSERTED, "page") for number in range(6)]
    for visitor, person, level, source in told:
        link = kit.intake.link(None, visitor, person, level=level, source=source)
        assert link is not None
        await kit.store.write(people.keep_links, link)
    await asyncio.to_thread(kit.store.close)
    return tmp_path


async def run(*arguments: str) -> Result:
    return await asyncio.to_thread(runner.invoke, app, ["identity", *arguments])


def lenient_app(folder: Path) -> str:
    """Write a module beside the shop's, of the same store with other figures; return what names it."""
    (shop,) = folder.glob("shop_*.py")
    lenient = shop.with_name(f"lenient_{shop.name}")
    told = shop.read_text(encoding="utf-8").replace("Kit(", "Kit(quarantine=Quarantine(names=6),", 1)
    lenient.write_text(f"from kit import Quarantine\n{told}", encoding="utf-8")
    return f"{lenient.stem}:attribution"


async def show(visitor: str) -> list[tuple[str, str, str, bool]]:
    found = json.loads((await run("show", visitor, "--json")).output)
    return [(one["value"], one["level"], one["source"], one["serves"]) for one in found]


@pytest.mark.usefixtures("folder")
async def test_list_names_who_is_in_quarantine() -> None:
    """And nobody else."""
    text, listed = await run("list"), await run("list", "--json")

    assert json.loads(listed.output) == [BAD]
    assert BAD in text.output
    assert "1 visitor is in quarantine" in text.output


async def test_the_figures_are_the_shops(folder: Path) -> None:
    """Of its app, named or by KIT_APP, whose store is looked at; without one, those by default of the store."""
    app = ["--app", await asyncio.to_thread(lenient_app, folder)]

    listed = [json.loads((await run("list", "--json", *given)).output) for given in ([], app)]
    served = [json.loads((await run("show", BAD, "--json", *given)).output) for given in ([], app)]

    assert listed == [[BAD], []]
    assert [{one["serves"] for one in each} for each in served] == [{False}, {True}]


@pytest.mark.usefixtures("folder")
async def test_show_masks_values_and_says_what_serves() -> None:
    """Levels and sources are told; an address keeps its first letter and its domain, a phone two digits."""
    good, bad, text = await show(GOOD), await show(BAD), await run("show", GOOD)

    assert sorted(good) == [
        ("c-1", "verified", "shop", True),
        ("j…@example.com", "verified", "shop", True),
        ("…09", "verified", "shop", True),
    ]
    assert bad == [("v…@example.com", "asserted", "page", False)] * 6
    assert "j…@example.com" in text.output
    assert "jane@" not in text.output


@pytest.mark.usefixtures("folder")
async def test_undo_removes_what_is_not_theirs() -> None:
    """By e-mail, customer number and phone; the sixth address that goes ends the quarantine."""
    undone = [
        await run("undo", GOOD, "--email", "JANE@example.com"),
        await run("undo", GOOD, "--customer", "c-1"),
        await run("undo", BAD, "--email", "v3@example.com"),
    ]

    assert [(one.exit_code, one.output) for one in undone] == [(0, "1 link undone\n")] * 3
    assert await show(GOOD) == [("…09", "verified", "shop", True)]
    assert [serves for *_, serves in await show(BAD)] == [True] * 5


@pytest.mark.usefixtures("folder")
async def test_release_lets_a_visitor_serve_again() -> None:
    """Its links are told apart from those that nobody looked at."""
    released = await run("release", BAD)

    assert released.exit_code == 0
    assert released.output.startswith("6 links released;")
    assert await show(BAD) == [("v…@example.com", "released", "page", True)] * 6
    assert json.loads((await run("list", "--json")).output) == []


@pytest.mark.usefixtures("folder")
async def test_nothing_found_is_exit_1_for_programs_too() -> None:
    """With JSON that a program can read."""
    result = await run("show", "nobody", "--json")

    assert (result.exit_code, json.loads(result.stdout)) == (1, [])


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["show", "nobody"], "linked to nobody"),
        (["undo", GOOD], "name what is not theirs"),
        (["undo", GOOD, "--email", "bob@example.com"], "is not linked to that"),
        (["undo", BAD, "--customer", "c-1"], "is not linked to that"),
        (["release", GOOD], "nothing was asserted"),
        (["list", "--store", "sqlite:///elsewhere.db"], "there is no store"),
    ],
)
async def test_what_is_not_there_is_said_and_changes_nothing(arguments: list[str], said: str) -> None:
    """With exit code 1, without a traceback, and without the value."""
    result = await run(*arguments)

    assert result.exit_code == 1
    assert said in " ".join(result.output.split())
    assert "bob@" not in result.output
    assert len(await show(GOOD)) == 3
