"""Which click of several is told: of each vendor the newest before the order, wherever the customer made it."""

import itertools
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from kit import Kit
from kit.model import CLICK_WINDOW, ClickId, Consent, Identifiers, Touchpoint, VisitorId
from kit.store import people
from kit.store.overview import told
from kit.store.people import VERIFIED, Link, OrderLink, Touch, joined
from kit.store.tables import events
from tests.support import NOON, Browser, FrozenClock
from tests.test_kit import browser_reports, identifiers, purchase

pytestmark = pytest.mark.usefixtures("both_engines")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRANTED = Consent(granted=True, signal="test", at=NOON)


async def signed_in(kit: Kit, landing: str = "/") -> Browser:
    """Return a browser of customer c-1's that landed there."""
    browser = Browser(kit)
    await browser.open(landing)
    await browser.open("/in", act=lambda page: kit.identify(page, customer_id="c-1"))
    return browser


def visitor_in(browser: Browser) -> str:
    return browser.cookies["kit"][1:23]


async def test_a_newer_click_on_another_device_is_told_before_an_older_one_here(kit: Kit, clock: FrozenClock) -> None:
    """Both are the customer's: the one that led to the order counts, and says which browser it is of."""
    laptop = await signed_in(kit, "/?adct=on-the-laptop")
    clock.passes(HOUR)
    phone = await signed_in(kit, "/?adct=on-the-phone")
    clock.passes(HOUR)

    await browser_reports(laptop, purchase())

    (click,) = (await identifiers(kit)).click_ids
    assert (click.value, click.visitor) == ("on-the-phone", visitor_in(phone))


async def test_a_newer_click_here_is_told_before_an_older_one_on_another_device(kit: Kit, clock: FrozenClock) -> None:
    """And it is this browser's."""
    await signed_in(kit, "/?adct=on-the-phone")
    clock.passes(HOUR)
    laptop = await signed_in(kit, "/?adct=on-the-laptop")

    await browser_reports(laptop, purchase())

    (click,) = (await identifiers(kit)).click_ids
    assert (click.value, click.visitor) == ("on-the-laptop", visitor_in(laptop))


async def test_of_two_other_devices_the_newer_click_is_told(kit: Kit, clock: FrozenClock) -> None:
    """Whichever of them was signed in last."""
    tablet = await signed_in(kit, "/?adct=on-the-tablet")
    clock.passes(HOUR)
    await tablet.open("/?adct=on-the-tablet-again")
    clock.passes(-HOUR / 2)
    await signed_in(kit, "/?adct=on-the-phone")
    clock.passes(HOUR)

    await kit.report(purchase(customer_id="c-1"))

    assert (await identifiers(kit)).click_id("adroll") == "on-the-tablet-again"


async def test_each_vendor_has_its_own_newest_click(kit: Kit, clock: FrozenClock) -> None:
    """AdRoll's from the phone, Rokt's from the laptop."""
    laptop = await signed_in(kit, "/?adct=old&rtid=old")
    clock.passes(HOUR)
    await signed_in(kit, "/?adct=new")
    clock.passes(HOUR)
    await laptop.open("/?rtid=new")

    await browser_reports(laptop, purchase())

    found = await identifiers(kit)
    assert (found.click_id("adroll"), found.click_id("rokt")) == ("new", "new")


async def test_a_click_of_the_request_newer_than_the_orders_snapshot_is_told(kit: Kit, clock: FrozenClock) -> None:
    """The basket was linked, then the visitor came back by another advertisement, then bought."""
    browser = Browser(kit)
    await browser.open("/?adct=first")
    await browser.open("/basket", act=lambda page: kit.link(page, order_id="order-1"))
    clock.passes(HOUR)
    await browser.open("/?adct=second")

    await browser_reports(browser, purchase())

    assert (await identifiers(kit)).click_id("adroll") == "second"


async def test_a_click_on_another_device_newer_than_the_orders_snapshot_is_told(kit: Kit, clock: FrozenClock) -> None:
    """The order is confirmed by a payment provider, whose request shows no browser at all."""
    laptop = await signed_in(kit, "/?adct=on-the-laptop")
    await laptop.open("/checkout", act=lambda page: kit.link(page, order_id="order-1"))
    clock.passes(HOUR)
    await signed_in(kit, "/?adct=on-the-phone")
    clock.passes(HOUR)

    await kit.report(purchase(customer_id="c-1"))

    assert (await identifiers(kit)).click_id("adroll") == "on-the-phone"


async def test_a_click_made_after_the_order_takes_nothing_from_one_made_before(kit: Kit, clock: FrozenClock) -> None:
    """An order that is reported late, with the time at which it was placed."""
    laptop = await signed_in(kit, "/?adct=before")
    clock.passes(HOUR)
    placed = clock()
    clock.passes(HOUR)
    await laptop.open("/?adct=after&rtid=after")
    await signed_in(kit, "/?adct=after-elsewhere")

    await browser_reports(laptop, purchase(time=placed))

    found = await identifiers(kit)
    assert (found.click_id("adroll"), found.click_id("rokt")) == ("before", "after")


async def test_a_clicks_age_counts_from_the_order(kit: Kit, clock: FrozenClock) -> None:
    """Of an order that was placed a week ago a click of then 85 days is told; of one placed today it is not."""
    browser = await signed_in(kit, "/?adct=old")
    clock.passes(85 * DAY)
    placed = clock()
    clock.passes(7 * DAY)

    await browser_reports(browser, purchase("late", time=placed))
    await browser_reports(browser, purchase("today"))

    assert (await identifiers(kit, "late")).click_id("adroll") == "old"
    assert (await identifiers(kit, "today")).click_ids == ()


