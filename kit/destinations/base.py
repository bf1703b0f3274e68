"""What a destination is: checks a dispatch, says what to ask the vendor, and judges the answer. No I/O."""

import ipaddress
import json
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import ClassVar, Literal, TypeVar
from urllib.parse import unquote

import httpx

from kit import identity
from kit.errors import ConfigurationError
from kit.model import CLICK_WINDOW, HORIZON, Consent, Conversion, Dispatch, Mode, Verdict
from kit.settings import default_mode

#: As every payload is frozen: compact, in UTF-8, and nothing that JSON does not know.
_JSON = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False)

#: The names that a shop may report under without mapping them (`Conversion.name`).
EVENTS = (
    "purchase", "refund", "add_to_cart", "product_search", "page_view", "home_view", "signup_plan", "signup_trial",
    "form_fill", "demo_request", "contact_sales", "gated_content", "live_chat", "high_value_page",
)  # fmt: skip
#: What only one destination takes: an advertisement's doing, told to Rockerbox.
MARKETING = "marketing_event"

Json = str | int | float | bool | None | Mapping[str, "Json"] | Sequence["Json"]

#: No vendor may hold us back longer than this by one header.
LONGEST_WAIT = timedelta(hours=24)
#: How much of a vendor's words is kept with a delivery, in characters.
LONGEST_DETAIL = 300

_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Skip:
    """A reason not to send, found before any network: `code` is stored, `detail` is for people.

    `curable` says that a later report of the same order may bring what is wanting; then it is looked at again.
    """

    code: str
    detail: str = ""
    curable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending:
    """One delivery on its way. `payload` is its event's JSON, frozen with the first attempt.

    `refused` counts the attempts that the vendor answered without taking it; `in_doubt` says that the latest one ended
    without an answer. Together they tell an idempotency key's history (faults.md 2.2).
    """

    delivery_id: int
    event_id: str
    event_name: str
    order_id: str | None
    at: datetime
    monetary: bool
    attempts: int
    refused: int = 0
    in_doubt: bool = False
    payload: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A request that the vendor counts nowhere, for `kit doctor`.

    `sending` is the made-up delivery in it, which shows whether the credentials are right; without one any answer does,
    and shows only that the vendor can be reached.
    """

    request: httpx.Request
    sending: Sending | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A vendor's complete answer. `cut` says that the body was longer than we read."""

    status: int
    headers: httpx.Headers = field(repr=False, default_factory=httpx.Headers)
    body: bytes = field(repr=False, default=b"")
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What an answer means for one delivery. `detail` is masked and short, for the operator.

    `hold`         nobody but a person can tell what became of it: an unknown outcome is held although a repeat is safe.
    `again_alone`  what the vendor refused in company is sent once more by itself before it is given up.
    `follow`       the vendor took it and is not through: this body is sent after `wait`, and nothing is counted.
    """

    verdict: Verdict
    detail: str = ""
    wait: timedelta | None = None
    hold: bool = False
    again_alone: bool = False
    follow: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A credential that a vendor gave for a while."""

    value: str = field(repr=False)
    lifetime: timedelta


