"""Rokt's Event API v2 and what all surfaces tell: contracts.md 3 and 9.2 as requests, faults.md 2.2 as verdicts."""

import dataclasses
import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.identity import EMPTY_SHA256
from kit.identity import sha256 as sha256_of
from kit.model import Conversion, Dispatch, Verdict

from .dispatch_samples import (
    NOW,
    answer,
    as_golden,
    dispatch,
    golden,
    ordered,
    sending,
    verdicts,
)
from .rokt_samples import CLICK, JOHN, body, conversions, events_of, pairs, table, v1, v2

OK, INVALID, UNKNOWN, OVERSIZE = Verdict.OK, Verdict.INVALID, Verdict.UNKNOWN, Verdict.OVERSIZE


@pytest.mark.parametrize("name", ["RK-1", "RK-3"])
def test_the_request_is_the_vectors(name: str) -> None:
    """A dispatch in, the vector's request out, objectData in the vector's order."""
    vector = golden(name)
    destination = v2(**vector.settings)

    assert destination.check(vector.told, now=NOW) is None
    request = destination.build([sending(destination, vector.told)])

    assert ordered(as_golden(request)["body"]) == ordered(vector.request["body"])
    assert as_golden(request) == vector.request


def test_a_batch_is_one_request_of_the_frozen_bytes() -> None:
    """Up to 100 events, joined as they were frozen."""
    request = v2().build(events_of("a", "b"))

    assert request.content == b'{"accountId":"12345","events":[{"clientEventId":"a"},{"clientEventId":"b"}]}'
    assert v2().batch_limit(events_of("a")[0]) == 100
    assert v2().splits


def test_a_body_of_another_surface_is_not_sent() -> None:
    """What was frozen for the Event API is not posted where batches are wanted, alone or in company."""
    with pytest.raises(ValueError, match="another surface"):
        conversions().build(events_of("a"))
    with pytest.raises(ValueError, match="another surface"):
        v2().build([*events_of("a"), dataclasses.replace(events_of("b")[0], payload=b'{"environment":"production"}')])


# ---------------------------------------------------------------- before sending


def _edge(row: dict[str, Any]) -> Dispatch:
    fields = {"name": "purchase", "order_id": "order-1", **row.get("conversion", {})}
    made = Conversion.model_validate(fields)
    for name, length in row.get("long", {}).items():
        # Longer than the door lets through, so that our own check has to see it.
        made = Conversion.model_construct(**{**fields, name: {"note": "x" * length}})
    at: dict[str, Any] = {"at": datetime.fromisoformat(row["at"])} if "at" in row else {}
    return dispatch(made, **at, **row.get("dispatch", {}))


EDGES = table("RK-4")


@pytest.mark.parametrize("row", [row for row in EDGES if "refused" in row], ids=lambda row: row["case"])
def test_what_cannot_be_an_event_is_refused_at_the_door(row: dict[str, Any]) -> None:
    """RK-4: a naive time is nobody's event; there is no setting that takes it for UTC."""
    with pytest.raises(ValueError, match=rf"(^|\n){row['refused']}(:|\n)"):
        _edge(row)


@pytest.mark.parametrize(
    "row", [row for row in EDGES if not row.keys() & {"refused", "requests"}], ids=lambda row: row["case"]
)
@pytest.mark.parametrize("make", [v2, v1])
def test_the_edge_cases_are_the_tables(make: Any, row: dict[str, Any]) -> None:
    """RK-4, on both generations: a permanent reason is found before the network, all else is told as the table says."""
    destination, told = make(**row.get("settings", {})), _edge(row)
    skip = destination.check(told, now=NOW)

    assert (skip.code if skip else None) == row.get("skip")
    if skip is None:
        assert list(destination.remarks(told, now=NOW)) == row.get("remarks", [])
        sent = pairs(destination, told)
        assert {name: sent.get(name) for name in row.get("told", {})} == row.get("told", {})
        assert not sent.keys() & set(row.get("absent", ()))
        assert body(destination, told)["eventTime"] == row.get("time", body(destination, told)["eventTime"])


# ---------------------------------------------------------------- payload


