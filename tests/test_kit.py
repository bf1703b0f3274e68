"""The front door: report, link, identify, and what each promises."""

import asyncio
import gc
import sqlite3
import threading
import time
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from kit import ConfigurationError, Conversion, InvalidInput, Item, Kit, StoreUnavailable, touches, visitor_of
from kit.destinations import AdRoll
from kit.model import Identifiers, VisitorId
from kit.store.overview import Told, told
from tests.support import KEY, Browser, FrozenClock, Page, adroll, eventually, make_kit


def purchase(order: str = "order-1", **fields: Any) -> Conversion:
    return Conversion(**{"order_id": order, "value": "19.90", "currency": "USD", **fields})


async def rows(kit: Kit, order: str = "order-1") -> list[Told]:
    return await kit.store.read(lambda connection: told(connection, order_id=order))


async def identifiers(kit: Kit, order: str = "order-1") -> Identifiers:
    return (await rows(kit, order))[0].identifiers


def states(found: list[Told]) -> dict[str, tuple[str, str | None]]:
    return {row.destination: (row.state, row.reason) for row in found}


# ---------------------------------------------------------------- report


async def test_a_report_is_one_event_with_one_delivery_for_each_destination(kit: Kit) -> None:
    """Accepted means: the event and its deliveries are committed when the call returns."""
    reported = await kit.report(purchase(email="jane@example.com"))

    assert reported.new
    assert states(await rows(kit)) == {
        "adroll": ("pending", None),
        "rokt": ("pending", None),
        "rockerbox": ("pending", None),
    }


async def test_what_is_committed_survives_in_another_connection(kit: Kit, tmp_path: Path) -> None:
    """Another process sees the event as soon as `report` returned."""
    await kit.report(purchase())

    with sqlite3.connect(tmp_path / "kit.db") as other:
        counted = other.execute("select count(*) from deliveries").fetchone()
    other.close()
    assert counted == (3,)


async def test_the_same_order_again_is_the_same_event(kit: Kit) -> None:
    """A repeat is not new, and adds no delivery."""
    first = await kit.report(purchase())

    again = await kit.report(purchase())

    assert (again.new, again.conflict, again.event_id) == (False, (), first.event_id)
    assert len(await rows(kit)) == 3


async def test_a_repeat_that_differs_says_in_what_and_changes_nothing(kit: Kit) -> None:
    """Another value for a paid order is a value that says so, never an exception, and the first one stands."""
    await kit.report(purchase())

    again = await kit.report(purchase(value="20.00"))

    assert again.conflict == ("value",)
    assert {row.value for row in await rows(kit)} == {"19.90 USD"}


async def test_the_same_amount_written_otherwise_is_no_conflict(kit: Kit) -> None:
    """19.9 and 19.90 are one amount."""
    await kit.report(purchase(value="19.90"))

    assert (await kit.report(purchase(value=Decimal("19.9")))).conflict == ()


async def test_sixty_four_reports_of_one_order_at_once_are_one_event(kit: Kit) -> None:
    """Concurrent callers in one group commit: exactly one is told that it was new."""
    reported = await asyncio.gather(*(kit.report(purchase()) for _ in range(64)))

    assert sum(one.new for one in reported) == 1
    assert len(await rows(kit)) == 3


