"""What is told of an event, under the names of Rokt's objectData; all surfaces share it (contracts.md 3.4)."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import chain

from kit import identity, money
from kit.destinations.base import without_empty
from kit.destinations.holdout import Holdout
from kit.destinations.rokt.hashing import Privacy
from kit.model import Address, Conversion, Dispatch, Item

#: Whose click id it is, the glossary's `ClickId.vendor`.
VENDOR = "rokt"
CONVERSION = "conversion"
LONGEST_VALUE = 65_536
LONGEST_EVENT_ID = 36

#: Names that come from the event's own fields only; `extra` and `metadata` cannot set them.
_OURS = frozenset(
    "passbackconversiontrackingid rokttrackingid email firstname lastname mobile ipaddress ccbin transactionid "
    "confirmationref amount currency zipcode billingzipcode dob address1 address2 billingaddress1 "
    "billingaddress2".split()
)
#: Names of objectData (contracts.md 3.4), and ours; `extra` says them in any spelling, and they are sent in this one.
_KNOWN = _OURS | frozenset(
    "emailsha256 mobilesha256 firstnamesha256 lastnamesha256 zipsha256 zip4sha256 billingzipsha256 billingzip4sha256 "
    "ipaddresssha256 quantity conversiontype productname sku paymenttype margin title gender age language unitno city "
    "state country majorcat majorcatid minorcat minorcatid customertype shippingtype experience holdout".split()
)
#: What may stand under a name whose form Rokt gives; `sku` is one only, and a comma makes two of it.
_FORMS = {
    "quantity": re.compile(r"[0-9]{1,18}"),
    "margin": re.compile(r"-?[0-9]{1,18}(\.[0-9]{1,64})?"),
    "sku": re.compile(r"[^,]+"),
}
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
        return self.event_types.get(name) or (CONVERSION if name == "purchase" else self.privacy.prose(name))

    def event_id(self, event_id: str) -> str:
        """Return the event's id, of at most 36 characters."""
        return self.privacy.id(event_id)[:LONGEST_EVENT_ID]

    def conversion_type(self, conversion: Conversion) -> str | None:
        said = conversion.conversion_type
        return said if said and self.privacy.passes(said) else self.conversion_types.get(conversion.name)

    def click(self, dispatch: Dispatch) -> str | None:
        """Return Rokt's click id; what has an address in it is none, somebody wrote it into a link."""
        found = dispatch.identifiers.click_id(VENDOR)
        return found if found is not None and self.privacy.passes(found) else None

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
        return text if text is not None and self.privacy.passes(text) else None

    def told(self, dispatch: Dispatch) -> dict[str, str]:
        """Return all that is told, in the order of vector RK-1; a name that is empty takes its value from `extra`."""
        conversion = dispatch.conversion
        email = self.email(dispatch)
        order_id = None if conversion.order_id is None else self.privacy.id(conversion.order_id)
        pairs: dict[str, str | None] = {"passbackconversiontrackingid": self.click(dispatch)}
        pairs |= dict([email]) if email else {"emailsha256": None}
        pairs |= {
            "transactionid": order_id,
            "confirmationref": order_id,
            "amount": None if conversion.value is None else money.plain(conversion.value),
            "currency": conversion.currency,
            **self._items(conversion.items),
            "conversiontype": self.conversion_type(conversion),
            "margin": None if conversion.margin is None else money.plain(conversion.margin),
            "paymenttype": conversion.payment_type,
            "shippingtype": conversion.shipping_type,
            "customertype": conversion.customer_type,
            "holdout": self.arm(dispatch),
        }
        pairs |= self._person(dispatch)
        further = self.further(conversion)
        filled = {name: text or further.get(name) for name, text in pairs.items()}
        told = without_empty(filled | {name: text for name, text in further.items() if name not in filled})
        return self.privacy.passing(told)

    def remarks(self, dispatch: Dispatch, further: Mapping[str, str | None] | None = None) -> list[str]:
        """Return what was given and is not told as it is, by the kit's names; `further` are a surface's own texts."""
        conversion, known = dispatch.conversion, dispatch.identifiers
        found = []
        email, phone = conversion.email or known.email, conversion.phone or known.phone
        if email and not (identity.email(email) or identity.sha256_digest(email)):
            found.append("email left out: not one address")
        if phone and self.privacy.hides_mobile(phone):
            found.append("phone left out: not ten digits")
        texts = _texts(dispatch) | dict(further or {})
        said = " ".join(filter(None, texts.values()))
        if "@" in said or "%" in said:
            shown = [name for name, text in texts.items() if text and self.privacy.shows_address(text)]
            if shown:
                found.append(f"an e-mail address is not told in {', '.join(shown)}")
        return found

    def arm(self, dispatch: Dispatch) -> str | None:
        """Return the arm of the holdout that the buyer is in; None where there is none, or nobody can tell."""
        if self.holdout is None:
            return None
        given = self.given_digests(dispatch.conversion)
        texts = (dispatch.conversion.email, dispatch.identifiers.email, *sorted(given))
        return next((arm for text in texts if (arm := self.holdout.stamp(text)) is not None), None)

    def given_digests(self, conversion: Conversion) -> frozenset[str]:
        """Return the digests of e-mails among the further fields, in whatever spelling of their name."""
        found = (text for name, text in conversion.extra.items() if name.strip().casefold() == "emailsha256")
        return frozenset(digest for text in found if (digest := identity.sha256_digest(text)))

    def further(self, conversion: Conversion) -> dict[str, str]:
        """Return what may pass of `Conversion.extra`, digests in lower case."""
        return self._passing(conversion.extra) if conversion.extra else {}

    def metadata(self, conversion: Conversion) -> dict[str, str]:
        """Return what may pass of `Conversion.metadata`."""
        return self._passing(conversion.metadata) if conversion.metadata else {}

    def _passing(self, told: Mapping[str, str]) -> dict[str, str]:
        """Leave out what has a field of its own, reserved and withheld names, MD5, digests that are none or of nothing,
        and addresses that are hidden elsewhere; of two spellings of one name of Rokt's the first counts."""
        kept: dict[str, str] = {}
        for said, text in told.items():
            lower = said.strip().casefold()
            if lower in _OURS or lower in self.privacy.withheld or lower.startswith("rokt.") or lower.endswith("md5"):
                continue
            name = lower if lower in _KNOWN else said.strip()
            digest = identity.sha256_digest(text) if lower.endswith("sha256") else text
            passes = self.privacy.passes(text) and not self.privacy.shows_address(name)
            if digest and passes and _has_its_form(name, text):
                kept.setdefault(name, digest)
        return kept

    def _items(self, items: Sequence[Item]) -> dict[str, str | None]:
        if not items:
            return {"productname": None, "sku": None, "quantity": None}
        named = (item.name for item in items if item.name and item.name.lower() != identity.EMPTY_SHA256)
        names = ", ".join(map(self.privacy.prose, named))
        if len(names.encode()) > LONGEST_VALUE:
            # A huge cart loses its last names, not its report.
            names = names.encode()[:LONGEST_VALUE].decode(errors="ignore").rpartition(", ")[0]
        categories = {item.category for item in items}
        return {
            "productname": names,
            # Rokt takes one SKU only, and one major category.
            "sku": items[0].id if len(items) == 1 and _has_its_form("sku", items[0].id) else None,
            "quantity": str(sum(item.quantity for item in items)),
            "majorcat": categories.pop() if len(categories) == 1 else None,
        }

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


