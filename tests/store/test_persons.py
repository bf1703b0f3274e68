"""Whom a request about a person reaches, and whose an event is: the rules, one by one."""

from pathlib import Path
from typing import Any

import pytest

from kit.store.persons import person_of
from tests.store.traces import BOB, BOBS, BOBS_PHONE, JANE, JANES, ORDER, PAGE, PHONE, SHOP, shop, visitor


@pytest.mark.parametrize(
    ("facts", "named", "own", "shared", "not_followed"),
    [
        pytest.param([("a", SHOP, (JANE,))], {"email": JANE[1]}, "a", "", 0, id="verified"),
        pytest.param([("a", PAGE, (JANE,))], {"email": JANE[1]}, "a", "", 0, id="asserted, and nobody else"),
        pytest.param([("a", SHOP, (JANE,))], {"email": " JANE@Example.com "}, "a", "", 0, id="however it is written"),
        pytest.param([("a", ORDER, (JANE, JANES))], {"email": JANE[1]}, "a", "", 0, id="an order's e-mail and number"),
        pytest.param(
            [("a", SHOP, (JANE, JANES)), ("b", SHOP, (JANES,))], {"email": JANE[1]}, "ab", "", 0, id="number followed"
        ),
        pytest.param(
            [("a", SHOP, (JANE, JANES)), ("b", PAGE, (JANE,))], {"customer_id": "1"}, "ab", "", 0, id="e-mail followed"
        ),
        pytest.param(
            [("a", SHOP, (JANE, JANES)), ("a", SHOP, (("email", "j@new.com"), JANES)), ("b", PAGE, (JANE,))],
            {"customer_id": "1"},
            "ab",
            "",
            0,
            id="a number with two e-mails is one person",
        ),
        pytest.param(
            [("a", SHOP, (JANE, JANES)), ("b", SHOP, (BOB, JANES))],
            {"email": JANE[1]},
            "",
            "a",
            1,
            id="a number for everybody is not followed",
        ),
        pytest.param(
            [("a", SHOP, (JANE, JANES)), ("b", SHOP, (BOB, JANES))],
            {"email": JANE[1], "customer_id": "1"},
            "ab",
            "",
            0,
            id="unless it is named too",
        ),
        pytest.param(
            [("a", SHOP, (JANE, JANES)), ("b", SHOP, (JANE, BOBS))],
            {"customer_id": "1"},
            "a",
            "",
            1,
            id="an e-mail of two numbers is not followed",
        ),
        pytest.param(
            [("a", SHOP, (JANES,)), ("a", PAGE, (BOB,))], {"customer_id": "1"}, "a", "", 0, id="a friend typed there"
        ),
        pytest.param(
            [("a", SHOP, (BOBS,)), ("a", PAGE, (JANE,))], {"email": JANE[1]}, "", "a", 0, id="she typed at a friend's"
        ),
        pytest.param(
            [("a", PAGE, (JANE,)), ("a", PAGE, (BOB,))], {"email": JANE[1]}, "", "a", 0, id="both typed there"
        ),
        pytest.param(
            [("a", PAGE, (JANE, ("customer", "9"))), ("b", SHOP, (("customer", "9"),))],
            {"email": JANE[1]},
            "a",
            "",
            0,
            id="a number that a page said is not followed",
        ),
        pytest.param(
            [("a", SHOP, (JANE, PHONE)), ("b", SHOP, (BOB, PHONE))], {"email": JANE[1]}, "a", "", 0, id="no phone is"
        ),
        pytest.param(
            [("a", SHOP, (JANE,)), ("b", SHOP, (JANE,))], {"visitor": visitor("a")}, "a", "", 0, id="a visitor alone"
        ),
        pytest.param([("a", SHOP, (BOB,))], {"email": JANE[1]}, "", "", 0, id="nobody"),
    ],
)
async def test_whom_an_erasure_reaches(
    tmp_path: Path, facts: list[Any], named: dict[str, Any], own: str, shared: str, not_followed: int
) -> None:
    """The rules of `persons`, one by one: which browsers are own, which are shared, who is not followed."""
    async with shop(tmp_path) as it:
        for browser, (level, source), said in facts:
            await it.link(browser, level, source, *said)

        found = person_of(it.kit.store, it.kit.erasing.subject(**named))

        assert found.own == {visitor(name) for name in own}
        assert found.shared == {visitor(name) for name in shared}
        assert found.not_followed == not_followed


@pytest.mark.usefixtures("both_engines")
async def test_on_a_shared_browser_her_links_go_with_their_breath_and_his_stay(tmp_path: Path) -> None:
    """Her e-mail and the phone that she typed with it go; his, his phone, the clicks and the decision stay."""
    async with shop(tmp_path) as it:
        await it.touch("a", "their-click")
        await it.link("a", *PAGE, JANE, PHONE)
        await it.link("a", *PAGE, BOB, BOBS_PHONE)

        await it.erase(email=JANE[1])
        left = await it.text()

        assert JANE[1] not in left
        assert PHONE[1] not in left
        assert all(value in left for value in (BOB[1], BOBS_PHONE[1], "their-click", visitor("a")))


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize(
    ("order", "becomes"),
    [
        pytest.param({"email": "Jane@Example.com"}, "theirs", id="her e-mail, however written"),
        pytest.param({"customer_id": "1"}, "theirs", id="her number, which is followed"),
        pytest.param({"browser": "a"}, "theirs", id="nobody's, on her browser"),
        pytest.param({"browser": "a", "email": BOB[1]}, "kept", id="a friend's, on her browser"),
        pytest.param({"browser": "b", "email": JANE[1]}, "theirs", id="hers, on a friend's browser"),
        pytest.param({"browser": "b", "email": BOB[1]}, "kept", id="a friend's, on his"),
        pytest.param({"email": BOB[1], "phone": PHONE[1]}, "kept", id="a friend's, with a phone they share"),
    ],
)
async def test_whose_an_event_is(tmp_path: Path, order: dict[str, Any], becomes: str) -> None:
    """By its own e-mail or number; without either by its browser. Another person's event keeps its buyer."""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANE, JANES, PHONE)
        await it.link("b", *SHOP, BOB, BOBS)
        await it.order("order-1", first_name="Somebody", **order)

        await it.erase(email=JANE[1])
        stored = await it.text()

        assert ("Somebody" in stored) is (becomes == "kept")
        assert await it.states("order-1") == {("pending", None) if becomes == "kept" else ("skipped", "erased")}


@pytest.mark.usefixtures("both_engines")
async def test_what_was_gathered_of_her_leaves_his_event(tmp_path: Path) -> None:
    """She once typed her phone at his browser, and his order went out with it: it goes, with the body; his stay."""
    async with shop(tmp_path) as it:
        await it.link("b", *PAGE, JANE, PHONE)
        await it.order("order-1", "b", email=BOB[1])
        await it.kit.worker.drain()
        assert PHONE[1] in await it.text()

        await it.erase(email=JANE[1])
        left = await it.text()

        assert PHONE[1] not in left
        assert JANE[1] not in left
        assert BOB[1] in left
        assert {row.payload for row in await it.rows("order-1")} == {None}
        assert await it.states("order-1") == {("delivered", None)}