def test_event_types_can_be_mapped() -> None:
    """A purchase is a conversion; other names go as they are, or as agreed with Rokt."""
    view = dispatch({"name": "page_view"}, email="a@b.co")
    destination = v2(event_types={"page_view": "confirmation_page_load"}, conversion_types={"purchase": "order"})

    assert body(v2(), dispatch(email="a@b.co"))["eventType"] == "conversion"
    assert body(v2(), view)["eventType"] == "page_view"
    assert body(destination, view)["eventType"] == "confirmation_page_load"
    assert pairs(destination, dispatch(email="a@b.co"))["conversiontype"] == "order"


FULL = {
    "name": "purchase",
    "order_id": "1",
    "value": "27.50",
    "currency": "EUR",
    "margin": "3.10",
    "email": "john@email.com",
    "phone": "+1 (323) 867-5309",
    "first_name": "John",
    "last_name": "Mary Ann",
    "title": "Dr",
    "gender": "Female",
    "birth_date": "1990-01-16",
    "language": "en-US",
    "address": {
        "line1": "Main Street 1",
        "line2": "Floor 2",
        "city": "Springfield",
        "state": "OR",
        "zip": "12345",
        "country": "us",
    },
    "billing_address": {
        "line1": "PO Box 1",
        "line2": "Back",
        "city": "Elsewhere",
        "zip": "12345-6789",
        "country": "us",
    },
    "customer_type": "member",
    "shipping_type": "express",
    "payment_type": "VISA",
    "conversion_type": "order",
    "items": [{"id": "shoe-1", "name": "Shoe", "quantity": 2, "category": "Shoes"}],
}
OF_THE_ORDER = {
    "passbackconversiontrackingid": CLICK,
    "transactionid": "1",
    "confirmationref": "1",
    "amount": "27.50",
    "currency": "EUR",
    "productname": "Shoe",
    "sku": "shoe-1",
    "quantity": "2",
    "majorcat": "Shoes",
    "conversiontype": "order",
    "margin": "3.10",
    "paymenttype": "VISA",
    "shippingtype": "express",
    "customertype": "member",
    # The birthday is tomorrow.
    "title": "Dr",
    "gender": "F",
    "age": "35",
    "language": "en",
    "city": "Springfield",
    "state": "OR",
    "country": "US",
}


def test_everything_is_told_under_rokts_names() -> None:
    """Strict: what has a hashed name is hashed; birth date, address lines and ip are left out."""
    sent = pairs(v2(), dispatch(FULL, click_ids={"rokt": CLICK}, ip="12.34.56.89"))

    assert sent == OF_THE_ORDER | {
        "emailsha256": JOHN,
        "firstnamesha256": "96d9632f363564cc3032521409cf22a852f2032eec099ed5967c0d000cec607a",
        "lastnamesha256": "16b3f07f0ec2f9dd127b71dc2e6c791b7d93116a1c3bc99d057eaa7a8a077e73",
        "mobilesha256": "d3d2ab878af46f2dae0bc9179c5ee11e590b64c8a151171a10cace70de9baae7",
        "zipsha256": "5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5",
        "billingzip4sha256": "09d6f6e0c0c781a6c49153db62c72e4d8b159f742a42e8c4cfb18fc2b9c44224",
    }


def test_raw_tells_all_in_clear() -> None:
    """The address normalised, the rest as the shop wrote it; the ip only where it is asked for."""
    told = dispatch(FULL, click_ids={"rokt": CLICK}, ip="12.34.56.89")
    clear = OF_THE_ORDER | {
        "email": "john@email.com",
        "firstname": "John",
        "lastname": "Mary Ann",
        "mobile": "+1 (323) 867-5309",
        "dob": "19900116",
        "address1": "Main Street 1",
        "address2": "Floor 2",
        "zipcode": "12345",
        "billingaddress1": "PO Box 1",
        "billingaddress2": "Back",
        "billingzipcode": "12345-6789",
    }

    assert pairs(v2(hashing="raw"), told) == clear
    assert pairs(v2(hashing="raw", send_ip=True), told) == clear | {"ipaddress": "12.34.56.89"}


def test_metadata_is_kept_apart() -> None:
    """What is not critical goes to metaData; reserved names, and addresses that are hidden elsewhere, do not."""
    metadata = {
        "shift": "night",
        "ROKT.x": "1",
        "seller": "jane@example.com",
        "email": "x",
        "hashmd5": "x",
        "who": EMPTY_SHA256,
    }
    told = dispatch({"name": "purchase", "order_id": "1", "metadata": metadata}, email="a@b.co")

    assert body(v2(), told)["metaData"] == [{"name": "shift", "value": "night"}]
    assert body(v2(hashing="raw"), told)["metaData"][1] == {"name": "seller", "value": "jane@example.com"}
    assert "metaData" not in body(v2(), dispatch(email="a@b.co"))


