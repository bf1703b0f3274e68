"""Who is believed about whom: the order, the shop's signed word, and what somebody typed; and what a prober learns."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from kit import Conversion, InvalidInput, Kit, Quarantine
from kit.capture import STATE, Capture, Shared
from kit.model import VisitorId
from kit.store.tables import links
from kit.web import script_tag
from tests.support import Browser, FrozenClock, Page, make_kit
from tests.test_kit import browser_reports, identifiers, purchase
from tests.web.test_endpoints import client_of, cookies_of, post

HOUR = timedelta(hours=1)
VISITOR = VisitorId("v" * 22)
JANE, BOB, MARY = "jane@example.com", "bob@example.com", "mary@example.com"


@pytest.fixture
def shop(tmp_path: Path, clock: FrozenClock) -> Kit:
    """A kit with the cookies of a live shop."""
    return make_kit(tmp_path, clock=clock, insecure_cookies=False)


async def page(client: httpx.AsyncClient) -> str:
    """Open a page as a browser does whose cookies come from collect; returns its visitor."""
    return cookies_of(await post(client, "/collect", {}))["__Host-kit"].value[1:23]


def token_for(kit: Kit, client: httpx.AsyncClient, **names: Any) -> str:
    """Return what the template of a page that this client opens would sign."""
    cookie = "; ".join(f"{each.name}={each.value}" for each in client.cookies.jar)
    scope: dict[str, Any] = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "scheme": "https",
        "headers": [(b"host", b"www.shop.com"), (b"accept", b"text/html"), (b"cookie", cookie.encode())],
    }
    scope[STATE] = Capture(Shared(kit.rules, kit.faults, kit.rules.fresh, kit.record_touch), scope)
    token = kit.identity_token(Page(scope), **names)
    assert token is not None
    return token


async def linked(kit: Kit) -> list[tuple[str, str, str]]:
    columns = (links.c.kind, links.c.level, links.c.source)
    rows = await kit.store.read(lambda connection: connection.execute(select(*columns).order_by(links.c.kind)).all())
    return [tuple(row) for row in rows]


# ---------------------------------------------------------------- precedence


@pytest.mark.parametrize(
    ("order", "verified", "asserted", "expected"),
    [
        (JANE, BOB, MARY, JANE),
        (JANE, None, MARY, JANE),
        (JANE, BOB, None, JANE),
        (None, BOB, MARY, BOB),
        (None, BOB, None, BOB),
        (None, None, MARY, MARY),
        (None, None, None, None),
    ],
)
@pytest.mark.parametrize("asserted_first", [True, False])
async def test_the_order_beats_the_shop_and_the_shop_beats_the_page(
    kit: Kit,
    clock: FrozenClock,
    order: str | None,
    verified: str | None,
    asserted: str | None,
    expected: str | None,
    asserted_first: bool,
) -> None:
    """The e-mail of an order is its own, else what the shop verified, else what was typed; in whatever order."""
    browser = Browser(kit)
    await browser.open("/")
    acts = [
        lambda request: kit.assert_identity(request, email=asserted) if asserted else _nothing(),
        lambda request: kit.identify(request, email=verified) if verified else _nothing(),
    ]

    for act in acts if asserted_first else reversed(acts):
        clock.passes(timedelta(minutes=1))
        await browser.open("/", act=act)
    await browser_reports(browser, purchase(email=order))

    assert (await identifiers(kit)).email == expected


async def _nothing() -> None: ...


async def test_what_is_asserted_reaches_no_other_visitor(kit: Kit) -> None:
    """Somebody types the customer's number and e-mail on his own browser: her orders take nothing of his."""
    hers, his = Browser(kit), Browser(kit)
    await his.open("/?adct=click-of-his")
    await his.open("/", act=lambda page: kit.assert_identity(page, email=JANE, customer_id="hers", phone="3238675309"))
    await hers.open("/?adct=click-of-hers")
    await hers.open("/in", act=lambda page: kit.identify(page, customer_id="hers"))

    await browser_reports(hers, purchase("one", customer_id="hers"))
    await kit.report(Conversion(order_id="two", customer_id="hers", email=JANE))

    one, two = await identifiers(kit, "one"), await identifiers(kit, "two")
    assert [found.click_id("adroll") for found in (one, two)] == ["click-of-hers", "click-of-hers"]
    assert (one.email, one.phone, two.phone) == (None, None, None)


async def test_a_quarantined_browser_gives_its_orders_what_they_say_and_what_is_verified(kit: Kit) -> None:
    """Forty addresses were typed on it: none is told of an order that has none; clicks and cookie still are."""
    browser = Browser(kit)
    await browser.open("/?adct=click")
    for number in range(40):
        await browser.open(
            "/",
            act=lambda page, n=number: kit.assert_identity(page, email=f"v{n}@example.com", phone=f"32386753{n:02}"),
        )

    await browser_reports(browser, purchase("one"))
    await browser_reports(browser, purchase("two", email=JANE))

    one, two = await identifiers(kit, "one"), await identifiers(kit, "two")
    assert (one.email, one.phone, one.click_id("adroll")) == (None, None, "click")
    assert (two.email, two.phone) == (JANE, None)


