"""AdRoll's sandbox refuses what contracts.md 2 forbids, and nothing else."""

import gzip
import json
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kit.sandbox import Event, Sandbox

from .vectors import NOW, VECTORS

URL = "/adroll/api?advertisable=ADVEID0000000000000001"
TOKEN = {"Authorization": "Token SAT-1", "Content-Type": "application/json"}
FPC = "0123456789abcdef0123456789abcdef-1700000000000"


def purchase(**changed: Any) -> Event:
    """Return AR-1 of contracts.md 9.1 with these fields changed; a field set to ... is left out."""
    event: Event = {
        "advertisable_eid": "ADVEID0000000000000001",
        "pixel_eid": "PIXEID0000000000000001",
        "event_name": "purchase",
        "page_location": "https://www.website.com/store/checkout",
        "ip": "12.34.56.89",
        "user_agent": "Mozilla/5.0 Engine/20240101 Browser/123.0",
        "conversion_value": "123.45",
        "currency": "USD",
        "timestamp": 1768435110.25,
        "event_attributes": {"order_id": "order-1234"},
        "identifiers": {
            "adct": "click123",
            "first_party_cookie": FPC,
            "email_sha256": "86e0b9e56c17cc4d12387e1949b85053fbe73bc3ce5a1188713a9d300cc6133d",
            "email_md5": "0cba00ca3da1b283a57287bcceb17e35",
            "user_id": "user-5678",
        },
    }
    return {name: value for name, value in (event | changed).items() if value is not ...}


