"""AdRoll: contracts.md 2 and 9.1 as requests, faults.md 2.2 as verdicts."""

import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import Conversion
from kit.destinations import AdRoll
from kit.destinations.adroll import EVENT_NAMES
from kit.destinations.base import Skip
from kit.errors import ConfigurationError
from kit.model import ClickId, Dispatch, Identifiers, Mode, Verdict
from kit.store import people
from tests.delivery.world import GRANTED, VISITOR, world
from tests.support import NOON, Browser, Page

from .dispatch_samples import (
    FPC,
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


def adroll(**settings: Any) -> AdRoll:
    return AdRoll(**{"advertisable": "ADV", "pixel": "PIX", "token": "SAT-1"} | settings)


def complete(name: str = "purchase", **more: Any) -> Dispatch:
    conversion = {"name": name, "order_id": "order-1", "url": "https://shop.test/thanks"} | more.pop("conversion", {})
    return dispatch(conversion, **{"first_party_cookie": FPC, "ip": "12.34.56.89"} | more)


def event(destination: AdRoll, told: Dispatch) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sending(destination, told).payload)
    return content


def table(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return rows


@pytest.mark.parametrize("name", ["AR-1", "AR-2", "AR-3", "AR-app"])
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


@pytest.mark.parametrize("row", table("AR-4"), ids=lambda row: row["case"])
def test_an_edge_case_is_the_vectors(row: dict[str, Any]) -> None:
    """AR-4: skipped for the vector's reason, or told with the vector's fields."""
    settings, told = row.get("settings", {}), dict(row["dispatch"])
    if (days := settings.pop("max_event_age_days", None)) is not None:
        settings["max_event_age"] = timedelta(days=days)
    if "at" in told:
        told["at"] = datetime.fromisoformat(told["at"])
    destination, one = adroll(**settings), dispatch(told.pop("conversion"), **told)

    skip = destination.check(one, now=NOW)

    assert (skip.code if skip else None) == row.get("skip")
    if skip is None:
        sent = event(destination, one)
        assert sent == sent | row.get("event", {})
        assert row.get("absent") not in sent
        assert list(destination.remarks(one, now=NOW)) == row.get("remarks", [])


@pytest.mark.parametrize(
    ("told", "settings", "code"),
    [
        (complete("newsletter"), {}, "event_name"),
        (complete("newsletter"), {"event_names": {"newsletter": "formFill"}}, None),
        (complete(), {"pixel_reports": {"purchase"}}, "pixel_reports"),
        (complete(), {"pixel_reports": {"page_view"}}, None),
        (complete("news"), {"pixel_reports": {"news"}, "event_names": {"news": "formFill"}}, "pixel_reports"),
        (complete(first_party_cookie=None, click_ids={"rokt": "click123"}), {}, "identifier"),
        (complete(conversion={"url": None}, url="https://shop.test/"), {}, None),
    ],
)
def test_what_is_skipped(told: Dispatch, settings: dict[str, Any], code: str | None) -> None:
    """A permanent reason is found before the network."""
    skip = adroll(**settings).check(told, now=NOW)

    assert (skip.code if skip else None) == code


def test_the_first_reason_is_the_names() -> None:
    """An event that AdRoll does not know says so, whatever else it lacks."""
    skip = adroll().check(dispatch({"name": "refund", "order_id": "1"}), now=NOW)

    assert isinstance(skip, Skip)
    assert skip.code == "event_name"


# ---------------------------------------------------------------- payload


@pytest.mark.parametrize("name", sorted(EVENT_NAMES))
def test_each_of_the_thirteen_has_its_attributes(name: str) -> None:
    """contracts.md 2.3: products where they are documented, keywords of a search, an order id wherever there is one."""
    sent = event(adroll(), complete(name, conversion={"items": [{"id": "a"}], "keywords": "shoes"}))
    order, products, keywords = {"order_id": "order-1"}, {"products": [{"product_id": "a"}]}, {"keywords": "shoes"}

    assert sent["event_name"] == EVENT_NAMES[name]
    assert sent["event_attributes"] == {
        "page_view": order | products,
        "product_search": order | keywords | products,
        "add_to_cart": order | products,
        "purchase": order | products,
    }.get(name, order)


def test_the_thirteen_are_the_contracts() -> None:
    """The closed list, no name more."""
    assert sorted(EVENT_NAMES.values()) == sorted(
        "pageView homeView productSearch addToCart purchase highValuePage gatedContent demoRequest signupPlan "
        "signupTrial contactSales liveChat formFill".split()
    )


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("search", "productSearch"),
        ("view_search_results", "productSearch"),
        ("view_item_list", "productSearch"),
        ("sign_up", "signupPlan"),
        ("complete_registration", "signupPlan"),
        ("generate_lead", "formFill"),
    ],
)
def test_a_tag_managers_name_is_understood_and_may_be_overruled(name: str, theirs: str) -> None:
    """A goal is no purchase, whatever other connectors make of it."""
    assert event(adroll(), complete(name))["event_name"] == theirs
    assert event(adroll(event_names={name: "liveChat"}), complete(name))["event_name"] == "liveChat"


