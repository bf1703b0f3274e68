from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import Kit
from tests.postgres import Server, serving
from tests.support import STORES, FrozenClock, make_kit

#: Files that take longest, begun first: no process is left with one of them while the others have nothing more to do.
LONGEST = (
    "test_torture.py",
    "test_model.py",
    "test_mutations.py",
    "test_kill_points.py",
    "test_cli.py",
    "test_pages.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def both_engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Runs a test twice: `make_kit(tmp_path)` keeps its store in SQLite, then in PostgreSQL."""
    if request.param == "sqlite":
        yield
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as url:
        STORES[tmp_path] = url
        yield
        del STORES[tmp_path]


@pytest.fixture
def kit(tmp_path: Path, clock: FrozenClock) -> Iterator[Kit]:
    made = make_kit(tmp_path, clock=clock)
    made.open()
    yield made
    made.store.close()
