"""The list of orders, the newest first, narrowed as somebody asks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from urllib.parse import urlencode

from kit import identity
from kit.kit import Kit
from kit.model import DeliveryState
from kit.store import looking
from kit.store.looking import Line, Outcome, Page, Wanted
from kit.store.overview import Standing, standings
from kit.web.dashboard import words
from kit.web.dashboard.kept import Kept
from kit.web.dashboard.words import Word


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """Where one delivery stands, in words."""

    word: Word
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event in the list."""

    event_id: str
    order: str | None
    name: str
    at: datetime
    value: str
    known: Sequence[str]
    cells: Sequence[Cell | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """A page of the list, and the choices that narrow it."""

    wanted: Wanted
    rows: Sequence[Row]
    columns: Sequence[str]
    destinations: Sequence[tuple[str, str]]
    states: Sequence[tuple[str, str]]
    reasons: Sequence[tuple[str, str]]
    newest: str
    older: str | None
    looked_back_to: datetime | None
    failed: int


async def read_orders(kit: Kit, kept: Kept, wanted: Wanted) -> Orders:
    """Return a page of orders, the newest first."""
    counted = await kept.get("standings", partial(standings, kit.store))
    found: Page = await asyncio.to_thread(looking.page, kit.store, wanted)
    names = destination_names(kit, counted)
    reasons = sorted({reason for one in counted for _, reason in one.counts if reason is not None})
    columns = [name for name in names if any(name in line.deliveries for line in found.lines)]
    return Orders(
        wanted=wanted,
        rows=[_row(line, columns) for line in found.lines],
        columns=[words.label(name) for name in columns],
        destinations=[(name, words.label(name)) for name in names],
        states=[(state, word.text) for state, word in words.STATES.items()],
        reasons=[(code, code.replace("_", " ")) for code in reasons],
        newest=_link(wanted),
        older=_link(wanted, before=found.older) if found.older is not None else None,
        looked_back_to=found.looked_back_to,
        failed=_failed(counted, wanted),
    )


def destination_names(kit: Kit, counted: Sequence[Standing]) -> list[str]:
    """Return the destinations of this shop, and those that the store still knows."""
    return list(dict.fromkeys([*(one.name for one in kit.destinations), *(one.destination for one in counted)]))


def _row(line: Line, columns: Sequence[str]) -> Row:
    return Row(
        event_id=line.event_id,
        order=identity.without_addresses(line.order_id) if line.order_id else None,
        name=line.name,
        at=line.reported_at,
        value=line.value or "",
        known=list(words.known(line.identifiers)),
        cells=[_cell(name, line.deliveries.get(name)) for name in columns],
    )


def _cell(name: str, outcome: Outcome | None) -> Cell | None:
    if outcome is None:
        return None
    return Cell(word=words.STATES[outcome.state], reason=words.reason(name, outcome.reason, outcome.detail))


def _link(wanted: Wanted, *, before: int | None = None) -> str:
    key = None if before is None else str(before)
    return orders_link(destination=wanted.destination, state=wanted.state, reason=wanted.reason, before=key)


def _failed(counted: Sequence[Standing], wanted: Wanted) -> int:
    """Return how many failed deliveries "Send all of these again" would be about: of one destination, as listed."""
    return sum(
        number
        for one in counted
        for (state, reason), number in one.counts.items()
        if one.destination == wanted.destination
        and wanted.state == state == DeliveryState.DEAD
        and wanted.reason in {None, reason}
    )


def orders_link(**asked: str | None) -> str:
    """Return the address of the list, narrowed so, relative to any page of the dashboard."""
    return f"orders?{urlencode({name: value for name, value in asked.items() if value is not None})}"
