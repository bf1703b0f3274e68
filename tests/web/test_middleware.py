"""CaptureMiddleware over raw ASGI scopes: what a page gets, what it never gets, and that it always goes out."""

import asyncio
import gc
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kit.capture import Capture, CaptureRules, capture_of, visit_of, visitor_of
from kit.consent import ConsentPolicy, ConsentRule
from kit.model import Consent, Touchpoint, Visitor, VisitorId
from kit.web.middleware import App, CaptureMiddleware, Message, Receive, Scope, Send

KEY = b"a-key-for-tests-01234567"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
FPC = "0123456789abcdef0123456789abcdef-1763700000000"
Headers = list[tuple[bytes, bytes]]


class Shop:
    """A kit for the middleware with a clock to set, and a page to answer with."""

    def __init__(self, consent: ConsentRule = "opt_out", **settings: Any) -> None:
        self.now = NOON
        settings.setdefault("secret_keys", [KEY])
        self.rules: Any = CaptureRules(consent=ConsentPolicy(consent), clock=lambda: self.now, **settings)
        self.faults = self
        self.failed: list[str] = []
        self.touches: list[tuple[VisitorId, Touchpoint, str | None, Consent]] = []
        self.looks: Callable[[Scope], Any] = lambda scope: None
        self.seen: Any = None

    def count(self, where: str) -> None:
        self.failed.append(where)

    def record_touch(self, *touch: Any) -> None:
        self.touches.append(touch)

    def page(self, status: int, headers: Headers) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            self.seen = self.looks(scope)
            await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": True})
            await send({"type": "http.response.body", "body": b"page"})

        return app

    def get(self, query: str = "", **changes: Any) -> "Answer":
        status, answer = changes.pop("status", 200), changes.pop("answer", [(b"content-type", b"text/html")])
        app = CaptureMiddleware(self.page(status, answer), kit=self)
        return run(app, scope_of(query, **changes))

    def returning(self) -> str:
        """Return the Cookie header of a visitor who was here at the time of the clock."""
        return self.get().cookie_header()


class Answer:
    def __init__(self, sent: list[Message]) -> None:
        self.sent = sent
        self.headers: Headers = list(sent[0].get("headers", []))

    @property
    def set_cookies(self) -> dict[str, str]:
        lines = [value.decode("latin-1") for name, value in self.headers if name == b"set-cookie"]
        return {line.partition("=")[0]: line.partition("=")[2] for line in lines}

    @property
    def cache_control(self) -> list[bytes]:
        return [value for name, value in self.headers if name == b"cache-control"]

    def cookie_header(self) -> str:
        return "; ".join(f"{name}={line.partition(';')[0]}" for name, line in self.set_cookies.items())


def scope_of(query: str = "", *, cookie: str | bytes = "", method: str = "GET", **changes: Any) -> Scope:
    sent = {"host": "www.shop.com", "user-agent": CHROME, "sec-fetch-mode": "navigate", "accept": "text/html"}
    sent |= changes.pop("headers", {})
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None]
    if cookie:
        raw.append((b"cookie", cookie if isinstance(cookie, bytes) else cookie.encode("latin-1")))
    scope = {
        "type": "http",
        "method": method,
        "scheme": "https",
        "path": "/shoes",
        "raw_path": b"/shoes",
        "query_string": query.encode("latin-1"),
        "headers": raw + changes.pop("more", []),
        "client": ("198.41.0.4", 4711),
    }
    return scope | changes


def run(app: App, scope: Scope) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app_call(app, scope, receive, send))
    return Answer(sent)


