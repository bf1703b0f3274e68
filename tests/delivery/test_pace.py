"""The rule of pace: when a lane may go side by side, and when so many requests fail that it rests."""

import asyncio

import pytest

from kit.delivery.pace import Pace, Slots
from kit.model import Verdict
from tests.support import eventually

F, S = Verdict.TRANSIENT, Verdict.OK


@pytest.mark.parametrize(
    ("verdicts", "rests_at"),
    [
        ([F] * 10, 10),
        ([F] * 9, None),
        ([S, F] * 5, 10),
        ([S] * 11 + [F] * 9, None),
        ([S] * 10 + [F] * 10, 20),
        ([S] * 50 + [F] * 10, 60),
        ([F] * 9 + [Verdict.INVALID], 10),
        ([Verdict.UNKNOWN] * 5 + [Verdict.NOT_SENT] * 5, 10),
        ([Verdict.THROTTLE, Verdict.SETUP] * 20, None),
    ],
)
def test_half_of_the_last_twenty_of_at_least_ten(verdicts: list[Verdict], rests_at: int | None) -> None:
    """What the vendor asks for and what set-up lacks are no failures: they have gates of their own."""
    pace = Pace()

    found = next((number for number, verdict in enumerate(verdicts, start=1) if pace.saw(verdict)), None)

    assert found == rests_at


def test_after_a_rest_it_counts_anew() -> None:
    """The failures that led to the rest do not lead to the next one."""
    pace = Pace()
    rests = [pace.saw(F) for _ in range(25)]

    assert rests == ([False] * 9 + [True]) * 2 + [False] * 5


@pytest.mark.parametrize("verdict", Verdict)
def test_a_vendor_is_proven_by_an_answer_about_the_deliveries_themselves(verdict: Verdict) -> None:
    """Taken, refused or too large; and a gate makes it unproven again."""
    pace = Pace()
    pace.saw(verdict)
    proven = pace.proven
    pace.gated()

    assert (proven, pace.proven) == (verdict in {Verdict.OK, Verdict.INVALID, Verdict.OVERSIZE}, False)


class Room:
    """Counts who is in, each for as long as the test likes."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.inside: list[str] = []
        self.leave: dict[str, asyncio.Event] = {}

    def enters(self, name: str, *, alone: bool = False) -> asyncio.Task[None]:
        self.leave[name] = asyncio.Event()
        return asyncio.create_task(self._stay(name, alone))

    async def _stay(self, name: str, alone: bool) -> None:
        async with self.slots.one(alone=lambda: alone):
            self.inside.append(name)
            await self.leave[name].wait()
            self.inside.remove(name)


async def test_so_many_go_side_by_side_and_one_that_goes_alone_waits_for_all_of_them() -> None:
    """In the order in which they came: two, then the one alone, then the next two."""
    room = Room(Slots(2))
    tasks = [room.enters("a"), room.enters("b"), room.enters("alone", alone=True), room.enters("c"), room.enters("d")]

    seen = []
    for expected, leaving in ([["a", "b"], "a"], [["b"], "b"], [["alone"], "alone"], [["c", "d"], "c"], [["d"], "d"]):
        await eventually(lambda expected=expected: room.inside == expected)  # type: ignore[misc]
        seen.append(list(room.inside))
        room.leave[str(leaving)].set()
    await asyncio.gather(*tasks)

    assert seen == [["a", "b"], ["b"], ["alone"], ["c", "d"], ["d"]]


async def test_one_that_gives_up_waiting_leaves_no_slot_taken() -> None:
    """Cancelled with one of two slots in hand: both are free again afterwards."""
    room = Room(Slots(2))
    first, waiting = room.enters("first"), room.enters("waiting", alone=True)
    await eventually(lambda: room.inside == ["first"])
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    room.leave["first"].set()
    await first

    after = [room.enters("x"), room.enters("y")]
    await eventually(lambda: sorted(room.inside) == ["x", "y"])
    for name in ("x", "y"):
        room.leave[name].set()
    await asyncio.gather(*after)

    assert room.inside == []
