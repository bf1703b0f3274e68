"""What Rokt is never told, at any of its doors, whatever a shop reports and however it is set."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.destinations import Rokt
from kit.identity import EMPTY_SHA256, sha256
from kit.model import Dispatch

from .dispatch_samples import NOW, dispatch, sending
from .rokt_samples import CLICK, conversions, v1, v2

SURFACES = {"v2": v2, "v1": v1, "conversions": conversions}
HASHINGS: tuple[Any, ...] = ("strict", "hightouch", "raw", frozenset({"email", "zipcode"}), frozenset({"lastname"}))

ADDRESS = "jane.doe@example.com"
DIGEST = sha256(ADDRESS)
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    str.strip
)
#: What people write into the wrong field, besides the right thing.
ODD = st.sampled_from(
    ["Jane.Doe@Example.com", f"write {ADDRESS}", EMPTY_SHA256, EMPTY_SHA256.upper(), DIGEST.upper(), "3053211654"]
)
TEXT = WORDS | ODD | st.just("12345") | st.just("12345-6789")
SAID = st.sampled_from(["", " ", "not-an-email", EMPTY_SHA256, DIGEST.upper(), "Jane.Doe@example.com"])
AMOUNTS = st.integers(0, 30).flatmap(lambda places: st.decimals("0", "999999999", places=places)) | st.sampled_from(
    [Decimal("1E+9"), Decimal("1E-20"), Decimal(0)]
)
NAMES = [
    "email", "Email", "emailsha256", "emailmd5", "zipsha256", "mobilesha256", "firstname", "dob", "unitno", "ipaddress",
    "rokt.x", "ROKT.y", "note", "seat", "amount", "transactionid",
]  # fmt: skip
EXTRAS = st.dictionaries(st.sampled_from(NAMES), TEXT, max_size=5)

#: Everything of objectData that contracts.md 3.4 names, and what it is hashed to.
KNOWN = frozenset(
    "email emailsha256 passbackconversiontrackingid amount currency quantity conversiontype productname sku "
    "paymenttype margin transactionid confirmationref firstname lastname mobile ipaddress title gender dob age "
    "language unitno address1 address2 billingaddress1 billingaddress2 city state country zipcode billingzipcode "
    "majorcat customertype shippingtype mobilesha256 firstnamesha256 lastnamesha256 zipsha256 zip4sha256 "
    "billingzipsha256 billingzip4sha256 ipaddresssha256".split()
)
CUSTOM = frozenset({"note", "seat"})
OF_A_BATCH = frozenset(
    "environment user_identities integration_attributes ip device_info user_attributes events event_type data "
    "event_name custom_event_type source_message_id timestamp_unixtime_ms custom_attributes other customerid other2 "
    "1277 http_header_user_agent ios_advertising_id android_advertising_id zip".split()
)
IN_CLEAR = re.compile(r"jane\.doe@example\.com", re.IGNORECASE)
TWICE = frozenset(hashlib.sha256(text.encode()).hexdigest() for text in (DIGEST, DIGEST.upper()))


@st.composite
def dispatches(draw: st.DrawFn) -> Dispatch:
    address = st.fixed_dictionaries(
        {}, optional={"line1": TEXT, "city": TEXT, "zip": TEXT.filter(lambda t: len(t) <= 32), "country": st.just("us")}
    )
    short = TEXT.filter(lambda text: len(text) <= 16)
    optional = {
        "value": AMOUNTS,
        "margin": AMOUNTS,
        "email": st.sampled_from(["Jane.Doe@Example.com", " jane.doe@example.com "]),
        "phone": TEXT.filter(lambda text: len(text) <= 64),
        "first_name": TEXT,
        "last_name": TEXT,
        "title": short,
        "gender": short,
        "language": short,
        "birth_date": st.dates(),
        "address": address,
        "billing_address": address,
        "customer_id": TEXT,
        "customer_type": short,
        "device": st.fixed_dictionaries({"id": WORDS, "os": st.sampled_from(["iOS", "Android", "Tizen"])}),
        "items": st.lists(st.fixed_dictionaries({"id": WORDS, "name": WORDS, "category": WORDS}), max_size=3),
        "extra": EXTRAS,
        "metadata": EXTRAS,
    }
    conversion: dict[str, Any] = {
        "name": draw(st.sampled_from(["purchase", "refund", "page_view", "own_name"])),
        "order_id": draw(WORDS),
        "currency": "USD",
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }
    zone = timezone(timedelta(minutes=draw(st.sampled_from([0, 330, -360]))))
    return dispatch(
        conversion,
        at=(NOW - timedelta(milliseconds=draw(st.integers(-300_000, 10**9)))).astimezone(zone),
        click_ids=draw(st.sampled_from([{}, {"adroll": "a"}, {"rokt": "r"}, {"rokt": CLICK}])),
        email=draw(SAID | st.none()),
        phone=draw(SAID | st.none()),
        customer_id=draw(SAID | st.none()),
        ip="12.34.56.89",
    )


def leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield every key with its scalar; a pair of the Event API as its name with its value."""
    if isinstance(value, Mapping):
        if value.keys() == {"name", "value"}:
            yield str(value["name"]), value["value"]
            return
        for name, inner in value.items():
            yield from leaves(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, key)
    else:
        yield key, value


