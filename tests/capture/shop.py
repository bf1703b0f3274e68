"""A shop of one page behind CaptureMiddleware, driven over raw ASGI scopes."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from kit.capture import CaptureRules, capture_of
from kit.consent import ConsentPolicy, ConsentRule
from kit.model import Consent, Touchpoint, Visitor, VisitorId
from kit.web.middleware import App, CaptureMiddleware, Message, Receive, Scope, Send

KEY = b"a-key-for-tests-01234567"
NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
FPC = "0123456789abcdef0123456789abcdef-1763700000000"
Headers = list[tuple[bytes, bytes]]


class Shop:
    """A kit for the middleware with a clock to set, and a page to answer with."""

    def __init__(self, consent: ConsentRule = "opt_out", **settings: Any) -> None:
        self.now = NOON
        settings.setdefault("secret_keys", [KEY])
        self.rules: Any = CaptureRules(consent=ConsentPolicy(consent), clock=lambda: self.now, **settings)
        self.faults = self
        self.failed: list[str] = []
        self.touches: list[tuple[VisitorId, Touchpoint, str | None, Consent]] = []
        self.looks: Callable[[Scope], Any] = lambda scope: None
        self.seen: Any = None

    def count(self, where: str) -> None:
        self.failed.append(where)

    def record_touch(self, visitor: VisitorId, touchpoint: Any, *more: Any) -> None:
        # As the store's writer does.
        made = touchpoint() if callable(touchpoint) else touchpoint
        self.touches.append((visitor, made, *more))

    def page(self, status: int, headers: Headers) -> App:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            self.seen = self.looks(scope)
            await send({"type": "http.response.start", "status": status, "headers": headers, "trailers": True})
            await send({"type": "http.response.body", "body": b"page"})

        return app

    def get(self, query: str = "", **changes: Any) -> "Answer":
        status, answer = changes.pop("status", 200), changes.pop("answer", [(b"content-type", b"text/html")])
        app = CaptureMiddleware(self.page(status, answer), kit=self)
        return run(app, scope_of(query, **changes))

    def returning(self) -> str:
        """Return the Cookie header of a visitor who was here at the time of the clock."""
        return self.get().cookie_header()


class Answer:
    def __init__(self, sent: list[Message]) -> None:
        self.sent = sent
        self.headers: Headers = list(sent[0].get("headers", []))

    @property
    def set_cookies(self) -> dict[str, str]:
        lines = [value.decode("latin-1") for name, value in self.headers if name == b"set-cookie"]
        return {line.partition("=")[0]: line.partition("=")[2] for line in lines}

    @property
    def cache_control(self) -> list[bytes]:
        return [value for name, value in self.headers if name == b"cache-control"]

    def cookie_header(self) -> str:
        return "; ".join(f"{name}={line.partition(';')[0]}" for name, line in self.set_cookies.items())


def scope_of(query: str = "", *, cookie: str | bytes = "", method: str = "GET", **changes: Any) -> Scope:
    sent = {"host": "www.shop.com", "user-agent": CHROME, "sec-fetch-mode": "navigate", "accept": "text/html"}
    sent |= changes.pop("headers", {})
    raw = [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value is not None]
    if cookie:
        raw.append((b"cookie", cookie if isinstance(cookie, bytes) else cookie.encode("latin-1")))
    scope = {
        "type": "http",
        "method": method,
        "scheme": "https",
        "path": "/shoes",
        "raw_path": b"/shoes",
        "query_string": query.encode("latin-1"),
        "headers": raw + changes.pop("more", []),
        "client": ("198.41.0.4", 4711),
    }
    return scope | changes


def run(app: App, scope: Scope) -> Answer:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app_call(app, scope, receive, send))
    return Answer(sent)


async def app_call(app: App, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


def replaced(scope: Scope) -> Visitor | None:
    capture = capture_of(scope)
    return capture.replace() if capture else None


class Breaking:
    """The rules, of which some parts raise when they are read."""

    def __init__(self, rules: CaptureRules, broken: set[str]) -> None:
        self._rules, self._broken = rules, broken

    def __getattr__(self, name: str) -> Any:
        if name in self._broken:
            raise RuntimeError(name)
        return getattr(self._rules, name)
