"""Each surface that takes orders, over real sockets against its strict sandbox, through each fault of a vendor."""

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import Conversion
from kit.destinations import Destination, Rokt, RoktAudience, RoktDeletion
from kit.model import ClickId, Identifiers
from kit.sandbox import Addresses, Credentials, Sandbox
from kit.sandbox.vendor import Vendor
from kit.store import people
from tests.delivery.world import GRANTED, World
from tests.support import NOON, FrozenClock, adroll, make_kit, rockerbox, rokt

Make = Callable[[Addresses, Credentials], Destination]


def _v1(at: Addresses, held: Credentials) -> Destination:
    return Rokt(
        account=held.rokt_account,
        app_id=held.rokt_app_id,
        app_secret=held.rokt_app_secret,
        base_url=at.rokt_url,
        mode="live",
    )


def _conversions(at: Addresses, held: Credentials) -> Destination:
    return Rokt(
        api_key=held.rokt_api_key, api_secret=held.rokt_api_secret, base_url=at.rokt_conversions_url, mode="live"
    )


SURFACES: dict[str, tuple[Make, Callable[[Sandbox], Vendor]]] = {
    "adroll": (lambda at, _: adroll(base_url=at.adroll_url), lambda sandbox: sandbox.adroll),
    "rokt v2": (lambda at, _: rokt(base_url=at.rokt_url), lambda sandbox: sandbox.rokt),
    "rokt v1": (_v1, lambda sandbox: sandbox.rokt),
    "conversions": (_conversions, lambda sandbox: sandbox.rokt_conversions),
    "rockerbox": (lambda at, _: rockerbox(base_url=at.rockerbox_url), lambda sandbox: sandbox.rockerbox),
}
DELIVERED = ("delivered", None)
FAULTS: dict[str, tuple[dict[str, Any], tuple[str, str | None]]] = {
    "none": ({"delay": 0.01}, DELIVERED),
    "500": ({"status": 500}, DELIVERED),
    "502": ({"status": 502}, DELIVERED),
    "503 and when": ({"status": 503, "retry_after": 30}, DELIVERED),
    "429": ({"status": 429}, DELIVERED),
    "429 and when": ({"status": 429, "retry_after": 7}, DELIVERED),
    "429 in words": ({"status": 429, "retry_after": "soon"}, DELIVERED),
    "408": ({"status": 408}, DELIVERED),
    "401": ({"status": 401}, DELIVERED),
    "403": ({"status": 403}, DELIVERED),
    "404": ({"status": 404}, DELIVERED),
    "302": ({"status": 302, "headers": {"location": "https://elsewhere.example/"}}, DELIVERED),
    "400": ({"status": 400}, ("dead", "rejected")),
    "413": ({"status": 413}, ("dead", "oversize")),
    "reset before": ({"reset": "before"}, DELIVERED),
    "reset during": ({"reset": "during"}, DELIVERED),
    "reset after": ({"reset": "after"}, DELIVERED),
    "closed": ({"close": True}, DELIVERED),
    "junk": ({"status": 200, "body": "<html>"}, DELIVERED),
    "dripping": ({"drip": 0.001}, DELIVERED),
}
#: AdRoll tells no repeat: an order that may have arrived waits for a person.
IN_DOUBT = {"reset before", "reset during", "reset after", "closed"}


@asynccontextmanager
async def faulty(folder: Path, make: Make, vendor_of: Callable[[Sandbox], Vendor], fault: str) -> AsyncIterator[World]:
    """A shop with this one destination, whose vendor has the fault before it."""
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    async with sandbox.serving() as vendors:
        kit = make_kit(folder, destinations=[make(vendors, sandbox.credentials)], clock=clock)
        vendor_of(sandbox).answers(**FAULTS[fault][0])
        yield World(kit, sandbox, clock)
        kit.store.close()


async def until_well(it: World, *, turns: int = 4, wait: timedelta = timedelta(minutes=20)) -> None:
    for _ in range(turns):
        await it.drain()
        it.clock.passes(wait)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("surface", SURFACES)