def keys(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value if value.keys() != {"name", "value"} else [str(value["name"])]
        for inner in value.values():
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
@given(
    told=dispatches(),
    hashing=st.sampled_from(HASHINGS),
    flags=st.fixed_dictionaries(
        {"send_ip": st.booleans(), "postback": st.booleans(), "amount_as": st.sampled_from(["string", "number"])}
    ),
)
def test_no_payload_holds_what_must_not_leave(make: Any, told: Dispatch, hashing: Any, flags: Any) -> None:
    """No digest of nothing or of a digest, no power of ten, no naive time, no unknown name, no hidden e-mail."""
    destination: Rokt = make(account="12345", hashing=hashing, **flags)
    destination.check(told, now=NOW)
    sent = sending(destination, told)
    text, payload = sent.payload.decode(), json.loads(sent.payload)

    _check_text(text, hides_email=hashing == "strict" or (not isinstance(hashing, str) and "email" in hashing))
    for name, value in leaves(payload):
        _check_leaf(name, value)
    envelope = {"clientEventId", "eventType", "eventTime", "objectData", "metaData", "name", "value"}
    assert set(keys(payload)) <= KNOWN | CUSTOM | envelope | OF_A_BATCH
    assert _when(payload, told) == _milliseconds(min(told.at, NOW))


def _milliseconds(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


def _check_text(text: str, *, hides_email: bool) -> None:
    assert EMPTY_SHA256 not in text.lower()
    assert not any(digest in text for digest in TWICE)
    if hides_email:
        assert not IN_CLEAR.search(text)


def _check_leaf(name: str, value: object) -> None:
    assert value not in ("", None, [], {})
    if name in {"amount", "margin"}:
        assert not re.search("[eE]", json.dumps(value))
    if name.endswith("sha256") or name == "other":
        assert re.fullmatch("[0-9a-f]{64}", str(value))


def _when(payload: Any, told: Dispatch) -> int:
    """Return the time that is told, in milliseconds; a postback tells none."""
    if "eventTime" in payload:
        assert payload["eventTime"].endswith("Z")
        return _milliseconds(datetime.fromisoformat(payload["eventTime"]))
    if "events" in payload:
        milliseconds: int = payload["events"][0]["data"]["timestamp_unixtime_ms"]
        return milliseconds
    return _milliseconds(min(told.at, NOW))


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
@given(told=dispatches())
def test_a_payload_is_the_same_every_time(make: Any, told: Dispatch) -> None:
    """Rules are pure: the same dispatch at the same time has the same bytes, which its own surface takes."""
    destination: Rokt = make(account="12345", postback=True)

    assert sending(destination, told) == sending(make(account="12345", postback=True), told)
    destination.build([sending(destination, told)])
