"""Kit: puts the rooms together. A shop makes one, and reports, links and identifies through it."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any, Protocol, Self

from kit import settings
from kit.audiences import AudienceChange, cancellation, change_audience, deletions, one_of, require_some
from kit.capture import CaptureRules, capture_of, removal_line, visit_of, visitor_of
from kit.configuration import checked_destinations, checked_keys, checked_origins, destinations_of, watched_params
from kit.consent import ConsentPolicy, ConsentRule, Signals
from kit.delivery.worker import Worker
from kit.destinations import Destination, RoktAudience, RoktDeletion
from kit.erasing import Erased, Erasing
from kit.errors import ConfigurationError, KitError, StoreFull, StoreUnavailable
from kit.intake import HasScope, Intake, Person
from kit.model import Clock, Consent, Conversion, Identifiers, Reported, Touchpoint, Visitor, VisitorId, utc_now
from kit.opening import Opening
from kit.store import Store, known, people
from kit.store.events import report, report_from_page
from kit.store.jobs import Cancelled, Job, Jobs, cancel, queue
from kit.store.limits import Limits
from kit.store.people import Touch
from kit.store.quarantine import QUARANTINE, Quarantine
from kit.store.retention import Retention
from kit.store.store import OwnTransaction, OwnTransactionSync, write_on, write_on_sync
from kit.tokens import IdentityTokens, Refusal
from kit.touches import Touches, Views

log = logging.getLogger("kit")

#: What a page goes on in spite of: the store does not answer, or was set up wrongly after the start.
UNANSWERED = (StoreUnavailable, ConfigurationError)

_LIMITS, _RETENTION = Limits(), Retention()


class HasHeaders(Protocol):
    """A response whose headers can be added to."""

    @property
    def headers(self) -> "Headers": ...


class Headers(Protocol):
    def append(self, key: str, value: str) -> None: ...


class Faults:
    """Counts what went wrong inside us where the shop's page had to go on regardless. Logs each kind's first."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def count(self, where: str, error: KitError | None = None) -> None:
        """Count one; `error` is our own, whose text repeats no value that a person typed."""
        self.counts[where] += 1
        if self.counts[where] == 1:
            said = {"kit.fault": where} | ({"kit.error": str(error)} if error is not None else {})
            log.warning("a fault of the kit's own was kept from the page", extra=said)


