"""AdRoll: contracts.md 2 and 9.1 as requests, faults.md 2.2 as verdicts."""

import json
from datetime import timedelta
from typing import Any

import pytest

from kit.destinations import AdRoll
from kit.destinations.base import Skip
from kit.errors import ConfigurationError
from kit.model import Dispatch, Mode, Verdict

from .dispatch_samples import FPC, NOW, answer, as_golden, dispatch, frozen, golden, ordered, sending, verdicts


def adroll(**settings: Any) -> AdRoll:
    return AdRoll(**{"advertisable": "ADV", "pixel": "PIX", "token": "SAT-1"} | settings)


def complete(name: str = "purchase", **more: Any) -> Dispatch:
    conversion = {"name": name, "order_id": "order-1", "url": "https://shop.test/thanks"} | more.pop("conversion", {})
    return dispatch(conversion, **{"first_party_cookie": FPC, "ip": "12.34.56.89"} | more)


def event(destination: AdRoll, told: Dispatch) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sending(destination, told).payload)
    return content


@pytest.mark.parametrize("name", ["AR-1", "AR-2", "AR-3"])
def test_the_request_is_the_vectors(name: str) -> None:
    """A dispatch in, the vector's request out: keys, their order, and the text of every number."""
    vector = golden(name)
    destination = AdRoll(**vector.settings)

    assert destination.check(vector.told, now=NOW) is None
    request = destination.build([sending(destination, vector.told)])

    assert ordered(as_golden(request)["body"]) == ordered(vector.request["body"])
    assert as_golden(request) == vector.request


def test_a_batch_is_one_array_of_the_frozen_bytes() -> None:
    """What was frozen is sent as it is."""
    request = adroll().build(frozen("a", "b"))

    assert request.content == b"[{},{}]"


# ---------------------------------------------------------------- before sending


@pytest.mark.parametrize(
    ("told", "settings", "code"),
    [
        (complete("refund"), {}, "event_name"),
        (complete("newsletter"), {}, "event_name"),
        (complete("newsletter"), {"event_names": {"newsletter": "formFill"}}, None),
        (complete(), {"pixel_reports": {"purchase"}}, "pixel_reports"),
        (complete(), {"pixel_reports": {"page_view"}}, None),
        (complete(first_party_cookie=None, email="a@b.co"), {}, "identifier"),
        (complete(first_party_cookie=None, email="a@b.co"), {"identifier_policy": "any"}, None),
        (complete(first_party_cookie=None, customer_id="c-1"), {"identifier_policy": "any"}, "identifier"),
        (complete(first_party_cookie=None, click_ids={"adroll": "click123"}), {}, None),
        (complete(first_party_cookie=None, click_ids={"rokt": "click123"}), {}, "identifier"),
        (complete(ip=None), {}, "ip"),
        (complete(conversion={"url": None}), {}, "page_location"),
        (complete(conversion={"url": None}, url="https://shop.test/"), {}, None),
        (complete(at=NOW - timedelta(days=400)), {}, None),
        (complete(at=NOW - timedelta(days=400)), {"max_event_age": timedelta(days=30)}, "time_old"),
    ],
)
def test_what_is_skipped(told: Dispatch, settings: dict[str, Any], code: str | None) -> None:
    """AR-4: a permanent reason is found before the network."""
    skip = adroll(**settings).check(told, now=NOW)

    assert (skip.code if skip else None) == code


def test_the_first_reason_is_the_names() -> None:
    """An event that AdRoll does not know says so, whatever else it lacks."""
    skip = adroll().check(dispatch({"name": "refund", "order_id": "1"}), now=NOW)

    assert isinstance(skip, Skip)
    assert skip.code == "event_name"


# ---------------------------------------------------------------- payload


def test_the_clear_email_is_sent_only_when_asked() -> None:
    """By default both digests; `email_clear` adds the address; no digests, no address, no identifier."""
    told = complete(email="Jane.Doe@example.com")

    assert set(event(adroll(), told)["identifiers"]) == {"first_party_cookie", "email_sha256", "email_md5"}
    assert event(adroll(email_clear=True, email_hashes=()), told)["identifiers"] == {
        "first_party_cookie": FPC,
        "email": "jane.doe@example.com",
    }


def test_a_digest_is_passed_on_and_a_customer_number_that_is_an_email_is_not() -> None:
    """A digest has no MD5; a customer id must not carry a clear address by the back door."""
    told = complete(email="AB" * 32, customer_id="jane@example.com")

    assert event(adroll(), told)["identifiers"] == {"first_party_cookie": FPC, "email_sha256": "ab" * 32}


def test_a_value_is_derived_only_when_every_price_is_known() -> None:
    """The exact sum of price times quantity, off by default."""
    long = [{"id": "a", "price": "123456789012.12345678901234567890", "quantity": 3}]
    items = [{"id": "a", "price": "0.1", "quantity": 3}, {"id": "b", "price": "1"}]
    told = complete("add_to_cart", conversion={"currency": "USD", "items": items})
    partly = complete("add_to_cart", conversion={"currency": "USD", "items": [*items, {"id": "c"}]})

    assert "conversion_value" not in event(adroll(), told)
    assert event(adroll(derive_value=True), told)["conversion_value"] == "1.3"
    assert "conversion_value" not in event(adroll(derive_value=True), partly)
    exact = complete("add_to_cart", conversion={"currency": "USD", "items": long})
    assert event(adroll(derive_value=True), exact)["conversion_value"] == "370370367036.37037036703703703670"


