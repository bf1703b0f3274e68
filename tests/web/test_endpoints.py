"""The endpoints: who may post, what is refused before it is read, and what each answer sets and keeps."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from kit import Kit
from kit.destinations import AdRoll
from kit.model import Mode
from kit.sandbox.sockets import served_in_loop
from kit.store import people
from kit.web import CaptureMiddleware, assets, endpoints

SAME = {"sec-fetch-site": "same-origin"}
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"
FPC = "0123456789abcdef0123456789abcdef-1763700000000"
SHADOW = AdRoll(advertisable="ADV", pixel="PIX", mode=Mode.SHADOW)
POSTS = ["/collect", "/identify", "/track", "/pixels", "/consent", "/reset"]

MakeKit = Callable[..., Kit]


@pytest.fixture
def make_kit(tmp_path: Path) -> MakeKit:
    def made(**options: Any) -> Kit:
        given: dict[str, Any] = {"consent": "opt_out", "worker": False, "destinations": [SHADOW], **options}
        given.setdefault("store", f"sqlite:///{tmp_path / 'kit.db'}")
        return Kit(secret_keys=["a secret of sixteen characters"], **given)

    return made


@asynccontextmanager
async def client_of(
    kit: Kit, *, bare: bool = False, base_url: str = "https://www.shop.com", **options: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A browser's client of a shop that has the kit mounted, behind the middleware unless `bare`."""
    app: Any = Starlette(
        routes=[Mount("/kit", endpoints(kit, **options))],
        middleware=[] if bare else [Middleware(CaptureMiddleware, kit=kit)],
    )
    transport = httpx.ASGITransport(app=app)
    async with (
        kit.lifespan(),
        httpx.AsyncClient(
            transport=transport, base_url=base_url + "/kit", headers={"user-agent": AGENT, "accept": "*/*"}
        ) as client,
    ):
        yield client


def cookies_of(answer: httpx.Response) -> dict[str, "Morsel[str]"]:
    jar: SimpleCookie = SimpleCookie()
    for line in answer.headers.get_list("set-cookie"):
        jar.load(line)
    return dict(jar)


async def post(client: httpx.AsyncClient, path: str, body: object, headers: Mapping[str, str] = SAME) -> httpx.Response:
    return await client.post(path, json=body, headers=dict(headers))


# ---------------------------------------------------------------- collect


@pytest.mark.parametrize("bare", [False, True])
async def test_collect_sets_both_cookies_for_a_year_and_keeps_the_click(make_kit: MakeKit, bare: bool) -> None:
    """A page from a cache gets the cookies that the middleware would have set, with or without one around."""
    kit = make_kit()

    async with client_of(kit, bare=bare) as client:
        answer = await post(
            client,
            "/collect",
            {"params": {"adct": "click123"}, "fpc": FPC, "url": "https://www.shop.com/shoes?adct=click123&email=a@b.c"},
        )
        found = cookies_of(answer)
        # The store is told off the request path; in turn, so that this write comes after it.
        await post(client, "/identify", {"customer_id": "c-1"})
        known = await kit.identifiers(visitor=found["__Host-kit"].value[1:23])

    assert (answer.status_code, answer.content, answer.headers["cache-control"]) == (204, b"", "no-store")
    assert found["__Host-kit"]["max-age"] == "31536000"
    assert found["__Host-kit"]["httponly"] is True
    assert found["__adroll_fpc"].value == FPC
    assert found["__adroll_fpc"]["max-age"] == "31536000"
    assert not found["__adroll_fpc"]["httponly"]
    assert [(click.vendor, click.value) for click in known.click_ids] == [("adroll", "click123")]
    assert known.first_party_cookie == FPC


