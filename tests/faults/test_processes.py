"""Processes that die together or over one payload; two that say the same; old code beside a newer schema."""

import asyncio
import ctypes
import signal
from collections import Counter
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, insert, select, text

from kit import ConfigurationError, Conversion
from kit.destinations import Rockerbox
from kit.destinations.base import Sending
from kit.sandbox import Sandbox
from kit.store.engine import NEEDS
from kit.store.tables import deliveries, events, meta
from tests.end_to_end.test_processes import until
from tests.faults.killed import begun, deliver_once, delivers, ended, kit_of, report, reports, reports_at_once
from tests.support import STORES, make_kit, rockerbox

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells by /proc that a worker is dead")


def store_of(folder: Path) -> str:
    return STORES.get(folder, f"sqlite:///{folder}/kit.db")


# ---------------------------------------------------------------- many at once


@pytest.mark.usefixtures("both_engines")
def test_five_hundred_orders_from_two_processes_at_once_are_five_hundred(tmp_path: Path) -> None:
    """P18: one event and three deliveries each; of the two that told it, one heard that it was new."""
    kit = kit_of(store_of(tmp_path), "http://127.0.0.1:9")
    asyncio.run(kit.ready())
    shops = [
        begun(reports_at_once, store_of(tmp_path), "http://127.0.0.1:9", numbers)
        for numbers in (range(500), range(499, -1, -1))
    ]
    told = [ended(*shop) for shop in shops]

    assert [code for code, _ in told] == [0, 0]
    new = Counter(number for _, answers in told for number, is_new in answers if is_new)
    assert new == dict.fromkeys(range(500), 1)
    query = select(events.c.order_id).join(deliveries, deliveries.c.event == events.c.id)
    found = Counter(kit.store.read_sync(lambda connection: connection.scalars(query).all()))
    kit.store.close()
    assert found == {f"order-{number}": 3 for number in range(500)}


@pytest.mark.usefixtures("both_engines")
def test_all_processes_killed_at_once_lose_nothing_that_was_answered(tmp_path: Path) -> None:
    """P08: two shops and two workers; what a shop had heard is delivered after the restart, each order once."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        sandbox.rokt.answers(delay=0.05, times=None)
        kit = kit_of(store_of(tmp_path), vendors.url)
        report(kit, 0)
        all_ = [
            begun(reports, store_of(tmp_path), vendors.url, None, range(1, 300)),
            begun(reports, store_of(tmp_path), vendors.url, None, range(300, 600)),
            *(begun(delivers, store_of(tmp_path), vendors.url, None) for _ in range(2)),
        ]
        until(lambda: sandbox.rokt.counted >= 1)
        for process, _ in all_:
            process.kill()
        answered = [number for _, told in [ended(*one) for one in all_] for number, _ in told]
        sandbox.rokt.clear_faults()

        assert ended(*begun(delivers, store_of(tmp_path), vendors.url, None)) == (0, [])

        query = select(events.c.order_id, deliveries.c.destination, deliveries.c.state).join(
            deliveries, deliveries.c.event == events.c.id
        )
        rows = kit.store.read_sync(lambda connection: connection.execute(query).all())
        kit.store.close()
    assert {f"order-{number}" for number in answered} <= {row.order_id for row in rows}
    assert {row.state for row in rows if row.destination != "adroll"} == {"delivered"}
    assert {row.state for row in rows if row.destination == "adroll"} <= {"delivered", "held"}
    assert all(set(vendor.orders.values()) <= {1} for vendor in sandbox.vendors)


# ---------------------------------------------------------------- a payload that kills


class Deadly(Rockerbox):
    """Reads address 0 over an order that is marked so."""

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        _perish(sendings, "while it is built")
        return super().build(sendings)

    def judge(self, sendings: Sequence[Sending], *args: Any, **named: Any) -> Any:
        _perish(sendings, "while it is under way")
        return super().judge(sendings, *args, **named)


def _perish(sendings: Sequence[Sending], when: str) -> None:
    if any(each.order_id == f"deadly {when}" for each in sendings):
        ctypes.string_at(0)


def delivers_what_kills(pipe: Pipe, store: str, url: str) -> None:
    made = kit_of(store, url)
    made.store.close()
    vendor = made.destinations[2]
    assert isinstance(vendor, Rockerbox)
    kit = make_kit(Path(), store=store, destinations=[Deadly(advertiser=vendor.advertiser, base_url=vendor.base_url)])
    deliver_once(kit)


@pytest.mark.parametrize("when", ["while it is under way", "while it is built"])
@pytest.mark.usefixtures("both_engines")
def test_a_payload_that_kills_its_worker_is_given_up_and_the_others_flow(tmp_path: Path, when: str) -> None:
    """P12, P13: after five workers it is dead(poison); every other order was delivered once."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        kit = make_kit(tmp_path, destinations=[rockerbox(base_url=vendors.rockerbox_url)])
        for name in ("before", f"deadly {when}", "after"):
            kit.sync.report(Conversion(order_id=name, value="19.90", currency="USD", email="jane@example.com"))

        codes = [ended(*begun(delivers_what_kills, store_of(tmp_path), vendors.url))[0] for _ in range(7)]

        query = select(events.c.order_id, deliveries.c.state, deliveries.c.reason).join(
            deliveries, deliveries.c.event == events.c.id
        )
        rows = {row[0]: tuple(row[1:]) for row in kit.store.read_sync(lambda it: it.execute(query).all())}
        kit.store.close()
    assert codes == [-signal.SIGSEGV] * 5 + [0, 0]
    assert rows == {
        "before": ("delivered", None),
        f"deadly {when}": ("dead", "poison"),
        "after": ("delivered", None),
    }
    assert set(sandbox.rockerbox.orders.values()) == {1}


