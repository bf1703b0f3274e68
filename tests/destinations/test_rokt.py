"""Rokt: contracts.md 3 and 9.2 as requests, faults.md 2.2 as verdicts."""

import json
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.destinations import Rokt
from kit.errors import ConfigurationError
from kit.model import Conversion, Dispatch, Mode, Verdict

from .dispatch_samples import NOW, answer, as_golden, dispatch, frozen, golden, ordered, sending, verdicts

OK, INVALID, UNKNOWN, OVERSIZE = Verdict.OK, Verdict.INVALID, Verdict.UNKNOWN, Verdict.OVERSIZE
TRANSIENT, SETUP, THROTTLE = Verdict.TRANSIENT, Verdict.SETUP, Verdict.THROTTLE
JOHN = "fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f"


def rokt(**settings: Any) -> Rokt:
    return Rokt(**{"account": "12345", "public_key": "rpub-1111", "secret_key": "rsec-2222"} | settings)


def event(destination: Rokt, told: Dispatch) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sending(destination, told).payload)
    return content


def pairs(destination: Rokt, told: Dispatch) -> dict[str, str]:
    return {pair["name"]: pair["value"] for pair in event(destination, told)["objectData"]}


@pytest.mark.parametrize("name", ["RK-1", "RK-3"])
def test_the_request_is_the_vectors(name: str) -> None:
    """A dispatch in, the vector's request out, objectData in the vector's order."""
    vector = golden(name)
    destination = Rokt(**vector.settings)

    assert destination.check(vector.told, now=NOW) is None
    request = destination.build([sending(destination, vector.told)])

    assert ordered(as_golden(request)["body"]) == ordered(vector.request["body"])
    assert as_golden(request) == vector.request


def test_a_batch_is_one_request_of_the_frozen_bytes() -> None:
    """Up to 100 events, joined as they were frozen."""
    request = rokt().build(frozen("a", "b"))

    assert request.content == b'{"accountId":"12345","events":[{},{}]}'
    assert rokt().batch_limit(frozen("a")[0]) == 100
    assert rokt().splits


# ---------------------------------------------------------------- before sending


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (dispatch(), "identifier"),
        (dispatch(email="not-an-email"), "identifier"),
        (dispatch(email="not-an-email", click_ids={"rokt": "r"}), None),
        (dispatch(click_ids={"adroll": "a"}), "identifier"),
        (dispatch(email="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "identifier"),
        (dispatch(email="a@b.co", at=datetime.fromisoformat("2024-07-14T00:00:00Z")), "time_old"),
        (dispatch(email="a@b.co", at=NOW - timedelta(days=541)), "time_old"),
        (dispatch(email="a@b.co", at=NOW - timedelta(days=540)), None),
        (dispatch(email="a@b.co", at=NOW + timedelta(seconds=299)), None),
        (dispatch(email="a@b.co", at=NOW + timedelta(seconds=301)), "time_future"),
        (dispatch({"name": "purchase", "order_id": "1", "extra": {"emailsha256": JOHN}}), None),
        (dispatch({"name": "purchase", "order_id": "1", "extra": {"emailsha256": JOHN}}, email="John@email.com"), None),
        (
            dispatch({"name": "purchase", "order_id": "1", "extra": {"emailsha256": JOHN}}, email="a@b.co"),
            "identity_mismatch",
        ),
        (dispatch(Conversion.model_construct(extra={"note": "x" * 65_537}), email="a@b.co"), "value_too_long"),
        (dispatch(Conversion.model_construct(extra={"note": "x" * 65_536}), email="a@b.co"), None),
    ],
)
def test_what_is_skipped(told: Dispatch, code: str | None) -> None:
    """RK-4: a permanent reason is found before the network."""
    skip = rokt().check(told, now=NOW)

    assert (skip.code if skip else None) == code


# ---------------------------------------------------------------- payload


@pytest.mark.parametrize(("clamp", "time"), [(True, "2026-01-15T00:00:00.000Z"), (False, "2026-01-15T00:04:59.000Z")])
def test_a_time_ahead_is_clamped(clamp: bool, time: str) -> None:
    """A shop's clock that runs fast does not lose the order."""
    told = dispatch(email="a@b.co", at=NOW + timedelta(seconds=299))

    assert event(rokt(clamp=clamp), told)["eventTime"] == time


def test_event_types_can_be_mapped() -> None:
    """A purchase is a conversion; other names go as they are, or as agreed with Rokt."""
    view = dispatch({"name": "page_view"}, email="a@b.co")
    destination = rokt(event_types={"page_view": "confirmation_page_load"}, conversion_types={"purchase": "order"})

    assert event(rokt(), dispatch(email="a@b.co"))["eventType"] == "conversion"
    assert event(rokt(), view)["eventType"] == "page_view"
    assert event(destination, view)["eventType"] == "confirmation_page_load"
    assert pairs(destination, dispatch(email="a@b.co"))["conversiontype"] == "order"


