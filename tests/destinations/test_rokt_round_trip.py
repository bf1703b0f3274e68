"""Rokt's surfaces against the strict sandbox: two readings of contracts.md, and a real worker over real sockets."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from kit import Conversion
from kit.destinations import Rokt
from kit.destinations.base import Answer, Judgement, Sending, Token
from kit.model import ClickId, Dispatch, Identifiers, Verdict
from kit.sandbox import Credentials, Sandbox
from kit.sandbox.rokt_conversions import Locates
from kit.store import people
from kit.store.overview import Told
from kit.store.tables import attempts, deliveries, gates
from tests.delivery.world import GRANTED, VISITOR, World
from tests.support import FrozenClock, make_kit

from .dispatch_samples import NOW, dispatch, golden, sending
from .rokt_samples import CLICK, conversions, table, v1, v2
from .test_rokt_properties import HASHINGS, dispatches

ACCOUNT = Credentials(
    rokt_account="12345",
    rokt_public_key="rpub-1111",
    rokt_secret_key="rsec-2222",
    rokt_app_id="app-id-1",
    rokt_app_secret="app-secret-1",
    rokt_api_key="key-1",
    rokt_api_secret="secret-1",
)
SURFACES = {"v2": v2, "v1": v1, "conversions": conversions}


# ---------------------------------------------------------------- without a socket, at the vendor's own host names


def ask(destination: Rokt, sendings: Sequence[Sending]) -> Sequence[Judgement]:
    """Send to a fresh sandbox at the address that the request names, and judge its answer."""
    transport = Sandbox(ACCOUNT, clock=lambda: NOW).transport()

    async def exchange() -> Answer:
        async with httpx.AsyncClient(transport=transport) as client:
            request = destination.build(sendings)
            if destination.authentication is not None:
                response = await client.send(destination.authentication.ask())
                token = destination.authentication.read(
                    Answer(status=response.status_code, body=response.content), now=NOW
                )
                assert isinstance(token, Token)
                destination.authentication.sign(request, token)
            response = await client.send(request)
        return Answer(status=response.status_code, headers=response.headers, body=response.content)

    return destination.judge(sendings, asyncio.run(exchange()), now=NOW)


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
@pytest.mark.parametrize("name", ["RK-1", "RK-3"])
def test_the_vectors_are_taken(make: Any, name: str) -> None:
    """Every golden dispatch passes the strict checks of each surface."""
    told = golden(name).told

    assert [judgement.verdict for judgement in ask(make(), [sending(make(), told)])] == [Verdict.OK]


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
@settings(max_examples=30, deadline=None)
@given(told=dispatches(), hashing=st.sampled_from(HASHINGS), postback=st.booleans(), number=st.booleans())
def test_what_passes_check_is_taken(make: Any, told: Dispatch, hashing: Any, postback: bool, number: bool) -> None:
    """Whatever check lets through, the vendor's documented rules take, whichever way it goes."""
    of_batches = {"amount_as": "number"} if number and make is conversions else {}
    destination = make(account="12345", hashing=hashing, postback=postback, **of_batches)
    if destination.check(told, now=NOW) is None:
        (judgement,) = ask(destination, [sending(destination, told)])
        assert judgement.verdict is Verdict.OK, judgement.detail


@pytest.mark.parametrize("make", [v2, conversions])
def test_a_full_batch_is_taken(make: Any) -> None:
    """A hundred orders in one request."""
    orders = [dispatch({"name": "purchase", "order_id": str(n)}, event_id=f"o{n}", email="a@b.co") for n in range(100)]
    judgements = ask(make(), [sending(make(), told, number=place) for place, told in enumerate(orders)])

    assert Counter(one.verdict for one in judgements) == {Verdict.OK: 100}


# ---------------------------------------------------------------- a worker, over sockets


@asynccontextmanager
async def shop(folder: Path, make: Any, *, sandbox: Sandbox | None = None, **given: Any) -> AsyncIterator[World]:
    clock = FrozenClock()
    served = sandbox or Sandbox(ACCOUNT, clock=clock)
    async with served.serving() as vendors:
        url = vendors.rokt_conversions_url if make is conversions else vendors.rokt_url
        destination = make(account="12345", base_url=url, postback_url=vendors.rokt_url, **given)
        made = make_kit(folder, destinations=[destination], clock=clock)
        made.open()
        try:
            yield World(made, served, clock)
        finally:
            made.store.close()


async def report(it: World, number: int, **fields: Any) -> None:
    given = {"value": "19.90", "currency": "USD", **fields}
    for n in range(number):
        await it.kit.report(Conversion(order_id=f"order-{n}", email=f"{n}@example.com", **given))


