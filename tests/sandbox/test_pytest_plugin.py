"""A shop's own tests get the vendors as fixtures, without a line of set-up."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kit.sandbox import Sandbox
from kit.sandbox.pytest_plugin import kit_environment as kit_environment
from kit.sandbox.pytest_plugin import kit_sandbox as kit_sandbox

SHOP_TESTS = """
import httpx
import pytest

ORDER = {"action": "purchase", "timestamp": "1768435110", "customer_id": "c", "order_id": "1"}


def posted(sandbox, **changed):
    url = sandbox.addresses.rockerbox_url + "/webhook/data"
    return httpx.post(url, params={"advertiser": "sandbox-advertiser"}, json=ORDER | changed).status_code


def test_an_order_is_counted(kit_sandbox):
    assert posted(kit_sandbox) == 200
    assert kit_sandbox.rockerbox.orders == {"1": 1}


def test_each_test_has_its_own(kit_sandbox):
    assert kit_sandbox.rockerbox.requests == ()


@pytest.mark.kit_sandbox(strict=False)
def test_a_mark_sets_it_up(kit_sandbox):
    assert posted(kit_sandbox, timestamp="now") == 200


def test_strict_is_the_default(kit_sandbox):
    assert posted(kit_sandbox, timestamp="now") == 400
"""


def test_a_shop_uses_the_fixtures_in_its_own_suite(tmp_path: Path) -> None:
    """The plugin serves a sandbox a test, and its mark is known under --strict-markers."""
    (tmp_path / "test_shop.py").write_text(SHOP_TESTS)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--strict-markers",
        "-p",
        "kit.sandbox.pytest_plugin",
        "test_shop.py",
    ]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}

    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)

    assert "4 passed" in run.stdout, run.stdout + run.stderr


def test_pytest_finds_the_plugin_by_itself() -> None:
    """The package declares it as an entry point."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["pytest11"] == {"kit-sandbox": "kit.sandbox.pytest_plugin"}


def test_the_variables_lead_to_the_served_sandbox(kit_sandbox: Sandbox, kit_environment: dict[str, str]) -> None:
    """They stand in the environment as `kit.from_env()` reads them."""
    assert os.environ["KIT_ROKT_BASE_URL"] == kit_sandbox.addresses.rokt_url
    assert kit_environment["KIT_ADROLL_TOKEN"] == os.environ["KIT_ADROLL_TOKEN"] == "sandbox-token"
    assert not [name for name in kit_environment if not name.startswith("KIT_")]


@pytest.mark.parametrize("line", ["# KIT_ROKT_APP_ID=", "# KIT_ROKT_API_KEY=", "# KIT_ROKT_CONVERSIONS_URL=http://"])
def test_the_other_generations_of_rokt_are_printed_as_comments(kit_sandbox: Sandbox, line: str) -> None:
    """v2 is the default that a shop may paste as it stands."""
    lines = kit_sandbox.environment(kit_sandbox.addresses)

    assert [one for one in lines if one.startswith(line)]
    assert "KIT_ROKT_PUBLIC_KEY=rpub-sandbox" in lines
