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

from kit.destinations import Holdout, Rokt
from kit.identity import EMPTY_SHA256, sha256
from kit.model import Dispatch

from .dispatch_samples import NOW, dispatch, sending
from .rokt_samples import CLICK, conversions, v1, v2

HOLDOUT = Holdout(name="2026-q4", percent=50)
SURFACES = {"v2": v2, "v1": v1, "conversions": conversions}
HASHINGS: tuple[Any, ...] = ("strict", "hightouch", "raw", frozenset({"email", "zipcode"}), frozenset({"lastname"}))

DIGEST = sha256("jane.doe@example.com")
#: Addresses as people have them, the shortest too: no cut of a field's makes one into none.
ADDRESSES = ["a@b.co", "Jane.Doe@Example.com", "j@x.fr"]
FORMS = ["{}", "for {}", "{}!", "<{}>", "{}-1", "u:{}"]
WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=12).filter(
    str.strip
)
SHOWING = st.builds(lambda form, address: form.format(address), st.sampled_from(FORMS), st.sampled_from(ADDRESSES))
ENCODED = st.sampled_from(["?e=a%40b.co", "a%2540b.co"])
#: What people write into the wrong field, besides the right thing.
ODD = st.sampled_from([EMPTY_SHA256, EMPTY_SHA256.upper(), DIGEST.upper(), "3053211654"])
TEXT = WORDS | SHOWING | ENCODED | ODD | st.just("12345") | st.just("12345-6789")
SAID = st.sampled_from(["", " ", "not-an-email", EMPTY_SHA256, DIGEST.upper(), "Jane.Doe@example.com", "a@b.co"])
AMOUNTS = st.integers(0, 30).flatmap(lambda places: st.decimals("0", "999999999", places=places)) | st.sampled_from(
    [Decimal("1E+9"), Decimal("1E-20"), Decimal(0)]
)
NAMES = st.sampled_from([
    "email", "Email", "emailsha256", "EmailSHA256", " emailsha256 ", "emailmd5", "zipsha256", "MobileSha256",
    "firstname", "dob", "unitno", "UnitNo", "ipaddress", "rokt.x", "ROKT.y", " rokt.z", "note", "seat", "amount",
    "transactionid", "Quantity", "quantity", "PaymentType", "majorcat", "MajorCatId", "SKU", "Holdout",
    "City", "gender",
])  # fmt: skip
EXTRAS = st.dictionaries(NAMES | SHOWING, TEXT | st.just("2"), max_size=5)

CUSTOM = frozenset({"note", "seat"})
#: Of the order and of the person, by the names of contracts.md 3.4 and 3.5; `holdout` is the kit's own.
OF_THE_ORDER = frozenset(
    "amount currency quantity conversiontype productname sku paymenttype margin confirmationref majorcat majorcatid "
    "customertype shippingtype holdout".split()
)
OF_THE_PERSON = frozenset(
    "firstname lastname mobile title gender dob age language unitno address1 address2 billingaddress1 billingaddress2 "
    "city state country billingzipcode mobilesha256 firstnamesha256 lastnamesha256 zipsha256 zip4sha256 "
    "billingzipsha256 billingzip4sha256".split()
)
IDENTITIES = frozenset({"email", "emailsha256", "passbackconversiontrackingid"})
#: The names that each level of a payload may hold; "" is the outermost one.
LEVELS: Mapping[str, Mapping[str, frozenset[str]]] = {
    "events": {
        "": frozenset({"clientEventId", "eventType", "eventTime", "objectData", "metaData"}),
        "objectData": OF_THE_ORDER
        | OF_THE_PERSON
        | IDENTITIES
        | CUSTOM
        | {"transactionid", "zipcode", "ipaddress", "ipaddresssha256"},
        "metaData": OF_THE_ORDER | OF_THE_PERSON | {"emailsha256"} | CUSTOM,
    },
    "batch": {
        "": frozenset(
            {
                "environment",
                "user_identities",
                "integration_attributes",
                "ip",
                "device_info",
                "user_attributes",
                "events",
            }
        ),
        "user_identities": frozenset({"email", "other", "customerid", "other2"}),
        "integration_attributes": frozenset({"1277"}),
        "integration_attributes.1277": frozenset({"passbackconversiontrackingid"}),
        "device_info": frozenset({"http_header_user_agent", "ios_advertising_id", "android_advertising_id"}),
        "user_attributes": OF_THE_PERSON | {"zip"},
        "events": frozenset({"event_type", "data"}),
        "events.data": frozenset(
            {"event_name", "custom_event_type", "source_message_id", "timestamp_unixtime_ms", "custom_attributes"}
        ),
        "events.data.custom_attributes": OF_THE_ORDER | CUSTOM,
    },
    "postback": {"": frozenset({"passbackconversiontrackingid", "conversiontype"})},
}
IN_CLEAR = re.compile("|".join(re.escape(address).replace("@", "(@|%(25)*40)") for address in ADDRESSES), re.IGNORECASE)
TWICE = frozenset(hashlib.sha256(text.encode()).hexdigest() for text in (DIGEST, DIGEST.upper()))


