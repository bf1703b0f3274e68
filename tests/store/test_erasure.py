"""What goes of somebody who is erased, and that nothing comes back: on both engines, and in the file's bytes."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import create_async_engine

from kit import ConfigurationError, Conversion, Retention, StoreUnavailable
from kit.delivery.lane import Lane
from kit.model import DeliveryState, Identifiers, VisitorId
from kit.store import Store, erasure, people, persons
from kit.store.events import Report, report
from kit.store.impersonal import erase_events
from kit.store.overview import Replay, replay
from kit.store.retention import prune
from kit.store.tables import metadata, tombstones
from tests.delivery.world import FrozenSteady
from tests.store.traces import BOB, BOBS, GRANTED, JANE, JANES, MOMENT, PAGE, PHONE, SHOP, Shop, shop, visitor
from tests.support import FPC

pytestmark = pytest.mark.usefixtures("both_engines")


# ---------------------------------------------------------------- what


async def test_the_order_and_its_money_stay_and_nobody_is_told(tmp_path: Path) -> None:
    """Delivered, dead, held and waiting alike lose their bodies; what was not delivered is skipped as erased."""
    async with shop(tmp_path) as it:
        await it.touch("a", "canary-click")
        await it.snapshot("order-1", "a")
        await it.order("order-1", "a", email=JANE[1], first_name="Canary", metadata={"note": "Canary"})
        await it.order("order-1", "a", email=JANE[1], value="29.90", last_name="Canary")
        it.sandbox.rokt.answers(400)
        await it.kit.worker.drain()
        await it.order("order-2", "a", email=JANE[1], first_name="Canary")

        gone = await it.erase(email=JANE[1])
        left = await it.text()

        assert (gone.visitors, gone.events, gone.orders, gone.touchpoints) == (1, 2, 1, 1)
        assert gone.deliveries == 3
        assert not [word for word in ("anary", JANE[1], visitor("a"), FPC, "12.34.56.89") if word in left]
        assert '"value":"19.90"' in left
        assert await it.states("order-1") == {("skipped", "erased"), ("delivered", None)}
        assert await it.states("order-2") == {("skipped", "erased")}
        assert [row.payload for row in await it.rows("order-1")] == [None, None]
        assert [row.conflicts for row in await it.rows("order-1")] == [("value",), ("value",)]


def _bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_nothing_is_left_in_the_bytes_of_the_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """SQLite's file and journal hold no value of hers, though pages were split and rows grew and moved; all of his."""
    if "postgresql" in request.node.name:
        pytest.skip("its vacuum does that in its own time")
    async with shop(tmp_path) as it:
        for number in range(40):
            who = "canary" if number % 3 == 0 else "friend"
            await it.touch(f"{who}{number}", f"{who}-click-{number}")
            await it.link(f"{who}{number}", *SHOP, ("email", f"{who}@example.com"), ("customer", f"{who}-1"))
            extra = {"note": f"{who} " * (number + 1)}
            await it.order(f"order-{number}", f"{who}{number}", email=f"{who}@example.com", metadata=extra)
        await it.kit.worker.drain()

        gone = await it.erase(customer_id="canary-1")
        it.kit.store.close()
        files = await asyncio.to_thread(_bytes_in, tmp_path)

        assert gone.events == 14
        assert gone.rewritten
        assert "kit.db" in files
        assert not [name for name, content in files.items() if b"canary" in content]
        assert files["kit.db"].count(b"friend@example.com") >= 26


