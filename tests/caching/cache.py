"""A small shared cache before a shop, as a CDN is one: RFC 9111, and two things that some CDNs do beyond it."""

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit, urlunsplit

import httpx
from starlette.types import Receive, Scope, Send

Headers = list[tuple[bytes, bytes]]

#: Statuses that may be kept without a word about it (RFC 9110, 15.1); 206 is left out, and never kept.
_HEURISTIC = frozenset({200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501})
#: Statuses that this cache understands, for `must-understand` (RFC 9111, 5.2.2.3).
_UNDERSTOOD = _HEURISTIC | {302, 303, 307, 400, 403, 500, 503}
_HOP_BY_HOP = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"te", b"trailer", b"upgrade", b"date"})
#: Addressed to a CDN and stronger there than Cache-Control (RFC 9213, and the older name of it).
_TARGETED = (b"cdn-cache-control", b"surrogate-control")


def directives(lines: Iterable[bytes]) -> dict[str, str | None]:
    """Return the directives of Cache-Control lines in small letters; of one that stands twice, the first."""
    found: dict[str, str | None] = {}
    for part in _parts(b",".join(lines).decode("latin-1")):
        name, equals, value = part.partition("=")
        if name.strip():
            found.setdefault(name.strip().lower(), value.strip().strip('"') if equals else None)
    return found


def _parts(text: str) -> Iterable[str]:
    """Yield what stands between commas that are in no quoted string."""
    part, quoted = "", False
    for letter in text:
        quoted ^= letter == '"'
        if letter == "," and not quoted:
            yield part
            part = ""
        else:
            part += letter
    yield part


@dataclass(slots=True)
class Answer:
    """An answer as it came, and when."""

    status: int
    headers: Headers
    body: bytes
    at: float

    def values(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.headers if key.lower() == name]

    def first(self, name: bytes) -> bytes | None:
        return next(iter(self.values(name)), None)

    def control(self) -> dict[str, str | None]:
        """Return the directives that count for a CDN: those addressed to it, else those for all."""
        targeted = (self.values(name) for name in _TARGETED)
        return directives(next(filter(None, targeted), self.values(b"cache-control")))


@dataclass(slots=True)
class Stored:
    answer: Answer
    #: What the request said where the answer varies.
    asked: Mapping[bytes, bytes | None]


