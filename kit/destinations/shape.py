"""The shape of an answer: which fields of which kind, and no value. By it a vendor's change is noticed."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kit.destinations.base import LONGEST_DETAIL, Answer, masked

_DEEPEST = 5
_MOST_FIELDS = 24
#: A longer answer is not looked into: it would take longer than a request.
_LONGEST = 256 * 1024
_NAME = re.compile(r"(?!(?:.*[0-9]){4})[A-Za-z_][A-Za-z0-9_.-]{0,47}")
_KINDS = {str: "text", int: "number", float: "number", bool: "truth", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Shape:
    """`digest` is 16 hex digits of the whole; `sketch` is for people, in one line of at most 300 characters."""

    digest: str
    sketch: str


def shape_of(answer: Answer) -> Shape:
    """Return the shape of a complete answer: of JSON the names and kinds of its fields, of all else what it is."""
    said = _sketch_of(answer)
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return Shape(digest, said if len(said) <= LONGEST_DETAIL else said[: LONGEST_DETAIL - 1] + "…")


def _sketch_of(answer: Answer) -> str:
    if not answer.body.strip():
        return "empty"
    if len(answer.body) > _LONGEST:
        return "long"
    try:
        return _kind(json.loads(answer.body), _DEEPEST)
    except (ValueError, RecursionError):
        return "cut" if answer.cut else "not JSON"


def _kind(value: object, deeper: int) -> str:
    if isinstance(value, Mapping):
        # Names may be somebody's data where a vendor keys an object by them.
        if not deeper or len(value) > _MOST_FIELDS or not all(_NAME.fullmatch(str(name)) for name in value):
            return "{…}"
        fields = sorted(f"{masked(str(name))}: {_kind(each, deeper - 1)}" for name, each in value.items())
        return "{" + ", ".join(fields) + "}"
    if isinstance(value, list):
        # As many as there are is no shape: refused events are listed.
        return "[" + " | ".join(sorted({_kind(each, deeper - 1) for each in value})) + "]" if deeper else "[…]"
    return _KINDS[type(value)]
