"""What the middleware must leave alone in every framework: streams, background tasks, websockets, exception pages."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import httpx
import pytest
import uvicorn

from kit import Kit
from kit.web import CaptureMiddleware
from kit.web.middleware import App
from tests.frameworks.browser import PAGE, Browser, attributes
from tests.frameworks.oddities import APPS, CLOSE, SUBPROTOCOL, WITHOUT_DJANGO, Gate, closed
from tests.support import eventually, make_kit

OURS = {"set-cookie", "cache-control", "date"}


@pytest.fixture
def gate() -> Gate:
    return closed()


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    made = make_kit(tmp_path, insecure_cookies=False)
    yield made
    made.store.close()


@contextlib.asynccontextmanager
async def browsing(app: App) -> AsyncIterator[Browser]:
    """Serve the app from this event loop, websockets too; yield a browser at its door."""
    config = uvicorn.Config(app, port=0, ws="wsproto", lifespan="off", log_config=None, proxy_headers=False)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        async with Browser(f"http://127.0.0.1:{port}") as browser:
            yield browser
    finally:
        server.should_exit = True
        await serving


@pytest.mark.parametrize("name", APPS)
async def test_a_stream_goes_out_as_it_comes(name: str, kit: Kit, gate: Gate) -> None:
    """The first chunk arrives, with the cookies, while the app still waits to make the second."""
    async with (
        browsing(CaptureMiddleware(APPS[name], kit=kit)) as browser,
        browser.client.stream("GET", "/stream", headers=PAGE) as answer,
    ):
        parts = answer.aiter_raw()
        first = await anext(parts)
        gate.open.set()
        rest = b"".join([part async for part in parts])

    assert (first, rest) == (b"one", b"two")
    assert attributes(answer).keys() == {"__Host-kit", "__adroll_fpc"}


@pytest.mark.parametrize("name", WITHOUT_DJANGO)
async def test_a_background_task_runs_after_the_answer_and_knows_the_visitor(name: str, kit: Kit, gate: Gate) -> None:
    """The answer is whole before the task goes on; asked that late, the request has the visitor of its cookie."""
    async with browsing(CaptureMiddleware(APPS[name], kit=kit)) as browser:
        answer = await browser.open("/background")
        assert (answer.text, gate.seen) == ("ok", [])
        gate.open.set()
        await eventually(lambda: bool(gate.seen))

    assert gate.seen == [browser.cookies["__Host-kit"][1:23]]


@pytest.mark.parametrize("name", WITHOUT_DJANGO)
async def test_a_websocket_is_the_apps_own(name: str, kit: Kit, gate: Gate) -> None:
    """Subprotocol, text, bytes and close code pass; the handler knows the visitor; the handshake sets no cookie."""
    gate.open.set()
    async with browsing(CaptureMiddleware(APPS[name], kit=kit)) as browser:
        await browser.open("/background")
        headers = {"host": "www.shop.com", "cookie": f"__Host-kit={browser.cookies['__Host-kit']}"}
        async with (
            aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
            client.ws_connect(f"{browser.url}/echo", protocols=[SUBPROTOCOL], headers=headers) as socket,
        ):
            visitor = await socket.receive_str()
            await socket.send_bytes(b"\x00\xff")
            echoed = await socket.receive_bytes()
            await socket.receive()

    assert (visitor, echoed) == (browser.cookies["__Host-kit"][1:23], b"\x00\xff")
    assert (socket.protocol, socket.close_code) == (SUBPROTOCOL, CLOSE)
    assert len(client.cookie_jar) == 0


@pytest.mark.parametrize("name", APPS)
async def test_an_exception_page_is_the_frameworks_own(name: str, kit: Kit) -> None:
    """Status, body and headers are those of the app without the middleware; only the cookies are added."""
    async with browsing(APPS[name]) as browser:
        bare = await browser.open("/error")
    async with browsing(CaptureMiddleware(APPS[name], kit=kit)) as browser:
        answer = await browser.open("/error")

    assert (answer.status_code, answer.content) == (bare.status_code, bare.content)
    assert answer.status_code == 500
    assert of_the_app(answer) == of_the_app(bare)
    assert attributes(answer).keys() == {"__Host-kit", "__adroll_fpc"}


def of_the_app(answer: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in answer.headers.multi_items() if name not in OURS]
