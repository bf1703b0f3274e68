"""The sandbox: every vendor's surfaces together, with their credentials, over ASGI or over a real socket."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import httpx
from starlette.applications import Starlette
from starlette.routing import Host, Mount
from starlette.types import Receive, Scope, Send

from kit.errors import ConfigurationError
from kit.sandbox.adroll import AdRoll, Errors
from kit.sandbox.control import Control
from kit.sandbox.credentials import Addresses as Addresses
from kit.sandbox.credentials import Credentials as Credentials
from kit.sandbox.credentials import environment
from kit.sandbox.doors import Tokens
from kit.sandbox.rockerbox import Rockerbox
from kit.sandbox.rokt import Rokt, Window
from kit.sandbox.rokt_audience import RoktAudience
from kit.sandbox.rokt_conversions import Locates, RoktConversions
from kit.sandbox.rokt_deletions import RoktDeletions
from kit.sandbox.rokt_postback import RoktPostback
from kit.sandbox.rokt_token import RoktToken, Spelling
from kit.sandbox.settings import Clock, Settings, utc_now
from kit.sandbox.vendor import Vendor


class _ByPath:
    """Several surfaces at one address: the path decides, and the first one answers for what nobody claims."""

    def __init__(self, surfaces: Sequence[Vendor]) -> None:
        self._surfaces = surfaces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        claimed = (surface for surface in self._surfaces if path.startswith(surface.paths))
        await next(claimed, self._surfaces[0])(scope, receive, send)


class Sandbox:
    """AdRoll, Rokt and Rockerbox on this machine: strict by default, and scripted to fail where a test needs it.

    `adroll`, `rokt` (Event API) and `rockerbox` are the three `vendors`; Rokt's other surfaces, each with requests,
    faults and a view of its own, are `rokt_token`, `rokt_conversions`, `rokt_audience`, `rokt_postback`,
    `rokt_deletions`. All of them are the `surfaces`.

    `strict`                   see Settings; False refuses only what would certainly be refused, and warns of the rest
    `clock`                    the time that windows, tokens, keys and records go by
    `keep`                     how many requests each vendor remembers
    `adroll_errors`            what a wrong event refuses: the "request" or the "event" alone
    `adroll_object_only`       AdRoll takes one object a request and no list
    `rokt_window`              what an event outside Rokt's time window refuses: the "request" or the "event" alone
    `rokt_oauth_spelling`      how the token's answer spells its key, "access_token" or "Access_token"
    `rokt_conversions_locates` how a bulk error says where: "both", "path", "position" or "nothing"
    `rockerbox_key`            the conversion key set in Rockerbox's own settings, fields with commas between
    `rockerbox_cross_day`      Rockerbox's switch: repeats are told apart from day to day too
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        strict: bool = True,
        clock: Clock = utc_now,
        keep: int = 100_000,
        adroll_errors: Errors = "request",
        adroll_object_only: bool = False,
        rokt_window: Window = "request",
        rokt_oauth_spelling: Spelling = "access_token",
        rokt_conversions_locates: Locates = "both",
        rockerbox_key: str = "order_id",
        rockerbox_cross_day: bool = False,
    ) -> None:
        held = self.credentials = credentials or Credentials()
        settings = Settings(strict=strict, clock=clock, keep=keep)
        tokens, accounts, pair = Tokens(), frozenset({held.rokt_account}), (held.rokt_public_key, held.rokt_secret_key)
        known = {held.adroll_foreign_token: "", held.adroll_token: held.adroll_advertisable}
        self.adroll = AdRoll(known, settings, errors=adroll_errors, object_only=adroll_object_only)
        self.rokt = Rokt(*pair, accounts, tokens, settings, window=rokt_window)
        self.rokt_token = RoktToken(
            held.rokt_app_id, held.rokt_app_secret, tokens, settings, spelling=rokt_oauth_spelling
        )
        self.rokt_conversions = RoktConversions(
            held.rokt_api_key, held.rokt_api_secret, settings, locates=rokt_conversions_locates
        )
        self.rokt_audience = RoktAudience(*pair, held.rokt_audience_key, accounts, settings)
        self.rokt_postback = RoktPostback(accounts, settings)
        self.rokt_deletions = RoktDeletions(tokens, accounts, settings)
        advertisers = frozenset({held.rockerbox_advertiser})
        self.rockerbox = Rockerbox(advertisers, settings, key=rockerbox_key, cross_day=rockerbox_cross_day)
        self.app = self._app()
        self._served: list[Addresses] = []

    @property
    def vendors(self) -> tuple[Vendor, Vendor, Vendor]:
        return (self.adroll, self.rokt, self.rockerbox)

    @property
    def surfaces(self) -> tuple[Vendor, ...]:
        return (
            self.adroll,
            self.rokt,
            self.rokt_token,
            self.rokt_conversions,
            self.rokt_audience,
            self.rokt_postback,
            self.rokt_deletions,
            self.rockerbox,
        )

    @property
    def addresses(self) -> Addresses:
        """Return where this is served, the newest address if it is served more than once.

        Raises ConfigurationError when it is not served.
        """
        if not self._served:
            raise ConfigurationError("sandbox", "is not served; enter `serve()` or `serving()` first")
        return self._served[-1]

    def environment(self, addresses: Addresses) -> list[str]:
        """Return the `KIT_*` lines with which a shop reports to this sandbox instead of to the vendors."""
        return environment(self.credentials, addresses)

    def clear(self) -> None:
        """Forget everything that the vendors got and every fault that waits."""
        for surface in self.surfaces:
            surface.clear()

    def transport(self) -> httpx.ASGITransport:
        """Return a transport into the app without a socket; resets surface as ConnectionResetError.

        It serves the vendors' real host names too: a client with this transport reaches no other.
        """
        return httpx.ASGITransport(app=self.app)

    @contextmanager
    def serve(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[Addresses]:
        """Serve over a socket from a thread of its own; port 0 takes a free one.

        Raises ConfigurationError when uvicorn is not installed.
        """
        _need_uvicorn()
        from kit.sandbox.sockets import served_in_thread

        with served_in_thread(self.app, host, port) as url, self._at(url) as addresses:
            yield addresses

    @asynccontextmanager
    async def serving(self, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Addresses]:
        """Serve over a socket from the running event loop; port 0 takes a free one.

        Raises ConfigurationError when uvicorn is not installed.
        """
        _need_uvicorn()
        from kit.sandbox.sockets import served_in_loop

        async with served_in_loop(self.app, host, port) as url:
            with self._at(url) as addresses:
                yield addresses

    @contextmanager
    def _at(self, url: str) -> Iterator[Addresses]:
        addresses = Addresses(url)
        self._served.append(addresses)
        try:
            yield addresses
        finally:
            self._served.remove(addresses)

    def _app(self) -> Starlette:
        rokt = _ByPath([surface for surface in self.surfaces if surface is self.rokt or surface.paths])
        control = Control(self.surfaces, self.clear)
        return Starlette(
            routes=[
                Mount("/adroll", self.adroll),
                Mount("/rokt", rokt),
                Mount("/rokt-conversions", self.rokt_conversions),
                Mount("/rockerbox", self.rockerbox),
                Host("srv.adroll.com", self.adroll),
                Host("{surface}.rokt.com", rokt),
                Host("{pod}.mparticle.com", self.rokt_conversions),
                Host("webhooks.getrockerbox.com", self.rockerbox),
                *control.routes,
            ]
        )


def _need_uvicorn() -> None:
    try:
        import uvicorn  # noqa: F401 - only whether it is there
    except ImportError as exc:
        raise ConfigurationError("sandbox", "needs uvicorn; install attribution-kit[cli]") from exc
