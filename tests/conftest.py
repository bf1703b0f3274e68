from collections.abc import Iterator
from pathlib import Path

import pytest

from kit import Kit
from tests.support import FrozenClock, make_kit


@pytest.fixture
def clock() -> FrozenClock:
    return FrozenClock()


@pytest.fixture
def kit(tmp_path: Path, clock: FrozenClock) -> Iterator[Kit]:
    made = make_kit(tmp_path, clock=clock)
    made.open()
    yield made
    made.store.close()
