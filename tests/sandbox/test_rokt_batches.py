"""Rokt's Conversions API refuses the batches that contracts.md 4 forbids, and takes every form that is known."""

import httpx
import pytest

from kit.sandbox import Event, Sandbox

from .conversions_vectors import HEADERS, SHA, URL, at, batch, event, membership

CLICK = {
    "user_identities": {"email": "user@test.com", "customerid": "user-444", "other2": "rokt-click-id-999"},
    "integration_attributes": {"1277": {"passbackconversiontrackingid": "rokt-click-id-999"}},
}


@pytest.mark.parametrize(
    ("changed", "warnings"),
    [
        (CLICK, ()),
        ({"user_identities": {"other": SHA}}, ()),
        ({"user_identities": ..., "device_info": {"ios_advertising_id": "EA7583CD-A667-48BC-B806-42ECB2B48606"}}, ()),
        ({"schema_version": 2, "user_attributes": {"firstname": "Jo", "tags": ["a", 1], "mobilesha256": SHA}}, ()),
        ({"consent_state": {"ccpa": {"data_sale_opt_out": {"consented": False}}}}, ()),
        ({"device_info": {}, "user_attributes": {}}, ("device_info is empty", "user_attributes is empty")),
        ({"events": [event(amount=99.99)]}, ("amount is a number, not a string",)),
        ({"events": [event(confirmationref=..., extra=True)]}, ()),
    ],
)
async def test_every_documented_form_is_taken(
    sandbox: Sandbox, client: httpx.AsyncClient, changed: Event, warnings: tuple[str, ...]
) -> None:
    """CP-2, CP-3, device ids, attributes and Segment's own shape count; what only Segment sends is warned of."""
    answer = await client.post(URL, headers=HEADERS, json=batch(**changed))

    assert answer.status_code == 202, answer.text
    assert sandbox.rokt_conversions.counted == 1
    assert sandbox.rokt_conversions.requests[0].warnings == warnings


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("environment", ..., "environment"),
        ("environment", "test", "environment"),
        ("schema_version", 1, "schema_version"),
        ("user_identities", [], "user_identities"),
        ("user_identities", {}, "user_identities"),
        ("user_identities.email", "Test@Example.com", "user_identities.email"),
        ("user_identities.email", SHA, "user_identities.email"),
        ("user_identities.other", SHA.upper(), "user_identities.other"),
        ("user_identities.customerid", 7, "user_identities.customerid"),
        ("user_identities.other2", "", "user_identities.other2"),
        ("user_identities.customer_id", "user-123", "user_identities.customer_id"),
        ("user_identities.other_id_2", "click", "user_identities.other_id_2"),
        ("user_identities.other2", "click-in-one-place", "user_identities.other2"),
        ("integration_attributes", {"1277": {"passbackconversiontrackingid": "click"}}, "user_identities.other2"),
        ("integration_attributes", [], "integration_attributes"),
        ("ip", "192.168", "ip"),
        ("device_info", "phone", "device_info"),
        ("device_info.model", "x", "device_info.model"),
        ("device_info.ios_idfv", 5, "device_info.ios_idfv"),
        ("user_attributes", [], "user_attributes"),
        ("user_attributes.address", {"city": "Oslo"}, "user_attributes.address"),
        ("user_attributes.firstnamesha256", "Jo", "user_attributes.firstnamesha256"),
        ("user_attributes.emailmd5", "d" * 32, "user_attributes.emailmd5"),
        ("user_attributes.FirstName", "Jo", "user_attributes.FirstName"),
        ("events", [event(sku="a,b")], "events[0].data.custom_attributes.sku"),
        ("events", [event(emailmd5="d" * 32)], "events[0].data.custom_attributes.emailmd5"),
        ("events", [event(Quantity="2")], "events[0].data.custom_attributes.Quantity"),
        ("consent_state", True, "consent_state"),
        ("mpid", 5, "mpid"),
        ("events", {}, "events"),
        ("events.0.event_type", ..., "events[0].event_type"),
        ("events.0.event_type", "commerce_event", "events[0].event_type"),
        ("events.0.data", ..., "events[0].data"),
        ("events.0.more", 1, "events[0].more"),
        ("events.0.data.event_name", ..., "events[0].data.event_name"),
        ("events.0.data.custom_event_type", ..., "events[0].data.custom_event_type"),
        ("events.0.data.custom_event_type", "other", "events[0].data.custom_event_type"),
        ("events.0.data.timestamp_unixtime_ms", ..., "events[0].data.timestamp_unixtime_ms"),
        ("events.0.data.timestamp_unixtime_ms", 1705579200, "events[0].data.timestamp_unixtime_ms"),
        ("events.0.data.timestamp_unixtime_ms", "1705579200000", "events[0].data.timestamp_unixtime_ms"),
        ("events.0.data.source_message_id", ..., "events[0].data.source_message_id"),
        ("events.0.data.custom_attributes", [], "events[0].data.custom_attributes"),
        ("events.0.data.more", 1, "events[0].data.more"),
        ("events.0.data.custom_attributes.conversiontype", ..., "events[0].data.custom_attributes.conversiontype"),
        ("events.0.data.custom_attributes.confirmationref", 7, "events[0].data.custom_attributes.confirmationref"),
        ("events.0.data.custom_attributes.amount", "9,99", "events[0].data.custom_attributes.amount"),
        ("events.0.data.custom_attributes.currency", 840, "events[0].data.custom_attributes.currency"),
        ("events.0.data.custom_attributes.currency", "usd", "events[0].data.custom_attributes.currency"),
        ("events.0.data.custom_attributes.items", [1], "events[0].data.custom_attributes.items"),
    ],
)
async def test_a_wrong_batch_alone_is_answered_400(
    sandbox: Sandbox, client: httpx.AsyncClient, path: str, value: object, field: str
) -> None:
    """In the vendor's error shape, with the path of what is wrong; nothing is counted."""
    answer = await client.post(URL, headers=HEADERS, json=at(batch(), path, value))

    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["code"]) == (400, "BAD_REQUEST")
    assert "x-mp-rate-limit-percentage-used" not in answer.headers
    assert f"Path '{field}', line 1, position " in error["message"]
    assert sandbox.rokt_conversions.refusals[0].refused[0].field == field
    assert sandbox.rokt_conversions.counted == 0


