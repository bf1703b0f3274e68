"""X-Forwarded-For of any length and content, behind proxies of many layouts."""

import random
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest

from kit.capture.client_ip import client_ip

#: Peer, and the networks of the shop's own proxies.
LAYOUTS = {
    "no proxy": ("198.51.100.7", []),
    "one proxy": ("10.0.0.1", ["10.0.0.1"]),
    "two networks": ("10.0.0.1", ["10.0.0.0/8", "172.16.0.0/12"]),
    "a proxy on this machine": ("127.0.0.1", ["127.0.0.0/8"]),
    "a unix socket": (None, ["10.0.0.0/8"]),
    "IPv6": ("fd00::1", ["fd00::/8"]),
}
#: What somebody may write before our own proxies do.
JUNK = [
    *(
        "127.0.0.1",
        "10.0.0.9",
        "::1",
        "fd00::9",
        "0.0.0.0",
        "8.8.8.8",
        "2606:4700::1",
        "[2606:4700::1]:443",
        "8.8.8.8:80",
    ),
    *(
        "",
        " ",
        "-",
        "unknown",
        "_hidden",
        "1.2.3",
        "1.2.3.4.5",
        "256.1.1.1",
        "0x8.8.8.8",
        "fe80::1%eth0",
        "::ffff:8.8.8.8",
    ),
    *("8.8.8.8\x00", "\xff\xfe", "<script>", "'; --", "9" * 10_000, "2130706433", "１.２.３.４"),
]


@pytest.mark.parametrize("name", LAYOUTS)
def test_no_hop_is_believed_that_a_proxy_of_ours_did_not_write(name: str) -> None:
    """W09, Q8: of 10,000 headers each, the visitor is who spoke to the outermost proxy, whatever stands before that."""
    peer, networks = LAYOUTS[name]
    proxies = [ip_network(network) for network in networks]
    chance = random.Random(name)
    for _ in range(10_000):
        spoofed = chance.choices(JUNK, k=chance.randrange(4))
        visitor = chance.choice(["93.184.216.34", "2606:2800:21f::1", "[2606:2800:21f::1]:443", "unknown", "-"])
        own = [str(chance.choice(proxies).network_address) for _ in range(chance.randrange(3) if proxies else 0)]
        sent = ", ".join([*spoofed, visitor, *own]).encode("latin-1", "replace")

        found = client_ip(peer, sent, proxies)

        assert found == (address_in(visitor) if proxies else ip_address(peer or "")), sent[:200]


def address_in(hop: str) -> IPv4Address | IPv6Address | None:
    text = hop.removeprefix("[").partition("]")[0]
    return ip_address(text) if text[:1].isdigit() else None
