"""Page views that the middleware reports, where a destination wants them: which pages, whose, and how they are sent."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from kit import Kit
from kit.destinations import AdRoll, Rockerbox
from kit.errors import ConfigurationError
from kit.touches import MOST, Touches
from kit.web.middleware import CaptureMiddleware
from tests.capture.shop import Shop
from tests.delivery.world import World, world
from tests.support import Browser, make_kit

HTML = (b"content-type", b"text/html; charset=utf-8")
PRIVATE = (b"cache-control", b"private, max-age=60")


async def all_written(kit: Kit) -> None:
    """Wait until the store has all that was posted before."""

    def nothing(connection: Connection, asked: Sequence[None]) -> Sequence[None]:
        return asked

    await kit.store.write(nothing, None)


async def sent(it: World) -> list[dict[str, Any]]:
    """Deliver what was recorded; return the events that AdRoll was sent."""
    await all_written(it.kit)
    await it.drain()
    return [event for request in it.sandbox.adroll.requests for event in request.events]


async def test_a_visitors_pages_are_sent_in_one_request(tmp_path: Path) -> None:
    """The first one too, whose answer set the cookies that it is told by; the home page has a name of its own."""
    async with world(tmp_path, AdRoll, adroll={"page_views": True}) as it:
        visitor = Browser(it.kit)
        for page in ("/shoes?adct=click123&secret=1", "/", "/cart"):
            await visitor.open(page, answer=[HTML])
        events = await sent(it)

    assert len(it.sandbox.adroll.requests) == 1
    assert [(event["event_name"], event["page_location"]) for event in events] == [
        ("pageView", "http://localhost:8000/shoes?adct=click123"),
        ("homeView", "http://localhost:8000/"),
        ("pageView", "http://localhost:8000/cart"),
    ]
    assert {event["identifiers"]["first_party_cookie"] for event in events} == {visitor.cookies["__adroll_fpc"]}
    assert {event["identifiers"]["adct"] for event in events} == {"click123"}
    assert {event["ip"] for event in events} == {"12.34.56.89"}
    assert it.sandbox.adroll.requests[0].refused == ()


async def test_only_those_who_want_page_views_are_told(tmp_path: Path) -> None:
    """Rockerbox has its own tag on every page."""
    async with world(tmp_path, AdRoll, Rockerbox, adroll={"page_views": True}) as it:
        await Browser(it.kit).open("/", answer=[HTML])
        await all_written(it.kit)
        rows = await it.rows()

    assert [row.destination for row in rows] == ["adroll"]


async def test_the_shops_home_may_stand_elsewhere(tmp_path: Path) -> None:
    """Its path is a setting, and is refused when it is none."""
    async with world(tmp_path, AdRoll, adroll={"page_views": True}, home="/en/") as it:
        visitor = Browser(it.kit)
        for page in ("/", "/en/"):
            await visitor.open(page, answer=[HTML])
        events = await sent(it)

    assert [event["event_name"] for event in events] == ["pageView", "homeView"]
    with pytest.raises(ConfigurationError, match="home"):
        make_kit(tmp_path, home="en")


@pytest.mark.parametrize(
    ("method", "status", "headers", "answer"),
    [
        ("POST", 200, {}, [HTML]),
        ("HEAD", 200, {}, [HTML]),
        ("GET", 304, {}, [HTML]),
        ("GET", 404, {}, [HTML]),
        ("GET", 302, {}, [HTML]),
        ("GET", 200, {}, [(b"content-type", b"application/json")]),
        ("GET", 200, {}, []),
        ("GET", 200, {}, [HTML, (b"cache-control", b"public, max-age=600")]),
        ("GET", 200, {"sec-fetch-mode": "cors"}, [HTML]),
        ("GET", 200, {"sec-purpose": "prefetch"}, [HTML]),
        ("GET", 200, {"sec-purpose": "prefetch;prerender"}, [HTML]),
        ("GET", 200, {"user-agent": "Googlebot/2.1"}, [HTML]),
        ("GET", 200, {"sec-gpc": "1"}, [HTML]),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_what_is_no_page_opened_by_a_person_is_not_recorded(
    method: str, status: int, headers: dict[str, str], answer: list[tuple[bytes, bytes]], known: bool
) -> None:
    """Nor is a page that a cache may hand to others, whose views nobody could count."""
    views: list[Any] = []
    shop = Shop()
    cookie = shop.returning() if known else ""
    shop.record_view = views.append  # type: ignore[attr-defined]

    shop.get(method=method, status=status, headers=headers, answer=answer, **({"cookie": cookie} if known else {}))
    counted = len(views)
    shop.get(answer=[HTML, PRIVATE], **({"cookie": cookie} if known else {}))

    assert (counted, len(views)) == (0, 1)
    assert shop.failed == []


def test_a_visitor_who_was_not_asked_is_not_recorded() -> None:
    """Under opt-in nothing is before a yes."""
    views: list[Any] = []
    shop = Shop(consent="opt_in")
    shop.record_view = views.append  # type: ignore[attr-defined]

    shop.get(answer=[HTML])
    shop.get(answer=[HTML], cookie="kit-consent=granted")

    assert [view.consent.signal for view in views] == ["cookie"]


def test_a_forged_cookie_is_a_new_visitor_of_this_very_page() -> None:
    """Nobody is recorded as somebody else."""
    views: list[Any] = []
    shop = Shop()
    cookie = shop.returning()
    shop.record_view = views.append  # type: ignore[attr-defined]

    answer = shop.get(answer=[HTML], cookie=cookie.replace("__Host-kit=", "__Host-kit=x"))

    assert [view.identifiers.visitor for view in views] == [answer.set_cookies["__Host-kit"][1:23]]


def test_a_page_goes_out_when_its_view_cannot_be_recorded() -> None:
    """The fault is counted, and the page is as it was, with its cookies."""
    shop = Shop()

    def breaks(view: object) -> None:
        raise RuntimeError("no")

    shop.record_view = breaks  # type: ignore[attr-defined]
    answer = shop.get(answer=[HTML])

    assert answer.set_cookies.keys() == {"__Host-kit", "__adroll_fpc"}
    assert shop.failed == ["capture.answer"]


def test_a_shop_whose_vendors_want_none_is_not_asked() -> None:
    """Without page views the middleware's work is what it was: no page is looked at for one."""
    shop = Shop()

    assert CaptureMiddleware(shop.page(200, [HTML]), kit=shop).answering.__name__ == "_Answering"


async def test_views_that_the_store_cannot_take_in_time_are_counted_and_let_go(tmp_path: Path) -> None:
    """The queue has an end; what waits in it is kept once the store opens."""
    kept: list[int] = []
    lost: list[None] = []

    def keep(connection: Connection, asked: Sequence[int]) -> Sequence[None]:
        kept.extend(asked)
        return [None] * len(asked)

    kit = make_kit(tmp_path)
    waiting = Touches(kit.store, keep, begin=lambda: None, lost=lambda: lost.append(None))
    for number in range(MOST + 3):
        waiting.record(number)
    await kit.ready()
    waiting.post()
    await all_written(kit)
    kit.store.close()

    assert len(lost) == 3
    assert kept == list(range(MOST))
