"""Whom a shop names, as the store knows them, and what each vendor is to be told of somebody who was erased."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from typing import Any

from kit.audiences import deletions, without
from kit.destinations import Destination, Rokt, RoktAudience, RoktDeletion
from kit.errors import InvalidInput
from kit.intake import Intake, Person
from kit.model import Clock, Visitor, clean_text
from kit.store import Store, access, erasure
from kit.store.jobs import Job
from kit.store.persons import Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What `erase` did.

    `found`    what there was, in numbers, and the ids of the deletion requests that Rokt is sent: see
               `kit.store.erasure.Erased` and `Kit.cancel_deletion`.
    `by_hand`  by destination, what is to be asked of a vendor that has no API for it.
    """

    found: erasure.Erased
    by_hand: Mapping[str, str]


def _deletion_of(destinations: Sequence[Destination]) -> erasure.Deletion | None:
    """Return what asks Rokt to erase e-mails, at each account that has a destination for it."""
    takers = [each for each in destinations if isinstance(each, RoktDeletion)]
    return partial(_asked_at, takers) if takers else None


def _asked_at(takers: Sequence[RoktDeletion], emails: Iterable[str]) -> tuple[Job, ...]:
    people = list(emails)
    return tuple(job for taker in takers for job in deletions(taker, people))


_LISTS = "take the person out of your lists: attribution.audience(name, remove=[address]), and add them to none again"
_WRITE = {
    "adroll": "AdRoll has no API for it: ask its privacy team to erase the SHA-256 and MD5 of the e-mail address, and "
    "the first-party cookie (__adroll_fpc) of the person's browser",
    "rockerbox": "Rockerbox has no API for it: ask your account manager to erase the e-mail address and the customer "
    "number, and the orders by their ids",
    "rokt": "pass RoktDeletion(...) to Kit, or ask your account manager to erase the SHA-256 of the e-mail address",
}


def by_hand(destinations: Sequence[Destination]) -> Mapping[str, str]:
    """Return what a person is to write to each vendor of these that nothing is sent to about an erasure."""
    asked = {each.account for each in destinations if isinstance(each, RoktDeletion)}
    return {
        each.name: _LISTS
        if isinstance(each, RoktAudience)
        else _WRITE.get(each.vendor, "ask it to erase what it was sent of this person")
        for each in destinations
        if isinstance(each, RoktAudience) or (each.reports and not _is_asked(each, asked))
    }


def _is_asked(destination: Destination, accounts: Set[str]) -> bool:
    """Return whether a deletion is sent to this account; where Rokt's mParticle feed names none, to any."""
    if not isinstance(destination, Rokt):
        return False
    return destination.account in accounts or bool(accounts and not destination.account)


class Erasing:
    """What a Kit does for somebody who asks about themselves. Its calls block: not for an event loop's thread."""

    def __init__(self, store: Store, intake: Intake, destinations: Sequence[Destination], clock: Clock) -> None:
        self._store = store
        self._intake = intake
        self._destinations = destinations
        self._clock = clock

    def subject(
        self, *, email: str | None = None, customer_id: str | None = None, visitor: Visitor | str | None = None
    ) -> Subject:
        """Return whom the caller names. Raises InvalidInput naming the field, or when there is none."""
        said = Person(email=email, customer_id=customer_id).checked()
        names = {"email": said.email, "customer": said.customer_id}
        identities = tuple(self._intake.identity(kind, value) for kind, value in names.items() if value is not None)
        id_ = visitor.id if isinstance(visitor, Visitor) else visitor
        visitors = () if id_ is None else (clean_text("visitor", id_, longest=32),)
        if not identities and not visitors:
            raise InvalidInput(
                "email", "is missing, and so are customer_id and visitor; name the person by one of them"
            )
        return Subject(identities=identities, visitors=visitors)

    def survey(self, subject: Subject) -> erasure.Erased:
        return erasure.survey(self._store, subject)

    def erase(self, subject: Subject, *, rewrites: int = erasure.REWRITES) -> Erased:
        asked = erasure.Erasure(
            subject=subject,
            now=self._clock(),
            store_ahead=self._store.offset,
            deletion=_deletion_of(self._destinations),
            joining={each.name: without for each in self._destinations if isinstance(each, RoktAudience)},
            rewrites=rewrites,
        )
        found = erasure.erase(self._store, asked)
        return Erased(found=found, by_hand=by_hand(self._destinations))

    def lift(self, subject: Subject) -> bool:
        return self._store.write_sync(erasure.lift, subject) > 0

    def export(self, subject: Subject) -> dict[str, Any]:
        return access.export(self._store, subject)