async def test_reports_from_many_threads_and_loops_all_commit(kit: Kit) -> None:
    """Several event loops may share one kit."""
    answers: list[bool] = []

    def shop(number: int) -> None:
        answers.append(asyncio.run(kit.report(purchase(f"order-{number}"))).new)

    threads = [threading.Thread(target=shop, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)

    assert answers == [True] * 8


async def test_a_report_without_a_request_takes_nothing_from_the_caller(kit: Kit) -> None:
    """A payment provider's webhook has no visitor: its address and browser are nobody's."""
    webhook = Browser(kit, ip="99.88.77.66")

    await webhook.open("/webhook", method="POST", act=lambda page: kit.report(purchase(), page))

    assert await identifiers(kit) == Identifiers()


async def test_an_order_linked_at_checkout_is_reported_later_with_all_its_identifiers(kit: Kit) -> None:
    """A webhook an hour later carries the click, the cookie, the address and the browser of the checkout."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await browser.open("/checkout?token=secret#x", method="POST", act=lambda page: kit.link(page, order_id="order-1"))

    await kit.report(purchase())

    found = await identifiers(kit)
    assert found.click_id("adroll") == "click123"
    assert found.first_party_cookie == browser.cookies["__adroll_fpc"]
    assert found.ip == "12.34.56.89"
    assert found.user_agent == "Mozilla/5.0 (X11; Linux x64) Firefox/145.0"
    assert found.url == "http://localhost:8000/checkout"


async def test_linking_again_never_empties_a_value(kit: Kit) -> None:
    """A second link of the same order from a request that shows nothing keeps what the first one knew."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await browser.open("/checkout", act=lambda page: kit.link(page, order_id="order-1"))

    await Browser(kit).open("/elsewhere", method="POST", act=lambda page: kit.link(page, order_id="order-1"))

    await kit.report(purchase())
    assert (await identifiers(kit)).click_id("adroll") == "click123"


async def test_a_repeat_with_more_identifiers_fills_what_was_not_sent(kit: Kit) -> None:
    """First the webhook, then the thank-you page: the event gains the page's identifiers."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await kit.report(purchase())

    again = await browser_reports(browser, purchase(email="jane@example.com"))

    assert not again.new
    found = await rows(kit)
    assert found[0].identifiers.click_id("adroll") == "click123"
    assert found[0].identifiers.email == "jane@example.com"


async def browser_reports(browser: Browser, conversion: Conversion, **options: Any) -> Any:
    answers = []

    async def act(page: Page) -> None:
        answers.append(await browser.kit.report(conversion, page, **options))

    await browser.open("/confirm", method="POST", act=act)
    return answers[0]


async def test_a_test_conversion_is_stored_like_any_other(kit: Kit) -> None:
    """`test=True` is accepted and accounted for; the worker keeps it in shadow."""
    assert (await kit.report(purchase(test=True))).new


async def test_a_second_refund_passes_its_own_event_id(kit: Kit) -> None:
    """Two refunds of one order are two events when the shop names them."""
    first = await kit.report(
        Conversion(name="refund", order_id="1", event_id="refund-a", value="-5.00", currency="USD")
    )
    second = await kit.report(
        Conversion(name="refund", order_id="1", event_id="refund-b", value="-5.00", currency="USD")
    )

    assert first.new
    assert second.new


async def test_the_sync_facade_reports_links_and_identifies(kit: Kit) -> None:
    """Django views and task queues get the same answers without an event loop."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    page = await browser.open("/checkout", method="POST")

    def view() -> tuple[bool, bool]:
        kit.sync.identify(page, customer_id="customer-1")
        return kit.sync.link(page, order_id="order-1"), kit.sync.report(purchase()).new

    assert await asyncio.to_thread(view) == (True, True)
    found = await identifiers(kit)
    assert (found.click_id("adroll"), found.customer_id) == ("click123", "customer-1")


# ---------------------------------------------------------------- people


async def test_a_click_before_the_store_is_open_is_kept(tmp_path: Path) -> None:
    """A server without lifespan opens the store with the first landing, off the request path."""
    kit = make_kit(tmp_path)
    browser = Browser(kit)
    page = await browser.open("/?adct=click123")
    visitor = visitor_of(page)
    assert visitor is not None

    async def kept() -> bool:
        return (await kit.identifiers(visitor=visitor.id)).click_id("adroll") == "click123"

    await eventually(kept)
    kit.store.close()


async def test_a_customers_second_device_has_the_click_of_the_first(kit: Kit, clock: FrozenClock) -> None:
    """Verified links join devices: the newest click within ninety days wins."""
    phone, laptop = Browser(kit), Browser(kit)
    await phone.open("/?adct=old-click")
    await phone.open("/account", act=lambda page: kit.identify(page, customer_id="customer-1"))
    clock.passes(timedelta(days=2))
    await phone.open("/?adct=new-click")
    await laptop.open("/")
    await laptop.open("/account", act=lambda page: kit.identify(page, customer_id="customer-1"))

    await browser_reports(laptop, purchase(customer_id="customer-1"))

    assert (await identifiers(kit)).click_id("adroll") == "new-click"


async def test_a_click_of_ninety_one_days_ago_is_nobodys(kit: Kit, clock: FrozenClock) -> None:
    """Past the window neither the cookie's click nor the store's is used."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    clock.passes(timedelta(days=91))

    await browser_reports(browser, purchase())

    assert (await identifiers(kit)).click_ids == ()


async def test_an_asserted_link_serves_its_own_visitor_only(kit: Kit) -> None:
    """Somebody who types another customer's number gets nothing of that customer's, and gives them nothing."""
    victim, attacker = Browser(kit), Browser(kit)
    await victim.open("/?adct=click-of-the-victim")
    await victim.open("/account", act=lambda page: kit.identify(page, customer_id="customer-1"))
    await attacker.open("/?adct=click-of-the-attacker")
    await attacker.open("/", act=lambda page: kit.assert_identity(page, customer_id="customer-1"))

    await kit.report(purchase("from-elsewhere", customer_id="customer-1"))
    await browser_reports(attacker, purchase("own-order"))

    assert (await identifiers(kit, "from-elsewhere")).click_id("adroll") == "click-of-the-victim"
    assert (await identifiers(kit, "own-order")).click_id("adroll") == "click-of-the-attacker"


async def test_an_asserted_email_serves_its_visitors_order_that_has_none(kit: Kit) -> None:
    """What the page said of its own visitor fills the gap; the order's own e-mail beats it."""
    browser = Browser(kit)
    await browser.open("/")
    await browser.open("/", act=lambda page: kit.assert_identity(page, email="typed@example.com"))

    await browser_reports(browser, purchase("without"))
    await browser_reports(browser, purchase("with", email="ordered@example.com"))

    assert (await identifiers(kit, "without")).email == "typed@example.com"
    assert (await identifiers(kit, "with")).email == "ordered@example.com"


async def test_signing_out_and_another_signing_in_shares_nothing(kit: Kit) -> None:
    """On a shared device the second customer's order has neither the first one's click nor their e-mail."""
    browser = Browser(kit)
    await browser.open("/?adct=click-of-the-first")
    await browser.open("/in", act=lambda page: kit.identify(page, customer_id="first", email="first@example.com"))
    first = browser.cookies["kit"]
    forgotten = Answer()
    kit.forget(forgotten)
    assert "Max-Age=0" in forgotten.lines[0]
    del browser.cookies["kit"]
    await browser.open("/")
    await browser.open("/in", act=lambda page: kit.identify(page, customer_id="second"))

    await browser_reports(browser, purchase(customer_id="second"))

    found = await identifiers(kit)
    assert browser.cookies["kit"] != first
    assert (found.click_ids, found.email) == ((), None)
    assert found.first_party_cookie == browser.cookies["__adroll_fpc"]


class Answer:
    def __init__(self) -> None:
        self.lines: list[str] = []

    @property
    def headers(self) -> "Answer":
        return self

    def append(self, key: str, value: str) -> None:
        assert key == "set-cookie"
        self.lines.append(value)


async def test_a_different_verified_customer_gets_a_new_visitor_by_itself(kit: Kit) -> None:
    """Nobody signed out, somebody else signed in: the answer sets a new visitor cookie, also on a POST."""
    browser = Browser(kit)
    await browser.open("/?adct=click-of-the-first")
    await browser.open("/in", method="POST", act=lambda page: kit.identify(page, customer_id="first"))
    before = browser.cookies["kit"]

    page = await browser.open("/in", method="POST", act=lambda page: kit.identify(page, customer_id="second"))

    assert [line.partition("=")[0] for line in page.set_cookies] == ["kit"]
    assert browser.cookies["kit"] != before
    await browser_reports(browser, purchase(customer_id="second"))
    assert (await identifiers(kit)).click_ids == ()


async def test_a_clean_url_that_fails_loses_the_url_and_not_the_order(tmp_path: Path) -> None:
    """The shop's own rule may raise, or return what is no text: the order is kept all the same."""
    for number, rule in enumerate((lambda url: 1 / 0, lambda url: 7, lambda url: "x" * 5_000)):
        kit = make_kit(tmp_path, clean_url=rule)
        kit.open()
        await kit.report(purchase(f"order-{number}", url="https://www.shop.com/thanks"))
        found = await rows(kit, f"order-{number}")
        kit.store.close()

        assert len(found) == 3


async def test_an_unknown_visitor_is_found_by_the_first_party_cookie(kit: Kit) -> None:
    """The visitor cookie is lost, AdRoll's is not: the click kept under it is found again."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    del browser.cookies["kit"]
    await browser.open("/")

    await browser_reports(browser, purchase())

    assert (await identifiers(kit)).click_id("adroll") == "click123"


async def test_the_store_answers_for_a_visitor_a_customer_and_an_order(kit: Kit) -> None:
    """All identifiers of one visitor, one customer, one order."""
    browser = Browser(kit)
    await browser.open("/?adct=click123&rtid=rokt-1")
    page = await browser.open(
        "/in",
        act=lambda page: kit.identify(
            page, customer_id="customer-1", email="jane@example.com", phone="+1 323 867 5309"
        ),
    )
    await browser.open("/checkout", act=lambda page: kit.link(page, order_id="order-1"))
    visitor = visitor_of(page)
    assert visitor is not None

    by_visitor = await kit.identifiers(visitor=visitor.id)
    by_customer = await kit.identifiers(customer_id="customer-1")
    by_order = await kit.identifiers(order_id="order-1")

    for found in (by_visitor, by_customer, by_order):
        assert (found.click_id("adroll"), found.click_id("rokt")) == ("click123", "rokt-1")
        assert (found.email, found.phone, found.customer_id) == ("jane@example.com", "+1 323 867 5309", "customer-1")


async def test_a_look_up_key_is_not_a_plain_hash(kit: Kit, tmp_path: Path) -> None:
    """Who has the file cannot test whether an address is in it by hashing the address."""
    await kit.report(purchase(email="jane@example.com", customer_id="customer-1"))
    browser = Browser(kit)
    await browser.open("/")
    await browser.open("/in", act=lambda page: kit.identify(page, email="jane@example.com"))

    with sqlite3.connect(tmp_path / "kit.db") as other:
        lookups = {row[0] for row in other.execute("select lookup from links")}
    other.close()
    assert lookups
    assert "8c87b489ce35cf2e2f39f80e282cb2e804932a56a213983eeeb428407d43b52d" not in lookups


# ---------------------------------------------------------------- consent


async def test_without_consent_only_the_order_and_its_money_are_kept(tmp_path: Path, clock: FrozenClock) -> None:
    """A refused sale is accounted for at every destination, and nothing of its buyer is in the file."""
    kit = make_kit(tmp_path, clock=clock)
    browser = Browser(kit, headers={"sec-gpc": "1"})
    await browser.open("/?adct=click-secret")

    await browser_reports(
        browser,
        purchase(email="jane@private.example", phone="3238675309", customer_id="customer-secret", first_name="Janine"),
    )

    assert states(await rows(kit)) == dict.fromkeys(("adroll", "rokt", "rockerbox"), ("skipped", "consent"))
    kit.store.close()
    content = (tmp_path / "kit.db").read_bytes()
    for secret in (b"jane@private", b"3238675309", b"customer-secret", b"Janine", b"click-secret", b"12.34.56.89"):
        assert secret not in content


async def test_unknown_consent_under_opt_in_is_skipped_until_the_shop_says_yes(tmp_path: Path) -> None:
    """An order without a browser needs `report(consent=True)` where consent must be given."""
    kit = make_kit(tmp_path, consent="opt_in")

    await kit.report(purchase("unknown"))
    await kit.report(purchase("granted", email="jane@example.com"), consent=True)

    assert states(await rows(kit, "unknown"))["rokt"] == ("skipped", "consent")
    assert states(await rows(kit, "granted"))["rokt"] == ("pending", None)
    kit.store.close()


async def test_a_webhook_before_the_thank_you_page_loses_nothing(tmp_path: Path) -> None:
    """What was skipped because consent was not known yet is sent when the page brings it."""
    kit = make_kit(tmp_path, consent="opt_in")
    browser = Browser(kit)
    browser.cookies["kit-consent"] = "granted"
    await browser.open("/?adct=click123")
    await kit.report(purchase())
    assert states(await rows(kit))["adroll"] == ("skipped", "consent")

    await browser_reports(browser, purchase(email="jane@example.com"))

    assert states(await rows(kit))["adroll"] == ("pending", None)
    assert (await identifiers(kit)).email == "jane@example.com"
    kit.store.close()


async def test_gpc_beats_a_yes_of_the_shop(kit: Kit) -> None:
    """`Sec-GPC: 1` on the confirming request stays a no, whatever `consent=` says."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    browser.headers["sec-gpc"] = "1"

    await browser_reports(browser, purchase(), consent=True)

    assert states(await rows(kit))["adroll"] == ("skipped", "consent")


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"value": 19.9}, "value"),
        ({"value": "NaN"}, "value"),
        ({"value": "1e3"}, "value"),
        ({"value": Decimal("Infinity")}, "value"),
        ({"value": "-1"}, "value"),
        ({"value": True}, "value"),
        ({"value": "1" * 2_000}, "value"),
        ({"value": Decimal("1E-3000000")}, "value"),
        ({"value": "1000000000000"}, "value"),
        ({"time": "9999-12-31T23:59:59-01:00"}, "time"),
        ({"time": "0001-01-01T00:00:00+05:00"}, "time"),
        ({"value": "1", "currency": None}, "currency"),
        ({"currency": "XXX"}, "currency"),
        ({"currency": "US"}, "currency"),
        ({"email": "no-address"}, "email"),
        ({"email": "a@b@c"}, "email"),
        ({"email": "a b@c.com"}, "email"),
        ({"order_id": "x" * 10_240}, "order_id"),
        ({"order_id": ""}, "order_id"),
        ({"order_id": "a\x00b"}, "order_id"),
        ({"order_id": "\ud800"}, "order_id"),
        ({"order_id": None}, "order_id"),
        ({"order_id": 7}, "order_id"),
        ({"items": [{"id": "shoe", "price": 1.5}]}, "items.price"),
        ({"items": [{"id": "shoe", "quantity": 0}]}, "items.0.quantity"),
        ({"time": "2026-01-15T12:00:00"}, "time"),
        ({"unheard_of": "x"}, "unheard_of"),
        ({"extra": {"note": "a\ud800"}}, "extra"),
    ],
)
def test_a_bad_conversion_is_refused_by_the_name_of_its_field(fields: dict[str, Any], field: str) -> None:
    """The error names the field, says what to do, and never repeats the value."""
    with pytest.raises(ValidationError) as refused:
        purchase(**fields)

    assert field in str(refused.value)
    for value in fields.values():
        if isinstance(value, str) and len(value) > 3:
            assert value not in str(refused.value)


