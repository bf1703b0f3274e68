"""Kit: puts the rooms together. A shop makes one, and reports, links and identifies through it."""

import asyncio
import contextlib
import logging
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Protocol, Self

from kit import identity, settings
from kit.capture import FOREIGN_CLICKS, CaptureRules, capture_of, removal_line, visit_of
from kit.capture.urls import clean_url
from kit.consent import ConsentPolicy, ConsentRule
from kit.delivery.worker import Worker
from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.errors import ConfigurationError, StoreUnavailable
from kit.model import (
    Clock,
    Consent,
    Conversion,
    Identifiers,
    Reported,
    Touchpoint,
    Visit,
    Visitor,
    VisitorId,
    clean_text,
    email_text,
    event_id_of,
    utc_now,
)
from kit.store import Store, keys, people
from kit.store.events import Report, report
from kit.store.people import Identity, Link, OrderLink, Touch

log = logging.getLogger("kit")

#: Touchpoints that may wait for the store before new ones are counted and let go; the cookie still has them.
_MOST_TOUCHES = 10_000


class HasScope(Protocol):
    """A request of any ASGI framework: Starlette's, FastAPI's, Litestar's, Quart's and Django's have their scope."""

    @property
    def scope(self) -> Mapping[str, Any]: ...


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

    def count(self, where: str) -> None:
        self.counts[where] += 1
        if self.counts[where] == 1:
            log.warning("a fault of the kit's own was kept from the page", extra={"kit.fault": where})


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
        worker: bool = True,
        clock: Clock = utc_now,
    ) -> None:
        _check_names(destinations)
        self.rules = CaptureRules(
            secret_keys=_checked_keys(secret_keys),
            click_params=_click_params(destinations, click_params or {}),
            cookie_domain=cookie_domain,
            insecure_cookies=insecure_cookies,
            trusted_proxies=tuple(trusted_proxies),
            clean_url=clean_url,
            consent=ConsentPolicy(consent),
            clock=clock,
        )
        self.destinations = tuple(destinations)
        self.store = Store(store, timeout=store_timeout)
        self.origins = frozenset(origins)
        self.faults = Faults()
        self.clock = clock
        self.sync = SyncKit(self)
        self._given_index_key = index_key.encode() if index_key else None
        self._index_key: bytes | None = None
        self._works = worker
        self._early: deque[Touch] = deque()
        self._opening = threading.Lock()
        self.worker = Worker(store=self.store, destinations=self.destinations, may_send=self.may_keep, clock=clock)

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
            destinations=_destinations(read),
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
    ) -> Reported:
        """Store the conversion and one delivery for each destination; return when they are durable.

        Identifiers come from the conversion, the request, the order's link, the visitor and the customer's verified
        devices, the first with a value winning. The same order again is the same event. Raises StoreUnavailable
        when the store does not answer within `store_timeout`.
        """
        await self.ready()
        entry = self.report_entry(conversion, request, visitor, customer_id, order_id, consent)
        reported = await self.store.write(report, entry)
        self.worker.wake()
        return reported

    async def link(self, request: HasScope, *, order_id: str) -> bool:
        """Keep what is known of this visitor for the order, for a payment webhook that will come with no browser.

        Returns False where the store did not answer: a checkout must not fail for that.
        """
        try:
            await self.ready()
            await self.store.write(people.keep_orders, self.order_link(request, order_id))
        except StoreUnavailable:
            self.faults.count("link")
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
        await self.ready()
        link = self.person_link(request, visitor, people.VERIFIED, "shop", email, phone, customer_id)
        if link is None:
            return
        if await self.store.write(people.keep_links, link) and (moved := self.moved_link(link, request)):
            await self.store.write(people.keep_links, moved)

    async def assert_identity(
        self, request: HasScope, *, email: str | None = None, phone: str | None = None, customer_id: str | None = None
    ) -> None:
        """Link the visitor to a person by the browser's own word: an *asserted* link, good for this visitor alone."""
        await self.ready()
        link = self.person_link(request, None, people.ASSERTED, "page", email, phone, customer_id)
        if link is not None:
            await self.store.write(people.keep_links, link)

    async def keep_consent(self, request: HasScope, granted: bool) -> None:
        """Keep this visitor's decision; the newest one counts when anything is sent. Never raises StoreUnavailable."""
        visit = self._visit(request)
        if visit is None or (who := _seen(visit).visitor) is None:
            return
        # `Sec-GPC: 1` stays a no, whatever the banner says.
        decision = Consent(granted=granted and visit.consent.signal != "gpc", signal="page", at=self.clock())
        try:
            await self.ready()
            await self.store.write(people.keep_decisions, (who, decision))
        except StoreUnavailable:
            self.faults.count("consent")

    async def identifiers(
        self, *, visitor: str | None = None, customer_id: str | None = None, order_id: str | None = None
    ) -> Identifiers:
        """Return all identifiers that the store has of a visitor, a customer or an order."""
        await self.ready()
        customer = self._identity("customer", customer_id)
        return await self.store.read(
            lambda connection: people.identifiers_by(
                connection, visitor=visitor, customer=customer, order_id=order_id, now=self.clock()
            )
        )

    def record_touch(
        self, visitor: VisitorId, touchpoint: Touchpoint, first_party_cookie: str | None, consent: Consent
    ) -> None:
        """Keep a new click, off the request path: returns at once and never raises."""
        touch = Touch(visitor=visitor, touchpoint=touchpoint, first_party_cookie=first_party_cookie, consent=consent)
        if self.store.waiting + len(self._early) >= _MOST_TOUCHES:
            self.faults.count("touchpoint")
        elif self.store.is_open:
            self.store.post(people.keep_touches, touch, _Unheard(self.faults))
        else:
            self._early.append(touch)
            self._open_in_background()

    def forget(self, response: HasHeaders) -> None:
        """Take the visitor away from this browser, for a sign-out on a shared device.

        Its next page begins a new visitor, linked to nobody; `__adroll_fpc` stays, for it names the browser. Takes a
        response with `headers.append(name, value)`, as Starlette's.
        """
        response.headers.append("set-cookie", removal_line(self.rules).decode("latin-1"))

    def may_keep(self, consent: Consent) -> bool:
        """Return whether the shop's rule allows keeping and sending under this decision."""
        return self.rules.consent.may_keep(consent)

    # ------------------------------------------------------------ life

    def open(self) -> None:
        """Open the store and its keys. Called by itself; call it early to learn early that something is wrong."""
        self.store.open()
        if self._index_key is None:
            self._index_key = self.store.write_sync(keys.index_key, self._given_index_key)

    def _open_in_background(self) -> None:
        """Open the store for the touches that came before it was: a server without lifespan begins like this."""
        if self._opening.acquire(blocking=False):
            threading.Thread(target=self._open_for_early, name="kit-open", daemon=True).start()

    def _open_for_early(self) -> None:
        try:
            self.open()
            while self._early:
                self.store.post(people.keep_touches, self._early.popleft(), _Unheard(self.faults))
        except StoreUnavailable:
            self.faults.count("open")
        finally:
            self._opening.release()

    async def ready(self) -> None:
        """`open`, without blocking the event loop and within `store_timeout`."""
        if self._index_key is not None and self.store.is_open:
            return
        try:
            async with asyncio.timeout(self.store.timeout.total_seconds()):
                await asyncio.to_thread(self.open)
        except TimeoutError:
            raise StoreUnavailable("it could not be opened in time") from None

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open the store, deliver while the app runs, and finish what is under way when it ends."""
        try:
            await self.ready()
        except StoreUnavailable:
            # Pages must be served regardless; every later call tries again.
            self.faults.count("open")
        delivering = asyncio.create_task(self.worker.run()) if self._works else None
        try:
            yield
        finally:
            if delivering is not None:
                self.worker.stop()
                await delivering
            await asyncio.to_thread(self.store.close)

    # ------------------------------------------------------------ what the store is handed

    def report_entry(
        self,
        conversion: Conversion,
        request: HasScope | None,
        visitor: Visitor | VisitorId | None,
        customer_id: str | None,
        order_id: str | None,
        consent: bool | None,
    ) -> Report:
        now = self.clock()
        visit = self._visit(request)
        customer = conversion.customer_id or customer_id
        if conversion.url is not None:
            conversion = conversion.model_copy(update={"url": self._cleaned(conversion.url)})
        seen = _seen(visit)
        said = Identifiers(
            visitor=_visitor_id(visitor) or seen.visitor,
            email=conversion.email,
            phone=conversion.phone,
            customer_id=customer,
        )
        decision = visit.consent if visit else None
        if consent is not None and (decision is None or decision.signal != "gpc"):
            decision = Consent(granted=consent, signal="shop", at=now)
        return Report(
            event_id=event_id_of(conversion),
            conversion=conversion,
            identifiers=people.joined(said, seen),
            people=self._people(conversion.email, conversion.phone, customer),
            order_id=order_id or conversion.order_id,
            consent=decision,
            unknown_is_granted=self._unknown_is_granted,
            destinations=tuple(destination.name for destination in self.destinations),
            now=now,
        )

    def order_link(self, request: HasScope, order_id: str) -> OrderLink:
        visit = self._visit(request)
        consent = visit.consent if visit else Consent(granted=None, signal="none", at=self.clock())
        return OrderLink(
            order_id=clean_text("order_id", order_id, longest=128),
            identifiers=_seen(visit) if self.may_keep(consent) else Identifiers(),
            consent=consent,
        )

    def person_link(
        self,
        request: HasScope | None,
        visitor: Visitor | VisitorId | None,
        level: str,
        source: str,
        email: str | None,
        phone: str | None,
        customer_id: str | None,
    ) -> Link | None:
        """Return the link to keep, or None where there is no visitor, nobody to link, or no consent."""
        found = self._people(
            None if email is None else email_text("email", email),
            None if phone is None else clean_text("phone", phone, longest=64),
            None if customer_id is None else clean_text("customer_id", customer_id, longest=128),
        )
        visit = self._visit(request)
        who = _visitor_id(visitor) or _seen(visit).visitor
        consent = visit.consent if visit else Consent(granted=None, signal="none", at=self.clock())
        if who is None or not found or consent.granted is False:
            return None
        return Link(
            visitor=who,
            identities=found,
            level=level,
            source=source,
            consent=consent,
            unknown_is_granted=self._unknown_is_granted,
            at=self.clock(),
        )

    def moved_link(self, link: Link, request: HasScope | None) -> Link | None:
        """Return the link for a new visitor, which the browser is given with this request's answer."""
        capture = capture_of(request)
        fresh = capture.replace() if capture is not None else None
        return replace(link, visitor=fresh.id) if fresh is not None else None

    @property
    def _unknown_is_granted(self) -> bool:
        return self.may_keep(Consent(granted=None, signal="none", at=self.clock()))

    def _cleaned(self, url: str) -> str | None:
        return self.rules.clean_url(url) if self.rules.clean_url else clean_url(url, self.rules.watched)

    def _visit(self, request: HasScope | None) -> Visit | None:
        return visit_of(request) if request is not None else None

    def _people(self, email: str | None, phone: str | None, customer_id: str | None) -> tuple[Identity, ...]:
        found = (
            self._identity("email", email),
            self._identity("phone", phone),
            self._identity("customer", customer_id),
        )
        return tuple(person for person in found if person is not None)

    def _identity(self, kind: str, value: str | None) -> Identity | None:
        if value is None or self._index_key is None:
            return None
        normal = identity.email(value) or value if kind == "email" else value
        return Identity(kind=kind, lookup=identity.lookup_key(self._index_key, kind, normal), value=value)


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
    ) -> Reported:
        """See `Kit.report`."""
        self._kit.open()
        entry = self._kit.report_entry(conversion, request, visitor, customer_id, order_id, consent)
        reported = self._kit.store.write_sync(report, entry)
        self._kit.worker.wake()
        return reported

    def link(self, request: HasScope, *, order_id: str) -> bool:
        """See `Kit.link`."""
        try:
            self._kit.open()
            self._kit.store.write_sync(people.keep_orders, self._kit.order_link(request, order_id))
        except StoreUnavailable:
            self._kit.faults.count("link")
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
        self._kit.open()
        link = self._kit.person_link(request, visitor, people.VERIFIED, "shop", email, phone, customer_id)
        if link is None or not self._kit.store.write_sync(people.keep_links, link):
            return
        if (moved := self._kit.moved_link(link, request)) is not None:
            self._kit.store.write_sync(people.keep_links, moved)


