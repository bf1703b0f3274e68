"""IAB Europe's Transparency & Consent Framework: what a TC string allows whom.

Source: "Transparency and Consent String with Global Vendor & CMP List Formats" in
InteractiveAdvertisingBureau/GDPR-Transparency-and-Consent-Framework, version 2.3: the core segment, and the segment of
disclosed vendors that every string carries since 28 February 2026.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import ClassVar, NamedTuple

from kit.consent.answer import LONGEST_VALUE, NO, REMEMBERED, Answer, Jar, Say, checked_cookies
from kit.consent.bits import Bits, UnreadableError
from kit.errors import ConfigurationError

#: NextRoll's number in the Global Vendor List (contracts.md 1.7). Rokt and Rockerbox are looked up there by the shop.
ADROLL = 130

_DISCLOSED = 1
_REQUIRE_CONSENT = 1
_MOST_SEGMENTS = 4


class TcString(NamedTuple):
    """What is read of a TC string: the purposes consented to, and of the vendors asked for those that it names.

    `disclosed` is None where the string has no such segment; `restricted` holds (vendor, purpose) pairs that the
    publisher forbids, or allows on another ground than consent only.
    """

    purposes: frozenset[int]
    vendors: frozenset[int]
    disclosed: frozenset[int] | None
    restricted: frozenset[tuple[int, int]]


@lru_cache(maxsize=REMEMBERED)
def read(text: str, vendors: frozenset[int]) -> TcString | None:
    """Return what a TC string says of these vendors, or None when it is no TC string of version 2."""
    if len(text) > LONGEST_VALUE:
        return None
    segments = text.split(".")
    if len(segments) > _MOST_SEGMENTS:
        return None
    try:
        return _read(Bits(segments[0]), [Bits(segment) for segment in segments[1:]], vendors)
    except UnreadableError:
        return None


def _read(core: Bits, others: Sequence[Bits], vendors: frozenset[int]) -> TcString:
    if core.number(6) != 2:
        raise UnreadableError
    # Created, LastUpdated, CmpId, CmpVersion, ConsentScreen, ConsentLanguage, VendorListVersion, TcfPolicyVersion,
    # IsServiceSpecific, UseNonStandardTexts, SpecialFeatureOptIns.
    core.row(36 + 36 + 12 + 12 + 6 + 12 + 12 + 6 + 1 + 1 + 12)
    purposes = frozenset(purpose for purpose, bit in enumerate(core.row(24), 1) if bit == "1")
    # PurposesLITransparency, PurposeOneTreatment, PublisherCC.
    core.row(24 + 1 + 12)
    consented = _named(core, vendors)
    _named(core, frozenset())  # legitimate interests
    restricted = _restricted(core, vendors)
    disclosed = [_named(other, vendors) for other in others if other.number(3) == _DISCLOSED]
    if len(disclosed) > 1:
        raise UnreadableError
    return TcString(purposes, consented, disclosed[0] if disclosed else None, restricted)


def _named(bits: Bits, vendors: frozenset[int]) -> frozenset[int]:
    """Return which of these vendors the next list of vendors holds; it is a field of bits, or ranges."""
    last = bits.number(16)
    if bits.flag():
        return _in_ranges(bits, vendors)
    row = bits.row(last)
    return frozenset(vendor for vendor in vendors if vendor <= last and row[vendor - 1] == "1")


def _in_ranges(bits: Bits, vendors: frozenset[int]) -> frozenset[int]:
    named: set[int] = set()
    for _ in range(bits.number(12)):
        several, first = bits.flag(), bits.number(16)
        last = bits.number(16) if several else first
        if not 0 < first <= last:
            raise UnreadableError
        named.update(vendor for vendor in vendors if first <= vendor <= last)
    return frozenset(named)


def _restricted(core: Bits, vendors: frozenset[int]) -> frozenset[tuple[int, int]]:
    restricted: set[tuple[int, int]] = set()
    for _ in range(core.number(12)):
        purpose, kind = core.number(6), core.number(2)
        named = _in_ranges(core, vendors)
        if kind != _REQUIRE_CONSENT:
            restricted.update((vendor, purpose) for vendor in named)
    return frozenset(restricted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tcf:
    """Reads a TC string, version 2.0 to 2.3.

    `purposes`   the purposes that must be consented to, such as {1, 3, 4, 7}: the shop's decision, so no default.
                 One that is missing is a no. Legitimate interests are never enough.
    `vendors`    {name of a destination: its number in the Global Vendor List}. A destination named here also needs the
                 visitor's consent to the vendor, the vendor disclosed, and no restriction by the publisher on one of
                 the purposes; a yes does not cover it otherwise. Destinations not named need the purposes alone.
    `disclosed`  whether a string without the segment of disclosed vendors discloses nobody, as since version 2.3;
                 False where the consent manager still writes 2.2.
    `cookies`    where the string stands; OneTrust calls it "eupubconsent-v2".
    """

    purposes: Collection[int]
    vendors: Mapping[str, int] = field(default_factory=lambda: {"adroll": ADROLL})
    disclosed: bool = True
    cookies: Sequence[str] = ("euconsent-v2",)
    name: ClassVar[str] = "tcf"
    _ids: frozenset[int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not _are_numbers(self.purposes, 24) or not self.purposes:
            raise ConfigurationError("Tcf(purposes=...)", "is no set of purposes from 1 to 24, such as {1, 3, 4, 7}")
        if not isinstance(self.vendors, Mapping) or not _are_numbers(self.vendors.values(), 65_535):
            raise ConfigurationError("Tcf(vendors=...)", 'is no {destination: vendor number}, such as {"adroll": 130}')
        object.__setattr__(self, "purposes", frozenset(self.purposes))
        object.__setattr__(self, "vendors", dict(self.vendors))
        object.__setattr__(self, "cookies", checked_cookies("Tcf", self.cookies))
        object.__setattr__(self, "_ids", frozenset(self.vendors.values()))

    def answer(self, value: str, jar: Jar) -> Answer:
        """Return what the string says. One that cannot be read covers none of `vendors`, whatever else says yes."""
        said = read(value, self._ids)
        if said is None:
            return Answer(Say.UNREADABLE, frozenset(self.vendors))
        if not said.purposes.issuperset(self.purposes):
            return NO
        excluded = [name for name, number in self.vendors.items() if not self._covers(said, number)]
        return Answer(Say.YES, frozenset(excluded))

    def _covers(self, said: TcString, vendor: int) -> bool:
        disclosed = not self.disclosed if said.disclosed is None else vendor in said.disclosed
        restricted = any((vendor, purpose) in said.restricted for purpose in self.purposes)
        return vendor in said.vendors and disclosed and not restricted


def _are_numbers(values: object, highest: int) -> bool:
    return isinstance(values, Collection) and all(type(value) is int and 1 <= value <= highest for value in values)
