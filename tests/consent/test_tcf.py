"""TC strings: the published ones, whom a string covers, and that no other bit than the defined ones grants."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.consent import Tcf
from kit.consent.answer import LONGEST_VALUE, Answer, Say
from kit.consent.tcf import read
from kit.errors import ConfigurationError
from tests.consent.strings import bits_of, letters, tc_string, vendor_field, vendor_ranges

VECTORS: Any = json.loads((Path(__file__).parent / "vectors.json").read_text())
ALL = frozenset(range(1, 2_000))
ADROLL = 130
NEEDED = frozenset({1, 3, 4, 7})
YES = Answer(Say.YES)
NOT_ADROLL = Answer(Say.YES, frozenset({"adroll"}))
UNREADABLE = Answer(Say.UNREADABLE, frozenset({"adroll"}))
BOTH = vendor_field({20, ADROLL})


@pytest.mark.parametrize("vector", VECTORS["tcf"], ids=lambda vector: vector["text"][:24])
def test_a_published_string_says_what_its_source_says(vector: Any) -> None:
    """Purposes, vendors, disclosed vendors and restrictions come out as IAB's own libraries read them."""
    said = read(vector["text"], ALL)

    assert said is not None
    disclosed = None if said.disclosed is None else sorted(said.disclosed)
    found = {
        "purposes": sorted(said.purposes),
        "vendors": sorted(said.vendors),
        "vendors_count": len(said.vendors),
        "disclosed": disclosed,
        "disclosed_first": (disclosed or [])[:10],
        "disclosed_last": (disclosed or [])[-9:],
        "disclosed_count": len(disclosed or []),
        "restricted": sorted(said.restricted),
        "restricted_for": {"32": sorted(purpose for vendor, purpose in said.restricted if vendor == 32)},
    }
    expected = {name: value for name, value in vector.items() if name not in {"source", "text"}}
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH), YES),
        (
            tc_string(
                purposes=range(1, 25), vendors=vendor_ranges([(100, 200)]), disclosed=vendor_ranges([(130, 130)])
            ),
            YES,
        ),
        (tc_string(purposes=NEEDED - {4}, vendors=BOTH, disclosed=BOTH), Answer(Say.NO)),
        (tc_string(vendors=BOTH, disclosed=BOTH), Answer(Say.NO)),
        (tc_string(purposes=NEEDED, vendors=vendor_field({20}), disclosed=BOTH), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=vendor_field({20, 131}), disclosed=BOTH), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=vendor_ranges([(1, 129), (131, 900)]), disclosed=BOTH), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=vendor_field({20})), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=BOTH), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH, restrictions=[(3, 0, [(130, 130)])]), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH, restrictions=[(7, 2, [(1, 900)])]), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH, restrictions=[(7, 3, [(130, 131)])]), NOT_ADROLL),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH, restrictions=[(7, 1, [(130, 130)])]), YES),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH, restrictions=[(2, 0, [(130, 130)])]), YES),
        (tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH, restrictions=[(3, 0, [(20, 20)])]), YES),
    ],
)
def test_purposes_decide_and_a_vendor_needs_consent_disclosure_and_no_restriction(text: str, answer: Answer) -> None:
    """A missing purpose is a no for all; what is missing for AdRoll alone keeps the yes from AdRoll alone."""
    assert Tcf(purposes=NEEDED).answer(text, {}) == answer


def test_a_string_of_2_2_discloses_where_the_shop_says_that_it_does() -> None:
    """Without the segment `disclosed=False` asks for the consent alone; with it, what it says counts all the same."""
    tcf = Tcf(purposes=NEEDED, disclosed=False)

    assert tcf.answer(tc_string(purposes=NEEDED, vendors=BOTH), {}) == YES
    assert tcf.answer(tc_string(purposes=NEEDED, vendors=vendor_field({20})), {}) == NOT_ADROLL
    assert tcf.answer(tc_string(purposes=NEEDED, vendors=BOTH, disclosed=vendor_field({20})), {}) == NOT_ADROLL


def test_each_destination_has_its_own_vendor() -> None:
    """Two AdRoll accounts are one vendor; a destination that is not named needs the purposes alone."""
    vendors = {"adroll-uk": ADROLL, "adroll-de": ADROLL, "rokt": 500}
    text = tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH)

    assert Tcf(purposes=NEEDED, vendors=vendors).answer(text, {}) == Answer(Say.YES, frozenset({"rokt"}))
    assert Tcf(purposes=NEEDED, vendors={}).answer(tc_string(purposes=NEEDED), {}) == YES


