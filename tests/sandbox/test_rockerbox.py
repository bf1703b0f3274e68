"""Rockerbox's sandbox takes what contracts.md 7 describes, and shows what its vendor would find out weeks later."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from kit.sandbox import Event, Sandbox

from .vectors import NOW, VECTORS

URL = "/rockerbox/webhook/data?advertiser=ADV_ID"


def purchase(**changed: Any) -> Event:
    """Return RB-1 of contracts.md 9.5 with these fields changed; a field set to ... is left out."""
    event: Event = {
        "email": "hello@example.com",
        "customer_id": "user-5678",
        "action": "purchase",
        "timestamp": "1768435110",
        "order_id": "PRCH11809871",
        "revenue": "27.50",
    }
    return {name: value for name, value in (event | changed).items() if value is not ...}


RUDDERSTACK = {
    "customer_id": "userSampleX138",
    "anonymous_id": "5f093403-1457-4a2c-b4e4-c61ec3bacf56",
    "email": "userSampleX120@gmail.com",
    "phone": "9878764736",
    "timestamp": 1659902539,
    "conversion_source": "RudderStack",
    "action": "conv.add_to_cart",
    "checkout_id": "12345",
}


async def test_vector_rb_1_is_accepted_as_it_stands(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """The purchase is answered 200 and counted once, under its order id."""
    answer = await client.post(URL, json=purchase())

    assert answer.status_code == 200
    assert sandbox.rockerbox.accepted == (purchase(),)
    assert sandbox.rockerbox.orders == {"PRCH11809871": 1}


@pytest.mark.parametrize(
    "event", [RUDDERSTACK, purchase(customer_id=...), purchase(email=...), purchase(revenue=27.5, extra={"a": [1]})]
)
async def test_every_documented_form_is_taken(sandbox: Sandbox, client: httpx.AsyncClient, event: Event) -> None:
    """RB-2 with its integer timestamp, RB-3, RB-4 and any extra field are answered 200."""
    answer = await client.post(URL, json=event)

    assert answer.status_code == 200
    assert sandbox.rockerbox.requests[0].events == (event,)
    assert sandbox.rockerbox.refusals == ()


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"email": ..., "customer_id": ...}, "email"),
        ({"email": ""}, "email"),
        ({"customer_id": 5678}, "customer_id"),
        ({"action": ...}, "action"),
        ({"action": ""}, "action"),
        ({"timestamp": ...}, "timestamp"),
        ({"timestamp": "2026-01-14T23:58:30Z"}, "timestamp"),
        ({"timestamp": 1768435110.25}, "timestamp"),
        ({"timestamp": "1768435110250"}, "timestamp"),
        ({"revenue": "1e3"}, "revenue"),
        ({"order_id": 7}, "order_id"),
    ],
)
async def test_strict_refuses_and_lenient_warns(
    sandbox: Sandbox,
    client: httpx.AsyncClient,
    lenient: Sandbox,
    lenient_client: httpx.AsyncClient,
    changed: dict[str, Any],
    field: str,
) -> None:
    """A field that is missing or mis-shaped is answered 400, or by a lenient server taken with a warning."""
    refused = await client.post(URL, json=purchase(**changed))
    taken = await lenient_client.post(URL, json=purchase(**changed))

    assert (refused.status_code, taken.status_code) == (400, 200)
    assert sandbox.rockerbox.refusals[0].refused[0].field == field
    assert lenient.rockerbox.requests[0].warnings[0].startswith(field)
    assert sandbox.rockerbox.counted == 0


@pytest.mark.parametrize(
    ("method", "url", "content", "status"),
    [
        ("GET", URL, "{}", 405),
        ("POST", "/rockerbox/webhook?advertiser=ADV_ID", "{}", 404),
        ("POST", "/rockerbox/webhook/data", "{}", 404),
        ("POST", "/rockerbox/webhook/data?advertiser=OTHER", "{}", 404),
        ("POST", URL, "[{}]", 400),
        ("POST", URL, "<event/>", 400),
        ("POST", "/rockerbox/identify", "{}", 400),
    ],
)
async def test_the_door(lenient_client: httpx.AsyncClient, method: str, url: str, content: str, status: int) -> None:
    """Path, method, advertiser and the kind of body are decided even by a lenient server."""
    answer = await lenient_client.request(method, url, content=content)

    assert answer.status_code == status


@pytest.mark.parametrize(("kind", "status"), [("application/json", 200), (None, 200), ("text/xml", 400)])
async def test_a_body_that_says_it_is_xml_is_refused_by_a_strict_vendor(
    client: httpx.AsyncClient, lenient: Sandbox, lenient_client: httpx.AsyncClient, kind: str | None, status: int
) -> None:
    """XML and others are not accepted, Rockerbox says; a lenient one reads what is JSON all the same, and warns."""
    headers = {} if kind is None else {"Content-Type": kind}
    body = json.dumps(purchase()).encode()

    answer = await client.post(URL, headers=headers, content=body)
    await lenient_client.post(URL, headers=headers, content=body)

    assert answer.status_code == status
    assert lenient.rockerbox.counted == 1
    assert ("Content-Type is not application/json" in lenient.rockerbox.requests[0].warnings) is (status == 400)


async def test_the_first_arrival_of_an_order_counts(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """By default order_id tells a repeat."""
    for event in (purchase(), purchase(revenue="30"), purchase(order_id="2")):
        await client.post(URL, json=event)

    assert sandbox.rockerbox.accepted == (purchase(), purchase(order_id="2"))


async def test_an_event_without_the_conversion_key_is_never_counted(
    sandbox: Sandbox, client: httpx.AsyncClient
) -> None:
    """It is answered 200 all the same, as the vendor does, and a warning says so."""
    answer = await client.post(URL, json=purchase(order_id=...))

    assert answer.status_code == 200
    assert sandbox.rockerbox.counted == 0
    assert "order_id of the conversion key is missing; never counted" in sandbox.rockerbox.requests[0].warnings


@pytest.mark.parametrize(("cross_day", "counted"), [(False, 2), (True, 1)])
async def test_a_repeat_after_midnight_is_told_only_across_days(cross_day: bool, counted: int) -> None:
    """Without the vendor's cross-day switch the same order counts again on the next UTC day."""
    times = [NOW, NOW + timedelta(days=1)]
    sandbox = Sandbox(VECTORS, clock=lambda: times[0], rockerbox_cross_day=cross_day)

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        await client.post(URL, json=purchase())
        times.pop(0)
        await client.post(URL, json=purchase())

    assert sandbox.rockerbox.counted == counted


