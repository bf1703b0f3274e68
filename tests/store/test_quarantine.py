"""Quarantine: who is believed of what was asserted, what an operator sees of it, and what he can put right."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, select

from kit import ConfigurationError, Kit
from kit.intake import Person
from kit.model import VisitorId
from kit.store import people, quarantine
from kit.store.quarantine import ASSERTED, RELEASED, VERIFIED, Quarantine, Undoing, is_over, serving
from kit.store.tables import identities, links, meta
from tests.support import FrozenClock

DAY = timedelta(days=1) // timedelta(milliseconds=1)
VISITOR = VisitorId("v" * 22)


@dataclass(frozen=True)
class Row:
    """A link as the rule sees it; `day` is when."""

    day: float
    kind: str = "email"
    level: str = ASSERTED
    lookup: str = ""

    @property
    def at(self) -> int:
        return int(self.day * DAY)


def asserted(days: Iterable[float], kind: str = "email") -> list[Row]:
    return [Row(day, kind, lookup=f"{kind} {number}") for number, day in enumerate(days)]


# ---------------------------------------------------------------- the rule


@pytest.mark.parametrize(
    ("rows", "over"),
    [
        (asserted(range(5)), False),
        (asserted(range(6)), True),
        (asserted([0, 0, 0, 0, 0, 30]), True),
        (asserted([0, 0, 0, 0, 0, 30.1]), False),
        (asserted([0, 40, 40, 40, 41, 42, 70]), True),
        (asserted(range(0, 400, 7)), False),
        (asserted(range(3)) + asserted(range(3), "customer"), False),
        (asserted(range(6), "customer"), True),
        (asserted(range(6), "phone"), True),
        ([Row(day, level=VERIFIED, lookup=str(day)) for day in range(40)], False),
        ([Row(day, level=RELEASED, lookup=str(day)) for day in range(40)], False),
        ([*asserted(range(40)), Row(50, level=VERIFIED)], False),
        ([*asserted(range(40)), Row(-1, level=VERIFIED)], True),
        ([*asserted(range(3)), Row(5, level=VERIFIED), *asserted(range(6, 9))], False),
    ],
)
def test_a_visitor_is_over_by_the_sixth_of_a_kind_within_thirty_days(rows: list[Row], over: bool) -> None:
    """Counted in any thirty days, by kind, since the last verified link; in whatever order the store has them."""
    shuffled = rows[:]
    random.Random(1).shuffle(shuffled)

    assert is_over(rows) is is_over(shuffled) is over


def test_a_quarantine_lets_nothing_asserted_serve_and_everything_verified() -> None:
    """Also of the other kinds: whoever typed six addresses typed the phones too."""
    verified = Row(-1, "customer", VERIFIED, "c-1")

    assert serving([*asserted(range(6)), *asserted(range(2), "phone"), verified]) == [verified]


def test_a_later_verified_link_starts_afresh() -> None:
    """What was asserted before it stays out, what is asserted after it serves."""
    before, after = asserted(range(6)), asserted(range(20, 22), "phone")
    verified = Row(10, "customer", VERIFIED, "c-1")

    assert serving([*before, verified, *after]) == [verified, *after]


def test_a_few_links_all_serve() -> None:
    """Somebody with a private and a business address, and a phone, is no crowd."""
    rows = [*asserted(range(5)), *asserted(range(5), "phone"), Row(3, level=VERIFIED)]

    assert serving(rows) == rows


TWO_A_WEEK = Quarantine(names=2, window=timedelta(days=7), visitors=3, day=timedelta(hours=1))


@pytest.mark.parametrize(
    ("rows", "over"),
    [
        (asserted(range(2)), False),
        (asserted(range(3)), True),
        (asserted([0, 0, 7]), True),
        (asserted([0, 0, 7.1]), False),
        (asserted(range(2)) + asserted(range(2), "phone"), False),
    ],
)
def test_a_shop_may_have_figures_of_its_own(rows: list[Row], over: bool) -> None:
    """Two of a kind within a week, in place of five within thirty days; by default none of this is a quarantine."""
    assert is_over(rows, TWO_A_WEEK) is over
    assert serving(rows, TWO_A_WEEK) == ([] if over else rows)
    assert not is_over(rows)


@pytest.mark.parametrize("name", ["names", "visitors"])
@pytest.mark.parametrize("number", [-1, 0, 1_000_001, 10**30])
def test_a_number_that_is_no_limit_is_refused_at_start(name: str, number: int) -> None:
    """By the name of the setting, with what to write instead."""
    with pytest.raises(ConfigurationError, match=rf"quarantine\.{name}.*from 1 to 1,000,000"):
        Quarantine(**{name: number})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["window", "day"])
@pytest.mark.parametrize("time", [timedelta(days=-1), timedelta(0), timedelta(days=3_651), timedelta.max])
def test_a_time_that_no_store_can_look_back_is_refused_at_start(name: str, time: timedelta) -> None:
    """Or no time at all."""
    with pytest.raises(ConfigurationError, match=rf"quarantine\.{name}.*3,650 days"):
        Quarantine(**{name: time})  # type: ignore[arg-type]


# ---------------------------------------------------------------- in the store
both = pytest.mark.usefixtures("both_engines")


async def keep(kit: Kit, visitor: str, *, level: str = ASSERTED, source: str = "page", **names: str) -> None:
    link = kit.intake.link(None, VisitorId(visitor), Person(**names), level=level, source=source)
    assert link is not None
    await kit.store.write(people.keep_links, link)


async def told(kit: Kit, visitor: str = VISITOR) -> list[tuple[str, str, str, bool]]:
    found = await kit.store.read(partial(quarantine.links_of, visitor=visitor))
    return [(one.value, one.level, one.source, one.serves) for one in found]


async def poison(kit: Kit, visitor: str = VISITOR, *, times: int = 6) -> None:
    for number in range(times):
        await keep(kit, visitor, email=f"victim{number}@example.com")


@both
async def test_pages_add_nothing_to_a_quarantine(kit: Kit) -> None:
    """The sixth address is kept, for it is the proof; of forty more and of other kinds nothing is."""
    await poison(kit, times=40)
    await keep(kit, VISITOR, phone="3238675309")

    assert len(await told(kit)) == 6
    assert await kit.store.read(quarantine.quarantined) == [VISITOR]


@both
async def test_the_shop_is_believed_whatever_pages_said(kit: Kit, clock: FrozenClock) -> None:
    """A verified link is made in a quarantine, and ends it: what is asserted from then on serves."""
    await poison(kit)
    clock.passes(timedelta(seconds=1))

    await keep(kit, VISITOR, level=VERIFIED, source="shop", customer_id="c-1")
    await keep(kit, VISITOR, email="jane@example.com")

    found = await kit.identifiers(visitor=VISITOR)
    assert (found.customer_id, found.email) == ("c-1", "jane@example.com")
    assert await kit.store.read(quarantine.quarantined) == []
    assert [serves for *_, serves in await told(kit)] == [False] * 6 + [True] * 2


@both
async def test_an_identity_of_25_visitors_a_day_is_linked_to_no_further_one(kit: Kit, clock: FrozenClock) -> None:
    """An address that was poisoned is linked to no more visitors by pages; what stands beside it is."""
    for number in range(30):
        await keep(kit, f"visitor-{number}", email="victim@example.com", phone=f"32386753{number:02}")
    frozen = [bool(await told(kit, f"visitor-{number}")) for number in range(30)]
    values = [value for number in range(25, 30) for value, *_ in await told(kit, f"visitor-{number}")]
    await keep(kit, "the-shops", level=VERIFIED, source="shop", email="victim@example.com")
    clock.passes(timedelta(days=1))
    await keep(kit, "a-day-later", email="victim@example.com")

    assert all(frozen)
    assert values == [f"32386753{number:02}" for number in range(25, 30)]
    assert await told(kit, "the-shops") == [("victim@example.com", VERIFIED, "shop", True)]
    assert await told(kit, "a-day-later") == [("victim@example.com", ASSERTED, "page", True)]


@both
async def test_an_identity_that_the_shop_verified_on_many_devices_may_be_asserted(kit: Kit) -> None:
    """Only what was asserted counts against an address."""
    for number in range(30):
        await keep(kit, f"visitor-{number}", level=VERIFIED, source="shop", email="jane@example.com")

    await keep(kit, VISITOR, email="jane@example.com")

    assert await told(kit) == [("jane@example.com", ASSERTED, "page", True)]


@both
async def test_what_is_not_linked_costs_a_write_too(kit: Kit) -> None:
    """Who asserts somebody erased waits for a commit like everybody: nothing is learnt from the time."""
    await kit.erase(email="erased@example.com")
    before = await kit.store.read(_refused_at)

    await keep(kit, VISITOR, level=VERIFIED, source="shop", email="erased@example.com")
    by_the_shop = await kit.store.read(_refused_at)
    await keep(kit, VISITOR, email="erased@example.com")

    assert (before, by_the_shop) == (None, None)
    assert await kit.store.read(_refused_at) is not None
    assert await told(kit) == []


def _refused_at(connection: Connection) -> str | None:
    return connection.scalar(select(meta.c.value).where(meta.c.key == "refused_at"))


@both
async def test_release_lets_it_all_serve_and_counts_afresh(kit: Kit) -> None:
    """Who is released serves what was there; what was there and is asserted again is there once more at most."""
    await poison(kit)

    released = await kit.store.write(quarantine.release, VISITOR)
    await poison(kit, times=5)
    between = await kit.store.read(quarantine.quarantined)
    again = await kit.store.write(quarantine.release, VISITOR)

    assert (released, between, again) == (6, [], 0)
    assert await told(kit) == [(f"victim{number}@example.com", RELEASED, "page", True) for number in range(6)]


@both
async def test_release_does_not_end_the_rule(kit: Kit) -> None:
    """Six further addresses bring the visitor back."""
    await poison(kit)
    await kit.store.write(quarantine.release, VISITOR)

    for number in range(6):
        await keep(kit, VISITOR, email=f"another{number}@example.com")

    assert await kit.store.read(quarantine.quarantined) == [VISITOR]


@both
async def test_release_of_nobody_changes_nothing(kit: Kit) -> None:
    """A verified link is not touched, and an unknown visitor is told as such."""
    await keep(kit, VISITOR, level=VERIFIED, source="shop", email="jane@example.com")

    assert await kit.store.write(quarantine.release, VISITOR) == 0
    assert await kit.store.write(quarantine.release, VisitorId("unknown")) == 0
    assert await told(kit) == [("jane@example.com", VERIFIED, "shop", True)]


@both
async def test_undo_removes_one_link_and_its_clear_text_with_the_last(kit: Kit) -> None:
    """Another visitor's link to the same address stays, and so does the address; then neither does."""
    await keep(kit, VISITOR, email="jane@example.com", phone="3238675309")
    await keep(kit, VISITOR, level=VERIFIED, source="token", email="jane@example.com")
    await keep(kit, "other", email="jane@example.com")
    key = kit.intake.identity("email", "jane@example.com").lookup

    gone = await kit.store.write(quarantine.undo, Undoing(visitor=VISITOR, kind="email", lookup=key))
    kept = await told(kit, "other")
    await kit.store.write(quarantine.undo, Undoing(visitor=VisitorId("other"), kind="email", lookup=key))
    values = await kit.store.read(lambda connection: list(connection.scalars(select(identities.c.value))))

    assert gone == 2
    assert await told(kit) == [("3238675309", ASSERTED, "page", True)]
    assert kept == [("jane@example.com", ASSERTED, "page", True)]
    assert values == ["3238675309"]


