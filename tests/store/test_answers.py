"""What is kept of how vendors answered."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from kit.store.answers import Seen, keep_answers, seen_answers
from tests.support import NOON, make_kit

pytestmark = pytest.mark.usefixtures("both_engines")

ONE = Seen(destination="rokt", status=200, shape="a" * 16, sketch="{}", known=True, seen=2, first_at=NOON, last_at=NOON)


async def test_answers_of_one_shape_are_added_up(tmp_path: Path) -> None:
    """Their first time stays, their latest moves, and what the destination knows by now counts."""
    kit = make_kit(tmp_path)
    await kit.ready()
    later = NOON + timedelta(hours=1)

    await kit.store.write(keep_answers, [ONE, replace(ONE, shape="b" * 16, sketch="[]"), replace(ONE, status=202)])
    await kit.store.write(keep_answers, [replace(ONE, seen=3, first_at=later, last_at=later, known=False)])
    found = await kit.store.read(seen_answers)
    kit.store.close()

    assert len(found) == 3
    (added,) = [one for one in found if (one.status, one.sketch) == (200, "{}")]
    assert added == replace(ONE, seen=5, known=False, last_at=later)


async def test_each_destination_has_its_own(tmp_path: Path) -> None:
    """Two accounts of one vendor are told apart by their names."""
    kit = make_kit(tmp_path)
    await kit.ready()

    await kit.store.write(keep_answers, [ONE, replace(ONE, destination="rokt-b", seen=7)])
    found = await kit.store.read(lambda connection: seen_answers(connection, "rokt-b"))
    kit.store.close()

    assert [one.seen for one in found] == [7]
