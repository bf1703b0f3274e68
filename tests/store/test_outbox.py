"""The outbox's verbs by themselves: tokens, outcomes that are written once, and times that are pulled back."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from kit import Conversion, Kit
from kit.delivery.lease import LEASE
from kit.model import DeliveryState
from kit.store.attempts import Closing, Opening, Settlement, close, open_attempts
from kit.store.outbox import Bounds, Claim, Claimed, Renewal, Takeover, claim, claim_lapsed, pull_back, renew
from kit.store.rows import milliseconds
from kit.store.tables import attempts, deliveries, earlier_attempts, events
from tests.support import NOON, FrozenClock, make_kit, rokt

pytestmark = pytest.mark.usefixtures("both_engines")


async def shop(folder: Path, *, orders: int) -> Kit:
    made = make_kit(folder, destinations=[rokt()], clock=FrozenClock())
    for number in range(orders):
        await made.report(Conversion(order_id=f"order-{number}", email="jane@example.com"))
    return made


async def claimed_by(kit: Kit, owner: str, *, limit: int = 100) -> list[Claimed]:
    return await kit.store.write(claim, Claim(destination="rokt", limit=limit, owner=owner, lease=LEASE, now=NOON))


async def taken_over(kit: Kit, *, limit: int = 100) -> list[Claimed]:
    asked = Takeover(destination="rokt", limit=limit, owner="second", lease=LEASE, now=NOON, dead=("first",))
    return await kit.store.write(claim_lapsed, asked)


async def opened(kit: Kit, claimed: list[Claimed]) -> int:
    bodies = {one.delivery_id: b"{}" for one in claimed}
    opening = Opening(destination="rokt", deliveries=tuple(claimed), payloads=bodies, now=NOON)
    attempt = await kit.store.write(open_attempts, opening)
    assert attempt is not None
    return attempt


def closing(attempt: int, claimed: list[Claimed], outcome: str, state: DeliveryState) -> Closing:
    settlements = tuple(
        Settlement(delivery_id=one.delivery_id, token=one.token, state=state, outcome=outcome) for one in claimed
    )
    return Closing(destination="rokt", attempt=attempt, outcome=outcome, settlements=settlements, now=NOON)


async def states(kit: Kit) -> list[str]:
    query = select(deliveries.c.state).order_by(deliveries.c.id)
    return await kit.store.read(lambda connection: list(connection.scalars(query)))


async def test_an_answer_that_comes_late_changes_nothing(tmp_path: Path) -> None:
    """I8, I10: another worker closed the attempt as unknown and has the deliveries; the first one's ok is not heard."""
    kit = await shop(tmp_path, orders=3)
    first = await claimed_by(kit, "first")
    attempt = await opened(kit, first)
    second = await taken_over(kit)
    await kit.store.write(close, closing(attempt, second, "unknown", DeliveryState.PENDING))

    await kit.store.write(close, closing(attempt, first, "ok", DeliveryState.DELIVERED))

    outcome = await kit.store.read(lambda connection: list(connection.scalars(select(attempts.c.outcome))))
    found = await states(kit)
    kit.store.close()
    assert (found, outcome) == (["pending"] * 3, ["unknown"])


async def test_of_a_batch_only_what_is_still_ours_is_settled(tmp_path: Path) -> None:
    """One of three was taken over meanwhile: the two others are delivered, that one stays the other worker's."""
    kit = await shop(tmp_path, orders=3)
    first = await claimed_by(kit, "first")
    attempt = await opened(kit, first)
    (theirs,) = await taken_over(kit, limit=1)

    await kit.store.write(close, closing(attempt, first, "ok", DeliveryState.DELIVERED))

    found = await states(kit)
    kit.store.close()
    assert theirs.delivery_id == first[0].delivery_id
    assert found == ["claimed", "delivered", "delivered"]


async def test_a_renewal_answers_what_is_still_held(tmp_path: Path) -> None:
    """Neither what was settled, nor what another took, nor anything after the lease's end."""
    kit = await shop(tmp_path, orders=3)
    first = await claimed_by(kit, "first")
    attempt = await opened(kit, first)
    await kit.store.write(close, closing(attempt, first[:1], "ok", DeliveryState.DELIVERED))
    (theirs,) = await taken_over(kit, limit=1)
    asked = Renewal(token=first[0].token, until=NOON + timedelta(minutes=5), now=NOON)

    in_time = await kit.store.write(renew, asked)
    late = await kit.store.write(renew, Renewal(token=theirs.token, until=NOON, now=NOON + LEASE))

    kit.store.close()
    assert in_time == {one.delivery_id for one in first[1:] if one.delivery_id != theirs.delivery_id}
    assert late == frozenset()


