"""What the store is handed: a request and the caller's words, checked, joined, and held against the shop's rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Protocol, runtime_checkable

from kit import identity
from kit.capture import CaptureRules, capture_of, visit_of
from kit.errors import InvalidInput
from kit.model import (
    Consent,
    Conversion,
    Identifiers,
    Visit,
    Visitor,
    VisitorId,
    clean_text,
    email_text,
    event_id_of,
)
from kit.store.events import Report
from kit.store.people import NOBODY, Identity, Link, OrderLink
from kit.store.quarantine import Quarantine


@runtime_checkable
class HasScope(Protocol):
    """A request of any ASGI framework: Starlette's, FastAPI's, Litestar's, Quart's and Django's have their scope."""

    @property
    def scope(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who somebody is said to be, as the caller wrote it."""

    email: str | None = field(default=None, repr=False)
    phone: str | None = field(default=None, repr=False)
    customer_id: str | None = None

    def checked(self) -> "Person":
        """Return the person with each value in its storable form. Raises InvalidInput naming the field."""
        return Person(
            email=None if self.email is None else email_text("email", self.email),
            phone=None if self.phone is None else clean_text("phone", self.phone, longest=64),
            customer_id=None if self.customer_id is None else clean_text("customer_id", self.customer_id, longest=128),
        )


class Intake:
    """Turns what a shop calls with into what the store's verbs take. `index_key` is learnt later, from the store."""

    def __init__(self, rules: CaptureRules, destinations: Sequence[str], quarantine: Quarantine) -> None:
        self.rules = rules
        self.quarantine = quarantine
        self.index_key = b""
        self._destinations = tuple(destinations)
        self._unknown_is_granted = self.may_keep(self._unknown)

    def may_keep(self, consent: Consent) -> bool:
        return self.rules.consent.may_keep(consent)

    def report(
        self,
        conversion: Conversion,
        request: HasScope | None = None,
        *,
        visitor: Visitor | VisitorId | None = None,
        customer_id: str | None = None,
        order_id: str | None = None,
        consent: bool | None = None,
        store_ahead: timedelta,
    ) -> Report:
        if consent is not None and not isinstance(consent, bool):
            raise InvalidInput("consent", "is neither True, False nor None")
        now, visit = self.rules.clock(), _visit(request)
        customer = conversion.customer_id
        if customer is None and customer_id is not None:
            customer = Person(customer_id=customer_id).checked().customer_id
        if conversion.url is not None:
            conversion = conversion.model_copy(update={"url": self.rules.kept_url(conversion.url)})
        said = Identifiers(
            visitor=_id_of(visitor),
            email=conversion.email,
            phone=conversion.phone,
            customer_id=customer,
        )
        return Report(
            event_id=event_id_of(conversion),
            conversion=conversion,
            said=said,
            seen=_seen(visit),
            people=self._identities(Person(email=conversion.email, phone=conversion.phone, customer_id=customer)),
            order_id=conversion.order_id if order_id is None else clean_text("order_id", order_id, longest=128),
            consent=visit.consent if visit else None,
            said_consent=consent,
            unknown_is_granted=self._unknown_is_granted,
            destinations=self._destinations,
            now=now,
            store_ahead=store_ahead,
            quarantine=self.quarantine,
        )

    def order(self, request: HasScope, order_id: str) -> OrderLink:
        visit = _visit(request)
        consent = visit.consent if visit else self._unknown
        return OrderLink(
            order_id=clean_text("order_id", order_id, longest=128),
            identifiers=_seen(visit) if self.may_keep(consent) else Identifiers(),
            consent=consent,
        )

    def link(
        self, request: HasScope | None, visitor: Visitor | VisitorId | None, person: Person, *, level: str, source: str
    ) -> Link | None:
        """Return the link to keep, or None where there is no visitor, nobody to link, or no consent."""
        identities = self._identities(person.checked())
        visit = _visit(request)
        who = _id_of(visitor) or _seen(visit).visitor
        consent = visit.consent if visit else self._unknown
        if who is None or not identities or consent.granted is False:
            return None
        return Link(
            visitor=who,
            identities=identities,
            level=level,
            source=source,
            consent=consent,
            unknown_is_granted=self._unknown_is_granted,
            at=self.rules.clock(),
            quarantine=self.quarantine,
        )

    def moved(self, link: Link, request: HasScope | None) -> Link | None:
        """Return the link for a new visitor, which the browser is given with this request's answer."""
        capture = capture_of(request)
        fresh = capture.replace() if capture is not None else None
        return replace(link, visitor=fresh.id) if fresh is not None else None

    def identity(self, kind: str, value: str) -> Identity:
        """Return the identity with the key by which the store finds it."""
        normal = identity.email(value) or value if kind == "email" else value
        return Identity(kind=kind, lookup=identity.lookup_key(self.index_key, kind, normal), value=value)

    @property
    def _unknown(self) -> Consent:
        return Consent(granted=None, signal="none", at=self.rules.clock())

    def _identities(self, person: Person) -> tuple[Identity, ...]:
        said = {"email": person.email, "phone": person.phone, "customer": person.customer_id}
        return tuple(self.identity(kind, value) for kind, value in said.items() if value is not None)


def _visit(request: HasScope | None) -> Visit | None:
    return visit_of(request) if request is not None else None


def _id_of(visitor: Visitor | VisitorId | None) -> VisitorId | None:
    if visitor is None or isinstance(visitor, Visitor):
        return visitor.id if visitor else None
    return VisitorId(clean_text("visitor", visitor, longest=32))


def _seen(visit: Visit | None) -> Identifiers:
    """Return what a request gives: nothing, its ip included, unless its visitor cookie was verified."""
    if visit is None or visit.visitor is None:
        return NOBODY
    return Identifiers(
        visitor=visit.visitor.id,
        click_ids=visit.visitor.click_ids,
        first_party_cookie=visit.first_party_cookie,
        ip=visit.ip,
        user_agent=visit.user_agent,
        url=visit.url,
        referrer=visit.referrer,
    )
