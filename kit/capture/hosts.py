"""A request's host: its name, its registrable domain, whether it is this machine. The Host header is never trusted."""

import re
from functools import cache, lru_cache
from ipaddress import ip_address

from publicsuffixlist import PublicSuffixList

_HOST = re.compile(rb"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_.-]{1,253})(?::[0-9]{1,5})?").fullmatch


#: A Host header is cut to this before anything remembers it: one byte more than a name and a port can have.
LONGEST_HOST = 261


@lru_cache(maxsize=1024)
def host_name(host: bytes) -> str | None:
    """Return the host's name in lower case without its port, or None when it cannot be one."""
    match = _HOST(host) if len(host) < LONGEST_HOST else None
    return match[1].decode("ascii").lower() if match else None


@lru_cache(maxsize=1024)
def is_loopback(host: bytes) -> bool:
    """Return whether this Host header names the machine itself."""
    name = host_name(host)
    if name is None:
        return False
    if name == "localhost":
        return True
    try:
        return ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


@lru_cache(maxsize=1024)
def registrable_domain(host: bytes) -> str | None:
    """Return the highest domain that a browser lets this host set cookies for; None for addresses and suffixes."""
    name = host_name(host)
    if name is None or "." not in name or name[0] in ".[" or name[-1] == "." or ".." in name:
        return None
    if name.rpartition(".")[2].isdigit():
        return None
    domain: str | None = _suffixes().privatesuffix(name)
    return domain


@cache
def _suffixes() -> PublicSuffixList:
    return PublicSuffixList()
