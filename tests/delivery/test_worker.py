"""The worker against the sandbox, over sockets: what is sent, what is not, and what each answer leads to."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from kit import Conversion, StoreUnavailable
from kit.delivery.lane import Lane
from kit.destinations import AdRoll, Rockerbox, Rokt
from kit.model import Consent, DeliveryState, Mode
from kit.store import people
from kit.store.attempts import Closing, Opening, Settlement, close, open_attempts
from kit.store.outbox import Claim, claim
from kit.store.overview import (
    Pause,
    Replay,
    Resolve,
    pause,
    replay,
    resolve,
    resume,
    standings,
    told,
)
from kit.store.tables import deliveries, events
from tests.delivery.world import VISITOR, FrozenSteady, worker_of, world
from tests.support import FPC, NOON, FrozenClock, eventually, make_kit, rockerbox, rokt

pytestmark = pytest.mark.usefixtures("both_engines")


async def test_an_order_reaches_all_three_vendors_with_every_identifier(tmp_path: Path) -> None:
    """The strict sandboxes take it, and hold what was captured."""
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as it:
        await it.order()

        await it.drain()

        assert {row.destination: row.state for row in await it.rows()} == {
            "adroll": "delivered",
            "rokt": "delivered",
            "rockerbox": "delivered",
        }
        event = it.sandbox.adroll.accepted[0]
        assert event["identifiers"]["adct"] == "click123"
        assert [vendor.orders["order-1"] for vendor in it.sandbox.vendors] == [1, 1, 1]


async def test_what_was_delivered_is_not_sent_again(tmp_path: Path) -> None:
    """Draining twice sends once; a replay of everything dead touches nothing delivered."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        await it.drain()

        await it.drain()
        again = await asyncio.to_thread(replay, it.kit.store, Replay(now=it.clock()))

        assert (again, len(it.sandbox.rokt.requests)) == (0, 1)


async def test_rokt_takes_a_hundred_in_one_request(tmp_path: Path) -> None:
    """101 orders are two requests: 100 and 1."""
    async with world(tmp_path, Rokt) as it:
        for number in range(101):
            await it.order(f"order-{number}")

        await it.drain()

        assert sorted(len(request.events) for request in it.sandbox.rokt.requests) == [1, 100]
        assert it.sandbox.rokt.counted == 101


async def test_adrolls_purchases_go_one_by_one(tmp_path: Path) -> None:
    """AdRoll cannot tell a repeat, so money travels alone."""
    async with world(tmp_path, AdRoll) as it:
        for number in range(5):
            await it.order(f"order-{number}")

        await it.drain()

        assert [len(request.events) for request in it.sandbox.adroll.requests] == [1] * 5


async def test_a_503_is_tried_again_later_with_the_same_bytes(tmp_path: Path) -> None:
    """The body freezes with the first attempt; the retry repeats it to the byte."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(503)
        await it.order()
        await it.drain()
        assert [row.state for row in await it.rows()] == ["pending"]

        it.clock.passes(timedelta(seconds=5))
        await it.drain()

        first, second = it.sandbox.rokt.requests
        assert first.body == second.body
        assert [(row.state, row.attempts) for row in await it.rows()] == [("delivered", 2)]


async def test_a_429_holds_the_whole_destination_for_the_time_the_vendor_named(tmp_path: Path) -> None:
    """Nothing is sent before it, one probe after it, and then the rest."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(429, headers={"retry-after": "30"})
        await it.order("order-1")
        await it.drain()
        await it.order("order-2")

        it.clock.passes(timedelta(seconds=29))
        await it.drain()
        assert len(it.sandbox.rockerbox.requests) == 1
        gate = (await it.standing()).gate
        assert gate is not None
        assert gate.state == "throttled"

        it.clock.passes(timedelta(seconds=5))
        await it.drain()
        assert it.sandbox.rockerbox.counted == 2
        assert (await it.standing()).gate is None


async def test_a_wrong_token_pauses_the_destination_and_burns_nothing(tmp_path: Path) -> None:
    """401 on twenty orders: one request, every row kept, delivered when the token is right."""
    async with world(tmp_path, AdRoll) as it:
        it.sandbox.adroll.answers(401, times=None)
        for number in range(20):
            await it.order(f"order-{number}")
        await it.drain()
        sent = len(it.sandbox.adroll.requests)
        assert sent == 1
        assert {(row.state, row.attempts) for row in await it.rows()} == {("pending", 0)}
        gate = (await it.standing()).gate
        assert gate is not None
        assert gate.state == "paused"
        assert gate.reason.startswith("HTTP 401")

        it.sandbox.adroll.clear_faults()
        it.clock.passes(timedelta(minutes=16))
        await it.drain()

        assert it.sandbox.adroll.counted == 20


