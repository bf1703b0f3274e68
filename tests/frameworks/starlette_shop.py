"""A Starlette shop."""

from decimal import Decimal

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Mount, Route

from kit import Conversion, Kit
from kit.web import CaptureMiddleware, endpoints, script_tag

attribution = Kit.from_env()


async def landing(request: Request) -> Response:
    return HTMLResponse(f"<!doctype html>{script_tag(request.scope['root_path'] + '/kit')}")


async def sign_in(request: Request) -> Response:
    await attribution.identify(request, customer_id="customer-42", email="jane@example.com")
    return HTMLResponse("Hello Jane")


async def checkout(request: Request) -> Response:
    await attribution.link(request, order_id=request.query_params["order"])
    return HTMLResponse("Now pay")


async def confirm(request: Request) -> Response:
    order = request.query_params["order"]
    await attribution.report(Conversion(order_id=order, value=Decimal("56.78"), currency="USD"), request)
    return HTMLResponse("Thank you")


async def sign_out(request: Request) -> Response:
    attribution.forget(request)
    return HTMLResponse("Bye")


app = Starlette(
    routes=[
        Route("/", landing),
        Route("/sign-in", sign_in, methods=["POST"]),
        Route("/sign-out", sign_out, methods=["POST"]),
        Route("/checkout", checkout, methods=["POST"]),
        Route("/confirm", confirm, methods=["POST"]),
        Mount("/kit", endpoints(attribution)),
    ],
    middleware=[Middleware(CaptureMiddleware, kit=attribution)],
    lifespan=attribution.lifespan,
)
