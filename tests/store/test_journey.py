"""The way to an order: the clicks of its own browser and of the customer's other devices."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from kit import Kit
from kit.model import ClickId, Consent, Identifiers, Touchpoint, VisitorId
from kit.store import journey as journeys
from kit.store import people
from kit.store.journey import Touch, UsedClick, journey, used_clicks
from kit.store.tables import touchpoints
from tests.support import NOON, Browser, FrozenClock
from tests.test_kit import browser_reports, identifiers, purchase

pytestmark = pytest.mark.usefixtures("both_engines")
HOUR = timedelta(hours=1)
PHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 26_1 like Mac OS X) Version/26.1 Mobile/15E148 Safari/604.1"
LAPTOP = "Mozilla/5.0 (X11; Linux x64) Firefox/145.0"


async def signed_in(kit: Kit, landing: str, *, customer: str = "c-1", agent: str = LAPTOP, **headers: str) -> Browser:
    browser = Browser(kit, headers={"user-agent": agent, **headers})
    await browser.open(landing)
    await browser.open("/in", act=lambda page: kit.identify(page, customer_id=customer))
    return browser


async def way_to(kit: Kit, event_id: str) -> list[Touch]:
    return await kit.store.read(lambda connection: journey(connection, event_id=event_id))


async def clicks(kit: Kit, event_id: str) -> list[tuple[str, bool, bool]]:
    return [(touch.click_id, touch.own, touch.used) for touch in await way_to(kit, event_id)]


async def test_the_way_to_an_order_leads_over_all_devices_of_its_customer(kit: Kit, clock: FrozenClock) -> None:
    """In order of time: when, which browser, from where and by which campaign, and which click was used."""
    landing = "/shoes?adct=on-the-phone&utm_source=mail%26co&utm_campaign=a%3Db"
    phone = await signed_in(kit, landing, agent=PHONE, referer="https://news.example/today?who=jane")
    clock.passes(HOUR)
    laptop = await signed_in(kit, "/?gclid=on-the-laptop")
    clock.passes(HOUR)
    reported = await browser_reports(laptop, purchase())
    clock.passes(HOUR)
    await laptop.open("/?adct=afterwards")

    first, second = await way_to(kit, reported.event_id)

    assert first == Touch(
        at=NOON,
        visitor=VisitorId(phone.cookies["kit"][1:23]),
        own=False,
        vendor="adroll",
        click_id="on-the-phone",
        url="http://localhost:8000/shoes",
        referrer="https://news.example/today",
        utm={"utm_source": "mail&co", "utm_campaign": "a=b"},
        user_agent=PHONE,
        used=True,
    )
    assert (second.own, second.user_agent, second.used) == (True, LAPTOP, True)
    assert (second.at, second.utm, second.referrer) == (NOON + HOUR, {}, None)
    assert "on-the-phone" not in repr(first)


async def test_an_older_click_of_a_vendor_is_shown_and_not_used(kit: Kit, clock: FrozenClock) -> None:
    """The newer one on another device is told instead."""
    laptop = await signed_in(kit, "/?adct=older")
    clock.passes(HOUR)
    await signed_in(kit, "/?adct=newer", agent=PHONE)
    clock.passes(HOUR)

    reported = await browser_reports(laptop, purchase())

    assert await clicks(kit, reported.event_id) == [("older", True, False), ("newer", False, True)]


async def test_an_order_without_a_browser_has_its_customers_way(kit: Kit, clock: FrozenClock) -> None:
    """A payment provider reports it: the click says whose devices they are."""
    await signed_in(kit, "/?adct=older")
    clock.passes(HOUR)
    await signed_in(kit, "/?adct=newer", agent=PHONE)

    reported = await kit.report(purchase(customer_id="c-1"))

    assert await clicks(kit, reported.event_id) == [("older", False, False), ("newer", False, True)]


async def test_nobody_elses_clicks_are_on_the_way(kit: Kit) -> None:
    """Not those of a browser on which somebody else is signed in, by number or by e-mail; nor of who refused."""
    theirs = await signed_in(kit, "/?adct=somebody-elses", customer="c-2")
    by_number = await browser_reports(theirs, purchase("one", customer_id="c-1"))
    by_mail = Browser(kit)
    await by_mail.open("/?adct=janes")
    await by_mail.open("/in", act=lambda page: kit.identify(page, email="jane@example.com"))
    guest = await browser_reports(by_mail, purchase("two", email="bob@example.com"))
    hers = await browser_reports(by_mail, purchase("three", email="JANE@example.com"))
    refusing = await signed_in(kit, "/?adct=refused", customer="c-3")
    refused = await browser_reports(refusing, purchase("four"))
    visitor = VisitorId(refusing.cookies["kit"][1:23])
    await kit.store.write(people.keep_decisions, (visitor, Consent(granted=False, signal="page", at=NOON + HOUR)))

    assert await clicks(kit, by_number.event_id) == []
    assert await clicks(kit, guest.event_id) == []
    assert await clicks(kit, hers.event_id) == [("janes", True, True)]
    assert await clicks(kit, refused.event_id) == []


async def test_an_erased_persons_order_has_no_way(kit: Kit) -> None:
    """Clicks, landing pages and browsers go with the person; an unknown event has no way either."""
    browser = await signed_in(kit, "/?adct=click", agent=PHONE)
    reported = await browser_reports(browser, purchase(customer_id="c-1"))

    await kit.erase(customer_id="c-1")

    assert await way_to(kit, reported.event_id) == []
    assert await way_to(kit, "no such event") == []
    assert await kit.store.read(lambda connection: connection.execute(select(touchpoints)).all()) == []


async def test_no_more_is_shown_than_a_page_holds(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest, for somebody who clicks all day."""
    monkeypatch.setattr(journeys, "_TOUCHES", journeys._TOUCHES.limit(3))
    browser = await signed_in(kit, "/?adct=0")
    for number in range(1, 6):
        await browser.open(f"/?adct={number}")

    reported = await browser_reports(browser, purchase())

    assert [each for each, _, _ in await clicks(kit, reported.event_id)] == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (PHONE, PHONE),
        ("Brow\x00ser\x1b[2J\x85/1.0", "Browser[2J/1.0"),
        ("x" * 2_000, "x" * 512),
        ("\x01", None),
        ("", None),
    ],
)
async def test_a_touchpoint_keeps_what_its_browser_calls_itself(kit: Kit, said: str, kept: str | None) -> None:
    """Cut, and without what a database refuses and a terminal obeys."""
    await Browser(kit, headers={"user-agent": said}).open("/?adct=click")

    reported = await kit.report(purchase())  # behind the touchpoint in the one queue of writes

    found = await kit.store.read(lambda connection: connection.execute(select(touchpoints.c.user_agent)).all())
    assert reported.new
    assert [row.user_agent for row in found] == [kept]


