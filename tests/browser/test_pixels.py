"""kit.pixels.js in a real browser: whose pixel reported an order, by stand-ins for the vendors' own files."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from playwright.async_api import Route
from sqlalchemy import select

from kit.store.tables import pixel_reports
from kit.web import pixels_tag

from .shop import ROCKERBOX, Shop, Window

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]

GPC = "Object.defineProperty(Navigator.prototype, 'globalPrivacyControl', {get: () => true})"

#: For our script alone: Playwright needs it in the page.
NO_MUTATION_OBSERVER = """
{ const its = MutationObserver, get = () => document.currentScript?.dataset.order ? undefined : its;
  Object.defineProperty(window, "MutationObserver", {get}); }"""


def loads(url: str) -> str:
    return f"document.head.append(Object.assign(document.createElement('script'), {{src: '{url}'}}));"


#: The snippet as AdRoll gives it to shops: a queue of calls, until its file comes.
ADROLL = """
window.adroll = [];
for (const name of ["setProperties", "identify", "track"])
  adroll[name] = function () { adroll.push([name, arguments]) };
""" + loads("https://s.adroll.com/j/ADV/roundtrip.js")
#: What that file does: makes an object of its own of the queue, and tells what was in it.
ROUNDTRIP = """
const early = window.adroll;
window.told = [];
window.adroll = {track(...call) { told.push(call); return "its own" }};
early.forEach(([name, call]) => name === "track" && adroll.track(...call));"""

#: Rockerbox's loader; its file stands in shop.ROCKERBOX.
RB = """
window.RB = {queue: [], track: (...call) => RB.queue.push(call), initialize: (source) => RB.source = source};
""" + loads("https://getrockerbox.com/assets/wxyz.v2.js")
MPARTICLE = """
window.mParticle = {config: {rq: []}, logEvent: (...call) => mParticle.config.rq.push(["logEvent", ...call])};
""" + loads("https://jssdkcdns.mparticle.com/js/v2/key/mparticle.js")
MPARTICLES = """
window.mParticle = {logEvent() {}, config: {}, Rokt: {selectPlacements: async () => ({})}};"""
#: Rokt's own launcher, as a page's script gets it.
LAUNCHER = """
window.Rokt = {createLauncher: async () => ({selectPlacements: async () => ({})})};"""

PURCHASE = "adroll.track('pageView'); adroll.track('purchase', {conversion_value: '19.90', currency: 'USD'});"
FILES = {
    "https://s.adroll.com/**": ROUNDTRIP,
    "https://getrockerbox.com/**": ROCKERBOX,
    "https://jssdkcdns.mparticle.com/**": MPARTICLES,
}


async def confirm(
    window: Window,
    before: str = "",
    after: str = "",
    later: str = "",
    *,
    order: str = "1001",
    blocked: bool = False,
    **tag: Any,
) -> None:
    """Open a page that confirms the order: scripts stand before our tag and after it, or come `later` than our file.

    The vendors' files come after ours, or are blocked.
    """
    listening = asyncio.Event()

    def serves(body: str) -> Callable[[Route], Awaitable[None]]:
        async def serve(route: Route) -> None:
            if blocked:
                await route.abort()
                return
            await listening.wait()
            await route.fulfill(content_type="text/javascript", body=body)

        return serve

    for pattern, body in FILES.items():
        await window.page.route(pattern, serves(body))
    ours = str(pixels_tag(order, **tag)).replace(" async", " async onload='window.listening = true'")
    text = f"<!doctype html><title>Shop</title><script>{before}</script>{ours}<script>{after}</script>"
    await window.page.route("**/confirmed", lambda route: route.fulfill(content_type="text/html", body=text))
    await window.page.goto(window.url + "/confirmed", wait_until="commit")
    await window.page.wait_for_function("window.listening")
    listening.set()
    await window.page.evaluate(f"() => {{ {later} }}")
    await window.page.wait_for_load_state("load")


async def noted(shop: Shop, window: Window, **page: Any) -> Sequence[tuple[str, str]]:
    """Return what is kept of a page, once it has told it."""
    await window.open("/cached")
    async with window.page.expect_response("**/kit/pixels"):
        await confirm(window, **page)
    return await kept(shop)


async def kept(shop: Shop) -> list[tuple[str, str]]:
    query = select(pixel_reports.c.order_id, pixel_reports.c.vendor).order_by(pixel_reports.c.id)
    return await shop.kit.store.read(lambda connection: [(row[0], row[1]) for row in connection.execute(query)])


async def posted_by(window: Window, **page: Any) -> list[Any]:
    """Return what a page has posted when it has loaded, was changed after that, and has asked for something else."""
    await confirm(window, **page)
    await window.page.evaluate("document.body.append('changed')")
    await window.page.evaluate("(async () => { await fetch('/kit/kit.js') })()")
    return window.posted("pixels")


# ---------------------------------------------------------------- who reported


@pytest.mark.parametrize("place", ["before", "after", "later"])
async def test_a_purchase_that_adrolls_file_took_is_noted_once(shop: OpenShop, place: str) -> None:
    """Told before this script came or afterwards, while the pixel's own file was still to come."""
    async with shop() as opened, opened.window() as window:
        found = await noted(opened, window, **{place: ADROLL + PURCHASE})
        answer = await window.page.evaluate("adroll.track('purchase', {order_id: 1001})")
        told = await window.page.evaluate("told.map(([name]) => name)")

    assert found == [("1001", "adroll")]
    assert window.posted("pixels") == [{"order_id": "1001", "pixel": "adroll"}]
    assert (answer, told) == ("its own", ["pageView", "purchase", "purchase"])
    assert window.errors == []


