"""The visitor cookie: our own, signed and HttpOnly. It carries the visitor id, the newest clicks, first and last touch.

    1<22: visitor id><10: issued><10: born>!c<vendor>*<value>*<time> … !l<touch> !f<touch> . <signature>

Times are epoch seconds in 10 digits. The issue time stands at a fixed place, so that an ordinary page view sees that
nothing is due without a signature check. A touch is `<time>*<clicks>*<utm>`; in it a click that is also the vendor's
newest is its vendor's name alone, and `!f` alone says that the first touch is the last one. What may be in a value is
percent-encoded to characters that stand in a cookie without quotes.
"""

import os
import re
from binascii import b2a_base64
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple
from urllib.parse import quote, unquote

from kit.capture.query import UTM, Arrival
from kit.capture.signature import OVERHEAD, URL_SAFE, Signature
from kit.model import ClickId, Touchpoint, Visitor, VisitorId

LONGEST = 1_024
"""Bytes of the whole value, signature included."""

SALT = b"kit.visitor"
DAY = 86_400
#: Clocks of two web servers may differ by this much, in seconds.
SKEW = 300

_VERSION = "1"
ISSUED = slice(23, 33)
_BORN = slice(33, 43)
_HEAD = 43
_ID = re.compile(r"[A-Za-z0-9_-]{22}").fullmatch
_SAFE = re.compile(r"[A-Za-z0-9_.~+/=:@-]*").fullmatch
_UTM_LETTERS = dict(zip(UTM, "smctni", strict=True))
_UTM_NAMES = {letter: name for name, letter in _UTM_LETTERS.items()}
#: Who is kept first when the cookie is full; the store has the rest.
_FIRST_KEPT = ("adroll", "rokt")
_CLICKED_AT = attrgetter("clicked_at")


Place = tuple[str | None, str | None, str | None]
"""Cleaned URL and referrer, and the User-Agent."""


def nowhere() -> Place:
    return None, None, None


class VisitorCookie(NamedTuple):
    """What the cookie says. `clicks` holds the newest click of each vendor; times are whole seconds."""

    id: VisitorId
    issued_at: int
    born_at: int
    clicks: tuple[ClickId, ...] = ()
    first: Touchpoint | None = None
    last: Touchpoint | None = None

    def visitor(self) -> Visitor:
        return Visitor(
            id=self.id,
            issued_at=moment(self.issued_at),
            first_touch=self.first,
            last_touch=self.last,
            click_ids=self.clicks,
        )


# Requests of the same second share it: to make one costs as much as to sign.
@lru_cache(maxsize=256)
def moment(seconds: int) -> datetime:
    """Return this epoch second as an aware datetime."""
    return datetime.fromtimestamp(seconds, UTC)


@lru_cache(maxsize=256)
def _stamp(seconds: int) -> str:
    return f"{seconds:010d}"


def mint(now: int, random: Callable[[int], bytes] = os.urandom) -> VisitorCookie:
    """Return a new visitor."""
    return VisitorCookie(minted_id(random(16)), now, now)


def minted_id(bits: bytes) -> VisitorId:
    """Return the id that these 128 random bits (16 bytes) make."""
    return VisitorId(b2a_base64(bits).translate(URL_SAFE)[:22].decode("ascii"))


def touched(
    cookie: VisitorCookie, arrival: Arrival, at: datetime, place: Callable[[], Place] = nowhere
) -> Touchpoint | None:
    """Return the touch that this arrival is, or None when it tells nothing new: a reload, a way back.

    A click that is known keeps its time; `place` is asked for what the cookie has no room for. An arrival without
    clicks is new when its utm differs from the last touch's.
    """
    known = {click.vendor: click for click in cookie.clicks} if cookie.clicks else {}
    clicks = []
    new = False
    for vendor, value in arrival.clicks.items():
        old = known.get(vendor)
        if old is not None and old.value == value:
            clicks.append(old)
        else:
            new = True
            clicks.append(ClickId(vendor, value, at, cookie.id))
    if not new and (clicks or (cookie.last is not None and cookie.last.utm == arrival.utm)):
        return None
    url, referrer, user_agent = place()
    return Touchpoint(
        at=at, click_ids=tuple(clicks), utm=arrival.utm, url=url, referrer=referrer, user_agent=user_agent
    )


def with_touch(cookie: VisitorCookie, touch: Touchpoint) -> VisitorCookie:
    """Return the cookie after this touch: it is the last one, its clicks replace their vendors' older ones."""
    clicks = touch.click_ids
    if cookie.clicks:
        replaced = {click.vendor for click in clicks}
        clicks += tuple(click for click in cookie.clicks if click.vendor not in replaced)
    return VisitorCookie(cookie.id, cookie.issued_at, cookie.born_at, clicks, cookie.first or touch, touch)


def is_due(issued: int, now: float) -> bool:
    """Return whether a cookie of this issue time is to be issued again: a day old, or from the future."""
    return not now - DAY < issued <= now + SKEW


def token(cookie: VisitorCookie, signature: Signature, *, now: int) -> bytes:
    """Return the signed value, issued now, at most `LONGEST` bytes: what matters most, then what else fits."""
    head = f"{_VERSION}{cookie.id}{now:010d}{cookie.born_at:010d}"
    records = _records(cookie)
    text = head + "".join(records)
    if len(text) > LONGEST - OVERHEAD:
        text = _fitting(head, records)
    return signature.signed(text.encode("ascii"))


def first_token(visitor: VisitorId, arrival: Arrival | None, signature: Signature, *, now: int) -> bytes:
    """Return what `token` writes for a visitor minted now, straight from what its landing carried."""
    stamp = _stamp(now)
    text = head = f"{_VERSION}{visitor}{stamp}{stamp}"
    if arrival is not None:
        records = _first_records(arrival, stamp)
        text = head + "".join(records)
        if len(text) > LONGEST - OVERHEAD:
            text = _fitting(head, records)
    return signature.signed(text.encode("ascii"))


