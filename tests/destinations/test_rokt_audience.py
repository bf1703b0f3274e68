"""Rokt Custom Audience: contracts.md 5 and 9.4 as requests and verdicts."""

import asyncio
import hashlib
import json
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.destinations import Holdout, RoktAudience
from kit.destinations.base import Answer, Sending
from kit.destinations.rokt.audience import Change
from kit.destinations.rokt.people import REFUSALS, Person, person
from kit.errors import ConfigurationError, InvalidInput
from kit.identity import EMPTY_SHA256
from kit.model import Mode, Verdict
from kit.sandbox import Credentials, Sandbox

from .dispatch_samples import GOLDEN, NOW, answer, as_golden, dispatch, frozen, ordered, verdicts

V3 = {"account": "8675309", "public_key": "rpub-1111", "secret_key": "rsec-2222"}
A, B = (hashlib.sha256(name.encode()).hexdigest() for name in ("a@example.com", "b@example.com"))
HERE = "http://localhost/rokt"
MD5 = "0cba00ca3da1b283a57287bcceb17e35"


def audience(**settings: Any) -> RoktAudience:
    return RoktAudience(**V3 | settings)


def vector(number: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / f"CA-{number}.json").read_text(encoding="utf-8"))
    return found


def changed(destination: RoktAudience, told: dict[str, Any]) -> Change:
    members = told.get("members") or [f"customer-{number}@example.com" for number in range(told.get("generated", 0))]
    return destination.change(told["action"], members, name=told.get("name"))


def sending(body: bytes) -> Sending:
    return Sending(
        delivery_id=1,
        event_id="e1",
        event_name="audience_include",
        order_id="audience:US_Customers",
        at=NOW,
        monetary=False,
        attempts=0,
        payload=body,
    )


def requests(destination: RoktAudience, change: Change) -> list[httpx.Request]:
    return [destination.build([sending(part.body)]) for part in change.parts]


def bodies(change: Change) -> list[dict[str, Any]]:
    return [json.loads(part.body) for part in change.parts]


# ---------------------------------------------------------------- the vectors


@pytest.mark.parametrize("number", [1, 2, 5, 7, 9])
def test_the_requests_are_the_vectors(number: int) -> None:
    """A change in, the vector's requests out, keys in the vector's order; for nobody there is none."""
    told = vector(number)
    destination = RoktAudience(**told["settings"])

    made = [as_golden(request) for request in requests(destination, changed(destination, told["change"]))]

    assert made == told["requests"]
    assert ordered([request["body"] for request in made]) == ordered([each["body"] for each in told["requests"]])


def test_a_long_list_goes_in_chunks() -> None:
    """CA-6: 25,000 members are three requests, everybody once and in order."""
    told = vector(6)
    destination = RoktAudience(**told["settings"])

    change = changed(destination, told["change"])

    assert [part.members for part in change.parts] == told["members_of_requests"]
    assert [len(body["sha256s"]) for body in bodies(change)] == told["members_of_requests"]
    assert len({member for body in bodies(change) for member in body["sha256s"]}) == change.members == 25_000


def test_an_unknown_action_is_refused() -> None:
    """CA-7: add and remove are aliases; what is neither names the field."""
    told = vector(7)
    with pytest.raises(InvalidInput) as raised:
        audience().change(told["unknown_action"], ["a@example.com"])

    assert raised.value.field == "action"
    assert {part.action for part in audience().change("add", ["a@example.com"]).parts} == {"include"}


@pytest.mark.parametrize("told", vector(10)["responses"], ids=lambda told: str(told["status"]))
def test_an_answer_means_what_the_vector_says(told: dict[str, Any]) -> None:
    """CA-10, with faults.md's reading of 401: the destination pauses, and nothing is burnt."""
    (judgement,) = audience().judge(frozen("e1"), answer(told["status"], {}), now=NOW)

    assert judgement.verdict == told["verdict"]


# ---------------------------------------------------------------- who is on a list


