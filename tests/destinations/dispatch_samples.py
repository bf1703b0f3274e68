"""Dispatches to test destinations with, and the golden files: a dispatch in, the vendor's request out."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx

from kit.delivery.batch import judged
from kit.delivery.retry import settle
from kit.destinations.base import Answer, Destination, Judgement, Sending, first_sending
from kit.destinations.wire import Exchange
from kit.model import ClickId, Conversion, Dispatch, Identifiers, Verdict
from tests.delivery.test_retry import CLAIMED

NOW = datetime(2026, 1, 15, tzinfo=UTC)
FPC = "0123456789abcdef0123456789abcdef-1700000000000"
GOLDEN = Path(__file__).parent / "golden"


def dispatch(
    conversion: Mapping[str, object] | Conversion | None = None,
    *,
    event_id: str = "e1",
    at: datetime = NOW - timedelta(minutes=2),
    click_ids: Mapping[str, str] | None = None,
    **identifiers: Any,
) -> Dispatch:
    """Return a purchase of order-1, or the given conversion, with these identifiers."""
    given = {"name": "purchase", "order_id": "order-1"} if conversion is None else conversion
    clicks = tuple(ClickId(vendor, value, at) for vendor, value in (click_ids or {}).items())
    return Dispatch(
        event_id=event_id,
        at=at,
        conversion=given if isinstance(given, Conversion) else Conversion.model_validate(given),
        identifiers=Identifiers(click_ids=clicks, **identifiers),
    )


def sending(destination: Destination, told: Dispatch, *, number: int = 1) -> Sending:
    """Return the delivery of this dispatch with its payload frozen."""
    return replace(first_sending(destination, told, now=NOW), delivery_id=number)


def frozen(*event_ids: str, at: datetime = NOW, monetary: bool = True, order_id: str | None = "o") -> list[Sending]:
    """Return deliveries whose payload does not matter."""
    return [
        Sending(
            delivery_id=number,
            event_id=event_id,
            event_name="purchase",
            order_id=order_id,
            at=at,
            monetary=monetary,
            attempts=1,
            payload=b"{}",
        )
        for number, event_id in enumerate(event_ids)
    ]


def answer(status: int, body: object = b"", *, cut: bool = False, **headers: str) -> Answer:
    """Return an answer; a body that is not bytes is written as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()})
    return Answer(status=status, headers=named, body=raw, cut=cut)


def settled(destination: Destination, row: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return state and reason of a delivery whose attempt had no answer: `sent` says whether its bytes had left."""
    (one,) = frozen(
        "a",
        at=NOW - timedelta(minutes=row.get("minutes_ago", 0)),
        monetary=row.get("monetary", True),
        order_id=row.get("order_id", "o"),
    )
    exchange = Exchange(answer=None, sent=row["sent"], error="ReadTimeout")
    (judgement,) = judged(destination, [one], exchange, now=NOW)
    safe = destination.repeat_is_safe(one, now=NOW)
    found = settle(
        CLAIMED, judgement, alone=True, smaller=None, repeat_is_safe=safe, now=CLAIMED.created_at, dice=lambda: 0.5
    )
    return found.state, found.reason


def verdicts(judgements: Sequence[Judgement]) -> list[Verdict]:
    return [judgement.verdict for judgement in judgements]


@dataclass(frozen=True)
class Golden:
    """One golden file: settings of the destination, a dispatch, and the request that must come of it."""

    settings: Mapping[str, Any]
    told: Dispatch
    request: Mapping[str, Any]


def golden(name: str) -> Golden:
    """Return a golden file by its vector's name in contracts.md 9."""
    content = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    told = content["dispatch"]
    at = datetime.fromisoformat(told.pop("at"))
    return Golden(content["settings"], dispatch(told.pop("conversion"), at=at, **told), content["request"])


def as_golden(request: httpx.Request) -> dict[str, object]:
    """Return a request in the form of a golden file; header names in lower case, without Host and Content-Length."""
    headers = {name: text for name, text in request.headers.items() if name not in {"host", "content-length"}}
    return {
        "method": request.method,
        "url": str(request.url),
        "headers": headers,
        "body": json.loads(request.content) if request.content else None,
    }


def ordered(value: object) -> str:
    """Return the JSON text, in which the order of keys counts."""
    return json.dumps(value, ensure_ascii=False, indent=1)
