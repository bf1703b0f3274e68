"""What people look at in a large store: short reads, a bounded number of them, and the right answer."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select

from kit import Kit
from kit.store import looking
from kit.store.looking import Wanted, matching, page, present, story
from kit.store.rows import insert_many, milliseconds
from kit.store.tables import deliveries, events
from tests.support import NOON, make_kit, rockerbox, rokt

pytestmark = pytest.mark.usefixtures("both_engines")
ORDERS = 1_000
MINUTE = timedelta(minutes=1)


def fill(connection: Any, asked: Any) -> list[None]:
    """A thousand orders, a minute apart, each delivered to two destinations; every hundredth failed at one."""
    known = '{"visitor":"v","click_ids":[{"vendor":"adroll","value":"a","clicked_at":"2026-01-01T00:00:00Z"}],"email":"'
    rows = []
    for number in range(ORDERS):
        at = milliseconds(NOON + number * MINUTE)
        identifiers = f'{known}{number}@example.com"}}' if number % 2 else "{}"
        rows.append(
            (f"event-{number}", "purchase", f"order-{number}", None, at, at,
             f'{{"name":"purchase","order_id":"order-{number}"}}', identifiers, True, "shop", at, 0)
        )  # fmt: skip
    named = (
        "event_id", "name", "order_id", "visitor", "at", "reported_at", "conversion", "identifiers", "granted",
        "signal", "consent_at", "revision",
    )  # fmt: skip
    insert_many(connection, events, named, rows)
    ids = connection.scalars(select(events.c.id).order_by(events.c.id)).all()
    told = [
        (id_, name, "dead" if failed else "delivered", "rejected" if failed else None, False, 0, 0, 1, 1, 0, b"x" * 500)
        for number, id_ in enumerate(ids)
        for name in ("rokt", "rockerbox")
        for failed in [name == "rokt" and number % 100 == 0]
    ]
    columns = (
        "event", "destination", "state", "reason", "curable", "due_at", "created_at", "settled_at", "attempts",
        "crashes", "payload",
    )  # fmt: skip
    insert_many(connection, deliveries, columns, told)
    return [None]


@pytest.fixture
async def large(tmp_path: Path, both_engines: None) -> Any:
    kit = make_kit(tmp_path, destinations=[rokt(), rockerbox()])
    await kit.ready()
    await kit.store.write(fill, None)
    yield kit
    kit.store.close()


@contextmanager
def statements(kit: Kit) -> Iterator[list[str]]:
    """Hear every statement that is read with."""
    heard: list[str] = []

    def hear(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("SELECT") and "sqlite_schema" not in statement and "set_config" not in statement:
            heard.append(statement)

    readers = kit.store._readers
    event.listen(readers, "before_cursor_execute", hear)
    try:
        yield heard
    finally:
        event.remove(readers, "before_cursor_execute", hear)


async def test_a_page_of_a_large_store_is_a_few_statements(large: Kit) -> None:
    """Four for the newest orders, and none fetches a body."""
    with statements(large) as heard:
        found = await asyncio.to_thread(page, large.store, Wanted())

    assert [line.order_id for line in found.lines] == [f"order-{number}" for number in range(999, 974, -1)]
    assert len(heard) <= 4
    assert not any("payload" in statement for statement in heard)


async def test_a_search_makes_so_many_reads_and_no_more(large: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten events each: what it found by then, and where the next page goes on; to the end nothing is missed."""
    monkeypatch.setattr(looking, "RANGE", 10)
    monkeypatch.setattr(looking, "MOST_READS", 15)
    found: list[str | None] = []
    wanted: Wanted | None = Wanted(destination="rokt", state="dead")
    pages = 0
    with statements(large) as heard:
        while wanted is not None:
            one = await asyncio.to_thread(page, large.store, wanted)
            found += [line.order_id for line in one.lines]
            pages += 1
            wanted = None if one.older is None else Wanted(destination="rokt", state="dead", before=one.older)

    assert found == [f"order-{number}" for number in range(900, -1, -100)]
    assert pages == 7
    assert len(heard) <= 7 * (3 * 15 + 2)


async def test_a_window_reads_no_further_back_than_its_beginning(large: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest 95 of a thousand orders, in reads of ten: the older ones are not looked at."""
    monkeypatch.setattr(looking, "RANGE", 10)
    with statements(large) as heard:
        found = await asyncio.to_thread(matching, large.store, since=NOON + 905 * MINUTE)

    assert found.orders == 95
    assert found.clicks == {"adroll": 48}
    assert found.identified == {"email": 48}
    assert found.outcomes == {
        "rokt": {("delivered", None, None): 95},
        "rockerbox": {("delivered", None, None): 95},
    }
    assert len(heard) <= 4 * 10


async def test_a_read_of_some_orders_names_their_deliveries_by_key_too(large: Kit) -> None:
    """Without it PostgreSQL reads every delivery there is for each thousand events of a large store."""
    with statements(large) as heard:
        await asyncio.to_thread(page, large.store, Wanted(state="dead"))
        await asyncio.to_thread(matching, large.store, since=NOON)
    joined = [one for one in heard if "deliveries.event = events.id" in one or "events.id = deliveries.event" in one]

    assert len(joined) == 2
    assert all(f"{key} BETWEEN" in one for one in joined for key in ("events.id", "deliveries.event"))


async def test_all_of_a_window_is_counted(large: Kit) -> None:
    """From the first order to the last, over the borders of the reads."""
    found = await asyncio.to_thread(matching, large.store, since=NOON)

    assert found.orders == ORDERS
    assert found.outcomes["rokt"] == {("delivered", None, None): 990, ("dead", "rejected", None): 10}


async def test_values_that_look_like_names_are_not_counted() -> None:
    """The stored JSON is searched as text: whatever a browser wrote stays inside its quotation marks."""
    odd = '{"user_agent":"\\"email\\":\\"x\\" \\"vendor\\":\\"adroll\\"","url":"phone","ip":"1.2.3.4"}'
    found = looking.Matching()

    looking._count(found, odd)

    assert (found.clicks, found.identified) == ({}, {"ip": 1})


async def test_what_is_not_there_is_nothing(large: Kit) -> None:
    """No event of this id, no order of this name, nothing that waits or is held back."""
    assert await large.store.read(lambda connection: story(connection, event_id="nobody")) is None
    assert (await asyncio.to_thread(page, large.store, Wanted(named="nobody"))).lines == []
    found = await large.store.read(lambda connection: present(connection, ["rokt", "nobody"]))
    assert (found.gates, found.due, found.strange) == ({}, {}, [])
