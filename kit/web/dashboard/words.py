"""Plain words for people: what a state, a reason, a consent's signal and a closed gate mean, and what to do then."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from kit.model import Consent, DeliveryState, Identifiers
from kit.store.gates import STOPPED, Gate
from kit.store.overview import NEVER_AGAIN

#: How long a delivery may be due, with nothing in its way, before it looks as if nobody delivered.
LATE = timedelta(minutes=1)

_LABELS = {
    "adroll": "AdRoll",
    "rokt": "Rokt",
    "rockerbox": "Rockerbox",
    "rokt-audience": "Rokt audiences",
    "rokt-deletion": "Rokt deletions",
}


def label(name: str) -> str:
    """Return how people write the name of a destination or of a click's vendor."""
    return _LABELS.get(name, name)


def sentence(text: str) -> str:
    """Return the text with a capital."""
    return text[:1].upper() + text[1:]


# ---------------------------------------------------------------- states and reasons


@dataclass(frozen=True, slots=True)
class Word:
    """A word and its tone, which is a class of the style sheet: good, wait, bad or calm."""

    text: str
    tone: str


STATES: Mapping[str, Word] = {
    DeliveryState.DELIVERED: Word("sent", "good"),
    DeliveryState.PENDING: Word("waiting", "wait"),
    DeliveryState.CLAIMED: Word("being sent", "wait"),
    DeliveryState.HELD: Word("held", "bad"),
    DeliveryState.DEAD: Word("failed", "bad"),
    DeliveryState.SKIPPED: Word("not sent", "calm"),
}

#: What a reason means; `{name}` is the destination's label.
_REASONS = {
    "action": "{name} has no action of this name",
    "by operator": "a person said that {name} has it",
    "cancelled": "taken back by the shop",
    "consent": "the visitor's consent does not allow it",
    "erased": "the person was erased",
    "event_name": "{name} has no event of this name",
    "expired": "tried for as long as it may be",
    "identifier": "nothing by which {name} could match the buyer",
    "identity_mismatch": "its digest is not that of its e-mail",
    "ip": "{name} needs the visitor's IP address",
    "negative_value": "{name} takes no negative value",
    "outcome_unknown": "no answer came, and {name} cannot tell a repeat",
    "oversize": "too large for {name}",
    "page_location": "{name} needs the page's URL",
    "pixel_reports": "{name}'s pixel on the page reports it",
    "poison": "workers ended while they handled it",
    "policy": "your takes= leaves it out",
    "rejected": "{name} refused it",
    "required_field": "{name} needs a field that it lacks",
    "restored": "it may have been sent since the backup that was restored",
    "shadow": "shadow mode: checked and recorded only",
    "time_future": "its time is in the future",
    "time_old": "too old for {name}",
    "too_large": "too large for {name}",
    "unmappable": "it cannot be made into {name}'s form",
    "value_too_long": "a value of it is too long for {name}",
}

#: What to do about a delivery in this state, for this reason; None stands for any.
_ADVICE: Mapping[tuple[str, str | None], str] = {
    (DeliveryState.HELD, None): "Look in {name} whether the order is there, then say so here.",
    (DeliveryState.DEAD, "rejected"): "Mend what {name} names, then send it again.",
    (DeliveryState.DEAD, "unmappable"): "The log names the error in the destination's code; mend it, then send again.",
    (DeliveryState.DEAD, "expired"): "Send it again if {name} still takes it.",
    (DeliveryState.DEAD, None): "Find out why, then send it again.",
    (DeliveryState.SKIPPED, "identifier"): "Report the order with an e-mail address or customer number where known.",
    (DeliveryState.SKIPPED, "ip"): "Behind a proxy, name it in trusted_proxies.",
    (DeliveryState.SKIPPED, "page_location"): "Pass Conversion(url=...) where no browser is.",
    (DeliveryState.SKIPPED, "event_name"): "Map the name with the destination's event_names=.",
}

#: A newer consent brings the first back by itself.
_NOT_BY_HAND = {"consent", *NEVER_AGAIN}


