"""Rokt's token endpoint sells tokens for an hour as contracts.md 3.2 says."""

from datetime import timedelta

import httpx
import pytest

from kit.sandbox import Sandbox

from .rokt_vectors import HEADERS, TOKEN_HEADERS, TOKEN_URL, bearer, body, conversion
from .vectors import NOW, VECTORS, Clock, basic

FORM = "grant_type=client_credentials"
KEY = {"Idempotency-Key": "6d5c5a8e-1f0e-4d5b-9d50-2f3a7c0f4b11"}


async def test_a_token_is_sold_for_an_hour(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The answer holds the token, its life in seconds and its type; the record holds no credential."""
    answer = await client.post(TOKEN_URL, headers=TOKEN_HEADERS, content=FORM)

    token = answer.json().pop("access_token")
    assert answer.status_code == 200
    assert answer.json() == {"access_token": token, "expires_in": 3600, "token_type": "Bearer"}
    (received,) = sandbox.rokt_token.requests
    assert (received.headers["authorization"], received.authorized) == ("Basic ***", True)
    assert sandbox.rokt.requests == ()


async def test_the_token_key_can_have_the_capital_of_the_vendors_sample() -> None:
    """With rokt_oauth_spelling="Access_token" the answer is that key alone."""
    sandbox = Sandbox(VECTORS, clock=Clock(), rokt_oauth_spelling="Access_token")

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        answer = await client.post(TOKEN_URL, headers=TOKEN_HEADERS, content=FORM)
        authorization = {"Authorization": f"Bearer {answer.json()['Access_token']}"}
        events = await client.post("/rokt/v1/events", headers=HEADERS | KEY | authorization, json=body(conversion()))

    assert list(answer.json()) == ["Access_token"]
    assert events.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "headers", "content", "status"),
    [
        ("POST", TOKEN_URL, {"Authorization": ""}, FORM, 400),
        ("POST", TOKEN_URL, {"Authorization": "Bearer x"}, FORM, 400),
        ("POST", TOKEN_URL, {"Authorization": "Basic %%%"}, FORM, 400),
        ("POST", TOKEN_URL, {"Authorization": basic("app-id-1", "wrong")}, FORM, 403),
        ("POST", TOKEN_URL, {"Authorization": basic("rpub-1111", "rsec-2222")}, FORM, 403),
        ("POST", TOKEN_URL, {"Content-Type": "application/json"}, FORM, 400),
        ("POST", TOKEN_URL, {}, "grant_type=password", 400),
        ("POST", TOKEN_URL, {}, "", 400),
        ("POST", TOKEN_URL, {}, b"\xff", 400),
        ("GET", TOKEN_URL, {}, "", 405),
        ("POST", "/rokt/auth/token", {}, FORM, 404),
    ],
)
async def test_what_is_not_a_right_request_gets_no_token(
    sandbox: Sandbox,
    client: httpx.AsyncClient,
    method: str,
    path: str,
    headers: dict[str, str],
    content: str | bytes,
    status: int,
) -> None:
    """A missing credential is answered 400, a wrong one 403, another form 400; no token lives."""
    answer = await client.request(method, path, headers=TOKEN_HEADERS | headers, content=content)

    assert answer.status_code == status
    assert "access_token" not in answer.json()
    assert sandbox.rokt_token.view.details == {"live tokens": 0}


@pytest.mark.parametrize(("seconds", "status"), [(3599, 200), (3600, 401)])
async def test_a_token_ends_after_an_hour(client: httpx.AsyncClient, clock: Clock, seconds: int, status: int) -> None:
    """By the sandbox's clock."""
    authorization = {"Authorization": await bearer(client)}
    clock.now = NOW + timedelta(seconds=seconds)

    answer = await client.post("/rokt/v1/events", headers=HEADERS | KEY | authorization, json=body(conversion()))

    assert answer.status_code == status


async def test_vector_rk_2_token_events_401_token_again(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A token can be ended early; the request that it refused is taken with the next one, under the same key."""
    first = await bearer(client)
    sandbox.rokt.expire_tokens()

    refused = await client.post(
        "/rokt/v1/events", headers=HEADERS | KEY | {"Authorization": first}, json=body(conversion())
    )
    taken = await client.post(
        "/rokt/v1/events", headers=HEADERS | KEY | {"Authorization": await bearer(client)}, json=body(conversion())
    )

    assert (refused.status_code, refused.json()["data"]["code"]) == (401, "UnauthorizedError")
    assert taken.status_code == 200
    assert sandbox.rokt.orders == {"order-1001": 1}


async def test_several_tokens_live_side_by_side(client: httpx.AsyncClient) -> None:
    """Two workers that buy a token each do not end each other's."""
    first, second = await bearer(client), await bearer(client)

    answers = [
        await client.post("/rokt/v1/events", headers=HEADERS | key | {"Authorization": token}, json=body(conversion()))
        for token, key in ((second, KEY), (first, {"Idempotency-Key": "6d5c5a8e-1f0e-4d5b-9d50-2f3a7c0f4b12"}))
    ]

    assert first != second
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_bad_day_of_the_token_endpoint_is_scripted_by_itself(
    sandbox: Sandbox, client: httpx.AsyncClient
) -> None:
    """Its faults are its own: events with a live token go on."""
    authorization = {"Authorization": await bearer(client)}
    sandbox.rokt_token.answers(503)

    token = await client.post(TOKEN_URL, headers=TOKEN_HEADERS, content=FORM)
    events = await client.post("/rokt/v1/events", headers=HEADERS | KEY | authorization, json=body(conversion()))

    assert (token.status_code, events.status_code) == (503, 200)


async def test_clear_ends_the_tokens(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """After clear() nothing of the test before is let in."""
    authorization = {"Authorization": await bearer(client)}
    sandbox.clear()

    answer = await client.post("/rokt/v1/events", headers=HEADERS | KEY | authorization, json=body(conversion()))

    assert answer.status_code == 401
