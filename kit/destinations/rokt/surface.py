"""What Rokt's surfaces have in common: which events are theirs, and what is asked of an event before it is sent."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

import httpx

from kit import identity
from kit.destinations.base import Answer, Authentication, Json, Judgement, Sending, Skip, json_object
from kit.destinations.rokt.fields import Fields
from kit.model import Dispatch

#: Inside every reading of Rokt's "5 minutes" ahead (contracts.md 3.3).
SKEW = timedelta(minutes=5)


def only(answer: Answer, *names: str) -> Mapping[str, object] | None:
    """Return an answer that is a JSON object of these fields; None for anything else."""
    body = None if answer.cut else json_object(answer.body)
    return body if body is not None and body.keys() <= set(names) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surface(ABC):
    """One of the doors at which Rokt takes events."""

    #: The oldest event that is taken, and what to say of an older one.
    oldest: ClassVar[timedelta]
    too_old: ClassVar[str]
    #: How many events one request may carry.
    largest_batch: ClassVar[int]
    #: What a payload of this surface begins with: a body is frozen for the surface that it was first sent to.
    begins: ClassVar[bytes]

    fields: Fields

    @property
    def authentication(self) -> Authentication | None:
        """How this surface gets its token; None where it needs none."""
        return None

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first of identity_mismatch, identifier, time_old, time_future that forbids it."""
        given = self.fields.given_digests(dispatch.conversion)
        ours = identity.email_sha256(dispatch.conversion.email or dispatch.identifiers.email) if given else None
        if len(given | ({ours} - {None})) > 1:
            return Skip("identity_mismatch", "extra emailsha256 is not the digest of the e-mail")
        if (nobody := self.nobody(dispatch)) is not None:
            return Skip("identifier", nobody, curable=True)
        if dispatch.at < now - self.oldest:
            return Skip("time_old", self.too_old)
        if dispatch.at > now + SKEW:
            return Skip("time_future", "more than 5 minutes ahead")
        return None

    def nobody(self, dispatch: Dispatch) -> str | None:
        """Return what is wanting when the event names nobody that Rokt can know."""
        if self.fields.click(dispatch) or self.fields.email_known(dispatch):
            return None
        return "Rokt needs its click id (rclid, rtid) or an e-mail"

    def remarks(self, dispatch: Dispatch) -> Sequence[str]:
        """Return what was given and is not told, in words that name nobody."""
        return self.fields.remarks(dispatch)

    @abstractmethod
    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event as this surface's JSON."""

    @abstractmethod
    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the one request that carries these events."""

    @abstractmethod
    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return what a complete answer means, one judgement for each event."""

    @abstractmethod
    def is_known(self, answer: Answer) -> bool:
        """Return whether a success has a shape that contracts.md knows."""

    @abstractmethod
    def repeat_is_safe(self, sending: Sending) -> bool:
        """Return whether sending this again can do no harm."""
