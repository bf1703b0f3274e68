"""Kit: puts the rooms together. A shop makes one, and reports, links and identifies through it."""

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol, Self

from kit import settings
from kit.capture import CaptureRules, capture_of, removal_line
from kit.configuration import checked_destinations, checked_keys, checked_origins, destinations_of, watched_params
from kit.consent import ConsentPolicy, ConsentRule
from kit.delivery.worker import Worker
from kit.destinations import Destination
from kit.errors import ConfigurationError, KitError, StoreUnavailable
from kit.intake import HasScope, Intake, Person
from kit.model import Clock, Consent, Conversion, Identifiers, Reported, Touchpoint, Visitor, VisitorId, utc_now
from kit.opening import Opening
from kit.store import Store, known, people
from kit.store.events import report
from kit.store.limits import Limits
from kit.store.people import Touch
from kit.store.retention import Retention
from kit.store.store import OwnTransaction, OwnTransactionSync, write_on, write_on_sync
from kit.touches import Touches

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
    `consent`        "opt_in", "opt_out", or a function of the ASGI scope that answers True, False or None.
    `store`          sqlite:///kit.db for one machine, postgresql://… for many.
    `destinations`   where conversions go; two may not have one name.
    `click_params`   further query parameters to keep, {parameter: vendor}.
    `cookie_domain`  shares the visitor cookie between subdomains; without it the cookie is the host's alone.
    `insecure_cookies`  allows plain http on a loopback host, for demos and tests.
    `trusted_proxies`   addresses or networks whose X-Forwarded-For is believed.
    `clean_url`      replaces the rule by which URLs are cleaned before they are kept or sent.
    `origins`        further origins whose pages may post to collect and identify.
    `index_key`      the key for looking people up; kept in the store when left out.
    `store_timeout`  the longest that report, link and identify may take; then they raise StoreUnavailable.
    `limits`         how much the store may hold; past it `report` raises StoreFull, a StoreUnavailable.
    `retention`      how long the store keeps what it no longer needs; the worker lets go of it.
    `worker`         whether `lifespan` also delivers; switch it off where `kit worker` runs.

    Raises ConfigurationError, naming the setting, for anything that could not work.
    """

    def __init__(
        self,
        *,
        secret_keys: Sequence[str],
        consent: ConsentRule,
        store: str = "sqlite:///kit.db",
        destinations: Sequence[Destination],
        click_params: Mapping[str, str] | None = None,
        cookie_domain: str | None = None,
        insecure_cookies: bool = False,
        trusted_proxies: Sequence[str] = (),
        clean_url: Callable[[str], str | None] | None = None,
        origins: Sequence[str] = (),
        index_key: str | None = None,
        store_timeout: timedelta = timedelta(seconds=2),
        limits: Limits = _LIMITS,
        retention: Retention = _RETENTION,
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
        self.store = Store(store, timeout=store_timeout, limits=limits)
        self.intake = Intake(self.rules, [destination.name for destination in self.destinations])
        self.worker = Worker(
            store=self.store,
            destinations=self.destinations,
            may_send=self.intake.may_keep,
            retention=retention,
            clock=clock,
        )
        self.origins = checked_origins(origins)
        self.faults = Faults()
        self.clock = clock
        self.sync = SyncKit(self)
        self._works = worker
        self._touches = Touches(
            self.store, begin=lambda: self._opening.begin(), lost=lambda: self.faults.count("touchpoint")
        )
        self._opening = Opening(
            self.store, self.intake, index_key=index_key.encode() if index_key else None, then=self._touches.post
        )

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
        devices, the first with a value winning. The same order again is the same event. `consent` is the shop's word:
        False always counts, True where nobody is known to have decided. With `connection`, a SQLAlchemy AsyncConnection
        or AsyncSession on the database that holds the store's tables, the report joins its transaction: it is durable
        when that commits, and gone when that rolls back. Raises InvalidInput, and StoreUnavailable when the store does
        not answer within `store_timeout`; on the shop's own connection the database's errors are the shop's.
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
        until = await self.ready()
        person = Person(email=email, phone=phone, customer_id=customer_id)
        link = self.intake.link(request, visitor, person, level=people.VERIFIED, source="shop")
        if link is not None and await self.store.write(people.keep_links, link, until=until):
            moved = self.intake.moved(link, request)
            if moved is not None:
                await self.store.write(people.keep_links, moved, until=until)

    async def assert_identity(
        self, request: HasScope, *, email: str | None = None, phone: str | None = None, customer_id: str | None = None
    ) -> None:
        """Link the visitor to a person by the browser's own word: an *asserted* link, good for this visitor alone."""
        until = await self.ready()
        person = Person(email=email, phone=phone, customer_id=customer_id)
        link = self.intake.link(request, None, person, level=people.ASSERTED, source="page")
        if link is not None:
            await self.store.write(people.keep_links, link, until=until)

    async def keep_consent(self, request: HasScope, granted: bool) -> None:
        """Keep this visitor's decision; the newest one counts when anything is sent. The store's silence is counted."""
        capture = capture_of(request)
        # Of the cookie itself: a request that already says no shows no visitor any more.
        who = capture.reading().stored() if capture is not None else None
        if capture is None or who is None:
            return
        # `Sec-GPC: 1` stays a no, whatever the banner says.
        granted = granted and capture.visit().consent.signal != "gpc"
        decision = Consent(granted=granted, signal="page", at=self.clock())
        try:
            until = await self.ready()
            await self.store.write(people.keep_decisions, (who.id, decision), until=until)
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
                connection, visitor=visitor, customer=customer, order_id=order_id, now=self.clock()
            )
        )

    def record_touch(
        self, visitor: VisitorId, touchpoint: Touchpoint, first_party_cookie: str | None, consent: Consent
    ) -> None:
        """Keep a new click, off the request path: returns at once and never raises."""
        self._touches.record(
            Touch(visitor=visitor, touchpoint=touchpoint, first_party_cookie=first_party_cookie, consent=consent)
        )

    def forget(self, response: HasHeaders) -> None:
        """Take the visitor away from this browser, for a sign-out on a shared device.

        Its next page begins a new visitor, linked to nobody; `__adroll_fpc` stays, for it names the browser. Takes a
        response with `headers.append(name, value)`, as Starlette's.
        """
        response.headers.append("set-cookie", removal_line(self.rules).decode("latin-1"))

    # ------------------------------------------------------------ life

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
