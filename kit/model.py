"""The nouns: what a visit carries, what a shop reports, what a vendor is told. Frozen values, no I/O."""

import re
import unicodedata
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, NewType, Self

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from kit import money
from kit.errors import InvalidInput

VisitorId = NewType("VisitorId", str)
"""22 URL-safe characters: 128 random bits."""

Clock = Callable[[], datetime]
"""Returns the time now, aware, in UTC."""

#: How long a delivery is tried before it is given up, unless its destination says otherwise (faults.md 2.1).
HORIZON = timedelta(days=14)
#: A click older than this when something was bought is nobody's credit any more.
CLICK_WINDOW = timedelta(days=90)

#: The store keeps so many letters of a decision's name.
LONGEST_SIGNAL = 32

_EVENT_NAMESPACE = uuid.UUID("5e2a4a0e-6a4f-5d0c-9d55-0b1f6f2f1c53")


def utc_now() -> datetime:
    return datetime.now(UTC)


# ---------------------------------------------------------------- what a visit carries


@dataclass(frozen=True, slots=True)
class ClickId:
    """An ad platform's token from a landing URL. `vendor` is `adroll`, `rokt` or a parameter's own name (`gclid`).

    `visitor` is the browser that clicked, where that is known: the same click from two of them is one.
    """

    vendor: str
    value: str = field(repr=False)
    clicked_at: datetime
    visitor: VisitorId | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Touchpoint:
    """One arrival from an advertisement or a campaign link. URLs are cleaned before they stand here.

    The cookie has no room for URLs and the User-Agent: they are in the touchpoint of a landing, on its way to the
    store.
    """

    at: datetime
    click_ids: tuple[ClickId, ...] = ()
    utm: Mapping[str, str] = field(default_factory=dict)
    url: str | None = None
    referrer: str | None = None
    user_agent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Visitor:
    """A browser that we know by our own signed cookie."""

    id: VisitorId
    issued_at: datetime
    first_touch: Touchpoint | None = None
    last_touch: Touchpoint | None = None
    click_ids: tuple[ClickId, ...] = ()
    """The newest click of each vendor that the cookie had room for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Consent:
    """Whether this visitor's data may be kept and sent: yes, no, or not known (None); from which signal, and when.

    `signal` also says whom a yes leaves out: "tcf -adroll" is a yes that does not cover the destination "adroll".
    """

    granted: bool | None
    signal: str
    at: datetime

    def after(self, earlier: "Consent") -> "Consent":
        """Return this yes of a banner's with the exceptions of an earlier one, whose signal named them.

        A banner's own cookie outlives the consent string: it knows yes and no, and no exceptions. Where its name has no
        room for them, the yes is none.
        """
        exceptions = earlier.signal.partition(" ")[2]
        if not (self.granted and earlier.granted and exceptions) or self.signal not in {"cookie", "page"}:
            return self
        signal = f"{self.signal} {exceptions}"
        if len(signal) > LONGEST_SIGNAL:
            return Consent(granted=False, signal=self.signal, at=self.at)
        return Consent(granted=True, signal=signal, at=self.at)

    def covers(self, destination: str) -> bool:
        """Return whether what this says holds for that destination too."""
        return f" -{destination} " not in f"{self.signal} "


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """What one request shows of its visitor. `visitor` is None unless its cookie was verified."""

    visitor: Visitor | None
    first_party_cookie: str | None = field(default=None, repr=False)
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = None
    url: str | None = None
    referrer: str | None = None
    consent: Consent


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifiers:
    """Every identifier gathered for one event, from the request, the order's snapshot and the store."""

    visitor: VisitorId | None = None
    click_ids: tuple[ClickId, ...] = ()
    first_party_cookie: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    customer_id: str | None = None
    ip: str | None = field(default=None, repr=False)
    user_agent: str | None = None
    url: str | None = None
    referrer: str | None = None

    def click_id(self, vendor: str) -> str | None:
        """Return the value of this vendor's click, when one was gathered."""
        for click in self.click_ids:
            if click.vendor == vendor:
                return click.value
        return None


# ---------------------------------------------------------------- what a shop reports


_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def clean_text(field_name: str, value: object, *, longest: int) -> str:
    """Return the text NFC-normalised and stripped, 1 to `longest` characters of storable, printable Unicode."""
    if not isinstance(value, str):
        raise InvalidInput(field_name, f"is a {type(value).__name__}; pass a string")
    if len(value) > 4 * longest:
        raise InvalidInput(field_name, f"is longer than {longest} characters")
    if _UNSTORABLE.search(value):
        raise InvalidInput(field_name, "holds a control character or a lone surrogate")
    text = unicodedata.normalize("NFC", value).strip()
    if not text:
        raise InvalidInput(field_name, "is empty; leave it out instead")
    if len(text) > longest:
        raise InvalidInput(field_name, f"is longer than {longest} characters")
    return text


