"""kit.js in a real browser: what it reads, what it posts and when it is silent, and that no page suffers for it."""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Route

from kit.capture import query
from kit.web import script_tag
from tests.support import known_of

from .shop import Shop, lasts_a_year

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]

GPC = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})"
NO_STORAGE = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('blocked') }})"
NO_FETCH = "window.fetch = undefined"
PRERENDERING = "window.seen = false; Object.defineProperty(document, 'prerendering', {get: () => !seen})"
#: Answers every post in the page itself, and keeps its body.
CAUGHT = "window.caught = []; window.fetch = async (_, {body}) => (caught.push(JSON.parse(body)), new Response())"

FILE: Any = json.loads((Path(__file__).parents[1] / "capture" / "vectors.json").read_text())
TABLE = query.watched(tuple((name, vendor) for name, vendor in FILE["params"]))
#: Where two languages would differ first.
EDGES = [
    "rtid=" + "a" * 256,
    "adct=" + "a" * 512 + "&gclid=" + "%61" * 512,
    "utm_source=" + "%F0%9F%8E%84" * 256,
    "utm_source=" + "%F0%9F%8E%84" * 257,
    "utm_source={a}b&utm_medium=a{b}&utm_id={}&utm_term={",
    "constructor=1&__proto__=x&toString=y&adct=a",
    "adct=%e2%82&utm_source=%e2%82&rtid=%",
    "utm_source=%ED%A0%80&utm_medium=%EF%BB%BFa&utm_term=%00",
    "utm_source=%E3%80%80&utm_medium=%C2%A0&utm_term=%20a%20",
    "utm_source=%25%32%35&adct=%2%35",
    "adct=a&ADCT=b&adct%20=c& adct=d",
]


# ---------------------------------------------------------------- what it reads


async def test_kit_js_reads_what_the_server_reads(shop: OpenShop) -> None:
    """Of every shared vector it posts the same click ids and utm values, and none that the server would refuse."""
    queries = [each["query"] for each in FILE["vectors"]]
    queries += [each["prefix"] + each["repeat"] * each["times"] + each.get("suffix", "") for each in FILE["generated"]]
    wrong = []

    async def without_its_query(route: Route) -> None:
        # No server takes a request line as long as the longest of these.
        await route.fulfill(content_type="text/html", body=f"<!doctype html><title>Shop</title>{script_tag()}")

    async with shop() as opened, opened.window(scripts=(CAUGHT,)) as window:
        await window.page.route("**/cached?*", without_its_query)
        for text in queries + EDGES:
            await window.open("/cached?" + text)
            params = (await window.page.evaluate("caught"))[0]["params"]
            refused = [name for name, value in params.items() if query.from_params({name: value}, TABLE) is None]
            # tests/capture holds the server to what the vectors say.
            posted, seen = query.from_params(params, TABLE), query.read(text.encode(), TABLE)
            if refused or (posted and posted[:2]) != (seen and seen[:2]):
                wrong.append((text[:80], params, refused))

    assert len(queries) > 50
    assert wrong == []
    assert window.errors == []


# ---------------------------------------------------------------- identify


async def test_identify_tells_the_server_and_rockerbox_the_same(shop: OpenShop) -> None:
    """One asserted link, and one identify call with identical values, the phone in ten digits."""
    async with shop() as opened, opened.window() as window:
        await window.open("/rockerbox?adct=click123")
        told = await window.page.evaluate(
            "kit.identify({email: ' Ann@Example.com ', customer_id: 42, phone: '+1 (555) 010-9999'})"
        )
        calls = await window.page.evaluate("RB.calls")
        known = await known_of(opened.kit, await window.visitor())

    same = {"email": "ann@example.com", "customer_id": "42", "phone": "5550109999"}
    assert told is True
    assert window.posted("identify") == [same]
    assert calls == [["identify", {"external_id": "42", "email": "ann@example.com", "phone_number": "5550109999"}]]
    assert known.email == "ann@example.com"


async def test_what_is_not_known_is_not_told(shop: OpenShop) -> None:
    """Rockerbox gets no call that it cannot join, the server no empty person."""
    async with shop() as opened, opened.window() as window:
        await window.open("/rockerbox")
        for person in ("{email: '', phone: '+44 20 7946 0000'}", "{}", "null", "{email: {}}", "undefined"):
            await window.page.evaluate(f"kit.identify({person})")
        calls = await window.page.evaluate("RB.calls")

    assert window.posted("identify") == [{"phone": "+44 20 7946 0000"}]
    assert calls == []
    assert window.errors == []


