"""Which of Rokt's credentials were given, and what to write instead of a wrong one (contracts.md 3.1, 4.1)."""

import base64
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from kit.destinations.base import is_loopback, require, require_base_url
from kit.destinations.holdout import Holdout
from kit.errors import ConfigurationError

#: What the Conversions API's requests add to its URL, and what the Event API's do.
CONVERSIONS_PATHS = ("/v2/events", "/v2/bulkevents")
EVENTS_PATHS = ("/v2/events", "/v1/events", "/auth/oauth2/token")
PODS = frozenset({"us1", "us2", "eu1", "au1"})


class Generation(StrEnum):
    """The surfaces that take events, each with a pair of credentials of its own."""

    V2 = "Event API v2"
    V1 = "Event API v1"
    CONVERSIONS = "Conversions API"


#: The two settings of each generation, and what the value of each begins with.
_PAIRS: Mapping[Generation, Mapping[str, str]] = {
    Generation.V2: {"public_key": "rpub-", "secret_key": "rsec-"},
    Generation.V1: {"app_id": "", "app_secret": ""},
    Generation.CONVERSIONS: {"api_key": "", "api_secret": ""},
}
_ONE_PAIR = "write public_key and secret_key (v2), or app_id and app_secret (v1), or api_key and api_secret"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """The pair that opens the chosen generation; both empty in shadow mode."""

    generation: Generation
    user: str = field(repr=False)
    password: str = field(repr=False)


def chosen(given: Mapping[str, str], *, live: bool) -> Credentials:
    """Return the credentials by the six settings' values; v2 where none is given.

    Raises ConfigurationError for settings of two generations, an incomplete pair (in shadow mode it may be), and a key
    that is another's.
    """
    found = [generation for generation, pair in _PAIRS.items() if any(given[name] for name in pair)]
    if len(found) > 1:
        names = " and ".join(next(name for name in _PAIRS[each] if given[name]) for each in found)
        raise ConfigurationError("Rokt", f"is given {names}, of {' and '.join(found)}; {_ONE_PAIR}, and no other")
    generation = found[0] if found else Generation.V2
    for name, begins in _PAIRS[generation].items():
        if live or given[name]:
            _check(name, given[name], begins, generation)
    user, password = (given[name] for name in _PAIRS[generation])
    return Credentials(generation=generation, user=user, password=password)


def _check(name: str, value: str, begins: str, generation: Generation) -> None:
    setting = f"KIT_ROKT_{name.upper()}"
    what = f"the key that begins with {begins}" if begins else f"the {name} of the {generation}"
    require(setting, value, f'live needs {what}; mode="shadow" needs none')
    if begins and not value.startswith(begins):
        raise ConfigurationError(setting, f"must begin with {begins}; write the key that Rokt issued as it is")
    for right, prefix in _PAIRS[Generation.V2].items():
        if not begins and value.startswith(prefix):
            raise ConfigurationError(setting, f"begins with {prefix}, as a {right} does; write it as {right}=")


def check_account(account: str, *, needed_by: str | None) -> None:
    """Raise ConfigurationError unless the account is an id of at most 64 characters, or nobody needs it."""
    if not isinstance(account, str):
        raise ConfigurationError("Rokt.account", f"is a {type(account).__name__}; pass a text")
    if account or needed_by:
        require("Rokt.account", account, f"{needed_by} needs it; it is in my.rokt.com's URL after /accounts/")
    if len(account) > 64:
        raise ConfigurationError("Rokt.account", "is longer than 64 characters")


def check_conversions_url(url: str, *, setting: str = "Rokt.base_url") -> None:
    """Raise ConfigurationError unless the URL is https on mparticle.com or a subdomain, or on a loopback host."""
    require_base_url(setting, url, *CONVERSIONS_PATHS)
    parts = httpx.URL(url)
    if is_loopback(parts.host):
        return
    if parts.host != "mparticle.com" and not parts.host.endswith(".mparticle.com"):
        raise ConfigurationError(
            setting, "is not on mparticle.com, where the Conversions API is; leave it out and write pod="
        )
    if parts.port is not None or "\\" in url or "%" in url:
        raise ConfigurationError(setting, "must be scheme, host and path only; no port, no \\, no %")


def check_word(setting: str, word: object, known: Collection[str]) -> None:
    """Raise ConfigurationError unless the word is one of the known ones, of which there are two."""
    if not isinstance(word, str) or word not in known:
        quoted = [f'"{each}"' for each in known]
        raise ConfigurationError(setting, f"is neither {' nor '.join(quoted)}")


def check_holdout(setting: str, holdout: object) -> None:
    """Raise ConfigurationError unless it is a Holdout or None; KIT_ROKT_HOLDOUT alone is written as a text."""
    if holdout is not None and not isinstance(holdout, Holdout):
        raise ConfigurationError(
            setting, f'is a {type(holdout).__name__}; pass Holdout(name="2026-q4", percent=5), or None for nobody'
        )


def check_whole(setting: str, number: object, *, most: int | None = None) -> None:
    """Raise ConfigurationError unless it is a whole number of at least 1, and at most that many."""
    if isinstance(number, bool) or not isinstance(number, int):
        raise ConfigurationError(setting, f"is a {type(number).__name__}; pass a whole number")
    if number < 1:
        raise ConfigurationError(setting, "is less than 1")
    if most is not None and number > most:
        raise ConfigurationError(setting, f"is more than {most:,}")


def basic(user: str, password: str) -> str:
    """Return the Authorization header of a pair."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"