class Authentication(ABC):
    """How a destination whose credential is asked for, and runs out, gets one. No I/O: the worker asks and keeps it."""

    @abstractmethod
    def ask(self) -> httpx.Request:
        """Return the request for a token."""

    @abstractmethod
    def read(self, answer: Answer, *, now: datetime) -> Token | Judgement:
        """Return the token in a complete answer, or what the answer means."""

    @abstractmethod
    def sign(self, request: httpx.Request, token: Token) -> None:
        """Put the token into a request of the destination's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination(ABC):
    """An ad API that takes conversions. A shop's own subclass is as good as ours.

    `mode`           live sends; shadow checks, builds and records, sends nothing and needs no token. Left out:
                     `KIT_MODE`.
    `consent`        "shop" sends what the shop's rule allows; "opt_in" only what somebody said yes to, also in a shop
                     that is opt_out.
    `takes`          event names, or a function of the Dispatch; what it leaves out is skipped(policy). None takes all.
    `max_in_flight`  how many requests one worker keeps under way; `requests_per_second` how many it begins, None
                     without end.
    `horizon`        how long a delivery is tried; `longest_wait` the longest pause between two tries.
    `click_window`   how old a click may be when something is bought: an older one is not told. At most 90 days, the
                     default, for vendors that hold conversions against a window of their own: AdRoll's is set in its
                     account, Rokt's and Rockerbox's are written nowhere.
    """

    #: Whose click id this destination wants, the glossary's `ClickId.vendor`.
    vendor: ClassVar[str]
    #: Query parameters that carry that click id, the preferred one first.
    click_params: ClassVar[tuple[str, ...]] = ()
    #: Whether what a shop reports goes here. False for one that takes jobs of its own, whose bodies come ready.
    reports: ClassVar[bool] = True
    #: The longest body that the vendor takes, in bytes; None where none is known.
    largest_request: ClassVar[int | None] = None

    name: str
    mode: Mode | Literal["live", "shadow"] = field(default_factory=default_mode)
    consent: Literal["shop", "opt_in"] = "shop"
    takes: Collection[str] | Callable[[Dispatch], bool] | None = None
    max_in_flight: int = 4
    requests_per_second: float | None = None
    horizon: timedelta = HORIZON
    longest_wait: timedelta = timedelta(hours=1)
    click_window: timedelta = CLICK_WINDOW

    @property
    def page_views(self) -> bool:
        """Whether the middleware records the pages that visitors open, as page_view and home_view, for this one alone.

        A destination that lets the shop choose has a field of this name, `page_views: bool = False`, instead.
        """
        return False

    @property
    def own_names(self) -> Collection[str]:
        """The shop's own event names that this destination's settings speak of."""
        return ()

    @property
    def authentication(self) -> Authentication | None:
        """How this destination gets its token; None where its credentials are simply part of each request."""
        return None

    def allows(self, consent: Consent) -> bool:
        """Return whether what the shop's rule lets pass may be told here too: the yes covers it, and is somebody's."""
        if not consent.covers(self.name):
            return False
        return self.consent == "shop" or (consent.granted is True and consent.signal != "opt_out")

    def wants(self, dispatch: Dispatch) -> bool:
        """Return whether `takes` leaves this event in."""
        if self.takes is None:
            return True
        return bool(self.takes(dispatch)) if callable(self.takes) else dispatch.conversion.name in self.takes

    def within_window(self, dispatch: Dispatch) -> Dispatch:
        """Return the dispatch without clicks that were older than `click_window` when it happened."""
        clicks = dispatch.identifiers.click_ids
        if not clicks:
            return dispatch
        kept = tuple([click for click in clicks if dispatch.at - click.clicked_at <= self.click_window])
        if len(kept) == len(clicks):
            return dispatch
        return replace(dispatch, identifiers=replace(dispatch.identifiers, click_ids=kept))

    def batch_limit(self, sending: Sending) -> int:
        """Return how many deliveries one request that carries this one may hold."""
        return 1

    @abstractmethod
    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the permanent reason not to send this, or None."""

    @abstractmethod
    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return this event as the vendor's JSON. It is stored, and every retry sends the same bytes."""

    def remarks(self, dispatch: Dispatch, *, now: datetime) -> Sequence[str]:
        """Return what an operator should know of a delivery that is sent all the same: "phone left out: …".

        Kept with the delivery once it is delivered. No word of it may be a person's.
        """
        return ()

    def keeps(self, payload: bytes) -> bool:
        """Return whether a body that was frozen before is one that `build` takes; else it is written anew.

        A set-up that chose another surface since has frozen bodies of the one before.
        """
        return True

    @abstractmethod
    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the one request that carries these deliveries."""

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return what a complete answer means, one judgement for each delivery: here one meaning for all.

        A success that names an error is refused, and sent again alone where it had company; one of a shape that nobody
        foresaw is a success, marked `body_unverified`.
        """
        judgement = judge_whole(answer, now=now, secrets=self.secrets)
        if judgement.verdict is Verdict.OK and not self.is_known(answer):
            judgement = replace(judgement, detail=f"{judgement.detail}, body_unverified")
        return [judgement] * len(sendings)

    @property
    def secrets(self) -> Sequence[str]:
        """What may be seen nowhere: the texts of all fields that are kept out of the repr."""
        hidden = (getattr(self, one.name) for one in fields(self) if not one.repr)
        return [value for value in hidden if isinstance(value, str) and value]

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return whether sending this again can do no harm: the vendor tells a repeat, or no money is in it."""
        return False

    def trial(self, *, now: datetime) -> Trial | None:
        """Return a request that the vendor counts nowhere; None where there is none."""
        return None

    def warnings(self) -> Sequence[str]:
        """Return what `kit doctor` should tell of these settings, which may be right all the same."""
        if self.takes is None or callable(self.takes):
            return ()
        known = {*EVENTS, MARKETING, *self.own_names}
        strange = (name for name in sorted(self.takes) if name not in known)
        return [f"takes names {name!r}, no event of the kit's: it is right if you report it so" for name in strange]

    def is_known(self, answer: Answer) -> bool:
        """Return whether a complete answer has a shape that this destination was written for: a success says nothing.

        What a refusal's body holds is for people.
        """
        return not 200 <= answer.status < 300 or not answer.body.strip() or json_object(answer.body) == {}

    @property
    def splits(self) -> bool:
        """Whether a batch that was refused whole may be sent again in halves."""
        return True


def skip_of(destination: Destination, told: Dispatch, whole: Dispatch, *, now: datetime) -> Skip | None:
    """Return what `check` says of what the destination may be `told`; it says so where it is for a click's age."""
    skip = destination.check(told, now=now)
    if skip is None or told is whole or destination.check(whole, now=now) == skip:
        return skip
    old = [click for click in whole.identifiers.click_ids if click not in told.identifiers.click_ids]
    click = next((click for click in old if click.vendor == destination.vendor), old[0])
    window = destination.click_window / timedelta(days=1)
    return replace(
        skip, detail=f"the click is {(whole.at - click.clicked_at).days} days old, the window is {window:g} days"
    )


