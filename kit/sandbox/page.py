"""What a person sees of the sandbox: one plain page and its JSON. No script, no outside asset, all text escaped."""

from collections.abc import Iterable, Sequence
from html import escape

from kit.sandbox.record import Event, Received
from kit.sandbox.tally import View
from kit.sandbox.vendor import Vendor

#: More calls than this make a page that nobody reads.
_ON_PAGE = 200

#: Events of a longer body, such as a list of a million people, are not decoded for a page.
_SHOWN_BODY = 1024 * 1024

_FEW = 3

_VIEW_HEADINGS = ("Vendor", "Requests", "Counted", "Orders", "Money", "Not counted again", "Refused", "More")
_CALL_HEADINGS = ("No.", "Time (UTC)", "Vendor", "Request", "Status", "Order", "Identifiers", "What became of it")

_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sandbox: what the vendors got</title>
<style>
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; --line: #0002; --soft: #555; --bad: #b00020;
  --good: #116329; --head: #0000000a; }
@media (prefers-color-scheme: dark) { :root { --line: #fff3; --soft: #aaa; --bad: #ff8a8a; --good: #7ee2a0;
  --head: #ffffff12; } }
body { margin: 2rem auto; padding: 0 1rem; max-width: 84rem; }
h1 { font-size: 1.5rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 2.5rem 0 .5rem; }
p { color: var(--soft); margin: .25rem 0; max-width: 44rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: 0 0 .5rem; color: var(--soft); }
th, td { text-align: left; vertical-align: top; padding: .45rem .75rem .45rem .5rem;
  border-bottom: 1px solid var(--line); }
thead th { background: var(--head); white-space: nowrap; }
td { overflow-wrap: anywhere; }
td.whole { white-space: nowrap; overflow-wrap: normal; }
td:empty::after { content: "\\2013"; color: var(--soft); }
td.roomy { min-width: 9rem; }
.bad { color: var(--bad); font-weight: 600; }
.good { color: var(--good); font-weight: 600; }
@media (max-width: 52rem) {
  thead { position: absolute; clip-path: inset(50%); }
  tr { display: block; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .25rem; margin: 0 0 .75rem; }
  td { display: grid; grid-template-columns: 8.5rem 1fr; gap: .5rem; border: 0; padding: .15rem .5rem; }
  td.whole { white-space: normal; }
  td::before { content: attr(data-label); color: var(--soft); font-weight: 400; }
}
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
    calls = newest(vendors, _ON_PAGE)
    called = [vendor for vendor in vendors if vendor.requests or vendor.faults]
    idle = ", ".join(vendor.name for vendor in vendors if vendor not in called)
    views = "\n".join(_view_row(vendor) for vendor in called)
    rows = "\n".join(_call_row(vendor, received) for vendor, received in calls)
    newest_words = f"The newest {len(calls)} requests, the newest first." if calls else "No vendor has been called yet."
    caption = f'{newest_words} Also as <a href="calls.json">JSON</a>.'
    return (
        f"{_HEAD}<p>What the vendors of this sandbox got, and what each of them would count.</p>\n"
        f"<h2>What is counted</h2>\n{_table(_VIEW_HEADINGS, _views_caption(idle), views)}"
        f"<h2>Requests</h2>\n{_table(_CALL_HEADINGS, caption, rows)}</body>\n</html>\n"
    )


def views_json(vendors: Sequence[Vendor]) -> dict[str, object]:
    """Return what each vendor would count."""
    return {vendor.name: _view(vendor.view) for vendor in vendors}


def calls_json(vendors: Sequence[Vendor], limit: int) -> dict[str, object]:
    """Return the newest calls and each vendor's totals."""
    totals = {vendor.name: {"counted": vendor.counted, "faults": list(vendor.faults)} for vendor in vendors}
    return {"vendors": totals, "calls": [_call(vendor, received) for vendor, received in newest(vendors, limit)]}


def _views_caption(idle: str) -> str:
    waits = f"Not called yet: {escape(idle)}. " if idle else ""
    return f'{waits}Each order counts once where the vendor can tell a repeat. Also as <a href="views.json">JSON</a>.'


def _table(headings: Sequence[str], caption: str, rows: str) -> str:
    cells = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    head = f"<thead><tr>{cells}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n" if rows else ""
    return f"<table>\n<caption>{caption}</caption>\n{head}</table>\n"


def _view_row(vendor: Vendor) -> str:
    view = vendor.view
    twice = len(view.more_than_once)
    more = [f"{name}: {value}" for name, value in list(view.details.items())[:_FEW]]
    more += [f"faults that wait: {few(vendor.faults)}"] if vendor.faults else []
    cells = (
        view.vendor,
        str(view.requests),
        str(view.counted),
        f"{view.orders} ({twice} more than once)" if twice else str(view.orders),
        ", ".join(f"{amount} {currency}" for currency, amount in sorted(view.money.items())),
        str(view.repeated),
        str(view.refused),
        "; ".join(more),
    )
    marks = {0: "whole", 3: "bad" if twice else "whole", 4: "roomy", 6: "bad" if view.refused else ""}
    return _row(_VIEW_HEADINGS, cells, marks)


def _call_row(vendor: Vendor, received: Received) -> str:
    events = _shown(received)
    status = "no answer" if received.status is None else str(received.status)
    cells = (
        str(received.number),
        f"{received.at:%Y-%m-%d %H:%M:%S}",
        received.vendor,
        f"{received.method} {received.path}",
        status,
        few(order for event in events if (order := vendor.order_of(event)) is not None),
        ", ".join(dict.fromkeys(name for event in events for name in vendor.identifiers_of(event))),
        outcome(received),
    )
    good = received.status is not None and received.status < 300
    return _row(_CALL_HEADINGS, cells, {1: "whole", 2: "whole", 3: "roomy", 4: "good" if good else "bad", 5: "roomy"})


def _row(headings: Sequence[str], cells: Sequence[str], marks: dict[int, str]) -> str:
    shown = (
        _cell(heading, cell, marks.get(place, ""))
        for place, (heading, cell) in enumerate(zip(headings, cells, strict=True))
    )
    return f"<tr>{''.join(shown)}</tr>"


def _cell(heading: str, cell: str, mark: str) -> str:
    marked = f' class="{mark}"' if mark else ""
    return f'<td data-label="{heading}"{marked}>{escape(cell)}</td>'


def _shown(received: Received) -> tuple[Event, ...]:
    return received.events if len(received.body) <= _SHOWN_BODY else ()


def _view(view: View) -> dict[str, object]:
    return {
        "requests": view.requests,
        "counted": view.counted,
        "repeated": view.repeated,
        "refused": view.refused,
        "orders": view.orders,
        "more_than_once": view.more_than_once,
        "money": {currency: str(amount) for currency, amount in view.money.items()},
        "reasons": view.reasons,
        "details": view.details,
    }


def _call(vendor: Vendor, received: Received) -> dict[str, object]:
    events = _shown(received)
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
        "events": events,
        "orders": [vendor.order_of(event) for event in events],
        "counted": received.counted,
        "repeated": received.repeated,
        "refused": [{"event": r.event, "field": r.field, "message": r.message} for r in received.refused],
        "warnings": received.warnings,
        "fault": received.fault,
    }