@pytest.mark.parametrize("row", table("AR-emails"), ids=lambda row: row["email"])
def test_an_email_is_normalised_before_it_is_hashed_and_never_twice(row: dict[str, Any]) -> None:
    """contracts.md 9.0: stripped and in lower case; a digest passes on; what is no address is left out."""
    found = event(adroll(), complete(email=row["email"]))["identifiers"]

    assert found == {"first_party_cookie": FPC} | row["sent"]


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        ({}, {"email_sha256", "email_md5"}),
        ({"email_hashes": ("sha256",)}, {"email_sha256"}),
        ({"email_hashes": ("md5",)}, {"email_md5"}),
        ({"email_hashes": ()}, set()),
        ({"email_clear": True}, {"email", "email_sha256", "email_md5"}),
        ({"email_clear": True, "email_hashes": ()}, {"email"}),
    ],
)
def test_the_email_is_sent_as_the_setting_says(settings: dict[str, Any], keys: set[str]) -> None:
    """By default both digests; `email_clear` adds the address; no digests, no address, no identifier."""
    found = event(adroll(**settings), complete(email="Jane.Doe@example.com"))["identifiers"]

    assert found.keys() == {"first_party_cookie"} | keys
    assert found.get("email", "jane.doe@example.com") == "jane.doe@example.com"


def test_a_customer_number_that_is_an_email_is_not_sent() -> None:
    """A customer id must not carry a clear address by the back door."""
    told = complete(customer_id="jane@example.com")

    assert event(adroll(), told)["identifiers"] == {"first_party_cookie": FPC}
    assert event(adroll(email_clear=True), told)["identifiers"]["user_id"] == "jane@example.com"


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


# ---------------------------------------------------------------- compression

LONG = [complete("page_view", event_id=f"v{number}", url=f"https://shop.test/{number}") for number in range(50)]


def test_a_long_body_is_compressed_the_same_way_every_time() -> None:
    """It says so in its header, inflates to the frozen bytes, and a retry repeats the very bytes."""
    destination = adroll()
    sendings = [sending(destination, told) for told in LONG]

    request, again = destination.build(sendings), destination.build(sendings)

    assert request.headers["content-encoding"] == "gzip"
    assert gzip.decompress(request.content) == b"[" + b",".join(one.payload for one in sendings) + b"]"
    assert len(request.content) < 8192
    assert (again.content, again.headers) == (request.content, request.headers)
    assert request.content[4:8] == b"\0\0\0\0"  # no time of its own


@pytest.mark.parametrize(
    ("above", "bodies", "compressed"),
    [(8192, LONG[:1], False), (None, LONG, False), (0, LONG[:2], True), (0, None, False)],
)
def test_a_short_body_and_one_that_would_grow_are_not(
    above: int | None, bodies: list[Dispatch] | None, compressed: bool
) -> None:
    """At or below the bound, switched off, or where gzip makes it longer: as it is, and no header."""
    destination = adroll(gzip_above=above)
    sendings = frozen("a") if bodies is None else [sending(destination, told) for told in bodies]

    request = destination.build(sendings)

    assert ("content-encoding" in request.headers) is compressed
    assert request.content.startswith(b"[") is not compressed


