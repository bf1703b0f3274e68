"""The US Privacy string, such as 1YNN: version, notice given, opted out of sale, covered by the LSPA.

Source: "US Privacy String" in InteractiveAdvertisingBureau/USPrivacy, version 1. It is deprecated since January 2024,
and consent managers still write it beside GPP.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from kit.consent.answer import IMPLIED, NO, NOTHING, UNREADABLE, Answer, Jar, checked_cookies

_STRING = re.compile("1([YN-])([YN-])[YN-]")


def read(text: str) -> Answer:
    """Return what a US Privacy string says. Not opted out, after notice was given, is permission that nobody gave."""
    found = _STRING.fullmatch(text)
    if found is None:
        return UNREADABLE
    notice, opted_out = found.groups()
    if opted_out == "Y":
        return NO
    return IMPLIED if (notice, opted_out) == ("Y", "N") else NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class UsPrivacy:
    """Reads a US Privacy string: opted out of sale is a no; `cookies` say where it stands."""

    cookies: Sequence[str] = ("usprivacy", "us_privacy")
    name: ClassVar[str] = "us_privacy"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cookies", checked_cookies("UsPrivacy", self.cookies))

    def answer(self, value: str, jar: Jar) -> Answer:
        return read(value)
