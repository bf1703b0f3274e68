"""Rokt's token endpoint on this machine, by contracts.md 3.2: OAuth2 client credentials for v1 and for erasure."""

from datetime import timedelta
from typing import Literal
from urllib.parse import parse_qs

from pydantic import JsonValue

from kit.sandbox.checks import phrase
from kit.sandbox.doors import Tokens, basic_pair, opens
from kit.sandbox.record import Event, Received, Refusal, Ruling
from kit.sandbox.settings import Settings
from kit.sandbox.vendor import Vendor

LIFE = timedelta(hours=1)

Spelling = Literal["access_token", "Access_token"]
"""How the answer spells its key: the vendor's own sample has the capital A, and nothing but the token."""


class RoktToken(Vendor):
    """`POST /auth/oauth2/token` for one app id and secret: a token lives 3600 seconds, and none is ever renewed.

    A missing credential is answered 400 and a wrong one 403: the pages name both and do not say which is which.
    """

    name = "rokt_token"
    paths = ("/auth/",)

    def __init__(
        self, app_id: str, secret: str, tokens: Tokens, settings: Settings, *, spelling: Spelling = "access_token"
    ) -> None:
        super().__init__(settings)
        self.spelling: Spelling = spelling
        self._pair = (app_id, secret)
        self._tokens = tokens

    def clear(self) -> None:
        super().clear()
        self._tokens.expire()

    def read(self, received: Received) -> tuple[Event, ...]:
        return ()

    def judge(self, received: Received, authorization: str) -> Ruling:
        if received.path != "/auth/oauth2/token":
            return self._refuse(404, "path", "is not /auth/oauth2/token", authorized=None)
        if received.method != "POST":
            return self._refuse(405, "method", "is not POST", authorized=None)
        if basic_pair(authorization) is None:
            return self._refuse(400, "Authorization", "holds no Basic credential", authorized=False)
        if not opens(authorization, *self._pair):
            return self._refuse(403, "Authorization", "holds no known app id and secret", authorized=False)
        kind = received.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return self._refuse(400, "Content-Type", "is not application/x-www-form-urlencoded")
        if parse_qs(received.body.decode("latin-1")).get("grant_type") != ["client_credentials"]:
            return self._refuse(400, "grant_type", "is not client_credentials")
        return Ruling(status=200, body=self._issued(received), authorized=True)

    def details(self) -> dict[str, JsonValue]:
        return {"live tokens": self._tokens.live(self.clock())}

    def trouble(self, status: int) -> object:
        return {} if status < 300 else {"error": phrase(status)}

    def _issued(self, received: Received) -> object:
        token = self._tokens.issue(received.at, LIFE)
        if self.spelling == "Access_token":
            return {"Access_token": token}
        return {"access_token": token, "expires_in": int(LIFE.total_seconds()), "token_type": "Bearer"}

    def _refuse(self, status: int, field: str, message: str, *, authorized: bool | None = True) -> Ruling:
        body = {"error": f"{field} {message}"}
        refused = (Refusal(field=field, message=message),)
        return Ruling(status=status, body=body, refused=refused, authorized=authorized)
