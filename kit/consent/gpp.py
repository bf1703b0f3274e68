"""IAB Tech Lab's Global Privacy Platform: its header, the sections of the US states, and the TC string within.

Source: InteractiveAdvertisingBureau/Global-Privacy-Platform, "Consent String Specification" 1.0 and the specification
of each section. Sections 24 to 27 (Maryland, Indiana, Kentucky, Rhode Island) are left out: their specification is open
for comment and differs from IAB's own encoder.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, NamedTuple
from urllib.parse import unquote

from kit.consent import us_privacy
from kit.consent.answer import (
    IMPLIED,
    LONGEST_VALUE,
    NO,
    NOTHING,
    REMEMBERED,
    UNREADABLE,
    Answer,
    Jar,
    Say,
    checked_cookies,
    excluded_by,
)
from kit.consent.bits import Bits, UnreadableError
from kit.consent.tcf import Tcf

_EU_TCF, _US_PRIVACY, _FIRST_US_STATE = 2, 6, 7
_MOST_SECTIONS = 64
_GPC_SEGMENT = 1
_OPTED_OUT, _NOT_OPTED_OUT = "01", "10"


class _Section(NamedTuple):
    """Where a US section's opt-outs stand: of sale, of sharing and of targeted advertising, two bits each."""

    opt_outs: tuple[int, ...]
    versions: tuple[int, ...] = (1,)
    has_gpc: bool = True


_USUAL = _Section((12, 14))
_SECTIONS: Mapping[int, _Section] = {
    7: _Section((18, 20, 22), versions=(1, 2)),  # usnat
    8: _USUAL,  # usca: sale and sharing; from here on sale and targeted advertising
    9: _Section((12, 14), has_gpc=False),  # usva
    10: _USUAL,  # usco
    11: _Section((14, 16), has_gpc=False),  # usut
    12: _USUAL,  # usct
    13: _Section((12, 14), has_gpc=False),  # usfl
    14: _USUAL,  # usmt
    15: _USUAL,  # usor
    16: _USUAL,  # ustx
    17: _USUAL,  # usde
    18: _Section((14, 16)),  # usia
    19: _USUAL,  # usne
    20: _USUAL,  # usnh
    21: _USUAL,  # usnj
    22: _USUAL,  # ustn
    23: _USUAL,  # usmn
}


@lru_cache(maxsize=REMEMBERED)
def sections_of(text: str) -> tuple[tuple[int, str], ...] | None:
    """Return a GPP string's sections by their number, as they stand, or None when it is no GPP string."""
    if len(text) > LONGEST_VALUE:
        return None
    header, *sections = text.split("~", _MOST_SECTIONS)
    try:
        numbers = _numbers(Bits(header))
    except UnreadableError:
        return None
    return tuple(zip(numbers, sections, strict=True)) if len(numbers) == len(sections) else None


def _numbers(header: Bits) -> list[int]:
    """Return the section numbers: a range of Fibonacci integers, each the distance from the one before."""
    if (header.number(6), header.number(6)) != (3, 1):
        raise UnreadableError
    numbers: list[int] = []
    last = 0
    for _ in range(header.number(12)):
        several, first = header.flag(), last + header.fibonacci()
        last = first + header.fibonacci() if several else first
        numbers.extend(range(first, last + 1))
        if len(numbers) > _MOST_SECTIONS:
            raise UnreadableError
    return numbers


@lru_cache(maxsize=REMEMBERED)
def us_section(number: int, text: str) -> Answer:
    """Return what a section of the US says: one opt-out, or GPC, is a no; not opted out is permission nobody gave."""
    section = _SECTIONS.get(number)
    if section is None:
        return UNREADABLE
    try:
        core, *others = [Bits(segment) for segment in text.split(".", _MOST_SECTIONS)]
        if core.number(6) not in section.versions:
            return UNREADABLE
        row = "-" * 6 + core.row(max(section.opt_outs) + 2 - 6)
        said = [row[at : at + 2] for at in section.opt_outs]
        gpc = section.has_gpc and any(other.number(2) == _GPC_SEGMENT and other.flag() for other in others)
    except UnreadableError:
        return UNREADABLE
    if gpc or _OPTED_OUT in said:
        return NO
    if "11" in said:
        return UNREADABLE
    return IMPLIED if _NOT_OPTED_OUT in said else NOTHING


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpp:
    """Reads a GPP string: an opt-out in any US section is a no, and so is a no in the others that are read.

    `tcf`      reads the EU section; without it that section says nothing.
    `cookies`  where the string stands: GPP leaves that to the consent manager. OneTrust calls it "OTGPPConsent".

    A string of which one section cannot be read still says no, and never yes.
    """

    tcf: Tcf | None = None
    cookies: Sequence[str] = ("__gpp",)
    name: ClassVar[str] = "gpp"

    def __post_init__(self) -> None:
        object.__setattr__(self, "cookies", checked_cookies("Gpp", self.cookies))

    def answer(self, value: str, jar: Jar) -> Answer:
        sections = sections_of(unquote(value)) if len(value) <= LONGEST_VALUE else None
        if sections is None:
            return Answer(Say.UNREADABLE, frozenset(self.tcf.vendors if self.tcf else ()))
        answers = [self._section(number, text, jar) for number, text in sections]
        said = {answer.say for answer in answers}
        for say in (Say.NO, Say.UNREADABLE, Say.YES, Say.IMPLIED):
            if say in said:
                return Answer(say, excluded_by(answers))
        return NOTHING

    def _section(self, number: int, text: str, jar: Jar) -> Answer:
        if number == _EU_TCF and self.tcf is not None:
            return self.tcf.answer(text, jar)
        if number == _US_PRIVACY:
            return us_privacy.read(text)
        return us_section(number, text) if number >= _FIRST_US_STATE else NOTHING
