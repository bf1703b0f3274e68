"""Rockerbox's webhook: one conversion a request, an action name of the account's own (contracts.md section 7)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import ClassVar

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
    extras,
    judge_with_words,
    require,
    require_base_url,
    without_empty,
)
from kit.model import Dispatch, Mode

_NAMES = (
    "purchase refund add_to_cart product_search page_view home_view signup_plan signup_trial form_fill demo_request "
    "contact_sales gated_content live_chat high_value_page"
).split()
#: The kit's names as they are.
PLAIN: Mapping[str, str] = MappingProxyType({name: name for name in _NAMES})
#: With the prefix that Tealium's and RudderStack's connectors use: `conv.purchase`.
CONV: Mapping[str, str] = MappingProxyType({name: f"conv.{name}" for name in _NAMES})

#: Fields that are ours alone: `Conversion.extra` cannot set them, even where we have nothing to say.
_OURS = frozenset("email customer_id action timestamp order_id revenue phone".split())
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rockerbox(Destination):
    """Reports to Rockerbox, which stores what it is sent and matches it with the identify pixel on the page.

    `advertiser`         the advertiser id; it is the webhook's only credential, so it stays out of reprs and logs.
    `actions`            the kit's event name to the account's action name; `PLAIN` and `CONV` are two usual tables.
                         None sends each event under its own name; with a table an event outside it is skipped(action).
    `conversion_source`  in_store, salesforce, phone or the account's own word, sent with every event.
    `required_fields`    by event name or action, the fields that the account's conversion key names. Rockerbox counts
                         *nothing* when a field of its key is absent, so such an event is skipped(required_field).
    `cross_day_dedupe`   True when Rockerbox's cross-day switch is on: a repeat is safe after midnight UTC too.

    Raises ConfigurationError when a setting is missing or cannot be. Source: contracts.md 7, 9.5, 10.13-17.
    """

    vendor: ClassVar[str] = "rockerbox"

    name: str = "rockerbox"
    max_in_flight: int = 16
    advertiser: str = field(default="", repr=False)
    actions: Mapping[str, str] | None = None
    conversion_source: str | None = None
    required_fields: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"purchase": ("order_id",)})
    cross_day_dedupe: bool = False
    base_url: str = "https://webhooks.getrockerbox.com"

    def __post_init__(self) -> None:
        if self.mode == Mode.LIVE or self.advertiser:
            require(
                "KIT_ROCKERBOX_ADVERTISER",
                self.advertiser,
                'live needs Rockerbox(advertiser=...), from the account manager; mode="shadow" needs none',
            )
        require_base_url("Rockerbox.base_url", self.base_url)

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first of action, identifier, required_field that forbids it."""
        action = self._action(dispatch)
        if not action:
            return Skip("action", "this event has no action name; actions= gives it one")
        event = self._event(dispatch)
        if "email" not in event and "customer_id" not in event:
            return Skip("identifier", "Rockerbox needs an e-mail or a customer id", curable=True)
        for name in (*self.required_fields.get(dispatch.conversion.name, ()), *self.required_fields.get(action, ())):
            if name not in event:
                return Skip("required_field", name, curable=True)
        return None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event: all values are strings, the timestamp is whole epoch seconds in UTC, `extra` comes last."""
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

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return the meaning of the status; Rockerbox documents no answer, so a 2xx says "stored", nothing more."""
        return [judge_with_words(answer, now=now, secrets=(self.advertiser,))] * len(sendings)

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

    def _action(self, dispatch: Dispatch) -> str | None:
        name = dispatch.conversion.name
        return name if self.actions is None else self.actions.get(name)

    def _event(self, dispatch: Dispatch) -> dict[str, str]:
        conversion, known = dispatch.conversion, dispatch.identifiers
        email = conversion.email or known.email or ""
        own = without_empty(
            {
                "email": identity.email(email) or identity.sha256_digest(email),
                "customer_id": conversion.customer_id or known.customer_id,
                "action": self._action(dispatch),
                "timestamp": str((dispatch.at - _EPOCH) // timedelta(seconds=1)),
                "order_id": conversion.order_id,
                "revenue": None if conversion.value is None else money.plain(conversion.value),
                "phone": identity.phone10(conversion.phone or known.phone or ""),
                "conversion_source": self.conversion_source,
                "coupon": conversion.coupon,
            }
        )
        return own | {key: text for key, text in extras(conversion, ours=_OURS).items() if key not in own}