def reason(name: str, code: str | None, detail: str | None = None) -> str:
    """Return why a delivery stands where it stands; of consent, who refused."""
    if code is None:
        return ""
    if code == "consent" and detail:
        return _refusal(name, detail)
    found = _REASONS.get(code)
    # Another is of the shop's own destination: no pattern of ours.
    return found.format(name=label(name)) if found is not None else code.replace("_", " ")


def advice(name: str, state: str, code: str | None) -> str | None:
    """Return what to do about it, where there is something to do."""
    found = _ADVICE.get((state, code)) or _ADVICE.get((state, None))
    return found.format(name=label(name)) if found else None


def may_resend(state: str, code: str | None) -> bool:
    """Return whether a person may have it sent again: what was delivered never is, nor against consent."""
    return state in {DeliveryState.DEAD, DeliveryState.HELD, DeliveryState.SKIPPED} and code not in _NOT_BY_HAND


# ---------------------------------------------------------------- consent

_SIGNALS = {
    "cookie": "the answer to the shop's banner",
    "cookiebot": "Cookiebot's cookie",
    "didomi": "Didomi's cookie",
    "erased": "the person was erased",
    "function": "the shop's own rule",
    "gpc": "Sec-GPC, the browser's Global Privacy Control",
    "gpp": "a GPP string",
    "none": "no signal",
    "onetrust": "OneTrust's cookie",
    "opt_out": "the shop's rule: nobody refused",
    "page": "the answer to the shop's banner",
    "shop": "the shop's own word",
    "tcf": "a TCF consent string",
    "us_privacy": "a US privacy string",
}
_REFUSALS = {
    "cookie": "the visitor refused",
    "erased": "the person was erased",
    "function": "the shop's own rule refused",
    "gpc": "the browser refuses (Global Privacy Control)",
    "nobody decided": "nobody decided yet",
    "opt_out": "nobody said yes, which {name} waits for",
    "page": "the visitor refused",
    "shop": "the shop refused",
}


def _refusal(name: str, signal: str) -> str:
    first, *excluded = signal.split(" -")
    if name in excluded:
        return f"the visitor's yes leaves {label(name)} out ({first})"
    found = _REFUSALS.get(signal)
    return found.format(name=label(name)) if found is not None else f"the visitor refused ({signal})"


def consent(decision: Consent) -> str:
    """Return a decision in a sentence: yes, no or not known, by which signal, and whom it leaves out."""
    first, *excluded = decision.signal.split(" -")
    said = {True: "Allowed", False: "Refused", None: "Not known"}[decision.granted]
    but = f"; not for {', '.join(map(label, excluded))}" if excluded else ""
    return f"{said}, by {_SIGNALS.get(first, first)}{but}" if first != "none" else said


# ---------------------------------------------------------------- identifiers

IDENTIFIERS = {
    "first_party_cookie": "AdRoll cookie",
    "email": "e-mail",
    "phone": "phone",
    "customer_id": "customer number",
    "ip": "IP address",
}


def known(identifiers: Identifiers) -> Iterator[str]:
    """Yield which identifiers there are, by name: their values are shown nowhere."""
    yield from (f"{label(click.vendor)} click" for click in identifiers.click_ids)
    yield from (words for name, words in IDENTIFIERS.items() if getattr(identifiers, name))


# ---------------------------------------------------------------- times


def clock(moment: datetime, now: datetime) -> str:
    """Return a time in UTC: of today without its date."""
    moment = moment.astimezone(UTC)
    return f"{moment:%H:%M} UTC" if moment.date() == now.astimezone(UTC).date() else f"{moment:%Y-%m-%d %H:%M} UTC"


def length(duration: timedelta) -> str:
    """Return a duration in its largest unit, such as "3 days"."""
    seconds = max(int(duration.total_seconds()), 0)
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= size:
            number = seconds // size
            return f"{number} {unit}{'' if number == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


# ---------------------------------------------------------------- how a destination stands


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """How a destination stands: a headline, what to do, and a word for it all with its tone."""

    word: Word
    headline: str
    todo: str | None = None