def encoded(value: object) -> bytes:
    """Return JSON as it is frozen and sent."""
    return _JSON.encode(value).encode()


def first_sending(destination: Destination, dispatch: Dispatch, *, now: datetime) -> Sending:
    """Return what this dispatch would be at its first try, for whoever looks at a request and sends none."""
    return Sending(
        delivery_id=0,
        event_id=dispatch.event_id,
        event_name=dispatch.conversion.name,
        order_id=dispatch.conversion.order_id,
        at=dispatch.at,
        monetary=dispatch.conversion.monetary,
        attempts=0,
        payload=encoded(destination.payload(destination.within_window(dispatch), now=now)),
    )


def judge_status(answer: Answer, *, now: datetime) -> Judgement:
    """Return the meaning of a status that the vendor's own file does not treat specially (faults.md T6–T12)."""
    status, words = answer.status, f"HTTP {answer.status}"
    if 200 <= status < 300:
        return Judgement(verdict=Verdict.OK, detail=words)
    if status == 429 or (status == 503 and "retry-after" in answer.headers):
        return Judgement(verdict=Verdict.THROTTLE, detail=words, wait=retry_after(answer.headers, now=now))
    if status in {401, 403, 404, 410} or 300 <= status < 400:
        return Judgement(verdict=Verdict.SETUP, detail=words)
    if status == 413:
        return Judgement(verdict=Verdict.OVERSIZE, detail=words)
    if status in {408, 425} or status >= 500:
        return Judgement(verdict=Verdict.TRANSIENT, detail=words)
    return Judgement(verdict=Verdict.INVALID, detail=words)


def retry_after(headers: httpx.Headers, *, now: datetime) -> timedelta | None:
    """Return how long the vendor asks us to wait: seconds or an HTTP date, never negative, at most 24 hours."""
    text = headers.get("retry-after", "").split(",")[0].strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            when = parsedate_to_datetime(headers.get("retry-after", ""))
            seconds = ((when if when.tzinfo else when.replace(tzinfo=UTC)) - now).total_seconds()
        except (ValueError, OverflowError):
            return None
        return min(timedelta(seconds=max(seconds, 0.0)), LONGEST_WAIT)
    if not seconds >= 0:
        return None
    return timedelta(seconds=min(seconds, LONGEST_WAIT.total_seconds()))


# ---------------------------------------------------------------- what the vendor said, fit to be kept

_MASKS = (
    (re.compile(r"[^\s@\"'<>,;:=(){}\[\]\\]{1,64}@[^\s@\"'<>,;()\[\]{}\\]{1,255}"), "[email]"),
    (re.compile(r"\b(basic|bearer|token)\s+[A-Za-z0-9+/=._~-]{4,}", re.IGNORECASE), r"\1 [secret]"),
    (re.compile(r"\b(?:rpub|rsec)-[A-Za-z0-9._~-]+"), "[secret]"),
    (re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]*){0,2}"), "[secret]"),
    (re.compile(r"(?<![0-9A-Za-z])[0-9A-Fa-f]{24,}"), "[hash]"),
    (re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])"), "[ip]"),
    (re.compile(r"(?<![0-9A-Za-z:])(?:[0-9A-Fa-f]{0,4}:){3,7}[0-9A-Fa-f]{0,4}"), "[ip]"),
    (re.compile(r"\+\d[\d ()./-]{7,}\d|(?:\(\d{3}\)[ .-]?|\b\d{3}\)?[ .-])\d{3}[ .-]\d{4}\b|\b\d{10,}\b"), "[number]"),
    # As many countries write their own: 030/1234567, 0176 123 4567, 01 23 45 67 89; of nine digits at least.
    (re.compile(r"(?<![\w.-])\(?0\d{2,4}\)?(?:[ /-]\d{6,}|(?:[ -]\d{3,}){2})(?![\w-])"), "[number]"),
    (re.compile(r"(?<![\w.-])0\d(?:[ .]\d\d){4}(?![\w-])"), "[number]"),
)
#: As JSON writes what is not ASCII, also inside of other JSON; whole runs, for a character may take two.
_JSON_ESCAPES = re.compile(r"(?:(?<!\\)\\+u[0-9A-Fa-f]{4})+")
#: The percent sign of an escape that was escaped itself, however often.
_PERCENT = re.compile(r"%(?:25)+(?=[0-9A-Fa-f]{2})")
#: How often a text is looked at for escapes: one kind may stand in the other.
_MOST_ESCAPED = 3


