"""The README is the manual: its code runs, its commands exist, its tables are complete."""

import re
import sys
import tomllib
import types
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.main import get_command

from kit.cli import app as command
from kit.sandbox import Sandbox
from kit.settings import Settings
from kit.store.overview import standings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL))


@pytest.fixture
def manual(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Every block of the README, run in its order in one module, with a shop's own functions around it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KIT_SECRET_KEYS", "a-secret-of-some-length")
    monkeypatch.setenv("KIT_MODE", "shadow")  # needs no token, as the manual says
    module = types.ModuleType("manual")
    monkeypatch.setitem(sys.modules, "manual", module)
    order = types.SimpleNamespace(number="1001", total=Decimal("56.78"), email="jane@example.com", customer="c-1")
    order.may_be_sent = True

    async def an_order(request: object) -> Any:
        return order

    module.__dict__.update(place_order=an_order, paid_order=an_order, order=order)
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"README block {number}", "exec"), module.__dict__)
    return module


async def test_the_quickstart_serves_confirms_and_reports(manual: Any) -> None:
    """The app of the quickstart answers, and the order is stored for three destinations."""
    transport = httpx.ASGITransport(manual.app)
    async with (
        manual.attribution.lifespan(),
        httpx.AsyncClient(transport=transport, base_url="https://shop.com") as shop,
    ):
        landing = await shop.get("/", headers={"accept": "text/html"})
        confirmed = await shop.post("/confirm")
        script = re.search(r'src="([^"]+)"', landing.text)
        assert script is not None
        served = await shop.get(script.group(1))

        assert (confirmed.status_code, confirmed.text) == (200, "Thank you")
        assert served.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert (
            await manual.attribution.report(manual.Conversion(order_id="1001", value="56.78", currency="USD"))
        ).new is False


async def test_the_other_blocks_do_what_they_say(manual: Any, tmp_path: Path) -> None:
    """Webhook, sign-in, sign-out, the synchronous task and the shop's own test, as printed."""
    request = types.SimpleNamespace(scope={})

    assert (await manual.checkout(request)).status_code == 200
    assert (await manual.payment_webhook(request)).status_code == 204
    assert (await manual.signed_in(request)).status_code == 200
    assert "Max-Age=0" in (await manual.signed_out(request)).headers["set-cookie"]
    manual.nightly_task([manual.order])
    manual.attribution.store.close()


async def test_a_signed_word_is_rendered_and_a_person_is_erased(manual: Any) -> None:
    """Nobody is signed in on a request without a visitor; who asks is read out and erased."""
    request = types.SimpleNamespace(scope={})

    page = await manual.account(request)
    await manual.wants_all_of_it_gone("jane@example.com")
    manual.attribution.store.close()

    assert b"<script" in page.body
    assert b"data-token" not in page.body


async def test_audiences_and_deletions_are_queued(manual: Any) -> None:
    """A change of a list and a request to be forgotten, in shadow, each durable when the call returns."""
    await manual.customers_changed(["jane@example.com", "nobody"], ["joe@example.com"])
    await manual.wants_to_be_forgotten("jane@example.com")

    queued = {one.destination: sum(one.counts.values()) for one in standings(manual.lists.store)}
    manual.lists.store.close()
    assert queued == {"rokt-audience": 2, "rokt-deletion": 1}


def test_the_example_destination_keeps_the_contract(manual: Any) -> None:
    """A destination of the shop's own, and the tests that are shipped for it."""
    tests = [name for name in dir(manual.TestPartner) if name.startswith("test_")]

    for name in tests:
        getattr(manual.TestPartner(), name)()
    assert len(tests) == 15


def test_a_vendors_bad_day_can_be_scripted(manual: Any) -> None:
    """Every fault of the example is one that the sandbox plays."""
    sandbox = Sandbox()

    manual.a_bad_day(sandbox)

    assert len(sandbox.rokt.faults) == 4


def test_a_template_gets_its_tag(manual: Any) -> None:
    """One line in any template."""
    assert "/kit/kit." in manual.templates.env.from_string("{{ kit_script() }}").render()


async def test_the_example_test_passes(manual: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a shop would copy into its own suite."""
    await manual.test_an_order_reaches_rokt(tmp_path)


def test_every_command_in_the_readme_exists() -> None:
    """`kit …` and `make …` lines name real commands."""
    verbs = set(re.findall(r"^kit (\w+)", SHELL, re.MULTILINE))
    targets = set(re.findall(r"^make (\w+)", SHELL, re.MULTILINE))

    assert verbs <= set(get_command(command).commands)  # type: ignore[attr-defined]
    assert verbs >= {"status", "why", "replay", "worker", "migrate", "sandbox"}
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets)


def test_every_setting_is_in_the_table_and_no_other() -> None:
    """A variable that is not in the manual does not exist for anybody."""
    named = set(re.findall(r"`(KIT_[A-Z_]+)`", README.partition("## Settings")[2].partition("## Operations")[0]))

    assert named == {f"KIT_{name.upper()}" for name in Settings.model_fields}


def test_every_dependency_earns_its_line() -> None:
    """The table of packages and pyproject.toml agree."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["cli"]]
    table = README.partition("## What it stands on")[2]

    for requirement in wanted:
        name = re.split(r"[\[<>=;]", requirement)[0]
        assert name in table, name


def test_the_readme_names_every_public_argument_of_the_kit() -> None:
    """Whoever adds an argument documents it in the class."""
    from inspect import signature

    from kit import Kit

    documented = Kit.__doc__ or ""
    for name in signature(Kit).parameters:
        assert f"`{name}`" in documented or name == "clock", name


async def test_the_dashboard_lets_nobody_in_who_is_not_staff(manual: Any) -> None:
    """As mounted in the manual: without a session nobody is staff."""
    transport = httpx.ASGITransport(manual.app)
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.com") as shop:
        answer = await shop.get("/attribution/")

    assert (answer.status_code, answer.text) == (403, "Forbidden")
