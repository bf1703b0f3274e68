"""What a person sees of the sandbox: one plain page and its JSON. No script, no outside asset, all text escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from kit.sandbox.record import Received
from kit.sandbox.vendor import Vendor

#: More calls than this make a page that nobody reads.
_ON_PAGE = 200

_FEW = 3

_HEADINGS = ("No.", "Time (UTC)", "Vendor", "Request", "Status", "Order", "Identifiers", "What became of it")

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox: what the vendors got</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; padding: 0 1rem; max-width: 80rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #8886; }
td { overflow-wrap: anywhere; }
td:nth-child(-n+4) { white-space: nowrap; }
</style>
</head>
<body>
<h1>Sandbox</h1>
"""


def few(names: Iterable[str]) -> str:
    """Return the first names and how many more there are."""
    held = list(dict.fromkeys(names))
    more = len(held) - _FEW
    return ", ".join(held[:_FEW]) + (f" and {more} more" if more > 0 else "")


def outcome(received: Received) -> str:
    """Return in words what became of a request."""
    said = [f"fault: {received.fault}"] if received.fault else []
    if not received.complete:
        said.append("the body did not arrive whole")
    if received.counted:
        said.append(f"counted {len(received.counted)}")
    if received.repeated:
        said.append(f"{len(received.repeated)} not counted again")
    said += [
        f"refused{'' if each.event is None else f' event {each.event}'}: {each.field} {each.message}"
        for each in received.refused[:_FEW]
    ]
    if len(received.refused) > _FEW:
        said.append(f"{len(received.refused) - _FEW} more refusals")
    said += [f"warning: {warning}" for warning in received.warnings[:_FEW]]
    return "; ".join(said) or "recorded"


def newest(vendors: Sequence[Vendor], limit: int) -> list[tuple[Vendor, Received]]:
    """Return the newest requests of all vendors, the newest first."""
    calls = [(vendor, received) for vendor in vendors for received in vendor.requests]
    return sorted(calls, key=lambda call: call[1].number, reverse=True)[:limit]


def html(vendors: Sequence[Vendor]) -> str:
    """Return the page."""
    totals = "".join(_total(vendor) for vendor in vendors)
    calls = newest(vendors, _ON_PAGE)
    headings = "".join(f'<th scope="col">{heading}</th>' for heading in _HEADINGS)
    rows = "\n".join(_row(vendor, received) for vendor, received in calls)
    caption = f"The newest {len(calls)} requests, the newest first." if calls else "No vendor has been called yet."
    return (
        f'{_HEAD}<ul>{totals}</ul>\n<div class="wide"><table>\n<caption>{caption} Also as '
        f'<a href="calls.json">JSON</a>.</caption>\n<thead><tr>{headings}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        "</table></div>\n</body>\n</html>\n"
    )


def as_json(vendors: Sequence[Vendor], limit: int) -> dict[str, object]:
    """Return the newest calls and each vendor's totals."""
    totals = {vendor.name: {"counted": vendor.counted, "faults": list(vendor.faults)} for vendor in vendors}
    return {"vendors": totals, "calls": [_call(vendor, received) for vendor, received in newest(vendors, limit)]}


def _total(vendor: Vendor) -> str:
    waiting = f"; faults that wait: {escape(few(vendor.faults))}" if vendor.faults else ""
    return f"<li>{escape(vendor.name)}: {vendor.counted} counted{waiting}</li>"


def _row(vendor: Vendor, received: Received) -> str:
    events = received.events
    cells = (
        str(received.number),
        f"{received.at:%Y-%m-%d %H:%M:%S}",
        received.vendor,
        f"{received.method} {received.path}",
        "no answer" if received.status is None else str(received.status),
        few(order for event in events if (order := vendor.order_of(event)) is not None),
        ", ".join(dict.fromkeys(name for event in events for name in vendor.identifiers_of(event))),
        outcome(received),
    )
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _call(vendor: Vendor, received: Received) -> dict[str, object]:
    return {
        "number": received.number,
        "at": received.at.isoformat(),
        "vendor": received.vendor,
        "method": received.method,
        "path": received.path,
        "query": dict(received.query),
        "headers": received.headers.items(),
        "authorized": received.authorized,
        "status": received.status,
        "complete": received.complete,
        "events": received.events,
        "orders": [vendor.order_of(event) for event in received.events],
        "counted": received.counted,
        "repeated": received.repeated,
        "refused": [{"event": r.event, "field": r.field, "message": r.message} for r in received.refused],
        "warnings": received.warnings,
        "fault": received.fault,
    }
