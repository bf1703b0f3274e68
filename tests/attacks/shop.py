"""The shop that is attacked: pages of a few sorts, the kit's endpoints, and a memory of whom its pages believed."""

import json
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

from starlette.routing import Mount, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from kit import Kit
from kit.capture import visit_of, visitor_of
from kit.web import CaptureMiddleware, PostLimits, endpoints
from tests.support import make_kit

Headers = list[tuple[bytes, bytes]]

PAGE = b"<!doctype html><title>Shop</title><p>A page that nobody may change."
HTML = (b"content-type", b"text/html; charset=utf-8")
LENGTH = (b"content-length", b"%d" % len(PAGE))

#: What each page of the shop answers with; every other path answers as "/" does.
ANSWERS: Mapping[str, Headers] = {
    "/": [HTML, LENGTH],
    "/own": [HTML, LENGTH, (b"cache-control", b"private, max-age=60"), (b"set-cookie", b"basket=1; Path=/")],
    "/cached": [HTML, LENGTH, (b"cache-control", b"public, max-age=600"), (b"etag", b'"one"')],
}
#: Pages that ask who their visitor is; the others leave it to the middleware.
LOOKING = {"/own", "/cached"}
#: What an endpoint may answer with, whatever it is sent.
DOCUMENTED = frozenset({200, 204, 304, 400, 403, 404, 405, 408, 413, 415})

#: Else most of them would not be looked at.
UNLIMITED = PostLimits(visitor=None, address=None, asserted=None, identity=None, everybody=None)
TRACKED = frozenset({"add_to_cart", "purchase"})


def attacked_kit(folder: Path, **settings: Any) -> Kit:
    """Return a kit with Secure cookies, whose store is a file in `folder`."""
    return make_kit(folder, **{"insecure_cookies": False, **settings})


class Shop:
    """Answers every path below /kit by the kit, and every other by a page."""

    def __init__(self, kit: Kit, *, body_timeout: timedelta = timedelta(seconds=10)) -> None:
        self.faults = kit.faults
        #: Whom the requests' own cookies showed.
        self.believed: set[str] = set()
        mounted = Mount("/kit", endpoints(kit, track=TRACKED, body_timeout=body_timeout, limits=UNLIMITED))
        self.app: ASGIApp = CaptureMiddleware(Router([mounted], redirect_slashes=False, default=self._page), kit=kit)

    async def _page(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] in LOOKING:
            self._look(scope)
        scope["shop.page"] = headers = ANSWERS.get(scope["path"], ANSWERS["/"])
        await send({"type": "http.response.start", "status": 200, "headers": list(headers)})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else PAGE})

    def _look(self, scope: Scope) -> None:
        visit = visit_of(scope)
        visitor_of(scope)
        if visit is not None and visit.visitor is not None:
            self.believed.add(visit.visitor.id)


def asked_json(value: object) -> bytes:
    return json.dumps(value).encode()


def unclean(headers: Headers) -> list[tuple[bytes, bytes]]:
    """Return the headers that no answer may carry: with a byte that ends a line or a text, or cookies too long."""
    return [
        (name, value)
        for name, value in headers
        if any(byte in name + value for byte in b"\r\n\x00")
        or (name == b"set-cookie" and (len(value) > 4_096 or not value.isascii()))
    ]
