"""Signals: which signals a shop asks for, and what those say that stand in a request's Cookie header."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from kit.consent.answer import LONGEST_VALUE, Answer, Jar, Say, Signal, excluded_by
from kit.consent.gpp import Gpp
from kit.consent.managers import Cookiebot, Didomi, OneTrust
from kit.consent.tcf import Tcf
from kit.consent.us_privacy import UsPrivacy
from kit.errors import ConfigurationError

Scope = Mapping[str, Any]

ConsentRule = Literal["opt_in", "opt_out"] | Callable[[Scope], bool | None]
"""`opt_in` keeps nothing before a yes, `opt_out` keeps until a no, a function of the ASGI scope answers by itself."""

_KINDS = (Tcf, Gpp, UsPrivacy, OneTrust, Cookiebot, Didomi)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signals:
    """The shop's rule, with the signals that are asked before it. Nothing is read that is not named here.

        Kit(consent=Signals(rule="opt_in", read=[Tcf(purposes={1, 3, 4, 7}), UsPrivacy()]))

    `rule`     "opt_in", "opt_out" or a function of the ASGI scope: what counts when no signal says anything.
    `read`     Tcf, Gpp, UsPrivacy, OneTrust, Cookiebot, Didomi: each reads a cookie of its own.
    `implied`  whether permission that no visitor gave counts as under opt_out: not opted out under US law, or outside
               of the regions where the consent manager asks. For shops that opt_in elsewhere.

    Of what is known of a request, this counts, the first that applies:

    1. `Sec-GPC: 1` is a no.
    2. A function that answers True or False.
    3. One no, of any signal or of the kit's own cookie.
    4. One yes, but not for destinations that any of the signals excludes.
    5. With `implied`, permission that a signal implies while every signal that is there can be read.
    6. The rule.

    A signal that cannot be read says nothing. The decision is named after the first signal that says so, in the order
    of `read`, the kit's own cookie ("cookie") last; after the rule where that decides.
    """

    rule: ConsentRule
    read: Sequence[Signal]
    implied: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.read, str) or not self.read or any(not isinstance(signal, _KINDS) for signal in self.read):
            kinds = ", ".join(kind.__name__ for kind in _KINDS)
            raise ConfigurationError("Signals(read=...)", f"is no list of signals; name at least one of {kinds}")
        object.__setattr__(self, "read", tuple(self.read))


class Asked(NamedTuple):
    """A cookie that a signal stands in. Only where the header holds `needle` is anything looked into."""

    needle: bytes
    cookie: str
    signal: Signal


class Heard(NamedTuple):
    """What one signal said."""

    name: str
    answer: Answer


def asked_of(signals: Iterable[Signal]) -> tuple[Asked, ...]:
    return tuple(Asked(f"{cookie}=".encode("ascii"), cookie, signal) for signal in signals for cookie in signal.cookies)


def hear(header: bytes, asked: Iterable[Asked]) -> list[Heard]:
    """Return what the signals in this Cookie header say, in the order asked."""
    heard: list[Heard] = []
    jar: Jar | None = None
    for needle, cookie, signal in asked:
        if needle in header:
            if jar is None:
                jar = jar_of(header)
            if cookie in jar:
                heard.append(Heard(signal.name, signal.answer(jar[cookie], jar)))
    return heard


def jar_of(header: bytes) -> Jar:
    """Return the cookies of a header, the first of each name, as they were sent but for surrounding quotes."""
    jar: dict[str, str] = {}
    for pair in header.decode("latin-1").split(";"):
        name, _, value = pair.strip(" \t").partition("=")
        # One letter more than is read: enough to be seen to be too long.
        jar.setdefault(name, value.strip('"')[: LONGEST_VALUE + 1])
    return jar


class Sum(NamedTuple):
    """What signals come to: who decided, and whom a yes does not cover."""

    granted: bool
    name: str
    excluded: frozenset[str] = frozenset()


def summed(heard: Sequence[Heard], *, implied: bool) -> Sum | None:
    """Return what several signals come to, or None when they leave it to the rule: see Signals, 3 to 5."""
    for name, answer in heard:
        if answer.say is Say.NO:
            return Sum(False, name)
    excluded = excluded_by(answer for _, answer in heard)
    for name, answer in heard:
        if answer.say is Say.YES:
            return Sum(True, name, excluded)
    said = {answer.say for _, answer in heard}
    # Named after the rule that it follows: nobody's word, which overrules no decision on record.
    return Sum(True, "opt_out", excluded) if implied and Say.IMPLIED in said and Say.UNREADABLE not in said else None
