"""Stories of consent across several reports of one order, several devices, and a change of mind."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from kit import Conversion, Kit
from kit.consent import Signals, Tcf
from kit.model import Identifiers
from kit.store.overview import told
from kit.store.people import MOST_DECISIONS, newest_consents
from kit.store.tables import consents
from tests.consent.strings import tc_string
from tests.support import Browser, make_kit
from tests.test_kit import browser_reports, identifiers, purchase, rows, states

pytestmark = pytest.mark.usefixtures("both_engines")

SKIPPED = dict.fromkeys(("adroll", "rokt", "rockerbox"), ("skipped", "consent"))
PERSON: dict[str, Any] = {"email": "jane@example.com", "customer_id": "customer-1"}


async def test_a_webhook_that_knows_of_no_decision_does_not_overrule_gpc(kit: Kit) -> None:
    """First the page with `Sec-GPC: 1`, then the payment provider with everything: still a no, nothing kept."""
    browser = Browser(kit, headers={"sec-gpc": "1"})
    await browser_reports(browser, purchase(**PERSON))

    await kit.report(purchase(**PERSON))

    assert states(await rows(kit)) == SKIPPED
    assert await identifiers(kit) == Identifiers()


async def test_the_shops_yes_does_not_overrule_a_visitors_no(kit: Kit) -> None:
    """`consent=True` serves orders of which nobody decided; one linked under GPC or a refusal stays unsent."""
    private, refused = Browser(kit, headers={"sec-gpc": "1"}), Browser(kit)
    await refused.open("/?adct=click123")
    refused.cookies["kit-consent"] = "denied"
    await private.open("/checkout", act=lambda page: kit.link(page, order_id="with-gpc"))
    await refused.open("/checkout", act=lambda page: kit.link(page, order_id="refused"))

    await kit.report(purchase("with-gpc", **PERSON), consent=True)
    await kit.report(purchase("refused", **PERSON), consent=True)

    assert states(await rows(kit, "with-gpc")) == SKIPPED
    assert states(await rows(kit, "refused")) == SKIPPED


async def test_a_repeat_that_refuses_stops_what_was_not_sent(kit: Kit) -> None:
    """The newest decision counts at sending, whoever brings it."""
    await kit.report(purchase(**PERSON), consent=True)

    await kit.report(purchase(**PERSON), consent=False)
    await kit.worker.drain()

    assert states(await rows(kit)) == SKIPPED
    assert await identifiers(kit) == Identifiers()


async def test_a_refusal_of_an_order_is_final_for_it(kit: Kit) -> None:
    """Whatever the visitor says on a page later, this order was refused, by GPC or by the shop."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await browser_reports(browser, purchase("by-shop", **PERSON), consent=False)
    browser.headers["sec-gpc"] = "1"
    await browser_reports(browser, purchase("by-gpc", **PERSON))
    del browser.headers["sec-gpc"]
    browser.cookies["kit-consent"] = "granted"

    await browser_reports(browser, purchase("by-shop", **PERSON))
    await browser_reports(browser, purchase("by-gpc", **PERSON))

    assert states(await rows(kit, "by-shop")) == SKIPPED
    assert states(await rows(kit, "by-gpc")) == SKIPPED


async def test_the_shops_yes_is_for_one_order(tmp_path: Path) -> None:
    """Under opt_in the next order of the same customer asks again."""
    kit = make_kit(tmp_path, consent="opt_in")
    browser = Browser(kit)
    browser.cookies["kit-consent"] = "granted"
    await browser.open("/")
    del browser.cookies["kit-consent"]

    await browser_reports(browser, purchase("one", customer_id="customer-9"), consent=True)
    await kit.report(purchase("two", customer_id="customer-9"))

    assert states(await rows(kit, "two")) == SKIPPED
    kit.store.close()


async def test_a_refused_devices_data_serves_no_other_device(kit: Kit) -> None:
    """The customer refused on the phone: the laptop's order carries neither its click nor its cookie."""
    phone, laptop = Browser(kit), Browser(kit)
    await phone.open("/?adct=click-of-the-phone")
    await phone.open("/in", act=lambda page: kit.identify(page, customer_id="customer-1"))
    await phone.open("/no", method="POST", act=lambda page: kit.keep_consent(page, False))
    await laptop.open("/")

    await browser_reports(laptop, purchase(customer_id="customer-1"))

    found = await identifiers(kit)
    assert found.click_ids == ()
    assert found.first_party_cookie == laptop.cookies["__adroll_fpc"]


async def test_without_a_browser_the_customers_newest_decision_counts(kit: Kit) -> None:
    """An order by customer number alone asks what that customer decided last, on any device."""
    phone = Browser(kit)
    await phone.open("/?adct=click123")
    await phone.open("/in", act=lambda page: kit.identify(page, customer_id="customer-1"))
    await phone.open("/no", method="POST", act=lambda page: kit.keep_consent(page, False))

    await kit.report(purchase(customer_id="customer-1"))

    assert states(await rows(kit)) == SKIPPED


