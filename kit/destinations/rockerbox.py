"""Rockerbox's webhook: one conversion a request, an action name of the account's own (contracts.md section 7)."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import ClassVar, Literal

import httpx

from kit import identity, money
from kit.destinations.base import (
    EVENTS,
    MARKETING,
    Destination,
    Json,
    Sending,
    Skip,
    Trial,
    endpoint,
    extras,
    require,
    require_base_url,
    require_flags,
    require_table,
    without_empty,
)
from kit.destinations.holdout import Holdout
from kit.errors import ConfigurationError
from kit.model import Conversion, Dispatch, Identifiers, Item, Mode

#: The kit's names as they are.
PLAIN: Mapping[str, str] = MappingProxyType({name: name for name in EVENTS})
#: With the prefix that Tealium's and RudderStack's connectors use: `conv.purchase`.
CONV: Mapping[str, str] = MappingProxyType({name: f"conv.{name}" for name in EVENTS})

#: The body of the other kind: what an advertisement did, not what a shop sold.
_AD = ("ad_campaignid", "ad_adgroupid", "ad_creativeid")

#: Fields that are ours alone: `Conversion.extra` cannot set them, even where we have nothing to say.
_OURS = frozenset("email customer_id action timestamp order_id revenue phone".split())
#: What a shop may write in `required_fields` by the kit's name, to Rockerbox's.
_THEIRS = {
    "name": "action",
    "time": "timestamp",
    "value": "revenue",
    "items": "products",
    "source": "conversion_source",
}
#: What Rockerbox's own conversion keys say, to the field of the webhook that it is made of.
_KEYS = {"date": "timestamp"}
#: What `_event` may tell without `Conversion.extra`.
_TOLD = _OURS | {
    "conversion_source", "order_type", "order_timestamp", "country_code", "coupon", "products", "holdout",
}  # fmt: skip
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rockerbox(Destination):
    """Reports to Rockerbox, which stores what it is sent and matches it with the identify pixel on the page.

    It documents no answer, so a 2xx says "stored" and nothing more.

    `advertiser`         the advertiser id; it is the webhook's only credential, so it stays out of reprs and logs.
    `actions`            the kit's event name to the account's action name; `PLAIN` and `CONV` are two usual tables.
                         None sends each event under its own name; with a table an event outside it is skipped(action).
    `conversion_source`  in_store, salesforce, phone or the account's own word, for events without a `source`.
    `required_fields`    by event name or action, the fields that the account's conversion key names. Rockerbox counts
                         *nothing* when a field of its key is absent, so such an event is skipped(required_field).
                         A key is written as Rockerbox shows it: email,date,action is ["email", "date", "action"].
    `timestamps`         epoch seconds as "text", which Rockerbox documents, or as a "number".
    `cross_day_dedupe`   True when Rockerbox's cross-day switch is on: a repeat is safe after midnight UTC too.
    `holdout`            stamps each conversion with a field `holdout`: the group kept from advertising, or "none".

    A success that names an error is a refusal; one of an unforeseen shape is delivered, and `kit answers` shows it.

    `Conversion.extra` holds whatever else the account's mapping knows: anonymous_id, listing_id, in_store, … An event
    named marketing_event is told by its customer id, as user_id, and by ad_campaignid, ad_adgroupid and ad_creativeid
    from there. Neither the visitor's id nor a postal address is sent unasked: no documented webhook field matches them.

    Raises ConfigurationError when a setting is missing or cannot be. Source: contracts.md 7, 9.5, 10.13-17.
    """

    vendor: ClassVar[str] = "rockerbox"

    name: str = "rockerbox"
    max_in_flight: int = 16
    advertiser: str = field(default="", repr=False)
    actions: Mapping[str, str] | None = None
    conversion_source: str | None = None
    required_fields: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"purchase": ("order_id",)})
    timestamps: Literal["text", "number"] = "text"
    cross_day_dedupe: bool = False
    holdout: Holdout | None = None
    base_url: str = "https://webhooks.getrockerbox.com"

    def __post_init__(self) -> None:
        if self.mode == Mode.LIVE or self.advertiser:
            require(
                "KIT_ROCKERBOX_ADVERTISER",
                self.advertiser,
                'live needs Rockerbox(advertiser=...), from the account manager; mode="shadow" needs none',
            )
        require_base_url("Rockerbox.base_url", self.base_url, "/webhook/data")
        require_flags("Rockerbox", self, "cross_day_dedupe")
        if self.timestamps not in ("text", "number"):
            raise ConfigurationError("Rockerbox.timestamps", 'is neither "text" nor "number"')
        if self.conversion_source is not None and (
            not isinstance(self.conversion_source, str) or not self.conversion_source.strip()
        ):
            raise ConfigurationError("Rockerbox.conversion_source", 'is no word; write "in_store", or None for none')
        if self.holdout is not None and not isinstance(self.holdout, Holdout):
            raise ConfigurationError("Rockerbox.holdout", 'is no holdout; write Holdout(name="q3", percent=5)')
        self._check_actions()
        require_table("Rockerbox.required_fields", self.required_fields, '{"purchase": ["order_id"]}')
        for about, names in self.required_fields.items():
            _check_fields(about, names)

    def _check_actions(self) -> None:
        if self.actions is None:
            return
        require_table("Rockerbox.actions", self.actions, "PLAIN, CONV or {event name: action name}")
        for name, action in self.actions.items():
            if not isinstance(action, str) or not action.strip():
                raise ConfigurationError("Rockerbox.actions", f"names no action for {name!r}; leave it out instead")

    @property
    def own_names(self) -> Collection[str]:
        """The shop's names in `actions`."""
        return () if self.actions is None else self.actions.keys()

    def warnings(self) -> Sequence[str]:
        """Return which events and fields of `required_fields` the kit does not know: a shop may have its own."""
        events = {*EVENTS, MARKETING, *self.own_names, *(self.actions or {}).values()}
        fields = {name for names in self.required_fields.values() for name in names} - _TOLD - _KEYS.keys()
        return [
            *Destination.warnings(self),
            *(
                f"required_fields is about {about!r}, no event of the kit's: it is right if you report it so"
                for about in sorted(self.required_fields.keys() - events)
            ),
            *(
                f"required_fields names {name!r}, which only Conversion.extra can bring: without it an event is skipped"
                for name in sorted(fields)
            ),
        ]

    def remarks(self, dispatch: Dispatch, *, now: datetime) -> Sequence[str]:
        """Return what was left out: an e-mail that is none, a phone number that is not of North America."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        if conversion.name == MARKETING:
            return ()
        said = []
        if (conversion.email or known.email) and email_of(conversion, known) is None:
            said.append("email left out: not one address")
        if (phone := conversion.phone or known.phone) and identity.phone10(phone) is None:
            said.append("phone left out: not ten digits")
        return said

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first of action, identifier, required_field that forbids it."""
        event, name = self._event(dispatch), dispatch.conversion.name
        if name == MARKETING:
            return _lacking(event, ("user_id",), _AD)
        if "action" not in event:
            return Skip("action", "this event has no action name; actions= gives it one")
        action = str(event["action"])
        fields = (*self.required_fields.get(name, ()), *self.required_fields.get(action, ()))
        return _lacking(event, ("email", "customer_id"), fields)

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event: all values are strings but for `timestamps`, whole epoch seconds; `extra` comes last."""
        return self._event(dispatch)

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of this one event with the bytes it was frozen with."""
        (sending,) = sendings
        return httpx.Request(
            "POST",
            endpoint(self.base_url, "/webhook/data", ("advertiser", self.advertiser)),
            headers={"Content-Type": "application/json"},
            content=sending.payload,
        )

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return whether the conversion key `order_id` catches a repeat: on the same UTC day, or always by the switch.

        An event without money may be counted twice.
        """
        if not sending.monetary:
            return True
        same_day = sending.at.astimezone(UTC).date() == now.astimezone(UTC).date()
        return sending.order_id is not None and (same_day or self.cross_day_dedupe)

    def trial(self, *, now: datetime) -> Trial:
        """Return a request that carries nothing: there is no dry run, so credentials show with the first event."""
        return Trial(request=httpx.Request("HEAD", self.base_url))

    def _event(self, dispatch: Dispatch) -> dict[str, str | int]:
        conversion = dispatch.conversion
        own = self._marketing(dispatch) if conversion.name == MARKETING else self._conversion(dispatch)
        return own | {key: text for key, text in extras(conversion, ours=_OURS).items() if key not in own}

    def _marketing(self, dispatch: Dispatch) -> dict[str, str | int]:
        user_id = customer_of(dispatch.conversion, dispatch.identifiers)
        return without_empty({"user_id": user_id, "timestamp": self._timestamp(dispatch.at)})

    def _conversion(self, dispatch: Dispatch) -> dict[str, str | int]:
        conversion, known = dispatch.conversion, dispatch.identifiers
        name, address = conversion.name, conversion.address or conversion.billing_address
        email = email_of(conversion, known)
        return without_empty(
            {
                "email": email,
                "customer_id": customer_of(conversion, known),
                "action": name if self.actions is None else self.actions.get(name),
                "timestamp": self._timestamp(dispatch.at),
                "order_id": conversion.order_id,
                "revenue": None if conversion.value is None else money.plain(conversion.value),
                "phone": identity.phone10(conversion.phone or known.phone or ""),
                "conversion_source": conversion.source or self.conversion_source,
                "order_type": conversion.order_type,
                "order_timestamp": time_text(dispatch.at) if conversion.order_type else None,
                "country_code": address.country if address else None,
                "coupon": conversion.coupon,
                "products": products_text(conversion.items),
                "holdout": self.holdout.stamp(email) if self.holdout is not None else None,
            }
        )

    def _timestamp(self, at: datetime) -> str | int:
        seconds = (at - _EPOCH) // timedelta(seconds=1)
        return seconds if self.timestamps == "number" else str(seconds)


def _lacking(event: Mapping[str, object], one_of: Sequence[str], fields: Sequence[str]) -> Skip | None:
    if event.keys().isdisjoint(one_of):
        return Skip("identifier", f"Rockerbox needs {' or '.join(one_of)}", curable=True)
    lacking = next((name for name in fields if _KEYS.get(name, name) not in event), None)
    return Skip("required_field", lacking, curable=True) if lacking is not None else None


def _check_fields(about: str, names: Sequence[str]) -> None:
    if isinstance(names, str):
        raise ConfigurationError("Rockerbox.required_fields", f"of {about!r} is a text; pass [{names!r}]")
    if not isinstance(names, Collection) or not all(isinstance(name, str) for name in names):
        raise ConfigurationError("Rockerbox.required_fields", f'of {about!r} is no list of texts; pass ["order_id"]')
    for name in names:
        if name == "uid":
            raise ConfigurationError(
                "Rockerbox.required_fields",
                f"of {about!r} names 'uid', the pixel's browser, which no webhook can tell: with it in the conversion "
                "key Rockerbox counts none of these events; choose order_id, or email,date,action, as the key there",
            )
        if (meant := _meant(name)) is not None:
            raise ConfigurationError(
                "Rockerbox.required_fields", f"of {about!r} names {name!r}; Rockerbox calls it {meant!r}"
            )


def _meant(name: str) -> str | None:
    """Return Rockerbox's name of a field that the kit calls otherwise, or that is spelt otherwise: orderId."""
    if name in _TOLD or name in _KEYS:
        return None
    plain = name.replace("_", "").lower()
    return _THEIRS.get(name) or next((told for told in sorted(_TOLD) if told.replace("_", "") == plain), None)


# ---------------------------------------------------------------- what the webhook and the files say alike


def email_of(conversion: Conversion, known: Identifiers) -> str | None:
    """Return the buyer's address in lower case, or the digest that the shop holds instead of it."""
    text = conversion.email or known.email or ""
    return identity.email(text) or identity.sha256_digest(text)


def customer_of(conversion: Conversion, known: Identifiers) -> str | None:
    """Return the shop's own id of the buyer, which the identify pixel calls `external_id`."""
    return conversion.customer_id or known.customer_id


def time_text(at: datetime) -> str:
    """Return a UTC time in Rockerbox's own writing, such as 2023-05-05 23:24:11.695."""
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(sep=" ", timespec="milliseconds")


def products_text(items: Sequence[Item]) -> str | None:
    """Return the items as the pixel's `products` wants them, one JSON text; None without any."""
    return json.dumps([_product(item) for item in items], ensure_ascii=False, separators=(",", ":")) if items else None


def _product(item: Item) -> dict[str, str | int]:
    return without_empty(
        {
            "id": item.id,
            "name": item.name,
            "category": item.category,
            "price": None if item.price is None else money.plain(item.price),
            "quantity": item.quantity,
        }
    )
