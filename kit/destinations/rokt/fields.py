"""What is told of an event, under the names of Rokt's objectData; all surfaces share it (contracts.md 3.4)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from kit import identity, money
from kit.destinations.base import without_empty
from kit.destinations.holdout import Holdout
from kit.destinations.rokt.hashing import Privacy
from kit.model import Address, Conversion, Dispatch

#: Whose click id it is, the glossary's `ClickId.vendor`.
VENDOR = "rokt"
CONVERSION = "conversion"
LONGEST_VALUE = 65_536

#: Names that come from the event's own fields only; `extra` and `metadata` cannot set them.
_OURS = frozenset(
    "passbackconversiontrackingid rokttrackingid email firstname lastname mobile ipaddress ccbin transactionid "
    "confirmationref amount currency zipcode billingzipcode dob address1 address2 billingaddress1 "
    "billingaddress2".split()
)
_LANGUAGE = re.compile(r"([A-Za-z]{2})(?:[-_].*)?", re.DOTALL)
_GENDERS = {"male": "M", "female": "F"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fields:
    """Names an event's fields, and what they are for Rokt."""

    privacy: Privacy
    event_types: Mapping[str, str] = field(default_factory=dict)
    conversion_types: Mapping[str, str] = field(default_factory=dict)
    clamp: bool = True
    holdout: Holdout | None = None

    def event_type(self, name: str) -> str:
        """Return Rokt's eventType for the kit's event name; "conversion" triggers attribution."""
        return self.event_types.get(name, CONVERSION if name == "purchase" else name)

    def conversion_type(self, conversion: Conversion) -> str | None:
        return conversion.conversion_type or self.conversion_types.get(conversion.name)

    def at(self, dispatch: Dispatch, *, now: datetime) -> datetime:
        """Return when it happened; where clocks are clamped, not after now."""
        return min(dispatch.at, now) if self.clamp else dispatch.at

    def email(self, dispatch: Dispatch) -> tuple[str, str] | None:
        return self.privacy.email(dispatch.conversion.email or dispatch.identifiers.email)

    def email_known(self, dispatch: Dispatch) -> bool:
        """Return whether anything tells the e-mail, also a digest among the further fields."""
        return self.email(dispatch) is not None or "emailsha256" in self.further(dispatch.conversion)

    def customer_id(self, dispatch: Dispatch) -> str | None:
        """Return the shop's own id of the customer, unless it is an address that must not be shown."""
        text = dispatch.conversion.customer_id or dispatch.identifiers.customer_id
        hidden = text is not None and (self.privacy.shows_address(text) or text.lower() == identity.EMPTY_SHA256)
        return None if hidden else text

    def told(self, dispatch: Dispatch) -> dict[str, str]:
        """Return all that is told, in the order of vector RK-1; a name that is empty takes its value from `extra`."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        email = self.email(dispatch)
        pairs: dict[str, str | None] = {"passbackconversiontrackingid": known.click_id(VENDOR)}
        pairs |= dict([email]) if email else {"emailsha256": None}
        pairs |= {
            "transactionid": conversion.order_id,
            "confirmationref": conversion.order_id,
            "amount": None if conversion.value is None else money.plain(conversion.value),
            "currency": conversion.currency,
            **_items(conversion),
            "conversiontype": self.conversion_type(conversion),
            "margin": None if conversion.margin is None else money.plain(conversion.margin),
            "paymenttype": conversion.payment_type,
            "shippingtype": conversion.shipping_type,
            "customertype": conversion.customer_type,
            "holdout": self._arm(dispatch),
        }
        pairs |= self._person(dispatch)
        further = self.further(conversion)
        filled = {name: text or further.get(name) for name, text in pairs.items()}
        return without_empty(filled | {name: text for name, text in further.items() if name not in filled})

    def _arm(self, dispatch: Dispatch) -> str | None:
        """Return the arm of the holdout that the buyer is in; None where there is none, or nobody can tell."""
        email = dispatch.conversion.email or dispatch.identifiers.email
        return self.holdout.stamp(email) if self.holdout is not None else None

    def further(self, conversion: Conversion) -> dict[str, str]:
        """Return what may pass of `Conversion.extra`, digests in lower case."""
        return self._passing(conversion.extra) if conversion.extra else {}

    def metadata(self, conversion: Conversion) -> dict[str, str]:
        """Return what may pass of `Conversion.metadata`."""
        return self._passing(conversion.metadata) if conversion.metadata else {}

    def _passing(self, told: Mapping[str, str]) -> dict[str, str]:
        """Leave out what has a field of its own, reserved and withheld names, MD5, digests that are none or of nothing,
        and addresses that are hidden elsewhere."""
        kept: dict[str, str] = {}
        for name, text in told.items():
            lower = name.lower()
            if lower in _OURS or lower in self.privacy.withheld or lower.startswith("rokt.") or lower.endswith("md5"):
                continue
            digest = identity.sha256_digest(text) if lower.endswith("sha256") else text
            nothing = text.strip().lower() == identity.EMPTY_SHA256
            if digest and not nothing and not self.privacy.shows_address(text):
                kept[name] = digest
        return kept

    def _person(self, dispatch: Dispatch) -> dict[str, str]:
        told = (self.privacy.told(name, text) for name, text in _person(dispatch))
        return dict(pair for pair in told if pair)


def _person(dispatch: Dispatch) -> Iterator[tuple[str, str]]:
    """Yield what is known of the person, in clear, under Rokt's names."""
    conversion, known = dispatch.conversion, dispatch.identifiers
    born = conversion.birth_date
    found = (
        ("firstname", conversion.first_name),
        ("lastname", conversion.last_name),
        ("mobile", conversion.phone or known.phone),
        ("title", conversion.title),
        ("gender", _GENDERS.get(conversion.gender.lower(), conversion.gender) if conversion.gender else None),
        ("dob", born.isoformat().replace("-", "") if born else None),
        ("age", _age(born, on=dispatch.at.date()) if born else None),
        ("language", _language(conversion.language) if conversion.language else None),
        *_address(conversion.address),
        *_billing_address(conversion.billing_address),
        ("ipaddress", known.ip),
    )
    return ((name, text) for name, text in found if text)