def test_one_item_has_a_sku() -> None:
    """Rokt takes one SKU and one major category only; the quantity is the sum."""
    items = [{"id": "shoe-1", "category": "Shoes"}, {"id": "hat-1", "quantity": 2, "category": "Hats"}]
    one = pairs(v2(), dispatch({"name": "purchase", "order_id": "1", "items": items[:1]}, email="a@b.co"))
    two = pairs(v2(), dispatch({"name": "purchase", "order_id": "1", "items": items}, email="a@b.co"))

    assert (one["sku"], one["quantity"], one["majorcat"]) == ("shoe-1", "1", "Shoes")
    assert two["quantity"] == "3"
    assert not {"productname", "sku", "majorcat"} & two.keys()


def test_a_huge_cart_loses_its_last_names_only() -> None:
    """A thousand long names are cut at a whole name within 65,536 bytes."""
    items = [{"id": str(number), "name": f"{number:03} " + "x" * 496} for number in range(200)]
    told = dispatch({"name": "purchase", "order_id": "1", "items": items}, email="a@b.co")

    assert v2().check(told, now=NOW) is None
    names = pairs(v2(), told)["productname"].split(", ")
    assert (len(names), names[-1]) == (130, items[129]["name"])


def test_extra_fields_pass_by_rule() -> None:
    """Reserved names, our own names, digests that are none, MD5 and clear addresses are left out."""
    extra = {
        "seat": "12A",
        "Rokt.internal": "x",
        "Email": "x@y.zz",
        "amount": "1",
        "contact": "ask x@y.zz, please",
        "zipsha256": "12345",
        "emailMD5": "d41d8cd98f00b204e9800998ecf8427e",
        "unitno": "7",
        "DOB": "19900116",
        "who": EMPTY_SHA256.upper(),
        "mobilesha256": JOHN.upper(),
    }
    told = dispatch({"name": "purchase", "order_id": "1", "extra": extra}, click_ids={"rokt": "r"})

    assert pairs(v2(), told) == {
        "passbackconversiontrackingid": "r",
        "transactionid": "1",
        "confirmationref": "1",
        "mobilesha256": JOHN,
        "seat": "12A",
    }
    raw = pairs(v2(hashing="raw"), told)
    assert (raw["contact"], raw["unitno"]) == ("ask x@y.zz, please", "7")


SPELLINGS = ["emailsha256", "EmailSHA256", "EMAILSHA256", " emailsha256 "]


@pytest.mark.parametrize("name", SPELLINGS)
@pytest.mark.parametrize("make", [v2, v1, conversions])
def test_no_spelling_of_a_name_gets_round_a_rule(make: Any, name: str) -> None:
    """A digest that is another's is one however it is spelt, and what agrees is told once, under Rokt's name."""
    other, same = ({"name": "purchase", "order_id": "1", "extra": {name: text}} for text in ("f" * 64, JOHN.upper()))
    destination = make()
    skip = destination.check(dispatch(other, email="john@email.com"), now=NOW)

    assert skip is not None
    assert skip.code == "identity_mismatch"
    assert destination.check(dispatch(same, email="john@email.com"), now=NOW) is None
    assert json.dumps(body(destination, dispatch(same, email="john@email.com"))).lower().count(JOHN) == 1
    assert destination.check(dispatch(other), now=NOW) is None
    two = {"name": "purchase", "order_id": "1", "extra": {name: "f" * 64, "EmailSha256": JOHN}}
    found = destination.check(dispatch(two), now=NOW)
    assert found is not None
    assert found.code == "identity_mismatch"


