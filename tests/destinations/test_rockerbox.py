"""Rockerbox: contracts.md 7 and 9.5 as requests, faults.md 2.2 as verdicts."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from kit import Conversion
from kit.destinations import Rockerbox
from kit.destinations.base import Skip
from kit.destinations.holdout import Holdout
from kit.destinations.rockerbox import CONV, PLAIN
from kit.errors import ConfigurationError
from kit.model import Dispatch, Mode, Verdict
from tests.delivery.world import world
from tests.support import NOON

from .dispatch_samples import (
    GOLDEN,
    NOW,
    answer,
    as_golden,
    dispatch,
    frozen,
    golden,
    ordered,
    sending,
    settled,
    verdicts,
)


def rockerbox(**settings: Any) -> Rockerbox:
    return Rockerbox(**{"advertiser": "ADV_ID"} | settings)


def event(destination: Rockerbox, told: Dispatch) -> dict[str, str]:
    content: dict[str, str] = json.loads(sending(destination, told).payload)
    return content


def table(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["RB-1", "RB-2", "RB-3", "RB-4", "RB-marketing", "RB-subscription"])
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


@pytest.mark.parametrize("row", table("RB-5"), ids=lambda row: row["case"])
def test_what_is_skipped(row: dict[str, Any]) -> None:
    """RB-5, RB-6, and a field of the conversion key that is absent: Rockerbox would count nothing at all."""
    given = dict(row.get("dispatch", {}))
    told = dispatch(given.pop("conversion", None), **given)

    found = rockerbox(**row.get("settings", {})).check(told, now=NOW)

    assert (found.code if found else None) == row["skip"]
    if found is not None and "detail" in row:
        assert found.detail == row["detail"]


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


def test_a_source_of_the_conversion_beats_the_destinations() -> None:
    """contracts.md 10.13: in_store, phone, salesforce or the account's own word, for one order or for all."""
    told = dispatch({"name": "purchase", "order_id": "1", "customer_id": "c", "source": "market stall"})

    assert event(rockerbox(conversion_source="in_store"), told)["conversion_source"] == "market stall"
    assert event(rockerbox(conversion_source="in_store"), dispatch(email="a@b.co"))["conversion_source"] == "in_store"
    assert "conversion_source" not in event(rockerbox(), dispatch(email="a@b.co"))


@pytest.mark.parametrize(("timestamps", "sent"), [("text", "1768435080"), ("number", 1768435080)])
def test_a_timestamp_is_text_or_number(timestamps: str, sent: str | int) -> None:
    """contracts.md 10.15: the documented text, or the integer that another connector sends; always there."""
    assert event(rockerbox(timestamps=timestamps), dispatch(email="a@b.co"))["timestamp"] == sent


def test_nothing_of_the_browser_and_no_street_is_sent() -> None:
    """Rockerbox has no webhook field that our visitor's id or an address would match: data that serves nobody."""
    address = {"line1": "1 Main St", "city": "Springfield", "zip": "12345"}
    told = dispatch(
        {"name": "purchase", "order_id": "1", "email": "a@b.co", "address": address},
        visitor="v" * 22,
        first_party_cookie="f" * 32,
        click_ids={"adroll": "click123"},
        ip="12.34.56.89",
        user_agent="Browser/1.0",
        url="https://shop.test/",
    )

    assert event(rockerbox(), told).keys() == {"email", "action", "timestamp", "order_id"}


def test_a_holdout_is_stamped_by_the_address_or_its_digest() -> None:
    """The group's name or "none"; nothing where no e-mail tells which."""
    all_but_none = Holdout(name="2026-q1", percent=99.999999)
    nearly_nobody = Holdout(name="2026-q1", percent=0.000001)

    assert event(rockerbox(holdout=all_but_none), dispatch(email="a@b.co"))["holdout"] == "2026-q1"
    assert event(rockerbox(holdout=nearly_nobody), dispatch(email="ab" * 32))["holdout"] == "none"
    assert "holdout" not in event(rockerbox(holdout=all_but_none), dispatch(customer_id="c-1"))
    assert "holdout" not in event(rockerbox(), dispatch(email="a@b.co"))


def test_the_webhook_names_a_person_as_the_identify_call_does() -> None:
    """RB-12: one customer id, one address, one number on both surfaces, or nothing is ever matched."""
    vector = table("RB-12")
    sent = event(rockerbox(), dispatch({"name": "purchase", "order_id": "1", **vector["person"]}))

    told = {"external_id": sent["customer_id"], "email": sent["email"], "phone_number": sent["phone"]}
    assert told == vector["identify"]


