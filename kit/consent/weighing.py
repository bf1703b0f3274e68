"""Which of several decisions counts for one event, and what is said of it."""

from collections.abc import Iterable
from datetime import datetime

from kit.model import Consent


def told_of(consent: Consent) -> str:
    """Return in a word or two why something is not sent for this decision."""
    return "nobody decided" if consent.granted is None else consent.signal


def weigh(known: Iterable[Consent | None], *, said: bool | None, now: datetime) -> Consent:
    """Return the decision that counts for one event.

    `known` are the decisions on record: of the event itself, of the request, of the order's link, the visitor's newest.
    `said` is the shop's own word. A no by GPC stands, and so does a no of the shop's; then the newest that a visitor
    took; then the shop's yes, where no visitor is known to have decided; then what the rule alone gives.
    """
    decided = [each for each in known if each is not None and each.granted is not None]
    for each in decided:
        if each.signal in {"gpc", "shop"} and each.granted is False:
            return each
    if said is False:
        return Consent(granted=False, signal="shop", at=now)
    own = [each for each in decided if each.signal not in {"opt_out", "shop"}]
    if own:
        newest = max(own, key=lambda each: (each.at, not each.granted))
        excepting = [each for each in own if each.at <= newest.at and " -" in each.signal]
        return newest.after(max(excepting, key=lambda each: each.at)) if excepting else newest
    if said is True:
        return Consent(granted=True, signal="shop", at=now)
    decided.sort(key=lambda each: each.signal != "shop")
    return decided[0] if decided else Consent(granted=None, signal="none", at=now)
