"""Rokt's Event API v2: up to 100 events a request, answered event by event (contracts.md section 3)."""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal

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
    json_object,
    judge_with_words,
    masked,
    require,
    require_base_url,
    without_empty,
)
from kit.errors import ConfigurationError
from kit.model import Conversion, Dispatch, Mode, Verdict

LARGEST_BATCH = 100
LONGEST_VALUE = 65_536
#: Inside every reading of Rokt's "18 months", and of its "5 minutes" ahead (contracts.md 3.3).
OLDEST = timedelta(days=540)
SKEW = timedelta(minutes=5)

#: objectData that comes from the event's own fields only; `Conversion.extra` cannot set it.
_OURS = frozenset(
    "passbackconversiontrackingid rokttrackingid email emailmd5 firstname lastname mobile ipaddress ccbin "
    "transactionid confirmationref amount currency".split()
)
#: Error codes of a single record that say nothing against the record (contracts.md 3.6).
_ROKT_SIDE = ("Internal", "ServiceUnavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rokt(Destination):
    """Reports to Rokt, which tells a repeat by `clientEventId` and by the order id, so every failure is sent again.

    `account`           the id in my.rokt.com's URL after /accounts/, 1-64 characters.
    `public_key`, `secret_key`  `rpub-...` and `rsec-...` from the account manager; live needs both.
    `email`             "hash" sends emailsha256; "raw" sends the normalised address, which may match better.
    `names`             "compact" hashes names without inner spaces, as Rokt publishes; "spaced" as its SDK does.
    `send_ip`           True sends the visitor's ip in clear; Rokt publishes no rule for hashing it.
    `event_types`       the kit's event name to Rokt's eventType; "conversion" triggers attribution. A purchase is a
                        conversion unless this says otherwise; other names go as they are, as agreed with Rokt.
    `conversion_types`  the kit's event name to `conversiontype`, for events that bring none.
    `clamp`             an event up to five minutes ahead of our clock is told as of now.

    Further fields come from `Conversion.extra`. Left out of it: names beginning with `rokt.` (reserved by Rokt), names
    that have their own field, `...sha256` that is no digest, and a clear e-mail address unless `email="raw"`.

    Raises ConfigurationError when a setting is missing or cannot be. Source: contracts.md 3, 9.2, 10.
    """

    vendor: ClassVar[str] = "rokt"
    click_params: ClassVar[tuple[str, ...]] = ("rclid", "rtid")

    name: str = "rokt"
    account: str
    public_key: str = ""
    secret_key: str = field(default="", repr=False)
    email: Literal["hash", "raw"] = "hash"
    names: Literal["compact", "spaced"] = "compact"
    send_ip: bool = False
    event_types: Mapping[str, str] = field(default_factory=dict)
    conversion_types: Mapping[str, str] = field(default_factory=dict)
    clamp: bool = True
    base_url: str = "https://api.rokt.com"

    def __post_init__(self) -> None:
        require("Rokt.account", self.account, "it is in my.rokt.com's URL after /accounts/")
        if len(self.account) > 64:
            raise ConfigurationError("Rokt.account", "is longer than 64 characters")
        for setting, key, prefix in (
            ("KIT_ROKT_PUBLIC_KEY", self.public_key, "rpub-"),
            ("KIT_ROKT_SECRET_KEY", self.secret_key, "rsec-"),
        ):
            if self.mode != Mode.LIVE and not key:
                continue
            require(setting, key, f'live needs the key that begins with {prefix}; mode="shadow" needs none')
            if not key.startswith(prefix) or not key.isascii():
                raise ConfigurationError(setting, f"must begin with {prefix}; write the key that Rokt issued as it is")
        require_base_url("Rokt.base_url", self.base_url)

    def batch_limit(self, sending: Sending) -> int:
        """Return 100, Rokt's limit."""
        return LARGEST_BATCH

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first of identity_mismatch, identifier, time_old, time_future, value_too_long that forbids it."""
        ours, given = self._email(dispatch), self._extra(dispatch).get("emailsha256")
        if ours and given and identity.email_sha256(ours[1]) != given:
            return Skip("identity_mismatch", "extra emailsha256 is not the digest of the e-mail")
        if not (ours or given or dispatch.identifiers.click_id(self.vendor)):
            return Skip("identifier", "Rokt needs its click id (rclid, rtid) or an e-mail", curable=True)
        if dispatch.at < now - OLDEST:
            return Skip("time_old", "older than 540 days")
        if dispatch.at > now + SKEW:
            return Skip("time_future", "more than 5 minutes ahead")
        long = next((key for key, text in self._object(dispatch).items() if len(text) > LONGEST_VALUE), None)
        return Skip("value_too_long", long) if long else None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event: `eventTime` is RFC 3339 in UTC with milliseconds, all values of objectData are strings."""
        at = min(dispatch.at, now) if self.clamp else dispatch.at
        return {
            "clientEventId": dispatch.event_id,
            "eventType": self._event_type(dispatch.conversion),
            "eventTime": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "objectData": [{"name": key, "value": text} for key, text in self._object(dispatch).items()],
        }

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of these events, each with the bytes it was frozen with."""
        basic = base64.b64encode(f"{self.public_key}:{self.secret_key}".encode()).decode()
        account = json.dumps(self.account).encode()
        events = b",".join(sending.payload for sending in sendings)
        return httpx.Request(
            "POST",
            endpoint(self.base_url, "/v2/events"),
            headers={
                "Content-Type": "application/json",
                "Charset": "utf-8",
                "Rokt-Version": "2020-05-21",
                "Authorization": f"Basic {basic}",
            },
            content=b'{"accountId":' + account + b',"events":[' + events + b"]}",
        )

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return a meaning for each event, because a 200 hides refusals in `unprocessedRecords`.

        A 200 that is not readable as a whole says nothing: unknown, and safe to repeat. A longer answer than we read
        to a batch is oversize, so that halves are asked. 409 is our own key seen before: ok.
        """
        if 200 <= answer.status < 300:
            return _read_success(sendings, answer)
        if answer.status == 409:
            return [Judgement(verdict=Verdict.OK, detail="HTTP 409, known to Rokt already")] * len(sendings)
        words = _error_words(json_object(answer.body))
        judgement = judge_with_words(answer, now=now, words=words, secrets=(self.secret_key, self.public_key))
        return [judgement] * len(sendings)

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return True: a repeat has the same clientEventId and transactionid."""
        return True

    def trial(self, *, now: datetime) -> Trial:
        """Return a request that carries nothing: there is no dry run, so credentials show with the first event."""
        return Trial(request=httpx.Request("HEAD", self.base_url))

    def _event_type(self, conversion: Conversion) -> str:
        default = "conversion" if conversion.name == "purchase" else conversion.name
        return self.event_types.get(conversion.name, default)

    def _email(self, dispatch: Dispatch) -> tuple[str, str] | None:
        """Return the name and value of the e-mail identifier by the setting, None when there is none that is usable."""
        text = dispatch.conversion.email or dispatch.identifiers.email or ""
        address = identity.email(text)
        if address and self.email == "raw":
            return "email", address
        digest = identity.sha256(address) if address else identity.sha256_digest(text)
        return ("emailsha256", digest) if digest else None

    def _object(self, dispatch: Dispatch) -> dict[str, str]:
        """Return objectData in the order of vector RK-1; a known name that is empty takes its value from `extra`."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        email = self._email(dispatch)
        name_rule = identity.compact_name if self.names == "compact" else identity.spaced_name
        pairs: dict[str, str | None] = {"passbackconversiontrackingid": known.click_id(self.vendor)}
        pairs |= dict([email]) if email else {"emailsha256": None}
        pairs |= {
            "transactionid": conversion.order_id,
            "confirmationref": conversion.order_id,
            "amount": None if conversion.value is None else money.plain(conversion.value),
            "currency": conversion.currency,
            **_items(conversion),
            "conversiontype": conversion.conversion_type or self.conversion_types.get(conversion.name),
            "margin": None if conversion.margin is None else money.plain(conversion.margin),
            "paymenttype": conversion.payment_type,
            "firstnamesha256": _digest(name_rule, conversion.first_name),
            "lastnamesha256": _digest(name_rule, conversion.last_name),
            "mobilesha256": _digest(identity.phone10, conversion.phone or known.phone),
            "ipaddress": known.ip if self.send_ip else None,
        }
        extra = self._extra(dispatch)
        filled = {key: text or extra.get(key) for key, text in pairs.items()}
        return without_empty(filled | {key: text for key, text in extra.items() if key not in filled})

    def _extra(self, dispatch: Dispatch) -> dict[str, str]:
        kept: dict[str, str] = {}
        for key, text in extras(dispatch.conversion, ours=_OURS).items():
            digest = identity.sha256_digest(text) if key.lower().endswith("sha256") else text
            address = self.email != "raw" and identity.email(text)
            if digest and not address and not key.lower().startswith("rokt."):
                kept[key] = digest
        return kept


def _digest(rule: Callable[[str], str | None], text: str | None) -> str | None:
    """Return the digest of the text's normal form by this rule, where it has one."""
    normal = rule(text) if text else None
    return identity.sha256(normal) if normal else None


def _items(conversion: Conversion) -> dict[str, str | None]:
    items = conversion.items
    names = ", ".join(item.name for item in items if item.name)
    if len(names) > LONGEST_VALUE:
        # A huge cart loses its last names, not its report.
        names = names[:LONGEST_VALUE].rpartition(", ")[0]
    return {
        "productname": names,
        # Rokt takes one SKU only.
        "sku": items[0].id if len(items) == 1 else None,
        "quantity": str(sum(item.quantity for item in items)) if items else None,
    }


def _read_success(sendings: Sequence[Sending], answer: Answer) -> Sequence[Judgement]:
    words = f"HTTP {answer.status}"
    if answer.cut and len(sendings) > 1:
        return [Judgement(verdict=Verdict.OVERSIZE, detail=f"{words}, answer too long")] * len(sendings)
    body = None if answer.cut else json_object(answer.body)
    refused = None if body is None else _refusals(body, {sending.event_id for sending in sendings})
    if refused is None:
        return [Judgement(verdict=Verdict.UNKNOWN, detail=f"{words}, answer not readable")] * len(sendings)
    taken = Judgement(verdict=Verdict.OK, detail=words)
    return [refused.get(sending.event_id, taken) for sending in sendings]


def _refusals(body: Mapping[str, object], sent: set[str]) -> dict[str, Judgement] | None:
    """Return what Rokt refused, by event; None when the answer does not add up (faults.md 2.2)."""
    data = body.get("data", {})
    if not isinstance(data, dict) or "code" in data:
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
