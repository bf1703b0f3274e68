"""A lane: one destination's deliveries, from the claim to what became of them."""

import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from kit.consent import told_of
from kit.delivery.owner import is_dead
from kit.delivery.retry import Dice, expired, gate_after, settle
from kit.destinations.base import Answer, Destination, Judgement, Sending
from kit.destinations.wire import Exchange, LeaseLost, Wire
from kit.errors import StoreUnavailable
from kit.model import Clock, Consent, DeliveryState, Dispatch, Mode, Verdict
from kit.store import Store
from kit.store.outbox import (
    Claim,
    Claimed,
    Closing,
    Opening,
    Settlement,
    Takeover,
    claim,
    claim_lapsed,
    close,
    open_attempts,
    owners,
)

log = logging.getLogger("kit")

#: The longest that one request may take, the answer's body included.
DEADLINE = timedelta(seconds=20)
LEASE = 3 * DEADLINE + timedelta(seconds=10)
#: A request is sent only while its lease outlasts the request by this much.
MARGIN = timedelta(seconds=2)

_CLAIM = 100
_STORE_AGAIN = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Ready:
    """A claimed delivery with its frozen body."""

    claimed: Claimed
    sending: Sending


class Lane:
    """One destination's deliveries in one worker. `clock` and `dice` are arguments, so that tests hold both."""

    def __init__(
        self,
        destination: Destination,
        *,
        store: Store,
        may_send: Callable[[Consent], bool],
        clock: Clock,
        dice: Dice,
        owner: str,
    ) -> None:
        self.destination = destination
        self._store = store
        self._may_send = may_send
        self._clock = clock
        self._dice = dice
        self._owner = owner
        self._wire = Wire(max_connections=destination.max_in_flight, deadline=DEADLINE)
        self._slots = asyncio.Semaphore(destination.max_in_flight)
        self._gated_until: datetime | None = None
        self._stopping = False

    def stop(self) -> None:
        """Send nothing more that is not under way; what was claimed for it is handed back."""
        self._stopping = True

    async def aclose(self) -> None:
        """Close the connections."""
        await self._wire.aclose()

    async def claim(self) -> list[list[Ready]]:
        """Claim what is due, settle what must not be sent, and return the rest as one list for each request."""
        while True:
            now = self._clock()
            claimed = await self._store.write(claim, self._asked(now))
            prepared = [self._prepare(one, now=now) for one in claimed]
            settled = [one for one in prepared if isinstance(one, Settlement)]
            ready = [one for one in prepared if isinstance(one, Ready)]
            if settled:
                await self._settle_unsent(settled, probe=claimed[0].probe)
            if ready or not claimed:
                return list(_batches(self.destination, ready))

    def _asked(self, now: datetime) -> Claim:
        shadow = self.destination.mode == Mode.SHADOW
        name = self.destination.name
        return Claim(destination=name, limit=_CLAIM, owner=self._owner, lease=LEASE, now=now, ungated=shadow)

    def _prepare(self, one: Claimed, *, now: datetime) -> Ready | Settlement:
        """Return the delivery ready to be sent, or why it is not sent."""
        if not self._may_send(one.consent):
            return _unsent(one, "consent", told_of(one.consent), curable=True)
        if expired(one, now=now):
            return _dead(one, "expired", "older than the retry horizon")
        dispatch = Dispatch(event_id=one.event_id, at=one.at, conversion=one.conversion, identifiers=one.identifiers)
        try:
            skip = self.destination.check(dispatch, now=now)
            if skip is not None:
                return _unsent(one, skip.code, skip.detail, curable=skip.curable)
            frozen = one.payload if one.attempt is not None else None
            sending = _sending(one, frozen or _encoded(self.destination.payload(dispatch, now=now)))
            self.destination.build([sending])
        except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
            log.error("a destination cannot build this delivery", extra=named(self.destination, one, error))
            return _dead(one, "unmappable", type(error).__name__)
        if self.destination.mode == Mode.SHADOW or one.conversion.test:
            detail = "a test conversion" if one.conversion.test else "the destination is in shadow mode"
            return _unsent(one, "shadow", detail, payload=sending.payload)
        return Ready(one, sending)

    async def _settle_unsent(self, settlements: Iterable[Settlement], *, probe: int | None) -> None:
        closing = Closing(
            destination=self.destination.name,
            attempt=None,
            outcome=Verdict.NOT_SENT,
            settlements=tuple(settlements),
            probe=probe,
            now=self._clock(),
        )
        await self._store.write(close, closing)

    async def _hand_back(self, batch: Sequence[Ready]) -> None:
        """Make claimed deliveries free again, as if they had never been claimed."""
        await self._settle_unsent((_released(each.claimed) for each in batch), probe=batch[0].claimed.probe)

    async def send(self, batch: Sequence[Ready]) -> None:
        """Send one request when a slot is free, unless it should not be sent any more by then."""
        async with self._slots:
            now = self._clock()
            gated = self._gated_until is not None and now < self._gated_until
            if self._stopping or gated or not self._outlasts(batch, now):
                await self._hand_back(batch)
            else:
                await self._attempt(batch)

    def _outlasts(self, batch: Sequence[Ready], now: datetime) -> bool:
        return now + DEADLINE + MARGIN < min(each.claimed.lease_until for each in batch)

    async def _attempt(self, batch: Sequence[Ready]) -> None:
        """Commit an open attempt, send, judge, and write down what became of it."""
        sendings = [each.sending for each in batch]
        request = self.destination.build(sendings)
        opening = Opening(
            destination=self.destination.name,
            deliveries=tuple(each.claimed for each in batch),
            payloads={each.claimed.delivery_id: each.sending.payload for each in batch},
            now=self._clock(),
        )
        attempt = await self._store.write(open_attempts, opening)
        if attempt is None:
            await self._hand_back(batch)
            return
        exchange = await self._wire.send(request, lease=lambda: self._outlasts(batch, self._clock()))
        judgements = _judged(self.destination, sendings, exchange, now=self._clock())
        closing = self._closing(attempt, batch, exchange, judgements)
        if closing.gate is not None:
            self._gated_until = max(closing.gate.until, self._gated_until or closing.gate.until)
        elif closing.judged and closing.probe is not None:
            self._gated_until = None
        await self._close(closing, until=min(each.claimed.lease_until for each in batch))

    def _closing(
        self,
        attempt: int,
        batch: Sequence[Ready],
        exchange: Exchange,
        judgements: Sequence[Judgement],
    ) -> Closing:
        now, worst = self._clock(), _worst(judgements)
        smaller = _smaller(self.destination, len(batch), exchange.answer)
        settlements = [
            settle(
                ready.claimed,
                judgement,
                alone=len(batch) == 1,
                smaller=smaller,
                repeat_is_safe=self.destination.repeat_is_safe(ready.sending, now=now),
                now=now,
                dice=self._dice,
            )
            for ready, judgement in zip(batch, judgements, strict=True)
        ]
        return Closing(
            destination=self.destination.name,
            attempt=attempt,
            outcome=worst.verdict,
            status=exchange.answer.status if exchange.answer else None,
            detail=worst.detail or None,
            settlements=tuple(settlements),
            # A lease that was lost says nothing about the vendor.
            gate=None if exchange.error == LeaseLost.__name__ else gate_after(worst, now=now, dice=self._dice),
            judged=worst.verdict in {Verdict.OK, Verdict.INVALID, Verdict.OVERSIZE},
            probe=batch[0].claimed.probe,
            now=now,
        )

    async def _close(self, closing: Closing, *, until: datetime) -> None:
        """Write the outcome, again and again while the lease lasts: an answer that was heard must not be lost."""
        while True:
            try:
                await self._store.write(close, closing)
            except StoreUnavailable:
                if self._clock() > until:
                    raise
                await asyncio.sleep(_STORE_AGAIN.total_seconds())
            else:
                return

    async def free_lapsed(self) -> None:
        """Take over what a dead worker holds and what any held past its lease; an open attempt's outcome is unknown."""
        now, name = self._clock(), self.destination.name
        held = await self._store.read(lambda connection: owners(connection, name))
        dead = tuple(owner for owner in held if is_dead(owner))
        asked = Takeover(destination=name, limit=_CLAIM, owner=self._owner, lease=LEASE, now=now, dead=dead)
        for one in await self._store.write(claim_lapsed, asked):
            judgement = Judgement(verdict=Verdict.UNKNOWN, detail="its worker ended while it was under way")
            sending = _sending(one, one.payload or b"")
            settlement = _released(one)
            if one.orphaned:
                safe = self.destination.repeat_is_safe(sending, now=now)
                settlement = settle(
                    one, judgement, alone=True, smaller=None, repeat_is_safe=safe, now=now, dice=self._dice
                )
            closing = Closing(
                destination=self.destination.name,
                attempt=one.attempt if one.orphaned else None,
                outcome=Verdict.UNKNOWN,
                detail=judgement.detail,
                settlements=(replace(settlement, crashed=one.orphaned),),
                now=now,
            )
            await self._store.write(close, closing)


