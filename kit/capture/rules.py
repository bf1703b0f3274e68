"""CaptureRules: one shop's settings of capture, checked and prepared once by Kit, and read by every request."""

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_network
from typing import Any, Protocol

from kit.capture import urls
from kit.capture.client_ip import Network
from kit.capture.freshness import Freshness
from kit.capture.hosts import registrable_domain
from kit.capture.query import Watched, watched
from kit.capture.signature import Signature
from kit.capture.visitor_cookie import SALT
from kit.errors import ConfigurationError
from kit.model import Clock, Consent, utc_now

Scope = Mapping[str, Any]

OWN_CLICKS = (("adct", "adroll"), ("rclid", "rokt"), ("rtid", "rokt"))
"""(parameter, vendor): of one vendor the first listed is preferred (contracts.md 1.1)."""

FOREIGN_CLICKS = tuple(
    (name, name)
    for name in ("gclid", "gbraid", "wbraid", "fbclid", "msclkid", "ttclid", "ScCid", "twclid", "li_fat_id", "epik")
)

_log = logging.getLogger("kit")


class Consents(Protocol):
    """What capture asks about consent; `kit.consent.ConsentPolicy` is the one that Kit passes."""

    def decide(self, scope: Scope, *, now: datetime, headers: Mapping[bytes, bytes] | None = None) -> Consent: ...

    def may_keep(self, consent: Consent) -> bool: ...


class Faults(Protocol):
    """Counts what went wrong with us while the page stayed as it was."""

    def count(self, where: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class CaptureRules:
    """Settings of capture.

    `secret_keys`       sign the visitor cookie; the newest is last and signs, all verify
    `consent`           a `kit.consent.ConsentPolicy`
    `click_params`      (parameter, vendor) pairs; of one vendor the first listed is preferred
    `cookie_domain`     "shop.com" shares both cookies with its subdomains; None keeps the visitor cookie on its host
    `insecure_cookies`  no Secure attribute, and then cookies on loopback hosts only: for the demo and tests
    `trusted_proxies`   networks of the shop's own proxies, such as "10.0.0.0/8", whose X-Forwarded-For is believed
    `clean_url`         replaces the rule for URLs that are kept: gets the whole URL, returns what may be kept or None
    `clock`             the time now
    `random`            that many random bytes, fit for secrets

    Raises ConfigurationError for a setting that cannot work.
    """

    secret_keys: Sequence[bytes] = field(repr=False)
    consent: Consents
    click_params: Sequence[tuple[str, str]] = OWN_CLICKS + FOREIGN_CLICKS
    cookie_domain: str | None = None
    insecure_cookies: bool = False
    trusted_proxies: Sequence[str] = ()
    clean_url: Callable[[str], str | None] | None = None
    clock: Clock = utc_now
    random: Callable[[int], bytes] = field(default=os.urandom, repr=False, compare=False)

    cookie_name: bytes = field(init=False)
    cookie_needle: bytes = field(init=False, repr=False)
    signature: Signature = field(init=False, repr=False, compare=False)
    watched: Mapping[bytes, Watched] = field(init=False, repr=False, compare=False)
    proxies: tuple[Network, ...] = field(init=False, repr=False)
    seconds: Callable[[], float] = field(init=False, repr=False, compare=False)
    fresh: Freshness = field(init=False, repr=False, compare=False)
    _told: set[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        domain = _domain(self.cookie_domain)
        name = b"kit" if self.insecure_cookies else b"__Host-kit" if domain is None else b"__Secure-kit"
        seconds = time.time if self.clock is utc_now else lambda: self.clock().timestamp()
        prepared: dict[str, object] = {
            "cookie_domain": domain,
            "cookie_name": name,
            "cookie_needle": name + b"=",
            "signature": Signature(_keys(self.secret_keys), SALT),
            "watched": watched(self.click_params),
            "proxies": _networks(self.trusted_proxies),
            "seconds": seconds,
            "fresh": Freshness(name + b"=", seconds),
            "_told": set(),
        }
        for key, value in prepared.items():
            object.__setattr__(self, key, value)

    def kept_url(self, url: str) -> str | None:
        """Return what `clean_url`, or our own rule, keeps of a URL; nothing when it raises or returns no short text."""
        try:
            kept = self.clean_url(url) if self.clean_url else urls.clean_url(url, self.watched)
        except Exception:  # noqa: BLE001 - the shop's own code; its fault takes no page down and loses no order
            self.warn_once("clean_url", "clean_url raised; such a URL is not kept")
            return None
        return kept if isinstance(kept, str) and len(kept) <= urls.LONGEST_URL else None

    def warn_once(self, what: str, message: str) -> None:
        """Log this once in the life of these rules. The message is constant and carries no value of a visitor's."""
        if what not in self._told:
            self._told.add(what)
            _log.warning(message)


def _keys(keys: Sequence[bytes]) -> list[bytes]:
    if isinstance(keys, (str, bytes)) or not keys:
        raise ConfigurationError("secret_keys", "is no list of keys; pass at least one, the newest last")
    if any(not isinstance(key, bytes) or len(key) < 16 for key in keys):
        raise ConfigurationError("secret_keys", "holds a key under 16 bytes; make one with secrets.token_urlsafe(32)")
    return list(keys)


def _domain(domain: str | None) -> str | None:
    if domain is None:
        return None
    name = domain.removeprefix(".").lower()
    # "localhost" and addresses have no registrable domain either, and a browser refuses a Domain for them.
    if not name.isascii() or registrable_domain(name.encode("ascii")) is None:
        raise ConfigurationError("cookie_domain", "is no domain that cookies can be set for, such as shop.com")
    return name


def _networks(trusted_proxies: Sequence[str]) -> tuple[Network, ...]:
    if isinstance(trusted_proxies, str):
        raise ConfigurationError("trusted_proxies", 'is one string; pass a list of networks such as ["10.0.0.0/8"]')
    try:
        return tuple(ip_network(network) for network in trusted_proxies)
    except ValueError:
        raise ConfigurationError("trusted_proxies", "holds what is no network such as 10.0.0.0/8") from None
