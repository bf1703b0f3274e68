"""What a person is given of themselves, and what is given of nobody else; decisions, as they were taken and counted."""

import json
from pathlib import Path
from typing import Any

import pytest

from kit.model import Consent
from kit.store import access, people
from tests.store.traces import BOB, BOBS, GRANTED, JANE, JANES, PAGE, PHONE, SHOP, Shop, shop, visitor
from tests.support import NOON

pytestmark = pytest.mark.usefixtures("both_engines")


async def _export(it: Shop, **named: Any) -> dict[str, Any]:
    found = await it.kit.export_person(**named)
    assert json.loads(json.dumps(found)) == found
    return found


async def test_a_person_is_given_all_that_is_theirs(tmp_path: Path) -> None:
    """Links, clicks, decisions, snapshots, orders, and what each destination was told, when, and what it said."""
    async with shop(tmp_path) as it:
        await it.touch("a", "her-click")
        await it.link("a", *SHOP, JANE, JANES, PHONE)
        await it.snapshot("order-1", "a")
        await it.order("order-1", "a", email=JANE[1], first_name="Jane")
        await it.order("order-1", "a", email=JANE[1], value="29.90")
        it.sandbox.rokt.answers(503, times=1)
        await it.kit.worker.drain()
        it.clock.now = it.clock.now.replace(hour=18)
        await it.kit.worker.drain()

        found = await _export(it, email="JANE@example.com")

        assert found["person"] == {
            "emails": [JANE[1]],
            "customer_ids": ["1"],
            "visitors": [visitor("a")],
            "visitors_shared_with_others": [],
            "names_not_followed": 0,
        }
        assert {(one["kind"], one["value"], one["level"]) for one in found["links"]} >= {
            ("email", JANE[1], "verified"),
            ("customer", "1", "verified"),
            ("phone", PHONE[1], "verified"),
        }
        assert [one["click_id"] for one in found["touchpoints"]] == ["her-click"]
        assert [(one["granted"], one["signal"]) for one in found["consents"]] == [(True, "page")]
        assert [one["identifiers"]["ip"] for one in found["orders"]] == ["12.34.56.89"]
        (event,) = found["events"]
        assert event["conversion"]["first_name"] == "Jane"
        assert [one["conversion"]["value"] for one in event["said_differently"]] == ["29.90"]
        sent = {one["destination"]: one for one in event["deliveries"]}
        assert [(one["status"], one["outcome"]) for one in sent["rokt"]["attempts"]] == [
            (503, "transient"),
            (200, "ok"),
        ]
        assert sent["rokt"]["attempts"][0]["opened_at"] < sent["rokt"]["attempts"][1]["opened_at"]
        assert sent["rockerbox"]["state"] == "delivered"
        assert JANE[1] in json.dumps(sent["rockerbox"]["told"])


async def test_a_person_is_given_nothing_of_anybody_else(tmp_path: Path) -> None:
    """Not his click on the browser that both used, nor his order there; only her own link and her own order."""
    async with shop(tmp_path) as it:
        await it.touch("a", "whose-click")
        await it.link("a", *PAGE, JANE)
        await it.link("a", *PAGE, BOB)
        await it.order("order-1", "a", email=JANE[1])
        await it.order("order-2", "a", email=BOB[1])

        found = await _export(it, email=JANE[1])

        assert BOB[1] not in json.dumps(found)
        assert [one["value"] for one in found["links"]] == [JANE[1]]
        assert [one["order_id"] for one in found["events"]] == ["order-1"]
        assert found["touchpoints"] == []
        assert found["person"]["visitors_shared_with_others"] == [visitor("a")]


