"""Rokt's Custom Audience Import: who is added to a list and who is removed from it (contracts.md section 5)."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar, Literal, NoReturn

import httpx

from kit.destinations.base import (
    Answer,
    Destination,
    Judgement,
    Sending,
    Skip,
    Trial,
    endpoint,
    judge_whole,
    require,
    require_base_url,
    require_flags,
)
from kit.destinations.holdout import Holdout
from kit.destinations.rokt.credentials import basic, check_account, check_holdout, check_whole, chosen
from kit.destinations.rokt.people import person
from kit.errors import ConfigurationError, InvalidInput
from kit.model import Dispatch, Mode, clean_text

Action = Literal["include", "exclude"]

#: The most members that one request may carry, as the older page says.
LARGEST_CHUNK = 1_000_000
LONGEST_NAME = 100
#: What Rokt takes where a request names no list.
DEFAULT_LIST = "AdvertiserDatabase"

_ACTIONS: Mapping[str, Action] = {"include": "include", "exclude": "exclude", "add": "include", "remove": "exclude"}
_NO_OTHERS = dict.fromkeys(("app_id", "app_secret", "api_key", "api_secret"), "")
_PATH = "/v3/import/suppression"
_OLDER_PATH = "/api/1.0/import/suppression"
_AUTH_CHECK = b'{"auth_check":true}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one request carries: its action, the list's name, how many members, and its body without the account."""

    action: Action
    name: str | None
    members: int
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of a list. `refused` says how often each reason of `people.REFUSALS` was met; never whom it met."""

    parts: tuple[Part, ...]
    members: int
    held_out: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoktAudience(Destination):
    """Takes what `Kit.audience` queues. Rokt makes a list with its first member; it tells nobody who is on one.

    `account`, `public_key`, `secret_key`  for v3: the id in my.rokt.com's URL, `rpub-...` and `rsec-...`.
    `api_key`   in their place: the account's key for the older api/1.0, which knows no account id.
    `hash`      True sends the SHA-256 of each address; False the normalised address. Digests stay digests.
    `chunk`     members of one request, at most 1,000,000.
    `holdout`   whose members are removed where they would be added.

    Raises ConfigurationError when a setting is missing or cannot be. Source: contracts.md 5, 9.4, 10.11, 10.12, 10.24.
    """

    vendor: ClassVar[str] = "rokt"
    reports: ClassVar[bool] = False

    name: str = "rokt-audience"
    account: str = ""
    public_key: str = ""
    secret_key: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    hash: bool = True
    chunk: int = 10_000
    holdout: Holdout | None = None
    base_url: str = "https://data.rokt.com"

    def __post_init__(self) -> None:
        if self.api_key and (self.account or self.public_key or self.secret_key):
            raise ConfigurationError(
                "RoktAudience.api_key", "stands for the older API alone; leave out account and keys"
            )
        if self.api_key:
            require("RoktAudience.api_key", self.api_key, "the account manager issues it")
        else:
            check_account(self.account, needed_by="RoktAudience")
            keys = {"public_key": self.public_key, "secret_key": self.secret_key}
            chosen(_NO_OTHERS | keys, live=self.mode == Mode.LIVE)
        if isinstance(self.hash, str) and "md5" in self.hash.lower():
            raise ConfigurationError("RoktAudience.hash", "asks for MD5, which Rokt does not take; True is SHA-256")
        require_flags("RoktAudience", self, "hash")
        check_whole("RoktAudience.chunk", self.chunk, most=LARGEST_CHUNK)
        check_holdout("RoktAudience.holdout", self.holdout)
        require_base_url("RoktAudience.base_url", self.base_url, _PATH, _OLDER_PATH)

    def change(self, action: str, members: Iterable[str], *, name: str | None = None) -> Change:
        """Return the requests that add these members to the list of that name, or remove them from it.

        `action`   "include" or "add", "exclude" or "remove".
        `members`  addresses and SHA-256 digests; a request holds one kind only, and none is made for nobody.
        `name`     1–100 characters; None leaves it to Rokt, which takes its list AdvertiserDatabase.

        Members of the holdout who would be added are removed instead. Raises InvalidInput.
        """
        asked = _action(action)
        name = None if name is None else clean_text("name", name, longest=LONGEST_NAME)
        groups: dict[tuple[Action, str], list[str]] = {}
        refused, held_out = Counter[str](), 0
        for text in members:
            found = person(text)
            if isinstance(found, str):
                refused[found] += 1
                continue
            kind, value = ("sha256", found.digest) if self.hash else (found.kind, found.value)
            held = asked == "include" and self.holdout is not None and self.holdout.holds(value)
            held_out += held
            groups.setdefault(("exclude" if held else asked, f"{kind}s"), []).append(value)
        return Change(
            parts=tuple(self._parts(groups, name)),
            members=sum(map(len, groups.values())),
            held_out=held_out,
            refused=refused,
        )

    def _parts(self, groups: Mapping[tuple[Action, str], Sequence[str]], name: str | None) -> Iterator[Part]:
        named = {} if name is None else {"list": name}
        for (action, key), values in groups.items():
            for start in range(0, len(values), self.chunk):
                some = values[start : start + self.chunk]
                body = json.dumps({"action": action, **named, key: some}, ensure_ascii=False, separators=(",", ":"))
                yield Part(action=action, name=name, members=len(some), body=body.encode())

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return None: what is wrong with a member was found when the change was asked for."""
        return None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> NoReturn:
        """Raise LookupError: a change of a list brings its own body."""
        raise LookupError("its body is gone")

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the POST of one stored body; v3 has the account's id before it."""
        (sending,) = sendings
        if self.api_key:
            return self._post(_OLDER_PATH, self.api_key, sending.payload)
        account = b'{"accountId":' + json.dumps(self.account).encode()
        keys = basic(self.public_key, self.secret_key)
        if sending.payload == _AUTH_CHECK:
            return self._post("/v3/auth-check", keys, account + b"}")
        return self._post(_PATH, keys, account + b"," + sending.payload.removeprefix(b"{"))

    def _post(self, path: str, authorization: str, content: bytes) -> httpx.Request:
        headers = {"Authorization": authorization, "Content-Type": "application/json"}
        return httpx.Request("POST", endpoint(self.base_url, path), headers=headers, content=content)

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return the status's meaning: any 2xx that names no error is success, for Rokt documents neither which nor its
        body."""
        return [judge_whole(answer, now=now, secrets=(self.api_key, self.secret_key, self.public_key))]

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return True: to add or remove somebody twice is to do it once."""
        return True

    def trial(self, *, now: datetime) -> Trial:
        """Return v3's check of the credentials; the older API has none, and is only reached."""
        if self.api_key:
            return Trial(request=httpx.Request("HEAD", self.base_url))
        probe = Sending(
            delivery_id=0,
            event_id="auth-check",
            event_name="auth_check",
            order_id=None,
            at=now,
            monetary=False,
            attempts=0,
            payload=_AUTH_CHECK,
        )
        return Trial(request=self.build([probe]), sending=probe)


def _action(text: str) -> Action:
    if text not in _ACTIONS:
        raise InvalidInput("action", "is none of include (add) and exclude (remove)")
    return _ACTIONS[text]
