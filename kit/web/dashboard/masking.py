"""What people may see of what was sent and said: its form, the order and its money, and nothing of the buyer."""

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from kit import identity
from kit.destinations.base import masked
from kit.model import Conversion, Identifiers
from kit.store.impersonal import PERSONAL

HIDDEN = "•••"

#: Fields of the vendors' whose values are their own words or ours, in lower case without what stands between words.
_PLAIN = frozenset(
    "accountid action advertisableeid amount confirmationref conversionsource conversiontype conversionvalue currency "
    "customeventtype environment eventid eventname eventtime eventtype clienteventid orderid pixeleid price quantity "
    "revenue sourcemessageid timestamp timestampunixtimems transactionid value".split()
)
_BETWEEN_WORDS = re.compile("[^a-z0-9]")


def of_buyer(conversion: Conversion, identifiers: Identifiers) -> frozenset[str]:
    """Return every value that tells of the buyer, as text: to be hidden wherever it turns up."""
    said = conversion.model_dump(mode="json", include=set(PERSONAL), exclude_unset=True)
    known = [getattr(identifiers, name) for name in _KNOWN]
    return frozenset(_leaves([*said.values(), *known, *(click.value for click in identifiers.click_ids)]))


_KNOWN = ("visitor", "first_party_cookie", "email", "phone", "customer_id", "ip", "user_agent")


def facts(conversion: Conversion, buyer: Collection[str]) -> frozenset[str]:
    """Return the texts and numbers that a shop said of the order itself, as texts, but for those of its `buyer`.

    A customer's number may be the same as a quantity: then neither is shown, nor an e-mail that numbers an order.
    """
    ours = conversion.model_dump(mode="json", exclude=set(PERSONAL), exclude_unset=True)
    return frozenset(leaf for leaf in _leaves(ours) if not identity.holds_address(leaf)) - frozenset(buyer)


def without(buyer: Collection[str], text: str | None) -> str:
    """Return what a vendor or a page said, masked, also where it repeats a value of the `buyer` that has no form."""
    # A shorter one is in many words.
    secrets = sorted((value for value in buyer if len(value) > _SHORT), key=len, reverse=True)
    return masked(text or "", secrets=secrets)


_SHORT = 3


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _leaves(each)
    elif value is not None and not isinstance(value, bool):
        yield str(value)


def shown(payload: bytes, known: Collection[str]) -> str | None:
    """Return the body with every value hidden that is neither one of the facts `known` nor a vendor's plain field.

    Hidden unless known to be harmless: a vendor's field that nobody thought of here is hidden too. None for a body that
    is no JSON.
    """
    try:
        body = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return json.dumps(_shown(body, "", known), indent=2, ensure_ascii=False)


def _shown(value: Any, name: str, known: Collection[str]) -> Any:
    if isinstance(value, dict):
        # Rokt's own way: {"name": "amount", "value": "56.78"}.
        if value.keys() == {"name", "value"} and isinstance(value["name"], str):
            return {"name": value["name"], "value": _shown(value["value"], value["name"], known)}
        return {key: _shown(each, key, known) for key, each in value.items()}
    if isinstance(value, list):
        return [_shown(each, name, known) for each in value]
    if value is None or isinstance(value, bool):
        return value
    if str(value) in known or (_is_plain(name) and _is_harmless(value)):
        return value
    return HIDDEN


def _is_plain(name: str) -> bool:
    return _BETWEEN_WORDS.sub("", name.lower()) in _PLAIN


def _is_harmless(value: str | int | float) -> bool:
    """Return whether a plain field holds no personal value all the same: an e-mail for an order id, as shops do."""
    return not isinstance(value, str) or "[email]" not in masked(value)
