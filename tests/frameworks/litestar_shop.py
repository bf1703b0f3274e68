"""A Litestar shop."""

from decimal import Decimal
from typing import Any

from litestar import Litestar, MediaType, Request, asgi, get, post
from litestar.middleware import DefineMiddleware

from kit import Conversion, Kit
from kit.web import CaptureMiddleware, endpoints, script_tag

attribution = Kit.from_env()
kit_app = endpoints(attribution)


@asgi("/kit", is_mount=True, copy_scope=True)
async def kit_endpoints(scope: Any, receive: Any, send: Any) -> None:
    await kit_app(scope, receive, send)


@get("/", media_type=MediaType.HTML)
async def landing(request: Request[Any, Any, Any]) -> str:
    return f"<!doctype html>{script_tag(request.scope['root_path'] + '/kit')}"


@post("/sign-in", media_type=MediaType.HTML, status_code=200)
async def sign_in(request: Request[Any, Any, Any]) -> str:
    await attribution.identify(request, customer_id="customer-42", email="jane@example.com")
    return "Hello Jane"


@post("/checkout", media_type=MediaType.HTML, status_code=200)
async def checkout(request: Request[Any, Any, Any], order: str) -> str:
    await attribution.link(request, order_id=order)
    return "Now pay"


@post("/confirm", media_type=MediaType.HTML, status_code=200)
async def confirm(request: Request[Any, Any, Any], order: str) -> str:
    await attribution.report(Conversion(order_id=order, value=Decimal("56.78"), currency="USD"), request)
    return "Thank you"


@post("/sign-out", media_type=MediaType.HTML, status_code=200)
async def sign_out(request: Request[Any, Any, Any]) -> str:
    attribution.forget(request)
    return "Bye"


app = Litestar(
    route_handlers=[landing, sign_in, sign_out, checkout, confirm, kit_endpoints],
    middleware=[DefineMiddleware(CaptureMiddleware, kit=attribution)],
    lifespan=[attribution.lifespan],
)
