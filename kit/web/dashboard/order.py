"""One order's whole story: what was known, how the buyer came, what each destination was told and what it said."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from urllib.parse import urlsplit

from kit import identity
from kit.destinations.base import Destination, first_sending
from kit.devices import device_name
from kit.kit import Kit
from kit.model import Conversion, DeliveryState, Dispatch
from kit.store import looking
from kit.store.journey import Touch, journey
from kit.store.looking import Delivery, Story
from kit.store.pixels import PIXELS
from kit.web.dashboard import words
from kit.web.dashboard.masking import facts, of_buyer, shown, without
from kit.web.dashboard.words import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One click on the way to the order. `when` is how long before it; `other` that it was on another device."""

    at: datetime
    when: str
    vendor: str
    device: str
    other: bool
    used: bool
    campaign: str
    page: str
    referrer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One request to the vendor."""

    at: datetime
    took: str
    status: str
    word: Word
    said: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One destination of the order: where it stands, why, what to do, what was asked, what it was told."""

    name: str
    label: str
    state: str
    word: Word
    reason: str
    detail: str
    advice: str | None
    held_back: str | None
    due: datetime | None
    attempts: Sequence[Attempt]
    body: str | None
    will_be_sent: bool
    pixel: str | None
    resend: bool
    held: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPage:
    """The whole story of one event."""

    event_id: str
    title: str
    name: str
    value: str
    at: datetime
    reported_at: datetime
    test: bool
    consent: str
    consent_at: datetime
    known: Sequence[str]
    device: str | None
    conflicts: Sequence[str]
    steps: Sequence[Step]
    sections: Sequence[Section] = field(repr=False)


def read_order(kit: Kit, event_id: str) -> OrderPage | None:
    """Return the story of one event; None where there is none of this id. Not for an event loop's thread."""
    story = kit.store.read_sync(partial(looking.story, event_id=event_id))
    if story is None:
        return None
    touches = kit.store.read_sync(partial(journey, event_id=event_id))
    configured = {one.name: one for one in kit.destinations}
    now = kit.clock()
    return OrderPage(
        event_id=story.event_id,
        title=_title(story.conversion),
        name=story.conversion.name,
        value=story.value or "",
        at=story.at,
        reported_at=story.reported_at,
        test=story.conversion.test,
        consent=words.consent(story.consent),
        consent_at=story.consent.at,
        known=list(words.known(story.identifiers)),
        device=device_name(story.identifiers.user_agent) if story.identifiers.user_agent else None,
        conflicts=[fields.replace(",", ", ") for fields in story.differing],
        steps=list(_steps(story, touches)),
        sections=[_section(one, story, configured.get(one.destination), now=now) for one in story.deliveries],
    )


def _title(conversion: Conversion) -> str:
    # Some shops number orders by e-mail address.
    return f"Order {identity.without_addresses(conversion.order_id)}" if conversion.order_id else conversion.name


def _steps(story: Story, touches: Sequence[Touch]) -> Iterator[Step]:
    """Yield the clicks that led here, the oldest first; last those used that no landing is kept of any more."""
    buyer = of_buyer(story.conversion, story.identifiers)
    for one in touches:
        yield Step(
            at=one.at,
            when=_when(one.at, story.at),
            vendor=words.label(one.vendor),
            device=device_name(one.user_agent),
            other=not one.own,
            used=one.used,
            campaign=" · ".join(without(buyer, one.utm[name]) for name in _UTM if name in one.utm),
            page=_place(one.url, buyer),
            referrer=_place(one.referrer, buyer),
        )
    shown_already = {one.vendor for one in touches if one.used}
    for click in story.identifiers.click_ids:
        if click.vendor not in shown_already:
            yield Step(
                at=click.clicked_at,
                when=_when(click.clicked_at, story.at),
                vendor=words.label(click.vendor),
                device="",
                other=False,
                used=True,
                campaign="",
                page="",
                referrer="",
            )


def _when(click: datetime, order: datetime) -> str:
    return f"{words.length(order - click)} before" if click <= order else "afterwards"


_UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id")


def _place(url: str | None, buyer: Collection[str]) -> str:
    """Return a URL's host and path: its parameters hold click ids."""
    try:
        parts = urlsplit(url or "")
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return host + "/".join(without(buyer, name) for name in parts.path.split("/"))


_VERDICTS = {
    "ok": Word("taken", "good"),
    "not_sent": Word("not reached", "wait"),
    "transient": Word("try again", "wait"),
    "throttle": Word("asked to wait", "wait"),
    "setup": Word("set-up refused", "bad"),
    "invalid": Word("refused", "bad"),
    "oversize": Word("too large", "bad"),
    "unknown": Word("no answer", "bad"),
    "open": Word("under way", "wait"),
}


def _section(one: Delivery, story: Story, destination: Destination | None, *, now: datetime) -> Section:
    buyer = of_buyer(story.conversion, story.identifiers)
    waits = one.state in {DeliveryState.PENDING, DeliveryState.CLAIMED}
    body, will_be_sent = one.payload, False
    if body is None and waits and destination is not None:
        body, will_be_sent = _to_be_sent(destination, story, now=now), True
    gate = story.gates.get(one.destination) if waits else None
    return Section(
        name=one.destination,
        label=words.label(one.destination),
        state=one.state,
        word=words.STATES[one.state],
        reason=words.sentence(words.reason(one.destination, one.reason, one.detail)),
        # What its latest request says stands there; a refusal was put into words.
        detail="" if one.tries or one.reason == "consent" else without(buyer, one.detail),
        advice=words.advice(one.destination, one.state, one.reason),
        held_back=words.closed(one.destination, gate, now=now).headline if gate is not None else None,
        due=one.due_at if one.state == DeliveryState.PENDING and gate is None else None,
        attempts=[_attempt(each, buyer) for each in one.tries],
        body=shown(body, facts(story.conversion, buyer)) if body is not None else None,
        will_be_sent=will_be_sent,
        pixel=_pixel(one, destination) if destination is not None and destination.vendor in story.pixels else None,
        resend=words.may_resend(one.state, one.reason),
        held=one.state == DeliveryState.HELD,
    )


def _pixel(one: Delivery, destination: Destination) -> str | None:
    """Return what it means that the vendor's pixel on the page reported the order as well."""
    pixel = PIXELS.get(destination.vendor)
    if pixel is None:
        return None
    said = f"{pixel.title}'s pixel on the page reported this order too."
    if pixel.repeat is not None:
        return f"{said} {pixel.repeat}."
    if one.state != DeliveryState.DELIVERED:
        return said
    return f"{said} {pixel.title} may count both: see pixel_reports= of the destination."


def _to_be_sent(destination: Destination, story: Story, *, now: datetime) -> bytes | None:
    """Return the body that a waiting delivery would have now; None where the destination makes none of it."""
    dispatch = Dispatch(
        event_id=story.event_id, at=story.at, conversion=story.conversion, identifiers=story.identifiers
    )
    try:
        return first_sending(destination, dispatch, now=now).payload
    except Exception:  # noqa: BLE001 - a destination may be the shop's own code
        return None


def _attempt(one: looking.Try, buyer: Collection[str]) -> Attempt:
    took = f"{(one.closed_at - one.opened_at).total_seconds():.1f} s" if one.closed_at is not None else ""
    return Attempt(
        at=one.opened_at,
        took=took,
        status=f"HTTP {one.status}" if one.status is not None else "none",
        word=_VERDICTS[one.outcome],
        said=without(buyer, one.detail),
    )
