"""The batches of Rokt's Conversions API: one user's identities, attributes and events (contracts.md 4.2 and 4.3)."""

from collections.abc import Iterator

from kit.sandbox import checks
from kit.sandbox.checks import Rule
from kit.sandbox.record import Event, Refusal
from kit.sandbox.rokt_events import name_problems

CONVERSION = "conversion"
MEMBERSHIP = "audiencemembershipupdate"

#: mParticle's number for Rokt.
_ROKT = "1277"


def _is_milliseconds(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and len(str(value)) == 13


def _is_attribute(value: object) -> bool:
    return all(checks.is_scalar(item) for item in value) if isinstance(value, list) else checks.is_scalar(value)


_BATCH = (
    Rule("environment", checks.one_of(("production", "development")), "is no environment", required=True),
    Rule("schema_version", lambda value: value == 2, "is not 2", soft=True),
    Rule("user_identities", checks.is_object, "is not an object"),
    Rule("integration_attributes", checks.is_object, "is not an object"),
    Rule("ip", checks.is_ip, "is not an IPv4 or IPv6 address", soft=True),
    Rule("device_info", checks.is_object, "is not an object"),
    Rule("user_attributes", checks.is_object, "is not an object"),
    Rule("events", checks.is_list, "is not a list"),
    Rule("consent_state", checks.is_object, "is not an object"),
)
_IDENTITIES = (
    Rule("email", checks.is_clean_email, "is not a raw address in lower case", soft=True),
    Rule("other", checks.is_lower_sha256, "is not a SHA-256 digest in lower-case hex", soft=True),
    Rule("customerid", checks.text(1, 256), "is not a string of 1 to 256 characters"),
    Rule("other2", checks.text(1, 256), "is not a string of 1 to 256 characters"),
)
_DEVICE = (
    Rule("http_header_user_agent", checks.text(1, 8192), "is not a string", soft=True),
    *(
        Rule(name, checks.text(1, 128), "is not a string", soft=True)
        for name in ("ios_advertising_id", "android_advertising_id", "ios_idfv", "android_uuid")
    ),
)
_EVENT = (
    Rule("event_type", checks.one_of(("custom_event",)), "is not custom_event", required=True),
    Rule("data", checks.is_object, "is not an object", required=True),
)
_DATA = (
    Rule("event_name", checks.text(1, 256), "is not a string of 1 to 256 characters", required=True),
    Rule("custom_event_type", checks.text(1, 64), "is not a string", required=True),
    Rule("timestamp_unixtime_ms", _is_milliseconds, "is not 13 digits of epoch milliseconds", required=True, soft=True),
    Rule("source_message_id", checks.text(1, 256), "is not a string of 1 to 256 characters", required=True, soft=True),
    Rule("custom_attributes", checks.is_object, "is not an object", required=True, soft=True),
)
_CONVERSION = (
    Rule("conversiontype", checks.text(1, 256), "is not a string of 1 to 256 characters", required=True, soft=True),
    Rule("confirmationref", checks.text(1, 256), "is not a string of 1 to 256 characters", soft=True),
    Rule("amount", checks.is_decimal, "is not a decimal", soft=True),
    # The one rejection that is known (contracts.md 4.1).
    Rule("currency", lambda value: isinstance(value, str), "is not a string"),
    Rule("currency", checks.is_currency, "is not an ISO 4217 code in capitals", soft=True),
)
_MEMBERSHIP = (
    Rule("audience_name", checks.text(1, 256), "is not a string of 1 to 256 characters", required=True),
    Rule("status", checks.one_of(("add", "drop")), "is neither add nor drop", required=True),
)
_KINDS = {CONVERSION: ("transaction", _CONVERSION), MEMBERSHIP: ("other", _MEMBERSHIP)}


def part(found: Event, *path: str) -> Event:
    """Return the object at this path; {} where there is none."""
    for name in path:
        inner = found.get(name)
        found = inner if isinstance(inner, dict) else {}
    return found


def events_of(batch: Event) -> tuple[Event, ...]:
    """Return the batch once for each of its events, which alone it then holds; as it is when it has none."""
    events = batch.get("events")
    if not isinstance(events, list) or not events:
        return (batch,)
    return tuple(batch | {"events": [event]} for event in events)


def data_of(one: Event) -> Event:
    """Return the `data` of a batch that holds one event."""
    events = one.get("events")
    event = events[0] if isinstance(events, list) and events else None
    return part(event, "data") if isinstance(event, dict) else {}


def identities_of(batch: Event) -> dict[str, str]:
    """Return the names of this user that the vendor knows people by, the best first, with their values."""
    named = part(batch, "user_identities")
    device = part(batch, "device_info")
    held = {rule.field: named.get(rule.field) for rule in _IDENTITIES}
    held["passbackconversiontrackingid"] = _click(batch)
    held |= {rule.field: device.get(rule.field) for rule in _DEVICE[1:]}
    return {name: value for name, value in held.items() if isinstance(value, str) and value}


def problems_of(batch: Event, place: int) -> Iterator[Refusal]:
    """Yield what is wrong; `place` is the batch's, and fields are paths inside it."""
    yield from checks.broken(_BATCH, batch, event=place)
    yield from _unknown(batch, _BATCH, place, "")
    yield from _user_problems(batch, place)
    events = batch.get("events")
    ids: set[object] = set()
    for index, event in enumerate(events if isinstance(events, list) else ()):
        at = f"events[{index}]"
        if not isinstance(event, dict):
            yield Refusal(field=at, message="is not an object", event=place)
            continue
        yield from _event_problems(event, place, at)
        message_id = part(event, "data").get("source_message_id")
        if isinstance(message_id, str) and message_id in ids:
            yield Refusal(field=f"{at}.data.source_message_id", message="comes twice", event=place, soft=True)
        ids.add(message_id if isinstance(message_id, str) else None)


def remarks_on(batch: Event) -> Iterator[str]:
    """Yield what is taken as Segment sends it, though no page shows it."""
    for name in ("device_info", "user_attributes"):
        if batch.get(name) == {}:
            yield f"{name} is empty"
    for one in events_of(batch):
        if checks.is_number(part(data_of(one), "custom_attributes").get("amount")):
            yield "amount is a number, not a string"


def _user_problems(batch: Event, place: int) -> Iterator[Refusal]:
    named, device = part(batch, "user_identities"), part(batch, "device_info")
    yield from checks.broken(_IDENTITIES, named, event=place, at="user_identities.")
    yield from _unknown(named, _IDENTITIES, place, "user_identities.")
    yield from checks.broken(_DEVICE, device, event=place, at="device_info.")
    yield from _unknown(device, _DEVICE, place, "device_info.")
    for name, value in part(batch, "user_attributes").items():
        field = f"user_attributes.{name}"[:64]
        if not _is_attribute(value):
            yield Refusal(field=field, message="is neither a scalar nor a list of them", event=place, soft=True)
        elif name.endswith("sha256") and not checks.is_lower_sha256(value):
            yield Refusal(field=field, message="is not a SHA-256 digest in lower-case hex", event=place, soft=True)
    yield from name_problems(part(batch, "user_attributes"), place, "user_attributes.")
    if not identities_of(batch):
        yield Refusal(field="user_identities", message="name nobody", event=place, soft=True)
    if named.get("other2") != _click(batch):
        message = f"and integration_attributes.{_ROKT}.passbackconversiontrackingid are to hold the same click id"
        yield Refusal(field="user_identities.other2", message=message, event=place, soft=True)


def _event_problems(event: Event, place: int, at: str) -> Iterator[Refusal]:
    yield from checks.broken(_EVENT, event, event=place, at=f"{at}.")
    yield from _unknown(event, _EVENT, place, f"{at}.")
    data = part(event, "data")
    if not data:
        return
    yield from checks.broken(_DATA, data, event=place, at=f"{at}.data.")
    yield from _unknown(data, _DATA, place, f"{at}.data.")
    attributes = part(data, "custom_attributes")
    kind, rules = _KINDS.get(str(data.get("event_name")), ("", ()))
    yield from checks.broken(rules, attributes, event=place, at=f"{at}.data.custom_attributes.")
    if kind and data.get("custom_event_type", kind) != kind:
        yield Refusal(field=f"{at}.data.custom_event_type", message=f"is not {kind}", event=place, soft=True)
    yield from name_problems(attributes, place, f"{at}.data.custom_attributes.")
    for name, value in attributes.items():
        if not checks.is_scalar(value):
            field = f"{at}.data.custom_attributes.{name}"[:96]
            yield Refusal(field=field, message="is not a scalar", event=place, soft=True)


def _unknown(found: Event, rules: tuple[Rule, ...], place: int, at: str) -> Iterator[Refusal]:
    return checks.unknown(found, [rule.field for rule in rules], "is not known here", event=place, at=at)


def _click(batch: Event) -> object:
    return part(batch, "integration_attributes", _ROKT).get("passbackconversiontrackingid")