async def app_call(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


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


# ---------------------------------------------------------------- W15: only where no shared cache keeps it

CACHE = [
    ([], True),
    ([("Cache-Control", "private")], True),
    ([("cache-control", "no-store, max-age=0")], True),
    ([("CACHE-CONTROL", "Private, Max-Age=60")], True),
    ([("cache-control", "no-store"), ("expires", "0"), ("surrogate-control", "no-store")], True),
    ([("pragma", "no-cache"), ("etag", '"x"'), ("vary", "accept")], True),
    ([("cache-control", "private"), ("expires", "Thu, 19 Nov 1981 08:52:00 GMT")], True),
    ([("cache-control", "public")], False),
    ([("cache-control", "public, max-age=600")], False),
    ([("cache-control", "max-age=0")], False),
    ([("cache-control", "s-maxage=10, private")], False),
    ([("cache-control", "private"), ("cache-control", "public")], False),
    ([("cache-control", 'private="set-cookie"')], False),
    ([("cache-control", "immutable")], False),
    ([("cache-control", "no-cache")], False),
    ([("cache-control", "")], False),
    ([("expires", "Thu, 19 Nov 2099 08:52:00 GMT")], False),
    ([("cdn-cache-control", "max-age=60")], False),
    ([("cache-control", "private"), ("CDN-Cache-Control", "max-age=60")], False),
    ([("cache-control", "private"), ("cloudflare-cdn-cache-control", "max-age=60")], False),
    ([("cache-control", "no-store"), ("surrogate-control", "max-age=60")], False),
    ([("cache-control", "private"), ("x-accel-expires", "60")], False),
    ([("cdn-cache-control", "no-store")], False),
]


@pytest.mark.parametrize(("headers", "room"), CACHE, ids=str)
def test_a_cookie_is_set_only_where_no_shared_cache_may_keep_the_answer(
    headers: list[tuple[str, str]], room: bool
) -> None:
    """W15: private, no-store, or nothing said at all; and then `Cache-Control: private` is the one change."""
    shop = Shop()
    sent = [(name.encode(), value.encode()) for name, value in headers]

    answer = shop.get("adct=one", answer=sent)

    assert bool(answer.set_cookies) is room
    assert bool(shop.touches) is room
    rest = [header for header in answer.headers if header[0] != b"set-cookie"]
    said = any(name.lower().endswith(b"cache-control") for name, _ in sent)
    assert rest == (sent if said or not room else [*sent, (b"cache-control", b"private")])


@pytest.mark.parametrize(
    ("status", "room"), [(200, True), (302, True), (404, True), (500, True), (304, False), (206, False), (103, False)]
)
def test_redirects_and_error_pages_set_cookies_and_parts_of_answers_do_not(status: int, room: bool) -> None:
    """A click that lands on a redirect or an error page is kept; 304, 206 and 1xx carry nothing."""
    assert bool(Shop().get("adct=one", status=status).set_cookies) is room


@pytest.mark.parametrize(
    ("changes", "room"),
    [
        ({}, True),
        ({"headers": {"sec-fetch-mode": None}}, True),
        ({"headers": {"sec-fetch-mode": None, "accept": "application/json"}}, False),
        ({"headers": {"sec-fetch-mode": "cors"}}, False),
        ({"headers": {"sec-purpose": "prefetch"}}, False),
        ({"headers": {"sec-purpose": "prefetch;prerender"}}, False),
        ({"headers": {"purpose": "prefetch"}}, False),
        ({"headers": {"x-moz": "prefetch"}}, False),
        (
            {"headers": {"user-agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}},
            False,
        ),
        ({"headers": {"user-agent": "AdsBot-Google (+http://www.google.com/adsbot.html)"}}, False),
        ({"headers": {"user-agent": "facebookexternalhit/1.1"}}, False),
        (
            {
                "headers": {
                    "user-agent": "Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) AppleWebKit/605.1.15 Safari"
                }
            },
            True,
        ),
        ({"headers": {"user-agent": "Mozilla/5.0 (Windows NT 10.0; rv:132.0) Gecko/20100101 Firefox/132.0"}}, True),
        ({"headers": {"user-agent": "x" * 10_000}}, True),
        ({"headers": {"sec-gpc": "1"}}, False),
        ({"cookie": "kit-consent=denied"}, False),
        ({"method": "HEAD"}, False),
        ({"method": "POST"}, False),
        ({"method": "OPTIONS"}, False),
        ({"method": "TRACE"}, False),
    ],
    ids=str,
)
def test_only_a_person_opening_a_page_gets_a_cookie(changes: dict[str, Any], room: bool) -> None:
    """W19, W26: no fetch, prefetch, bot or other method, and nobody who said no."""
    shop = Shop()

    assert bool(shop.get("adct=one", **changes).set_cookies) is room
    assert bool(shop.touches) is room


# ---------------------------------------------------------------- names, domains, several cookies


@pytest.mark.parametrize(
    ("settings", "host", "names", "domain"),
    [
        ({}, "www.shop.co.uk", {"__Host-kit", "__adroll_fpc"}, "; Domain=shop.co.uk"),
        ({}, "shop.com:8443", {"__Host-kit", "__adroll_fpc"}, "; Domain=shop.com"),
        ({}, "SHOP.Example.COM", {"__Host-kit", "__adroll_fpc"}, "; Domain=example.com"),
        ({}, "co.uk", {"__Host-kit", "__adroll_fpc"}, ""),
        ({}, "93.184.216.34", {"__Host-kit", "__adroll_fpc"}, ""),
        ({}, "[2606:4700::1]:443", {"__Host-kit", "__adroll_fpc"}, ""),
        ({}, "localhost", {"__Host-kit", "__adroll_fpc"}, ""),
        ({}, "shop", {"__Host-kit", "__adroll_fpc"}, ""),
        ({}, "evil.test; Domain=x", {"__Host-kit", "__adroll_fpc"}, ""),
        ({"cookie_domain": "shop.com"}, "a.shop.com", {"__Secure-kit", "__adroll_fpc"}, "; Domain=shop.com"),
        ({"insecure_cookies": True}, "localhost:8000", {"kit", "__adroll_fpc"}, ""),
        ({"insecure_cookies": True}, "127.0.0.5", {"kit", "__adroll_fpc"}, ""),
        ({"insecure_cookies": True}, "[::1]:80", {"kit", "__adroll_fpc"}, ""),
        ({"insecure_cookies": True}, "www.shop.com", set(), ""),
    ],
    ids=str,
)
def test_names_and_domains_are_such_that_a_browser_takes_them(
    settings: dict[str, Any], host: str, names: set[str], domain: str
) -> None:
    """`__Host-kit` has no Domain; AdRoll's cookie the registrable one; without Secure only on this machine."""
    answer = Shop(**settings).get("adct=one", headers={"host": host}, scheme="http")

    assert answer.set_cookies.keys() == names
    for name, line in answer.set_cookies.items():
        shared = name == "__adroll_fpc" or "cookie_domain" in settings
        assert line.partition("Lax")[2].replace("; Secure", "") == (domain if shared else "")
        assert ("Secure" in line) is not settings.get("insecure_cookies", False)


def test_the_first_cookie_that_verifies_is_the_visitor() -> None:
    """W07: a tossed namesake before ours does not hide it; several Cookie headers are one."""
    shop = Shop()
    shop.looks = visit_of
    real = shop.returning()

    shop.get(cookie="__Host-kit=tossed; " + real)
    tossed = shop.seen.visitor
    shop.get(more=[(b"cookie", b"a=1"), *((b"cookie", pair.encode()) for pair in real.split("; "))])

    assert tossed is not None
    assert shop.seen.visitor == tossed
    assert shop.failed == []


@pytest.mark.parametrize(
    "cookie",
    [
        b"; ".join(b"c%d=%s" % (number, b"v" * 40) for number in range(50)),
        b"big=" + b"x" * 1_000_000,
        b"__Host-kit=" * 90_000,
        b" __adroll_fpc=" * 5_000,
        b"bad=\xff\xfe\x00\x01",
        b'quoted="\\012\\015"',
        b"=; ;;; =x; novalue; a==b",
    ],
    ids=lambda cookie: repr(cookie[:20]),
)
def test_odd_cookie_headers_hide_nothing_and_break_nothing(cookie: bytes) -> None:
    """W01, W08: 50 cookies, 1 MB, other alphabets, quoted octal: the page goes out and its visitor is known."""
    shop = Shop()
    shop.looks = visit_of
    answer = shop.get(cookie=shop.returning().encode() + b"; " + cookie)

    assert answer.sent[1]["body"] == b"page"
    assert answer.set_cookies == {}
    assert shop.seen.visitor is not None
    assert shop.get("adct=one", cookie=cookie).set_cookies.keys() == {"__Host-kit", "__adroll_fpc"}
    assert shop.failed == []


@pytest.mark.parametrize(
    "query",
    [
        "adct=" + "x" * 10_000_000,
        "a=1&" * 10_000 + "adct=x",
        "adct=a%0d%0aSet-Cookie:%20x=1",
        "adct=\xff\xfe\r\n\x00",
        "adct=%00;%2c%22",
        "utm_source=%E2%80%AE%0A&utm_campaign=" + "%41" * 300,
        "%" * 5000,
    ],
    ids=lambda query: query[:20],
)
def test_no_query_reaches_a_header_unencoded(query: str) -> None:
    """W01, W02, W16: nothing of a hostile URL stands in an answer; the page goes out with a clean new visitor."""
    shop = Shop()

    answer = shop.get(query)

    assert answer.set_cookies.keys() == {"__Host-kit", "__adroll_fpc"}
    assert all(len(value) < 4096 and value.isascii() for _, value in answer.headers)
    assert not any(set(value) & set(b'\r\n\x00"') for _, value in answer.headers)
    assert (shop.touches, shop.failed) == ([], [])


def test_the_apps_own_cookie_of_our_name_is_not_doubled() -> None:
    """An endpoint that sets the visitor itself has the last word, and its touch is its own to record."""
    shop = Shop()

    answer = shop.get("adct=one", answer=[(b"Set-Cookie", b"__Host-kit=mine; Path=/")])

    lines = [value for name, value in answer.headers if name.lower() == b"set-cookie"]
    assert [line.partition(b"=")[0] for line in lines] == [b"__Host-kit", b"__adroll_fpc"]
    assert shop.touches == []


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


def replaced(scope: Scope) -> Visitor | None:
    capture = capture_of(scope)
    return capture.replace() if capture else None


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


def collected(scope: Scope, params: Mapping[str, str]) -> Any:
    capture = capture_of(scope)
    assert capture is not None
    return capture.collect(params, pixel_cookie=FPC, url="https://www.shop.com/a?adct=one&token=x#y", referrer=None)


# ---------------------------------------------------------------- W20, W21: the page always goes out


class Breaking:
    """The rules, of which some parts raise when they are read."""

    def __init__(self, rules: CaptureRules, broken: set[str]) -> None:
        self._rules, self._broken = rules, broken

    def __getattr__(self, name: str) -> Any:
        if name in self._broken:
            raise RuntimeError(name)
        return getattr(self._rules, name)


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


async def _never() -> Message:
    raise AssertionError("nobody receives here")


def test_a_request_that_no_middleware_saw_has_no_visitor() -> None:
    """Asking is always allowed; the answer is None."""
    assert (visitor_of({}), visit_of(object()), capture_of(None)) == (None, None, None)
