"""Rokt's Event API on this machine, generations v1 and v2, by contracts.md 3 and 12."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from pydantic import JsonValue

from kit.sandbox import checks
from kit.sandbox.checks import phrase, sorted_out
from kit.sandbox.doors import Tokens, opens
from kit.sandbox.record import Event, Received, Refusal, Ruling, events_in, parsed
from kit.sandbox.rokt_events import IDENTITIES, outside_window, pairs_of, problems_of
from kit.sandbox.settings import Settings
from kit.sandbox.tally import Money, money_of
from kit.sandbox.vendor import Vendor

Window = Literal["request", "event"]
"""What an event outside the time window refuses: the whole request, or itself alone (contracts.md 10.9)."""

LARGEST_BATCH = 100
VERSIONS = frozenset({"2020-05-21"})

#: contracts.md 3.1: v1 keys "may be purged after three hours".
_KEYS_LIVE = timedelta(hours=3)

#: Reasons that are told for one event, or for one request.
_MOST_WORDS = 5

_V1 = "/v1/events"
_V2 = "/v2/events"

_CODES = {
    400: "RequestValidationError",
    401: "UnauthorizedError",
    403: "Forbidden",
    500: "InternalServerError",
    502: "ServiceUnavailableError",
    503: "ServiceUnavailableError",
}


class Rokt(Vendor):
    """`POST /v2/events` (Basic) and `POST /v1/events` (Bearer, Idempotency-Key), for the accounts it may write to.

    A wrong event comes back in `data.unprocessedRecords`; the others count. Conversions are told apart by
    transactionid, else by confirmationref. On v1 the key of a request that was taken is known for three hours: its
    repeat is answered 409 and counts nothing.
    """

    name = "rokt"
    envelope = "events"

    def __init__(
        self,
        public: str,
        secret: str,
        accounts: frozenset[str],
        tokens: Tokens,
        settings: Settings,
        *,
        window: Window = "request",
    ) -> None:
        super().__init__(settings)
        self.window: Window = window
        self._pair = (public, secret)
        self._accounts = accounts
        self._tokens = tokens
        self._keys: dict[str, datetime] = {}

    def expire_tokens(self) -> None:
        """End every token that was issued: each is answered 401 from here on, as after an early expiry."""
        self._tokens.expire()

    def clear(self) -> None:
        super().clear()
        self._keys.clear()

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
        events = events_in(found, self.envelope)
        if self._key_was_seen(received):
            repeated = tuple(range(len(events)))
            return Ruling(status=409, body=self.trouble(409), events=events, repeated=repeated, authorized=True)
        ruling = self._rule_events(events, header_warnings)
        if ruling.status == 200 and (key := _key_of(received)):
            self._keys[key] = received.at
        return ruling

    def trouble(self, status: int) -> object:
        if status < 300:
            return {"data": {"unprocessedRecords": []}}
        code = _CODES.get(status)
        return {"data": {"code": code, "message": phrase(status)}} if code else {"data": {"message": phrase(status)}}

    def order_of(self, event: Event) -> str | None:
        values = pairs_of(event)
        return values.get("transactionid") or values.get("confirmationref")

    def ids_of(self, event: Event) -> tuple[str, ...]:
        held = event.get("clientEventId")
        return (*super().ids_of(event), held) if isinstance(held, str) else super().ids_of(event)

    def money_of(self, event: Event) -> Money | None:
        values = pairs_of(event)
        return money_of(values.get("amount"), values.get("currency"))

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        held = pairs_of(event)
        return tuple(name for name in (*IDENTITIES, "mobile", "mobilesha256", "ipaddress") if held.get(name))

    def dedupe_key(self, event: Event, at: datetime) -> str | None:
        if event.get("eventType") != "conversion":
            return None
        values = pairs_of(event)
        name = "transactionid" if values.get("transactionid") else "confirmationref"
        return f"{name}\x1f{values[name]}" if values.get(name) else None

    def without(self, received: Received, ruling: Ruling, places: Collection[int]) -> Ruling:
        failed = _words_by_place(ruling.refused) | dict.fromkeys(sorted(places), "Invalid content")
        taken = tuple(place for place in ruling.taken if place not in places)
        return replace(ruling, body=_unprocessed(ruling.events, failed), taken=taken)

    def details(self) -> dict[str, JsonValue]:
        return {"idempotency keys": len(self._keys)} if self._keys else {}

    def _at_the_door(self, received: Received, authorization: str) -> Ruling | None:
        if received.path not in {_V1, _V2}:
            return _refuse(404, Refusal(field="path", message="is not /v2/events or /v1/events"), authorized=None)
        if received.method != "POST":
            return _refuse(405, Refusal(field="method", message="is not POST"), authorized=None)
        if received.path == _V2 and not opens(authorization, *self._pair):
            return _refuse(401, Refusal(field="Authorization", message="holds no known key pair"), authorized=False)
        if received.path == _V1 and not self._tokens.admits(authorization, received.at):
            return _refuse(401, Refusal(field="Authorization", message="holds no live token"), authorized=False)
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
            return _refuse(403, Refusal(field="accountId", message="is not open to this credential"), authorized=False)
        if not isinstance(events, list) or not 1 <= len(events) <= LARGEST_BATCH:
            return _refuse(400, Refusal(field="events", message="are not 1 to 100"))
        if not all(isinstance(event, dict) for event in events):
            refusal = Refusal(field="events", message="are not all objects")
            return _refuse(400, refusal, code="RequestJsonUnmarshalError")
        if self.strict and (unknown := found.keys() - {"accountId", "events"}):
            return _refuse(400, Refusal(field=min(unknown)[:64], message="is not a field of a request"))
        return None

    def _key_was_seen(self, received: Received) -> bool:
        self._keys = {key: at for key, at in self._keys.items() if received.at - at < _KEYS_LIVE}
        return _key_of(received) in self._keys

    def _rule_events(self, events: tuple[Event, ...], warnings: tuple[str, ...]) -> Ruling:
        now = self.clock()
        late = [outside_window(event, place, now) for place, event in enumerate(events)]
        if self.window == "request" and (outside := [refusal for refusal in late if refusal]):
            return _refuse(400, *outside)
        refused: list[Refusal] = []
        for place, event in enumerate(events):
            problems, warned = sorted_out(problems_of(event, place), strict=self.strict)
            warnings += warned
            refused += problems
            if outside_window_too := late[place]:
                refused.append(outside_window_too)
        failed = _words_by_place(refused)
        return Ruling(
            status=200,
            body=_unprocessed(events, failed),
            events=events,
            taken=tuple(place for place in range(len(events)) if place not in failed),
            refused=tuple(refused),
            warnings=warnings,
            authorized=True,
        )


def _key_of(received: Received) -> str:
    """Return the Idempotency-Key of a v1 request; v2 knows none."""
    return received.headers.get("idempotency-key", "") if received.path == _V1 else ""


def _words_by_place(refused: Iterable[Refusal]) -> dict[int, str]:
    """Return why each refused event was refused, by its place."""
    words: dict[int, list[str]] = {}
    for refusal in refused:
        if refusal.event is not None:
            words.setdefault(refusal.event, []).append(f"{refusal.field} {refusal.message}")
    return {place: "; ".join(said[:_MOST_WORDS]) for place, said in words.items()}


def _unprocessed(events: tuple[Event, ...], failed: Mapping[int, str]) -> object:
    """Return the answer to a request of which these events failed, each with its reason."""
    records = [
        {"error": {"code": "ValidationError", "message": message}, "record": events[place]}
        for place, message in sorted(failed.items())
    ]
    return {"data": {"unprocessedRecords": records}}


def _refuse(status: int, *refused: Refusal, code: str = "", authorized: bool | None = True) -> Ruling:
    message = "; ".join(f"{refusal.field} {refusal.message}" for refusal in refused[:_MOST_WORDS])
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
    if received.path == _V1 and not checks.is_uuid(received.headers.get("idempotency-key")):
        yield Refusal(field="Idempotency-Key", message="is not a uuid; v1 requires one", soft=True)
