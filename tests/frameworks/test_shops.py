"""Each framework's shop, served by a real server: the ten lines capture, identify and report in every one of them."""

import contextlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from kit.sandbox import Sandbox
from kit.store.overview import told
from kit.web.assets import kit_js
from tests.frameworks.browser import Browser, attributes, set_cookies
from tests.frameworks.servers import (
    Process,
    Server,
    granian,
    hypercorn,
    process,
    proxied,
    serving,
    until,
    uvicorn,
    variables,
    worker,
)
from tests.support import make_kit

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

README = Path(__file__).parents[2] / "README.md"
PASSBACK = "passbackconversiontrackingid"
LANDING = "/?adct=click123&rtid=rokt123"
ATTRIBUTES = {
    "__Host-kit": "Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax; Secure",
    "__adroll_fpc": "Path=/; Max-Age=31536000; SameSite=Lax; Secure; Domain=shop.com",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A shop and its server. `prefix` is where browsers find the shop.

    `root_path` is what the server is told of it, `stripped` whether the proxy before it takes it away, and `scheme` is
    what it makes of the proxy's X-Forwarded-Proto.
    """

    app: str
    server: Server
    prefix: str = ""
    root_path: str = ""
    stripped: bool = False
    scheme: str = "https"

    def __str__(self) -> str:
        how = "-stripped" if self.stripped else "-prefixed" if self.prefix else ""
        return f"{self.app.partition(':')[0]}-{self.server.__name__}{how}"


CASES = [
    Case(app="starlette_shop:app", server=uvicorn),
    Case(app="fastapi_shop:app", server=uvicorn),
    Case(app="litestar_shop:app", server=uvicorn),
    Case(app="quart_shop:app", server=uvicorn),
    Case(app="django_shop:application", server=uvicorn),
    Case(app="behind_proxy:by_granian", server=granian),
    Case(app="django_shop:application", server=hypercorn, scheme="http"),
    Case(app="mounted_shop:app", server=uvicorn, prefix="/shop"),
    # Uvicorn puts the prefix that a proxy took away back into the path, the others leave the path alone.
    Case(app="starlette_shop:app", server=uvicorn, prefix="/shop", root_path="/shop", stripped=True),
    Case(app="litestar_shop:app", server=uvicorn, prefix="/shop", root_path="/shop", stripped=True),
    Case(app="quart_shop:app", server=uvicorn, prefix="/shop", root_path="/shop", stripped=True),
    Case(app="django_shop:application", server=uvicorn, prefix="/shop", root_path="/shop", stripped=True),
    Case(app="behind_proxy:by_hypercorn", server=hypercorn, prefix="/shop", root_path="/shop"),
    Case(app="django_shop:application", server=granian, prefix="/shop", root_path="/shop", scheme="http"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_shop_captures_identifies_and_reports(case: Case, tmp_path: Path) -> None:
    """Cookies on the landing alone, kit.js and its posts, and each order once at each vendor, with its click."""
    sandbox = Sandbox()
    with (
        sandbox.serve() as vendors,
        serving(
            case.server,
            f"tests.frameworks.{case.app}",
            variables(sandbox, vendors, tmp_path),
            tmp_path,
            root_path=case.root_path,
        ) as (shop, inside),
        proxied(inside, case.prefix) if case.stripped else contextlib.nullcontext(inside) as url,
    ):
        async with Browser(url + case.prefix) as browser:
            await lands(browser)
            await runs_kit_js(browser, case.prefix)
            await buys(browser)
            until(lambda: all(vendor.counted == 2 for vendor in sandbox.vendors))
            await signs_out(Browser(browser.url, cookies=browser.cookies))
            await is_ended_while_an_order_is_under_way(browser, sandbox, shop)

    assert [vendor.orders for vendor in sandbox.vendors] == [Counter(linked=1, seen=1, late=1)] * 3
    assert states(tmp_path) == {"delivered"}
    told_of_the_click(sandbox, f"{case.scheme}://www.shop.com{case.prefix}")


@pytest.mark.parametrize("server", [uvicorn, hypercorn, granian])
async def test_django_alone_refuses_lifespan_and_a_worker_process_delivers(server: Server, tmp_path: Path) -> None:
    """Where nobody answers lifespan every page is served and every order accepted; `kit worker` delivers them."""
    sandbox = Sandbox()
    with sandbox.serve() as vendors:
        environment = variables(sandbox, vendors, tmp_path)
        with serving(server, "tests.frameworks.django_shop:bare", environment, tmp_path) as (shop, url):
            async with Browser(url) as browser:
                await lands(browser)
                await buys(browser)
            shop.stop()
        assert states(tmp_path) == {"pending"}

        with process(worker("tests.frameworks.django_shop:attribution"), environment, tmp_path) as delivering:
            until(lambda: all(vendor.counted == 2 for vendor in sandbox.vendors))
            delivering.stop()

    assert [vendor.orders for vendor in sandbox.vendors] == [Counter(linked=1, seen=1)] * 3
    assert states(tmp_path) == {"delivered"}


async def lands(browser: Browser) -> None:
    """The landing sets both cookies as they should be; the page after it sets none."""
    landing = await browser.open(LANDING)
    second = await browser.open("/")

    assert (landing.status_code, landing.headers["cache-control"], attributes(landing)) == (200, "private", ATTRIBUTES)
    assert (second.status_code, "cache-control" in second.headers, set_cookies(second)) == (200, False, [])


async def runs_kit_js(browser: Browser, prefix: str) -> None:
    """The page finds kit.js under its version, and what kit.js posts is taken."""
    source = re.search(rf'src="{prefix}(/kit/[^"]+)"', (await browser.open("/")).text)
    assert source is not None
    script = await browser.open(source.group(1))
    collected = await browser.fetch("/kit/collect", {"params": {}, "url": "https://www.shop.com/"})
    identified = await browser.fetch("/kit/identify", {"email": "jane@example.com"})

    assert script.content == kit_js().body
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert (collected.status_code, attributes(collected)) == (204, ATTRIBUTES)
    assert (identified.status_code, set_cookies(identified)) == (204, [])


async def buys(browser: Browser) -> None:
    """One order is linked at checkout and confirmed with no browser, one is confirmed by the browser; both twice."""
    async with Browser(browser.url) as provider:
        for asking, path in [
            (browser, "/sign-in"),
            (browser, "/checkout?order=linked"),
            (provider, "/confirm?order=linked"),
            (browser, "/confirm?order=seen"),
            (provider, "/confirm?order=linked"),
            (browser, "/confirm?order=seen"),
        ]:
            assert (await asking.submit(path)).status_code == 200


async def signs_out(browser: Browser) -> None:
    """The answer makes this browser a new visitor, on a shared device, and leaves AdRoll's cookie alone."""
    before = browser.cookies["__Host-kit"]
    async with browser:
        left = await browser.submit("/sign-out")

    assert (left.status_code, attributes(left)) == (200, {"__Host-kit": ATTRIBUTES["__Host-kit"]})
    assert browser.cookies["__Host-kit"][1:23] != before[1:23]


async def is_ended_while_an_order_is_under_way(browser: Browser, sandbox: Sandbox, shop: Process) -> None:
    """SIGTERM comes while a vendor takes its time to answer."""
    sandbox.rockerbox.answers(delay=0.3)
    await browser.submit("/confirm?order=late")
    until(lambda: len(sandbox.rockerbox.requests) == 3)
    shop.stop()


def states(folder: Path) -> set[str]:
    """Return the states of all deliveries that the shop's store holds."""
    kit = make_kit(folder)
    kit.open()
    rows = kit.store.read_sync(lambda connection: told(connection, newest=100))
    kit.store.close()
    assert len(rows) >= 6
    return {row.state for row in rows}


def told_of_the_click(sandbox: Sandbox, shop: str) -> None:
    """Each vendor was given the landing's click id or the person, and AdRoll the page where the order was linked."""
    clicks = [event["identifiers"]["adct"] for event in sandbox.adroll.accepted]
    pages = {event["event_attributes"]["order_id"]: event["page_location"] for event in sandbox.adroll.accepted}
    rokt = [
        pair["value"] for event in sandbox.rokt.accepted for pair in event["objectData"] if pair["name"] == PASSBACK
    ]
    people = [(event["email"], event["customer_id"]) for event in sandbox.rockerbox.accepted]

    assert (clicks, rokt) == (["click123"] * 3, ["rokt123"] * 3)
    assert (pages["linked"], pages["seen"]) == (f"{shop}/checkout", f"{shop}/confirm")
    assert people == [("jane@example.com", "customer-42")] * 3


@pytest.mark.parametrize("block", re.findall(r"```py\n(.*?)```", README.read_text(), re.DOTALL))
def test_the_readme_prints_what_runs(block: str) -> None:
    """Each framework's snippet stands word for word in its shop."""
    assert any(block in shop.read_text() for shop in Path(__file__).parent.glob("*_shop.py"))
