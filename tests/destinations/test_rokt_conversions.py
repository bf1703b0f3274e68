"""Rokt's Conversions API: contracts.md 4 and 9.3 as requests, its answers as verdicts."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from kit.destinations import Holdout
from kit.destinations.base import Answer
from kit.identity import sha256
from kit.model import Conversion, Verdict
from kit.sandbox import Credentials, Sandbox

from .dispatch_samples import GOLDEN, NOW, answer, as_golden, dispatch, golden, ordered, sending, verdicts
from .rokt_samples import JOHN, batches_of, body, conversions, table

HOLDOUT = Holdout(name="2026-q4", percent=50)
AT = datetime(2024, 1, 18, 12, 0, tzinfo=UTC)


def only_event(batch: dict[str, Any]) -> dict[str, Any]:
    (event,) = batch["events"]
    data: dict[str, Any] = event["data"]
    return data


def attributes(destination: Any, told: Any) -> dict[str, Any]:
    found: dict[str, Any] = only_event(body(destination, told))["custom_attributes"]
    return found


def test_the_request_is_the_vectors() -> None:
    """CP-1: one batch, an object by itself."""
    vector = golden("CP-1")
    destination = conversions(**vector.settings)

    assert destination.check(vector.told, now=AT) is None
    request = destination.build([sending(destination, vector.told)])

    assert ordered(as_golden(request)["body"]) == ordered(vector.request["body"])
    assert as_golden(request) == vector.request


def test_several_are_the_vectors_list() -> None:
    """Two people, one of them by the click and the shop's id: /v2/bulkevents of the pod."""
    vector = json.loads((GOLDEN / "CP-bulk.json").read_text(encoding="utf-8"))
    destination = conversions(**vector["settings"])
    told = [
        dispatch(each.pop("conversion"), at=datetime.fromisoformat(each.pop("at")), **each)
        for each in vector["dispatches"]
    ]
    request = destination.build([sending(destination, each, number=place) for place, each in enumerate(told)])

    assert [destination.check(each, now=AT) for each in told] == [None, None]
    assert ordered(as_golden(request)["body"]) == ordered(vector["request"]["body"])
    assert as_golden(request) == vector["request"]


@pytest.mark.parametrize("name", ["CP-2", "CP-3", "CP-5"])
def test_a_part_of_the_batch_is_the_vectors(name: str) -> None:
    """The click id in both places; the hashed e-mail in `other`, never in `email`; a membership beside a conversion."""
    vector = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    told = vector["dispatch"]
    batch = body(
        conversions(**vector["settings"]),
        dispatch(told.pop("conversion"), at=datetime.fromisoformat(told.pop("at")), **told),
    )

    assert {key: batch[key] for key in vector["part"]} == vector["part"]


def test_who_leaves_an_audience_is_dropped() -> None:
    """CP-5 the other way round, and only for the event that is named."""
    destination = conversions(audiences={"refund": ("buyers", "drop")})
    refund = dispatch({"name": "refund", "order_id": "1"}, email="a@b.co")

    first = body(destination, refund)["events"][0]["data"]["custom_attributes"]
    assert first == {"audience_name": "buyers", "status": "drop"}
    assert len(body(destination, dispatch(email="a@b.co"))["events"]) == 1


def held_out() -> tuple[str, str]:
    """Return a buyer whom HOLDOUT holds back, and one whom it does not."""
    buyers = [f"customer-{number}@example.com" for number in range(20)]
    return next(filter(HOLDOUT.holds, buyers)), next(buyer for buyer in buyers if not HOLDOUT.holds(buyer))


@pytest.mark.parametrize("digest", [False, True])
def test_the_holdout_is_dropped_where_it_would_be_added(digest: bool) -> None:
    """As RoktAudience does, by an address or by a digest among the further fields; it is remarked."""
    destination = conversions(holdout=HOLDOUT, audiences={"purchase": ("buyers", "add"), "refund": ("buyers", "drop")})
    for buyer, status, arm in zip(held_out(), ("drop", "add"), ("2026-q4", "none"), strict=True):
        known: dict[str, Any] = {"extra": {"EmailSHA256": sha256(buyer)}} if digest else {"email": buyer}
        told = dispatch({"name": "purchase", "order_id": "1", **known})
        refund = dispatch({"name": "refund", "order_id": "1", **known})
        membership, conversion = (each["data"]["custom_attributes"] for each in body(destination, told)["events"])

        assert membership == {"audience_name": "buyers", "status": status}
        assert conversion["holdout"] == arm
        assert body(destination, refund)["events"][0]["data"]["custom_attributes"]["status"] == "drop"
        remarks = ["not added to the audience: the holdout has this buyer"] if status == "drop" else []
        assert destination.remarks(told, now=NOW) == remarks
        assert destination.remarks(refund, now=NOW) == []


