"""The sandbox's page shows what came and what is counted, whatever was sent."""

import re

import httpx

from kit.sandbox import Sandbox

from .rokt_vectors import bearer
from .test_adroll import purchase
from .vectors import EVENT, WEBHOOK, basic


async def test_the_page_shows_each_call_escaped(client: httpx.AsyncClient) -> None:
    """Vendor, status, order id, identifiers and outcome stand in a table; markup in them stays text."""
    await client.post(WEBHOOK, json=EVENT | {"order_id": "<script>alert(1)</script>"})
    await client.post("/adroll/api", content="[]")

    page = await client.get("/")

    assert page.status_code == 200
    cells = re.findall(r"<td[^>]*>(.*?)</td>", page.text)
    assert cells[-3:-1] == ["&lt;script&gt;alert(1)&lt;/script&gt;", "customer_id"]
    assert cells[-1].startswith("counted 1; ")
    assert cells[-14:-11] == ["adroll", "POST /api", "401"]
    assert "refused: Authorization holds no known token" in page.text
    assert "<script" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


async def test_an_empty_sandbox_says_so(client: httpx.AsyncClient) -> None:
    """Before the first call the page says that there was none."""
    page = await client.get("/")

    assert "No vendor has been called yet." in page.text


async def test_odd_bodies_do_not_break_the_page(lenient: Sandbox, lenient_client: httpx.AsyncClient) -> None:
    """Whatever shape a body has, the page and the JSON still come."""
    odd = ["7", "null", '[[1], "x"]', '{"event_attributes": [], "identifiers": 3}', '{"events": 5}', "\xff", "{"]
    odd += ['{"accountId": 7, "action": "include", "emails": {"a": 1}, "hashedEmails": 3, "sha256s": [[]]}']
    odd += ['{"environment": 1, "events": [7, {"data": []}, {"data": {"custom_attributes": {"amount": 1e999}}}]}']
    odd += ['[{"environment": "production", "events": [[]], "user_identities": [], "user_attributes": {"a": null}}]']
    odd += ['{"customer_id": "\\ud800", "email": "\\ud800@b.c", "emails": ["\\ud800@b.c"], "action": "include"}']
    odd += ['{"accountId": "12345", "emails": ["\\ud83d\\ude00@b.c"], "action": "include"}']
    odd += ['{"accountId": "12345", "events": [{"objectData": [{"name": 1}, 2], "eventTime": []}]}']
    headers = {"Authorization": "Basic cnB1Yi0xMTExOnJzZWMtMjIyMg==", "Content-Type": "application/json"}

    for body in odd:
        for url, extra in (
            ("/adroll/api?advertisable=ADVEID0000000000000001", {"Authorization": "Token SAT-1"}),
            ("/rokt/v2/events", headers),
            (WEBHOOK, {}),
            ("/rockerbox/identify", {}),
            ("/rokt-conversions/v2/events", {"Authorization": basic("key-1", "secret-1")}),
            ("/rokt-conversions/v2/bulkevents", {"Authorization": basic("key-1", "secret-1")}),
            ("/rokt/v3/import/suppression", headers),
            ("/rokt/api/1.0/import/suppression", {"Authorization": "API-KEY-1"}),
            ("/rokt/v3/auth-check", headers),
            ("/rokt/data/deletion-requests/emails", {"Authorization": await bearer(lenient_client)}),
        ):
            answer = await lenient_client.post(url, headers=extra, content=body)
            assert answer.status_code < 500

    assert (await lenient_client.get("/")).status_code == 200
    assert (await lenient_client.get("/views.json")).status_code == 200
    assert len((await lenient_client.get("/calls.json")).json()["calls"]) == len(odd) * 11


async def test_what_is_counted_stands_first(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Each vendor that was called has a line with its counts, its money and its faults; the others are only named."""
    sandbox.rockerbox.answers(503, when=lambda received: False)
    for revenue in ("19.90", "5"):
        await client.post(WEBHOOK, json=EVENT | {"order_id": revenue, "revenue": revenue})

    page = (await client.get("/")).text

    cells = re.findall(r"<td[^>]*>(.*?)</td>", page)[:8]
    assert cells[:7] == ["rockerbox", "2", "2", "2", "24.90 USD", "0", "0"]
    assert cells[7] == "identified: 0; unattributable: 2; faults that wait: answers 503 (1)"
    assert "Not called yet: adroll, rokt, rokt_token," in page


async def test_money_that_was_counted_twice_is_marked(client: httpx.AsyncClient) -> None:
    """AdRoll cannot tell a repeat: its line says how many orders it counted more than once."""
    token = {"Authorization": "Token SAT-1"}
    for _ in range(2):
        await client.post("/adroll/api?advertisable=ADVEID0000000000000001", headers=token, json=[purchase()])

    page = (await client.get("/")).text

    assert '<td data-label="Orders" class="bad">1 (1 more than once)</td>' in page