async def test_a_file_that_is_large_is_not_rewritten_unasked(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing could be written for that time; the answer says that it was not."""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANE)
        small = erasure.Erasure(
            subject=it.kit.erasing.subject(email=JANE[1]), now=it.clock(), store_ahead=timedelta(0), rewrites=1
        )

        gone = await asyncio.to_thread(erasure.erase, it.kit.store, small)

        assert gone.links == 1
        assert not gone.rewritten


async def test_a_person_of_many_rows_goes_a_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No transaction takes more than its share, of events, clicks, snapshots, decisions or links; all of them go."""
    monkeypatch.setattr(erasure, "EVENTS", 5)
    monkeypatch.setattr(erasure, "ROWS", 5)
    monkeypatch.setattr(persons, "RANGE", 7)
    monkeypatch.setattr(persons, "VISITORS", 3)
    async with shop(tmp_path) as it:
        for number in range(13):
            await it.link(f"canary{number}", *SHOP, JANE, JANES)
            await it.touch(f"canary{number}", "canary")
            await it.touch("canary0", f"canary-{number}")
            await it.order(f"order-{number}", f"canary{number}", email=JANE[1], first_name="canary")
            await it.snapshot(f"later-{number}", "canary0")
        most = 0

        def counted(connection: Any, ids: Any, **more: Any) -> Counter[str]:
            nonlocal most
            most = max(most, len(ids))
            return erase_events(connection, ids, **more)

        monkeypatch.setattr(erasure, "erase_events", counted)
        gone = await it.erase(email=JANE[1])

        assert (gone.visitors, gone.events, gone.orders, gone.touchpoints, gone.links) == (13, 13, 13, 26, 26)
        assert most == 5
        assert "canary" not in await it.text()


async def test_asked_again_it_finds_nothing(tmp_path: Path) -> None:
    """Idempotent: the second time nobody is there."""
    async with shop(tmp_path) as it:
        await it.touch("a", "click")
        await it.order("order-1", "a", email=JANE[1])
        await it.erase(email=JANE[1])
        before = await it.text(but=["tombstones"])

        again = await it.erase(email=JANE[1])

        assert (again.events, again.visitors, again.links, again.touchpoints) == (0, 0, 0, 0)
        assert await it.text(but=["tombstones"]) == before


@pytest.mark.parametrize("others", [{"email": BOB[1]}, {}])
async def test_a_number_that_an_order_has_without_the_person_is_left_alone(
    tmp_path: Path, others: dict[str, str]
) -> None:
    """A till's number for everybody: those who bought by it without a browser stay, and so does who comes later."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1], customer_id="0")
        await it.order("order-2", None, **others, customer_id="0")

        gone = await it.erase(email=JANE[1])
        await it.order("order-3", None, customer_id="0")

        assert (gone.events, gone.not_followed) == (1, 1)
        assert await it.states("order-1") == {("skipped", "erased")}
        assert await it.states("order-2") == await it.states("order-3") == {("pending", None)}


async def test_a_number_that_another_browser_has_without_the_person_is_left_alone(tmp_path: Path) -> None:
    """Somebody signed in by it and never said her address: that she bought by it once makes it nobody's but his."""
    async with shop(tmp_path) as it:
        await it.link("b", *SHOP, BOBS)
        await it.touch("b", "his-click")
        await it.order("order-1", "a", email=JANE[1], customer_id=BOBS[1])

        gone = await it.erase(email=JANE[1])
        await it.order("order-2", "b", customer_id=BOBS[1])

        assert (gone.events, gone.not_followed, gone.touchpoints) == (1, 1, 0)
        assert await it.states("order-2") == {("pending", None)}


async def test_a_number_that_is_nobody_elses_is_followed(tmp_path: Path) -> None:
    """All that was ordered by it has her address: who orders by it later is she."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1], customer_id="1")
        await it.order("order-2", None, email=JANE[1], customer_id="1")

        gone = await it.erase(email=JANE[1])
        await it.order("order-3", None, customer_id="1", first_name="Canary")

        assert (gone.events, gone.visitors, gone.not_followed) == (2, 1, 0)
        assert await it.states("order-3") == {("skipped", "erased")}
        assert "Canary" not in await it.text()


async def test_an_address_that_an_account_shares_with_somebody_is_left_alone(tmp_path: Path) -> None:
    """The shop said both of one account, and an order says the address beside another number: whose is it?"""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANES, JANE)
        await it.order("order-1", None, email=JANE[1], customer_id=BOBS[1])

        gone = await it.erase(customer_id=JANES[1])

        assert (gone.events, gone.not_followed) == (0, 1)
        assert await it.states("order-1") == {("pending", None)}


async def test_an_address_that_was_only_typed_is_left_alone(tmp_path: Path) -> None:
    """He typed hers at a checkout before she was ever there, and is erased: she comes later as anybody."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "b", email=JANE[1], customer_id=BOBS[1])

        gone = await it.erase(customer_id=BOBS[1])
        await it.order("order-2", "a", email=JANE[1])

        assert (gone.events, gone.not_followed) == (1, 1)
        assert await it.states("order-2") == {("pending", None)}


async def test_what_a_stranger_typed_takes_nothing_out_of_her_orders(tmp_path: Path) -> None:
    """He typed her address at a checkout, and is erased: her own order keeps what was gathered of her for it."""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANE)
        await it.order("order-1", "a")
        await it.order("order-2", "b", email=JANE[1], customer_id=BOBS[1])
        before = next(
            line for line in (await it.text()).splitlines() if line.startswith("events") and "order-1" in line
        )

        await it.erase(customer_id=BOBS[1])

        assert JANE[1] in before
        assert before in await it.text()


