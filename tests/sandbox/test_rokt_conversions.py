"""Rokt's Conversions API lets in and answers as contracts.md 4 says, tells of wrong batches as it does, counts once."""

import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kit.sandbox import Sandbox

from .conversions_vectors import BULK, HEADERS, URL, batch, event, membership
from .vectors import VECTORS, Clock, basic


async def test_vector_cp_1_is_accepted_as_it_stands(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Segment's basic conversion is answered 202 without a body and counted once, under its confirmationref."""
    answer = await client.post(URL, headers=HEADERS, json=batch())

    assert (answer.status_code, answer.content) == (202, b"")
    assert "x-mp-rate-limit-percentage-used" in answer.headers
    assert sandbox.rokt_conversions.accepted == (batch(),)
    assert sandbox.rokt_conversions.orders == {"order-123": 1}
    assert sandbox.rokt_conversions.requests[0].warnings == ()


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", URL, {}, 405),
        ("POST", "/rokt-conversions/v1/events", {}, 404),
        ("POST", URL, {"Authorization": ""}, 401),
        ("POST", URL, {"Authorization": "Bearer key-1"}, 401),
        ("POST", URL, {"Authorization": basic("key-1", "wrong")}, 403),
        ("POST", URL, {"Authorization": basic("rpub-1111", "rsec-2222")}, 403),
        ("POST", URL, {"Content-Type": "text/plain"}, 400),
        ("POST", URL, {"Charset": "latin-1"}, 400),
        ("POST", URL, {"Content-Encoding": "gzip"}, 400),
        ("POST", "/rokt-conversions/s2s/v2/events", {}, 202),
    ],
)
async def test_the_door(
    client: httpx.AsyncClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    """No credential is 401 and a wrong one 403; Segment's path below /s2s is served too."""
    answer = await client.request(method, path, headers=HEADERS | headers, json=batch())

    assert answer.status_code == status


@pytest.mark.parametrize(
    ("path", "content"),
    [
        (URL, "{"),
        (URL, "7"),
        (URL, json.dumps([batch()])),
        (BULK, json.dumps(batch())),
        (BULK, "[]"),
        (BULK, "[7]"),
        (BULK, json.dumps([batch()] * 101)),
        (URL, json.dumps(batch()).encode("utf-16")),
    ],
)
async def test_a_body_of_another_kind_is_refused(
    sandbox: Sandbox, client: httpx.AsyncClient, path: str, content: str | bytes
) -> None:
    """One object on one path, a list of 1 to 100 objects on the other, as UTF-8 JSON."""
    answer = await client.post(path, headers=HEADERS, content=content)

    assert answer.status_code == 400
    assert answer.json()["errors"][0]["code"] == "BAD_REQUEST"
    assert sandbox.rokt_conversions.counted == 0


@pytest.mark.parametrize(("longer", "status"), [(0, 202), (1, 400)])
async def test_a_batch_of_more_than_128_kib_is_refused(client: httpx.AsyncClient, longer: int, status: int) -> None:
    """The last byte that is allowed is taken."""
    rest = len(json.dumps(batch(event(note="")), separators=(",", ":")))
    padded = batch(event(note="x" * (128 * 1024 - rest + longer)))

    answer = await client.post(URL, headers=HEADERS, content=json.dumps(padded, separators=(",", ":")))

    assert answer.status_code == status


@pytest.mark.parametrize(("longer", "status"), [(0, 202), (1, 400)])
async def test_a_request_of_more_than_256_kib_is_refused(client: httpx.AsyncClient, longer: int, status: int) -> None:
    """However small its batches are."""
    body = json.dumps([batch()] * 10)

    answer = await client.post(BULK, headers=HEADERS, content=body.ljust(256 * 1024 + longer))

    assert answer.status_code == status


async def test_vector_cp_7_a_bulk_request_fails_in_part(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """202 with an error that names the batch by path and by its place in the text; the others count."""
    wrong = batch(event("2", currency=840))
    text = json.dumps([batch(event("1")), wrong, batch(event("3"))])

    answer = await client.post(BULK, headers=HEADERS, content=text)

    position = text.index('"currency": 840') + 1
    message = (
        f"currency is not a string. Path '[1].events[0].data.custom_attributes.currency', line 1, position {position}."
    )
    assert answer.status_code == 202
    assert answer.json() == {"errors": [{"code": "BAD_REQUEST", "message": message}]}
    assert sandbox.rokt_conversions.orders == {"1": 1, "3": 1}


@pytest.mark.parametrize(
    ("locates", "has_path", "has_position"),
    [("both", True, True), ("path", True, False), ("position", False, True), ("nothing", False, False)],
)
async def test_an_error_can_name_its_batch_less_clearly(locates: Any, has_path: bool, has_position: bool) -> None:
    """As the vendor's messages are known to do, down to one that names no place."""
    sandbox = Sandbox(VECTORS, clock=Clock(), rokt_conversions_locates=locates)

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        answer = await client.post(BULK, headers=HEADERS, json=[batch(), batch(environment="x")])

    message = answer.json()["errors"][0]["message"]
    assert answer.status_code == 202
    assert (("Path '[1].environment'" in message), ("position" in message)) == (has_path, has_position)


async def test_the_only_batch_of_a_bulk_request_fails_with_400(client: httpx.AsyncClient) -> None:
    """A single bad item alone gives 400, in a list too."""
    answer = await client.post(BULK, headers=HEADERS, json=[batch(environment="x")])

    assert answer.status_code == 400
    assert "Path '[0].environment'" in answer.json()["errors"][0]["message"]


@pytest.mark.parametrize("chosen", ["order-2", "msg-2"])
async def test_chosen_events_fail_with_their_batch(sandbox: Sandbox, client: httpx.AsyncClient, chosen: str) -> None:
    """A scripted partial failure is told as the vendor tells one, beside a batch that is really wrong."""
    batches = [batch(event(f"order-{n}", message=f"msg-{n}")) for n in (1, 2)] + [batch(environment="x")]
    sandbox.rokt_conversions.answers(refuse=[chosen])

    partly = await client.post(BULK, headers=HEADERS, json=batches)
    alone = await client.post(URL, headers=HEADERS, json=batches[1])

    assert partly.status_code == 202
    assert ["[1]" in error["message"] or "[2]" in error["message"] for error in partly.json()["errors"]] == [True, True]
    assert alone.status_code == 202
    assert sandbox.rokt_conversions.orders == {"order-1": 1, "order-2": 1}


async def test_a_chosen_event_alone_fails_with_400(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """As any single bad batch does."""
    sandbox.rokt_conversions.answers(refuse=["order-123"])

    answer = await client.post(URL, headers=HEADERS, json=batch())

    assert answer.status_code == 400
    assert sandbox.rokt_conversions.counted == 0


async def test_a_repeat_is_told_by_type_and_reference(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The same order as another type counts; an event without a reference is never a repeat."""
    for sent in (event("1"), event("1"), event("1", conversiontype="Refund"), event(confirmationref=...)):
        await client.post(URL, headers=HEADERS, json=batch(sent))
    await client.post(URL, headers=HEADERS, json=batch(event(confirmationref=...)))

    assert [received.counted for received in sandbox.rokt_conversions.requests] == [(0,), (), (0,), (0,), (0,)]
    assert [received.repeated for received in sandbox.rokt_conversions.requests] == [(), (0,), (), (), ()]
    assert sandbox.rokt_conversions.view.money == {"USD": Decimal("399.96")}


async def test_development_is_taken_and_not_counted(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Test traffic must not become conversions."""
    answer = await client.post(URL, headers=HEADERS, json=batch(environment="development"))

    assert answer.status_code == 202
    assert sandbox.rokt_conversions.requests[0].events == (batch(environment="development"),)
    assert sandbox.rokt_conversions.counted == 0


async def test_a_batch_without_events_only_identifies(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """It is taken, and counts as no event."""
    answer = await client.post(URL, headers=HEADERS, json=batch(events=...))

    assert answer.status_code == 202
    assert sandbox.rokt_conversions.counted == 0


async def test_vector_cp_5_a_membership_beside_a_conversion(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Both count, each as an event of its own; the audience gains the person, and loses it with "drop"."""
    both = batch(membership("premium_users", "add", "aud_msg-combined"), event(message="msg-combined"))

    await client.post(URL, headers=HEADERS, json=both)
    joined = sandbox.rokt_conversions.members("premium_users")
    await client.post(URL, headers=HEADERS, json=batch(membership("premium_users", "drop")))

    assert joined == {"email:test@example.com"}
    assert sandbox.rokt_conversions.audiences == {"premium_users": 0}
    assert sandbox.rokt_conversions.requests[0].counted == (0, 1)
    assert sandbox.rokt_conversions.requests[0].events[1]["events"] == both["events"][1:]
    assert sandbox.rokt_conversions.orders == {"order-123": 1}


async def test_a_429_speaks_as_mparticle(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Retry-After in whole seconds, the exceeded limit in a header of its own."""
    sandbox.rokt_conversions.answers(429, retry_after=3, headers={"X-mp-rate-limit-exceeded": "account"})

    answer = await client.post(URL, headers=HEADERS, json=batch())

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.headers["x-mp-rate-limit-exceeded"] == "account"
    assert answer.json()["errors"][0]["code"] == "TOO_MANY_REQUESTS"


async def test_clear_forgets_the_audiences(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """With everything else."""
    await client.post(URL, headers=HEADERS, json=batch(membership("vip", "add")))

    sandbox.clear()

    assert sandbox.rokt_conversions.audiences == {}
