"""What a Kit is configured with: its arguments checked, and destinations made from the environment's settings."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

from kit.capture import FOREIGN_CLICKS
from kit.destinations import AdRoll, Destination, Holdout, Rockerbox, Rokt, RoktAudience, RoktDeletion
from kit.destinations.base import EVENTS, MARKETING, require_base_url, require_names
from kit.destinations.rokt.credentials import EVENTS_PATHS, check_conversions_url
from kit.destinations.rokt.hashing import PRESETS
from kit.errors import ConfigurationError
from kit.model import CLICK_WINDOW, Mode
from kit.settings import Settings


def checked_keys(secret_keys: Sequence[str]) -> tuple[bytes, ...]:
    """Return the keys as bytes; none, one string instead of a list, and short ones are refused."""
    if isinstance(secret_keys, str):
        raise ConfigurationError("secret_keys", "is one string; pass a list, the newest key last")
    if not secret_keys:
        raise ConfigurationError("secret_keys", "is empty; pass a list, or set KIT_SECRET_KEYS")
    if any(len(key) < 16 for key in secret_keys):
        raise ConfigurationError(
            "secret_keys", "holds a key of fewer than 16 characters; make one with secrets.token_urlsafe(32)"
        )
    return tuple(key.encode() for key in secret_keys)


def checked_origins(origins: Sequence[str]) -> frozenset[str]:
    """Return the origins as browsers write them in their Origin header: no path, no trailing slash."""
    checked = set()
    for origin in origins:
        parts = urlsplit(origin)
        if parts.scheme not in {"https", "http"} or not parts.netloc or parts.path.strip("/") or parts.query:
            raise ConfigurationError("origins", "holds what is no origin such as https://www.shop.com")
        checked.add(f"{parts.scheme}://{parts.netloc}".lower())
    return frozenset(checked)


def checked_destinations(destinations: Sequence[Destination]) -> tuple[Destination, ...]:
    """Return the destinations; a mode that is none and a name used twice are refused."""
    if isinstance(destinations, Destination):
        raise ConfigurationError("destinations", "is one destination; pass a list")
    if not isinstance(destinations, Sequence):
        raise ConfigurationError("destinations", f"is a {type(destinations).__name__}; pass a list")
    for destination in destinations:
        if not isinstance(destination, Destination):
            raise ConfigurationError("destinations", "holds what is no destination; pass AdRoll(...), not AdRoll")
        _check_name(destination.name)
        if destination.mode not in tuple(Mode):
            raise ConfigurationError(f"{destination.name}.mode", 'is neither "live" nor "shadow"')
        _check_policy(destination)
    for name, times in Counter(destination.name for destination in destinations).items():
        if times > 1:
            raise ConfigurationError("destinations", f"{times} are named {name!r}; give each a name of its own")
    return tuple(destinations)


def _check_policy(destination: Destination) -> None:
    name = destination.name
    if destination.consent not in ("shop", "opt_in"):
        raise ConfigurationError(f"{name}.consent", 'is neither "shop" nor "opt_in"')
    _check_takes(destination)
    if not isinstance(destination.max_in_flight, int) or isinstance(destination.max_in_flight, bool):
        raise ConfigurationError(f"{name}.max_in_flight", "is no whole number; write 4")
    if destination.max_in_flight < 1:
        raise ConfigurationError(f"{name}.max_in_flight", "is less than 1")
    rate = destination.requests_per_second
    if rate is not None and (not isinstance(rate, (int, float)) or isinstance(rate, bool)):
        raise ConfigurationError(f"{name}.requests_per_second", "is no number; write 5.0, or None for no limit")
    if rate is not None and not rate > 0:
        raise ConfigurationError(f"{name}.requests_per_second", "is not above 0; None sets no limit")
    for setting in ("horizon", "longest_wait", "click_window"):
        duration = getattr(destination, setting)
        if not isinstance(duration, timedelta):
            raise ConfigurationError(f"{name}.{setting}", "is no duration; write timedelta(days=14)")
        if duration <= timedelta(0):
            raise ConfigurationError(f"{name}.{setting}", "is not longer than nothing")
    if destination.click_window > CLICK_WINDOW:
        raise ConfigurationError(
            f"{name}.click_window", "is longer than any click counts; write timedelta(days=90) or less"
        )


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise ConfigurationError("destinations", f"one has a {type(name).__name__} for a name; pass a text")
    if not 1 <= len(name) <= 64 or not name.isprintable() or name != name.strip():
        raise ConfigurationError(
            "destinations", f"the name {name[:80]!r} is not 1 to 64 printable characters without spaces around them"
        )


def _check_takes(destination: Destination) -> None:
    """Refuse what is no set of names, and a name that is a slip of the pen: all it means would be left out."""
    takes, setting = destination.takes, f"{destination.name}.takes"
    if takes is None or callable(takes):
        return
    require_names(setting, takes, 'a set such as {"purchase"}')
    known = {*EVENTS, MARKETING, *destination.own_names}
    for name in takes:
        if name not in known and (meant := _slip_of(name, EVENTS)) is not None:
            raise ConfigurationError(
                setting, f"names {name!r}; write {meant!r}, or pass a function where that is a name of your own"
            )


def _slip_of(name: str, known: Sequence[str]) -> str | None:
    """Return the known name that this one is meant to be; a longer one, such as purchases, may be the shop's own."""
    plain = name.lower().replace("-", "_").replace(" ", "_")
    meant = next(iter(get_close_matches(plain, known, n=1, cutoff=0.9)), None)
    return meant if meant is not None and (meant == plain or not plain.startswith(meant)) else None


