"""A vendor remembers the newest requests, and counts all of them."""

from decimal import Decimal

import httpx

from kit.sandbox import Sandbox

from .test_adroll import purchase
from .vectors import EVENT, NOW, VECTORS, WEBHOOK


async def test_only_the_newest_requests_are_kept() -> None:
    """Older ones are forgotten; the total still counts them, and so does deduplication for a while."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, keep=2)

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        for order in ("1", "2", "3", "1"):
            await client.post(WEBHOOK, json=EVENT | {"order_id": order})

    assert [received.events[0]["order_id"] for received in sandbox.rockerbox.requests] == ["3", "1"]
    assert sandbox.rockerbox.orders == {"3": 1}
    assert sandbox.rockerbox.counted == 3


async def test_order_ids_are_forgotten_in_the_end() -> None:
    """Ten times as many as requests are kept, so that a sandbox that runs for weeks stays small; sums go on."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, keep=1)
    token = {"Authorization": "Token SAT-1"}

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        for order in [*range(11), 0]:
            event = purchase(event_attributes={"order_id": str(order)}, conversion_value="1")
            await client.post("/adroll/api?advertisable=ADVEID0000000000000001", headers=token, json=[event])

    view = sandbox.adroll.view
    assert (view.requests, view.counted, view.money) == (12, 12, {"USD": Decimal(12)})
    assert (view.orders, view.more_than_once) == (12, {})
