"""Requests that somebody made wrong on purpose, by the hundred thousand: no page and no endpoint minds.

`KIT_FUZZ=1000000` is the long run. A failure names its seed and number: `KIT_FUZZ_ONLY=seed:number` asks it again.
"""

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kit.consent import Cookiebot, Didomi, Gpp, OneTrust, Signals, Tcf, UsPrivacy
from kit.model import VisitorId
from tests.attacks.mutations import PAGE as OPENED
from tests.attacks.mutations import Asked, Mutator, seeds
from tests.attacks.shop import DOCUMENTED, PAGE, Headers, Shop, attacked_kit, unclean
from tests.support import FrozenClock, adroll

REQUESTS = int(os.environ.get("KIT_FUZZ", "200000"))
ONLY = os.environ.get("KIT_FUZZ_ONLY", "")
#: In flight together: the store writes them down together too.
AT_ONCE = 64
#: What some of them come to; 408 alone needs a slow caller.
MET = DOCUMENTED - {408, 304}
PRIVATE = (b"cache-control", b"private")

SIGNALS = Signals(
    rule="opt_out",
    read=[
        Tcf(purposes={1, 3, 4}),
        Gpp(tcf=Tcf(purposes={1})),
        UsPrivacy(),
        OneTrust(groups={"C0004"}),
        Cookiebot(),
        Didomi(purposes={"advertising"}),
    ],
    implied=True,
)
KITS: dict[str, dict[str, Any]] = {
    "its own host": {},
    "a domain, further origins, every signal of consent": {
        "cookie_domain": "shop.com",
        "origins": ["https://www.shop.de"],
        "consent": SIGNALS,
    },
}


@dataclass(slots=True)
class Answered:
    status: int = 0
    headers: Headers = field(default_factory=list)
    body: bytes = b""
    page: Headers | None = None

    def cookie_header(self) -> bytes:
        return b"; ".join(value.partition(b";")[0] for name, value in self.headers if name == b"set-cookie")


async def ask(shop: Shop, asked: Asked) -> Answered:
    answered, scope = Answered(), asked.scope()
    half = len(asked.body) // 2
    pieces = iter(
        [
            {"type": "http.request", "body": asked.body[:half], "more_body": True},
            {"type": "http.request", "body": asked.body[half:], "more_body": False},
        ]
    )

    async def receive() -> dict[str, Any]:
        return next(pieces, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            answered.status, answered.headers = message["status"], list(message["headers"])
        else:
            answered.body += message.get("body", b"")

    await shop.app(scope, receive, send)
    answered.page = scope.get("shop.page")
    return answered


def wrong(asked: Asked, answered: Answered) -> str:
    """Return what is wrong with an answer, or nothing."""
    if found := unclean(answered.headers):
        return f"unclean: {found}"
    if answered.page is None:
        return "" if answered.status in DOCUMENTED else f"an endpoint answered {answered.status}"
    if answered.status != 200 or answered.body != (b"" if asked.method == b"HEAD" else PAGE):
        return "the page was changed"
    own, added = answered.headers[: len(answered.page)], answered.headers[len(answered.page) :]
    if own != answered.page or any(header[0] != b"set-cookie" and header != PRIVATE for header in added):
        return f"the page's headers were changed: {answered.headers}"
    return ""


async def known_visitors(shop: Shop) -> tuple[list[bytes], list[str]]:
    """Return the Cookie headers of a hundred visitors, and their ids."""
    landings = [Asked(b"GET", b"/", b"adct=click%d&utm_source=one" % number, OPENED) for number in range(100)]
    cookies = [b"theme=dark; " + (await ask(shop, landing)).cookie_header() for landing in landings]
    return cookies, [cookie.partition(b"kit=")[2][1:23].decode() for cookie in cookies]


async def checked(shop: Shop, mutator: Mutator, numbers: Iterator[int], statuses: set[int]) -> None:
    """Ask one after another of the numbers until none is left, and hold each answer to what is promised."""
    for number in numbers:
        asked = mutator.asked(number)
        name = f"KIT_FUZZ_ONLY={mutator.seed}:{number}"
        try:
            answered = await ask(shop, asked)
        except Exception as error:
            raise AssertionError(f"{name} raised, asked {asked}") from error
        fault = wrong(asked, answered)
        assert not fault, f"{name} {fault}, asked {asked}"
        statuses.add(answered.status)


@pytest.mark.parametrize("name", KITS)
async def test_no_request_makes_us_fail_or_touches_a_page(name: str, tmp_path: Path) -> None:
    """W01-W08, W14, W16, W19, B08: no exception, no 5xx, no byte that ends a line in a header, no cookie over 4,096
    bytes, no page changed, no cookie believed that we did not sign, and no fault of ours to be counted."""
    seed, _, only = ONLY.partition(":")
    chosen = int(seed or random.SystemRandom().randrange(1 << 31))
    count = REQUESTS // len(KITS)
    kit = attacked_kit(tmp_path, clock=FrozenClock(), destinations=[adroll()], **KITS[name])
    async with kit.lifespan():
        shop = Shop(kit)
        cookies, genuine = await known_visitors(shop)
        person = {"email": "ann@example.com", "phone": None, "customer_id": "c-42"}
        tokens = [kit.tokens.issued(VisitorId(each), person, max_age=timedelta(hours=1)) for each in genuine]
        mutator = Mutator(seeds(cookies, tokens), chosen)
        numbers, statuses = iter([int(only)] if only else range(count)), set[int]()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(checked(shop, mutator, numbers, statuses))

    assert shop.believed <= set(genuine), f"seed {chosen}: a visitor was believed that no cookie of ours named"
    # Not all were turned away at the same door.
    assert only or statuses >= MET
    assert not [where for where in kit.faults.counts if where.startswith("capture")], f"seed {chosen}"
