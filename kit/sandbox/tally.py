"""What a vendor would count, kept as requests come: events, orders, money, repeats, refusals."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from pydantic import JsonValue

from kit.sandbox.checks import is_decimal

Money = tuple[str, Decimal]
"""A currency, ISO 4217 in capitals, and an amount in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A vendor's own view of what it got since the last clear(), after its deduplication.

    `requests`  how many came; `refused` how many of them a rule refused, whole or in part
    `counted`   events that count; `repeated` those taken for a repeat and not counted again
    `orders`    how many order ids were counted; `more_than_once` those whose money was counted again, and how often
    `money`     the counted amounts, summed by currency
    `reasons`   why requests that are still remembered were refused, and how often
    `details`   what only this vendor knows: members of lists, erasures, webhooks that nobody can attribute
    """

    vendor: str
    requests: int
    counted: int
    repeated: int
    refused: int
    orders: int
    more_than_once: Mapping[str, int]
    money: Mapping[str, Decimal]
    reasons: Mapping[str, int]
    details: Mapping[str, JsonValue]


@dataclass(slots=True)
class Tally:
    """The running sums behind a view. Remembers at most `most` order ids; the oldest are forgotten first."""

    most: int
    requests: int = 0
    counted: int = 0
    repeated: int = 0
    refused: int = 0
    orders: int = 0
    money: dict[str, Decimal] = field(default_factory=dict)
    _times: dict[str, int] = field(default_factory=dict)

    def count(self, order: str | None, money: Money | None) -> None:
        """Add an event that counts."""
        self.counted += 1
        if money is not None:
            currency, amount = money
            self.money[currency] = self.money.get(currency, Decimal()) + amount
        if order is not None:
            self.orders += order not in self._times
            self._times[order] = self._times.get(order, 0) + 1
            if len(self._times) > self.most:
                del self._times[next(iter(self._times))]

    @property
    def more_than_once(self) -> dict[str, int]:
        return {order: times for order, times in self._times.items() if times > 1}


def money_of(amount: object, currency: object) -> Money | None:
    """Return an amount and its currency, when both are there and the amount is a plain decimal."""
    if not isinstance(currency, str) or not is_decimal(amount):
        return None
    return currency, Decimal(str(amount))
