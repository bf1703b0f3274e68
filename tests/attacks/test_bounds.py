"""What one request may cost: a bounded number of steps, and next to no memory afterwards."""

import asyncio
import sys
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from kit.capture import visit_of
from kit.web import CaptureMiddleware
from kit.web.middleware import App, Scope
from tests.attacks.test_mutations import SIGNALS
from tests.capture.shop import Shop, scope_of

#: Of one request; `number` makes it unlike the others.
HOSTILE: dict[str, Callable[[int, str], Scope]] = {
    "query": lambda number, long: scope_of(f"adct={number}{long}"),
    "parameters": lambda number, long: scope_of(f"adct={number}&a=1" + "&adct=%0d" * (len(long) // 9)),
    "utm": lambda number, long: scope_of(f"adct=one&utm_source={number}&utm_term={long}"),
    "escapes": lambda number, long: scope_of(f"adct={number}" + "%41" * (len(long) // 3)),
    "path": lambda number, long: scope_of("adct=one", path=f"/{number}{long}", raw_path=f"/{number}{long}".encode()),
    "method": lambda number, long: scope_of("adct=one", method=f"{number}{long}"),
    "host": lambda number, long: scope_of("adct=one", headers={"host": f"{number}{long}"}),
    "referer": lambda number, long: scope_of("adct=one", headers={"referer": f"https://a.test/{number}{long}"}),
    "agent": lambda number, long: scope_of("adct=one", headers={"user-agent": f"{number}{long}"}),
    "forwarded": lambda number, long: scope_of(
        "adct=one", headers={"x-forwarded-for": f"{number}," + "1," * len(long)}
    ),
    "cookie": lambda number, long: scope_of("adct=one", cookie=f"a={number}{long}"),
    "our cookie": lambda number, long: scope_of("adct=one", cookie=f"__Host-kit={number}{long}.{'A' * 43}"),
    "our name": lambda number, long: scope_of("adct=one", cookie=f"a={number}; " + "__Host-kit=" * (len(long) // 11)),
    "namesakes": lambda number, long: scope_of("adct=one", cookie=f"a={number}" + "; __Host-kit=1" * (len(long) // 14)),
    "adroll's": lambda number, long: scope_of("adct=one", cookie=f"__adroll_fpc={number}{long}"),
    "tc string": lambda number, long: scope_of("adct=one", cookie=f"euconsent-v2=C{number}{'A' * len(long)}"),
    "gpp string": lambda number, long: scope_of("adct=one", cookie=f"__gpp=DB{number}{'~A' * (len(long) // 2)}"),
    "json in a cookie": lambda number, long: scope_of("adct=one", cookie=f"CookieConsent={{{number}{'[' * len(long)}"),
    "headers": lambda number, long: scope_of("adct=one", more=[(b"x-%d" % at, b"v") for at in range(len(long) // 100)]),
}


def shop_and_app() -> tuple[Shop, App]:
    consent: Any = SIGNALS
    shop = Shop(consent, trusted_proxies=["198.41.0.4"])
    shop.looks = visit_of
    return shop, CaptureMiddleware(shop.page(200, [(b"content-type", b"text/html")]), kit=shop)


async def asked(app: App, scope: Scope) -> None:
    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    await app(scope, receive, send)


@pytest.mark.parametrize("field", HOSTILE)
def test_nothing_of_a_long_field_stays(field: str) -> None:
    """W01: of 300 requests with 100 KB in it, no two the same, a tenth is held at most: caches keep short texts."""
    shop, app = shop_and_app()

    async def many(first: int, count: int) -> None:
        for number in range(first, first + count):
            await asked(app, HOSTILE[field](number, "h" * 100_000))
            shop.touches.clear()

    asyncio.run(many(0, 20))
    tracemalloc.start()
    try:
        asyncio.run(many(20, 300))
        held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()

    assert held < 300 * 10_000
    assert shop.failed == []


@pytest.mark.parametrize("field", HOSTILE)
def test_a_longer_field_is_no_more_work(field: str) -> None:
    """W01: a megabyte takes no more steps than what is ever looked at, 2,000 calls at most."""
    shop, app = shop_and_app()
    scope = HOSTILE[field](1, "h" * 1_000_000)
    asyncio.run(asked(app, HOSTILE[field](2, "h")))

    assert calls(lambda: asyncio.run(asked(app, scope))) < 2_000
    assert shop.failed == []


def calls(act: Callable[[], object]) -> int:
    """Return how many functions were called, C functions included."""
    count = 0

    def counted(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(counted)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count
