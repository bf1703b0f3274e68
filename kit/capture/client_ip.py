"""The client's address: the right-most hop that is not one of the shop's own proxies. Never raw text."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

#: Hops beyond this many were written by somebody else's software.
MOST_HOPS = 32


def client_ip(peer: str | None, forwarded: bytes, proxies: Sequence[Network]) -> Address | None:
    """Return the visitor's address, or None when a hop on the way cannot be read.

    `peer` is who connected (None over a Unix socket), `forwarded` all X-Forwarded-For headers joined by commas. They
    are read from the right for as long as the hop before is one of `proxies`.
    """
    if peer and not _trusted(address := _parse(peer), proxies):
        return address
    if not proxies:
        return None
    nearest = _parse(peer) if peer else None
    for hop in reversed(forwarded.rsplit(b",", MOST_HOPS)[-MOST_HOPS:] if forwarded else ()):
        nearest = _parse(hop.decode("latin-1"))
        if not _trusted(nearest, proxies):
            return nearest
    return nearest


def is_public(address: Address) -> bool:
    """Return whether it can be a visitor's: global, and neither multicast nor of a special range."""
    return address.is_global and not address.is_multicast


def _trusted(address: Address | None, proxies: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in proxies)


def _parse(hop: str) -> Address | None:
    text = hop.strip()
    if len(text) > 64:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return None if address.scope_id else address.ipv4_mapped or address
    return address
