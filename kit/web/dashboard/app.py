"""The dashboard as an ASGI app: who may look, which page is meant, and what its answers let a browser do."""

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocketClose

from kit.errors import ConfigurationError, StoreUnavailable
from kit.kit import Kit
from kit.web import assets
from kit.web.dashboard.actions import ACTIONS
from kit.web.dashboard.views import PAGES, Dashboard
from kit.web.endpoints import body_of, granted
from kit.web.middleware import App

Authorize = Callable[[Request], bool | Awaitable[bool]]
"""Takes the request of who wants to look; True lets them in."""


def dashboard(kit: Kit, *, authorize: Authorize) -> App:
    """Return the dashboard as an ASGI app, to be mounted under a path of the shop: `Mount("/attribution", …)`.

    `authorize` is the shop's own, a plain or an async function of Starlette's Request: True lets this request look and
    act, anything else is a 403, and so is an exception. It has no default, and is asked at each request; a plain one in
    a thread. Pages name which identifiers are known of a buyer and show no e-mail, phone, ip address, cookie, click id
    or token. They need no JavaScript and load nothing from elsewhere. Raises ConfigurationError for what is no
    function.

    The overview counts all deliveries and the orders of the last 7 or 28 days, in reads of a few milliseconds: with
    1,000,000 deliveries that takes seconds of a thread. The result is kept for ten times as long as it took.
    """
    if not callable(authorize):
        reason = "is no function; pass one that takes the request and returns True for who may look"
        raise ConfigurationError("dashboard(authorize=...)", reason)
    return _Door(kit, authorize)


_HEADERS: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
}
_STYLE_SHEET = re.compile(r"dashboard\.([0-9a-f]{12})\.css")


class _Door:
    """Lets in whom the shop lets in, and finds the page."""

    def __init__(self, kit: Kit, authorize: Authorize) -> None:
        self.kit = kit
        self.authorize = authorize
        self.dashboard = Dashboard(kit)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await WebSocketClose()(scope, receive, send)
        if scope["type"] != "http":
            return
        response = await self._answer(Request(scope, receive))
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if not await self._may_look(request):
            return PlainTextResponse("Forbidden", status_code=HTTPStatus.FORBIDDEN)
        try:
            return await self._found(request, _name(request.scope))
        except StoreUnavailable as error:
            self.kit.faults.count("dashboard", error)
            return self.dashboard.said("The store does not answer. Try again in a moment.", 503)

    async def _may_look(self, request: Request) -> bool:
        try:
            answer: Any = await asyncio.to_thread(self._asked, request)
            if inspect.isawaitable(answer):
                answer = await answer
        except Exception:  # noqa: BLE001 - the shop's own code
            self.kit.faults.count("dashboard.authorize")
            return False
        return answer is True

    def _asked(self, request: Request) -> Any:
        try:
            return self.authorize(request)
        except StopIteration as error:
            # `next()` of nothing: no thread can hand that over to a coroutine.
            raise LookupError from error

    async def _found(self, request: Request, name: str) -> Response:
        if name in ACTIONS:
            if request.method != "POST":
                return self.dashboard.said("This address only takes what a button sends.", 405, allow="POST")
            # No other page's: not of a further origin that may post what kit.js does.
            if granted(request, self.kit) != {}:
                return self.dashboard.said("This was not sent from a page of the dashboard.", 403)
            form = await _form(request)
            if isinstance(form, HTTPStatus):
                return self.dashboard.said("This is more than a button sends.", form)
            return await ACTIONS[name](self.dashboard, form)
        if request.method not in {"GET", "HEAD"}:
            return self.dashboard.said("This address can only be looked at.", 405, allow="GET, HEAD")
        if (style_sheet := _STYLE_SHEET.fullmatch(name)) is not None:
            return _style(style_sheet[1])
        if name not in PAGES:
            return self.dashboard.said("There is no such page.", 404)
        return _moved(request.scope, name) or await PAGES[name](self.dashboard, request)


def _name(scope: Scope) -> str:
    """Return the page's name within the dashboard, "" of the overview, whatever stands around it.

    What a mounted app is told differs: Litestar takes the prefix away and adds a slash, hypercorn and granian name a
    root path that is not in the path.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    if f"{path}/".startswith(f"{root}/"):
        return path.removeprefix(root).strip("/")
    name = path.rstrip("/").rpartition("/")[2]
    return "" if name == root.rpartition("/")[2] else name


def _moved(scope: Scope, name: str) -> Response | None:
    """Return the way to the address from which relative links are right: the overview's ends with a slash."""
    path = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
    if path.endswith("/") == (name == ""):
        return None
    here = f"./{path.rpartition('/')[2]}/" if name == "" else f"../{name}"
    query = scope["query_string"].decode("latin-1")
    return RedirectResponse(f"{here}?{query}" if query else here, status_code=HTTPStatus.TEMPORARY_REDIRECT)


async def _form(request: Request) -> Mapping[str, str] | HTTPStatus:
    body = await body_of(request)
    if isinstance(body, HTTPStatus):
        return body
    return dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))


def _style(version: str) -> Response:
    """Return the style sheet: under its version for a year, under an older one to be asked for again."""
    file = assets.static_file("dashboard.css")
    lasting = "private, max-age=31536000, immutable" if version == file.version else "no-cache"
    return Response(file.body, media_type="text/css", headers={"cache-control": lasting})