async def later(it: World, times: int = 1) -> None:
    """Let so many retries come due, one after the other."""
    for _ in range(times):
        it.clock.passes(timedelta(minutes=20))
        await it.drain()


async def states(it: World) -> Counter[str]:
    return Counter(row.state for row in await it.rows())


async def only(it: World) -> Told:
    (row,) = await it.rows()
    return row


async def attempts_of(it: World) -> dict[str, int]:
    return {str(row.order_id): row.attempts for row in await it.rows()}


async def stored_text(it: World) -> str:
    """Return everything that the store keeps of deliveries, attempts and gates."""
    queries = [select(table) for table in (deliveries, attempts, gates)]
    return str(await it.kit.store.read(lambda connection: [connection.execute(query).all() for query in queries]))


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
async def test_orders_are_delivered_once_by_each_surface(make: Any, tmp_path: Path) -> None:
    """The shop's code is the same; only the credentials differ."""
    async with shop(tmp_path, make) as it:
        await report(it, 5)
        await it.drain()

        view = (it.sandbox.rokt_conversions if make is conversions else it.sandbox.rokt).view
        assert await states(it) == {"delivered": 5}
        assert (view.counted, view.orders, view.money, view.refused) == (5, 5, {"USD": Decimal("99.50")}, 0)


@pytest.mark.parametrize("row", [row for row in table("RK-4") if "requests" in row], ids=lambda row: row["case"])
async def test_many_events_are_as_many_requests_as_the_table_says(row: dict[str, Any], tmp_path: Path) -> None:
    """RK-4: a worker takes them together, and no event is left behind."""
    async with shop(tmp_path, v2) as it:
        await report(it, row["events"])
        await it.drain()

        sizes = [len(json.loads(request.text)["events"]) for request in it.sandbox.rokt.requests]
        assert sizes == row["requests"]
        assert it.sandbox.rokt.view.counted == row["events"]


async def test_what_was_left_out_stands_with_the_delivery(tmp_path: Path) -> None:
    """9.0's "omitted, warning": delivered, and the detail says what is wanting, without a word of the person's."""
    async with shop(tmp_path, v2) as it:
        await report(it, 1, phone="+44 20 7946 0018", payment_type="paypal jane@example.com")
        await it.drain()

        row = await only(it)
        assert (row.state, row.detail) == (
            "delivered",
            "HTTP 200; phone left out: not ten digits; an e-mail address is not told in payment_type",
        )


async def test_one_token_serves_many_events(tmp_path: Path) -> None:
    """Forty orders, one request each, one token."""
    async with shop(tmp_path, v1) as it:
        await report(it, 40)
        await it.drain()

        assert len(it.sandbox.rokt_token.requests) == 1
        assert {request.path for request in it.sandbox.rokt.requests} == {"/v1/events"}
        assert await states(it) == {"delivered": 40}
        assert len({request.headers["idempotency-key"] for request in it.sandbox.rokt.requests}) == 40


async def test_a_token_that_ends_early_costs_one_refresh_and_no_attempt(tmp_path: Path) -> None:
    """401 with a token that had been good: another is asked for at once, and the delivery's budget is untouched."""
    async with shop(tmp_path, v1) as it:
        await report(it, 1)
        await it.drain()
        it.sandbox.rokt.expire_tokens()
        await it.kit.report(Conversion(order_id="late", email="late@example.com"))
        await it.drain()

        assert len(it.sandbox.rokt_token.requests) == 2
        assert [request.status for request in it.sandbox.rokt.requests] == [200, 401, 200]
        assert await attempts_of(it) == {"order-0": 1, "late": 1}
        assert (await it.standing()).gate is None


