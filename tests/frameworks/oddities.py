"""In each framework the same four things that a middleware gets wrong first: a stream, a background task, a websocket,
and an exception that nobody handles."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import litestar
import quart
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from litestar import background_tasks, response
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from kit.capture import visitor_of
from kit.web.middleware import App

SUBPROTOCOL, CLOSE = "chat", 4001


class Gate:
    """Where the apps wait for the test, and what their background tasks saw after it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.seen: list[str] = []


gate = Gate()


def closed() -> Gate:
    """Close the gate anew, for another event loop."""
    gate.__init__()  # type: ignore[misc]
    return gate


async def chunks() -> AsyncIterator[bytes]:
    yield b"one"
    await gate.open.wait()
    yield b"two"


def name_of(request: object) -> str:
    visitor = visitor_of(request)
    return visitor.id if visitor is not None else "nobody"


async def look(request: object) -> None:
    await gate.open.wait()
    gate.seen.append(name_of(request))


# ---------------------------------------------------------------- Starlette


async def stream(request: Request) -> Response:
    return StreamingResponse(chunks(), media_type="text/plain")


async def background(request: Request) -> Response:
    return PlainTextResponse("ok", background=BackgroundTask(look, request))


async def echo(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol=SUBPROTOCOL)
    await websocket.send_text(name_of(websocket))
    await websocket.send_bytes(await websocket.receive_bytes())
    await websocket.close(CLOSE)


async def error(request: Request) -> Response:
    raise RuntimeError("the shop's own")


starlette_app = Starlette(
    routes=[
        Route("/stream", stream),
        Route("/background", background),
        Route("/error", error),
        WebSocketRoute("/echo", echo),
    ]
)


# ---------------------------------------------------------------- FastAPI

fastapi_app = fastapi.FastAPI()
fastapi_app.add_api_websocket_route("/echo", echo)


@fastapi_app.get("/stream")
async def fastapi_stream() -> Response:
    return StreamingResponse(chunks(), media_type="text/plain")


@fastapi_app.get("/background", response_class=PlainTextResponse)
async def fastapi_background(request: Request, tasks: fastapi.BackgroundTasks) -> str:
    tasks.add_task(look, request)
    return "ok"


@fastapi_app.get("/error")
async def fastapi_error() -> None:
    raise RuntimeError("the shop's own")


# ---------------------------------------------------------------- Litestar


@litestar.get("/stream", media_type="text/plain")
async def litestar_stream() -> response.Stream:
    return response.Stream(chunks(), media_type="text/plain")


@litestar.get("/background", media_type="text/plain")
async def litestar_background(request: litestar.Request[Any, Any, Any]) -> litestar.Response[str]:
    return litestar.Response("ok", background=background_tasks.BackgroundTask(look, request))


@litestar.get("/error")
async def litestar_error() -> None:
    raise RuntimeError("the shop's own")


@litestar.websocket("/echo")
async def litestar_echo(socket: litestar.WebSocket[Any, Any, Any]) -> None:
    await socket.accept(subprotocols=SUBPROTOCOL)
    await socket.send_text(name_of(socket))
    await socket.send_bytes(await socket.receive_bytes())
    await socket.close(CLOSE)


# Its own logging would be that of every test in this process.
litestar_app = litestar.Litestar(
    [litestar_stream, litestar_background, litestar_error, litestar_echo], logging_config=None
)


# ---------------------------------------------------------------- Quart

quart_app = quart.Quart(__name__)


@quart_app.get("/stream")
async def quart_stream() -> quart.Response:
    return quart.Response(chunks(), mimetype="text/plain")


@quart_app.get("/background")
async def quart_background() -> str:
    quart_app.add_background_task(look, quart.request.scope)
    return "ok"


@quart_app.get("/error")
async def quart_error() -> str:
    raise RuntimeError("the shop's own")


@quart_app.websocket("/echo")
async def quart_echo() -> None:
    await quart.websocket.accept(subprotocol=SUBPROTOCOL)
    await quart.websocket.send(name_of(quart.websocket))
    await quart.websocket.send(await quart.websocket.receive())
    await quart.websocket.close(CLOSE)


# ---------------------------------------------------------------- Django, which knows neither of the other two

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["www.shop.com"], SECRET_KEY="django's own, for tests")


async def django_stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(chunks(), content_type="text/plain")


async def django_error(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("the shop's own")


urlpatterns = [path("stream", django_stream), path("error", django_error)]

# Each framework writes the types of an ASGI app in its own way.
ALL: dict[str, Any] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "litestar": litestar_app,
    "quart": quart_app,
    "django": get_asgi_application(),
}
APPS: dict[str, App] = ALL
WITHOUT_DJANGO = [name for name in APPS if name != "django"]