async def test_a_second_attempt_keeps_the_body_and_the_outcome_of_the_first(tmp_path: Path) -> None:
    """Retried beside one that is new: the frozen body stays, the new one freezes, the earlier outcome is kept."""
    kit = await shop(tmp_path, orders=2)
    (first,) = await claimed_by(kit, "first", limit=1)
    attempt = await opened(kit, [first])
    await kit.store.write(close, closing(attempt, [first], "transient", DeliveryState.PENDING))
    both = sorted(await claimed_by(kit, "first"), key=lambda one: one.delivery_id)
    bodies = {one.delivery_id: b"new" for one in both}

    opening = Opening(destination="rokt", deliveries=tuple(both), payloads=bodies, now=NOON)
    await kit.store.write(open_attempts, opening)

    columns = (deliveries.c.payload, deliveries.c.attempts, deliveries.c.outcome)
    rows = await kit.store.read(lambda connection: connection.execute(select(*columns).order_by(deliveries.c.id)).all())
    earlier = await kit.store.read(
        lambda connection: connection.execute(select(earlier_attempts.c.attempt, earlier_attempts.c.outcome)).all()
    )
    kit.store.close()
    assert [tuple(row) for row in rows] == [(b"{}", 2, "open"), (b"new", 1, "open")]
    assert [tuple(row) for row in earlier] == [(attempt, "transient")]


async def test_only_times_beyond_every_rule_are_pulled_back(tmp_path: Path) -> None:
    """Due in a year becomes due in an hour; due in ten minutes stays; a lease of a year becomes one from now."""
    kit = await shop(tmp_path, orders=3)
    (one, two) = await claimed_by(kit, "first", limit=2)
    for each, wait in ((one, timedelta(minutes=10)), (two, timedelta(days=365))):
        settlement = Settlement(
            delivery_id=each.delivery_id, token=each.token, state=DeliveryState.PENDING, due_at=NOON + wait
        )
        unsent = Closing(destination="rokt", attempt=None, outcome="not_sent", settlements=(settlement,), now=NOON)
        await kit.store.write(close, unsent)
    (three,) = await claimed_by(kit, "first")
    await kit.store.write(renew, Renewal(token=three.token, until=NOON + timedelta(days=365), now=NOON))
    hour, quarter, day = timedelta(hours=1), timedelta(minutes=15), timedelta(days=1)

    bounds = Bounds(destination="rokt", retry=hour, lease=LEASE, gate=quarter, throttle=day, clock=lambda: NOON)
    await kit.store.write(pull_back, bounds)

    query = select(deliveries.c.due_at, deliveries.c.lease_until).order_by(deliveries.c.id)
    rows = await kit.store.read(lambda connection: connection.execute(query).all())
    kit.store.close()
    ten_minutes = milliseconds(NOON + timedelta(minutes=10))
    assert [tuple(row) for row in rows] == [
        (ten_minutes, None),
        (milliseconds(NOON + hour), None),
        (milliseconds(NOON), milliseconds(NOON + LEASE)),
    ]


async def test_a_report_is_due_by_the_clock_that_workers_go_by(tmp_path: Path) -> None:
    """A web host whose clock is a minute ahead of the database's delays nothing; the event's own time is the host's."""
    kit = await shop(tmp_path, orders=0)
    await kit.ready()
    kit.store.offset = timedelta(minutes=-1)

    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))

    query = select(deliveries.c.due_at, deliveries.c.created_at, events.c.at).join(events)
    row = await kit.store.read(lambda connection: connection.execute(query).one())
    kit.store.close()
    earlier = milliseconds(NOON - timedelta(minutes=1))
    assert tuple(row) == (earlier, earlier, milliseconds(NOON))


async def test_an_attempt_in_the_place_of_another_waits_for_its_end(tmp_path: Path) -> None:
    """Refused while that one is open; opened in the very transaction that closes it."""
    kit = await shop(tmp_path, orders=2)
    first, second = await claimed_by(kit, "first")
    attempt = await opened(kit, [first])
    opening = Opening(
        destination="rokt", deliveries=(second,), payloads={second.delivery_id: b"{}"}, now=NOON, after=attempt
    )

    early = await kit.store.write(open_attempts, opening)
    _, in_time = await asyncio.gather(
        kit.store.write(close, closing(attempt, [first], "ok", DeliveryState.DELIVERED)),
        kit.store.write(open_attempts, opening),
    )

    kit.store.close()
    assert early is None
    assert in_time is not None


async def test_a_retry_in_hand_is_looked_at_again_when_its_event_changed(tmp_path: Path) -> None:
    """Its body is frozen, but its person may have been erased since it was claimed: nothing is sent of it."""
    kit = await shop(tmp_path, orders=1)
    (first,) = await claimed_by(kit, "first")
    attempt = await opened(kit, [first])
    await kit.store.write(close, closing(attempt, [first], "transient", DeliveryState.PENDING))
    (again,) = await claimed_by(kit, "first")
    bump = events.update().values(revision=events.c.revision + 1)
    await kit.store.write(lambda connection, asked: [connection.execute(bump) and None for _ in asked], None)

    bodies = {again.delivery_id: b"{}"}
    stale = Opening(destination="rokt", deliveries=(again,), payloads=bodies, now=NOON)
    attempt_of_it = await kit.store.write(open_attempts, stale)
    kit.store.close()

    assert attempt_of_it is None
