"""Audiences and deletions from the front door to the vendor: durable, in order, through faults and killed workers."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from kit import ConfigurationError, Conversion, InvalidInput, Kit, StoreFull
from kit.audiences import AudienceChange
from kit.destinations import Destination, Holdout, RoktAudience, RoktDeletion
from kit.model import Mode
from kit.sandbox import Addresses, Sandbox
from kit.store import limits
from kit.store.jobs import Cancelled, newest
from kit.store.limits import Limits, look
from kit.store.overview import Pause, Told, pause, resume, standings, told
from kit.store.retention import Retention, prune
from kit.store.tables import deliveries, events
from tests.faults.killed import begun, deliver_once, ended, killed_at_commit
from tests.support import KEY, STORES, FrozenClock, make_kit, rokt

PEOPLE = [f"customer-{number}@example.com" for number in range(25)]
KEYS = {"account": "sandbox-account", "public_key": "rpub-sandbox", "secret_key": "rsec-sandbox"}
APP = {"account": "sandbox-account", "app_id": "sandbox-app-id", "app_secret": "sandbox-app-secret"}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def audience(**fields: Any) -> RoktAudience:
    return RoktAudience(**{**KEYS, **fields})


def deletion(**fields: Any) -> RoktDeletion:
    return RoktDeletion(**{**APP, **fields})


def digests(people: list[str]) -> set[str]:
    return {hashlib.sha256(person.encode()).hexdigest() for person in people}


@dataclass
class Scene:
    """A kit with an audience of ten members a request and a deletion, their sandbox, and the clock of all of them."""

    kit: Kit
    sandbox: Sandbox
    clock: FrozenClock

    async def drain(self) -> None:
        await self.kit.worker.drain()

    async def passes(self, duration: timedelta) -> None:
        self.clock.passes(duration)
        await self.drain()

    async def told(self, order: str = "audience:L") -> list[Told]:
        return await self.kit.store.read(lambda connection: told(connection, order_id=order))

    async def states(self, order: str = "audience:L") -> list[str]:
        return [one.state for one in reversed(await self.told(order))]

    async def counts(self) -> dict[tuple[str, str | None], int]:
        return (await asyncio.to_thread(standings, self.kit.store))[0].counts

    async def details(self) -> list[tuple[str, str | None]]:
        found = await asyncio.to_thread(newest, self.kit.store, "data_deletion")
        return [(one.state, one.detail) for one in found]


@pytest.fixture
async def vendors() -> AsyncIterator[tuple[Sandbox, Addresses, FrozenClock]]:
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    async with sandbox.serving() as addresses:
        yield sandbox, addresses, clock


@pytest.fixture
def scene(tmp_path: Path, both_engines: None, vendors: tuple[Sandbox, Addresses, FrozenClock]) -> Any:
    sandbox, addresses, clock = vendors
    destinations: list[Destination] = [
        audience(base_url=addresses.rokt_url, chunk=10),
        deletion(base_url=addresses.rokt_url),
    ]
    made = make_kit(tmp_path, destinations=destinations, clock=clock)
    made.open()
    yield Scene(made, sandbox, clock)
    made.store.close()


# ---------------------------------------------------------------- what is accepted


async def test_a_change_is_counted_queued_and_delivered(scene: Scene) -> None:
    """Twenty-five to add and one to remove are four requests, in that order; the answer says what was not taken."""
    change = await scene.kit.audience("L", add=[*PEOPLE, "nobody", ""], remove=[PEOPLE[3]])

    assert (change.added, change.removed, change.held_out, change.accepted) == (25, 1, 0, 26)
    assert (change.refused, change.requests) == ({"no_address": 1, "blank": 1}, 4)
    assert await scene.states() == ["pending"] * 4
    await scene.drain()
    assert await scene.states() == ["delivered"] * 4
    assert scene.sandbox.rokt_audience.members("L") == digests(PEOPLE) - digests([PEOPLE[3]])
    assert (await scene.told())[0].name == "audience_exclude"
    assert not scene.sandbox.rokt_audience.refusals


async def test_who_is_added_and_removed_ends_outside(scene: Scene) -> None:
    """Of a call that says both, the removal has the last word."""
    await scene.kit.audience("L", remove=[PEOPLE[0]], add=[PEOPLE[0], PEOPLE[1]])
    await scene.drain()

    assert scene.sandbox.rokt_audience.members("L") == digests([PEOPLE[1]])


async def test_nobody_is_no_request(scene: Scene) -> None:
    """CA-5: an empty list queues nothing."""
    assert (await scene.kit.audience("L")).requests == 0
    assert await scene.states() == []


async def test_a_list_of_md5_digests_is_refused_with_the_reason(scene: Scene) -> None:
    """Where nobody can be taken the call fails, and says why and how many, never whom."""
    digest = "0cba00ca3da1b283a57287bcceb17e35"
    with pytest.raises(InvalidInput, match="2 × an MD5 digest, which Rokt does not take") as raised:
        await scene.kit.audience("L", add=[digest, digest])

    assert digest not in str(raised.value)
    assert await scene.states() == []


async def test_one_text_is_no_list(scene: Scene) -> None:
    """A string would be taken letter by letter."""
    with pytest.raises(InvalidInput, match="add: is one text"):
        await scene.kit.audience("L", add="jane@example.com")
    with pytest.raises(InvalidInput, match="emails: is one text"):
        await scene.kit.request_deletion("jane@example.com")


async def test_without_a_name_rokt_takes_its_default_list(scene: Scene) -> None:
    """No list is named to Rokt; here the order id names its own."""
    await scene.kit.audience(add=PEOPLE[:2])
    await scene.drain()

    assert scene.sandbox.rokt_audience.lists == {"AdvertiserDatabase": 2}
    assert await scene.states("audience:AdvertiserDatabase") == ["delivered"]


async def test_the_holdout_never_enters(tmp_path: Path, vendors: tuple[Sandbox, Addresses, FrozenClock]) -> None:
    """Its members leave the list in the same call, also who was on it before, and the answer says how many."""
    sandbox, addresses, clock = vendors
    holdout = Holdout(name="2026-q4", percent=20)
    spared = [person for person in PEOPLE if holdout.holds(person)]
    before = audience(name="before", base_url=addresses.rokt_url)
    sparing = audience(name="sparing", base_url=addresses.rokt_url, holdout=holdout)
    kit = make_kit(tmp_path, destinations=[before, sparing], clock=clock)
    await kit.audience("L", add=PEOPLE, destination="before")
    await kit.worker.drain()

    change = await kit.audience("L", add=PEOPLE, destination="sparing")
    await kit.worker.drain()
    kit.store.close()

    assert (change.added, change.held_out, change.requests) == (len(PEOPLE) - len(spared), len(spared), 2)
    assert spared
    assert sandbox.rokt_audience.members("L") == digests(PEOPLE) - digests(spared)


def test_code_without_an_event_loop_has_the_same_calls(tmp_path: Path) -> None:
    """`kit.sync`: the same numbers, and as durable."""
    kit = make_kit(tmp_path, destinations=[audience(), deletion()], clock=FrozenClock())

    change = kit.sync.audience("L", add=PEOPLE, remove=PEOPLE[:1])
    ids = kit.sync.request_deletion(PEOPLE[:1])
    answer = kit.sync.cancel_deletion(ids[0])
    found = kit.store.read_sync(lambda connection: told(connection))
    kit.store.close()

    assert isinstance(change, AudienceChange)
    assert (change.added, change.removed) == (25, 1)
    assert answer is Cancelled.HERE
    assert [one.state for one in found] == ["skipped", "pending", "pending"]


def test_several_destinations_must_be_told_apart(tmp_path: Path) -> None:
    """`destination=` is needed only then; an unknown name, and none of that kind at all, say what there is."""
    two: list[Destination] = [audience(name="us"), audience(name="uk")]
    kit = make_kit(tmp_path, destinations=two)

    with pytest.raises(InvalidInput, match="destination: is to be one of us, uk"):
        kit.sync.audience("L", add=PEOPLE)
    with pytest.raises(InvalidInput, match="destination: is to be one of us, uk"):
        kit.sync.audience("L", add=PEOPLE, destination="de")
    with pytest.raises(ConfigurationError, match="hold no RoktDeletion"):
        kit.sync.request_deletion(PEOPLE)
    kit.sync.audience("L", add=PEOPLE, destination="uk")
    found = kit.store.read_sync(lambda connection: told(connection))
    kit.store.close()
    assert {one.destination for one in found} == {"uk"}


async def test_conversions_go_to_no_audience(tmp_path: Path) -> None:
    """What a shop reports has deliveries for the destinations that take reports, and for no other."""
    kit = make_kit(tmp_path, destinations=[audience(), rokt(), deletion()])
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
    found = await kit.store.read(lambda connection: told(connection))
    kit.store.close()

    assert [one.destination for one in found] == ["rokt"]


async def test_a_full_store_takes_no_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a report may not add, a list may not either: past a limit the call says so, and nothing is queued."""
    monkeypatch.setattr(limits, "EVERY", 0.0)
    waiting = Limits(waiting=2, ballast_bytes=None)
    kit = make_kit(tmp_path, destinations=[audience(chunk=1)], limits=waiting)
    await kit.audience("L", add=PEOPLE[:3])
    await kit.store.write(look, None)
    with pytest.raises(StoreFull):
        await kit.audience("L", add=PEOPLE[:1])
    with pytest.raises(StoreFull):
        await asyncio.to_thread(kit.sync.audience, "L", add=PEOPLE[:1])
    found = await kit.store.read(lambda connection: told(connection))
    kit.store.close()

    assert len(found) == 3