def closed(name: str, gate: Gate, *, now: datetime) -> Said:
    """Return what holds a destination back, since when and until when, and what to do."""
    who, since = label(name), clock(gate.since or now, now)
    again = "it is being asked again now" if gate.until <= now else f"it is asked again at {clock(gate.until, now)}"
    if gate.state == STOPPED:
        # "by operator", or whatever a person wrote.
        by, why = (f" {gate.reason}", "") if gate.reason.startswith("by ") else ("", f" ({gate.reason})")
        return Said(
            word=Word("paused", "wait"),
            headline=f"{who} is paused{by} since {since}{why}.",
            todo="Orders are kept; “Go on” sends them.",
        )
    if gate.state == "throttled":
        until = f"{who} waits: it asked to wait until {clock(gate.until, now)} ({gate.reason})."
        return Said(
            word=Word("waits", "wait"),
            headline=until
            if gate.until > now
            else f"{who} asked to wait ({gate.reason}), and is being asked again now.",
            todo="Nothing to do: it goes on by itself.",
        )
    if gate.state == "paused":
        return Said(
            word=Word("needs you", "bad"),
            headline=f"{who} is paused since {since}: {_wrong(gate.reason)} ({gate.reason}).",
            todo=f"Mend its settings and restart. Orders are kept meanwhile, and {again}.",
        )
    what = "cannot be reached" if gate.state == "unreachable" else "answers with errors"
    return Said(
        word=Word("down", "bad"),
        headline=f"{who} {what} since {since} ({gate.reason}).",
        todo=f"Orders are kept, and {again}. If it lasts, look at {who}'s status page and at this machine's network.",
    )


def _wrong(words: str) -> str:
    if words.startswith(("HTTP 401", "HTTP 403")):
        return "its token is refused"
    return "its certificate is not right" if words.startswith("certificate") else "its address or account is wrong"


def standing(
    name: str, counts: Mapping[str, int], *, due: datetime | None, now: datetime, shadow: bool, configured: bool
) -> Said:
    """Return how a destination stands that nothing holds back, by its deliveries in each state."""
    who = label(name)
    waiting = counts.get(DeliveryState.PENDING, 0) + counts.get(DeliveryState.CLAIMED, 0)
    if not configured:
        wait = f", and {waiting} {'waits' if waiting == 1 else 'wait'}" if waiting else ""
        return Said(
            word=Word("not configured", "bad" if waiting else "calm"),
            headline=f"{who} is no destination of this shop any more{wait}.",
            todo="What waits is kept: configure it again and it is sent." if waiting else None,
        )
    if due is not None and now - due > LATE:
        return Said(
            word=Word("needs you", "bad"),
            headline=f"{who} is not sent to: the longest waits for {length(now - due)}, and nothing holds it back.",
            todo="Is a worker running? `kit doctor` tells.",
        )
    if shadow:
        return Said(word=Word("shadow", "calm"), headline=f"{who} is in shadow mode: nothing is sent.")
    if counts.get(DeliveryState.HELD) or counts.get(DeliveryState.DEAD):
        return Said(word=Word("needs you", "bad"), headline=f"{who}: {_unsettled(counts)}.")
    if waiting:
        return Said(word=Word("sending", "wait"), headline=f"{who}: {waiting} on the way.")
    if not sum(counts.values()):
        return Said(word=Word("ready", "calm"), headline=f"{who}: nothing was reported yet.")
    if not counts.get(DeliveryState.DELIVERED):
        return Said(word=Word("nothing sent", "calm"), headline=f"{who}: nothing was to be sent.")
    return Said(word=Word("all sent", "good"), headline=f"{who}: all sent that may be.")


def _unsettled(counts: Mapping[str, int]) -> str:
    held, dead = counts.get(DeliveryState.HELD, 0), counts.get(DeliveryState.DEAD, 0)
    said = [f"{held} held for you to decide"] if held else []
    return " and ".join([*said, f"{dead} failed"] if dead else said)
