"""A FastAPI shop."""

from decimal import Decimal

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse

from kit import Conversion, Kit
from kit.web import CaptureMiddleware, endpoints, script_tag

attribution = Kit.from_env()
app = FastAPI(lifespan=attribution.lifespan, default_response_class=HTMLResponse)
app.add_middleware(CaptureMiddleware, kit=attribution)
app.mount("/kit", endpoints(attribution))


@app.get("/")
async def landing(request: Request) -> str:
    return f"<!doctype html>{script_tag(request.scope['root_path'] + '/kit')}"


@app.post("/sign-in")
async def sign_in(request: Request) -> str:
    await attribution.identify(request, customer_id="customer-42", email="jane@example.com")
    return "Hello Jane"


@app.post("/sign-out")
async def sign_out(request: Request) -> str:
    attribution.forget(request)
    return "Bye"


@app.post("/checkout")
async def checkout(request: Request, order: str) -> str:
    await attribution.link(request, order_id=order)
    return "Now pay"


@app.post("/confirm")
def confirm(request: Request, order: str) -> str:
    attribution.sync.report(Conversion(order_id=order, value=Decimal("56.78"), currency="USD"), request)
    return "Thank you"