def test_amounts_keep_their_digits_and_names_their_letters() -> None:
    """Exact decimals in several currencies, non-ASCII names, order ids as they are."""
    conversion = Conversion(
        order_id=" Bestellung-007 ",
        value="1299.990",
        currency="jpy",
        first_name="Žaneta",
        items=[Item(id="käse", name="Käse «alt»", price="0.10", quantity=3)],
    )

    assert conversion.order_id == "Bestellung-007"
    assert str(conversion.value) == "1299.990"
    assert conversion.currency == "JPY"


def test_a_conversion_shows_no_person_in_its_repr() -> None:
    """A log line with a conversion in it holds no e-mail, phone or name."""
    shown = repr(purchase(email="jane@example.com", phone="3238675309", first_name="Janine", last_name="Doe"))

    assert not any(secret in shown for secret in ("jane@", "3238675309", "Janine", "Doe"))


@pytest.mark.parametrize("visitor", ["", "x" * 50, "\ud800", "a\x00b"])
async def test_a_visitor_that_cannot_be_one_is_refused_by_name(kit: Kit, visitor: str) -> None:
    """A value from a shop's own table is checked before it reaches the database."""
    with pytest.raises(InvalidInput, match="visitor: "):
        await kit.report(purchase(), visitor=VisitorId(visitor))


