"""The shared cache of these tests is an honest one, and no answer with a cookie of ours is one that it may keep."""

import itertools
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from kit.web import CaptureMiddleware
from tests.caching.cache import Headers, SharedCache, directives
from tests.capture.shop import Shop, run, scope_of

HTML = [("content-type", "text/html")]
Lines = list[tuple[str, str]]


class Origin:
    """Answers with what it is told to; `asked` are the conditions of the requests that came."""

    def __init__(self, headers: Lines, *, status: int = 200) -> None:
        self.headers = headers
        self.status = status
        self.asked: list[bytes | None] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        condition = dict(scope["headers"]).get(b"if-none-match")
        self.asked.append(condition)
        known = condition is not None and ("etag", condition.decode()) in self.headers
        headers = [(name.encode(), value.encode()) for name, value in self.headers]
        await send({"type": "http.response.start", "status": 304 if known else self.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if known else b"page"})


class Clock:
    now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def cache_of(app: Any, **options: Any) -> SharedCache:
    transport = httpx.ASGITransport(app=app)
    return SharedCache(origin=httpx.AsyncClient(transport=transport, base_url="http://shop.test"), **options)


def asked(cache: SharedCache, target: str = "/", method: str = "GET", **headers: str) -> tuple[int, Headers, str]:
    """Ask for a page as a new visitor; return status, headers and what became of it."""
    path, _, query = target.partition("?")
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = run(cache, scope_of(query, method=method, path=path, raw_path=path.encode(), headers=sent))
    return answer.sent[0]["status"], answer.headers, cache.told[-1]


def outcomes(cache: SharedCache, *targets: str, **headers: str) -> list[str]:
    return [asked(cache, target, **headers)[2] for target in targets]


# ---------------------------------------------------------------- the cache is honest


@pytest.mark.parametrize(
    ("headers", "outcome"),
    [
        ([], "hit"),
        ([("cache-control", "public, max-age=60")], "hit"),
        ([("cache-control", "Max-Age=60")], "hit"),
        ([("cache-control", "s-maxage=60, max-age=0")], "hit"),
        ([("cache-control", "max-age=0")], "miss"),
        ([("cache-control", "no-store")], "miss"),
        ([("cache-control", "no-store, must-understand, max-age=60")], "hit"),
        ([("cache-control", "private, max-age=60")], "miss"),
        ([("cache-control", 'private="x-name", max-age=60')], "hit"),
        ([("cache-control", 'note="a, private, b", max-age=60')], "hit"),
        ([("cache-control", "private"), ("cdn-cache-control", "max-age=60")], "hit"),
        ([("cache-control", "no-cache")], "miss"),
        ([("cache-control", "no-cache"), ("etag", '"one"')], "revalidated"),
        ([("cache-control", "max-age=60"), ("vary", "*")], "miss"),
        ([("cache-control", "max-age=60"), ("vary", "Accept")], "hit"),
        ([("cache-control", "max-age=60"), ("set-cookie", "a=b")], "miss"),
        ([("expires", "Sat, 01 Jan 2000 00:00:00 GMT")], "miss"),
        ([("expires", "Fri, 01 Jan 2100 00:00:00 GMT")], "hit"),
    ],
    ids=str,
)
def test_an_answer_is_kept_as_long_as_it_says(headers: Lines, outcome: str) -> None:
    """RFC 9111, for a shared cache that keeps no cookies."""
    assert outcomes(cache_of(Origin(headers)), "/", "/") == ["miss", outcome]


def test_a_stored_answer_grows_old_and_is_freshened() -> None:
    """After its time it is asked for with its validator; a 304 makes it fresh once more."""
    clock = Clock()
    origin = Origin([("cache-control", "max-age=60"), ("etag", '"one"')])
    cache = cache_of(origin, clock=clock)

    told = outcomes(cache, "/", "/")
    clock.now += 61
    told += outcomes(cache, "/", "/")

    assert told == ["miss", "hit", "revalidated", "hit"]
    assert origin.asked == [None, b'"one"']
    assert asked(cache, if_none_match='"one"')[0] == 304


