"""The endpoints that the kit's scripts talk to: collect, identify, track, pixels, consent, reset, and the scripts."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from http import HTTPStatus
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, StrictBool, ValidationError
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from kit import consent
from kit.capture import capture_of, first_party_cookie, removal_line
from kit.capture.hosts import host_name, registrable_domain
from kit.kit import Kit
from kit.web import assets
from kit.web.identifying import Identify
from kit.web.limits import Limiter, PostLimits
from kit.web.middleware import App, CaptureMiddleware
from kit.web.pixels import note_pixel
from kit.web.tracking import TRACKED, Track, checked_names

LONGEST_BODY = 8_192
_LIMITS = PostLimits()

Cookies = Iterable[bytes]
Verb = Callable[[Kit, Request, object], Awaitable[Cookies | HTTPStatus]]
"""Takes the parsed JSON; returns the Set-Cookie values of a 204, or the status of a refusal."""


def endpoints(
    kit: Kit,
    *,
    track: Collection[str] = TRACKED,
    limits: PostLimits = _LIMITS,
    body_timeout: timedelta = timedelta(seconds=10),
) -> App:
    """Return the endpoints as an ASGI app, to be mounted where `script_tag(prefix)` points: `Mount("/kit", …)`.

    It captures by itself where no CaptureMiddleware stands around it. Posts take JSON of at most 8 KiB, sent within
    `body_timeout`, from pages of the same origin, of `Kit(origins=…)`, and with `cookie_domain` of the same site.
    `track` names the events that pages may report; list purchase only where nothing else reports it, for anybody can
    post what a page can. Past one of the `limits` nothing is kept of a post, and the answer is the one of everybody;
    only a no to `consent` always counts: in its browser, and in the store where that has anything of the visitor.
    """
    limiter = Limiter(limits)
    verbs: dict[str, Verb] = {
        "/collect": _Limited(collect, limiter),
        "/identify": _Limited(Identify(limiter), limiter),
        "/track": _Limited(Track(checked_names(track)), limiter),
        "/pixels": _Limited(note_pixel, limiter),
        # Whoever says no takes no turn of somebody behind the same address who will say yes.
        "/consent": _by_decision(_Limited(decide, limiter), no=_Limited(decide, Limiter(limits), past=refuse)),
        "/reset": reset,
    }
    posts = [Route(path, _Post(kit, verb, body_timeout.total_seconds())) for path, verb in verbs.items()]
    # The longer name first: "/kit.{version}.js" would take it for a version.
    files = [
        Route(f"/{path}", _File(script, suffix))
        for script in ("kit.pixels", "kit")
        for path, suffix in (
            (f"{script}.js", ".js"),
            (f"{script}.{{version}}.js.map", ".min.js.map"),
            (f"{script}.{{version}}.js", ".min.js"),
        )
    ]
    return CaptureMiddleware(_ByName(Router([*posts, *files], redirect_slashes=False)), kit=kit)


class _Limited:
    """A verb that does nothing for who has posted too much, or what it does `past` the limits; and does not tell."""

    def __init__(self, verb: Verb, limiter: Limiter, *, past: Verb | None = None) -> None:
        self.verb = verb
        self.limiter = limiter
        self.past = past

    async def __call__(self, kit: Kit, request: Request, body: object) -> Cookies | HTTPStatus:
        if (limit := self.limiter.passed(request)) is None:
            return await self.verb(kit, request, body)
        kit.faults.count(f"limits.{limit}")
        return () if self.past is None else await self.past(kit, request, body)


def _by_decision(other: Verb, *, no: Verb) -> Verb:
    async def decided(kit: Kit, request: Request, body: object) -> Cookies | HTTPStatus:
        is_no = isinstance(body, dict) and body.get("granted") is False
        return await (no if is_no else other)(kit, request, body)

    return decided


class _ByName:
    """Finds an endpoint by the last segment of its path, whatever stands around it.

    What a mounted app is told differs: Litestar adds a slash, hypercorn and granian name a root path that is not in the
    path.
    """

    def __init__(self, router: Router) -> None:
        self.router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            name = scope["path"].rstrip("/").rpartition("/")[2]
            scope = {**scope, "path": f"/{name}", "root_path": ""}
        await self.router(scope, receive, send)


# ---------------------------------------------------------------- the verbs


def _text(value: object) -> str | None:
    """Return the text, or None for what cannot be stored as one: another type, a lone surrogate."""
    if not isinstance(value, str):
        return None
    try:
        value.encode()
    except UnicodeEncodeError:
        return None
    return value


def _texts(value: object) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {name: text for name, each in pairs if _text(name) is not None and (text := _text(each)) is not None}


Text = Annotated[str | None, BeforeValidator(_text)]


class Arrival(BaseModel):
    """What a page saw of its landing. What is unusable in it counts as absent."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    params: Annotated[Mapping[str, str], BeforeValidator(_texts)] = {}
    fpc: Text = None
    url: Text = None
    referrer: Text = None


