"""Stories of people: nobody's click, e-mail or number reaches somebody else's order."""

import pytest
from sqlalchemy import select

from kit import Kit
from kit.store.people import MOST_TOUCHES
from kit.store.tables import events, touchpoints
from tests.support import FPC, Browser
from tests.test_kit import browser_reports, identifiers, purchase

pytestmark = pytest.mark.usefixtures("both_engines")


async def test_a_guest_on_a_signed_in_browser_gets_nothing_of_the_customers_and_gives_nothing(kit: Kit) -> None:
    """The guest's e-mail is not the customer's: their order has no number of hers, her next one no e-mail of his."""
    browser, elsewhere = Browser(kit), Browser(kit)
    await browser.open("/?adct=click-of-hers")
    await browser.open(
        "/in", act=lambda page: kit.identify(page, customer_id="hers", email="her@example.com", phone="3238675309")
    )

    await browser_reports(browser, purchase("guest", email="guest@example.com"))
    await elsewhere.open("/")
    await browser_reports(elsewhere, purchase("hers", customer_id="hers"))

    guest, hers = await identifiers(kit, "guest"), await identifiers(kit, "hers")
    assert (guest.customer_id, guest.phone, guest.click_ids) == (None, None, ())
    assert guest.email == "guest@example.com"
    assert hers.email == "her@example.com"


async def test_nobodys_clicks_are_more_than_a_report_can_look_through(kit: Kit) -> None:
    """Ever new clicks of one browser, or of many under one first-party cookie: no more are kept than fit."""
    browser = Browser(kit)
    for number in range(MOST_TOUCHES + 50):
        await browser.open(f"/?adct=click-{number}")
        stranger = Browser(kit)
        stranger.cookies["__adroll_fpc"] = FPC
        await stranger.open(f"/?adct=strangers-{number}")
    await browser_reports(browser, purchase())

    visitor = browser.cookies["kit"][1:23]
    kept = await kit.store.read(lambda connection: connection.execute(select(touchpoints)).all())
    assert len([row for row in kept if row.visitor == visitor]) == MOST_TOUCHES
    assert len([row for row in kept if row.first_party_cookie == FPC]) == MOST_TOUCHES
    assert len([row for row in kept if row.visitor != visitor]) == MOST_TOUCHES + 50
    assert (await identifiers(kit)).click_id("adroll") == f"click-{MOST_TOUCHES + 49}"


async def test_the_back_offices_browser_gives_an_order_nothing(kit: Kit) -> None:
    """Staff confirm the buyer's order: click, cookie and address stay the buyer's; staff are nobody's customer."""
    buyer, staff = Browser(kit), Browser(kit, ip="12.99.99.99")
    await buyer.open("/?adct=click-of-the-buyer")
    await buyer.open("/checkout", act=lambda page: kit.link(page, order_id="order-1"))
    await staff.open("/?adct=click-of-the-staff")

    await browser_reports(staff, purchase(customer_id="buyer"))

    found = await identifiers(kit)
    assert found.click_id("adroll") == "click-of-the-buyer"
    assert (found.ip, found.first_party_cookie) == ("12.34.56.89", buyer.cookies["__adroll_fpc"])
    await kit.report(purchase("next", customer_id="buyer"))
    assert (await identifiers(kit, "next")).click_id("adroll") != "click-of-the-staff"


async def test_an_order_linked_by_two_visitors_is_the_second_ones(kit: Kit) -> None:
    """A basket that moved to another browser takes nothing of the first one along."""
    first, second = Browser(kit), Browser(kit)
    await first.open("/?adct=click-of-the-first")
    await second.open("/")
    await first.open("/basket", act=lambda page: kit.link(page, order_id="order-1"))

    await second.open("/checkout", act=lambda page: kit.link(page, order_id="order-1"))

    found = await kit.identifiers(order_id="order-1")
    assert found.click_ids == ()
    assert found.first_party_cookie == second.cookies["__adroll_fpc"]


async def test_another_person_known_by_email_alone_gets_a_new_visitor(kit: Kit) -> None:
    """A shop without customer numbers: a second verified e-mail is a second person."""
    browser = Browser(kit)
    await browser.open("/?adct=click-of-the-first")
    await browser.open("/in", act=lambda page: kit.identify(page, email="first@example.com", phone="3238675309"))
    before = browser.cookies["kit"]

    await browser.open("/in", act=lambda page: kit.identify(page, email="second@example.com"))
    await browser_reports(browser, purchase(email="second@example.com"))

    found = await identifiers(kit)
    assert browser.cookies["kit"] != before
    assert (found.click_ids, found.phone) == ((), None)


async def test_a_named_visitors_click_is_not_found_by_the_cookie(kit: Kit) -> None:
    """Somebody typed an address, clicked, and reset: the next person on this browser does not inherit the click."""
    browser = Browser(kit)
    await browser.open("/?adct=click-of-the-first")
    await browser.open("/", act=lambda page: kit.assert_identity(page, email="first@example.com"))
    del browser.cookies["kit"]
    await browser.open("/")

    await browser_reports(browser, purchase(email="second@example.com"))

    assert (await identifiers(kit)).click_ids == ()


async def test_another_customers_order_on_this_browser_takes_no_clicks(kit: Kit) -> None:
    """The order's own customer id beats whoever is signed in."""
    browser = Browser(kit)
    await browser.open("/?adct=click-of-the-first")
    await browser.open("/in", act=lambda page: kit.identify(page, customer_id="first"))

    await browser_reports(browser, purchase(customer_id="second"))

    found = await identifiers(kit)
    assert (found.click_ids, found.customer_id) == ((), "second")
    assert found.first_party_cookie == browser.cookies["__adroll_fpc"]


async def test_an_orders_email_verifies_nobody(kit: Kit) -> None:
    """What was typed at checkout is asserted: it serves its own visitor, and joins no devices."""
    first, second = Browser(kit), Browser(kit)
    await first.open("/?adct=click-of-the-first")
    await browser_reports(first, purchase("one", email="same@example.com"))
    await second.open("/")

    await browser_reports(second, purchase("two", email="same@example.com"))

    assert (await identifiers(kit, "two")).click_ids == ()


async def test_a_customer_number_that_a_till_uses_for_all_stays_quick(kit: Kit) -> None:
    """Hundreds of devices under one number: the newest fifty are asked, and the report is stored."""
    for number in range(80):
        browser = Browser(kit)
        await browser.open(f"/?adct=click-{number}")
        await browser_reports(browser, purchase(f"till-{number}", customer_id="guest"))

    reported = await kit.report(purchase("last", customer_id="guest"))

    assert reported.new
    assert (await identifiers(kit, "last")).click_id("adroll") is not None


async def test_a_repeat_that_names_somebody_else_fills_no_gap(kit: Kit) -> None:
    """An order of Jane's, and the same order again with Bob's e-mail and name: no body tells of two people."""
    await kit.report(purchase(email="jane@example.com"))

    again = await kit.report(purchase(email="bob@example.com", first_name="Bob", phone="3238675309"))
    (stored,) = await kit.store.read(lambda connection: connection.scalars(select(events.c.conversion)).all())

    assert again.new is False
    assert "jane@example.com" in stored
    assert "Bob" not in stored
    assert "323" not in stored
