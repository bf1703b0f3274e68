"""Rokt's Event API v1: the token, the key of a repeat, and the three histories of a 409 (contracts.md 3.1, 3.2)."""

import dataclasses
import json
import uuid

import httpx
import pytest

from kit.destinations.base import Judgement, Token
from kit.destinations.rokt.token import ClientCredentials
from kit.model import Verdict

from .dispatch_samples import GOLDEN, NOW, answer, as_golden, dispatch, sending
from .rokt_samples import events_of, v1, v2

VECTOR = json.loads((GOLDEN / "RK-2.json").read_text(encoding="utf-8"))


def key_of(request: httpx.Request) -> str:
    return request.headers["idempotency-key"]


def test_the_token_is_asked_for_as_the_vector_says() -> None:
    """RK-2: Basic of id and secret, a form of one field; no other surface asks for one."""
    authentication = v1(**VECTOR["settings"]).authentication
    assert authentication is not None
    request = authentication.ask()

    assert {
        "method": request.method,
        "url": str(request.url),
        "headers": {name: request.headers[name] for name in VECTOR["token_request"]["headers"]},
        "body": request.content.decode(),
    } == VECTOR["token_request"]
    assert v2().authentication is None


@pytest.mark.parametrize("said", VECTOR["token_responses"], ids=str)
def test_an_event_carries_the_token(said: dict[str, object]) -> None:
    """RK-2: under either spelling the token is read, and signs the request of one event."""
    destination = v1(**VECTOR["settings"])
    authentication = destination.authentication
    assert authentication is not None
    token = authentication.read(answer(200, said), now=NOW)
    assert isinstance(token, Token)
    request = destination.build([sending(destination, dispatch(email="a@b.co"))])
    authentication.sign(request, token)

    sent = as_golden(request)
    headers = dict(request.headers)
    assert sent["url"] == VECTOR["events_url"]
    assert {name: headers[name] for name in VECTOR["events_headers"]} == VECTOR["events_headers"]
    assert destination.batch_limit(events_of("a")[0]) == 1
    assert (token.lifetime.total_seconds(), "T1" in repr(token)) == (3600, False)


def test_a_token_stays_at_its_host() -> None:
    """A request to another host of Rokt's, such as the postback's, is not signed."""
    authentication = ClientCredentials(base_url="https://api.rokt.com/", app_id="a", app_secret="b")
    elsewhere = httpx.Request("GET", "https://apps.rokt.com/api/conv")
    below = httpx.Request("GET", "https://api.rokt.com.evil.com/")
    for request in (elsewhere, below):
        authentication.sign(request, Token(value="T1", lifetime=NOW - NOW))

        assert "authorization" not in request.headers


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (400, {"error": "app-secret-1"}, Verdict.SETUP),
        (401, b"", Verdict.SETUP),
        (403, {"error": "app-id-1 app-secret-1"}, Verdict.SETUP),
        (404, b"", Verdict.SETUP),
        (429, b"", Verdict.THROTTLE),
        (500, b"app-secret-1", Verdict.TRANSIENT),
        (200, b"<html>", Verdict.SETUP),
        (200, {"access_token": ""}, Verdict.SETUP),
        (200, {"access_token": 7}, Verdict.SETUP),
        (200, {"access_token": "T\n1"}, Verdict.SETUP),
        (200, {"access_token": "T\u00e9"}, Verdict.SETUP),
        (200, [], Verdict.SETUP),
    ],
)
def test_no_token_is_a_judgement(status: int, body: object, verdict: Verdict) -> None:
    """It says why, and never the secret."""
    authentication = v1().authentication
    assert authentication is not None
    found = authentication.read(answer(status, body), now=NOW)

    assert isinstance(found, Judgement)
    assert found.verdict is verdict
    assert found.detail.startswith("token: ")
    assert "app-" not in found.detail


@pytest.mark.parametrize("said", [0, -1, 1e12, "x", None, True, [], float("inf")])
def test_a_lifetime_that_cannot_be_is_an_hour(said: object) -> None:
    """Neither asked for with each request, nor kept for ever."""
    authentication = v1().authentication
    assert authentication is not None
    found = authentication.read(answer(200, {"access_token": "T1", "expires_in": said}), now=NOW)

    assert isinstance(found, Token)
    assert found.lifetime.total_seconds() == 3600


# ---------------------------------------------------------------- the key of a repeat


def test_the_key_is_a_uuid_of_version_4_for_each_event_and_account() -> None:
    """As the vendor asks; two events never share one, nor do two accounts."""
    first, second = events_of("a", "b")
    keys = [key_of(v1().build([first])), key_of(v1().build([second])), key_of(v1(account="9").build([first]))]

    assert len(set(keys)) == 3
    assert {uuid.UUID(key).version for key in keys} == {4}
    assert {str(uuid.UUID(key)) for key in keys} == set(keys)


def test_a_retry_after_no_answer_repeats_the_key_and_one_after_a_failure_has_another() -> None:
    """Attempts that were never judged keep it; each answered failure changes it."""
    (event,) = events_of("a")
    doubtful = dataclasses.replace(event, attempts=3, in_doubt=True)
    refused = dataclasses.replace(event, attempts=3, refused=1)
    twice = dataclasses.replace(event, attempts=4, refused=2, in_doubt=True)
    keys = [key_of(v1().build([each])) for each in (event, doubtful, refused, twice)]

    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("refused", "in_doubt", "verdict"),
    [
        (0, True, Verdict.OK),  # no answer, then its own key
        (1, True, Verdict.OK),  # a failure, then no answer to the other key
        (0, False, Verdict.INVALID),  # a key that nobody used
        (1, False, Verdict.INVALID),  # another key after a failure, and nobody used that one either
    ],
)
def test_a_conflict_is_judged_by_its_history(refused: int, in_doubt: bool, verdict: Verdict) -> None:
    """faults.md 2.2: only the try before, and only without an answer, can have left this key behind."""
    (judgement,) = v1().judge(events_of("a", refused=refused, in_doubt=in_doubt), answer(409), now=NOW)

    assert judgement.verdict is verdict
    assert judgement.detail.startswith("idempotency_collision") == (verdict is Verdict.INVALID)


def test_a_repeat_is_safe() -> None:
    """Same clientEventId, same transactionid."""
    assert v1().repeat_is_safe(events_of("a")[0], now=NOW)
    assert v2().repeat_is_safe(events_of("a")[0], now=NOW)
