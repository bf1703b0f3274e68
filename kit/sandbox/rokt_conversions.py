"""Rokt's Conversions API on this machine, as it is served on mParticle's hosts, by contracts.md 4 and 12."""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Literal

from pydantic import JsonValue

from kit.sandbox.checks import phrase, sorted_out
from kit.sandbox.doors import basic_pair, opens
from kit.sandbox.record import Event, Received, Refusal, Ruling, parsed
from kit.sandbox.rokt_batches import (
    CONVERSION,
    MEMBERSHIP,
    data_of,
    events_of,
    identities_of,
    part,
    problems_of,
    remarks_on,
)
from kit.sandbox.settings import Settings
from kit.sandbox.tally import Money, money_of
from kit.sandbox.vendor import Vendor

Locates = Literal["both", "path", "position", "nothing"]
"""How an error of a bulk request says which batch it is about."""

MOST_BATCHES = 100
LARGEST_BATCH = 128 * 1024
LARGEST_REQUEST = 256 * 1024

_SINGLE = "/v2/events"
_BULK = "/v2/bulkevents"

_CODES = {400: "BAD_REQUEST", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 429: "TOO_MANY_REQUESTS"}

_GAP = re.compile(r"[\s,]*")


class RoktConversions(Vendor):
    """`POST /v2/events` takes one batch, `POST /v2/bulkevents` a list of up to 100; also below `/s2s`.

    No credential is answered 401, a wrong one 403, what is taken 202 without a body. A wrong batch fails whole: alone
    with 400, in a bulk request as one of the `errors` of a 202, beside batches that count. Events of the environment
    `development` are taken and not counted. Conversions are told apart by conversiontype and confirmationref.

    An event stands in the records as its batch with that event alone; a refusal's `event` is its batch's place.
    """

    name = "rokt_conversions"

    def __init__(self, key: str, secret: str, settings: Settings, *, locates: Locates = "both") -> None:
        super().__init__(settings)
        self.locates: Locates = locates
        self._pair = (key, secret)
        self._audiences: dict[str, set[str]] = {}

    @property
    def audiences(self) -> dict[str, int]:
        """Return how many members each audience has, after its adds and drops."""
        return {name: len(members) for name, members in self._audiences.copy().items()}

    def members(self, audience: str) -> frozenset[str]:
        """Return who is in an audience: each by the first of email, other, customerid, other2 that was given."""
        return frozenset(self._audiences.get(audience, set()).copy())

    def clear(self) -> None:
        super().clear()
        self._audiences.clear()

    def read(self, received: Received) -> tuple[Event, ...]:
        return tuple(one for batch in _batches(parsed(received.text)) for one in events_of(batch))

    def judge(self, received: Received, authorization: str) -> Ruling:
        """Refuse at the door (path, credential, size), then batch by batch."""
        if refused := self._at_the_door(received, authorization):
            return refused
        header_problems, warnings = sorted_out(_header_problems(received), strict=self.strict)
        if header_problems:
            return _refuse(400, *header_problems)
        try:
            found = parsed(_text_of(received).encode())
        except ValueError as exc:
            return _refuse(400, Refusal(field="body", message=f"is not JSON: {exc}"))
        bulk = _path(received) == _BULK
        if bulk != isinstance(found, list):
            return _refuse(400, Refusal(field="body", message="is not a list" if bulk else "is not one object"))
        batches = _batches(found)
        if not 1 <= len(batches) <= MOST_BATCHES:
            return _refuse(400, Refusal(field="body", message=f"holds {len(batches)} batches; 1 to 100 are taken"))
        return self._rule_batches(received, batches, warnings)

    def trouble(self, status: int) -> object:
        if status < 300:
            return None
        return {"errors": [{"code": _CODES.get(status, phrase(status)), "message": phrase(status)}]}

    def order_of(self, event: Event) -> str | None:
        order = part(data_of(event), "custom_attributes").get("confirmationref")
        return order if isinstance(order, str) and data_of(event).get("event_name") == CONVERSION else None

    def ids_of(self, event: Event) -> tuple[str, ...]:
        held = data_of(event).get("source_message_id")
        return (*super().ids_of(event), held) if isinstance(held, str) else super().ids_of(event)

    def money_of(self, event: Event) -> Money | None:
        attributes = part(data_of(event), "custom_attributes")
        return money_of(attributes.get("amount"), attributes.get("currency"))

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        return tuple(identities_of(event))

    def dedupe_key(self, event: Event, at: datetime) -> str | None:
        order = self.order_of(event)
        kind = part(data_of(event), "custom_attributes").get("conversiontype")
        return f"{kind}\x1f{order}" if order else None

    def took(self, event: Event) -> None:
        data = data_of(event)
        attributes = part(data, "custom_attributes")
        who = next(iter(identities_of(event).items()), None)
        if data.get("event_name") != MEMBERSHIP or who is None:
            return
        members = self._audiences.setdefault(str(attributes.get("audience_name")), set())
        if attributes.get("status") == "add":
            members.add(":".join(who))
        else:
            members.discard(":".join(who))

    def without(self, received: Received, ruling: Ruling, places: Collection[int]) -> Ruling:
        batches = _batches(parsed(received.text))
        owners = _owners(batches)
        scripted = [Refusal(field="events", message="cannot be read", event=owners[place]) for place in places]
        return self._answer_to(received, batches, _first_by_batch((*ruling.refused, *scripted)), ruling)

    def details(self) -> dict[str, JsonValue]:
        return {f"audience {name}": members for name, members in self.audiences.items()}

    def _at_the_door(self, received: Received, authorization: str) -> Ruling | None:
        if _path(received) not in {_SINGLE, _BULK}:
            return _refuse(404, Refusal(field="path", message=f"is not {_SINGLE} or {_BULK}"), authorized=None)
        if received.method != "POST":
            return _refuse(405, Refusal(field="method", message="is not POST"), authorized=None)
        if basic_pair(authorization) is None:
            return _refuse(401, Refusal(field="Authorization", message="holds no Basic credential"), authorized=False)
        if not opens(authorization, *self._pair):
            return _refuse(403, Refusal(field="Authorization", message="holds no known key"), authorized=False)
        if len(received.body) > LARGEST_REQUEST:
            return _refuse(400, Refusal(field="body", message=f"is longer than {LARGEST_REQUEST} bytes"))
        return None

    def _rule_batches(self, received: Received, batches: list[Event], warnings: tuple[str, ...]) -> Ruling:
        text = _text_of(received)
        refused: list[Refusal] = []
        for place, (batch, (start, end)) in enumerate(zip(batches, _spans(text), strict=True)):
            problems, warned = sorted_out(problems_of(batch, place), strict=self.strict)
            if len(text[start:end].encode()) > LARGEST_BATCH:
                problems += (Refusal(field="batch", message=f"is longer than {LARGEST_BATCH} bytes", event=place),)
            refused += problems
            warnings += (*warned, *remarks_on(batch))
        ruling = Ruling(status=202, body=None, refused=tuple(refused), warnings=warnings, authorized=True)
        return self._answer_to(received, batches, _first_by_batch(refused), ruling)

    def _answer_to(
        self, received: Received, batches: list[Event], failed: Mapping[int, Refusal], ruling: Ruling
    ) -> Ruling:
        """Return the ruling with its answer and what it takes, when these batches failed."""
        events = tuple(one for batch in batches for one in events_of(batch))
        taken = tuple(
            place
            for place, owner in enumerate(_owners(batches))
            if owner not in failed and data_of(events[place]) and batches[owner].get("environment") == "production"
        )
        errors = [self._error(received, failed[place]) for place in sorted(failed)]
        alone = bool(errors) and len(batches) == 1
        return replace(
            ruling,
            status=400 if alone else 202,
            body={"errors": errors} if errors else None,
            headers=() if alone else (("x-mp-rate-limit-percentage-used", "1"),),
            events=events,
            taken=taken,
        )

    def _error(self, received: Received, refusal: Refusal) -> object:
        place = refusal.event or 0
        text = _text_of(received)
        start, end = _spans(text)[place]
        leaf = refusal.field.rpartition(".")[2].partition("[")[0]
        position = max(text.find(f'"{leaf}"', start, end), start) + 1
        path = f"[{place}].{refusal.field}" if _path(received) == _BULK else refusal.field
        said = {
            "both": f" Path '{path}', line 1, position {position}.",
            "path": f" Path '{path}'.",
            "position": f" Line 1, position {position}.",
            "nothing": "",
        }
        return {"code": "BAD_REQUEST", "message": f"{leaf} {refusal.message}.{said[self.locates]}"}