async def test_a_conversion_key_of_several_fields() -> None:
    """email,date,action counts one purchase of a person a day, by the day of the event."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, rockerbox_key="email,date,action", rockerbox_cross_day=True)
    morning, evening = (str(int(datetime(2026, 1, 14, hour, tzinfo=UTC).timestamp())) for hour in (8, 20))
    day_before = str(int(datetime(2026, 1, 13, 8, tzinfo=UTC).timestamp()))

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        for number, time in enumerate((morning, evening, day_before)):
            await client.post(URL, json=purchase(order_id=str(number), timestamp=time))

    assert sandbox.rockerbox.orders == {"0": 1, "2": 1}


async def test_a_webhook_without_an_identify_before_it_is_shown(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A person is known by external id or e-mail from the identify call on, not before."""
    await client.post(URL, json=purchase(order_id="early"))
    await client.post("/rockerbox/identify", json={"external_id": "user-5678", "email": "Hello@Example.com"})
    await client.post(URL, json=purchase(order_id="by-id", email=...))
    await client.post(URL, json=purchase(order_id="by-email", customer_id=...))
    await client.post(URL, json=purchase(order_id="stranger", customer_id="9", email="x@y.z"))

    unknown = [received.events[0]["order_id"] for received in sandbox.rockerbox.unattributable]
    assert unknown == ["early", "stranger"]
    assert sandbox.rockerbox.identified == {"id:user-5678", "email:hello@example.com"}


