"""What identifies a person, by the setting: contracts.md 3.5, 8 and the vectors of 9.0."""

from typing import Any

import pytest

from kit.model import Conversion

from .dispatch_samples import NOW, dispatch
from .rokt_samples import JOHN, body, conversions, pairs, table, v2

PERSON = {
    "name": "purchase",
    "order_id": "1",
    "email": "john@email.com",
    "phone": "3053211654",
    "first_name": "John",
    "last_name": "Doe",
    "birth_date": "1990-01-16",
    "address": {"line1": "Main Street 1", "zip": "12345"},
}
IP = "12.34.56.89"
#: SHA-256 of 12.34.56.89.
IP_SHA256 = "173bf2c441f3366e146255afd5ba720ae6e8ee1a2048584b6be3fc6dc4c48fd0"


@pytest.mark.parametrize("row", table("RK-0"), ids=str)
def test_the_vectors_are_told(row: dict[str, Any]) -> None:
    """9.0: each value in its normal form, hashed once, or not at all; the same on the Conversions API."""
    fields = {"name": "purchase", "order_id": "1", **row.get("given", {})}
    known = {"click_ids": {"rokt": "r"}, **row.get("known", {})}
    told, settings = dispatch(fields, **known), row.get("settings", {})
    ours = {"passbackconversiontrackingid", "transactionid", "confirmationref"}
    batch = body(conversions(**settings), told)
    people = batch.get("user_attributes", {}) | {"emailsha256": batch["user_identities"].get("other")}

    assert {name: text for name, text in pairs(v2(**settings), told).items() if name not in ours} == row["told"]
    assert {name: text for name, text in people.items() if text} == row["told"]
    assert v2(**settings).remarks(told, now=NOW) == row.get("remarks", [])
    assert conversions(**settings).remarks(told, now=NOW) == row.get("remarks", [])


@pytest.mark.parametrize(
    ("hashing", "hashed", "clear"),
    [
        ("strict", {"emailsha256", "mobilesha256", "firstnamesha256", "lastnamesha256", "zipsha256"}, set()),
        (
            "hightouch",
            {"mobilesha256", "firstnamesha256", "lastnamesha256", "ipaddresssha256"},
            {"email", "dob", "address1", "zipcode"},
        ),
        ("raw", set(), {"email", "mobile", "firstname", "lastname", "dob", "address1", "zipcode"}),
        (
            {"email", "zipcode"},
            {"emailsha256", "zipsha256"},
            {"mobile", "firstname", "lastname", "dob", "address1"},
        ),
        (
            {"ipaddress"},
            {"ipaddresssha256"},
            {"email", "mobile", "firstname", "lastname", "dob", "address1", "zipcode"},
        ),
    ],
)
def test_the_setting_chooses_by_field(hashing: Any, hashed: set[str], clear: set[str]) -> None:
    """Presets and sets: what is named is hashed, the rest is clear, and strict leaves out what it cannot hash."""
    sent = pairs(v2(hashing=hashing), dispatch(PERSON, ip=IP))
    known = {"email", "mobile", "firstname", "lastname", "dob", "address1", "zipcode", "ipaddress"}

    assert {name for name in sent if name.endswith("sha256")} == hashed
    assert sent.keys() & known == clear


def test_an_ip_is_sent_where_it_is_asked_for() -> None:
    """In clear under every preset but Hightouch's, which hashes it; nowhere unasked."""
    told = dispatch(PERSON, ip=IP)

    assert "ipaddress" not in pairs(v2(), told)
    assert pairs(v2(send_ip=True), told)["ipaddress"] == IP
    assert pairs(v2(hashing="hightouch", send_ip=True), told)["ipaddresssha256"] == IP_SHA256
    assert body(conversions(send_ip=True), told)["ip"] == IP
    assert "ip" not in body(conversions(hashing="hightouch"), told)


def test_the_conversions_own_address_comes_before_the_known_one() -> None:
    """Who ordered says so last."""
    told = dispatch({"name": "purchase", "order_id": "1", "email": "john@email.com"}, email="other@example.com")

    assert pairs(v2(), told)["emailsha256"] == JOHN


def test_a_customer_id_that_is_an_address_is_hidden() -> None:
    """Where e-mails are hashed, no other field shows one; in clear it stays."""
    conversion = Conversion(order_id="1", customer_id="Jane.Doe@example.com", first_name="jane@example.com")
    told = dispatch(conversion, email="john@email.com")

    assert body(conversions(), told)["user_identities"] == {"other": JOHN}
    assert body(conversions(hashing="raw"), told)["user_identities"]["customerid"] == "Jane.Doe@example.com"
    assert "firstname" not in pairs(v2(hashing={"email"}), told)
