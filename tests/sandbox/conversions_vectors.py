"""Rokt's Conversions API's batches as contracts.md 9.3 prints them."""

from copy import deepcopy
from typing import Any

from kit.sandbox import Event

from .vectors import basic

URL = "/rokt-conversions/v2/events"
BULK = "/rokt-conversions/v2/bulkevents"
HEADERS = {"Authorization": basic("key-1", "secret-1"), "Content-Type": "application/json", "Charset": "utf-8"}
SHA = "08168cd80dfd534ab0f10af10f1303fe00af2d43ab5c1432360d137f8197e17a"


def event(order: str = "order-123", *, message: str = "msg-001", **attributes: Any) -> Event:
    """Return the event of CP-1 with these custom attributes changed; one that is set to ... is left out."""
    changed = {
        "conversiontype": "Order Completed",
        "confirmationref": order,
        "amount": "99.99",
        "currency": "USD",
    } | attributes
    return {
        "event_type": "custom_event",
        "data": {
            "event_name": "conversion",
            "custom_event_type": "transaction",
            "source_message_id": message,
            "timestamp_unixtime_ms": 1705579200000,
            "custom_attributes": {name: value for name, value in changed.items() if value is not ...},
        },
    }


def membership(audience: str, status: str, message: str = "aud_msg-001") -> Event:
    return {
        "event_type": "custom_event",
        "data": {
            "event_name": "audiencemembershipupdate",
            "custom_event_type": "other",
            "source_message_id": message,
            "timestamp_unixtime_ms": 1705579200000,
            "custom_attributes": {"audience_name": audience, "status": status},
        },
    }


def batch(*events: Event, **changed: Any) -> Event:
    """Return CP-1 of contracts.md 9.3 with these keys changed; a key set to ... is left out."""
    whole: Event = {
        "environment": "production",
        "user_identities": {"email": "test@example.com", "customerid": "user-123"},
        "ip": "192.168.1.1",
        "events": list(events or (event(),)),
    }
    return {name: value for name, value in (whole | changed).items() if value is not ...}


def at(found: Event, path: str, value: object) -> Event:
    """Return a copy in which the value at this path is another; ... removes it."""
    changed = deepcopy(found)
    *way, last = path.split(".")
    inner: Any = changed
    for step in way:
        inner = inner[int(step)] if step.isdecimal() else inner.setdefault(step, {})
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return changed
