"""The events of Rokt's Event API, v1 and v2 alike: fields, pairs, identity, time window (contracts.md 3.3)."""

import re
from calendar import monthrange
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

from kit.sandbox import checks
from kit.sandbox.checks import Rule
from kit.sandbox.record import Event, Refusal

IDENTITIES = ("email", "emailsha256", "passbackconversiontrackingid")

#: contracts.md 3.3: not older than 18 months, not more than 5 minutes ahead of receipt.
_MONTHS_BACK = 18
_AHEAD = timedelta(minutes=5)

_RFC_3339_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|\+00:00)\Z")


def instant(value: object) -> datetime | None:
    """Return the time of an RFC 3339 text in UTC; None for anything else, another offset included."""
    if not isinstance(value, str) or _RFC_3339_UTC.match(value) is None:
        return None
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except ValueError:
        return None


_FIELDS = (
    Rule("clientEventId", checks.text(1, 36), "is not a string of 1 to 36 characters", required=True),
    Rule("eventType", checks.text(1, 128), "is not a string of 1 to 128 characters", required=True),
    Rule("eventTime", lambda value: instant(value) is not None, "is not an RFC 3339 time in UTC", required=True),
    Rule("objectData", lambda value: isinstance(value, list), "is not a list"),
    Rule("metaData", lambda value: isinstance(value, list), "is not a list"),
)
_KNOWN = frozenset(rule.field for rule in _FIELDS)
_PAIR = (
    Rule("name", checks.text(1, 256), "is not a string of 1 to 256 characters", required=True),
    Rule("value", checks.text(0, 65_536), "is not a string of at most 65536 characters", required=True),
)
_VALUES = (
    Rule("email", checks.is_clean_email, "is not an address in lower case without spaces"),
    Rule("emailsha256", checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing"),
    Rule("passbackconversiontrackingid", checks.text(1, 65_536), "is empty"),
    Rule("amount", checks.is_decimal_text, "is not a decimal string", soft=True),
    Rule("margin", checks.is_decimal_text, "is not a decimal string", soft=True),
    Rule("currency", checks.is_currency, "is not an ISO 4217 code in capitals", soft=True),
    Rule("quantity", checks.is_count_text, "is not a whole number in a string", soft=True),
    *(
        Rule(name + "sha256", checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing", soft=True)
        for name in "mobile firstname lastname zip zip4 billingzip billingzip4".split()
    ),
)
#: contracts.md 3.4. A custom name may be any; one that differs from these in its capitals alone is a slip.
_NAMES = IDENTITIES + tuple(
    "amount currency quantity conversiontype productname sku paymenttype margin transactionid confirmationref "
    "firstname lastname mobile ipaddress ccbin title gender dob age language unitno address1 address2 billingaddress1 "
    "billingaddress2 city state country zipcode billingzipcode majorcat majorcatid minorcat minorcatid customertype "
    "shippingtype experience mobilesha256 firstnamesha256 lastnamesha256 zipsha256 zip4sha256 billingzipsha256 "
    "billingzip4sha256".split()
)


def name_problems(values: Mapping[str, object], place: int, at: str) -> Iterator[Refusal]:
    """Yield what is wrong with the names of attributes, and with a `sku` that is more than one (contracts.md 3.4)."""
    for name in values:
        plain = name.strip().lower()
        if plain == "emailmd5":
            message = "is not taken by this API: send email or emailsha256"
            yield Refusal(field=f"{at}{name}"[:96], message=message, event=place, soft=True)
        elif plain in _NAMES and name != plain:
            yield Refusal(field=f"{at}{name}"[:96], message=f"is written {plain}", event=place, soft=True)
    if "," in str(values.get("sku", "")):
        yield Refusal(field=f"{at}sku", message="is to be one SKU only", event=place, soft=True)


def earliest(now: datetime) -> datetime:
    """Return the oldest time that is taken: 18 calendar months back."""
    year, month = divmod(now.year * 12 + now.month - 1 - _MONTHS_BACK, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))


def pairs_of(event: Event) -> dict[str, str]:
    """Return the objectData of an event as a mapping, leaving out what is not a pair of strings."""
    found = event.get("objectData")
    return {
        pair["name"]: pair["value"]
        for pair in (found if isinstance(found, list) else ())
        if isinstance(pair, dict) and isinstance(pair.get("name"), str) and isinstance(pair.get("value"), str)
    }


def outside_window(event: Event, place: int, now: datetime) -> Refusal | None:
    at = instant(event.get("eventTime"))
    if at is None or earliest(now) <= at <= now + _AHEAD:
        return None
    words = "is older than 18 months" if at < now else "is more than 5 minutes ahead"
    return Refusal(field="eventTime", message=words, event=place)


def problems_of(event: Event, place: int) -> Iterator[Refusal]:
    yield from checks.broken(_FIELDS, event, event=place)
    for name in event.keys() - _KNOWN:
        yield Refusal(field=str(name)[:64], message="is not a field of an event", event=place, soft=True)
    for group in ("objectData", "metaData"):
        yield from _pair_problems(event.get(group), group, place)
    values = pairs_of(event)
    yield from checks.broken(_VALUES, values, event=place, at="objectData.")
    yield from name_problems(values, place, "objectData.")
    if event.get("eventType") == "conversion" and not any(values.get(name) for name in IDENTITIES):
        yield Refusal(field="objectData", message=f"hold none of {', '.join(IDENTITIES)}", event=place)


def _pair_problems(found: object, group: str, place: int) -> Iterator[Refusal]:
    names: set[str] = set()
    for index, pair in enumerate(found if isinstance(found, list) else ()):
        at = f"{group}[{index}]"
        if not isinstance(pair, dict):
            yield Refusal(field=at, message="is not an object with name and value", event=place)
            continue
        yield from checks.broken(_PAIR, pair, event=place, at=f"{at}.")
        name = pair.get("name")
        if not isinstance(name, str):
            continue
        if name.lower().startswith("rokt."):
            yield Refusal(field=f"{at}.name", message="starts with rokt., which is reserved", event=place)
        if name in names:
            yield Refusal(field=f"{at}.name", message="comes twice", event=place, soft=True)
        names.add(name)