def masked(text: str, *, secrets: Sequence[str] = ()) -> str:
    """Return the text in one line of at most 300 characters, without e-mails, tokens, digests, ips and phone numbers.

    `secrets` are further texts that must not stay in any case of their letters, a token of ours or an account's id.
    What hides in the escapes of JSON or of a URL is found too; only then does the text lose them.
    """
    line = _in_one_line(text[: 16 * LONGEST_DETAIL])
    plain = _unescaped(line)
    kept = _without(plain, [_unescaped(secret) for secret in secrets])
    if kept == plain != line:
        # Nothing hid in its escapes: it stays as it came.
        kept = _without(line, secrets)
    return kept if len(kept) <= LONGEST_DETAIL else kept[: LONGEST_DETAIL - 1] + "…"


def _in_one_line(text: str) -> str:
    return " ".join("".join(ch if ch.isprintable() else " " for ch in text).split())


def _unescaped(text: str) -> str:
    for _ in range(_MOST_ESCAPED):
        text = unquote(_PERCENT.sub("%", _JSON_ESCAPES.sub(_characters, text)))
    return _in_one_line(unicodedata.normalize("NFC", text))


def _characters(escapes: re.Match[str]) -> str:
    return bytes.fromhex(re.sub(r"\\+u", "", escapes[0])).decode("utf-16-be", errors="replace")


def _without(line: str, secrets: Sequence[str]) -> str:
    for secret in filter(None, secrets):
        line = re.sub(re.escape(secret), "[secret]", line, flags=re.IGNORECASE)
    for pattern, word in _MASKS:
        line = pattern.sub(word, line)
    return line


def judge_with_words(
    answer: Answer, *, now: datetime, words: str | None = None, secrets: Sequence[str] = ()
) -> Judgement:
    """Return the meaning of the status; unless it is success, with what the vendor said about it, masked.

    `words` stands for the body where the vendor's own file has found the sentence that matters in it.
    """
    meaning = judge_status(answer, now=now)
    if meaning.verdict is Verdict.OK:
        return meaning
    said = masked(words if words is not None else answer.body.decode(errors="replace"), secrets=secrets)
    return replace(meaning, detail=f"{meaning.detail}: {said}" if said else meaning.detail)


def judge_whole(answer: Answer, *, now: datetime, secrets: Sequence[str] = ()) -> Judgement:
    """Return the meaning of a status; but a success whose JSON names an error is a refusal, of each in company."""
    judgement = judge_with_words(answer, now=now, secrets=secrets)
    if judgement.verdict is not Verdict.OK or (error := error_named(answer)) is None:
        return judgement
    said = masked(f"{judgement.detail} with an error: {error}", secrets=secrets)
    return Judgement(verdict=Verdict.INVALID, detail=said, again_alone=True)


#: Where vendors say that a request failed, and the words in which they do.
_SAYS_HOW = frozenset({"status", "result", "outcome"})
_FAILED = frozenset("error errors fail failed failure rejected refused invalid denied".split())
#: How deep an answer is looked into for an error: `{"data": {"results": [{"error": …}]}}`.
_DEEPEST = 4


def error_named(answer: Answer) -> str | None:
    """Return what a JSON answer names as wrong, as JSON text; None when it names nothing, or is no JSON.

    That is an `error`, `errors` or `error…` that is not empty, a `success` or `ok` that is false, and a `status` such
    as "rejected" or 400.
    """
    try:
        found = _error_in(json.loads(answer.body), _DEEPEST)
    except (ValueError, RecursionError):
        return None
    return None if found is None else json.dumps(found, ensure_ascii=False)


