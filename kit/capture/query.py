"""Click ids and utm parameters, read from the raw bytes of a query.

kit.js keeps the same rules; tests/capture/vectors.json holds both to them.

Names are literal and case-sensitive; a value is percent-decoded exactly once and `+` stays a plus; of one parameter
the first valid occurrence counts, and of two parameters of one vendor the one that was configured first.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

#: A pair that this cut goes through is dropped; what follows it is not looked at.
LONGEST_QUERY = 8_192
MOST_PAIRS = 100
LONGEST_RAW = 3_072

UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id")
_UTM_NAMES = {name.encode(): name for name in UTM}
_LONGEST_UTM = len("utm_campaign=") + LONGEST_RAW

# Printable ASCII without space, quotes, comma, semicolon, backslash, angle brackets; and without the braces of a
# macro that the ad platform left unexpanded, such as `{rokt.rclid|}`.
_CLICK = re.compile(rb"[!#-&(-+\--:=?-\[\]-z|~]{1,512}").fullmatch
_ROKT = re.compile(rb"[A-Za-z0-9_.~-]{1,256}").fullmatch
_TEXT = re.compile("[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]{1,256}").fullmatch


class Watched(NamedTuple):
    """A parameter to look for: `vendor` is None for utm; of one vendor the smallest `rank` wins."""

    name: str
    vendor: str | None
    rank: int
    read: Callable[[bytes], str | None]


class Arrival(NamedTuple):
    """What a landing URL carries: click ids by vendor, utm values by parameter, and their pairs as they stood there."""

    clicks: dict[str, str]
    utm: dict[str, str]
    pairs: list[bytes]

    def __repr__(self) -> str:
        return f"Arrival(of {sorted(self.clicks)})"


def watched(click_params: Iterable[tuple[str, str]]) -> dict[bytes, Watched]:
    """Return the parameters to look for, by name: (parameter, vendor) pairs in order of preference, and utm."""
    table = {name.encode(): Watched(name, None, 0, utm_text) for name in UTM}
    for rank, (name, vendor) in enumerate(click_params):
        table[name.encode()] = Watched(name, vendor, rank, rokt_click if vendor == "rokt" else click)
    return table


def read(query: bytes, table: Mapping[bytes, Watched]) -> Arrival | None:
    """Return what this query carries of the watched parameters, or None: the common case, and nearly free."""
    clicks: dict[str, str] = {}
    ranks: dict[str, int] = {}
    utm: dict[str, str] = {}
    pairs: list[bytes] = []
    for pair in pairs_of(query):
        if pair.startswith(b"utm_"):
            campaign = _campaign(pair) if len(pair) <= _LONGEST_UTM else None
            if campaign is not None and campaign[0] not in utm:
                utm[campaign[0]] = campaign[1]
                pairs.append(pair)
            continue
        name, _, raw = pair.partition(b"=")
        seen = table.get(name)
        # Three bytes may stand for one; a longer value cannot be valid and is not decoded.
        if seen is None or not raw or len(raw) > LONGEST_RAW:
            continue
        _, vendor, rank, read_value = seen
        if vendor is not None and (vendor not in ranks or rank < ranks[vendor]):
            value = read_value(unquote_to_bytes(raw) if b"%" in raw else raw)
            if value is not None:
                clicks[vendor], ranks[vendor] = value, rank
                pairs.append(pair)
    return Arrival(clicks, utm, pairs) if pairs else None


# Campaigns are few and their visitors many.
@lru_cache(maxsize=1024)
def _campaign(pair: bytes) -> tuple[str, str] | None:
    """Return a utm pair's name and text, or None when it is none."""
    name, _, raw = pair.partition(b"=")
    if name not in _UTM_NAMES or not 0 < len(raw) <= LONGEST_RAW:
        return None
    text = utm_text(unquote_to_bytes(raw))
    return (_UTM_NAMES[name], text) if text is not None else None


def pairs_of(query: bytes) -> list[bytes]:
    """Return the `name=value` pairs of a query, no more than we ever look at."""
    if len(query) > LONGEST_QUERY:
        query = query[:LONGEST_QUERY].rpartition(b"&")[0]
    return query.split(b"&", MOST_PAIRS)[:MOST_PAIRS]


def from_params(params: Mapping[str, str], table: Mapping[bytes, Watched]) -> Arrival | None:
    """Return what posted parameters carry, by the same rules. Their values are decoded already."""
    found: list[tuple[Watched, bytes, bytes]] = []
    for name, text in list(params.items())[:MOST_PAIRS]:
        seen = table.get(name.encode("utf-8", "surrogatepass"))
        if seen is not None:
            found.append((seen, text.encode("utf-8", "surrogatepass"), b""))
    return arrival(found) if found else None


def arrival(found: Iterable[tuple[Watched, bytes, bytes]]) -> Arrival | None:
    """Return the first valid value of each parameter, and for each vendor the preferred parameter's."""
    clicks: dict[str, str] = {}
    ranks: dict[str, int] = {}
    utm: dict[str, str] = {}
    pairs: list[bytes] = []
    for (name, vendor, rank, read_value), raw, pair in found:
        if name in utm or (vendor in ranks and ranks[vendor] <= rank):
            continue
        value = read_value(raw)
        if value is None:
            continue
        pairs.append(pair)
        if vendor is None:
            utm[name] = value
        else:
            clicks[vendor], ranks[vendor] = value, rank
    return Arrival(clicks, utm, pairs) if pairs else None


def click(value: bytes) -> str | None:
    """Return a click id that can safely stand in a cookie and a request, or None."""
    return value.decode("ascii") if _CLICK(value) else None


def rokt_click(value: bytes) -> str | None:
    """Return a Rokt click id (contracts.md 1.1: never validated as hex), or None."""
    return value.decode("ascii") if _ROKT(value) else None


def utm_text(value: bytes) -> str | None:
    """Return printable text of at most 256 characters, or None; an unexpanded macro is none."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not _TEXT(text) or not text.strip(" ") or (text[0] == "{" and text[-1] == "}"):
        return None
    return text
