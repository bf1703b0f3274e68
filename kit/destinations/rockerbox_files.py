"""Rockerbox's files: the daily batch of conversions and the historical orders, one row an order (contracts.md 7.4)."""

from decimal import ROUND_HALF_UP, Decimal
from enum import StrEnum

from kit import money
from kit.destinations.base import Skip
from kit.destinations.rockerbox import customer_of, email_of, products_text, time_text
from kit.model import Dispatch

#: "Up to 500,000 records per file."
LARGEST_FILE = 500_000

_CENT = Decimal("0.01")


class Identifier(StrEnum):
    """Who the buyer is: the one that the identify pixel on the page tells Rockerbox too."""

    EMAIL = "email"
    USER_ID = "user_id"


def columns(identifier: Identifier) -> tuple[str, ...]:
    """Return the names that stand above the rows."""
    return ("timestamp", "order_id", "revenue", identifier, "coupon", "products")


def row(dispatch: Dispatch, identifier: Identifier) -> tuple[str, ...] | Skip:
    """Return an order's row, or the first of test, order_id, value, currency, identifier that keeps it out.

    The time is UTC, such as 2023-05-05 23:24:11.695; revenue is in dollars and cents, for the file has no currency;
    an order is in the file with the same e-mail, digest or customer id as the webhook would tell.
    """
    conversion, known = dispatch.conversion, dispatch.identifiers
    if conversion.test:
        return Skip("test", "a test conversion")
    if conversion.order_id is None:
        return Skip("order_id", "has no order id")
    if conversion.value is None:
        return Skip("value", "has no value")
    if conversion.currency != "USD":
        return Skip("currency", "is not in US dollars")
    who = (email_of if identifier is Identifier.EMAIL else customer_of)(conversion, known)
    if who is None:
        return Skip("identifier", f"has no {identifier}")
    revenue = money.plain(conversion.value.quantize(_CENT, ROUND_HALF_UP))
    products = products_text(conversion.items)
    return time_text(dispatch.at), conversion.order_id, revenue, who, conversion.coupon or "", products or ""
