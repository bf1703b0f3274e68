"""Rokt's data deletion API takes requests for erasure and brings them through their month, as contracts.md 6 says."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from kit.sandbox import Event, Sandbox

from .rokt_vectors import bearer
from .vectors import NOW, Clock

URL = "/rokt/data/deletion-requests/emails"
ONE = "/rokt/data/deletion-requests/"
A = "08168cd80dfd534ab0f10af10f1303fe00af2d43ab5c1432360d137f8197e17a"
NOBODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def erasure(**changed: Any) -> Event:
    body: Event = {"accountId": "12345", "emails": ["A@Example.com"]}
    return {name: value for name, value in (body | changed).items() if value is not ...}


async def authorized(client: httpx.AsyncClient) -> dict[str, str]:
    return {"Authorization": await bearer(client)}


async def asked(client: httpx.AsyncClient) -> str:
    """Return the id of a request for erasure."""
    answer = await client.post(URL, headers=await authorized(client), json=erasure())
    return str(answer.json()["data"]["id"])


@pytest.mark.parametrize("people", [{}, {"emails": ..., "hashedEmails": [A.upper()]}])
async def test_a_request_is_taken(sandbox: Sandbox, client: httpx.AsyncClient, people: Event) -> None:
    """Raw or hashed, it is answered 201 with its id and that it is pending."""
    answer = await client.post(URL, headers=await authorized(client), json=erasure(**people))

    assert answer.status_code == 201
    assert answer.json()["data"]["status"] == "PENDING"
    (held,) = sandbox.rokt_deletions.erasures
    assert (held.id, held.account, held.people) == (str(UUID(answer.json()["data"]["id"])), "12345", frozenset({A}))
    assert sandbox.rokt_deletions.view.details == {held.id: "PENDING"}
    assert A not in repr(held)


@pytest.mark.parametrize(
    ("days", "status"),
    [(11.9, "PENDING"), (12, "READY"), (14.9, "READY"), (15, "PROCESSED"), (29.9, "PROCESSED"), (30, "COMPLETED")],
)
async def test_a_request_lives_a_month(client: httpx.AsyncClient, clock: Clock, days: float, status: str) -> None:
    """Ready after 12 days, passed on after 3 more, done after 30."""
    request = await asked(client)
    clock.now = NOW + timedelta(days=days)

    answer = await client.get(ONE + request, headers=await authorized(client))

    assert (answer.status_code, answer.json()) == (200, {"data": {"id": request, "status": status}})


@pytest.mark.parametrize(("days", "cancelled"), [(0, True), (12, True), (15, False), (30, False)])
async def test_a_request_can_be_cancelled_while_pending_or_ready(
    sandbox: Sandbox, client: httpx.AsyncClient, clock: Clock, days: int, cancelled: bool
) -> None:
    """It then stays cancelled; later it is answered 409 and goes on."""
    request = await asked(client)
    clock.now = NOW + timedelta(days=days)

    answer = await client.delete(ONE + request, headers=await authorized(client))
    clock.now = NOW + timedelta(days=31)

    assert answer.status_code == (200 if cancelled else 409)
    assert answer.json()["data"].get("status") == ("CANCELLED" if cancelled else None)
    assert sandbox.rokt_deletions.erasures[0].status(clock()) == ("CANCELLED" if cancelled else "COMPLETED")


async def test_a_cancelled_request_cannot_be_cancelled_again(client: httpx.AsyncClient) -> None:
    """The second DELETE is answered 409."""
    request = await asked(client)
    headers = await authorized(client)

    answers = [await client.delete(ONE + request, headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 409]


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"accountId": ...}, 400, "accountId is required"),
        ({"accountId": 12345}, 400, "accountId is not 1 to 64 characters long"),
        ({"accountId": "54321"}, 403, "accountId is not allowed to ask for erasure"),
        ({"emails": ...}, 400, "emails or hashedEmails are required"),
        ({"emails": []}, 400, "emails or hashedEmails are required"),
        ({"emails": "a@example.com"}, 400, "emails is not a list"),
        ({"emails": ["a@example.com", "nobody"]}, 400, "emails[1] is not an address"),
        ({"emails": ..., "hashedEmails": ["a@example.com"]}, 400, "hashedEmails[0] is not a SHA-256 digest"),
        ({"emails": ..., "hashedEmails": [NOBODY]}, 400, "hashedEmails[0] is not a SHA-256 digest in hex, or is that"),
        ({"hashedEmails": [A]}, 400, "emails and hashedEmails do not go together"),
        ({"phones": ["1"]}, 400, "phones is not a field of a deletion request"),
    ],
)
async def test_a_wrong_request_is_refused(
    sandbox: Sandbox, client: httpx.AsyncClient, changed: Event, status: int, words: str
) -> None:
    """It says why, and nobody is to be erased."""
    answer = await client.post(URL, headers=await authorized(client), json=erasure(**changed))

    assert answer.status_code == status
    assert words in answer.json()["data"]["message"]
    assert sandbox.rokt_deletions.erasures == ()


@pytest.mark.parametrize("content", ["{", "[]"])
async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient, content: str) -> None:
    """With 400."""
    answer = await client.post(URL, headers=await authorized(client), content=content)

    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "has_token", "status"),
    [
        ("POST", URL, False, 401),
        ("GET", ONE + "1", False, 401),
        ("GET", URL, True, 405),
        ("POST", ONE + "1", True, 405),
        ("GET", ONE + "1", True, 404),
        ("DELETE", ONE + "1", True, 404),
        ("POST", "/rokt/data/other", True, 404),
    ],
)
async def test_the_door(client: httpx.AsyncClient, method: str, path: str, has_token: bool, status: int) -> None:
    """The token of v1 opens it; an unknown id is answered 404."""
    headers = await authorized(client) if has_token else {}

    answer = await client.request(method, path, headers=headers, json=erasure())

    assert answer.status_code == status


async def test_expired_tokens_are_answered_401(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """As on the events of v1."""
    headers = await authorized(client)
    sandbox.rokt.expire_tokens()

    answer = await client.post(URL, headers=headers, json=erasure())

    assert answer.status_code == 401


async def test_clear_forgets_the_requests(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """With everything else."""
    await asked(client)

    sandbox.clear()

    assert sandbox.rokt_deletions.erasures == ()
