"""How a buyer came: the clicks of an order's visitor and of the same customer's other devices, in order of time."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, or_, select

from kit.capture.query import UTM
from kit.model import ClickId, Identifiers, VisitorId
from kit.store.known import Known, known_of
from kit.store.people import VERIFIED
from kit.store.persons import normal
from kit.store.rows import identifiers_of, moment
from kit.store.tables import events, touchpoints

#: Clicks that are shown of one event, the newest ones.
MOST_SHOWN = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Touch:
    """One click on the way to an event.

    `own`         it was made in the event's own browser, not on another device of the same customer.
    `url`         of the landing page, without its query: what is told of a campaign stands in `utm`.
    `user_agent`  of the browser that clicked, as it calls itself: `kit.devices.device_name` says it in words.
    `used`        it is the one of its vendor's clicks that destinations are told of, within their windows.
    """

    at: datetime
    visitor: VisitorId
    own: bool
    vendor: str
    click_id: str = field(repr=False)
    url: str | None
    referrer: str | None
    utm: Mapping[str, str]
    user_agent: str | None
    used: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UsedClick:
    """A click that destinations are told of. `own` is None where nobody knows which browser clicked."""

    vendor: str
    at: datetime
    own: bool | None
    user_agent: str | None


def journey(connection: Connection, *, event_id: str) -> list[Touch]:
    """Return the clicks that led to this event, the oldest first: of its visitor and of the customer's other devices.

    Not those made afterwards, unless destinations are told of them. Of whoever refused or was erased there are none.
    """
    event = connection.execute(_EVENT, {"event_id": event_id}).one_or_none()
    if event is None:
        return []
    identifiers = identifiers_of(event.identifiers)
    asked = {
        "visitors": sorted(_visitors(connection, identifiers)),
        "until": event.at,
        "used": [click.value for click in identifiers.click_ids],
    }
    rows = connection.execute(_TOUCHES, asked).all() if asked["visitors"] else ()
    return [_touch(row, identifiers) for row in reversed(rows)]


_EVENT = select(events.c.identifiers, events.c.at).where(events.c.event_id == bindparam("event_id"))
_TOUCHES = (
    select(touchpoints)
    .where(
        touchpoints.c.visitor.in_(bindparam("visitors", expanding=True)),
        or_(touchpoints.c.at <= bindparam("until"), touchpoints.c.click_id.in_(bindparam("used", expanding=True))),
    )
    .order_by(touchpoints.c.at.desc(), touchpoints.c.id.desc())
    .limit(MOST_SHOWN)
)


def used_clicks(identifiers: Identifiers, touches: Iterable[Touch]) -> list[UsedClick]:
    """Return the clicks of an event's identifiers with the browsers that made them, as its journey knows them."""
    known = {(touch.vendor, touch.click_id): touch for touch in touches if touch.used}
    return [_used(click, known.get((click.vendor, click.value)), identifiers) for click in identifiers.click_ids]


def _used(click: ClickId, touch: Touch | None, identifiers: Identifiers) -> UsedClick:
    if touch is not None:
        return UsedClick(vendor=click.vendor, at=click.clicked_at, own=touch.own, user_agent=touch.user_agent)
    own = None if click.visitor is None else click.visitor == identifiers.visitor
    return UsedClick(
        vendor=click.vendor, at=click.clicked_at, own=own, user_agent=identifiers.user_agent if own else None
    )


def _visitors(connection: Connection, identifiers: Identifiers) -> set[str]:
    """Return the browsers whose clicks may be shown of an event: its own, and its buyer's verified ones."""
    own = identifiers.visitor
    clicked = {click.visitor for click in identifiers.click_ids if click.visitor is not None}
    asked = clicked | {own} if own is not None else clicked
    known = known_of(connection, visitors=set(asked), customers=set(), cookies=set())
    if own is not None and not _is_buyers(known, own, identifiers):
        asked = clicked - {own}
    customers = {
        row.lookup
        for visitor in asked
        for row in known.customers(visitor)
        if identifiers.customer_id in {None, row.value}
    }
    devices = {row.visitor for lookup in customers for row in known.devices_of.get(lookup, ())}
    return {visitor for visitor in asked | devices if not known.refused(visitor)}


def _is_buyers(known: Known, visitor: str, identifiers: Identifiers) -> bool:
    """Return whether nobody but the event's buyer is verified on its browser."""
    numbers = {row.value for row in known.customers(visitor)}
    if identifiers.customer_id is not None and numbers:
        return identifiers.customer_id in numbers
    verified = (row for row in known.links_of.get(visitor, ()) if row.kind == "email" and row.level == VERIFIED)
    emails = {normal("email", row.value) for row in verified}
    return identifiers.email is None or not emails or normal("email", identifiers.email) in emails


#: As they are kept, one after the other; what a campaign wrote into one may hold an "&" itself.
_NAMES = re.compile(f"(?:^|&)({'|'.join(UTM)})=")


def _touch(row: Any, identifiers: Identifiers) -> Touch:
    pairs = _NAMES.split(row.utm or "")[1:]
    return Touch(
        at=moment(row.at),
        visitor=VisitorId(row.visitor),
        own=row.visitor == identifiers.visitor,
        vendor=row.vendor,
        click_id=row.click_id,
        url=row.url and row.url.partition("?")[0],
        referrer=row.referrer,
        utm=dict(zip(pairs[::2], pairs[1::2], strict=True)),
        user_agent=row.user_agent,
        used=any(
            (click.vendor, click.value) == (row.vendor, row.click_id) and click.visitor in {None, row.visitor}
            for click in identifiers.click_ids
        ),
    )
