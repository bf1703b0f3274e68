"""GPP strings: IAB's own examples, opt-outs in any US section, the TC string within, no yes by accident."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.consent import Gpp, Tcf
from kit.consent.answer import LONGEST_VALUE, Answer, Say
from kit.consent.gpp import sections_of, us_section
from kit.errors import ConfigurationError
from tests.consent.strings import bits_of, gpp_string, letters, tc_string, vendor_field

VECTORS: Any = json.loads((Path(__file__).parent / "vectors.json").read_text())
HEADERS: dict[str, list[int]] = {text: ids for each in VECTORS["headers"] for text, ids in each["strings"].items()}
SECTIONS: list[Any] = VECTORS["us_sections"]["sections"]
#: Where the opt-outs stand, by the specification of each section; two bits each.
OPT_OUTS = {7: (18, 20, 22), 11: (14, 16), 18: (14, 16)}
GPC_SECTIONS = {section["number"] for section in SECTIONS} - {9, 11, 13}


def number(section: Any) -> str:
    return str(section["number"])


def opt_outs(section: int) -> tuple[int, ...]:
    return OPT_OUTS.get(section, (12, 14))


def with_bits(text: str, at: int, bits: str) -> str:
    row = bits_of(text)
    return letters(row[:at] + bits + row[at + len(bits) :])


@pytest.mark.parametrize("text", HEADERS, ids=lambda text: text[:20])
def test_the_header_tells_the_sections_apart(text: str) -> None:
    """The numbers of the sections come out in their order, whichever way the header is padded."""
    sections = sections_of(text)

    assert sections is not None
    assert [section for section, _ in sections] == HEADERS[text]
    assert [part for _, part in sections] == text.split("~")[1:]


@pytest.mark.parametrize("section", SECTIONS, ids=number)
def test_a_us_section_with_opt_outs_is_a_no_and_one_that_does_not_apply_says_nothing(section: Any) -> None:
    """As IAB's encoder writes both for each state."""
    assert us_section(section["number"], section["opted_out"]).say is Say.NO
    assert us_section(section["number"], section["not_applicable"]).say is Say.NOTHING


@pytest.mark.parametrize("section", SECTIONS, ids=number)
def test_each_opt_out_alone_is_a_no(section: Any) -> None:
    """Of sale, of sharing, of targeted advertising: 1 is opted out, 2 is not, 3 is no value."""
    id_, core = section["number"], section["not_applicable"].partition(".")[0]

    for at in opt_outs(id_):
        said = [us_section(id_, with_bits(core, at, bits)).say for bits in ("00", "01", "10", "11")]
        assert said == [Say.NOTHING, Say.NO, Say.IMPLIED, Say.UNREADABLE]


@pytest.mark.parametrize("section", SECTIONS, ids=number)
def test_no_other_bit_of_a_section_opts_out_or_permits(section: Any) -> None:
    """Turning one bit after another of a section that does not apply changes its answer at the opt-outs alone."""
    id_, core = section["number"], section["not_applicable"].partition(".")[0]
    defined = {place for at in opt_outs(id_) for place in (at, at + 1)}

    row = bits_of(core)
    said = {at: us_section(id_, with_bits(core, at, "10"[int(row[at])])).say for at in range(6, len(row))}

    assert {at for at, say in said.items() if say is not Say.NOTHING} == defined


@pytest.mark.parametrize("section", SECTIONS, ids=number)
def test_gpc_within_a_section_is_a_no_where_the_section_has_it(section: Any) -> None:
    """`Y` is the GPC segment with GPC on, `Q` with it off, both with the padding of either encoder."""
    id_, core = section["number"], section["not_applicable"].partition(".")[0]

    said = {us_section(id_, f"{core}.{segment}").say for segment in ("Y", "YA")}

    assert said == ({Say.NO} if id_ in GPC_SECTIONS else {Say.NOTHING})
    assert {us_section(id_, f"{core}.{segment}").say for segment in ("Q", "QA")} == {Say.NOTHING}


def test_not_opted_out_is_permission_that_nobody_gave() -> None:
    """The national section as IAB's test has it: shared data and targeted advertising, not opted out."""
    assert us_section(7, SECTIONS[0]["not_opted_out"]).say is Say.IMPLIED


NEEDED = frozenset({1, 3, 4, 7})
BOTH = vendor_field({20, 130})
EU_YES = tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH)
EU_NOT_ADROLL = tc_string(purposes=NEEDED, vendors=vendor_field({20}), disclosed=BOTH)
EU_NO = tc_string(vendors=BOTH, disclosed=BOTH)
US_OUT, US_IN, US_NOT_APPLICABLE = "BVVVkkkkkpFY.QA", "BVQqAAAACg", "BAAAAAAAAABA.QA"
ADROLL = frozenset({"adroll"})


