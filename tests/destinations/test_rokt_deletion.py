"""Rokt's data deletion: contracts.md 6 as requests; what each answer makes of a request, a question and a cancel."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest

from kit.destinations import RoktDeletion
from kit.destinations.base import Judgement, Sending
from kit.errors import ConfigurationError, InvalidInput
from kit.model import Mode, Verdict

from .dispatch_samples import GOLDEN, NOW, answer, as_golden, dispatch

GIVEN = {"account": "8675309", "app_id": "app-1", "app_secret": "secret-2222"}
JANE = hashlib.sha256(b"jane@example.com").hexdigest()
CREATE = b'{"emails":["jane@example.com"]}'
FOLLOW = b'{"follow":"r-1"}'
CANCEL = b'{"cancel":"r-1"}'
SIX_HOURS, MINUTE = timedelta(hours=6), timedelta(minutes=1)


def deletion(**settings: Any) -> RoktDeletion:
    return RoktDeletion(**GIVEN | settings)


def sending(payload: bytes) -> Sending:
    return Sending(
        delivery_id=1,
        event_id="e1",
        event_name="data_deletion",
        order_id="deletion:e1",
        at=NOW,
        monetary=False,
        attempts=1,
        payload=payload,
    )


def judged(payload: bytes, status: int, body: object = b"", **settings: Any) -> Judgement:
    (judgement,) = deletion(**settings).judge([sending(payload)], answer(status, body), now=NOW)
    return judgement


def told(status: object, known: object = "r-1") -> dict[str, object]:
    return {"data": {"id": known, "status": status}}


# ---------------------------------------------------------------- requests


def test_the_requests_are_the_vectors() -> None:
    """Made, followed and cancelled: contracts.md 6, and the two paths that are assumed."""
    vector = json.loads((GOLDEN / "DD-1.json").read_text(encoding="utf-8"))
    destination = RoktDeletion(**vector["settings"])
    steps = [*destination.bodies(vector["people"]), FOLLOW, CANCEL]

    assert [as_golden(destination.build([sending(step)])) for step in steps] == vector["requests"]


def test_addresses_and_digests_go_in_requests_of_their_own() -> None:
    """Normalised addresses, digests in lower case, one kind a request, and no more than a chunk in each."""
    bodies = deletion(chunk=2).bodies([" Jane@Example.com", JANE.upper(), "b@x.com", "c@x.com"])

    assert [json.loads(body) for body in bodies] == [
        {"emails": ["jane@example.com", "b@x.com"]},
        {"emails": ["c@x.com"]},
        {"hashedEmails": [JANE]},
    ]
    assert deletion().bodies([]) == ()


def test_one_wrong_address_refuses_them_all() -> None:
    """Whom an erasure leaves out would not be noticed; the error says how many and why, never whom."""
    with pytest.raises(InvalidInput) as raised:
        deletion().bodies(["jane@example.com", "x", "y", "0cba00ca3da1b283a57287bcceb17e35"])

    assert str(raised.value) == (
        "emails: 3 of 4 name nobody, and none is taken: 2 × neither one e-mail address nor a SHA-256 digest, "
        "1 × an MD5 digest, which Rokt does not take; pass the address or its SHA-256"
    )


def test_each_step_is_a_request_of_its_own() -> None:
    """Made by POST with the account's id, followed by GET, cancelled by DELETE; the id is escaped, never trusted."""
    made, followed, cancelled, odd = (
        deletion().build([sending(payload)]) for payload in (CREATE, FOLLOW, CANCEL, b'{"follow":"../x?y"}')
    )

    assert (made.method, str(made.url)) == ("POST", "https://api.rokt.com/data/deletion-requests/emails")
    assert made.content == b'{"accountId":"8675309","emails":["jane@example.com"]}'
    assert made.headers["content-type"] == "application/json"
    assert (followed.method, str(followed.url)) == ("GET", "https://api.rokt.com/data/deletion-requests/r-1")
    assert (cancelled.method, str(cancelled.url)) == ("DELETE", "https://api.rokt.com/data/deletion-requests/r-1")
    assert odd.url.raw_path == b"/data/deletion-requests/..%2Fx%3Fy"
    assert (followed.content, cancelled.content) == (b"", b"")


def test_the_assumed_paths_are_settings() -> None:
    """Rokt does not publish them."""
    own = deletion(status_path="/v9/{id}/state", cancel_path="/v9/{id}", base_url="https://api.rokt.com/x/")

    assert str(own.build([sending(FOLLOW)]).url) == "https://api.rokt.com/x/v9/r-1/state"
    assert str(own.build([sending(CANCEL)]).url) == "https://api.rokt.com/x/v9/r-1"


