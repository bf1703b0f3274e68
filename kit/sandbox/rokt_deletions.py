"""Rokt's data deletion API on this machine, by contracts.md 6: erasure requests, and their month-long life.

The vendor documents the request and the life cycle (PENDING; READY after 12 days; passed on after 3 more; done within
30; cancellable while PENDING or READY). Where a request is looked up and cancelled it does not document: the two
paths with the id, their answers and the words PROCESSED and COMPLETED are this sandbox's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal
from uuid import uuid4

from pydantic import JsonValue

from kit.sandbox import checks
from kit.sandbox.checks import Rule, phrase, sorted_out
from kit.sandbox.doors import Tokens
from kit.sandbox.record import Event, Received, Refusal, Ruling, parsed
from kit.sandbox.settings import Settings
from kit.sandbox.vendor import Vendor

Status = Literal["PENDING", "READY", "PROCESSED", "COMPLETED", "CANCELLED"]

READY_AFTER = timedelta(days=12)
PROCESSED_AFTER = timedelta(days=15)
COMPLETED_AFTER = timedelta(days=30)

_CANCELLABLE = frozenset({"PENDING", "READY"})

_CREATE = "/data/deletion-requests/emails"
_ONE = "/data/deletion-requests/"

_FIELDS = (
    Rule("accountId", checks.text(1, 64), "is not 1 to 64 characters long", required=True),
    Rule("emails", checks.is_list, "is not a list"),
    Rule("hashedEmails", checks.is_list, "is not a list"),
)
_KNOWN = frozenset(rule.field for rule in _FIELDS)
_PEOPLE = {
    "emails": (checks.is_email, "is not an address"),
    "hashedEmails": (checks.is_sha256, "is not a SHA-256 digest in hex, or is that of nothing"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """One request to erase people. `people` are SHA-256 digests of their addresses, however they were given."""

    id: str
    account: str
    people: frozenset[str] = field(repr=False)
    asked_at: datetime
    cancelled: bool = False

    def status(self, now: datetime) -> Status:
        """Return how far it has come by then."""
        age = now - self.asked_at
        if self.cancelled:
            return "CANCELLED"
        if age < READY_AFTER:
            return "PENDING"
        if age < PROCESSED_AFTER:
            return "READY"
        return "PROCESSED" if age < COMPLETED_AFTER else "COMPLETED"


class RoktDeletions(Vendor):
    """`POST /data/deletion-requests/emails` with a v1 token, and `GET` or `DELETE /data/deletion-requests/<id>`."""

    name = "rokt_deletions"
    paths = ("/data/",)

    def __init__(self, tokens: Tokens, accounts: frozenset[str], settings: Settings) -> None:
        super().__init__(settings)
        self._tokens = tokens
        self._accounts = accounts
        self._erasures: dict[str, Erasure] = {}

    @property
    def erasures(self) -> tuple[Erasure, ...]:
        """Return every request that was taken, the oldest first; `erasure.status(now)` says how far it has come."""
        return tuple(self._erasures.copy().values())

    def clear(self) -> None:
        super().clear()
        self._erasures.clear()

    def judge(self, received: Received, authorization: str) -> Ruling:
        """Refuse at the door (path, method, token), then by the body; then keep, show or cancel the request."""
        if not received.path.startswith(_ONE):
            return _refuse(404, Refusal(field="path", message=f"is not {_CREATE}"), authorized=None)
        creates = received.path == _CREATE
        methods = ("POST",) if creates else ("GET", "DELETE")
        if received.method not in methods:
            return _refuse(405, Refusal(field="method", message=f"is not {' or '.join(methods)}"), authorized=None)
        if not self._tokens.admits(authorization, received.at):
            return _refuse(401, Refusal(field="Authorization", message="holds no live token"), authorized=False)
        if creates:
            return self._create(received)
        erasure = self._erasures.get(received.path.removeprefix(_ONE))
        if erasure is None:
            return _refuse(404, Refusal(field="id", message="is not that of a deletion request"))
        return self._cancel(erasure, received.at) if received.method == "DELETE" else _told(200, erasure, received.at)

    def trouble(self, status: int) -> object:
        return {"data": {"message": phrase(status)}}

    def identifiers_of(self, event: Event) -> tuple[str, ...]:
        return tuple(name for name in _PEOPLE if event.get(name))

    def details(self) -> dict[str, JsonValue]:
        now = self.clock()
        return {erasure.id: erasure.status(now) for erasure in self.erasures}

    def _create(self, received: Received) -> Ruling:
        try:
            body = parsed(received.text)
        except ValueError as exc:
            return _refuse(400, Refusal(field="body", message=f"is not JSON: {exc}"))
        if not isinstance(body, dict):
            return _refuse(400, Refusal(field="body", message="is not an object"))
        refused, warnings = sorted_out(_problems(body), strict=self.strict)
        if refused:
            return _refuse(400, *refused)
        if body["accountId"] not in self._accounts:
            return _refuse(403, Refusal(field="accountId", message="is not allowed to ask for erasure"))
        people = {checks.digest_of(email) for email in body.get("emails", ())}
        people |= {digest.lower() for digest in body.get("hashedEmails", ())}
        erasure = Erasure(id=str(uuid4()), account=body["accountId"], people=frozenset(people), asked_at=received.at)
        self._erasures[erasure.id] = erasure
        told = _told(201, erasure, received.at)
        return replace(told, events=(body,), taken=(0,), warnings=warnings)

    def _cancel(self, erasure: Erasure, now: datetime) -> Ruling:
        status = erasure.status(now)
        if status not in _CANCELLABLE:
            return _refuse(409, Refusal(field="id", message=f"cannot be cancelled any more: it is {status}"))
        self._erasures[erasure.id] = replace(erasure, cancelled=True)
        return _told(200, self._erasures[erasure.id], now)


def _problems(body: Event) -> Iterator[Refusal]:
    yield from checks.broken(_FIELDS, body, event=0)
    yield from checks.unknown(body, _KNOWN, "is not a field of a deletion request", event=0)
    given = [name for name in _PEOPLE if body.get(name)]
    if not given:
        yield Refusal(field="emails", message="or hashedEmails are required", event=0)
    if len(given) == len(_PEOPLE):
        yield Refusal(field="emails", message="and hashedEmails do not go together", event=0, soft=True)
    for name in given:
        holds, words = _PEOPLE[name]
        people = body[name] if isinstance(body[name], list) else []
        for place, person in enumerate(people):
            if not holds(person):
                yield Refusal(field=f"{name}[{place}]", message=words, event=0)


def _told(status: int, erasure: Erasure, now: datetime) -> Ruling:
    body = {"data": {"id": erasure.id, "status": erasure.status(now)}}
    return Ruling(status=status, body=body, authorized=True)


def _refuse(status: int, *refused: Refusal, authorized: bool | None = True) -> Ruling:
    words = "; ".join(f"{each.field} {each.message}" for each in refused[:20])
    return Ruling(status=status, body={"data": {"message": words}}, refused=refused, authorized=authorized)
