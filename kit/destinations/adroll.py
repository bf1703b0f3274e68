"""AdRoll's Server-to-Server Event API: thirteen event names, one array a request (contracts.md section 2)."""

import gzip
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from difflib import get_close_matches
from typing import ClassVar, Literal
from urllib.parse import quote, urlencode

import httpx

from kit import identity, money
from kit.destinations.base import (
    Answer,
    Destination,
    Json,
    Judgement,
    Sending,
    Skip,
    Trial,
    endpoint,
    first_sending,
    json_object,
    judge_with_words,
    masked,
    require,
    require_base_url,
    without_empty,
)
from kit.errors import ConfigurationError
from kit.model import ClickId, Conversion, Device, Dispatch, Identifiers, Item, Mode, Verdict

#: The closed list, by the kit's names (contracts.md 2.3). AdRoll knows no refund.
EVENT_NAMES: Mapping[str, str] = {
    "page_view": "pageView",
    "home_view": "homeView",
    "product_search": "productSearch",
    "add_to_cart": "addToCart",
    "purchase": "purchase",
    "high_value_page": "highValuePage",
    "gated_content": "gatedContent",
    "demo_request": "demoRequest",
    "signup_plan": "signupPlan",
    "signup_trial": "signupTrial",
    "contact_sales": "contactSales",
    "live_chat": "liveChat",
    "form_fill": "formFill",
}
#: Names that tag managers use, as they are understood here; `event_names` overrules them.
GENERIC_NAMES: Mapping[str, str] = {
    "search": "productSearch",
    "view_search_results": "productSearch",
    "view_item_list": "productSearch",
    "sign_up": "signupPlan",
    "complete_registration": "signupPlan",
    "generate_lead": "formFill",
}
_WITH_PRODUCTS = {"pageView", "productSearch", "addToCart", "purchase"}
_VIEWS = {"pageView", "homeView"}
#: What EIDs look like elsewhere; no page of AdRoll's says that they must.
_EID = re.compile(r"[A-Z0-9]{20,32}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

#: "No more than 100 events", AdRoll asks.
LARGEST_BATCH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class AdRoll(Destination):
    """Reports to AdRoll. It cannot tell a repeat, so an order goes alone, and one with an unknown outcome is held.

    `advertisable`, `pixel`  the EIDs in the pixel's snippet, `adroll_adv_id` and `adroll_pix_id`; not secret.
    `token`                  the Server Access Token from the account manager; live needs it.
    `dry_run`                AdRoll checks and logs, and counts nothing.
    `pixel_reports`          the kit's event names that the pixel on the page reports already: skipped here, or AdRoll
                             would count them twice.
    `page_views`             pages report their views here, where no pixel does: the middleware sends them.
    `event_names`            your own event names to AdRoll's, `{"newsletter": "formFill"}`.
    `email_hashes`           which digests of the e-mail are sent; `email_clear=True` sends the address itself too.
    `on_unknown`             an order that may have arrived: "hold" it for a person, or "resend" it and risk a second.
    `identifier_policy`      "strict" sends with a click id or the first-party cookie only; "any" takes an e-mail or a
                             device id too.
    `app_url`                such as https://app.example.com, a host of yours that need not resolve: an event of an app
                             has no page, so its URL is made of this and the device.
    `derive_value`           an event without a value gets the sum of price times quantity.
    `max_event_age`          older events are skipped(time_old); AdRoll documents no bound.
    `gzip_above`             a body of more bytes is sent compressed, where that makes it shorter; None compresses none.

    `Conversion.metadata` goes as `external_data`, without texts that hold an e-mail address unless `email_clear`.

    Raises ConfigurationError when a setting is missing or cannot be. Source: contracts.md 2, 9.1, 10.
    """

    vendor: ClassVar[str] = "adroll"
    click_params: ClassVar[tuple[str, ...]] = ("adct",)

    name: str = "adroll"
    advertisable: str
    pixel: str
    token: str = field(default="", repr=False)
    dry_run: bool = False
    pixel_reports: Collection[str] = frozenset()
    page_views: bool = False
    event_names: Mapping[str, str] = field(default_factory=dict)
    email_hashes: Collection[Literal["sha256", "md5"]] = ("sha256", "md5")
    email_clear: bool = False
    on_unknown: Literal["hold", "resend"] = "hold"
    identifier_policy: Literal["strict", "any"] = "strict"
    app_url: str | None = None
    derive_value: bool = False
    max_event_age: timedelta | None = None
    gzip_above: int | None = 8192
    base_url: str = "https://srv.adroll.com"

    def __post_init__(self) -> None:
        require("AdRoll.advertisable", self.advertisable, "it is adroll_adv_id in the pixel's snippet")
        require("AdRoll.pixel", self.pixel, "it is adroll_pix_id in the pixel's snippet")
        if self.mode == Mode.LIVE or self.token:
            require("KIT_ADROLL_TOKEN", self.token, 'live needs AdRoll(token=...); mode="shadow" needs none')
        require_base_url("AdRoll.base_url", self.base_url)
        if self.app_url is not None:
            require_base_url("AdRoll.app_url", self.app_url)
        if self.gzip_above is not None and self.gzip_above < 0:
            raise ConfigurationError("AdRoll.gzip_above", "is below 0; None compresses nothing")
        self._check_words()
        self._check_event_names()
        self._check_pixel_reports()

    def _check_words(self) -> None:
        for setting, word, known in (
            ("on_unknown", self.on_unknown, ("hold", "resend")),
            ("identifier_policy", self.identifier_policy, ("strict", "any")),
        ):
            if word not in known:
                raise ConfigurationError(f"AdRoll.{setting}", f"is neither {known[0]!r} nor {known[1]!r}")
        if isinstance(self.email_hashes, str) or not set(self.email_hashes) <= {"sha256", "md5"}:
            raise ConfigurationError("AdRoll.email_hashes", 'takes a set of "sha256" and "md5"')

    def _check_event_names(self) -> None:
        for name in self.event_names.values():
            if name not in EVENT_NAMES.values():
                meant = EVENT_NAMES.get(name) or _closest(name, EVENT_NAMES.values())
                raise ConfigurationError("AdRoll.event_names", f"AdRoll has no event {name!r}; write {meant}")

    def _check_pixel_reports(self) -> None:
        if isinstance(self.pixel_reports, str):
            raise ConfigurationError("AdRoll.pixel_reports", 'is a text; pass a set such as {"purchase"}')
        ours = {theirs: name for name, theirs in EVENT_NAMES.items()}
        for name in self.pixel_reports:
            theirs = self._event_name(name)
            if theirs is None:
                meant = ours.get(name) or _closest(name, [*EVENT_NAMES, *self.event_names])
                raise ConfigurationError("AdRoll.pixel_reports", f"no event is called {name!r}; write {meant}")
            if self.page_views and theirs in _VIEWS:
                raise ConfigurationError(
                    "AdRoll.page_views", f"pixel_reports names {name} too; AdRoll would count views twice, take one out"
                )

    def warnings(self) -> Sequence[str]:
        """Return that a dry run counts nothing, and which EIDs do not look like one: AdRoll documents no form."""
        odd = [
            f"AdRoll.{setting} does not look like an EID: 20 to 32 capital letters and digits"
            for setting, eid in (("advertisable", self.advertisable), ("pixel", self.pixel))
            if not _EID.fullmatch(eid)
        ]
        return [*odd, "dry_run is set: AdRoll checks what it is sent, and counts none of it"] if self.dry_run else odd

    def batch_limit(self, sending: Sending) -> int:
        """Return 1 for money, whose repeat AdRoll cannot tell, else 100."""
        return 1 if self._holds_money(sending) else LARGEST_BATCH

    @property
    def splits(self) -> bool:
        """False: AdRoll neither reports by event nor dedupes, so a refused batch is sent again one by one."""
        return False

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first of event_name, pixel_reports, identifier, ip, page_location, time_old that forbids it."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        if self._event_name(conversion.name) is None:
            return Skip("event_name", "AdRoll has no event of this name; event_names= can map it to one of the 13")
        if conversion.name in self.pixel_reports:
            return Skip("pixel_reports", "the pixel on the page reports it")
        if not self._has_identifier(dispatch):
            return Skip("identifier", "AdRoll needs its click id (adct) or first-party cookie", curable=True)
        if not known.ip:
            return Skip("ip", "AdRoll needs the visitor's ip; behind a proxy see trusted_proxies", curable=True)
        if self._page_location(dispatch) is None:
            return Skip("page_location", _NO_PAGE, curable=True)
        if self.max_event_age is not None and now - dispatch.at > self.max_event_age:
            return Skip("time_old", "older than max_event_age")
        return None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event; keys that would be empty are left out. Money and prices are decimal strings."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        device = conversion.device or _NO_DEVICE
        event_name = self._event_name(conversion.name) or ""
        value = conversion.value
        if value is None and self.derive_value:
            value = _sum_of(conversion)
        return without_empty(
            {
                "advertisable_eid": self.advertisable,
                "pixel_eid": self.pixel,
                "event_name": event_name,
                "page_location": self._page_location(dispatch),
                "ip": known.ip,
                "user_agent": known.user_agent,
                "conversion_value": None if value is None else money.plain(value),
                "currency": conversion.currency,
                "timestamp": _epoch_seconds(dispatch.at),
                "event_attributes": _attributes(conversion, event_name),
                "external_data": self._external_data(conversion),
                **_told_of(device),
                "identifiers": self._identifiers(dispatch),
            }
        )

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of these events as one array, each with the bytes it was frozen with; long ones in gzip."""
        dry_run = [("dry_run", "true")] if self.dry_run else []
        body, coding = self._coded(b"[" + b",".join(sending.payload for sending in sendings) + b"]")
        return httpx.Request(
            "POST",
            endpoint(self.base_url, "/api", ("advertisable", self.advertisable), *dry_run),
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json", **coding},
            content=body,
        )

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return one meaning for all: AdRoll documents no answer by event.

        Any 2xx is success, marked `body_unverified` when its body is not a JSON object; one that lists errors is not:
        it is invalid, and of a batch each event is then sent alone, which finds the one that is meant.
        """
        judgement = judge_with_words(answer, now=now, secrets=(self.token,))
        if judgement.verdict is Verdict.OK:
            judgement = self._read_success(judgement, answer)
        return [judgement] * len(sendings)

    def is_known(self, answer: Answer) -> bool:
        """Return False for a success that lists errors, too: no page of AdRoll's tells of one."""
        body = json_object(answer.body) if 200 <= answer.status < 300 else None
        return Destination.is_known(self, answer) and not any((body or {}).get(name) for name in ("error", "errors"))

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return True for events without money; for money only when `on_unknown` accepts a second count."""
        return self.on_unknown == "resend" or not self._holds_money(sending)

    def trial(self, *, now: datetime) -> Trial:
        """Return a dry run of a page view that nobody made: AdRoll checks and logs it, and counts nothing."""
        dispatch = Dispatch(
            event_id="kit-doctor",
            at=now,
            conversion=Conversion(name="page_view", url="https://kit-doctor.example/"),
            identifiers=Identifiers(ip="192.0.2.1", click_ids=(ClickId(self.vendor, "kit-doctor", now),)),
        )
        sending = first_sending(self, dispatch, now=now)
        return Trial(request=replace(self, dry_run=True).build([sending]), sending=sending)

    def _read_success(self, judgement: Judgement, answer: Answer) -> Judgement:
        body = json_object(answer.body)
        if body is None:
            return replace(judgement, detail=f"{judgement.detail}, body_unverified")
        if errors := body.get("errors") or body.get("error"):
            said = masked(json.dumps(errors, ensure_ascii=False), secrets=(self.token,))
            return Judgement(
                verdict=Verdict.INVALID, detail=f"{judgement.detail} with errors: {said}", again_alone=True
            )
        return judgement

    def _coded(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        """Return the body as it is sent, the same bytes at every retry, and the header that says so."""
        if self.gzip_above is None or len(body) <= self.gzip_above:
            return body, {}
        packed = gzip.compress(body, compresslevel=6, mtime=0)
        return (packed, {"Content-Encoding": "gzip"}) if len(packed) < len(body) else (body, {})

    def _event_name(self, name: str) -> str | None:
        return self.event_names.get(name) or EVENT_NAMES.get(name) or GENERIC_NAMES.get(name)

    def _page_location(self, dispatch: Dispatch) -> str | None:
        """Return the page's URL; for an app, which has none, one made of `app_url` and the device."""
        conversion = dispatch.conversion
        if url := conversion.url or dispatch.identifiers.url:
            return url
        if self.app_url is None or conversion.device is None or conversion.device.app is None:
            return None
        return f"{self.app_url}?{urlencode(_told_of(conversion.device), quote_via=quote, safe='')}"

    def _external_data(self, conversion: Conversion) -> str | None:
        told = {key: text for key, text in conversion.metadata.items() if self.email_clear or "@" not in key + text}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")) if told else None

    def _holds_money(self, sending: Sending) -> bool:
        return sending.monetary or self.derive_value

    def _identifiers(self, dispatch: Dispatch) -> dict[str, str]:
        conversion, known = dispatch.conversion, dispatch.identifiers
        text = conversion.email or known.email or ""
        address = identity.email(text)
        digest = identity.sha256(address) if address else identity.sha256_digest(text)
        user_id = conversion.customer_id or known.customer_id or ""
        # Some shops number their customers by e-mail address.
        clear = self.email_clear or "@" not in user_id or identity.email(user_id) is None
        return without_empty(
            {
                "adct": known.click_id(self.vendor),
                "first_party_cookie": known.first_party_cookie,
                "email": address if self.email_clear else None,
                "email_sha256": digest if "sha256" in self.email_hashes else None,
                "email_md5": identity.md5(address) if address and "md5" in self.email_hashes else None,
                "device_id": _device_id(conversion),
                "user_id": user_id if clear else None,
            }
        )

    def _has_identifier(self, dispatch: Dispatch) -> bool:
        """Return whether `_identifiers` would hold one that counts, without making every digest for it."""
        known = dispatch.identifiers
        if known.click_id(self.vendor) or known.first_party_cookie:
            return True
        if self.identifier_policy == "strict":
            return False
        if _device_id(dispatch.conversion) is not None:
            return True
        text = dispatch.conversion.email or known.email or ""
        if identity.email(text):
            return self.email_clear or bool(self.email_hashes)
        return "sha256" in self.email_hashes and identity.sha256_digest(text) is not None


_NO_DEVICE = Device()
_NO_PAGE = "AdRoll needs the URL of the page; pass Conversion(url=...), or for an app AdRoll(app_url=...) and a device"


def _closest(name: str, known: Collection[str]) -> str:
    return " or ".join(get_close_matches(name, known, n=1)) or f"one of {', '.join(known)}"


def _told_of(device: Device) -> dict[str, str]:
    """Return an app's device by AdRoll's names, as fields of the event and as parameters of its URL."""
    return without_empty(
        {
            "device_os": device.os,
            "device_type": device.type,
            "package_app_name": device.app,
            "package_app_version": device.app_version,
        }
    )


def _device_id(conversion: Conversion) -> str | None:
    """Return IDFA or GAID; none for the one of zeros that a device shows whose owner allows no tracking."""
    found = conversion.device.id if conversion.device is not None else None
    return found if found is not None and found.strip("0-") else None


def _attributes(conversion: Conversion, event_name: str) -> dict[str, Json]:
    # Products go where contracts.md 2.3 lists them; an order id goes always, so that reports can be reconciled. What
    # only samples show, `total` and `user_id`, stands in `conversion_value` and `identifiers` already.
    with_products = event_name in _WITH_PRODUCTS
    return without_empty(
        {
            "order_id": conversion.order_id,
            "keywords": conversion.keywords if event_name == "productSearch" else None,
            "products": [_product(item) for item in conversion.items] if with_products else None,
        }
    )


def _product(item: Item) -> dict[str, Json]:
    return without_empty(
        {
            "product_id": item.id,
            "product_group": item.group,
            "category": item.category,
            "quantity": item.quantity if "quantity" in item.model_fields_set else None,
            "price": None if item.price is None else money.plain(item.price),
        }
    )


def _sum_of(conversion: Conversion) -> Decimal | None:
    prices = [(item.price, item.quantity) for item in conversion.items if item.price is not None]
    if not prices or len(prices) < len(conversion.items) or conversion.currency is None:
        return None
    with localcontext(prec=100):
        return sum((price * quantity for price, quantity in prices), Decimal(0))


def _epoch_seconds(at: datetime) -> float:
    """Return epoch seconds with milliseconds at most; a whole second stays an integer."""
    milliseconds = (at - _EPOCH) // timedelta(milliseconds=1)
    return milliseconds / 1000 if milliseconds % 1000 else milliseconds // 1000