# ---------------------------------------------------------------- faults


async def test_one_lists_changes_keep_their_order_through_faults(scene: Scene) -> None:
    """A 500 to the first addition holds back the removal behind it: who was removed is not added after it."""
    scene.sandbox.rokt_audience.answers(500)
    await scene.kit.audience("L", add=PEOPLE[:5])
    await scene.kit.audience("L", remove=PEOPLE[:5])
    await scene.drain()
    assert await scene.states() == ["pending", "pending"]

    await scene.passes(HOUR)

    assert await scene.states() == ["delivered", "delivered"]
    assert scene.sandbox.rokt_audience.members("L") == frozenset()


@pytest.mark.parametrize(
    "fault",
    [{"status": 429, "headers": {"retry-after": "30"}}, {"status": 500}, {"reset": "after"}, {"reset": "before"}],
    ids=["429", "500", "reset after the body", "reset before it"],
)
async def test_a_fault_loses_nobody(scene: Scene, fault: dict[str, Any]) -> None:
    """Whatever becomes of a request, every member is on the list in the end, and nothing is held for a person."""
    scene.sandbox.rokt_audience.answers(**fault)
    await scene.kit.audience("L", add=PEOPLE)
    await scene.drain()
    assert "pending" in await scene.states()

    for _ in range(4):
        await scene.passes(HOUR)

    assert await scene.states() == ["delivered"] * 3
    assert scene.sandbox.rokt_audience.members("L") == digests(PEOPLE)