async def test_an_erasure_that_was_cut_off_anywhere_is_ended_by_asking_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each of its transactions in turn: nothing of the person is left, whatever led to it, and he is whole."""
    async with shop(tmp_path) as it:
        for cut in range(40):
            person, number = f"canary{cut}@example.com", f"canary{cut}"
            await it.link(f"canary{cut}-a", *SHOP, ("email", person), ("customer", number))
            await it.link(f"canary{cut}-b", *SHOP, ("customer", number))
            await it.touch(f"canary{cut}-b", f"canary{cut}-click")
            await it.order(f"order-{cut}", f"canary{cut}-b", first_name=number)
            await it.order(f"webhook-{cut}", customer_id=number)
            await it.snapshot(f"later-{cut}", f"canary{cut}-b")
            await it.order(f"friend-{cut}", "friend", email=BOB[1])
            written, write = 0, it.kit.store.write_sync

            def cut_off(*given: Any, cut: int = cut, write: Any = write, **more: Any) -> Any:
                nonlocal written
                written += 1
                if written > cut:
                    raise StoreUnavailable("the power is off")
                return write(*given, **more)

            with monkeypatch.context() as patched:
                patched.setattr(it.kit.store, "write_sync", cut_off)
                try:
                    await it.erase(email=person)
                    break
                except StoreUnavailable:
                    pass
            await it.erase(email=person)

            left = await it.text()
            assert f"canary{cut}" not in left, cut
            assert left.count(BOB[1]) >= cut + 1
        else:
            pytest.fail("it never came to its end")
        assert cut >= 8


# ---------------------------------------------------------------- and comes back


async def test_nothing_brings_an_erased_person_back(tmp_path: Path) -> None:
    """A repeat, a replay, an order of another browser, a webhook, a sign-in, a click: all is dropped but the money."""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANE, JANES)
        await it.snapshot("order-3", "a")
        await it.order("order-1", "a", email=JANE[1])
        await it.erase(email=JANE[1])

        assert not await it.order("order-1", "a", email=JANE[1], first_name="Canary")
        assert not await it.order("order-1", phone="+1555canary", address={"line1": "Canary street 1"})
        yes = replace(GRANTED, at=it.clock() + MOMENT)
        await it.kit.store.write(people.keep_decisions, (visitor("c"), yes))
        assert not await it.order("order-1", "c", first_name="Canary")
        assert await it.order("order-2", "b", email="JANE@example.com", first_name="Canary")
        assert await it.order("order-3", first_name="Canary")
        assert await it.order("order-4", "a", first_name="Canary")
        assert await it.order("order-5", customer_id="1", first_name="Canary")
        await it.kit.identify(visitor=visitor("b"), email=JANE[1], phone="+1555canary")
        await it.kit.identify(visitor=visitor("a"), customer_id="canary")
        await it.touch("a", "canary")
        await it.snapshot("order-6", "a")
        await it.kit.store.write(people.keep_decisions, (visitor("a"), GRANTED))
        now = it.clock()
        for state in (DeliveryState.SKIPPED, DeliveryState.DEAD, DeliveryState.HELD):
            await asyncio.to_thread(replay, it.kit.store, Replay(state=state, now=now))
        await it.kit.worker.drain()
        left = await it.text()

        assert not [word for word in ("anary", "ane@", visitor("a"), visitor("b")) if word in left]
        assert left.count('"value":"19.90"') == 5
        assert it.sandbox.rokt.counted == 0
        for number in range(1, 6):
            assert {row.state for row in await it.rows(f"order-{number}")} == {"skipped"}


async def test_somebody_else_on_an_erased_browser_is_nobody_erased(tmp_path: Path) -> None:
    """His order there counts as his, without what the browser knew."""
    async with shop(tmp_path) as it:
        await it.touch("a", "her-click")
        await it.link("a", *SHOP, JANE)
        await it.erase(email=JANE[1])

        await it.order("order-1", "a", email=BOB[1])
        await it.kit.worker.drain()

        assert await it.states("order-1") == {("delivered", None)}
        assert visitor("a") not in await it.text()


def test_a_tombstone_stands_as_long_as_an_order_is_known(tmp_path: Path) -> None:
    """Shorter is refused at start: a repeat of the order would bring its buyer back."""
    with pytest.raises(ConfigurationError, match=r"retention\.tombstones: is shorter than retention\.events"):
        Retention(tombstones=timedelta(days=399))


async def test_somebody_elses_order_is_not_erased_by_a_repeat(tmp_path: Path) -> None:
    """It is repeated with her e-mail, and from her erased browser: it stays his, and nothing of hers is in it."""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANE)
        await it.order("order-1", "b", email=BOB[1])
        await it.order("order-2", "b")
        await it.erase(email=JANE[1])

        await it.order("order-1", email=JANE[1], first_name="Canary")
        await it.kit.store.write(report, _seen_from(it, "order-2", visitor("a")))
        left = await it.text()

        assert await it.states("order-1") == await it.states("order-2") == {("pending", None)}
        assert BOB[1] in left
        assert not [word for word in ("Canary", JANE[1], visitor("a")) if word in left]


def _seen_from(it: Shop, order: str, browser: VisitorId) -> Report:
    """Return a repeat of an order in a request of another browser."""
    entry = it.kit.intake.report(
        Conversion(order_id=order, value="19.90", currency="USD"),
        None,
        visitor=None,
        customer_id=None,
        order_id=None,
        consent=None,
        store_ahead=timedelta(0),
    )
    return replace(entry, seen=Identifiers(visitor=browser, ip="12.34.56.89"))


async def test_what_is_reported_while_it_goes_on_gathers_nothing_of_hers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Her tombstones stand, her links at a shared browser and number are there still: nobody follows them."""
    async with shop(tmp_path) as it:
        await it.link("a", *PAGE, BOB)
        await it.link("a", *PAGE, JANE, PHONE)
        await it.link("b", *SHOP, JANE, BOBS)
        await it.link("c", *SHOP, BOB, BOBS)
        with monkeypatch.context() as patched:
            patched.setattr(erasure, "_outlast", _power_cut)
            with pytest.raises(StoreUnavailable):
                await it.erase(email=JANE[1])

        await it.order("order-1", "a")
        await it.order("order-2", customer_id=BOBS[1])
        before = "\n".join(line for line in (await it.text()).splitlines() if line.startswith("events"))
        await it.erase(email=JANE[1])

        assert BOB[1] in before
        assert not [word for word in (JANE[1], PHONE[1]) if word in before]
        assert JANE[1] not in await it.text()


