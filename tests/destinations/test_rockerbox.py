"""Rockerbox: contracts.md 7 and 9.5 as requests, faults.md 2.2 as verdicts."""

import json
from datetime import timedelta
from typing import Any

import pytest

from kit.destinations import Rockerbox
from kit.destinations.base import Skip
from kit.destinations.rockerbox import CONV, PLAIN
from kit.errors import ConfigurationError
from kit.model import Dispatch, Mode, Verdict

from .dispatch_samples import NOW, answer, as_golden, dispatch, frozen, golden, ordered, sending, verdicts


def rockerbox(**settings: Any) -> Rockerbox:
    return Rockerbox(**{"advertiser": "ADV_ID"} | settings)


def event(destination: Rockerbox, told: Dispatch) -> dict[str, str]:
    content: dict[str, str] = json.loads(sending(destination, told).payload)
    return content


@pytest.mark.parametrize("name", ["RB-1", "RB-3", "RB-4"])
def test_the_request_is_the_vectors(name: str) -> None:
    """A dispatch in, the vector's request out; an e-mail or a customer id alone is enough."""
    vector = golden(name)
    destination = Rockerbox(**vector.settings)

    assert destination.check(vector.told, now=NOW) is None
    request = destination.build([sending(destination, vector.told)])

    assert ordered(as_golden(request)["body"]) == ordered(vector.request["body"])
    assert as_golden(request) == vector.request


def test_one_event_a_request() -> None:
    """RB-8: three conversions are three requests."""
    assert rockerbox().batch_limit(frozen("a")[0]) == 1
    assert rockerbox().max_in_flight == 16


@pytest.mark.parametrize(
    ("told", "settings", "skip"),
    [
        (dispatch(), {}, "identifier"),
        (dispatch(email="not-an-email", phone="3053211654"), {}, "identifier"),
        (dispatch(email="a@b.co"), {"actions": {}}, "action"),
        (dispatch(email="a@b.co"), {"actions": CONV}, None),
        (dispatch({"name": "purchase", "event_id": "x"}, email="a@b.co"), {}, "required_field"),
        (dispatch({"name": "purchase", "event_id": "x"}, email="a@b.co"), {"required_fields": {}}, None),
        (
            dispatch(email="a@b.co"),
            {"actions": CONV, "required_fields": {"conv.purchase": ["phone"]}},
            "required_field",
        ),
        (dispatch(email="a@b.co", phone="3053211654"), {"required_fields": {"purchase": ["phone"]}}, None),
    ],
)
def test_what_is_skipped(told: Dispatch, settings: dict[str, Any], skip: str | None) -> None:
    """RB-5, RB-6, and a field of the conversion key that is absent: Rockerbox would count nothing at all."""
    found = rockerbox(**settings).check(told, now=NOW)

    assert (found.code if found else None) == skip


def test_a_required_field_is_named() -> None:
    """The detail is the field's name."""
    told = dispatch({"name": "purchase", "event_id": "x"}, email="a@b.co")

    assert rockerbox().check(told, now=NOW) == Skip("required_field", "order_id", curable=True)


def test_presets_name_the_actions() -> None:
    """Plain names and the connectors' prefix."""
    told = dispatch(email="a@b.co")

    assert event(rockerbox(), told)["action"] == "purchase"
    assert event(rockerbox(actions=PLAIN), told)["action"] == "purchase"
    assert event(rockerbox(actions=CONV), told)["action"] == "conv.purchase"


@pytest.mark.parametrize(("phone", "sent"), [("+1 (212) 867-5309", "2128675309"), ("+44 20 7946 0018", None)])
def test_a_phone_is_ten_digits_or_left_out(phone: str, sent: str | None) -> None:
    """The webhook's `phone` equals the pixel's `phone_number` (RB-12)."""
    assert event(rockerbox(), dispatch(email="a@b.co", phone=phone)).get("phone") == sent


def test_extra_fields_pass_and_never_replace_ours() -> None:
    """An extra `email` or `revenue` is not taken even where we have none."""
    extra = {"order_type": "subscription_start", "revenue": "9", "Email": "x@y.z", "conversion_source": "phone"}
    told = dispatch({"name": "purchase", "order_id": "1", "customer_id": "c", "extra": extra})

    assert event(rockerbox(), told) == {
        "customer_id": "c",
        "action": "purchase",
        "timestamp": "1768435080",
        "order_id": "1",
        "order_type": "subscription_start",
        "conversion_source": "phone",
    }
    assert event(rockerbox(conversion_source="in_store"), told)["conversion_source"] == "in_store"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.OK),
        (204, Verdict.OK),
        (400, Verdict.INVALID),
        (401, Verdict.SETUP),
        (404, Verdict.SETUP),
        (413, Verdict.OVERSIZE),
        (429, Verdict.THROTTLE),
        (500, Verdict.TRANSIENT),
    ],
)
def test_what_an_answer_means(status: int, verdict: Verdict) -> None:
    """RB-11 with faults.md's meaning: a wrong advertiser id pauses the destination and burns nothing."""
    (judgement,) = rockerbox().judge(frozen("a"), answer(status, b"no ADV_ID here"), now=NOW)

    assert judgement.verdict is verdict
    assert "ADV_ID" not in judgement.detail


@pytest.mark.parametrize(
    ("minutes_ago", "order_id", "monetary", "settings", "safe"),
    [
        (-1, "o", True, {}, True),
        (1, "o", True, {}, False),
        (1, "o", True, {"cross_day_dedupe": True}, True),
        (-1, None, True, {}, False),
        (1, None, True, {"cross_day_dedupe": True}, False),
        (1, None, False, {}, True),
    ],
)
def test_a_repeat_is_safe_by_the_order_and_the_day(
    minutes_ago: int, order_id: str | None, monetary: bool, settings: dict[str, Any], safe: bool
) -> None:
    """Rockerbox dedupes within a UTC day, or for ever with its switch, and only by a field that is there."""
    (one,) = frozen("a", at=NOW - timedelta(minutes=minutes_ago), order_id=order_id, monetary=monetary)

    assert rockerbox(**settings).repeat_is_safe(one, now=NOW) is safe


def test_live_needs_an_advertiser_and_shadow_none() -> None:
    """The message names the variable; the id, the only credential, is in no repr."""
    with pytest.raises(ConfigurationError, match="KIT_ROCKERBOX_ADVERTISER"):
        Rockerbox()
    with pytest.raises(ConfigurationError, match=r"Rockerbox\.base_url"):
        rockerbox(base_url="http://webhooks.getrockerbox.com")

    assert Rockerbox(mode=Mode.SHADOW).advertiser == ""
    assert "ADV_ID" not in repr(rockerbox())
    assert verdicts(rockerbox().judge(frozen("a"), answer(200), now=NOW)) == [Verdict.OK]
