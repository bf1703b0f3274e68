"""Click ids and utm out of a raw query: the vectors that kit.js shares, and what no query may do."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.capture import query
from kit.capture.rules import FOREIGN_CLICKS, OWN_CLICKS

FILE: Any = json.loads((Path(__file__).parent / "vectors.json").read_text())
TABLE = query.watched(tuple((name, vendor) for name, vendor in FILE["params"]))


def test_the_shared_file_lists_the_parameters_that_are_watched_by_default() -> None:
    """kit.js and the server watch the same parameters, in the same order of preference."""
    assert [tuple(pair) for pair in FILE["params"]] == list(OWN_CLICKS + FOREIGN_CLICKS)


@pytest.mark.parametrize("vector", FILE["vectors"], ids=lambda vector: vector["query"][:50] or "empty")
def test_a_query_gives_what_the_shared_vector_says(vector: Any) -> None:
    """Both languages read the same click ids and utm values out of one query."""
    found = query.read(vector["query"].encode(), TABLE)

    assert (found.clicks if found else {}) == vector["clicks"]
    assert (found.utm if found else {}) == vector["utm"]


@pytest.mark.parametrize("vector", FILE["generated"], ids=lambda vector: f"{vector['about']}, {vector['times']}")
def test_the_limits_stand_where_the_shared_vector_says(vector: Any) -> None:
    """Both languages draw the limits at the same place."""
    text = vector["prefix"] + vector["repeat"] * vector["times"] + vector.get("suffix", "")

    assert (query.read(text.encode(), TABLE) is not None) is vector["found"]


def test_posted_parameters_keep_to_the_rules_of_a_query() -> None:
    """What kit.js posts is checked like a query, but is not decoded again."""
    found = query.from_params(
        {"adct": "a%2Bb", "rtid": "bad id", "utm_source": "Été", "x": "y", "gclid": "\ud800"}, TABLE
    )

    assert found is not None
    assert (found.clicks, found.utm) == ({"adroll": "a%2Bb"}, {"utm_source": "Été"})


@given(st.binary(max_size=300))
def test_whatever_stands_in_a_query_a_click_id_is_safe_in_a_header(raw: bytes) -> None:
    """No value that is taken holds CR, LF, NUL, quotes, a semicolon, a comma or anything beyond ASCII."""
    found = query.read(b"adct=" + raw, TABLE)

    for value in found.clicks.values() if found else ():
        assert value.isascii()
        assert value.isprintable()
        assert not set(value) & set(" \"',;\\<>{}")


def test_a_repr_shows_no_click() -> None:
    """A click id does not reach a log by way of a repr."""
    assert "secret" not in repr(query.read(b"adct=secret", TABLE))
