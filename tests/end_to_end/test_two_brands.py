"""Two brands in one shop: two accounts of one vendor side by side, each told its own orders and no other's."""

from datetime import timedelta
from pathlib import Path

import pytest

from kit import Conversion
from kit.destinations import Destination, Rockerbox, Rokt
from kit.model import Dispatch
from kit.sandbox import Credentials, Sandbox
from kit.store.overview import standings
from tests.support import make_kit

pytestmark = pytest.mark.usefixtures("both_engines")


def of(brand: str, sandbox: Sandbox, url: str) -> list[Destination]:
    """Return one brand's accounts, which take what is marked as its own."""
    held = sandbox.credentials

    def its_own(dispatch: Dispatch) -> bool:
        return dispatch.conversion.extra.get("brand") == brand

    return [
        Rokt(
            name=f"rokt-{brand}",
            account=held.rokt_account,
            public_key=held.rokt_public_key,
            secret_key=held.rokt_secret_key,
            base_url=f"{url}/rokt",
            takes=its_own,
            mode="live",
        ),
        Rockerbox(
            name=f"rockerbox-{brand}",
            advertiser=held.rockerbox_advertiser,
            base_url=f"{url}/rockerbox",
            takes=its_own,
            mode="live",
            requests_per_second=100.0,
            horizon=timedelta(days=3),
        ),
    ]


async def test_each_brands_orders_go_to_its_own_accounts(tmp_path: Path) -> None:
    """What belongs to the other brand is skipped(policy), so that every destination still accounts for every order."""
    shoes, hats = (
        Sandbox(Credentials(rokt_account=f"account-{name}", rockerbox_advertiser=f"advertiser-{name}"))
        for name in ("shoes", "hats")
    )
    async with shoes.serving() as for_shoes, hats.serving() as for_hats:
        kit = make_kit(tmp_path, destinations=[*of("shoes", shoes, for_shoes.url), *of("hats", hats, for_hats.url)])
        for number, brand in enumerate(["shoes", "hats", "shoes"]):
            await kit.report(
                Conversion(
                    order_id=f"{brand}-{number}",
                    value="19.90",
                    currency="USD",
                    email="jane@example.com",
                    extra={"brand": brand},
                )
            )
        await kit.worker.drain()
        found = {one.destination: one.counts for one in standings(kit.store)}
        kit.store.close()

    assert set(shoes.rokt.orders) == set(shoes.rockerbox.orders) == {"shoes-0", "shoes-2"}
    assert set(hats.rokt.orders) == set(hats.rockerbox.orders) == {"hats-1"}
    assert found["rokt-shoes"] == {("delivered", None): 2, ("skipped", "policy"): 1}
    assert found["rockerbox-hats"] == {("delivered", None): 1, ("skipped", "policy"): 2}
