"""The demo shop: a small Starlette app that uses the kit as the README's quickstart does."""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route

from kit import Conversion, InvalidInput, Item, Kit, StoreUnavailable
from kit.destinations import AdRoll, Rockerbox, Rokt
from kit.sandbox.ledger import lines_of
from kit.sandbox.server import Addresses, Credentials
from kit.web import CaptureMiddleware, dashboard, endpoints, script_tag, visitor_of
from kit.web.assets import environment

log = logging.getLogger(__name__)

App = Callable[[Any, Any, Any], Awaitable[None]]

#: What the shop sells: id, name, price in US dollars.
SHELF = {
    "trail-shoe": ("Trail shoe", Decimal("89.00")),
    "rain-jacket": ("Regenjacke «Föhn»", Decimal("129.50")),
    "socks": ("Merino socks", Decimal("14.25")),
}


@dataclass(slots=True)
class Order:
    """An order as a shop keeps it."""

    number: str
    product: str
    email: str
    customer: str | None

    @property
    def total(self) -> Decimal:
        return SHELF[self.product][1]


@dataclass(slots=True)
class Books:
    """The shop's own database, as far as a demo needs one."""

    orders: dict[str, Order] = field(default_factory=dict)
    signed_in: dict[str, tuple[str, str]] = field(default_factory=dict)

    def place(self, product: str, email: str, customer: str | None) -> Order:
        number = f"demo-{1001 + len(self.orders)}"
        order = self.orders[number] = Order(number, product, email, customer)
        return order


def attribution_kit(credentials: Credentials, vendors: Addresses, store: str) -> Kit:
    """Return the kit as a shop would make it, with the sandbox's addresses in the vendors' places."""
    return Kit(
        secret_keys=["demo-key-that-signs-nothing-real"],
        consent="opt_out",
        store=store,
        destinations=[
            AdRoll(
                advertisable=credentials.adroll_advertisable,
                pixel=credentials.adroll_pixel,
                token=credentials.adroll_token,
                base_url=vendors.adroll_url,
                mode="live",  # whatever KIT_MODE says: these vendors are the sandbox's
            ),
            Rokt(
                account=credentials.rokt_account,
                public_key=credentials.rokt_public_key,
                secret_key=credentials.rokt_secret_key,
                base_url=vendors.rokt_url,
                mode="live",
            ),
            Rockerbox(advertiser=credentials.rockerbox_advertiser, base_url=vendors.rockerbox_url, mode="live"),
        ],
        insecure_cookies=True,
        trusted_proxies=["127.0.0.1", "::1"],
    )


def shop(attribution: Kit) -> Starlette:
    """Return the shop."""
    books = Books()
    pages = _Pages(attribution, books)
    return Starlette(
        routes=[
            Route("/", pages.landing),
            Route("/product/{product}", pages.product),
            Route("/sign-in", pages.sign_in, methods=["GET", "POST"]),
            Route("/sign-out", pages.sign_out, methods=["POST"]),
            Route("/checkout/{product}", pages.checkout, methods=["GET", "POST"]),
            Route("/webhooks/payment", pages.payment, methods=["POST"]),
            Route("/reported", pages.reported),
            Mount("/kit", endpoints(attribution)),
            Mount("/attribution", dashboard(attribution, authorize=is_on_this_machine)),
        ],
        middleware=[Middleware(_LentAddress), Middleware(CaptureMiddleware, kit=attribution)],
        lifespan=attribution.lifespan,
    )


def is_on_this_machine(request: Request) -> bool:
    """Stand for the shop's own check of who is staff: whoever sits at this machine."""
    return request.client is not None and request.client.host in {"127.0.0.1", "::1"}


