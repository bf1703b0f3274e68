"""What identifies a person, in the form that Rokt takes: hashed, in clear, or not at all (contracts.md 3.5)."""

from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Literal

from kit import identity
from kit.destinations.rokt.credentials import check_word
from kit.errors import ConfigurationError

Hashing = Literal["strict", "hightouch", "raw"] | Set[str]

_Forms = tuple[tuple[str, Callable[[str], str | None]], ...]

_ZIP: _Forms = (("zipsha256", identity.zip5), ("zip4sha256", identity.zip9))


def _forms(name_rule: Callable[[str], str | None]) -> Mapping[str, _Forms]:
    """Return for each name that can be hashed the hashed names with the normal form that each is made of."""
    return {
        "email": (("emailsha256", identity.email),),
        "mobile": (("mobilesha256", identity.phone10),),
        "firstname": (("firstnamesha256", name_rule),),
        "lastname": (("lastnamesha256", name_rule),),
        "zipcode": _ZIP,
        "billingzipcode": tuple((f"billing{name}", rule) for name, rule in _ZIP),
        # Rokt publishes neither a rule nor a name for it; the name is what its SDK would make.
        "ipaddress": (("ipaddresssha256", lambda text: text.strip() or None),),
    }


_BY_NAMES = {"compact": _forms(identity.compact_name), "spaced": _forms(identity.spaced_name)}
_HASHABLE = frozenset(_BY_NAMES["compact"])
PRESETS: Mapping[str, frozenset[str]] = {
    "strict": _HASHABLE - {"ipaddress"},
    "hightouch": frozenset({"mobile", "firstname", "lastname", "ipaddress"}),
    "raw": frozenset(),
}
#: They identify a person, and Rokt takes them in clear only.
_CLEAR_ONLY = frozenset("dob unitno address1 address2 billingaddress1 billingaddress2".split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Privacy:
    """Decides for each name that identifies somebody whether it is hashed (`hashed`), withheld, or sent in clear."""

    hashed: frozenset[str]
    withheld: frozenset[str]
    names: Literal["compact", "spaced"] = "compact"

    def email(self, text: str | None) -> tuple[str, str] | None:
        """Return the name and value of the e-mail identifier; None when there is none that is usable."""
        if not text:
            return None
        address = identity.email(text)
        if address and "email" not in self.hashed:
            return "email", address
        digest = identity.email_sha256(text)
        return ("emailsha256", digest) if digest else None

    def told(self, name: str, text: str) -> tuple[str, str] | None:
        """Return the name and value under which a person's field is sent; None when it is not."""
        if name in self.withheld or text.strip().lower() == identity.EMPTY_SHA256:
            return None
        forms = _BY_NAMES[self.names].get(name)
        digest = identity.sha256_digest(text)
        if forms is None or (name not in self.hashed and not digest):
            return None if self.shows_address(text) else (name, text)
        return (forms[0][0], digest) if digest else next(_digests(forms, text), None)

    def hides_mobile(self, text: str) -> bool:
        """Return whether a phone number is left out, because it is hashed and has not the form for that."""
        return "mobile" in self.hashed and not (identity.phone10(text) or identity.sha256_digest(text))

    def shows_address(self, text: str) -> bool:
        """Return whether the text holds an e-mail address in clear, where those are hashed."""
        return "email" in self.hashed and identity.holds_address(text)

    def prose(self, text: str) -> str:
        """Return a text for people to read, an address in it masked where those are hashed."""
        return identity.without_addresses(text) if "email" in self.hashed else text

    def id(self, text: str) -> str:
        """Return an id; where addresses are hashed, the digest of one that holds an address, which is as unique."""
        return identity.id_without_address(text) if "email" in self.hashed else text

    def passes(self, text: str) -> bool:
        """Return whether a text may be told: it is not the digest of nothing, and shows no address."""
        return text.strip().lower() != identity.EMPTY_SHA256 and not self.shows_address(text)

    def passing(self, told: dict[str, str]) -> dict[str, str]:
        """Return the pairs whose text may be told."""
        said = " ".join(told.values())
        if "@" not in said and "%" not in said and identity.EMPTY_SHA256 not in said.lower():
            return told
        return {name: text for name, text in told.items() if self.passes(text)}


def privacy(hashing: Hashing, *, names: Literal["compact", "spaced"], send_ip: bool) -> Privacy:
    """Return what the settings say; an unknown preset or field, and MD5 in any form, raises ConfigurationError."""
    listed = isinstance(hashing, (Set, list, tuple))
    chosen = list(hashing) if listed else [hashing]
    if any("md5" in str(word).lower() for word in chosen):
        raise ConfigurationError("Rokt.hashing", 'asks for MD5, which Rokt does not take; write hashing="strict"')
    words = frozenset(word for word in chosen if isinstance(word, str))
    fields = words if listed else PRESETS.get(str(hashing))
    if fields is None or len(words) < len(chosen) or not fields <= _HASHABLE:
        known = ", ".join(sorted(_HASHABLE))
        raise ConfigurationError(
            "Rokt.hashing", f'is neither "strict", "hightouch" nor "raw", nor a set of the fields {known}'
        )
    check_word("Rokt.names", names, _BY_NAMES)
    withheld = _CLEAR_ONLY if hashing == "strict" else frozenset()
    silent = send_ip or "ipaddress" in fields
    return Privacy(hashed=fields, withheld=withheld if silent else withheld | {"ipaddress"}, names=names)


def _digests(forms: _Forms, text: str) -> Iterator[tuple[str, str]]:
    for name, rule in forms:
        normal = rule(text)
        if normal:
            yield name, identity.sha256(normal)
