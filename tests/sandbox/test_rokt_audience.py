"""Rokt's Custom Audience Import API takes what contracts.md 5 describes, and keeps each list as it then stands."""

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from kit.sandbox import Credentials, Event, Sandbox

from .vectors import Clock, basic

V3 = "/rokt/v3/import/suppression"
V1 = "/rokt/api/1.0/import/suppression"
CHECK = "/rokt/v3/auth-check"
HEADERS = {"Authorization": "Basic cnB1Yi0xMTExOnJzZWMtMjIyMg=="}
A = "08168cd80dfd534ab0f10af10f1303fe00af2d43ab5c1432360d137f8197e17a"
B = "e8f39b3e1382367d6d41ab34dc270d4e7533f978c9e9a775dfe2185b2f96b96c"
NOBODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def sandbox() -> Sandbox:
    account = Credentials(
        rokt_account="8675309",
        rokt_public_key="rpub-1111",
        rokt_secret_key="rsec-2222",
        rokt_audience_key="API-KEY-1",
    )
    return Sandbox(account, clock=Clock())


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        yield client


def imported(**changed: Any) -> Event:
    """Return CA-1 of contracts.md 9.4 with these keys changed; a key set to ... is left out."""
    body: Event = {"accountId": "8675309", "action": "include", "list": "US_Customers", "sha256s": [A, B]}
    return {name: value for name, value in (body | changed).items() if value is not ...}


async def test_vector_ca_1_is_accepted_as_it_stands(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Two hashed members join the named list, answered 201."""
    answer = await client.post(V3, headers=HEADERS, json=imported())

    assert answer.status_code == 201
    assert sandbox.rokt_audience.members("US_Customers") == {A, B}
    assert sandbox.rokt_audience.view.details == {"list US_Customers": 2}
    assert sandbox.rokt_audience.requests[0].warnings == ()


async def test_vector_ca_2_leaves_the_default_list(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Without a list it is AdvertiserDatabase; a raw address removes who was added by its digest."""
    for changed in (
        {"list": ..., "sha256s": [A, B.upper()]},
        {"list": ..., "action": "exclude", "sha256s": ..., "emails": ["a@example.com"]},
    ):
        answer = await client.post(V3, headers=HEADERS, json=imported(**changed))
        assert answer.status_code == 201

    assert sandbox.rokt_audience.members() == {B}
    assert sandbox.rokt_audience.lists == {"AdvertiserDatabase": 1}


@pytest.mark.parametrize(
    "given", [{"email": "A@Example.com"}, {"emails": ["a@example.com"]}, {"sha256": A}, {"sha256s": [A.upper()]}]
)
async def test_each_identifier_key_names_the_same_person(
    sandbox: Sandbox, client: httpx.AsyncClient, given: Event
) -> None:
    """One or many, raw or hashed."""
    answer = await client.post(V3, headers=HEADERS, json=imported(sha256s=...) | given)

    assert answer.status_code == 201
    assert sandbox.rokt_audience.members("US_Customers") == {A}


async def test_vector_ca_9_the_older_page_takes_a_raw_key(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Without accountId, which it does not know."""
    headers = {"Authorization": "API-KEY-1"}

    taken = await client.post(V1, headers=headers, json=imported(accountId=...))
    refused = await client.post(V1, headers=headers, json=imported())

    assert (taken.status_code, refused.status_code) == (201, 400)
    assert sandbox.rokt_audience.requests[0].headers["authorization"] == "***"


async def test_an_empty_twin_is_taken_with_a_warning(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Segment sends both lists, one of them empty."""
    answer = await client.post(V3, headers=HEADERS, json=imported(emails=[]))

    assert answer.status_code == 201
    assert sandbox.rokt_audience.requests[0].warnings == ("emails is empty beside another identifier key",)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"accountId": ...}, "accountId is required"),
        ({"accountId": ""}, "accountId is not open"),
        ({"accountId": 8675309}, "accountId is not 1 to 64 characters long"),
        ({"action": ...}, "action is required"),
        ({"action": "remove"}, "action is neither include nor exclude"),
        ({"list": ""}, "list is not a string of 1 to 256 characters"),
        ({"sha256s": ...}, "found none"),
        ({"sha256s": []}, "found none"),
        ({"emails": ["c@example.com"]}, "found emails and sha256s"),
        ({"sha256s": A}, "sha256s is not a list"),
        ({"sha256s": [A, "0cba00ca3da1b283a57287bcceb17e35"]}, "sha256s[1] is not a SHA-256 digest in hex"),
        ({"sha256s": [NOBODY]}, "sha256s[0] is not a SHA-256 digest in hex, or is that of nothing"),
        ({"sha256s": [A, "a@example.com"]}, "sha256s[1] is not a SHA-256 digest"),
        ({"sha256s": ..., "sha256": [A]}, "sha256 is not a string"),
        ({"sha256s": ..., "emails": ["a@example.com", "nobody"]}, "emails[1] is not an address"),
        ({"sha256s": ..., "emails": [A]}, "emails[0] is not an address"),
        ({"sha256s": ..., "email": "a b@example.com"}, "email is not an address"),
        ({"md5s": ["0cba00ca3da1b283a57287bcceb17e35"]}, "md5s is not a field of an import"),
    ],
)
async def test_a_wrong_import_is_refused_whole(
    sandbox: Sandbox, client: httpx.AsyncClient, changed: Event, words: str
) -> None:
    """It says why, and no list changes."""
    answer = await client.post(V3, headers=HEADERS, json=imported(**changed))

    assert answer.status_code == (401 if "not open" in words else 400)
    assert words in answer.json()["message"]
    assert sandbox.rokt_audience.lists == {}


