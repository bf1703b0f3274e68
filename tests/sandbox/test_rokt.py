"""Rokt's sandbox refuses what contracts.md 3 forbids, by the request or by the event, and nothing else."""

from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from kit.sandbox import Event, Sandbox
from kit.sandbox.rokt import earliest

from .vectors import NOW, VECTORS

URL = "/rokt/v2/events"
HEADERS = {
    "Content-Type": "application/json",
    "Charset": "utf-8",
    "Rokt-Version": "2020-05-21",
    "Authorization": "Basic cnB1Yi0xMTExOnJzZWMtMjIyMg==",
}
SHA = "fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f"
NOBODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def pairs(**values: Any) -> list[Event]:
    return [{"name": name, "value": value} for name, value in values.items()]


def conversion(**changed: Any) -> Event:
    """Return RK-1 of contracts.md 9.2 with these fields changed; a field set to ... is left out."""
    event: Event = {
        "clientEventId": "ff3bd69c-ca74-4337-af91-4d5d0bd00e38",
        "eventType": "conversion",
        "eventTime": "2025-12-22T10:21:29.339Z",
        "objectData": pairs(
            passbackconversiontrackingid="1bc29b36f623ba82aaf6724fd3b16718",
            emailsha256=SHA,
            transactionid="order-1001",
            confirmationref="order-1001",
            amount="99.80",
            currency="USD",
            quantity="2",
            conversiontype="hotel_booking",
            margin="10",
        ),
    }
    return {name: value for name, value in (event | changed).items() if value is not ...}


def body(*events: Event) -> Event:
    return {"accountId": "12345", "events": list(events)}


async def test_vector_rk_1_is_accepted_as_it_stands(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The conversion with everything is answered with an empty list of unprocessed records and counted once."""
    answer = await client.post(URL, headers=HEADERS, json=body(conversion()))

    assert (answer.status_code, answer.json()) == (200, {"data": {"unprocessedRecords": []}})
    assert sandbox.rokt.accepted == (conversion(),)
    assert sandbox.rokt.orders == {"order-1001": 1}


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


@pytest.mark.parametrize(
    ("method", "url", "headers", "status", "code"),
    [
        ("GET", URL, {}, 405, "Method Not Allowed"),
        ("POST", "/rokt/v1/events", {}, 404, "Not Found"),
        ("POST", URL, {"Authorization": ""}, 401, "UnauthorizedError"),
        ("POST", URL, {"Authorization": "Basic cnB1Yi0xMTExOndyb25n"}, 401, "UnauthorizedError"),
        ("POST", URL, {"Authorization": "Basic %%%"}, 401, "UnauthorizedError"),
        ("POST", URL, {"Authorization": "Bearer cnB1Yi0xMTExOnJzZWMtMjIyMg=="}, 401, "UnauthorizedError"),
        ("POST", URL, {"Rokt-Version": "2021-01-01"}, 400, "RequestValidationError"),
        ("POST", URL, {"Charset": "latin-1"}, 400, "RequestValidationError"),
        ("POST", URL, {"Content-Type": "text/plain"}, 400, "RequestValidationError"),
        ("POST", URL, {"Content-Encoding": "gzip"}, 400, "RequestBodyReadError"),
        ("POST", URL, {"Rokt-Version": ""}, 200, None),
    ],
)
async def test_the_door(
    client: httpx.AsyncClient, method: str, url: str, headers: dict[str, str], status: int, code: str | None
) -> None:
    """Path, method, key pair and headers decide before the body, each with the vendor's code."""
    answer = await client.request(method, url, headers=HEADERS | headers, json=body(conversion()))

    assert (answer.status_code, answer.json()["data"].get("code")) == (status, code)


@pytest.mark.parametrize("missing", ["Charset", "Rokt-Version"])
async def test_a_required_header_that_is_missing_is_refused(client: httpx.AsyncClient, missing: str) -> None:
    """Charset and Rokt-Version must be sent."""
    headers = {name: value for name, value in HEADERS.items() if name != missing}

    answer = await client.post(URL, headers=headers, json=body(conversion()))

    assert (answer.status_code, answer.json()["data"]["code"]) == (400, "RequestValidationError")


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        ("{", 400, "RequestJsonUnmarshalError"),
        ("[]", 400, "RequestJsonUnmarshalError"),
        ({"events": [conversion()]}, 400, "RequestValidationError"),
        ({"accountId": 12345, "events": [conversion()]}, 400, "RequestJsonUnmarshalError"),
        ({"accountId": "", "events": [conversion()]}, 400, "RequestValidationError"),
        ({"accountId": "1" * 65, "events": [conversion()]}, 400, "RequestValidationError"),
        ({"accountId": "54321", "events": [conversion()]}, 403, "Forbidden"),
        ({"accountId": "12345"}, 400, "RequestValidationError"),
        ({"accountId": "12345", "events": conversion()}, 400, "RequestJsonUnmarshalError"),
        ({"accountId": "12345", "events": []}, 400, "RequestValidationError"),
        ({"accountId": "12345", "events": ["x"]}, 400, "RequestJsonUnmarshalError"),
        ({"accountId": "12345", "events": [conversion()] * 101}, 400, "RequestValidationError"),
        ({"accountId": "12345", "events": [conversion()], "more": 1}, 400, "RequestValidationError"),
    ],
)
async def test_a_wrong_envelope_refuses_the_request(
    client: httpx.AsyncClient, content: Any, status: int, code: str
) -> None:
    """What is wrong about the request as a whole is answered with a status and the vendor's code."""
    sent = {"content": content} if isinstance(content, str) else {"json": content}

    answer = await client.post(URL, headers=HEADERS, **sent)

    assert (answer.status_code, answer.json()["data"]["code"]) == (status, code)


async def test_a_repeated_conversion_counts_once(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Told apart by transactionid, without it by confirmationref, without both not at all; other types never."""
    one = conversion(objectData=pairs(email="a@b.c", transactionid="1", confirmationref="A"))
    same_transaction = conversion(objectData=pairs(email="a@b.c", transactionid="1", confirmationref="B"))
    by_reference = conversion(objectData=pairs(email="a@b.c", confirmationref="A"))
    neither = conversion(objectData=pairs(email="a@b.c"))
    signup = one | {"eventType": "signup"}

    for events in [(one, same_transaction), (one, by_reference, by_reference), (neither, neither, signup, signup)]:
        await client.post(URL, headers=HEADERS, json=body(*events))

    assert sandbox.rokt.accepted == (one, by_reference, neither, neither, signup, signup)
    assert [received.repeated for received in sandbox.rokt.requests] == [(1,), (0, 2), ()]


async def test_lenient_warns_of_formats_that_are_only_recommended(
    lenient: Sandbox, lenient_client: httpx.AsyncClient
) -> None:
    """A missing Charset and a currency in lower case count; a conversion without identity does not."""
    headers = {name: value for name, value in HEADERS.items() if name != "Charset"}
    loose, nobody = conversion(objectData=pairs(email="a@b.c", currency="usd")), conversion(objectData=[])

    await lenient_client.post(URL, headers=headers, json=body(loose, nobody))

    assert lenient.rokt.accepted == (loose,)
    assert lenient.rokt.requests[0].warnings == (
        "Charset is not utf-8",
        "objectData.currency is not an ISO 4217 code in capitals",
    )