def test_what_cancels_a_request_depends_on_whether_rokt_has_it() -> None:
    """Before Rokt has it there is nothing to ask; after that its id is."""
    assert deletion().cancelling(CREATE) is None
    assert deletion().cancelling(FOLLOW) == CANCEL
    assert deletion().cancelling(CANCEL) == CANCEL


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize("status", [200, 201, 202])
def test_a_request_that_was_taken_is_followed(status: int) -> None:
    """Not delivered yet: it is asked about after six hours, and the body that is kept names nobody."""
    judgement = judged(CREATE, status, told("PENDING"))

    assert (judgement.verdict, judgement.wait, judgement.detail) == (Verdict.OK, SIX_HOURS, "Rokt says PENDING")
    assert judgement.follow == FOLLOW


def test_an_id_may_be_a_number() -> None:
    """Rokt does not publish its form."""
    assert judged(CREATE, 201, told("PENDING", 7)).follow == b'{"follow":"7"}'


def test_without_a_status_path_a_request_that_was_taken_is_done() -> None:
    """`status_path=None` is for whoever has learnt that Rokt cannot be asked."""
    judgement = judged(CREATE, 201, told("PENDING"), status_path=None)

    assert (judgement.verdict, judgement.follow) == (Verdict.OK, None)
    assert judgement.detail == "Rokt says PENDING, and is not asked again"


@pytest.mark.parametrize("body", [b"", b"ok", b"[]", {}, {"data": {}}, told("PENDING", ""), told("PENDING", "../x")])
def test_an_answer_without_an_id_is_no_success(body: object) -> None:
    """A 2xx that says no id leaves open what Rokt has: a person asks, for asking again proves nothing."""
    judgement = judged(CREATE, 201, body)

    assert (judgement.verdict, judgement.hold, judgement.follow) == (Verdict.UNKNOWN, True, None)
    assert judged(CREATE, 201, body, status_path=None).verdict is Verdict.OK


@pytest.mark.parametrize("status", ["PENDING", "READY", "ready"])
def test_what_is_under_way_is_asked_about_again(status: str) -> None:
    """Rokt takes up to a month; nothing is counted meanwhile."""
    judgement = judged(FOLLOW, 200, told(status))

    assert (judgement.verdict, judgement.wait, judgement.follow) == (Verdict.OK, SIX_HOURS, FOLLOW)
    assert judgement.detail == f"Rokt says {status.upper()}"


@pytest.mark.parametrize("status", ["PROCESSED", "COMPLETED", "DONE", "CANCELLED", "CANCELED"])
def test_what_has_ended_is_delivered_and_says_how(status: str) -> None:
    """The detail tells an erasure from one that was cancelled."""
    judgement = judged(FOLLOW, 200, told(status))

    assert (judgement.verdict, judgement.follow) == (Verdict.OK, None)
    assert judgement.detail == f"Rokt says {status}"


@pytest.mark.parametrize("body", [b"", b"PROCESSED", told(None), told(3), told("FAILED"), {"data": "PROCESSED"}])
def test_a_state_that_cannot_be_read_is_no_success(body: object) -> None:
    """An unknown word is unknown: it is asked again, ever less often."""
    assert judged(FOLLOW, 200, body).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 405, 410])
def test_a_path_that_was_assumed_wrongly_holds_nobody_back(status: int) -> None:
    """What Rokt documents must go on: the destination is not paused by a question that it may not know."""
    judgement = judged(FOLLOW, status, {})

    assert (judgement.verdict, judgement.wait, judgement.follow) == (Verdict.OK, SIX_HOURS, FOLLOW)
    assert f"HTTP {status}" in judgement.detail
    assert "status_path" in judgement.detail


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (400, Verdict.INVALID),
        (401, Verdict.SETUP),
        (404, Verdict.SETUP),
        (429, Verdict.THROTTLE),
        (500, Verdict.TRANSIENT),
    ],
)
def test_other_answers_to_a_request_mean_what_their_status_says(status: int, verdict: Verdict) -> None:
    """The documented path is judged as any vendor's."""
    assert judged(CREATE, status, told("PENDING")).verdict is verdict


@pytest.mark.parametrize("payload", [FOLLOW, CANCEL])
@pytest.mark.parametrize(("status", "verdict"), [(429, Verdict.THROTTLE), (503, Verdict.TRANSIENT)])
def test_a_bad_moment_is_one_for_each_step(payload: bytes, status: int, verdict: Verdict) -> None:
    """The same step is tried again with the same body."""
    judgement = judged(payload, status, {})

    assert (judgement.verdict, judgement.follow) == (verdict, None)


def test_a_403_says_that_the_account_may_not_be_allow_listed() -> None:
    """The one thing about this API that Rokt has to set up: the destination pauses."""
    judgement = judged(CREATE, 403, {"data": {"message": "jane@example.com is forbidden"}})

    assert judgement.verdict is Verdict.SETUP
    assert "allow-listed" in judgement.detail
    assert "jane" not in judgement.detail