async def test_collect_keeps_the_visitor_that_is_known(make_kit: MakeKit) -> None:
    """A second arrival of one browser is the same visitor's."""
    async with client_of(make_kit()) as client:
        first = cookies_of(await post(client, "/collect", {"params": {"adct": "one"}}))
        second = cookies_of(await post(client, "/collect", {"params": {"adct": "two"}}))

    assert first["__Host-kit"].value[:23] == second["__Host-kit"].value[:23]
    assert "two" in second["__Host-kit"].value
    assert first["__adroll_fpc"].value == second["__adroll_fpc"].value


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"consent": "opt_in"}, {}),
        ({}, {"sec-gpc": "1"}),
        ({}, {"cookie": "kit-consent=denied"}),
        ({}, {"user-agent": "Googlebot/2.1 (+http://www.google.com/bot.html)"}),
        ({}, {"sec-purpose": "prefetch;prerender"}),
        ({"insecure_cookies": True}, {}),
    ],
)
async def test_where_nothing_may_be_kept_collect_sets_nothing_and_says_the_same(
    make_kit: MakeKit, options: Any, headers: dict[str, str]
) -> None:
    """Consent, bots, prefetches and foreign hosts get the answer of everybody, without cookies."""
    async with client_of(make_kit(**options)) as client:
        answer = await post(client, "/collect", {"params": {"adct": "click123"}}, {**SAME, **headers})

    assert (answer.status_code, answer.headers.get_list("set-cookie")) == (204, [])


async def test_what_is_unusable_in_an_arrival_counts_as_absent(make_kit: MakeKit) -> None:
    """One bad value does not lose the others."""
    body = b'{"params": {"adct": "good", "rtid": 5, "gclid": "\\ud800", "\\ud800": "x"}, "fpc": 7, "url": "\\udfff"}'

    async with client_of(make_kit()) as client:
        answer = await client.post("/collect", content=body, headers={**SAME, "content-type": "application/json"})

    assert answer.status_code == 204
    assert "!cadroll*good*" in cookies_of(answer)["__Host-kit"].value


# ---------------------------------------------------------------- identify


async def test_identify_makes_an_asserted_link_of_what_is_usable(make_kit: MakeKit) -> None:
    """The page's word is kept for its own visitor; an unusable field is counted and loses nothing else."""
    kit = make_kit()

    async with client_of(kit) as client:
        visitor = cookies_of(await post(client, "/collect", {}))["__Host-kit"].value[1:23]
        answer = await post(client, "/identify", {"email": "a@example.com", "phone": "", "customer_id": "\x00"})
        known = await kit.identifiers(visitor=visitor)

    assert (answer.status_code, answer.content) == (204, b"")
    assert known.email == "a@example.com"
    assert kit.faults.counts["identify.input"] == 1


@pytest.mark.parametrize(
    "body",
    [
        {"email": "known@example.com"},
        {"email": "never-seen@example.com"},
        {"email": "no address"},
        {"email": 5, "phone": ["x"], "customer_id": {}},
        {"email": "\ud800@example.com"},
        {},
        [],
        None,
        "text",
    ],
)
async def test_identify_answers_the_same_bytes_whatever_it_is_told(make_kit: MakeKit, body: object) -> None:
    """Nobody learns from the answer whether somebody is known."""
    kit = make_kit()

    async with client_of(kit) as client:
        await post(client, "/collect", {})
        await post(client, "/identify", {"email": "known@example.com"})
        answer = await client.post(
            "/identify", content=json.dumps(body), headers={**SAME, "content-type": "application/json"}
        )

    assert answer.status_code == 204
    assert answer.content == b""
    assert dict(answer.headers) == {"cache-control": "no-store"}


async def test_identify_answers_the_same_when_the_store_is_gone(make_kit: MakeKit, tmp_path: Path) -> None:
    """A dead store is counted, and is not the page's to know."""
    folder = tmp_path / "gone"
    folder.mkdir()
    kit = make_kit(store=f"sqlite:///{folder / 'kit.db'}")
    folder.rmdir()

    async with client_of(kit) as client:
        cookies = await post(client, "/collect", {"params": {"adct": "click123"}})
        answer = await post(client, "/identify", {"email": "a@example.com"})
        denied = await post(client, "/consent", {"granted": False})

    assert set(cookies_of(cookies)) == {"__Host-kit", "__adroll_fpc"}
    assert (answer.status_code, dict(answer.headers)) == (204, {"cache-control": "no-store"})
    assert denied.status_code == 204
    assert kit.faults.counts["identify"] == 1


# ---------------------------------------------------------------- consent and reset


