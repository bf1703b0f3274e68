"""What pages post to `/identify`: the shop's signed token, or what somebody typed."""

from collections.abc import Callable, Mapping
from functools import partial

from starlette.requests import Request

from kit.errors import InvalidInput
from kit.kit import UNANSWERED, Kit
from kit.model import clean_text, email_text
from kit.tokens import Refusal
from kit.web.limits import Limiter

_CLAIMS: Mapping[str, Callable[[str, object], str]] = {
    "email": email_text,
    "customer_id": partial(clean_text, longest=128),
    "phone": partial(clean_text, longest=64),
}
#: The store's words for these fields.
_KINDS = {"email": "email", "customer_id": "customer", "phone": "phone"}


class Identify:
    """The verb of `/identify`: links the visitor to a person. Its answer never tells what came of it.

    `{"token": …}` makes a verified link where the token is good, and nothing where it is not, whatever stands beside
    it. Without one, `email`, `customer_id` and `phone` make an asserted link.
    """

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter

    async def __call__(self, kit: Kit, request: Request, body: object) -> tuple[()]:
        said = body if isinstance(body, dict) else {}
        token = said.get("token")
        try:
            if token is None or token == "":
                await self._assert(kit, request, _claims(kit, said))
            else:
                await _verify(kit, request, token)
        except UNANSWERED as error:
            kit.faults.count("identify", error)
        return ()

    async def _assert(self, kit: Kit, request: Request, claims: Mapping[str, str]) -> None:
        if not claims:
            return
        lookups = [kit.intake.identity(_KINDS[name], value).lookup for name, value in claims.items()]
        if (limit := self.limiter.passed_asserting(request, lookups)) is not None:
            kit.faults.count(f"limits.{limit}")
        else:
            await kit.assert_identity(request, **claims)


def _claims(kit: Kit, said: Mapping[str, object]) -> dict[str, str]:
    claims: dict[str, str] = {}
    for name, checked in _CLAIMS.items():
        value = said.get(name)
        if value is None or value == "":
            continue
        try:
            claims[name] = checked(name, value)
        except InvalidInput:
            kit.faults.count("identify.input")
    return claims


async def _verify(kit: Kit, request: Request, token: object) -> None:
    refusal = await kit.identify_by_token(request, token) if isinstance(token, str) else Refusal.FORGED
    if refusal is not None:
        kit.faults.count(f"identify.token.{refusal}")
