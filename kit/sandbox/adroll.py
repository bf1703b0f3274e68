"""AdRoll's Server-to-Server Event API on this machine, by contracts.md 2 and 12.

What the vendor leaves open (error statuses and bodies) is answered in the manner of its other APIs.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Literal

from pydantic import JsonValue

from kit.sandbox import checks
from kit.sandbox.checks import Rule, phrase, sorted_out
from kit.sandbox.record import Event, Received, Refusal, Ruling, events_in, inflated, parsed
from kit.sandbox.settings import Settings
from kit.sandbox.tally import Money, money_of
from kit.sandbox.vendor import Vendor

EVENT_NAMES = frozenset(
    "pageView homeView productSearch addToCart purchase highValuePage gatedContent demoRequest signupPlan signupTrial "
    "contactSales liveChat formFill".split()
)

Errors = Literal["request", "event"]
"""What a wrong event refuses: its whole request, or itself alone, told in `errors` of a 200. Neither is documented."""

LARGEST_BATCH = 100

#: Reported errors of one answer; the rest is only in the record.
_MOST_ERRORS = 20


def _is_json_text(value: object) -> bool:
    try:
        return isinstance(value, str) and parsed(value.encode()) is not None
    except ValueError:
        return False


_FIELDS = (
    Rule("advertisable_eid", checks.text(1, 64), "is not an EID", required=True),
    Rule("pixel_eid", checks.text(1, 64), "is not an EID", required=True),
    Rule("event_name", checks.one_of(EVENT_NAMES), "is not one of the 13 event names", required=True),
    Rule("page_location", checks.is_url, "is not a full http or https URL", required=True),
    Rule("ip", checks.is_ip, "is not an IPv4 or IPv6 address", required=True),
    Rule("identifiers", checks.is_object, "is not an object", required=True),
    Rule("user_agent", checks.text(1, 8192), "is not a string", soft=True),
    Rule("conversion_value", checks.is_amount, "is not a decimal string or number"),
    Rule("currency", checks.is_currency, "is not an ISO 4217 code in capitals"),
    # Two secondary sources show ISO 8601; contracts.md 10.2 settles on epoch seconds.
    Rule("timestamp", checks.is_epoch_seconds, "is not a number of UTC epoch seconds", soft=True),
    Rule("event_attributes", checks.is_object, "is not an object"),
    Rule("external_data", _is_json_text, "is not JSON in a string", soft=True),
    *(
        Rule(name, checks.text(1, 256), "is not a string", soft=True)
        for name in ("device_os", "device_type", "package_app_name", "package_app_version")
    ),
)
_IDENTIFIERS = (
    Rule("adct", checks.text(1, 512), "is not a string of 1 to 512 characters"),
    Rule("first_party_cookie", checks.pattern("[0-9A-Za-z_-]{32,128}"), "is not a first-party id", soft=True),
    Rule("email", checks.is_email, "is not an address"),
    Rule("email_sha256", checks.is_lower_sha256, "is not a SHA-256 digest in lower-case hex"),
    Rule("email_md5", checks.is_md5, "is not an MD5 digest in lower-case hex"),
    Rule("device_id", checks.text(1, 128), "is not a string"),
    Rule("user_id", checks.text(1, 256), "is not a string"),
)
_ATTRIBUTES = (
    Rule("order_id", checks.text(1, 256), "is not a string"),
    # Only AdRoll's own samples show these two.
    Rule("total", checks.is_amount, "is not a decimal string or number"),
    Rule("user_id", checks.text(1, 256), "is not a string"),
    Rule("keywords", checks.text(1, 4096), "is not a string"),
    Rule("products", lambda value: isinstance(value, list), "is not a list"),
)
_PRODUCT = (
    Rule("product_id", checks.text(1, 256), "is not a string"),
    Rule("product_group", checks.text(1, 256), "is not a string"),
    Rule("category", checks.text(1, 256), "is not a string"),
    Rule("price", checks.is_amount, "is not a decimal string or number"),
    Rule("quantity", checks.is_count, "is not a whole number above 0"),
)
_KNOWN = frozenset(rule.field for rule in _FIELDS)
#: The events that have these attributes (contracts.md 2.3); an order id is taken with each, for its reconciliation.
_ONLY_OF = {
    "keywords": frozenset({"productSearch"}),
    "products": frozenset({"pageView", "productSearch", "addToCart", "purchase"}),
    "total": frozenset({"pageView"}),
    "user_id": frozenset({"purchase"}),
}

#: The page says `true`; AdRoll's samples send 0 or 1.
_DRY = frozenset({"true", "1"})
_WET = frozenset({"false", "0"})


class AdRoll(Vendor):
    """`POST /api?advertisable=<EID>[&dry_run=true]`. `tokens` maps each known access token to its advertisable.

    `errors` says what one wrong event refuses. `object_only` refuses a list, as AdRoll's own samples send one object a
    request (contracts.md 10.1). A repeat is counted again: no deduplication is documented.
    """

    name = "adroll"

    def __init__(
        self,
        tokens: Mapping[str, str],
        settings: Settings,
        *,
        errors: Errors = "request",
        object_only: bool = False,
    ) -> None:
        super().__init__(settings)
        self.errors: Errors = errors
        self.object_only = object_only
        self._tokens = dict(tokens)

    def judge(self, received: Received, authorization: str) -> Ruling:
        """Refuse at the door (path, credential, query), then by the body, then by its events."""
        if refused := self._at_the_door(received, authorization):
            return refused
        try:
            found = parsed(inflated(received.headers, received.body))
        except ValueError as exc:
            return self._refuse(400, Refusal(field="body", message=f"is not JSON: {exc}"))
        if self.object_only and not isinstance(found, dict):
            return self._refuse(400, Refusal(field="body", message="is not one object"))
        events = events_in(found, self.envelope)
        if not 1 <= len(events) <= LARGEST_BATCH:
            return self._refuse(400, Refusal(field="body", message=f"holds {len(events)} events; 1 to 100 are taken"))
        wrong_kind, said = sorted_out(checks.kind_problems(received.headers), strict=self.strict)
        if wrong_kind:
            return self._refuse(400, *wrong_kind)
        advertisable = received.query["advertisable"]
        problems = (problem for place, event in enumerate(events) for problem in _problems(event, place, advertisable))
        refused_events, warned = sorted_out(problems, strict=self.strict)
        warnings = said + warned
        if refused_events and self.errors == "request":
            return self._refuse(400, *refused_events, warnings=warnings)
        failed = {refusal.event for refusal in refused_events}
        taken = tuple(place for place in range(len(events)) if place not in failed)
        return Ruling(
            status=200,
            body={"errors": _told(refused_events)} if refused_events else {},
            events=events,
            taken=() if self.is_dry(received) else taken,
            refused=refused_events,
            warnings=warnings,
            authorized=True,
        )

    def trouble(self, status: int) -> object:
        return {} if status < 300 else {"errors": [{"message": phrase(status), "code": status}]}

    def without(self, received: Received, ruling: Ruling, places: Collection[int]) -> Ruling:
        failed = [Refusal(field="event", message="cannot be taken", event=place) for place in sorted(places)]
        taken = tuple(place for place in ruling.taken if place not in places)
        return replace(ruling, body={"errors": _told((*ruling.refused, *failed))}, taken=taken)

    def is_dry(self, received: Received) -> bool:
        """Return whether a request is checked and recorded, and not counted."""
        return received.query.get("dry_run") in _DRY

    @property
    def dry_runs(self) -> tuple[Received, ...]:
        """Return the dry runs that are remembered, the oldest first."""
        return tuple(received for received in self.requests if self.is_dry(received))

    def details(self) -> dict[str, JsonValue]:
        return {"dry runs": len(self.dry_runs)}

    def money_of(self, event: Event) -> Money | None:
        return money_of(event.get("conversion_value"), event.get("currency"))

    def order_of(self, event: Event) -> str | None:
        attributes = event.get("event_attributes")
        order = attributes.get("order_id") if isinstance(attributes, dict) else None
        return order if isinstance(order, str) else None

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        identifiers = event.get("identifiers")
        return tuple(sorted(identifiers)) if isinstance(identifiers, dict) else ()

    def _at_the_door(self, received: Received, authorization: str) -> Ruling | None:
        # AdRoll's own Node sample calls /api/.
        if received.path.rstrip("/") != "/api":
            return self._refuse(404, Refusal(field="path", message="is not /api"), authorized=None)
        if received.method != "POST":
            return self._refuse(405, Refusal(field="method", message="is not POST"), authorized=None)
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "token" or token not in self._tokens:
            return self._refuse(401, Refusal(field="Authorization", message="holds no known token"), authorized=False)
        advertisable = received.query.get("advertisable", "")
        if not advertisable:
            return self._refuse(400, Refusal(field="advertisable", message="is required in the query"))
        if self._tokens[token] != advertisable:
            refusal = Refusal(field="advertisable", message="is not the one this token was issued for")
            return self._refuse(403, refusal, authorized=False)
        if received.query.get("dry_run", "0") not in _DRY | _WET:
            return self._refuse(400, Refusal(field="dry_run", message="is neither true nor false"))
        return None

    def _refuse(
        self, status: int, *refused: Refusal, warnings: tuple[str, ...] = (), authorized: bool | None = True
    ) -> Ruling:
        body = {"errors": _told(refused)}
        return Ruling(status=status, body=body, refused=refused, warnings=warnings, authorized=authorized)


def _told(refused: Iterable[Refusal]) -> list[object]:
    return [
        {"message": f"{refusal.field} {refusal.message}", "field": refusal.field}
        | ({} if refusal.event is None else {"event": refusal.event})
        for refusal in islice(refused, _MOST_ERRORS)
    ]


def _problems(event: Event, place: int, advertisable: str) -> Iterator[Refusal]:
    yield from checks.broken(_FIELDS, event, event=place)
    for name in event.keys() - _KNOWN:
        yield Refusal(field=str(name)[:64], message="is not a field of an event", event=place, soft=True)
    if event.get("advertisable_eid", advertisable) != advertisable:
        yield Refusal(field="advertisable_eid", message="is not the advertisable of the query", event=place)
    if "conversion_value" in event and "currency" not in event:
        yield Refusal(field="currency", message="is required with a conversion_value", event=place)
    if isinstance(identifiers := event.get("identifiers"), dict):
        yield from _identifier_problems(identifiers, place)
    if isinstance(attributes := event.get("event_attributes"), dict):
        yield from _attribute_problems(attributes, event.get("event_name"), place)
        yield from _product_problems(attributes.get("products"), place)


def _identifier_problems(identifiers: Event, place: int) -> Iterator[Refusal]:
    yield from checks.broken(_IDENTIFIERS, identifiers, event=place, at="identifiers.")
    for name in identifiers.keys() - {rule.field for rule in _IDENTIFIERS}:
        yield Refusal(field=f"identifiers.{name}"[:64], message="is not an identifier", event=place, soft=True)
    # contracts.md 10.4: the pages differ; the newer one asks for either.
    if not (identifiers.get("first_party_cookie") or identifiers.get("adct")):
        yield Refusal(field="identifiers", message="hold neither first_party_cookie nor adct", event=place)


def _attribute_problems(attributes: Event, event_name: object, place: int) -> Iterator[Refusal]:
    at = "event_attributes."
    yield from checks.broken(_ATTRIBUTES, attributes, event=place, at=at)
    known = [rule.field for rule in _ATTRIBUTES]
    yield from checks.unknown(attributes, known, "is not an attribute of an event", event=place, at=at)
    for name, events in _ONLY_OF.items():
        if name in attributes and str(event_name) not in events:
            yield Refusal(field=at + name, message="is not an attribute of this event", event=place, soft=True)


def _product_problems(products: object, place: int) -> Iterator[Refusal]:
    for index, product in enumerate(products if isinstance(products, list) else ()):
        at = f"event_attributes.products[{index}]"
        if isinstance(product, dict):
            yield from checks.broken(_PRODUCT, product, event=place, at=f"{at}.")
            known = [rule.field for rule in _PRODUCT]
            yield from checks.unknown(product, known, "is not a field of a product", event=place, at=f"{at}.")
        else:
            yield Refusal(field=at, message="is not an object", event=place)
