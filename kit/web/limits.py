"""How often pages may post: token buckets for visitors, addresses, identities and all, in memory that cannot grow."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address

from starlette.requests import Request

from kit.capture import capture_of, visit_of
from kit.errors import ConfigurationError
from kit.model import VisitorId

Seconds = Callable[[], float]
"""Returns seconds that never go back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many posts at once, and as many again in each `per`. Raises ConfigurationError for none, or in no time."""

    posts: int
    per: timedelta

    def __post_init__(self) -> None:
        if self.posts < 1:
            raise ConfigurationError("rate.posts", "is less than 1; None instead of a rate sets no limit")
        if self.per <= timedelta(0):
            raise ConfigurationError("rate.per", "is not longer than nothing")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostLimits:
    """How often pages may post, counted in each process. Past a limit nothing is kept of a post. None sets none.

    Of all posts but a no to `consent`, which always counts, and `reset`, which keeps nothing:

    `visitor`     of one visitor; 120 a minute: somebody who opens a page a second with an event on each.
    `address`     from one client address, an IPv6 one by its /64; 1,200 a minute: an office, or the few hundred phones
                  that a carrier puts behind one address. One that is not global is not counted: it is the shop's own
                  proxy, unnamed in `trusted_proxies`.

    Of posts that assert who somebody is: `identify` without a token, by a visitor. A signed-in person's pages say it
    again and again, and lose nothing past these limits: the link is there, or the next page makes it. Signed tokens are
    not counted here: nobody but the shop can make one, and a forged one never reaches the store.

    `asserted`    of one visitor; 10 a minute, which is one more every six seconds: nobody types a form faster.
    `identity`    of one e-mail, phone or customer number, by whomever; 120 in ten minutes.
    `everybody`   of all visitors together; 200 a second: what 12,000 pages a minute say in one process, on a shop's
                  busiest day. It stops whoever has addresses without number, and bounds what such a flood writes.
                  Meanwhile assertions of others are lost too; collect, track, decisions, tokens and orders are not.

    `remembered`  how many visitors, addresses and identities are remembered; 32,768, which is 30 MiB in all. Who was
                  longest silent is forgotten first.
    """

    visitor: Rate | None = Rate(posts=120, per=timedelta(minutes=1))
    address: Rate | None = Rate(posts=1_200, per=timedelta(minutes=1))
    asserted: Rate | None = Rate(posts=10, per=timedelta(minutes=1))
    identity: Rate | None = Rate(posts=120, per=timedelta(minutes=10))
    everybody: Rate | None = Rate(posts=200, per=timedelta(seconds=1))
    remembered: int = 32_768

    def __post_init__(self) -> None:
        if self.remembered < 1:
            raise ConfigurationError("limits.remembered", "is less than 1")


class Buckets:
    """One token bucket for each key. Of a bucket only the second at which it is full again is kept."""

    def __init__(self, rate: Rate, *, remembered: int, seconds: Seconds) -> None:
        self._each = rate.per.total_seconds() / rate.posts
        # Sums of seconds are not exact.
        self._room = (rate.posts - 1) * self._each + 1e-6
        self._remembered = remembered
        self._seconds = seconds
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def take(self, key: Hashable) -> bool:
        """Take one token, and return whether there was one."""
        now = self._seconds()
        full_at = max(self._full_at.get(key, now), now)
        allowed = full_at - now <= self._room
        self._full_at[key] = full_at + self._each if allowed else full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > self._remembered:
            self._full_at.popitem(last=False)
        return allowed


class Limiter:
    """Tells whether a post is one too many. Asking counts."""

    def __init__(self, limits: PostLimits, *, seconds: Seconds = time.monotonic) -> None:
        def buckets(rate: Rate | None) -> Buckets | None:
            return Buckets(rate, remembered=limits.remembered, seconds=seconds) if rate is not None else None

        self._visitors = buckets(limits.visitor)
        self._addresses = buckets(limits.address)
        self._asserted = buckets(limits.asserted)
        self._identities = buckets(limits.identity)
        self._everybody = buckets(limits.everybody)

    def passed(self, request: Request) -> str | None:
        """Return which limit this post is past, "visitor" or "address", or None where it is past none."""
        if not _takes(self._visitors, _visitor(request)):
            return "visitor"
        capture = capture_of(request)
        address = capture.reading().ip() if capture is not None else None
        return None if _takes(self._addresses, _network(address)) else "address"

    def passed_asserting(self, request: Request, lookups: Iterable[str]) -> str | None:
        """Return which limit it is past to assert these identities: "asserted", "identity" or "everybody", or None.

        What one limit refuses is not counted by the next, wider one. Without a visitor nothing is linked, nor counted.
        """
        visitor = _visitor(request)
        if visitor is None:
            return None
        if not _takes(self._asserted, visitor):
            return "asserted"
        if not all(_takes(self._identities, lookup) for lookup in lookups):
            return "identity"
        return None if _takes(self._everybody, "everybody") else "everybody"


def _visitor(request: Request) -> VisitorId | None:
    visit = visit_of(request)
    return visit.visitor.id if visit is not None and visit.visitor is not None else None


def _takes(buckets: Buckets | None, key: Hashable | None) -> bool:
    return buckets is None or key is None or buckets.take(key)


def _network(address: str | None) -> Hashable | None:
    """Return an IPv4 address as it is, of an IPv6 one its /64: all of that is one household's or one phone's."""
    if address is None or ":" not in address:
        return address
    return int(IPv6Address(address)) >> 64