async def test_a_yes_is_kept_in_a_cookie_that_pages_can_read(make_kit: MakeKit) -> None:
    """After it, collect keeps what opt-in forbade before."""
    async with client_of(make_kit(consent="opt_in")) as client:
        answer = await post(client, "/consent", {"granted": True})
        kept = await post(client, "/collect", {"params": {"adct": "click123"}})

    assert answer.headers.get_list("set-cookie") == [
        "kit-consent=granted; Path=/; Max-Age=31536000; SameSite=Lax; Secure"
    ]
    assert set(cookies_of(kept)) == {"__Host-kit", "__adroll_fpc"}


async def test_a_no_takes_both_cookies_away_and_stays_with_the_visitor(make_kit: MakeKit) -> None:
    """The cookies go, and so does the permission to send what was kept before."""
    kit = make_kit()

    async with client_of(kit) as client:
        visitor = cookies_of(await post(client, "/collect", {"params": {"adct": "x"}}))["__Host-kit"].value[1:23]
        answer = await post(client, "/consent", {"granted": False})
        jar = {cookie.name: cookie.value for cookie in client.cookies.jar}
        later = await post(client, "/collect", {"params": {"adct": "y"}})
        decisions = await kit.store.read(lambda connection: people.newest_consents(connection, {visitor}))

    assert [(decision.granted, decision.signal) for decision in decisions.values()] == [(False, "page")]
    assert answer.headers.get_list("set-cookie") == [
        "kit-consent=denied; Path=/; Max-Age=31536000; SameSite=Lax; Secure",
        "__Host-kit=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure",
        "__adroll_fpc=; Path=/; Max-Age=0; SameSite=Lax; Secure; Domain=shop.com",
        "__adroll_fpc=; Path=/; Max-Age=0; SameSite=Lax",
        "__adroll_fpc=; Path=/; Max-Age=0; SameSite=Lax; Domain=www.shop.com",
    ]
    assert jar == {"kit-consent": "denied"}
    assert later.headers.get_list("set-cookie") == []


async def test_a_decision_is_shared_between_subdomains_like_the_visitor_cookie(make_kit: MakeKit) -> None:
    """With `cookie_domain` there is one decision for all of them."""
    async with client_of(make_kit(cookie_domain="shop.com")) as client:
        answer = await post(client, "/consent", {"granted": True})

    assert answer.headers.get_list("set-cookie") == [
        "kit-consent=; Path=/; Max-Age=0",
        "kit-consent=granted; Path=/; Max-Age=31536000; SameSite=Lax; Secure; Domain=shop.com",
    ]


@pytest.mark.parametrize("body", [{}, {"granted": "true"}, {"granted": 1}, {"granted": None}, [], None])
async def test_what_is_no_decision_is_refused(make_kit: MakeKit, body: object) -> None:
    """Neither a yes nor a no is guessed."""
    async with client_of(make_kit()) as client:
        answer = await client.post(
            "/consent", content=json.dumps(body), headers={**SAME, "content-type": "application/json"}
        )

    assert (answer.status_code, answer.headers.get_list("set-cookie")) == (400, [])


@pytest.mark.parametrize("bare", [False, True])
async def test_reset_makes_the_browser_a_new_visitor(make_kit: MakeKit, bare: bool) -> None:
    """Whoever sits down next is linked to nobody; AdRoll's cookie stays, for it names the browser."""
    async with client_of(make_kit(), bare=bare) as client:
        before = cookies_of(await post(client, "/collect", {"params": {"adct": "x"}}))
        answer = await post(client, "/reset", {})

    after = cookies_of(answer)
    assert answer.status_code == 204
    assert set(after) == {"__Host-kit"}
    assert after["__Host-kit"].value[:23] != before["__Host-kit"].value[:23]


