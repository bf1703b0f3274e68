"""The sandbox shows what its vendors got, takes faults by JSON, forgets on request, and stays small."""

import ast
from pathlib import Path

import httpx
import pytest

import kit.sandbox
from kit.sandbox import Addresses, Sandbox

from .vectors import NOW, VECTORS

WEBHOOK = "/rockerbox/webhook/data?advertiser=ADV_ID"
EVENT = {"action": "purchase", "timestamp": "1768435110", "customer_id": "c", "order_id": "1"}


async def test_the_page_shows_each_call_escaped(client: httpx.AsyncClient) -> None:
    """Vendor, status, order id, identifiers and outcome stand in a table; markup in them stays text."""
    await client.post(WEBHOOK, json=EVENT | {"order_id": "<script>alert(1)</script>"})
    await client.post("/adroll/api", content="[]")

    page = await client.get("/")

    assert page.status_code == 200
    assert "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td>customer_id</td><td>counted 1; " in page.text
    assert "<td>adroll</td><td>POST /api</td><td>401</td>" in page.text
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
    odd += ['{"accountId": "12345", "events": [{"objectData": [{"name": 1}, 2], "eventTime": []}]}']
    headers = {"Authorization": "Basic cnB1Yi0xMTExOnJzZWMtMjIyMg==", "Content-Type": "application/json"}

    for body in odd:
        for url, extra in (
            ("/adroll/api?advertisable=ADVEID0000000000000001", {"Authorization": "Token SAT-1"}),
            ("/rokt/v2/events", headers),
            (WEBHOOK, {}),
            ("/rockerbox/identify", {}),
        ):
            answer = await lenient_client.post(url, headers=extra, content=body)
            assert answer.status_code < 500

    assert (await lenient_client.get("/")).status_code == 200
    assert len((await lenient_client.get("/calls.json")).json()["calls"]) == len(odd) * 4


async def test_the_calls_as_json(client: httpx.AsyncClient) -> None:
    """The newest first, over all vendors, as many as asked for, with totals."""
    await client.post(WEBHOOK, json=EVENT)
    await client.post("/adroll/api", headers={"Authorization": "Token secret"}, content="[]")

    looked = (await client.get("/calls.json")).json()
    newest = (await client.get("/calls.json?limit=1")).json()

    assert [(call["vendor"], call["status"]) for call in looked["calls"]] == [("adroll", 401), ("rockerbox", 200)]
    assert looked["calls"][1]["orders"] == ["1"]
    assert looked["vendors"]["rockerbox"] == {"counted": 1, "faults": []}
    assert [call["vendor"] for call in newest["calls"]] == ["adroll"]
    assert "secret" not in str(looked)
    assert (await client.get("/calls.json?limit=x")).status_code == 400


async def test_a_fault_can_be_scripted_by_json(client: httpx.AsyncClient) -> None:
    """POST /faults takes the fields of Vendor.answers and says what waits."""
    fault = {"vendor": "rockerbox", "status": 429, "headers": {"Retry-After": "30"}, "body": {"slow": True}, "times": 2}

    scripted = await client.post("/faults", json=fault)
    answer = await client.post(WEBHOOK, json=EVENT)

    assert (scripted.status_code, scripted.json()) == (201, {"waiting": ["answers 429, other body (2)"]})
    assert (answer.status_code, answer.headers["retry-after"], answer.json()) == (429, "30", {"slow": True})


@pytest.mark.parametrize(
    "fault",
    ['{"vendor": "other"}', '{"vendor": "rokt", "status": 99}', '{"vendor": "rokt", "sleep": 1}', "{", "[]"],
)
async def test_a_fault_that_cannot_be_is_refused(client: httpx.AsyncClient, fault: str) -> None:
    """A wrong field is named with 400, and no fault waits."""
    answer = await client.post("/faults", content=fault)

    assert answer.status_code == 400
    assert answer.json()["errors"]


async def test_clear_forgets_requests_counts_repeats_and_faults(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """After POST /clear the same order counts anew and a waiting fault is gone."""
    await client.post(WEBHOOK, json=EVENT)
    await client.post("/rockerbox/identify", json={"external_id": "c"})
    sandbox.rockerbox.answers(500, times=None)

    cleared = await client.post("/clear")

    assert cleared.status_code == 204
    assert (sandbox.rockerbox.requests, sandbox.rockerbox.counted) == ((), 0)
    assert sandbox.rockerbox.identified == frozenset()
    assert (await client.post(WEBHOOK, json=EVENT)).status_code == 200
    assert sandbox.rockerbox.orders == {"1": 1}


async def test_only_the_newest_requests_are_kept() -> None:
    """Older ones are forgotten; the total still counts them, and so does deduplication for a while."""
    sandbox = Sandbox(VECTORS, clock=lambda: NOW, keep=2)

    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        for order in ("1", "2", "3", "1"):
            await client.post(WEBHOOK, json=EVENT | {"order_id": order})

    assert [received.events[0]["order_id"] for received in sandbox.rockerbox.requests] == ["3", "1"]
    assert sandbox.rockerbox.orders == {"3": 1}
    assert sandbox.rockerbox.counted == 3


async def test_a_body_without_end_is_cut(client: httpx.AsyncClient, sandbox: Sandbox) -> None:
    """More than 16 MiB is answered 413."""
    answer = await client.post(WEBHOOK, content=b" " * (16 * 1024 * 1024 + 1))

    assert answer.status_code == 413
    assert sandbox.rockerbox.refusals[0].refused[0].field == "body"


async def test_a_record_shows_time_order_and_what_was_sent(sandbox: Sandbox, client: httpx.AsyncClient) -> None:
    """Requests of all vendors are numbered in one row and keep path, query, headers and raw body."""
    await client.post(WEBHOOK, content=b'{"action":"x"}', headers={"X-Own": "yes"})
    await client.post("/rokt/v2/events")

    (received,) = sandbox.rockerbox.requests
    assert (received.number, sandbox.rokt.requests[0].number) == (1, 2)
    assert (received.at, received.method, received.path) == (NOW, "POST", "/webhook/data")
    assert (received.query["advertiser"], received.headers["x-own"]) == ("ADV_ID", "yes")
    assert (received.body, received.status) == (b'{"action":"x"}', 400)


def test_addresses_are_base_urls_of_the_vendors() -> None:
    """What a destination appends (/api, /v2/events, /webhook/data) completes each vendor's URL."""
    addresses = Addresses("http://127.0.0.1:9")

    assert addresses.adroll_url == "http://127.0.0.1:9/adroll"
    assert addresses.rokt_url == "http://127.0.0.1:9/rokt"
    assert addresses.rockerbox_url == "http://127.0.0.1:9/rockerbox"


def test_the_sandbox_does_not_import_what_it_judges() -> None:
    """Of the kit it reads only errors and the list of currencies: it judges by its own reading of the contracts."""
    judges = "adroll checks faults record rockerbox rokt server sockets vendor".split()
    trees = [ast.parse(Path(kit.sandbox.__path__[0], f"{name}.py").read_text()) for name in judges]

    imported = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    ours = {name for name in imported if name and name.split(".")[0] == "kit" and "sandbox" not in name}
    assert ours <= {"kit.errors", "kit.money"}