@pytest.mark.parametrize(
    ("events", "field"),
    [
        (["conversion"], "events[0]"),
        ([event("1"), event("2")], "events[1].data.source_message_id"),
        ([membership("", "add")], "events[0].data.custom_attributes.audience_name"),
        ([membership("vip", "remove")], "events[0].data.custom_attributes.status"),
    ],
)
async def test_a_wrong_event_refuses_its_batch(client: httpx.AsyncClient, events: list[Event], field: str) -> None:
    """What is no event, an id that comes twice, and a membership without a name or with another status."""
    answer = await client.post(URL, headers=HEADERS, json=batch(events=events))

    assert answer.status_code == 400
    assert f"Path '{field}'" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("user_identities", {}),
        ("user_identities.customer_id", "user-123"),
        ("events.0.data.source_message_id", ...),
        ("events.0.data.custom_attributes.currency", "usd"),
    ],
)
async def test_lenient_takes_what_the_live_service_is_known_to_take(
    lenient: Sandbox, lenient_client: httpx.AsyncClient, path: str, value: object
) -> None:
    """With a warning; a currency that is no string is refused all the same."""
    taken = await lenient_client.post(URL, headers=HEADERS, json=at(batch(), path, value))
    refused = await lenient_client.post(URL, headers=HEADERS, json=batch(event(currency=840)))

    assert (taken.status_code, refused.status_code) == (202, 400)
    assert len(lenient.rokt_conversions.requests[0].warnings) == 1