def test_digests_stay_digests() -> None:
    """A digest is sent as it is, in lower case, in one request with the addresses that are hashed."""
    change = audience().change("add", [A.upper(), " b@Example.com"])

    assert bodies(change) == [{"action": "include", "sha256s": [A, B]}]


def test_a_request_holds_one_kind() -> None:
    """Raw addresses never stand among digests, nor digests among addresses; both kinds keep their members' order."""
    change = audience(hash=False).change("add", ["c@x.com", A, "d@x.com", B], name="L")

    assert bodies(change) == [
        {"action": "include", "list": "L", "emails": ["c@x.com", "d@x.com"]},
        {"action": "include", "list": "L", "sha256s": [A, B]},
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "blank"),
        (" \t", "blank"),
        (MD5, "md5"),
        (MD5.upper(), "md5"),
        (EMPTY_SHA256, "empty_digest"),
        ("not-an-email", "no_address"),
        ("a@b@c", "no_address"),
        ("a b@c.com", "no_address"),
        ("a\x00@c.com", "no_address"),
        (f"a{chr(0xD800)}@c.com", "no_address"),
        ("a\ufffd@c.com", "no_address"),
        ("a" * 250 + "@c.com", "no_address"),
        (A[:-1], "no_address"),
    ],
)
def test_who_is_nobody_is_counted_with_the_reason(text: str, reason: str) -> None:
    """What is neither an address nor a SHA-256 is left out and counted; the others go on."""
    change = audience().change("add", [text, "a@example.com"])

    assert change.refused == {reason: 1}
    assert bodies(change) == [{"action": "include", "sha256s": [A]}]
    assert reason in REFUSALS


def test_what_is_no_text_is_refused() -> None:
    """A list of rows instead of addresses is a mistake of the caller's, named by its type."""
    with pytest.raises(InvalidInput, match="members: hold a int; pass strings"):
        audience().change("add", [7])  # type: ignore[list-item]


@given(st.lists(st.sampled_from(["Jane.Doe@Example.com", " jane.doe@example.com", A, MD5, "", EMPTY_SHA256, "x"])))
def test_no_request_holds_what_must_not_leave(members: list[str]) -> None:
    """Hashed means hashed: no address, no MD5 and no digest of nothing is in any body; everybody is accounted for."""
    change = audience(chunk=2).change("add", members)
    sent = b"".join(part.body for part in change.parts)

    assert b"@" not in sent
    assert MD5.encode() not in sent
    assert EMPTY_SHA256.encode() not in sent
    assert change.members + sum(change.refused.values()) == len(members)
    assert sum(part.members for part in change.parts) == change.members


def test_members_stand_in_no_repr() -> None:
    """Neither a change nor a person shows whom it is about."""
    change = audience(hash=False).change("add", ["jane@example.com"])

    assert "jane" not in repr(change)
    assert "jane" not in repr(person("jane@example.com"))
    assert isinstance(person("jane@example.com"), Person)


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "US\nCustomers"])
def test_a_name_that_cannot_be_is_refused(name: str) -> None:
    """1 to 100 printable characters; leaving the name out is the way to Rokt's default list."""
    with pytest.raises(InvalidInput) as raised:
        audience().change("add", ["a@example.com"], name=name)

    assert raised.value.field == "name"


# ---------------------------------------------------------------- the holdout


def test_the_holdout_is_removed_where_it_would_be_added() -> None:
    """Same call, a request of its own; who asks to be removed is removed either way; and it is said how many."""
    holdout = Holdout(name="2026-q4", percent=20)
    members = [f"customer-{number}@example.com" for number in range(500)]
    spared = [member for member in members if holdout.holds(member)]

    added = audience(hash=False, holdout=holdout).change("add", members)
    removed = audience(hash=False, holdout=holdout).change("remove", members)

    by_action = {body["action"]: body["emails"] for body in bodies(added)}
    assert by_action == {"include": [each for each in members if each not in spared], "exclude": spared}
    assert added.held_out == len(spared) > 0
    assert (removed.held_out, [body["action"] for body in bodies(removed)]) == (0, ["exclude"])