async def test_linking_again_under_a_refusal_empties_the_snapshot(kit: Kit) -> None:
    """Between basket and checkout the visitor said no: what was kept for the order goes."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await browser.open("/basket", act=lambda page: kit.link(page, order_id="order-1"))
    browser.headers["sec-gpc"] = "1"

    await browser.open("/checkout", act=lambda page: kit.link(page, order_id="order-1"))

    assert await kit.identifiers(order_id="order-1") == Identifiers()


async def test_a_rule_that_grants_by_default_does_not_overrule_a_decision(tmp_path: Path) -> None:
    """Under opt_out a lost consent cookie is no new yes: the visitor's no is in the store."""
    kit = make_kit(tmp_path)
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await browser.open("/no", method="POST", act=lambda page: kit.keep_consent(page, False))

    await browser_reports(browser, purchase(**PERSON))

    assert states(await rows(kit)) == SKIPPED
    kit.store.close()


async def test_a_denial_is_kept_even_when_the_request_already_says_no(kit: Kit) -> None:
    """kit.js sets the cookie and then posts: the decision is the cookie's owner's."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    await browser.open("/in", act=lambda page: kit.identify(page, customer_id="customer-1"))
    browser.cookies["kit-consent"] = "denied"
    await browser.open("/no", method="POST", act=lambda page: kit.keep_consent(page, False))

    await kit.report(purchase(customer_id="customer-1"))

    assert states(await rows(kit)) == SKIPPED


async def test_conflicts_are_kept_once_each(kit: Kit) -> None:
    """A provider that repeats a differing order fifty times leaves one note for the operator."""
    await kit.report(purchase())
    for _ in range(50):
        await kit.report(purchase(value="20.00"))

    counted = await kit.store.read(
        lambda connection: connection.exec_driver_sql("select count(*) from conflicts").scalar()
    )
    assert counted == 1
    assert len(await kit.store.read(told)) == 3


async def test_a_gap_that_was_said_to_be_none_is_filled(kit: Kit) -> None:
    """`customer_id=None` in the first report is a gap like any other."""
    first = Conversion(order_id="order-1", value="19.90", currency="USD", customer_id=None, coupon=None)
    await kit.report(first)

    await kit.report(purchase(customer_id="customer-1", coupon="AUTUMN"))

    assert (await identifiers(kit)).customer_id == "customer-1"
    await kit.worker.drain()
    assert states(await rows(kit))["adroll"] == ("skipped", "identifier")


async def test_a_vendor_that_the_tc_string_refuses_is_told_nothing(tmp_path: Path) -> None:
    """Purposes are allowed and AdRoll is not: the order goes to the others alone, whatever the banner was told."""
    kit = make_kit(tmp_path, consent=Signals(rule="opt_in", read=[Tcf(purposes={1, 3, 4, 7})]))
    browser = Browser(kit)
    browser.cookies["euconsent-v2"] = tc_string(purposes={1, 3, 4, 7})
    await browser.open("/?adct=click123")

    await browser_reports(browser, purchase(**PERSON))
    await browser.open("/yes", method="POST", act=lambda page: kit.keep_consent(page, True))
    await kit.worker.drain()

    found = states(await rows(kit))
    assert found["adroll"] == ("skipped", "consent")
    assert "skipped" not in {found["rokt"][0], found["rockerbox"][0]}
    kit.store.close()


async def test_a_visitor_who_changes_their_mind_for_ever_fills_no_store(kit: Kit) -> None:
    """Past fifty changes the newest takes the place of the one before: every report looks through them all."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    for number in range(MOST_DECISIONS + 11):
        yes = number % 2 == 0
        await browser.open("/decide", method="POST", act=lambda page, yes=yes: kit.keep_consent(page, yes))

    visitor = browser.cookies["kit"][1:23]
    kept = await kit.store.read(
        lambda connection: connection.execute(select(consents).where(consents.c.visitor == visitor)).all()
    )
    newest = await kit.store.read(lambda connection: newest_consents(connection, [visitor]))
    assert len(kept) == MOST_DECISIONS
    assert newest[visitor].granted is True


async def test_where_only_the_noes_of_known_visitors_are_kept_a_yes_is_not(kit: Kit) -> None:
    """Past a limit: the no of a visitor who is in the store counts, and a yes changes nothing of it."""
    browser = Browser(kit)
    await browser.open("/?adct=click123")
    for yes in (True, False, True):
        await browser.open(
            "/decide", method="POST", act=lambda page, yes=yes: kit.keep_consent(page, yes, of_known=True)
        )

    by_page = select(consents.c.granted).where(consents.c.signal == "page")
    assert await kit.store.read(lambda connection: connection.scalars(by_page).all()) == [False]


async def test_of_two_clicks_in_one_second_the_later_one_counts(kit: Kit) -> None:
    """The cookie says so, and the store with it."""
    browser = Browser(kit)
    await browser.open("/?adct=first")
    await browser.open("/?adct=second")

    # Both are kept off the request path, before whatever is written next.
    await kit.report(purchase())
    known = await kit.identifiers(visitor=browser.cookies["kit"][1:23])

    assert known.click_id("adroll") == "second"
