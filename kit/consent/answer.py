"""What one signal says, and what every kind of signal has in common: its cookies and the bounds of what is read."""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import NamedTuple, Protocol

from kit.errors import ConfigurationError

Jar = Mapping[str, str]
"""The request's cookies by name, as they were sent: the first of each name."""

#: Browsers keep no more in one cookie. What is longer counts as unreadable and is not looked into.
LONGEST_VALUE = 4_096

#: How many strings each decoder remembers: the page views of one visitor bring the same one.
REMEMBERED = 512

_COOKIE_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")

NOBODY: frozenset[str] = frozenset()


class Say(Enum):
    """A visitor's yes or no; permission that no visitor gave; nothing at all; something that cannot be read."""

    YES = "yes"
    NO = "no"
    IMPLIED = "implied"
    NOTHING = "nothing"
    UNREADABLE = "unreadable"


class Answer(NamedTuple):
    """What a signal says. `excluded` names the destinations that a yes, of whatever signal, does not cover."""

    say: Say
    excluded: frozenset[str] = NOBODY


YES = Answer(Say.YES)
NO = Answer(Say.NO)
IMPLIED = Answer(Say.IMPLIED)
NOTHING = Answer(Say.NOTHING)
UNREADABLE = Answer(Say.UNREADABLE)


class Signal(Protocol):
    """One kind of signal as a shop configured it: where it stands and what it says. `answer` never raises."""

    @property
    def name(self) -> str: ...

    @property
    def cookies(self) -> Sequence[str]: ...

    def answer(self, value: str, jar: Jar) -> Answer: ...


def excluded_by(answers: Iterable[Answer]) -> frozenset[str]:
    return NOBODY.union(*(answer.excluded for answer in answers))


def checked_cookies(setting: str, cookies: Sequence[str]) -> tuple[str, ...]:
    """Return the names of cookies to read. Raises ConfigurationError for what cannot be such a list."""
    if isinstance(cookies, str) or not cookies:
        raise ConfigurationError(
            f"{setting}(cookies=...)", 'is no list of cookie names; pass one such as ["usprivacy"]'
        )
    if any(not isinstance(name, str) or not _COOKIE_NAME.fullmatch(name) for name in cookies):
        raise ConfigurationError(f"{setting}(cookies=...)", "holds what cannot be a cookie's name")
    return tuple(cookies)


def checked_names(setting: str, names: Iterable[str], example: str) -> frozenset[str]:
    """Return the ids that a shop asks for. Raises ConfigurationError when there are none: they are its own decision."""
    chosen = frozenset([names] if isinstance(names, str) else names)
    if not chosen or any(not isinstance(name, str) or not name for name in chosen):
        raise ConfigurationError(setting, f"names nothing that must be allowed; pass ids such as {example}")
    return chosen