@pytest.mark.parametrize(
    ("fault", "state"),
    [
        ({"status": 500, "body": "app-secret-1"}, "failing"),
        ({"status": 403, "body": {"error": "app-id-1 app-secret-1"}}, "paused"),
        ({"status": 200, "body": "<html>app-secret-1</html>"}, "paused"),
        ({"status": 200, "body": {"token_type": "Bearer"}}, "paused"),
        ({"status": 429, "retry_after": 60}, "throttled"),
        ({"close": True}, "unreachable"),
    ],
)
async def test_without_a_token_the_destination_waits(
    tmp_path: Path, fault: Any, state: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing of the orders is sent or burnt, no secret is kept or logged, and mended they are delivered."""
    caplog.set_level(logging.DEBUG)
    async with shop(tmp_path, v1) as it:
        it.sandbox.rokt_token.answers(times=None, **fault)
        await report(it, 3)
        await it.drain()
        await it.drain()

        gate = (await it.standing()).gate
        assert gate is not None
        assert (gate.state, it.sandbox.rokt.requests) == (state, ())
        assert set((await attempts_of(it)).values()) == {0}
        assert len(it.sandbox.rokt_token.requests) == 1
        kept = caplog.text + str([record.__dict__ for record in caplog.records]) + await stored_text(it)
        assert not any(secret in kept for secret in ("app-secret-1", "app-id-1", "YXBwLWlkLTE6"))

        it.sandbox.rokt_token.clear_faults()
        await later(it, 2)
        assert await states(it) == {"delivered": 3}


@pytest.mark.parametrize("lifetime", [0, -1, 1e12, "soon"])
async def test_a_lifetime_that_cannot_be_does_not_ask_for_each_event(tmp_path: Path, lifetime: object) -> None:
    """The token serves, and is asked for once."""
    async with shop(tmp_path, v1) as it:
        await report(it, 1)
        await it.drain()
        (issued,) = it.sandbox.rokt_token.requests
        assert issued.status == 200
        it.sandbox.rokt_token.answers(200, body={"access_token": "unknown", "expires_in": lifetime}, times=None)
        it.sandbox.rokt.answers(200, body={"data": {}}, times=None)
        again = make_kit(tmp_path, destinations=it.kit.destinations, clock=it.clock)
        again.open()
        try:
            for n in range(6):
                await again.report(Conversion(order_id=f"more-{n}", email="a@b.co"))
            await again.worker.drain()
        finally:
            again.store.close()

        assert len(it.sandbox.rokt_token.requests) == 2


async def test_no_secret_is_logged_or_stored_when_events_are_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the vendor repeats what it was sent."""
    caplog.set_level(logging.DEBUG)
    async with shop(tmp_path, v1) as it:
        await report(it, 1)
        it.sandbox.rokt.answers(400, body={"data": {"code": "X", "message": "app-id-1 app-secret-1 0@example.com"}})
        await it.drain()

        kept = caplog.text + str([record.__dict__ for record in caplog.records]) + await stored_text(it)
        assert not any(secret in kept for secret in ("app-secret-1", "app-id-1", "0@example.com"))
        assert (await only(it)).state == "dead"


# ---------------------------------------------------------------- the three histories of a 409


async def test_a_lost_answer_is_settled_by_the_same_key(tmp_path: Path) -> None:
    """The event counted and its answer was lost: the repeat has the same key, and 409 says delivered."""
    async with shop(tmp_path, v1) as it:
        it.sandbox.rokt.answers(reset="after")
        await report(it, 1)
        await it.drain()
        await later(it)

        first, second = it.sandbox.rokt.requests
        assert second.headers["idempotency-key"] == first.headers["idempotency-key"]
        assert (second.status, first.body == second.body) == (409, True)
        assert ((await only(it)).state, it.sandbox.rokt.counted) == ("delivered", 1)


async def test_a_failure_is_tried_again_with_another_key(tmp_path: Path) -> None:
    """A 500 that had registered the key proves nothing: the repeat has another key and the same order id."""
    async with shop(tmp_path, v1) as it:
        it.sandbox.rokt.answers(500, counts=True)
        await report(it, 1)
        await it.drain()
        await later(it)

        first, second = it.sandbox.rokt.requests
        assert first.headers["idempotency-key"] != second.headers["idempotency-key"]
        assert second.status == 200
        assert ((await only(it)).state, it.sandbox.rokt.counted) == ("delivered", 1)


async def test_a_conflict_out_of_nowhere_is_a_collision(tmp_path: Path) -> None:
    """A key that nobody used before: the order is not called delivered, and a person is shown why."""
    async with shop(tmp_path, v1) as it:
        it.sandbox.rokt.answers(409, counts=False)
        await report(it, 1)
        await it.drain()

        row = await only(it)
        assert (row.state, row.reason) == ("dead", "rejected")
        assert str(row.detail).startswith("idempotency_collision")


# ---------------------------------------------------------------- bulk


@pytest.mark.parametrize("locates", ["both", "path", "position", "nothing"])
async def test_one_bad_batch_of_many_dies_alone(tmp_path: Path, locates: Locates) -> None:
    """However the vendor says where: the bad one is refused alone, the others count once."""
    clock = FrozenClock()
    sandbox = Sandbox(ACCOUNT, clock=clock, rokt_conversions_locates=locates)
    async with shop(tmp_path, conversions, sandbox=sandbox) as it:
        await report(it, 6)
        sandbox.rokt_conversions.answers(refuse={"order-3"}, times=None)
        await it.drain()
        await later(it)

        rows = {str(row.order_id): row.state for row in await it.rows()}
        assert rows == dict.fromkeys((f"order-{n}" for n in (0, 1, 2, 4, 5)), "delivered") | {"order-3": "dead"}
        assert (sandbox.rokt_conversions.counted, sandbox.rokt_conversions.view.more_than_once) == (5, {})
        paths = [request.path for request in sandbox.rokt_conversions.requests]
        assert paths == ["/v2/bulkevents"] + ["/v2/events"] * (6 if locates == "nothing" else 1)


async def test_a_request_is_no_larger_than_256_kib(tmp_path: Path) -> None:
    """What would be too much at once goes in several requests, each with whole batches."""
    async with shop(tmp_path, conversions) as it:
        await report(it, 10, extra={"note": "x" * 60_000})
        await it.drain()

        requests = it.sandbox.rokt_conversions.requests
        assert await states(it) == {"delivered": 10}
        assert [len(request.events) for request in requests] == [4, 4, 2]
        assert max(len(request.body) for request in requests) <= 262_144


async def test_one_refused_record_of_v2_dies_alone(tmp_path: Path) -> None:
    """A 200 that hides a refusal loses nothing else."""
    async with shop(tmp_path, v2) as it:
        await report(it, 4)
        it.sandbox.rokt.answers(refuse={"order-2"})
        await it.drain()

        assert {str(row.order_id): row.state for row in await it.rows()}["order-2"] == "dead"
        assert (await states(it), it.sandbox.rokt.counted) == ({"delivered": 3, "dead": 1}, 3)


# ---------------------------------------------------------------- postback


async def by_click(it: World) -> None:
    """Report an order of whose buyer only the click is known."""
    found = Identifiers(visitor=VISITOR, click_ids=(ClickId("rokt", CLICK, it.clock.now),))
    link = people.OrderLink(order_id="by-click", identifiers=found, consent=GRANTED)
    await it.kit.store.write(people.keep_orders, link)
    await it.kit.report(Conversion(order_id="by-click", value="5.00", currency="USD"))


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
async def test_a_click_id_alone_goes_by_postback(make: Any, tmp_path: Path) -> None:
    """Beside orders that are known better, each goes its own way, and the strict sandbox takes both."""
    async with shop(tmp_path, make, postback=True) as it:
        await report(it, 2)
        await by_click(it)
        await it.drain()

        (request,) = it.sandbox.rokt_postback.requests
        assert dict(request.query) == {"id": "12345", "passbackconversiontrackingid": CLICK}
        assert await states(it) == {"delivered": 3}


async def test_a_lost_answer_to_a_postback_is_held(tmp_path: Path) -> None:
    """Rokt could not tell its repeat, so a person decides."""
    async with shop(tmp_path, v2, postback=True) as it:
        it.sandbox.rokt_postback.answers(reset="after")
        await by_click(it)
        await it.drain()
        await later(it)

        assert ((await only(it)).state, len(it.sandbox.rokt_postback.requests)) == ("held", 1)


async def test_a_sandboxs_postback_stays_in_the_sandbox(tmp_path: Path) -> None:
    """A base_url on this machine is a sandbox's: what is tried there is not told to Rokt itself."""
    clock = FrozenClock()
    sandbox = Sandbox(ACCOUNT, clock=clock)
    async with sandbox.serving() as vendors:
        tried = v2(account="12345", base_url=vendors.rokt_url, postback=True)
        kit = make_kit(tmp_path, destinations=[tried], clock=clock)
        await by_click(World(kit, sandbox, clock))
        await kit.worker.drain()
        kit.store.close()

    assert len(sandbox.rokt_postback.accepted) == 1


def test_the_postbacks_host_is_its_own() -> None:
    """The strict sandbox takes it at apps.rokt.com, without a credential."""
    for make in SURFACES.values():
        destination = make(account="12345", postback=True)
        told = dispatch(click_ids={"rokt": CLICK})

        assert [one.verdict for one in ask(destination, [sending(destination, told)])] == [Verdict.OK]


# ---------------------------------------------------------------- from one surface to another


@pytest.mark.parametrize("before", [v1, v2])
async def test_a_shop_that_switches_loses_no_order_under_way(before: Any, tmp_path: Path) -> None:
    """What was tried at one surface and not taken is told anew at the next: frozen bodies do not fit there."""
    async with shop(tmp_path, before) as it:
        it.sandbox.rokt.answers(401, times=None)
        await report(it, 3)
        await it.drain()
        url = it.sandbox.addresses.rokt_conversions_url
        after = make_kit(tmp_path, destinations=[conversions(base_url=url)], clock=it.clock)
        after.open()
        try:
            it.clock.passes(timedelta(minutes=20))
            await after.worker.drain()
            await after.worker.drain()
        finally:
            after.store.close()

        assert await states(it) == {"delivered": 3}
        assert it.sandbox.rokt_conversions.orders == {"order-0": 1, "order-1": 1, "order-2": 1}
