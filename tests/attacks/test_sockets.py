"""Malformed and hostile requests over raw sockets, to uvicorn with each of its parsers."""

import hashlib
import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest
from itsdangerous import Signer, TimestampSigner, URLSafeTimedSerializer

from tests.attacks.exchanges import CLOSE, EXCHANGES, UNDECIDED, Exchange, page, post
from tests.attacks.mutations import NASTY
from tests.attacks.shop import PAGE, Shop, attacked_kit, unclean
from tests.attacks.wire import Answer, Server, serving
from tests.support import FPC, KEY

#: All headers that the shop, the kit and the server write.
WRITTEN = {
    *(b"content-type", b"content-length", b"set-cookie", b"cache-control", b"etag", b"allow", b"vary", b"date"),
    *(b"server", b"connection", b"transfer-encoding"),
}
COOKIES = {b"__Host-kit", b"__adroll_fpc", b"kit-consent", b"basket"}


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    kit = attacked_kit(tmp_path_factory.mktemp("shop"))
    kit.open()
    with serving(Shop(kit, body_timeout=timedelta(seconds=1)), request.param) as served:
        yield served
    kit.store.close()


@pytest.fixture(autouse=True)
def nothing_failed(server: Server, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception reached the server, none of ours was kept from a page, and pages are served as before."""
    caplog.set_level(logging.ERROR)
    faults = server.shop.faults
    yield
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert not [where for where in faults.counts if where.startswith("capture")]
    assert [answer.body for answer in server.ask(page())] == [PAGE]


def visitor(server: Server) -> bytes:
    """Return the cookie of a visitor who is known."""
    (answer,) = server.ask(page(b"/?adct=click"))
    return next(value.partition(b";")[0] for name, value in answer.headers if name == b"set-cookie")


def assert_harmless(answers: list[Answer]) -> None:
    """Nothing of a request stands in these answers, and no page was changed."""
    for answer in answers:
        names = {value.partition(b"=")[0] for name, value in answer.headers if name == b"set-cookie"}
        assert answer.status < 500
        assert {name for name, _ in answer.headers} <= WRITTEN
        assert unclean(answer.headers) == []
        assert names <= COOKIES
        assert answer.status != 200 or answer.body == PAGE


@pytest.mark.parametrize("exchange", EXCHANGES, ids=str)
def test_each_exchange_ends_as_it_should(server: Server, exchange: Exchange) -> None:
    """Refused by the server, or answered as documented; nothing of it comes back, and nothing hidden is served."""
    server.reached.clear()
    answers = server.ask(exchange.sent.replace(b"VISITOR", visitor(server)))

    assert tuple(answer.status for answer in answers) in exchange.expected
    assert_harmless(answers)
    assert "/hidden" not in server.reached


@pytest.mark.parametrize("exchange", UNDECIDED, ids=str)
def test_a_length_beside_chunks_is_for_the_proxy_to_refuse(server: Server, exchange: Exchange) -> None:
    """httptools refuses it; h11 goes by the chunks, so that what follows is a request of its own."""
    answers = server.ask(exchange.sent)

    assert tuple(answer.status for answer in answers) in exchange.expected
    assert server.parser == "h11" or [answer.status for answer in answers] == [400]
    assert_harmless(answers)


@pytest.mark.parametrize("nasty", NASTY, ids=lambda nasty: repr(nasty[:16]))
def test_no_byte_in_any_place_comes_back(server: Server, nasty: bytes) -> None:
    """W02, W09, W16: raw or percent-encoded in the URL, in a cookie, and in each header that is read."""
    escaped = b"".join(b"%%%02x" % byte for byte in nasty)
    for sent in (
        page(b"/own?adct=a" + nasty + b"&rtid=" + nasty),
        page(b"/own?adct=a" + escaped + b"&utm_source=" + escaped + b"&gclid=%25" + escaped),
        page(b"/own/" + escaped + b"?adct=click"),
        page(b"/own?adct=click", b"Cookie: __Host-kit=%b; __adroll_fpc=%b; kit-consent=%b" % (nasty, nasty, nasty)),
        page(b"/own?adct=click", b"Referer: https://a.test/" + nasty, b"X-Forwarded-For: " + nasty, b"X-Own: " + nasty),
        post(b"/kit/collect", b"{}", b"Origin: " + nasty, b"Cookie: __adroll_fpc=" + FPC.encode() + nasty),
    ):
        answers = server.ask(sent)
        assert {answer.status for answer in answers} <= {200, 204, 400}
        assert_harmless(answers)


def test_no_forged_cookie_is_believed(server: Server) -> None:
    """W04: a bit flipped, cut, of another salt, key, digest or product: a new visitor, whose cookie is set at once."""
    token = visitor(server).partition(b"=")[2]
    payload = token.rpartition(b".")[0]
    key = KEY.encode()
    forged = [
        *(token[:at] + bytes([token[at] ^ 1]) + token[at + 1 :] for at in range(0, len(token), 3)),
        *(token[:length] for length in (0, 1, 23, 43, len(payload), len(token) - 1)),
        *(payload + b"." + b"A" * length for length in (0, 42, 43, 44, 900)),
        Signer(key, salt=b"session", digest_method=hashlib.sha256).sign(payload),
        Signer(b"another key of 32 characters, ok", salt=b"kit.visitor", digest_method=hashlib.sha256).sign(payload),
        Signer(key, salt=b"kit.visitor").sign(payload),
        TimestampSigner(key, salt=b"kit.visitor", digest_method=hashlib.sha256).sign(payload),
        URLSafeTimedSerializer(key).dumps({"visitor": payload.decode()}).encode(),
    ]
    server.shop.believed.clear()
    for each in forged:
        (answer,) = server.ask(page(b"/own", b"Cookie: __Host-kit=" + each))
        assert any(value.startswith(b"__Host-kit=1") for name, value in answer.headers if name == b"set-cookie")

    assert server.shop.believed == set()
    server.ask(page(b"/own", b"Cookie: __Host-kit=" + token))
    assert server.shop.believed == {payload[1:23].decode()}


def test_slow_callers_hold_nobody_up(server: Server) -> None:
    """Heads and bodies that never end, two hundred of them: others are served meanwhile, and bodies are given up."""
    heads = [server.line() for _ in range(100)]
    bodies = [server.line() for _ in range(100)]
    for line in heads:
        line.sendall(page().removesuffix(CLOSE + b"\r\n"))
    for line in bodies:
        line.sendall(post(b"/kit/identify", b"{", length=b"1000"))

    assert [answer.body for answer in server.ask(page())] == [PAGE]
    told = [line.recv(65_536)[:12] for line in bodies]
    for line in heads + bodies:
        line.close()
    assert set(told) == {b"HTTP/1.1 408"}
