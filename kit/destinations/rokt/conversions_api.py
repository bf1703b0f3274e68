"""Rokt's Conversions API on mParticle's hosts: a batch a person, up to 100 a request (contracts.md section 4)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Literal

import httpx

from kit.destinations.base import (
    Answer,
    Json,
    Judgement,
    Sending,
    Skip,
    encoded,
    endpoint,
    judge_with_words,
    masked,
    without_empty,
)
from kit.destinations.holdout import NOBODY_HELD
from kit.destinations.rokt.bulk_errors import Located, located, messages
from kit.destinations.rokt.credentials import Credentials, basic
from kit.destinations.rokt.fields import CONVERSION
from kit.destinations.rokt.surface import Surface, only
from kit.model import Device, Dispatch, Verdict

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LARGEST_BATCH = 128 * 1024
LARGEST_REQUEST = 256 * 1024

#: mParticle's number for Rokt.
_MODULE = "1277"
#: Fields of the person, by their names in `user_attributes`; all else is told of the event.
_USER_ATTRIBUTES = {
    name: "zip" if name == "zipcode" else name
    for name in (
        "firstname lastname mobile title gender dob age language address1 address2 unitno city state country zipcode "
        "billingaddress1 billingaddress2 billingzipcode firstnamesha256 lastnamesha256 mobilesha256 zipsha256 "
        "zip4sha256 billingzipsha256 billingzip4sha256"
    ).split()
}
#: Fields that have their place in the batch, and transactionid, which this surface does not know (contracts.md 3.7).
_PLACED = _USER_ATTRIBUTES.keys() | frozenset(
    "email emailsha256 passbackconversiontrackingid ipaddress ipaddresssha256 transactionid "
    "conversiontype amount".split()
)

Status = Literal["add", "drop"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionsApi(Surface):
    """`POST /v2/events` for one person, `/v2/bulkevents` for several. It tells a repeat by conversiontype and order."""

    oldest: ClassVar[timedelta] = timedelta(days=30)
    too_old: ClassVar[str] = "older than 30 days; only /v2/bulkevents/historical takes it, which the kit does not use"
    largest_batch: ClassVar[int] = 100
    begins: ClassVar[bytes] = b'{"environment":'

    base_url: str
    credentials: Credentials
    environment: Literal["production", "development"]
    amount_as: Literal["string", "number"]
    audiences: Mapping[str, tuple[str, Status]] = field(default_factory=dict)

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the reason of every surface, or too_large."""
        skip = Surface.check(self, dispatch, now=now)
        if skip is not None or not _may_be_large(dispatch):
            return skip
        size = len(encoded(self.payload(dispatch, now=now)))
        return Skip("too_large", "more than 128 KiB") if size > LARGEST_BATCH else None

    def nobody(self, dispatch: Dispatch) -> str | None:
        """Return what is wanting by Segment's rule: this API itself would take an event of nobody."""
        if Surface.nobody(self, dispatch) is None:
            return None
        if self.fields.customer_id(dispatch) or self._advertising_id(dispatch.conversion.device):
            return None
        return "Rokt needs its click id (rclid, rtid), an e-mail, a customer id or a device's advertising id"

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the person's batch with the event in it, and where one is due the membership before it."""
        told = self.fields.told(dispatch)
        click = told.get("passbackconversiontrackingid")
        identities = {
            "email": told.get("email"),
            "other": told.get("emailsha256"),
            "customerid": self.fields.customer_id(dispatch),
            "other2": click,
        }
        agent = dispatch.identifiers.user_agent
        device = {
            "http_header_user_agent": self.fields.privacy.prose(agent) if agent else None,
            **self._advertising_id(dispatch.conversion.device),
        }
        batch: dict[str, Json] = {
            "environment": self.environment,
            "user_identities": without_empty(identities),
            # Rokt looks for the click in both places.
            "integration_attributes": {_MODULE: {"passbackconversiontrackingid": click}} if click else None,
            "ip": told.get("ipaddress"),
            "device_info": without_empty(device),
            "user_attributes": {name: told[field] for field, name in _USER_ATTRIBUTES.items() if field in told},
            "events": list(self._events(dispatch, told, now=now)),
        }
        return without_empty(batch)

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of these batches, each with the bytes it was frozen with."""
        payloads = [sending.payload for sending in sendings]
        several = len(payloads) > 1
        return httpx.Request(
            "POST",
            endpoint(self.base_url, "/v2/bulkevents" if several else "/v2/events"),
            headers={
                "Content-Type": "application/json",
                "Charset": "utf-8",
                "Authorization": basic(self.credentials.user, self.credentials.password),
            },
            content=b"[" + b",".join(payloads) + b"]" if several else payloads[0],
        )

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return a meaning for each batch, because a 202 may hold errors.

        An error that says which batch it is about sends that one again alone, where a wrong one is answered 400; one
        that does not sends all of them alone. A 202 that is not readable is unknown.
        """
        if not 200 <= answer.status < 300:
            said = "; ".join(messages(answer)) or None
            return [judge_with_words(answer, now=now, words=said, secrets=self._secrets)] * len(sendings)
        words = f"HTTP {answer.status}"
        if answer.body.strip() and only(answer, "errors") is None:
            return [Judgement(verdict=Verdict.UNKNOWN, detail=f"{words}, answer not readable")] * len(sendings)
        refused = located([sending.payload for sending in sendings], messages(answer))
        taken = Judgement(verdict=Verdict.OK, detail=words)
        return [
            self._refused(sending, refused[place]) if place in refused else taken
            for place, sending in enumerate(sendings)
        ]

    def is_known(self, answer: Answer) -> bool:
        """Return whether it is empty, `{}`, or the list of errors that a 202 may hold (contracts.md 4.1)."""
        body = only(answer, "errors") if answer.body.strip() else {}
        errors = None if body is None else body.get("errors", [])
        return isinstance(errors, list) and all(isinstance(error, dict) for error in errors)

    def remarks(self, dispatch: Dispatch) -> Sequence[str]:
        """Return those of every surface, and whom the holdout kept from an audience."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        also = {
            "customer_id": conversion.customer_id or known.customer_id,
            "user_agent": known.user_agent,
            "device": conversion.device.id if conversion.device else None,
        }
        found = self.fields.remarks(dispatch, also)
        wanted, made = self.audiences.get(conversion.name), self._membership(dispatch)
        if wanted == made:
            return found
        why = "no e-mail tells whether the holdout has this buyer" if made is None else "the holdout has this buyer"
        return [*found, f"not added to the audience: {why}"]

    def repeat_is_safe(self, sending: Sending) -> bool:
        """Return whether it is a conversion with an order id, by which Rokt tells it, or no money is in it."""
        told = sending.order_id is not None and self.fields.event_type(sending.event_name) == CONVERSION
        return told or not sending.monetary

    @property
    def _secrets(self) -> tuple[str, str]:
        return (self.credentials.password, self.credentials.user)

    def _refused(self, sending: Sending, error: Located) -> Judgement:
        """Return what an error in a 202 means for a batch; one that may be about another is asked about alone."""
        detail = masked(f"HTTP 202: {error.message}", secrets=self._secrets)
        if error.alone or self.repeat_is_safe(sending):
            return Judgement(verdict=Verdict.INVALID, detail=detail, again_alone=True)
        return Judgement(verdict=Verdict.UNKNOWN, detail=detail)

    def _events(self, dispatch: Dispatch, told: Mapping[str, str], *, now: datetime) -> Iterator[Json]:
        conversion, event_id = dispatch.conversion, self.fields.event_id(dispatch.event_id)
        milliseconds = (self.fields.at(dispatch, now=now) - _EPOCH) // timedelta(milliseconds=1)
        if (membership := self._membership(dispatch)) is not None:
            audience, status = membership
            joined: dict[str, Json] = {"audience_name": audience, "status": status}
            yield _event("audiencemembershipupdate", "other", f"aud_{event_id}", milliseconds, joined)
        attributes: dict[str, Json] = {
            "conversiontype": told.get("conversiontype") or self.fields.privacy.prose(conversion.name),
            "confirmationref": told.get("confirmationref"),
            "amount": self._amount(told.get("amount")),
            "currency": told.get("currency"),
        }
        attributes |= {name: text for name, text in told.items() if name not in _PLACED}
        name = self.fields.event_type(conversion.name)
        kind = "transaction" if name == CONVERSION else "other"
        yield _event(name, kind, event_id, milliseconds, without_empty(attributes))

    def _membership(self, dispatch: Dispatch) -> tuple[str, Status] | None:
        """Return what this event makes of its person; with a holdout only who is known to be in none is added.

        Who is held back is dropped, as `RoktAudience` does; of whom nobody can tell nothing is said.
        """
        membership = self.audiences.get(dispatch.conversion.name)
        if membership is None or membership[1] == "drop" or self.fields.holdout is None:
            return membership
        arm = self.fields.arm(dispatch)
        if arm is None:
            return None
        return membership if arm == NOBODY_HELD else (membership[0], "drop")

    def _advertising_id(self, device: Device | None) -> dict[str, str]:
        """Return the device's id under its system's name; nothing for a system that Rokt has no name for."""
        if device is None or not device.id or not self.fields.privacy.passes(device.id):
            return {}
        system = (device.os or "").lower()
        if system.startswith(("ios", "ipados")):
            return {"ios_advertising_id": device.id}
        return {"android_advertising_id": device.id} if system.startswith("android") else {}

    def _amount(self, text: str | None) -> str | float | None:
        """Return the amount as it is, or as a number of at most four decimals, which is never in powers of ten."""
        return round(float(text), 4) if text is not None and self.amount_as == "number" else text


def _event(name: str, kind: str, event_id: str, milliseconds: int, attributes: Mapping[str, Json]) -> Json:
    return {
        "event_type": "custom_event",
        "data": {
            "event_name": name,
            "custom_event_type": kind,
            "source_message_id": event_id,
            "timestamp_unixtime_ms": milliseconds,
            "custom_attributes": attributes,
        },
    }


def _may_be_large(dispatch: Dispatch) -> bool:
    """Return whether measuring is worth its while: what is not named here is a few KiB at most."""
    conversion = dispatch.conversion
    return bool(conversion.extra or len(conversion.items) > 8 or len(dispatch.identifiers.user_agent or "") > 8192)