@pytest.mark.parametrize("hashed", [True, False])
def test_conversions_and_audiences_agree_on_who_is_held_out(hashed: bool) -> None:
    """The stamp of a conversion and the list's action come of one draw, whether addresses or digests are given."""
    holdout = Holdout(name="2026-q4", percent=30)
    for number in range(60):
        address = f"Customer-{number}@example.com"
        digest = hashlib.sha256(address.lower().encode()).hexdigest()
        expected = {"2026-q4": 1, "none": 0}[holdout.stamp(address) or ""]

        for spelt in (address, digest):
            assert audience(hash=hashed, holdout=holdout).change("add", [spelt]).held_out == expected


# ---------------------------------------------------------------- requests, answers, settings


def test_what_the_vendor_says_is_kept_without_people_and_keys() -> None:
    """An error's words are for the operator; addresses, digests and credentials in them are not."""
    said = {"message": f"sha256s[3] {A} of jane@example.com is unknown to rsec-2222 and API-KEY-1"}
    (v3,) = audience().judge(frozen("e1"), answer(400, said), now=NOW)
    (older,) = RoktAudience(api_key="API-KEY-1").judge(frozen("e1"), answer(400, said), now=NOW)

    assert v3.detail.startswith("HTTP 400: ")
    for secret in (A, "jane", "rsec-2222"):
        assert secret not in v3.detail
    assert "API-KEY-1" not in older.detail


def test_any_repeat_is_safe() -> None:
    """To be on a list twice is to be on it once, so an answer that was lost is asked for again."""
    assert audience().repeat_is_safe(frozen("e1")[0], now=NOW)
    assert audience().batch_limit(frozen("e1")[0]) == 1


def test_it_takes_no_conversions() -> None:
    """It checks nothing and makes no body of an event: changes of a list bring their own."""
    assert not audience().reports
    assert audience().check(dispatch(), now=NOW) is None
    with pytest.raises(LookupError):
        audience().payload(dispatch(), now=NOW)


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("RoktAudience.api_key", V3 | {"api_key": "API-KEY-1"}),
        ("RoktAudience.api_key", {"api_key": "API KEY"}),
        ("Rokt.account", V3 | {"account": ""}),
        ("KIT_ROKT_PUBLIC_KEY", V3 | {"public_key": ""}),
        ("KIT_ROKT_SECRET_KEY", V3 | {"secret_key": "rpub-1111"}),
        ("RoktAudience.hash", V3 | {"hash": "md5"}),
        ("RoktAudience.hash", V3 | {"hash": "false"}),
        ("RoktAudience.hash", V3 | {"hash": None}),
        ("RoktAudience.holdout", V3 | {"holdout": "q:5"}),
        ("RoktAudience.chunk", V3 | {"chunk": "5"}),
        ("RoktAudience.chunk", V3 | {"chunk": True}),
        ("RoktAudience.base_url", V3 | {"base_url": "https://data.rokt.com/v3/import/suppression"}),
        ("RoktAudience.base_url", {"api_key": "K", "base_url": "https://data.rokt.com/api/1.0"}),
        ("RoktAudience.api_key", {"api_key": "t\u00f6k"}),
        ("RoktAudience.chunk", V3 | {"chunk": 0}),
        ("RoktAudience.chunk", V3 | {"chunk": 1_000_001}),
        ("RoktAudience.base_url", V3 | {"base_url": "http://data.rokt.com"}),
    ],
)
def test_what_cannot_be_is_refused_at_start(setting: str, given: dict[str, Any]) -> None:
    """Both forms at once, half a form, a chunk that Rokt does not take: named, and no secret in the text."""
    with pytest.raises(ConfigurationError) as raised:
        RoktAudience(**given)

    assert raised.value.setting == setting
    assert "2222" not in str(raised.value)


def test_md5_is_refused_in_words() -> None:
    """contracts.md 10.11: the API lists none, so nobody gets SHA-256 who asked for it."""
    with pytest.raises(ConfigurationError, match="asks for MD5, which Rokt does not take; True is SHA-256"):
        audience(hash="MD5")


