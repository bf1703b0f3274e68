"""Several hosts and brands in one process: no cookie, click id or identity of one is ever seen at another."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Host, Mount, Route

from kit import Conversion, Kit
from kit.capture import visitor_of
from kit.sandbox import Addresses, Sandbox
from kit.sandbox.sockets import served_in_loop
from kit.web import CaptureMiddleware, endpoints
from kit.web.middleware import App
from tests.frameworks.browser import Browser, attributes
from tests.support import adroll, make_kit, rockerbox, rokt

ACME, GLOBEX = "www.acme.com", "www.globex.co.uk"
VISITORS = 20


def pages(attribution: Kit) -> list[Route | Mount]:
    async def landing(request: Request) -> Response:
        visitor = visitor_of(request)
        await asyncio.sleep(0)  # another host's request comes in between
        return Response(visitor.id if visitor is not None else "nobody")

    async def sign_in(request: Request) -> Response:
        await attribution.identify(request, email=request.query_params["email"])
        return Response("Hello")

    async def confirm(request: Request) -> Response:
        order = request.query_params["order"]
        await attribution.report(Conversion(order_id=order, value="19.90", currency="USD"), request)
        return Response("Thank you")

    return [
        Route("/", landing),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/confirm", confirm, methods=["POST"]),
        Mount("/kit", endpoints(attribution)),
    ]


def shop(attribution: Kit) -> App:
    return CaptureMiddleware(Starlette(routes=pages(attribution)), kit=attribution)


def kit_of(folder: Path, vendors: Addresses, key: str) -> Kit:
    folder.mkdir()
    return make_kit(
        folder,
        secret_keys=[key],
        insecure_cookies=False,
        destinations=[
            adroll(base_url=vendors.adroll_url),
            rokt(base_url=vendors.rokt_url),
            rockerbox(base_url=vendors.rockerbox_url),
        ],
    )


@contextlib.asynccontextmanager
async def two_brands(folder: Path, sandboxes: dict[str, Sandbox]) -> AsyncIterator[tuple[str, dict[str, Kit]]]:
    """Serve a brand at each host from one process; yield its URL, and the kits when the vendors have heard of all."""
    async with contextlib.AsyncExitStack() as stack:
        kits = {
            host: kit_of(folder / host, await stack.enter_async_context(sandbox.serving()), f"the key of {host}")
            for host, sandbox in sandboxes.items()
        }
        for kit in kits.values():
            await stack.enter_async_context(kit.lifespan())
        app = Starlette(routes=[Host(host, shop(kit)) for host, kit in kits.items()])
        yield await stack.enter_async_context(served_in_loop(app, "127.0.0.1", 0)), kits
        for kit in kits.values():
            await kit.worker.drain()


async def buys(url: str, host: str, name: str) -> str:
    """Land, sign in and buy as a visitor whose click id, e-mail and order carry this name; return the visitor's id."""
    async with Browser(url, host) as browser:
        landing = await browser.open(f"/?adct={name}&rtid={name}")
        assert (await browser.submit(f"/sign-in?email={name}@example.com")).status_code == 200
        assert (await browser.submit(f"/confirm?order={name}")).status_code == 200
        assert (await browser.open("/")).text == landing.text
        return landing.text


async def test_brands_in_one_process_never_meet(tmp_path: Path) -> None:
    """Many visitors of two brands at once: each vendor account hears of its own brand's clicks, people and orders."""
    sandboxes = {ACME: Sandbox(), GLOBEX: Sandbox()}
    names = {host: {f"{host[4:8]}{number}" for number in range(VISITORS)} for host in sandboxes}
    async with two_brands(tmp_path, sandboxes) as (url, _):
        seen = await asyncio.gather(*(buys(url, host, name) for host, own in names.items() for name in own))

    assert len(set(seen)) == 2 * VISITORS
    for host, sandbox in sandboxes.items():
        heard = {
            (event["event_attributes"]["order_id"], event["identifiers"]["adct"]) for event in sandbox.adroll.accepted
        }
        people = {(event["order_id"], event["email"]) for event in sandbox.rockerbox.accepted}
        assert heard == {(name, name) for name in names[host]}
        assert people == {(name, f"{name}@example.com") for name in names[host]}
        assert sandbox.rokt.orders == dict.fromkeys(names[host], 1)


async def test_another_brands_cookie_is_nobodys(tmp_path: Path) -> None:
    """A visitor cookie that one brand signed gives nothing at the other: a new visitor, and an order with no click."""
    sandboxes = {ACME: Sandbox(), GLOBEX: Sandbox()}
    async with two_brands(tmp_path, sandboxes) as (url, _):
        async with Browser(url, ACME) as browser:
            at_acme = (await browser.open("/?adct=acme-click")).text
            await browser.submit("/sign-in?email=jane@example.com")
        stolen = {"__Host-kit": browser.cookies["__Host-kit"]}
        async with Browser(url, GLOBEX, cookies=stolen) as browser:
            await browser.submit("/confirm?order=1")
            landing = await browser.open("/")

    assert landing.text not in {at_acme, "nobody"}
    assert attributes(landing).keys() == {"__Host-kit", "__adroll_fpc"}
    assert browser.cookies["__Host-kit"] != stolen["__Host-kit"]
    assert [vendor.counted for sandbox in sandboxes.values() for vendor in sandbox.vendors] == [0] * 6


async def test_one_kit_serves_many_hosts_with_the_cookies_of_each(tmp_path: Path) -> None:
    """No host is remembered from a request to another: each is given cookies of its own domain, whoever came first."""
    kit = make_kit(tmp_path, insecure_cookies=False)
    async with kit.lifespan(), served_in_loop(shop(kit), "127.0.0.1", 0) as url:
        for host, domain in [(ACME, "acme.com"), (GLOBEX, "globex.co.uk"), (ACME, "acme.com")]:
            async with Browser(url, host) as browser:
                set_there = attributes(await browser.open("/"))

            assert set_there["__adroll_fpc"].endswith(f"; Domain={domain}")
            assert "Domain" not in set_there["__Host-kit"]
