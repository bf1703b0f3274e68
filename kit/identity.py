"""Who a person is, as each vendor wants it written: normal forms and digests. Rules only, nothing is kept.

Sources: contracts.md 3.5 and 9.0. A value that has no normal form is None, and None is never hashed, so the digest
of the empty string cannot leave this package.
"""

import hashlib
import hmac
import re
import unicodedata
from typing import Final

#: SHA-256 of nothing: somebody hashed an empty field. It identifies nobody, so it counts as absent.
EMPTY_SHA256: Final = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

_SHA256_HEX = re.compile(r"[0-9a-f]{64}", re.IGNORECASE | re.ASCII)
_ZIP5 = re.compile(r"[0-9]{5}")
_ZIP9 = re.compile(r"[0-9]{5}-[0-9]{4}")
#: What stands in no e-mail address of somebody, but between one and its neighbours in URLs, lists and JSON.
_BETWEEN = r"\s@&=?/#<>(),;:|\\{}\[\]"
#: An address inside of a text, also percent-encoded, once or more. Each run of characters is looked at once.
_ADDRESS = re.compile(
    rf"(?<![^{_BETWEEN}])[^{_BETWEEN}]+(?:@|%(?:25){{0,8}}40)[^{_BETWEEN}%\"']{{0,255}}\.[^\W\d_][^{_BETWEEN}%\"']*"
)
#: A text that is an address, of a host without a dot too.
_ALONE = re.compile(rf"\s*[^{_BETWEEN}]+@[^{_BETWEEN}]+\s*")


def email(text: str) -> str | None:
    """Return the address stripped, NFC and lower-case; None when it cannot be one address."""
    address = unicodedata.normalize("NFC", text).strip().lower()
    local, at, domain = address.partition("@")
    # Without an argument split() parts at every whitespace: in one piece means none.
    if not (local and at and domain) or "@" in domain or len(address.split()) != 1:
        return None
    return address


def holds_address(text: str) -> bool:
    """Return whether the text is an e-mail address, or has one in it, also percent-encoded."""
    if "@" not in text and "%" not in text:
        return False
    return _ADDRESS.search(text) is not None or _ALONE.fullmatch(text) is not None


def without_addresses(text: str) -> str:
    """Return the text with "[email]" for each e-mail address in it."""
    if not holds_address(text):
        return text
    return _ADDRESS.sub("[email]", text) if _ALONE.fullmatch(text) is None else "[email]"


def id_without_address(text: str) -> str:
    """Return an id as it is; the SHA-256 of one with an e-mail address in it, which is as unique and shows nobody."""
    return hashlib.sha256(text.encode()).hexdigest() if holds_address(text) else text


def sha256_digest(text: str) -> str | None:
    """Return a SHA-256 that the text already is, in lower case; None for anything else and for the hash of nothing."""
    digest = text.strip().lower()
    return digest if _SHA256_HEX.fullmatch(digest) and digest != EMPTY_SHA256 else None


def sha256(text: str) -> str:
    """Return the lower-case hex SHA-256 of a normal form; a digest passes through, it is never hashed twice.

    Raises ValueError for a blank text: normalise first, and leave out what has no normal form.
    """
    _refuse_blank(text)
    return sha256_digest(text) or hashlib.sha256(text.encode()).hexdigest()


def md5(text: str) -> str:
    """Return the lower-case hex MD5 of a normal form, as AdRoll's `email_md5` wants it. Blank raises ValueError."""
    _refuse_blank(text)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def email_sha256(text: str | None) -> str | None:
    """Return the digest of the address, or the digest that the text already is; None when it is neither."""
    if text is None:
        return None
    address = email(text)
    return sha256(address) if address else sha256_digest(text)


def phone10(text: str) -> str | None:
    """Return the ten digits of a North American number without its country code; None for any other number."""
    digits = "".join(ch for ch in text if ch in "0123456789")
    if len(digits) == 11 and digits.startswith("1"):
        digits = digits[1:]
    return digits if len(digits) == 10 else None


def compact_name(text: str) -> str | None:
    """Return the name lower-case without any whitespace (Rokt's published rule); None when nothing remains."""
    return "".join(unicodedata.normalize("NFC", text).lower().split()) or None


def spaced_name(text: str) -> str | None:
    """Return the name stripped and lower-case, inner spaces kept (the rule of Rokt's SDK); None when blank."""
    return unicodedata.normalize("NFC", text).strip().lower() or None


def zip5(text: str) -> str | None:
    """Return a five-digit ZIP code (`zipsha256`); None for other forms and countries."""
    return text.strip() if _ZIP5.fullmatch(text.strip()) else None


def zip9(text: str) -> str | None:
    """Return a ZIP+4 code as 12345-6789 (`zip4sha256`); None for other forms and countries."""
    return text.strip() if _ZIP9.fullmatch(text.strip()) else None


def lookup_key(secret: bytes, kind: str, value: str) -> str:
    """Return the key under which the store finds a value without holding it: hex HMAC-SHA256 over kind and value.

    `value` is a normal form already: two spellings of one address have two keys.
    """
    return hmac.digest(secret, f"{kind}\x1f{value}".encode(), "sha256").hex()


def _refuse_blank(text: str) -> None:
    if not text.strip() or text.strip().lower() == EMPTY_SHA256:
        raise ValueError("nothing to hash")
