"""Rokt's Event API, v2 (up to 100 events a request) and v1 (one, with a key of its repeat): contracts.md section 3."""

import hashlib
import json
import uuid
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import ClassVar

import httpx

from kit.destinations.base import (
    Answer,
    Json,
    Judgement,
    Sending,
    Skip,
    encoded,
    endpoint,
    error_named,
    json_object,
    judge_with_words,
    masked,
)
from kit.destinations.rokt.credentials import Credentials, basic
from kit.destinations.rokt.fields import LONGEST_VALUE
from kit.destinations.rokt.surface import Surface, only
from kit.destinations.rokt.token import ClientCredentials
from kit.model import Dispatch, Verdict

#: Error codes of a single record that say nothing against the record (contracts.md 3.6).
_ROKT_SIDE = ("Internal", "ServiceUnavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsApi(Surface):
    """What v1 and v2 have in common: the event, and the answer. A repeat is told by clientEventId and the order id."""

    #: Inside every reading of Rokt's "18 months" (contracts.md 3.3).
    oldest: ClassVar[timedelta] = timedelta(days=540)
    too_old: ClassVar[str] = "older than 540 days"
    begins: ClassVar[bytes] = b'{"clientEventId":'
    path: ClassVar[str]

    account: str
    base_url: str
    credentials: Credentials

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the reason of every surface, or value_too_long."""
        skip = Surface.check(self, dispatch, now=now)
        conversion = dispatch.conversion
        if skip is not None or not (conversion.extra or conversion.metadata):
            return skip
        # Only what the shop names itself can be so long.
        named = (*self.fields.further(conversion).items(), *self.fields.metadata(conversion).items())
        long = next((name for name, text in named if len(text) > LONGEST_VALUE), None)
        return Skip("value_too_long", long) if long else None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event: `eventTime` is RFC 3339 in UTC with milliseconds, all values are strings."""
        at = self.fields.at(dispatch, now=now)
        event: dict[str, Json] = {
            "clientEventId": self.fields.event_id(dispatch.event_id),
            "eventType": self.fields.event_type(dispatch.conversion.name),
            "eventTime": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "objectData": _pairs(self.fields.told(dispatch)),
        }
        metadata = self.fields.metadata(dispatch.conversion)
        return event | {"metaData": _pairs(metadata)} if metadata else event

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of these events, each with the bytes it was frozen with."""
        account = json.dumps(self.account).encode()
        events = b",".join(sending.payload for sending in sendings)
        return httpx.Request(
            "POST",
            endpoint(self.base_url, self.path),
            headers={
                "Content-Type": "application/json",
                "Charset": "utf-8",
                "Rokt-Version": "2020-05-21",
                **self.headers(sendings[0]),
            },
            content=b'{"accountId":' + account + b',"events":[' + events + b"]}",
        )

    @abstractmethod
    def headers(self, first: Sending) -> dict[str, str]:
        """Return the headers of this generation."""

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return a meaning for each event, because a 200 hides refusals in `unprocessedRecords`.

        A 200 that is not readable as a whole says nothing: unknown, and safe to repeat. A longer answer than we read
        to a batch is oversize, so that halves are asked. What a 409 says depends on the generation.
        """
        if 200 <= answer.status < 300:
            return self._read_success(sendings, answer)
        if answer.status == 409:
            return [self.repeated(sending) for sending in sendings]
        secrets = (self.credentials.password, self.credentials.user)
        words = _error_words(json_object(answer.body))
        return [judge_with_words(answer, now=now, words=words, secrets=secrets)] * len(sendings)

    @abstractmethod
    def repeated(self, sending: Sending) -> Judgement:
        """Return what a 409 means."""

    def is_known(self, answer: Answer) -> bool:
        """Return whether it is `{}` or `{"data": {"unprocessedRecords": [...]}}`, of errors and records."""
        data = _data_of(answer)
        if data is None or data.keys() - {"unprocessedRecords"}:
            return False
        records = data.get("unprocessedRecords") or []
        return isinstance(records, list) and all(
            isinstance(entry, dict) and entry.keys() <= {"error", "record"} for entry in records
        )

    def repeat_is_safe(self, sending: Sending) -> bool:
        """Return whether Rokt tells its repeat, by the order id, or no money is in it."""
        return sending.order_id is not None or not sending.monetary

    def _read_success(self, sendings: Sequence[Sending], answer: Answer) -> Sequence[Judgement]:
        words = f"HTTP {answer.status}"
        if answer.cut and len(sendings) > 1:
            return [Judgement(verdict=Verdict.OVERSIZE, detail=f"{words}, answer too long")] * len(sendings)
        ids = [self.fields.event_id(sending.event_id) for sending in sendings]
        refused = _refusals(answer, set(ids))
        if refused is None:
            return [Judgement(verdict=Verdict.UNKNOWN, detail=f"{words}, answer not readable")] * len(sendings)
        taken = Judgement(verdict=Verdict.OK, detail=words)
        return [refused.get(event_id, taken) for event_id in ids]


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsV2(EventsApi):
    """`POST /v2/events` with Basic, up to 100 events a request."""

    path: ClassVar[str] = "/v2/events"
    largest_batch: ClassVar[int] = 100

    def headers(self, first: Sending) -> dict[str, str]:
        return {"Authorization": basic(self.credentials.user, self.credentials.password)}

    def repeated(self, sending: Sending) -> Judgement:
        # We send no key here, so Rokt knows the event by another sign.
        return Judgement(verdict=Verdict.OK, detail="HTTP 409, known to Rokt already")


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsV1(EventsApi):
    """`POST /v1/events` with a bearer token, one event a request, so that the Idempotency-Key is the event's own."""

    path: ClassVar[str] = "/v1/events"
    largest_batch: ClassVar[int] = 1

    @property
    def authentication(self) -> ClientCredentials:
        return ClientCredentials(
            base_url=self.base_url, app_id=self.credentials.user, app_secret=self.credentials.password
        )

    def headers(self, first: Sending) -> dict[str, str]:
        """Return the key, a uuid in version 4's form: the same after no answer, another after an answered failure."""
        said = "\x1f".join((self.account, first.event_id, str(first.refused)))
        key = uuid.UUID(bytes=hashlib.sha256(said.encode()).digest()[:16], version=4)
        return {"Idempotency-Key": str(key)}

    def repeated(self, sending: Sending) -> Judgement:
        """Take it as delivered if the try before had no answer; else nobody can have used this key (faults.md 2.2)."""
        if sending.in_doubt:
            return Judgement(verdict=Verdict.OK, detail="HTTP 409, taken by the try before")
        said = "idempotency_collision: HTTP 409 to a key that was not used before"
        return Judgement(verdict=Verdict.INVALID, detail=said)


def _pairs(told: Mapping[str, str]) -> list[Json]:
    return [{"name": name, "value": text} for name, text in told.items()]


def _data_of(answer: Answer) -> Mapping[str, object] | None:
    """Return what stands in `data`; {} where the answer is empty of it, None where it is another's."""
    body = only(answer, "data")
    data = None if body is None else body.get("data", {})
    return data if isinstance(data, dict) else None


def _refusals(answer: Answer, sent: set[str]) -> dict[str, Judgement] | None:
    """Return what Rokt refused, by event; None when the answer does not add up (faults.md 2.2)."""
    data = _data_of(answer)
    # What is no answer of this API's, as a gateway's words, proves nothing.
    if data is None or "code" in data or (data and "unprocessedRecords" not in data):
        return None
    beside = {name: said for name, said in data.items() if name != "unprocessedRecords"}
    if beside and error_named(replace(answer, body=encoded(beside))) is not None:
        return None
    records = data.get("unprocessedRecords")
    records = [] if records is None else records
    if not isinstance(records, list) or len(records) > len(sent):
        return None
    refused = {}
    for entry in records:
        record = entry.get("record") if isinstance(entry, dict) else None
        event_id = record.get("clientEventId") if isinstance(record, dict) else None
        if not isinstance(event_id, str) or event_id not in sent:
            return None
        refused[event_id] = _refusal(entry.get("error"))
    return refused


def _refusal(error: object) -> Judgement:
    words = _error_words({"data": error}) or "no reason given"
    verdict = Verdict.TRANSIENT if words.startswith(_ROKT_SIDE) else Verdict.INVALID
    return Judgement(verdict=verdict, detail=masked(words))


def _error_words(body: Mapping[str, object] | None) -> str | None:
    """Return "code: message" of Rokt's error object; None when the body is none."""
    data = body.get("data") if body is not None else None
    if not isinstance(data, dict):
        return None
    return ": ".join(str(data[key]) for key in ("code", "message") if data.get(key)) or None