def _in_one(address: Address) -> str:
    return " ".join(filter(None, (address.line1, address.line2, address.city, address.state, address.zip)))


def _has_its_form(name: str, text: str) -> bool:
    form = _FORMS.get(name)
    return form is None or form.fullmatch(text) is not None


def _texts(dispatch: Dispatch) -> dict[str, str | None]:
    """Return what a shop may have written somebody's address into, by the kit's names."""
    conversion = dispatch.conversion
    return {
        "name": conversion.name,
        "order_id": conversion.order_id,
        "event_id": dispatch.event_id,
        "click id": dispatch.identifiers.click_id(VENDOR),
        "conversion_type": conversion.conversion_type,
        "payment_type": conversion.payment_type,
        "shipping_type": conversion.shipping_type,
        "customer_type": conversion.customer_type,
        "first_name": conversion.first_name,
        "last_name": conversion.last_name,
        "title": conversion.title,
        "gender": conversion.gender,
        "address": _in_one(conversion.address) if conversion.address else None,
        "billing_address": _in_one(conversion.billing_address) if conversion.billing_address else None,
        "items": " ".join([text for item in conversion.items for text in (item.id, item.name, item.category) if text]),
        "extra": " ".join(chain(*conversion.extra.items())) if conversion.extra else None,
        "metadata": " ".join(chain(*conversion.metadata.items())) if conversion.metadata else None,
    }