async def test_a_click_whose_touchpoint_is_gone_is_its_own_browsers(kit: Kit) -> None:
    """Retention took the touchpoint: the order itself says what browser it came from, of another device nobody does."""
    browser = Browser(kit, headers={"user-agent": PHONE})
    await browser.open("/?adct=click")
    await browser_reports(browser, purchase())
    known = await identifiers(kit)
    elsewhere = Identifiers(
        visitor=known.visitor,
        user_agent=PHONE,
        click_ids=(ClickId("adroll", "a", NOON, VisitorId("another")), ClickId("rokt", "b", NOON)),
    )

    assert used_clicks(known, []) == [UsedClick(vendor="adroll", at=NOON, own=True, user_agent=PHONE)]
    assert used_clicks(elsewhere, []) == [
        UsedClick(vendor="adroll", at=NOON, own=False, user_agent=None),
        UsedClick(vendor="rokt", at=NOON, own=None, user_agent=None),
    ]


async def test_what_was_stored_before_there_were_devices_is_shown(kit: Kit) -> None:
    """A touchpoint without a browser, an event whose click names no visitor."""
    visitor = VisitorId("v" * 22)
    touchpoint = Touchpoint(at=NOON, click_ids=(ClickId("adroll", "click", NOON),))
    granted = Consent(granted=True, signal="test", at=NOON)
    touch = people.Touch(visitor=visitor, touchpoint=touchpoint, first_party_cookie=None, consent=granted)
    await kit.store.write(people.keep_touches, touch)
    found = Identifiers(visitor=visitor, click_ids=(ClickId("adroll", "click", NOON),))
    await kit.store.write(people.keep_orders, people.OrderLink(order_id="order-1", identifiers=found, consent=granted))

    reported = await kit.report(purchase())

    (only,) = await way_to(kit, reported.event_id)
    assert (only.used, only.own, only.user_agent) == (True, True, None)


async def test_a_person_is_given_the_browsers_that_clicked(kit: Kit, tmp_path: Path) -> None:
    """`export_person` holds the User-Agent of each touchpoint, and the visitor of each click that was gathered."""
    browser = await signed_in(kit, "/?adct=click", agent=PHONE)
    await browser_reports(browser, purchase(customer_id="c-1"))

    found: dict[str, Any] = await kit.export_person(customer_id="c-1")

    assert [one["user_agent"] for one in found["touchpoints"]] == [PHONE]
    (click,) = found["events"][0]["identifiers"]["click_ids"]
    assert click["visitor"] == browser.cookies["kit"][1:23]


async def test_an_erased_browsers_clicks_leave_other_peoples_orders(kit: Kit, clock: FrozenClock) -> None:
    """Of somebody else's order remain its own identifiers; the erased browser's id is nowhere but in its tombstone."""
    phone = await signed_in(kit, "/?adct=on-the-phone", agent=PHONE)
    clock.passes(HOUR)
    laptop = await signed_in(kit, "/?rtid=on-the-laptop")
    await browser_reports(laptop, purchase(customer_id="c-1"))
    erased = phone.cookies["kit"][1:23]

    await kit.erase(visitor=VisitorId(erased))

    found = await identifiers(kit)
    assert [(click.vendor, click.value) for click in found.click_ids] == [("rokt", "on-the-laptop")]
    assert found.customer_id == "c-1"
    assert erased not in repr(found)