class Decision(BaseModel):
    """What the visitor answered."""

    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    granted: StrictBool


async def collect(kit: Kit, request: Request, body: object) -> Cookies | HTTPStatus:
    """Set both cookies and keep the click; the answer is the same when nothing may be kept."""
    capture = capture_of(request)
    if capture is None or _ahead_of_its_visitor(request):
        return ()
    seen = Arrival.model_validate(body) if isinstance(body, dict) else Arrival()
    kept = capture.collect(seen.params, pixel_cookie=seen.fpc, url=seen.url, referrer=seen.referrer)
    if kept is None:
        return ()
    if kept.touchpoint is not None and kept.touchpoint.click_ids:
        kit.record_touch(kept.visitor.id, kept.touchpoint, kept.first_party_cookie, kept.consent)
    return kept.set_cookies


async def decide(kit: Kit, request: Request, body: object) -> Cookies | HTTPStatus:
    """Keep the visitor's decision in a cookie that pages can read, and in the store; a no takes both cookies away."""
    try:
        decision = Decision.model_validate(body)
    except ValidationError:
        return HTTPStatus.BAD_REQUEST
    await kit.keep_consent(request, decision.granted)
    return _told(kit, request, decision.granted)


async def refuse(kit: Kit, request: Request, _body: object) -> Cookies | HTTPStatus:
    """Take a no past the limits: it counts in its browser, and in the store where that has anything of the visitor."""
    await kit.keep_consent(request, False, of_known=True)
    return _told(kit, request, False)


def _told(kit: Kit, request: Request, granted: bool) -> Cookies:
    """Return the cookie in which pages read the decision; after a no also the removal of the kit's own."""
    capture = capture_of(request)
    attributes = capture.reading().visitor_attributes() if capture is not None else None
    if capture is None or attributes is None:
        return ()
    answer = b"granted" if granted else b"denied"
    lines = [consent.COOKIE + b"=" + answer + attributes.replace(b"; HttpOnly", b"")]
    if b"; Domain=" in attributes:
        # kit.js sets a host's own when it could not reach us; it would stand beside this one.
        lines.insert(0, consent.COOKIE + b"=; Path=/; Max-Age=0")
    if granted:
        return lines
    reading = capture.reading()
    return (*lines, removal_line(kit.rules), *_first_party_removals(reading.host, reading.first_party_attributes()))


async def reset(_kit: Kit, request: Request, _body: object) -> Cookies | HTTPStatus:
    """Make this browser a new visitor, linked to nobody; the middleware sets the cookie."""
    if (capture := capture_of(request)) is not None:
        capture.replace()
    return ()


def _ahead_of_its_visitor(request: Request) -> bool:
    """Return whether a prefetched or prerendered page asks: nobody has seen it yet."""
    purpose = request.headers.get("sec-purpose", "")
    return "prefetch" in purpose or "prerender" in purpose


def _first_party_removals(host: bytes, attributes: bytes) -> Cookies:
    """Return the lines that take `__adroll_fpc` away, wherever the kit, the pixel or AdRoll's sample put it."""
    plain = b"; Path=/; Max-Age=0; SameSite=Lax"
    places = {attributes.replace(b"Max-Age=31536000", b"Max-Age=0"): None, plain: None}
    if registrable_domain(host) is not None:
        places[plain + b"; Domain=" + (host_name(host) or "").encode("ascii")] = None
    return [first_party_cookie.NEEDLE + place for place in places]


# ---------------------------------------------------------------- the door


