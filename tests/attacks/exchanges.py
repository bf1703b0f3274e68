"""Exchanges that no browser makes, each with the statuses that h11 and httptools answer.

The last request of each closes its connection, unless the server closes it before.
"""

from dataclasses import dataclass

CRLF = b"\r\n"
PERSON = b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r\nAccept: text/html\r\n"
SAME = b"Sec-Fetch-Site: same-origin\r\nContent-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"

Statuses = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exchange:
    """`expected` are the statuses of all answers, in order: each that is right. VISITOR stands for a known cookie."""

    row: str
    name: str
    sent: bytes
    expected: tuple[Statuses, ...]

    def __str__(self) -> str:
        return f"{self.row} {self.name}"


def to(row: str, name: str, sent: bytes, *statuses: int) -> Exchange:
    """Return an exchange of one right end."""
    return Exchange(row, name, sent, (statuses,))


def may(row: str, name: str, sent: bytes, *statuses: int) -> Exchange:
    """Return an exchange that the server may also refuse by itself."""
    return Exchange(row, name, sent, (statuses, (400,)))


def page(target: bytes = b"/", *lines: bytes, close: bytes = CLOSE, host: bytes = b"www.shop.com") -> bytes:
    """Return a person's GET with further header lines."""
    further = b"".join(line + CRLF for line in lines)
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b%b%b\r\n" % (target, host, PERSON, further, close)


def post(path: bytes, body: bytes, *lines: bytes, length: bytes | None = None, close: bytes = CLOSE) -> bytes:
    """Return a POST of JSON as a page of the shop makes it; `length` replaces the header's number."""
    further = b"".join(line + CRLF for line in lines)
    size = b"%d" % len(body) if length is None else length
    sized = b"Content-Length: %b\r\n" % size if size else b""
    head = PERSON + SAME + sized + further + close
    return b"POST %b HTTP/1.1\r\nHost: www.shop.com\r\n%b\r\n%b" % (path, head, body)


def collect(body: bytes, *lines: bytes, length: bytes | None = None, close: bytes = CLOSE) -> bytes:
    return post(b"/kit/collect", body, *lines, length=length, close=close)


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


def odd(path: bytes, body: bytes, text: str) -> bytes:
    return post(path, body.replace(b"TEXT", text.encode()), b"Cookie: VISITOR")


def elsewhere(sent: bytes) -> bytes:
    """Return the request as a page of another site makes it."""
    return sent.replace(b"same-origin", b"cross-site")


#: Leaves the length out.
NONE = b""
HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: www.shop.com\r\nConnection: close\r\n\r\n"
TE = b"Transfer-Encoding: chunked"


#: What a proxy and the server behind it may read differently.
UNDECIDED = [
    Exchange("W18", "a length and chunks", collect(b"0\r\n\r\n" + HIDDEN, TE, close=b""), ((400,), (400, 200))),
    Exchange(
        "W18",
        "chunks and a shorter length",
        collect(b"0\r\n\r\n" + HIDDEN, TE, length=b"5", close=b""),
        ((400,), (400, 200)),
    ),
]