async def test_calls_made_before_the_file_arrived_are_done(shop: OpenShop) -> None:
    """`window.kit = []` is a queue; nonsense in it is passed over."""
    async with shop() as opened, opened.window() as window:
        await window.open("/queue")
        known = await known_of(opened.kit, await window.visitor())

    assert known.email == "early@example.com"
    assert window.errors == []


async def test_reset_leaves_the_browser_to_a_new_visitor(shop: OpenShop) -> None:
    """Whoever sits down next is linked to nobody; AdRoll's cookie stays."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached?adct=click123")
        before = await window.cookies()
        await window.page.evaluate("kit.identify({email: 'ann@example.com'})")
        told = await window.page.evaluate("kit.reset()")
        after = await window.cookies()
        known = await known_of(opened.kit, await window.visitor())

    assert told is True
    assert after["kit"]["value"][:23] != before["kit"]["value"][:23]
    assert after["__adroll_fpc"]["value"] == before["__adroll_fpc"]["value"]
    assert known.email is None


# ---------------------------------------------------------------- consent


async def test_global_privacy_control_silences_it(shop: OpenShop) -> None:
    """Nothing is posted, no vendor is called, no cookie set, whatever the page then asks for."""
    async with (
        shop() as opened,
        opened.window(scripts=(GPC,), extra_http_headers={"Sec-GPC": "1"}) as window,
    ):
        await window.open("/rockerbox?adct=click123")
        for call in ("identify({email: 'ann@example.com'})", "consent(true)", "consent(false)", "reset()"):
            assert await window.page.evaluate("kit." + call) is False
        calls = await window.page.evaluate("RB.calls")
        cookies = await window.cookies()

    assert (window.posts, calls, cookies) == ([], [], {})


async def test_under_opt_in_nothing_happens_before_a_yes(shop: OpenShop) -> None:
    """After it both cookies are there, with the click of the landing and whoever was named in the meantime."""
    async with shop(consent="opt_in") as opened, opened.window() as window:
        await window.open("/opt-in?adct=click123")
        await window.page.evaluate("kit.identify({email: 'ann@example.com'})")
        await window.page.evaluate("history.pushState(null, '', '/elsewhere')")
        await window.settled()
        before = (list(window.posts), await window.cookies(), await window.page.evaluate("localStorage.length"))
        told = await window.page.evaluate("kit.consent(true)")
        cookies = await window.cookies()
        await window.settled()
        known = await known_of(opened.kit, await window.visitor())

    assert before == ([], {}, 0)
    assert told is True
    assert set(cookies) == {"kit-consent", "kit", "__adroll_fpc"}
    assert cookies["kit-consent"]["value"] == "granted"
    assert cookies["kit-consent"]["httpOnly"] is False
    assert lasts_a_year(cookies["kit-consent"])
    assert known.click_id("adroll") == "click123"
    assert known.email == "ann@example.com"


async def test_after_a_no_it_is_silent_and_the_cookies_are_gone(shop: OpenShop) -> None:
    """The decision is all that remains; a later yes begins anew."""
    async with shop() as opened, opened.window() as window:
        await window.open("/rockerbox?adct=click123")
        await window.page.evaluate("kit.consent(false)")
        cookies, told = await window.cookies(), len(window.posts)
        await window.open("/rockerbox?adct=another")
        await window.page.evaluate("kit.identify({email: 'ann@example.com'})")
        calls = await window.page.evaluate("RB.calls")
        silent = len(window.posts) == told
        await window.page.evaluate("kit.consent(true)")
        again = await window.cookies()

    assert {name: cookie["value"] for name, cookie in cookies.items()} == {"kit-consent": "denied"}
    assert silent
    assert calls == []
    assert set(again) == {"kit-consent", "kit", "__adroll_fpc"}
    assert "another" in again["kit"]["value"]


async def test_a_no_counts_when_the_server_cannot_be_told(shop: OpenShop) -> None:
    """The page remembers it by itself."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await window.page.route("**/kit/*", lambda route: route.abort())
        told = await window.page.evaluate("kit.consent(false)")
        await window.page.unroute("**/kit/*")
        posts = len(window.posts)
        await window.open("/cached?adct=click123")

    assert told is False
    assert len(window.posts) == posts


async def test_a_click_is_told_again_when_nothing_came_of_it(shop: OpenShop) -> None:
    """An opt-in shop that forgot to say so in its tag loses no click to kit.js's memory."""
    async with shop(consent="opt_in") as opened, opened.window() as window:
        await window.open("/cached?adct=click123")
        await window.page.evaluate("kit.consent(true)")
        cookies = await window.cookies()

    assert "click123" in cookies["kit"]["value"]
    assert len(window.posted("collect")) == 3


async def test_a_prerendered_page_waits_until_somebody_sees_it(shop: OpenShop) -> None:
    """The browser may have opened it for nobody."""
    async with shop() as opened, opened.window(scripts=(PRERENDERING,)) as window:
        await window.page.goto(opened.url + "/cached?adct=click123")
        before = list(window.posts)
        await window.page.evaluate("seen = true; document.dispatchEvent(new Event('prerenderingchange'))")
        await window.settled()

    assert before == []
    assert [body["params"] for body in window.posted("collect")] == [{"adct": "click123"}]


# ---------------------------------------------------------------- no page suffers


async def test_it_works_under_a_strict_content_security_policy(shop: OpenShop) -> None:
    """A nonce on the tag and `connect-src 'self'` are all it needs; nothing is reported."""
    said: list[str] = []

    async with shop() as opened, opened.window() as window:
        window.page.on("console", lambda message: said.append(message.text))
        await window.page.goto(opened.url + "/strict?adct=click123")
        # Playwright's own waiting needs eval, which this page forbids.
        for _ in range(100):
            if "kit" in await window.cookies():
                break
            await asyncio.sleep(0.05)
        cookies = await window.cookies()

    assert "click123" in cookies["kit"]["value"]
    assert said == []
    assert window.errors == []


async def test_it_works_under_a_policy_that_knows_its_digest(shop: OpenShop) -> None:
    """`integrity` on the tag is all that a page without nonces needs."""
    async with shop() as opened, opened.window() as window:
        async with window.page.expect_response("**/kit/collect"):
            await window.page.goto(opened.url + "/digest?adct=click123")
        cookies = await window.cookies()

    assert "click123" in cookies["kit"]["value"]


