"""Rokt's data deletion API: people whom Rokt is to erase, followed until it has done so (contracts.md section 6)."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import ClassVar, NoReturn
from urllib.parse import quote

import httpx

from kit.destinations.base import (
    Answer,
    Authentication,
    Destination,
    Judgement,
    Sending,
    Skip,
    Trial,
    encoded,
    endpoint,
    error_named,
    json_object,
    judge_whole,
    judge_with_words,
    masked,
    require,
    require_base_url,
)
from kit.destinations.rokt.credentials import check_account, check_whole
from kit.destinations.rokt.people import in_words, person
from kit.destinations.rokt.token import ClientCredentials, is_token
from kit.errors import ConfigurationError, InvalidInput
from kit.model import Dispatch, Mode, Verdict

#: Where a deletion request is looked up and cancelled. Rokt publishes neither: assumed.
STATUS_PATH = CANCEL_PATH = "/data/deletion-requests/{id}"

_CREATE_PATH = "/data/deletion-requests/emails"
_UNDER_WAY = frozenset({"PENDING", "READY"})
_DONE = frozenset({"PROCESSED", "COMPLETED", "COMPLETE", "DONE"})
_CANCELLED = frozenset({"CANCELLED", "CANCELED"})

#: After a cancel whose answer leaves it open, what has become of the request is asked this soon.
_SOON = timedelta(minutes=1)
_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._~:-]{0,127}")

#: A payload's JSON: whom to erase, or the id of the request to follow or to cancel.
Step = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoktDeletion(Destination):
    """Takes what `Kit.request_deletion` queues, and follows it for 60 days.

    `account`       the id in my.rokt.com's URL. Rokt must have put it on the allow-list of this API.
    `app_id`, `app_secret`  of the OAuth app, as for Event API v1.
    `status_path`, `cancel_path`  where a request is asked about (GET) and cancelled (DELETE), with `{id}`. Rokt does
                    not publish them: the defaults are assumed, and their answers to be `{"data": {"id", "status"}}`.
                    With `status_path=None` nothing is followed: a request counts as delivered once Rokt has taken it.
    `chunk`         people of one request; no limit is documented.
    `longest_wait`  how often Rokt is asked how far it is.

    Rokt says: PENDING at first, READY after 12 days, passed on 3 days later, done within 30 days in all; it can be
    cancelled while PENDING or READY. Repeats are taken to be safe: after an answer that was lost the request is made
    again, and a cancel reaches only the one whose id is known. One that was taken without a readable id is held: ask
    Rokt. Raises ConfigurationError when a setting is missing or cannot be.
    """

    vendor: ClassVar[str] = "rokt"
    reports: ClassVar[bool] = False

    name: str = "rokt-deletion"
    horizon: timedelta = timedelta(days=60)
    longest_wait: timedelta = timedelta(hours=6)
    account: str
    app_id: str = field(default="", repr=False)
    app_secret: str = field(default="", repr=False)
    status_path: str | None = STATUS_PATH
    cancel_path: str = CANCEL_PATH
    chunk: int = 1_000
    base_url: str = "https://api.rokt.com"

    def __post_init__(self) -> None:
        check_account(self.account, needed_by="RoktDeletion")
        for name in ("app_id", "app_secret"):
            if self.mode == Mode.LIVE or getattr(self, name):
                require(f"RoktDeletion.{name}", getattr(self, name), "the account manager issues it for OAuth")
        for name in ("status_path", "cancel_path"):
            path = getattr(self, name)
            is_path = isinstance(path, str) and path.startswith("/") and path.count("{id}") == 1
            if not is_path and (path is not None or name == "cancel_path"):
                raise ConfigurationError(f"RoktDeletion.{name}", "is no path with one {id} in it")
        check_whole("RoktDeletion.chunk", self.chunk)
        require_base_url("RoktDeletion.base_url", self.base_url, _CREATE_PATH)

    @property
    def authentication(self) -> Authentication:
        """The token of the OAuth app."""
        return ClientCredentials(base_url=self.base_url, app_id=self.app_id, app_secret=self.app_secret)

    def bodies(self, emails: Iterable[str]) -> tuple[bytes, ...]:
        """Return the requests that erase these people, addresses or their SHA-256 digests, one kind in each.

        Raises InvalidInput when one of them is neither: whom an erasure leaves out would not be noticed.
        """
        found = [person(text) for text in emails]
        if wrong := Counter(one for one in found if isinstance(one, str)):
            said = f"{wrong.total()} of {len(found)} name nobody, and none is taken: {in_words(wrong)}"
            raise InvalidInput("emails", said)
        groups: dict[str, list[str]] = {}
        for one in found:
            if not isinstance(one, str):
                groups.setdefault("emails" if one.kind == "email" else "hashedEmails", []).append(one.value)
        return tuple(
            encoded({key: people[start : start + self.chunk]})
            for key, people in groups.items()
            for start in range(0, len(people), self.chunk)
        )

    def cancelling(self, payload: bytes) -> bytes | None:
        """Return what cancels the request that this payload follows; None where Rokt has not taken it yet."""
        step = json.loads(payload)
        known = step.get("follow", step.get("cancel"))
        return None if known is None else encoded({"cancel": known})

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return None: what is wrong with an address was found when the request was asked for."""
        return None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> NoReturn:
        """Raise LookupError: a deletion request brings its own body."""
        raise LookupError("its body is gone")

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of a request, the GET that follows it, or the DELETE that cancels it."""
        (sending,) = sendings
        step = json.loads(sending.payload)
        if "follow" in step:
            return httpx.Request("GET", self._about(self.status_path or STATUS_PATH, step["follow"]))
        if "cancel" in step:
            return httpx.Request("DELETE", self._about(self.cancel_path, step["cancel"]))
        return httpx.Request(
            "POST",
            endpoint(self.base_url, _CREATE_PATH),
            headers={"Content-Type": "application/json"},
            content=encoded({"accountId": self.account, **step}),
        )

    def _about(self, path: str, known: str) -> str:
        return f"{self.base_url.rstrip('/')}{path.replace('{id}', quote(known, safe=''))}"

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return whether Rokt has taken, done or cancelled it. An answer that cannot be read is unknown."""
        (sending,) = sendings
        step = json.loads(sending.payload)
        if "follow" in step:
            return [self._followed(step, answer, now=now)]
        if "cancel" in step:
            return [self._cancelled(step["cancel"], answer, now=now)]
        return [self._created(answer, now=now)]

    def _created(self, answer: Answer, *, now: datetime) -> Judgement:
        meaning = self._meaning(answer, now=now)
        if answer.status == 403:
            return replace(meaning, detail=masked(f"HTTP 403: is this account allow-listed? {meaning.detail}"))
        if meaning.verdict is not Verdict.OK:
            return meaning
        if error_named(answer) is not None:
            return judge_whole(answer, now=now, secrets=(self.app_secret, self.app_id))
        known, status = _said(answer)
        if self.status_path is None:
            return replace(meaning, detail=masked(f"Rokt says {status or answer.status}, and is not asked again"))
        if known is None:
            # Rokt publishes no body: to ask for the same erasure hundreds of times proves no more.
            said = f"{meaning.detail}: taken, it seems, without an id by which it could be followed"
            return Judgement(verdict=Verdict.UNKNOWN, detail=said, hold=True)
        return self._asked_again({"follow": known}, f"Rokt says {status}", after=self.longest_wait)

    def _followed(self, step: Step, answer: Answer, *, now: datetime) -> Judgement:
        meaning = self._meaning(answer, now=now)
        kept = f"; it did not cancel ({step['not_cancelled']})" if "not_cancelled" in step else ""
        if _is_about_the_path(answer, meaning):
            detail = f"Rokt took it; HTTP {answer.status} when asked how far it is: is status_path right?{kept}"
            return self._asked_again(step, detail, after=self.longest_wait)
        if meaning.verdict is not Verdict.OK:
            return meaning
        _, status = _said(answer)
        if error_named(answer) is not None:
            return Judgement(verdict=Verdict.UNKNOWN, detail=masked(f"{meaning.detail}, status {status}, and an error"))
        if status in _UNDER_WAY:
            return self._asked_again(step, f"Rokt says {status}{kept}", after=self.longest_wait)
        if status in _CANCELLED:
            return replace(meaning, detail=f"Rokt says {status}")
        if status in _DONE:
            return replace(meaning, detail=f"Rokt says {status}{kept}")
        return Judgement(verdict=Verdict.UNKNOWN, detail=masked(f"{meaning.detail}, status {status}"))

    def _cancelled(self, known: str, answer: Answer, *, now: datetime) -> Judgement:
        """Return delivered where Rokt says CANCELLED; else what has become of it is asked soon."""
        meaning = self._meaning(answer, now=now)
        if meaning.verdict is not Verdict.OK and not _is_about_the_path(answer, meaning):
            return meaning
        _, status = _said(answer)
        if meaning.verdict is Verdict.OK and status in _CANCELLED:
            return replace(meaning, detail=f"Rokt says {status}")
        words = f"HTTP {answer.status}"
        return self._asked_again({"follow": known, "not_cancelled": words}, f"{words} to the cancel", after=_SOON)

    def _asked_again(self, step: Step, detail: str, *, after: timedelta) -> Judgement:
        wait = min(after, self.longest_wait)
        return Judgement(verdict=Verdict.OK, detail=masked(detail), wait=wait, follow=encoded(step))

    def _meaning(self, answer: Answer, *, now: datetime) -> Judgement:
        return judge_with_words(answer, now=now, secrets=(self.app_secret, self.app_id))

    def is_known(self, answer: Answer) -> bool:
        """Return whether a success says `{"data": {"id", "status"}}`, as is assumed, or gives a token."""
        if not 200 <= answer.status < 300 or is_token(answer):
            return True
        return None not in _said(answer) and error_named(answer) is None

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return True: to erase somebody twice is to do it once."""
        return True

    def trial(self, *, now: datetime) -> Trial:
        """Return a request that carries nothing: what the credentials open shows with the first request."""
        return Trial(request=httpx.Request("HEAD", self.base_url))


def _is_about_the_path(answer: Answer, meaning: Judgement) -> bool:
    """Return whether Rokt refuses this question alone: a path that was assumed must not pause what it documents.

    Gateways say 401 or 403 of a path that they do not know; a token that is wrong shows with the next request.
    """
    refused = answer.status in {401, 403, 404, 410} or 300 <= answer.status < 400
    return refused or meaning.verdict in {Verdict.INVALID, Verdict.OVERSIZE}


def _said(answer: Answer) -> tuple[str | None, str | None]:
    """Return the request's id and its status in capitals, where the answer says them."""
    body = None if answer.cut else json_object(answer.body)
    data = body.get("data", body) if body is not None else None
    if not isinstance(data, Mapping):
        return None, None
    known, status = data.get("id"), data.get("status")
    # It becomes a part of a path; a number is one as well as a text.
    is_id = isinstance(known, (str, int)) and _ID.fullmatch(str(known))
    return str(known) if is_id else None, status.upper() if isinstance(status, str) and status else None
