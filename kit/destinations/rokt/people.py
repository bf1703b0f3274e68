"""People on a list: addresses and SHA-256 digests, told apart; what is neither is refused with its reason."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from kit import identity
from kit.errors import InvalidInput

#: Why somebody is refused, in words. MD5: contracts.md 10.11.
REFUSALS = {
    "blank": "blank",
    "md5": "an MD5 digest, which Rokt does not take; pass the address or its SHA-256",
    "empty_digest": "the SHA-256 of nothing",
    "no_address": "neither one e-mail address nor a SHA-256 digest",
}

_MD5_HEX = re.compile(r"[0-9a-f]{32}", re.IGNORECASE | re.ASCII)
_LONGEST = 254


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody by the normalised address, or by the lower-case digest of it."""

    kind: Literal["email", "sha256"]
    value: str = field(repr=False)

    @property
    def digest(self) -> str:
        return identity.sha256(self.value)


def person(text: str) -> Person | str:
    """Return whom the text names, or why it names nobody: a key of REFUSALS. Raises InvalidInput for no text at all."""
    if not isinstance(text, str):
        raise InvalidInput("members", f"hold a {type(text).__name__}; pass strings")
    address = identity.email(text)
    if address is not None and _is_plain(address):
        return Person("email", address)
    digest = identity.sha256_digest(text)
    return Person("sha256", digest) if digest is not None else _refusal(text.strip())


def in_words(refused: Mapping[str, int]) -> str:
    """Return how many were refused for which reason, for people."""
    return ", ".join(f"{number:,} × {REFUSALS[reason]}" for reason, number in refused.items())


def _is_plain(address: str) -> bool:
    # What stands for bytes that could not be read is printable, and nobody's address.
    return len(address) <= _LONGEST and address.isprintable() and "\ufffd" not in address


def _refusal(text: str) -> str:
    if not text:
        return "blank"
    if _MD5_HEX.fullmatch(text):
        return "md5"
    return "empty_digest" if text.lower() == identity.EMPTY_SHA256 else "no_address"
