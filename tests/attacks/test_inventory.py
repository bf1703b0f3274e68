"""The inventory is true: what it names is there, and no row is missing."""

import re
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_ROWS = [*(f"W{number:02}" for number in range(1, 22)), "B08"]


def _lines() -> list[str]:
    text = (_HERE / "README.md").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if re.match(r"\| [BW]\d\d \|", line)]


def test_every_row_has_its_line() -> None:
    """W01–W21 and B08, each once."""
    assert [line[2:5] for line in _lines()] == _ROWS


def test_every_test_that_is_named_is_there() -> None:
    """By file and name; `::name` alone is in the file named before it."""
    missing, named = [], 0
    for line in _lines():
        file = _HERE / "README.md"
        for path, name in re.findall(r"`((?:[\w/]+\.py)?)(?:::(\w+))?`", line):
            if path:
                file = _ROOT / path if path.startswith("tests/") else _HERE / path
            named += bool(path or name)
            if (path and not file.is_file()) or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
                missing.append((line[2:5], path, name))

    assert missing == []
    assert named > len(_ROWS)