async def test_a_wrong_key_pauses_and_burns_nothing(scene: Scene) -> None:
    """401: every request stays, one asks every quarter of an hour, and when it is mended all go out."""
    scene.sandbox.rokt_audience.answers(401, times=2)
    await scene.kit.audience("L", add=PEOPLE)
    await scene.drain()
    await scene.drain()
    assert len(scene.sandbox.rokt_audience.requests) == 1

    await scene.passes(timedelta(minutes=16))
    assert [one.attempts for one in await scene.told()] == [0, 0, 0]
    await scene.passes(timedelta(minutes=16))

    assert await scene.states() == ["delivered"] * 3


async def test_a_refused_chunk_does_not_hold_the_others(scene: Scene) -> None:
    """400 ends one request, with the vendor's words and nobody's address; the rest of the list goes on."""
    scene.sandbox.rokt_audience.answers(400, body={"message": "jane@example.com is unknown"})
    await scene.kit.audience("L", add=PEOPLE)
    await scene.drain()

    assert await scene.states() == ["dead", "delivered", "delivered"]
    dead = (await scene.told())[-1]
    assert (dead.reason, dead.detail) == ("rejected", 'HTTP 400: {"message": "[email] is unknown"}')


async def test_an_operator_pauses_it_like_any_other(scene: Scene) -> None:
    """`kit pause` holds its requests, and not those of the same vendor's other surfaces."""
    await scene.kit.store.write(pause, Pause(destination="rokt-audience", reason="by operator", now=scene.clock.now))
    await scene.kit.audience("L", add=PEOPLE[:1])
    await scene.kit.request_deletion(PEOPLE[:1])
    await scene.drain()
    assert (scene.sandbox.rokt_audience.lists, len(scene.sandbox.rokt_deletions.erasures)) == ({}, 1)

    await scene.kit.store.write(resume, "rokt-audience")
    await scene.drain()

    assert scene.sandbox.rokt_audience.lists == {"L": 1}


