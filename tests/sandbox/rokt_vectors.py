"""Rokt's requests as contracts.md 9.2 prints them."""

from typing import Any

import httpx

from kit.sandbox import Event

URL = "/rokt/v2/events"
HEADERS = {
    "Content-Type": "application/json",
    "Charset": "utf-8",
    "Rokt-Version": "2020-05-21",
    "Authorization": "Basic cnB1Yi0xMTExOnJzZWMtMjIyMg==",
}
SHA = "fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f"
NOBODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def pairs(**values: Any) -> list[Event]:
    return [{"name": name, "value": value} for name, value in values.items()]


def conversion(**changed: Any) -> Event:
    """Return RK-1 of contracts.md 9.2 with these fields changed; a field set to ... is left out."""
    event: Event = {
        "clientEventId": "ff3bd69c-ca74-4337-af91-4d5d0bd00e38",
        "eventType": "conversion",
        "eventTime": "2025-12-22T10:21:29.339Z",
        "objectData": pairs(
            passbackconversiontrackingid="1bc29b36f623ba82aaf6724fd3b16718",
            emailsha256=SHA,
            transactionid="order-1001",
            confirmationref="order-1001",
            amount="99.80",
            currency="USD",
            quantity="2",
            conversiontype="hotel_booking",
            margin="10",
        ),
    }
    return {name: value for name, value in (event | changed).items() if value is not ...}


def body(*events: Event) -> Event:
    return {"accountId": "12345", "events": list(events)}


TOKEN_URL = "/rokt/auth/oauth2/token"
TOKEN_HEADERS = {
    "Authorization": "Basic YXBwLWlkLTE6YXBwLXNlY3JldC0x",
    "Content-Type": "application/x-www-form-urlencoded",
}


async def bearer(client: httpx.AsyncClient) -> str:
    """Return the Authorization of a token that was bought just now."""
    answer = await client.post(TOKEN_URL, headers=TOKEN_HEADERS, content="grant_type=client_credentials")
    return f"Bearer {answer.json()['access_token']}"