def test_a_name_of_rokts_is_told_once_and_in_its_own_spelling() -> None:
    """What the order says comes first; of two spellings the first; a custom name keeps its capitals."""
    extra = {"Quantity": "7", "PaymentType": "VISA", "paymenttype": "MASTERCARD", "mySeat": "12A", " note ": "x"}
    items = [{"id": "shoe-1", "quantity": 2}]
    one = pairs(v2(), dispatch({"name": "purchase", "order_id": "1", "items": items, "extra": extra}, email="a@b.co"))
    none = pairs(v2(), dispatch({"name": "purchase", "order_id": "1", "extra": extra}, email="a@b.co"))

    assert (one["quantity"], none["quantity"]) == ("2", "7")
    assert (one["paymenttype"], one["mySeat"], one["note"]) == ("VISA", "12A", "x")
    assert not {"Quantity", "PaymentType", " note "} & one.keys()


def test_what_has_not_its_form_is_left_out() -> None:
    """Rokt gives the form of a quantity and a margin, and takes one SKU: a record that it refuses is a lost order."""
    extra = {"quantity": "two", "margin": "1E+2", "sku": "a,b"}
    told = dispatch({"name": "purchase", "order_id": "1", "extra": extra}, email="a@b.co")
    item = dispatch({"name": "purchase", "order_id": "1", "items": [{"id": "a,b"}]}, email="a@b.co")

    assert not {"quantity", "margin", "sku"} & pairs(v2(), told).keys()
    assert "sku" not in pairs(v2(), item)


def test_no_field_shows_an_address() -> None:
    """Strict promises it: masked in what people read, left out elsewhere, ids as unique digests; and it is remarked."""
    shown = "write to Jane.Doe@Example.com"
    conversion = {
        "name": shown,
        "order_id": "jane.doe@example.com-1",
        "conversion_type": shown,
        "payment_type": shown,
        "shipping_type": shown,
        "customer_type": "jane.doe@example.com",
        "title": "jane.doe@example.com",
        "address": {"city": shown},
        "items": [{"id": shown, "name": shown, "category": shown}],
        "extra": {shown: "1", "seat": shown},
        "metadata": {shown: "1", "seat": shown, "link": "?e=jane.doe%40example.com"},
    }
    told = dispatch(conversion, event_id="jane.doe@example.com", email="john@email.com")
    sent = body(v2(), told)

    assert "jane" not in json.dumps(sent).lower()
    assert (sent["eventType"], sent["clientEventId"]) == ("write to [email]", sha256_of("jane.doe@example.com")[:36])
    assert {pair["name"]: pair["value"] for pair in sent["objectData"]} == {
        "emailsha256": JOHN,
        "transactionid": sha256_of("jane.doe@example.com-1"),
        "confirmationref": sha256_of("jane.doe@example.com-1"),
        "productname": "write to [email]",
        "quantity": "1",
    }
    (remark,) = v2().remarks(told, now=NOW)
    assert remark == (
        "an e-mail address is not told in name, order_id, event_id, conversion_type, payment_type, shipping_type, "
        "customer_type, title, address, items, extra, metadata"
    )
    assert json.dumps(body(v2(hashing="raw"), told)).count("Jane.Doe@Example.com") >= 9


def test_an_answer_names_an_event_as_it_was_sent() -> None:
    """An event whose own id holds an address is found in the answer by the digest that stood for it."""
    destination, event_id = v2(), "jane@example.com"
    (told,) = events_of(event_id)
    sent = sha256_of(event_id)[:36]

    assert verdicts(destination.judge([told], answer(200, unprocessed({sent: "ValidationError"})), now=NOW)) == [
        INVALID
    ]
    assert verdicts(destination.judge([told], answer(200, unprocessed({event_id: "X"})), now=NOW)) == [UNKNOWN]


# ---------------------------------------------------------------- the answer


def unprocessed(refused: dict[str, str]) -> dict[str, object]:
    return {
        "data": {
            "unprocessedRecords": [
                {"error": {"code": code, "message": "Invalid content"}, "record": {"clientEventId": event_id}}
                for event_id, code in refused.items()
            ]
        }
    }


SURFACES = {"v1": v1, "v2": v2}
#: What became of the try before, by faults.md 2.2's rule for 409.
HISTORIES: dict[str, dict[str, Any]] = {
    "any": {},
    "never used": {},
    "no answer": {"in_doubt": True},
    "a 5xx answer": {"refused": 1},
}


ANSWERS = [(SURFACES[name], row) for row in table("RK-5") for name in SURFACES if row.get("surface", name) == name]