@pytest.mark.parametrize(
    ("sections", "answer"),
    [
        ({7: US_OUT}, Answer(Say.NO)),
        ({7: US_IN}, Answer(Say.IMPLIED)),
        ({7: US_NOT_APPLICABLE}, Answer(Say.NOTHING)),
        ({6: "1YYN"}, Answer(Say.NO)),
        ({6: "1YNN"}, Answer(Say.IMPLIED)),
        ({6: "1---"}, Answer(Say.NOTHING)),
        ({6: "2YNN"}, Answer(Say.UNREADABLE)),
        ({2: EU_YES}, Answer(Say.YES)),
        ({2: EU_NOT_ADROLL}, Answer(Say.YES, ADROLL)),
        ({2: EU_NO}, Answer(Say.NO)),
        ({2: "broken"}, Answer(Say.UNREADABLE, ADROLL)),
        ({2: EU_YES, 7: US_OUT}, Answer(Say.NO)),
        ({2: EU_NO, 7: US_IN}, Answer(Say.NO)),
        ({2: EU_YES, 7: US_IN}, Answer(Say.YES)),
        ({2: EU_YES, 7: "broken"}, Answer(Say.UNREADABLE)),
        ({2: "broken", 7: US_OUT}, Answer(Say.NO, ADROLL)),
        ({7: US_IN, 24: "BQAA"}, Answer(Say.UNREADABLE)),
        ({7: US_OUT, 24: "BQAA"}, Answer(Say.NO)),
        ({5: "BPXuQIAPXuQIAAfKABENB-CgAAAAAAAAAAAAAAAA"}, Answer(Say.NOTHING)),
        ({}, Answer(Say.NOTHING)),
    ],
)
def test_one_no_in_a_string_is_a_no_and_one_unreadable_section_is_no_yes(
    sections: dict[int, str], answer: Answer
) -> None:
    """A no anywhere counts; a yes only where every section that is read can be read."""
    text = gpp_string(sections)

    assert Gpp(tcf=Tcf(purposes=NEEDED)).answer(text, {}) == answer
    assert Gpp(tcf=Tcf(purposes=NEEDED)).answer(text.replace("~", "%7E"), {}) == answer


def test_the_eu_section_is_read_only_for_whom_asks_for_it() -> None:
    """Without `tcf` it says neither yes nor no."""
    assert Gpp().answer(gpp_string({2: EU_NO}), {}).say is Say.NOTHING
    assert Gpp().answer(gpp_string({2: EU_YES, 7: US_IN}), {}).say is Say.IMPLIED


@given(st.sets(st.integers(1, 60), max_size=12))
def test_what_was_written_into_a_header_is_read(numbers: set[int]) -> None:
    """Any sections come out in their order."""
    sections = {number: f"section{number}" for number in numbers}

    assert dict(sections_of(gpp_string(sections)) or ()) == sections


@pytest.mark.parametrize(
    "text",
    [
        "",
        "D",
        "1YNN",
        EU_YES,
        "DBABLA",
        f"DBABLA~{US_OUT}~{US_OUT}",
        f"CBABLA~{US_OUT}",
        f"DCABLA~{US_OUT}",
        "D" * 60 + f"~{US_OUT}",
        letters("000011000001" + "111111111111" + "011" * 200),
        letters("000011000001" + "000000000001" + "1" + "11" + "000000000000000011"),
        letters("000011000001" + "000000000001" + "0" * 600) + "~1YNN",
        f"DBABLA~{US_OUT}" + "A" * LONGEST_VALUE,
    ],
)
def test_what_is_no_gpp_string_says_nothing_and_covers_no_vendor(text: str) -> None:
    """Another version, sections that are not there or not announced, ranges without end."""
    assert Gpp(tcf=Tcf(purposes=NEEDED)).answer(text, {}) == Answer(Say.UNREADABLE, ADROLL)


def test_another_version_of_a_section_is_not_guessed_at() -> None:
    """A layout that is not known may have its opt-outs elsewhere; the national section has two that are."""
    version = {id_: letters(f"{id_:06b}") + US_OUT[1:] for id_ in (0, 1, 2, 3)}

    assert [us_section(7, version[id_]).say for id_ in (0, 1, 2, 3)] == [Say.UNREADABLE, Say.NO, Say.NO, Say.UNREADABLE]
    assert us_section(8, version[2]).say is Say.UNREADABLE
    assert us_section(28, version[1]).say is Say.UNREADABLE


def test_a_list_of_cookies_must_be_one() -> None:
    """One string would be read letter by letter."""
    with pytest.raises(ConfigurationError, match=r"Gpp\(cookies"):
        Gpp(cookies="__gpp")


@given(st.text(max_size=200) | st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef0123456789-_.~YN%", max_size=300))
def test_no_text_raises_or_grants(text: str) -> None:
    """Any text is an answer, and none that hypothesis finds is a yes."""
    assert Gpp(tcf=Tcf(purposes=NEEDED)).answer(text, {}).say is not Say.YES


@given(st.text("ABYQ-_.9", max_size=12))
def test_what_follows_an_opt_out_does_not_take_it_back(tail: str) -> None:
    """A refusing section with anything behind it is a no, or cannot be read."""
    assert Gpp().answer(f"DBABLA~{US_OUT}{tail}", {}).say in {Say.NO, Say.UNREADABLE}
