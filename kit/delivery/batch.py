"""What one request carries: deliveries with frozen bodies, which may share it, and what its answer means for each."""

import dataclasses
import hashlib
import logging
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx

from kit.consent import told_of
from kit.delivery.lease import Lease
from kit.delivery.retry import POISON, SUSPECT, expired, with_remarks
from kit.destinations.base import Answer, Destination, Judgement, Sending, encoded, masked, skip_of
from kit.destinations.wire import Exchange
from kit.model import Consent, DeliveryState, Dispatch, Mode, Verdict
from kit.store.attempts import Settlement
from kit.store.outbox import Claimed
from kit.store.tombstones import ERASED

log = logging.getLogger("kit")

#: How many deliveries one claim takes, and no request carries more.
LARGEST = 100


@dataclass(frozen=True, slots=True)
class Ready:
    """A claimed delivery with its frozen body, which is another than the one before where it was `rewritten`.

    `limit` is how many a request with it may carry; `remarks` stay with it when it is delivered.
    """

    claimed: Claimed
    sending: Sending
    lease: Lease
    limit: int = 1
    rewritten: bool = False
    remarks: Sequence[str] = ()


def prepared(
    destination: Destination,
    one: Claimed,
    lease: Lease,
    *,
    may_send: Callable[[Consent], bool],
    now: datetime,
) -> Ready | Settlement:
    """Return the delivery ready to be sent, or why it is not sent."""
    if one.consent.signal == ERASED:
        return _unsent(one, ERASED, "the person was erased")
    if not may_send(one.consent):
        return _unsent(one, "consent", told_of(one.consent), curable=True)
    if expired(one, now=now, horizon=destination.horizon):
        return _dead(one, "expired", "older than the retry horizon")
    try:
        whole = Dispatch(event_id=one.event_id, at=one.at, conversion=one.conversion, identifiers=one.identifiers)
        dispatch = destination.within_window(whole)
        if not destination.allows(one.consent):
            return _unsent(one, "consent", told_of(one.consent), curable=True)
        if not destination.wants(dispatch):
            return _unsent(one, "policy", "takes= leaves this event out")
        skip = skip_of(destination, dispatch, whole, now=now)
        if skip is not None:
            return _unsent(one, skip.code, skip.detail, curable=skip.curable)
        frozen = one.payload if one.attempt is not None or not destination.reports else None
        keeps = frozen is not None and destination.keeps(frozen)
        body = frozen if keeps and frozen else encoded(destination.payload(dispatch, now=now))
        remarks = destination.remarks(dispatch, now=now)
        sending = sending_of(one, body)
        limit = min(max(destination.batch_limit(sending), 1), LARGEST)
        shadow = destination.mode == Mode.SHADOW or one.conversion.test
        if shadow:
            destination.build([sending])
    except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
        return _unmappable(destination, one, error)
    if shadow:
        detail = "a test conversion" if one.conversion.test else "the destination is in shadow mode"
        return _unsent(one, "shadow", with_remarks(detail, remarks), payload=sending.payload)
    return Ready(one, sending, lease, limit, rewritten=frozen is not None and not keeps, remarks=remarks)


def batches(destination: Destination, ready: Iterable[Ready]) -> Iterable[list[Ready]]:
    """Group deliveries of one limit, in their order, no batch larger than its limit nor than a request may be."""
    room = (destination.largest_request or sys.maxsize) - _AROUND
    filling: dict[int, list[Ready]] = {}
    filled: dict[int, int] = {}
    for one in ready:
        own = 1 if one.claimed.crashes >= SUSPECT else one.claimed.batch_limit or LARGEST
        limit, length = min(one.limit, own), len(one.sending.payload) + 1
        batch = filling.setdefault(limit, [])
        if batch and filled[limit] + length > room:
            yield batch
            batch = filling[limit] = []
        batch.append(one)
        filled[limit] = length if len(batch) == 1 else filled[limit] + length
        if len(batch) >= limit:
            yield filling.pop(limit)
    yield from filling.values()


#: What a request may hold besides the bodies of its deliveries, in bytes.
_AROUND = 1024


def built(destination: Destination, batch: Sequence[Ready]) -> httpx.Request | list[Settlement]:
    """Return the request, or where its deliveries go: of many that cannot be built together, each is tried alone."""
    try:
        return destination.build([each.sending for each in batch])
    except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
        if len(batch) == 1:
            return [_unmappable(destination, batch[0].claimed, error)]
        return [dataclasses.replace(released(each.claimed), batch_limit=1) for each in batch]


