"""A holdout: a share of the customers whom advertising is kept from, so that its effect can be measured. Pure."""

import hashlib
from dataclasses import dataclass

from kit import identity
from kit.errors import ConfigurationError

_LONGEST_NAME = 64
#: What those are stamped with who are not held back.
NOBODY_HELD = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Holdout:
    """Holds back `percent` of all customers, by their e-mail alone: the same ones each time, on every machine.

    `name`     such as "2026-q4", 1–64 printable characters without space; another name draws other customers.
    `percent`  above 0 and below 100. Raising it keeps those who were held back before.

    An address and its SHA-256 digest are one customer. Raises ConfigurationError.
    """

    name: str
    percent: float

    def __post_init__(self) -> None:
        name, percent = self.name, self.percent
        if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or not name.isprintable() or " " in name:
            raise ConfigurationError("Holdout.name", f"is not 1 to {_LONGEST_NAME} characters without space")
        if name == NOBODY_HELD:
            raise ConfigurationError("Holdout.name", 'is "none", which is what all others are stamped with')
        if not isinstance(percent, (int, float)) or isinstance(percent, bool) or not 0 < percent < 100:
            raise ConfigurationError("Holdout.percent", "is not a number above 0 and below 100, such as 5")

    def holds(self, customer: str) -> bool:
        """Return whether this customer, an address or its SHA-256 digest, is held back; False for what is neither."""
        digest = identity.email_sha256(customer)
        if digest is None:
            return False
        drawn = hashlib.sha256(f"{self.name}\x1f{digest}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") < self.percent / 100 * 2**64

    def stamp(self, customer: str | None) -> str | None:
        """Return what a conversion is stamped with: the name, or "none"; None where no e-mail tells which."""
        if identity.email_sha256(customer) is None or customer is None:
            return None
        return self.name if self.holds(customer) else NOBODY_HELD
