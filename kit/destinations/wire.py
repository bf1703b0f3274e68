"""The one file that touches the network: sends a request once, and says whether a byte left and what came back.

The send mark alone decides (design.md 7): it is set in aiohttp's callback right before the first byte, so no mark
means not sent, and a mark without an answer means that nobody knows. Exception types are never consulted: a reset that
came after the whole request had arrived may look like a connection that failed.
"""

import asyncio
import functools
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace

import aiohttp
import httpx

from kit.destinations.base import Answer

#: A connection idle for longer is not used again: many servers close at five seconds, under our next write.
KEEP_ALIVE = timedelta(seconds=5)
#: How much of an answer is read: room for an echo of the request (Rokt returns what it refused), with an upper bound.
READ_AT_LEAST = 64 * 1024
READ_AT_MOST = 2 * 1024 * 1024

#: Whatever an attempt may end with besides an answer. All mean the same here; only the name is kept.
_FAILURES = (
    httpx.HTTPError,
    httpx.StreamError,
    httpx.InvalidURL,
    aiohttp.ClientError,
    aiohttp.http_exceptions.HttpProcessingError,
    OSError,  # TLS, DNS and both TimeoutErrors are OSErrors
    EOFError,  # asyncio.IncompleteReadError
    ValueError,  # headers, encodings and lengths that cannot be
    RuntimeError,  # a session or a transport closed under the attempt
    asyncio.InvalidStateError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """What one attempt came to. Without an answer, `sent` says whether the vendor may have the request all the same.

    `error` is an exception's class name, never its text, which may repeat what was sent. `certificate` is what TLS
    found wrong with the vendor's certificate, in its own words, when that is why nothing was sent.
    """

    sent: bool
    answer: Answer | None = None
    error: str = ""
    certificate: str = ""


class LeaseLost(Exception):  # noqa: N818 - reads as what happened
    """The delivery was no longer ours at the moment of writing. Nothing was sent."""


class SecondWrite(Exception):  # noqa: N818 - reads as what happened
    """The client wanted to repeat the request by itself, on a connection that had gone stale."""


@dataclass(slots=True)
class _Attempt:
    """The only mutable thing of a send: what aiohttp's callbacks learn about it."""

    lease: Callable[[], bool]
    headers_made: bool = False
    body_begun: bool = False
    sent: bool = False
    lost: bool = False
    response: aiohttp.ClientResponse | None = None


_attempt: ContextVar[_Attempt] = ContextVar("kit.wire.attempt")


class Wire:
    """Sends one destination's requests over its own connections. One for each destination and event loop.

    `connect_timeout`  for TCP and TLS together; `deadline` for everything, the wait for a free connection and the
                       answer's last byte included.

    `tls`              whom to trust; left out, the certificate authorities of certifi.

    Redirects, cookies, proxies, .netrc and certificates of the environment are not followed, kept or read.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        connect_timeout: timedelta = timedelta(seconds=5),
        deadline: timedelta = timedelta(seconds=20),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._max_connections = max_connections
        self._deadline = deadline
        self._tls = tls or _tls()
        self._timeout = aiohttp.ClientTimeout(sock_connect=connect_timeout.total_seconds())
        # It needs a running loop, so it is made with the first request.
        self._session: aiohttp.ClientSession | None = None

    async def send(self, request: httpx.Request, *, lease: Callable[[], bool]) -> Exchange:
        """Send the request at most once and return what came of it; cancellation is passed on.

        `lease` is asked right before the first byte: False, and nothing is sent.
        """
        attempt = _Attempt(lease=lease)
        token = _attempt.set(attempt)
        try:
            async with asyncio.timeout(self._deadline.total_seconds()):
                answer = await self._exchange(request, attempt)
        except (LeaseLost, SecondWrite, *_FAILURES) as exc:
            # aiohttp wraps what is raised right before the body.
            kind = LeaseLost if attempt.lost else type(exc)
            return Exchange(sent=attempt.sent, error=kind.__name__, certificate=_wrong_certificate(exc))
        finally:
            _attempt.reset(token)
            if attempt.response is not None:
                attempt.response.close()
        return Exchange(sent=True, answer=answer)

    async def aclose(self) -> None:
        """Close all connections. What is under way ends without an answer."""
        if self._session is not None:
            await self._session.close()

    async def _exchange(self, request: httpx.Request, attempt: _Attempt) -> Answer:
        request.headers["Accept-Encoding"] = "identity"
        if self._session is None:
            self._session = self._new_session()
        content = await request.aread()
        # By aiohttp itself: httpx's transport over it costs a sixth more and adds nothing that is used here.
        attempt.response = response = await self._session.request(
            request.method,
            str(request.url),
            headers=request.headers,
            data=content or None,
            allow_redirects=False,
            auto_decompress=False,
            timeout=self._timeout,
        )
        limit = min(READ_AT_LEAST + 2 * len(content), READ_AT_MOST)
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                break
        else:
            response.release()
            await response.wait_for_close()
        cut = len(body) > limit
        headers = httpx.Headers(response.raw_headers)
        return Answer(status=response.status, headers=headers, body=bytes(body[:limit]), cut=cut)

    def _new_session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._max_connections, keepalive_timeout=KEEP_ALIVE.total_seconds(), ssl=self._tls
            ),
            # The default jar would send one visitor's Set-Cookie along with the next visitor's event.
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            trace_configs=[_trace()],
            trust_env=False,
        )


def _trace() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()
    # Despite their names these run before anything is written: raising in them sends nothing.
    trace.on_request_headers_sent.append(_before_headers)
    trace.on_request_chunk_sent.append(_before_body)
    return trace


async def _before_headers(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestHeadersSentParams
) -> None:
    attempt = _attempt.get()
    if attempt.headers_made:
        raise SecondWrite
    attempt.headers_made = True
    _mark(attempt)


async def _before_body(
    _session: aiohttp.ClientSession, _context: SimpleNamespace, _params: aiohttp.TraceRequestChunkSentParams
) -> None:
    # Headers wait for the body and go out with it, in the very step that follows this one: milliseconds after they
    # were made, in which a process may have been frozen for minutes.
    attempt = _attempt.get()
    if not attempt.body_begun:
        attempt.body_begun = True
        _mark(attempt)


def _mark(attempt: _Attempt) -> None:
    if not attempt.lease():
        attempt.sent, attempt.lost = False, True
        raise LeaseLost
    attempt.sent = True


def _wrong_certificate(error: BaseException | None) -> str:
    """Return what was found wrong with the certificate, where that is at the bottom of this error."""
    while error is not None:
        # aiohttp's own error is one of these too, without the words.
        if isinstance(error, ssl.SSLCertVerificationError) and hasattr(error, "verify_message"):
            return error.verify_message
        error = error.__cause__ or error.__context__
    return ""


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
