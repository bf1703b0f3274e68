"""What is stored is read as it was checked at the door."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from kit import Conversion, Item
from kit.store.rows import conversion_of, conversion_text

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    str.strip
)
AMOUNTS = st.integers(0, 6).flatmap(lambda places: st.decimals("0", "999999999", places=places))
TIMES = st.builds(
    lambda zone, after: datetime(1970, 1, 2, tzinfo=zone) + after,
    st.sampled_from([UTC, timezone(timedelta(hours=-5))]),
    st.timedeltas(timedelta(0), timedelta(days=40_000)),
)


@st.composite
def conversions(draw: st.DrawFn) -> Conversion:
    item = st.fixed_dictionaries(
        {"id": WORDS}, optional={"name": WORDS, "price": AMOUNTS | st.none(), "quantity": st.integers(1, 9)}
    )
    said = st.fixed_dictionaries(
        {"order_id": WORDS},
        optional={
            "name": st.sampled_from(["purchase", "add_to_cart"]),
            "value": AMOUNTS | st.none(),
            "margin": AMOUNTS | st.none(),
            "email": st.just("jane@example.com"),
            "first_name": WORDS | st.none(),
            "items": st.lists(item, max_size=3),
            "time": TIMES | st.none(),
            "test": st.booleans(),
            "extra": st.dictionaries(WORDS, WORDS, max_size=3),
        },
    )
    return Conversion(**draw(said), currency="USD")


@given(conversions())
def test_a_stored_conversion_is_read_as_a_checked_one(conversion: Conversion) -> None:
    """In every field, in its types, and in what was left out: as if it had been checked again."""
    text = conversion_text(conversion)
    checked = Conversion.model_validate_json(text)

    read = conversion_of(text)

    assert read == checked == conversion
    assert repr(read) == repr(checked)
    assert read.model_fields_set == checked.model_fields_set
    assert [item.model_fields_set for item in read.items] == [item.model_fields_set for item in checked.items]
    assert conversion_text(read) == text


def test_an_amount_in_powers_of_ten_is_read() -> None:
    """Decimal("1E+9") is taken at the door and stored in its own digits; reading it back refuses nothing."""
    stored = conversion_text(
        Conversion(order_id="1", value=Decimal("1E+9"), currency="USD", items=[Item(id="a", price=Decimal("1E+2"))])
    )

    read = conversion_of(stored)

    assert (read.value, read.items[0].price) == (Decimal("1E+9"), Decimal("1E+2"))