async def test_a_file_that_was_there_already_is_heard(shop: OpenShop) -> None:
    """As where the browser had it in its cache: the call comes after both."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await confirm(window, before=ADROLL)
        async with window.page.expect_response("**/kit/pixels"):
            await window.page.evaluate("adroll.track('formFill', {ORDER_ID: 1001})")

        assert await kept(opened) == [("1001", "adroll")]


@pytest.mark.parametrize(
    ("pixel", "script"),
    [
        ("rockerbox", RB + "RB.track('conv.purchase', {revenue: '19.90'})"),
        ("rockerbox", RB + "RB.track('subscribed', {order_id: '1001'})"),
        ("rokt", MPARTICLE + "mParticle.logEvent('conversion', 8, {confirmationref: '1001'})"),
        (
            "rokt",
            MPARTICLES + "onload = (() => mParticle.logEvent('conversion', 8, {transactionid: 1001}))",
        ),
        (
            "rokt",
            MPARTICLES + "onload = (() => mParticle.Rokt.selectPlacements({attributes: {confirmationref: '1001'}}))",
        ),
        (
            "rokt",
            LAUNCHER + "onload = (async () => (await Rokt.createLauncher({accountId: '1'}))"
            ".selectPlacements({attributes: {confirmationref: '1001'}}))",
        ),
    ],
)
async def test_each_vendors_own_call_is_known(shop: OpenShop, pixel: str, script: str) -> None:
    """Whether its file empties the queue or takes the verb over."""
    async with shop() as opened, opened.window() as window:
        found = await noted(opened, window, before=script)

    assert found == [("1001", pixel)]
    assert window.errors == []


async def test_a_report_that_had_gone_out_shows_in_its_address(shop: OpenShop) -> None:
    """Under a name that vendors have for an order's id, with escapes; another order's does not count."""
    asks = "for (const url of {}) new Image().src = url;"
    other = ["https://d.adroll.com/pixel/A/B?order_id=10012", "https://d.adroll.com/pixel/A/B?p0=1001"]
    ours = "https://d.adroll.com/pixel/A/B?external_data=order_id%253D1001%253Auser_id%253D7"

    async with shop() as opened, opened.window() as window:
        await window.page.route("https://d.adroll.com/**", lambda route: route.fulfill(body=""))
        await window.open("/cached")
        others = list(await posted_by(window, before=asks.format(other)))
        found = await noted(opened, window, before=asks.format([*other, ours]))

    assert others == []
    assert found == [("1001", "adroll")]


async def test_an_order_of_odd_signs_is_itself_alone(shop: OpenShop) -> None:
    """What would mean something in a pattern is taken as it is, and a tag cannot be ended by it."""
    script = "onload = (() => adroll.track('formFill', {order_id: 'A(1+1)*<b>\\\\'}))"

    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        none = list(await posted_by(window, before=ADROLL + "adroll.track('formFill', {order_id: 'A11'})", order="A.1"))
        found = await noted(opened, window, before=ADROLL + script.replace("\\\\", ""), order="A(1+1)*<b>")

    assert none == []
    assert found == [("A(1+1)*<b>", "adroll")]


async def add_tag(window: Window, order: str) -> None:
    """Add the tag to the page once more, for this order in JavaScript's words, and wait for the script."""
    await window.page.evaluate(
        f"""() => new Promise((done) => {{
            const tag = document.createElement("script"), src = document.querySelector("script[data-order]").src;
            Object.assign(tag, {{src, onload: done}}).dataset.order = {order};
            document.body.append(tag);
        }})"""
    )


async def test_a_second_order_of_the_same_page_is_noted_as_well(shop: OpenShop) -> None:
    """An app that loads no page between its orders adds the tag again."""
    async with shop() as opened, opened.window() as window:
        await noted(opened, window, before=ADROLL + PURCHASE)
        await add_tag(window, "'1002'")
        async with window.page.expect_response("**/kit/pixels"):
            await window.page.evaluate("adroll.track('purchase', {order_id: '1002'})")

        assert await kept(opened) == [("1001", "adroll"), ("1002", "adroll")]


# ---------------------------------------------------------------- who did not