async def test_an_order_is_counted_once_through_each_fault(tmp_path: Path, surface: str, fault: str) -> None:
    """Delivered when the vendor is well again, or dead with its words; counted once, or not at all."""
    make, vendor_of = SURFACES[surface]
    async with faulty(tmp_path, make, vendor_of, fault) as it:
        await it.order("order-1")
        await until_well(it)
        (row,) = await it.rows("order-1")
        vendor = vendor_of(it.sandbox)

    held = surface == "adroll" and fault in IN_DOUBT
    assert (row.state, row.reason) == (("held", "outcome_unknown") if held else FAULTS[fault][1])
    arrived = row.state == "delivered" or (held and fault != "reset before")
    assert vendor.orders == ({"order-1": 1} if arrived else {})
    assert vendor.refusals == ()


def _audience(at: Addresses, held: Credentials) -> Destination:
    return RoktAudience(
        account=held.rokt_account,
        public_key=held.rokt_public_key,
        secret_key=held.rokt_secret_key,
        base_url=at.rokt_url,
        mode="live",
    )


def _older_audience(at: Addresses, held: Credentials) -> Destination:
    return RoktAudience(api_key=held.rokt_audience_key, base_url=at.rokt_url, mode="live")


def _deletion(at: Addresses, held: Credentials) -> Destination:
    return RoktDeletion(
        account=held.rokt_account,
        app_id=held.rokt_app_id,
        app_secret=held.rokt_app_secret,
        base_url=at.rokt_url,
        mode="live",
    )


def _postback(at: Addresses, _: Credentials) -> Destination:
    return rokt(base_url=at.rokt_url, postback=True)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("make", [_audience, _older_audience], ids=["v3", "1.0"])
async def test_a_member_is_on_the_list_after_each_fault(tmp_path: Path, make: Make, fault: str) -> None:
    """An import tells a repeat: what may have arrived is sent again, and nobody waits for a person."""
    async with faulty(tmp_path, make, lambda sandbox: sandbox.rokt_audience, fault) as it:
        await it.kit.audience("L", add=["jane@example.com"])
        await until_well(it)
        (row,) = await it.rows()

    assert (row.state, row.reason) == FAULTS[fault][1]
    jane = hashlib.sha256(b"jane@example.com").hexdigest()
    assert it.sandbox.rokt_audience.members("L") == ({jane} if row.state == "delivered" else set())
    assert it.sandbox.rokt_audience.refusals == ()


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_person_is_erased_after_each_fault(tmp_path: Path, fault: str) -> None:
    """Followed until Rokt says that it is done; a success without an id is a person's to ask about."""
    async with faulty(tmp_path, _deletion, lambda sandbox: sandbox.rokt_deletions, fault) as it:
        await it.kit.request_deletion(["jane@example.com"])
        await until_well(it)
        await until_well(it, turns=4, wait=timedelta(days=6))
        (row,) = await it.rows()

    ends = ("held", "outcome_unknown") if fault == "junk" else FAULTS[fault][1]
    assert (row.state, row.reason) == ends
    jane = hashlib.sha256(b"jane@example.com").hexdigest()
    erased = {person for erasure in it.sandbox.rokt_deletions.erasures for person in erasure.people}
    assert erased == ({jane} if row.state in {"delivered", "held"} else set())


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_click_alone_is_told_once_through_each_fault(tmp_path: Path, fault: str) -> None:
    """Rokt could tell no repeat of a postback: what may have arrived waits for a person, as does an odd answer."""
    async with faulty(tmp_path, _postback, lambda sandbox: sandbox.rokt_postback, fault) as it:
        found = Identifiers(click_ids=(ClickId("rokt", "f" * 32, NOON),))
        link = people.OrderLink(order_id="order-1", identifiers=found, consent=GRANTED)
        await it.kit.store.write(people.keep_orders, link)
        await it.kit.report(Conversion(order_id="order-1", value="5.00", currency="USD"))
        await until_well(it)
        (row,) = await it.rows()

    held = fault in IN_DOUBT | {"junk"}
    assert (row.state, row.reason) == (("held", "outcome_unknown") if held else FAULTS[fault][1])
    arrived = row.state == "delivered" or (held and fault != "reset before")
    assert len(it.sandbox.rokt_postback.accepted) == arrived
