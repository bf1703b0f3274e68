"""Rokt's Event API v2 on this machine, by contracts.md 3 and 12.

v1 (token, Bearer, Idempotency-Key) is not served: `_GENERATIONS` is where it would be added.
"""

import base64
import binascii
import re
from calendar import monthrange
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hmac import compare_digest
from typing import Literal

from kit.sandbox import checks
from kit.sandbox.checks import Rule
from kit.sandbox.record import Event, Received, Refusal, Ruling, events_in, parsed
from kit.sandbox.vendor import Settings, Vendor, phrase, sorted_out

Window = Literal["request", "event"]
"""What an event outside the time window refuses: the whole request, or itself alone (contracts.md 10.9)."""

LARGEST_BATCH = 100
VERSIONS = frozenset({"2020-05-21"})
IDENTITIES = ("email", "emailsha256", "passbackconversiontrackingid")

#: contracts.md 3.3: not older than 18 months, not more than 5 minutes ahead of receipt.
_MONTHS_BACK = 18
_AHEAD = timedelta(minutes=5)

_GENERATIONS = {"/v2/events": "Basic"}

_CODES = {
    400: "RequestValidationError",
    401: "UnauthorizedError",
    403: "Forbidden",
    500: "InternalServerError",
    502: "ServiceUnavailableError",
    503: "ServiceUnavailableError",
}

_RFC_3339_UTC = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|\+00:00)\Z")


def instant(value: object) -> datetime | None:
    """Return the time of an RFC 3339 text in UTC; None for anything else, another offset included."""
    if not isinstance(value, str) or _RFC_3339_UTC.match(value) is None:
        return None
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except ValueError:
        return None


