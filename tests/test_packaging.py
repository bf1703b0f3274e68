"""The wheel: it holds the package, both asset folders and the migrations, and nothing else."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).resolve().parents[1]
JUNK = {"__pycache__", ".DS_Store"}


def files_of(folder: Path) -> set[str]:
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not JUNK & set(path.parts) and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel that was built just now."""
    folder = tmp_path_factory.mktemp("wheel")
    (built,) = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(built) as wheel:
        return {name for name in wheel.namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_both_asset_folders(names: set[str]) -> None:
    """hatchling leaves a missing folder out without a word; this is the word."""
    for folder in ("static", "templates"):
        wanted = {f"kit/{folder}/{name}" for name in files_of(ROOT / folder)}

        assert {name for name in names if name.startswith(f"kit/{folder}/")} == wanted

    assert "kit/static/kit.js" in names


def test_the_wheel_holds_the_whole_package(names: set[str]) -> None:
    """Modules, migrations and the marker for type checkers."""
    package = {name for name in names if not name.startswith(("kit/static/", "kit/templates/"))}
    migrations = {
        f"kit/store/migrations/versions/{path.name}" for path in (ROOT / "kit/store/migrations/versions").glob("*.py")
    }

    assert package == {f"kit/{name}" for name in files_of(ROOT / "kit")}
    assert "kit/py.typed" in package
    assert len(migrations) > 1
    assert migrations <= package


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    """No tests, no caches, no databases."""
    assert {name.partition("/")[0] for name in names} == {"kit"}
    assert not [name for name in names if name.endswith((".pyc", ".db", ".db-wal", ".orig"))]


def test_the_package_needs_no_greenlet() -> None:
    """SQLAlchemy brings it to those alone who ask for asyncio: a plain installation starts without it."""
    script = "import sys; sys.modules['greenlet'] = None; import kit, kit.cli, kit.web, kit.sandbox"

    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)
