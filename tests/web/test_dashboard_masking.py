"""What people may see of a body that was sent: hidden unless it is known to be harmless."""

import json
import re
from typing import Any

import pytest

from kit import Conversion, Item
from kit.model import ClickId, Identifiers
from kit.web.dashboard.masking import facts, of_buyer, shown, without
from tests.support import NOON

ORDER = Conversion(
    order_id="order-1",
    value="19.90",
    currency="USD",
    customer_id="42",
    email="jane@example.com",
    language="en",
    items=(Item(id="shoe-1", name="Trail shoe", price="19.90", quantity=42),),
)
KNOWN = Identifiers(click_ids=(ClickId("adroll", "click123", NOON),), ip="12.34.56.89", customer_id="42")


def seen(body: Any, order: Conversion = ORDER) -> Any:
    found = shown(json.dumps(body).encode(), facts(order, of_buyer(order, KNOWN)))
    assert found is not None
    return json.loads(found)


def test_the_order_and_its_money_are_shown() -> None:
    """By whatever name a vendor calls them, as text or as a number."""
    body = {
        "anything": "order-1",
        "goods": [{"title": "Trail shoe", "n": 19.9, "cost": "19.90"}],
        "ok": True,
        "no": None,
    }

    assert seen(body) == {**body, "goods": [{"title": "Trail shoe", "n": "•••", "cost": "19.90"}]}


def test_what_nobody_thought_of_is_hidden() -> None:
    """Text or number, however deep; the form stays."""
    assert seen({"hem": "x", "deep": [{"a": 5, "b": [1.5, "y"]}]}) == {
        "hem": "•••",
        "deep": [{"a": "•••", "b": ["•••", "•••"]}],
    }


def test_a_vendors_plain_field_is_shown() -> None:
    """Its own words, by the name that it has in any spelling; in Rokt's pairs too."""
    body = {"eventType": "conversion", "event_name": "purchase", "timestamp": 1768435110.25}
    pairs = [{"name": "amount", "value": "1"}, {"name": "emailsha256", "value": "abc"}]

    assert seen({**body, "objectData": pairs}) == {
        **body,
        "objectData": [{"name": "amount", "value": "1"}, {"name": "emailsha256", "value": "•••"}],
    }


def test_a_value_of_the_buyers_is_no_fact_of_the_order() -> None:
    """The customer's number and a quantity are both 42: neither is shown."""
    assert seen({"customer": "42", "pieces": 42, "language": "en"}) == {
        "customer": "•••",
        "pieces": "•••",
        "language": "•••",
    }


def test_an_address_for_an_order_id_is_hidden() -> None:
    """Shops do that."""
    order = Conversion(order_id="jane@example.com", email="jane@example.com")

    assert seen({"order_id": "jane@example.com", "transactionid": "joe@example.com"}, order) == {
        "order_id": "•••",
        "transactionid": "•••",
    }


@pytest.mark.parametrize("payload", [b"", b"a=1&b=2", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_json_is_not_shown(payload: bytes) -> None:
    """A shop's own destination may send anything."""
    assert shown(payload, frozenset()) is None


def test_a_vendor_that_repeats_a_value_does_not_tell_it() -> None:
    """Not even one without any form of its own; short ones are in many words and stay."""
    buyer = of_buyer(ORDER, KNOWN)

    assert without(buyer, "no click123 of jane@example.com at 12.34.56.89, 42 times") == (
        "no [secret] of [secret] at [secret], 42 times"
    )
    assert without(buyer, None) == ""


@pytest.mark.parametrize(
    "said",
    [
        r'{"name":"J\u00f6rg M\u00fcller-L\u00fcdenscheidt"}',
        "J\u00f6rg M\u00fcller-L\u00fcdenscheidt",
        "Jo\u0308rg Mu\u0308ller-Lu\u0308denscheidt",
        "J%C3%B6rg/M%C3%BCller-L%C3%BCdenscheidt",
        "J%25C3%25B6rg is M%25C3%25BCller-L%25C3%25BCdenscheidt",
        "J\u00d6RG M\u00dcLLER-L\u00dcDENSCHEIDT",
        "CUST-4711 and cust%2D4711",
        r'"jane\u002Btag@example.com", JANE%252BTAG%2540EXAMPLE.COM, \u002B15551234567',
    ],
)
def test_a_buyers_value_is_known_however_it_is_written(said: str) -> None:
    """In the escapes of JSON and of URLs, in pieces, in capitals: none of it is left, nor a part."""
    order = Conversion(
        order_id="order-1",
        customer_id="Cust-4711",
        email="jane+tag@example.com",
        phone="+15551234567",
        first_name="J\u00f6rg",
        last_name="M\u00fcller-L\u00fcdenscheidt",
    )

    kept = without(of_buyer(order, Identifiers()), said)

    assert set(re.findall(r"[^\W_]+", kept)) <= {"secret", "name", "is", "and"}


def test_what_tells_of_nobody_keeps_its_escapes() -> None:
    """A page of the shop's is shown as it was asked for."""
    assert without(of_buyer(ORDER, KNOWN), "gifts%20f%C3%BCr-dich") == "gifts%20f%C3%BCr-dich"
