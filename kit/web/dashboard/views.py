"""The pages: each reads what was asked for, has it put into words, and renders its template."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from kit.errors import InvalidInput
from kit.kit import Kit
from kit.model import DeliveryState, clean_text
from kit.store.looking import Wanted
from kit.web.assets import environment, static_file
from kit.web.dashboard.kept import Kept
from kit.web.dashboard.order import read_order
from kit.web.dashboard.orders import read_orders
from kit.web.dashboard.overview import WINDOWS, read_overview
from kit.web.dashboard.words import label

#: No id is longer; what is, is nobody's.
LONGEST = 200
_KEY = re.compile("[0-9]{1,18}")

#: What an action says when its page is shown again.
DONE = {
    "again": "It will be sent again.",
    "delivered": "It counts as sent.",
    "go-on": "It goes on.",
    "late": "Nothing was changed: it had moved on meanwhile.",
    "paused": "It is paused: orders are kept and wait.",
}


class Dashboard:
    """What the views share: the kit, what was counted a while ago, and the templates."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.kept = Kept()
        self.templates = environment()
        self.templates.filters["label"] = label
        self.templates.filters["utc"] = _utc
        self.templates.filters["rfc3339"] = datetime.isoformat

    def page(self, template: str, status: int = 200, /, **context: object) -> HTMLResponse:
        """Return a page of the dashboard."""
        style = f"dashboard.{static_file('dashboard.css').version}.css"
        shared = {"style": style, "now": self.kit.clock(), "done": None}
        text = self.templates.get_template(f"dashboard/{template}.html").render({**shared, **context})
        return HTMLResponse(text, status_code=status)

    def said(self, text: str, status: int, *, allow: str | None = None) -> HTMLResponse:
        """Return a page that says only this."""
        answer = self.page("said", status, text=text)
        if allow is not None:
            answer.headers["allow"] = allow
        return answer


View = Callable[[Dashboard, Request], Awaitable[Response]]


async def overview(dashboard: Dashboard, request: Request) -> Response:
    """How each destination stands, and how well the orders of the last days could be matched."""
    asked = request.query_params.get("days", "")
    days = int(asked) if asked in {str(days) for days in WINDOWS} else WINDOWS[0]
    found = await read_overview(dashboard.kit, dashboard.kept, days=days)
    return dashboard.page("overview", found=found, windows=WINDOWS, done=_done(request))


async def orders(dashboard: Dashboard, request: Request) -> Response:
    """What was reported, the newest first, narrowed as asked."""
    found = await read_orders(dashboard.kit, dashboard.kept, _wanted(request.query_params))
    return dashboard.page("orders", found=found, done=_done(request))


async def order(dashboard: Dashboard, request: Request) -> Response:
    """All that is known of one event, and what became of it."""
    event_id = text(request.query_params, "id")
    found = await asyncio.to_thread(read_order, dashboard.kit, event_id) if event_id is not None else None
    if found is None:
        return dashboard.said("There is no such order: it was never reported, or is older than what is kept.", 404)
    return dashboard.page("order", found=found, done=_done(request))


PAGES: Mapping[str, View] = {"": overview, "orders": orders, "order": order}


def _wanted(asked: Mapping[str, str]) -> Wanted:
    """Return what is to be listed. What cannot be such a thing is not asked for."""
    state, before = text(asked, "state"), text(asked, "before")
    return Wanted(
        destination=text(asked, "destination"),
        state=state if state in set(DeliveryState) else None,
        reason=text(asked, "reason"),
        named=text(asked, "order"),
        before=int(before) if before is not None and _KEY.fullmatch(before) else None,
    )


def text(asked: Mapping[str, str], name: str) -> str | None:
    """Return what a page or a form says, as the store has such texts; None for nothing, and for what none can be."""
    try:
        return clean_text(name, asked.get(name, ""), longest=LONGEST)
    except InvalidInput:
        return None


def _done(request: Request) -> str | None:
    return DONE.get(request.query_params.get("done", ""))


def _utc(moment: datetime, form: str = "%Y-%m-%d %H:%M:%S") -> str:
    return moment.astimezone(UTC).strftime(form)
