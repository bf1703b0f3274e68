"""Jobs in the store: durable together, one list's in their order, listed, and taken back."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update

from kit import Conversion, Kit, StoreUnavailable
from kit.delivery.lease import LEASE
from kit.model import DeliveryState
from kit.store import jobs
from kit.store.jobs import Cancel, Cancelled, Job, Jobs, cancel, newest, queue, states
from kit.store.outbox import Claim, Claimed, claim
from kit.store.overview import told
from kit.store.tables import deliveries, events
from tests.support import NOON, FrozenClock, make_kit

pytestmark = pytest.mark.usefixtures("both_engines")

NOTHING = timedelta(0)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path, destinations=[], clock=FrozenClock())
    made.open()
    yield made
    made.store.close()


def job(number: int, *, order: str | None = "audience:L", name: str = "audience_include", to: str = "lists") -> Job:
    told = Conversion(name=name, order_id=order or f"deletion:{number}", event_id=f"job-{number}")
    return Job(destination=to, conversion=told, payload=b'{"n":%d}' % number)


async def queued(kit: Kit, *asked: Job) -> None:
    await kit.store.write(queue, Jobs(jobs=asked, now=NOON, store_ahead=NOTHING))


async def claimed(kit: Kit, *, to: str = "lists") -> list[Claimed]:
    return await kit.store.write(claim, Claim(destination=to, limit=100, owner="test", lease=LEASE, now=NOON))


async def ended(kit: Kit, *event_ids: str, state: DeliveryState = DeliveryState.DELIVERED, **values: Any) -> None:
    """Put the deliveries of these events into a state, as a worker would have."""
    change = (
        update(deliveries)
        .where(deliveries.c.event.in_(select(events.c.id).where(events.c.event_id.in_(event_ids))))
        .values(state=state, lease_token=None, lease_until=None, owner=None, **values)
    )

    def verb(connection: Any, asked: Any) -> list[None]:
        connection.execute(change)
        return [None] * len(asked)

    await kit.store.write(verb, None)


async def taken_back(kit: Kit, event_id: str, *, to: str = "lists") -> Cancelled:
    def cancelling(payload: bytes) -> bytes | None:
        return b'{"cancel":"r"}' if payload.startswith(b'{"follow"') else None

    asked = Cancel(event_id=event_id, destination=to, cancelling=cancelling, now=NOON + timedelta(hours=1))
    return await kit.store.write(cancel, asked)


async def row(kit: Kit, event_id: str) -> Any:
    query = select(deliveries).join(events, events.c.id == deliveries.c.event).where(events.c.event_id == event_id)
    return await kit.store.read(lambda connection: connection.execute(query).one())


async def test_a_call_is_stored_whole_or_not_at_all(kit: Kit) -> None:
    """One transaction: when one job of a call cannot be written, none of it is."""
    await queued(kit, job(1))
    with pytest.raises(StoreUnavailable):
        await kit.store.write(queue, Jobs(jobs=(job(2), job(1)), now=NOON, store_ahead=NOTHING))

    found = await kit.store.read(lambda connection: told(connection, newest=10))
    assert [one.event_id for one in found] == ["job-1"]


async def test_a_job_is_an_event_that_tells_of_nobody(kit: Kit) -> None:
    """Its name, its list and the shop's word as consent; the body stands with the delivery alone."""
    await queued(kit, job(1))

    (one,) = await kit.store.read(lambda connection: told(connection, order_id="audience:L"))
    assert (one.name, one.destination, one.state, one.payload) == ("audience_include", "lists", "pending", b'{"n":1}')
    assert (one.consent.granted, one.consent.signal) == (True, "shop")
    stored = await kit.store.read(lambda connection: connection.execute(select(events)).one())
    assert (stored.visitor, stored.identifiers) == (None, '{"click_ids":[]}')


async def test_one_lists_jobs_go_out_in_their_order(kit: Kit) -> None:
    """The next one waits until the one before it has ended; another list does not wait."""
    await queued(kit, job(1), job(2), job(3, order="audience:M"))

    assert [one.event_id for one in await claimed(kit)] == ["job-1", "job-3"]
    assert await claimed(kit) == []
    await ended(kit, "job-1")
    assert [one.event_id for one in await claimed(kit)] == ["job-2"]


async def test_what_has_ended_stands_under_its_day(kit: Kit) -> None:
    """A list that is changed for years is claimed from as fast as on its first day; what waits keeps its place, and so
    does what is dead, for it may be sent again."""
    await queued(kit, job(1), job(2), job(3))
    await ended(kit, "job-1")
    await ended(kit, "job-3", state=DeliveryState.DEAD, reason="rejected")

    await queued(kit, job(4))

    async def found(order: str) -> list[str]:
        return [one.event_id for one in await kit.store.read(lambda connection: told(connection, order_id=order))]

    assert await found("audience:L") == ["job-4", "job-3", "job-2"]
    assert await found("audience:L@2026-01-15") == ["job-1"]
    assert [one.event_id for one in await claimed(kit)] == ["job-2"]


