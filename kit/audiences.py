"""Audiences and deletions: what a shop asks for beside its conversions, made into jobs for the store."""

import json
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from kit.destinations import Destination
from kit.destinations.rokt.audience import DEFAULT_LIST, Part, RoktAudience
from kit.destinations.rokt.deletion import RoktDeletion
from kit.destinations.rokt.people import in_words
from kit.errors import ConfigurationError, InvalidInput
from kit.model import Conversion
from kit.store.jobs import Cancel, Job

#: The name of a deletion request's event.
DELETION = "data_deletion"

_Kind = TypeVar("_Kind", bound=Destination)


@dataclass(frozen=True, slots=True, kw_only=True)
class AudienceChange:
    """What `audience` queued, in numbers.

    `added`, `removed`  members who are on their way into the list and out of it.
    `held_out`  members of the holdout: asked to be added, on their way out.
    `refused`   how many members were not taken, by reason: blank, md5, empty_digest, no_address. Never which.
    `requests`  requests that were queued; `ids` names them.
    """

    added: int
    removed: int
    held_out: int
    refused: Mapping[str, int]
    ids: tuple[str, ...]

    @property
    def accepted(self) -> int:
        return self.added + self.removed + self.held_out

    @property
    def requests(self) -> int:
        return len(self.ids)


def change_audience(
    destination: RoktAudience, name: str | None, *, add: Iterable[str], remove: Iterable[str]
) -> tuple[AudienceChange, tuple[Job, ...]]:
    """Return the change in numbers and as jobs, removals last: who is in both ends outside. Raises InvalidInput."""
    for given, members in (("add", add), ("remove", remove)):
        if isinstance(members, (str, bytes)):
            raise InvalidInput(given, "is one text; pass a list of addresses or digests")
    added = destination.change("include", add, name=name)
    removed = destination.change("exclude", remove, name=name)
    jobs = tuple(_job_of(destination, part) for part in (*added.parts, *removed.parts))
    change = AudienceChange(
        added=added.members - added.held_out,
        removed=removed.members,
        held_out=added.held_out,
        refused=dict(Counter(added.refused) + Counter(removed.refused)),
        ids=tuple(job.conversion.event_id for job in jobs),
    )
    return change, jobs


def require_some(change: AudienceChange) -> None:
    """Raise InvalidInput where members were given and none of them can be taken."""
    if change.refused and not change.requests:
        raise InvalidInput("members", f"none can be taken: {in_words(change.refused)}")


def _job_of(destination: RoktAudience, part: Part) -> Job:
    # The order id keeps one list's changes in their order.
    order = f"audience:{part.name or DEFAULT_LIST}"
    told = Conversion(name=f"audience_{part.action}", order_id=order, event_id=str(uuid.uuid4()))
    return Job(destination=destination.name, conversion=told, payload=part.body)


def without(body: bytes, members: Collection[str]) -> bytes | None:
    """Return the body of a change so that it adds none of these members; None where it would add nobody.

    `members` are normalised addresses and digests. Who is removed from a list is removed all the same.
    """
    said = json.loads(body)
    if said.get("action") != "include":
        return body
    left = {key: [each for each in said[key] if each not in members] for key in _MEMBERS if key in said}
    if not any(left.values()):
        return None
    return json.dumps({**said, **left}, ensure_ascii=False, separators=(",", ":")).encode()


#: The fields of a body that hold people.
_MEMBERS = ("emails", "sha256s")


def deletions(destination: RoktDeletion, emails: Iterable[str]) -> tuple[Job, ...]:
    """Return the jobs that have these people erased, each by its own id. Raises InvalidInput."""
    if isinstance(emails, (str, bytes)):
        raise InvalidInput("emails", "is one text; pass a list of addresses or digests")
    return tuple(_deletion_of(destination, body) for body in destination.bodies(emails))


def _deletion_of(destination: RoktDeletion, body: bytes) -> Job:
    event_id = str(uuid.uuid4())
    told = Conversion(name=DELETION, order_id=f"deletion:{event_id}", event_id=event_id)
    return Job(destination=destination.name, conversion=told, payload=body)


def cancellation(destination: RoktDeletion, request_id: str, *, now: datetime) -> Cancel:
    """Return what the store is asked in order to take a deletion request back."""
    return Cancel(event_id=request_id, destination=destination.name, cancelling=destination.cancelling, now=now)


def one_of(destinations: Sequence[Destination], kind: type[_Kind], name: str | None) -> _Kind:
    """Return the destination of this kind, by its name where there are several."""
    found = {each.name: each for each in destinations if isinstance(each, kind)}
    if not found:
        raise ConfigurationError("destinations", f"hold no {kind.__name__}; pass {kind.__name__}(...) to Kit")
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name not in found:
        raise InvalidInput("destination", f"is to be one of {', '.join(found)}")
    return found[name]
