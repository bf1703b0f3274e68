"""ConsentPolicy: one shop's rule and signals, checked at start, and what they make of one request."""

import inspect
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache

from kit.consent.answer import NO, NOBODY, YES, Say
from kit.consent.signals import Asked, ConsentRule, Heard, Scope, Signals, Sum, asked_of, hear, summed
from kit.errors import ConfigurationError
from kit.model import LONGEST_SIGNAL, Consent

#: Readable by scripts, so that kit.js and a consent banner can set it: `granted` or `denied`.
COOKIE = b"kit-consent"

#: No honest browser sends more; the rest is not looked at.
LONGEST_HEADER = 65_536

_ANSWERS = {b"granted": Sum(True, "cookie"), b"denied": Sum(False, "cookie")}

_log = logging.getLogger("kit")


@dataclass(frozen=True, slots=True)
class ConsentPolicy:
    """One shop's rule, alone or with signals: what capture asks. Raises ConfigurationError for anything else.

    `unreadable` counts the signals that could not be read, by name.
    """

    rule: ConsentRule | Signals
    unreadable: Counter[str] = field(default_factory=Counter, init=False, repr=False, compare=False)
    _rule: ConsentRule = field(init=False, repr=False, compare=False)
    _asked: tuple[Asked, ...] = field(init=False, repr=False, compare=False)
    _implied: bool = field(init=False, repr=False, compare=False)
    _told: set[str] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        signals = self.rule if isinstance(self.rule, Signals) else None
        rule = signals.rule if signals is not None else self.rule
        if inspect.iscoroutinefunction(rule):
            raise ConfigurationError("consent", "is an async function; pass a plain one that returns at once")
        if not callable(rule) and rule not in ("opt_in", "opt_out"):
            raise ConfigurationError(
                "consent", 'is neither "opt_in" nor "opt_out" nor a function of the scope nor Signals(rule=...)'
            )
        object.__setattr__(self, "_rule", rule)
        object.__setattr__(self, "_asked", asked_of(signals.read) if signals is not None else ())
        object.__setattr__(self, "_implied", signals is not None and signals.implied)

    def decide(self, scope: Scope, *, now: datetime, headers: Mapping[bytes, bytes] | None = None) -> Consent:
        """Return what this request says about consent; see Signals for what counts before what.

        A function of the shop's that raises has said nothing, and is logged once. `headers` are the scope's own by
        name, where the caller has them so already; several Cookie headers as one.
        """
        if headers is None:
            headers = _by_name(scope.get("headers", ()))
        if b"sec-gpc" in headers and b"1" in (part.strip() for part in headers[b"sec-gpc"].split(b",")):
            return _consent(False, "gpc", NOBODY, now)
        if callable(self._rule):
            said = self._answer(scope)
            if said is not None:
                return _consent(said, "function", NOBODY, now)
        if b"cookie" in headers:
            known = self._said(headers[b"cookie"][:LONGEST_HEADER])
            if known is not None:
                return _consent(known.granted, known.name, known.excluded, now)
        if self._rule == "opt_out":
            return _consent(True, "opt_out", NOBODY, now)
        return _consent(None, "none", NOBODY, now)

    def may_keep(self, consent: Consent) -> bool:
        """Return whether data may be kept. Not known counts as a yes under opt_out alone."""
        return self._rule == "opt_out" if consent.granted is None else consent.granted

    def _answer(self, scope: Scope) -> bool | None:
        try:
            answer = self._rule(scope) if callable(self._rule) else None
        except Exception as exc:  # noqa: BLE001 - the shop's own code; its fault must not take the page down
            said = {"kit.error": type(exc).__name__}
            self._tell("function", "the consent function raised; its answer counts as not known", said)
            return None
        return answer if isinstance(answer, bool) else None

    def _said(self, header: bytes) -> Sum | None:
        """Return what the signals come to, the kit's own cookie with them."""
        own = _own(header) if COOKIE in header else None
        heard = hear(header, self._asked) if self._asked else None
        if not heard:
            return own
        for name, answer in heard:
            if answer.say is Say.UNREADABLE:
                self.unreadable[name] += 1
                self._tell(name, "a consent signal cannot be read; it counts as not known", {"kit.signal": name})
        if own is not None:
            heard.append(Heard(own.name, YES if own.granted else NO))
        return summed(heard, implied=self._implied)

    def _tell(self, what: str, message: str, said: Mapping[str, str]) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.error(message, extra=said)


# Capture counts in whole seconds: the requests of one second share their few values.
@lru_cache(maxsize=64)
def _consent(granted: bool | None, signal: str, excluded: frozenset[str], at: datetime) -> Consent:
    whole = " -".join([signal, *sorted(excluded)])
    if len(whole) > LONGEST_SIGNAL:
        # A yes whose exceptions there is no room for is none.
        return Consent(granted=False, signal=signal, at=at)
    return Consent(granted=granted, signal=whole, at=at)


def _by_name(headers: Iterable[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    by_name: dict[bytes, bytes] = {}
    for name, value in headers:
        if name == b"cookie":
            by_name[name] = by_name[name] + b"; " + value if name in by_name else value
        elif name == b"sec-gpc":
            by_name[name] = by_name[name] + b"," + value if name in by_name else value
    return by_name


def _own(header: bytes) -> Sum | None:
    """Return what the kit's own cookie says: the first of its name with an answer."""
    first = header.rfind(b";", 0, header.find(COOKIE)) + 1
    for pair in header[first:].split(b";"):
        name, _, value = pair.strip().partition(b"=")
        if name == COOKIE and value.strip(b'"') in _ANSWERS:
            return _ANSWERS[value.strip(b'"')]
    return None