class _LentAddress:
    """Stands for the proxy in front of a real shop: a browser on this machine has no public address to show."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not any(name == b"x-forwarded-for" for name, _ in scope["headers"]):
            scope = {**scope, "headers": [*scope["headers"], (b"x-forwarded-for", b"12.34.56.89")]}
        await self.app(scope, receive, send)


class _Pages:
    def __init__(self, attribution: Kit, books: Books) -> None:
        self.attribution = attribution
        self.books = books
        self.templates = environment()

    def page(self, request: Request, template: str, /, **context: object) -> HTMLResponse:
        customer = self.books.signed_in.get(request.cookies.get("session", ""))
        shared = {"shelf": SHELF, "customer": customer, "kit_script": script_tag("/kit")}
        return HTMLResponse(self.templates.get_template(f"shop/{template}.html").render({**shared, **context}))

    async def landing(self, request: Request) -> Response:
        return self.page(request, "landing", visitor=visitor_of(request))

    async def product(self, request: Request) -> Response:
        product = request.path_params["product"]
        if product not in SHELF:
            return self.page(request, "landing", visitor=visitor_of(request))
        return self.page(request, "product", product=product, name=SHELF[product][0], price=SHELF[product][1])

    async def sign_in(self, request: Request) -> Response:
        if request.method == "GET":
            return self.page(request, "sign_in", error=None)
        form = await _form(request)
        email, customer = form.get("email", ""), form.get("customer", "")
        try:
            await self.attribution.identify(request, email=email, customer_id=customer)
        except InvalidInput as error:
            answer = self.page(request, "sign_in", error=str(error))
            answer.status_code = 422
            return answer
        except StoreUnavailable:
            pass  # signing in works without us
        session = f"session-{len(self.books.signed_in) + 1}"
        self.books.signed_in[session] = (customer, email)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie("session", session, httponly=True, samesite="lax")
        return response

    async def sign_out(self, request: Request) -> Response:
        response = RedirectResponse("/", status_code=303)
        response.delete_cookie("session")
        self.attribution.forget(response)
        return response

    async def checkout(self, request: Request) -> Response:
        product = request.path_params["product"]
        if product not in SHELF:
            return RedirectResponse("/", status_code=303)
        if request.method == "GET":
            return self.page(request, "checkout", product=product, name=SHELF[product][0], price=SHELF[product][1])
        form = await _form(request)
        customer = self.books.signed_in.get(request.cookies.get("session", ""), (None, None))
        email = form.get("email") or customer[1] or ""
        order = self.books.place(product, email, customer[0])
        if form.get("pay") == "later":
            # The payment provider will confirm this order, with no browser: keep now what is known of the visitor.
            await self.attribution.link(request, order_id=order.number)
            return self.page(request, "awaiting", order=order, webhook=str(request.url_for("payment")))
        return await self.confirmed(request, order)

    async def confirmed(self, request: Request, order: Order) -> Response:
        try:
            await self.attribution.report(_conversion(order), request)
        except (StoreUnavailable, ValueError) as error:
            # The buyer has paid and sees the page regardless; `error` names the field, never its value.
            log.error("an order was not reported: %s", error)
        return self.page(request, "thanks", order=order)

    async def payment(self, request: Request) -> Response:
        """The payment provider's webhook: no cookie, no browser. A 503 makes the provider try again."""
        order = self.books.orders.get(_order_in(await request.body()))
        if order is None:
            return JSONResponse({"error": "order: is not one of this shop's"}, status_code=404)
        try:
            reported = await self.attribution.report(_conversion(order))
        except StoreUnavailable:
            return Response(status_code=503, headers={"Retry-After": "30"})
        except ValueError as error:
            return JSONResponse({"error": str(error)}, status_code=422)
        return JSONResponse({"event_id": reported.event_id, "new": reported.new})

    async def reported(self, request: Request) -> Response:
        return self.page(request, "reported", lines=await lines_of(self.attribution))


def _order_in(body: bytes) -> str:
    try:
        found = json.loads(body)
    except ValueError:
        return ""
    return str(found.get("order", "")) if isinstance(found, dict) else ""


async def _form(request: Request) -> dict[str, str]:
    return dict(parse_qsl((await request.body()).decode()))


def _conversion(order: Order) -> Conversion:
    name, price = SHELF[order.product]
    known: Mapping[str, Any] = {"email": order.email} if order.email else {}
    return Conversion(
        name="purchase",
        order_id=order.number,
        value=order.total,
        currency="USD",
        customer_id=order.customer,
        items=(Item(id=order.product, name=name, price=price),),
        **known,
    )