async def test_members_leave_no_trace_but_their_bodies(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    """No log line and no event names anybody; retention takes the bodies of what was delivered."""
    with caplog.at_level(logging.DEBUG, logger="kit"):
        scene.sandbox.rokt_audience.answers(500)
        await scene.kit.audience("L", add=["jane@example.com"])
        await scene.kit.request_deletion(["jane@example.com"])
        await scene.drain()
        await scene.passes(HOUR)
    digest = digests(["jane@example.com"]).pop()
    rows = await scene.kit.store.read(lambda connection: repr(connection.execute(select(events)).all()))
    for text in (caplog.text, rows, repr(await scene.told())):
        assert "jane" not in text
        assert digest not in text

    while await prune(scene.kit.store, Retention(), scene.clock.now + 8 * DAY):
        pass

    query = select(deliveries.c.payload).where(deliveries.c.destination == "rokt-audience")
    assert await scene.kit.store.read(lambda connection: list(connection.scalars(query))) == [None]


def delivers_audience(pipe: Any, store: str, url: str, dies: bool) -> None:
    """Deliver all that is due, or die when the second request's answer is to be written down."""
    kit = Kit(
        secret_keys=[KEY],
        consent="opt_out",
        store=store,
        destinations=[audience(base_url=url, chunk=10)],
        insecure_cookies=True,
        worker=False,
    )
    if dies:
        killed_at_commit("close", "before commit", 2)
    deliver_once(kit)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells by /proc that a worker is dead")
@pytest.mark.usefixtures("both_engines")
def test_a_worker_killed_between_chunks_loses_nobody(tmp_path: Path) -> None:
    """What was queued is delivered by the next one; the chunk in doubt is sent again, which changes nothing."""
    store = STORES.get(tmp_path, f"sqlite:///{tmp_path}/kit.db")
    sandbox = Sandbox()
    with sandbox.serve() as addresses:
        kit = make_kit(tmp_path, destinations=[audience(base_url=addresses.rokt_url, chunk=10)])
        kit.sync.audience("L", add=PEOPLE)

        code, _ = ended(*begun(delivers_audience, store, addresses.rokt_url, True))
        killed_with = len(sandbox.rokt_audience.requests)
        while any(one.state != "delivered" for one in kit.store.read_sync(lambda connection: told(connection))):
            assert ended(*begun(delivers_audience, store, addresses.rokt_url, False)) == (0, [])
        kit.store.close()

    assert code != 0
    assert killed_with < 3
    assert sandbox.rokt_audience.members("L") == digests(PEOPLE)


async def test_shadow_changes_no_list(tmp_path: Path) -> None:
    """It builds and records, needs no key, and sends nothing."""
    shadowed = RoktAudience(account="sandbox-account", mode=Mode.SHADOW, base_url="http://127.0.0.1:9")
    kit = make_kit(tmp_path, destinations=[shadowed])
    await kit.audience("L", add=PEOPLE)
    await kit.worker.drain()
    found = await kit.store.read(lambda connection: told(connection))
    kit.store.close()

    assert [(one.state, one.reason) for one in found] == [("skipped", "shadow")]


# ---------------------------------------------------------------- deletion


async def test_a_deletion_is_followed_until_rokt_has_done_it(scene: Scene) -> None:
    """Pending for as long as Rokt says so, asked every six hours, counted as no attempt; then delivered."""
    await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()
    assert await scene.details() == [("pending", "Rokt says PENDING")]
    await scene.drain()
    assert len(scene.sandbox.rokt_deletions.requests) == 1

    for _ in range(13):
        await scene.passes(DAY)
    assert await scene.details() == [("pending", "Rokt says READY")]
    for _ in range(3):
        await scene.passes(DAY)

    assert await scene.details() == [("delivered", "Rokt says PROCESSED")]
    (erasure,) = scene.sandbox.rokt_deletions.erasures
    assert erasure.people == digests(["jane@example.com"])
    row = await scene.kit.store.read(lambda connection: connection.execute(select(deliveries)).one())
    assert row.attempts <= 1
    assert b"jane" not in row.payload


async def test_a_wrong_address_requests_nothing(scene: Scene) -> None:
    """All of them or nobody: whom an erasure leaves out would not be noticed."""
    with pytest.raises(InvalidInput):
        await scene.kit.request_deletion(["jane@example.com", "nobody"])

    assert await scene.details() == []


async def test_a_deletion_that_waits_here_is_cancelled_here(scene: Scene) -> None:
    """Rokt never hears of it, also not after a replay of what was cancelled: its body is gone."""
    (request,) = await scene.kit.request_deletion(["jane@example.com"])

    assert await scene.kit.cancel_deletion(request) is Cancelled.HERE
    await scene.drain()

    assert scene.sandbox.rokt_deletions.requests == ()
    assert await scene.details() == [("skipped", None)]
    assert await scene.kit.cancel_deletion(request) is Cancelled.OVER
    assert await scene.kit.cancel_deletion("no-such-id") is Cancelled.UNKNOWN


async def test_a_deletion_that_rokt_has_is_cancelled_there(scene: Scene) -> None:
    """At once, by the id that Rokt gave; delivered when Rokt says CANCELLED."""
    (request,) = await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()

    assert await scene.kit.cancel_deletion(request) is Cancelled.ASKED
    await scene.drain()

    assert await scene.details() == [("delivered", "Rokt says CANCELLED")]
    assert [erasure.cancelled for erasure in scene.sandbox.rokt_deletions.erasures] == [True]


async def test_a_cancel_that_comes_too_late_is_told(scene: Scene) -> None:
    """Rokt has done it meanwhile: delivered, and the detail says that the cancel did nothing."""
    (request,) = await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()
    scene.clock.passes(16 * DAY)
    await scene.kit.cancel_deletion(request)
    await scene.drain()
    await scene.passes(HOUR)

    assert await scene.details() == [("delivered", "Rokt says PROCESSED; it did not cancel (HTTP 409)")]


@pytest.mark.parametrize(
    "fault",
    [{"status": 429}, {"status": 500}, {"reset": "after"}],
    ids=["429", "500", "reset after the body"],
)
async def test_a_fault_forgets_no_deletion(scene: Scene, fault: dict[str, Any]) -> None:
    """What Rokt did not confirm is asked for again."""
    scene.sandbox.rokt_deletions.answers(**fault)
    await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()
    await scene.passes(timedelta(minutes=20))

    assert await scene.details() == [("pending", "Rokt says PENDING")]
    assert digests(["jane@example.com"]) in [erasure.people for erasure in scene.sandbox.rokt_deletions.erasures]


async def test_what_was_taken_without_an_id_is_held_and_asked_for_once(scene: Scene) -> None:
    """Rokt publishes no body: a person asks, instead of the worker every hour for two months."""
    scene.sandbox.rokt_deletions.answers(status=201, body={"data": {}}, times=None)
    await scene.kit.request_deletion(["jane@example.com"])
    for _ in range(10):
        await scene.drain()
        await scene.passes(timedelta(hours=7))

    ((state, detail),) = await scene.details()
    assert (state, len(scene.sandbox.rokt_deletions.requests)) == ("held", 1)
    assert "without an id" in (detail or "")


async def test_a_lost_answer_is_remembered_by_who_cancels(scene: Scene) -> None:
    """Taken with the answer lost, then a 500: Rokt may have it, so a cancel here does not say that it has not."""
    scene.sandbox.rokt_deletions.answers(reset="after")
    scene.sandbox.rokt_deletions.answers(500, times=None)
    (request,) = await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()
    await scene.passes(timedelta(minutes=20))

    assert await scene.kit.cancel_deletion(request) is Cancelled.IN_DOUBT


async def test_an_account_that_is_not_allow_listed_pauses(scene: Scene) -> None:
    """403: nothing is burnt, and `kit status` says what to ask Rokt for."""
    scene.sandbox.rokt_deletions.answers(403)
    await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()

    (standing,) = await asyncio.to_thread(standings, scene.kit.store)
    assert standing.gate is not None
    assert standing.gate.state == "paused"
    assert "allow-listed" in standing.gate.reason
    await scene.passes(timedelta(minutes=16))
    assert await scene.details() == [("pending", "Rokt says PENDING")]


async def test_a_question_that_rokt_does_not_know_holds_no_request_back(scene: Scene) -> None:
    """The path to follow by is assumed: where it is wrong, requests are still made, and nothing is called done."""
    await scene.kit.request_deletion(["jane@example.com"])
    await scene.drain()
    scene.sandbox.rokt_deletions.answers(404)
    await scene.passes(7 * HOUR)

    await scene.kit.request_deletion(["john@example.com"])
    await scene.drain()

    assert len(scene.sandbox.rokt_deletions.erasures) == 2
    assert [state for state, _ in await scene.details()] == ["pending", "pending"]