@pytest.mark.parametrize(("make", "row"), ANSWERS, ids=lambda each: getattr(each, "__name__", str(each)))
def test_what_an_answer_means(make: Any, row: dict[str, Any]) -> None:
    """RK-5 with faults.md's meaning, one verdict for each event, on both generations."""
    content = row["text"].encode() if "text" in row else row.get("body", unprocessed(row.get("refused", {})))
    answered = answer(row["status"], content, **row.get("headers", {}))
    ids = ("e1", "e2", "e3")[: len(row["expect"])]
    judgements = make().judge(events_of(*ids, **HISTORIES[row.get("history", "any")]), answered, now=NOW)

    assert verdicts(judgements) == row["expect"]
    if "wait" in row:
        assert judgements[0].wait is not None
        assert judgements[0].wait.total_seconds() == row["wait"]


@pytest.mark.parametrize("make", [v2, v1])
def test_what_contracts_md_knows_is_a_known_answer(make: Any) -> None:
    """Both forms of success, with its refusals; what is judged unknown is shown as unknown too."""
    known = [{}, {"data": {}}, {"data": {"unprocessedRecords": None}}, unprocessed({"e2": "ValidationError"})]
    strange = [
        b"",
        b"<html>",
        {"ok": True},
        {"data": []},
        {"data": {"code": "X"}},
        {"data": {"taken": 3}},
        {"error": "x"},
    ]

    assert all(make().is_known(answer(200, body)) for body in known)
    assert not any(make().is_known(answer(200, body)) for body in strange)
    assert not make().is_known(answer(200, unprocessed({}), cut=True))
    assert make().is_known(answer(500, b"<html>"))


def test_a_token_is_a_known_answer_where_one_is_asked_for() -> None:
    """`kit doctor` sees v1's first."""
    token = answer(200, {"Access_token": "T1", "expires_in": 3600})

    assert v1().is_known(token)
    assert not v2().is_known(token)


def test_what_is_nested_without_end_is_not_readable() -> None:
    """No recursion error comes of an answer."""
    assert verdicts(v2().judge(events_of("e1"), answer(200, b"[" * 200_000), now=NOW)) == [UNKNOWN]


def test_a_conflict_on_v2_is_a_repeat() -> None:
    """We send no key there, so Rokt knows the event by another sign."""
    assert verdicts(v2().judge(events_of("a", "b"), answer(409), now=NOW)) == [OK, OK]


def test_a_cut_answer_halves_a_batch() -> None:
    """Two events are asked about apart; one alone is unknown; a cut refusal is a refusal."""
    cut = answer(200, unprocessed({}), cut=True)

    assert verdicts(v2().judge(events_of("a", "b"), cut, now=NOW)) == [OVERSIZE, OVERSIZE]
    assert verdicts(v2().judge(events_of("a"), cut, now=NOW)) == [UNKNOWN]
    assert verdicts(v2().judge(events_of("a"), answer(400, b"{", cut=True), now=NOW)) == [INVALID]


def test_rokts_words_are_kept_and_masked() -> None:
    """Code and message, without the address or the key that they repeat."""
    said = {"data": {"code": "RequestValidationError", "message": "john@email.com rsec-2222 " + "x " * 400}}
    record = {"error": {"code": "ValidationError", "message": "bad john@email.com"}, "record": {"clientEventId": "a"}}
    (whole,) = v2().judge(events_of("a"), answer(400, said), now=NOW)
    (single,) = v2().judge(events_of("a"), answer(200, {"data": {"unprocessedRecords": [record]}}), now=NOW)

    assert whole.detail.startswith("HTTP 400: RequestValidationError: [email] [secret] x x")
    assert len(whole.detail) <= 320
    assert single.detail == "ValidationError: bad [email]"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["e1", "clientEventId"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "unprocessedRecords", "error", "record", "clientEventId", "code", "message", "errors"]
            ),
            inner,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("make", [v2, v1, conversions])
@given(body=JSON | st.binary(max_size=50), status=st.integers(100, 599) | st.just(202), cut=st.booleans())
def test_no_answer_makes_judge_raise(make: Any, body: object, status: int, cut: bool) -> None:
    """Whatever JSON comes back, there is one judgement for each event."""
    judgements = make().judge(events_of("e1", "e2"), answer(status, body, cut=cut), now=NOW)

    assert len(judgements) == 2


def test_a_repeat_is_safe() -> None:
    """Same clientEventId, same transactionid."""
    assert v2().repeat_is_safe(events_of("a")[0], now=NOW)
