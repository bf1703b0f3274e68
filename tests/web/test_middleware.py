"""CaptureMiddleware: a landing, the pages after it, consent, and visitors that are replaced or collected."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from kit.capture import capture_of, visit_of, visitor_of
from kit.model import Visitor
from kit.web.middleware import CaptureMiddleware, Message, Receive, Scope, Send
from tests.capture.shop import CHROME, FPC, NOON, Breaking, Shop, replaced, run, scope_of

# ---------------------------------------------------------------- a landing, and the pages after it


def test_a_landing_gets_both_cookies_and_its_touch_is_recorded() -> None:
    """The first page of a visitor sets a signed cookie and AdRoll's, and tells the kit of the new click once."""
    shop = Shop()

    answer = shop.get("adct=click123&utm_source=adroll&secret=1#x", headers={"referer": "https://u:p@news.example/a?b"})

    assert answer.set_cookies.keys() == {"__Host-kit", "__adroll_fpc"}
    visitor, fpc = answer.set_cookies["__Host-kit"], answer.set_cookies["__adroll_fpc"]
    assert visitor.endswith("; Path=/; Max-Age=31536000; HttpOnly; SameSite=Lax; Secure")
    assert fpc.endswith("; Path=/; Max-Age=31536000; SameSite=Lax; Secure; Domain=shop.com")
    assert answer.cache_control == [b"private"]
    [(_, touch, told, consent)] = shop.touches
    assert [(click.vendor, click.value, click.clicked_at) for click in touch.click_ids] == [
        ("adroll", "click123", NOON)
    ]
    assert touch.url == "https://www.shop.com/shoes?adct=click123&utm_source=adroll"
    assert touch.referrer == "https://news.example/a"
    assert told == fpc.partition(";")[0]
    assert consent.signal == "opt_out"


def test_an_ordinary_page_view_is_left_alone() -> None:
    """With both cookies fresh the answer is the very message that the app sent: nothing verified, nothing written."""
    shop = Shop()
    cookie = shop.returning()
    shop.rules = Breaking(shop.rules, {"signature", "consent", "watched", "proxies"})
    message: Message = {"type": "http.response.start", "status": 200, "headers": []}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(message)

    answer = run(CaptureMiddleware(app, kit=shop), scope_of(cookie="a=1; " + cookie + "; b=2"))

    assert answer.sent[0] is message
    assert shop.failed == []


def test_a_cookie_is_renewed_once_a_day_and_keeps_the_visitor() -> None:
    """After a day both cookies are issued again: the same visitor, the same touches, the same AdRoll id."""
    shop = Shop()
    first = shop.get("adct=one")
    shop.looks = visitor_of
    shop.get(cookie=first.cookie_header())
    before = shop.seen

    shop.now = NOON + timedelta(hours=23)
    assert shop.get(cookie=first.cookie_header()).set_cookies == {}
    shop.now = NOON + timedelta(hours=25)
    renewed = shop.get(cookie=first.cookie_header())
    shop.get(cookie=renewed.cookie_header())

    assert renewed.set_cookies["__adroll_fpc"] == first.set_cookies["__adroll_fpc"]
    assert (shop.seen.id, shop.seen.first_touch) == (before.id, before.first_touch)
    assert shop.seen.issued_at == shop.now
    assert len(shop.touches) == 1


def test_a_later_click_replaces_and_a_reload_is_no_news() -> None:
    """The newest click is the visitor's; the same one again sets and records nothing."""
    shop = Shop()
    cookie = shop.get("adct=one").cookie_header()

    assert shop.get("adct=one", cookie=cookie).set_cookies == {}
    second = shop.get("adct=two", cookie=cookie)
    shop.looks = visitor_of
    shop.get(cookie=second.cookie_header())

    assert [touch.click_ids[0].value for _, touch, _, _ in shop.touches] == ["one", "two"]
    assert [click.value for click in shop.seen.click_ids] == ["two"]