# ---------------------------------------------------------------- who may post


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site", "origin": "https://evil.test"},
        {"sec-fetch-site": "cross-site", "origin": "https://www.shop.com"},
        {"sec-fetch-site": "same-site", "origin": "https://blog.shop.com"},
        {"sec-fetch-site": "none"},
        {"origin": "null"},
        {"origin": "https://www.shop.com.evil.test"},
        {"origin": "https://evilwww.shop.com"},
        {"origin": "https://www.shop.com:8443"},
        {"origin": "http://www.shop.com"},
        {"origin": "*"},
        {"origin": "https://partner.test/"},
    ],
)
async def test_a_page_of_another_origin_is_refused(make_kit: MakeKit, path: str, headers: dict[str, str]) -> None:
    """Forms of other sites, look-alikes, opaque origins and callers that name none get 403 and nothing else."""
    async with client_of(make_kit(origins=["https://partner.test"])) as client:
        answer = await post(client, path, {"granted": True}, headers)

    assert (answer.status_code, answer.content) == (403, b"")
    assert answer.headers.get_list("set-cookie") == []
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("base_url", "origin"),
    [
        ("https://www.shop.com", "https://www.shop.com"),
        ("http://www.shop.com", "https://www.shop.com"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
    ],
)
async def test_an_older_browser_is_known_by_its_origin(make_kit: MakeKit, base_url: str, origin: str) -> None:
    """Without Sec-Fetch-Site the Origin of this very host will do, also behind a proxy that ends TLS."""
    async with client_of(make_kit(), base_url=base_url) as client:
        answer = await post(client, "/collect", {}, {"origin": origin})

    assert answer.status_code == 204


@pytest.mark.parametrize(
    ("options", "site", "origin"),
    [
        ({"cookie_domain": "shop.com"}, "same-site", "https://blog.shop.com"),
        ({"origins": ["https://www.shop.de"]}, "cross-site", "https://www.shop.de"),
    ],
)
async def test_a_further_origin_of_the_shops_own_is_let_in(
    make_kit: MakeKit, options: Any, site: str, origin: str
) -> None:
    """Its browser is told so, before and with the answer, for this origin alone."""
    headers = {"sec-fetch-site": site, "origin": origin}

    async with client_of(make_kit(**options)) as client:
        asked = await client.options("/collect", headers={**headers, "access-control-request-method": "POST"})
        answer = await post(client, "/collect", {}, headers)

    assert (asked.status_code, answer.status_code) == (204, 204)
    assert asked.headers["access-control-allow-headers"] == "content-type"
    assert asked.headers["access-control-allow-methods"] == "POST"
    for each in (asked, answer):
        assert each.headers["access-control-allow-origin"] == origin
        assert each.headers["access-control-allow-credentials"] == "true"
        assert each.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin",
    ["https://a.shop.com\r\nSet-Cookie: a=b", "https://a.shop.com\x00", "https://ä.shop.com", "javascript:x", "x"],
)
async def test_what_is_no_origin_is_not_sent_back(make_kit: MakeKit, origin: str) -> None:
    """Servers refuse such headers themselves; where one does not, nothing of it stands in an answer."""
    headers = [(b"sec-fetch-site", b"same-site"), (b"origin", origin.encode("latin-1"))]

    async with client_of(make_kit(cookie_domain="shop.com")) as client:
        answer = await client.post(
            "/collect", content=b"{}", headers=[*headers, (b"content-type", b"application/json")]
        )

    assert (answer.status_code, answer.content) == (403, b"")
    assert "access-control-allow-origin" not in answer.headers


async def test_the_preflight_of_a_strange_origin_is_refused(make_kit: MakeKit) -> None:
    """A browser then never sends the post."""
    async with client_of(make_kit()) as client:
        answer = await client.options(
            "/identify",
            headers={
                "sec-fetch-site": "cross-site",
                "origin": "https://evil.test",
                "access-control-request-method": "POST",
            },
        )

    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


# ---------------------------------------------------------------- what is not read


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_other_methods_are_refused(make_kit: MakeKit, path: str, method: str) -> None:
    """Only POST does anything, wherever it comes from and whatever a header calls it."""
    async with client_of(make_kit()) as client:
        answers = [
            await client.request(method, path, headers=headers)
            for headers in (SAME, {"x-http-method-override": "POST"})
        ]

    for answer in answers:
        assert (answer.status_code, answer.content, answer.headers["allow"]) == (405, b"", "POST")


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "application/jsonp"},
        {},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
)
async def test_what_is_not_plain_json_is_refused(make_kit: MakeKit, headers: dict[str, str]) -> None:
    """A form of another site can send other types without asking; this one it cannot."""
    async with client_of(make_kit()) as client:
        answer = await client.post("/identify", content=b"{}", headers={**SAME, **headers})

    assert (answer.status_code, answer.content) == (415, b"")


