"""CaptureMiddleware: the page always goes out, whatever fails in here, and nothing else is touched."""

import asyncio
import gc
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from kit.capture import Capture, capture_of, visit_of, visitor_of
from kit.web.middleware import CaptureMiddleware, Message, Receive, Scope, Send
from tests.capture.shop import NOON, Breaking, Shop, replaced, run, scope_of

# ---------------------------------------------------------------- W20, W21: the page always goes out


PARTS = "watched cookie_needle seconds consent signature cookie_name cookie_domain insecure_cookies clean_url".split()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("looks", [False, True])
def test_a_failure_of_ours_leaves_the_page_as_it_was(part: str, looks: bool) -> None:
    """W20: whatever part of capture raises, the answer is the app's own and the fault is counted."""
    shop = Shop()
    cookie = shop.returning() + "; old=1"
    shop.now = NOON + timedelta(days=2)
    shop.rules = Breaking(shop.rules, {part})
    if looks:
        shop.looks = lambda scope: (visitor_of(scope), visit_of(scope))

    answer = shop.get("adct=one", cookie=cookie)

    assert answer.headers == [(b"content-type", b"text/html")]
    assert answer.sent[1]["body"] == b"page"
    assert "capture.answer" in shop.failed


def test_a_scope_without_what_we_need_is_served_all_the_same() -> None:
    """A server that leaves out the query or the headers gets its page, and the fault is counted."""
    shop = Shop()
    scope = scope_of()
    del scope["query_string"], scope["headers"]

    answer = run(CaptureMiddleware(shop.page(200, []), kit=shop), scope)

    assert (answer.headers, shop.failed) == ([], ["capture.answer"])


@pytest.mark.parametrize(
    "start", [{"status": 200}, {"status": 200, "headers": ()}, {"status": 200, "headers": iter([(b"a", b"b")])}]
)
def test_a_start_message_is_copied_and_never_rebuilt(start: dict[str, Any]) -> None:
    """Missing headers are no error, other keys stay, an iterator of headers is not spent."""
    shop = Shop()
    message = {"type": "http.response.start", "trailers": True, **start}
    before = dict(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)

    answer = run(CaptureMiddleware(app, kit=shop), scope_of())

    assert answer.sent[0]["trailers"] is True
    assert message == before
    assert bool(answer.set_cookies) is not isinstance(start.get("headers"), Iterator)
    assert shop.failed == []


async def test_streams_exceptions_and_disconnects_pass_through() -> None:
    """W21: each body message goes out as it is, when it comes; no exception but our own is caught."""
    shop = Shop()
    sent: list[Message] = []
    bodies: list[Message] = [{"type": "http.response.body", "body": b"%d" % n, "more_body": True} for n in range(3)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number, body in enumerate(bodies):
            await send(body)
            assert len(sent) == number + 2
        assert (await receive())["type"] == "http.disconnect"
        raise ZeroDivisionError

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ZeroDivisionError):
        await CaptureMiddleware(app, kit=shop)(scope_of(), receive, send)
    assert all(got is body for got, body in zip(sent[1:], bodies, strict=True))

    async def gone(message: Message) -> None:
        raise OSError

    with pytest.raises(OSError):
        await CaptureMiddleware(shop.page(200, []), kit=shop)(scope_of(), receive, gone)
    assert shop.failed == []


async def test_a_websocket_can_be_read_and_nothing_is_set_on_it() -> None:
    """The visitor of a websocket is the one of its verified cookie; its messages are untouched."""
    shop = Shop()
    cookie = await asyncio.to_thread(shop.returning)
    seen: list[Any] = []
    sent: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((visitor_of(scope), replaced(scope)))
        await send({"type": "websocket.accept", "headers": []})

    async def send(message: Message) -> None:
        sent.append(message)

    for header in (cookie, ""):
        scope = scope_of("adct=one", cookie=header, type="websocket", scheme="wss")
        del scope["method"]
        await CaptureMiddleware(app, kit=shop)(scope, _never, send)

    assert sent == [{"type": "websocket.accept", "headers": []}] * 2
    assert [(visitor is not None, new) for visitor, new in seen] == [(True, None), (False, None)]
    assert (shop.touches, shop.failed) == ([], [])


async def test_lifespan_and_unknown_scopes_are_passed_as_they_are() -> None:
    """Only http and websocket are looked at; of two middlewares the outer one does it all."""
    shop = Shop()
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((dict(scope), receive, send))

    async def send(message: Message) -> None: ...

    for kind in ("lifespan", "webtransport"):
        await CaptureMiddleware(app, kit=shop)({"type": kind}, _never, send)
    assert seen == [({"type": "lifespan"}, _never, send), ({"type": "webtransport"}, _never, send)]
    twice = CaptureMiddleware(CaptureMiddleware(shop.page(200, []), kit=shop), kit=shop)
    answer = await asyncio.to_thread(run, twice, scope_of("adct=one"))
    assert len([name for name, _ in answer.headers if name == b"set-cookie"]) == 2


def test_a_request_leaves_nothing_to_the_garbage_collector() -> None:
    """State and scope do not hold each other when the answer is out; and a late reader is still served."""
    shop = Shop()
    scope = scope_of("adct=one", cookie=shop.returning())
    gc.collect()
    gc.disable()
    try:
        run(CaptureMiddleware(shop.page(200, []), kit=shop), scope)
        late = visitor_of(scope)
        del scope
        left = [thing for thing in gc.get_objects() if isinstance(thing, Capture)]
    finally:
        gc.enable()

    assert late is not None
    assert left == []


def test_late_readers_of_one_request_find_one_visitor() -> None:
    """Nobody asked while the answer went out, and it may be cached: who asks then and again is told the same."""
    shop = Shop()
    scope = scope_of()
    run(CaptureMiddleware(shop.page(200, [(b"cache-control", b"public")]), kit=shop), scope)

    first, second = visitor_of(scope), visitor_of(scope)

    assert first is not None
    assert first == second
    assert shop.failed == []


async def _never() -> Message:
    raise AssertionError("nobody receives here")


def test_a_request_that_no_middleware_saw_has_no_visitor() -> None:
    """Asking is always allowed; the answer is None."""
    assert (visitor_of({}), visit_of(object()), capture_of(None)) == (None, None, None)
