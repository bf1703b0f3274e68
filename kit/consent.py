"""Whether a visitor's data may be kept: GPC, the shop's own rule, the kit's consent cookie. Values in, value out."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Literal

from kit.errors import ConfigurationError
from kit.model import Consent

Scope = Mapping[str, Any]

ConsentRule = Literal["opt_in", "opt_out"] | Callable[[Scope], bool | None]
"""`opt_in` keeps nothing before a yes, `opt_out` keeps until a no, a function of the ASGI scope answers by itself."""

#: Readable by scripts, so that kit.js and a consent banner can set it: `granted` or `denied`.
COOKIE = b"kit-consent"

#: No honest browser sends more; the rest is not looked at.
LONGEST_HEADER = 65_536

_ANSWERS = {b"granted": True, b"denied": False}

_log = logging.getLogger("kit")


def decide(rule: ConsentRule, scope: Scope, *, now: datetime, headers: Mapping[bytes, bytes] | None = None) -> Consent:
    """Return what this request says about consent. An exception in the shop's function propagates; see ConsentPolicy.

    The first with an answer wins: `Sec-GPC: 1` (always a no), the shop's function, the consent cookie, the rule.
    `headers` are the scope's own by name, where the caller has them so already; several Cookie headers as one.
    """
    if headers is None:
        headers = _by_name(scope.get("headers", ()))
    if b"sec-gpc" in headers and b"1" in (part.strip() for part in headers[b"sec-gpc"].split(b",")):
        return _consent(False, "gpc", now)
    if callable(rule):
        answer = rule(scope)
        if answer is True or answer is False:
            return _consent(answer, "function", now)
    if b"cookie" in headers:
        answer = _cookie_answer(headers[b"cookie"])
        if answer is not None:
            return _consent(answer, "cookie", now)
    if rule == "opt_out":
        return _consent(True, "opt_out", now)
    return _consent(None, "none", now)


# Capture counts in whole seconds: the requests of one second share their few values.
@lru_cache(maxsize=64)
def _consent(granted: bool | None, signal: str, at: datetime) -> Consent:
    return Consent(granted=granted, signal=signal, at=at)


def may_keep(rule: ConsentRule, consent: Consent) -> bool:
    """Return whether data may be kept. Not known counts as a yes under opt_out alone."""
    if consent.granted is None:
        return rule == "opt_out"
    return consent.granted


@dataclass(frozen=True, slots=True)
class ConsentPolicy:
    """One shop's rule, checked at start: what capture asks. Raises ConfigurationError for anything that is no rule."""

    rule: ConsentRule
    _told: set[str] = field(default_factory=set, repr=False, compare=False)

    def __post_init__(self) -> None:
        if inspect.iscoroutinefunction(self.rule):
            raise ConfigurationError("consent", "is an async function; pass a plain one that returns at once")
        if not callable(self.rule) and self.rule not in {"opt_in", "opt_out"}:
            raise ConfigurationError("consent", 'is neither "opt_in" nor "opt_out" nor a function of the scope')

    def decide(self, scope: Scope, *, now: datetime, headers: Mapping[bytes, bytes] | None = None) -> Consent:
        """Return the decision; a function of the shop's that raises has said nothing, and is logged once."""
        try:
            return decide(self.rule, scope, now=now, headers=headers)
        except Exception as exc:  # noqa: BLE001 - the shop's own code; its fault must not take the page down
            if "function" not in self._told:
                self._told.add("function")
                _log.error(
                    "the consent function raised; its answer counts as not known",
                    extra={"kit.error": type(exc).__name__},
                )
            return decide("opt_in", scope, now=now, headers=headers)

    def may_keep(self, consent: Consent) -> bool:
        return may_keep(self.rule, consent)


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    by_name: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"cookie":
            by_name[name] = by_name[name] + b"; " + value if name in by_name else value
        elif name == b"sec-gpc":
            by_name[name] = by_name[name] + b"," + value if name in by_name else value
    return by_name


def _cookie_answer(header: bytes) -> bool | None:
    header = header[:LONGEST_HEADER]
    if COOKIE not in header:
        return None
    for pair in header.split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == COOKIE and value.strip(b'"') in _ANSWERS:
            return _ANSWERS[value.strip(b'"')]
    return None


def told_of(consent: Consent) -> str:
    """Return in a word or two why something is not sent for this decision."""
    return "nobody decided" if consent.granted is None else consent.signal


def weigh(known: Iterable[Consent | None], *, said: bool | None, now: datetime) -> Consent:
    """Return the decision that counts for one event.

    `known` are the decisions on record: of the event itself, of the request, of the order's link, the visitor's newest.
    `said` is the shop's own word. A no by GPC stands, and so does a no of the shop's; then the newest that a visitor
    took; then the shop's yes, where no visitor is known to have decided; then what the rule alone gives.
    """
    decided = [each for each in known if each is not None and each.granted is not None]
    for each in decided:
        if each.signal in {"gpc", "shop"} and each.granted is False:
            return each
    if said is False:
        return Consent(granted=False, signal="shop", at=now)
    own = [each for each in decided if each.signal not in {"opt_out", "shop"}]
    if own:
        return max(own, key=lambda each: (each.at, not each.granted))
    if said is True:
        return Consent(granted=True, signal="shop", at=now)
    decided.sort(key=lambda each: each.signal != "shop")
    return decided[0] if decided else Consent(granted=None, signal="none", at=now)
