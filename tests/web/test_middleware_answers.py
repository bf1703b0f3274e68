"""CaptureMiddleware: on which answers, hosts and requests a cookie is set, and what hostile ones come to."""

from typing import Any

import pytest

from kit.capture import visit_of
from tests.capture.shop import Shop

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
    ([("cache-control", "0")], False),
    ([("cache-control", "no-store, must-understand, max-age=60")], False),
    ([("cache-control", 'note="a, private, b", max-age=60')], False),
    ([("cache-control", 'private, no-cache="set-cookie, set-cookie2"')], True),
    ([("cache-control", 'private, note="a \\", public, b"')], True),
    ([("cache-control", "private"), ("x-accel-expires", "0")], True),
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
    # A set's text is another in each process.
    ids=lambda value: " ".join(sorted(value)) if isinstance(value, set) else str(value),
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