async def test_the_type_may_carry_a_charset(make_kit: MakeKit) -> None:
    """Some clients write it."""
    async with client_of(make_kit()) as client:
        answer = await client.post(
            "/collect", content=b"{}", headers={**SAME, "content-type": "Application/JSON; charset=utf-8"}
        )

    assert answer.status_code == 204


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{} {}",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"email": "\xff"}',
        b'{"email": "a@b.co", "email": "c@d.co"}',
        b'{"params": {"adct": "a", "adct": "b"}}',
        b'{"email": NaN}',
        b'{"email": ' + b"9" * 5_000 + b"}",
        b"[" * 8_000,
        b'{"a":' * 1_000 + b"1" + b"}" * 1_000,
        b'{"email": "a\x00b"}',
    ],
    ids=lambda body: body[:16].decode("latin-1"),
)
@pytest.mark.parametrize("path", ["/collect", "/identify", "/pixels", "/consent"])
async def test_malformed_json_is_refused(make_kit: MakeKit, path: str, body: bytes) -> None:
    """Bombs of depth, names given twice, other encodings: 400, never a 500."""
    async with client_of(make_kit()) as client:
        answer = await client.post(path, content=body, headers={**SAME, "content-type": "application/json"})

    assert (answer.status_code, answer.content) == (400, b"")


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["params", "fpc", "url", "referrer", "email", "phone", "customer_id", "adct", "rtid"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=8,
    )
)
def test_no_json_makes_an_endpoint_fail(make_kit: MakeKit, value: object) -> None:
    """Whatever is well-formed is answered 204."""

    async def statuses() -> list[int]:
        async with client_of(make_kit()) as client:
            await post(client, "/collect", {})
            body, headers = json.dumps(value).encode()[:8_192], {**SAME, "content-type": "application/json"}
            return [(await client.post(path, content=body, headers=headers)).status_code for path in POSTS[:2]]

    assert asyncio.run(statuses()) == [204, 204]


