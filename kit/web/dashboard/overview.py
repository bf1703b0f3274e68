"""The overview: how each destination stands, how well the last days' orders could be matched, and what reached whom."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from kit.destinations.base import Destination
from kit.kit import Kit
from kit.model import DeliveryState, Mode
from kit.store import looking
from kit.store.answers import Seen
from kit.store.gates import Gate
from kit.store.looking import Matching
from kit.store.overview import Standing, standings
from kit.store.pixels import PIXELS, DoubleReport, double_reports
from kit.web.dashboard import words
from kit.web.dashboard.kept import Kept
from kit.web.dashboard.orders import destination_names, orders_link
from kit.web.dashboard.words import Said, Word

#: The days that the overview may look back. An event forgets its buyer with its last delivery, by default after 30.
WINDOWS = (7, 28)
#: Reasons that the overview lists.
_MOST_REASONS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """So many deliveries of one state and reason, and where they are listed."""

    word: Word
    reason: str
    number: int
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """One destination on the overview. `held_back` says that a gate is closed, and "Go on" opens it."""

    name: str
    label: str
    said: Said
    numbers: Sequence[Number]
    oldest: str | None
    held_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """So many of the orders."""

    label: str
    number: int
    percent: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """What became of the orders at one destination."""

    label: str
    sent: Share
    others: Sequence[Share]


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """All that the overview shows.

    `twice` says where a vendor's pixel reported orders that it was told as well; `strange` are answers of shapes that
    nobody foresaw.
    """

    cards: Sequence[Card]
    days: int
    orders: int
    clicks: Sequence[Share]
    identifiers: Sequence[Share]
    reached: Sequence[Reach]
    unsent: Sequence[tuple[str, Number]]
    twice: Sequence[str]
    strange: Sequence[Seen]


async def read_overview(kit: Kit, kept: Kept, *, days: int) -> Overview:
    """Return the overview. What takes counting is kept for a while; what holds destinations back is of this moment."""
    now = kit.clock()
    counted = await kept.get("standings", partial(standings, kit.store))
    since = now - timedelta(days=days)
    matched = await kept.get(("matching", days), partial(looking.matching, kit.store, since=since))
    vendors = {one.name: one.vendor for one in kit.destinations if one.reports}
    doubled = await kept.get(("twice", days), partial(double_reports, kit.store, vendors, since=since))
    names = destination_names(kit, counted)
    present = await kit.store.read(lambda connection: looking.present(connection, names))
    by_name = {one.destination: one for one in counted}
    configured = {one.name: one for one in kit.destinations}
    return Overview(
        cards=[
            _card(name, by_name.get(name), configured.get(name), present.gates.get(name), present.due.get(name), now)
            for name in names
        ],
        days=days,
        orders=matched.orders,
        clicks=[
            _share(f"A click from {words.label(vendor)}", number, matched.orders)
            for vendor, number in matched.clicks.most_common()
        ],
        identifiers=[
            _share(words.sentence(text), matched.identified[name], matched.orders)
            for name, text in words.IDENTIFIERS.items()
        ],
        reached=[_reach(name, matched) for name in names if name in matched.outcomes],
        unsent=_unsent(matched),
        twice=[_twice(one) for one in doubled if PIXELS[one.vendor].repeat is None],
        strange=present.strange,
    )


def _card(
    name: str,
    counted: Standing | None,
    destination: Destination | None,
    gate: Gate | None,
    due: datetime | None,
    now: datetime,
) -> Card:
    counts = counted.counts if counted is not None else {}
    by_state = Counter[str]()
    for (state, _), number in counts.items():
        by_state[state] += number
    if gate is not None:
        said = words.closed(name, gate, now=now)
    else:
        shadow = destination is not None and destination.mode == Mode.SHADOW
        said = words.standing(name, by_state, due=due, now=now, shadow=shadow, configured=destination is not None)
    oldest = counted.oldest_pending if counted is not None else None
    return Card(
        name=name,
        label=words.label(name),
        said=said,
        numbers=[_number(name, state, reason, number) for (state, reason), number in _in_order(counts)],
        oldest=words.clock(oldest, now) if oldest is not None else None,
        held_back=gate is not None,
    )


_ORDER = [*words.STATES]


def _in_order(counts: Mapping[tuple[str, str | None], int]) -> list[tuple[tuple[str, str | None], int]]:
    return sorted(counts.items(), key=lambda one: (_ORDER.index(one[0][0]), -one[1]))


def _number(name: str, state: str, reason: str | None, number: int, detail: str | None = None) -> Number:
    return Number(
        word=words.STATES[state],
        reason=words.reason(name, reason, detail),
        number=number,
        href=orders_link(destination=name, state=state, reason=reason),
    )


def _share(text: str, number: int, of: int) -> Share:
    return Share(label=text, number=number, percent=round(100 * number / of) if of else 0)


def _reach(name: str, matched: Matching) -> Reach:
    by_word = Counter[str]()
    for (state, _, _), number in matched.outcomes[name].items():
        by_word[words.STATES[state].text] += number
    shares = [_share(text, by_word[text], matched.orders) for text in _OUTCOMES]
    return Reach(label=words.label(name), sent=shares[0], others=shares[1:])


#: The columns of what became of orders, as states are called.
_OUTCOMES = list(dict.fromkeys(word.text for word in words.STATES.values()))


def _twice(one: DoubleReport) -> str:
    """Return how many orders a vendor may count twice, and what to write."""
    number, who = "1 order was" if one.orders == 1 else f"{one.orders} orders were", words.label(one.destination)
    return (
        f"{number} sent to {who} and reported by its pixel on the page too: it may count both. "
        f'pixel_reports={{"{one.name}"}} of the destination leaves them to the pixel.'
    )


def _unsent(matched: Matching) -> list[tuple[str, Number]]:
    """Return why orders were not sent: the destination and the reason, the most frequent first."""
    found = [
        (words.label(name), _number(name, state, reason, number, detail))
        for name, outcomes in matched.outcomes.items()
        for (state, reason, detail), number in outcomes.items()
        if state in {DeliveryState.SKIPPED, DeliveryState.DEAD, DeliveryState.HELD}
    ]
    return sorted(found, key=lambda one: -one[1].number)[:_MOST_REASONS]