def watched_params(destinations: Sequence[Destination], further: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the query parameters to watch, as (parameter, vendor), those of the destinations first."""
    own = {param: destination.vendor for destination in destinations for param in destination.click_params}
    foreign = {param: vendor for param, vendor in FOREIGN_CLICKS if param not in own}
    return tuple({**own, **foreign, **further}.items())


def destinations_of(read: Settings) -> list[Destination]:
    """Return the destinations whose first variable is set. A vendor's other variables without it are refused."""
    for vendor, *first in (
        ("adroll", "advertisable"),
        ("rokt", "account", "api_key", "audience_key"),
        ("rockerbox", "advertiser"),
    ):
        given = [name for name in read.model_fields_set if name.startswith(f"{vendor}_") and getattr(read, name)]
        if given and not any(getattr(read, f"{vendor}_{name}") for name in first):
            wanted = " or ".join(f"KIT_{vendor}_{name}".upper() for name in first)
            raise ConfigurationError(wanted, f"is missing beside KIT_{given[0].upper()}")
    _check_rokts_urls(read)
    found: list[Destination] = []
    if read.adroll_advertisable is not None:
        found.append(
            AdRoll(
                advertisable=read.adroll_advertisable,
                pixel=read.adroll_pixel or "",
                token=read.adroll_token.get_secret_value(),
                pixel_reports=frozenset(read.adroll_pixel_reports),
                **_given(base_url=read.adroll_base_url),
            )
        )
    if read.rokt_account is not None or read.rokt_api_key:
        found.append(_rokt(read))
    if read.rokt_audience or read.rokt_audience_key:
        found.append(_audience(read))
    if read.rokt_deletion:
        found.append(_deletion(read))
    if read.rockerbox_advertiser is not None:
        advertiser = read.rockerbox_advertiser.get_secret_value()
        found.append(Rockerbox(advertiser=advertiser, **_given(base_url=read.rockerbox_base_url)))
    return found


def _check_rokts_urls(read: Settings) -> None:
    """Refuse a wrong address also of a surface whose credentials are not there: each takes its own when they are."""
    if read.rokt_base_url:
        require_base_url("KIT_ROKT_BASE_URL", read.rokt_base_url, *EVENTS_PATHS)
    if read.rokt_conversions_url:
        check_conversions_url(read.rokt_conversions_url, setting="KIT_ROKT_CONVERSIONS_URL")
    if read.rokt_audience_url:
        require_base_url("KIT_ROKT_AUDIENCE_URL", read.rokt_audience_url)


def _rokt(read: Settings) -> Rokt:
    return Rokt(
        account=read.rokt_account or "",
        **_pair_of_events(read),
        **_given(
            pod=read.rokt_pod,
            environment=read.rokt_environment,
            hashing=_hashing(read.rokt_hashing),
            holdout=_holdout(read.rokt_holdout),
            base_url=read.rokt_conversions_url if read.rokt_api_key else read.rokt_base_url,
        ),
    )


def _pair_of_events(read: Settings) -> dict[str, Any]:
    """Return the credentials for events: not a pair that is there for audiences or deletions, unless all are.

    Where several are left, Rokt refuses them.
    """
    others = {"public_key": read.rokt_audience, "app_id": read.rokt_deletion, "api_key": False}
    pairs = (("public_key", "secret_key"), ("app_id", "app_secret"), ("api_key", "api_secret"))
    given = [pair for pair in pairs if any(getattr(read, f"rokt_{name}") for name in pair)]
    own = [pair for pair in given if not others[pair[0]]] or given[:1]
    return {name: getattr(read, f"rokt_{name}").get_secret_value() for pair in own for name in pair}


def _audience(read: Settings) -> RoktAudience:
    """Return the audience by the older API's key where there is one, else by Rokt's own pair."""
    where = _given(base_url=read.rokt_audience_url, holdout=_holdout(read.rokt_holdout))
    if read.rokt_audience_key:
        return RoktAudience(api_key=read.rokt_audience_key.get_secret_value(), **where)
    return RoktAudience(
        account=read.rokt_account or "",
        public_key=read.rokt_public_key.get_secret_value(),
        secret_key=read.rokt_secret_key.get_secret_value(),
        **where,
    )


def _deletion(read: Settings) -> RoktDeletion:
    return RoktDeletion(
        account=read.rokt_account or "",
        app_id=read.rokt_app_id.get_secret_value(),
        app_secret=read.rokt_app_secret.get_secret_value(),
        **_given(base_url=read.rokt_base_url),
    )


def _holdout(text: str | None) -> Holdout | None:
    """Return the holdout that `KIT_ROKT_HOLDOUT` writes as its name and percentage, such as 2026-q4:5."""
    if text is None:
        return None
    name, _, percent = text.partition(":")
    try:
        return Holdout(name=name, percent=float(percent))
    except ValueError:
        raise ConfigurationError("KIT_ROKT_HOLDOUT", "is not a name and a percentage such as 2026-q4:5") from None


def _hashing(words: tuple[str, ...]) -> str | frozenset[str] | None:
    """Return the preset that is the one word, else the words as a set of fields."""
    return words[0] if len(words) == 1 and words[0] in PRESETS else frozenset(words) or None


def _given(**values: object) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