def _power_cut(store: Store) -> None:
    raise StoreUnavailable("the power is off")


async def test_a_tombstone_goes_with_its_time_and_is_no_value(tmp_path: Path) -> None:
    """400 days, in keys alone; then her order counts again."""
    async with shop(tmp_path) as it:
        await it.link("a", *SHOP, JANE, JANES)
        await it.erase(email=JANE[1])
        rows = await it.kit.store.read(lambda connection: connection.execute(select(tombstones)).all())

        async def left(days: int) -> int:
            it.clock.passes(timedelta(days=days))
            while await prune(it.kit.store, Retention(), it.clock()):
                pass
            return len(await it.kit.store.read(lambda connection: connection.execute(select(tombstones)).all()))

        assert sorted(row.kind for row in rows) == ["customer", "email", "visitor"]
        assert all(len(row.key) == 64 for row in rows)
        assert (await left(400), await left(1)) == (3, 0)


# ---------------------------------------------------------------- beside workers and shops


def _lane(it: Shop) -> Lane:
    return Lane(
        it.kit.destinations[0],
        store=it.kit.store,
        may_send=it.kit.intake.may_keep,
        clock=it.clock,
        steady=FrozenSteady(),
        dice=lambda: 0.5,
        owner="this test",
    )


async def test_what_a_worker_has_in_hand_is_not_sent_any_more(tmp_path: Path) -> None:
    """Claimed and built, and no attempt open: the erasure comes between, and no byte leaves."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1])
        lane = _lane(it)
        (batch,) = await lane.claim()

        await it.erase(email=JANE[1])
        await lane.send(batch)
        await lane.aclose()

        assert it.sandbox.rokt.requests == ()
        assert await it.states("order-1") == {("skipped", "erased")}


@pytest.mark.parametrize(("answer", "ends"), [(200, ("delivered", None)), (503, ("skipped", "erased"))])
async def test_a_request_under_way_ends_and_leaves_no_body(
    tmp_path: Path, answer: int, ends: tuple[str, str | None]
) -> None:
    """Its outcome is recorded; what would be tried again is not, for its event refuses."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1])
        lane = _lane(it)
        (batch,) = await lane.claim()
        if answer != 200:
            it.sandbox.rokt.answers(answer)
        arrived, go_on = asyncio.Event(), asyncio.Event()
        send = lane._wire.send

        async def slow(*given: Any, **more: Any) -> Any:
            arrived.set()
            await go_on.wait()
            return await send(*given, **more)

        lane._wire.send = slow  # type: ignore[method-assign]
        sending = asyncio.create_task(lane.send(batch))
        await arrived.wait()

        await it.erase(email=JANE[1])
        under_way = [(row.state, row.payload) for row in await it.rows("order-1") if row.destination == "rokt"]
        go_on.set()
        await sending
        await lane.aclose()
        it.clock.passes(timedelta(hours=2))
        await it.kit.worker.drain()
        found = [row for row in await it.rows("order-1") if row.destination == "rokt"]

        assert under_way == [("claimed", None)]
        assert [(row.state, row.reason) for row in found] == [ends]
        assert [row.payload for row in found] == [None]
        assert len(it.sandbox.rokt.requests) == 1
        assert JANE[1] not in await it.text()


