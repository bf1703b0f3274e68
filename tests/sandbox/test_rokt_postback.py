"""Rokt's postback takes a conversion by its click id alone, as contracts.md 6 says."""

import httpx
import pytest

from kit.sandbox import Sandbox

URL = "/rokt/api/conv"
CLICK = "1bc29b36f623ba82aaf6724fd3b16718"


@pytest.mark.parametrize("further", [{}, {"conversiontype": "signup"}])
async def test_a_click_id_counts(sandbox: Sandbox, client: httpx.AsyncClient, further: dict[str, str]) -> None:
    """With or without a type it is answered as documented; the query is the event."""
    query = {"id": "12345", "passbackconversiontrackingid": CLICK} | further

    answer = await client.get(URL, params=query)

    assert (answer.status_code, answer.json()) == (200, {"statusCode": 200, "success": True})
    assert sandbox.rokt_postback.accepted == (query,)
    assert sandbox.rokt_postback.identifiers_of(query) == ("passbackconversiontrackingid",)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"passbackconversiontrackingid": CLICK}, "id is required"),
        ({"id": "", "passbackconversiontrackingid": CLICK}, "id is not 1 to 64 characters long"),
        ({"id": "54321", "passbackconversiontrackingid": CLICK}, "id is not a known account"),
        ({"id": "12345"}, "passbackconversiontrackingid is required"),
        ({"id": "12345", "passbackconversiontrackingid": CLICK[1:]}, "passbackconversiontrackingid is not 32"),
        ({"id": "12345", "passbackconversiontrackingid": CLICK + "0"}, "passbackconversiontrackingid is not 32"),
        ({"id": "12345", "passbackconversiontrackingid": CLICK, "conversiontype": ""}, "conversiontype is empty"),
        ({"id": "12345", "passbackconversiontrackingid": CLICK, "email": "a@b.c"}, "email is not a parameter"),
    ],
)
async def test_a_wrong_query_is_refused(
    sandbox: Sandbox, client: httpx.AsyncClient, query: dict[str, str], words: str
) -> None:
    """With 400, in the shape of the documented answer; nothing is counted."""
    answer = await client.get(URL, params=query)

    assert (answer.status_code, answer.json()["success"]) == (400, False)
    assert words in answer.json()["message"]
    assert sandbox.rokt_postback.counted == 0


@pytest.mark.parametrize(("method", "path", "status"), [("POST", URL, 405), ("GET", "/rokt/api/conversions", 404)])
async def test_the_door(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    """Another method or path is no postback."""
    answer = await client.request(method, path, params={"id": "12345", "passbackconversiontrackingid": CLICK})

    assert answer.status_code == status


async def test_a_failure_is_told_in_the_same_shape(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """A scripted 503 counts nothing."""
    sandbox.rokt_postback.answers(503)

    answer = await client.get(URL, params={"id": "12345", "passbackconversiontrackingid": CLICK})

    assert (answer.status_code, answer.json()) == (503, {"statusCode": 503, "success": False})
    assert sandbox.rokt_postback.counted == 0
