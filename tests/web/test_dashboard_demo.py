"""The demo shop's dashboard: linked from its pages, open to whoever sits at the machine."""

import httpx
import pytest

from kit import Kit
from kit.sandbox.shop import shop


@pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("::1", 200), ("192.0.2.7", 403)])
async def test_the_demo_lets_in_who_sits_at_the_machine(kit: Kit, address: str, status: int) -> None:
    """Another machine, if the demo could be reached from one, is nobody's staff; a header changes nothing."""
    transport = httpx.ASGITransport(shop(kit), client=(address, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        answer = await client.get("/attribution/", headers={"x-forwarded-for": "127.0.0.1"})

    assert answer.status_code == status


async def test_the_demo_shop_links_to_it(kit: Kit) -> None:
    """From every page."""
    transport = httpx.ASGITransport(shop(kit))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        landing = await client.get("/", headers={"accept": "text/html"})

    assert '<a href="/attribution/">Dashboard</a>' in landing.text
