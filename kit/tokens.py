"""Identity tokens: the shop's signed word on who a visitor is, which the page carries to the identify endpoint."""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from itsdangerous import BadData, TimestampSigner, URLSafeTimedSerializer

from kit.errors import InvalidInput
from kit.model import Clock, VisitorId

SALT = b"kit.identity"
#: Clocks of two web servers may differ by this much.
SKEW = timedelta(minutes=5)
_NAMES = ("email", "customer_id", "phone")


class Refusal(StrEnum):
    """Why a token is not believed."""

    FORGED = "forged"
    EXPIRED = "expired"
    AUDIENCE = "audience"
    VISITOR = "visitor"


class IdentityTokens:
    """Makes and reads identity tokens. The newest (last) key signs, all verify.

    A token is signed and not secret: whoever has the page reads in it what the page shows anyway. It holds its
    audience, one visitor, how long it is good, and who that visitor is; with another visitor's cookie it is worthless.
    """

    def __init__(self, secret_keys: Sequence[bytes], *, audience: str, clock: Clock) -> None:
        self._audience = audience
        self._clock = clock
        self._serializer = URLSafeTimedSerializer(
            list(secret_keys),
            salt=SALT,
            signer=_Signer,
            signer_kwargs={"digest_method": hashlib.sha256, "clock": clock},
        )

    def issued(self, visitor: VisitorId, names: Mapping[str, str | None], *, max_age: timedelta) -> str:
        """Return the token that says that this visitor is `email`, `customer_id`, `phone`, in their storable forms."""
        seconds = int(max_age.total_seconds())
        if seconds < 1:
            raise InvalidInput("max_age", "is less than a second; pass a timedelta such as timedelta(hours=1)")
        said = [names.get(name) for name in _NAMES]
        return self._serializer.dumps([self._audience, visitor, seconds, *said])

    def opened(self, token: str, visitor: VisitorId | None) -> Mapping[str, str | None] | Refusal:
        """Return whom the token names, or why it is not believed when this visitor shows it."""
        try:
            said, issued_at = self._serializer.loads(token, return_timestamp=True)
            audience, owner, seconds, *names = said
            max_age = timedelta(seconds=seconds)
            named = dict(zip(_NAMES, names, strict=True))
        except (BadData, ValueError, TypeError):
            return Refusal.FORGED
        if audience != self._audience:
            return Refusal.AUDIENCE
        if owner != visitor:
            return Refusal.VISITOR
        if not self._is_current(issued_at, max_age):
            return Refusal.EXPIRED
        return named

    def _is_current(self, issued_at: datetime, max_age: timedelta) -> bool:
        return -SKEW <= self._clock() - issued_at <= max_age


class _Signer(TimestampSigner):
    """Signs at the time that the kit's own clock tells."""

    def __init__(self, *given: Any, clock: Clock, **options: Any) -> None:
        super().__init__(*given, **options)
        self._clock = clock

    def get_timestamp(self) -> int:
        return int(self._clock().timestamp())
