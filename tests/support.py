"""What tests share: a clock that stands still, a browser at the level of ASGI, and a kit with its vendors."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

from kit import Kit, Limits
from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.model import Identifiers
from kit.store.limits import look
from kit.web.middleware import CaptureMiddleware

NOON = datetime(2026, 1, 15, 12, 0, 0, tzinfo=UTC)
FPC = "0123456789abcdef0123456789abcdef-1700000000000"
KEY = "a-key-for-tests-of-32-characters"


class FrozenClock:
    """Tells the time that the test says it is."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def passes(self, duration: timedelta) -> None:
        self.now += duration


async def known_of(kit: Kit, visitor: str) -> Identifiers:
    """Return what the store knows of a visitor when all that was posted to it is written: touchpoints, unawaited."""
    await kit.store.write(look, None)
    return await kit.identifiers(visitor=visitor)


async def eventually(true: Callable[[], Awaitable[bool] | bool], *, seconds: float = 30) -> None:
    """Wait until it is so: a busy machine takes its time, and a test must not guess how much."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while True:
        answer = true()
        if answer if isinstance(answer, bool) else await answer:
            return
        assert loop.time() < deadline, "it did not come true in time"
        await asyncio.sleep(0.02)


def adroll(**fields: Any) -> AdRoll:
    given = {"advertisable": "SANDBOXADVERTISABLE001", "pixel": "SANDBOXPIXEL0000000001", "token": "sandbox-token"}
    return AdRoll(**{**given, **fields})


def rokt(**fields: Any) -> Rokt:
    given = {"account": "sandbox-account", "public_key": "rpub-sandbox", "secret_key": "rsec-sandbox"}
    return Rokt(**{**given, **fields})


def rockerbox(**fields: Any) -> Rockerbox:
    return Rockerbox(**{"advertiser": "sandbox-advertiser", **fields})


def three_vendors() -> list[Destination]:
    return [adroll(), rokt(), rockerbox()]


#: Where a test's folder has its store elsewhere than in a file of its own.
STORES: dict[Path, str] = {}


def make_kit(folder: Path, **settings: Any) -> Kit:
    """Return a kit on a SQLite file in `folder` (or see STORES), on plain http, opted out by nobody."""
    given: dict[str, Any] = {
        "secret_keys": [KEY],
        "consent": "opt_out",
        "store": STORES.get(folder, f"sqlite:///{folder}/kit.db"),
        "destinations": three_vendors(),
        "insecure_cookies": True,
        "trusted_proxies": ["127.0.0.1"],
        "worker": False,
        # A thousand tests would leave a thousand files of 8 MiB behind.
        "limits": Limits(ballast_bytes=None),
    }
    return Kit(**{**given, **settings})


@dataclass(slots=True)
class Page:
    """One request as the shop's own code sees it, and what was answered."""

    scope: dict[str, Any]
    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    @property
    def set_cookies(self) -> list[str]:
        return [value.decode("latin-1") for name, value in self.headers if name == b"set-cookie"]


class Browser:
    """Opens pages of an app wrapped by the middleware, and keeps the cookies that they set."""

    def __init__(self, kit: Kit, *, ip: str = "12.34.56.89", headers: Mapping[str, str] | None = None) -> None:
        self.kit = kit
        self.ip = ip
        self.cookies: dict[str, str] = {}
        self.headers = dict(headers or {})

    async def open(
        self, target: str, *, method: str = "GET", answer: Sequence[tuple[bytes, bytes]] = (), act: Any = None
    ) -> Page:
        """Open a page; `act(request)` is what the shop's code does while it is served."""
        path, _, query = target.partition("?")
        page = Page(self._scope(path, query, method))

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if act is not None:
                await act(page)
            await send({"type": "http.response.start", "status": 200, "headers": list(answer)})
            await send({"type": "http.response.body", "body": b""})

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b""}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                page.status, page.headers = message["status"], list(message["headers"])

        await CaptureMiddleware(app, kit=self.kit)(page.scope, receive, send)
        self._keep(page)
        return page

    def _scope(self, path: str, query: str, method: str) -> dict[str, Any]:
        headers = {
            "host": "localhost:8000",
            "accept": "text/html",
            "user-agent": "Mozilla/5.0 (X11; Linux x64) Firefox/145.0",
            "x-forwarded-for": self.ip,
            **self.headers,
        }
        if self.cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return {
            "type": "http",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 50_000),
            "server": ("localhost", 8000),
        }

    def _keep(self, page: Page) -> None:
        for line in page.set_cookies:
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