def test_people_are_hashed() -> None:
    """Names and the mobile as digests; a number of another country is left out, the rest is sent."""
    conversion = {"name": "purchase", "order_id": "1", "first_name": "John", "last_name": "Mary Ann"}
    sent = pairs(rokt(), dispatch(conversion, phone="+1 (323) 867-5309", ip="12.34.56.89", email="john@email.com"))
    other = pairs(rokt(names="spaced", send_ip=True), dispatch(conversion, phone="+44 20 7946 0018", ip="12.34.56.89"))

    assert sent == {
        "emailsha256": JOHN,
        "transactionid": "1",
        "confirmationref": "1",
        "firstnamesha256": "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a",
        "lastnamesha256": "16b3f07f0ec2f9dd127b71dc2e6c791b7d93116a1c3bc99d057eaa7a8a077e73",
        "mobilesha256": "d3d2ab878af46f2dae0bc9179c5ee11e590b64c8a151171a10cace70de9baae7",
    }
    assert other["lastnamesha256"] == "343b97011010c3549fe7fcd6c226ed9431ea37b0b77ed78f6300a0098925faf1"
    assert other["ipaddress"] == "12.34.56.89"
    assert "mobilesha256" not in other


def test_one_item_has_a_sku() -> None:
    """Rokt takes one SKU only; the quantity is the sum."""
    conversion = {"name": "purchase", "order_id": "1", "items": [{"id": "shoe-1", "quantity": 2}]}
    sent = pairs(rokt(), dispatch(conversion, email="a@b.co"))

    assert (sent["sku"], sent["quantity"]) == ("shoe-1", "2")
    assert "productname" not in sent


def test_a_huge_cart_loses_its_last_names_only() -> None:
    """A thousand long names are cut at a whole name within Rokt's 65,536 characters."""
    items = [{"id": str(number), "name": f"{number:03} " + "x" * 496} for number in range(200)]
    told = dispatch({"name": "purchase", "order_id": "1", "items": items}, email="a@b.co")

    assert rokt().check(told, now=NOW) is None
    names = pairs(rokt(), told)["productname"].split(", ")
    assert (len(names), names[-1]) == (130, items[129]["name"])


def test_amounts_keep_the_shops_digits() -> None:
    """19.9 stays 19.9, and a thousand is not 1E+3."""
    conversion = {"name": "purchase", "order_id": "1", "currency": "USD"}

    assert pairs(rokt(), dispatch(conversion | {"value": "19.9"}, email="a@b.co"))["amount"] == "19.9"
    told = dispatch(Conversion.model_validate(conversion | {"value": 1000}), email="a@b.co")
    assert pairs(rokt(), told)["amount"] == "1000"


def test_extra_fields_pass_by_rule() -> None:
    """Reserved names, our own names, digests that are none and clear addresses are left out."""
    extra = {
        "seat": "12A",
        "Rokt.internal": "x",
        "Email": "x@y.zz",
        "amount": "1",
        "contact": "x@y.zz",
        "zipsha256": "12345",
        "mobilesha256": JOHN.upper(),
    }
    told = dispatch({"name": "purchase", "order_id": "1", "extra": extra}, click_ids={"rokt": "r"})

    assert pairs(rokt(), told) == {
        "passbackconversiontrackingid": "r",
        "transactionid": "1",
        "confirmationref": "1",
        "mobilesha256": JOHN,
        "seat": "12A",
    }
    assert pairs(rokt(email="raw"), told)["contact"] == "x@y.zz"


# ---------------------------------------------------------------- the answer


def refusal(event_id: object, code: str = "ValidationError") -> dict[str, object]:
    return {"error": {"code": code, "message": "Invalid content"}, "record": {"clientEventId": event_id}}


