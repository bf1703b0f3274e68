"""The torture in small: real processes killed and frozen under load, on both engines; `make torture` has it large."""

from pathlib import Path
from typing import Any

import pytest

from tests.torture.__main__ import plan_of, tortured
from tests.torture.plan import Engine
from tests.torture.report import table

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="freezes processes as Linux does")


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_kills_and_freezes_lose_alter_and_double_nothing(engine: Engine) -> None:
    """2,000 conversions, 30 kills, 6 freezes: every invariant holds, and every trouble was met at least once."""
    said: dict[str, Any] = tortured(plan_of({"engine": engine, "number": "2000", "kills": "30", "freezes": "6"}))

    assert said["green"], table(said)