async def test_one_refused_event_of_a_batch_is_dead_with_the_vendors_words(tmp_path: Path) -> None:
    """Rokt names the record that it did not process; its neighbours are delivered."""
    async with world(tmp_path, Rokt) as it:
        await it.order("good")
        await it.order("bad")
        bad = next(row for row in await it.rows("bad"))
        it.sandbox.rokt.answers(
            200,
            body={
                "data": {
                    "unprocessedRecords": [
                        {
                            "error": {"code": "ValidationError", "message": "Invalid content"},
                            "record": {"clientEventId": bad.event_id},
                        }
                    ]
                }
            },
        )

        await it.drain()

        found = {row.order_id: (row.state, row.reason) for row in await it.rows()}
        assert found == {"good": ("delivered", None), "bad": ("dead", "rejected")}
        assert "Invalid content" in (next(row for row in await it.rows("bad")).detail or "")


async def test_a_batch_refused_whole_is_halved_until_the_bad_one_stands_alone(tmp_path: Path) -> None:
    """One poison among sixteen costs a few requests, and only itself is dead."""
    async with world(tmp_path, Rokt) as it:
        for number in range(16):
            await it.order(f"order-{number}")
        poison = (await it.rows("order-11"))[0].event_id.encode()
        it.sandbox.rokt.answers(
            400,
            body={"data": {"code": "RequestValidationError", "message": "no"}},
            times=None,
            when=lambda received: poison in received.text,
        )

        await it.drain()

        found = {row.order_id: row.state for row in await it.rows()}
        assert found.pop("order-11") == "dead"
        assert set(found.values()) == {"delivered"}
        assert it.sandbox.rokt.counted == 15


async def test_an_unknown_outcome_of_adrolls_money_is_held(tmp_path: Path) -> None:
    """The vendor may have counted it and cannot tell a repeat: a person decides."""
    async with world(tmp_path, AdRoll) as it:
        it.sandbox.adroll.answers(reset="after")
        await it.order()

        await it.drain()
        it.clock.passes(timedelta(hours=2))
        await it.drain()

        assert [(row.state, row.reason) for row in await it.rows()] == [("held", "outcome_unknown")]
        assert it.sandbox.adroll.counted == 1


async def test_an_unknown_outcome_is_sent_again_where_the_vendor_tells_repeats(tmp_path: Path) -> None:
    """Rokt counts the order once, though it arrived twice."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(reset="after")
        await it.order()

        await it.drain()
        it.clock.passes(timedelta(seconds=5))
        await it.drain()

        assert [row.state for row in await it.rows()] == ["delivered"]
        assert (len(it.sandbox.rokt.requests), it.sandbox.rokt.counted) == (2, 1)


async def test_a_destination_that_cannot_be_reached_costs_no_attempt(tmp_path: Path) -> None:
    """Connection refused is known not to have been sent."""
    clock = FrozenClock()
    made = make_kit(tmp_path, destinations=[rokt(base_url="http://127.0.0.1:9")], clock=clock)
    await made.report(Conversion(order_id="1", email="jane@example.com"))

    await made.worker.drain()

    row = (await made.store.read(told))[0]
    assert (row.state, row.attempts) == ("pending", 0)
    gate = (await asyncio.to_thread(standings, made.store))[0].gate
    assert gate is not None
    assert gate.state == "unreachable"
    made.store.close()


async def test_one_vendors_outage_is_not_anothers(tmp_path: Path) -> None:
    """AdRoll answers 500 for ever; Rokt and Rockerbox get every order."""
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as it:
        it.sandbox.adroll.answers(500, times=None)
        for number in range(10):
            await it.order(f"order-{number}")

        await it.drain()

        assert (it.sandbox.adroll.counted, it.sandbox.rokt.counted, it.sandbox.rockerbox.counted) == (0, 10, 10)


async def test_a_reason_not_to_send_is_kept_and_nothing_is_sent(tmp_path: Path) -> None:
    """No usable identifier: skipped, with the destination's reason."""
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as it:
        await it.kit.report(Conversion(order_id="nobody"))

        await it.drain()

        assert {row.destination: (row.state, row.reason) for row in await it.rows()} == {
            "adroll": ("skipped", "identifier"),
            "rokt": ("skipped", "identifier"),
            "rockerbox": ("skipped", "identifier"),
        }
        assert [len(vendor.requests) for vendor in it.sandbox.vendors] == [0, 0, 0]


