"""Whether a visitor's data may be kept: GPC, the shop's own rule, the kit's consent cookie. Values in, value out."""

import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
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


def decide(rule: ConsentRule, scope: Scope, *, now: datetime) -> Consent:
    """Return what this request says about consent. An exception in the shop's function propagates; see ConsentPolicy.

    The first with an answer wins: `Sec-GPC: 1` (always a no), the shop's function, the consent cookie, the rule.
    """
    gpc, cookie = _signals(scope.get("headers", ()))
    if gpc:
        return Consent(granted=False, signal="gpc", at=now)
    if callable(rule):
        answer = rule(scope)
        if answer is True or answer is False:
            return Consent(granted=answer, signal="function", at=now)
    if cookie is not None:
        return Consent(granted=cookie, signal="cookie", at=now)
    if rule == "opt_out":
        return Consent(granted=True, signal="opt_out", at=now)
    return Consent(granted=None, signal="none", at=now)


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

    def decide(self, scope: Scope, *, now: datetime) -> Consent:
        """Return the decision; a function of the shop's that raises has said nothing, and is logged once."""
        try:
            return decide(self.rule, scope, now=now)
        except Exception as exc:  # noqa: BLE001 - the shop's own code; its fault must not take the page down
            if "function" not in self._told:
                self._told.add("function")
                _log.error(
                    "the consent function raised; its answer counts as not known",
                    extra={"kit.error": type(exc).__name__},
                )
            return decide("opt_in", scope, now=now)

    def may_keep(self, consent: Consent) -> bool:
        return may_keep(self.rule, consent)


def _signals(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bool, bool | None]:
    gpc, answer = False, None
    for name, value in headers:
        if name == b"cookie" and answer is None:
            answer = _cookie_answer(value)
        elif name == b"sec-gpc" and value.strip() == b"1":
            gpc = True
    return gpc, answer


def _cookie_answer(header: bytes) -> bool | None:
    header = header[:LONGEST_HEADER]
    if COOKIE not in header:
        return None
    for pair in header.split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == COOKIE and value.strip(b'"') in _ANSWERS:
            return _ANSWERS[value.strip(b'"')]
    return None
