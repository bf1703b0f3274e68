"""Real requests, and what a seeded random makes of them. One seed and number are always one request."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.attacks.shop import Headers, asked_json
from tests.support import FPC

AGENT = b"Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
HOST = b"www.shop.com"

PAGE: Headers = [
    (b"host", HOST),
    (b"user-agent", AGENT),
    (b"accept", b"text/html,application/xhtml+xml"),
    (b"referer", b"https://www.google.com/search?q=shoes"),
    (b"sec-fetch-mode", b"navigate"),
]
POST: Headers = [
    (b"host", HOST),
    (b"user-agent", AGENT),
    (b"sec-fetch-site", b"same-origin"),
    (b"origin", b"https://www.shop.com"),
    (b"content-type", b"application/json"),
]
#: A post of another host of the shop's, whose origin is sent back to it.
SIBLING: Headers = [(b"sec-fetch-site", b"same-site"), (b"origin", b"https://blog.shop.com"), *POST[:2], POST[4]]
TCF = b"COrEAV4OrXx94ACABBENAHCIAD-AAAAAAACAAxAAAAgAIAwgAgAAAAEAgQAAAAAEAYQAQAAAACAAAABAAA.IBAgAAAgAIAwgAgAAAAEAAAACA"
CONSENTS = (
    b"euconsent-v2=" + TCF,
    b"__gpp=DBABMA~" + TCF,
    b"__gpp=DBABLA~BVQqAAAAAgA",
    b"usprivacy=1YNN",
    b"OptanonConsent=groups=C0001%3A1%2CC0004%3A0; OptanonAlertBoxClosed=2026-01-01",
    b"CookieConsent={stamp:%27x%27%2Cmarketing:true%2Cmethod:%27explicit%27}",
    b"didomi_token=eyJwdXJwb3NlcyI6IHsiZW5hYmxlZCI6IFsiYWR2ZXJ0aXNpbmciXX19",
    b"kit-consent=granted",
)


ARRIVAL = {
    "params": {"adct": "Abc-123", "utm_source": "adroll"},
    "fpc": FPC,
    "url": "https://www.shop.com/shoes?adct=Abc-123",
    "referrer": "https://www.google.com/",
}
PERSON = {"email": "ann@example.com", "phone": "+1 (555) 010-9999", "customer_id": "c-42"}
EVENT = {"name": "add_to_cart", "event_id": "0123456789abcdef", "items": [{"id": "shoe-1", "price": "56.78"}]}
BOUGHT = {"name": "purchase", "order_id": "A-1007", "value": 56, "currency": "USD", "url": "https://www.shop.com/x"}
BODIES: list[tuple[bytes, object]] = [
    (b"/kit/collect", ARRIVAL),
    (b"/kit/identify", PERSON),
    (b"/kit/consent", {"granted": True}),
    (b"/kit/reset", {}),
    (b"/kit/track", EVENT),
    (b"/kit/track", BOUGHT),
    (b"/kit/pixels", {"order_id": "A-1007", "pixel": "adroll"}),
]


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as a server hands it to an app."""

    method: bytes
    path: bytes
    query: bytes
    headers: Headers
    body: bytes = b""

    def scope(self) -> dict[str, Any]:
        return {
            "type": "http",
            "http_version": "1.1",
            "method": self.method.decode("latin-1"),
            "scheme": "https",
            # As uvicorn decodes it.
            "path": self.path.decode("utf-8", "replace"),
            "raw_path": self.path,
            "root_path": "",
            "query_string": self.query,
            "headers": list(self.headers),
            "client": ("127.0.0.1", 50_000),
            "server": ("127.0.0.1", 443),
        }


