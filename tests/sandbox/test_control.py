"""The sandbox's own pages: calls and views as JSON, faults by JSON, and everything forgotten on request."""

import httpx
import pytest

from kit.sandbox import Sandbox

from .rokt_vectors import bearer
from .vectors import EVENT, WEBHOOK


async def test_the_calls_as_json(client: httpx.AsyncClient) -> None:
    """The newest first, over all vendors, as many as asked for, with totals."""
    await client.post(WEBHOOK, json=EVENT)
    await client.post("/adroll/api", headers={"Authorization": "Token secret"}, content="[]")

    looked = (await client.get("/calls.json")).json()
    newest = (await client.get("/calls.json?limit=1")).json()

    assert [(call["vendor"], call["status"]) for call in looked["calls"]] == [("adroll", 401), ("rockerbox", 200)]
    assert looked["calls"][1]["orders"] == ["1"]
    assert looked["vendors"]["rockerbox"] == {"counted": 1, "faults": []}
    assert [call["vendor"] for call in newest["calls"]] == ["adroll"]
    assert "secret" not in str(looked)
    assert (await client.get("/calls.json?limit=x")).status_code == 400


async def test_a_fault_can_be_scripted_by_json(client: httpx.AsyncClient) -> None:
    """POST /faults takes the fields of Vendor.answers and says what waits."""
    fault = {"vendor": "rockerbox", "status": 429, "headers": {"Retry-After": "30"}, "body": {"slow": True}, "times": 2}

    scripted = await client.post("/faults", json=fault)
    answer = await client.post(WEBHOOK, json=EVENT)

    assert (scripted.status_code, scripted.json()) == (201, {"waiting": ["answers 429, other body (2)"]})
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (429, "30", {"slow": True})


@pytest.mark.parametrize(
    "fault",
    [
        '{"vendor": "other"}',
        '{"vendor": "rokt", "status": 99}',
        '{"vendor": "rokt", "sleep": 1}',
        '{"vendor": "rokt", "headers": {"X-A": "1\\r\\nX-B: 2"}}',
        '{"vendor": "rokt", "headers": {"X A": "1"}}',
        '{"vendor": "rokt", "retry_after": "a\\nb"}',
        '{"vendor": "adroll", "expire_tokens": true}',
        '{"vendor": "rokt", "expire_tokens": false}',
        "{",
        "[]",
    ],
)
async def test_a_fault_that_cannot_be_is_refused(client: httpx.AsyncClient, fault: str) -> None:
    """A wrong field is named with 400, and no fault waits."""
    answer = await client.post("/faults", content=fault)

    assert answer.status_code == 400
    assert answer.json()["errors"]


async def test_clear_forgets_requests_counts_repeats_and_faults(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """After POST /clear the same order counts anew and a waiting fault is gone."""
    await client.post(WEBHOOK, json=EVENT)
    await client.post("/rockerbox/identify", json={"external_id": "c"})
    sandbox.rockerbox.answers(500, times=None)

    cleared = await client.post("/clear")

    assert cleared.status_code == 204
    assert (sandbox.rockerbox.requests, sandbox.rockerbox.counted) == ((), 0)
    assert sandbox.rockerbox.identified == frozenset()
    assert (await client.post(WEBHOOK, json=EVENT)).status_code == 200
    assert sandbox.rockerbox.orders == {"1": 1}


async def test_the_views_as_json(client: httpx.AsyncClient) -> None:
    """Every surface stands there, with money as decimal text by currency."""
    for sent in (EVENT | {"revenue": "19.90"}, EVENT, EVENT | {"action": ""}):
        await client.post(WEBHOOK, json=sent)

    views = (await client.get("/views.json")).json()

    assert list(views) == [
        "adroll",
        "rokt",
        "rokt_token",
        "rokt_conversions",
        "rokt_audience",
        "rokt_postback",
        "rokt_deletions",
        "rockerbox",
    ]
    assert views["rockerbox"] == {
        "requests": 3,
        "counted": 1,
        "repeated": 1,
        "refused": 1,
        "orders": 1,
        "more_than_once": {},
        "money": {"USD": "19.90"},
        "reasons": {"action is not the name of a conversion": 1},
        "details": {"identified": 0, "unattributable": 1},
    }


async def test_tokens_can_be_expired_by_json(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """At once, and without a fault that waits; a fault in the same request waits."""
    authorization = {"Authorization": await bearer(client)}

    expired = await client.post("/faults", json={"vendor": "rokt", "expire_tokens": True})
    refused = await client.get("/rokt/data/deletion-requests/1", headers=authorization)
    both = await client.post("/faults", json={"vendor": "rokt", "expire_tokens": True, "status": 503})

    assert (expired.status_code, expired.json(), refused.status_code) == (201, {"waiting": []}, 401)
    assert both.json() == {"waiting": ["answers 503 (1)"]}


@pytest.mark.parametrize(
    "vendor", ["adroll", "rokt", "rokt_token", "rokt_conversions", "rokt_audience", "rokt_postback", "rokt_deletions"]
)
async def test_every_surface_can_be_scripted_by_json(sandbox: Sandbox, client: httpx.AsyncClient, vendor: str) -> None:
    """By the name under which it stands in the sandbox."""
    answer = await client.post("/faults", json={"vendor": vendor, "status": 503})

    assert answer.status_code == 201
    assert getattr(sandbox, vendor).faults == ("answers 503 (1)",)


async def test_chosen_events_and_requests_by_json(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """`refuse` and `about` name orders; a request of another order passes both."""
    await client.post("/faults", json={"vendor": "rockerbox", "refuse": ["2"]})
    await client.post("/faults", json={"vendor": "rockerbox", "about": ["3"], "status": 503})

    answers = [await client.post(WEBHOOK, json=EVENT | {"order_id": order}) for order in ("1", "2", "3")]

    assert [answer.status_code for answer in answers] == [200, 400, 503]


@pytest.mark.parametrize(
    ("retry_after", "lines"),
    [
        (30, ["30"]),
        (1.5, ["1.5"]),
        (-5, ["-5"]),
        ("soon", ["soon"]),
        (10**30, [str(10**30)]),
        ("Thu, 15 Jan 2026 00:10:00 GMT", ["Thu, 15 Jan 2026 00:10:00 GMT"]),
        ([1, "9"], ["1", "9"]),
    ],
)
async def test_every_kind_of_retry_after_by_json(
    client: httpx.AsyncClient, retry_after: object, lines: list[str]
) -> None:
    """Seconds whole or broken, negative, huge, a date, words, and two lines."""
    await client.post("/faults", json={"vendor": "rockerbox", "status": 429, "retry_after": retry_after})

    answer = await client.post(WEBHOOK, json=EVENT)

    assert answer.headers.get_list("retry-after") == lines


async def test_pairs_of_headers_and_gzip_by_json(client: httpx.AsyncClient) -> None:
    """A name may come twice, and the answer compressed."""
    fault = {"vendor": "rockerbox", "headers": [["X-A", "1"], ["X-A", "2"]], "gzipped": True}

    await client.post("/faults", json=fault)
    answer = await client.post(WEBHOOK, json=EVENT)

    assert answer.headers.get_list("x-a") == ["1", "2"]
    assert (answer.headers["content-encoding"], answer.json()) == ("gzip", {})
