"""A Quart shop. Quart mounts no ASGI app, so Starlette's router, which the kit brings, stands before its pages."""

from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any

from quart import Quart, request
from starlette.routing import Mount, Router

from kit import Conversion, Kit
from kit.web import CaptureMiddleware, endpoints, script_tag

attribution = Kit.from_env()
app = Quart(__name__)


@app.get("/")
async def landing() -> str:
    return f"<!doctype html>{script_tag(request.root_path + '/kit')}"


@app.post("/sign-in")
async def sign_in() -> str:
    await attribution.identify(request, customer_id="customer-42", email="jane@example.com")
    return "Hello Jane"


@app.post("/checkout")
async def checkout() -> str:
    await attribution.link(request, order_id=request.args["order"])
    return "Now pay"


@app.post("/confirm")
async def confirm() -> str:
    order = request.args["order"]
    await attribution.report(Conversion(order_id=order, value=Decimal("56.78"), currency="USD"), request)
    return "Thank you"


@app.post("/sign-out")
async def sign_out() -> str:
    attribution.forget(request)
    return "Bye"


@app.while_serving
async def delivering() -> AsyncGenerator[None, None]:
    async with attribution.lifespan():
        yield


pages: Any = app.asgi_app
router = Router([Mount("/kit", endpoints(attribution))], default=pages)


async def routed(scope: Any, receive: Any, send: Any) -> None:
    await (pages if scope["type"] == "lifespan" else router)(scope, receive, send)


app.asgi_app = CaptureMiddleware(routed, kit=attribution)  # type: ignore[method-assign]  # Quart's way