async def test_it_works_without_local_storage(shop: OpenShop) -> None:
    """It then has no memory, and posts on every page."""
    async with shop() as opened, opened.window(scripts=(NO_STORAGE,)) as window:
        await window.open("/cached?adct=click123")
        cookies = await window.cookies()

    assert "click123" in cookies["kit"]["value"]
    assert window.errors == []


async def test_a_fault_of_the_shops_own_script_does_not_stop_it(shop: OpenShop) -> None:
    """It shares nothing with the scripts beside it."""
    async with shop() as opened, opened.window() as window:
        await window.open("/broken?adct=click123")
        cookies = await window.cookies()

    assert "click123" in cookies["kit"]["value"]
    assert window.errors == ["the shop's own"]


@pytest.mark.parametrize("script", [NO_FETCH, "window.kit = 5", "window.AbortController = undefined"])
async def test_a_strange_page_gets_no_error_and_no_rejected_promise(shop: OpenShop, script: str) -> None:
    """Whatever is missing there, the calls resolve."""
    async with shop() as opened, opened.window(scripts=(script,)) as window:
        await window.open("/cached?adct=click123")
        answers = [
            await window.page.evaluate("kit." + call)
            for call in ("identify({email: 'ann@example.com'})", "consent(true)", "reset()", "collect()")
        ]

    assert {type(answer) for answer in answers} == {bool}
    assert window.errors == []


async def test_a_server_that_is_gone_is_no_fault_of_the_page(shop: OpenShop) -> None:
    """The click is told on a later page instead."""
    async with shop() as opened, opened.window() as window:
        await window.page.route("**/kit/collect", lambda route: route.abort())
        await window.open("/cached?adct=click123")
        await window.page.unroute("**/kit/collect")
        await window.open("/cached?adct=click123")
        cookies = await window.cookies()

    assert "click123" in cookies["kit"]["value"]
    assert window.errors == []


async def test_a_second_tag_changes_nothing(shop: OpenShop) -> None:
    """The first one does it all."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached?adct=click123")
        same = await window.page.evaluate(
            """async () => {
                const first = window.kit, tag = document.createElement("script");
                tag.src = "/kit/kit.js";
                await new Promise((done) => { tag.onload = done; document.body.append(tag); });
                return window.kit === first;
            }"""
        )

    assert same is True
    assert len(window.posted("collect")) == 1