def test_of_whom_nobody_can_tell_the_arm_no_audience_is_told() -> None:
    """A click id alone may be a held-out buyer's: the conversion goes, the membership does not."""
    destination = conversions(holdout=HOLDOUT, audiences={"purchase": ("buyers", "add")})
    told = dispatch(click_ids={"rokt": "r"})

    assert only_event(body(destination, told))["event_name"] == "conversion"
    assert destination.remarks(told, now=NOW) == [
        "not added to the audience: no e-mail tells whether the holdout has this buyer"
    ]
    assert len(body(conversions(audiences={"purchase": ("buyers", "add")}), told)["events"]) == 2


def test_several_batches_are_a_list_of_the_frozen_bytes() -> None:
    """Two go to /v2/bulkevents, joined as they were frozen."""
    request = conversions().build(batches_of("a", "b"))

    assert str(request.url) == "https://s2s.us2.mparticle.com/v2/bulkevents"
    assert request.content == b'[{"environment":"a"},{"environment":"b"}]'


# ---------------------------------------------------------------- before sending


@pytest.mark.parametrize(
    ("known", "conversion", "code"),
    [
        ({}, {}, "identifier"),
        ({"email": "not-an-email"}, {}, "identifier"),
        ({"click_ids": {"adroll": "a"}}, {}, "identifier"),
        ({"ip": "12.34.56.89", "phone": "3053211654"}, {}, "identifier"),
        ({}, {"device": {"id": "x", "os": "Windows"}}, "identifier"),
        ({"customer_id": "jane@example.com"}, {}, "identifier"),
        ({"email": "a@b.co"}, {}, None),
        ({"click_ids": {"rokt": "r"}}, {}, None),
        ({"customer_id": "c-1"}, {}, None),
        ({}, {"customer_id": "c-1"}, None),
        ({}, {"device": {"id": "x", "os": "iOS 18"}}, None),
        ({}, {"device": {"id": "x", "os": "Android"}}, None),
        ({}, {"extra": {"emailsha256": JOHN}}, None),
        ({"email": "a@b.co"}, {"extra": {"emailsha256": JOHN}}, "identity_mismatch"),
    ],
)
def test_somebody_must_be_named(known: dict[str, Any], conversion: dict[str, Any], code: str | None) -> None:
    """Segment's minimum, without which Rokt would take the event and know nobody by it."""
    told = dispatch({"name": "purchase", "order_id": "1", **conversion}, **known)
    skip = conversions().check(told, now=NOW)

    assert (skip.code if skip else None) == code


@pytest.mark.parametrize(
    ("age", "code"),
    [
        (timedelta(days=30), None),
        (timedelta(days=30, seconds=1), "time_old"),
        (timedelta(seconds=-300), None),
        (timedelta(seconds=-301), "time_future"),
    ],
)
def test_the_window_is_thirty_days(age: timedelta, code: str | None) -> None:
    """What is older belongs on the historical path, and the reason says so."""
    skip = conversions().check(dispatch(email="a@b.co", at=NOW - age), now=NOW)

    assert (skip.code if skip else None) == code
    if code == "time_old":
        assert skip is not None
        assert "/v2/bulkevents/historical" in skip.detail


def test_a_batch_is_no_larger_than_128_kib() -> None:
    """A batch that would be refused is skipped; one just below goes."""
    room = 131_072 - len(sending(conversions(), dispatch(_noted("x"), email="a@b.co")).payload) + 1
    fits, large = (dispatch(_noted("x" * length), email="a@b.co") for length in (room, room + 1))

    assert len(sending(conversions(), fits).payload) == 131_072
    assert conversions().check(fits, now=NOW) is None
    skip = conversions().check(large, now=NOW)
    assert skip is not None
    assert skip.code == "too_large"
    assert conversions().largest_request == 262_144