async def test_any_worker_at_any_moment_sends_nothing_after_it_returned(tmp_path: Path) -> None:
    """Forty orders, a worker that runs, an erasure in the middle: what was under way ends, and no body is left."""
    async with shop(tmp_path) as it:
        for number in range(40):
            await it.order(f"order-{number}", f"browser-{number}", email=JANE[1] if number % 2 else BOB[1])
        draining = asyncio.create_task(it.kit.worker.drain())

        await it.erase(email=JANE[1])
        left = await it.text()
        await draining
        await it.kit.worker.drain()

        assert JANE[1] not in left
        for number in range(40):
            rows = await it.rows(f"order-{number}")
            if number % 2:
                assert {(row.state, row.reason) for row in rows} <= {("skipped", "erased"), ("delivered", None)}
                assert all(row.payload is None for row in rows)
            else:
                assert {row.state for row in rows} == {"delivered"}
        assert JANE[1] not in await it.text()


async def test_a_report_in_the_shops_own_transaction_is_waited_for(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It looked before the tombstones stood and commits after: the erasure ends no sooner, and reaches it."""
    if "sqlite" in request.node.name:
        pytest.skip("it has one transaction at a time")
    async with shop(tmp_path) as it:
        engine = create_async_engine(it.kit.store.url)
        async with engine.connect() as own:
            await it.kit.report(
                Conversion(order_id="order-1", email=JANE[1], first_name="Canary"), connection=own, visitor=visitor("a")
            )
            erasing = asyncio.create_task(it.erase(email=JANE[1]))
            done, _ = await asyncio.wait({erasing}, timeout=0.5)
            await own.commit()
        gone = await erasing
        await engine.dispose()

        assert not done
        assert gone.events == 1
        assert "Canary" not in await it.text()


async def test_a_backup_is_not_waited_for(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads every table for hours, and keeps nothing."""
    if "sqlite" in request.node.name:
        pytest.skip("it has one transaction at a time")
    monkeypatch.setattr(erasure, "PATIENCE", timedelta(seconds=0.1))
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1])
        engine = create_async_engine(it.kit.store.url)
        async with engine.connect() as backup:
            for table in metadata.sorted_tables:
                await backup.execute(text(f"LOCK TABLE {table.name} IN ACCESS SHARE MODE"))
            await backup.execute(select(tombstones))
            gone = await it.erase(email=JANE[1])
        await engine.dispose()

        assert gone.events == 1


