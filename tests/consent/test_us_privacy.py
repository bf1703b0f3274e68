"""The US Privacy string: four letters, of which the third is the visitor's."""

import json
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.consent import UsPrivacy
from kit.consent.answer import Say

VECTORS: Any = json.loads((Path(__file__).parent / "vectors.json").read_text())["us_privacy"]["strings"]
STRINGS = ["1" + "".join(letters) for letters in product("YN-", repeat=3)]


@pytest.mark.parametrize("text", VECTORS)
def test_the_specifications_own_examples(text: str) -> None:
    """Opted out is a no; not opted out after notice is permission that nobody gave; the rest says nothing."""
    assert UsPrivacy().answer(text, {}).say is Say(VECTORS[text])


def test_of_all_strings_only_those_that_opt_out_are_a_no() -> None:
    """Y stands third in each no; permission needs notice given, and N third."""
    said = {text: UsPrivacy().answer(text, {}).say for text in STRINGS}

    assert {text for text, say in said.items() if say is Say.NO} == {text for text in STRINGS if text[2] == "Y"}
    assert {text for text, say in said.items() if say is Say.IMPLIED} == {"1YNY", "1YNN", "1YN-"}


@pytest.mark.parametrize("text", ["", "1", "1YN", "1YNNN", "2YNN", "1ynn", "1YXN", " 1YNN", "1YNN\n"])
def test_anything_else_is_no_us_privacy_string(text: str) -> None:
    """Neither shorter nor longer, nor of another version, nor in small letters."""
    assert UsPrivacy().answer(text, {}).say is Say.UNREADABLE


@given(st.text())
def test_no_text_raises_or_grants(text: str) -> None:
    """Any text is an answer, and never a visitor's yes."""
    assert UsPrivacy().answer(text, {}).say is not Say.YES