@pytest.mark.parametrize("consent", [0, 1, "no", "denied"])
async def test_a_consent_that_is_no_yes_or_no_is_refused(kit: Kit, consent: Any) -> None:
    """A 0 from a database must not count as "nobody said"."""
    with pytest.raises(InvalidInput, match="consent: "):
        await kit.report(purchase(), consent=consent)


async def test_identify_names_the_field_it_refuses(kit: Kit) -> None:
    """An e-mail that is none is the caller's to mend."""
    browser = Browser(kit)
    await browser.open("/")

    with pytest.raises(InvalidInput, match="email: is not an e-mail address"):
        await browser.open("/in", act=lambda page: kit.identify(page, email="nobody"))


# ---------------------------------------------------------------- start


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"secret_keys": []}, "secret_keys"),
        ({"secret_keys": "a-string-instead-of-a-list"}, "secret_keys"),
        ({"secret_keys": ["short"]}, "secret_keys"),
        ({"consent": "maybe"}, "consent"),
        ({"store": "sqlite://"}, "store"),
        ({"store": "mysql://x"}, "store"),
        ({"store": "nonsense"}, "store"),
        ({"destinations": [adroll(), adroll()]}, "destinations"),
        ({"trusted_proxies": ["not a network"]}, "trusted_proxies"),
        ({"cookie_domain": "co.uk"}, "cookie_domain"),
        ({"origins": ["https://shop.com/page"]}, "origins"),
        ({"origins": ["shop.com"]}, "origins"),
        ({"destinations": adroll()}, "destinations"),
        ({"destinations": [AdRoll]}, "destinations"),
        ({"destinations": [adroll(mode="Shadow")]}, "adroll.mode"),
    ],
)
def test_a_set_up_that_cannot_work_is_refused_at_start(tmp_path: Path, settings: dict[str, Any], setting: str) -> None:
    """ConfigurationError names the setting."""
    with pytest.raises(ConfigurationError) as refused:
        make_kit(tmp_path, **settings)

    assert refused.value.setting == setting


