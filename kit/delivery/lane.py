"""A lane: one destination's deliveries, from the claim to what became of them."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Callable, Iterable, Sequence, Set
from datetime import datetime, timedelta
from functools import partial
from http import HTTPStatus
from weakref import WeakSet

import httpx

from kit.delivery.answers import Answers
from kit.delivery.batch import (
    LARGEST,
    Ready,
    batches,
    built,
    fingerprint,
    judged,
    outlived,
    prepared,
    released,
    repeat_is_safe,
    sending_of,
    smaller,
    worst,
)
from kit.delivery.credential import Credential, Kept
from kit.delivery.lease import DEADLINE, LEASE, Lease, Steady, steady_now
from kit.delivery.owner import is_dead
from kit.delivery.pace import JUDGED, Pace, Slots, Spacing, Turn, turns
from kit.delivery.retry import LONGEST_THROTTLE, PROBE_EVERY, SUSPECT, Dice, gate_after, settle
from kit.destinations.base import Destination, Judgement
from kit.destinations.wire import Exchange, LeaseLost, Wire
from kit.errors import StoreUnavailable
from kit.model import Clock, Consent, Mode, Verdict
from kit.store import Store
from kit.store.answers import keep_answers
from kit.store.attempts import Closing, Opening, Settlement, close, open_attempts
from kit.store.gates import Gate, Probe
from kit.store.outbox import (
    Bounds,
    Claim,
    Claimed,
    Renewal,
    Takeover,
    absolve,
    claim,
    claim_lapsed,
    owners,
    pull_back,
    renew,
)

_STORE_AGAIN = timedelta(seconds=1)
#: How many requests are claimed for each that may be under way, where each carries one delivery.
_AHEAD = 4
#: How many deliveries are looked at in one turn of the event loop: a hundred take as long as many pages.
_STRETCH = 10
#: How many requests are under way whose repeat the vendor could not tell: what one kill can leave in doubt.
_IN_DOUBT = 4


class Lane:
    """One destination's deliveries in one worker.

    `clock`, `steady` and `dice` are arguments, so that tests hold them; `pace` and `credential` outlive the lane where
    they are given.
    """

    def __init__(
        self,
        destination: Destination,
        *,
        store: Store,
        may_send: Callable[[Consent], bool],
        clock: Clock,
        dice: Dice,
        owner: str,
        steady: Steady = steady_now,
        pace: Pace | None = None,
        credential: Credential | None = None,
    ) -> None:
        self.destination = destination
        self._store = store
        self._may_send = may_send
        self._clock = clock
        self._steady = steady
        self._dice = dice
        self._owner = owner
        self._pace = pace or Pace()
        self._credential = credential or Credential()
        self._asking = asyncio.Lock()
        self._stop = asyncio.Event()
        self._spacing = Spacing(destination.requests_per_second, sleep=self._pause)
        self._answers = Answers(destination)
        self._wire = Wire(max_connections=destination.max_in_flight, deadline=DEADLINE)
        self._slots = Slots(destination.max_in_flight)
        self._in_doubt = turns(_IN_DOUBT)
        self._leases = WeakSet[Lease]()
        self._waiting: dict[int, Sequence[Ready]] = {}
        #: Attempts whose outcome the store did not take at first; nothing begins before it does.
        self._unwritten = set[int | None]()
        self._writes = asyncio.Event()
        self._writes.set()
        self._fingerprint = fingerprint(destination)
        alone = type(destination).batch_limit is Destination.batch_limit
        self._limit = self._next_limit(()) if alone else LARGEST
        self._begins = True
        self._stopping = False

    async def stop(self) -> None:
        """Send nothing more that is not under way, and hand back what was claimed for it."""
        self._stopping = True
        self._stop.set()
        waiting, self._waiting = self._waiting, {}
        if waiting:
            await asyncio.gather(*(self._hand_back(batch) for batch in waiting.values()))

    async def aclose(self) -> None:
        """Write what is left to write of the answers' shapes, and close the connections."""
        with contextlib.suppress(StoreUnavailable):
            await self._keep_answers()
        await self._wire.aclose()

    # ------------------------------------------------------------ claim

    async def claim(self) -> list[list[Ready]]:
        """Claim what is due, settle what must not be sent, and return the rest as one list for each request."""
        while True:
            now, steady = self._clock(), self._steady()
            claimed = await self._store.write(claim, self._asked(now))
            if not claimed:
                return []
            self._begins = False
            lease = Lease(claimed[0].token, {one.delivery_id for one in claimed}, now + LEASE, _lapses(steady))
            self._leases.add(lease)
            looked_at = [one async for one in self._looked_at(claimed, lease, now)]
            settled = [one for one in looked_at if isinstance(one, Settlement)]
            ready = [one for one in looked_at if isinstance(one, Ready)]
            if settled:
                try:
                    await self._settle_unsent(settled, probe=claimed[0].probe)
                except StoreUnavailable:
                    # They are found again when their lease ends; what is ready need not wait for that.
                    if not ready:
                        raise
            if ready:
                self._limit = self._next_limit(ready)
                found = list(batches(self.destination, ready))
                await self._absolve(found)
                return found

    async def _looked_at(
        self, claimed: Sequence[Claimed], lease: Lease, now: datetime
    ) -> AsyncIterator[Ready | Settlement]:
        """Yield what becomes of each; the event loop, which may be the shop's, has its turn every few."""
        for place, one in enumerate(claimed):
            if place % _STRETCH == _STRETCH - 1:
                await asyncio.sleep(0)
            yield prepared(self.destination, one, lease, may_send=self._may_send, now=now)

    async def _absolve(self, batches: Sequence[Sequence[Ready]]) -> None:
        """Where workers ended over a delivery before they sent it: say that building it is not what killed them."""
        suspects = [batch for batch in batches if any(each.claimed.lost >= SUSPECT for each in batch)]
        for batch in suspects:
            built(self.destination, batch)
            await self._store.write(absolve, [each.claimed.delivery_id for each in batch])

    def _next_limit(self, ready: Iterable[Ready]) -> int:
        """Return how many to claim next: of what goes one by one no more than soon, other workers have time too."""
        if any(one.limit > 1 for one in ready):
            return LARGEST
        return min(LARGEST, _AHEAD * self.destination.max_in_flight)

    def _asked(self, now: datetime) -> Claim:
        return Claim(
            destination=self.destination.name,
            limit=self._limit,
            owner=self._owner,
            lease=LEASE,
            now=now,
            ungated=self.destination.mode == Mode.SHADOW,
            fingerprint=self._fingerprint if self._begins else None,
        )

    async def _settle_unsent(
        self, settlements: Iterable[Settlement], *, probe: Probe | None, gate: Gate | None = None
    ) -> None:
        closing = Closing(
            destination=self.destination.name,
            attempt=None,
            outcome=Verdict.NOT_SENT,
            settlements=tuple(settlements),
            gate=gate,
            probe=probe,
            now=self._clock(),
        )
        await self._store.write(close, closing)

    async def _hand_back(self, batch: Sequence[Ready], gate: Gate | None = None) -> None:
        """Make claimed deliveries free again, as if they had never been claimed."""
        await self._settle_unsent((released(each.claimed) for each in batch), probe=batch[0].claimed.probe, gate=gate)

    # ------------------------------------------------------------ send

    async def send(self, batch: Sequence[Ready]) -> None:
        """Send one request when it is its turn, unless it should not be sent any more by then."""
        if self._stopping:
            await self._hand_back(batch)
            return
        self._waiting[id(batch)] = batch
        written = None
        if self._repeats_are_safe(batch):
            written = await self._send_in_turn(batch)
        else:
            turn = await self._in_doubt.get()
            try:
                written = await self._send_in_turn(batch, turn)
            finally:
                self._in_doubt.put_nowait(turn)
        if written is not None:
            await written

    async def _send_in_turn(self, batch: Sequence[Ready], turn: Turn | None = None) -> asyncio.Task[None] | None:
        """Send and return the writing of what became of it, which has begun; None when nothing was tried."""
        suspect = any(each.claimed.crashes >= SUSPECT for each in batch)
        async with self._slots.one(alone=lambda: suspect or not self._pace.proven):
            await self._writes.wait()
            if id(batch) in self._waiting and not batch[0].lease.gated:
                await self._spacing.wait()
            if self._waiting.pop(id(batch), None) is None:
                return None  # handed back by `stop`
            if batch[0].lease.gated or not self._outlasts(batch):
                await self._hand_back(batch)
                return None
            closing = await self._attempt(batch, turn)
            if closing is None:
                return None
            # Queued before the next one's opening, so that both are written in one transaction.
            written = asyncio.create_task(self._close(closing, batch[0].lease))
            if turn is not None:
                turn.attempt, turn.written = closing.attempt, written
            return written

    def _repeats_are_safe(self, batch: Sequence[Ready]) -> bool:
        now = self._clock()
        return all(repeat_is_safe(self.destination, each.sending, now=now) for each in batch)

    def _outlasts(self, batch: Sequence[Ready]) -> bool:
        return self._lasts(batch[0].lease, {each.claimed.delivery_id for each in batch})

    def _lasts(self, lease: Lease, deliveries: Set[int]) -> bool:
        return lease.outlasts(deliveries, now=self._clock(), steady=self._steady())

    async def _attempt(self, batch: Sequence[Ready], turn: Turn | None) -> Closing | None:
        """Commit an open attempt, send, judge, and return what is to be written down; None when nothing was tried."""
        request = built(self.destination, batch)
        if isinstance(request, list):
            await self._settle_unsent(request, probe=batch[0].claimed.probe)
            return None
        kept = await self._signed(request)
        if isinstance(kept, Judgement):
            # Nothing was sent of them; the destination waits, or each would ask for a token anew.
            # Of a stop, which closes the connections, nothing can be told about the vendor.
            probe = batch[0].claimed.probe
            gate = (
                None
                if self._stopping
                else gate_after(kept, now=self._clock(), dice=self._dice, probe=probe, failing=True)
            )
            self._gated(gate)
            await self._hand_back(batch, self._marked(gate))
            return None
        opening = Opening(
            destination=self.destination.name,
            deliveries=tuple(each.claimed for each in batch),
            payloads={each.claimed.delivery_id: each.sending.payload for each in batch},
            now=self._clock(),
            after=turn.unwritten if turn is not None else None,
            rewritten=frozenset(each.claimed.delivery_id for each in batch if each.rewritten),
        )
        attempt = await self._store.write(open_attempts, opening)
        if attempt is None and opening.after is not None and turn is not None:
            await turn.ended()
            if not batch[0].lease.gated and self._outlasts(batch):
                opening = dataclasses.replace(opening, after=None, now=self._clock())
                attempt = await self._store.write(open_attempts, opening)
        if attempt is None:
            await self._hand_back(batch)
            return None
        # Asked again and again, right before each byte.
        asked = partial(self._lasts, batch[0].lease, set(opening.payloads))
        exchange = await self._wire.send(request, lease=asked)
        if exchange.answer is not None:
            self._answers.saw(exchange.answer, now=self._clock())
        closing = self._closing(attempt, batch, exchange, run_out=self._has_run_out(kept, exchange))
        self._gated(closing.gate)
        return closing

    def _gated(self, gate: Gate | None) -> None:
        if gate is not None:
            self._pace.gated()
            for lease in self._leases:
                lease.gated = True

    async def _pause(self, seconds: float) -> None:
        """Wait, unless the lane stops before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()

    async def _signed(self, request: httpx.Request) -> Kept | Judgement | None:
        """Put the token into the request where this destination has one; a failure to get it is a judgement."""
        authentication = self.destination.authentication
        if authentication is None:
            return None
        kept = await self._credential.get(
            authentication,
            lambda asked: self._wire.send(asked, lease=lambda: True),
            lock=self._asking,
            steady=self._steady,
            now=self._clock(),
        )
        if isinstance(kept, Kept):
            authentication.sign(request, kept.token)
        return kept

    def _has_run_out(self, kept: Kept | None, exchange: Exchange) -> bool:
        """Return whether a token that was good is refused: it ran out early, and the next try asks for another."""
        if kept is None or exchange.answer is None:
            return False
        if exchange.answer.status != HTTPStatus.UNAUTHORIZED:
            kept.good = kept.good or exchange.answer.status != HTTPStatus.FORBIDDEN
            return False
        self._credential.drop(kept)
        return kept.good

    def _closing(self, attempt: int, batch: Sequence[Ready], exchange: Exchange, *, run_out: bool) -> Closing:
        now = self._clock()
        judgements = judged(self.destination, [each.sending for each in batch], exchange, now=now)
        if run_out:
            judgements = [Judgement(verdict=Verdict.NOT_SENT, detail="its token had run out")] * len(batch)
        fewer = smaller(self.destination, len(batch), exchange.answer)
        settlements = [
            settle(
                ready.claimed,
                judgement,
                alone=len(batch) == 1,
                smaller=fewer,
                repeat_is_safe=repeat_is_safe(self.destination, ready.sending, now=now),
                now=now,
                dice=self._dice,
                horizon=self.destination.horizon,
                longest=self.destination.longest_wait,
                remarks=ready.remarks,
            )
            for ready, judgement in zip(batch, judgements, strict=True)
        ]
        probe, gravest = batch[0].claimed.probe, worst(judgements)
        # A lease that was lost says nothing about the vendor, nor does a token that had its day.
        quiet = run_out or exchange.error == LeaseLost.__name__
        gate = None if quiet else self._gate(judgements, probe, now=now)
        return Closing(
            destination=self.destination.name,
            attempt=attempt,
            outcome=gravest.verdict,
            status=exchange.answer.status if exchange.answer else None,
            detail=gravest.detail or None,
            settlements=tuple(settlements),
            gate=gate,
            judged=gate is None and any(each.verdict in JUDGED for each in judgements),
            probe=probe,
            now=now,
        )

    def _gate(self, judgements: Sequence[Judgement], probe: Probe | None, *, now: datetime) -> Gate | None:
        gravest = worst(judgements)
        looked_at = next((each.verdict for each in judgements if each.verdict in JUDGED), None)
        failing = self._pace.saw(looked_at or gravest.verdict) or (probe is not None and looked_at is None)
        return self._marked(gate_after(gravest, now=now, dice=self._dice, probe=probe, failing=failing))

    def _marked(self, gate: Gate | None) -> Gate | None:
        return dataclasses.replace(gate, fingerprint=self._fingerprint) if gate is not None else None

    async def _close(self, closing: Closing, lease: Lease) -> None:
        """Write the outcome, again and again while the lease lasts: an answer that was heard must not be lost."""
        try:
            while True:
                try:
                    await self._store.write(close, closing)
                except StoreUnavailable:
                    if self._clock() > lease.until or self._steady() > lease.steady_until:
                        raise
                    self._unwritten.add(closing.attempt)
                    self._writes.clear()
                    await asyncio.sleep(_STORE_AGAIN.total_seconds())
                else:
                    return
        finally:
            self._unwritten.discard(closing.attempt)
            if not self._unwritten:
                self._writes.set()

    # ------------------------------------------------------------ while the worker lives

    async def renew(self) -> bool:
        """Prolong what is claimed and not settled yet; what was lost meanwhile is not sent any more."""
        now, steady, leases = self._clock(), self._steady(), list(self._leases)
        kept = await asyncio.gather(
            *(self._store.write(renew, Renewal(token=lease.token, until=now + LEASE, now=now)) for lease in leases)
        )
        for lease, deliveries in zip(leases, kept, strict=True):
            lease.renewed(deliveries, until=now + LEASE, steady_until=_lapses(steady))
        return True

    async def _keep_answers(self) -> None:
        if seen := self._answers.taken():
            await self._store.write(keep_answers, seen)

    async def sweep(self) -> None:
        """Mend what a stepped clock or a dead worker left behind, and write down how the vendor answered."""
        await self._keep_answers()
        bounds = Bounds(
            destination=self.destination.name,
            retry=self.destination.longest_wait,
            lease=LEASE,
            gate=PROBE_EVERY,
            throttle=LONGEST_THROTTLE,
            clock=self._clock,
        )
        await self._store.write(pull_back, bounds)
        await self.free_lapsed()

    async def free_lapsed(self) -> None:
        """Take over what a dead worker holds and what any held past its lease; an open attempt's outcome is unknown."""
        now, name = self._clock(), self.destination.name
        held = await self._store.read(lambda connection: owners(connection, name))
        dead = tuple(owner for owner in held if is_dead(owner))
        asked = Takeover(destination=name, limit=LARGEST, owner=self._owner, lease=LEASE, now=now, dead=dead)
        attempts: dict[int | None, list[Claimed]] = {}
        for one in await self._store.write(claim_lapsed, asked):
            attempts.setdefault(one.attempt if one.orphaned else None, []).append(one)
        await asyncio.gather(
            *(self._store.write(close, self._taken_over(attempt, found)) for attempt, found in attempts.items())
        )

    def _taken_over(self, attempt: int | None, found: Sequence[Claimed]) -> Closing:
        """Return the end of an attempt that nobody can tell of any more, or of claims without one (None)."""
        now = self._clock()
        judgement = Judgement(verdict=Verdict.UNKNOWN, detail="its worker ended while it was under way")
        settlements = [
            outlived(one)
            if attempt is None
            else settle(
                one,
                judgement,
                alone=True,
                smaller=None,
                repeat_is_safe=repeat_is_safe(self.destination, sending_of(one, one.payload or b""), now=now),
                now=now,
                dice=self._dice,
                horizon=self.destination.horizon,
                longest=self.destination.longest_wait,
                crashed=True,
            )
            for one in found
        ]
        return Closing(
            destination=self.destination.name,
            attempt=attempt,
            outcome=Verdict.UNKNOWN,
            detail=judgement.detail,
            settlements=tuple(settlements),
            now=now,
        )


def _lapses(steady: float) -> float:
    return steady + LEASE.total_seconds()