def _address(address: Address | None) -> tuple[tuple[str, str | None], ...]:
    if address is None:
        return ()
    return (
        ("address1", address.line1),
        ("address2", address.line2),
        ("city", address.city),
        ("state", address.state),
        ("country", address.country.upper() if address.country else None),
        ("zipcode", address.zip),
    )


def _billing_address(address: Address | None) -> tuple[tuple[str, str | None], ...]:
    if address is None:
        return ()
    return (("billingaddress1", address.line1), ("billingaddress2", address.line2), ("billingzipcode", address.zip))


def _age(born: date, *, on: date) -> str | None:
    years = on.year - born.year - ((on.month, on.day) < (born.month, born.day))
    return str(years) if years >= 0 else None


def _language(text: str) -> str | None:
    """Return the two letters of a language tag: en of en-US."""
    found = _LANGUAGE.fullmatch(text)
    return found[1].lower() if found else None


def _items(conversion: Conversion) -> dict[str, str | None]:
    items = conversion.items
    if not items:
        return {"productname": None, "sku": None, "quantity": None}
    names = ", ".join(item.name for item in items if item.name)
    if len(names.encode()) > LONGEST_VALUE:
        # A huge cart loses its last names, not its report.
        names = names.encode()[:LONGEST_VALUE].decode(errors="ignore").rpartition(", ")[0]
    categories = {item.category for item in items}
    return {
        "productname": names,
        # Rokt takes one SKU only, and one major category.
        "sku": items[0].id if len(items) == 1 else None,
        "quantity": str(sum(item.quantity for item in items)),
        "majorcat": categories.pop() if len(categories) == 1 else None,
    }
