"""What we send is taken by the strict sandbox: two readings of contracts.md, ours and the servers', agree."""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given, settings

from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.destinations.base import Answer, Judgement, Sending
from kit.model import Dispatch, Verdict
from kit.sandbox import Credentials, Sandbox

from .dispatch_samples import NOW, dispatch, golden, sending
from .test_payloads import dispatches

VENDORS: tuple[Destination, ...] = (
    AdRoll(advertisable="ADVEID0000000000000001", pixel="PIXEID0000000000000001", token="SAT-1"),
    Rokt(account="12345", public_key="rpub-1111", secret_key="rsec-2222"),
    Rockerbox(advertiser="ADV_ID"),
)


def ask(destination: Destination, sendings: Sequence[Sending]) -> Sequence[Judgement]:
    """Send to a fresh sandbox without a socket, and judge its answer."""
    account = Credentials(
        adroll_advertisable="ADVEID0000000000000001",
        adroll_pixel="PIXEID0000000000000001",
        adroll_token="SAT-1",
        rokt_account="12345",
        rokt_public_key="rpub-1111",
        rokt_secret_key="rsec-2222",
        rockerbox_advertiser="ADV_ID",
    )

    async def exchange() -> Answer:
        request = destination.build(sendings)
        request.url = request.url.copy_with(path=f"/{destination.vendor}{request.url.path}")
        async with httpx.AsyncClient(transport=Sandbox(account, clock=lambda: NOW).transport()) as client:
            response = await client.send(request)
        return Answer(status=response.status_code, headers=response.headers, body=response.content)

    return destination.judge(sendings, asyncio.run(exchange()), now=NOW)


@pytest.mark.parametrize("name", ["AR-1", "AR-2", "AR-3", "RK-1", "RK-3", "RB-1", "RB-3", "RB-4"])
def test_the_vectors_are_taken(name: str) -> None:
    """Every golden request passes the strict checks of its vendor."""
    destination = VENDORS[["AR", "RK", "RB"].index(name[:2])]
    told = golden(name).told

    assert [judgement.verdict for judgement in ask(destination, [sending(destination, told)])] == [Verdict.OK]


@settings(max_examples=40, deadline=None)
@given(dispatches())
def test_what_passes_check_is_taken(told: Dispatch) -> None:
    """Whatever check lets through, the vendor's documented rules take."""
    for destination in VENDORS:
        if destination.check(told, now=NOW) is None:
            (judgement,) = ask(destination, [sending(destination, told)])
            assert judgement.verdict is Verdict.OK, judgement.detail


def test_a_full_batch_is_taken() -> None:
    """A hundred page views for AdRoll, a hundred orders for Rokt."""
    adroll, rokt, _ = VENDORS
    known: dict[str, Any] = {
        "click_ids": {"adroll": "a", "rokt": "r"},
        "ip": "12.34.56.89",
        "url": "https://shop.test/",
    }
    views = [dispatch({"name": "page_view"}, event_id=f"v{n}", **known) for n in range(100)]
    orders = [dispatch({"name": "purchase", "order_id": str(n)}, event_id=f"o{n}", **known) for n in range(100)]

    assert {one.verdict for one in ask(adroll, [sending(adroll, told) for told in views])} == {Verdict.OK}
    assert {one.verdict for one in ask(rokt, [sending(rokt, told) for told in orders])} == {Verdict.OK}
