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
    Destination,
    Json,
    Sending,
    Skip,
    Trial,
    endpoint,
    first_sending,
    require,
    require_base_url,
    require_flags,
    require_names,
    require_table,
    without_empty,
)
from kit.errors import ConfigurationError
from kit.model import ClickId, Conversion, Device, Dispatch, Identifiers, Item, Mode

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
#: AdRoll documents no bound: an older event is sent, and remarked upon.
_OLD = timedelta(days=30)
#: The parts of a URL, each of which may hold an e-mail address of its own.
_PARTS = re.compile(r"([/?&=;])")


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

    `Conversion.metadata` goes as `external_data`. Unless `email_clear`, no e-mail address leaves in another field:
    texts of metadata, a customer id and a click id with one in it are left out, an order or product id with one is
    hashed, and elsewhere "[email]" stands for it, in the page's URL "email".

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
        require_base_url("AdRoll.base_url", self.base_url, "/api")
        if self.app_url is not None:
            require_base_url("AdRoll.app_url", self.app_url)
        require_flags("AdRoll", self, "dry_run", "page_views", "email_clear", "derive_value")
        self._check_bounds()
        self._check_words()
        self._check_event_names()
        self._check_pixel_reports()

    def _check_bounds(self) -> None:
        if self.gzip_above is not None:
            if not isinstance(self.gzip_above, int) or isinstance(self.gzip_above, bool):
                raise ConfigurationError("AdRoll.gzip_above", "is no whole number; write 8192, in bytes")
            if self.gzip_above < 0:
                raise ConfigurationError("AdRoll.gzip_above", "is below 0; None compresses nothing")
        if self.max_event_age is not None:
            if not isinstance(self.max_event_age, timedelta):
                raise ConfigurationError("AdRoll.max_event_age", "is no duration; write timedelta(days=30)")
            if self.max_event_age <= timedelta(0):
                raise ConfigurationError("AdRoll.max_event_age", "is not longer than nothing; None sets no bound")

    def _check_words(self) -> None:
        for setting, word, known in (
            ("on_unknown", self.on_unknown, ("hold", "resend")),
            ("identifier_policy", self.identifier_policy, ("strict", "any")),
        ):
            if word not in known:
                raise ConfigurationError(f"AdRoll.{setting}", f"is neither {known[0]!r} nor {known[1]!r}")
        require_names("AdRoll.email_hashes", self.email_hashes, 'a set of "sha256" and "md5"')
        if not set(self.email_hashes) <= {"sha256", "md5"}:
            raise ConfigurationError("AdRoll.email_hashes", 'takes a set of "sha256" and "md5"')

    def _check_event_names(self) -> None:
        require_table("AdRoll.event_names", self.event_names, '{"newsletter": "formFill"}')
        for name in self.event_names.values():
            if not isinstance(name, str):
                raise ConfigurationError("AdRoll.event_names", f"holds a {type(name).__name__}; write AdRoll's name")
            if name not in EVENT_NAMES.values():
                meant = EVENT_NAMES.get(name) or _closest(name, EVENT_NAMES.values())
                raise ConfigurationError("AdRoll.event_names", f"AdRoll has no event {name!r}; write {meant}")

    def _check_pixel_reports(self) -> None:
        require_names("AdRoll.pixel_reports", self.pixel_reports, 'a set such as {"purchase"}')
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

    @property
    def own_names(self) -> Collection[str]:
        """The shop's names in `event_names`, and those of tag managers."""
        return self.event_names.keys() | GENERIC_NAMES.keys()

    def warnings(self) -> Sequence[str]:
        """Return that a dry run counts nothing, and which EIDs do not look like one: AdRoll documents no form."""
        odd = [
            *Destination.warnings(self),
            *(
                f"AdRoll.{setting} does not look like an EID: 20 to 32 capital letters and digits"
                for setting, eid in (("advertisable", self.advertisable), ("pixel", self.pixel))
                if not _EID.fullmatch(eid)
            ),
        ]
        return [*odd, "dry_run is set: AdRoll checks what it is sent, and counts none of it"] if self.dry_run else odd

    def remarks(self, dispatch: Dispatch, *, now: datetime) -> Sequence[str]:
        """Return what was left out or is doubtful: an identifier, an e-mail in a place of its own, the event's age."""
        conversion, known, said = dispatch.conversion, dispatch.identifiers, []
        if not self._can_be_matched(known):
            said.append("neither adct nor first-party cookie: AdRoll may not match it")
        text = conversion.email or known.email
        if text and identity.email_sha256(text) is None:
            said.append("email left out: not one address")
        if now - dispatch.at > _OLD:
            said.append(f"{(now - dispatch.at).days} days old: AdRoll documents no bound")
        if hidden := self._hidden(conversion, known):
            said.append(f"an e-mail address is not told in {', '.join(hidden)}")
        return said

    def batch_limit(self, sending: Sending) -> int:
        """Return 1 for money, whose repeat AdRoll cannot tell, else 100."""
        return 1 if self._holds_money(sending) else LARGEST_BATCH

    @property
    def splits(self) -> bool:
        """False: AdRoll neither reports by event nor dedupes, so a refused batch is sent again one by one."""
        return False

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first reason against it.

        Of event_name, pixel_reports, negative_value, identifier, ip, page_location, time_old.
        """
        conversion, known = dispatch.conversion, dispatch.identifiers
        if self._event_name(conversion.name) is None:
            return Skip("event_name", "AdRoll has no event of this name; event_names= can map it to one of the 13")
        if conversion.name in self.pixel_reports:
            return Skip("pixel_reports", "the pixel on the page reports it")
        if (value := self._value(conversion)) is not None and value < 0:
            return Skip("negative_value", "AdRoll knows no refund: it takes no negative value")
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
        value, masked = self._value(conversion), self._masked
        return without_empty(
            {
                "advertisable_eid": self.advertisable,
                "pixel_eid": self.pixel,
                "event_name": event_name,
                "page_location": self._page_location(dispatch),
                "ip": known.ip,
                "user_agent": masked(known.user_agent),
                "conversion_value": None if value is None else money.plain(value),
                "currency": conversion.currency,
                "timestamp": _epoch_seconds(dispatch.at),
                "event_attributes": self._attributes(conversion, event_name),
                "external_data": self._external_data(conversion),
                **{name: masked(text) for name, text in _told_of(device).items()},
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

    def _coded(self, body: bytes) -> tuple[bytes, dict[str, str]]:
        """Return the body as it is sent, the same bytes at every retry, and the header that says so."""
        if self.gzip_above is None or len(body) <= self.gzip_above:
            return body, {}
        # Level 1: an eighth more bytes than level 6 for a third of its time.
        packed = gzip.compress(body, compresslevel=1, mtime=0)
        return (packed, {"Content-Encoding": "gzip"}) if len(packed) < len(body) else (body, {})

    def _event_name(self, name: str) -> str | None:
        return self.event_names.get(name) or EVENT_NAMES.get(name) or GENERIC_NAMES.get(name)

    def _value(self, conversion: Conversion) -> Decimal | None:
        derived = conversion.value is None and self.derive_value
        return _sum_of(conversion) if derived else conversion.value

    def _page_location(self, dispatch: Dispatch) -> str | None:
        """Return the page's URL; for an app, which has none, one made of `app_url` and the device."""
        conversion = dispatch.conversion
        if url := conversion.url or dispatch.identifiers.url:
            return url if self.email_clear else _without_addresses(url)
        if self.app_url is None or conversion.device is None or conversion.device.app is None:
            return None
        told = {name: self._masked(text) for name, text in _told_of(conversion.device).items()}
        return f"{self.app_url}?{urlencode(told, quote_via=quote, safe='')}"

    def _external_data(self, conversion: Conversion) -> str | None:
        told = {key: text for key, text in conversion.metadata.items() if self.email_clear or not _names_one(key, text)}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":")) if told else None

    def _attributes(self, conversion: Conversion, event_name: str) -> dict[str, Json]:
        # Products go where contracts.md 2.3 lists them; an order id goes always, so that reports can be reconciled.
        # What only samples show, `total` and `user_id`, stands in `conversion_value` and `identifiers` already.
        with_products = event_name in _WITH_PRODUCTS
        return without_empty(
            {
                "order_id": self._id(conversion.order_id),
                "keywords": self._masked(conversion.keywords) if event_name == "productSearch" else None,
                "products": [self._product(item) for item in conversion.items] if with_products else None,
            }
        )

    def _product(self, item: Item) -> dict[str, Json]:
        return without_empty(
            {
                "product_id": self._id(item.id),
                "product_group": self._masked(item.group),
                "category": self._masked(item.category),
                "quantity": item.quantity if "quantity" in item.model_fields_set else None,
                # A discount's line has a negative one, which is no price.
                "price": None if item.price is None or item.price < 0 else money.plain(item.price),
            }
        )

    def _masked(self, text: str | None) -> str | None:
        return text if text is None or self.email_clear else identity.without_addresses(text)

    def _id(self, text: str | None) -> str | None:
        return text if text is None or self.email_clear else identity.id_without_address(text)

    def _unless_address(self, text: str | None) -> str | None:
        """Return an identifier that would be worth nothing if it were changed; None for one with an address in it."""
        return text if text is None or self.email_clear or not identity.holds_address(text) else None

    def _hidden(self, conversion: Conversion, known: Identifiers) -> Sequence[str]:
        """Return in which of AdRoll's fields an e-mail address would have stood."""
        if self.email_clear:
            return ()
        held = [
            ("adct", known.click_id(self.vendor)),
            ("user_id", conversion.customer_id or known.customer_id),
            ("user_agent", known.user_agent),
            ("order_id", conversion.order_id),
            ("keywords", conversion.keywords),
        ]
        for item in conversion.items:
            held += ("products", item.id), ("products", item.group), ("products", item.category)
        for pair in conversion.metadata.items():
            held += [("external_data", text) for text in pair]
        if conversion.device is not None:
            held += [("device", text) for text in (conversion.device.id, *_told_of(conversion.device).values())]
        names = [name for name, text in held if text and ("@" in text or "40" in text) and identity.holds_address(text)]
        url = conversion.url or known.url
        if url is not None and url != _without_addresses(url):
            names.append("page_location")
        return list(dict.fromkeys(names))

    def _holds_money(self, sending: Sending) -> bool:
        return sending.monetary or self.derive_value

    def _identifiers(self, dispatch: Dispatch) -> dict[str, str]:
        conversion, known = dispatch.conversion, dispatch.identifiers
        text = conversion.email or known.email or ""
        address = identity.email(text)
        digest = identity.sha256(address) if address else identity.sha256_digest(text)
        return without_empty(
            {
                "adct": self._unless_address(known.click_id(self.vendor)),
                "first_party_cookie": known.first_party_cookie,
                "email": address if self.email_clear else None,
                "email_sha256": digest if "sha256" in self.email_hashes else None,
                "email_md5": identity.md5(address) if address and "md5" in self.email_hashes else None,
                "device_id": self._unless_address(_device_id(conversion)),
                # Some shops number their customers by e-mail address.
                "user_id": self._unless_address(conversion.customer_id or known.customer_id),
            }
        )

    def _can_be_matched(self, known: Identifiers) -> bool:
        """Return whether there is one of the two that AdRoll's newer page asks for (contracts.md 10.4)."""
        return bool(known.first_party_cookie or self._unless_address(known.click_id(self.vendor)))

    def _has_identifier(self, dispatch: Dispatch) -> bool:
        """Return whether `_identifiers` would hold one that counts, without making every digest for it."""
        known = dispatch.identifiers
        if self._can_be_matched(known):
            return True
        if self.identifier_policy == "strict":
            return False
        if self._unless_address(_device_id(dispatch.conversion)) is not None:
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


def _names_one(key: str, text: str) -> bool:
    return "@" in key or "@" in text or identity.holds_address(key) or identity.holds_address(text)


def _without_addresses(url: str) -> str:
    """Return the URL with `email` for each e-mail address in its path and parameters."""
    if "@" not in url and "40" not in url:
        return url
    return "".join(identity.without_addresses(part).replace("[email]", "email") for part in _PARTS.split(url))


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