async def test_what_the_pixel_reports_is_not_reported_twice(tmp_path: Path) -> None:
    """`pixel_reports={"purchase"}`: the page's pixel told AdRoll already."""
    async with world(tmp_path, AdRoll, adroll={"pixel_reports": frozenset({"purchase"})}) as it:
        await it.order()

        await it.drain()

        assert [(row.state, row.reason) for row in await it.rows()] == [("skipped", "pixel_reports")]


async def test_shadow_builds_and_records_and_sends_nothing(tmp_path: Path) -> None:
    """The payload is there to be looked at; the vendor got no request."""
    async with world(tmp_path, Rokt, rokt={"mode": "shadow", "public_key": "", "secret_key": ""}) as it:
        await it.order()

        await it.drain()

        row = (await it.rows())[0]
        assert (row.state, row.reason) == ("skipped", "shadow")
        assert b'"transactionid"' in (row.payload or b"")
        assert it.sandbox.rokt.requests == ()


async def test_a_test_conversion_never_leaves_shadow(tmp_path: Path) -> None:
    """`Conversion(test=True)` is built and recorded by a live destination, and not sent."""
    async with world(tmp_path, Rokt) as it:
        await it.order(test=True)

        await it.drain()

        assert [(row.state, row.reason) for row in await it.rows()] == [("skipped", "shadow")]
        assert it.sandbox.rokt.requests == ()


async def test_consent_withdrawn_after_the_order_stops_what_was_not_sent(tmp_path: Path) -> None:
    """The newest decision counts at sending."""
    async with world(tmp_path, Rokt) as it:
        await it.order()
        no = Consent(granted=False, signal="page", at=NOON + timedelta(seconds=1))
        await it.kit.store.write(people.keep_decisions, (VISITOR, no))

        await it.drain()

        assert [(row.state, row.reason) for row in await it.rows()] == [("skipped", "consent")]
        assert it.sandbox.rokt.requests == ()


async def test_a_dead_delivery_is_sent_when_a_person_says_so(tmp_path: Path) -> None:
    """`kit replay` by order: once, with the same bytes; a second press does nothing."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(400)
        await it.order()
        await it.drain()
        assert [row.state for row in await it.rows()] == ["dead"]

        asked = Replay(order_id="order-1", now=it.clock())
        pressed = [await asyncio.to_thread(replay, it.kit.store, asked) for _ in range(2)]
        await it.drain()

        assert pressed == [1, 0]
        assert [row.state for row in await it.rows()] == ["delivered"]
        first, second = it.sandbox.rokt.requests
        assert first.body == second.body


async def test_a_claim_of_a_worker_that_vanished_lapses_and_is_taken_over(tmp_path: Path) -> None:
    """After the lease a claimed delivery is free; one with an open attempt has an unknown outcome."""
    async with world(tmp_path, Rokt) as it:
        await it.order("claimed")
        await it.order("opened")
        asked = Claim(destination="rokt", limit=10, owner="gone", lease=timedelta(seconds=70), now=it.clock())
        lost = await it.kit.store.write(claim, asked)
        opened = next(one for one in lost if one.conversion.order_id == "opened")
        await it.kit.store.write(
            open_attempts,
            Opening(destination="rokt", deliveries=(opened,), payloads={opened.delivery_id: b"{}"}, now=it.clock()),
        )

        it.clock.passes(timedelta(seconds=69))
        await it.kit.worker.free_lapsed()
        assert {row.state for row in await it.rows()} == {"claimed"}
        it.clock.passes(timedelta(seconds=2))
        await it.kit.worker.free_lapsed()

        found = {row.order_id: row for row in await it.rows()}
        assert {row.state for row in found.values()} == {DeliveryState.PENDING}
        assert (found["claimed"].attempts, found["opened"].attempts) == (0, 1)


async def test_a_refund_never_overtakes_its_purchase(tmp_path: Path) -> None:
    """While the purchase waits for a retry, its refund waits with it; then both go, in their order (I11)."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(503)
        await it.order("order-1")
        await it.drain()
        await it.order("order-1", name="refund", value="-19.90")
        await it.order("order-2")

        await it.drain()
        assert it.sandbox.rokt.orders == {"order-2": 1}
        it.clock.passes(timedelta(seconds=5))
        await it.drain()

        sent = [(event["eventType"]) for request in it.sandbox.rokt.requests for event in request.accepted]
        assert sent == ["conversion", "conversion", "refund"]