async def test_vector_ar_1_is_accepted_as_it_stands(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The purchase with all identifiers is answered 200 {} and counted once, under its order id."""
    answer = await client.post(URL, headers=TOKEN, json=[purchase()])

    assert (answer.status_code, answer.json()) == (200, {})
    assert sandbox.adroll.accepted == (purchase(),)
    assert sandbox.adroll.orders == {"order-1234": 1}
    assert sandbox.adroll.refusals == ()


@pytest.mark.parametrize(
    "event",
    [
        purchase(event_name="productSearch", conversion_value=..., currency=..., event_attributes={
            "keywords": "shoes",
            "products": [{"product_id": "sneaker-1234", "price": "43.21"}, {"product_id": "boot", "price": 65.43}],
        }),
        purchase(event_name="addToCart", conversion_value="113.56", event_attributes={
            "products": [{"product_id": "shoes-1234", "quantity": 2, "price": "56.78"}],
        }),
        purchase(identifiers={"adct": "click123"}),
        purchase(event_attributes={"order_id": "1", "user_id": "user-5678"}),
        purchase(event_name="pageView", event_attributes={"total": "19.90", "products": [{"product_group": "a"}]}),
        purchase(event_name="liveChat", event_attributes={"order_id": "1"}),
        purchase(identifiers={"first_party_cookie": FPC}),
        purchase(identifiers={"first_party_cookie": "0123456789abcdef0123456789abcdef-a_1730238675"}),
        purchase(conversion_value=123.45),
        purchase(timestamp="1768435110.25"),
        purchase(timestamp=1733875200),
        purchase(timestamp=...),
        purchase(ip="2001:db8::1"),
        purchase(page_location="https://app.example.com?device_os=iOS&package_app_name=com.example.App"),
    ],
)  # fmt: skip
async def test_every_documented_form_is_taken(sandbox: Sandbox, client: httpx.AsyncClient, event: Event) -> None:
    """AR-2, AR-3, the accepted cases of AR-4 and both types of timestamp and amount are counted."""
    answer = await client.post(URL, headers=TOKEN, json=[event])

    assert answer.status_code == 200, answer.text
    assert sandbox.adroll.accepted == (event,)


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"advertisable_eid": ...}, "advertisable_eid"),
        ({"advertisable_eid": "ADVEID0000000000000002"}, "advertisable_eid"),
        ({"pixel_eid": ...}, "pixel_eid"),
        ({"event_name": "refund"}, "event_name"),
        ({"event_name": ["purchase"]}, "event_name"),
        ({"page_location": ...}, "page_location"),
        ({"page_location": "/store"}, "page_location"),
        ({"page_location": "http://[::1"}, "page_location"),
        ({"ip": ...}, "ip"),
        ({"ip": None}, "ip"),
        ({"ip": "12.34.56"}, "ip"),
        ({"ip": 203}, "ip"),
        ({"identifiers": ...}, "identifiers"),
        ({"identifiers": []}, "identifiers"),
        ({"identifiers": {}}, "identifiers"),
        ({"identifiers": {"email_md5": "0cba00ca3da1b283a57287bcceb17e35"}}, "identifiers"),
        ({"identifiers": {"adct": ""}}, "identifiers.adct"),
        ({"identifiers": {"first_party_cookie": "abc"}}, "identifiers.first_party_cookie"),
        ({"identifiers": {"adct": "a", "phone": "1"}}, "identifiers.phone"),
        ({"identifiers": {"adct": "a", "email": "not-an-email"}}, "identifiers.email"),
        ({"identifiers": {"adct": "a", "email_sha256": "A" * 64}}, "identifiers.email_sha256"),
        ({"conversion_value": "1e3"}, "conversion_value"),
        ({"conversion_value": True}, "conversion_value"),
        ({"conversion_value": "-1"}, "conversion_value"),
        ({"conversion_value": 10**400}, "conversion_value"),
        ({"currency": ...}, "currency"),
        ({"currency": "usd"}, "currency"),
        ({"currency": "XYZ"}, "currency"),
        ({"timestamp": "2026-01-14T23:58:30Z"}, "timestamp"),
        ({"timestamp": 1768435110250}, "timestamp"),
        ({"event_attributes": []}, "event_attributes"),
        ({"event_attributes": {"order_id": 7}}, "event_attributes.order_id"),
        ({"event_attributes": {"products": [{"price": "x"}]}}, "event_attributes.products[0].price"),
        ({"event_attributes": {"products": [{"quantity": "2"}]}}, "event_attributes.products[0].quantity"),
        ({"event_attributes": {"products": ["shoe"]}}, "event_attributes.products[0]"),
        ({"event_attributes": {"products": [{"sku": "shoe"}]}}, "event_attributes.products[0].sku"),
        ({"event_attributes": {"orderid": "1"}}, "event_attributes.orderid"),
        ({"event_attributes": {"keywords": "shoes"}}, "event_attributes.keywords"),
        ({"event_name": "homeView", "event_attributes": {"keywords": "shoes"}}, "event_attributes.keywords"),
        ({"event_name": "homeView", "event_attributes": {"products": []}}, "event_attributes.products"),
        ({"event_name": ["purchase"], "event_attributes": {"products": []}}, "event_name"),
        ({"keyword": "shoes"}, "keyword"),
        ({"dry_run": True}, "dry_run"),
    ],
)
async def test_a_wrong_field_refuses_the_request_and_is_named(
    sandbox: Sandbox, client: httpx.AsyncClient, changed: dict[str, Any], field: str
) -> None:
    """One wrong event of two is answered 400, names its field and its place, and nothing is counted."""
    answer = await client.post(URL, headers=TOKEN, json=[purchase(), purchase(**changed)])

    assert answer.status_code == 400
    assert (answer.json()["errors"][0]["field"], answer.json()["errors"][0]["event"]) == (field, 1)
    assert sandbox.adroll.accepted == ()
    assert sandbox.adroll.refusals[0].refused[0].field == field


@pytest.mark.parametrize(
    ("field", "nobody"),
    [
        ("email_sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("email_md5", "d41d8cd98f00b204e9800998ecf8427e"),
    ],
)
async def test_the_hash_of_nothing_is_no_identifier(client: httpx.AsyncClient, field: str, nobody: str) -> None:
    """The SHA-256 and the MD5 of the empty string are refused."""
    answer = await client.post(URL, headers=TOKEN, json=[purchase(identifiers={"adct": "a", field: nobody})])

    assert answer.json()["errors"][0]["field"] == f"identifiers.{field}"


@pytest.mark.parametrize(
    ("kind", "taken"),
    [("application/json", True), ("application/json; charset=utf-8", True), (None, True), ("text/plain", False)],
)
async def test_a_body_that_says_it_is_no_json_is_refused_by_a_strict_vendor(
    sandbox: Sandbox,
    client: httpx.AsyncClient,
    lenient: Sandbox,
    lenient_client: httpx.AsyncClient,
    kind: str | None,
    taken: bool,
) -> None:
    """All of AdRoll's samples say application/json, no page says that they must: a lenient one warns."""
    headers = {"Authorization": "Token SAT-1"} | ({} if kind is None else {"Content-Type": kind})
    body = json.dumps([purchase()]).encode()

    answer = await client.post(URL, headers=headers, content=body)
    leniently = await lenient_client.post(URL, headers=headers, content=body)

    assert (answer.status_code, leniently.status_code) == (200 if taken else 400, 200)
    assert sandbox.adroll.counted == int(taken)
    assert bool(lenient.adroll.requests[0].warnings) is not taken


@pytest.mark.parametrize(
    ("method", "url", "authorization", "status"),
    [
        ("GET", URL, "Token SAT-1", 405),
        ("POST", "/adroll/other?advertisable=ADVEID0000000000000001", "Token SAT-1", 404),
        ("POST", URL, None, 401),
        ("POST", URL, "Token SAT-2", 401),
        ("POST", URL, "Bearer SAT-1", 401),
        ("POST", "/adroll/api", "Token SAT-1", 400),
        ("POST", "/adroll/api?advertisable=", "Token SAT-1", 400),
        ("POST", "/adroll/api?advertisable=ADVEID0000000000000002", "Token SAT-1", 403),
        ("POST", URL, "Token sandbox-foreign-token", 403),
        ("POST", URL + "&dry_run=perhaps", "Token SAT-1", 400),
        ("POST", URL, "token SAT-1", 200),
        ("POST", "/adroll/api/?advertisable=ADVEID0000000000000001", "Token SAT-1", 200),
    ],
)
async def test_the_door(
    client: httpx.AsyncClient, method: str, url: str, authorization: str | None, status: int
) -> None:
    """Path, method, credential and query decide before the body; the scheme's case does not matter."""
    headers = {"Authorization": authorization} if authorization else {}

    answer = await client.request(method, url, headers=headers, json=[purchase()])

    assert answer.status_code == status


async def test_the_credential_is_not_kept(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A record shows the scheme and whether the credential was accepted, never the credential."""
    await client.post(URL, headers=TOKEN, json=[purchase()])
    await client.post(URL, headers={"Authorization": "SAT-1"}, json=[purchase()])

    first, second = sandbox.adroll.requests
    assert (first.headers["authorization"], first.authorized) == ("Token ***", True)
    assert (second.headers["authorization"], second.authorized) == ("***", False)


async def test_a_single_object_is_taken_too(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A body that is one object counts as one event."""
    answer = await client.post(URL, headers=TOKEN, json=purchase())

    assert answer.status_code == 200
    assert sandbox.adroll.counted == 1


async def test_gzip_is_decoded(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A gzip body counts, is recorded as it came, and its events can be read."""
    body = gzip.compress(json.dumps([purchase()]).encode())

    answer = await client.post(URL, headers=TOKEN | {"Content-Encoding": "gzip"}, content=body)

    assert answer.status_code == 200
    assert sandbox.adroll.requests[0].body == body
    assert sandbox.adroll.requests[0].events == (purchase(),)


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b"[]"),
        ("gzip", gzip.compress(b"[{}]", mtime=0)[:-4]),
        ("br", b"[]"),
        ("gzip", gzip.compress(b" " * (17 * 1024 * 1024), mtime=0)),
        ("identity", b"[]"),
        ("identity", b"{"),
        ("identity", b"7"),
        ("identity", b'[{"conversion_value": NaN}]'),
        ("identity", b'[{"conversion_value": 1e400}]'),
        ("identity", b"[" * 100_000),
        ("identity", json.dumps([purchase()] * 101).encode()),
    ],
)
async def test_a_body_that_is_no_list_of_1_to_100_events_is_refused(
    client: httpx.AsyncClient, coding: str, body: bytes
) -> None:
    """Broken, oversized, foreign or empty bodies are answered 400."""
    answer = await client.post(URL, headers=TOKEN | {"Content-Encoding": coding}, content=body)

    assert answer.status_code == 400


async def test_a_hundred_events_are_counted(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The largest batch is taken, and repeats in it count again, as AdRoll documents no deduplication."""
    answer = await client.post(URL, headers=TOKEN, json=[purchase()] * 100)

    assert answer.status_code == 200
    assert sandbox.adroll.orders == {"order-1234": 100}


@pytest.mark.parametrize(("value", "counted"), [("true", 0), ("1", 0), ("false", 1), ("0", 1)])
async def test_a_dry_run_counts_nothing(sandbox: Sandbox, client: httpx.AsyncClient, value: str, counted: int) -> None:
    """A dry run is checked like any request: a right one is answered 200 and not counted, a wrong one 400."""
    right = await client.post(f"{URL}&dry_run={value}", headers=TOKEN, json=[purchase()])
    wrong = await client.post(f"{URL}&dry_run={value}", headers=TOKEN, json=[purchase(ip=...)])

    assert (right.status_code, wrong.status_code) == (200, 400)
    assert sandbox.adroll.counted == counted


async def test_lenient_warns_where_the_pages_differ(lenient: Sandbox, lenient_client: httpx.AsyncClient) -> None:
    """An ISO timestamp and an unknown field count, each with a warning; a missing ip is still refused."""
    event = purchase(timestamp="2026-01-14T23:58:30Z", keyword="shoes")

    taken = await lenient_client.post(URL, headers=TOKEN, json=[event])
    refused = await lenient_client.post(URL, headers=TOKEN, json=[purchase(ip=...)])

    assert (taken.status_code, refused.status_code) == (200, 400)
    assert lenient.adroll.requests[0].warnings == (
        "timestamp is not a number of UTC epoch seconds",
        "keyword is not a field of an event",
    )


async def test_one_object_a_request_can_be_the_only_form() -> None:
    """With adroll_object_only a list is refused, as if the vendor meant its own samples."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, adroll_object_only=True)

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        several = await client.post(URL, headers=TOKEN, json=[purchase()])
        one = await client.post(URL, headers=TOKEN, json=purchase())

    assert (several.status_code, one.status_code) == (400, 200)
    assert several.json()["errors"][0]["message"] == "body is not one object"


async def test_a_wrong_event_can_refuse_itself_alone() -> None:
    """With adroll_errors="event" the answer is 200 with an error for each wrong event; the others count."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, adroll_errors="event")

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        answer = await client.post(URL, headers=TOKEN, json=[purchase(), purchase(ip=...), purchase()])

    assert answer.status_code == 200
    assert answer.json() == {"errors": [{"message": "ip is required", "field": "ip", "event": 1}]}
    assert sandbox.adroll.requests[0].counted == (0, 2)


async def test_chosen_events_fail_alone(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A scripted partial failure names the event's place and leaves the others to count."""
    other = purchase(event_attributes={"order_id": "order-2"})
    sandbox.adroll.answers(refuse=["order-2"])

    answer = await client.post(URL, headers=TOKEN, json=[purchase(), other])

    assert answer.status_code == 200
    assert [(error["event"], error["message"]) for error in answer.json()["errors"]] == [(1, "event cannot be taken")]
    assert sandbox.adroll.orders == {"order-1234": 1}
    assert sandbox.adroll.refusals == ()


@pytest.mark.parametrize("body", ["{}", "", "not json"])
async def test_vector_ar_5_a_200_may_say_anything(sandbox: Sandbox, client: httpx.AsyncClient, body: str) -> None:
    """The body of a success is not documented: an empty one, or none of JSON, counts all the same."""
    sandbox.adroll.answers(200, body=body)

    answer = await client.post(URL, headers=TOKEN, json=[purchase()])

    assert (answer.status_code, answer.text) == (200, body)
    assert sandbox.adroll.counted == 1


@pytest.mark.parametrize("status", [400, 401, 413, 429, 503])
async def test_vector_ar_5_failures(sandbox: Sandbox, client: httpx.AsyncClient, status: int) -> None:
    """Each speaks in the shape of the vendor's other APIs, without Retry-After, and counts nothing."""
    sandbox.adroll.answers(status)

    answer = await client.post(URL, headers=TOKEN, json=[purchase()])

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (status, status)
    assert "retry-after" not in answer.headers
    assert sandbox.adroll.counted == 0


async def test_what_adroll_would_count(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A repeat is money counted again, and the view names the order; a dry run is recorded and is no money."""
    for sent in (purchase(), purchase(), purchase(event_name="pageView", conversion_value=..., currency=...)):
        await client.post(URL, headers=TOKEN, json=[sent])
    await client.post(URL + "&dry_run=true", headers=TOKEN, json=[purchase(conversion_value="1000")])

    view = sandbox.adroll.view

    assert (view.counted, view.orders, view.more_than_once) == (3, 1, {"order-1234": 3})
    assert view.money == {"USD": Decimal("246.90")}
    assert view.details == {"dry runs": 1}
    assert sandbox.adroll.dry_runs[0].events[0]["conversion_value"] == "1000"
