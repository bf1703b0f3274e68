from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import Kit
from tests.postgres import Server, serving
from tests.support import STORES, FrozenClock, make_kit


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