@both
async def test_undo_of_what_is_not_there_changes_nothing(kit: Kit) -> None:
    """Another visitor's link of that name, and this visitor's of another kind, stay."""
    await keep(kit, VISITOR, email="jane@example.com")
    key = kit.intake.identity("email", "jane@example.com").lookup

    for undoing in (
        Undoing(visitor=VisitorId("other"), kind="email", lookup=key),
        Undoing(visitor=VISITOR, kind="customer", lookup=key),
    ):
        assert await kit.store.write(quarantine.undo, undoing) == 0
    assert len(await told(kit)) == 1


@both
async def test_quarantined_finds_all_among_many(kit: Kit) -> None:
    """Of visitors with few, many and verified links those in quarantine are listed, each once."""
    for number in range(4):
        await poison(kit, f"bad-{number}")
        await poison(kit, f"good-{number}", times=5)
    await kit.store.write(quarantine.release, VisitorId("bad-2"))

    assert list(await kit.store.read(quarantine.quarantined)) == ["bad-0", "bad-1", "bad-3"]


@both
async def test_a_shops_own_figures_are_counted_in_the_store(kit: Kit, clock: FrozenClock) -> None:
    """Three of a kind are a quarantine then, an identity of three visitors within the hour goes to no further one."""
    await poison(kit, times=3)
    for number in range(3):
        await keep(kit, f"visitor-{number}", email="jane@example.com")
    key = kit.intake.identity("email", "jane@example.com").lookup

    def asked(connection: Connection, rule: Quarantine) -> tuple[Any, ...]:
        shown = quarantine.links_of(connection, VISITOR, rule)
        return (
            list(quarantine.quarantined(connection, rule)),
            {one.serves for one in shown},
            quarantine.refuses_visitor(connection, VISITOR, rule),
            quarantine.refuses_identity(connection, "email", key, now=clock(), rule=rule),
        )

    strict = await kit.store.read(partial(asked, rule=TWO_A_WEEK))
    lenient = await kit.store.read(partial(asked, rule=Quarantine()))
    clock.passes(timedelta(hours=1))
    later = await kit.store.read(partial(asked, rule=TWO_A_WEEK))

    assert strict == ([VISITOR], {False}, True, True)
    assert lenient == ([], {True}, False, False)
    assert later == ([VISITOR], {False}, True, False)


@both
async def test_attacks_by_the_hundred_change_no_verified_link(kit: Kit) -> None:
    """Whatever pages assert of a visitor whom the shop knows, who that is stays what the shop said."""
    await keep(kit, VISITOR, level=VERIFIED, source="shop", email="jane@example.com", customer_id="c-1")
    before = await kit.store.read(_verified)

    for number in range(500):
        names = {"email": f"evil{number}@example.com", "customer_id": f"evil-{number}"}
        await keep(kit, VISITOR if number % 2 else f"visitor-{number}", **names)

    found = await kit.identifiers(visitor=VISITOR)
    assert await kit.store.read(_verified) == before
    assert (found.email, found.customer_id) == ("jane@example.com", "c-1")


def _verified(connection: Connection) -> Sequence[Any]:
    return connection.execute(select(links).where(links.c.level == VERIFIED)).all()
