"""Money: exact decimals, known currencies, plain digits."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit import money
from kit.errors import InvalidInput


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("12.50"), "12.50"),
        ("12.50", "12.50"),
        (" 19.9 ", "19.9"),
        ("-3", "-3"),
        (7, "7"),
        (0, "0"),
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-7"), "0.0000001"),
        ("999999999999.99", "999999999999.99"),
    ],
)
def test_an_amount_keeps_its_digits(value: object, text: str) -> None:
    """What the shop wrote is what a vendor reads, never in scientific notation."""
    assert money.plain(money.amount("value", value)) == text


@pytest.mark.parametrize(
    "value",
    [
        *(0.1, 12.0, True, None, []),
        *("", " ", "abc", "1e3", "1,000", "1.2.3", "NaN", "Infinity", "0x10", "\u00bd", "1_000"),
        *(Decimal("NaN"), Decimal("Infinity"), Decimal("1e12"), "1000000000000", -(10**12)),
    ],
)
def test_what_is_no_amount_is_refused(value: object) -> None:
    """Floats, specials, other notations and a trillion or more; the field is named and the value is not repeated."""
    with pytest.raises(InvalidInput) as caught:
        money.amount("value", value)

    assert caught.value.field == "value"


@given(st.text(max_size=20))
def test_any_text_is_an_amount_or_refused(text: str) -> None:
    """No text makes anything else happen."""
    try:
        number = money.amount("value", text)
    except InvalidInput:
        return
    assert number.is_finite()


@pytest.mark.parametrize(("value", "code"), [("usd", "USD"), (" Eur ", "EUR"), ("JPY", "JPY")])
def test_a_currency_is_in_capitals(value: str, code: str) -> None:
    """Case and spaces do not matter."""
    assert money.currency("currency", value) == code


@pytest.mark.parametrize("value", ["", "US", "XXX", "USDT", "\U0001f4b0", None, 840])
def test_an_unknown_currency_is_refused(value: object) -> None:
    """Only ISO 4217 codes of real money."""
    with pytest.raises(InvalidInput):
        money.currency("currency", value)


def test_minor_digits() -> None:
    """Yen have none, dinars three."""
    assert (money.MINOR_DIGITS["JPY"], money.MINOR_DIGITS["KWD"], money.MINOR_DIGITS["USD"]) == (0, 3, 2)