@pytest.mark.parametrize("row", table("AR-4-requests"), ids=lambda row: row["case"])
async def test_so_many_events_are_so_many_requests_that_the_strict_sandbox_takes(
    tmp_path: Path, row: dict[str, Any]
) -> None:
    """AR-4 over sockets: no request carries more than 100; `&dry_run=true` is there when it is set, or not at all."""
    seen = Identifiers(
        visitor=VISITOR, click_ids=(ClickId("adroll", "click123", NOON),), ip="12.34.56.89", url="https://shop.test/"
    )
    async with world(tmp_path, AdRoll, adroll=row.get("settings", {})) as it:
        link = people.OrderLink(order_id="visit", identifiers=seen, consent=GRANTED)
        await it.kit.store.write(people.keep_orders, link)
        for number in range(row["views"]):
            view = Conversion(name="page_view", event_id=f"view-{number}")
            await it.kit.report(view, order_id="visit")
        await it.drain()

        requests = it.sandbox.adroll.requests
        assert [len(request.events) for request in requests] == row["requests"]
        assert [request.headers.get("content-encoding") for request in requests] == [
            "gzip" if events > 1 else None for events in row["requests"]
        ]
        assert {request.query.get("dry_run") for request in requests} == {row["dry_run"]}
        assert it.sandbox.adroll.counted == row["counted"]
        assert it.sandbox.adroll.refusals == ()


@pytest.mark.parametrize("row", table("AR-4-forwarded"), ids=lambda row: row["case"])
async def test_the_ip_is_the_visitors_behind_proxies_that_are_trusted(tmp_path: Path, row: dict[str, Any]) -> None:
    """AR-4 through the middleware: X-Forwarded-For is read from the right, and a made-up address is nobody's."""
    async with world(tmp_path, AdRoll, trusted_proxies=row["trusted_proxies"]) as it:
        browser = Browser(it.kit, ip=row["forwarded"])

        async def orders(page: Page) -> None:
            await it.kit.report(Conversion(order_id="1", url="https://shop.com/thanks"), request=page)

        await browser.open("/?adct=click123")
        await browser.open("/thanks", act=orders)
        await it.drain()

        (told,) = await it.rows()
        assert (told.state, told.reason) == (("skipped", row["skip"]) if "skip" in row else ("delivered", None))
        assert [event["ip"] for event in it.sandbox.adroll.accepted] == ([row["ip"]] if "ip" in row else [])


async def test_an_order_in_a_dry_run_is_said_so_in_the_query_and_counts_nothing(tmp_path: Path) -> None:
    """AR-4, for money as for views."""
    async with world(tmp_path, AdRoll, adroll={"dry_run": True}) as it:
        await it.order()
        await it.drain()

        (request,) = it.sandbox.adroll.requests
        assert (request.query["dry_run"], request.status) == ("true", 200)
        assert it.sandbox.adroll.counted == 0
    assert "dry_run" not in adroll().build(frozen("a")).url.params


# ---------------------------------------------------------------- the answer


@pytest.mark.parametrize("row", [row for row in table("AR-5") if row["status"]], ids=str)
def test_what_an_answer_means(row: dict[str, Any]) -> None:
    """AR-5 with faults.md's meaning; the vendor's words are kept and masked, a shape nobody foresaw is noticed."""
    given = answer(row["status"], row["body"].encode(), **row.get("headers", {}))

    judgements = adroll().judge(frozen("a", "b"), given, now=NOW)

    wait = timedelta(seconds=row["wait"]) if "wait" in row else None
    meaning = (row["verdict"], row["detail"], wait, row.get("again_alone", False))
    assert [(one.verdict, one.detail, one.wait, one.again_alone) for one in judgements] == [meaning] * 2
    assert adroll().is_known(given) is row["known"]


@pytest.mark.parametrize("row", [row for row in table("AR-5") if row["status"] is None], ids=lambda row: row["case"])
def test_what_silence_means(row: dict[str, Any]) -> None:
    """AR-5: money that may have arrived is held for a person; what was never sent, or may count twice, goes again."""
    assert settled(adroll(**row.get("settings", {})), row) == (row["state"], row["reason"])


