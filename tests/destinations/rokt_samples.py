"""What the tests of Rokt's surfaces share: a destination of each, frozen deliveries, and the tables of golden/."""

import dataclasses
import json
from typing import Any

from kit.destinations import Rokt
from kit.destinations.base import Sending
from kit.model import Dispatch

from .dispatch_samples import GOLDEN, frozen, sending

JOHN = "fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f"
CLICK = "1bc29b36f623ba82aaf6724fd3b16718"


def v2(**settings: Any) -> Rokt:
    return Rokt(**{"account": "12345", "public_key": "rpub-1111", "secret_key": "rsec-2222"} | settings)


def v1(**settings: Any) -> Rokt:
    return Rokt(**{"account": "12345", "app_id": "app-id-1", "app_secret": "app-secret-1"} | settings)


def conversions(**settings: Any) -> Rokt:
    return Rokt(**{"api_key": "key-1", "api_secret": "secret-1"} | settings)


def table(name: str) -> list[dict[str, Any]]:
    """Return the rows of a table of contracts.md 9."""
    rows: list[dict[str, Any]] = json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))
    return rows


def body(destination: Rokt, told: Dispatch) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(sending(destination, told).payload)
    return content


def pairs(destination: Rokt, told: Dispatch) -> dict[str, str]:
    """Return objectData, in which no name comes twice."""
    found = body(destination, told)["objectData"]
    assert len({pair["name"] for pair in found}) == len(found)
    return {pair["name"]: pair["value"] for pair in found}


def events_of(*event_ids: str, **changes: Any) -> list[Sending]:
    """Return frozen deliveries for the Event API whose fields do not matter."""
    return [
        dataclasses.replace(each, payload=b'{"clientEventId":"%s"}' % each.event_id.encode(), **changes)
        for each in frozen(*event_ids)
    ]


def batches_of(*texts: str, **changes: Any) -> list[Sending]:
    """Return frozen deliveries for the Conversions API; each text stands in its batch."""
    return [
        dataclasses.replace(
            each,
            payload=json.dumps({"environment": text}, ensure_ascii=False, separators=(",", ":")).encode(),
            **changes,
        )
        for each, text in zip(frozen(*(str(number) for number in range(len(texts)))), texts, strict=True)
    ]
