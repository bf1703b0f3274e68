"""Rokt: one destination; its credentials choose the surface that takes its events (contracts.md 3, 4 and 6)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
    require_base_url,
)
from kit.destinations.holdout import Holdout
from kit.destinations.rokt.conversions_api import LARGEST_REQUEST, ConversionsApi, Status
from kit.destinations.rokt.credentials import (
    PODS,
    Credentials,
    Generation,
    check_account,
    check_conversions_url,
    chosen,
)
from kit.destinations.rokt.events_api import EventsV1, EventsV2
from kit.destinations.rokt.fields import VENDOR, Fields
from kit.destinations.rokt.hashing import Hashing, privacy
from kit.destinations.rokt.postback import Postback
from kit.destinations.rokt.surface import Surface
from kit.errors import ConfigurationError
from kit.model import Dispatch, Mode


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
    `names`             "compact" hashes names without inner spaces, as Rokt publishes; "spaced" as its SDK does.
    `send_ip`           True sends the visitor's ip, in clear unless `hashing` names it; Rokt publishes no rule for it.
    `event_types`       the kit's event name to Rokt's eventType; "conversion" triggers attribution. A purchase is a
                        conversion unless this says otherwise; other names go as they are, as agreed with Rokt.
    `conversion_types`  the kit's event name to `conversiontype`, for events that bring none. Where neither says, the
                        Conversions API, which wants one, is told the event name.
    `clamp`             an event up to five minutes ahead of our clock is told as of now.
    `holdout`           stamps each event with `holdout`: the group that is kept from advertising, or "none".
    `base_url`          another host; of the Conversions API only mparticle.com and what is below it.
    `postback`          True reports a conversion with a click id of 32 characters and no e-mail by a GET that carries
                        the click id alone. Rokt cannot tell its repeat, so one without an answer is held.
    `postback_url`      where that is.

    Of the Conversions API only:

    `environment`       "production" or "development".
    `amount_as`         "string" sends the shop's digits; "number" at most four decimals.
    `audiences`         the kit's event name to (audience, "add" or "drop"): its person joins or leaves it.

    Further fields come from `Conversion.extra` (and `metadata`, which the Conversions API does not know). Left out of
    them: names beginning with `rokt.` (reserved by Rokt), names that have their own field, MD5, `...sha256` that is no
    digest, and e-mail addresses in clear where those are hashed.

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
    postback_url: str = "https://apps.rokt.com"

    def __post_init__(self) -> None:
        require_base_url("Rokt.postback_url", self.postback_url)
        if self._credentials.generation is Generation.CONVERSIONS:
            self._check_conversions()
            check_account(self.account, needed_by="postback" if self.postback else None)
        else:
            if self.audiences or self.environment != "production":
                raise ConfigurationError(
                    "Rokt", "is given audiences or environment, which only the Conversions API has; write api_key"
                )
            check_account(self.account, needed_by=f"the {self._credentials.generation}")
            require_base_url("Rokt.base_url", self._url)
        # Refuses what cannot be.
        privacy(self.hashing, names=self.names, send_ip=self.send_ip)

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
        surfaces = [self._surface] if self._postback is None else [self._surface, self._postback]
        return any(payload.startswith(surface.begins) for surface in surfaces)

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

    def trial(self, *, now: datetime) -> Trial:
        """Return a request that carries nothing: there is no dry run, so credentials show with the first event."""
        return Trial(request=httpx.Request("HEAD", self._url))

    def warnings(self) -> Sequence[str]:
        """Return that test traffic counts nowhere, where it is test traffic."""
        return ("environment is development: Rokt counts none of it",) if self.environment == "development" else ()

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
        return Postback(fields=self._fields, account=self.account, base_url=self.postback_url)

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
        if self.pod not in PODS:
            raise ConfigurationError("Rokt.pod", f"is none of {', '.join(sorted(PODS))}")
        if self.environment not in {"production", "development"}:
            raise ConfigurationError("Rokt.environment", 'is neither "production" nor "development"')
        if self.amount_as not in {"string", "number"}:
            raise ConfigurationError("Rokt.amount_as", 'is neither "string" nor "number"')
        for name, membership in self.audiences.items():
            if len(membership) != 2 or not membership[0] or membership[1] not in {"add", "drop"}:
                raise ConfigurationError(f"Rokt.audiences[{name!r}]", 'is not such as ("buyers", "add")')
        check_conversions_url(self._url)