@pytest.mark.parametrize(
    ("body", "verdict", "known"),
    [
        (b"", Verdict.OK, True),
        ({}, Verdict.OK, True),
        ({"id": "7"}, Verdict.OK, False),
        (b"<html>", Verdict.OK, False),
        ({"errors": ["x"]}, Verdict.INVALID, False),
        ({"error": "no such list"}, Verdict.INVALID, False),
        ({"success": False}, Verdict.INVALID, False),
        ({"status": "rejected"}, Verdict.INVALID, False),
    ],
)
def test_a_success_that_names_an_error_is_none(body: object, verdict: Verdict, known: bool) -> None:
    """Rokt documents no body of a success: what is in one is shown, and an error in it changed no list."""
    (judgement,) = audience().judge(frozen("e1"), answer(201, body), now=NOW)

    assert judgement.verdict is verdict
    assert audience().is_known(answer(201, body)) is known


def test_shadow_needs_no_keys() -> None:
    """Staging must not change a list, and needs no credential for that."""
    assert RoktAudience(account="8675309", mode=Mode.SHADOW).mode == Mode.SHADOW


def test_secrets_stand_in_no_repr() -> None:
    """A settings object may be printed."""
    assert "2222" not in repr(audience())
    assert "API-KEY-1" not in repr(RoktAudience(api_key="API-KEY-1"))


# ---------------------------------------------------------------- against the sandbox


def ask(destination: RoktAudience, asked: Iterable[httpx.Request]) -> tuple[Sandbox, list[Answer]]:
    """Send to a fresh sandbox without a socket; return it and its answers."""
    account = Credentials(
        rokt_account="8675309",
        rokt_public_key="rpub-1111",
        rokt_secret_key="rsec-2222",
        rokt_audience_key="API-KEY-1",
    )
    sandbox = Sandbox(account, clock=lambda: NOW)

    async def exchange() -> list[Answer]:
        answers = []
        async with httpx.AsyncClient(transport=sandbox.transport()) as client:
            for request in asked:
                response = await client.send(request)
                answers.append(Answer(status=response.status_code, headers=response.headers, body=response.content))
        return answers

    return sandbox, asyncio.run(exchange())


@pytest.mark.parametrize("settings", [V3, V3 | {"hash": False}, {"api_key": "API-KEY-1"}])
def test_what_we_send_is_taken(settings: dict[str, Any]) -> None:
    """Two readings of contracts.md agree: both forms, raw and hashed, are let in and change the list."""
    destination = RoktAudience(**settings, base_url=HERE)
    asked = [
        *requests(destination, destination.change("add", ["a@example.com", B, "c@example.com"], name="L")),
        *requests(destination, destination.change("remove", ["A@example.com"], name="L")),
        *requests(destination, destination.change("add", ["a@example.com"])),
    ]

    sandbox, answers = ask(destination, asked)

    assert {destination.judge(frozen("e1"), each, now=NOW)[0].verdict for each in answers} == {Verdict.OK}
    assert sandbox.rokt_audience.lists == {"L": 2, "AdvertiserDatabase": 1}
    assert sandbox.rokt_audience.members() == {A}


def test_the_trial_tells_right_credentials_from_wrong_ones() -> None:
    """`kit doctor` asks v3's auth-check, which changes nothing; the older API is only reached."""
    for secret, verdict in (("rsec-2222", Verdict.OK), ("rsec-3333", Verdict.SETUP)):
        destination = audience(secret_key=secret, base_url=HERE)
        trial = destination.trial(now=NOW)
        assert trial.sending is not None
        sandbox, answers = ask(destination, [trial.request])

        assert verdicts(destination.judge([trial.sending], answers[0], now=NOW)) == [verdict]
        assert sandbox.rokt_audience.lists == {}
    assert RoktAudience(api_key="API-KEY-1").trial(now=NOW).sending is None
