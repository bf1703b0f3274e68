"""Rokt's sandbox refuses the events that contracts.md 3.3 and 3.4 forbid, each for itself, and no other."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kit.sandbox import Event, Sandbox
from kit.sandbox.rokt_events import earliest

from .rokt_vectors import HEADERS, NOBODY, SHA, URL, body, conversion, pairs
from .vectors import NOW, VECTORS


@pytest.mark.parametrize(
    "event",
    [
        conversion(objectData=pairs(email="john@email.com")),
        conversion(objectData=pairs(emailsha256=SHA.upper())),
        conversion(objectData=pairs(passbackconversiontrackingid="zz"), metaData=pairs(note="x")),
        conversion(eventType="signup", objectData=...),
        conversion(eventTime="2026-01-15T00:05:00Z"),
        conversion(eventTime="2026-01-15T00:04:59Z"),
        conversion(eventTime="2024-07-15T00:00:00Z"),
        conversion(eventTime="2026-01-14T00:00:00.123456789+00:00"),
        conversion(objectData=pairs(email="a@b.c", custom="x" * 65_536, **{"n" * 256: ""})),
        conversion(clientEventId="x" * 36, eventType="conversion"),
        conversion(eventType="t" * 128),
    ],
)
async def test_every_documented_form_is_taken(sandbox: Sandbox, client: httpx.AsyncClient, event: Event) -> None:
    """Each single identity, the ends of the time window and the longest texts are counted."""
    answer = await client.post(URL, headers=HEADERS, json=body(event))

    assert answer.json() == {"data": {"unprocessedRecords": []}}
    assert sandbox.rokt.accepted == (event,)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"clientEventId": ...}, "clientEventId is required"),
        ({"clientEventId": ""}, "clientEventId is not a string of 1 to 36 characters"),
        ({"clientEventId": "x" * 37}, "clientEventId is not a string of 1 to 36 characters"),
        ({"eventType": "t" * 129}, "eventType is not a string of 1 to 128 characters"),
        ({"eventTime": ...}, "eventTime is required"),
        ({"eventTime": "2026-01-14T18:00:00-06:00"}, "eventTime is not an RFC 3339 time in UTC"),
        ({"eventTime": "2026-01-14T18:00:00"}, "eventTime is not an RFC 3339 time in UTC"),
        ({"eventTime": "2026-02-30T18:00:00Z"}, "eventTime is not an RFC 3339 time in UTC"),
        ({"eventTime": 1768435110}, "eventTime is not an RFC 3339 time in UTC"),
        ({"objectData": {"email": "a@b.c"}}, "objectData is not a list"),
        ({"objectData": ["email"]}, "objectData[0] is not an object with name and value"),
        ({"objectData": [{"name": "email"}]}, "objectData[0].value is required"),
        ({"objectData": pairs(email="a@b.c", quantity=2)}, "objectData[1].value is not a string of at most"),
        ({"objectData": pairs(email="a@b.c", x="y" * 65_537)}, "objectData[1].value is not a string of at most"),
        ({"objectData": pairs(email="a@b.c", **{"n" * 257: ""})}, "objectData[1].name is not a string of 1 to 256"),
        ({"objectData": pairs(email="a@b.c", **{"RoKt.x": "1"})}, "objectData[1].name starts with rokt."),
        ({"objectData": pairs(email="a@b.c") * 2}, "objectData[1].name comes twice"),
        ({"metaData": pairs(**{"rokt.x": "1"})}, "metaData[0].name starts with rokt."),
        ({"objectData": ...}, "objectData hold none of email, emailsha256, passbackconversiontrackingid"),
        ({"objectData": pairs(transactionid="1")}, "objectData hold none of"),
        ({"objectData": pairs(email=" John@Email.com ")}, "objectData.email is not an address in lower case"),
        ({"objectData": pairs(email="John@email.com")}, "objectData.email is not an address in lower case"),
        ({"objectData": pairs(email="")}, "objectData.email is not an address"),
        ({"objectData": pairs(emailsha256=NOBODY)}, "objectData.emailsha256 is not a SHA-256 digest in hex"),
        ({"objectData": pairs(emailsha256=SHA[:-1])}, "objectData.emailsha256 is not a SHA-256 digest in hex"),
        ({"objectData": pairs(email="a@b.c", amount="1E+2")}, "objectData.amount is not a decimal string"),
        ({"objectData": pairs(email="a@b.c", currency="usd")}, "objectData.currency is not an ISO 4217 code"),
        ({"objectData": pairs(email="a@b.c", emailmd5="d" * 32)}, "objectData.emailmd5 is not taken by this API"),
        ({"objectData": pairs(email="a@b.c", sku="a,b")}, "objectData.sku is to be one SKU only"),
        ({"objectData": pairs(email="a@b.c", Quantity="2")}, "objectData.Quantity is written quantity"),
        ({"objectData": pairs(email="a@b.c", EmailSHA256=SHA)}, "objectData.EmailSHA256 is written emailsha256"),
        ({"unknown": "1"}, "unknown is not a field of an event"),
    ],
)
async def test_a_wrong_event_comes_back_and_the_others_count(
    sandbox: Sandbox, client: httpx.AsyncClient, changed: dict[str, Any], words: str
) -> None:
    """It stands in unprocessedRecords with its reason and as it was sent; its neighbour is counted."""
    wrong = conversion(**changed)

    answer = await client.post(URL, headers=HEADERS, json=body(wrong, conversion()))

    (record,) = answer.json()["data"]["unprocessedRecords"]
    assert record["error"]["code"] == "ValidationError"
    assert words in record["error"]["message"]
    assert record["record"] == wrong
    assert sandbox.rokt.accepted == (conversion(),)
    assert sandbox.rokt.refusals[0].refused[0].event == 0


@pytest.mark.parametrize("time", ["2024-07-14T00:00:00Z", "2024-07-14T23:59:59Z", "2026-01-15T00:05:01Z"])
async def test_an_event_outside_the_window_refuses_the_request(
    sandbox: Sandbox, client: httpx.AsyncClient, time: str
) -> None:
    """By default the whole request is answered 400 RequestValidationError, its right events included."""
    answer = await client.post(URL, headers=HEADERS, json=body(conversion(), conversion(eventTime=time)))

    assert (answer.status_code, answer.json()["data"]["code"]) == (400, "RequestValidationError")
    assert sandbox.rokt.accepted == ()


async def test_an_event_outside_the_window_can_refuse_itself_alone() -> None:
    """With rokt_window="event" it comes back as an unprocessed record."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, rokt_window="event")
    late = conversion(eventTime="2024-07-14T00:00:00Z")

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        answer = await client.post(URL, headers=HEADERS, json=body(late, conversion()))

    assert [each["record"] for each in answer.json()["data"]["unprocessedRecords"]] == [late]
    assert sandbox.rokt.accepted == (conversion(),)


def test_eighteen_months_are_calendar_months() -> None:
    """The last of August reaches back to the last of February."""
    assert earliest(datetime(2025, 8, 31, tzinfo=UTC)) == datetime(2024, 2, 29, tzinfo=UTC)