# ---------------------------------------------------------------- an old worker beside a new schema


def _migrated(connection: Connection, asked: Sequence[bool]) -> Sequence[None]:
    """Leave the schema as a newer version would: `takes_away` says whether old code must not work with it."""
    connection.execute(text("UPDATE alembic_version SET version_num = '0099_of_tomorrow'"))
    if asked[0]:
        connection.execute(insert(meta).values(key=NEEDS, value="0099_of_tomorrow"))
    return [None] * len(asked)


@pytest.mark.usefixtures("both_engines")
def test_old_code_beside_a_schema_that_it_cannot_work_with_says_so_and_changes_nothing(tmp_path: Path) -> None:
    """P20: neither shop nor worker starts, each names the reason; what is there waits for the worker that knows it."""
    newer = make_kit(tmp_path)
    newer.sync.report(Conversion(order_id="order-1", email="jane@example.com"))
    newer.store.write_sync(_migrated, True)

    old = make_kit(tmp_path)
    with pytest.raises(ConfigurationError, match="newer version"):
        old.sync.report(Conversion(order_id="order-2", email="jane@example.com"))
    with pytest.raises(ConfigurationError, match="newer version"):
        asyncio.run(old.worker.drain())
    old.store.close()

    query = select(deliveries.c.state)
    assert newer.store.read_sync(lambda connection: connection.scalars(query).all()) == ["pending"] * 3
    newer.store.close()


@pytest.mark.usefixtures("both_engines")
def test_old_code_goes_on_beside_a_schema_that_only_grew(tmp_path: Path) -> None:
    """P20: in a rolling deploy the shops that are not replaced yet take orders."""
    newer = make_kit(tmp_path)
    newer.sync.report(Conversion(order_id="order-1", email="jane@example.com"))
    newer.store.write_sync(_migrated, False)
    newer.store.close()

    old = make_kit(tmp_path)
    assert not old.sync.report(Conversion(order_id="order-1", email="jane@example.com")).new
    assert old.sync.report(Conversion(order_id="order-2", email="jane@example.com")).new
    old.store.close()
