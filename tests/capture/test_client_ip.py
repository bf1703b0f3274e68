"""The client's address behind six layouts of proxies, and none rather than a guess."""

from ipaddress import ip_network
from typing import Any

import pytest

from kit.capture.client_ip import client_ip
from kit.capture.reading import Reading
from kit.capture.rules import CaptureRules
from kit.consent import ConsentPolicy

TRUSTED = tuple(ip_network(network) for network in ("10.0.0.0/8", "fd00::/8", "203.0.113.7/32"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("198.41.0.4", b"", "198.41.0.4"),
        ("198.41.0.4", b"8.8.8.8", "198.41.0.4"),
        ("10.0.0.1", b"8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", b"1.1.1.1, 8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", b"1.1.1.1, 8.8.8.8,10.9.9.9 , 203.0.113.7", "8.8.8.8"),
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b"10.0.0.9", "10.0.0.9"),
        ("10.0.0.1", b"8.8.8.8:443", "8.8.8.8"),
        ("10.0.0.1", b"[2606:4700::1111]:443", "2606:4700::1111"),
        ("fd00::1", b"2606:4700::1111", "2606:4700::1111"),
        ("10.0.0.1", b"::ffff:8.8.8.8", "8.8.8.8"),
        ("::ffff:10.0.0.1", b"8.8.8.8", "8.8.8.8"),
        ("10.0.0.1", b"fe80::1%eth0", None),
        ("10.0.0.1", b"8.8.8.8, junk", None),
        ("10.0.0.1", b"8.8.8.8,", None),
        ("10.0.0.1", b"\xff\xfe", None),
        ("10.0.0.1", b"9" * 10_000, None),
        ("10.0.0.1", b"1.1.1.1," * 2_000 + b"8.8.8.8", "8.8.8.8"),
        (None, b"8.8.8.8", "8.8.8.8"),
        ("testclient", b"8.8.8.8", None),
    ],
)
def test_the_right_most_hop_that_is_not_ours_is_the_client(
    peer: str | None, forwarded: bytes, address: str | None
) -> None:
    """W09: what a client writes into X-Forwarded-For is never believed, and never kept as raw text."""
    found = client_ip(peer, forwarded, TRUSTED)

    assert (str(found) if found else None) == address


def test_without_proxies_the_header_is_not_read() -> None:
    """By default the connection alone counts."""
    assert str(client_ip("198.41.0.4", b"8.8.8.8", ())) == "198.41.0.4"
    assert client_ip(None, b"8.8.8.8", ()) is None


@pytest.mark.parametrize("peer", ["10.0.0.1", "127.0.0.1", "224.0.0.1", "::1", "169.254.1.1"])
def test_an_address_that_is_not_global_is_nobodys(peer: str, caplog: pytest.LogCaptureFixture) -> None:
    """A proxy that nobody named gives no address, and one warning that says which setting to fill."""
    rules = CaptureRules(secret_keys=[b"k" * 20], consent=ConsentPolicy("opt_out"))
    scope: dict[str, Any] = {"type": "http", "headers": [], "client": (peer, 1)}

    assert [Reading(rules, scope).ip() for _ in range(3)] == [None] * 3
    assert len(caplog.records) == 1
    assert "trusted_proxies" in caplog.text
    assert peer not in caplog.text
