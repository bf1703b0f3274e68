"""The demo's table: for each order what was captured, and what each vendor took or why nothing was sent."""

from dataclasses import dataclass

from kit.kit import Kit
from kit.model import DeliveryState, Identifiers
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
    """One order: what was captured, and for each destination what became of it."""

    order: str
    value: str
    captured: tuple[str, ...]
    destinations: dict[str, str]
    settled: bool


async def lines_of(attribution: Kit, *, newest: int = 50) -> list[Line]:
    """Return the newest orders' lines, the oldest of them first."""
    rows = await attribution.store.read(lambda connection: told(connection, newest=newest))
    orders: dict[str, list[Told]] = {}
    for row in reversed(rows):
        orders.setdefault(row.order_id or row.event_id, []).append(row)
    return [_line(order, sorted(found, key=lambda row: row.destination)) for order, found in orders.items()]


def _line(order: str, rows: list[Told]) -> Line:
    waiting = {DeliveryState.PENDING, DeliveryState.CLAIMED}
    return Line(
        order=order,
        value=rows[0].value or "",
        captured=captured(rows[0].identifiers),
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
