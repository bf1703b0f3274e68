"""Rokt's Event API lets in what contracts.md 3 lets in, in both generations, and counts each order once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kit.sandbox import Event, Sandbox

from .rokt_vectors import HEADERS, URL, bearer, body, conversion, pairs
from .vectors import NOW, Clock

V1 = "/rokt/v1/events"
KEY = "6d5c5a8e-1f0e-4d5b-9d50-2f3a7c0f4b11"


async def test_vector_rk_1_is_accepted_as_it_stands(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The conversion with everything is answered with an empty list of unprocessed records and counted once."""
    answer = await client.post(URL, headers=HEADERS, json=body(conversion()))

    assert (answer.status_code, answer.json()) == (200, {"data": {"unprocessedRecords": []}})
    assert sandbox.rokt.accepted == (conversion(),)
    assert sandbox.rokt.orders == {"order-1001": 1}


@pytest.mark.parametrize(
    ("method", "url", "headers", "status", "code"),
    [
        ("GET", URL, {}, 405, "Method Not Allowed"),
        ("POST", "/rokt/v2/other", {}, 404, "Not Found"),
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


async def test_v1_takes_the_same_body_with_a_token(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The conversion of RK-1 counts in v1 as in v2, and a wrong event beside it comes back."""
    headers = HEADERS | {"Authorization": await bearer(client), "Idempotency-Key": KEY}

    answer = await client.post(V1, headers=headers, json=body(conversion(), conversion(eventType="")))

    assert [each["record"]["eventType"] for each in answer.json()["data"]["unprocessedRecords"]] == [""]
    assert sandbox.rokt.accepted == (conversion(),)


@pytest.mark.parametrize(
    ("path", "authorization"),
    [
        (V1, ""),
        (V1, "Bearer unknown"),
        (V1, "Basic cnB1Yi0xMTExOnJzZWMtMjIyMg=="),
        (URL, "the token"),
    ],
)
async def test_a_credential_of_the_other_generation_does_not_open(
    client: httpx.AsyncClient, path: str, authorization: str
) -> None:
    """v1 wants a live token, v2 the key pair."""
    given = {"Authorization": await bearer(client) if authorization == "the token" else authorization}

    answer = await client.post(path, headers=HEADERS | {"Idempotency-Key": KEY} | given, json=body(conversion()))

    assert (answer.status_code, answer.json()["data"]["code"]) == (401, "UnauthorizedError")


@pytest.mark.parametrize("key", ["", "order-1001", KEY + "0"])
async def test_v1_wants_a_uuid_as_its_key(
    client: httpx.AsyncClient, lenient: Sandbox, lenient_client: httpx.AsyncClient, key: str
) -> None:
    """Without one a strict sandbox refuses; a lenient one warns."""
    further = {"Idempotency-Key": key} if key else {}

    refused = await client.post(
        V1, headers=HEADERS | further | {"Authorization": await bearer(client)}, json=body(conversion())
    )
    taken = await lenient_client.post(
        V1, headers=HEADERS | further | {"Authorization": await bearer(lenient_client)}, json=body(conversion())
    )

    assert (refused.status_code, refused.json()["data"]["code"]) == (400, "RequestValidationError")
    assert taken.status_code == 200
    assert lenient.rokt.requests[0].warnings == ("Idempotency-Key is not a uuid; v1 requires one",)


@pytest.mark.parametrize(("later", "status"), [(timedelta(hours=3, seconds=-1), 409), (timedelta(hours=3), 200)])
async def test_a_key_is_known_for_three_hours(
    sandbox: Sandbox, client: httpx.AsyncClient, clock: Clock, later: timedelta, status: int
) -> None:
    """Its repeat within them is answered 409, counts nothing and is no refusal; afterwards the key is free."""
    first = HEADERS | {"Authorization": await bearer(client), "Idempotency-Key": KEY}
    signup = conversion(eventType="signup")
    await client.post(V1, headers=first, json=body(signup))
    clock.now = NOW + later

    again = await client.post(V1, headers=first | {"Authorization": await bearer(client)}, json=body(signup))

    assert again.status_code == status
    assert sandbox.rokt.counted == (1 if status == 409 else 2)
    assert sandbox.rokt.refusals == ()
    assert sandbox.rokt.requests[1].repeated == ((0,) if status == 409 else ())


@pytest.mark.parametrize("wrong", [[], [conversion(eventTime="2020-01-01T00:00:00Z")]])
async def test_a_refused_request_does_not_use_up_its_key(client: httpx.AsyncClient, wrong: list[Event]) -> None:
    """What was answered 400 may be mended and sent again under the same key."""
    headers = HEADERS | {"Authorization": await bearer(client), "Idempotency-Key": KEY}

    refused = await client.post(V1, headers=headers, json=body(*wrong))
    mended = await client.post(V1, headers=headers, json=body(conversion()))

    assert (refused.status_code, mended.status_code) == (400, 200)


@pytest.mark.parametrize(("counts", "status"), [(True, 409), (False, 200)])
async def test_a_key_answered_with_a_scripted_503_is_known_when_the_request_counted(
    sandbox: Sandbox, client: httpx.AsyncClient, counts: bool, status: int
) -> None:
    """The vendor may have worked before it failed; its 409 then says that the events are in."""
    headers = HEADERS | {"Authorization": await bearer(client), "Idempotency-Key": KEY}
    sandbox.rokt.answers(503, counts=counts)

    failed = await client.post(V1, headers=headers, json=body(conversion()))
    again = await client.post(V1, headers=headers, json=body(conversion()))

    assert (failed.status_code, again.status_code) == (503, status)
    assert sandbox.rokt.orders == {"order-1001": 1}


async def test_v2_knows_no_idempotency_key(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The header is not in its table: a repeat is told by the order alone."""
    answers = [
        await client.post(URL, headers=HEADERS | {"Idempotency-Key": KEY}, json=body(conversion())) for _ in range(2)
    ]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert sandbox.rokt.requests[1].repeated == (0,)


@pytest.mark.parametrize("chosen", ["e2", "order-2"])
async def test_chosen_events_fail_alone(sandbox: Sandbox, client: httpx.AsyncClient, chosen: str) -> None:
    """RK-5: of three events the chosen one comes back as ValidationError; a later request takes it."""
    events = [
        conversion(clientEventId=f"e{n}", objectData=pairs(email="a@b.c", transactionid=f"order-{n}"))
        for n in (1, 2, 3)
    ]
    sandbox.rokt.answers(refuse=[chosen])

    spared = await client.post(URL, headers=HEADERS, json=body(conversion()))
    partly = await client.post(URL, headers=HEADERS, json=body(*events))
    later = await client.post(URL, headers=HEADERS, json=body(events[1]))

    assert spared.json() == later.json() == {"data": {"unprocessedRecords": []}}
    error = {"code": "ValidationError", "message": "Invalid content"}
    assert partly.json() == {"data": {"unprocessedRecords": [{"error": error, "record": events[1]}]}}
    assert sandbox.rokt.orders == {"order-1001": 1, "order-1": 1, "order-3": 1, "order-2": 1}
    assert sandbox.rokt.refusals == ()


@pytest.mark.parametrize(
    ("status", "body_of_its_own", "answered"),
    [
        (200, {}, {}),
        (400, None, {"data": {"code": "RequestValidationError", "message": "Bad Request"}}),
        (401, None, {"data": {"code": "UnauthorizedError", "message": "Unauthorized"}}),
        (403, None, {"data": {"code": "Forbidden", "message": "Forbidden"}}),
        (409, None, {"data": {"message": "Conflict"}}),
        (429, None, {"data": {"message": "Too Many Requests"}}),
        (500, None, {"data": {"code": "InternalServerError", "message": "Internal Server Error"}}),
        (502, None, {"data": {"code": "ServiceUnavailableError", "message": "Bad Gateway"}}),
        (503, None, {"data": {"code": "ServiceUnavailableError", "message": "Service Unavailable"}}),
    ],
)
async def test_vector_rk_5_answers(
    sandbox: Sandbox, client: httpx.AsyncClient, status: int, body_of_its_own: object, answered: object
) -> None:
    """Each status speaks with the code that the vendor documents for it, if any; only a success counts."""
    sandbox.rokt.answers(status, body=body_of_its_own)

    answer = await client.post(URL, headers=HEADERS, json=body(conversion()))

    assert (answer.status_code, answer.json()) == (status, answered)
    assert sandbox.rokt.counted == (1 if status == 200 else 0)


async def test_chosen_and_wrong_events_come_back_together(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Each with its own reason."""
    sandbox.rokt.answers(refuse=["e1"])
    wrong = conversion(clientEventId="e0", eventTime="now")

    answer = await client.post(URL, headers=HEADERS, json=body(wrong, conversion(clientEventId="e1")))

    messages = [each["error"]["message"] for each in answer.json()["data"]["unprocessedRecords"]]
    assert messages == ["eventTime is not an RFC 3339 time in UTC", "Invalid content"]


async def test_what_rokt_would_count(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The view sums orders and money by currency after deduplication, and names repeats and refusals."""
    euros = conversion(objectData=pairs(email="a@b.c", transactionid="2", amount="10.05", currency="EUR"))
    no_money = conversion(objectData=pairs(email="a@b.c"))
    await client.post(URL, headers=HEADERS, json=body(conversion(), euros, conversion(), no_money))
    await client.post(URL, headers=HEADERS, json=body(conversion(eventTime="now")))

    view = sandbox.rokt.view

    assert (view.requests, view.counted, view.repeated, view.refused) == (2, 3, 1, 1)
    assert (view.orders, view.more_than_once) == (2, {})
    assert view.money == {"USD": Decimal("99.80"), "EUR": Decimal("10.05")}
    assert view.reasons == {"eventTime is not an RFC 3339 time in UTC": 1}
