"""The inventory is true: what it names is there, and no row of the matrix is missing."""

import re
from pathlib import Path

_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_ROWS = {"P": 21, "S": 19, "N": 27, "C": 4}


def _rows() -> dict[str, str]:
    """Return what the inventory says of each row."""
    lines = (_HERE / "README.md").read_text(encoding="utf-8").splitlines()
    found = {}
    for line in lines:
        if match := re.match(r"\| ([A-Z]\d\d(?:, [A-Z]\d\d)*) \|", line):
            found.update(dict.fromkeys(match[1].split(", "), line))
    return found


def test_every_row_has_its_line() -> None:
    """P01–P21, S01–S19, N01–N27, C01–C04."""
    expected = [f"{letter}{number:02}" for letter, last in _ROWS.items() for number in range(1, last + 1)]

    assert sorted(_rows()) == sorted(expected)


def test_every_test_that_is_named_is_there() -> None:
    """By file and name; `::name` alone is in the file named before it."""
    missing = []
    for row, line in _rows().items():
        file = _HERE / "README.md"
        for path, name in re.findall(r"`((?:[\w/]+\.py)?)(?:::(\w+))?[^`]*`", line):
            if path:
                file = _ROOT / path if path.startswith("tests/") else _HERE / path
            if (path and not file.is_file()) or (name and f"def {name}(" not in file.read_text(encoding="utf-8")):
                missing.append((row, path, name))

    assert missing == []