async def test_what_somebody_else_repeated_is_the_order_and_its_money(tmp_path: Path) -> None:
    """Of a repeat that names somebody else she is given what differs; of her own repeat all that it said."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1])
        await it.order("order-1", "b", email=BOB[1], value="29.90", address={"line1": "Bob street"})
        await it.order("order-1", "a", email="JANE@example.com", value="39.90", address={"line1": "Jane street"})

        found = await _export(it, email=JANE[1])
        (event,) = found["events"]
        his, hers = (one["conversion"] for one in event["said_differently"])

        assert (his["value"], hers["value"]) == ("29.90", "39.90")
        assert hers["address"]["line1"] == "Jane street"
        assert not [word for word in (BOB[1], "Bob street") if word in json.dumps(found)]


@pytest.mark.parametrize("signed_in", [True, False])
async def test_who_typed_somebodys_address_is_not_given_that_somebody(tmp_path: Path, signed_in: bool) -> None:
    """A customer orders with her address: by his number nothing of hers is read out, and nothing of hers goes."""
    async with shop(tmp_path) as it:
        await it.order("order-1", "a", email=JANE[1], address={"line1": "Jane street"})
        if signed_in:
            await it.link("b", *SHOP, BOBS, BOB)
        await it.order("order-2", "b", email=JANE[1], customer_id=BOBS[1])

        found = await _export(it, customer_id=BOBS[1])
        gone = await it.erase(customer_id=BOBS[1])

        assert [one["order_id"] for one in found["events"]] == ["order-2"]
        assert "Jane street" not in json.dumps(found)
        assert found["person"]["emails"] == ([BOB[1]] if signed_in else [])
        assert found["person"]["names_not_followed"] == 1
        assert (gone.events, gone.not_followed) == (1, 1)
        assert await it.states("order-1") == {("pending", None)}
        assert await it.order("order-3", "c", email=JANE[1])
        assert await it.states("order-3") == {("pending", None)}


async def test_after_an_erasure_there_is_nothing_to_give(tmp_path: Path) -> None:
    """The export is the proof of it."""
    async with shop(tmp_path) as it:
        await it.touch("a", "her-click")
        await it.order("order-1", "a", email=JANE[1], customer_id="1")
        await it.erase(email=JANE[1])

        found = await _export(it, email=JANE[1], customer_id="1", visitor=visitor("a"))

        assert [found[name] for name in ("links", "touchpoints", "consents", "orders", "events")] == [
            [],
            [],
            [],
            [],
            [],
        ]


async def test_decisions_are_told_as_taken_and_as_they_counted(tmp_path: Path) -> None:
    """Of one visitor or of all, of a period or of all time: who decided what, when, and what then was not sent."""
    async with shop(tmp_path) as it:
        refused = Consent(granted=False, signal="page", at=it.clock().replace(hour=15))
        await it.kit.store.write(people.keep_decisions, (visitor("a"), GRANTED))
        await it.kit.store.write(people.keep_decisions, (visitor("a"), refused))
        await it.kit.store.write(people.keep_decisions, (visitor("b"), GRANTED))
        await it.order("order-1", "a", email=JANE[1])
        await it.order("order-2", "b", email=BOB[1])

        def of(visitors: list[str] | None, **period: Any) -> list[tuple[str, bool, str]]:
            found = access.decisions(it.kit.store, visitors=visitors, **period)
            return [(one["visitor"], one["granted"], one["at"]) for one in found]

        counted = list(access.applied(it.kit.store, visitors=None))
        later = list(access.applied(it.kit.store, visitors=None, since=it.clock()))

        noon, three = NOON.isoformat(), NOON.replace(hour=15).isoformat()
        assert of([visitor("a")]) == [(visitor("a"), True, noon), (visitor("a"), False, three)]
        assert sorted(of(None)) == sorted([*of([visitor("a")]), (visitor("b"), True, noon)])
        assert of(None, since=NOON.replace(hour=13)) == [(visitor("a"), False, three)]
        assert of([visitor("a")], until=NOON.replace(hour=13)) == [(visitor("a"), True, noon)]
        assert {(one["order_id"], one["granted"], one["destination"], one["reason"]) for one in counted} == {
            ("order-1", False, "rokt", "consent"),
            ("order-1", False, "rockerbox", "consent"),
            ("order-2", True, "rokt", None),
            ("order-2", True, "rockerbox", None),
        }
        assert {one["order_id"] for one in later} == {"order-2"}
