"""After a backup was restored: nothing that may have been sent since is sent again before a person says so."""

import asyncio
import json
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select
from typer.testing import CliRunner

from kit.cli.common import app
from kit.destinations import AdRoll, Rockerbox
from kit.model import DeliveryState
from kit.store import persons, restored
from kit.store.attempts import Closing, Opening, Settlement, close, open_attempts
from kit.store.outbox import Claim, claim
from kit.store.overview import Replay, replay
from kit.store.restored import Restored, hold_restored
from kit.store.tables import attempts, deliveries
from tests.delivery.world import World, world
from tests.support import NOON

HOUR = timedelta(hours=1)


async def held(it: World, **asked: Any) -> Counter[str]:
    given = {"before": it.clock.now + HOUR, "now": it.clock.now, **asked}
    return await asyncio.to_thread(hold_restored, it.kit.store, Restored(**given))


async def states(it: World) -> dict[tuple[str | None, str], tuple[str, str | None]]:
    return {(row.order_id, row.destination): (row.state, row.reason) for row in await it.rows()}


async def test_what_was_sent_after_the_backup_is_not_sent_again(tmp_path: Path) -> None:
    """S11: a backup of orders that were delivered since, put in the place of a lost file."""
    async with world(tmp_path, AdRoll, Rockerbox) as it:
        file, backup = tmp_path / "kit.db", tmp_path / "backup.db"
        await it.order("order-1")
        it.kit.store.close()
        shutil.copy(file, backup)
        await it.kit.ready()
        await it.order("order-2")
        await it.drain()
        it.kit.store.close()
        shutil.copy(backup, file)
        await it.kit.ready()

        lost_at = it.clock.now + HOUR
        first = await held(it, before=lost_at)
        it.clock.passes(2 * HOUR)
        # What the backup lacks is reported once more, with the time at which it happened, while the shop goes on.
        await it.order("order-2", time=NOON)
        await it.order("order-3")
        second = await held(it, before=lost_at)
        await it.drain()

        assert first == second == {"adroll": 1, "rockerbox": 1}
        assert it.sandbox.adroll.orders == it.sandbox.rockerbox.orders == {"order-1": 1, "order-2": 1, "order-3": 1}
        found = await states(it)
        assert {found.pop(("order-3", name)) for name in ("adroll", "rockerbox")} == {("delivered", None)}
        assert set(found.values()) == {("held", "restored")}


@pytest.mark.usefixtures("both_engines")
async def test_what_is_asked_for_is_held_over_the_borders_of_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One destination's, of events before a time, two keys a read and one delivery a write; once."""
    monkeypatch.setattr(persons, "RANGE", 2)
    monkeypatch.setattr(restored, "REPLAYED", 1)
    async with world(tmp_path, AdRoll, Rockerbox) as it:
        for number in range(3):
            await it.order(f"order-{number}")
        it.clock.passes(HOUR)
        await it.order("order-3")

        first = await held(it, before=it.clock.now, destination="rockerbox")
        again = await held(it, before=it.clock.now, destination="rockerbox")

        assert (first, again) == ({"rockerbox": 3}, {})
        found = await states(it)
        assert {order for (order, _), state in found.items() if state == ("held", "restored")} == {
            "order-0", "order-1", "order-2"
        }  # fmt: skip
        assert Counter(found.values()) == {("held", "restored"): 3, ("pending", None): 5}


@pytest.mark.usefixtures("both_engines")
async def test_a_worker_that_has_one_in_hand_neither_sends_nor_settles_it(tmp_path: Path) -> None:
    """Its open attempt ends as unknown; what it says later changes nothing, and it opens no other."""
    async with world(tmp_path, Rockerbox) as it:
        await it.order("order-1")
        await it.order("order-2")
        store, now = it.kit.store, it.clock.now
        asked = Claim(destination="rockerbox", limit=2, owner="it", lease=HOUR, now=now)
        one, other = await store.write(claim, asked)

        def opening(claimed: Any) -> Opening:
            payloads = {claimed.delivery_id: b"{}"}
            return Opening(destination="rockerbox", deliveries=(claimed,), payloads=payloads, now=now)

        attempt = await store.write(open_attempts, opening(one))
        assert await held(it) == {"rockerbox": 2}
        settled = Settlement(delivery_id=one.delivery_id, token=one.token, state=DeliveryState.DELIVERED, outcome="ok")
        await store.write(
            close,
            Closing(
                destination="rockerbox", attempt=attempt, outcome="ok", status=200, settlements=(settled,), now=now
            ),
        )
        late = await store.write(open_attempts, opening(other))

        def stored(connection: Connection) -> tuple[Any, Any]:
            columns = deliveries.c
            rows = connection.execute(
                select(columns.state, columns.reason, columns.outcome, columns.in_doubt, columns.lease_token).order_by(
                    columns.id
                )
            )
            return rows.all(), connection.scalars(select(attempts.c.outcome)).all()

        rows, outcomes = await store.read(stored)
        assert late is None
        assert outcomes == ["unknown"]
        assert rows == [("held", "restored", "unknown", True, None), ("held", "restored", None, True, None)]


async def test_what_is_held_so_can_be_sent_by_a_person(tmp_path: Path) -> None:
    """`kit replay --state held --reason restored`: where the vendor knows a repeat it counts once."""
    async with world(tmp_path, Rockerbox) as it:
        await it.order("order-1")
        await held(it)

        asked = Replay(state=DeliveryState.HELD, reason="restored", now=it.clock.now)
        number = await asyncio.to_thread(replay, it.kit.store, asked)
        await it.drain()

        assert number == 1
        assert set((await states(it)).values()) == {("delivered", None)}
        assert it.sandbox.rockerbox.orders == {"order-1": 1}


async def test_the_command_says_what_it_held(tmp_path: Path) -> None:
    """For people and for programs."""
    async with world(tmp_path, AdRoll, Rockerbox) as it:
        await it.order("order-1")
    options = ["restored", "--store", f"sqlite:///{tmp_path}/kit.db"]

    of_one = CliRunner().invoke(app, [*options, "--destination", "adroll", "--json"])
    of_all = CliRunner().invoke(app, options)
    again = CliRunner().invoke(app, options)

    assert json.loads(of_one.stdout) == {"held": {"adroll": 1}}
    assert (of_all.stdout, again.stdout) == ("rockerbox: 1 held\n", "nothing was pending\n")