async def test_offline_and_late_conversions_need_no_browser(tmp_path: Path) -> None:
    """RB-7, RB-8: reported with the shop's own word alone, each its own POST, and counted at the time it happened."""
    offline = [Conversion.model_validate(each) for each in table("RB-8")]

    async with world(tmp_path, Rockerbox, consent="opt_in") as it:
        for conversion in offline:
            await it.kit.report(conversion, consent=True)
        await it.drain()
        requests = it.sandbox.rockerbox.requests
        sent = [request.events[0] for request in requests]

        assert [len(request.events) for request in requests] == [1, 1, 1]
        assert it.sandbox.rockerbox.counted == 3
        assert {(one["order_id"], one["conversion_source"], one["timestamp"]) for one in sent} == {
            ("o-1", "in_store", str(int(NOON.timestamp()))),
            ("o-2", "phone", str(int(NOON.timestamp()))),
            ("o-3", "salesforce", "1767323045"),
        }


async def test_an_event_without_a_time_has_the_time_of_its_report(tmp_path: Path) -> None:
    """RB-7: as a string of seconds."""
    vector = table("RB-7")

    async with world(tmp_path, Rockerbox) as it:
        it.clock.now = datetime.fromisoformat(vector["now"])
        await it.kit.report(Conversion.model_validate(vector["conversion"]))
        await it.drain()

        (request,) = it.sandbox.rockerbox.requests
        assert request.events == (vector["body"],)


async def test_a_marketing_event_is_taken_and_is_no_conversion(tmp_path: Path) -> None:
    """The other kind of body, by the same door."""
    ad = {"ad_campaignid": "c-1", "ad_adgroupid": "g-1", "ad_creativeid": "v-1"}

    async with world(tmp_path, Rockerbox) as it:
        await it.kit.report(Conversion(name="marketing_event", customer_id="user-5678", extra=ad))
        await it.drain()

        (sent,) = it.sandbox.rockerbox.requests[0].events
        assert sent == {"user_id": "user-5678", "timestamp": str(int(NOON.timestamp())), **ad}
        assert it.sandbox.rockerbox.requests[0].status == 200
        assert it.sandbox.rockerbox.counted == 0


@pytest.mark.parametrize("row", [row for row in table("RB-11") if row["status"]], ids=str)
def test_what_an_answer_means(row: dict[str, Any]) -> None:
    """RB-11 with faults.md's meaning: a wrong advertiser id pauses the destination and burns nothing."""
    given = answer(row["status"], row["body"].encode())

    (judgement,) = rockerbox().judge(frozen("a"), given, now=NOW)

    assert judgement.verdict == row["verdict"]
    assert rockerbox().is_known(given) is row["known"]
    assert "ADV_ID" not in judgement.detail
    assert ("body_unverified" in judgement.detail) is (row["verdict"] == "ok" and not row["known"])


@pytest.mark.parametrize("row", [row for row in table("RB-11") if row["status"] is None], ids=lambda row: row["case"])
def test_what_silence_means(row: dict[str, Any]) -> None:
    """RB-11: it is sent again where the conversion key tells a repeat, and held for a person where none does."""
    assert settled(rockerbox(**row.get("settings", {})), row) == (row["state"], row["reason"])


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


