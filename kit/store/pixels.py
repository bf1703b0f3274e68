"""Which vendors' pixels reported an order from the page: a page's word, for the operator; nothing is sent by it."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection, func, select, union

from kit.model import DeliveryState
from kit.store.persons import ranges
from kit.store.rows import insert_new, milliseconds
from kit.store.store import Store
from kit.store.tables import deliveries, events, orders, pixel_reports
from kit.store.tombstones import ERASED


@dataclass(frozen=True, slots=True, kw_only=True)
class Pixel:
    """A vendor's pixel. `repeat` says how the vendor tells its report of an order from ours; None where it cannot."""

    title: str
    repeat: str | None


#: By `ClickId.vendor`, those that kit.pixels.js looks for (contracts.md 2.7, 3.7, 7.1).
PIXELS: Mapping[str, Pixel] = {
    "adroll": Pixel(title="AdRoll", repeat=None),
    "rokt": Pixel(title="Rokt", repeat="Rokt tells a repeat by transactionid, else confirmationref"),
    "rockerbox": Pixel(title="Rockerbox", repeat="Rockerbox tells a repeat where its conversion key is order_id"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelReport:
    """A page says that this vendor's pixel reported this order."""

    order_id: str
    vendor: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DoubleReport:
    """So many orders were delivered to this destination and reported by its vendor's pixel too, as events of `name`."""

    destination: str
    vendor: str
    name: str
    orders: int


def keep_pixel_reports(connection: Connection, told: Sequence[PixelReport]) -> Sequence[None]:
    """Keep the first note of each order and vendor; none of an order whose buyer was erased."""
    erased = _erased(connection, {one.order_id for one in told})
    rows = [(one.order_id, one.vendor, milliseconds(one.at)) for one in told if one.order_id not in erased]
    insert_new(connection, pixel_reports, ("order_id", "vendor", "at"), rows, by=2)
    return [None] * len(told)


def _erased(connection: Connection, order_ids: Collection[str]) -> set[str]:
    named = [
        select(table.c.order_id).where(table.c.order_id.in_(order_ids), table.c.signal == ERASED)
        for table in (events, orders)
    ]
    return set(connection.scalars(union(*named)))


def pixels_of(connection: Connection, order_ids: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Return the vendors whose pixels reported each of these orders, in alphabetical order."""
    query = select(pixel_reports.c.order_id, pixel_reports.c.vendor).where(pixel_reports.c.order_id.in_(order_ids))
    found: dict[str, tuple[str, ...]] = {}
    for row in connection.execute(query.order_by(pixel_reports.c.vendor)):
        found[row.order_id] = (*found.get(row.order_id, ()), row.vendor)
    return found


def double_reports(store: Store, vendors: Mapping[str, str], *, since: datetime) -> list[DoubleReport]:
    """Return what a pixel has reported since then and a destination of its vendor was delivered as well.

    `vendors` names the vendor of each destination. Counted range by range: each is a short read of its own.
    """
    counted = Counter[tuple[str, str, str]]()
    for ids in ranges(store, pixel_reports.c.id):
        for row in store.read_sync(partial(_delivered_too, ids=ids, since=milliseconds(since))):
            if vendors.get(row.destination) == row.vendor:
                counted[row.destination, row.vendor, row.name] += row.n
    return [
        DoubleReport(destination=destination, vendor=vendor, name=name, orders=number)
        for (destination, vendor, name), number in sorted(counted.items())
    ]


def _delivered_too(connection: Connection, *, ids: range, since: int) -> Sequence[Any]:
    by = (deliveries.c.destination, pixel_reports.c.vendor, events.c.name)
    query = (
        select(*by, func.count().label("n"))
        .select_from(pixel_reports)
        .join(events, events.c.order_id == pixel_reports.c.order_id)
        .join(deliveries, deliveries.c.event == events.c.id)
        .where(
            pixel_reports.c.id.between(ids.start, ids.stop - 1),
            pixel_reports.c.at >= since,
            deliveries.c.state == DeliveryState.DELIVERED,
        )
        .group_by(*by)
    )
    return connection.execute(query).all()
