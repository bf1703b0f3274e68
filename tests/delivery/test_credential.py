"""A token: asked for once by all who need it, renewed before it ends, asked for anew when it is refused."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from kit import Conversion, Kit
from kit.delivery.credential import Credential, Kept
from kit.destinations import Destination
from kit.destinations.base import Answer, Authentication, Json, Judgement, Sending, Skip, Token
from kit.destinations.rokt.token import ClientCredentials
from kit.destinations.wire import Exchange
from kit.model import DeliveryState, Dispatch, Verdict
from kit.store.overview import standings, told
from tests.destinations.raw_server import Vendor, answers, vendor
from tests.support import NOON, FrozenClock, make_kit

OAUTH = ClientCredentials(base_url="https://api.rokt.com", app_id="app-id-1", app_secret="app-secret-1")


def gives(body: object, status: int = 200) -> Exchange:
    return Exchange(sent=True, answer=Answer(status=status, body=json.dumps(body).encode()))


@dataclass
class Asked:
    """Hands out what the vendor says, and counts how often it was asked."""

    says: list[Exchange]
    times: int = 0

    async def __call__(self, request: httpx.Request) -> Exchange:
        self.times += 1
        await asyncio.sleep(0)
        return self.says[min(self.times, len(self.says)) - 1]


@dataclass
class Clock:
    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds


async def get(credential: Credential, asked: Asked, clock: Clock, lock: asyncio.Lock | None = None) -> Kept | Judgement:
    return await credential.get(OAUTH, asked, lock=lock or asyncio.Lock(), steady=clock, now=NOON)


def test_the_question_is_the_vendors_own() -> None:
    """Vector RK-2: Basic of id and secret, a form of one field."""
    request = OAUTH.ask()

    assert (request.method, str(request.url)) == ("POST", "https://api.rokt.com/auth/oauth2/token")
    assert request.headers["authorization"] == "Basic YXBwLWlkLTE6YXBwLXNlY3JldC0x"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.content == b"grant_type=client_credentials"
    assert "app-secret-1" not in repr(OAUTH)


async def test_twenty_who_need_it_at_once_ask_once() -> None:
    """Single flight: the others wait for the one that asks."""
    asked, lock = Asked([gives({"access_token": "T1", "expires_in": 3600})]), asyncio.Lock()
    credential = Credential()

    found = await asyncio.gather(*(get(credential, asked, Clock(), lock) for _ in range(20)))

    assert asked.times == 1
    assert {one.token.value for one in found if isinstance(one, Kept)} == {"T1"}
    assert "T1" not in repr(found) + repr(credential)


@pytest.mark.parametrize(
    ("body", "renewed_after"),
    [
        ({"access_token": "T1", "expires_in": 3600}, 2_880),
        ({"Access_token": "T1"}, 2_880),
        ({"access_token": "T1", "expires_in": 600}, 300),
        ({"access_token": "T1", "expires_in": 60}, 30),
        ({"access_token": "T1", "expires_in": 0}, 2_880),
        ({"access_token": "T1", "expires_in": -1}, 2_880),
        ({"access_token": "T1", "expires_in": 1e12}, 2_880),
        ({"access_token": "T1", "expires_in": "soon"}, 2_880),
    ],
)
async def test_it_is_renewed_before_it_ends(body: object, renewed_after: int) -> None:
    """After four fifths of its life, five minutes before its end; what cannot be a life counts as an hour."""
    asked, clock, credential = Asked([gives(body)]), Clock(), Credential()
    await get(credential, asked, clock)

    clock.seconds += renewed_after - 1
    await get(credential, asked, clock)
    before = asked.times
    clock.seconds += 1
    await get(credential, asked, clock)

    assert (before, asked.times) == (1, 2)


@pytest.mark.parametrize(
    ("exchange", "verdict"),
    [
        (gives({"error": "invalid_client app-secret-1"}, 400), Verdict.SETUP),
        (gives({}, 401), Verdict.SETUP),
        (gives({}, 403), Verdict.SETUP),
        (gives({}, 429), Verdict.THROTTLE),
        (gives({}, 503), Verdict.TRANSIENT),
        (gives({"token_type": "Bearer"}), Verdict.SETUP),
        (gives(["T1"]), Verdict.SETUP),
        (gives({"access_token": "two\r\nlines"}), Verdict.SETUP),
        (Exchange(sent=True, error="ServerDisconnectedError"), Verdict.NOT_SENT),
        (Exchange(sent=False, error="ConnectionRefusedError"), Verdict.NOT_SENT),
        (Exchange(sent=False, error="E", certificate="certificate has expired"), Verdict.SETUP),
    ],
)
async def test_without_a_token_it_is_known_why(exchange: Exchange, verdict: Verdict) -> None:
    """A wrong secret pauses, an outage waits; the secret is not repeated. Nothing is kept, so it is asked anew."""
    asked, credential = Asked([exchange]), Credential()

    found = await get(credential, asked, Clock())

    assert isinstance(found, Judgement)
    assert found.verdict is verdict
    assert found.detail.startswith("token: ")
    assert "app-secret-1" not in found.detail
    await get(credential, asked, Clock())
    assert asked.times == 2


async def test_who_waited_for_a_token_is_refused_with_who_asked() -> None:
    """Four requests need one at once and the vendor asks for time: it is asked once, not four times."""
    asked, lock, credential = Asked([gives({}, 429)]), asyncio.Lock(), Credential()

    found = await asyncio.gather(*(get(credential, asked, Clock(), lock) for _ in range(4)))

    assert asked.times == 1
    assert [one.verdict for one in found if isinstance(one, Judgement)] == [Verdict.THROTTLE] * 4


class Broken(ClientCredentials):
    """A shop's own authentication, whose reading fails."""

    def read(self, answer: Answer, *, now: datetime) -> Token | Judgement:
        raise KeyError("the secret")