# ---------------------------------------------------------------- pure pieces


def _encoded(payload: object) -> bytes:
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _sending(one: Claimed, payload: bytes) -> Sending:
    return Sending(
        delivery_id=one.delivery_id,
        event_id=one.event_id,
        event_name=one.conversion.name,
        order_id=one.conversion.order_id,
        at=one.at,
        monetary=one.conversion.monetary,
        attempts=one.attempts,
        payload=payload,
    )


def _unsent(one: Claimed, code: str, detail: str, *, curable: bool = False, payload: bytes | None = None) -> Settlement:
    return Settlement(
        delivery_id=one.delivery_id,
        token=one.token,
        state=DeliveryState.SKIPPED,
        reason=code,
        detail=detail or None,
        payload=payload,
        curable=curable,
        revision=one.revision,
    )


def _dead(one: Claimed, reason: str, detail: str) -> Settlement:
    return Settlement(
        delivery_id=one.delivery_id, token=one.token, state=DeliveryState.DEAD, reason=reason, detail=detail
    )


def _released(one: Claimed) -> Settlement:
    return Settlement(delivery_id=one.delivery_id, token=one.token, state=DeliveryState.PENDING)


def _batches(destination: Destination, ready: Iterable[Ready]) -> Iterable[list[Ready]]:
    """Group deliveries of one limit, in their order, no batch larger than its limit."""
    filling: dict[int, list[Ready]] = {}
    for one in ready:
        limit = min(destination.batch_limit(one.sending), one.claimed.batch_limit or _CLAIM)
        batch = filling.setdefault(limit, [])
        batch.append(one)
        if len(batch) >= limit:
            yield filling.pop(limit)
    yield from filling.values()