def seeds(cookies: Sequence[bytes], tokens: Sequence[str]) -> list[list[Asked]]:
    """Return real requests, by sort; `cookies` are Cookie headers of visitors that the shop knows, `tokens` theirs."""
    landing = b"adct=Abc-123~x&rtid=deadbeef0123&utm_source=adroll&utm_campaign=Sp%C3%A4t%20sommer&gclid=Cj0KC"
    consented: list[Headers] = [[(b"cookie", b"; ".join([cookies[0], consent]))] for consent in CONSENTS]
    known: list[Headers] = [[(b"cookie", cookie)] for cookie in cookies]
    new = [Asked(b"GET", b"/", b"", PAGE), Asked(b"GET", b"/shoes", landing, PAGE)]
    returning = [Asked(b"GET", b"/", b"", PAGE + cookie) for cookie in known]
    again = [Asked(b"GET", path, landing, PAGE + cookie) for path in (b"/own", b"/cached") for cookie in known]
    asking = [Asked(b"GET", path, landing, PAGE + cookie) for path in (b"/", b"/own") for cookie in consented]
    # Of many visitors: what one of them told the store is looked through at each report.
    posts = [Asked(b"POST", path, b"", POST + cookie, asked_json(body)) for path, body in BODIES for cookie in known]
    signed = zip(known, tokens, strict=True)
    posts += [
        Asked(b"POST", b"/kit/identify", b"", POST + cookie, asked_json({"token": one})) for cookie, one in signed
    ]
    rest = [
        Asked(b"GET", b"/kit/kit.js", b"", PAGE),
        Asked(b"OPTIONS", b"/kit/collect", b"", POST),
        Asked(b"POST", b"/kit/collect", b"", SIBLING, asked_json(ARRIVAL)),
    ]
    return [new, new, returning, returning, again, asking, posts, rest]


# ---------------------------------------------------------------- what is done to them

NASTY = (
    *(bytes([byte]) for byte in b"\x00\r\n\t \"%&'+,/:;<=>?@[\\]{|}~\x1b\x7f\x80\xff"),
    *(
        b"\r\nSet-Cookie: owned=1|%0d%0aSet-Cookie:%20owned=1|%00|%25%30%64|%u000a|%|%c0%af|%ed%a0%80|%E2%80%AE|"
        b"\xc0\xaf|\xed\xa0\x80|\xe2\x80\xae|\xef\xbb\xbf|\xfe\xff|\\012\\015|\\u0000|\\ud800|; Domain=evil.test|"
        b"; Max-Age=0|; HttpOnly|__Host-kit=|; __adroll_fpc=|&adct=|&rtid=|&rclid=|&utm_source=|{rokt.rclid}|"
        b"<script>|${jndi:ldap://x}|{{7*7}}|../|//evil.test/|/kit/collect|https://evil.test|null|true|false|NaN|-0|"
        b'1e400|1E-9999|9007199254740993|[]|{}|Infinity|"__proto__":|prefetch|localhost|127.0.0.1|[::1%25eth0]|'
        b"public|same-origin|cross-site|gzip|chunked"
    ).split(b"|"),
    b"9" * 5_000,
    b"[" * 3_000,
    b"x" * 600,
    b"%41" * 1_200,
    b"a=1&" * 150,
    b"; a=1" * 400,
    b"y" * 20_000,
)
EXTRA: Headers = [
    (b"sec-purpose", b"prefetch;prerender"),
    (b"purpose", b"prefetch"),
    (b"sec-gpc", b"1"),
    (b"sec-fetch-mode", b"cors"),
    (b"sec-fetch-site", b"same-site"),
    (b"origin", b"https://blog.shop.com"),
    (b"origin", b"null"),
    (b"x-forwarded-for", b"1.2.3.4, [2001:db8::1]:80, junk, 10.0.0.1"),
    (b"x-http-method-override", b"DELETE"),
    (b"content-encoding", b"gzip"),
    (b"content-length", b"5"),
    (b"content-length", b"99999999999999999999"),
    (b"transfer-encoding", b"chunked"),
    (b"access-control-request-method", b"POST"),
    (b"host", b"evil.test"),
    (b"host", b"xn--80ak6aa92e.co.uk:99999"),
    (b"if-none-match", b'W/"x", *'),
    (b"range", b"bytes=0-1"),
    (b"user-agent", b"Googlebot/2.1 (+http://www.google.com/bot.html)"),
    *((b"cookie", consent) for consent in CONSENTS),
]
METHODS = b"GET HEAD POST PUT OPTIONS TRACE DELETE PATCH CONNECT get BREW".split()
PATHS = (
    b"/ // /own /cached /kit /kit/ /kit/collect/ //kit/track /kit/../identify /kit/kit.js /kit/kit.0.js.map *".split()
)


