"""What AdRoll and Rockerbox may be told, field by field: generated events, and the strict sandbox as second opinion."""

import asyncio
import hashlib
import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st

from kit.destinations import AdRoll, Destination, Rockerbox
from kit.destinations.base import Answer, Judgement
from kit.destinations.holdout import Holdout
from kit.model import Dispatch, Verdict
from kit.sandbox import Sandbox

from .dispatch_samples import FPC, NOW, dispatch, sending

DIGEST = hashlib.sha256(b"jane.doe@example.com").hexdigest()

ADROLL = AdRoll(
    advertisable="SANDBOXADVERTISABLE001",
    pixel="SANDBOXPIXEL0000000001",
    token="sandbox-token",
    app_url="https://app.shop.test",
    derive_value=True,
    gzip_above=0,
)
ROCKERBOX = Rockerbox(advertiser="sandbox-advertiser", holdout=Holdout(name="q1", percent=50), timestamps="number")

EVENT = set(
    "advertisable_eid pixel_eid event_name page_location ip identifiers user_agent conversion_value currency timestamp "
    "event_attributes external_data device_os device_type package_app_name package_app_version".split()
)
IDENTIFIERS = set("adct first_party_cookie email email_sha256 email_md5 device_id user_id".split())
ATTRIBUTES = {"products", "keywords", "order_id"}
PRODUCT = set("product_id product_group category price quantity".split())
WEBHOOK = set(
    "email customer_id action timestamp revenue order_id conversion_source phone country_code order_type "
    "order_timestamp coupon products holdout user_id".split()
)

WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    str.strip
)
MAYBE = WORDS | st.none()
EMAILS = st.sampled_from(["Jane.Doe@Example.com", " jane.doe@example.com ", "JANE.DOE@EXAMPLE.COM"])
AMOUNTS = st.integers(0, 30).flatmap(lambda places: st.decimals("0", "999999999", places=places)) | st.sampled_from(
    [Decimal("1E+9"), Decimal("1E-20"), Decimal(0)]
)
NAMES = [
    "purchase",
    "add_to_cart",
    "page_view",
    "product_search",
    "form_fill",
    "sign_up",
    "own_name",
    "marketing_event",
]
DEVICES = st.fixed_dictionaries(dict.fromkeys(("id", "os", "type", "app", "app_version"), MAYBE))
AD = st.fixed_dictionaries({}, optional=dict.fromkeys(("ad_campaignid", "ad_adgroupid", "ad_creativeid"), WORDS))
CUSTOM = st.dictionaries(
    st.sampled_from(["note", "anonymous_id", "listing_id", "in_store", "salesforce", "Email", "revenue"]), WORDS
)


@st.composite
def dispatches(draw: st.DrawFn) -> Dispatch:
    conversion = {
        "name": draw(st.sampled_from(NAMES)),
        "order_id": draw(WORDS),
        "value": draw(AMOUNTS | st.none()),
        "currency": "USD",
        "email": draw(EMAILS | st.none()),
        "customer_id": draw(WORDS | EMAILS | st.none()),
        "items": [{"id": draw(WORDS), "name": draw(MAYBE), "price": draw(AMOUNTS), "quantity": 3}],
        "keywords": draw(MAYBE),
        "coupon": draw(MAYBE),
        "source": draw(MAYBE),
        "order_type": draw(MAYBE),
        "device": draw(DEVICES | st.none()),
        "address": draw(st.sampled_from([None, {"line1": "1 Main St", "country": "US"}])),
        "extra": draw(AD) | draw(CUSTOM),
        "metadata": draw(st.dictionaries(WORDS | EMAILS, WORDS | EMAILS, max_size=3)),
    }
    return dispatch(
        conversion,
        at=NOW - timedelta(milliseconds=draw(st.integers(0, 10**9))),
        click_ids=draw(st.sampled_from([{}, {"adroll": "click123"}])),
        first_party_cookie=draw(st.sampled_from([None, FPC])),
        email=draw(st.sampled_from([None, DIGEST, DIGEST.upper(), "not-an-email"])),
        ip="12.34.56.89",
        url=draw(st.sampled_from([None, "https://shop.test/thanks"])),
    )


def sent(destination: Destination, told: Dispatch) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sending(destination, told).payload)
    return content


@given(dispatches())
def test_adroll_is_told_its_own_fields_and_nothing_else(told: Dispatch) -> None:
    """contracts.md 2.2 to 2.5: on every level no key that AdRoll does not document, and none that says nothing."""
    event = sent(ADROLL, told)
    attributes = event.get("event_attributes", {})

    assert event.keys() <= EVENT
    assert event.get("identifiers", {}).keys() <= IDENTIFIERS
    assert attributes.keys() <= ATTRIBUTES
    assert all(product.keys() <= PRODUCT for product in attributes.get("products", ()))
    assert all(value not in (None, "", [], {}) for level in (event, attributes) for value in level.values())


@given(dispatches())
def test_rockerbox_is_told_its_own_fields_and_the_shops(told: Dispatch) -> None:
    """contracts.md 7.1: predefined fields, and what the shop named in `extra`; every value a text but the time."""
    event = sent(ROCKERBOX, told)

    assert event.keys() <= WEBHOOK | told.conversion.extra.keys()
    assert all(isinstance(value, str) and value for name, value in event.items() if name != "timestamp")
    assert isinstance(event["timestamp"], int)


@given(dispatches())
def test_no_number_is_written_in_scientific_notation(told: Dispatch) -> None:
    """Neither as a number of JSON nor in a text that stands for money, at any depth."""
    amounts: list[str] = []
    for destination in (ADROLL, ROCKERBOX):
        payload = sending(destination, told).payload
        event = json.loads(payload, parse_float=amounts.append, parse_int=amounts.append)
        amounts += [str(event[name]) for name in ("conversion_value", "revenue") if name in event]
        products = event.get("event_attributes", {}).get("products") or json.loads(event.get("products", "[]"))
        amounts += [product["price"] for product in products if "price" in product]

    assert amounts
    assert not [text for text in filter(None, amounts) if "e" in text.lower()]


@given(dispatches())
def test_no_digest_is_hashed_again_and_no_address_leaves_in_clear(told: Dispatch) -> None:
    """What the shop hashed itself passes on once; AdRoll gets no address in any field unless the setting says so."""
    payload = sending(ADROLL, told).payload.decode().lower()

    for spelling in (DIGEST, DIGEST.upper()):
        assert hashlib.sha256(spelling.encode()).hexdigest() not in payload
        assert hashlib.md5(spelling.encode()).hexdigest() not in payload
    assert "jane.doe@" not in payload
    assert "jane.doe%40" not in payload


@settings(max_examples=60, deadline=None)
@given(dispatches())
def test_what_passes_check_is_taken_by_the_strict_sandbox(told: Dispatch) -> None:
    """Devices, metadata, gzip, marketing events and numbers for times included: two readings of the contract agree."""
    for destination in (ADROLL, ROCKERBOX):
        if destination.check(told, now=NOW) is None:
            judgement = ask(destination, told)
            assert judgement.verdict is Verdict.OK, judgement.detail


def ask(destination: Destination, told: Dispatch) -> Judgement:
    """Send one event to a fresh sandbox without a socket, and judge its answer."""
    one = sending(destination, told)
    request = destination.build([one])

    async def exchange() -> Answer:
        async with httpx.AsyncClient(transport=Sandbox(clock=lambda: NOW).transport()) as client:
            response = await client.send(request)
        return Answer(status=response.status_code, headers=response.headers, body=response.content)

    (judgement,) = destination.judge([one], asyncio.run(exchange()), now=NOW)
    return judgement