@dataclass(slots=True, kw_only=True)
class SharedCache:
    """An ASGI app that answers out of its memory where it may, and asks `origin` where it must.

    `keeps_cookies`  also keeps answers that set cookies, and hands the cookies on: RFC 9111 allows it, some CDNs do it.
    `ignored`        query parameters that do not tell pages apart, as shops set their CDN up for click ids.
    `silent`         seconds for which an answer is fresh that says nothing about it.
    """

    origin: httpx.AsyncClient
    keeps_cookies: bool = False
    ignored: Collection[str] = ()
    silent: float = 60.0
    clock: Callable[[], float] = time.time
    stored: dict[str, list[Stored]] = field(default_factory=dict)
    #: What became of each request: "hit", "miss", "revalidated" or "pass".
    told: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = [(name, value) for name, value in scope["headers"] if name not in _HOP_BY_HOP]
        path, query = scope["raw_path"].decode(), scope["query_string"].decode("latin-1")
        target = f"{path}?{query}" if query else path
        if scope["method"] not in {"GET", "HEAD"}:
            answer, outcome = await self._asked(scope["method"], target, asked, await _body(receive)), "pass"
            if answer.status < 400:
                self.stored.pop(self.key(target), None)
        else:
            answer, outcome = await self._answer(scope["method"], target, asked)
        self.told.append(outcome)
        headers = [*answer.headers, (b"x-cache", outcome.encode()), (b"age", b"%d" % (self.clock() - answer.at))]
        bodiless = scope["method"] == "HEAD" or answer.status in {204, 304}
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if bodiless else answer.body})

    # ------------------------------------------------------------ what is kept

    def key(self, target: str) -> str:
        """Return what tells stored answers apart: the URL without the ignored parameters."""
        parts = urlsplit(target)
        pairs = [pair for pair in parts.query.split("&") if pair.partition("=")[0] not in self.ignored]
        return urlunsplit(parts._replace(query="&".join(pairs)))

    def may_store(self, asked: Headers, answer: Answer) -> bool:
        """Return whether a shared cache may keep the answer to this GET (RFC 9111, 3 and 3.5)."""
        control, names = answer.control(), {name for name, _ in asked}
        understood = "must-understand" in control and answer.status in _UNDERSTOOD
        if "no-store" in control and not understood:
            return False
        # Qualified, it is about the headers that it names.
        if "private" in control and control["private"] is None:
            return False
        if b"authorization" in names and not {"public", "s-maxage", "must-revalidate"} & control.keys():
            return False
        if answer.status in {206, 304} or answer.status < 200 or b"*" in b"".join(answer.values(b"vary")):
            return False
        if answer.values(b"set-cookie") and not self.keeps_cookies:
            return False
        said = {"public", "max-age", "s-maxage"} & control.keys() or answer.values(b"expires")
        return bool(said) or answer.status in _HEURISTIC

    def fresh_until(self, answer: Answer) -> float:
        """Return until when the answer needs no asking (RFC 9111, 4.2.1 and 4.2.2)."""
        control = answer.control()
        if "no-cache" in control:
            return answer.at
        for name in ("s-maxage", "max-age"):
            if name in control:
                text = control[name] or ""
                return answer.at + (int(text) if text.isdecimal() else 0)
        if (expires := answer.first(b"expires")) is not None:
            try:
                return parsedate_to_datetime(expires.decode("latin-1")).timestamp()
            except ValueError:
                return answer.at
        return answer.at + self.silent

    # ------------------------------------------------------------ how it is answered

    async def _answer(self, method: str, target: str, asked: Headers) -> tuple[Answer, str]:
        found = self._found(target, asked)
        again = {"no-cache", "max-age"} & directives(value for name, value in asked if name == b"cache-control").keys()
        if found is not None and not again and self.clock() < self.fresh_until(found):
            return _to(asked, found), "hit"
        validator = found.first(b"etag") if found is not None else None
        if found is None or validator is None:
            return await self._kept(method, target, asked), "miss"
        conditional = [(name, value) for name, value in asked if not name.startswith(b"if-")]
        fresh = await self._asked("GET", target, [*conditional, (b"if-none-match", validator)], b"")
        if fresh.status != 304:
            return self._keep(target, asked, fresh), "miss"
        self._freshen(found, fresh)
        return _to(asked, found), "revalidated"

    def _found(self, target: str, asked: Headers) -> Answer | None:
        said = dict(asked)
        for each in self.stored.get(self.key(target), ()):
            if all(said.get(name) == value for name, value in each.asked.items()):
                return each.answer
        return None

    async def _kept(self, method: str, target: str, asked: Headers) -> Answer:
        answer = await self._asked(method, target, asked, b"")
        return self._keep(target, asked, answer) if method == "GET" else answer

    def _keep(self, target: str, asked: Headers, answer: Answer) -> Answer:
        if self.may_store(asked, answer):
            named = answer.control().get("private") or ""
            less = {name.strip().lower().encode() for name in named.split(",")}
            kept = [(name, value) for name, value in answer.headers if name.lower() not in less]
            said = dict(asked)
            varying = [name.strip().lower() for line in answer.values(b"vary") for name in line.split(b",")]
            entry = Stored(
                Answer(answer.status, kept, answer.body, answer.at), {name: said.get(name) for name in varying}
            )
            others = [each for each in self.stored.get(self.key(target), []) if each.asked != entry.asked]
            self.stored[self.key(target)] = [*others, entry]
        return answer

    def _freshen(self, found: Answer, fresh: Answer) -> None:
        """Take over the headers of a 304 (RFC 9111, 3.2)."""
        taken = {name.lower() for name, _ in fresh.headers} - {b"content-length"}
        if not self.keeps_cookies:
            taken -= {b"set-cookie"}
        kept = [(name, value) for name, value in found.headers if name.lower() not in taken]
        found.headers = kept + [(name, value) for name, value in fresh.headers if name.lower() in taken]
        found.at = fresh.at

    async def _asked(self, method: str, target: str, asked: Headers, body: bytes) -> Answer:
        # Built as it is: headers and cookies of a client have no place here.
        request = httpx.Request(method, self.origin.base_url.join(target), headers=asked, content=body)
        answer = await self.origin.send(request)
        headers = [(name.lower(), value) for name, value in answer.headers.raw if name.lower() not in _HOP_BY_HOP]
        self.origin.cookies.clear()
        return Answer(answer.status_code, headers, answer.content, self.clock())


def _to(asked: Headers, answer: Answer) -> Answer:
    """Return the answer, or a 304 for whoever has it already."""
    etag = answer.first(b"etag")
    if etag is None or dict(asked).get(b"if-none-match") != etag:
        return answer
    return Answer(304, [header for header in answer.headers if header[0] != b"content-length"], b"", answer.at)


async def _body(receive: Receive) -> bytes:
    body = b""
    while True:
        message = await receive()
        body += bytes(message.get("body", b""))
        if not message.get("more_body", False):
            return body