def test_what_varies_is_kept_apart_and_what_is_ignored_is_not() -> None:
    """By headers that the answer names, and by all parameters of the URL but those that the shop has listed."""
    cache = cache_of(Origin([("cache-control", "max-age=60"), ("vary", "Accept-Language")]), ignored={"adct"})

    told = [asked(cache, accept_language=language)[2] for language in ("de", "en", "de")]
    told += outcomes(cache, "/?adct=one&page=2", "/?page=2&adct=two", "/?page=3", accept_language="de")

    assert told == ["miss", "miss", "hit", "miss", "hit", "miss"]


def test_a_cache_that_keeps_cookies_gives_them_to_everybody() -> None:
    """This is what the kit must never let happen to a cookie of its own."""
    cache = cache_of(Origin([("cache-control", "max-age=60"), ("set-cookie", "basket=1")]), keeps_cookies=True)

    assert outcomes(cache, "/") == ["miss"]
    assert (b"set-cookie", b"basket=1") in asked(cache)[1]
    assert cache.told == ["miss", "hit"]


def test_directives_are_read_as_they_are_quoted() -> None:
    """A comma in a quoted string parts nothing; names are taken in small letters."""
    assert directives([b'A="b, c", D', b"e=1"]) == {"a": "b, c", "d": None, "e": "1"}


# ---------------------------------------------------------------- and no cookie of ours is kept

CONTROLS = [
    *(None, "", "public", "private", "no-store", "no-cache", "max-age=60", "s-maxage=60", "immutable", "max-age=0"),
    *("private, max-age=60", "public, no-store", "private, public", "PRIVATE", "private, s-maxage=60", 'private="a"'),
    *("no-store, no-cache, must-revalidate", "stale-while-revalidate=60", "private, private", "proxy-revalidate"),
    *("0", "no-store, must-understand, max-age=60", 'note="a, private, b", max-age=60', 'x="no-store, private, '),
    *("must-understand, max-age=60", "max-age=60, stale-if-error=60", "no-transform", "x", "no-store=1", "private="),
]
OTHERS: list[Mapping[str, str]] = [
    {},
    {"expires": "Fri, 01 Jan 2100 00:00:00 GMT"},
    {"cdn-cache-control": "max-age=60"},
    {"surrogate-control": "max-age=60"},
    {"cdn-cache-control": "private"},
    {"last-modified": "Mon, 01 Jan 2024 00:00:00 GMT", "etag": '"one"'},
]
STATUSES = (200, 203, 206, 301, 302, 304, 404, 410, 500)
VARYING = (None, "accept", "cookie")


@pytest.mark.parametrize("control", CONTROLS, ids=str)
def test_no_cookie_of_ours_is_in_a_cache_that_keeps_cookies(control: str | None) -> None:
    """W15: over 4,000 combinations of status, Cache-Control, Vary, CDN headers and method, a new visitor each."""
    shop = Shop()
    said = [("cache-control", control)] if control is not None else []
    for status, other, varying in itertools.product(STATUSES, OTHERS, VARYING):
        headers = [*HTML, *said, *other.items(), *([("vary", varying)] if varying else [])]
        cache = cache_of(CaptureMiddleware(Origin(headers, status=status), kit=shop), keeps_cookies=True)

        asked(cache, "/?adct=one", method="HEAD")
        first, second = asked(cache, "/?adct=one"), asked(cache, "/?adct=one")

        kept = [each.answer for entries in cache.stored.values() for each in entries]
        assert [answer.values(b"set-cookie") for answer in kept if answer.values(b"set-cookie")] == [], headers
        assert not cookies(first) & cookies(second), headers
    assert shop.failed == []


def cookies(answer: tuple[int, Headers, str]) -> set[bytes]:
    return {value for name, value in answer[1] if name == b"set-cookie"}