async def test_nothing_of_a_body_reaches_a_log(make_kit: MakeKit, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at debug level, and not when it is refused."""
    caplog.set_level(logging.DEBUG)
    canary = "canary-7f3a@example.com"

    async with client_of(make_kit()) as client:
        await post(client, "/collect", {"params": {"adct": canary}, "fpc": canary, "url": f"https://{canary}/{canary}"})
        await post(client, "/identify", {"email": canary, "phone": canary + "\x00"})
        await client.post("/identify", content=canary, headers={**SAME, "content-type": "application/json"})

    # httpx and SQLAlchemy's drivers log by their own names; ours and the server's must be clean.
    assert canary not in "".join(record.getMessage() + str(record.__dict__) for record in caplog.records)


async def test_a_long_body_is_refused_by_its_length(make_kit: MakeKit) -> None:
    """It is not read at all."""
    async with client_of(make_kit()) as client:
        answer = await post(client, "/identify", {"email": "x" * 9_000})
        huge = await client.post(
            "/identify",
            content=b"{}",
            headers={**SAME, "content-type": "application/json", "content-length": "9" * 5_000},
        )

    assert (answer.status_code, huge.status_code) == (413, 413)


async def test_a_long_body_of_no_length_is_refused_while_it_arrives(make_kit: MakeKit) -> None:
    """No more of it is taken than the cap and one piece."""
    taken = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1_000):
            taken += 1
            yield b" " * 1_000

    kit = make_kit(insecure_cookies=True)
    head = (
        b"POST /collect HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    async with kit.lifespan(), served_in_loop(endpoints(kit), "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(head)
        async for piece in pieces():
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            if taken == 20:
                break
        await writer.drain()
        answer = await reader.readuntil(b"\r\n")
        writer.close()

    assert answer.startswith(b"HTTP/1.1 413")


async def test_a_body_that_drips_is_given_up(make_kit: MakeKit) -> None:
    """The whole of it has to arrive in time, not the next byte of it."""
    kit = make_kit(insecure_cookies=True)
    app = endpoints(kit, body_timeout=timedelta(seconds=0.2))
    head = (
        b"POST /collect HTTP/1.1\r\nHost: 127.0.0.1\r\nSec-Fetch-Site: same-origin\r\n"
        b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    async with kit.lifespan(), served_in_loop(app, "127.0.0.1", 0) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(head)
        dripping = asyncio.create_task(_drip(writer))
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        dripping.cancel()
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"\r\nconnection: close\r\n" in answer


async def _drip(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.05)


async def test_a_caller_that_hangs_up_breaks_nothing(make_kit: MakeKit) -> None:
    """The endpoint ends without an exception."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"www.shop.com"), (b"sec-fetch-site", b"same-origin"), (b"content-type", b"application/json")]
    scope: dict[str, Any] = {
        "type": "http",
        "method": "POST",
        "scheme": "https",
        "path": "/identify",
        "raw_path": b"/identify",
        "query_string": b"",
        "headers": headers,
        "client": ("203.0.113.9", 5),
    }

    await endpoints(make_kit())(scope, receive, send)

    assert sent[0]["status"] == 400


# ---------------------------------------------------------------- the scripts


@pytest.mark.parametrize("name", ["kit", "kit.pixels"])
async def test_a_script_is_kept_for_ever_under_its_version(make_kit: MakeKit, name: str) -> None:
    """Its name changes when it does."""
    version = assets.minified(name).version

    async with client_of(make_kit()) as client:
        answer = await client.get(f"/{name}.{version}.js")

    assert answer.status_code == 200
    assert answer.content == assets.minified(name).body
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"] == f'"{version}"'
    assert answer.headers["sourcemap"] == f"{name}.{version}.js.map"
    assert answer.headers.get_list("set-cookie") == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/kit.min.js", "kit"),
        ("/kit.0123456789ab.js", "kit"),
        ("/kit.x.y.js", "kit"),
        ("/kit.pixels.min.js", "kit.pixels"),
        ("/kit.pixels.0123456789ab.js", "kit.pixels"),
    ],
)
async def test_any_other_version_is_the_current_file_and_is_asked_for_again(
    make_kit: MakeKit, path: str, name: str
) -> None:
    """During a rolling deploy one server may be asked for the other's version."""
    async with client_of(make_kit()) as client:
        answer = await client.get(path)

    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-cache")
    assert answer.content == assets.minified(name).body


async def test_kit_js_is_not_sent_to_whoever_has_it(make_kit: MakeKit) -> None:
    """A matching ETag is answered 304, HEAD without a body, and other methods 405."""
    etag = f'"{assets.kit_js().version}"'

    async with client_of(make_kit()) as client:
        same = await client.get("/kit.min.js", headers={"if-none-match": f'"other", W/{etag}'})
        head = await client.head("/kit.min.js")
        wrong = await client.post("/kit.min.js")

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert head.status_code == 200
    assert int(head.headers["content-length"]) == len(assets.kit_js().body)
    assert wrong.status_code == 405


@pytest.mark.parametrize("name", ["kit", "kit.pixels"])
async def test_a_developer_finds_the_source_by_its_map(make_kit: MakeKit, name: str) -> None:
    """The script names its map, the map its source, and both are served beside it."""
    version = assets.minified(name).version

    async with client_of(make_kit()) as client:
        script = await client.get(f"/{name}.{version}.js")
        told = await client.get(script.url.join(script.headers["sourcemap"]))
        source = await client.get(told.url.join(told.json()["sources"][0]))

    assert (told.headers["content-type"], told.headers["cache-control"]) == (
        "application/json",
        "public, max-age=31536000, immutable",
    )
    assert source.content == (assets.STATIC / f"{name}.js").read_bytes()
    assert (source.headers["content-type"], source.headers["cache-control"]) == (
        "text/javascript; charset=utf-8",
        "no-cache",
    )
    assert "sourcemap" not in source.headers