async def test_a_claimed_job_brings_its_body_and_may_be_sent(kit: Kit) -> None:
    """The worker finds the payload although no attempt froze it."""
    await queued(kit, job(1))

    (one,) = await claimed(kit)

    assert (one.payload, one.attempt, one.consent.granted) == (b'{"n":1}', None, True)
    assert kit.intake.may_keep(one.consent)


async def test_jobs_of_many_calls_are_written_in_one_group(kit: Kit) -> None:
    """The writer hands several calls to the verb at once; each job keeps its own body."""
    asked = [Jobs(jobs=(job(n), job(n + 10)), now=NOON, store_ahead=NOTHING) for n in range(3)]

    def verb(connection: Any, groups: Any) -> list[None]:
        queue(connection, asked)
        return [None] * len(groups)

    await kit.store.write(verb, None)

    for number in (0, 1, 2, 10, 11, 12):
        assert (await row(kit, f"job-{number}")).payload == b'{"n":%d}' % number


async def test_states_are_counted_for_the_asked_jobs_alone(kit: Kit) -> None:
    """A command follows what it queued, whatever else waits."""
    await queued(kit, *(job(n) for n in range(4)))
    await ended(kit, "job-0")
    await ended(kit, "job-1", state=DeliveryState.DEAD, reason="rejected")

    found = await kit.store.read(lambda connection: states(connection, ["job-0", "job-1", "job-2"]))

    assert found == {("delivered", None): 1, ("dead", "rejected"): 1, ("pending", None): 1}


async def test_the_newest_are_listed_across_ranges(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one name only, the newest first, no more than asked for, whatever lies between."""
    monkeypatch.setattr(jobs, "_RANGE", 3)
    assert newest(kit.store, "data_deletion") == []
    for number in range(12):
        await queued(kit, job(number, order=None, name="data_deletion" if number % 4 == 0 else "audience_include"))

    assert [one.event_id for one in newest(kit.store, "data_deletion")] == ["job-8", "job-4", "job-0"]
    assert [one.event_id for one in newest(kit.store, "data_deletion", most=2)] == ["job-8", "job-4"]
    assert newest(kit.store, "data_deletion")[0].asked_at == NOON


# ---------------------------------------------------------------- taken back


@pytest.mark.parametrize("state", [DeliveryState.PENDING, DeliveryState.DEAD, DeliveryState.HELD])
async def test_what_was_not_taken_is_not_sent_any_more(kit: Kit, state: DeliveryState) -> None:
    """Its row stays and says why; whom it was about is gone with the body."""
    await queued(kit, job(1))
    await ended(kit, "job-1", state=state)

    assert await taken_back(kit, "job-1") is Cancelled.HERE

    found = await row(kit, "job-1")
    assert (found.state, found.reason, found.payload) == ("skipped", "cancelled", None)
    assert found.settled_at is not None
    assert await claimed(kit) == []


async def test_a_try_without_an_answer_is_told(kit: Kit) -> None:
    """It is not sent again, and the vendor may have it all the same."""
    await queued(kit, job(1))
    await ended(kit, "job-1", state=DeliveryState.PENDING, in_doubt=True)

    assert await taken_back(kit, "job-1") is Cancelled.IN_DOUBT


async def test_what_the_vendor_has_is_cancelled_there(kit: Kit) -> None:
    """The cancel takes the place of the next question, due at once."""
    await queued(kit, job(1))
    due = 1_768_500_000_000
    await ended(kit, "job-1", state=DeliveryState.PENDING, payload=b'{"follow":"r"}', due_at=due)

    assert await taken_back(kit, "job-1") is Cancelled.ASKED

    found = await row(kit, "job-1")
    assert (found.state, found.payload) == ("pending", b'{"cancel":"r"}')
    assert found.due_at < due


async def test_what_is_under_way_cannot_be_taken_back_at_that_moment(kit: Kit) -> None:
    """The worker that holds it would write over it."""
    await queued(kit, job(1))
    await claimed(kit)

    assert await taken_back(kit, "job-1") is Cancelled.UNDER_WAY
    assert (await row(kit, "job-1")).payload == b'{"n":1}'


@pytest.mark.parametrize(
    ("state", "payload"),
    [
        (DeliveryState.DELIVERED, b'{"follow":"r"}'),
        (DeliveryState.SKIPPED, b"{}"),
        (DeliveryState.DEAD, b'{"follow":"r"}'),
        (DeliveryState.DEAD, None),
    ],
)
async def test_what_has_ended_is_over(kit: Kit, state: DeliveryState, payload: bytes | None) -> None:
    """Nothing changes any more."""
    await queued(kit, job(1))
    await ended(kit, "job-1", state=state, payload=payload)

    assert await taken_back(kit, "job-1") is Cancelled.OVER
    assert (await row(kit, "job-1")).state == state


async def test_what_is_not_there_is_unknown(kit: Kit) -> None:
    """Another destination's job neither: an order of the shop's cannot be cancelled by its event id."""
    await queued(kit, job(1))

    assert await taken_back(kit, "job-2") is Cancelled.UNKNOWN
    assert await taken_back(kit, "job-1", to="elsewhere") is Cancelled.UNKNOWN
