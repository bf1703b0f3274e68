"""The straight way of a first visit comes to what the thorough way comes to: cookies, touch, decision, visitor."""

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.capture import Capture, capture_of, visit_of, visitor_of
from kit.capture.first_visit import FirstVisit, ordinary
from kit.web.middleware import CaptureMiddleware, Message, Receive, Scope, Send
from tests.capture.shop import FPC, Shop, run, scope_of

plain = st.text("abcXYZ0189-_.~+/=:@", max_size=60)
odd = st.text("aZ0%!*|$&#{}' \"\xe9", max_size=30) | st.sampled_from(["%41", "%2B", "%E2%80%AE", "{m}", "a" * 513])
names = st.sampled_from("adct rtid rclid fbclid gclid ScCid utm_source utm_campaign utm_id utm_x q".split())
queries = st.lists(st.builds("{}={}".format, names, plain | plain | odd), max_size=8).map("&".join)
headers = st.fixed_dictionaries(
    {},
    optional={
        "host": st.sampled_from(["shop.com:8443", "localhost", "evil.test; x", "93.184.216.34", ""]),
        "referer": st.sampled_from(["https://u:p@news.example/a?b#c", "no url", "android-app://com.x/"]),
        "sec-gpc": st.sampled_from(["0", "1"]),
        "user-agent": st.sampled_from(["Googlebot/2.1", "x" * 1000, ""]),
        "cookie": st.sampled_from(["a=1", "kit-consent=granted", "kit-consent=denied; b=2"]),
    },
)
rules = st.sampled_from(["opt_in", "opt_out", lambda scope: b"adct" in scope["query_string"], lambda scope: None])


def told(rule: Any, scope: Scope, looks: Callable[[Scope], Any]) -> tuple[Any, ...]:
    """Return all that becomes of a request; a page that `looks` before it answers takes the thorough way."""
    dice = random.Random(5)
    shop = Shop(rule, random=dice.randbytes)
    late: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        looks(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
        late.extend((visitor_of(scope), visit_of(scope)))

    asked = {**scope}
    answer = run(CaptureMiddleware(app, kit=shop), asked)

    assert shop.failed == []
    return answer.headers, shop.touches, late, visitor_of(asked), visit_of(asked)


@given(query=queries, sent=headers, rule=rules, scheme=st.sampled_from(["http", "https"]))
@settings(max_examples=400, deadline=None)
def test_both_ways_come_to_the_same(query: str, sent: dict[str, str], rule: Any, scheme: str) -> None:
    """Same clock, same random source: same cookies, same touch, same decision, same visitor for whoever asks later."""
    scope = scope_of(query, headers=sent, scheme=scheme)

    straight = told(rule, scope, lambda scope: None)
    thorough = told(rule, scope, lambda scope: capture_of(scope).reading())  # type: ignore[union-attr] # is there

    assert straight == thorough


@pytest.mark.parametrize("query", ["", "adct=one&utm_source=adroll", "adct=a%2Bb", "fbclid=" + "f" * 500, "x=1"])
def test_an_ordinary_first_visit_takes_the_straight_way(query: str) -> None:
    """Else the test above would compare the thorough way with itself."""
    shop = Shop()
    seen: list[Capture | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append(capture_of(scope))

    answer = run(CaptureMiddleware(app, kit=shop), scope_of(query))

    assert [type(capture.facts) for capture in seen if capture] == [FirstVisit]
    assert answer.set_cookies.keys() == {"__Host-kit", "__adroll_fpc"}


@pytest.mark.parametrize("sent", [[], [(b"cache-control", b"max-age=60")]], ids=["cookies set", "none set"])
def test_a_late_reader_is_answered_as_an_early_one(sent: list[tuple[bytes, bytes]]) -> None:
    """What stands in the scope after the answer tells a first landing's URL and decision as the page would have."""
    shop = Shop()
    early, late = scope_of("adct=one"), scope_of("adct=one")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope is early:
            capture_of(scope).reading()  # type: ignore[union-attr] # is there
        await send({"type": "http.response.start", "status": 200, "headers": sent})

    for scope in (early, late):
        run(CaptureMiddleware(app, kit=shop), scope)
    first, second = (capture_of(scope) for scope in (early, late))

    assert first is not None
    assert second is not None
    assert capture_of(late) is second
    assert (first.reading().url(), visit_of(early)) == (second.reading().url(), visit_of(late))
    assert second.reading().url() == "https://www.shop.com/shoes?adct=one"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "POST"},
        {"headers": {"sec-fetch-mode": None}},
        {"headers": {"sec-fetch-mode": "cors"}},
        {"headers": {"sec-purpose": "prefetch"}},
        {"headers": {"purpose": "prefetch"}},
        {"headers": {"x-moz": "prefetch"}},
        {"cookie": "__Host-kit=x"},
        {"cookie": f"a=1; __adroll_fpc={FPC}"},
        {"cookie": "a=1", "more": [(b"cookie", b"b=2")]},
    ],
    ids=str,
)
def test_whatever_is_unusual_takes_the_thorough_way(changes: dict[str, Any]) -> None:
    """A doubt is a no."""
    assert ordinary(Shop().rules, scope_of("adct=one", **changes)) is None
    assert ordinary(Shop(clean_url=str).rules, scope_of("adct=one")) is None


def test_the_shops_consent_function_is_asked_once() -> None:
    """A first visit that may keep nothing is decided once, as any other."""
    asked: list[Message] = []

    def refused(scope: Any) -> bool:
        asked.append(scope)
        return False

    assert Shop(refused).get("adct=one").set_cookies == {}
    assert len(asked) == 1