async def test_a_transaction_that_never_ends_is_not_waited_for_for_ever(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller is told to ask again, and asking again ends it."""
    if "sqlite" in request.node.name:
        pytest.skip("it has one transaction at a time")
    monkeypatch.setattr(erasure, "PATIENCE", timedelta(seconds=0.1))
    async with shop(tmp_path) as it:
        engine = create_async_engine(it.kit.store.url)
        async with engine.connect() as own:
            await it.kit.report(Conversion(order_id="order-1", email=JANE[1]), connection=own)
            with pytest.raises(StoreUnavailable, match="erase again when it has ended"):
                await it.erase(email=JANE[1])
            await own.commit()
        await engine.dispose()

        assert (await it.erase(email=JANE[1])).events == 1


# ---------------------------------------------------------------- any mix of two people

_KINDS = (
    "order", "order_by_number", "order_alone", "order_at_his", "touch", "sign_in", "newsletter", "newsletter_at_his",
    "snapshot", "repeat", "send",
)  # fmt: skip


@given(steps=st.lists(st.tuples(st.sampled_from(_KINDS), st.booleans(), st.integers(0, 2)), max_size=14))
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_of_two_people_one_goes_and_the_other_stays(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bool, int]], request: pytest.FixtureRequest
) -> None:
    """Whatever the shop heard of two people, her at his browsers too: no value of hers is left, all of his are."""
    if "postgresql" in request.node.name:
        pytest.skip("one database for each example takes too long; the rules are the same")
    asyncio.run(_two_people(tmp_path_factory.mktemp("two"), steps))


#: Of a link only the key tells whose it is.
_HERS = (("email", "canary@example.com"), ("phone", "+1666canary"), ("phone", "+1666friend"))
#: A phone that a page said on a browser that both used may be hers, for all that the store can tell.
_NOT_HIS = {"canary", "+1666friend"}


async def _two_people(folder: Path, steps: list[tuple[str, bool, int]]) -> None:
    async with shop(folder) as it:
        # What makes the two browsers of each hers or his.
        for who in ("canary", "friend"):
            for number in range(3):
                await it.kit.identify(visitor=visitor(f"{who}{number}"), customer_id=f"{who}-number")
            await it.kit.identify(visitor=visitor(f"{who}0"), email=f"{who}@example.com", customer_id=f"{who}-number")
        for place, (kind, hers, number) in enumerate(steps):
            await _step(it, kind, "canary" if hers else "friend", number, place)
        keys = {it.kit.intake.identity(kind, value).lookup for kind, value in _HERS}
        # A body of his may carry a digest of her phone, which was gathered for him: it goes, and his delivery stands.
        lines = (await it.text(but=["deliveries"])).splitlines()
        his = [line for line in lines if "friend" in line and not any(word in line for word in _NOT_HIS | keys)]
        orders = [str(place) for place, (_, hers, _) in enumerate(steps) if not hers] + ["f-repeated"]
        standing = [await it.states(order) for order in orders]

        await it.erase(email="canary@example.com")
        after = await it.text(but=["tombstones"])

        assert "canary" not in after
        assert [line for line in his if line not in after] == []
        assert [await it.states(order) for order in orders] == standing


async def _step(it: Shop, kind: str, who: str, number: int, place: int) -> None:
    browser, email = f"{who}{number}", f"{who}@example.com"
    words: dict[str, Any] = {"first_name": f"{who}-name", "extra": {"note": f"{who}-note"}}
    it.clock.passes(MOMENT)
    match kind:
        case "order":
            await it.order(f"{place}", browser, email=email, **words)
        case "order_at_his":
            await it.order(f"{place}", f"friend{number}", email=email, **words)
        case "newsletter_at_his":
            await it.link(f"friend{number}", *PAGE, ("email", email), ("phone", f"+1666{who}"))
        case "order_by_number":
            await it.order(f"{place}", customer_id=f"{who}-number", **words)
        case "order_alone":
            await it.order(f"{place}", browser, **words)
        case "touch":
            await it.touch(browser, f"{who}-click-{place}")
        case "sign_in":
            await it.kit.identify(visitor=visitor(browser), customer_id=f"{who}-number", phone=f"+1555{who}")
        case "newsletter":
            await it.link(browser, *PAGE, ("email", email), ("phone", f"+1666{who}"))
        case "snapshot":
            await it.snapshot(f"{who[0]}-{number}", browser)
        case "repeat":
            await it.order(f"{who[0]}-repeated", browser, email=email, value=f"{place + 1}.00", **words)
        case "send":
            await it.kit.worker.drain()
