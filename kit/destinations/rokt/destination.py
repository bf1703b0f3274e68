"""Rokt: one destination; its credentials choose the surface that takes its events (contracts.md 3, 4 and 6)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property
from typing import ClassVar, Literal

import httpx

from kit.destinations.base import (
    Answer,
    Authentication,
    Destination,
    Json,
    Judgement,
    Sending,
    Skip,
    Trial,
    first_sending,
    is_loopback,
    require_base_url,
    require_flags,
    require_table,
)
from kit.destinations.holdout import Holdout
from kit.destinations.rokt.conversions_api import LARGEST_REQUEST, ConversionsApi, Status
from kit.destinations.rokt.credentials import (
    EVENTS_PATHS,
    PODS,
    Credentials,
    Generation,
    check_account,
    check_conversions_url,
    check_holdout,
    check_word,
    chosen,
)
from kit.destinations.rokt.events_api import EventsV1, EventsV2
from kit.destinations.rokt.fields import VENDOR, Fields
from kit.destinations.rokt.hashing import Hashing, privacy
from kit.destinations.rokt.postback import Postback
from kit.destinations.rokt.surface import Surface
from kit.destinations.rokt.token import is_token
from kit.errors import ConfigurationError
from kit.model import Conversion, Dispatch, Identifiers, Mode

#: Of an eventType by contracts.md 3.3, and of a conversion_type by the kit.
_LONGEST_TYPE = 128
_LONGEST_AUDIENCE = 256
_OF_CONVERSIONS = frozenset({"pod", "environment", "amount_as", "audiences"})


# No slots: the surface is made once, and kept.
@dataclass(frozen=True, kw_only=True)
class Rokt(Destination):
    """Reports to Rokt. One pair of credentials chooses where; nothing else in the shop's code changes with it.

    `public_key`, `secret_key`  `rpub-...` and `rsec-...` from the account manager: Event API v2.
    `app_id`, `app_secret`      from my.rokt.com's profile settings: Event API v1, one event a request.
    `api_key`, `api_secret`     of an mParticle feed: Conversions API. `pod` is us1, us2, eu1 or au1.
    `account`                   the id in my.rokt.com's URL after /accounts/, 1-64 characters; v1, v2 and postback
                                need it.

    Live needs one pair; with none in shadow mode events are written for v2.

    `hashing`           "strict" hashes all that Rokt has a hashed name for (e-mail, mobile, names, ZIP codes) and
                        leaves out birth date and address lines; "hightouch" hashes mobile, names and ip as Hightouch
                        does, the e-mail is sent in clear; "raw" hashes nothing. Or the set of what is hashed, of email,
                        mobile, firstname, lastname, zipcode, billingzipcode, ipaddress. Clear e-mails match better.
                        Where the e-mail is hashed, none goes in clear in another text either: in a product's name it is
                        masked, of an id with one in it the SHA-256 is told, other fields are left out. `kit why` says
                        so.
    `names`             "compact" hashes names without inner spaces, as Rokt publishes; "spaced" as its SDK does.
    `send_ip`           True sends the visitor's ip, in clear unless `hashing` names it; Rokt publishes no rule for it.
    `event_types`       the kit's event name to Rokt's eventType; "conversion" triggers attribution. A purchase is a
                        conversion unless this says otherwise; other names go as they are, as agreed with Rokt.
    `conversion_types`  the kit's event name to `conversiontype`, for events that bring none. Where neither says, the
                        Conversions API, which wants one, is told the event name.
    `clamp`             an event up to five minutes ahead of our clock is told as of now.
    `holdout`           stamps each event with `holdout`: the group that is kept from advertising, or "none". Who is in
                        it is dropped from `audiences` where others are added; of whom no e-mail tells, nothing is said.
    `base_url`          another host; of the Conversions API only mparticle.com and what is below it.
    `postback`          True reports a conversion with a click id of 32 characters and no e-mail by a GET that carries
                        the click id alone. Rokt cannot tell its repeat, so one without an answer is held.
    `postback_url`      where that is: apps.rokt.com, but beside a sandbox's `base_url`, on this machine, there.

    Of the Conversions API only:

    `environment`       "production" or "development".
    `amount_as`         "string" sends the shop's digits; "number" at most four decimals.
    `audiences`         the kit's event name to (audience, "add" or "drop"): its person joins or leaves it.

    Further fields come from `Conversion.extra` (and `metadata`, which the Conversions API does not know). Left out of
    them: names beginning with `rokt.` (reserved by Rokt), names that have their own field, MD5, `...sha256` that is no
    digest, and e-mail addresses in clear where those are hashed. A name of Rokt's counts in any capitals.

    Raises ConfigurationError when a setting is missing or cannot be. Source: contracts.md 3, 4, 6, 9.2, 9.3, 10.
    """

    vendor: ClassVar[str] = VENDOR
    click_params: ClassVar[tuple[str, ...]] = ("rclid", "rtid")
    #: Of the Conversions API. Rokt's own hosts publish none, and a hundred usual events take less.
    largest_request: ClassVar[int | None] = LARGEST_REQUEST

    name: str = "rokt"
    account: str = ""
    public_key: str = ""
    secret_key: str = field(default="", repr=False)
    app_id: str = field(default="", repr=False)
    app_secret: str = field(default="", repr=False)
    api_key: str = field(default="", repr=False)
    api_secret: str = field(default="", repr=False)
    pod: str = "us2"
    environment: Literal["production", "development"] = "production"
    hashing: Hashing = "strict"
    names: Literal["compact", "spaced"] = "compact"
    send_ip: bool = False
    event_types: Mapping[str, str] = field(default_factory=dict)
    conversion_types: Mapping[str, str] = field(default_factory=dict)
    clamp: bool = True
    holdout: Holdout | None = None
    amount_as: Literal["string", "number"] = "string"
    audiences: Mapping[str, tuple[str, Status]] = field(default_factory=dict)
    postback: bool = False
    base_url: str = ""
    postback_url: str = ""

    def __post_init__(self) -> None:
        require_flags("Rokt", self, "send_ip", "clamp", "postback")
        if self.postback_url:
            require_base_url("Rokt.postback_url", self.postback_url, "/api/conv")
        check_holdout("Rokt.holdout", self.holdout)
        _check_table("Rokt.event_types", self.event_types, example="conversion")
        _check_table("Rokt.conversion_types", self.conversion_types, example="hotel_booking")
        require_table("Rokt.audiences", self.audiences, '{"purchase": ("buyers", "add")}')
        if self._credentials.generation is Generation.CONVERSIONS:
            self._check_conversions()
            check_account(self.account, needed_by="postback" if self.postback else None)
        else:
            self._check_others_are_unset()
            check_account(self.account, needed_by=f"the {self._credentials.generation}")
            require_base_url("Rokt.base_url", self._url, *EVENTS_PATHS)
        # Refuses what cannot be.
        privacy(self.hashing, names=self.names, send_ip=self.send_ip)

    def _check_others_are_unset(self) -> None:
        """Refuse settings that would be without effect: they are of the Conversions API."""
        for one in fields(self):
            if one.name in _OF_CONVERSIONS and getattr(self, one.name) not in (one.default, {}):
                raise ConfigurationError(
                    f"Rokt.{one.name}", "is of the Conversions API alone; write api_key and api_secret, or leave it out"
                )

    @property
    def own_names(self) -> Collection[str]:
        """The shop's names in `event_types`, `conversion_types` and `audiences`."""
        return self.event_types.keys() | self.conversion_types.keys() | self.audiences.keys()

    @property
    def authentication(self) -> Authentication | None:
        """Client credentials on v1; the others put their pair into each request."""
        return self._surface.authentication

    def batch_limit(self, sending: Sending) -> int:
        """Return 100, Rokt's limit; 1 on v1 and for a postback."""
        return self._of(sending).largest_batch

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        """Return the first of identity_mismatch, identifier, time_old, time_future, value_too_long, too_large."""
        return self._for(dispatch).check(dispatch, now=now)

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        """Return the event as its surface's JSON."""
        return self._for(dispatch).payload(dispatch, now=now)

    def keeps(self, payload: bytes) -> bool:
        """Return whether this body was frozen for a surface whose credentials are still here."""
        return any(payload.startswith(surface.begins) for surface in self._surfaces)

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        """Return the one request of these events, each with the bytes it was frozen with.

        Raises ValueError for a body that was frozen for a surface whose credentials are gone.
        """
        surface = self._of(sendings[0])
        if not all(sending.payload.startswith(surface.begins) for sending in sendings):
            raise ValueError("frozen for another surface")
        return surface.build(sendings)

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        """Return a meaning for each event by the surface's own rules."""
        return self._of(sendings[0]).judge(sendings, answer, now=now)

    def repeat_is_safe(self, sending: Sending, *, now: datetime) -> bool:
        """Return whether this surface tells a repeat of it."""
        return self._of(sending).repeat_is_safe(sending)

    def is_known(self, answer: Answer) -> bool:
        """Return whether a success has the shape of one of these surfaces', or is a token."""
        if not 200 <= answer.status < 300 or (self.authentication is not None and is_token(answer)):
            return True
        return any(surface.is_known(answer) for surface in self._surfaces)

    def remarks(self, dispatch: Dispatch, *, now: datetime) -> Sequence[str]:
        """Return what was given and is not told as it is: an e-mail or phone without a usable form, and the like."""
        return self._for(dispatch).remarks(dispatch)

    def trial(self, *, now: datetime) -> Trial:
        """Return a page view that nobody made, in the Conversions API's `development`, which counts nowhere.

        The other surfaces have no such thing: theirs carries nothing, and credentials show with the first event.
        """
        if self._credentials.generation is not Generation.CONVERSIONS:
            return Trial(request=httpx.Request("HEAD", self._url))
        of_test = replace(self, environment="development", audiences={}, event_types={}, postback=False)
        made_up = Dispatch(
            event_id="kit-doctor",
            at=now,
            conversion=Conversion(name="page_view", customer_id="kit-doctor"),
            identifiers=Identifiers(),
        )
        sending = first_sending(of_test, made_up, now=now)
        return Trial(request=of_test.build([sending]), sending=sending)

    def warnings(self) -> Sequence[str]:
        """Return those of every destination, and that test traffic counts nowhere, where it is test traffic."""
        found = Destination.warnings(self)
        test = self.environment == "development"
        return [*found, "environment is development: Rokt counts none of it"] if test else found

    def _for(self, dispatch: Dispatch) -> Surface:
        return self._postback if self._postback is not None and self._postback.takes(dispatch) else self._surface

    def _of(self, sending: Sending) -> Surface:
        """Return the surface whose body this is."""
        postback = self._postback
        return postback if postback is not None and sending.payload.startswith(postback.begins) else self._surface

    @cached_property
    def _credentials(self) -> Credentials:
        pairs = ("public_key", "secret_key", "app_id", "app_secret", "api_key", "api_secret")
        return chosen({name: getattr(self, name) for name in pairs}, live=self.mode == Mode.LIVE)

    @cached_property
    def _fields(self) -> Fields:
        return Fields(
            privacy=privacy(self.hashing, names=self.names, send_ip=self.send_ip),
            event_types=self.event_types,
            conversion_types=self.conversion_types,
            clamp=self.clamp,
            holdout=self.holdout,
        )

    @cached_property
    def _url(self) -> str:
        if self._credentials.generation is Generation.CONVERSIONS:
            return self.base_url or f"https://s2s.{self.pod}.mparticle.com"
        return self.base_url or "https://api.rokt.com"

    @cached_property
    def _postback(self) -> Postback | None:
        if not self.postback:
            return None
        return Postback(fields=self._fields, account=self.account, base_url=self._postback_host)

    @property
    def _postback_host(self) -> str:
        if self.postback_url:
            return self.postback_url
        # What is tried against a sandbox must not be told to Rokt itself.
        in_sandbox = self.base_url and is_loopback(httpx.URL(self.base_url).host)
        return self.base_url if in_sandbox else "https://apps.rokt.com"

    @property
    def _surfaces(self) -> Sequence[Surface]:
        return [self._surface] if self._postback is None else [self._surface, self._postback]

    @cached_property
    def _surface(self) -> Surface:
        if self._credentials.generation is Generation.CONVERSIONS:
            return ConversionsApi(
                fields=self._fields,
                base_url=self._url,
                credentials=self._credentials,
                environment=self.environment,
                amount_as=self.amount_as,
                audiences=self.audiences,
            )
        events_api = EventsV1 if self._credentials.generation is Generation.V1 else EventsV2
        return events_api(fields=self._fields, account=self.account, base_url=self._url, credentials=self._credentials)

    def _check_conversions(self) -> None:
        if not isinstance(self.pod, str) or self.pod not in PODS:
            raise ConfigurationError("Rokt.pod", f"is none of {', '.join(sorted(PODS))}")
        check_word("Rokt.environment", self.environment, ("production", "development"))
        check_word("Rokt.amount_as", self.amount_as, ("string", "number"))
        for name, membership in self.audiences.items():
            if not _is_membership(membership):
                raise ConfigurationError(f"Rokt.audiences[{name!r}]", 'is not such as ("buyers", "add")')
        check_conversions_url(self._url)


def _check_table(setting: str, table: object, *, example: str) -> None:
    """Raise ConfigurationError unless it is a dict of texts that Rokt takes."""
    require_table(setting, table, f'{{"purchase": "{example}"}}')
    for name, text in table.items() if isinstance(table, Mapping) else ():
        if not _is_text(text, longest=_LONGEST_TYPE):
            said = f"is not a text of 1 to {_LONGEST_TYPE} printable characters, such as {example}"
            raise ConfigurationError(f"{setting}[{name!r}]", said)


def _is_membership(given: object) -> bool:
    """Return whether it is the pair of an audience and what becomes of its person."""
    if not isinstance(given, (tuple, list)) or len(given) != 2:
        return False
    audience, status = given
    return _is_text(audience, longest=_LONGEST_AUDIENCE) and isinstance(status, str) and status in {"add", "drop"}


def _is_text(value: object, *, longest: int) -> bool:
    return isinstance(value, str) and 0 < len(value.strip()) <= len(value) <= longest and value.isprintable()