@pytest.mark.parametrize(
    "script",
    [
        ADROLL + "adroll.track('pageView', {products: [{product_id: '1001', price: 1001}]})",
        ADROLL + "adroll.track('formFill', {order_id: '10011'})",
        RB + "RB.track('view'); RB.track('identify', {external_id: '1001'})",
        MPARTICLE + "mParticle.logEvent('view', 1, {amount: 1001})",
        "window.adroll = {track: 5}; window.RB = null; window.mParticle = 'x'; window.Rokt = {createLauncher: () => 7}",
    ],
)
async def test_what_is_no_report_of_the_order_is_not_noted(shop: OpenShop, script: str) -> None:
    """Views, other orders, and a number that happens to be the same."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        posted = await posted_by(window, before=script)

    assert posted == []
    assert window.errors == []


@pytest.mark.parametrize(("snippet", "call"), [(ADROLL, PURCHASE), (RB, "RB.track('conv.purchase');")])
async def test_a_pixel_that_is_blocked_reported_nothing(shop: OpenShop, snippet: str, call: str) -> None:
    """Its snippet took each call, and nobody came for it."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        posted = await posted_by(window, before=snippet + call, later=call, blocked=True)

    assert posted == []


@pytest.mark.parametrize(
    ("scripts", "tag", "cookie"),
    [((GPC,), {}, None), ((), {}, "denied"), ((), {"consent": "opt_in"}, None), ((GPC,), {}, "granted")],
)
async def test_without_consent_nothing_is_posted(
    shop: OpenShop, scripts: tuple[str, ...], tag: dict[str, Any], cookie: str | None
) -> None:
    """Global Privacy Control, a no, and no answer yet where a yes is needed."""
    async with shop() as opened, opened.window(scripts=scripts) as window:
        if cookie is not None:
            await window.context.add_cookies([{"name": "kit-consent", "value": cookie, "url": opened.url}])
        posted = await posted_by(window, before=ADROLL + PURCHASE, **tag)

    assert posted == []
    assert window.errors == []


async def test_a_yes_that_comes_soon_counts(shop: OpenShop) -> None:
    """The banner was still open when the pixel reported, and went."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await confirm(window, before=ADROLL + PURCHASE, consent="opt_in")
        await window.page.wait_for_function("window.told")
        before = list(window.posted("pixels"))
        async with window.page.expect_response("**/kit/pixels"):
            await window.page.evaluate(
                "document.cookie = 'kit-consent=granted; Path=/'; document.body.append('thanks')"
            )

        assert (before, await kept(opened)) == ([], [("1001", "adroll")])


# ---------------------------------------------------------------- no page suffers


async def test_it_works_under_a_strict_content_security_policy(shop: OpenShop) -> None:
    """A nonce on the tag and `connect-src 'self'` are all it needs."""
    policy = "default-src 'none'; script-src 'nonce-n0nce'; connect-src 'self'"
    script = "<script nonce=n0nce>window.adroll = {track() {}}; onload = (() => adroll.track('purchase'))</script>"
    text = f"<!doctype html><title>Shop</title>{script}{pixels_tag('1001', nonce='n0nce')}"
    headers = {"content-security-policy": policy}

    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        await window.page.route(
            "**/confirmed", lambda route: route.fulfill(content_type="text/html", body=text, headers=headers)
        )
        async with window.page.expect_response("**/kit/pixels"):
            await window.page.goto(opened.url + "/confirmed")

    assert window.errors == []


@pytest.mark.parametrize(
    "script",
    [
        "window.fetch = undefined;",
        "window.PerformanceObserver = undefined;",
        NO_MUTATION_OBSERVER,
        "Object.defineProperty(document, 'cookie', {get() { throw new Error('blocked') }});",
    ],
)
async def test_a_strange_page_gets_no_error(shop: OpenShop, script: str) -> None:
    """Whatever is missing there, the pixel is called as if nobody listened."""
    async with shop() as opened, opened.window(scripts=(script,)) as window:
        await confirm(window, before=ADROLL)
        await window.page.wait_for_function("window.told")
        answer = await window.page.evaluate("adroll.track('purchase', window)")

    assert answer == "its own"
    assert window.errors == []


async def test_an_order_that_is_no_text_gets_no_error(shop: OpenShop) -> None:
    """Half of a surrogate pair has no percent-encoding; the pixel's call passes as if nobody listened."""
    async with shop() as opened, opened.window() as window:
        await confirm(window, before=ADROLL)
        await window.page.wait_for_function("window.told")
        await add_tag(window, "'\\ud800'")
        answer = await window.page.evaluate("adroll.track('purchase', {order_id: '\\ud800'})")

    assert answer == "its own"
    assert window.errors == []


async def test_a_pixels_own_fault_stays_its_own(shop: OpenShop) -> None:
    """The page's call ends as it would have ended; nothing was reported."""
    async with shop() as opened, opened.window() as window:
        await confirm(window, before="window.adroll = {track() { throw new Error(this === adroll) }}")
        await window.page.wait_for_function("adroll.track.kit")
        said = await window.page.evaluate(
            "(() => { try { adroll.track('purchase') } catch (e) { return e.message } })()"
        )

    assert said == "true"
    assert window.posted("pixels") == []