async def test_an_operator_stops_a_destination_and_lets_it_go_on(tmp_path: Path) -> None:
    """Orders are accepted and wait; no answer of the vendor's opens that gate, only the operator does."""
    async with world(tmp_path, Rokt, Rockerbox) as it:
        await it.kit.store.write(pause, Pause(destination="rokt", reason="a new account", now=it.clock()))
        await it.order()

        await it.drain()
        it.clock.passes(timedelta(days=1))
        await it.drain()
        assert (it.sandbox.rokt.counted, it.sandbox.rockerbox.counted) == (0, 1)

        assert await it.kit.store.write(resume, "rokt") is True
        await it.drain()
        assert it.sandbox.rokt.counted == 1


@pytest.mark.parametrize(("delivered", "counted"), [(True, 1), (False, 2)])
async def test_a_person_decides_about_what_is_held(tmp_path: Path, delivered: bool, counted: int) -> None:
    """Marked delivered it is never sent; marked to resend it is sent once more, with the same bytes."""
    async with world(tmp_path, AdRoll) as it:
        it.sandbox.adroll.answers(reset="after")
        await it.order()
        await it.drain()
        asked = Resolve(order_id="order-1", destination="adroll", delivered=delivered, now=it.clock())

        numbers = [await it.kit.store.write(resolve, asked) for _ in range(2)]
        await it.drain()

        assert numbers == [1, 0]
        assert it.sandbox.adroll.counted == counted
        assert [row.state for row in await it.rows()] == ["delivered"]
        assert len({request.body for request in it.sandbox.adroll.requests}) == 1


async def test_a_neighbours_answer_does_not_shorten_what_a_vendor_asked_for(tmp_path: Path) -> None:
    """429 for an hour on one order, 500 and 200 on those under way beside it: nothing is sent for that hour."""
    async with world(tmp_path, Rockerbox) as it:
        # Several go side by side once one was judged.
        await it.order("first")
        await it.drain()
        for number in range(3):
            await it.order(f"order-{number}")
        it.sandbox.rockerbox.answers(429, headers={"retry-after": "3600"})
        it.sandbox.rockerbox.answers(500, delay=0.2)
        it.sandbox.rockerbox.answers(delay=0.3)
        await it.drain()

        it.clock.passes(timedelta(minutes=59))
        await it.drain()

        assert len(it.sandbox.rockerbox.requests) == 4
        gate = (await it.standing()).gate
        assert gate is not None
        assert gate.until >= NOON + timedelta(hours=1)


async def test_a_probe_that_is_not_sent_hands_the_gate_back(tmp_path: Path) -> None:
    """After a pause the first deliveries turn out to lack identifiers: the ones behind them do not wait for that."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(401)
        await it.order("first")
        await it.drain()
        for number in range(20):
            await it.kit.report(Conversion(order_id=f"nobody-{number}"))
        await it.order("last")

        it.clock.passes(timedelta(minutes=16))
        await it.drain()

        assert it.sandbox.rokt.counted == 2


async def test_switching_to_shadow_ends_a_pause(tmp_path: Path) -> None:
    """What sends nothing is held back by nobody: the backlog is looked at in one go."""
    async with world(tmp_path, Rokt) as it:
        it.sandbox.rokt.answers(401)
        for number in range(30):
            await it.order(f"order-{number}")
        await it.drain()
        shadow = make_kit(tmp_path, destinations=[rokt(mode="shadow")], clock=it.clock)

        await shadow.worker.drain()

        shadow.store.close()
        assert {(row.state, row.reason) for row in await it.rows()} == {("skipped", "shadow")}


async def test_a_large_backlog_of_skipped_deliveries_is_no_deep_recursion(tmp_path: Path) -> None:
    """Two thousand orders without identifiers: each is skipped, none is dead."""
    async with world(tmp_path, Rokt) as it:
        await asyncio.gather(*(it.kit.report(Conversion(order_id=f"nobody-{n}")) for n in range(2_000)))

        await it.drain()

        assert (await it.standing()).counts == {("skipped", "identifier"): 2_000}


async def test_a_bad_moment_of_the_vendor_leaves_batches_whole(tmp_path: Path) -> None:
    """503 says nothing about a batch's size: the retry carries all of it."""
    async with world(tmp_path, Rokt) as it:
        for number in range(8):
            await it.order(f"order-{number}")
        it.sandbox.rokt.answers(503, times=2)
        await it.drain()
        it.clock.passes(timedelta(minutes=1))
        await it.drain()
        it.clock.passes(timedelta(minutes=1))

        await it.drain()

        assert [len(request.events) for request in it.sandbox.rokt.requests] == [8, 8, 8]


