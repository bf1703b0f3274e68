"""A destination's token in one process: asked for by one caller at a time, renewed early, dropped when refused."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import httpx

from kit.delivery.lease import Steady
from kit.destinations.base import Authentication, Judgement, Token, masked
from kit.destinations.wire import Exchange
from kit.model import Verdict

#: A token is renewed when a fifth of its life is left, five minutes before its end at the latest (contracts.md 3.2).
_LAST_PART = 0.2
_MARGIN = timedelta(minutes=5)
#: Whatever a vendor says, a token serves for so long: it must not be asked for with each request, nor kept for ever.
_SHORTEST, _LONGEST = timedelta(seconds=30), timedelta(hours=24)

Ask = Callable[[httpx.Request], Awaitable[Exchange]]


@dataclass(slots=True)
class Kept:
    """A token and what is known of it. `good` says that the vendor took a request that carried it."""

    token: Token
    renew_at: float
    good: bool = False


@dataclass(slots=True)
class Credential:
    """Keeps one token. It outlives the lanes; each of them brings its own lock, for locks belong to an event loop."""

    kept: Kept | None = field(default=None, repr=False)
    failures: int = 0
    failure: Judgement | None = None

    def drop(self, kept: Kept) -> None:
        """Forget a token that was refused, unless another has taken its place already."""
        if self.kept is kept:
            self.kept = None

    async def get(
        self, authentication: Authentication, ask: Ask, *, lock: asyncio.Lock, steady: Steady, now: datetime
    ) -> Kept | Judgement:
        """Return the token, asking for one where there is none; or what the answer, or its absence, means."""
        if (kept := self._fresh(steady)) is not None:
            return kept
        before = self.failures
        async with lock:
            if (kept := self._fresh(steady)) is not None:
                return kept
            # Whoever waited while another was refused is refused with it: the vendor was asked just now.
            if self.failure is not None and self.failures != before:
                return self.failure
            found = _read(authentication, await ask(authentication.ask()), now=now)
            if isinstance(found, Judgement):
                self.failures, self.failure = self.failures + 1, found
                return found
            self.kept = Kept(found, steady() + _serves(found).total_seconds())
            return self.kept

    def _fresh(self, steady: Steady) -> Kept | None:
        return self.kept if self.kept is not None and steady() < self.kept.renew_at else None


def _serves(token: Token) -> timedelta:
    return min(max(token.lifetime - max(token.lifetime * _LAST_PART, _MARGIN), _SHORTEST), _LONGEST)


def _read(authentication: Authentication, exchange: Exchange, *, now: datetime) -> Token | Judgement:
    if exchange.answer is None:
        if exchange.certificate:
            return Judgement(verdict=Verdict.SETUP, detail=masked(f"token: certificate: {exchange.certificate}"))
        # Without a token nothing of ours was sent, whatever became of the question.
        return Judgement(verdict=Verdict.NOT_SENT, detail=f"token: {exchange.error}")
    try:
        found = authentication.read(exchange.answer, now=now)
        # No delivery can be wrong in a question that carries none.
        wrong = isinstance(found, Judgement) and found.verdict in {Verdict.INVALID, Verdict.OVERSIZE, Verdict.OK}
        return replace(found, verdict=Verdict.SETUP) if isinstance(found, Judgement) and wrong else found
    except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
        return Judgement(verdict=Verdict.SETUP, detail=f"token: not readable ({type(error).__name__})")