async def test_the_other_path_is_the_same_webhook(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """RudderStack posts to /rudderstack; an order counts once over both."""
    for path in ("/rockerbox/rudderstack?advertiser=ADV_ID", URL):
        answer = await client.post(path, json=purchase())
        assert answer.status_code == 200

    assert [received.counted for received in sandbox.rockerbox.requests] == [(0,), ()]


@pytest.mark.parametrize(
    ("called", "sent"),
    [
        ({"external_id": "user-5678"}, {"email": ...}),
        ({"email": "HELLO@example.com"}, {"customer_id": ...}),
        ({"email": "36d7aa5cf5a0bd2ba4a5b4bf6b6c5a1f"}, None),
        ({"email": hashlib.sha256(b"hello@example.com").hexdigest()}, {"customer_id": ...}),
        ({"external_id": "hello@example.com"}, None),
    ],
)
async def test_an_identify_call_can_be_told_in_python(
    sandbox: Sandbox, client: httpx.AsyncClient, called: Any, sent: Event | None
) -> None:
    """The same person is found by the id, or by the address, raw or as its digest; anything else is a stranger."""
    sandbox.rockerbox.identify(**called)

    await client.post(URL, json=purchase(**(sent or {})))

    assert len(sandbox.rockerbox.unattributable) == (1 if sent is None else 0)
    assert sandbox.rockerbox.view.details["unattributable"] == (1 if sent is None else 0)


def test_an_identify_call_of_nobody_is_a_mistake(sandbox: Sandbox) -> None:
    """Neither id nor address: the test that says so is wrong."""
    with pytest.raises(ValueError, match="external_id or email"):
        sandbox.rockerbox.identify()


async def test_only_counted_webhooks_are_unattributable(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A repeat, and an event without the conversion key, are not worth a line."""
    for event in (purchase(), purchase(), purchase(order_id=...)):
        await client.post(URL, json=event)

    assert [received.counted for received in sandbox.rockerbox.unattributable] == [(0,)]


MARKETING = {
    "user_id": "user-5678",
    "timestamp": "1768435110",
    "ad_campaignid": "c1",
    "ad_adgroupid": "g1",
    "ad_creativeid": "x1",
}


async def test_a_marketing_event_is_no_conversion(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """It is taken and kept apart: it counts as no order, and needs no identify."""
    answer = await client.post(URL, json=MARKETING)

    assert answer.status_code == 200
    assert sandbox.rockerbox.marketing == (MARKETING,)
    assert (sandbox.rockerbox.counted, sandbox.rockerbox.unattributable) == (0, ())
    assert sandbox.rockerbox.requests[0].warnings == ()


@pytest.mark.parametrize("field", ["user_id", "timestamp", "ad_campaignid", "ad_adgroupid", "ad_creativeid"])
@pytest.mark.parametrize("value", [..., 5.5])
async def test_a_marketing_event_has_all_its_fields(
    sandbox: Sandbox, client: httpx.AsyncClient, lenient_client: httpx.AsyncClient, field: str, value: Any
) -> None:
    """As text; one that is missing or a number is refused by a strict sandbox and warned of by a lenient one."""
    event = {name: held for name, held in (MARKETING | {field: value}).items() if held is not ...}

    refused = await client.post(URL, json=event)
    taken = await lenient_client.post(URL, json=event)

    assert (refused.status_code, taken.status_code) == (400, 200)
    assert sandbox.rockerbox.refusals[0].refused[0].field == field
    assert sandbox.rockerbox.marketing == ()


@pytest.mark.parametrize("status", [200, 204, 400, 404, 429, 500])
async def test_vector_rb_11_any_answer_can_be_scripted(
    sandbox: Sandbox, client: httpx.AsyncClient, status: int
) -> None:
    """What the vendor answers is undocumented; a success counts."""
    sandbox.rockerbox.answers(status)

    answer = await client.post(URL, json=purchase())

    assert answer.status_code == status
    assert sandbox.rockerbox.counted == (1 if status < 300 else 0)


async def test_a_chosen_order_fails(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A vendor of one event a request fails the request; others pass."""
    sandbox.rockerbox.answers(refuse=["2"], times=None)

    answers = [await client.post(URL, json=purchase(order_id=order)) for order in ("1", "2", "2", "3")]

    assert [answer.status_code for answer in answers] == [200, 400, 400, 200]
    assert sandbox.rockerbox.orders == {"1": 1, "3": 1}


async def test_what_rockerbox_would_count(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Revenue as dollars, each order once; what has no decimal revenue is worth nothing."""
    for sent in (purchase(), purchase(), purchase(order_id="2", revenue=10), purchase(order_id="3", revenue=...)):
        await client.post(URL, json=sent)

    view = sandbox.rockerbox.view

    assert (view.orders, view.repeated, view.money) == (3, 1, {"USD": Decimal("37.50")})


@pytest.mark.parametrize("revenue", ["1e999999999999999999", "NaN", "27,50", [], True])
async def test_revenue_that_is_no_decimal_is_worth_nothing(
    lenient: Sandbox, lenient_client: httpx.AsyncClient, revenue: object
) -> None:
    """A lenient sandbox takes it with a warning, and sums the others."""
    for sent in (purchase(revenue=revenue), purchase(order_id="2")):
        answer = await lenient_client.post(URL, json=sent)
        assert answer.status_code == 200

    assert lenient.rockerbox.view.money == {"USD": Decimal("27.50")}