async def test_what_is_learnt_while_a_delivery_is_claimed_is_in_its_body(tmp_path: Path) -> None:
    """The thank-you page comes between the claim and the first attempt: the attempt waits for the newer event."""
    async with world(tmp_path, Rokt) as it:
        await it.kit.report(Conversion(order_id="order-1", value="19.90", currency="USD", email="jane@example.com"))
        lane = Lane(
            it.kit.destinations[0],
            store=it.kit.store,
            may_send=it.kit.intake.may_keep,
            clock=it.clock,
            dice=lambda: 0.5,
            owner="this test",
        )
        claimed = await lane.claim()
        await it.order("order-1", coupon="AUTUMN")

        for batch in claimed:
            await lane.send(batch)
        await lane.aclose()
        sent_early = len(it.sandbox.rokt.requests)
        await it.drain()

        assert sent_early == 0
        assert b"rokt-click" in it.sandbox.rokt.requests[0].body


async def test_what_is_learnt_while_a_delivery_is_being_skipped_is_not_lost(tmp_path: Path) -> None:
    """Found to lack an identifier, and meanwhile the repeat brought one: it is looked at again and sent."""
    async with world(tmp_path, Rokt) as it:
        await it.kit.report(Conversion(order_id="order-1", value="19.90", currency="USD"))
        asked = Claim(destination="rokt", limit=10, owner="this test", lease=timedelta(seconds=70), now=it.clock())
        claimed = (await it.kit.store.write(claim, asked))[0]
        await it.order("order-1")
        skipped = Settlement(
            delivery_id=claimed.delivery_id,
            token=claimed.token,
            state=DeliveryState.SKIPPED,
            reason="identifier",
            curable=True,
            revision=claimed.revision,
        )

        closing = Closing(destination="rokt", attempt=None, outcome="not_sent", settlements=(skipped,), now=it.clock())
        await it.kit.store.write(close, closing)
        await it.drain()

        assert [row.state for row in await it.rows()] == ["delivered"]


async def test_stopping_hands_back_what_waits_for_a_slot(tmp_path: Path) -> None:
    """SIGTERM among thirty orders to a slow vendor: what is under way ends, the rest is pending again."""
    async with world(tmp_path, AdRoll, worker=True) as it:
        it.sandbox.adroll.answers(delay=0.5, times=None)
        for number in range(30):
            await it.order(f"order-{number}")
        running = asyncio.create_task(it.kit.worker.run())
        await eventually(lambda: len(it.sandbox.adroll.requests) > 0)

        it.kit.worker.stop()
        async with asyncio.timeout(5):
            await running

        found = [row.state for row in await it.rows()]
        assert set(found) == {"delivered", "pending"}
        assert found.count("delivered") == it.sandbox.adroll.counted <= 8


async def test_a_replay_asks_again_whether_it_may_be_sent(tmp_path: Path) -> None:
    """What shadow recorded is no frozen body: live, the event is checked and built anew."""
    shadow = make_kit(tmp_path, destinations=[rokt(mode="shadow")])
    await shadow.report(Conversion(order_id="order-1", email="jane@example.com"))
    await shadow.worker.drain()
    shadow.store.close()
    async with world(tmp_path, Rokt, rokt={"hashing": "raw"}) as it:
        it.clock.passes(datetime.now(UTC) - NOON)
        asked = Replay(state=DeliveryState.SKIPPED, reason="shadow", now=it.clock())
        await asyncio.to_thread(replay, it.kit.store, asked)

        await it.drain()

        assert b"jane@example.com" in it.sandbox.rokt.requests[0].body