def test_a_live_destination_without_its_token_says_which_variable_and_that_shadow_needs_none() -> None:
    """Staging must be able to start before the account manager answers."""
    with pytest.raises(ConfigurationError, match=r"KIT_ADROLL_TOKEN.*shadow"):
        AdRoll(advertisable="ADV", pixel="PIX")

    assert AdRoll(advertisable="ADV", pixel="PIX", mode="shadow").mode == "shadow"


def test_kit_mode_turns_every_destination_to_shadow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One variable for staging: no token, nothing sent."""
    monkeypatch.setenv("KIT_MODE", "shadow")

    assert AdRoll(advertisable="ADV", pixel="PIX").mode == "shadow"


def test_from_env_makes_the_destinations_whose_variables_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Kit.from_env` is the quickstart without code."""
    for name, value in {
        "KIT_SECRET_KEYS": f"an-older-key-of-some-length,{KEY}",
        "KIT_CONSENT": "opt_in",
        "KIT_STORE": f"sqlite:///{tmp_path}/kit.db",
        "KIT_MODE": "shadow",
        "KIT_ADROLL_ADVERTISABLE": "ADV",
        "KIT_ADROLL_PIXEL": "PIX",
        "KIT_ROCKERBOX_ADVERTISER": "acme",
    }.items():
        monkeypatch.setenv(name, value)

    assert [destination.name for destination in Kit.from_env().destinations] == ["adroll", "rockerbox"]