async def test_a_shops_own_authentication_that_fails_pauses() -> None:
    """Its exception is named by its kind; its text, which may repeat a secret, is not."""
    broken = Broken(base_url="https://api.example", app_id="a", app_secret="b")

    found = await Credential().get(broken, Asked([gives({})]), lock=asyncio.Lock(), steady=Clock(), now=NOON)

    assert found == Judgement(verdict=Verdict.SETUP, detail="token: not readable (KeyError)")


def test_a_token_that_was_replaced_is_not_dropped_again() -> None:
    """Four requests are refused with one token: the one that replaced it stays."""
    old, new = (Kept(Token(value=name, lifetime=timedelta(hours=1)), 0.0) for name in ("T1", "T2"))
    credential = Credential(new)

    credential.drop(old)

    assert credential.kept is new


# ---------------------------------------------------------------- in a worker


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded(Destination):
    """A destination whose token is asked for at the same server that takes its events."""

    vendor: ClassVar[str] = "guarded"

    name: str = "guarded"
    base_url: str = field(default="")
    max_in_flight: int = 1

    @property
    def authentication(self) -> Authentication:
        return ClientCredentials(base_url=self.base_url, app_id="app-id-1", app_secret="app-secret-1")

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        return None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        return {"id": dispatch.event_id}

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        return httpx.Request("POST", f"{self.base_url}/events", content=sendings[0].payload)


def http(status: int, body: bytes = b"{}") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)


def token(value: str) -> bytes:
    return http(200, json.dumps({"access_token": value, "expires_in": 3600}).encode())


def paths(server: Vendor) -> list[str]:
    return [request.split(b" ", 2)[1].decode() for request in server.requests]


def bearers(server: Vendor) -> list[str]:
    found = []
    for request in server.requests:
        found += [
            line.split()[-1].decode() for line in request.split(b"\r\n") if line.lower().startswith(b"authorization: b")
        ]
    return [one for one in found if one.startswith("T")]


async def shop(folder: Path, server: Vendor, orders: int, clock: FrozenClock) -> Kit:
    kit = make_kit(folder, destinations=[Guarded(base_url=f"http://127.0.0.1:{server.port}")], clock=clock)
    for number in range(orders):
        await kit.report(Conversion(order_id=str(number), email="jane@example.com"))
    return kit


@pytest.mark.usefixtures("both_engines")
async def test_a_token_serves_many_requests_and_an_early_end_costs_one(tmp_path: Path, clock: FrozenClock) -> None:
    """One question, three orders, a 401, one question more: every order delivered, and no budget burnt."""
    async with vendor(
        answers(token("T1")),
        answers(http(200)),
        answers(http(200)),
        answers(http(401)),
        answers(token("T2")),
        answers(http(200)),
    ) as server:
        kit = await shop(tmp_path, server, 3, clock)
        await kit.worker.drain()
        rows = await kit.store.read(told)
        kit.store.close()

    assert paths(server) == ["/auth/oauth2/token", "/events", "/events", "/events", "/auth/oauth2/token", "/events"]
    assert bearers(server) == ["T1", "T1", "T1", "T2"]
    assert [row.state for row in rows] == [DeliveryState.DELIVERED] * 3
    assert [row.attempts for row in rows] == [1, 1, 1]


@pytest.mark.usefixtures("both_engines")
@pytest.mark.parametrize(
    ("script", "state", "said"),
    [
        ([http(401)], "paused", "token: HTTP 401"),
        ([token("T1"), http(401)], "paused", "HTTP 401"),
        ([http(503)], "failing", "token: HTTP 503"),
        ([http(200, b"<html>")], "paused", "token: the answer holds none"),
    ],
)
async def test_without_a_token_the_destination_waits_and_nothing_is_burnt(
    tmp_path: Path, clock: FrozenClock, script: list[bytes], state: str, said: str
) -> None:
    """Fifty orders: as few questions as it takes to know, and every order stays as it was."""
    async with vendor(*(answers(one) for one in script)) as server:
        kit = await shop(tmp_path, server, 50, clock)
        await kit.worker.drain()
        (standing,) = await asyncio.to_thread(standings, kit.store)
        rows = await kit.store.read(told)
        kit.store.close()

    assert len(server.requests) == len(script)
    assert standing.gate is not None
    assert (standing.gate.state, standing.gate.reason.split(":  ")[0][: len(said)]) == (state, said)
    assert standing.counts == {("pending", None): 50}
    assert {row.attempts for row in rows} == {0}


async def test_a_stop_says_nothing_of_the_vendor(tmp_path: Path, clock: FrozenClock) -> None:
    """A question for a token that our own end cut short closes no gate; the orders wait for the next worker."""
    asked = asyncio.Event()

    async def never(*_: object) -> None:
        asked.set()
        await asyncio.sleep(3600)

    async with vendor(never) as server:
        kit = await shop(tmp_path, server, 3, clock)
        kit.worker._drain = timedelta(milliseconds=10)
        running = asyncio.create_task(kit.worker.run())
        await asked.wait()
        kit.worker.stop()
        await running
        (standing,) = await asyncio.to_thread(standings, kit.store)
        kit.store.close()

    assert standing.gate is None
    assert standing.counts == {("pending", None): 3}
