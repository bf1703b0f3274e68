"""What no vendor is ever told, whatever a shop reports."""

import re
from datetime import timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.identity import EMPTY_SHA256
from kit.model import Dispatch, Mode

from .dispatch_samples import NOW, dispatch, sending
from .rokt_samples import v1

HASHING: tuple[Destination, ...] = (
    AdRoll(advertisable="ADV", pixel="PIX", mode=Mode.SHADOW, derive_value=True),
    Rokt(account="12345", mode=Mode.SHADOW),
    v1(postback=True),
)
ALL: tuple[Destination, ...] = (*HASHING, Rockerbox(mode=Mode.SHADOW))

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    str.strip
)
EMAILS = st.sampled_from(["Jane.Doe@Example.com", " jane.doe@example.com ", "JANE.DOE@EXAMPLE.COM"])
AMOUNTS = st.integers(0, 30).flatmap(lambda places: st.decimals("0", "999999999", places=places)) | st.sampled_from(
    [Decimal("1E+9"), Decimal("1E-20"), Decimal(0)]
)
SAID = st.sampled_from(["", " ", "not-an-email", EMPTY_SHA256, EMPTY_SHA256.upper(), "Jane.Doe@example.com"])


@st.composite
def dispatches(draw: st.DrawFn) -> Dispatch:
    keys = ["email", "Email", "emailsha256", "zipsha256", "mobilesha256", "note", "sku", "rokt.x", "revenue"]
    conversion = {
        "name": draw(st.sampled_from(["purchase", "add_to_cart", "page_view", "own_name"])),
        "order_id": draw(WORDS),
        "value": draw(AMOUNTS),
        "margin": draw(AMOUNTS),
        "currency": "USD",
        "email": draw(EMAILS | st.none()),
        "first_name": draw(WORDS | st.none()),
        "customer_id": draw(WORDS | EMAILS | st.none()),
        "items": [{"id": draw(WORDS), "price": draw(AMOUNTS), "quantity": 3}],
        "extra": draw(st.dictionaries(st.sampled_from(keys), SAID.filter(str.strip), max_size=4)),
    }
    at = NOW - timedelta(milliseconds=draw(st.integers(0, 10**9)))
    clicks = draw(st.sampled_from([{}, {"adroll": "click123"}, {"adroll": "a", "rokt": "r"}]))
    return dispatch(
        conversion,
        at=at,
        click_ids=clicks,
        email=draw(SAID | st.none()),
        phone=draw(SAID | st.none()),
        ip="12.34.56.89",
        url="https://shop.test/thanks",
    )


@given(dispatches())
def test_no_payload_holds_what_must_not_leave(told: Dispatch) -> None:
    """No digest of nothing, no scientific notation, no clear e-mail where the setting hashes it."""
    for destination in ALL:
        destination.check(told, now=NOW)
        text = sending(destination, told).payload.decode()

        assert EMPTY_SHA256 not in text.lower()
        assert not re.search(r'(?:amount","value|revenue|price|conversion_value|margin","value)":"[^"]*[eE]', text)
        assert not re.search(r'"timestamp":[^,}]*[eE]', text)
        if destination in HASHING:
            assert "jane.doe@" not in text.lower()


@given(dispatches())
def test_a_payload_is_the_same_every_time(told: Dispatch) -> None:
    """Rules are pure: the same dispatch at the same time has the same bytes."""
    for destination in ALL:
        assert sending(destination, told) == sending(destination, told)