def test_a_vendors_variables_without_its_first_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A typing mistake must not switch a destination off without a word."""
    monkeypatch.setenv("KIT_SECRET_KEYS", KEY)
    monkeypatch.setenv("KIT_CONSENT", "opt_in")
    monkeypatch.setenv("KIT_ADROLL_PIXEL", "PIX")

    with pytest.raises(ConfigurationError, match="KIT_ADROLL_ADVERTISABLE: is missing beside KIT_ADROLL_PIXEL"):
        Kit.from_env()


def test_from_env_without_keys_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing secret key is refused at start."""
    monkeypatch.setenv("KIT_CONSENT", "opt_in")

    with pytest.raises(ConfigurationError, match="secret_keys"):
        Kit.from_env()


def test_a_wrong_index_key_is_refused(tmp_path: Path) -> None:
    """People already kept could not be found with another key; the store remembers a fingerprint."""
    first = make_kit(tmp_path, index_key="the-first-key")
    first.open()
    first.store.close()

    with pytest.raises(ConfigurationError, match="KIT_INDEX_KEY"):
        make_kit(tmp_path, index_key="another-key").open()


def test_a_store_made_with_a_key_is_not_opened_without_it(tmp_path: Path) -> None:
    """Making another key in silence would find nobody who was kept before."""
    first = make_kit(tmp_path, index_key="the-first-key")
    first.open()
    first.store.close()

    with pytest.raises(ConfigurationError, match="KIT_INDEX_KEY: is missing"):
        make_kit(tmp_path).open()