#: No JSON: empty, with a byte order mark, UTF-16, invalid UTF-8, a raw NUL, too deep.
BROKEN = (b"", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a": "\xff"}', b'{"a": "\x00"}', b"[" * 8_000)
#: JSON whose texts nobody should keep; TEXT is replaced.
TEXTS = (r"\ud800", r"\u0000", r"a\u0085b", r"\u202eb", r"\ufeff", r"\r\nSet-Cookie: a=b")
ODD = {
    b"/kit/collect": b'{"params": {"adct": "TEXT", "utm_source": "TEXT"}, "fpc": "TEXT", "url": "https://a.co/TEXT"}',
    b"/kit/identify": b'{"email": "TEXT@example.com", "customer_id": "TEXT", "phone": "TEXT", "name": "TEXT"}',
    b"/kit/track": b'{"name": "add_to_cart", "event_id": "TEXT", "keywords": "TEXT", "url": "TEXT", "value": "TEXT"}',
    b"/kit/pixels": b'{"order_id": "TEXT", "pixel": "adroll", "name": "TEXT"}',
}

EXCHANGES = [
    may("W01", "an adct of 60 KB", page(b"/?adct=" + b"x" * 60_000), 200),
    to("W01", "an adct of 200 KB", page(b"/?adct=" + b"x" * 200_000), 400),
    to("W01", "an adct of 10 MB", page(b"/?adct=" + b"x" * 10_000_000), 400),
    may("W01", "a path of 60 KB", page(b"/" + b"p" * 60_000), 200),
    may("W01", "a cookie of 1 MB", page(b"/own", b"Cookie: a=" + b"x" * 1_000_000), 200),
    may("W01", "our cookie, 1 MB long", page(b"/own", b"Cookie: __Host-kit=" + b"x" * 1_000_000), 200),
    may("W01", "a host of 1 MB", page(host=b"h" * 1_000_000), 200),
    may("W01", "10,000 headers", page(b"/own", *(b"X-%d: v" % number for number in range(10_000))), 200),
    may("W01", "2,000 Cookie headers", page(b"/own", *[b"Cookie: __Host-kit=1"] * 4_000), 200),
    to("W03", "two clicks", page(b"/?adct=a&adct=b"), 200),
    # More than 16 KB of a head that comes in pieces is too much for h11.
    may("W03", "10,000 parameters", page(b"/?" + b"a=1&" * 10_000 + b"adct=x"), 200),
    to("W03", "semicolons and capitals", page(b"/?ADCT=a;adct=b&Adct=c;&=;&&&===&adct"), 200),
    to("W07", "300 cookies", page(b"/own", b"Cookie: " + b"; ".join(b"c%d=v" % n for n in range(300))), 200),
    to("W08", "quoted octal", page(b"/own", b'Cookie: a="\\012\\015"; __Host-kit="\\012"; b=c'), 200),
    to("W09", "10 KB of X-Forwarded-For", page(b"/own", b"X-Forwarded-For: " + b"1.2.3.4, " * 1_100), 200),
    to("W09", "X-Forwarded-For of junk", page(b"/own", b"X-Forwarded-For: [::1%25x]:80, \xff, 1.2.3, -"), 200),
    to("W10", "two origins, ours first", collect(b"{}", b"Sec-Fetch-Site: cross-site"), 204),
    to("W10", "no origin at all", collect(b"{}").replace(b"Sec-Fetch-Site: same-origin\r\n", b""), 403),
    to("W10", "an origin of another kind", post(b"/kit/identify", b"{}").replace(b"same-origin", b"same-site"), 403),
    to("W10", "a form", post(b"/kit/identify", b"email=a").replace(b"application/json", b"text/plain"), 415),
    to("W17", "a target to go to", post(b"/kit/collect?next=https://evil.test&return_to=//evil.test", b"{}"), 204),
    to("W17", "a target in the path", page(b"/kit//evil.test/%2f.."), 404),
    to("W17", "a slash too many", post(b"/kit/collect/", b"{}"), 204),
    # ------------------------------------------------------------ framing
    to("W18", "two lengths", collect(b"{}", b"Content-Length: 3"), 400),
    may("W18", "two lengths that agree", collect(b"{}", b"Content-Length: 2"), 204),
    to("W18", "two lengths in one", collect(b"{}", length=b"2, 3"), 400),
    to("W18", "a length with a sign", collect(b"{}", length=b"+2"), 400),
    to("W18", "a negative length", collect(b"{}", length=b"-2"), 400),
    to("W18", "a length in hex", collect(b"{}", length=b"0x2"), 400),
    may("W18", "a length of 2^64", collect(b"{}", length=b"18446744073709551618"), 413),
    to("W18", "chunks twice", collect(chunked(b"{}"), TE, TE, length=NONE), 400),
    to("W18", "unknown coding", collect(chunked(b"{}"), b"Transfer-Encoding: xchunked", length=NONE), 400),
    to("W18", "chunks, then gzip", collect(chunked(b"{}"), b"Transfer-Encoding: chunked, gzip", length=NONE), 400),
    to("W18", "a blank before the colon", collect(chunked(b"{}"), b"Transfer-Encoding : chunked", length=NONE), 400),
    to("W18", "a tab in the coding", collect(chunked(b"{}"), b"Transfer-Encoding: \x0bchunked", length=NONE), 400),
    may("W18", "a folded line", page(b"/", b"X-A: 1", b" folded: 2"), 200),
    to("W18", "a header without a name", page(b"/", b": value"), 400),
    to("W18", "a header without a colon", page(b"/", b"nothing"), 400),
    may("W18", "bare line feeds", page(b"/").replace(CRLF, b"\n"), 200),
    to("W18", "a bare carriage return", page(b"/", b"X-A: 1\rHost: evil.test"), 400),
    to("W18", "a NUL in a value", page(b"/", b"X-A: 1\x002"), 400),
    to("W18", "chunk of no size", collect(b"zz\r\n{}\r\n0\r\n\r\n", TE, length=NONE), 400),
    may("W18", "chunk with extension", collect(b"2;a=b\r\n{}\r\n0\r\n\r\n", TE, length=NONE), 204),
    to("W18", "chunk too long for its size", collect(b"1\r\n{}\r\n0\r\n\r\n", TE, length=NONE), 400),
    may("W18", "a chunk of 2^64", collect(b"10000000000000002\r\n{}\r\n0\r\n\r\n", TE, length=NONE), 408),
    may(
        "W18",
        "a header after the chunks",
        collect(b"2\r\n{}\r\n0\r\nOrigin: https://evil.test\r\n\r\n", TE, length=NONE),
        204,
    ),
    to(
        "W18",
        "a body of a GET that looks like a request",
        page(b"/", b"Content-Length: %d" % len(HIDDEN), close=b"") + HIDDEN + page(),
        200,
        200,
    ),
    to("W18", "a refused body that looks like a request", post(b"/kit/absent", HIDDEN, close=b"") + page(), 404, 200),
    to("W18", "a forbidden body that looks like a request", elsewhere(collect(HIDDEN, close=b"")) + page(), 403, 200),
    to("W18", "five requests at once", page(close=b"") * 4 + page(), 200, 200, 200, 200, 200),
    to("W18", "HTTP/1.0", page().replace(b"HTTP/1.1", b"HTTP/1.0"), 200),
    may("W18", "HTTP/0.9", b"GET /\r\n\r\n", 200),
    may("W18", "HTTP/2 in clear", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 200, 400),
    may("W18", "HTTP/9.9", page().replace(b"HTTP/1.1", b"HTTP/9.9"), 200),
    to("W18", "no request at all", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    # ------------------------------------------------------------ methods and bodies
    to("W19", "TRACE", page().replace(b"GET", b"TRACE"), 200),
    may("W19", "an unknown method", page(b"/kit/collect").replace(b"GET", b"BREW"), 405),
    may("W19", "a method in small letters", page(b"/kit/collect").replace(b"GET", b"post"), 405),
    to("W19", "PUT", collect(b"{}").replace(b"POST", b"PUT"), 405),
    may("W19", "CONNECT", page(b"/kit/collect").replace(b"GET", b"CONNECT"), 405),
    may("W19", "OPTIONS *", page(b"*").replace(b"GET", b"OPTIONS"), 200),
    to("W19", "another method by a header", page(b"/kit/reset", b"X-HTTP-Method-Override: POST"), 405),
    to("W19", "a prefetch", page(b"/?adct=a", b"Sec-Purpose: prefetch;prerender"), 200),
    may(
        "W21",
        "a websocket that nobody speaks",
        page(b"/", b"Upgrade: websocket", b"Sec-WebSocket-Key: x", close=b"Connection: Upgrade, close\r\n"),
        200,
    ),
    may("W27", "two hosts", page(b"/own", b"Host: evil.test"), 200),
    may("W27", "no host", page(b"/own").replace(b"Host: www.shop.com\r\n", b""), 200),
    to("W27", "a host of nonsense", page(b"/own", host=b"evil.test; Domain=shop.com"), 200),
    may("W27", "an absolute target", page(b"http://evil.test/own?adct=a"), 200),
    to("W27", "two slashes", page(b"//evil.test/own?adct=a"), 200),
    to("B08", "a body of 10 MB", collect(b" " * 10_000_000), 413),
    to("B08", "10 MB in chunks", collect(chunked(*[b" " * 50_000] * 200), TE, length=NONE), 413),
    to("B08", "a length of 10 GB and no body", collect(b"", length=b"9999999999"), 413),
    to("B08", "a body that does not end", collect(b"{", length=b"100"), 408),
    to("B08", "gzip", collect(b"\x1f\x8b\x08\x00", b"Content-Encoding: gzip"), 415),
    *(
        to("B08", f"{body!r} to {path.decode()}", post(path, body), 400)
        for path in (b"/kit/collect", b"/kit/identify", b"/kit/consent", b"/kit/track", b"/kit/pixels", b"/kit/reset")
        for body in BROKEN
    ),
    *(
        to("B08", f"{text} to {path.decode()}", odd(path, body, text), 204)
        for path, body in ODD.items()
        for text in TEXTS
    ),
]
