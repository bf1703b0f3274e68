"""The sandbox serves every surface at its address and at its real host name, and imports nothing that it judges."""

import ast
from pathlib import Path

import httpx
import pytest

import kit.sandbox
from kit.errors import ConfigurationError
from kit.sandbox import Addresses, Sandbox

from .conversions_vectors import HEADERS as CONVERSIONS_HEADERS
from .conversions_vectors import batch
from .rokt_vectors import HEADERS, TOKEN_HEADERS, body, conversion
from .test_adroll import TOKEN
from .test_adroll import purchase as adroll_purchase
from .vectors import EVENT, NOW, WEBHOOK


def test_addresses_are_base_urls_of_the_vendors() -> None:
    """What a destination appends (/api, /v2/events, /webhook/data) completes each vendor's URL."""
    addresses = Addresses("http://127.0.0.1:9")

    assert addresses.adroll_url == "http://127.0.0.1:9/adroll"
    assert addresses.rokt_url == "http://127.0.0.1:9/rokt"
    assert addresses.rokt_conversions_url == "http://127.0.0.1:9/rokt-conversions"
    assert addresses.rockerbox_url == "http://127.0.0.1:9/rockerbox"


def test_the_sandbox_does_not_import_what_it_judges() -> None:
    """Of the kit it reads only errors and the list of currencies: it judges by its own reading of the contracts."""
    others = "contract demo shop ledger pytest_plugin __init__".split()
    judges = [path for path in Path(kit.sandbox.__path__[0]).glob("*.py") if path.stem not in others]
    trees = [ast.parse(path.read_text()) for path in judges]

    imported = {node.module for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}

    ours = {name for name in imported if name and name.split(".")[0] == "kit" and "sandbox" not in name}
    assert ours <= {"kit.errors", "kit.money"}


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


@pytest.mark.parametrize(
    ("surface", "method", "url", "headers", "sent"),
    [
        (
            "adroll",
            "POST",
            "https://srv.adroll.com/api?advertisable=ADVEID0000000000000001",
            TOKEN,
            [adroll_purchase()],
        ),
        ("rokt", "POST", "https://api.rokt.com/v2/events", HEADERS, body(conversion())),
        ("rokt_token", "POST", "https://api.rokt.com/auth/oauth2/token", TOKEN_HEADERS, None),
        ("rokt_conversions", "POST", "https://s2s.us2.mparticle.com/v2/events", CONVERSIONS_HEADERS, batch()),
        ("rokt_conversions", "POST", "https://inbound.mparticle.com/s2s/v2/events", CONVERSIONS_HEADERS, batch()),
        ("rokt_audience", "POST", "https://data.rokt.com/v3/import/suppression", HEADERS, {}),
        ("rokt_postback", "GET", "https://apps.rokt.com/api/conv", {}, None),
        ("rokt_deletions", "POST", "https://api.rokt.com/data/deletion-requests/emails", {}, {}),
        ("rockerbox", "POST", "https://webhooks.getrockerbox.com/webhook/data?advertiser=ADV_ID", {}, EVENT),
    ],
)
async def test_real_host_names_lead_here_without_a_socket(
    sandbox: Sandbox, surface: str, method: str, url: str, headers: dict[str, str], sent: object
) -> None:
    """A client with the sandbox's transport sends the contract's own URLs, and nothing leaves the machine."""
    async with httpx.AsyncClient(transport=sandbox.transport()) as client:
        answer = await client.request(method, url, headers=headers, json=sent)

    asked = [each.name for each in sandbox.surfaces if each.requests]
    assert asked == [surface]
    assert answer.status_code != 404


async def test_a_host_that_is_no_vendor_finds_nothing(sandbox: Sandbox) -> None:
    """A wrong address in a shop's settings is a 404, not the internet."""
    async with httpx.AsyncClient(transport=sandbox.transport()) as client:
        answer = await client.post("https://example.com/v2/events")

    assert answer.status_code == 404


def test_a_served_sandbox_knows_its_address(sandbox: Sandbox) -> None:
    """And says so when it is not served."""
    with sandbox.serve() as addresses:
        assert sandbox.addresses == addresses

    with pytest.raises(ConfigurationError, match="is not served"):
        sandbox.addresses  # noqa: B018 - reading it is the act


def test_secrets_do_not_show(sandbox: Sandbox) -> None:
    """The repr of the credentials holds no secret of any surface."""
    shown = repr(sandbox.credentials)

    for secret in ("SAT-1", "rsec-2222", "app-secret-1", "secret-1", "API-KEY-1"):
        assert secret not in shown