def email_text(field_name: str, value: object) -> str:
    """Return the address stripped; one that cannot be an address raises InvalidInput."""
    text = clean_text(field_name, value, longest=254)
    local, at, domain = text.partition("@")
    if not (local and at and domain) or "@" in domain or len(text.split()) > 1:
        raise InvalidInput(field_name, "is not an e-mail address such as name@example.com")
    if domain.startswith(".") or domain.endswith(".") or "." not in domain:
        raise InvalidInput(field_name, "has no complete domain after the @")
    return text


def _text(name: str, longest: int) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else clean_text(name, value, longest=longest))


def _amount(name: str) -> BeforeValidator:
    return BeforeValidator(lambda value: value if value is None else money.amount(name, value))


def _aware(value: object) -> object:
    if isinstance(value, datetime) and value.tzinfo is None:
        raise InvalidInput("time", "has no time zone; pass datetime.now(UTC) or another aware time")
    if isinstance(value, (datetime, str)) or value is None:
        return value
    raise InvalidInput("time", f"is a {type(value).__name__}; pass an aware datetime or an RFC 3339 string")


def _in_utc(value: datetime | None) -> datetime | None:
    try:
        return value.astimezone(UTC) if value is not None else None
    except OverflowError:
        raise InvalidInput("time", "is outside the years that a clock can show") from None


_STRICT = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, ser_json_bytes="utf8")


class Item(BaseModel):
    """One line of an order. `price` is of one piece, in the major unit of the conversion's currency."""

    model_config = _STRICT

    id: Annotated[str, _text("items.id", 256)]
    name: Annotated[str | None, _text("items.name", 512)] = None
    price: Annotated[Decimal | None, _amount("items.price")] = None
    quantity: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 1
    category: Annotated[str | None, _text("items.category", 256)] = None
    group: Annotated[str | None, _text("items.group", 256)] = None


class Device(BaseModel):
    """The device of an event from an app. `id` is IDFA or GAID, opaque; `os` is such as iOS or Android."""

    model_config = _STRICT

    id: Annotated[str | None, _text("device.id", 128), Field(repr=False)] = None
    os: Annotated[str | None, _text("device.os", 64)] = None
    type: Annotated[str | None, _text("device.type", 64)] = None
    app: Annotated[str | None, _text("device.app", 256)] = None
    app_version: Annotated[str | None, _text("device.app_version", 64)] = None


class Address(BaseModel):
    """A postal address. `country` is ISO 3166 alpha-2; `zip` is sent as each vendor wants it."""

    model_config = _STRICT

    line1: Annotated[str | None, _text("address.line1", 256), Field(repr=False)] = None
    line2: Annotated[str | None, _text("address.line2", 256), Field(repr=False)] = None
    city: Annotated[str | None, _text("address.city", 128), Field(repr=False)] = None
    state: Annotated[str | None, _text("address.state", 64), Field(repr=False)] = None
    zip: Annotated[str | None, _text("address.zip", 32), Field(repr=False)] = None
    country: Annotated[str | None, _text("address.country", 2)] = None