async def test_an_error_in_a_shops_destination_leaves_no_value_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where it arose is logged, never its text."""

    class Leaky(Rockerbox):
        def payload(self, dispatch: Any, *, now: Any) -> Any:
            raise ValueError(f"cannot send {dispatch.conversion.email}")

    made = make_kit(tmp_path, destinations=[Leaky(advertiser="x", name="leaky")])
    await made.report(Conversion(order_id="1", email="jane@example.com"))

    await made.worker.drain()

    made.store.close()
    assert "jane@example.com" not in caplog.text
    assert "ValueError in payload" in str([record.__dict__ for record in caplog.records])


async def test_the_event_loop_has_its_turn_while_a_backlog_is_looked_at(tmp_path: Path) -> None:
    """A worker on the shop's own loop builds ten bodies at a stretch, of however many it claimed at once."""
    turns, built_in = 0, Counter[int]()

    class Counting(Rockerbox):
        def payload(self, dispatch: Any, *, now: Any) -> Any:
            built_in[turns] += 1
            return Rockerbox.payload(self, dispatch, now=now)

    async def spin() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    made = make_kit(tmp_path, destinations=[Counting(mode="shadow")])
    await asyncio.gather(
        *(made.report(Conversion(order_id=str(number), email="j@example.com")) for number in range(35))
    )
    spinning = asyncio.create_task(spin())
    await made.worker.drain()
    spinning.cancel()

    made.store.close()
    assert sum(built_in.values()) == 35
    assert max(built_in.values()) <= 10


async def test_an_event_that_cannot_be_read_holds_nobody_up(tmp_path: Path) -> None:
    """A row that somebody edited by hand is dead with its reason; the others of its claim are delivered."""
    broken = events.update().where(events.c.order_id == "order-2").values(conversion='{"value": "much"}')

    def breaks(connection: Connection, asked: Sequence[None]) -> Sequence[None]:
        connection.execute(broken)
        return asked

    async with world(tmp_path, Rokt) as it:
        for number in (1, 2, 3):
            await it.order(f"order-{number}")
        await it.kit.store.write(breaks, None)
        await it.drain()

        query = select(events.c.order_id, deliveries.c.state, deliveries.c.reason).join_from(events, deliveries)
        found = await it.kit.store.read(lambda connection: connection.execute(query.order_by(events.c.id)).all())
        assert found == [
            ("order-1", "delivered", None),
            ("order-2", "dead", "unmappable"),
            ("order-3", "delivered", None),
        ]


async def test_a_lifespan_that_ends_at_once_ends(tmp_path: Path) -> None:
    """A server that fails while starting: the stop that comes before the worker's first step is heard."""
    async with world(tmp_path, Rokt, worker=True) as it:
        async with asyncio.timeout(10):
            async with it.kit.lifespan():
                pass


async def test_two_workers_never_send_one_delivery_twice(tmp_path: Path) -> None:
    """Forty orders, two workers at once: every order once."""
    async with world(tmp_path, Rockerbox) as it:
        for number in range(40):
            await it.order(f"order-{number}")
        other = make_kit(tmp_path, destinations=it.kit.destinations, clock=it.clock)

        await asyncio.gather(it.drain(), other.worker.drain())

        other.store.close()
        assert len(it.sandbox.rockerbox.requests) == it.sandbox.rockerbox.counted == 40


async def test_a_delivery_of_a_destination_no_longer_configured_stays_and_is_shown(tmp_path: Path) -> None:
    """Nothing is dropped because a line was taken out of the settings."""
    first = make_kit(tmp_path, destinations=[rokt(), rockerbox()])
    await first.report(Conversion(order_id="1", email="jane@example.com"))
    first.store.close()

    second = make_kit(tmp_path, destinations=[rokt(mode=Mode.SHADOW)])
    await second.worker.drain()

    counts = {one.destination: one.counts for one in await asyncio.to_thread(standings, second.store)}
    assert counts == {"rokt": {("skipped", "shadow"): 1}, "rockerbox": {("pending", None): 1}}
    second.store.close()