_FIELDS = (
    Rule("clientEventId", checks.text(1, 36), "is not a string of 1 to 36 characters", required=True),
    Rule("eventType", checks.text(1, 128), "is not a string of 1 to 128 characters", required=True),
    Rule("eventTime", lambda value: instant(value) is not None, "is not an RFC 3339 time in UTC", required=True),
    Rule("objectData", lambda value: isinstance(value, list), "is not a list"),
    Rule("metaData", lambda value: isinstance(value, list), "is not a list"),
)
_KNOWN = frozenset(rule.field for rule in _FIELDS)
_PAIR = (
    Rule("name", checks.text(1, 256), "is not a string of 1 to 256 characters", required=True),
    Rule("value", checks.text(0, 65_536), "is not a string of at most 65536 characters", required=True),
)
_VALUES = (
    Rule("email", checks.is_clean_email, "is not an address in lower case without spaces"),
    Rule("emailsha256", checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing"),
    Rule("passbackconversiontrackingid", checks.text(1, 65_536), "is empty"),
    Rule("amount", checks.is_decimal_text, "is not a decimal string", soft=True),
    Rule("margin", checks.is_decimal_text, "is not a decimal string", soft=True),
    Rule("currency", checks.is_currency, "is not an ISO 4217 code in capitals", soft=True),
    Rule("quantity", checks.is_count_text, "is not a whole number in a string", soft=True),
    *(
        Rule(name + "sha256", checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing", soft=True)
        for name in "mobile firstname lastname zip zip4 billingzip billingzip4".split()
    ),
)


def earliest(now: datetime) -> datetime:
    """Return the oldest time that is taken: 18 calendar months back."""
    year, month = divmod(now.year * 12 + now.month - 1 - _MONTHS_BACK, 12)
    return now.replace(year=year, month=month + 1, day=min(now.day, monthrange(year, month + 1)[1]))


class Rokt(Vendor):
    """`POST /v2/events` for one key pair and the accounts that it may write to.

    A wrong event comes back in `data.unprocessedRecords`; the others count. Conversions are told apart by
    transactionid, else by confirmationref.
    """

    name = "rokt"
    envelope = "events"

    def __init__(
        self, public: str, secret: str, accounts: frozenset[str], settings: Settings, *, window: Window = "request"
    ) -> None:
        super().__init__(settings)
        self.window: Window = window
        self._pair = f"{public}:{secret}".encode()
        self._accounts = accounts

    def judge(self, received: Received, authorization: str) -> Ruling:
        """Refuse at the door (path, credential, headers), then by the envelope, then event by event."""
        if refused := self._at_the_door(received, authorization):
            return refused
        problems, header_warnings = sorted_out(_header_problems(received), strict=self.strict)
        if problems:
            return _refuse(400, *problems)
        if received.headers.get("content-encoding", "identity") != "identity":
            return _refuse(400, Refusal(field="body", message="is compressed"), code="RequestBodyReadError")
        try:
            found = parsed(received.body)
        except ValueError as exc:
            refusal = Refusal(field="body", message=f"is not JSON: {exc}")
            return _refuse(400, refusal, code="RequestJsonUnmarshalError")
        if not isinstance(found, dict) or (refused := self._envelope(found)):
            refusal = Refusal(field="body", message="is not an object")
            return refused or _refuse(400, refusal, code="RequestJsonUnmarshalError")
        return self._rule_events(events_in(found, self.envelope), header_warnings)

    def trouble(self, status: int) -> object:
        if status < 300:
            return {"data": {"unprocessedRecords": []}}
        code = _CODES.get(status)
        return {"data": {"code": code, "message": phrase(status)}} if code else {"data": {"message": phrase(status)}}

    def order_of(self, event: Event) -> str | None:
        values = pairs_of(event)
        return values.get("transactionid") or values.get("confirmationref")

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        held = pairs_of(event)
        return tuple(name for name in (*IDENTITIES, "mobile", "mobilesha256", "ipaddress") if held.get(name))

    def dedupe_key(self, event: Event, at: datetime) -> str | None:
        if event.get("eventType") != "conversion":
            return None
        values = pairs_of(event)
        name = "transactionid" if values.get("transactionid") else "confirmationref"
        return f"{name}\x1f{values[name]}" if values.get(name) else None

    def _at_the_door(self, received: Received, authorization: str) -> Ruling | None:
        if received.path not in _GENERATIONS:
            return _refuse(404, Refusal(field="path", message="is not /v2/events"), authorized=None)
        if received.method != "POST":
            return _refuse(405, Refusal(field="method", message="is not POST"), authorized=None)
        scheme, _, credential = authorization.partition(" ")
        try:
            pair = base64.b64decode(credential, validate=True)
        except binascii.Error:
            pair = b""
        if scheme.lower() != "basic" or not compare_digest(pair, self._pair):
            return _refuse(401, Refusal(field="Authorization", message="holds no known key pair"), authorized=False)
        return None

    def _envelope(self, found: Event) -> Ruling | None:
        account, events = found.get("accountId"), found.get("events")
        for name, value, kind in (("accountId", account, str), ("events", events, list)):
            if value is None:
                return _refuse(400, Refusal(field=name, message="is required"))
            if not isinstance(value, kind):
                refusal = Refusal(field=name, message=f"is not a {'string' if kind is str else 'list'}")
                return _refuse(400, refusal, code="RequestJsonUnmarshalError")
        if not checks.text(1, 64)(account):
            return _refuse(400, Refusal(field="accountId", message="is not 1 to 64 characters long"))
        if account not in self._accounts:
            return _refuse(403, Refusal(field="accountId", message="is not open to this key pair"), authorized=False)
        if not isinstance(events, list) or not 1 <= len(events) <= LARGEST_BATCH:
            return _refuse(400, Refusal(field="events", message="are not 1 to 100"))
        if not all(isinstance(event, dict) for event in events):
            refusal = Refusal(field="events", message="are not all objects")
            return _refuse(400, refusal, code="RequestJsonUnmarshalError")
        if self.strict and (unknown := found.keys() - {"accountId", "events"}):
            return _refuse(400, Refusal(field=min(unknown)[:64], message="is not a field of a request"))
        return None

    def _rule_events(self, events: tuple[Event, ...], warnings: tuple[str, ...]) -> Ruling:
        now = self.clock()
        late = [_outside(event, place, now) for place, event in enumerate(events)]
        if self.window == "request" and (outside := [refusal for refusal in late if refusal]):
            return _refuse(400, *outside)
        unprocessed: list[object] = []
        refused: list[Refusal] = []
        taken: list[int] = []
        for place, event in enumerate(events):
            problems, warned = sorted_out(_problems(event, place), strict=self.strict)
            warnings += warned
            if outside_window := late[place]:
                problems += (outside_window,)
            if problems:
                refused += problems
                message = "; ".join(f"{problem.field} {problem.message}" for problem in problems[:5])
                unprocessed.append({"error": {"code": "ValidationError", "message": message}, "record": event})
            else:
                taken.append(place)
        return Ruling(
            status=200,
            body={"data": {"unprocessedRecords": unprocessed}},
            events=events,
            taken=tuple(taken),
            refused=tuple(refused),
            warnings=warnings,
            authorized=True,
        )


def pairs_of(event: Event) -> dict[str, str]:
    """Return the objectData of an event as a mapping, leaving out what is not a pair of strings."""
    found = event.get("objectData")
    return {
        pair["name"]: pair["value"]
        for pair in (found if isinstance(found, list) else ())
        if isinstance(pair, dict) and isinstance(pair.get("name"), str) and isinstance(pair.get("value"), str)
    }


def _refuse(status: int, *refused: Refusal, code: str = "", authorized: bool | None = True) -> Ruling:
    message = "; ".join(f"{refusal.field} {refusal.message}" for refusal in refused[:5])
    body = {"data": {"code": code or _CODES.get(status, phrase(status)), "message": message}}
    return Ruling(status=status, body=body, refused=refused, authorized=authorized)


def _header_problems(received: Received) -> Iterator[Refusal]:
    kind = received.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        yield Refusal(field="Content-Type", message="is not application/json", soft=True)
    if received.headers.get("charset", "").lower() != "utf-8":
        yield Refusal(field="Charset", message="is not utf-8", soft=True)
    version = received.headers.get("rokt-version")
    if version is None:
        yield Refusal(field="Rokt-Version", message="is required", soft=True)
    elif version and version not in VERSIONS:
        yield Refusal(field="Rokt-Version", message="is not a version of this API")


def _outside(event: Event, place: int, now: datetime) -> Refusal | None:
    at = instant(event.get("eventTime"))
    if at is None or earliest(now) <= at <= now + _AHEAD:
        return None
    words = "is older than 18 months" if at < now else "is more than 5 minutes ahead"
    return Refusal(field="eventTime", message=words, event=place)


def _problems(event: Event, place: int) -> Iterator[Refusal]:
    yield from checks.broken(_FIELDS, event, event=place)
    for name in event.keys() - _KNOWN:
        yield Refusal(field=str(name)[:64], message="is not a field of an event", event=place, soft=True)
    for group in ("objectData", "metaData"):
        yield from _pair_problems(event.get(group), group, place)
    values = pairs_of(event)
    yield from checks.broken(_VALUES, values, event=place, at="objectData.")
    if event.get("eventType") == "conversion" and not any(values.get(name) for name in IDENTITIES):
        yield Refusal(field="objectData", message=f"hold none of {', '.join(IDENTITIES)}", event=place)


def _pair_problems(found: object, group: str, place: int) -> Iterator[Refusal]:
    names: set[str] = set()
    for index, pair in enumerate(found if isinstance(found, list) else ()):
        at = f"{group}[{index}]"
        if not isinstance(pair, dict):
            yield Refusal(field=at, message="is not an object with name and value", event=place)
            continue
        yield from checks.broken(_PAIR, pair, event=place, at=f"{at}.")
        name = pair.get("name")
        if not isinstance(name, str):
            continue
        if name.lower().startswith("rokt."):
            yield Refusal(field=f"{at}.name", message="starts with rokt., which is reserved", event=place)
        if name in names:
            yield Refusal(field=f"{at}.name", message="comes twice", event=place, soft=True)
        names.add(name)