def unprocessed(*records: object) -> dict[str, object]:
    return {"data": {"unprocessedRecords": list(records)}}


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, unprocessed(), [OK, OK, OK]),
        (200, {}, [OK, OK, OK]),
        (200, {"data": {"unprocessedRecords": None}}, [OK, OK, OK]),
        (200, unprocessed(refusal("e2")), [OK, INVALID, OK]),
        (200, unprocessed(refusal("e2", "InternalServerError")), [OK, TRANSIENT, OK]),
        (200, unprocessed(refusal("e2", "ServiceUnavailableError"), refusal("e1")), [INVALID, TRANSIENT, OK]),
        (200, unprocessed({"record": {"clientEventId": "e3"}}), [OK, OK, INVALID]),
        (200, unprocessed(refusal("foreign")), [UNKNOWN] * 3),
        (200, unprocessed(*[refusal("e1")] * 4), [UNKNOWN] * 3),
        (200, unprocessed("e1"), [UNKNOWN] * 3),
        (200, unprocessed(refusal(7)), [UNKNOWN] * 3),
        (200, {"data": {"unprocessedRecords": {}}}, [UNKNOWN] * 3),
        (200, {"data": {"unprocessedRecords": ""}}, [UNKNOWN] * 3),
        (200, {"data": []}, [UNKNOWN] * 3),
        (200, {"data": {"code": "InternalServerError"}}, [UNKNOWN] * 3),
        (200, [], [UNKNOWN] * 3),
        (200, b"", [UNKNOWN] * 3),
        (200, b"<html>", [UNKNOWN] * 3),
        (200, b'{"data":{"unprocessed', [UNKNOWN] * 3),
        (200, b"[" * 200_000, [UNKNOWN] * 3),
        (204, b"", [UNKNOWN] * 3),
        (302, b"", [SETUP] * 3),
        (400, {"data": {"code": "RequestValidationError", "message": "x"}}, [INVALID] * 3),
        (401, {"data": {"code": "UnauthorizedError"}}, [SETUP] * 3),
        (403, {"data": {"code": "Forbidden"}}, [SETUP] * 3),
        (404, b"", [SETUP] * 3),
        (409, b"", [OK] * 3),
        (410, b"", [SETUP] * 3),
        (413, b"", [OVERSIZE] * 3),
        (429, b"", [THROTTLE] * 3),
        (500, {"data": {"code": "InternalServerError"}}, [TRANSIENT] * 3),
        (503, {"data": {"code": "ServiceUnavailableError"}}, [TRANSIENT] * 3),
    ],
)
def test_what_an_answer_means(status: int, body: object, expected: list[Verdict]) -> None:
    """RK-5 with faults.md's meaning, one verdict for each event."""
    judgements = rokt().judge(frozen("e1", "e2", "e3"), answer(status, body), now=NOW)

    assert verdicts(judgements) == expected


def test_a_cut_answer_halves_a_batch() -> None:
    """Two events are asked about apart; one alone is unknown; a cut refusal is a refusal."""
    cut = answer(200, unprocessed(), cut=True)

    assert verdicts(rokt().judge(frozen("a", "b"), cut, now=NOW)) == [OVERSIZE, OVERSIZE]
    assert verdicts(rokt().judge(frozen("a"), cut, now=NOW)) == [UNKNOWN]
    assert verdicts(rokt().judge(frozen("a"), answer(400, b"{", cut=True), now=NOW)) == [INVALID]


def test_rokts_words_are_kept_and_masked() -> None:
    """Code and message, without the address or the key that they repeat."""
    said = {"data": {"code": "RequestValidationError", "message": "john@email.com rsec-2222 " + "x " * 400}}
    record = {"error": {"code": "ValidationError", "message": "bad john@email.com"}, "record": {"clientEventId": "a"}}
    (whole,) = rokt().judge(frozen("a"), answer(400, said), now=NOW)
    (single,) = rokt().judge(frozen("a"), answer(200, unprocessed(record)), now=NOW)

    assert whole.detail.startswith("HTTP 400: RequestValidationError: [email] [secret] x x")
    assert len(whole.detail) <= 320
    assert single.detail == "ValidationError: bad [email]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["e1", "clientEventId"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "unprocessedRecords", "error", "record", "clientEventId", "code", "message"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(body=JSON | st.binary(max_size=50), status=st.integers(100, 599), cut=st.booleans())
def test_no_answer_makes_judge_raise(body: object, status: int, cut: bool) -> None:
    """Whatever JSON comes back, there is one judgement for each event."""
    judgements = rokt().judge(frozen("e1", "e2"), answer(status, body, cut=cut), now=NOW)

    assert len(judgements) == 2


def test_a_repeat_is_safe() -> None:
    """Same clientEventId, same transactionid."""
    assert rokt().repeat_is_safe(frozen("a")[0], now=NOW)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"public_key": ""}, 'KIT_ROKT_PUBLIC_KEY: is missing.*mode="shadow" needs none'),
        ({"secret_key": ""}, 'KIT_ROKT_SECRET_KEY: is missing.*mode="shadow" needs none'),
        ({"public_key": "rsec-2222"}, "KIT_ROKT_PUBLIC_KEY: must begin with rpub-"),
        ({"secret_key": "rpub-1111"}, "KIT_ROKT_SECRET_KEY: must begin with rsec-"),
        ({"secret_key": "rsec-2222\n"}, "KIT_ROKT_SECRET_KEY: holds a space"),
        ({"secret_key": "rsec-\u00e9"}, "KIT_ROKT_SECRET_KEY: must begin with rsec-"),
        ({"account": ""}, r"Rokt\.account: is missing"),
        ({"account": "1" * 65}, r"Rokt\.account: is longer than 64"),
        ({"base_url": "http://api.rokt.com"}, r"Rokt\.base_url: must begin with https"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    """The error names the variable and what to write instead, and never the key."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        rokt(**settings)

    assert "2222" not in str(caught.value)


def test_shadow_needs_no_keys_and_the_secret_is_in_no_repr() -> None:
    """Staging starts with an account id alone."""
    assert Rokt(account="12345", mode=Mode.SHADOW).secret_key == ""
    assert "rsec" not in repr(rokt())