def sending_of(one: Claimed, payload: bytes) -> Sending:
    return Sending(
        delivery_id=one.delivery_id,
        event_id=one.event_id,
        event_name=one.conversion.name,
        order_id=one.conversion.order_id,
        at=one.at,
        monetary=one.conversion.monetary,
        attempts=one.attempts,
        refused=one.refused,
        in_doubt=one.in_doubt,
        payload=payload,
    )


def released(one: Claimed) -> Settlement:
    """Return the delivery's way back, as if it had never been claimed."""
    return Settlement(delivery_id=one.delivery_id, token=one.token, state=DeliveryState.PENDING)


def outlived(one: Claimed) -> Settlement:
    """Return the way back of a delivery whose worker ended before it was sent. Five in a row: building it kills."""
    if not one.abandoned:
        return released(one)
    if one.lost + 1 >= POISON:
        return _dead(one, "poison", f"{POISON} workers ended while they prepared it")
    return dataclasses.replace(released(one), lost=True)


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


def _unmappable(destination: Destination, one: Claimed, error: Exception) -> Settlement:
    log.error("a destination cannot build this delivery", extra=named(destination, one, error))
    return _dead(one, "unmappable", type(error).__name__)


def _dead(one: Claimed, reason: str, detail: str) -> Settlement:
    return Settlement(
        delivery_id=one.delivery_id, token=one.token, state=DeliveryState.DEAD, reason=reason, detail=detail
    )


# ---------------------------------------------------------------- what came back


def judged(
    destination: Destination, sendings: Sequence[Sending], exchange: Exchange, *, now: datetime
) -> Sequence[Judgement]:
    """Return what the exchange means for each delivery: without an answer the send mark decides."""
    if exchange.answer is None:
        return [_judged_silence(exchange)] * len(sendings)
    try:
        judgements = list(destination.judge(sendings, exchange.answer, now=now))
    except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
        log.error("a destination cannot judge an answer", extra=named(destination, error=error))
        judgements = []
    if len(judgements) != len(sendings) or not all(isinstance(each, Judgement) for each in judgements):
        return [Judgement(verdict=Verdict.UNKNOWN, detail="the answer could not be judged")] * len(sendings)
    return judgements


def _judged_silence(exchange: Exchange) -> Judgement:
    if exchange.sent:
        return Judgement(verdict=Verdict.UNKNOWN, detail=exchange.error)
    if exchange.certificate:
        return Judgement(verdict=Verdict.SETUP, detail=masked(f"certificate: {exchange.certificate}"))
    return Judgement(verdict=Verdict.NOT_SENT, detail=exchange.error)


def smaller(destination: Destination, size: int, answer: Answer | None) -> int | None:
    """Return how many to send at once after a batch was refused whole: halves where the vendor tells repeats."""
    if answer is None or size == 1 or (answer.status < 400 and not answer.cut):
        return None
    return size // 2 if destination.splits else 1


#: An attempt is named after the gravest of its deliveries' verdicts.
_GRAVITY = (
    Verdict.OK, Verdict.INVALID, Verdict.OVERSIZE, Verdict.TRANSIENT, Verdict.UNKNOWN,
    Verdict.NOT_SENT, Verdict.THROTTLE, Verdict.SETUP,
)  # fmt: skip


def worst(judgements: Sequence[Judgement]) -> Judgement:
    return max(judgements, key=lambda judgement: _GRAVITY.index(judgement.verdict))


# ---------------------------------------------------------------- whose it is


def fingerprint(destination: Destination) -> str:
    """Return four characters that change with the destination's set-up: too few to try a guessed token against."""
    said = [(field.name, _steady(getattr(destination, field.name))) for field in dataclasses.fields(destination)]
    return hashlib.sha256(repr(said).encode()).hexdigest()[:4]


def _steady(value: object) -> object:
    """Return a value whose repr is the same in each process: a set has another order, a function another address."""
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    return getattr(value, "__qualname__", type(value).__qualname__) if callable(value) else value


def repeat_is_safe(destination: Destination, sending: Sending, *, now: datetime) -> bool:
    """Return what the destination says; where it cannot say, a person has to."""
    try:
        return destination.repeat_is_safe(sending, now=now)
    except Exception as error:  # noqa: BLE001 - a destination may be the shop's own code
        log.error("a destination cannot tell whether a repeat is safe", extra=named(destination, error=error))
        return False


def named(
    destination: Destination | None, one: Claimed | None = None, error: BaseException | None = None
) -> Mapping[str, object]:
    """Return what a log line may say: ids, and where an error arose. Never its text, which may repeat what was sent."""
    names: dict[str, object] = {} if destination is None else {"kit.destination": destination.name}
    if one is not None:
        names["kit.delivery"] = one.delivery_id
    if error is not None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        names["kit.error"] = f"{type(error).__name__} in {frame.name}, {Path(frame.filename).name}:{frame.lineno}"
    return names
