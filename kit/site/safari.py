"""Where Safari caps a cookie that a server sets to 7 days: another network or another's CNAME behind the shop's name.

By webkit.org/blog/11338 (CNAME cloaking) and WebKit's bug 246477 (addresses, since Safari 16.4). What counts is the
host that answers a page's own request, here of kit.js, against the page's: where it has a CNAME that alone, else its
address. The page's own Set-Cookie is never capped.
"""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_network

from kit.capture.hosts import registrable_domain
from kit.doctor import Finding
from kit.site.facts import Addresses

_ABOUT = "lifetime in Safari"
_ADVICE = "mount the endpoints on the pages' own host, or serve both hosts by the same CDN or load balancer"


def judged(page: str, endpoint: str, addresses: Mapping[str, Addresses]) -> Finding:
    """Say whether Safari lets the cookies that `endpoint` sets on a page of `page` live; both are host names."""
    if page == endpoint:
        said = f"pages and /kit are one host, {page}: Safari lets its cookies live their year"
        if page in addresses and _is_split(halves(addresses[page].ips)):
            said += ", unless a later connection takes another of its networks"
        return Finding(_ABOUT, "good", said)
    if _site(page) != _site(endpoint):
        said = f"{endpoint} is another site than {page}: Safari keeps none of its cookies"
        return Finding(_ABOUT, "bad", said, "mount the endpoints on a host of the shop's own domain")
    if missing := [host for host in (page, endpoint) if host not in addresses]:
        return Finding(_ABOUT, "warning", f"{missing[0]} cannot be resolved from here", "ask again where it can be")
    if addresses[endpoint].canonical != endpoint:
        return _by_name(page, endpoint, addresses)
    return _by_network(page, endpoint, addresses)


def _by_network(page: str, endpoint: str, addresses: Mapping[str, Addresses]) -> Finding:
    of_page, of_endpoint = halves(addresses[page].ips), halves(addresses[endpoint].ips)
    if not of_page & of_endpoint:
        where = f"{endpoint} is in {_listed(of_endpoint)}, {page} in {_listed(of_page)}"
        return Finding(_ABOUT, "bad", f"{where}: Safari caps its cookies to 7 days", _ADVICE)
    # A page over IPv6 and an endpoint over IPv4 differ as well.
    if of_page != of_endpoint or _is_split(of_page):
        said = f"{page} and {endpoint} are in several networks: where two differ, Safari caps cookies to 7 days"
        return Finding(_ABOUT, "warning", said, _ADVICE)
    return Finding(_ABOUT, "good", f"{page} and {endpoint} are in the same network, {_listed(of_page)}")


def _by_name(page: str, endpoint: str, addresses: Mapping[str, Addresses]) -> Finding:
    target, of_page = addresses[endpoint].canonical, addresses[page].canonical
    if _site(target) in {_site(page), _site(of_page)}:
        return Finding(_ABOUT, "good", f"{endpoint} is a CNAME of {target}, which Safari takes for the shop's own")
    said = f"{endpoint} is a CNAME of {target}, and {page} is not: Safari caps its cookies to 7 days"
    return Finding(_ABOUT, "bad", said, _ADVICE)


def halves(ips: Sequence[str]) -> set[IPv4Network | IPv6Network]:
    """Return the networks that Safari compares: the first 16 bits of an IPv4 address, the first 64 of an IPv6 one."""
    found = (ip_address(ip) for ip in ips)
    return {ip_network((ip, 16 if isinstance(ip, IPv4Address) else 64), strict=False) for ip in found}


def _is_split(networks: set[IPv4Network | IPv6Network]) -> bool:
    """Return whether one kind of address is in more than one network."""
    return len({network.version for network in networks}) < len(networks)


def _listed(networks: set[IPv4Network | IPv6Network]) -> str:
    return ", ".join(sorted(map(str, networks)))


def _site(host: str) -> str:
    return registrable_domain(host.encode()) or host