def _noted(text: str) -> Conversion:
    return Conversion.model_construct(order_id="1", extra={"note": text})


def test_a_huge_cart_fits() -> None:
    """Names in any script are cut to what a batch may hold."""
    items = [{"id": str(number), "name": "\u6f22" * 512} for number in range(1000)]

    told = dispatch({"name": "purchase", "order_id": "1", "items": items}, email="a@b.co")

    assert conversions().check(told, now=NOW) is None


# ---------------------------------------------------------------- payload


def test_a_person_is_told_in_user_attributes() -> None:
    """Hashed forms by default; what is of the order stays with the event; the device has a place of its own."""
    conversion = {
        "name": "purchase",
        "order_id": "1",
        "first_name": "John",
        "gender": "m",
        "language": "en",
        "address": {"city": "Springfield", "zip": "12345", "country": "us"},
        "device": {"id": "IDFA-1", "os": "iOS"},
        "payment_type": "VISA",
        "extra": {"seat": "12A"},
        "metadata": {"shift": "night"},
    }
    batch = body(conversions(), dispatch(conversion, email="john@email.com", user_agent="Browser/1.0"))

    assert batch["user_attributes"] == {
        "firstnamesha256": "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a",
        "gender": "m",
        "language": "en",
        "city": "Springfield",
        "country": "US",
        "zipsha256": "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",
    }
    assert batch["device_info"] == {"http_header_user_agent": "Browser/1.0", "ios_advertising_id": "IDFA-1"}
    assert only_event(batch)["custom_attributes"] == {
        "conversiontype": "purchase",
        "confirmationref": "1",
        "paymenttype": "VISA",
        "seat": "12A",
    }


def test_a_zip_code_in_clear_has_another_name() -> None:
    """`zip`, where the Event API says zipcode."""
    conversion = {"name": "purchase", "order_id": "1", "address": {"zip": "12345"}}
    batch = body(conversions(hashing="raw"), dispatch(conversion, email="a@b.co"))

    assert batch["user_attributes"] == {"zip": "12345"}


@pytest.mark.parametrize(
    ("value", "text", "number"),
    [
        ("99.90", "99.90", 99.9),
        ("1000", "1000", 1000.0),
        ("0.00001", "0.00001", 0.0),
        ("12.34567", "12.34567", 12.3457),
    ],
)
def test_an_amount_is_a_text_or_a_number(value: str, text: str, number: float) -> None:
    """The shop's digits by default; as a number four decimals at most, never a power of ten."""
    told = dispatch({"name": "purchase", "order_id": "1", "value": value, "currency": "USD"}, email="a@b.co")

    assert attributes(conversions(), told)["amount"] == text
    assert attributes(conversions(amount_as="number"), told)["amount"] == number


def test_an_event_that_is_no_conversion_is_none_here_either() -> None:
    """Event types are those of the Event API: only "conversion" triggers attribution."""
    view = dispatch({"name": "page_view"}, email="a@b.co")
    data = only_event(body(conversions(), view))
    mapped = only_event(body(conversions(event_types={"page_view": "conversion"}), view))

    assert (data["event_name"], data["custom_event_type"]) == ("page_view", "other")
    assert (mapped["event_name"], mapped["custom_event_type"]) == ("conversion", "transaction")


def test_development_is_said() -> None:
    """Test traffic goes to its own environment."""
    assert body(conversions(environment="development"), dispatch(email="a@b.co"))["environment"] == "development"


def test_a_time_ahead_is_clamped() -> None:
    """A shop's clock that runs fast does not lose the order."""
    ahead = dispatch(email="a@b.co", at=NOW + timedelta(seconds=299))

    assert only_event(body(conversions(), ahead))["timestamp_unixtime_ms"] == 1768435200000
    assert only_event(body(conversions(clamp=False), ahead))["timestamp_unixtime_ms"] == 1768435499000


# ---------------------------------------------------------------- the answer


