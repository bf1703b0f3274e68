"""The shape of an answer: it changes with its fields and their kinds, and with nothing that they hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.destinations.base import Answer
from kit.destinations.shape import shape_of

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


def sketch(body: object) -> str:
    return shape_of(Answer(status=200, body=json.dumps(body).encode())).sketch


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"id": 1, "ok": True}, {"ok": False, "id": 2}),
        ({"errors": [{"code": "a"}]}, {"errors": [{"code": "b"}, {"code": "c"}]}),
        ({"value": 1}, {"value": 1.5}),
    ],
)
def test_values_order_and_number_do_not_count(one: object, other: object) -> None:
    """Two answers of the same contract have one shape."""
    assert sketch(one) == sketch(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [({"id": 1}, {"id": "1"}), ({"id": 1}, {"ids": 1}), ({"errors": []}, {"errors": ["a"]}), ({"a": None}, {"a": {}})],
)
def test_names_and_kinds_count(one: object, other: object) -> None:
    """A field that is new, gone, or of another kind is another shape."""
    assert sketch(one) != sketch(other)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(status=204), "empty"),
        (Answer(status=200, body=b" \n"), "empty"),
        (Answer(status=200, body=b"<html>"), "not JSON"),
        (Answer(status=200, body=b'{"a":', cut=True), "cut"),
        (Answer(status=200, body=b"[" * 100_000), "not JSON"),
        (Answer(status=200, body=b'{"data": {"unprocessedRecords": []}}'), "{data: {unprocessedRecords: []}}"),
    ],
)
def test_what_people_read(answer: Answer, said: str) -> None:
    """One short line, whatever came."""
    assert shape_of(answer).sketch == said


@given(JSON)
def test_any_json_has_a_short_shape(body: object) -> None:
    """Of whatever depth and size: at most 300 characters, and a digest of the whole."""
    shape = shape_of(Answer(status=200, body=json.dumps(body).encode()))

    assert len(shape.sketch) <= 300
    assert len(shape.digest) == 16


def test_no_value_is_in_it() -> None:
    """Addresses, names and numbers stay out, also where a vendor keys an object by them."""
    for key in ("jane@example.com", "Jane Doe", "order-10012", "4421"):
        assert sketch({"note": "jane@example.com", "by": {key: "jane@example.com"}}) == "{by: {…}, note: text}"
    assert sketch({f"field_{chr(97 + number)}": 1 for number in range(26)}) == "{…}"


def test_a_very_long_answer_is_not_looked_into() -> None:
    """To take it apart would hold everything else up."""
    assert shape_of(Answer(status=200, body=b"[" + b"1," * 200_000 + b"1]")).sketch == "long"