def _judged(
    destination: Destination, sendings: Sequence[Sending], exchange: Exchange, *, now: datetime
) -> Sequence[Judgement]:
    if exchange.answer is None:
        verdict = Verdict.UNKNOWN if exchange.sent else Verdict.NOT_SENT
        return [Judgement(verdict=verdict, detail=exchange.error)] * len(sendings)
    try:
        judgements = destination.judge(sendings, exchange.answer, now=now)
    except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
        log.error("a destination cannot judge an answer", extra=named(destination, error=error))
        judgements = ()
    if len(judgements) != len(sendings):
        return [Judgement(verdict=Verdict.UNKNOWN, detail="the answer could not be judged")] * len(sendings)
    return judgements


def _smaller(destination: Destination, size: int, answer: Answer | None) -> int | None:
    """Return how many to send at once after a batch was refused whole: halves where the vendor tells repeats."""
    if answer is None or size == 1 or (answer.status < 400 and not answer.cut):
        return None
    return size // 2 if destination.splits else 1


#: An attempt is named after the gravest of its deliveries' verdicts.
_GRAVITY = (
    Verdict.OK, Verdict.INVALID, Verdict.OVERSIZE, Verdict.TRANSIENT, Verdict.UNKNOWN,
    Verdict.NOT_SENT, Verdict.THROTTLE, Verdict.SETUP,
)  # fmt: skip


def _worst(judgements: Sequence[Judgement]) -> Judgement:
    return max(judgements, key=lambda judgement: _GRAVITY.index(judgement.verdict))


def named(
    destination: Destination, one: Claimed | None = None, error: BaseException | None = None
) -> Mapping[str, object]:
    """Return what a log line may say: ids, and where an error arose. Never its text, which may repeat what was sent."""
    names: dict[str, object] = {"kit.destination": destination.name}
    if one is not None:
        names["kit.delivery"] = one.delivery_id
    if error is not None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        names["kit.error"] = f"{type(error).__name__} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"
    return names