@pytest.mark.parametrize("row", table("CP-7"), ids=lambda row: f"{row['status']} {row.get('message', '')}")
def test_what_an_answer_means(row: dict[str, Any]) -> None:
    """CP-7: an error that is located sends that one alone, one that is not sends all alone; the rest is taken."""
    sendings = batches_of(*"abc"[: row["items"]])
    judgements = conversions().judge(sendings, _answer(row, [each.payload for each in sendings]), now=NOW)

    alone = [Verdict.INVALID if expected == "alone" else expected for expected in row["expect"]]
    assert verdicts(judgements) == alone
    assert [each.again_alone for each in judgements] == [expected == "alone" for expected in row["expect"]]
    if "wait" in row:
        assert judgements[0].wait == timedelta(seconds=row["wait"])


def _answer(row: dict[str, Any], payloads: list[bytes]) -> Any:
    message = row.get("message", "")
    for place in range(len(payloads)):
        # The first character of a batch, counted from one in the text of the request.
        position = 1 + 1 + sum(len(each) + 1 for each in payloads[:place])
        message = message.replace(f"{{inside {place}}}", str(position))
    error = {"errors": [{"code": "BAD_REQUEST", "message": message}]}
    content = row["text"].encode() if "text" in row else row.get("body", error)
    return answer(row["status"], content, **row.get("headers", {}))


@pytest.mark.parametrize(
    "first", [len, lambda one: len(one.decode()), lambda one: len(one.decode().encode("utf-16-le")) // 2]
)
def test_a_position_is_found_however_it_is_counted(first: Callable[[bytes], int]) -> None:
    """Nobody says what a position counts, so every batch that may be meant is sent again alone, and the bad one is."""
    sendings = batches_of("\U0001f600" * 60, "b", "c" * 400)
    position = 2 + first(sendings[0].payload) + 1 + 3
    said = {"errors": [{"code": "BAD_REQUEST", "message": f"line 1, position {position}"}]}
    judgements = conversions().judge(sendings, answer(202, said), now=NOW)

    assert judgements[1].again_alone


def test_what_cannot_be_repeated_is_not_sent_alone_on_suspicion() -> None:
    """A refund whose neighbour may be the bad one is in doubt; one that is named is not."""
    sendings = batches_of("a", "b", order_id=None)
    doubtful = conversions().judge(sendings, answer(202, {"errors": ["no location"]}), now=NOW)
    named = conversions().judge(sendings, answer(202, {"errors": ["Path '[0].events'"]}), now=NOW)

    assert verdicts(doubtful) == [Verdict.UNKNOWN, Verdict.UNKNOWN]
    assert verdicts(named) == [Verdict.INVALID, Verdict.OK]


@pytest.mark.parametrize(
    ("name", "order_id", "monetary", "safe"),
    [
        ("purchase", "o", True, True),
        ("purchase", None, True, False),
        ("refund", "o", True, False),
        ("page_view", None, False, True),
    ],
)
def test_a_repeat_is_safe_by_its_order(name: str, order_id: str | None, monetary: bool, safe: bool) -> None:
    """Rokt tells a conversion by conversiontype and confirmationref alone; without money a repeat does no harm."""
    (event,) = batches_of("a", event_name=name, order_id=order_id, monetary=monetary)

    assert conversions().repeat_is_safe(event, now=NOW) is safe


def test_the_vendors_words_are_kept_and_masked() -> None:
    """Without the address or the key that they repeat, and without the rest of the body."""
    said = {"errors": [{"code": "BAD_REQUEST", "message": "john@email.com secret-1 is bad"}]}
    (whole,) = conversions().judge(batches_of("a"), answer(400, said), now=NOW)
    (single, _) = conversions().judge(batches_of("a", "b"), answer(202, said), now=NOW)

    assert whole.detail == "HTTP 400: BAD_REQUEST: [email] [secret] is bad"
    assert single.detail == "HTTP 202: BAD_REQUEST: [email] [secret] is bad"


@pytest.mark.parametrize(
    "body",
    [b"", {}, {"errors": []}, {"errors": [{"code": "BAD_REQUEST", "message": "x"}]}],
)
def test_what_contracts_md_knows_is_a_known_answer(body: object) -> None:
    """An empty 202, and the list of errors that it may hold; refusals are judged by their status."""
    assert conversions().is_known(answer(202, body))
    assert conversions().is_known(answer(503, b"<html>"))


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        {"status": "rejected"},
        {"status": "accepted"},
        {"error": "x"},
        {"success": False},
        {"errors": ["x"]},
        {"errors": "x"},
        {"errors": [], "status": "rejected"},
    ],
)
def test_any_other_success_is_shown(body: object) -> None:
    """What stands in the operator's list of strange answers is strange, and of no JSON but `errors` it is success."""
    judgements = conversions().judge(batches_of("a", "b"), answer(202, body), now=NOW)

    assert not conversions().is_known(answer(202, body))
    assert Verdict.OK not in verdicts(judgements)