async def test_a_destination_whose_code_fails_ends_its_delivery_and_not_the_worker(tmp_path: Path) -> None:
    """A shop's own destination that raises: dead(unmappable), and the next destination is served."""

    class Broken(Rockerbox):
        def payload(self, dispatch: Any, *, now: Any) -> Any:
            raise KeyError("a bug of the shop's own")

    made = make_kit(tmp_path, destinations=[Broken(advertiser="x", name="broken")])
    await made.report(Conversion(order_id="1", email="jane@example.com"))
    logging.getLogger("kit").setLevel(logging.CRITICAL)

    await made.worker.drain()

    logging.getLogger("kit").setLevel(logging.NOTSET)
    row = (await made.store.read(told))[0]
    assert (row.state, row.reason, row.detail) == ("dead", "unmappable", "KeyError")
    made.store.close()


async def test_one_delivery_that_cannot_be_built_does_not_take_its_neighbours_along(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A batch that raises is tried one by one: dead(unmappable) is only the one that is to blame."""

    class Choosy(Rokt):
        def build(self, sendings: Any) -> Any:
            if any(sending.order_id == "order-3" for sending in sendings):
                raise KeyError("a bug of the shop's own")
            return super().build(sendings)

    async with world(tmp_path, Rokt) as it:
        choosy = Choosy(
            account="sandbox-account",
            public_key="rpub-sandbox",
            secret_key="rsec-sandbox",
            base_url=it.kit.destinations[0].base_url,  # type: ignore[attr-defined]
        )
        for number in range(6):
            await it.order(f"order-{number}")
        other = make_kit(tmp_path, destinations=[choosy], clock=it.clock)

        await other.worker.drain()

        other.store.close()
        found = {row.order_id: (row.state, row.reason) for row in await it.rows()}
        assert found.pop("order-3") == ("dead", "unmappable")
        assert set(found.values()) == {("delivered", None)}
        assert "KeyError in build" in str([record.__dict__ for record in caplog.records])


async def test_the_lifespan_delivers_while_the_app_runs_and_stops_cleanly(tmp_path: Path) -> None:
    """Mounted with `lifespan=attribution.lifespan`, an order is on its way without anything else running."""
    async with world(tmp_path, Rokt, worker=True) as it:
        async with it.kit.lifespan():
            await it.order()
            await eventually(lambda: it.sandbox.rokt.counted == 1)

        assert it.sandbox.rokt.counted == 1


@pytest.mark.parametrize("secret", ["sandbox-token", "rsec-sandbox", "jane@example.com", FPC])
async def test_no_secret_reaches_a_log(tmp_path: Path, caplog: pytest.LogCaptureFixture, secret: str) -> None:
    """With every logger at DEBUG, orders sent, refused and reset leave no token, e-mail or cookie behind."""
    caplog.set_level(logging.DEBUG)
    async with world(tmp_path, AdRoll, Rokt, Rockerbox) as it:
        said = it.sandbox.rokt if secret.startswith("rsec") else it.sandbox.adroll
        said.answers(400, body={"data": {"message": f"bad {secret}"}})
        it.sandbox.rockerbox.answers(reset="after")
        await it.order()
        await it.drain()

        assert secret not in caplog.text
        assert all(secret not in (row.detail or "") for row in await it.rows())


async def test_a_worker_lets_go_of_what_was_kept_for_long_enough(tmp_path: Path) -> None:
    """Without anybody asking: a week after its delivery the body that was sent is gone."""
    async with world(tmp_path, Rockerbox) as it:
        await it.order()
        await it.drain()
        it.clock.passes(timedelta(days=8))
        running = asyncio.create_task(it.kit.worker.run())

        async def scrubbed() -> bool:
            return (await it.rows())[0].payload is None

        await eventually(scrubbed)
        it.kit.worker.stop()
        await running
        assert (await it.rows())[0].state == DeliveryState.DELIVERED


async def test_an_outage_of_the_store_is_said_once_a_minute(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not once a second for each lane: an operator who looks at the log after a night finds a page, not a book."""
    async with world(tmp_path, Rockerbox, Rokt) as it:
        steady = FrozenSteady()
        worker = worker_of(it, steady)

        async def away() -> None:
            raise StoreUnavailable("it is away")

        async def tried() -> int:
            await asyncio.gather(*(worker._guarded(away()) for _ in range(5)))
            return sum("does not answer" in record.message for record in caplog.records)

        assert await tried() == 1
        steady.passes(timedelta(minutes=1))
        assert await tried() == 2
