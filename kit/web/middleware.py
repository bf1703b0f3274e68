"""CaptureMiddleware: pure ASGI. Sets the visitor's cookies on pages that owe them, and touches nothing else."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

from kit.capture import STATE, Capture, CaptureRules, Faults, PageView, Shared, page_view
from kit.model import Consent, Touchpoint, VisitorId

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
#: Frameworks type the three each in their own way.
App = Callable[[Any, Any, Any], Awaitable[Any]]
RecordView = Callable[[PageView], None]


class CaptureKit(Protocol):
    """What the middleware asks of the kit. `record_touch` returns at once and never raises.

    A kit whose destinations want page views also has `record_view`, a `RecordView` that does the same.
    """

    @property
    def rules(self) -> CaptureRules: ...

    @property
    def faults(self) -> Faults: ...

    def record_touch(
        self,
        visitor_id: VisitorId,
        touchpoint: Touchpoint | Callable[[], Touchpoint],
        first_party_cookie: str | None,
        consent: Consent,
    ) -> None: ...


class CaptureMiddleware:
    """Wraps any ASGI app: `CaptureMiddleware(app, kit=attribution)`, or Starlette's `Middleware(...)`.

    State stands in `scope["kit.visitor"]`; ask `kit.capture.visitor_of(request)` and `visit_of(request)`. An answer
    gets our cookies only when no shared cache may keep it; one without any cache header gets `Cache-Control: private`
    with them. Mounted outside of Starlette it also sees the page of an unhandled error.

    Whatever fails in here is counted and the page goes out as it was: that is why `except Exception` stands around
    our own calls, and around nothing of the app's.
    """

    def __init__(self, app: App, *, kit: CaptureKit) -> None:
        self.app = app
        self.shared = Shared(kit.rules, kit.faults, kit.rules.fresh, kit.record_touch)
        self.answering: type[_Answering] = _Answering
        # None where no destination wants page views: then no page pays for the question.
        record_view: RecordView | None = getattr(kit, "record_view", None)
        if record_view is not None:
            self.shared = _SharedViews(kit.rules, kit.faults, kit.rules.fresh, kit.record_touch, record_view)
            self.answering = _Viewing
        self.answered = self.shared, None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        kind = scope["type"]
        # Mounted twice, the outer one does it all.
        if (kind != "http" and kind != "websocket") or STATE in scope:
            await self.app(scope, receive, send)
            return
        scope[STATE] = capture = self.answering(self.shared, scope, send)
        try:
            await self.app(scope, receive, capture.send if kind == "http" else send)
        finally:
            # The scope holds the state and the state the scope: such a circle would wait for the garbage collector.
            if capture.facts is None:
                scope[STATE] = self.answered
            else:
                capture.settle()


class _Answering(Capture):
    """A request's state together with the `send` that its answer goes out by: one object a request."""

    __slots__ = ("_forward",)

    def __init__(self, shared: Shared, scope: Scope, forward: Send) -> None:
        # Capture's own fields, without the call upwards: this is what every page view pays.
        self.shared = shared
        self.scope = scope
        self.facts = None
        self._forward = forward

    # No coroutine of its own: a body message passes at the price of one comparison.
    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] == "http.response.start":
            try:
                if not self.owes_nothing():
                    message = self._with_cookies(message)
            except Exception:  # noqa: BLE001 - the page must stay as it was
                self.faults.count("capture.answer")
        return self._forward(message)

    def _with_cookies(self, message: Message) -> Message:
        headers = message.get("headers", ())
        # An iterator would be spent by our look at it: such an answer goes out as it is.
        due = self.due(message["status"], headers) if isinstance(headers, (list, tuple)) else None
        if due is None:
            return message
        added, touch = due
        if touch is not None:
            self.shared.record_touch(*touch)
        return {**message, "headers": [*headers, *added]}


@dataclass(frozen=True, slots=True)
class _SharedViews(Shared):
    """What the requests of a shop share whose destinations want page views."""

    record_view: RecordView


class _Viewing(_Answering):
    """Also tells of the page that was opened, when its answer goes out."""

    __slots__ = ()
    shared: _SharedViews

    def send(self, message: Message) -> Awaitable[None]:
        if message["type"] != "http.response.start":
            return self._forward(message)
        try:
            if not self.owes_nothing():
                message = self._with_cookies(message)
            self._view(message)
        except Exception:  # noqa: BLE001 - the page must stay as it was
            self.faults.count("capture.answer")
        return self._forward(message)

    def _view(self, message: Message) -> None:
        headers = message.get("headers", ())
        view = page_view(self, message["status"], headers) if isinstance(headers, (list, tuple)) else None
        if view is not None:
            self.shared.record_view(view)
