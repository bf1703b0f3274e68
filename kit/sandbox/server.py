"""The sandbox: the three vendors together, with their credentials, over ASGI or over a real socket."""

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route

from kit.errors import ConfigurationError
from kit.sandbox import page
from kit.sandbox.adroll import AdRoll
from kit.sandbox.rockerbox import Rockerbox
from kit.sandbox.rokt import Rokt, Window
from kit.sandbox.vendor import Clock, Settings, Vendor, utc_now

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

#: How many calls /calls.json returns when `limit` does not say.
_CALLS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What a destination must be configured with to be let in. The foreign token is known to AdRoll, for another
    advertisable: it is answered 403."""

    adroll_advertisable: str = "SANDBOXADVERTISABLE001"
    adroll_pixel: str = "SANDBOXPIXEL0000000001"
    adroll_token: str = field(default="sandbox-token", repr=False)
    adroll_foreign_token: str = field(default="sandbox-foreign-token", repr=False)
    rokt_account: str = "sandbox-account"
    rokt_public_key: str = "rpub-sandbox"
    rokt_secret_key: str = field(default="rsec-sandbox", repr=False)
    rockerbox_advertiser: str = "sandbox-advertiser"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a served sandbox is. A destination's `base_url` is its vendor's URL here."""

    url: str

    @property
    def adroll_url(self) -> str:
        return f"{self.url}/adroll"

    @property
    def rokt_url(self) -> str:
        return f"{self.url}/rokt"

    @property
    def rockerbox_url(self) -> str:
        return f"{self.url}/rockerbox"


class _FaultBody(BaseModel):
    """The JSON of `POST /faults`; the fields are those of `Vendor.answers`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: Literal["adroll", "rokt", "rockerbox"]
    status: int | None = Field(default=None, ge=200, le=599)
    headers: Mapping[str, str] = {}
    body: JsonValue = None
    delay: float = Field(default=0.0, ge=0, le=3600)
    drip: float = Field(default=0.0, ge=0, le=60)
    reset: Literal["before", "during", "after"] | None = None
    close: bool = False
    counts: bool | None = None
    times: int | None = Field(default=1, ge=1)


class Sandbox:
    """AdRoll, Rokt and Rockerbox on this machine: strict by default, and scripted to fail where a test needs it.

    `strict`               see Settings; False refuses only what would certainly be refused, and warns of the rest
    `clock`                the time that windows and records go by
    `keep`                 how many requests each vendor remembers
    `rokt_window`          what an event outside Rokt's time window refuses: the "request" or the "event" alone
    `rockerbox_key`        the conversion key set in Rockerbox's own settings, fields with commas between
    `rockerbox_cross_day`  Rockerbox's switch: repeats are told apart from day to day too
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        strict: bool = True,
        clock: Clock = utc_now,
        keep: int = 100_000,
        rokt_window: Window = "request",
        rockerbox_key: str = "order_id",
        rockerbox_cross_day: bool = False,
    ) -> None:
        held = self.credentials = credentials or Credentials()
        settings = Settings(strict=strict, clock=clock, keep=keep)
        tokens = {held.adroll_foreign_token: "", held.adroll_token: held.adroll_advertisable}
        self.adroll = AdRoll(tokens, settings)
        accounts = frozenset({held.rokt_account})
        self.rokt = Rokt(held.rokt_public_key, held.rokt_secret_key, accounts, settings, window=rokt_window)
        advertisers = frozenset({held.rockerbox_advertiser})
        self.rockerbox = Rockerbox(advertisers, settings, key=rockerbox_key, cross_day=rockerbox_cross_day)
        self.app = Starlette(
            routes=[
                Route("/", self._page),
                Route("/calls.json", self._calls),
                Route("/faults", self._faults, methods=["POST"]),
                Route("/clear", self._clear, methods=["POST"]),
                *(Mount(f"/{vendor.name}", app=vendor) for vendor in self.vendors),
            ]
        )

    @property
    def vendors(self) -> tuple[Vendor, Vendor, Vendor]:
        return (self.adroll, self.rokt, self.rockerbox)

    def environment(self, addresses: Addresses) -> list[str]:
        """Return the `KIT_*` lines with which a shop reports to this sandbox instead of to the vendors."""
        held = self.credentials
        return [
            f"KIT_ADROLL_ADVERTISABLE={held.adroll_advertisable}",
            f"KIT_ADROLL_PIXEL={held.adroll_pixel}",
            f"KIT_ADROLL_TOKEN={held.adroll_token}",
            f"KIT_ADROLL_BASE_URL={addresses.adroll_url}",
            f"KIT_ROKT_ACCOUNT={held.rokt_account}",
            f"KIT_ROKT_PUBLIC_KEY={held.rokt_public_key}",
            f"KIT_ROKT_SECRET_KEY={held.rokt_secret_key}",
            f"KIT_ROKT_BASE_URL={addresses.rokt_url}",
            f"KIT_ROCKERBOX_ADVERTISER={held.rockerbox_advertiser}",
            f"KIT_ROCKERBOX_BASE_URL={addresses.rockerbox_url}",
        ]

    def clear(self) -> None:
        """Forget everything that the vendors got and every fault that waits."""
        for vendor in self.vendors:
            vendor.clear()

    def transport(self) -> httpx.ASGITransport:
        """Return a transport into the app without a socket; resets surface as ConnectionResetError."""
        return httpx.ASGITransport(app=self.app)

    @contextmanager
    def serve(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[Addresses]:
        """Serve over a socket from a thread of its own; port 0 takes a free one.

        Raises ConfigurationError when uvicorn is not installed.
        """
        _need_uvicorn()
        from kit.sandbox.sockets import served_in_thread

        with served_in_thread(self.app, host, port) as url:
            yield Addresses(url)

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Addresses]:
        """Serve over a socket from the running event loop; port 0 takes a free one.

        Raises ConfigurationError when uvicorn is not installed.
        """
        _need_uvicorn()
        from kit.sandbox.sockets import served_in_loop

        async with served_in_loop(self.app, host, port) as url:
            yield Addresses(url)

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(page.html(self.vendors), headers=_PAGE_HEADERS)

    async def _calls(self, request: Request) -> Response:
        try:
            limit = int(request.query_params.get("limit", _CALLS))
        except ValueError:
            return JSONResponse({"errors": ["limit is not a whole number"]}, status_code=400)
        return JSONResponse(page.as_json(self.vendors, max(limit, 0)), headers={"Cache-Control": "no-store"})

    async def _faults(self, request: Request) -> Response:
        try:
            given = _FaultBody.model_validate_json(await request.body())
        except ValidationError as exc:
            problems = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors()]
            return JSONResponse({"errors": problems}, status_code=400)
        vendor: Vendor = getattr(self, given.vendor)
        settings = {name: getattr(given, name) for name in type(given).model_fields if name != "vendor"}
        vendor.answers(**settings)
        return JSONResponse({"waiting": vendor.faults}, status_code=201)

    async def _clear(self, request: Request) -> Response:
        self.clear()
        return Response(status_code=204)


def _need_uvicorn() -> None:
    try:
        import uvicorn  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise ConfigurationError("sandbox", "needs uvicorn; install attribution-kit[cli]") from exc
