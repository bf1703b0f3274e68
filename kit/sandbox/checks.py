"""Checks of one field, written from the vendors' pages and shared with nothing that sends: a second opinion."""

import hashlib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from kit.money import MINOR_DIGITS
from kit.sandbox.record import Refusal

#: SHA-256 of the empty string: a hash of nobody.
NOBODY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
_NOBODY_MD5 = "d41d8cd98f00b204e9800998ecf8427e"

#: Epoch seconds reach this in the year 5138; a larger number was given in milliseconds.
_MILLISECONDS = 100_000_000_000

_HUGE = 10**18

_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?\Z")
_HEX_64 = re.compile(r"[0-9a-fA-F]{64}\Z")
_HEX_32 = re.compile(r"[0-9a-f]{32}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.IGNORECASE)

Holds = Callable[[object], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """One field's promise. `words` end the sentence "<field> …"; `soft` is Refusal's."""

    field: str
    holds: Holds
    words: str
    required: bool = False
    soft: bool = False


def broken(rules: Iterable[Rule], found: Mapping[str, object], *, event: int, at: str = "") -> Iterator[Refusal]:
    """Yield a refusal for each rule that these fields break. A field that is null counts as given."""
    for rule in rules:
        if rule.field not in found:
            if rule.required:
                yield Refusal(field=at + rule.field, message="is required", event=event, soft=rule.soft)
        elif not rule.holds(found[rule.field]):
            yield Refusal(field=at + rule.field, message=rule.words, event=event, soft=rule.soft)


def sorted_out(found: Iterable[Refusal], *, strict: bool) -> tuple[tuple[Refusal, ...], tuple[str, ...]]:
    """Return what is refused, and in words what is only warned of because the vendor is lenient."""
    refused, warned = [], []
    for refusal in found:
        if refusal.soft and not strict:
            warned.append(f"{refusal.field} {refusal.message}")
        else:
            refused.append(refusal)
    return tuple(refused), tuple(warned)


def kind_problems(headers: Mapping[str, str]) -> Iterator[Refusal]:
    """Yield a soft refusal for a body that says it is something else than JSON; one that says nothing is read."""
    kind = headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json":
        yield Refusal(field="Content-Type", message="is not application/json", soft=True)


def phrase(status: int) -> str:
    """Return the standard words of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return f"HTTP {status}"


def text(shortest: int, longest: int) -> Holds:
    """Return a check for a string of that many characters."""
    return lambda value: isinstance(value, str) and shortest <= len(value) <= longest


def one_of(names: Iterable[str]) -> Holds:
    known = frozenset(names)
    return lambda value: isinstance(value, str) and value in known


def unknown(
    found: Mapping[str, object], known: Iterable[str], words: str, *, event: int, at: str = ""
) -> Iterator[Refusal]:
    """Yield a soft refusal for each field that is not known."""
    for name in sorted(set(found) - set(known)):
        yield Refusal(field=(at + name)[:64], message=words, event=event, soft=True)


def pattern(expression: str) -> Holds:
    compiled = re.compile(expression)
    return lambda value: isinstance(value, str) and compiled.fullmatch(value) is not None


def digest_of(email: str) -> str:
    """Return the SHA-256 digest by which vendors know an address: its spaces gone, in lower case."""
    return hashlib.sha256("".join(email.split()).lower().encode()).hexdigest()


def is_object(value: object) -> bool:
    return isinstance(value, dict)


def is_list(value: object) -> bool:
    return isinstance(value, list)


def is_decimal_text(value: object) -> bool:
    return isinstance(value, str) and _DECIMAL.match(value) is not None


def is_number(value: object) -> bool:
    """Return whether this is a number that a vendor's own types can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _HUGE


def is_decimal(value: object) -> bool:
    return is_number(value) or is_decimal_text(value)


def is_amount(value: object) -> bool:
    """Return whether this is a decimal, as text or number, that is not negative."""
    return is_decimal(value) and float(str(value)) >= 0


def is_epoch_seconds(value: object) -> bool:
    """Return whether this is a time in UTC epoch seconds, as a number or as its text, and not in milliseconds."""
    return is_decimal(value) and 0 <= float(str(value)) < _MILLISECONDS


def is_whole_epoch_seconds(value: object) -> bool:
    return is_epoch_seconds(value) and not isinstance(value, float) and "." not in str(value)


def is_currency(value: object) -> bool:
    return isinstance(value, str) and value in MINOR_DIGITS


def is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def is_count_text(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isdecimal()


def is_url(value: object) -> bool:
    if not isinstance(value, str) or any(ch.isspace() for ch in value):
        return False
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def is_ip(value: object) -> bool:
    try:
        ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return True


def is_email(value: object) -> bool:
    """Return whether this has the shape of one address, without space; its case is not looked at."""
    if not isinstance(value, str) or any(ch.isspace() for ch in value):
        return False
    local, _, domain = value.partition("@")
    return bool(local) and bool(domain) and "@" not in domain


def is_clean_email(value: object) -> bool:
    return is_email(value) and isinstance(value, str) and value == value.lower()


def is_sha256(value: object) -> bool:
    """Return whether this is a SHA-256 digest in hex, in any case, and not the digest of nothing."""
    return isinstance(value, str) and _HEX_64.match(value) is not None and value.lower() != NOBODY


def is_lower_sha256(value: object) -> bool:
    return is_sha256(value) and value == str(value).lower()


def is_md5(value: object) -> bool:
    """Return whether this is an MD5 digest in lower-case hex, and not the digest of nothing."""
    return isinstance(value, str) and _HEX_32.match(value) is not None and value != _NOBODY_MD5


def is_uuid(value: object) -> bool:
    return isinstance(value, str) and _UUID.match(value) is not None


def is_scalar(value: object) -> bool:
    return isinstance(value, (str, bool)) or is_number(value)