class _Post:
    """One POST endpoint: who may ask, how much is read, and that nothing of it is told."""

    def __init__(self, kit: Kit, verb: Verb, seconds: float) -> None:
        self.kit = kit
        self.verb = verb
        self.seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        allowed = granted(request, self.kit)
        headers: dict[str, str] = {"cache-control": "no-store", **(allowed or {})}
        preflight = request.method == "OPTIONS" and "access-control-request-method" in request.headers
        outcome: Cookies | HTTPStatus = ()
        if request.method != "POST" and not preflight:
            outcome = HTTPStatus.METHOD_NOT_ALLOWED
            headers["allow"] = "POST"
        elif allowed is None:
            outcome = HTTPStatus.FORBIDDEN
        elif preflight:
            headers |= _PREFLIGHT
        else:
            outcome = await self._outcome(request)
        await _response(outcome, headers, scope)(scope, receive, send)

    async def _outcome(self, request: Request) -> Cookies | HTTPStatus:
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" or "content-encoding" in request.headers:
            return HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        try:
            async with asyncio.timeout(self.seconds):
                body = await body_of(request)
        except TimeoutError:
            return HTTPStatus.REQUEST_TIMEOUT
        if isinstance(body, HTTPStatus):
            return body
        try:
            value = json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_refused, parse_float=Decimal)
        except (ValueError, ArithmeticError, RecursionError):
            return HTTPStatus.BAD_REQUEST
        return await self.verb(self.kit, request, value)


def _response(outcome: Cookies | HTTPStatus, headers: dict[str, str], scope: Scope) -> Response:
    if isinstance(outcome, HTTPStatus):
        if outcome in _CUT_SHORT and scope.get("http_version", "1.1").startswith("1"):
            # What is still to come of the body must not hold the connection.
            headers["connection"] = "close"
        return Response(status_code=outcome, headers=headers)
    response = Response(status_code=HTTPStatus.NO_CONTENT, headers=headers)
    response.raw_headers.extend((b"set-cookie", cookie) for cookie in outcome)
    return response


_CUT_SHORT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE}

_PREFLIGHT = {
    "access-control-allow-methods": "POST",
    "access-control-allow-headers": "content-type",
    "access-control-max-age": "7200",
}


_ORIGIN = re.compile(r"https?://[A-Za-z0-9_.:\[\]-]{1,260}").fullmatch


def granted(request: Request, kit: Kit) -> dict[str, str] | None:
    """Return the CORS headers that this page is owed, none for a page of our own; None when it may not post here."""
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    if site == "same-origin" or (site is None and origin is not None and origin in _own_origins(request)):
        return {}
    # It goes back in a header: what no browser calls an origin, "null" among it, is none.
    if origin is None or not _ORIGIN(origin):
        return None
    if origin not in kit.origins and (site != "same-site" or kit.rules.cookie_domain is None):
        return None
    return {"access-control-allow-origin": origin, "access-control-allow-credentials": "true", "vary": "Origin"}


def _own_origins(request: Request) -> tuple[str, ...]:
    """Return what a browser that sends no Sec-Fetch-Site calls the origin of this request."""
    host = request.headers.get("host", "").lower()
    # A proxy in front may have ended TLS without telling; the page of this very host is ours in either case.
    return (f"{request.scope.get('scheme', 'http')}://{host}", f"https://{host}") if host else ()


async def body_of(request: Request) -> bytes | HTTPStatus:
    """Return a posted body of at most `LONGEST_BODY` bytes, or why there is none."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 9 or int(length) > LONGEST_BODY):
        return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    body = bytearray()
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            return HTTPStatus.BAD_REQUEST
        body += message.get("body", b"")
        if len(body) > LONGEST_BODY:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        if not message.get("more_body", False):
            return bytes(body)


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _refused(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


# ---------------------------------------------------------------- the scripts


class _File:
    """A file under its version, for ever; under any other name the current one, to be asked for again."""

    def __init__(self, script: str, suffix: str) -> None:
        self.script = script
        self.suffix = suffix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._response(Request(scope))(scope, receive, send)

    def _response(self, request: Request) -> Response:
        if request.method not in {"GET", "HEAD"}:
            return Response(status_code=HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "GET, HEAD"})
        file, version = assets.static_file(self.script + self.suffix), assets.minified(self.script).version
        etag = f'"{file.version}"'
        current = request.path_params.get("version") == version
        headers = {
            "cache-control": "public, max-age=31536000, immutable" if current else "no-cache",
            "etag": etag,
            "x-content-type-options": "nosniff",
        }
        if self.suffix == ".min.js":
            headers["sourcemap"] = f"{self.script}.{version}.js.map"
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if etag in known or "*" in known:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
        media_type = "application/json" if self.suffix.endswith(".map") else "text/javascript"
        return Response(file.body, media_type=media_type, headers=headers)