def test_a_cancel_that_rokt_confirms_is_delivered() -> None:
    """Only its own word counts."""
    judgement = judged(CANCEL, 200, told("CANCELLED"))

    assert (judgement.verdict, judgement.follow, judgement.detail) == (Verdict.OK, None, "Rokt says CANCELLED")


@pytest.mark.parametrize(("status", "body"), [(204, b""), (200, told("READY")), (404, {}), (405, {}), (409, {})])
def test_a_cancel_that_rokt_does_not_confirm_is_asked_about(status: int, body: object) -> None:
    """The request goes on being followed, and says from then on that the cancel did nothing."""
    judgement = judged(CANCEL, status, body)

    assert (judgement.verdict, judgement.wait) == (Verdict.OK, MINUTE)
    assert judgement.follow is not None
    asked = judged(judgement.follow, 200, told("READY"))
    assert asked.detail == f"Rokt says READY; it did not cancel (HTTP {status})"
    assert asked.follow == judgement.follow
    assert judged(judgement.follow, 200, told("CANCELLED")).detail == "Rokt says CANCELLED"
    assert judged(judgement.follow, 200, told("DONE")).detail == f"Rokt says DONE; it did not cancel (HTTP {status})"
    assert deletion().cancelling(judgement.follow) == CANCEL


def test_credentials_stand_neither_in_details_nor_in_reprs() -> None:
    """Whatever Rokt repeats."""
    assert "secret-2222" not in judged(CREATE, 400, {"data": {"message": "app-1 secret-2222"}}).detail
    assert "secret-2222" not in repr(deletion())


@pytest.mark.parametrize("body", [{"error": "x"}, {"errors": ["x"]}, {"success": False}, told("FAILED")])
def test_a_success_that_names_an_error_is_none(body: object) -> None:
    """Nobody was taken: with and without being followed, the error stands with the request."""
    assert judged(CREATE, 201, body).verdict is Verdict.INVALID
    assert judged(CREATE, 201, body, status_path=None).verdict is Verdict.INVALID
    assert judged(FOLLOW, 200, body).verdict is Verdict.UNKNOWN
    assert judged(FOLLOW, 200, {"data": {"id": "r-1", "status": "DONE"}, "error": "x"}).verdict is Verdict.UNKNOWN
    assert not deletion().is_known(answer(201, body))


def test_what_is_assumed_of_answers_is_known_and_no_more() -> None:
    """An id with a status, and the token that is asked for first; Rokt publishes no body, so others are shown."""
    assert deletion().is_known(answer(201, told("PENDING")))
    assert deletion().is_known(answer(200, {"access_token": "T1", "expires_in": 3600}))
    assert deletion().is_known(answer(500, b"<html>"))
    strange: list[object] = [b"", {}, {"data": {}}, {"data": {"id": "7"}}]
    assert not any(deletion().is_known(answer(201, body)) for body in strange)


# ---------------------------------------------------------------- settings


def test_it_is_followed_for_two_months() -> None:
    """Rokt may take thirty days; asked every six hours. It takes no conversions, and its credentials are OAuth's."""
    destination = deletion()

    assert (destination.horizon, destination.longest_wait) == (timedelta(days=60), SIX_HOURS)
    assert not destination.reports
    assert destination.check(dispatch(), now=NOW) is None
    assert str(destination.authentication.ask().url) == "https://api.rokt.com/auth/oauth2/token"
    assert destination.trial(now=NOW).sending is None
    with pytest.raises(LookupError):
        destination.payload(dispatch(), now=NOW)


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("Rokt.account", {"account": ""}),
        ("RoktDeletion.app_id", {"app_id": ""}),
        ("RoktDeletion.app_secret", {"app_secret": "two words"}),
        ("RoktDeletion.status_path", {"status_path": "/data"}),
        ("RoktDeletion.cancel_path", {"cancel_path": "data/{id}"}),
        ("RoktDeletion.chunk", {"chunk": 0}),
        ("RoktDeletion.chunk", {"chunk": "5"}),
        ("RoktDeletion.status_path", {"status_path": 5}),
        ("RoktDeletion.cancel_path", {"cancel_path": None}),
        ("RoktDeletion.app_id", {"app_id": 5}),
        ("RoktDeletion.base_url", {"base_url": "https://api.rokt.com/data/deletion-requests"}),
        ("RoktDeletion.base_url", {"base_url": "ftp://api.rokt.com"}),
    ],
)
def test_what_cannot_be_is_refused_at_start(setting: str, given: dict[str, Any]) -> None:
    """Named, and never with its value."""
    with pytest.raises(ConfigurationError) as raised:
        deletion(**given)

    assert raised.value.setting == setting


def test_shadow_needs_no_credentials() -> None:
    """Staging must not erase anybody."""
    assert deletion(app_id="", app_secret="", mode=Mode.SHADOW).mode == Mode.SHADOW