def _error_in(value: object, deeper: int) -> object:
    if not deeper:
        return None
    if isinstance(value, list):
        return next((found for each in value if (found := _error_in(each, deeper - 1)) is not None), None)
    if not isinstance(value, dict):
        return None
    for name, said in value.items():
        if _says_error(name.lower(), said):
            return said if said is not False else {name: said}
    return _error_in(list(value.values()), deeper)


def _says_error(name: str, said: object) -> bool:
    if name.startswith("error"):
        return bool(said)
    if name in {"success", "ok"}:
        return said is False
    if name not in _SAYS_HOW:
        return False
    return said.strip().lower() in _FAILED if isinstance(said, str) else isinstance(said, int) and said >= 400


def json_object(body: bytes) -> Mapping[str, object] | None:
    """Return the body as a JSON object; None when it is empty, cut, nested without end, or anything else."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


# ---------------------------------------------------------------- what a request is made of


def without_empty(pairs: Mapping[str, _V | None]) -> dict[str, _V]:
    """Return the pairs that say something: no None, no empty text, list or object."""
    return {key: value for key, value in pairs.items() if value or isinstance(value, (int, float, Decimal))}


def extras(conversion: Conversion, *, ours: Collection[str]) -> dict[str, str]:
    """Return `Conversion.extra` without names that are ours (in any case) and without the digest of nothing."""
    return {
        key: text
        for key, text in conversion.extra.items()
        if key.lower() not in ours and text.strip().lower() != identity.EMPTY_SHA256
    }


# httpx takes longer to parse a URL than to make the rest of a request.
@lru_cache(maxsize=32)
def endpoint(base_url: str, path: str, *query: tuple[str, str]) -> httpx.URL:
    """Return the URL that a destination's requests go to."""
    url = f"{base_url.rstrip('/')}{path}"
    return httpx.URL(url, params=dict(query)) if query else httpx.URL(url)


def require(setting: str, value: str, reason: str) -> None:
    """Raise ConfigurationError unless the value is one printable word of ASCII (an id, a key or a token)."""
    if not value:
        raise ConfigurationError(setting, f"is missing; {reason}")
    if not isinstance(value, str):
        raise ConfigurationError(setting, f"is a {type(value).__name__}; pass a text")
    if any(ch.isspace() or not ch.isprintable() for ch in value):
        raise ConfigurationError(setting, "holds a space or a line break; remove it")
    if not value.isascii():
        raise ConfigurationError(setting, "holds a letter that is not ASCII; copy it again from the vendor's page")


def require_flags(vendor: str, settings: Destination, *names: str) -> None:
    """Raise ConfigurationError unless each of these settings is True or False: the text "false" is true to Python."""
    for name in names:
        value = getattr(settings, name)
        if not isinstance(value, bool):
            raise ConfigurationError(f"{vendor}.{name}", f"is a {type(value).__name__}; write True or False")


def require_names(setting: str, value: object, example: str) -> None:
    """Raise ConfigurationError unless this is a set, list or tuple of texts."""
    if isinstance(value, str):
        raise ConfigurationError(setting, f"is a text; pass {example}")
    if not isinstance(value, Collection) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(setting, f"is no set of texts; pass {example}")


def require_table(setting: str, value: object, example: str) -> None:
    """Raise ConfigurationError unless this is a dict whose keys are texts."""
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise ConfigurationError(setting, f"is a {type(value).__name__}; pass {example}")


def require_base_url(setting: str, url: str, *added: str) -> None:
    """Raise ConfigurationError unless the URL is https (http for a loopback host), without user, query or fragment.

    `added` are the paths that requests add to it, such as /v2/events: a URL that ends in one, or in its beginning, was
    pasted whole.
    """
    try:
        parts = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        raise ConfigurationError(setting, "is not a URL such as https://api.example.com") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.host)):
        raise ConfigurationError(setting, "must begin with https://; http:// is for a loopback host only")
    if not parts.host or parts.userinfo or parts.query or parts.fragment or "?" in url or "#" in url:
        raise ConfigurationError(setting, "must be scheme, host and path only; no user, no query, no fragment")
    path = parts.path.rstrip("/")
    for beginning in (each for whole in added for each in _beginnings(whole)):
        if path.endswith(beginning):
            short = str(parts.copy_with(path=path.removesuffix(beginning))).rstrip("/")
            raise ConfigurationError(setting, f"ends in {beginning}, which is added to it; write {short}")


def _beginnings(path: str) -> Sequence[str]:
    """Return /v2/events and /v2 for the path /v2/events."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