@pytest.mark.parametrize(
    ("settings", "setting", "instead"),
    [
        ({"advertiser": ""}, "KIT_ROCKERBOX_ADVERTISER", 'mode="shadow" needs none'),
        ({"advertiser": "ADV ID"}, "KIT_ROCKERBOX_ADVERTISER", "remove it"),
        ({"base_url": "http://webhooks.getrockerbox.com"}, "Rockerbox.base_url", "https://"),
        ({"timestamps": "integer"}, "Rockerbox.timestamps", '"text" nor "number"'),
        ({"actions": "conv"}, "Rockerbox.actions", "pass PLAIN, CONV or"),
        ({"actions": {"purchase": " "}}, "Rockerbox.actions", "leave it out"),
        ({"actions": {"purchase": None}}, "Rockerbox.actions", "leave it out"),
        ({"required_fields": {"purchase": "order_id"}}, "Rockerbox.required_fields", "pass ['order_id']"),
        ({"required_fields": {"purchase": ["value"]}}, "Rockerbox.required_fields", "Rockerbox calls it 'revenue'"),
        ({"required_fields": {"purchase": ["time"]}}, "Rockerbox.required_fields", "Rockerbox calls it 'timestamp'"),
        ({"required_fields": {"purchase": ["orderid"]}}, "Rockerbox.required_fields", "Rockerbox calls it 'order_id'"),
        ({"required_fields": {"purchase": ["customerId"]}}, "Rockerbox.required_fields", "calls it 'customer_id'"),
        ({"required_fields": {"signup_plan": ["uid", "date"]}}, "Rockerbox.required_fields", "choose order_id, or"),
        ({"required_fields": {"purchase": [5]}}, "Rockerbox.required_fields", 'pass ["order_id"]'),
        ({"required_fields": {"purchase": None}}, "Rockerbox.required_fields", 'pass ["order_id"]'),
        ({"required_fields": {5: ["order_id"]}}, "Rockerbox.required_fields", 'pass {"purchase": ["order_id"]}'),
        ({"required_fields": ["order_id"]}, "Rockerbox.required_fields", 'is a list; pass {"purchase": ["order_id"]}'),
        ({"required_fields": None}, "Rockerbox.required_fields", 'pass {"purchase": ["order_id"]}'),
        ({"actions": ["purchase"]}, "Rockerbox.actions", "pass PLAIN, CONV or"),
        ({"actions": {"purchase": 5}}, "Rockerbox.actions", "leave it out"),
        ({"timestamps": ["text"]}, "Rockerbox.timestamps", '"text" nor "number"'),
        ({"cross_day_dedupe": "no"}, "Rockerbox.cross_day_dedupe", "write True or False"),
        ({"conversion_source": ""}, "Rockerbox.conversion_source", "None for none"),
        ({"conversion_source": 5}, "Rockerbox.conversion_source", "None for none"),
        ({"holdout": "q3:5"}, "Rockerbox.holdout", 'write Holdout(name="q3", percent=5)'),
        ({"advertiser": 5}, "KIT_ROCKERBOX_ADVERTISER", "pass a text"),
        ({"advertiser": "ADV_IDä"}, "KIT_ROCKERBOX_ADVERTISER", "not ASCII"),
        (
            {"base_url": "https://webhooks.getrockerbox.com/webhook/data"},
            "Rockerbox.base_url",
            "write https://webhooks.getrockerbox.com",
        ),
        ({"base_url": "https://a.test/to/webhook/"}, "Rockerbox.base_url", "write https://a.test/to"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], setting: str, instead: str) -> None:
    """The error names the setting, says what to write instead, and never holds the credential."""
    with pytest.raises(ConfigurationError) as caught:
        rockerbox(**settings)

    assert caught.value.setting == setting
    assert instead in caught.value.reason
    assert "ADV" not in caught.value.reason


def test_live_needs_an_advertiser_and_shadow_none() -> None:
    """The message names the variable; the id, the only credential, is in no repr."""
    with pytest.raises(ConfigurationError, match="KIT_ROCKERBOX_ADVERTISER"):
        Rockerbox()

    assert Rockerbox(mode=Mode.SHADOW).advertiser == ""
    assert "ADV_ID" not in repr(rockerbox())
    assert verdicts(rockerbox().judge(frozen("a"), answer(200), now=NOW)) == [Verdict.OK]


# ---------------------------------------------------------------- what a setting is warned of, and a delivery


@pytest.mark.parametrize("key", [["email", "date", "action"], ["order_id"], ["customer_id", "date"]])
def test_a_conversion_key_is_written_as_rockerbox_shows_it(key: list[str]) -> None:
    """contracts.md 7.1: `date` is the day of the timestamp, which each event has."""
    told = dispatch({"name": "purchase", "order_id": "1"}, email="jane@example.com", customer_id="c-1")
    destination = rockerbox(required_fields={"purchase": key})

    assert destination.check(told, now=NOW) is None
    assert destination.warnings() == []


def test_a_field_of_the_key_that_is_absent_is_named() -> None:
    """By the name that the shop wrote."""
    told = dispatch({"name": "purchase", "order_id": "1"}, customer_id="c-1")

    skip = rockerbox(required_fields={"purchase": ["date", "email"]}).check(told, now=NOW)

    assert skip == Skip("required_field", "email", curable=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"required_fields": {"purchase": ["listing_id"]}}, ["required_fields", "'listing_id'", "Conversion.extra"]),
        ({"required_fields": {"purchse": ["order_id"]}}, ["required_fields", "'purchse'", "no event of the kit's"]),
        ({"required_fields": {"conv.purchase": ["order_id"]}, "actions": CONV}, None),
        ({"required_fields": {"news": ["email"]}, "actions": {"news": "conv.news"}}, None),
        ({"takes": {"news"}}, ["takes", "'news'", "no event of the kit's"]),
        ({"takes": {"news", "purchase"}, "actions": {"news": "conv.news"}}, None),
    ],
)
def test_a_name_that_the_kit_does_not_know_is_warned_of(settings: dict[str, Any], words: list[str] | None) -> None:
    """`kit doctor` tells of it; a shop may have names of its own, so nothing is refused for it."""
    found = rockerbox(**settings).warnings()

    assert len(found) == (0 if words is None else 1)
    assert all(word in found[0] for word in words or ())


@pytest.mark.parametrize(
    ("person", "said"),
    [
        ({"phone": "+44 20 7946 0018"}, ["phone left out: not ten digits"]),
        ({"phone": "+1 (212) 867-5309"}, []),
        ({"email": "not-an-email"}, ["email left out: not one address"]),
        ({"email": "FAB1E2E699B3B927CBF875046A64F2225DF02D5CB306F3857424C2BBB87BE61F"}, []),
        ({}, []),
    ],
)
def test_what_was_left_out_is_remarked(person: dict[str, Any], said: list[str]) -> None:
    """contracts.md 9.0: dropped with a warning, and no value in it."""
    told = dispatch({"name": "purchase", "order_id": "1"}, customer_id="c-1", **person)

    assert rockerbox().remarks(told, now=NOW) == said
    assert rockerbox().remarks(replace(told, conversion=Conversion(name="marketing_event")), now=NOW) == ()