def test_products_go_only_where_adroll_documents_them() -> None:
    """A form has an order id to be reconciled by, no products and no keywords."""
    told = complete("form_fill", conversion={"items": [{"id": "a"}], "keywords": "shoes"})

    assert event(adroll(), told)["event_attributes"] == {"order_id": "order-1"}


# ---------------------------------------------------------------- the answer


@pytest.mark.parametrize(
    ("status", "body", "verdict", "detail"),
    [
        (200, b"{}", Verdict.OK, "HTTP 200"),
        (200, b"", Verdict.OK, "HTTP 200, body_unverified"),
        (200, b"not json", Verdict.OK, "HTTP 200, body_unverified"),
        (200, b"[" * 100_000, Verdict.OK, "HTTP 200, body_unverified"),
        (200, b'{"errors":[]}', Verdict.OK, "HTTP 200"),
        (200, b'{"errors":[{"message":"bad"}]}', Verdict.INVALID, 'HTTP 200 with errors: [{"message": "bad"}]'),
        (
            400,
            b'{"errors":[{"message":"bad jane@x.com","field":"ip"}]}',
            Verdict.INVALID,
            'HTTP 400: {"errors":[{"message":"bad [email]","field":"ip"}]}',
        ),
        (401, b"who is SAT-1?", Verdict.SETUP, "HTTP 401: who is [secret]?"),
        (403, b"", Verdict.SETUP, "HTTP 403"),
        (404, b"", Verdict.SETUP, "HTTP 404"),
        (410, b"", Verdict.SETUP, "HTTP 410"),
        (302, b"", Verdict.SETUP, "HTTP 302"),
        (413, b"", Verdict.OVERSIZE, "HTTP 413"),
        (408, b"", Verdict.TRANSIENT, "HTTP 408"),
        (500, b"", Verdict.TRANSIENT, "HTTP 500"),
        (503, b"", Verdict.TRANSIENT, "HTTP 503"),
    ],
)
def test_what_an_answer_means(status: int, body: bytes, verdict: Verdict, detail: str) -> None:
    """AR-5 with faults.md's meaning; the vendor's words are kept and masked."""
    judgements = adroll().judge(frozen("a", "b"), answer(status, body), now=NOW)

    assert [(judgement.verdict, judgement.detail) for judgement in judgements] == [(verdict, detail)] * 2


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_kept(status: int) -> None:
    """The time that the vendor named comes with the verdict."""
    (judgement,) = adroll().judge(frozen("a"), answer(status, retry_after="7"), now=NOW)

    assert (judgement.verdict, judgement.wait) == (Verdict.THROTTLE, timedelta(seconds=7))


# ---------------------------------------------------------------- batches and repeats


def test_money_goes_alone_and_is_not_repeated() -> None:
    """A purchase is one a request and held on doubt; a page view shares with 99 and may be sent again."""
    destination = adroll()
    (order,), (view,) = frozen("a"), frozen("b", monetary=False)

    assert (destination.batch_limit(order), destination.batch_limit(view)) == (1, 100)
    assert destination.splits is False
    assert destination.repeat_is_safe(view, now=NOW)
    assert not destination.repeat_is_safe(order, now=NOW)
    assert adroll(on_unknown="resend").repeat_is_safe(order, now=NOW)


def test_a_derived_value_is_money_too() -> None:
    """With derive_value no event is known to be without money."""
    (cart,) = frozen("a", monetary=False)

    assert adroll(derive_value=True).batch_limit(cart) == 1
    assert not adroll(derive_value=True).repeat_is_safe(cart, now=NOW)


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"token": ""}, "KIT_ADROLL_TOKEN"),
        ({"token": "SAT-1\n"}, "KIT_ADROLL_TOKEN"),
        ({"advertisable": ""}, "AdRoll.advertisable"),
        ({"pixel": " "}, "AdRoll.pixel"),
        ({"pixel_reports": "purchase"}, "AdRoll.pixel_reports"),
        ({"email_hashes": ("sha1",)}, "AdRoll.email_hashes"),
        ({"event_names": {"newsletter": "news"}}, "AdRoll.event_names"),
        *(
            ({"base_url": url}, "AdRoll.base_url")
            for url in (
                "http://srv.adroll.com",
                "ftp://srv.adroll.com",
                "srv.adroll.com",
                "",
                "https://",
                "https://user:pw@srv.adroll.com",
                "https://srv.adroll.com?a=1",
                "https://srv.adroll.com?",
                "https://srv.adroll.com/#x",
                "http://localhost.evil.test",
                "http://127.0.0.1.evil.test",
                "http://10.0.0.1",
                "https://srv.adroll.com:x",
            )
        ),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], setting: str) -> None:
    """The error names the setting and never its value."""
    with pytest.raises(ConfigurationError) as caught:
        adroll(**settings)

    assert caught.value.setting == setting


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8000", "http://localhost:1/adroll", "http://[::1]:9", "https://a.test"]
)
def test_loopback_may_be_plain(url: str) -> None:
    """A local sandbox needs no certificate."""
    assert str(adroll(base_url=url).build(frozen("a")).url) == f"{url}/api?advertisable=ADV"


def test_live_needs_a_token_and_shadow_none() -> None:
    """The message says what to set, and how to start without it."""
    with pytest.raises(ConfigurationError, match=r'KIT_ADROLL_TOKEN.*mode="shadow" needs none'):
        AdRoll(advertisable="ADV", pixel="PIX")

    assert AdRoll(advertisable="ADV", pixel="PIX", mode=Mode.SHADOW).token == ""


def test_the_token_is_in_no_repr() -> None:
    """What is logged by accident holds no secret."""
    assert "SAT-1" not in repr(adroll())
    assert verdicts(adroll().judge(frozen("a"), answer(200), now=NOW)) == [Verdict.OK]