def _path(received: Received) -> str:
    return received.path.removeprefix("/s2s")


def _text_of(received: Received) -> str:
    return received.body.decode().removeprefix("\ufeff")


def _batches(found: object) -> list[Event]:
    return [item if isinstance(item, dict) else {} for item in (found if isinstance(found, list) else [found])]


def _owners(batches: list[Event]) -> list[int]:
    """Return for each event of the request the place of its batch."""
    return [place for place, batch in enumerate(batches) for _ in events_of(batch)]


def _first_by_batch(refused: Iterable[Refusal]) -> dict[int, Refusal]:
    first: dict[int, Refusal] = {}
    for refusal in refused:
        first.setdefault(refusal.event or 0, refusal)
    return first


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where each batch begins and ends in the JSON text."""
    decoder = json.JSONDecoder()
    at = len(text) - len(text.lstrip())
    if text[at] != "[":
        return [(at, len(text.rstrip()))]
    spans: list[tuple[int, int]] = []
    at = _after_gap(text, at + 1)
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        spans.append((at, end))
        at = _after_gap(text, end)
    return spans


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _header_problems(received: Received) -> Iterator[Refusal]:
    kind = received.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        yield Refusal(field="Content-Type", message="is not application/json", soft=True)
    if received.headers.get("charset", "").lower() != "utf-8":
        yield Refusal(field="Charset", message="is not utf-8", soft=True)
    if received.headers.get("content-encoding", "identity") != "identity":
        yield Refusal(field="body", message="is compressed")


def _refuse(status: int, *refused: Refusal, authorized: bool | None = True) -> Ruling:
    message = "; ".join(f"{each.field} {each.message}" for each in refused)
    body = {"errors": [{"code": _CODES.get(status, phrase(status)), "message": message}]}
    return Ruling(status=status, body=body, refused=refused, authorized=authorized)