def test_a_body_nested_without_end_breaks_nothing() -> None:
    """It is a success that nobody can read."""
    given = answer(200, b"[" * 100_000)

    assert verdicts(adroll().judge(frozen("a"), given, now=NOW)) == [Verdict.OK]
    assert adroll().is_known(given) is False


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
    ("settings", "setting", "instead"),
    [
        ({"token": ""}, "KIT_ADROLL_TOKEN", 'mode="shadow" needs none'),
        ({"token": "SAT-1\n"}, "KIT_ADROLL_TOKEN", "remove it"),
        ({"advertisable": ""}, "AdRoll.advertisable", "adroll_adv_id"),
        ({"pixel": " "}, "AdRoll.pixel", "remove it"),
        ({"pixel_reports": "purchase"}, "AdRoll.pixel_reports", '{"purchase"}'),
        ({"pixel_reports": {"pageView"}}, "AdRoll.pixel_reports", "write page_view"),
        ({"pixel_reports": {"purchse"}}, "AdRoll.pixel_reports", "write purchase"),
        ({"pixel_reports": {"newsletter"}}, "AdRoll.pixel_reports", "write one of page_view, home_view"),
        ({"page_views": True, "pixel_reports": {"purchase", "page_view"}}, "AdRoll.page_views", "names page_view too"),
        ({"page_views": True, "pixel_reports": {"home_view"}}, "AdRoll.page_views", "names home_view too"),
        (
            {"page_views": True, "pixel_reports": {"seen"}, "event_names": {"seen": "pageView"}},
            "AdRoll.page_views",
            "names seen too",
        ),
        ({"email_hashes": ("sha1",)}, "AdRoll.email_hashes", '"sha256" and "md5"'),
        ({"email_hashes": "md5"}, "AdRoll.email_hashes", '"sha256" and "md5"'),
        ({"event_names": {"newsletter": "news"}}, "AdRoll.event_names", "write one of pageView, homeView"),
        ({"event_names": {"newsletter": "form_fill"}}, "AdRoll.event_names", "write formFill"),
        ({"event_names": {"newsletter": "formfill"}}, "AdRoll.event_names", "write formFill"),
        ({"event_names": {"newsletter": ""}}, "AdRoll.event_names", "write one of pageView, homeView"),
        ({"on_unknown": "retry"}, "AdRoll.on_unknown", "'hold' nor 'resend'"),
        ({"identifier_policy": "all"}, "AdRoll.identifier_policy", "'strict' nor 'any'"),
        ({"app_url": "app.example.com"}, "AdRoll.app_url", "https://"),
        ({"app_url": "https://app.example.com?x=1"}, "AdRoll.app_url", "no query"),
        ({"gzip_above": -1}, "AdRoll.gzip_above", "None compresses nothing"),
        ({"gzip_above": "8k"}, "AdRoll.gzip_above", "write 8192"),
        ({"gzip_above": True}, "AdRoll.gzip_above", "write 8192"),
        ({"max_event_age": 30}, "AdRoll.max_event_age", "write timedelta(days=30)"),
        ({"max_event_age": timedelta(0)}, "AdRoll.max_event_age", "None sets no bound"),
        ({"token": "SAT-1tök"}, "KIT_ADROLL_TOKEN", "not ASCII"),
        ({"token": 5}, "KIT_ADROLL_TOKEN", "pass a text"),
        ({"advertisable": 5}, "AdRoll.advertisable", "pass a text"),
        ({"event_names": None}, "AdRoll.event_names", 'pass {"newsletter": "formFill"}'),
        ({"event_names": ["newsletter"]}, "AdRoll.event_names", 'is a list; pass {"newsletter": "formFill"}'),
        ({"event_names": {"a": None}}, "AdRoll.event_names", "write AdRoll's name"),
        ({"event_names": {5: "formFill"}}, "AdRoll.event_names", 'pass {"newsletter": "formFill"}'),
        ({"email_hashes": None}, "AdRoll.email_hashes", '"sha256" and "md5"'),
        ({"email_hashes": [5]}, "AdRoll.email_hashes", '"sha256" and "md5"'),
        ({"pixel_reports": None}, "AdRoll.pixel_reports", '{"purchase"}'),
        ({"pixel_reports": [["purchase"]]}, "AdRoll.pixel_reports", '{"purchase"}'),
        ({"on_unknown": ["hold"]}, "AdRoll.on_unknown", "'hold' nor 'resend'"),
        *(
            ({flag: "false"}, f"AdRoll.{flag}", "write True or False")
            for flag in ("dry_run", "page_views", "email_clear", "derive_value")
        ),
        ({"base_url": "https://srv.adroll.com/api"}, "AdRoll.base_url", "write https://srv.adroll.com"),
        ({"base_url": "https://a.test:8443/to/api/"}, "AdRoll.base_url", "write https://a.test:8443/to"),
        ({"base_url": None}, "AdRoll.base_url", "is not a URL"),
        *(
            ({"base_url": url}, "AdRoll.base_url", "")
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
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], setting: str, instead: str) -> None:
    """The error names the setting and says what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        adroll(**settings)

    assert caught.value.setting == setting
    assert instead in caught.value.reason
    assert "SAT-1" not in str(caught.value)


def test_page_views_go_with_a_pixel_that_reports_something_else() -> None:
    """Only views from both sides contradict each other."""
    assert adroll(page_views=True, pixel_reports={"purchase", "form_fill"}).page_views is True
    assert adroll().page_views is False


def test_an_eid_of_another_shape_is_warned_of_and_taken() -> None:
    """AdRoll documents no form for them, so nothing is refused for it; the account's ids are no secret but long."""
    eids = {"advertisable": "SANDBOXADVERTISABLE001", "pixel": "SANDBOXPIXEL0000000001"}

    assert adroll(**eids).warnings() == []
    assert [text.split()[0] for text in adroll(**eids | {"pixel": "sandboxpixel0000000001"}).warnings()] == [
        "AdRoll.pixel"
    ]
    assert [text.split()[0] for text in adroll().warnings()] == ["AdRoll.advertisable", "AdRoll.pixel"]
    assert [text.split()[0] for text in adroll(**eids, dry_run=True).warnings()] == ["dry_run"]


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