class Kit:
    """The front door. Make one for each shop, when the program starts.

    `secret_keys`    sign the visitor cookie, newest last: it signs, all verify. Each at least 16 characters.
    `consent`        "opt_in", "opt_out", or a function of the ASGI scope that answers True, False or None; or one of
                     these with consent strings and managers' cookies before it, as `kit.consent.Signals`.
    `store`          sqlite:///kit.db for one machine, postgresql://… for many.
    `destinations`   where conversions go; two may not have one name.
    `click_params`   further query parameters to keep, {parameter: vendor}.
    `cookie_domain`  shares the visitor cookie between subdomains; without it the cookie is the host's alone.
    `insecure_cookies`  allows plain http on a loopback host, for demos and tests.
    `trusted_proxies`   addresses or networks whose X-Forwarded-For is believed.
    `clean_url`      replaces the rule by which URLs are cleaned before they are kept or sent.
    `origins`        further origins whose pages may post to collect and identify.
    `home`           the path whose page is a home_view to destinations that want page views; "/".
    `index_key`      the key for looking people up; kept in the store when left out.
    `store_timeout`  the longest that report, link and identify may take; then they raise StoreUnavailable.
    `limits`         how much the store may hold; past it `report` raises StoreFull, a StoreUnavailable.
    `retention`      how long the store keeps what it no longer needs; the worker lets go of it.
    `quarantine`     how many names may be asserted of a visitor, and of how many visitors a name, before neither is
                     believed.
    `worker`         whether `lifespan` also delivers; switch it off where `kit worker` runs.

    Raises ConfigurationError, naming the setting, for anything that could not work.
    """

    def __init__(
        self,
        *,
        secret_keys: Sequence[str],
        consent: ConsentRule | Signals,
        store: str = "sqlite:///kit.db",
        destinations: Sequence[Destination],
        click_params: Mapping[str, str] | None = None,
        cookie_domain: str | None = None,
        insecure_cookies: bool = False,
        trusted_proxies: Sequence[str] = (),
        clean_url: Callable[[str], str | None] | None = None,
        origins: Sequence[str] = (),
        home: str = "/",
        index_key: str | None = None,
        store_timeout: timedelta = timedelta(seconds=2),
        limits: Limits = _LIMITS,
        retention: Retention = _RETENTION,
        quarantine: Quarantine = QUARANTINE,
        worker: bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self.destinations = checked_destinations(destinations)
        self.rules = CaptureRules(
            secret_keys=checked_keys(secret_keys),
            click_params=watched_params(self.destinations, click_params or {}),
            cookie_domain=cookie_domain,
            insecure_cookies=insecure_cookies,
            trusted_proxies=tuple(trusted_proxies),
            clean_url=clean_url,
            consent=ConsentPolicy(consent),
            clock=clock,
        )
        audience = f"{self.rules.cookie_name.decode()} {self.rules.cookie_domain or ''}".rstrip()
        self.tokens = IdentityTokens(self.rules.secret_keys, audience=audience, clock=clock)
        self.store = Store(store, timeout=store_timeout, limits=limits)
        self.quarantine = quarantine
        self.intake = Intake(self.rules, [each.name for each in self.destinations if each.reports], quarantine)
        self.retention = retention
        self.clock = clock
        self.worker = self.worker_for(self.destinations)
        self.erasing = Erasing(self.store, self.intake, self.destinations, clock)
        self.origins = checked_origins(origins)
        self.faults = Faults()
        self.sync = SyncKit(self)
        self._works = worker
        self._touches = Touches(
            self.store,
            people.keep_touches,
            begin=lambda: self._opening.begin(),
            lost=lambda: self.faults.count("touchpoint"),
        )
        self._views = Touches(
            self.store,
            report_from_page,
            begin=lambda: self._opening.begin(),
            lost=lambda: self.faults.count("page_view"),
        )
        self._opening = Opening(
            self.store, self.intake, index_key=index_key.encode() if index_key else None, then=self._post_waiting
        )
        wanting = tuple(each.name for each in self.destinations if each.page_views)
        views = Views(self._views, self.store, self.intake, destinations=wanting, home=home)
        #: What CaptureMiddleware tells of the pages that visitors open; None where no destination wants them.
        self.record_view = views.record if wanting else None

    @classmethod
    def from_env(cls) -> Self:
        """Make a kit from `KIT_*` variables; a destination is there when its first variable is."""
        read = settings.read()
        if read.consent is None:
            raise ConfigurationError("KIT_CONSENT", 'is missing; set it to "opt_in" or "opt_out"')
        return cls(
            secret_keys=[key.get_secret_value() for key in read.secret_keys],
            consent=read.consent,
            store=read.store,
            destinations=destinations_of(read),
            cookie_domain=read.cookie_domain,
            insecure_cookies=read.insecure_cookies,
            trusted_proxies=read.trusted_proxies,
            origins=read.origins,
            index_key=read.index_key.get_secret_value() if read.index_key else None,
        )

    # ------------------------------------------------------------ report, link, identify

    async def report(
        self,
        conversion: Conversion,
        request: HasScope | None = None,
        *,
        visitor: Visitor | VisitorId | None = None,
        customer_id: str | None = None,
        order_id: str | None = None,
        consent: bool | None = None,
        connection: OwnTransaction | None = None,
    ) -> Reported:
        """Store the conversion and one delivery for each destination; return when they are durable.

        Identifiers come from the conversion, the order's link, the request, the visitor and the customer's verified
        devices, the first with a value winning; of each vendor's clicks the newest made before it, at most 90 days. The
        same order again is the same event. `consent` is the shop's word: False always counts, True where nobody is
        known to have decided. With `connection`, a SQLAlchemy AsyncConnection or AsyncSession on the database that
        holds the store's tables, the report joins its transaction: it is durable when that commits, and gone when that
        rolls back. Raises InvalidInput, and StoreUnavailable when the store does not answer within `store_timeout`; on
        the shop's own connection the database's errors are the shop's.
        """
        until = await self.ready()
        entry = self.intake.report(
            conversion,
            request,
            visitor=visitor,
            customer_id=customer_id,
            order_id=order_id,
            consent=consent,
            store_ahead=self.store.offset,
        )
        if connection is not None:
            self.store.check_room(report)
            return await write_on(connection, report, entry)
        reported = await self.store.write(report, entry, until=until)
        self.worker.wake()
        return reported

    async def report_from_page(self, conversion: Conversion, request: HasScope) -> Reported:
        """Report what a page said of its visitor. Raises as `report`, and StoreFull well before orders are refused."""
        until = await self.ready()
        entry = self.intake.report(conversion, request, store_ahead=self.store.offset)
        reported = await self.store.write(report_from_page, entry, until=until)
        self.worker.wake()
        return reported

    async def link(self, request: HasScope, *, order_id: str) -> bool:
        """Keep what is known of this visitor for the order, for a payment webhook that will come with no browser.

        Returns False where the store did not answer: a checkout must not fail for that.
        """
        try:
            until = await self.ready()
            await self.store.write(people.keep_orders, self.intake.order(request, order_id), until=until)
        except UNANSWERED as error:
            self.faults.count("link", error)
            return False
        return True

    async def identify(
        self,
        request: HasScope | None = None,
        *,
        visitor: Visitor | VisitorId | None = None,
        email: str | None = None,
        phone: str | None = None,
        customer_id: str | None = None,
    ) -> None:
        """Link the visitor to a person whom the shop itself knows: a *verified* link.

        A browser that was verified as another customer gets a new visitor. Raises InvalidInput naming the field,
        and StoreUnavailable.
        """
        person = Person(email=email, phone=phone, customer_id=customer_id)
        await self._verify(request, visitor, person, source="shop")

    async def _verify(
        self, request: HasScope | None, visitor: Visitor | VisitorId | None, person: Person, *, source: str
    ) -> None:
        until = await self.ready()
        link = self.intake.link(request, visitor, person, level=people.VERIFIED, source=source)
        if link is not None and await self.store.write(people.keep_links, link, until=until):
            moved = self.intake.moved(link, request)
            if moved is not None:
                await self.store.write(people.keep_links, moved, until=until)

    def identity_token(
        self,
        request: HasScope,
        *,
        email: str | None = None,
        phone: str | None = None,
        customer_id: str | None = None,
        max_age: timedelta = timedelta(hours=1),
    ) -> str | None:
        """Return a signed token by which this page says who is signed in: `script_tag(identity=token)`.

        It makes the same *verified* link as `identify` does, from the browser, and needs no store here. It is good for
        the visitor of this request alone, for `max_age`, and can be read by whoever has the page: no cache may keep
        that. None where there is no visitor, or nobody to name. Raises InvalidInput naming the field.
        """
        person = Person(email=email, phone=phone, customer_id=customer_id).checked()
        visitor = visitor_of(request)
        if visitor is None or person == Person():
            return None
        return self.tokens.issued(visitor.id, asdict(person), max_age=max_age)

    async def identify_by_token(self, request: HasScope, token: str) -> Refusal | None:
        """Link the visitor of this request to whom the token names; return why not, where it is not believed.

        Raises StoreUnavailable.
        """
        visit = visit_of(request)
        visitor = visit.visitor.id if visit is not None and visit.visitor is not None else None
        named = self.tokens.opened(token, visitor)
        if isinstance(named, Refusal):
            return named
        await self._verify(request, None, Person(**named), source="token")
        return None

    async def assert_identity(
        self, request: HasScope, *, email: str | None = None, phone: str | None = None, customer_id: str | None = None
    ) -> None:
        """Link the visitor to a person by the browser's own word: an *asserted* link, good for this visitor alone."""
        until = await self.ready()
        person = Person(email=email, phone=phone, customer_id=customer_id)
        link = self.intake.link(request, None, person, level=people.ASSERTED, source="page")
        if link is not None:
            await self.store.write(people.assert_links, link, until=until)

    async def keep_consent(self, request: HasScope, granted: bool, *, of_known: bool = False) -> None:
        """Keep this visitor's decision; the newest one counts when anything is sent. The store's silence is counted.

        With `of_known`, and in a store that fills up, only a no is kept, of a visitor of whom anything else is.
        """
        capture = capture_of(request)
        # Of the cookie itself: a request that already says no shows no visitor any more.
        who = capture.reading().stored() if capture is not None else None
        if capture is None or who is None or (of_known and granted):
            return
        # `Sec-GPC: 1` stays a no, whatever the banner says, and so does a signal's; the kit's own cookie is older.
        said = capture.visit().consent
        granted = granted and (said.granted is not False or said.signal in {"cookie", "function"})
        # A banner's yes covers no destination that the visitor's own consent string leaves out.
        signal = said.signal if granted and " -" in said.signal else "page"
        decision = Consent(granted=granted, signal=signal, at=self.clock())
        try:
            until = await self.ready()
            try:
                verb = people.keep_refusals if of_known else people.keep_decisions
                await self.store.write(verb, (who.id, decision), until=until)
            except StoreFull:
                if granted:
                    raise
                await self.store.write(people.keep_refusals, (who.id, decision), until=until)
        except UNANSWERED as error:
            self.faults.count("consent", error)

    async def identifiers(
        self, *, visitor: str | None = None, customer_id: str | None = None, order_id: str | None = None
    ) -> Identifiers:
        """Return all identifiers that the store has of a visitor, a customer or an order."""
        await self.ready()
        customer = self.intake.identity("customer", customer_id) if customer_id is not None else None
        return await self.store.read(
            lambda connection: known.identifiers_by(
                connection,
                visitor=visitor,
                customer=customer,
                order_id=order_id,
                quarantine=self.quarantine,
                now=self.clock(),
            )
        )

    def record_touch(
        self,
        visitor: VisitorId,
        touchpoint: Touchpoint | Callable[[], Touchpoint],
        first_party_cookie: str | None,
        consent: Consent,
    ) -> None:
        """Keep a new click, off the request path: returns at once and never raises."""
        self._touches.record(
            Touch(visitor=visitor, touchpoint=touchpoint, first_party_cookie=first_party_cookie, consent=consent)
        )

    def _post_waiting(self) -> None:
        self._touches.post()
        self._views.post()

    def forget(self, browser: HasScope | HasHeaders) -> None:
        """Take the visitor away from this browser, for a sign-out on a shared device; `__adroll_fpc` stays.

        Takes the request, of any framework: its answer makes a new visitor, linked to nobody. Or a response with
        `headers.append(name, value)`, as Starlette's: the browser's next page makes one.
        """
        if isinstance(browser, HasScope):
            capture = capture_of(browser)
            if capture is not None:
                capture.replace()
            return
        browser.headers.append("set-cookie", removal_line(self.rules).decode("latin-1"))

    # ------------------------------------------------------------ audiences, deletion

    async def audience(
        self,
        name: str | None = None,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        destination: str | None = None,
    ) -> AudienceChange:
        """Queue a change of an audience, all of it in one transaction; return when it is durable.

        `name` is the list's; None takes the vendor's default list. Members are e-mail addresses or their SHA-256
        digests; who is in `add` and `remove` ends outside. Those that are neither are counted, with the reason, and the
        rest is taken. `destination` names one of several audience destinations. For more members than a hundred
        thousand call it several times: one list's changes stay in their order. Raises InvalidInput, also where no
        member can be taken, ConfigurationError where no destination takes audiences, and StoreUnavailable.
        """
        taker = one_of(self.destinations, RoktAudience, destination)
        change, jobs = await asyncio.to_thread(change_audience, taker, name, add=add, remove=remove)
        require_some(change)
        await self.enqueue(jobs)
        return change

    async def request_deletion(self, emails: Iterable[str], *, destination: str | None = None) -> tuple[str, ...]:
        """Queue that the vendor erases these people; return the ids by which that is followed and cancelled.

        `emails` are addresses or their SHA-256 digests. Raises InvalidInput where one of them is neither, and queues
        nothing then; ConfigurationError where no destination takes deletions; StoreUnavailable.
        """
        jobs = deletions(one_of(self.destinations, RoktDeletion, destination), emails)
        await self.enqueue(jobs)
        return tuple(job.conversion.event_id for job in jobs)

    async def cancel_deletion(self, request_id: str, *, destination: str | None = None) -> Cancelled:
        """Take a deletion request back: here while it waits, else by asking the vendor. Returns what came of it."""
        taker = one_of(self.destinations, RoktDeletion, destination)
        until = await self.ready()
        asked = cancellation(taker, request_id, now=self.clock() + self.store.offset)
        answer = await self.store.write(cancel, asked, until=until)
        self.worker.wake()
        return answer

    async def enqueue(self, jobs: tuple[Job, ...]) -> None:
        """Store jobs for their destinations; return when they are durable. Raises StoreUnavailable."""
        if not jobs:
            return
        until = await self.ready()
        self.store.check_room(report)
        asked = Jobs(jobs=jobs, now=self.clock(), store_ahead=self.store.offset)
        await self.store.write(queue, asked, until=until)
        self.worker.wake()

    # ------------------------------------------------------------ somebody asks about themselves

    async def erase(
        self,
        *,
        email: str | None = None,
        customer_id: str | None = None,
        visitor: Visitor | VisitorId | None = None,
    ) -> Erased:
        """Erase a person from the store, and ask Rokt to where a RoktDeletion is configured; return when that is done.

        Named by any of the three; how far it goes from there, `kit.store.persons` says. Orders and their money stay,
        without their buyer, and are not sent any more. For `Retention.tombstones` nothing that is told of the person is
        kept, however often it is told; but see `allow_again`. Idempotent: after StoreUnavailable ask again. Raises
        InvalidInput.
        """
        await self.ready()
        subject = self.erasing.subject(email=email, customer_id=customer_id, visitor=visitor)
        erased = await asyncio.to_thread(self.erasing.erase, subject)
        self.worker.wake()
        return erased

    async def allow_again(
        self,
        *,
        email: str | None = None,
        customer_id: str | None = None,
        visitor: Visitor | VisitorId | None = None,
    ) -> bool:
        """Keep again what is told of somebody who was erased: they came back, and said so to the shop.

        Nothing else brings them back, no sign-in and no consent. Name them by e-mail and by customer number where they
        have both; the browser that was theirs is given a new visitor at a sign-in. Returns whether they were erased.
        """
        await self.ready()
        subject = self.erasing.subject(email=email, customer_id=customer_id, visitor=visitor)
        return await asyncio.to_thread(self.erasing.lift, subject)

    async def export_person(
        self,
        *,
        email: str | None = None,
        customer_id: str | None = None,
        visitor: Visitor | VisitorId | None = None,
    ) -> dict[str, Any]:
        """Return all that the store has of a person, in clear, as JSON takes it: see `kit.store.access.export`."""
        await self.ready()
        subject = self.erasing.subject(email=email, customer_id=customer_id, visitor=visitor)
        return await asyncio.to_thread(self.erasing.export, subject)

    # ------------------------------------------------------------ life

    def worker_for(self, destinations: Sequence[Destination]) -> Worker:
        """Return a worker that delivers for these destinations alone."""
        return Worker(
            store=self.store,
            destinations=destinations,
            may_send=self.intake.may_keep,
            retention=self.retention,
            clock=self.clock,
        )

    def open(self) -> float:
        """Open the store and its keys, within `store_timeout`; returns when that time ends, on the monotonic clock.

        Called by itself; call it early to learn early that something is wrong.
        """
        return self._opening.wait()

    async def ready(self) -> float:
        """`open`, without blocking the event loop; returns when the time ends on the loop's clock."""
        return await self._opening.ready()

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open the store, deliver while the app runs, and finish what is under way when it ends."""
        try:
            await self.ready()
        except StoreUnavailable as error:
            # Pages must be served regardless; every later call tries again.
            self.faults.count("open", error)
        delivering = asyncio.create_task(self.worker.run()) if self._works else None
        try:
            yield
        finally:
            if delivering is not None:
                self.worker.stop()
                await delivering
            await asyncio.to_thread(self.store.close)


class SyncKit:
    """`kit.sync`: the same calls for code without an event loop, such as Django views and task queues."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit

    def report(
        self,
        conversion: Conversion,
        request: HasScope | None = None,
        *,
        visitor: Visitor | VisitorId | None = None,
        customer_id: str | None = None,
        order_id: str | None = None,
        consent: bool | None = None,
        connection: OwnTransactionSync | None = None,
    ) -> Reported:
        """See `Kit.report`; `connection` is a SQLAlchemy Connection or Session."""
        until = self._kit.open()
        entry = self._kit.intake.report(
            conversion,
            request,
            visitor=visitor,
            customer_id=customer_id,
            order_id=order_id,
            consent=consent,
            store_ahead=self._kit.store.offset,
        )
        if connection is not None:
            self._kit.store.check_room(report)
            return write_on_sync(connection, report, entry)
        reported = self._kit.store.write_sync(report, entry, until=until)
        self._kit.worker.wake()
        return reported

    def link(self, request: HasScope, *, order_id: str) -> bool:
        """See `Kit.link`."""
        try:
            until = self._kit.open()
            order = self._kit.intake.order(request, order_id)
            self._kit.store.write_sync(people.keep_orders, order, until=until)
        except UNANSWERED as error:
            self._kit.faults.count("link", error)
            return False
        return True

    def identify(
        self,
        request: HasScope | None = None,
        *,
        visitor: Visitor | VisitorId | None = None,
        email: str | None = None,
        phone: str | None = None,
        customer_id: str | None = None,
    ) -> None:
        """See `Kit.identify`."""
        until = self._kit.open()
        person = Person(email=email, phone=phone, customer_id=customer_id)
        link = self._kit.intake.link(request, visitor, person, level=people.VERIFIED, source="shop")
        if link is not None and self._kit.store.write_sync(people.keep_links, link, until=until):
            moved = self._kit.intake.moved(link, request)
            if moved is not None:
                self._kit.store.write_sync(people.keep_links, moved, until=until)

    def audience(
        self,
        name: str | None = None,
        *,
        add: Iterable[str] = (),
        remove: Iterable[str] = (),
        destination: str | None = None,
    ) -> AudienceChange:
        """See `Kit.audience`."""
        taker = one_of(self._kit.destinations, RoktAudience, destination)
        change, jobs = change_audience(taker, name, add=add, remove=remove)
        require_some(change)
        self.enqueue(jobs)
        return change

    def request_deletion(self, emails: Iterable[str], *, destination: str | None = None) -> tuple[str, ...]:
        """See `Kit.request_deletion`."""
        jobs = deletions(one_of(self._kit.destinations, RoktDeletion, destination), emails)
        self.enqueue(jobs)
        return tuple(job.conversion.event_id for job in jobs)

    def cancel_deletion(self, request_id: str, *, destination: str | None = None) -> Cancelled:
        """See `Kit.cancel_deletion`."""
        taker = one_of(self._kit.destinations, RoktDeletion, destination)
        until = self._kit.open()
        asked = cancellation(taker, request_id, now=self._kit.clock() + self._kit.store.offset)
        answer = self._kit.store.write_sync(cancel, asked, until=until)
        self._kit.worker.wake()
        return answer

    def enqueue(self, jobs: tuple[Job, ...]) -> None:
        """See `Kit.enqueue`."""
        if not jobs:
            return
        until = self._kit.open()
        self._kit.store.check_room(report)
        asked = Jobs(jobs=jobs, now=self._kit.clock(), store_ahead=self._kit.store.offset)
        self._kit.store.write_sync(queue, asked, until=until)
        self._kit.worker.wake()

    def erase(
        self,
        *,
        email: str | None = None,
        customer_id: str | None = None,
        visitor: Visitor | VisitorId | None = None,
    ) -> Erased:
        """See `Kit.erase`."""
        self._kit.open()
        erasing = self._kit.erasing
        erased = erasing.erase(erasing.subject(email=email, customer_id=customer_id, visitor=visitor))
        self._kit.worker.wake()
        return erased

    def allow_again(
        self,
        *,
        email: str | None = None,
        customer_id: str | None = None,
        visitor: Visitor | VisitorId | None = None,
    ) -> bool:
        """See `Kit.allow_again`."""
        self._kit.open()
        erasing = self._kit.erasing
        return erasing.lift(erasing.subject(email=email, customer_id=customer_id, visitor=visitor))

    def export_person(
        self,
        *,
        email: str | None = None,
        customer_id: str | None = None,
        visitor: Visitor | VisitorId | None = None,
    ) -> dict[str, Any]:
        """See `Kit.export_person`."""
        self._kit.open()
        erasing = self._kit.erasing
        return erasing.export(erasing.subject(email=email, customer_id=customer_id, visitor=visitor))