@pytest.mark.usefixtures("both_engines")
async def test_a_shop_sets_its_own_figures_of_a_quarantine(tmp_path: Path, clock: FrozenClock) -> None:
    """From the third address on none serves an order, and the second visitor of one address is refused its link."""
    rule = Quarantine(names=2, visitors=1)
    kits = [make_kit(tmp_path, clock=clock, quarantine=rule), make_kit(tmp_path, clock=clock)]
    for kit in kits:
        kit.open()
    strict, lenient = kits
    browser, other = Browser(strict), Browser(strict)
    await browser.open("/?adct=click")
    await other.open("/")
    for number in range(4):
        clock.passes(timedelta(seconds=1))
        await browser.open("/", act=lambda page, n=number: strict.assert_identity(page, email=f"v{n}@example.com"))
    await other.open("/", act=lambda page: strict.assert_identity(page, email="v0@example.com", phone="3238675309"))

    await browser_reports(browser, purchase("one"))
    browser.kit = lenient
    await browser_reports(browser, purchase("two"))
    visitors = [each.cookies["kit"][1:23] for each in (browser, other)]
    found = [[await kit.identifiers(visitor=visitor) for visitor in visitors] for kit in kits]
    one, two = await identifiers(strict, "one"), await identifiers(strict, "two")
    for kit in kits:
        kit.store.close()

    assert (one.email, one.click_id("adroll")) == (None, "click")
    assert (two.email, two.click_id("adroll")) == ("v2@example.com", "click")
    assert [[each.email for each in row] for row in found] == [[None, None], ["v2@example.com", None]]
    assert found[0][1].phone == "3238675309"


# ---------------------------------------------------------------- tokens


async def test_a_token_makes_a_verified_link(shop: Kit) -> None:
    """What the shop signed is as good as `identify`; what stands beside the token in the post is not asked."""
    async with client_of(shop) as client:
        visitor = await page(client)
        token = token_for(shop, client, email=JANE, customer_id="c-1")
        answer = await post(client, "/identify", {"token": token, "email": "evil@example.com", "customer_id": "evil"})
        found = await shop.identifiers(visitor=visitor)
        kept = await linked(shop)

    assert (answer.status_code, answer.content, dict(answer.headers)) == (204, b"", {"cache-control": "no-store"})
    assert (found.email, found.customer_id) == (JANE, "c-1")
    assert kept == [("customer", "verified", "token"), ("email", "verified", "token")]
    assert not shop.faults.counts


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-5] + ("AAAA" if token[-5:-1] != "AAAA" else "BBBB") + token[-1],
        lambda token: "x" + token,
        lambda token: "text",
        lambda token: 5,
        lambda token: [token],
        lambda token: {"token": token},
        lambda token: False,
    ],
)
async def test_what_is_no_token_of_ours_leaves_nothing_and_is_counted(shop: Kit, spoil: Any) -> None:
    """The answer is the same, and the values beside the token are not taken in its place."""
    async with client_of(shop) as client:
        await page(client)
        token = token_for(shop, client, email=JANE)
        answer = await post(client, "/identify", {"token": spoil(token), "email": JANE})
        kept = await linked(shop)

    assert (answer.status_code, answer.content, dict(answer.headers)) == (204, b"", {"cache-control": "no-store"})
    assert kept == []
    assert dict(shop.faults.counts) == {"identify.token.forged": 1}


async def test_another_browser_cannot_replay_a_token(shop: Kit) -> None:
    """Nor can one without a cookie."""
    async with client_of(shop) as client:
        await page(client)
        token = token_for(shop, client, email=JANE)
        client.cookies.clear()
        without = await post(client, "/identify", {"token": token})
        await page(client)
        elsewhere = await post(client, "/identify", {"token": token})
        kept = await linked(shop)

    assert (without.status_code, elsewhere.status_code, kept) == (204, 204, [])
    assert dict(shop.faults.counts) == {"identify.token.visitor": 2}


async def test_after_reset_a_token_is_worth_nothing(shop: Kit) -> None:
    """Who sits down next at a shared device is not the one who has left, though the page is still open."""
    async with client_of(shop) as client:
        await page(client)
        token = token_for(shop, client, email=JANE)
        await post(client, "/reset", {})
        await post(client, "/identify", {"token": token})
        kept = await linked(shop)

    assert kept == []
    assert dict(shop.faults.counts) == {"identify.token.visitor": 1}