async def test_a_page_goes_on_when_the_set_up_is_found_wrong_late(tmp_path: Path) -> None:
    """A server without lifespan learns of a wrong key with the first call: a checkout is no place to say so."""
    first = make_kit(tmp_path, index_key="the-first-key")
    first.open()
    first.store.close()
    kit = make_kit(tmp_path, index_key="another-key")
    browser = Browser(kit)
    linked = []

    async def checkout(page: Page) -> None:
        linked.append(await kit.link(page, order_id="order-1"))
        await kit.keep_consent(page, True)

    await browser.open("/?adct=click123")
    await browser.open("/checkout", act=checkout)

    assert linked == [False]
    assert kit.faults.counts["link"] == kit.faults.counts["consent"] == 1
    with pytest.raises(ConfigurationError, match="KIT_INDEX_KEY"):
        await kit.report(purchase())


# ---------------------------------------------------------------- the store's bad day


async def test_a_locked_store_is_store_unavailable_within_its_time(kit: Kit, tmp_path: Path) -> None:
    """Two seconds at most, lock waits included; and the next call works without a restart."""
    await kit.ready()
    other = sqlite3.connect(tmp_path / "kit.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    began = asyncio.get_running_loop().time()

    with pytest.raises(StoreUnavailable):
        await kit.report(purchase())
    waited = asyncio.get_running_loop().time() - began
    other.execute("ROLLBACK")
    other.close()

    assert waited < 2.5
    assert (await kit.report(purchase())).new


def test_the_first_call_keeps_its_time_too(tmp_path: Path) -> None:
    """A store that is locked before it was ever opened: the synchronous call ends within two seconds, many as well."""
    with sqlite3.connect(tmp_path / "kit.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        kit = make_kit(tmp_path)
        began = time.monotonic()

        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                kit.sync.report(purchase())
        waited = time.monotonic() - began
        other.execute("ROLLBACK")
    other.close()

    assert waited < 4.5
    assert kit.sync.report(purchase()).new
    kit.store.close()


async def test_an_opening_that_fails_late_is_no_error_of_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller was told when its time was over; what comes after that is not logged as a fault of the shop's."""
    kit = make_kit(tmp_path, store_timeout=timedelta(milliseconds=50))
    failing = threading.Event()

    def fail_late() -> None:
        failing.wait(10)
        raise StoreUnavailable("the disk is gone")

    monkeypatch.setattr(kit.store, "open", fail_late)
    with pytest.raises(StoreUnavailable, match="in time"):
        await kit.report(purchase())
    failing.set()
    await asyncio.sleep(0.1)
    gc.collect()

    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_a_touchpoint_outlives_a_lock(kit: Kit, tmp_path: Path) -> None:
    """Nobody waits for it, so it waits by itself."""
    browser = Browser(kit)
    with sqlite3.connect(tmp_path / "kit.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        page = await browser.open("/?adct=click123")
        await asyncio.sleep(1.2)
        other.execute("ROLLBACK")
    other.close()
    visitor = visitor_of(page)
    assert visitor is not None

    async def kept() -> bool:
        return (await kit.identifiers(visitor=visitor.id)).click_id("adroll") == "click123"

    await eventually(kept)
    assert not kit.faults.counts


async def test_a_touchpoint_outlives_a_store_that_fails_at_once(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tried again after a pause; ten tries in one breath would be ten failures."""
    monkeypatch.setattr(touches, "AGAIN", timedelta(milliseconds=50))
    await kit.ready()
    browser = Browser(kit)
    with sqlite3.connect(tmp_path / "kit.db") as other:
        other.execute("alter table touchpoints rename to away")
    page = await browser.open("/?adct=click123")
    visitor = visitor_of(page)
    assert visitor is not None
    await asyncio.sleep(0.12)
    with sqlite3.connect(tmp_path / "kit.db") as other:
        other.execute("alter table away rename to touchpoints")
    other.close()

    async def kept() -> bool:
        return (await kit.identifiers(visitor=visitor.id)).click_id("adroll") == "click123"

    await eventually(kept)
    assert not kit.faults.counts


async def test_no_touchpoint_waits_when_the_store_opens_under_it(tmp_path: Path) -> None:
    """Servers without lifespan open with the first landing, while others arrive in other threads."""
    kit = make_kit(tmp_path)
    browsers = [Browser(kit) for _ in range(40)]

    pages = await asyncio.gather(
        *(asyncio.to_thread(asyncio.run, one.open(f"/?adct=click{n}")) for n, one in enumerate(browsers))
    )
    visitors = [visitor.id for page in pages if (visitor := visitor_of(page)) is not None]
    assert len(visitors) == len(browsers)

    async def kept() -> bool:
        found = [await kit.identifiers(visitor=visitor) for visitor in visitors]
        return all(one.click_id("adroll") == f"click{n}" for n, one in enumerate(found))

    await eventually(kept)
    kit.store.close()


async def test_pages_and_links_go_on_when_the_store_is_gone(tmp_path: Path) -> None:
    """A folder that vanished: pages set their cookies, `link` says False, only `report` raises."""
    folder = tmp_path / "gone"
    folder.mkdir()
    kit = make_kit(folder)
    folder.rmdir()
    browser = Browser(kit)
    assert not folder.exists()

    landing = await browser.open("/?adct=click123")
    linked = []

    async def checkout(page: Page) -> None:
        linked.append(await kit.link(page, order_id="order-1"))

    await browser.open("/checkout", act=checkout)

    assert landing.status == 200
    assert len(landing.set_cookies) == 2
    assert linked == [False]
    assert kit.faults.counts["link"] == 1
    with pytest.raises(StoreUnavailable):
        await kit.report(purchase())