def test_only_adrolls_cookie_is_set_when_it_alone_is_missing_or_invalid() -> None:
    """A valid visitor cookie stays untouched; a first-party cookie that AdRoll would not take is minted anew."""
    shop = Shop()
    visitor = shop.returning().partition("; ")[0]

    for other in ("", "; __adroll_fpc=short", "; x__adroll_fpc=" + FPC, "; __adroll_fpc=" + "<" * 40):
        assert shop.get(cookie=visitor + other).set_cookies.keys() == {"__adroll_fpc"}
    assert shop.get(cookie=f"{visitor}; __adroll_fpc={FPC}").set_cookies == {}


def test_a_bad_cookie_is_healed_by_the_page_that_looks() -> None:
    """A forged cookie of today's date costs a page view nothing, and is replaced as soon as somebody asks for it."""
    shop = Shop()
    cookie = shop.returning()
    forged = cookie[:20] + ("x" if cookie[20] != "x" else "y") + cookie[21:]  # within the visitor id

    assert shop.get(cookie=forged).set_cookies == {}
    shop.looks = visitor_of
    answer = shop.get(cookie=forged)

    assert "__Host-kit" in answer.set_cookies
    assert isinstance(shop.seen, Visitor)


def test_the_minted_visitor_of_a_page_is_the_one_its_cookie_carries() -> None:
    """A page may use the visitor that is about to be set; a visit has none before the cookie came back."""
    shop = Shop()
    shop.looks = lambda scope: (visitor_of(scope), visit_of(scope))

    answer = shop.get("adct=one")
    minted, visit = shop.seen
    shop.get(cookie=answer.cookie_header())
    known, later = shop.seen

    assert minted.id == known.id
    assert (visit.visitor, visit.ip, visit.user_agent) == (None, None, None)
    assert (later.visitor.id, later.ip, later.user_agent) == (minted.id, "198.41.0.4", CHROME)
    assert later.first_party_cookie == answer.set_cookies["__adroll_fpc"].partition(";")[0]
    assert later.url == "https://www.shop.com/shoes"


# ---------------------------------------------------------------- consent


def test_without_consent_nothing_is_set_kept_or_shown() -> None:
    """Under opt_in nothing happens before a yes: no cookie, no touch, a visit of the consent alone."""
    shop = Shop("opt_in")
    shop.looks = visit_of

    answer = shop.get("adct=one", cookie=f"__adroll_fpc={FPC}")

    assert (answer.set_cookies, answer.cache_control, shop.touches) == ({}, [], [])
    assert (shop.seen.visitor, shop.seen.first_party_cookie, shop.seen.ip, shop.seen.url) == (None, None, None, None)
    assert shop.seen.consent.granted is None
    assert shop.get("adct=one", cookie="kit-consent=granted").set_cookies.keys() == {"__Host-kit", "__adroll_fpc"}


def test_gpc_takes_the_visitor_from_the_visit() -> None:
    """A known visitor who now says no shows nothing of himself."""
    shop = Shop()
    cookie = shop.returning()
    shop.looks = visit_of

    shop.get(cookie=cookie, headers={"sec-gpc": "1"})

    assert (shop.seen.visitor, shop.seen.consent.signal) == (None, "gpc")


# ---------------------------------------------------------------- replaced and collected visitors


def test_a_replaced_visitor_is_set_on_any_method() -> None:
    """Somebody else at the same device gets a new visitor with a POST's answer; AdRoll's cookie stays."""
    shop = Shop()
    cookie = shop.returning()
    shop.looks = lambda scope: (visit_of(scope), replaced(scope), visit_of(scope))

    answer = shop.get(cookie=cookie, method="POST")
    before, new, after = shop.seen

    assert answer.set_cookies.keys() == {"__Host-kit"}
    assert before.visitor.id != new.id == after.visitor.id
    assert shop.get(cookie=cookie, method="POST", answer=[(b"cache-control", b"public")]).set_cookies == {}


