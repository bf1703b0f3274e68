"""Rokt's postback: a conversion by its click id alone (contracts.md 6)."""

from typing import Any

import httpx
import pytest

from kit.model import Dispatch, Verdict

from .dispatch_samples import NOW, answer, as_golden, dispatch, golden, sending, verdicts
from .rokt_samples import CLICK, JOHN, conversions, v1, v2

SURFACES = [v2, v1, conversions]


def request(destination: Any, told: Dispatch) -> httpx.Request:
    built: httpx.Request = destination.build([sending(destination, told)])
    return built


def with_postback(make: Any) -> Any:
    return make(account="12345", postback=True)


def test_the_request_is_the_vectors() -> None:
    """PB-1: contracts.md 6, all of it in the query."""
    vector = golden("PB-1")
    destination = v2(**vector.settings)

    assert as_golden(request(destination, vector.told)) == vector.request


def test_a_click_id_with_an_address_is_none() -> None:
    """Somebody wrote it into a link: it goes nowhere, and identifies nobody."""
    told = dispatch(click_ids={"rokt": "jane.doe@example.com-0123456789x"})
    destination = with_postback(v2)

    assert request(destination, told).method == "POST"
    skip = destination.check(told, now=NOW)
    assert skip is not None
    assert skip.code == "identifier"
    assert destination.remarks(told, now=NOW) == ["an e-mail address is not told in click id"]
    assert with_postback(v2).remarks(dispatch(click_ids={"rokt": CLICK}, phone="x"), now=NOW) == ()


@pytest.mark.parametrize("make", SURFACES)
def test_a_click_id_without_an_email_is_a_get(make: Any) -> None:
    """The account, the click id, the type where there is one: nothing of the person, and no credential."""
    conversion = {"name": "purchase", "order_id": "1", "conversion_type": "hotel booking", "phone": "3053211654"}
    told = dispatch(conversion, click_ids={"rokt": CLICK}, ip="12.34.56.89")
    destination = with_postback(make)
    sent = request(destination, told)

    assert destination.check(told, now=NOW) is None
    assert (sent.method, sent.content) == ("GET", b"")
    assert str(sent.url) == (
        f"https://apps.rokt.com/api/conv?id=12345&passbackconversiontrackingid={CLICK}&conversiontype=hotel+booking"
    )
    assert "authorization" not in sent.headers
    assert destination.batch_limit(sending(destination, told)) == 1


@pytest.mark.parametrize(
    "told",
    [
        dispatch(click_ids={"rokt": CLICK}, email="a@b.co"),
        dispatch({"name": "purchase", "order_id": "1", "extra": {"emailsha256": JOHN}}, click_ids={"rokt": CLICK}),
        dispatch(click_ids={"rokt": CLICK[:-1]}),
        dispatch(click_ids={"rokt": CLICK + "0"}),
        dispatch({"name": "page_view"}, click_ids={"rokt": CLICK}),
        dispatch({"name": "refund", "order_id": "1"}, click_ids={"rokt": CLICK}),
    ],
)
@pytest.mark.parametrize("make", SURFACES)
def test_all_else_goes_where_it_always_goes(make: Any, told: Dispatch) -> None:
    """With an e-mail, with a click id of another length, and what is no conversion."""
    assert request(with_postback(make), told).method == "POST"


@pytest.mark.parametrize("make", SURFACES)
def test_it_is_off_unless_asked_for(make: Any) -> None:
    """A click id alone is an identifier like any other."""
    assert request(make(), dispatch(click_ids={"rokt": CLICK})).method == "POST"


def test_a_repeat_with_money_is_not_safe() -> None:
    """Without the order's id Rokt cannot tell it; what goes the other way is as safe as ever."""
    destination = with_postback(v2)
    by_click = sending(destination, dispatch(click_ids={"rokt": CLICK}))
    by_email = sending(destination, dispatch(email="a@b.co"))
    lead = with_postback(lambda **given: v2(event_types={"form_fill": "conversion"}, **given))
    form = sending(lead, dispatch({"name": "form_fill"}, click_ids={"rokt": CLICK}))

    assert not destination.repeat_is_safe(by_click, now=NOW)
    assert destination.repeat_is_safe(by_email, now=NOW)
    assert lead.repeat_is_safe(form, now=NOW)


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (200, {"statusCode": 200, "success": True}, Verdict.OK),
        (200, {"statusCode": 400, "success": False, "message": "id"}, Verdict.INVALID),
        (200, {}, Verdict.UNKNOWN),
        (200, {"success": "yes"}, Verdict.UNKNOWN),
        (200, {"success": True, "error": "x"}, Verdict.UNKNOWN),
        (200, {"success": True, "status": "rejected"}, Verdict.UNKNOWN),
        (200, b"", Verdict.UNKNOWN),
        (200, b"<html>", Verdict.UNKNOWN),
        (400, {"statusCode": 400, "success": False}, Verdict.INVALID),
        (404, b"", Verdict.SETUP),
        (409, b"", Verdict.INVALID),
        (429, b"", Verdict.THROTTLE),
        (500, b"", Verdict.TRANSIENT),
    ],
)
def test_what_an_answer_means(status: int, body: object, verdict: Verdict) -> None:
    """Only `success` is success."""
    destination = with_postback(v1)
    told = sending(destination, dispatch(click_ids={"rokt": CLICK}))

    assert verdicts(destination.judge([told], answer(status, body), now=NOW)) == [verdict]


def test_only_its_own_answer_is_known() -> None:
    """`success` and its status, whichever they are; what a gateway says is shown to the operator."""
    destination = with_postback(v1)

    assert destination.is_known(answer(200, {"statusCode": 200, "success": True}))
    assert destination.is_known(answer(200, {"statusCode": 400, "success": False, "message": "x"}))
    assert not any(destination.is_known(answer(200, body)) for body in ({"success": "yes"}, {"ok": True}, b"<html>"))
    assert not v1().is_known(answer(200, {"statusCode": 200, "success": True}))
