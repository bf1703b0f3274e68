"""The dashboard's door: who may look, which page is meant wherever it is mounted, who may press a button."""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Router

from kit import ConfigurationError, Conversion, Kit, StoreUnavailable
from kit.store.overview import standings
from kit.web import dashboard
from kit.web.assets import static_file
from tests.support import NOON, FrozenClock, make_kit

SAME = {"sec-fetch-site": "same-origin"}
PAGES = ["", "orders", "order?id=nobody", f"dashboard.{static_file('dashboard.css').version}.css", "nonsense"]
BUTTONS = ["pause", "resume", "replay", "resolve"]


def everybody(request: Request) -> bool:
    return True


@asynccontextmanager
async def looking(app: Any, *, at: str = "/attribution/", **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, **options)
    async with httpx.AsyncClient(transport=transport, base_url=f"https://www.shop.com{at}") as client:
        yield client


def mounted(kit: Kit, authorize: Any = everybody) -> Starlette:
    return Starlette(routes=[Mount("/attribution", dashboard(kit, authorize=authorize))])


# ---------------------------------------------------------------- who may look


def test_nobody_is_let_in_by_default(kit: Kit) -> None:
    """There is no dashboard without a word on who may look, and True is no such word."""
    with pytest.raises(TypeError, match="authorize"):
        dashboard(kit)  # type: ignore[call-arg]
    with pytest.raises(ConfigurationError, match=r"dashboard\(authorize=...\): is no function"):
        dashboard(kit, authorize=True)  # type: ignore[arg-type]


async def _yes(request: Request) -> bool:
    return True


async def _no(request: Request) -> bool:
    return False


@pytest.mark.parametrize(
    "authorize",
    [lambda _: False, lambda _: None, lambda _: 1, lambda _: "yes", _no, lambda _: 1 / 0, lambda _: next(iter(()))],
)
async def test_whoever_is_not_let_in_sees_nothing(kit: Kit, authorize: Any) -> None:
    """Anything but True, and an exception, is the same bare 403 on every address, whatever the method."""
    async with looking(mounted(kit, authorize)) as client:
        answers = [
            await client.request(method, page, headers=SAME)
            for method in ("GET", "POST", "DELETE")
            for page in (*PAGES, *BUTTONS)
        ]

    assert {(answer.status_code, answer.text) for answer in answers} == {(403, "Forbidden")}


@pytest.mark.parametrize("authorize", [everybody, _yes])
async def test_true_lets_in(kit: Kit, authorize: Any) -> None:
    """Said by a plain function or by an async one."""
    async with looking(mounted(kit, authorize)) as client:
        answer = await client.get("")

    assert answer.status_code == 200
    assert "<h1>Overview</h1>" in answer.text


async def test_a_plain_function_does_not_hold_the_event_loop(kit: Kit) -> None:
    """It may ask a database who this is: it runs in a thread."""
    asked: list[int] = []

    def authorize(request: Request) -> bool:
        asked.append(threading.get_ident())
        return True

    async with looking(mounted(kit, authorize)) as client:
        await client.get("orders")

    assert asked
    assert threading.get_ident() not in asked


async def test_a_function_that_raises_is_counted_without_its_words(kit: Kit, caplog: pytest.LogCaptureFixture) -> None:
    """Its error may name a person."""

    def authorize(request: Request) -> bool:
        raise LookupError("jane@example.com")

    async with looking(mounted(kit, authorize)) as client:
        await client.get("")
        await client.get("")

    assert kit.faults.counts["dashboard.authorize"] == 2
    assert "jane" not in caplog.text + str([vars(record) for record in caplog.records])


async def test_authorize_sees_the_request_as_it_came(kit: Kit) -> None:
    """With the session and the user that the shop's own middleware put there."""
    seen: list[Any] = []

    def authorize(request: Request) -> bool:
        seen.append((request.url.path, request.cookies, request.scope["user"]))
        return True

    app = mounted(kit, authorize)

    async def with_user(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "user": "jane"}, receive, send)

    async with looking(with_user) as client:
        await client.get("orders", headers={"cookie": "session=1"})

    assert seen == [("/attribution/orders", {"session": "1"}, "jane")]


# ---------------------------------------------------------------- what a browser may do with a page