async def test_a_token_expires(shop: Kit, clock: FrozenClock) -> None:
    """After its hour, or what the shop gave it, it is not believed."""
    async with client_of(shop) as client:
        await page(client)
        hour = token_for(shop, client, email=JANE)
        minute = token_for(shop, client, phone="3238675309", max_age=timedelta(minutes=1))
        clock.passes(timedelta(minutes=2))
        await post(client, "/identify", {"token": minute})
        early = await linked(shop)
        await post(client, "/identify", {"token": hour})
        kept = await linked(shop)
        clock.passes(HOUR)
        await post(client, "/identify", {"token": hour})

    assert (early, kept) == ([], [("email", "verified", "token")])
    assert dict(shop.faults.counts) == {"identify.token.expired": 2}


async def test_a_token_of_another_customer_makes_a_new_visitor(shop: Kit) -> None:
    """Who signs in on a browser that was verified as somebody else inherits nothing, as with `identify`."""
    async with client_of(shop) as client:
        first = await page(client)
        await post(client, "/identify", {"token": token_for(shop, client, customer_id="first", email=JANE)})
        answer = await post(client, "/identify", {"token": token_for(shop, client, customer_id="second")})
        second = cookies_of(answer)["__Host-kit"].value[1:23]
        found, before = await shop.identifiers(visitor=second), await shop.identifiers(visitor=first)

    assert second != first
    assert (found.customer_id, found.email) == ("second", None)
    assert (before.customer_id, before.email) == ("first", JANE)


async def test_two_shops_with_the_same_keys_do_not_share_tokens(tmp_path: Path, clock: FrozenClock) -> None:
    """A kit whose cookie is another one's is another audience."""
    one = make_kit(tmp_path, clock=clock, insecure_cookies=False)
    other = make_kit(tmp_path, clock=clock, insecure_cookies=False, cookie_domain="shop.com")
    token = one.tokens.issued(VISITOR, {"email": JANE}, max_age=HOUR)

    assert one.tokens.opened(token, VISITOR) == {"email": JANE, "customer_id": None, "phone": None}
    assert other.tokens.opened(token, VISITOR) == "audience"


async def test_the_token_of_a_first_page_is_its_new_visitors(kit: Kit) -> None:
    """Somebody lands signed in: the visitor that this very answer makes is the one that the token names."""
    browser = Browser(kit)
    tokens: list[str | None] = []

    async def render(request: Any) -> None:
        tokens.append(kit.identity_token(request, email=JANE))

    await browser.open("/", act=render)

    visitor: Any = browser.cookies["kit"][1:23]
    assert tokens[0] is not None
    assert kit.tokens.opened(tokens[0], visitor) == {"email": JANE, "customer_id": None, "phone": None}


@pytest.mark.parametrize(
    ("headers", "names"),
    [({"sec-gpc": "1"}, {"email": JANE}), ({"user-agent": "Googlebot/2.1"}, {"email": JANE}), ({}, {})],
)
async def test_without_a_visitor_or_a_name_there_is_no_token(
    kit: Kit, headers: dict[str, str], names: dict[str, Any]
) -> None:
    """Without consent, for a bot, and for nobody in particular the template prints none."""
    tokens: list[str | None] = []

    async def render(request: Any) -> None:
        tokens.append(kit.identity_token(request, **names))

    await Browser(kit, headers=headers).open("/", act=render)

    assert tokens == [None]


async def test_a_wrong_value_is_said_where_the_page_is_made(kit: Kit) -> None:
    """The shop's mistake is the shop's to see, and names the field."""
    with pytest.raises(InvalidInput, match="email"):
        kit.identity_token(Page({}), email="no address")


@pytest.mark.parametrize(("token", "written"), [("a.b-c_d", ' data-token="a.b-c_d"'), (None, "")])
def test_the_script_tag_carries_the_token(token: str | None, written: str) -> None:
    """Where there is none the attribute is left out."""
    tag = script_tag(identity=token)

    assert f" async{written}></script>" in tag


# ---------------------------------------------------------------- probing


async def test_a_prober_is_answered_the_same_bytes_about_everybody(shop: Kit, clock: FrozenClock) -> None:
    """Known, unknown, verified, erased and frozen people, a quarantine, limits and bad tokens: one answer."""
    async with client_of(shop) as client:
        await page(client)
        await post(client, "/identify", {"token": token_for(shop, client, email=JANE)})
        forged = {"token": token_for(shop, client, email=JANE) + "x"}
        await shop.erase(email=BOB)
        for _ in range(26):
            client.cookies.clear()
            await page(client)
            await post(client, "/identify", {"email": MARY})
        bodies: list[dict[str, Any]] = [
            {"email": "nobody@example.com"},
            {"email": JANE},
            {"email": BOB},
            {"email": MARY},
            {"email": "no address"},
            forged,
            {},
            *({"email": f"v{number}@example.com"} for number in range(8)),
            *({"email": JANE} for _ in range(130)),
        ]
        answers = [await post(client, "/identify", body) for body in bodies]

    seen = {(answer.status_code, answer.content, tuple(answer.headers.raw)) for answer in answers}
    assert seen == {(204, b"", ((b"cache-control", b"no-store"),))}
    assert shop.faults.counts["limits.visitor"] > 0
    assert shop.faults.counts["identify.token.forged"] == 1