@st.composite
def dispatches(draw: st.DrawFn) -> Dispatch:
    address = st.fixed_dictionaries(
        {}, optional={"line1": TEXT, "city": TEXT, "zip": TEXT.filter(lambda t: len(t) <= 32), "country": st.just("us")}
    )
    short = TEXT.filter(lambda text: len(text) <= 16)
    agents = st.none() | st.just("Browser/1.0") | SHOWING
    optional = {
        "value": AMOUNTS,
        "margin": AMOUNTS,
        "email": st.sampled_from(["Jane.Doe@Example.com", " jane.doe@example.com "]),
        "phone": TEXT.filter(lambda text: len(text) <= 64),
        "payment_type": short,
        "shipping_type": short,
        "conversion_type": short,
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
        "device": st.fixed_dictionaries({"id": TEXT, "os": st.sampled_from(["iOS", "Android", "Tizen"])}),
        "items": st.lists(st.fixed_dictionaries({"id": TEXT, "name": TEXT, "category": TEXT}), max_size=3),
        "extra": EXTRAS,
        "metadata": EXTRAS,
    }
    conversion: dict[str, Any] = {
        "name": draw(st.sampled_from(["purchase", "refund", "page_view", "own_name"]) | SHOWING),
        "order_id": draw(WORDS | SHOWING),
        "currency": "USD",
        **draw(st.fixed_dictionaries({}, optional=optional)),
    }
    zone = timezone(timedelta(minutes=draw(st.sampled_from([0, 330, -360]))))
    return dispatch(
        conversion,
        event_id=draw(st.just("e1") | SHOWING),
        at=(NOW - timedelta(milliseconds=draw(st.integers(-300_000, 10**9)))).astimezone(zone),
        click_ids=draw(
            st.sampled_from(
                [
                    {},
                    {"adroll": "a"},
                    {"rokt": "r"},
                    {"rokt": CLICK},
                    {"rokt": "a@b.co"},
                    {"rokt": "a@b.co".rjust(32, "x")},
                ]
            )
        ),
        email=draw(SAID | st.none()),
        phone=draw(SAID | st.none()),
        customer_id=draw(SAID | st.none()),
        ip="12.34.56.89",
        user_agent=draw(agents),
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


def levels(value: Any, level: str = "") -> Iterator[tuple[str, str]]:
    """Yield each key with the level it stands on; the names of pairs stand on the level of their list."""
    if isinstance(value, list):
        for inner in value:
            yield from levels(inner, level)
    elif isinstance(value, Mapping) and value.keys() == {"name", "value"}:
        yield level, value["name"]
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield level, name
            yield from levels(inner, f"{level}.{name}".lstrip("."))


@pytest.mark.parametrize("make", SURFACES.values(), ids=SURFACES)
@given(
    told=dispatches(),
    hashing=st.sampled_from(HASHINGS),
    number=st.booleans(),
    flags=st.fixed_dictionaries(
        {"send_ip": st.booleans(), "postback": st.booleans(), "holdout": st.none() | st.just(HOLDOUT)}
    ),
)
def test_no_payload_holds_what_must_not_leave(
    make: Any, told: Dispatch, hashing: Any, number: bool, flags: Any
) -> None:
    """No digest of nothing or of a digest, no power of ten, no naive time, no hidden e-mail in any field; and on each
    level only names that Rokt has there, each once."""
    of_batches = {"amount_as": "number"} if number and make is conversions else {}
    destination: Rokt = make(account="12345", hashing=hashing, **flags, **of_batches)
    destination.check(told, now=NOW)
    sent = sending(destination, told)
    text, payload = sent.payload.decode(), json.loads(sent.payload)

    hides_email = hashing == "strict" or (not isinstance(hashing, str) and "email" in hashing)
    _check_text(text, hides_email=hides_email)
    for name, value in leaves(payload):
        _check_leaf(name, value)
    _check_names(payload, hides_email=hides_email)
    assert _when(payload, told) == _milliseconds(min(told.at, NOW))
    remarks = destination.remarks(told, now=NOW)
    assert not IN_CLEAR.search(" ".join(remarks))


def _check_names(payload: Any, *, hides_email: bool) -> None:
    surface = "events" if "eventType" in payload else "batch" if "environment" in payload else "postback"
    found = list(levels(payload))
    known = LEVELS[surface]
    # Where addresses are not hidden, a shop may name a field by one.
    strange = [(level, name) for level, name in found if level not in known or name not in known[level]]
    assert [name for _, name in strange if hides_email or not IN_CLEAR.search(name)] == []
    if surface == "events":
        pairs = [one for one in found if one[0] in {"objectData", "metaData"}]
        assert len({(level, name.lower()) for level, name in pairs}) == len(pairs)


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