GOOD = tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "C",
        "garbage",
        GOOD[:40],
        "B" + GOOD[1:],
        GOOD.replace("A", "+", 1),
        GOOD.replace("A", "/", 1),
        GOOD + " ",
        GOOD + "++++",
        tc_string(purposes=NEEDED, vendors=vendor_field({125}))[:-2],
        GOOD + ".I",
        GOOD + "." + GOOD.partition(".")[2],
        GOOD + ".YAAAAAAAAAA.YAAAAAAAAAA.YAAAAAAAAAA",
        GOOD + "A" * LONGEST_VALUE,
        tc_string(purposes=NEEDED, vendors=vendor_ranges([(200, 100)])),
        tc_string(purposes=NEEDED, vendors=vendor_ranges([(0, 100)])),
        tc_string(purposes=NEEDED, vendors=f"{ADROLL:016b}0111"),
        "\u00e9" * 60,
    ],
)
def test_what_is_no_tc_string_says_nothing_and_covers_no_vendor(text: str) -> None:
    """Cut short, of another version, of other letters, too long: nothing is known, and AdRoll is not covered."""
    assert Tcf(purposes=NEEDED).answer(text, {}) == UNREADABLE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"purposes": ()}, "purposes"),
        ({"purposes": {0}}, "purposes"),
        ({"purposes": {25}}, "purposes"),
        ({"purposes": "1"}, "purposes"),
        ({"purposes": 1}, "purposes"),
        ({"purposes": {True}}, "purposes"),
        ({"purposes": {1}, "vendors": {"adroll": "130"}}, "vendors"),
        ({"purposes": {1}, "vendors": [130]}, "vendors"),
        ({"purposes": {1}, "cookies": "euconsent-v2"}, "cookies"),
        ({"purposes": {1}, "cookies": ()}, "cookies"),
        ({"purposes": {1}, "cookies": ["a b"]}, "cookies"),
    ],
)
def test_what_cannot_be_set_up_is_refused_at_start(settings: dict[str, Any], message: str) -> None:
    """The purposes are the shop's decision: there is no default, and nothing is guessed."""
    with pytest.raises(ConfigurationError, match=message):
        Tcf(**settings)


# ---------------------------------------------------------------- whatever stands in the cookie


@given(st.text(max_size=300) | st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh0123456789-_.=", max_size=400))
def test_no_text_raises(text: str) -> None:
    """Any text is an answer."""
    assert Tcf(purposes=NEEDED).answer(text, {}).say in {Say.YES, Say.NO, Say.UNREADABLE}


@given(
    purposes=st.sets(st.integers(1, 24)),
    ranges=st.lists(st.tuples(st.integers(1, 300), st.integers(0, 60)), max_size=6),
    disclosed=st.none() | st.sets(st.integers(1, 300), max_size=20),
)
def test_what_was_written_is_read(
    purposes: set[int], ranges: list[tuple[int, int]], disclosed: set[int] | None
) -> None:
    """A string in either encoding of vendors comes out as what went in."""
    spans = [(first, first + length) for first, length in ranges]
    named = {vendor for first, last in spans for vendor in range(first, last + 1)}
    segment = None if disclosed is None else vendor_field(disclosed)

    for vendors in (vendor_field(named), vendor_ranges(spans)):
        said = read(tc_string(purposes=purposes, vendors=vendors, disclosed=segment), ALL)

        assert said is not None
        assert said.purposes == purposes
        assert said.vendors == named
        assert said.disclosed == disclosed


def flipped(segment: str) -> Sequence[str]:
    """Return the segment with each of its bits turned, one at a time."""
    bits = bits_of(segment)
    turned = {"0": "1", "1": "0"}
    return [letters(bits[:at] + turned[bits[at]] + bits[at + 1 :]) for at in range(len(bits))]


def test_only_the_bit_of_the_missing_purpose_turns_a_no_into_a_yes() -> None:
    """Of all bits of a string that lacks one purpose, turning any other grants nothing."""
    core, _, disclosed = tc_string(purposes=NEEDED - {4}, vendors=BOTH, disclosed=BOTH).partition(".")
    tcf = Tcf(purposes=NEEDED)

    granting = [at for at, text in enumerate(flipped(core)) if tcf.answer(f"{text}.{disclosed}", {}).say is Say.YES]

    assert granting == [6 + 146 + 4 - 1]


def test_only_the_vendors_own_bit_covers_it() -> None:
    """Of all bits of both segments, turning any but AdRoll's own covers AdRoll, and it needs both."""
    without = vendor_field({20, 900})
    core, _, disclosed = tc_string(purposes=NEEDED, vendors=without, disclosed=without + "").partition(".")
    covered_core = tc_string(purposes=NEEDED, vendors=vendor_field({20, ADROLL, 900}))
    tcf = Tcf(purposes=NEEDED)

    alone = [*(f"{text}.{disclosed}" for text in flipped(core)), *(f"{core}.{text}" for text in flipped(disclosed))]
    both = [at for at, text in enumerate(flipped(disclosed)) if tcf.answer(f"{covered_core}.{text}", {}) == YES]

    assert not [text for text in alone if tcf.answer(text, {}) == YES]
    assert both == [3 + 17 + ADROLL - 1]
