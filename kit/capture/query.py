"""Click ids and utm parameters, read from the raw bytes of a query.

kit.js keeps the same rules; tests/capture/vectors.json holds both to them.

Names are literal and case-sensitive; a value is percent-decoded exactly once and `+` stays a plus; of one parameter
the first valid occurrence counts, and of two parameters of one vendor the one that was configured first.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from string import ascii_letters, digits
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

#: A pair that this cut goes through is dropped; what follows it is not looked at.
LONGEST_QUERY = 8_192
MOST_PAIRS = 100
LONGEST_RAW = 3_072

UTM = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "utm_id")
#: A query of these alone has nothing to decode, and its values stand in a cookie or a URL as they are.
_PLAIN = f"{ascii_letters}{digits}_.~+/=:@-&".encode()

# Printable ASCII without space, quotes, comma, semicolon, backslash, angle brackets; and without the braces of a
# macro that the ad platform left unexpanded, such as `{rokt.rclid|}`.
_CLICK = re.compile(rb"[!#-&(-+\--:=?-\[\]-z|~]{1,512}").fullmatch
_ROKT = re.compile(rb"[A-Za-z0-9_.~-]{1,256}").fullmatch
_TEXT = re.compile("[^\\x00-\\x1f\\x7f-\\x9f\u2028\u2029\ud800-\udfff]{1,256}").fullmatch


# No NamedTuple: its fields are read for every pair of a landing, and slots are read faster.
@dataclass(frozen=True, slots=True)
class Watched:
    """A parameter to look for: `vendor` is None for utm; of one vendor the smallest `rank` wins.

    A plain value of at most `plain` bytes is valid as it is; `read` is not asked.
    """

    name: str
    vendor: str | None
    rank: int
    read: Callable[[bytes], str | None]
    plain: int


class Arrival(NamedTuple):
    """What a landing URL carries: click ids by vendor, utm values by parameter, and their pairs as they stood there.

    `plain` says that none of it needs quoting, in a cookie or in a URL.
    """

    clicks: dict[str, str]
    utm: dict[str, str]
    pairs: list[bytes]
    plain: bool = False

    def __repr__(self) -> str:
        return f"Arrival(of {sorted(self.clicks)})"


def watched(click_params: Iterable[tuple[str, str]]) -> dict[bytes, Watched]:
    """Return the parameters to look for, by name: (parameter, vendor) pairs in order of preference, and utm."""
    table = {name.encode(): Watched(name, None, 0, utm_text, 256) for name in UTM}
    for rank, (name, vendor) in enumerate(click_params):
        read_value, plain = (rokt_click, 0) if vendor == "rokt" else (click, 512)
        table[name.encode()] = Watched(name, vendor, rank, read_value, plain)
    return table


def read(query: bytes, table: Mapping[bytes, Watched]) -> Arrival | None:
    """Return what this query carries of the watched parameters, or None: the common case, and nearly free."""
    # One pass in C says for all values at once what a pattern would have to say of each.
    plain = len(query) <= LONGEST_QUERY and not query.translate(None, _PLAIN)
    clicks: dict[str, str] = {}
    ranks: dict[str, int] = {}
    utm: dict[str, str] = {}
    pairs: list[bytes] = []
    for pair in pairs_of(query):
        name, _, raw = pair.partition(b"=")
        seen = table.get(name)
        # Three bytes may stand for one; a longer value cannot be valid and is not decoded.
        if seen is None or not raw or len(raw) > LONGEST_RAW:
            continue
        vendor = seen.vendor
        if (seen.name in utm) if vendor is None else (vendor in ranks and ranks[vendor] <= seen.rank):
            continue
        value = raw.decode() if plain and len(raw) <= seen.plain else _decoded(raw, seen)
        if value is None:
            continue
        pairs.append(pair)
        if vendor is None:
            utm[seen.name] = value
        else:
            clicks[vendor], ranks[vendor] = value, seen.rank
    return Arrival(clicks, utm, pairs, plain) if pairs else None


def _decoded(raw: bytes, seen: Watched) -> str | None:
    if seen.vendor is None:
        return _utm(raw)
    return seen.read(unquote_to_bytes(raw) if b"%" in raw else raw)


# Campaigns are few and their visitors many.
@lru_cache(maxsize=1024)
def _utm(raw: bytes) -> str | None:
    return utm_text(unquote_to_bytes(raw))


def pairs_of(query: bytes) -> list[bytes]:
    """Return the `name=value` pairs of a query, no more than we ever look at."""
    if len(query) > LONGEST_QUERY:
        query = query[:LONGEST_QUERY].rpartition(b"&")[0]
    pairs = query.split(b"&", MOST_PAIRS)
    del pairs[MOST_PAIRS:]
    return pairs


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
    for seen, raw, pair in found:
        vendor = seen.vendor
        if seen.name in utm or (vendor in ranks and ranks[vendor] <= seen.rank):
            continue
        value = seen.read(raw)
        if value is None:
            continue
        pairs.append(pair)
        if vendor is None:
            utm[seen.name] = value
        else:
            clicks[vendor], ranks[vendor] = value, seen.rank
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