class Mutator:
    """Makes the request of a number out of the seeds."""

    def __init__(self, found: Sequence[Sequence[Asked]], seed: int) -> None:
        self._seeds = found
        self.seed = seed
        self._random = random.Random()

    def asked(self, number: int) -> Asked:
        """Return the request of this number: a seed changed in one to four places."""
        chance = self._random
        chance.seed(self.seed << 32 | number)
        asked = chance.choice(chance.choice(self._seeds))
        for _ in range(chance.choice((1, 1, 2, 3, 4))):
            asked = chance.choice(self._CHANGES)(self, asked)
        return asked

    def _in_query(self, asked: Asked) -> Asked:
        return replace(asked, query=self._bytes(asked.query))

    def _in_path(self, asked: Asked) -> Asked:
        if self._random.random() < 0.5:
            return replace(asked, path=self._random.choice(PATHS))
        return replace(asked, path=b"/" + self._bytes(asked.path[1:]))

    def _in_body(self, asked: Asked) -> Asked:
        return replace(asked, body=self._bytes(asked.body))

    def _in_method(self, asked: Asked) -> Asked:
        return replace(asked, method=self._random.choice(METHODS))

    def _in_value(self, asked: Asked) -> Asked:
        at = self._random.randrange(len(asked.headers)) if asked.headers else 0
        return self._with(asked, at, lambda name, value: [(name, self._bytes(value))])

    def _in_cookie(self, asked: Asked) -> Asked:
        at = next((at for at, (name, _) in enumerate(asked.headers) if name == b"cookie"), len(asked.headers))
        return self._with(asked, at, lambda name, value: [(name, self._bytes(value))])

    def _twice(self, asked: Asked) -> Asked:
        at = self._random.randrange(len(asked.headers)) if asked.headers else 0
        return self._with(asked, at, lambda name, value: [(name, value), (name, self._bytes(value))])

    def _without(self, asked: Asked) -> Asked:
        at = self._random.randrange(len(asked.headers)) if asked.headers else 0
        return self._with(asked, at, lambda name, value: [])

    def _further(self, asked: Asked) -> Asked:
        at = self._random.randrange(len(asked.headers) + 1)
        return replace(asked, headers=[*asked.headers[:at], self._random.choice(EXTRA), *asked.headers[at:]])

    def _with(self, asked: Asked, at: int, made: Callable[[bytes, bytes], Headers]) -> Asked:
        changed = [header for header in asked.headers[at : at + 1] for header in made(*header)]
        return replace(asked, headers=[*asked.headers[:at], *changed, *asked.headers[at + 1 :]])

    def _bytes(self, text: bytes) -> bytes:
        """Return the text with something put in, taken out, flipped, repeated or swapped."""
        chance = self._random
        at = int(chance.random() * (len(text) + 1))
        to = at + int(chance.random() * 8)
        kind = int(chance.random() * 7)
        if kind == 0 and text:
            at = min(at, len(text) - 1)
            return text[:at] + bytes([text[at] ^ 1 << int(chance.random() * 8)]) + text[at + 1 :]
        if kind == 1:
            return text[:at] + text[to:]
        if kind == 2:
            return text[:at]
        if kind == 3:
            return text[:at] + text[at:to] * 3 + text[to:]
        if kind == 4:
            other = chance.choice(chance.choice(self._seeds))
            return (
                text[:at] + chance.choice((other.query, other.body, other.headers[-1][1]))[int(chance.random() * 40) :]
            )
        return text[:at] + chance.choice(NASTY) + text[at if kind == 5 else to :]

    _CHANGES = (
        *(_in_query, _in_query, _in_path, _in_body, _in_body, _in_method),
        *(_in_value, _in_cookie, _in_cookie, _twice, _without, _further),
    )
