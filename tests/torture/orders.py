"""The orders of a run: each a function of seed and number alone, and so is every byte that a vendor must be sent."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Literal

from kit import Conversion
from kit.destinations import Destination
from kit.model import ClickId, Dispatch, Identifiers, Item, event_id_of
from tests.torture.plan import Plan

AGENT = "Mozilla/5.0 (X11; Linux x64) Torture/1.0"

#: Product names from one byte to a few kilobytes in all, some of them hard to encode.
_NAMES = ("x", "Blue shirt", 'Quote " and \\ backslash', "Grüße, 東京 🎁", "n" * 500)

_NAMESPACE = uuid.UUID("0b8f1f0e-7a56-4b8e-9c39-1f3f3f1f0a11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Events that one caller reports one after the other.

    `way`    what the shop knows of the browser: a link made before, the request itself, or nothing
    `twice`  two callers report all of it at the same time
    """

    number: int
    order_id: str
    way: Literal["linked", "seen", "bare"]
    twice: bool
    ip: str
    adct: str
    rclid: str
    fpc: str
    conversions: tuple[Conversion, ...]

    @property
    def landing(self) -> str:
        return f"/?adct={self.adct}&rclid={self.rclid}"


def order_of(plan: Plan, number: int) -> Order:
    """Return this order; the same in every process."""
    dice = Random(f"{plan.seed} order {number}")
    order_id = f"T{plan.seed}-{number}"
    purchase = _event(plan, number, order_id, "purchase", value=Decimal(dice.randrange(1, 500_000)) / 100, dice=dice)
    kind = dice.random()
    conversions: tuple[Conversion, ...] = (purchase,)
    if kind < 0.2:
        refund = _event(plan, number, order_id, "refund", value=-(purchase.value or Decimal(0)), dice=dice)
        conversions = (purchase, refund)
    elif kind < 0.25:
        conversions = (purchase, _event(plan, number, order_id, "form_fill", value=None, dice=dice))
    elif kind < 0.3:
        conversions = (_event(plan, number, None, "form_fill", value=None, dice=dice),)
    return Order(
        number=number,
        order_id=order_id,
        way=dice.choices(("linked", "seen", "bare"), (50, 45, 5))[0],
        twice=dice.random() < 0.15,
        ip=f"12.{number // 62_500 % 250}.{number // 250 % 250}.{number % 250 + 1}",
        adct=f"adct-{plan.seed}-{number}",
        rclid=f"rclid-{plan.seed}-{number}",
        fpc=f"{number:032x}-1700000000000",
        conversions=conversions,
    )


def _event(
    plan: Plan, number: int, order_id: str | None, name: str, *, value: Decimal | None, dice: Random
) -> Conversion:
    items = tuple(
        Item(id=f"sku-{number}-{place}", name=dice.choice(_NAMES), quantity=dice.randrange(1, 5))
        for place in range(dice.choice((0, 1, 1, 2, 8)))
    )
    own = {} if order_id else {"event_id": str(uuid.uuid5(_NAMESPACE, f"{plan.seed} {name} {number}"))}
    return Conversion(
        **own,
        name=name,
        order_id=order_id,
        value=value,
        currency="USD" if value is not None else None,
        email=f"jane.{number}@example.com",
        first_name=dice.choice(("Jane", "Zoë", "李")),
        items=items,
        url=f"https://shop.example.com/thanks/{number}",
        time=plan.start + timedelta(milliseconds=number),
        extra={"note": "m" * dice.choice((1, 10, 5000))} if dice.random() < 0.1 else {},
    )


def payloads_of(order: Order, destinations: Sequence[Destination]) -> dict[tuple[str, str], bytes]:
    """Return the one right body of each of the order's events at each destination, by destination and event id."""
    identifiers = _identifiers(order)
    bodies = {}
    for conversion in order.conversions:
        assert conversion.time is not None
        event_id = event_id_of(conversion)
        dispatch = Dispatch(event_id=event_id, at=conversion.time, conversion=conversion, identifiers=identifiers)
        for destination in destinations:
            if destination.check(dispatch, now=conversion.time) is None:
                payload = destination.payload(dispatch, now=conversion.time)
                body = json.dumps(payload, separators=(",", ":"), ensure_ascii=False).encode()
                bodies[destination.name, event_id] = body
    return bodies


def _identifiers(order: Order) -> Identifiers:
    (first, *_) = order.conversions
    assert first.time is not None
    if order.way == "bare":
        return Identifiers(email=first.email)
    clicks = {"adroll": order.adct, "rokt": order.rclid}
    return Identifiers(
        click_ids=tuple(ClickId(vendor, value, first.time) for vendor, value in clicks.items()),
        first_party_cookie=order.fpc,
        email=first.email,
        ip=order.ip,
        user_agent=AGENT,
    )