class Conversion(BaseModel):
    """What the shop reports: an order, or another goal.

    `name`        the kit's own name: purchase, refund, add_to_cart, product_search, page_view, home_view, signup_plan,
                  signup_trial, form_fill, demo_request, contact_sales, gated_content, live_chat, high_value_page,
                  marketing_event (Rockerbox only), or a name of your own that a destination maps.
    `order_id`    1–128 characters, kept as it is after NFC and strip: `007` is not `7`.
    `event_id`    the key of deduplication, at most 36 characters; made from (name, order_id) when left out. A second
                  refund of the same order passes its own. A renewal also has an order id of its own: Rokt and
                  Rockerbox take a second purchase of one order id for a repeat. Without an order it is random.
    `value`       Decimal, int or plain decimal string in the major unit; floats are refused. Needs `currency`.
    `time`        when it happened, aware; now when left out.
    `source`      where an order without a browser was taken: in_store, phone, salesforce, or a word of your own.
    `order_type`  such as subscription_start, for vendors that tell a subscription from an order.
    `device`      of an event from an app; with its `app` it stands for the page's URL.
    `test`        True never leaves shadow: it is checked, built and recorded, and sent nowhere.
    `extra`       further fields for vendors that take them (Rokt objectData, Rockerbox JSON), 1,000 strings at most.
    `metadata`    what is not critical, for vendors that keep it apart (Rokt metaData), as strings.

    Raises pydantic.ValidationError (a ValueError) that names the field and does not repeat its value.
    """

    model_config = _STRICT

    name: Annotated[str, _text("name", 64)] = "purchase"
    order_id: Annotated[str | None, _text("order_id", 128)] = None
    event_id: Annotated[str, _text("event_id", 36)] = Field(default="", validate_default=False)
    value: Annotated[Decimal | None, _amount("value")] = None
    currency: Annotated[str | None, BeforeValidator(lambda v: v if v is None else money.currency("currency", v))] = None
    email: Annotated[
        str | None, BeforeValidator(lambda v: v if v is None else email_text("email", v)), Field(repr=False)
    ] = None
    phone: Annotated[str | None, _text("phone", 64), Field(repr=False)] = None
    customer_id: Annotated[str | None, _text("customer_id", 128)] = None
    first_name: Annotated[str | None, _text("first_name", 128), Field(repr=False)] = None
    last_name: Annotated[str | None, _text("last_name", 128), Field(repr=False)] = None
    title: Annotated[str | None, _text("title", 32), Field(repr=False)] = None
    gender: Annotated[str | None, _text("gender", 16), Field(repr=False)] = None
    birth_date: Annotated[date | None, Field(repr=False)] = None
    language: Annotated[str | None, _text("language", 16)] = None
    address: Annotated[Address | None, Field(repr=False)] = None
    billing_address: Annotated[Address | None, Field(repr=False)] = None
    customer_type: Annotated[str | None, _text("customer_type", 32)] = None
    device: Device | None = None
    items: Annotated[tuple[Item, ...], Field(max_length=1000)] = ()
    keywords: Annotated[str | None, _text("keywords", 512)] = None
    conversion_type: Annotated[str | None, _text("conversion_type", 128)] = None
    payment_type: Annotated[str | None, _text("payment_type", 64)] = None
    coupon: Annotated[str | None, _text("coupon", 128)] = None
    shipping_type: Annotated[str | None, _text("shipping_type", 64)] = None
    source: Annotated[str | None, _text("source", 64)] = None
    order_type: Annotated[str | None, _text("order_type", 64)] = None
    margin: Annotated[Decimal | None, _amount("margin")] = None
    url: Annotated[str | None, _text("url", 2048)] = None
    time: Annotated[AwareDatetime | None, BeforeValidator(_aware), AfterValidator(_in_utc)] = None
    test: bool = False
    extra: Annotated[Mapping[str, str], Field(max_length=1_000)] = {}
    metadata: Annotated[Mapping[str, str], Field(max_length=50)] = {}

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.value is not None and self.currency is None:
            raise InvalidInput("currency", "is missing; a value needs its ISO 4217 currency")
        if self.value is not None and self.value < 0 and self.name != "refund":
            raise InvalidInput("value", 'is negative; only name="refund" takes a negative value')
        if self.name in {"purchase", "refund"} and self.order_id is None and not self.event_id:
            raise InvalidInput("order_id", f"is missing; a {self.name} needs it to be told from its repeat")
        for name in ("extra", "metadata"):
            for key, text in getattr(self, name).items():
                clean_text(name, key, longest=256)
                clean_text(f"{name}.{key}" if key.isidentifier() else name, text, longest=65_536)
        return self

    @property
    def monetary(self) -> bool:
        """True when counting this event twice would count money twice."""
        return self.name == "purchase" or self.value is not None


def event_id_of(conversion: Conversion) -> str:
    """Return the event's key: the shop's own, else uuid5 of (name, order id), else a random one."""
    if conversion.event_id:
        return conversion.event_id
    if conversion.order_id is None:
        return str(uuid.uuid4())
    return str(uuid.uuid5(_EVENT_NAMESPACE, f"{conversion.name}\x1f{conversion.order_id}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """What `report` did: `new` is False for a repeat; `conflict` names what a repeat says differently."""

    event_id: str
    new: bool
    conflict: tuple[str, ...] = ()


# ---------------------------------------------------------------- what a vendor is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """An event with all that a vendor may be told of it. `at` is when it happened, in UTC."""

    event_id: str
    at: datetime
    conversion: Conversion
    identifiers: Identifiers


class Mode(StrEnum):
    LIVE = "live"
    SHADOW = "shadow"


class DeliveryState(StrEnum):
    """Where one dispatch for one destination stands. held, dead and skipped always carry a reason."""

    PENDING = "pending"
    CLAIMED = "claimed"
    DELIVERED = "delivered"
    HELD = "held"
    DEAD = "dead"
    SKIPPED = "skipped"


class Verdict(StrEnum):
    """What one HTTP request's answer, or its absence, means for one delivery.

    ok         the vendor took it
    not_sent   no byte left: try again, nothing is counted
    transient  the vendor had a bad moment: try again later
    throttle   the vendor asked for time: the whole destination waits
    setup      our credentials or address are wrong: the destination pauses, nothing is burnt
    invalid    this event will never be taken
    oversize   the request was too large: send fewer at once
    unknown    bytes left and no complete answer came
    """

    OK = "ok"
    NOT_SENT = "not_sent"
    TRANSIENT = "transient"
    THROTTLE = "throttle"
    SETUP = "setup"
    INVALID = "invalid"
    OVERSIZE = "oversize"
    UNKNOWN = "unknown"