async def test_a_repeat_brings_a_click_where_there_is_none_and_replaces_none(kit: Kit, clock: FrozenClock) -> None:
    """What some vendors may have been told already is not told otherwise."""
    laptop = await signed_in(kit, "/?adct=first")
    await browser_reports(laptop, purchase())
    clock.passes(HOUR)
    await laptop.open("/?adct=second&rtid=second")

    await browser_reports(laptop, purchase())

    found = await identifiers(kit)
    assert (found.click_id("adroll"), found.click_id("rokt")) == ("first", "second")


async def test_an_event_that_was_stored_before_clicks_had_a_visitor_is_read(kit: Kit) -> None:
    """Its click is a click, of nobody knows which browser."""
    old = '{"click_ids":[{"vendor":"adroll","value":"click","clicked_at":"2026-01-15T12:00:00Z"}]}'
    await kit.report(purchase())
    await kit.store.write(lambda connection, asked: [connection.execute(events.update().values(identifiers=old))], None)

    (click,) = (await identifiers(kit)).click_ids

    assert (click, click.visitor) == (ClickId("adroll", "click", NOON), None)
    assert len(await kit.store.read(lambda connection: connection.execute(select(events)).all())) == 1


# ---------------------------------------------------------------- the rule itself


CLICKS = st.builds(
    ClickId,
    st.sampled_from(["adroll", "rokt"]),
    st.uuids().map(str),
    st.integers(-3, 9).map(lambda hours: NOON - hours * HOUR),
)


def one_of_each(clicks: list[ClickId]) -> tuple[ClickId, ...]:
    return tuple({click.vendor: click for click in clicks}.values())


@given(places=st.lists(st.lists(CLICKS, max_size=3).map(one_of_each), max_size=5))
def test_the_newest_before_the_order_stands_wherever_it_is_found(places: list[tuple[ClickId, ...]]) -> None:
    """Of each vendor; else one made later, of the first place that has one. No place adds a second."""
    found = Identifiers()
    for clicks in places:
        found = joined(found, Identifiers(click_ids=clicks), at=NOON)

    everywhere = list(itertools.chain(*places))
    for vendor in ("adroll", "rokt"):
        theirs = [click for click in everywhere if click.vendor == vendor]
        before = [click.clicked_at for click in theirs if click.clicked_at <= NOON]
        stands = [click for click in found.click_ids if click.vendor == vendor]
        first = [click for click in theirs if click.clicked_at == max(before)] if before else theirs
        assert stands == first[:1]


@dataclass(frozen=True)
class Made:
    """A click at a place: in the order's own browser, in its order's snapshot, or on one of two further devices."""

    place: str
    age: timedelta


MADE = st.builds(
    Made,
    st.sampled_from(["own", "snapshot", "phone", "tablet"]),
    st.one_of(st.integers(-2, 100).map(lambda days: days * DAY), st.just(CLICK_WINDOW), st.just(timedelta(0))),
)
_numbers = itertools.count()


@given(made=st.lists(MADE, min_size=1, max_size=6, unique=True))
@example(made=[Made("snapshot", 91 * DAY), Made("own", -DAY)])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_order_has_the_newest_eligible_click_of_all_that_the_store_holds(kit: Kit, made: list[Made]) -> None:
    """Over touchpoints of three devices and the order's snapshot, of which the latest counts, on a real store."""
    number = next(_numbers)
    devices = {name: VisitorId(f"{name}-{number}".ljust(22, "-")) for name in ("own", "phone", "tablet")}
    order = f"order-{number}"
    for visitor in devices.values():
        kit.store.write_sync(people.keep_links, link(kit, visitor, f"c-{number}"))
    clicks = {one.place == "snapshot" or one: keep(kit, one, devices, order) for one in made}

    kit.sync.report(purchase(order, customer_id=f"c-{number}", time=NOON), visitor=devices["own"])

    eligible = [click for click in clicks.values() if click.clicked_at >= NOON - CLICK_WINDOW]
    before = [click.clicked_at for click in eligible if click.clicked_at <= NOON]
    best = [max(before)] if before else [click.clicked_at for click in eligible]
    found = kit.store.read_sync(partial(clicked_at, order=order))
    assert (found in best) if best else found is None


def link(kit: Kit, visitor: VisitorId, customer: str) -> Link:
    return Link(
        visitor=visitor,
        identities=(kit.intake.identity("customer", customer),),
        level=VERIFIED,
        source="shop",
        consent=GRANTED,
        unknown_is_granted=True,
        at=NOON,
    )


def keep(kit: Kit, one: Made, devices: dict[str, VisitorId], order: str) -> ClickId:
    at = NOON - one.age
    visitor = devices.get(one.place, devices["own"])
    click = ClickId("adroll", f"{one.place}-{one.age.days}", at, visitor)
    if one.place == "snapshot":
        found = Identifiers(visitor=visitor, click_ids=(click,))
        kit.store.write_sync(people.keep_orders, OrderLink(order_id=order, identifiers=found, consent=GRANTED))
    else:
        touchpoint = Touchpoint(at=at, click_ids=(click,))
        touch = Touch(visitor=visitor, touchpoint=touchpoint, first_party_cookie=None, consent=GRANTED)
        kit.store.write_sync(people.keep_touches, touch)
    return click


def clicked_at(connection: Connection, *, order: str) -> datetime | None:
    clicks = told(connection, order_id=order)[0].identifiers.click_ids
    return clicks[0].clicked_at if clicks else None