def test_a_replaced_visitor_without_consent_loses_the_cookie() -> None:
    """Where nothing may be kept the old cookie is taken away."""
    shop = Shop()
    cookie = shop.returning()
    shop.looks = replaced

    answer = shop.get(cookie=cookie, method="POST", headers={"sec-gpc": "1"})

    assert shop.seen is None
    assert answer.set_cookies == {"__Host-kit": "; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"}


def test_a_posted_arrival_comes_to_cookies_and_a_touch() -> None:
    """What kit.js saw behind a CDN becomes server-set cookies; the pixel's own value wins."""
    shop = Shop()
    params = {"adct": "one", "rtid": "bad id", "utm_source": "adroll", "x": "y"}
    shop.looks = lambda scope: collected(scope, params)

    shop.get(method="POST", headers={"sec-fetch-mode": "cors"}, cookie="__adroll_fpc=" + FPC[::-1])
    first = shop.seen
    cookie = "; ".join(line.decode().partition(";")[0] for line in first.set_cookies)
    shop.get(method="POST", headers={"sec-fetch-mode": "cors"}, cookie=cookie)

    assert [line.partition(b"=")[0] for line in first.set_cookies] == [b"__Host-kit", b"__adroll_fpc"]
    assert first.first_party_cookie == FPC
    assert [(click.vendor, click.value) for click in first.touchpoint.click_ids] == [("adroll", "one")]
    assert first.touchpoint.url == "https://www.shop.com/a?adct=one"
    assert (shop.seen.visitor.id, shop.seen.touchpoint) == (first.visitor.id, None)
    assert Shop("opt_in").get(method="POST").set_cookies == {}


@pytest.mark.parametrize(
    "page",
    [
        {},
        {"headers": {"sec-fetch-mode": None}},
        {"looks": lambda scope: visitor_of(scope)},
        {"looks": lambda scope: collected(scope, {"adct": "one"}), "collects": True},
    ],
    ids=["straight", "thorough", "looked at", "posted"],
)
def test_a_click_says_which_browser_made_it(page: dict[str, Any]) -> None:
    """Whichever way its landing takes: the visitor's id with the click, its User-Agent, cut, with the touch."""
    shop = Shop()
    agent = CHROME + "x" * 1_000
    shop.looks = page.get("looks", lambda scope: None)

    answer = shop.get(
        "" if "collects" in page else "adct=one", headers={"user-agent": agent, **page.get("headers", {})}
    )
    touch = shop.seen.touchpoint if "collects" in page else shop.touches[0][1]
    visitor = shop.seen.visitor.id if "collects" in page else shop.touches[0][0]

    assert touch.user_agent == agent[:512]
    assert [click.visitor for click in touch.click_ids] == [visitor]
    assert answer.set_cookies


def test_a_visitors_clicks_are_of_its_own_browser() -> None:
    """Read again from the cookie they say so: the newest ones, and those of the first and the last touch."""
    shop = Shop()
    cookie = shop.get("adct=one&gclid=two").cookie_header()
    cookie = shop.get("adct=three", cookie=cookie).cookie_header()
    shop.looks = visitor_of

    shop.get(cookie=cookie)

    seen: Visitor = shop.seen
    assert seen.first_touch is not None
    assert seen.last_touch is not None
    clicks = (*seen.click_ids, *seen.first_touch.click_ids, *seen.last_touch.click_ids)
    assert sorted(click.value for click in clicks) == ["one", "three", "three", "two", "two"]
    assert {click.visitor for click in clicks} == {seen.id}


def collected(scope: Scope, params: Mapping[str, str]) -> Any:
    capture = capture_of(scope)
    assert capture is not None
    return capture.collect(params, pixel_cookie=FPC, url="https://www.shop.com/a?adct=one&token=x#y", referrer=None)
