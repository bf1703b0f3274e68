"""The buttons: each changes one thing in the store and goes back to the page that it stands on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import partial
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.responses import RedirectResponse, Response

from kit.model import DeliveryState
from kit.store import overview
from kit.store.overview import Pause, Replay, Resolve
from kit.web.dashboard.orders import destination_names, orders_link
from kit.web.dashboard.views import Dashboard, text

Form = Mapping[str, str]
Action = Callable[[Dashboard, Form], Awaitable[Response]]

_REPLAYABLE = {DeliveryState.DEAD, DeliveryState.HELD, DeliveryState.SKIPPED}


async def pause(dashboard: Dashboard, form: Form) -> Response:
    """Hold a destination back; what waits is kept."""
    destination = text(form, "destination")
    counted = await dashboard.kept.get("standings", partial(overview.standings, dashboard.kit.store))
    if destination is None or destination not in destination_names(dashboard.kit, counted):
        return dashboard.said("There is no such destination.", HTTPStatus.BAD_REQUEST)
    asked = Pause(destination=destination, reason="by operator", now=_now(dashboard))
    await dashboard.kit.store.write(overview.pause, asked)
    return _back("./", "paused")


async def resume(dashboard: Dashboard, form: Form) -> Response:
    """Let a destination go on, whatever held it back."""
    destination = text(form, "destination") or ""
    was_held = await dashboard.kit.store.write(overview.resume, destination)
    dashboard.kit.worker.wake()
    return _back("./", "go-on" if was_held else "late")


async def replay(dashboard: Dashboard, form: Form) -> Response:
    """Send one delivery again, or all that failed at a destination; never what was delivered."""
    event_id, destination, state = text(form, "event"), text(form, "destination"), text(form, "state")
    # Without an event, or a reason, it is about more: not where there is one that cannot be read.
    if any(name in form and text(form, name) is None for name in ("event", "reason")):
        return _unreadable(dashboard)
    # Of many only what failed.
    if destination is None or state not in ({DeliveryState.DEAD} if event_id is None else _REPLAYABLE):
        return _unreadable(dashboard)
    asked = Replay(
        event_id=event_id,
        destination=destination,
        state=DeliveryState(state),
        reason=text(form, "reason"),
        now=_now(dashboard),
    )
    number = await asyncio.to_thread(overview.replay, dashboard.kit.store, asked)
    _changed(dashboard)
    here = orders_link(destination=destination) if event_id is None else f"order?{urlencode({'id': event_id})}"
    return _back(here, "again" if number else "late")


async def resolve(dashboard: Dashboard, form: Form) -> Response:
    """Decide about a held delivery: the vendor has it, or it is sent again."""
    event_id, destination, outcome = text(form, "event"), text(form, "destination"), text(form, "outcome")
    if event_id is None or destination is None or outcome not in {"delivered", "again"}:
        return _unreadable(dashboard)
    delivered = outcome == "delivered"
    asked = Resolve(event_id=event_id, destination=destination, delivered=delivered, now=_now(dashboard))
    number = await dashboard.kit.store.write(overview.resolve, asked)
    _changed(dashboard)
    return _back(f"order?{urlencode({'id': event_id})}", outcome if number else "late")


ACTIONS: Mapping[str, Action] = {"pause": pause, "resume": resume, "replay": replay, "resolve": resolve}


def _now(dashboard: Dashboard) -> datetime:
    """Return the time on the clock that the workers go by."""
    return dashboard.kit.clock() + dashboard.kit.store.offset


def _changed(dashboard: Dashboard) -> None:
    dashboard.kept.forget()
    dashboard.kit.worker.wake()


def _unreadable(dashboard: Dashboard) -> Response:
    return dashboard.said("That is nothing a button of this dashboard sends.", HTTPStatus.BAD_REQUEST)


def _back(page: str, done: str) -> Response:
    """Return the way back to the page, which then says what was done."""
    more = urlencode({"done": done})
    return RedirectResponse(f"{page}{'&' if '?' in page else '?'}{more}", status_code=HTTPStatus.SEE_OTHER)
