"""The demo's table: for each order what was captured, and what each vendor took or why nothing was sent."""

from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection

from kit.devices import device_name
from kit.kit import Kit
from kit.model import DeliveryState, Identifiers
from kit.store.journey import journey, used_clicks
from kit.store.overview import Told, told

#: A person reads these names, in this order.
_NAMES = (
    ("first_party_cookie", "fpc"),
    ("email", "e-mail"),
    ("phone", "phone"),
    ("customer_id", "customer id"),
    ("ip", "ip"),
)
_CLICKS = {"adroll": "adct", "rokt": "rokt click"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One order: what was captured, on which other devices of the customer's, and what became of it at each
    destination."""

    order: str
    value: str
    captured: tuple[str, ...]
    devices: tuple[str, ...]
    destinations: dict[str, str]
    settled: bool


async def lines_of(attribution: Kit, *, newest: int = 50) -> list[Line]:
    """Return the newest orders' lines, the oldest of them first."""
    return await attribution.store.read(partial(_lines, newest=newest))


def _lines(connection: Connection, *, newest: int) -> list[Line]:
    orders: dict[str, list[Told]] = {}
    for row in reversed(told(connection, newest=newest)):
        orders.setdefault(row.order_id or row.event_id, []).append(row)
    return [
        _line(order, sorted(found, key=lambda row: row.destination), _devices(connection, found[0]))
        for order, found in orders.items()
    ]


def _devices(connection: Connection, row: Told) -> tuple[str, ...]:
    """Return the other devices of the customer's on which clicks of this order were made."""
    if not row.identifiers.click_ids:
        return ()
    clicks = used_clicks(row.identifiers, journey(connection, event_id=row.event_id))
    return tuple(dict.fromkeys(device_name(click.user_agent) for click in clicks if click.own is False))


def _line(order: str, rows: list[Told], devices: tuple[str, ...]) -> Line:
    waiting = {DeliveryState.PENDING, DeliveryState.CLAIMED}
    return Line(
        order=order,
        value=rows[0].value or "",
        captured=captured(rows[0].identifiers),
        devices=devices,
        destinations={row.destination: _outcome(row) for row in rows},
        settled=not any(row.state in waiting for row in rows),
    )


def captured(identifiers: Identifiers) -> tuple[str, ...]:
    """Return the names of the identifiers that were gathered, without their values."""
    clicks = tuple(_CLICKS.get(click.vendor, click.vendor) for click in identifiers.click_ids)
    return clicks + tuple(label for name, label in _NAMES if getattr(identifiers, name))


def _outcome(row: Told) -> str:
    if row.state == DeliveryState.DELIVERED:
        return "accepted"
    if row.state in {DeliveryState.PENDING, DeliveryState.CLAIMED}:
        return f"waiting, {row.attempts} tried" if row.attempts else "waiting"
    word = "not sent" if row.state == DeliveryState.SKIPPED else row.state
    return f"{word}: {row.reason}" + (f" ({row.detail})" if row.detail else "")