# ---------------------------------------------------------------- no address in clear

_LOCAL = st.text("abcxyz.+_-", min_size=1, max_size=6)
_ADDRESS = st.builds("{}@{}.{}".format, _LOCAL, st.text("abc", min_size=1, max_size=5), st.sampled_from(["co", "com"]))
_BEFORE, _AFTER = st.sampled_from(["", "for ", "<", "(", "a="]), st.sampled_from(["", " thanks", ">", ")", "&b=1"])


@st.composite
def _written(draw: st.DrawFn) -> tuple[str, str]:
    """Return an address, and a text with it somewhere in it, also percent-encoded."""
    address = draw(_ADDRESS)
    shown = draw(st.sampled_from([address, address.upper(), address.replace("@", "%40")]))
    return address, f"{draw(_BEFORE)}{shown}{draw(_AFTER)}"


_FIELDS = (
    "order_id", "keywords", "customer_id", "url", "query", "metadata", "metadata key", "adct", "user_agent", "item id",
    "item category", "item group", "device id", "device os", "device app",
)  # fmt: skip


def _with(place: str, text: str) -> Dispatch:
    """Return a search by an app's user with this text in one place."""
    item = {"id": "a"} | {place.removeprefix("item "): text for _ in "x" if place.startswith("item ")}
    device = {"app": "com.a"} | {place.removeprefix("device "): text for _ in "x" if place.startswith("device ")}
    own = {place: text} if place in {"order_id", "keywords", "customer_id"} else {}
    metadata = {"metadata": {"a": text}, "metadata key": {text: "a"}}.get(place, {})
    url = {"url": f"https://shop.test/{text}/thanks", "query": f"https://shop.test/?utm_source={text}"}.get(place)
    return dispatch(
        {"name": "product_search", "items": [item], "device": device, "metadata": metadata, **own},
        first_party_cookie=FPC,
        ip="12.34.56.89",
        url=url,
        user_agent=text if place == "user_agent" else "Browser/1.0",
        click_ids={"adroll": text} if place == "adct" else {},
    )


@settings(deadline=None)
@given(place=st.sampled_from(_FIELDS), written=_written())
def test_no_address_leaves_in_clear_in_any_field(place: str, written: tuple[str, str]) -> None:
    """Whatever text a shop writes an address into, neither its payload nor a remark about it shows it."""
    address, text = written
    destination, told = adroll(app_url="https://app.test"), _with(place, text)

    sent = unquote(sending(destination, told).payload.decode()).lower()
    remarks = destination.remarks(told, now=NOW)

    assert address not in sent
    assert [remark for remark in remarks if "e-mail address" in remark]
    assert not any("@" in remark for remark in remarks)
    assert destination.check(told, now=NOW) is None


@settings(deadline=None)
@given(place=st.sampled_from(_FIELDS), written=_written())
def test_an_address_leaves_where_the_setting_says_so(place: str, written: tuple[str, str]) -> None:
    """`email_clear` is for all of the event, and then there is nothing to remark."""
    destination, told = adroll(email_clear=True, app_url="https://app.test"), _with(place, written[1])

    assert written[0] in unquote(sending(destination, told).payload.decode()).lower()
    assert list(destination.remarks(told, now=NOW)) == []


@pytest.mark.parametrize("text", ["rosé @ home", "@studio", "50% off 40 shoes", "2@5 or 3@7", "Ünïcode 40"])
def test_what_is_no_address_passes(text: str) -> None:
    """A sign alone is none."""
    sent = event(adroll(), _with("keywords", text))

    assert sent["event_attributes"]["keywords"] == text
