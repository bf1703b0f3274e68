"""Cookies in which consent managers keep a visitor's choice by category, where their format is public.

OneTrust   OptanonConsent, a query string with `groups=C0001:1,C0004:0`, and OptanonAlertBoxClosed, which is there once
           the banner was closed (my.onetrust.com, "OneTrust Cookies").
Cookiebot  CookieConsent: `0`, `-1`, or `{…,marketing:true,method:'explicit',…}` (cookiebot.com/en/developer).
Didomi     didomi_token: JSON in base64 with `purposes` and `vendors`, `enabled` and `disabled` (support.didomi.io,
           "Didomi Cookies: storage").
"""

import json
import re
from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote

from kit.consent.answer import (
    IMPLIED,
    LONGEST_VALUE,
    NO,
    NOTHING,
    REMEMBERED,
    UNREADABLE,
    YES,
    Answer,
    Jar,
    Say,
    checked_cookies,
    checked_names,
)
from kit.errors import ConfigurationError

_MOST_FIELDS = 64


# ---------------------------------------------------------------- OneTrust


@dataclass(frozen=True, slots=True, kw_only=True)
class OneTrust:
    """Reads OneTrust's cookie: one of `groups` switched off is a no, all switched on a yes once the banner was closed.

    `groups`  the categories that must be allowed, such as {"C0004"} for targeting, as the shop's template names them.

    Before the banner is closed, and while OneTrust waits for renewed consent, what is on is on by default: that is
    permission which no visitor gave.
    """

    groups: Collection[str]
    cookies: Sequence[str] = ("OptanonConsent",)
    name: ClassVar[str] = "onetrust"

    def __post_init__(self) -> None:
        object.__setattr__(self, "groups", checked_names("OneTrust(groups=...)", self.groups, '{"C0004"}'))
        object.__setattr__(self, "cookies", checked_cookies("OneTrust", self.cookies))

    def answer(self, value: str, jar: Jar) -> Answer:
        fields = _onetrust_fields(value)
        if fields is None:
            return UNREADABLE
        states, awaiting = fields
        said = [state for group, state in states if group in self.groups]
        if "0" in said:
            return NO
        if any(state != "1" for state in said):
            return UNREADABLE
        if not {group for group, _ in states}.issuperset(self.groups):
            return NOTHING
        return YES if "OptanonAlertBoxClosed" in jar and not awaiting else IMPLIED


@lru_cache(maxsize=REMEMBERED)
def _onetrust_fields(value: str) -> tuple[tuple[tuple[str, str], ...], bool] | None:
    """Return (group, state) pairs, and whether renewed consent is awaited; None for what is no such cookie."""
    if len(value) > LONGEST_VALUE:
        return None
    try:
        fields = parse_qs(value, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return None
    groups = [part.partition(":") for row in fields.get("groups", ()) for part in row.split(",")]
    return tuple((group, state) for group, _, state in groups), "true" in fields.get("AwaitingReconsent", ())


# ---------------------------------------------------------------- Cookiebot

_COOKIEBOT_CATEGORIES = frozenset({"preferences", "statistics", "marketing"})
_COOKIEBOT_FIELD = re.compile(r"(?<=[{,])\s*(\w+)\s*:\s*('[^']*'|\w+)\s*(?=[,}])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cookiebot:
    """Reads Cookiebot's cookie: `category` allowed is a yes, refused a no.

    `category`  "marketing", "statistics" or "preferences".

    `-1`, and a choice by the method `implied`, mean that Cookiebot did not ask, outside of the regions set up in it.
    """

    category: str = "marketing"
    cookies: Sequence[str] = ("CookieConsent",)
    name: ClassVar[str] = "cookiebot"

    def __post_init__(self) -> None:
        if self.category not in _COOKIEBOT_CATEGORIES:
            raise ConfigurationError("Cookiebot(category=...)", 'is not "marketing", "statistics" or "preferences"')
        object.__setattr__(self, "cookies", checked_cookies("Cookiebot", self.cookies))

    def answer(self, value: str, jar: Jar) -> Answer:
        return _cookiebot(value, self.category)


@lru_cache(maxsize=REMEMBERED)
def _cookiebot(value: str, category: str) -> Answer:
    if len(value) > LONGEST_VALUE:
        return UNREADABLE
    text = unquote(value).strip()
    if text in {"0", "-1"}:
        return NO if text == "0" else IMPLIED
    if not (text.startswith("{") and text.endswith("}")):
        return UNREADABLE
    fields = _COOKIEBOT_FIELD.findall(text)
    said = {state for name, state in fields if name == category}
    if said == {"true"}:
        return IMPLIED if {"'implied'", "'-1'"} & {state for _, state in fields} else YES
    return NO if "false" in said else UNREADABLE


# ---------------------------------------------------------------- Didomi


@dataclass(frozen=True, slots=True, kw_only=True)
class Didomi:
    """Reads Didomi's token: one of `purposes` disabled is a no, all enabled a yes.

    `purposes`  the purposes that must be enabled, by their ids in Didomi.
    `vendors`   {name of a destination: the vendor's id in Didomi}: a yes does not cover one that is not enabled.

    Didomi keeps IAB purposes and vendors in the cookie `euconsent-v2`, which `Tcf` reads.
    """

    purposes: Collection[str]
    vendors: Mapping[str, str] = field(default_factory=dict)
    cookies: Sequence[str] = ("didomi_token",)
    name: ClassVar[str] = "didomi"

    def __post_init__(self) -> None:
        object.__setattr__(self, "purposes", checked_names("Didomi(purposes=...)", self.purposes, '{"advertising"}'))
        object.__setattr__(self, "vendors", dict(self.vendors))
        object.__setattr__(self, "cookies", checked_cookies("Didomi", self.cookies))

    def answer(self, value: str, jar: Jar) -> Answer:
        said = _didomi(value)
        if said is None:
            return Answer(Say.UNREADABLE, frozenset(self.vendors))
        allowed, refused, vendors = said
        if not refused.isdisjoint(self.purposes):
            return NO
        if not allowed.issuperset(self.purposes):
            return NOTHING
        excluded = [name for name, vendor in self.vendors.items() if vendor not in vendors]
        return Answer(Say.YES, frozenset(excluded))


@lru_cache(maxsize=REMEMBERED)
def _didomi(value: str) -> tuple[frozenset[str], frozenset[str], frozenset[str]] | None:
    """Return the purposes enabled, the purposes disabled and the vendors enabled; None for what is no such token."""
    if len(value) > LONGEST_VALUE:
        return None
    try:
        token = json.loads(b64decode(unquote(value), validate=True))
    except (ValueError, RecursionError):
        return None
    if not isinstance(token, dict):
        return None
    found = _ids(token, "purposes", "enabled"), _ids(token, "purposes", "disabled"), _ids(token, "vendors", "enabled")
    purposes, refused, vendors = found
    return None if purposes is None or refused is None or vendors is None else (purposes, refused, vendors)


def _ids(token: dict[str, Any], kind: str, state: str) -> frozenset[str] | None:
    group = token.get(kind, {})
    ids = group.get(state, []) if isinstance(group, dict) else None
    if not isinstance(ids, list) or any(not isinstance(each, str) for each in ids):
        return None
    return frozenset(ids)