# ---------------------------------------------------------------- the doctor's question


def test_the_trial_is_test_traffic_of_nobody() -> None:
    """contracts.md 4.2: test traffic is `development`. No conversion, no audience, whatever the settings map."""
    destination = conversions(
        audiences={"page_view": ("visitors", "add")},
        event_types={"page_view": "conversion"},
        account="12345",
        postback=True,
        hashing="raw",
    )
    trial = destination.trial(now=NOW)
    assert trial.sending is not None
    batch = json.loads(trial.request.content)

    assert (trial.request.method, str(trial.request.url)) == ("POST", "https://s2s.us2.mparticle.com/v2/events")
    assert batch["environment"] == "development"
    assert batch["user_identities"] == {"customerid": "kit-doctor"}
    assert only_event(batch)["event_name"] == "page_view"


@pytest.mark.parametrize(("secret", "verdict"), [("secret-1", Verdict.OK), ("secret-2", Verdict.SETUP)])
def test_the_trial_tells_right_credentials_from_wrong_ones(secret: str, verdict: Verdict) -> None:
    """The strict sandbox takes it and counts nothing, or answers 403."""
    sandbox = Sandbox(Credentials(rokt_api_key="key-1", rokt_api_secret="secret-1"), clock=lambda: NOW)
    destination = conversions(api_secret=secret)
    trial = destination.trial(now=NOW)
    assert trial.sending is not None

    async def asked() -> httpx.Response:
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            return await client.send(trial.request)

    response = asyncio.run(asked())
    said = Answer(status=response.status_code, headers=response.headers, body=response.content)
    assert verdicts(destination.judge([trial.sending], said, now=NOW)) == [verdict]
    assert sandbox.rokt_conversions.counted == 0


# ---------------------------------------------------------------- what shows nobody


def test_no_field_of_a_batch_shows_an_address() -> None:
    """Strict promises it: masked in what people read, left out elsewhere, ids as unique digests; and it is remarked."""
    conversion = {
        "name": "purchase",
        "order_id": "jane@example.com-1",
        "customer_id": "c jane@example.com",
        "conversion_type": "for jane@example.com",
        "payment_type": "paypal:jane@example.com",
        "device": {"id": "jane@example.com", "os": "iOS"},
        "items": [{"id": "gift-jane@example.com", "name": "Gift card for jane@example.com", "category": "x"}],
        "extra": {"jane@example.com": "1", "seat": "12A"},
    }
    told = dispatch(conversion, event_id="jane@example.com-1", email="a@b.co", user_agent="Bot (+jane@example.com)")
    batch = body(conversions(), told)

    assert "jane" not in json.dumps(batch)
    assert batch["device_info"] == {"http_header_user_agent": "Bot ([email])"}
    assert only_event(batch)["source_message_id"] == sha256("jane@example.com-1")[:36]
    assert only_event(batch)["custom_attributes"] == {
        "conversiontype": "purchase",
        "confirmationref": sha256("jane@example.com-1"),
        "productname": "Gift card for [email]",
        "quantity": "1",
        "majorcat": "x",
        "seat": "12A",
    }
    (remark,) = conversions().remarks(told, now=NOW)
    assert remark == (
        "an e-mail address is not told in order_id, event_id, conversion_type, payment_type, items, extra, "
        "customer_id, user_agent, device"
    )
    assert "Gift card for jane@example.com" in json.dumps(body(conversions(hashing="raw"), told))
    assert conversions(hashing="raw").remarks(told, now=NOW) == []