def opened(token_value: bytes, signature: Signature) -> VisitorCookie | None:
    """Return what a token of ours says, or None for everything else: too long, forged, cut, another version."""
    if len(token_value) > LONGEST:
        return None
    payload = signature.verified(token_value)
    if payload is None:
        return None
    try:
        return _decoded(payload.decode("ascii"))
    except (ValueError, LookupError, OverflowError):
        # Signed by us, and yet unreadable: another version of this file wrote it.
        return None


# ---------------------------------------------------------------- the text


def _fitting(head: str, records: Iterable[str]) -> str:
    for record in records:
        if len(head) + len(record) <= LONGEST - OVERHEAD:
            head += record
    return head


def _records(cookie: VisitorCookie) -> list[str]:
    """Return the cookie's records, the one to keep first first; of the other vendors the newest click first."""
    newest = {click.vendor: click for click in cookie.clicks}
    first, last = cookie.first, cookie.last
    # Those of a first landing are all of one time.
    clicks = cookie.clicks if first is last else sorted(cookie.clicks, key=_CLICKED_AT, reverse=True)
    texts = {click.vendor: "!c" + _click_text(click, "*") for click in clicks}
    records = [texts.pop(vendor) for vendor in _FIRST_KEPT if vendor in texts]
    if last is not None:
        records.append("!l" + _touch_text(last, newest))
    if first is not None:
        records.append("!f" if first is last or first == last else "!f" + _touch_text(first, newest))
    return records + list(texts.values())


def _first_records(arrival: Arrival, now: str) -> list[str]:
    """Return `_records` of a visitor's only touch: all clicks are of now, and the last touch is the first."""
    records: list[str] = []
    rest = ["!f"]
    plain = arrival.plain
    for vendor, value in arrival.clicks.items():
        record = f"!c{_name(vendor)}*{value if plain else _quoted(value)}*{now}"
        if vendor not in _FIRST_KEPT:
            rest.append(record)
        elif vendor == _FIRST_KEPT[0]:
            records.insert(0, record)
        else:
            records.append(record)
    records.append(f"!l{now}{_first_touch_text(tuple(arrival.clicks), tuple(arrival.utm.items()))}")
    return records + rest


def _touch_text(touch: Touchpoint, newest: dict[str, ClickId]) -> str:
    clicks = []
    for click in touch.click_ids:
        known = newest.get(click.vendor)
        clicks.append(_name(click.vendor) if known is click or known == click else _click_text(click, "$"))
    return f"{_seconds(touch.at)}*{'|'.join(clicks)}*{_utm_text(tuple(touch.utm.items()))}"


def _click_text(click: ClickId, by: str) -> str:
    value = click.value
    return f"{_name(click.vendor)}{by}{value if _SAFE(value) else _quoted(value)}{by}{_seconds(click.clicked_at)}"


def _quoted(text: str) -> str:
    return text if _SAFE(text) else quote(text, safe="+/=:@")


_name = lru_cache(maxsize=64)(_quoted)


# Campaigns are few and their visitors many.
@lru_cache(maxsize=1024)
def _first_touch_text(vendors: tuple[str, ...], utm: tuple[tuple[str, str], ...]) -> str:
    """Return `_touch_text` without its time, where every click is its vendor's newest."""
    return f"*{'|'.join([_name(vendor) for vendor in vendors])}*{_utm_text(utm)}"


@lru_cache(maxsize=1024)
def _utm_text(utm: tuple[tuple[str, str], ...]) -> str:
    return "|".join([_UTM_LETTERS[name] + _quoted(value) for name, value in utm])


@lru_cache(maxsize=256)
def _seconds(at: datetime) -> int:
    return int(at.timestamp())


def _time(text: str) -> datetime:
    return moment(int(text))


def _decoded(text: str) -> VisitorCookie:
    if text[0] != _VERSION or not _ID(text[1:23]):
        raise ValueError("not this version")
    records = text[_HEAD:].split("!")[1:]
    visitor_id = VisitorId(text[1:23])
    found = [_click_of(record[1:], visitor_id) for record in records if record[0] == "c"]
    clicks = {click.vendor: click for click in found}
    touches: dict[str, Touchpoint | None] = {"l": None, "f": None}
    for record in records:
        if record[0] in touches:
            touches[record[0]] = _touch_of(record[1:], clicks, visitor_id) if len(record) > 1 else touches["l"]
    return VisitorCookie(
        visitor_id, int(text[ISSUED]), int(text[_BORN]), tuple(clicks.values()), touches["f"], touches["l"]
    )


def _click_of(body: str, visitor: VisitorId) -> ClickId:
    vendor, value, at = body.split("*")
    return ClickId(unquote(vendor), unquote(value), _time(at), visitor)


def _touch_of(body: str, newest: dict[str, ClickId], visitor: VisitorId) -> Touchpoint:
    at, clicks, utm = body.split("*")
    return Touchpoint(
        at=_time(at),
        click_ids=tuple(_clicks_of(clicks, newest, visitor)),
        utm={_UTM_NAMES[pair[0]]: unquote(pair[1:]) for pair in utm.split("|") if pair},
    )


def _clicks_of(text: str, newest: dict[str, ClickId], visitor: VisitorId) -> Iterator[ClickId]:
    for part in text.split("|") if text else ():
        vendor, _, rest = part.partition("$")
        if rest:
            value, _, at = rest.partition("$")
            yield ClickId(unquote(vendor), unquote(value), _time(at), visitor)
        elif unquote(vendor) in newest:  # else its own record found no room
            yield newest[unquote(vendor)]
