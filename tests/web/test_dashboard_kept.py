"""What is kept for the dashboard: for ten times as long as it took to find, asked for once, and anew after a change."""

import asyncio
import threading

from kit.web.dashboard.kept import Kept


class Counting:
    """Tells the time that the test says it is; each asking takes `takes` seconds of it."""

    def __init__(self, *, takes: float) -> None:
        self.now = 0.0
        self.takes = takes
        self.asked = 0

    def seconds(self) -> float:
        return self.now

    def ask(self) -> int:
        self.now += self.takes
        self.asked += 1
        return self.asked


async def test_an_answer_is_kept_ten_times_as_long_as_it_took() -> None:
    """Two seconds of counting serve for twenty."""
    it = Counting(takes=2)
    kept = Kept(seconds=it.seconds)

    first = await kept.get("orders", it.ask)
    it.now += 19.9
    kept_still = await kept.get("orders", it.ask)
    it.now += 0.1
    anew = await kept.get("orders", it.ask)

    assert (first, kept_still, anew) == (1, 1, 2)


async def test_a_quick_answer_is_kept_for_five_seconds() -> None:
    """Whoever reloads all the time does not count all the time; each name has an answer of its own."""
    it = Counting(takes=0)
    kept = Kept(seconds=it.seconds)

    answers = [await kept.get(name, it.ask) for name in ("a", "b", "a")]
    it.now += 5
    answers.append(await kept.get("a", it.ask))

    assert answers == [1, 2, 1, 3]


async def test_many_who_look_at_once_ask_once() -> None:
    """They wait for the one who asks, and none of them in a thread."""
    it = Counting(takes=1)
    kept = Kept(seconds=it.seconds)

    answers = await asyncio.gather(*[kept.get("orders", it.ask) for _ in range(50)])

    assert set(answers) == {1}


async def test_what_was_found_before_a_change_is_not_shown_after_it() -> None:
    """Nor what was being found meanwhile."""
    it = Counting(takes=1)
    kept = Kept(seconds=it.seconds)
    started, changed = threading.Event(), threading.Event()

    def slowly() -> int:
        started.set()
        assert changed.wait(20)
        return it.ask()

    looking = asyncio.create_task(kept.get("orders", slowly))
    await asyncio.to_thread(started.wait, 20)
    kept.forget()
    changed.set()

    assert await looking == 1
    assert await kept.get("orders", it.ask) == 2
