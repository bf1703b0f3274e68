"""Rokt's postback: a conversion by its click id alone, in the query of a GET (contracts.md 6)."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

import httpx

from kit.destinations.base import (
    Answer,
    Json,
    Judgement,
    Sending,
    endpoint,
    error_named,
    json_object,
    judge_with_words,
    masked,
    without_empty,
)
from kit.destinations.rokt.events_api import EventsApi
from kit.destinations.rokt.fields import CONVERSION
from kit.destinations.rokt.surface import Surface, only
from kit.model import Dispatch, Verdict

#: The one length of a click id that it takes.
CLICK_ID = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Postback(Surface):
    """`GET /api/conv`, one conversion a request, without anything about the person and without the order's id."""

    oldest: ClassVar[timedelta] = EventsApi.oldest
    too_old: ClassVar[str] = EventsApi.too_old
    largest_batch: ClassVar[int] = 1
    begins: ClassVar[bytes] = b'{"passbackconversiontrackingid":'

    account: str
    base_url: str

    def takes(self, dispatch: Dispatch) -> bool:
        """Return whether this conversion is known by its click id and nothing better."""
        click = self.fields.click(dispatch) or ""
        is_conversion = self.fields.event_type(dispatch.conversion.name) == CONVERSION
        return is_conversion and len(click) == CLICK_ID and not self.fields.email_known(dispatch)

    def remarks(self, dispatch: Dispatch) -> Sequence[str]:
        """Return nothing: all but the click id is left out by design."""
        return ()

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the parameters of the query but the account's."""
        return without_empty(
            {
                "passbackconversiontrackingid": self.fields.click(dispatch),
                "conversiontype": self.fields.conversion_type(dispatch.conversion),
            }
        )

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        query = {"id": self.account, **json.loads(sendings[0].payload)}
        return httpx.Request("GET", endpoint(self.base_url, "/api/conv"), params=query)

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Take only `success` for success; a 200 that does not say is unknown."""
        return [self._judged(answer, now=now)] * len(sendings)

    def is_known(self, answer: Answer) -> bool:
        """Return whether it says `success`, and nothing but its status and words besides."""
        body = only(answer, "statusCode", "success", "message")
        return body is not None and isinstance(body.get("success"), bool)

    def repeat_is_safe(self, sending: Sending) -> bool:
        """Return whether no money is in it: without the order's id Rokt cannot tell a repeat."""
        return not sending.monetary

    def _judged(self, answer: Answer, *, now: datetime) -> Judgement:
        judgement = judge_with_words(answer, now=now, secrets=(self.account,))
        if judgement.verdict is not Verdict.OK:
            return judgement
        success = None if answer.cut else (json_object(answer.body) or {}).get("success")
        if success is True and error_named(answer) is None:
            return judgement
        if success is False:
            said = masked(answer.body.decode(errors="replace"), secrets=(self.account,))
            return Judgement(verdict=Verdict.INVALID, detail=f"{judgement.detail}: {said}")
        return Judgement(verdict=Verdict.UNKNOWN, detail=f"{judgement.detail}, answer not readable")