@pytest.mark.parametrize("content", ["{", "[]", "7"])
async def test_a_body_that_is_no_object_is_refused(client: httpx.AsyncClient, content: str) -> None:
    """With 400."""
    answer = await client.post(V3, headers=HEADERS, content=content)

    assert answer.status_code == 400


@pytest.mark.parametrize(("contacts", "status"), [(1_000_000, 201), (1_000_001, 400)])
async def test_a_million_contacts_are_taken(
    sandbox: Sandbox, client: httpx.AsyncClient, contacts: int, status: int
) -> None:
    """And one more is not."""
    answer = await client.post(V3, headers=HEADERS, json=imported(sha256s=..., emails=["a@b.c"] * contacts))

    assert answer.status_code == status
    assert len(sandbox.rokt_audience.members("US_Customers")) == (1 if status == 201 else 0)


async def test_a_request_of_a_million_digests_fits(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """67 MB are read, and the page still comes without decoding them."""
    digests = [hashlib.sha256(b"%d" % number).hexdigest() for number in range(2)] * 500_000

    answer = await client.post(V3, headers=HEADERS, json=imported(sha256s=digests))

    assert answer.status_code == 201
    assert "rokt_audience" in (await client.get("/")).text
    assert (await client.get("/calls.json")).json()["calls"][0]["events"] == []


@pytest.mark.parametrize(
    ("method", "path", "authorization", "status"),
    [
        ("GET", V3, HEADERS["Authorization"], 405),
        ("POST", "/rokt/v3/import/other", HEADERS["Authorization"], 404),
        ("POST", V3, "", 401),
        ("POST", V3, basic("rpub-1111", "wrong"), 401),
        ("POST", V3, "API-KEY-1", 401),
        ("POST", V1, HEADERS["Authorization"], 401),
        ("POST", V1, "", 401),
        ("POST", CHECK, basic("rpub-1111", "wrong"), 401),
    ],
)
async def test_the_door(client: httpx.AsyncClient, method: str, path: str, authorization: str, status: int) -> None:
    """Path, method and credential decide before the body: the key pair for v3, the raw key for 1.0."""
    answer = await client.request(method, path, headers={"Authorization": authorization}, json=imported())

    assert answer.status_code == status


@pytest.mark.parametrize(("account", "status"), [("8675309", 200), ("1", 401), (None, 400)])
async def test_the_auth_check_says_whether_the_account_is_open(
    sandbox: Sandbox, client: httpx.AsyncClient, account: str | None, status: int
) -> None:
    """200 for the account of the key pair, 401 for another; it is no import."""
    answer = await client.post(CHECK, headers=HEADERS, json={"accountId": account} if account else {})

    assert answer.status_code == status
    assert (sandbox.rokt_audience.counted, sandbox.rokt_audience.lists) == (0, {})


@pytest.mark.parametrize("status", [200, 202, 400, 401, 429, 500])
async def test_vector_ca_10_any_answer_can_be_scripted(
    sandbox: Sandbox, client: httpx.AsyncClient, status: int
) -> None:
    """The list changes only where the vendor says that it took the import."""
    sandbox.rokt_audience.answers(status)

    answer = await client.post(V3, headers=HEADERS, json=imported())

    assert answer.status_code == status
    assert sandbox.rokt_audience.lists == ({"US_Customers": 2} if status < 300 else {})


async def test_clear_empties_the_lists(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """With everything else."""
    await client.post(V3, headers=HEADERS, json=imported())

    sandbox.clear()

    assert sandbox.rokt_audience.lists == {}
