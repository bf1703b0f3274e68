"""Each surface that takes orders, over real sockets against its strict sandbox, through each fault of a vendor."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.destinations import Destination, Rokt
from kit.sandbox import Addresses, Credentials, Sandbox
from kit.sandbox.vendor import Vendor
from tests.delivery.world import World
from tests.support import FrozenClock, adroll, make_kit, rockerbox, rokt

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


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("surface", SURFACES)
async def test_an_order_is_counted_once_through_each_fault(tmp_path: Path, surface: str, fault: str) -> None:
    """Delivered when the vendor is well again, or dead with its words; counted once, or not at all."""
    make, vendor_of = SURFACES[surface]
    script, ends = FAULTS[fault]
    clock = FrozenClock()
    sandbox = Sandbox(clock=clock)
    vendor = vendor_of(sandbox)
    async with sandbox.serving() as vendors:
        kit = make_kit(tmp_path, destinations=[make(vendors, sandbox.credentials)], clock=clock)
        it = World(kit, sandbox, clock)
        vendor.answers(**script)
        await it.order("order-1")
        for _ in range(4):
            await it.drain()
            clock.passes(timedelta(minutes=20))
        (row,) = await it.rows("order-1")
        kit.store.close()

    held = surface == "adroll" and fault in IN_DOUBT
    assert (row.state, row.reason) == (("held", "outcome_unknown") if held else ends)
    arrived = row.state == "delivered" or (held and fault != "reset before")
    assert vendor.orders == ({"order-1": 1} if arrived else {})
    assert vendor.refusals == ()
