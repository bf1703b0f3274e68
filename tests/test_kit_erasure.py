"""`Kit.erase`, `allow_again` and `export_person`: what a shop calls, and what the vendors are told."""

import asyncio
import json
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select
from sqlalchemy.ext.asyncio import create_async_engine

from kit import Conversion, InvalidInput, Kit
from kit.audiences import deletions
from kit.destinations import Destination, RoktAudience, RoktDeletion
from kit.identity import email_sha256
from kit.model import VisitorId
from kit.store import erasure
from kit.store.overview import told
from kit.store.tables import deliveries, events, metadata
from tests.support import Browser, adroll, make_kit, rockerbox, rokt

pytestmark = pytest.mark.usefixtures("both_engines")

JANE = "jane@example.com"
VISITOR, OTHER = VisitorId("v" * 22), VisitorId("w" * 22)


def deletion(**fields: Any) -> RoktDeletion:
    return RoktDeletion(**{"account": "sandbox-account", "app_id": "app-1", "app_secret": "secret-1", **fields})


def shop(folder: Path, *destinations: Destination) -> Kit:
    return make_kit(folder, destinations=list(destinations) or [rokt(), deletion()])


async def everything(kit: Kit) -> str:
    return await kit.store.read(
        lambda connection: str([connection.execute(select(table)).all() for table in metadata.sorted_tables])
    )


async def bodies(kit: Kit) -> list[Any]:
    """Return what Rokt is to be asked to erase."""
    query = select(deliveries.c.payload).where(deliveries.c.destination == "rokt-deletion").order_by(deliveries.c.id)
    return [json.loads(body) for body in await kit.store.read(lambda connection: connection.scalars(query).all())]


async def test_one_call_erases_here_and_asks_rokt_by_the_digest(tmp_path: Path) -> None:
    """The address itself is nowhere any more, not even in what Rokt is sent; asked again Rokt is not asked twice."""
    kit = shop(tmp_path)
    await kit.report(Conversion(order_id="1", email=JANE, customer_id="c-1"), visitor=VISITOR)

    first = await kit.erase(email=JANE)
    again = await kit.erase(email=JANE)
    asked, left = await bodies(kit), await everything(kit)
    kit.store.close()

    assert (first.found.events, first.found.deliveries) == (1, 1)
    assert len(first.found.requests) == 1
    assert again.found.requests == ()
    assert asked == [{"hashedEmails": [email_sha256(JANE)]}]
    assert JANE not in left


async def test_a_customer_number_asks_rokt_for_its_addresses(tmp_path: Path) -> None:
    """Rokt knows nobody's number: each address that the shop knows beside it."""
    kit = shop(tmp_path)
    await kit.identify(visitor=VISITOR, email=JANE, customer_id="c-1")

    await kit.erase(customer_id="c-1")
    asked = await bodies(kit)
    kit.store.close()

    assert asked == [{"hashedEmails": [email_sha256(JANE)]}]


