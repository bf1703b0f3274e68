"""Builds each static/*.min.js and its source map from its source: `python -m tests.web.minified`, or `make kit.js`."""

import json
import re
from difflib import SequenceMatcher
from pathlib import Path
from typing import NamedTuple

import minify

STATIC = Path(__file__).parents[2] / "static"
NAMES = ("kit", "kit.pixels")

_WORD = re.compile(r'//[^\n]*|"(?:[^"\\\n]|\\.)*"|[A-Za-z_$][\w$]{3,}')
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class Files(NamedTuple):
    """A script's source, what it is built to, and the map from that back to it."""

    source: Path
    built: Path
    map: Path


def files(name: str) -> Files:
    return Files(STATIC / f"{name}.js", STATIC / f"{name}.min.js", STATIC / f"{name}.min.js.map")


class Word(NamedTuple):
    """What the minifier leaves as it is, a text or a long name, and where it stands; both counted from 0."""

    text: str
    line: int
    column: int


def built(name: str) -> tuple[str, str]:
    """Return the minified script, and its source map as JSON."""
    paths = files(name)
    source = paths.source.read_text()
    script = minify.string("application/javascript", source)
    mappings = _mappings(_words(source), _words(script))
    told = {"version": 3, "file": paths.built.name, "sources": [paths.source.name], "names": [], "mappings": mappings}
    return script, json.dumps(told) + "\n"


def _words(text: str) -> list[Word]:
    found = []
    for match in _WORD.finditer(text):
        if not match.group().startswith("//"):
            begin = match.start()
            found.append(Word(match.group(), text.count("\n", 0, begin), begin - text.rfind("\n", 0, begin) - 1))
    return found


def _mappings(source: list[Word], script: list[Word]) -> str:
    """Return the map's segments: the minifier writes no map, so the words that stand in both are matched in order."""
    alike = SequenceMatcher(None, [word.text for word in source], [word.text for word in script], autojunk=False)
    lines: list[list[str]] = [[]]
    before = 0, 0, 0
    for block in alike.get_matching_blocks():
        for offset in range(block.size):
            origin, word = source[block.a + offset], script[block.b + offset]
            while len(lines) <= word.line:
                lines.append([])
                before = 0, *before[1:]
            here = word.column, origin.line, origin.column
            column, *place = (now - then for now, then in zip(here, before, strict=True))
            lines[-1].append("".join(map(_vlq, (column, 0, *place))))
            before = here
    return ";".join(map(",".join, lines))


def _vlq(number: int) -> str:
    rest = -number << 1 | 1 if number < 0 else number << 1
    digits = ""
    while True:
        digit, rest = rest & 31, rest >> 5
        digits += _BASE64[digit | (32 if rest else 0)]
        if not rest:
            return digits


if __name__ == "__main__":
    for name in NAMES:
        for path, text in zip(files(name)[1:], built(name), strict=True):
            path.write_text(text)
