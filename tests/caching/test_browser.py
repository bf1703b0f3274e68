"""Landing pages out of a cache, in a real Chromium: the click arrives all the same, and no cookie is anybody else's."""

from datetime import timedelta
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.browser.shop import Window, lasts_a_year
from tests.caching.shop import MARKETING, CachedShop, cached_shop, click_of, headers_of

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]


async def opened(window: Window, target: str) -> dict[str, str]:
    """Open a page and wait until kit.js has posted what it has to; return the page's headers."""
    answer = await window.page.goto(window.url + target)
    await window.settled()
    return headers_of(answer)


async def cookies_set_by_the_server(window: Window) -> tuple[str, str]:
    """Return the values of both cookies, which only a server sets so: for a year, and ours out of a script's reach."""
    cookies = await window.cookies()
    assert lasts_a_year(cookies["kit"])
    assert lasts_a_year(cookies["__adroll_fpc"])
    assert cookies["kit"]["httpOnly"] is True
    return cookies["kit"]["value"], cookies["__adroll_fpc"]["value"]


@pytest.mark.parametrize("keeps_cookies", [False, True], ids=["RFC 9111 and careful", "keeps cookies"])
@pytest.mark.parametrize(
    ("path", "outcome"),
    [("/cached", "hit"), ("/validated", "revalidated"), ("/silent", "miss"), ("/private", "miss")],
)
async def test_two_visitors_through_one_cache_share_a_page_and_no_cookie(
    browser: Browser, tmp_path: Path, path: str, outcome: str, keeps_cookies: bool
) -> None:
    """Kept, revalidated by a 304, or not kept at all: each gets cookies of their own, and their click is theirs."""
    target = path + "?adct=click-of-the-campaign"
    async with (
        cached_shop(browser, tmp_path, keeps_cookies=keeps_cookies) as shop,
        shop.visitor() as one,
        shop.visitor() as other,
    ):
        first, second = await opened(one, target), await opened(other, target)
        mine, theirs = await cookies_set_by_the_server(one), await cookies_set_by_the_server(other)
        clicks = [await click_of(shop, one), await click_of(shop, other)]

    assert (first["x-cache"], second["x-cache"]) == ("miss", outcome)
    assert not set(mine) & set(theirs)
    assert clicks == ["click-of-the-campaign"] * 2
    assert outcome == "miss" or "set-cookie" not in first.keys() | second.keys()


async def test_a_cache_that_knows_no_click_ids_loses_none(browser: Browser, tmp_path: Path) -> None:
    """Where the CDN takes all links of a campaign for one page, kit.js reads the click from the address."""
    async with (
        cached_shop(browser, tmp_path, ignored=MARKETING) as shop,
        shop.visitor() as one,
        shop.visitor() as other,
    ):
        await opened(one, "/cached?adct=one")
        second = await opened(other, "/cached?adct=two")
        clicks = [await click_of(shop, one), await click_of(shop, other)]

    assert second["x-cache"] == "hit"
    assert clicks == ["one", "two"]
    assert shop.asked == ["/cached?adct=one"]


async def test_a_page_that_is_asked_for_again_sets_nothing_with_its_304(browser: Browser, tmp_path: Path) -> None:
    """One visitor, twice the same page: the server says 304 to the cache, the cache to the browser."""
    async with cached_shop(browser, tmp_path, keeps_cookies=True) as shop, shop.visitor() as window:
        await opened(window, "/validated?adct=one")
        before = await cookies_set_by_the_server(window)
        again = await opened(window, "/validated?adct=one")
        after = await cookies_set_by_the_server(window)
        kept = [each.answer for entries in shop.cache.stored.values() for each in entries]

    assert again["x-cache"] == "revalidated"
    assert before == after
    assert [answer.values(b"set-cookie") for answer in kept if answer.first(b"etag") == b'"one"'] == [[]]


async def test_what_the_kit_answers_itself_is_kept_by_no_cache(browser: Browser, tmp_path: Path) -> None:
    """Beside kit.js, which is the same for everybody and sets nothing."""
    async with cached_shop(browser, tmp_path, keeps_cookies=True) as shop, shop.visitor() as window:
        await opened(window, "/private?adct=one")
        await window.page.evaluate("kit.consent(true)")
        await window.page.evaluate("kit.reset()")

    kept = {target: entries for target, entries in shop.cache.stored.items() if target.startswith("/kit/")}
    assert [target.rpartition(".")[2] for target in kept] == ["js"]
    assert [each.answer.values(b"set-cookie") for entries in kept.values() for each in entries] == [[]]


# ---------------------------------------------------------------- No-Vary-Search


async def both_clicks(shop: CachedShop, path: str) -> list[str | None]:
    """Return the click that the server knows after each of two landings of one visitor."""
    async with shop.visitor() as window:
        clicks = []
        for click in ("one", "two"):
            await opened(window, f"{path}?adct={click}&page=2")
            clicks.append(await click_of(shop, window))
            shop.clock.passes(timedelta(seconds=1))
    return clicks


@pytest.mark.parametrize("path", ["/ignoring", "/ignoring-dated"])
async def test_a_browser_that_keeps_one_page_for_all_clicks_asks_no_server(
    browser: Browser, tmp_path: Path, path: str
) -> None:
    """With No-Vary-Search the second landing comes out of Chromium's own cache: kit.js alone tells of its click.

    So does a private page with a date and no max-age, which a browser may hold for fresh.
    """
    async with cached_shop(browser, tmp_path, cached=False) as shop:
        clicks = await both_clicks(shop, path)

    assert shop.asked == [f"{path}?adct=one&page=2"]
    assert clicks == ["one", "two"]


async def test_a_revalidation_names_the_click_of_the_page_that_was_kept(browser: Browser, tmp_path: Path) -> None:
    """Chromium asks again for the first landing's address: the server hears of an old click, kit.js of the real one."""
    async with cached_shop(browser, tmp_path, cached=False) as shop:
        clicks = await both_clicks(shop, "/ignoring-validated")

    assert shop.asked == ["/ignoring-validated?adct=one&page=2"] * 2
    assert clicks == ["one", "two"]


async def test_a_revalidated_page_that_changed_may_bring_an_old_click_back(browser: Browser, tmp_path: Path) -> None:
    """What No-Vary-Search costs on a page with a validator and our cookies: a direct visit looks like an old click."""
    async with cached_shop(browser, tmp_path, cached=False) as shop, shop.visitor() as window:
        told = []
        for query in ("?adct=one", "?adct=two", ""):
            await opened(window, "/ignoring-changed" + query)
            told.append((await window.cookies())["kit"]["value"].partition("!c")[2].split("*")[1])
            shop.clock.passes(timedelta(seconds=1))

    assert shop.asked == ["/ignoring-changed?adct=one"] * 3
    assert told == ["one", "two", "one"]


async def test_a_page_that_no_browser_keeps_is_asked_for_each_time(browser: Browser, tmp_path: Path) -> None:
    """Without freshness and validator No-Vary-Search changes nothing: the middleware sees both clicks itself."""
    async with cached_shop(browser, tmp_path, cached=False) as shop:
        clicks = await both_clicks(shop, "/ignoring-private")

    assert shop.asked == [f"/ignoring-private?adct={click}&page=2" for click in ("one", "two")]
    assert clicks == ["one", "two"]