class _Unheard:
    """Waits for a write that nobody waits for: counts its failure."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def told(self, outcome: Any) -> None:
        if isinstance(outcome, Exception):
            self._faults.count("touchpoint")


# ---------------------------------------------------------------- checks and small change


def _checked_keys(secret_keys: Sequence[str]) -> tuple[bytes, ...]:
    if isinstance(secret_keys, str) or not secret_keys:
        raise ConfigurationError("secret_keys", "is missing; pass a list such as [os.environ['KIT_SECRET']]")
    if any(len(key) < 16 for key in secret_keys):
        reason = "holds a key of fewer than 16 characters; make one with `python -c 'import secrets; "
        raise ConfigurationError("secret_keys", reason + "print(secrets.token_urlsafe(32))'`")
    return tuple(key.encode() for key in secret_keys)


def _check_names(destinations: Sequence[Destination]) -> None:
    twice = [name for name, times in Counter(one.name for one in destinations).items() if times > 1]
    if twice:
        raise ConfigurationError("destinations", f"two are named {twice[0]!r}; give one of them another name")


def _click_params(destinations: Sequence[Destination], further: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    own = {param: destination.vendor for destination in destinations for param in destination.click_params}
    return tuple({**own, **{param: param for param, _ in FOREIGN_CLICKS if param not in own}, **further}.items())


def _visitor_id(visitor: Visitor | VisitorId | None) -> VisitorId | None:
    return visitor.id if isinstance(visitor, Visitor) else visitor


def _seen(visit: Visit | None) -> Identifiers:
    """Return what a request gives: nothing, its ip included, unless its visitor cookie was verified."""
    if visit is None or visit.visitor is None:
        return Identifiers()
    return Identifiers(
        visitor=visit.visitor.id,
        click_ids=visit.visitor.click_ids,
        first_party_cookie=visit.first_party_cookie,
        ip=visit.ip,
        user_agent=visit.user_agent,
        url=visit.url,
        referrer=visit.referrer,
    )


def _destinations(read: settings.Settings) -> list[Destination]:
    """Return the destinations whose first variable is set."""
    found: list[Destination] = []
    if read.adroll_advertisable is not None:
        found.append(
            AdRoll(
                advertisable=read.adroll_advertisable,
                pixel=read.adroll_pixel or "",
                token=read.adroll_token.get_secret_value(),
                pixel_reports=frozenset(read.adroll_pixel_reports),
                **_given(base_url=read.adroll_base_url),
            )
        )
    if read.rokt_account is not None:
        found.append(
            Rokt(
                account=read.rokt_account,
                public_key=read.rokt_public_key.get_secret_value(),
                secret_key=read.rokt_secret_key.get_secret_value(),
                **_given(base_url=read.rokt_base_url),
            )
        )
    if read.rockerbox_advertiser is not None:
        advertiser = read.rockerbox_advertiser.get_secret_value()
        found.append(Rockerbox(advertiser=advertiser, **_given(base_url=read.rockerbox_base_url)))
    return found


def _given(**values: str | None) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