async def test_every_answer_has_the_strict_headers(kit: Kit) -> None:
    """No script, nothing from elsewhere, in no frame, kept nowhere."""
    async with looking(mounted(kit)) as client, looking(mounted(kit, lambda _: False)) as stranger:
        answers = {page: await client.get(page) for page in PAGES}
        answers["refused"] = await stranger.get("")
        answers["done"] = await client.post("pause", data={"destination": "rokt"}, headers=SAME)

    policy = (
        "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; "
        "base-uri 'none'"
    )
    for page, answer in answers.items():
        assert answer.headers["content-security-policy"] == policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "set-cookie" not in answer.headers
        assert page.endswith(".css") or answer.headers["cache-control"] == "no-store"


async def test_the_style_sheet_is_kept_for_a_year_under_its_version(kit: Kit) -> None:
    """An older version's page gets the one there is, to be asked for again."""
    async with looking(mounted(kit)) as client:
        page = await client.get("")
        style = page.text.partition('rel="stylesheet" href="')[2].partition('"')[0]
        current, older = await client.get(style), await client.get("dashboard.0123456789ab.css")

    assert current.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert current.headers["content-type"].startswith("text/css")
    assert older.headers["cache-control"] == "no-cache"
    assert current.content == older.content == static_file("dashboard.css").body


async def test_what_is_no_page_is_said(kit: Kit) -> None:
    """An unknown name, a method that a page has not, a button that is only looked at."""
    async with looking(mounted(kit)) as client:
        unknown, posted, looked_at = await client.get("etc"), await client.post("orders"), await client.get("pause")
        head = await client.head("")

    assert unknown.status_code == 404
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET, HEAD")
    assert (looked_at.status_code, looked_at.headers["allow"]) == (405, "POST")
    assert head.status_code == 200


