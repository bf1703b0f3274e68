"""A Django shop: settings, urls, views and asgi.py in one file.

Django refuses lifespan. Starlette's router, which the kit brings, answers it before Django hears of it.
"""

from decimal import Decimal

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from starlette.routing import Mount, Router

from kit import Conversion, Kit
from kit.web import CaptureMiddleware, endpoints, script_tag

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["www.shop.com"], SECRET_KEY="django's own, for tests")

attribution = Kit.from_env()


async def landing(request: HttpRequest) -> HttpResponse:
    return HttpResponse(f"<!doctype html>{script_tag(request.META['SCRIPT_NAME'] + '/kit')}")


async def sign_in(request: HttpRequest) -> HttpResponse:
    await attribution.identify(request, customer_id="customer-42", email="jane@example.com")
    return HttpResponse("Hello Jane")


def checkout(request: HttpRequest) -> HttpResponse:
    attribution.sync.link(request, order_id=request.GET["order"])
    return HttpResponse("Now pay")


def confirm(request: HttpRequest) -> HttpResponse:
    order = request.GET["order"]
    attribution.sync.report(Conversion(order_id=order, value=Decimal("56.78"), currency="USD"), request)
    return HttpResponse("Thank you")


def sign_out(request: HttpRequest) -> HttpResponse:
    attribution.forget(request)
    return HttpResponse("Bye")


urlpatterns = [
    path("", landing),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("checkout", checkout),
    path("confirm", confirm),
]

django = get_asgi_application()
router = Router([Mount("/kit", endpoints(attribution))], default=django, lifespan=attribution.lifespan)
application = CaptureMiddleware(router, kit=attribution)

#: Without anybody who answers lifespan: `kit worker` delivers, in a process of its own.
bare = CaptureMiddleware(django, kit=attribution)
