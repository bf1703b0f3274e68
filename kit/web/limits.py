"""How often pages may post: token buckets for visitors, addresses and identities, in memory that cannot grow."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import IPv6Address

from starlette.requests import Request

from kit.capture import capture_of, visit_of
from kit.errors import ConfigurationError

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
    """How often collect, identify and track may be posted to, counted in each process. Past one nothing is kept.

    `visitor`     posts of one visitor; 120 a minute: somebody who opens a page a second with an event on each.
    `address`     posts from one client address, an IPv6 one by its /64; 1,200 a minute: an office, or the few hundred
                  phones that a carrier puts behind one address. One that is not global is not counted: it is the shop's
                  own proxy, unnamed in `trusted_proxies`.
    `identity`    posts that assert one e-mail, phone or customer number, of whomever; 120 in ten minutes: a signed-in
                  person's pages say it again and again, and lose nothing by a limit, for the link is there.
    `remembered`  how many of each are remembered; 32,768, which is 8 MiB. Who was longest silent is forgotten first.

    None sets no limit.
    """

    visitor: Rate | None = Rate(posts=120, per=timedelta(minutes=1))
    address: Rate | None = Rate(posts=1_200, per=timedelta(minutes=1))
    identity: Rate | None = Rate(posts=120, per=timedelta(minutes=10))
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
        self._identities = buckets(limits.identity)

    def passed(self, request: Request) -> str | None:
        """Return which limit this post is past, "visitor" or "address", or None where it is past none."""
        visit = visit_of(request)
        if not _takes(self._visitors, visit.visitor.id if visit is not None and visit.visitor is not None else None):
            return "visitor"
        capture = capture_of(request)
        address = capture.reading().ip() if capture is not None else None
        return None if _takes(self._addresses, _network(address)) else "address"

    def may_assert(self, lookups: Iterable[str]) -> bool:
        """Return whether all of these identities may be told of once more."""
        return all(_takes(self._identities, lookup) for lookup in lookups)


def _takes(buckets: Buckets | None, key: Hashable | None) -> bool:
    return buckets is None or key is None or buckets.take(key)


def _network(address: str | None) -> Hashable | None:
    """Return an IPv4 address as it is, of an IPv6 one its /64: all of that is one household's or one phone's."""
    if address is None or ":" not in address:
        return address
    return int(IPv6Address(address)) >> 64