async def test_a_store_that_is_gone_is_said(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a 503, and counted."""

    def gone(query: Any) -> Any:
        raise StoreUnavailable("OperationalError")

    async with looking(mounted(kit)) as client:
        monkeypatch.setattr(kit.store, "read_sync", gone)
        answers = [await client.get(page) for page in ("", "orders", "order?id=x")]

    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert kit.faults.counts["dashboard"] == 3


async def test_a_websocket_is_turned_away(kit: Kit) -> None:
    """Without asking anybody."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await dashboard(kit, authorize=everybody)({"type": "websocket", "path": "/", "headers": []}, None, send)

    assert [message["type"] for message in sent] == ["websocket.close"]


# ---------------------------------------------------------------- wherever it is mounted


def _starlette(app: Any) -> Any:
    return Starlette(routes=[Mount("/attribution", app)])


def _nested(app: Any) -> Any:
    return Starlette(routes=[Mount("/shop", _starlette(app))])


def _fastapi(app: Any) -> Any:
    shop = FastAPI()
    shop.mount("/attribution", app)
    return shop


def _litestar(app: Any) -> Any:
    @asgi("/attribution", is_mount=True, copy_scope=True)
    async def handler(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    handler.fn.__annotations__.update(scope=Any, receive=Any, send=Any)
    return Litestar([handler], openapi_config=None)


def _django(app: Any) -> Any:
    async def django(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("this was not for Django")

    return Router([Mount("/attribution", app)], default=django)


def _alone(app: Any) -> Any:
    return app


Place = tuple[Callable[[Any], Any], str, dict[str, str]]
PLACES: dict[str, Place] = {
    "starlette": (_starlette, "/attribution", {}),
    "nested": (_nested, "/shop/attribution", {}),
    "fastapi": (_fastapi, "/attribution", {}),
    "litestar": (_litestar, "/attribution", {}),
    "quart and django": (_django, "/attribution", {}),
    "alone": (_alone, "", {}),
    "behind a proxy that takes a prefix away": (_starlette, "/attribution", {"root_path": "/shop"}),
}


def _link(page: httpx.Response, pattern: str) -> str:
    found = re.search(pattern, page.text)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("place", PLACES)
async def test_pages_link_to_each_other_wherever_they_are(kit: Kit, place: str) -> None:
    """From the bare mount, with a slash too many or one too few: each link leads to a page, each form to a button."""
    wrapped, prefix, options = PLACES[place]
    app = wrapped(dashboard(kit, authorize=everybody))
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))

    async with looking(app, at="", **options) as client:
        client.follow_redirects = True
        bare = await client.get(f"{prefix}")
        slashed = await client.get(f"{prefix}/")
        orders = await client.get(f"{prefix}/orders/?state=pending")
        order = await client.get(orders.url.join(_link(orders, r'href="(order\?id=[^"]+)"')))
        styled = await client.get(order.url.join(_link(order, r'rel="stylesheet" href="([^"]+)"')))
        home = await client.get(order.url.join(_link(order, r'href="([^"]+)">Overview')))
        action = _link(home, r'action="(pause)"')
        paused = await client.post(home.url.join(action), data={"destination": "rokt"}, headers=SAME)

    assert "<h1>Overview</h1>" in bare.text
    assert bare.text.partition("<footer")[0] == slashed.text.partition("<footer")[0]
    assert orders.url.path == f"{prefix}/orders"
    assert orders.url.query == b"state=pending"
    assert "order-1" in orders.text
    assert "<h1>Order order-1</h1>" in order.text
    assert home.url == slashed.url
    assert paused.url.path == f"{prefix}/"
    assert "Go on" in paused.text
    assert styled.status_code == 200


@pytest.mark.parametrize(
    ("path", "root", "found"),
    [
        ("/attribution/orders", "/shop/attribution", "<h1>Orders</h1>"),
        ("/attribution/", "/shop/attribution", "<h1>Overview</h1>"),
        ("/orders/orders", "/orders", "<h1>Orders</h1>"),
        ("/orders/", "/orders", "<h1>Overview</h1>"),
    ],
)
async def test_a_root_path_that_is_not_in_the_path_is_understood(kit: Kit, path: str, root: str, found: str) -> None:
    """As hypercorn and granian tell it; and a mount that is called as a page is."""
    app = dashboard(kit, authorize=everybody)

    async def told(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": root}, receive, send)

    async with looking(told, at="") as client:
        answer = await client.get(path)

    assert found in answer.text


# ---------------------------------------------------------------- who may press a button

FOREIGN: list[dict[str, str]] = [
    {},
    {"sec-fetch-site": "cross-site", "origin": "https://www.shop.com"},
    {"sec-fetch-site": "same-site", "origin": "https://blog.shop.com"},
    {"sec-fetch-site": "none"},
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site", "origin": "https://partner.example"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_button_of_another_page_does_nothing(
    tmp_path: Path, clock: FrozenClock, headers: dict[str, str]
) -> None:
    """Neither of another site's, nor of those that may post what kit.js does."""
    domain = {"cookie_domain": "shop.com", "insecure_cookies": False}
    kit = make_kit(tmp_path, clock=clock, origins=["https://partner.example"], **domain)
    kit.open()
    await kit.report(Conversion(order_id="order-1", email="jane@example.com"))
    before = await asyncio.to_thread(standings, kit.store)

    async with looking(mounted(kit)) as client:
        answers = [await client.post(button, data={"destination": "rokt"}, headers=headers) for button in BUTTONS]
    after = await asyncio.to_thread(standings, kit.store)
    kit.store.close()

    assert [answer.status_code for answer in answers] == [403] * len(BUTTONS)
    assert after == before


@pytest.mark.parametrize("headers", [SAME, {"origin": "https://www.shop.com"}])
async def test_a_button_of_our_own_page_works(kit: Kit, headers: dict[str, str]) -> None:
    """By what browsers of today say, and by what older ones do; the way back is a 303 to our own page."""
    async with looking(mounted(kit)) as client:
        answer = await client.post("pause", data={"destination": "rokt"}, headers=headers)

    assert (answer.status_code, answer.headers["location"]) == (303, "./?done=paused")
    (standing,) = await asyncio.to_thread(standings, kit.store)
    assert standing.gate is not None
    assert (standing.destination, standing.gate.state, standing.gate.since) == ("rokt", "stopped", NOON)


async def test_a_form_larger_than_any_of_ours_is_not_read(kit: Kit) -> None:
    """No more than a few kilobytes, whoever is let in."""
    async with looking(mounted(kit)) as client:
        answer = await client.post("pause", content=b"destination=" + b"x" * 9_000, headers=SAME)

    assert answer.status_code == 413
