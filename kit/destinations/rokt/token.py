"""Rokt's OAuth: an app's id and secret are exchanged for a bearer token that lives an hour (contracts.md 3.2)."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx

from kit.destinations.base import (
    Answer,
    Authentication,
    Judgement,
    Token,
    endpoint,
    json_object,
    judge_with_words,
)
from kit.destinations.rokt.credentials import basic
from kit.model import Verdict

#: How long a token lives whose answer does not say.
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials(Authentication):
    """Client credentials for api.rokt.com: Event API v1 and the data deletion API."""

    base_url: str
    app_id: str
    app_secret: str = field(repr=False)

    def ask(self) -> httpx.Request:
        """Return the POST for a token: Basic of id and secret, a form of one field."""
        return httpx.Request(
            "POST",
            endpoint(self.base_url, "/auth/oauth2/token"),
            headers={
                "Authorization": basic(self.app_id, self.app_secret),
                "Content-Type": "application/x-www-form-urlencoded",
            },
            content=b"grant_type=client_credentials",
        )

    def read(self, answer: Answer, *, now: datetime) -> Token | Judgement:
        """Return the token, under whichever capitals Rokt spells its key; 400, 401 and 403 mean wrong credentials."""
        if not 200 <= answer.status < 300:
            # The whole answer may repeat the credentials; its status says enough.
            judgement = judge_with_words(answer, now=now, words="", secrets=(self.app_id, self.app_secret))
            wrong = judgement.verdict is Verdict.INVALID
            return Judgement(
                verdict=Verdict.SETUP if wrong else judgement.verdict,
                detail=f"token: {judgement.detail}",
                wait=judgement.wait,
            )
        said = {str(key).lower(): value for key, value in (json_object(answer.body) or {}).items()}
        value, lifetime = said.get("access_token"), said.get("expires_in")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value.strip():
            return Judgement(verdict=Verdict.SETUP, detail="token: the answer holds none")
        return Token(value=value, lifetime=_lifetime(lifetime))

    def sign(self, request: httpx.Request, token: Token) -> None:
        """Set the bearer token; a request to another host of Rokt's, such as the postback's, does not get it."""
        if str(request.url).startswith(f"{self.base_url.rstrip('/')}/"):
            request.headers["Authorization"] = f"Bearer {token.value}"


def is_token(answer: Answer) -> bool:
    """Return whether an answer is what the token's path gives, for whoever looks at answers of all kinds."""
    return "access_token" in {str(key).lower() for key in json_object(answer.body) or {}}


def _lifetime(seconds: object) -> timedelta:
    """Return what the answer says, within a day; an hour where it says nothing that could be."""
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and 0 < seconds < 86_400:
        return timedelta(seconds=seconds)
    return _HOUR