async def test_two_erasures_at_once_ask_rokt_once(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Neither sees a tombstone when it begins: the one that writes it asks, and the other waits for its end."""
    if "sqlite" in request.node.name:
        pytest.skip("it has one transaction at a time")
    kit = shop(tmp_path)
    kit.open()
    engine = create_async_engine(kit.store.url)
    async with engine.connect() as first:
        asked = await first.run_sync(erasure._write_tombstones, [_burial(kit)])
        burying = asyncio.create_task(kit.store.write(erasure._write_tombstones, _burial(kit)))
        done, _ = await asyncio.wait({burying}, timeout=0.5)
        await first.commit()
    again = await burying
    sent = await bodies(kit)
    await engine.dispose()
    kit.store.close()

    assert not done
    assert ([len(one) for one in asked], again) == ([1], ())
    assert len(sent) == 1


def _burial(kit: Kit) -> erasure._Burial:
    subject = kit.erasing.subject(email=JANE)
    (key,) = (one.lookup for one in subject.identities)
    asked = erasure.Erasure(
        subject=subject, now=kit.clock(), store_ahead=timedelta(0), deletion=partial(deletions, deletion())
    )
    return erasure._Burial(kinds={key: "email"}, emails={key: JANE}, asked=asked)


async def test_no_address_is_shown_by_what_waits_to_be_written(tmp_path: Path) -> None:
    """A tombstone that is on its way to the store names nobody where it is printed."""
    kit = shop(tmp_path)

    assert JANE not in repr(_burial(kit))


async def _lists(kit: Kit, name: str) -> list[tuple[str, str | None, Any]]:
    """Return where the changes of a list stand, and their bodies."""
    rows = await kit.store.read(lambda connection: told(connection, order_id=f"audience:{name}"))
    return [(row.state, row.reason, row.payload and json.loads(row.payload)) for row in reversed(rows)]


@pytest.mark.parametrize("hashed", [True, False])
async def test_who_is_erased_is_put_on_no_list_any_more(tmp_path: Path, hashed: bool) -> None:
    """Queued before: she is taken out, a change for her alone is not sent, and her removal is; others stay."""
    lists = RoktAudience(account="b", public_key="rpub-1", secret_key="rsec-1", hash=hashed)
    kit = shop(tmp_path, rokt(), lists)
    bob = "bob@example.com"
    hers, his = (email_sha256(JANE), email_sha256(bob)) if hashed else (JANE, bob)
    await kit.audience("L", add=[JANE])
    await kit.audience("L", add=["JANE@example.com", bob])
    await kit.audience("L", add=[bob])
    await kit.audience("L", remove=[JANE])

    await kit.erase(email=JANE)
    left = await _lists(kit, "L")
    kit.store.close()

    key = "sha256s" if hashed else "emails"
    assert left == [
        ("skipped", "erased", None),
        ("pending", None, {"action": "include", "list": "L", key: [his]}),
        ("pending", None, {"action": "include", "list": "L", key: [his]}),
        ("pending", None, {"action": "exclude", "list": "L", key: [hers]}),
    ]


@pytest.mark.parametrize("state", ["pending", "held", "dead", "claimed"])
async def test_wherever_a_change_of_a_list_stands_she_is_taken_out(tmp_path: Path, state: str) -> None:
    """Held, dead, or in a worker's hand: what goes out later is without her, and the worker looks again."""
    kit = shop(tmp_path, rokt(), RoktAudience(account="b", public_key="rpub-1", secret_key="rsec-1"))
    await kit.audience("L", add=[JANE, "bob@example.com"])
    await kit.store.write(_put, state)

    await kit.erase(email=JANE)
    ((stands, _, body),) = await _lists(kit, "L")
    revisions = await kit.store.read(lambda connection: connection.scalars(select(events.c.revision)).all())
    kit.store.close()

    assert (stands, body["sha256s"]) == (state, [email_sha256("bob@example.com")])
    assert revisions == [1]


def _put(connection: Connection, states: Sequence[str]) -> Sequence[None]:
    for state in states:
        connection.execute(deliveries.update().values(state=state))
    return [None] * len(states)


async def test_a_visitor_is_no_address_to_ask_rokt_about(tmp_path: Path) -> None:
    """Who asks about a browser asks about that alone."""
    kit = shop(tmp_path)
    await kit.identify(visitor=VISITOR, email=JANE)

    erased = await kit.erase(visitor=VISITOR)
    asked = await bodies(kit)
    kit.store.close()

    assert (erased.found.visitors, erased.found.requests, asked) == (1, (), [])


async def test_what_no_api_can_erase_is_to_be_asked_for_by_hand(tmp_path: Path) -> None:
    """AdRoll and Rockerbox always; Rokt where nothing is sent to its deletion API."""
    with_api, without = shop(tmp_path, adroll(), rokt(), rockerbox(), deletion()), shop(tmp_path, rokt())

    first, second = await with_api.erase(email=JANE), await without.erase(email=JANE)
    with_api.store.close()
    without.store.close()

    assert set(first.by_hand) == {"adroll", "rockerbox"}
    assert set(second.by_hand) == {"rokt"}
    assert JANE not in str(first) + str(second)


async def test_only_the_shops_word_lets_somebody_come_back(tmp_path: Path) -> None:
    """No sign-in does; `allow_again` does, and then an order counts as any."""
    kit = shop(tmp_path, rokt())
    await kit.report(Conversion(order_id="1", email=JANE, customer_id="c-1"), visitor=VISITOR)
    await kit.erase(email=JANE)
    await kit.identify(visitor=OTHER, email=JANE, customer_id="c-1")
    await kit.report(Conversion(order_id="2", email=JANE, customer_id="c-1"), visitor=OTHER)
    before = await everything(kit)

    allowed = await kit.allow_again(email=JANE, customer_id="c-1")
    again = await kit.allow_again(email=JANE, customer_id="c-1")
    await kit.identify(visitor=OTHER, email=JANE, customer_id="c-1")
    await kit.report(Conversion(order_id="3", email=JANE, customer_id="c-1"), visitor=OTHER)
    stored = await kit.store.read(lambda connection: told(connection))
    kit.store.close()

    assert OTHER not in before
    assert (allowed, again) == (True, False)
    assert {row.order_id: (row.state, row.reason) for row in stored} == {
        "1": ("skipped", "erased"), "2": ("skipped", "erased"), "3": ("pending", None),
    }  # fmt: skip


async def test_who_signs_in_at_an_erased_browser_gets_a_new_visitor(kit: Kit) -> None:
    """Its cookie is hers still, with her click: his sign-in begins anew, and his order has none of it."""
    browser = Browser(kit)
    await browser.open("/?rtid=her-click")
    await browser.open("/in", act=lambda page: kit.identify(page, email=JANE))
    hers = dict(browser.cookies)
    await kit.erase(email=JANE)

    await browser.open("/in", act=lambda page: kit.identify(page, email="bob@example.com"))
    await browser.open("/bought", act=lambda page: kit.report(Conversion(order_id="1", email="bob@example.com"), page))
    left = await everything(kit)

    assert browser.cookies["kit"] != hers["kit"]
    assert "bob@example.com" in left
    assert "her-click" not in left
    assert JANE not in left


async def test_her_own_browser_leaves_nothing_after_the_erasure(kit: Kit) -> None:
    """Pages, a new click, an order that a webhook ends: the cookie goes on, and the store keeps the money alone."""
    browser = Browser(kit)
    await browser.open("/?rtid=first-click")
    await browser.open("/in", act=lambda page: kit.identify(page, email=JANE))
    await kit.erase(email=JANE)

    await browser.open("/?rtid=second-click")
    await browser.open("/checkout", act=lambda page: kit.link(page, order_id="1"))
    await browser.open("/typed", act=lambda page: kit.assert_identity(page, email="other@example.com"))
    await kit.report(Conversion(order_id="1", value="19.90", currency="USD", first_name="Jane"))
    await browser.open("/bought", act=lambda page: kit.report(Conversion(order_id="2", first_name="Jane"), page))
    left = await everything(kit)
    stored = await kit.store.read(lambda connection: told(connection))

    assert not [word for word in ("first-click", "second-click", "other@", "Jane", "12.34.56.89") if word in left]
    assert {(row.order_id, row.state, row.reason) for row in stored} == {
        ("1", "skipped", "erased"), ("2", "skipped", "erased"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ({}, "email: is missing, and so are customer_id and visitor"),
        ({"email": "nobody"}, "email: is not an e-mail address"),
        ({"customer_id": " "}, "customer_id: is empty"),
        ({"visitor": "v" * 33}, "visitor: is longer than 32 characters"),
    ],
)
async def test_somebody_who_is_not_named_is_not_erased(tmp_path: Path, named: dict[str, Any], said: str) -> None:
    """Each of the three calls refuses, naming the field."""
    kit = shop(tmp_path, rokt())

    for call in (kit.erase, kit.allow_again, kit.export_person):
        with pytest.raises(InvalidInput, match=said):
            await call(**named)
    kit.store.close()


async def test_the_same_calls_without_an_event_loop(tmp_path: Path) -> None:
    """`kit.sync`: export, erase, allow again."""
    kit = shop(tmp_path, rokt())
    await kit.report(Conversion(order_id="1", email=JANE))

    exported = await asyncio.to_thread(kit.sync.export_person, email=JANE)
    erased = await asyncio.to_thread(kit.sync.erase, email=JANE)
    allowed = await asyncio.to_thread(kit.sync.allow_again, email=JANE)
    kit.store.close()

    assert [event["order_id"] for event in exported["events"]] == ["1"]
    assert erased.found.events == 1
    assert allowed


async def test_every_account_of_a_vendor_is_asked(tmp_path: Path) -> None:
    """Two brands, two deletions: both are queued. An account without one is named, and so are lists of customers."""
    brands = [rokt(), rokt(name="rokt-b", account="b"), deletion(), deletion(name="deletion-b", account="b")]
    lists = RoktAudience(account="b", public_key="rpub-1", secret_key="rsec-1")
    both, one = shop(tmp_path, *brands, lists), shop(tmp_path, *brands[:3])

    asked, missed = await both.erase(email=JANE), await one.erase(email="bob@example.com")
    both.store.close()
    one.store.close()

    assert (len(asked.found.requests), set(asked.by_hand)) == (2, {"rokt-audience"})
    assert (len(missed.found.requests), set(missed.by_hand)) == (1, {"rokt-b"})
