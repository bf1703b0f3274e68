"""Rockerbox's webhook on this machine, with a recorder of identify calls, by contracts.md 7 and 12.

The real service most likely stores whatever it gets; strict refuses what would be found missing only weeks later.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

from pydantic import JsonValue

from kit.sandbox import checks
from kit.sandbox.checks import Rule, phrase, sorted_out
from kit.sandbox.record import Event, Received, Refusal, Ruling, parsed
from kit.sandbox.settings import Settings
from kit.sandbox.tally import Money, money_of
from kit.sandbox.vendor import Vendor

NO_IDENTIFY = "no identify call named this person before"

_WEBHOOKS = frozenset({"/webhook/data", "/rudderstack"})

_FIELDS = (
    Rule("action", checks.text(1, 256), "is not the name of a conversion", required=True, soft=True),
    Rule(
        "timestamp",
        checks.is_whole_epoch_seconds,
        "is not whole UTC epoch seconds, as text or number",
        required=True,
        soft=True,
    ),
    Rule("email", checks.text(1, 320), "is not a string", soft=True),
    Rule("customer_id", checks.text(1, 256), "is not a string", soft=True),
    Rule("order_id", checks.text(1, 256), "is not a string", soft=True),
    Rule("revenue", checks.is_decimal, "is not a decimal string or number", soft=True),
    Rule("phone", checks.text(1, 64), "is not a string", soft=True),
)
_AD = ("ad_campaignid", "ad_adgroupid", "ad_creativeid")
_MARKETING = (
    Rule("user_id", checks.text(1, 256), "is not a string", required=True, soft=True),
    Rule("timestamp", checks.is_whole_epoch_seconds, "is not whole UTC epoch seconds", required=True, soft=True),
    *(Rule(name, checks.text(1, 256), "is not a string", required=True, soft=True) for name in _AD),
)


class Rockerbox(Vendor):
    """`POST /webhook/data?advertiser=<ID>` (also `/rudderstack`), and `POST /identify` for the pixel's calls.

    An event that names an ad and no action is a marketing event: taken, kept in `marketing`, and no conversion. Revenue
    counts as dollars, whatever it was: the webhook has no currency.

    `key` names the fields of the conversion key, with commas; `date` is the day of the event's timestamp. An event
    that lacks one of them is never counted. `cross_day` tells repeats apart from day to day too, as the vendor's
    switch does; without it an event that arrives again on another UTC day is counted again.
    """

    name = "rockerbox"
    counts_without_key = False

    def __init__(
        self, advertisers: frozenset[str], settings: Settings, *, key: str = "order_id", cross_day: bool = False
    ) -> None:
        super().__init__(settings)
        self._advertisers = advertisers
        self._key = tuple(part.strip() for part in key.split(","))
        self._cross_day = cross_day
        self._identified: set[str] = set()

    @property
    def identified(self) -> frozenset[str]:
        """Return every external id and e-mail that identify calls have named."""
        return frozenset(self._identified.copy())

    @property
    def unattributable(self) -> tuple[Received, ...]:
        """Return the counted webhooks whose customer id and e-mail no identify call had named before they came."""
        return tuple(received for received in self.requests if received.counted and NO_IDENTIFY in received.warnings)

    @property
    def marketing(self) -> tuple[Event, ...]:
        """Return the marketing events that are remembered, the oldest first."""
        taken = (received for received in self.requests if received.status == 200 and not received.refused)
        return tuple(event for received in taken for event in received.events if _is_marketing(event))

    def identify(self, *, external_id: str | None = None, email: str | None = None) -> None:
        """Say what the pixel's identify call would have said. `email` may be raw or its SHA-256 digest.

        Raises ValueError when neither is given.
        """
        names = _names_of({"external_id": external_id, "email": email}, "external_id")
        if not names:
            raise ValueError("external_id or email is required")
        self._identified |= names

    def clear(self) -> None:
        super().clear()
        self._identified.clear()

    def judge(self, received: Received, authorization: str) -> Ruling:
        """Refuse at the door (path, advertiser), then by the body."""
        if received.path not in _WEBHOOKS | {"/identify"}:
            return _refuse(404, Refusal(field="path", message="is not /webhook/data"))
        if received.method != "POST":
            return _refuse(405, Refusal(field="method", message="is not POST"))
        if received.path in _WEBHOOKS and received.query.get("advertiser") not in self._advertisers:
            return _refuse(404, Refusal(field="advertiser", message="is not known"))
        try:
            event = parsed(received.text)
        except ValueError as exc:
            return _refuse(400, Refusal(field="body", message=f"is not JSON: {exc}"))
        if not isinstance(event, dict):
            return _refuse(400, Refusal(field="body", message="is not one object; one event is taken a request"))
        if received.path == "/identify":
            return self._identify(event)
        wrong_kind, warnings = sorted_out(checks.kind_problems(received.headers), strict=self.strict)
        return _refuse(400, *wrong_kind) if wrong_kind else self._conversion(event, warnings)

    def trouble(self, status: int) -> object:
        return {} if status < 300 else {"error": phrase(status)}

    def money_of(self, event: Event) -> Money | None:
        return money_of(event.get("revenue"), "USD")

    def details(self) -> dict[str, JsonValue]:
        return {"identified": len(self._identified), "unattributable": len(self.unattributable)}

    def order_of(self, event: Event) -> str | None:
        order = event.get("order_id")
        return order if isinstance(order, str) else None

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        names = ("email", "customer_id", "external_id", "phone", "phone_number", "anonymous_id")
        return tuple(name for name in names if event.get(name))

    def dedupe_key(self, event: Event, at: datetime) -> str | None:
        parts = ["" if self._cross_day else at.astimezone(UTC).date().isoformat()]
        for name in self._key:
            value = _date_of(event) if name == "date" else event.get(name)
            if value is None or (name != "date" and _absent(event, name)):
                return None
            parts.append(str(value))
        return "\x1f".join(parts)

    def _conversion(self, event: Event, warnings: tuple[str, ...]) -> Ruling:
        refused, warned = sorted_out(_problems(event), strict=self.strict)
        warnings += warned
        if refused:
            return _refuse(400, *refused, warnings=warnings)
        if _is_marketing(event):
            return Ruling(status=200, body={}, events=(event,), warnings=warnings)
        if not self._identified & _webhook_names_of(event):
            warnings += (NO_IDENTIFY,)
        if missing := [name for name in self._key if name != "date" and _absent(event, name)]:
            warnings += (f"{', '.join(missing)} of the conversion key is missing; never counted",)
        return Ruling(status=200, body={}, events=(event,), taken=(0,), warnings=warnings)

    def _identify(self, event: Event) -> Ruling:
        try:
            self.identify(external_id=event.get("external_id"), email=event.get("email"))
        except ValueError:
            return _refuse(400, Refusal(field="external_id", message="or email is required", event=0))
        return Ruling(status=200, body={}, events=(event,))


def _problems(event: Event) -> Iterator[Refusal]:
    if _is_marketing(event):
        yield from checks.broken(_MARKETING, event, event=0)
        return
    yield from checks.broken(_FIELDS, event, event=0)
    if "email" not in event and "customer_id" not in event:
        yield Refusal(field="email", message="or customer_id is required", event=0, soft=True)


def _names_of(event: Event, id_field: str) -> set[str]:
    """Return the person's names, marked by kind: the two ids must be equal, an e-mail in any case."""
    found = {f"id:{event[id_field]}"} if event.get(id_field) else set()
    return found | ({f"email:{str(event['email']).strip().lower()}"} if event.get("email") else set())


def _webhook_names_of(event: Event) -> set[str]:
    """Return the names of a webhook's person; the pixel may have told the digest of the same address."""
    names = _names_of(event, "customer_id")
    if event.get("email"):
        names.add(f"email:{checks.digest_of(str(event['email']))}")
    return names


def _is_marketing(event: Event) -> bool:
    return "action" not in event and any(name in event for name in _AD)


def _absent(event: Event, name: str) -> bool:
    value = event.get(name)
    return value is None or value == ""


def _date_of(event: Event) -> str | None:
    seconds = event.get("timestamp")
    if not checks.is_epoch_seconds(seconds):
        return None
    return datetime.fromtimestamp(float(str(seconds)), UTC).date().isoformat()


def _refuse(status: int, *refused: Refusal, warnings: tuple[str, ...] = ()) -> Ruling:
    errors = [f"{refusal.field} {refusal.message}" for refusal in refused[:20]]
    return Ruling(status=status, body={"error": "; ".join(errors)}, refused=refused, warnings=warnings)
