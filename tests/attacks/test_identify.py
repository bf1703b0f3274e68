"""Attacks on who is linked to whom: what the shop verified stays, and nobody is told whom it knows.

Ten thousand attacks, from a seed; `KIT_FUZZ=100000` is the long run.
"""

import asyncio
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from starlette.requests import Request

from kit import Conversion, Kit
from kit.capture import visitor_of
from kit.model import Identifiers, VisitorId
from kit.store import quarantine
from kit.store.quarantine import ASSERTED, VERIFIED
from kit.store.tables import links
from kit.web.identifying import Identify
from kit.web.limits import Limiter
from tests.attacks.exchanges import post
from tests.attacks.shop import UNLIMITED, Shop, asked_json, attacked_kit
from tests.attacks.wire import serving
from tests.support import Browser, FrozenClock, Page, make_kit
from tests.test_kit import identifiers

ATTACKS = int(os.environ.get("KIT_FUZZ", "10000"))
SEED = 5
#: In flight together: the store writes them down together too.
AT_ONCE = 500
HOUR = timedelta(hours=1)
VICTIMS, ATTACKERS = 12, 300


@dataclass(frozen=True, slots=True)
class Victim:
    """A customer whom the shop has verified on a browser, whose click it keeps."""

    number: int
    browser: Browser
    request: Request
    visitor: VisitorId
    #: Good once: of somebody else who was signed in on this browser hours ago.
    expired: str
    #: Good for this browser alone.
    token: str

    @property
    def names(self) -> dict[str, str]:
        return names_of(f"victim-{self.number}", self.number)


def names_of(word: str, number: int) -> dict[str, str]:
    return {"email": f"{word}@example.com", "customer_id": word, "phone": f"323867{number:04}"}


async def visit(browser: Browser, target: str = "/") -> Request:
    """Open a page; returns its request, as the endpoints see it."""
    found: list[Request] = []

    async def look(page: Page) -> None:
        found.append(Request(page.scope))

    await browser.open(target, act=look)
    return found[0]


async def stranger(kit: Kit) -> Request:
    browser = Browser(kit)
    await browser.open("/")
    return await visit(browser)


async def victim(kit: Kit, clock: FrozenClock, number: int) -> Victim:
    browser = Browser(kit)
    await browser.open(f"/?adct=click-{number}")
    request = await visit(browser)
    visitor = visitor_of(request)
    assert visitor is not None
    expired = kit.tokens.issued(visitor.id, names_of("earlier", number), max_age=HOUR)
    clock.passes(2 * HOUR)
    names = names_of(f"victim-{number}", number)
    await kit.identify(visitor=visitor.id, **names)  # type: ignore[arg-type]
    token = kit.tokens.issued(visitor.id, names, max_age=timedelta(days=9))
    return Victim(number, browser, request, visitor.id, expired, token)


class Attacker:
    """Makes attacks: the request that each is sent with, and its body."""

    def __init__(self, victims: Sequence[Victim], strangers: Sequence[Request], forger: Kit) -> None:
        self.random = random.Random(SEED)
        self.victims = victims
        self.strangers = strangers
        self.forger = forger
        self._ways: list[Callable[[Victim], tuple[Request, dict[str, Any]]]] = [
            self.steals_the_cookie,
            self._says_to_be_the_victim,
            self._shows_an_expired_token,
            self._shows_anothers_token,
            self._forges_a_token,
            self._alters_a_token,
            self._joins_tokens,
            self._shows_what_is_no_token,
        ]

    def attack(self) -> tuple[Request, dict[str, Any]]:
        return self.random.choice(self._ways)(self.random.choice(self.victims))

    def steals_the_cookie(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        """Posts with the victim's cookie what is not hers."""
        other = self.random.choice(self.victims).names
        return victim.request, self._some(self.random.choice([self._evil(), other]))

    def _says_to_be_the_victim(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        names = self._some(victim.names)
        if "email" in names:
            email = names["email"]
            names["email"] = self.random.choice([email, email.upper(), email.title(), f" {email}"])
        return self._own(), names

    def _shows_an_expired_token(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        return victim.request, {"token": victim.expired, **self._some(self._evil())}

    def _shows_anothers_token(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        others = [other for other in self.victims if other is not victim]
        return self.random.choice([self._own(), self.random.choice(others).request]), {"token": victim.token}

    def _forges_a_token(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        return victim.request, {"token": self.forger.tokens.issued(victim.visitor, self._evil(), max_age=HOUR)}

    def _alters_a_token(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        place = self.random.randrange(len(victim.token) - 1)
        letter = self.random.choice([each for each in "AZaz09-_." if each != victim.token[place]])
        return victim.request, {"token": victim.token[:place] + letter + victim.token[place + 1 :]}

    def _joins_tokens(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        """Puts what an attacker would say, or what was said long ago, under a time and signature of today."""
        evil = self.forger.tokens.issued(victim.visitor, self._evil(), max_age=HOUR)
        said, signed = self.random.choice([evil, victim.expired]), victim.token
        kept = self.random.choice([1, 2])
        return victim.request, {"token": ".".join(said.split(".")[:kept] + signed.split(".")[kept:])}

    def _shows_what_is_no_token(self, victim: Victim) -> tuple[Request, dict[str, Any]]:
        told: list[object] = [
            True,
            1,
            [victim.token],
            {"token": victim.token},
            " ",
            "..",
            victim.token.partition(".")[0],
        ]
        return victim.request, {"token": self.random.choice(told), **self._evil()}

    def _own(self) -> Request:
        return self.random.choice(self.strangers)

    def _evil(self) -> dict[str, str]:
        number = self.random.randrange(10_000)
        return names_of(f"evil-{number}", number)

    def _some(self, names: dict[str, str]) -> dict[str, str]:
        return dict(self.random.sample(sorted(names.items()), self.random.randint(1, len(names))))


async def orders_of(kit: Kit, victims: Sequence[Victim], word: str) -> list[Identifiers]:
    """Report each victim's orders: from the browser, from a webhook by the customer number, and by the order's link."""
    for each in victims:
        number = each.names["customer_id"]
        await each.browser.open("/pay", act=lambda page, n=number: kit.link(page, order_id=f"{word}-linked-{n}"))
        await each.browser.open("/confirm", act=lambda page, n=number: kit.report(order(f"{word}-page-{n}"), page))
        await kit.report(order(f"{word}-webhook-{number}", customer_id=number))
        await kit.report(order(f"{word}-linked-{number}"))
    sources = [(source, each.names["customer_id"]) for each in victims for source in ("page", "webhook", "linked")]
    return [await identifiers(kit, f"{word}-{source}-{number}") for source, number in sources]


def order(order_id: str, **fields: Any) -> Conversion:
    return Conversion(order_id=order_id, value="19.90", currency="USD", **fields)


def verified(connection: Connection) -> list[tuple[Any, ...]]:
    rows = connection.execute(select(links).where(links.c.level == VERIFIED).order_by(links.c.id))
    return [tuple(row) for row in rows]


def asserted(connection: Connection) -> int:
    return connection.scalars(select(func.count()).select_from(links).where(links.c.level == ASSERTED)).one()


async def test_no_attack_changes_a_verified_link_or_what_an_order_is_told(
    kit: Kit, clock: FrozenClock, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Stolen cookies, the victim's own names, and tokens that are forged, altered, expired or somebody else's.

    Every verified link stays as it was, to the byte and the time; the orders of every victim, from the browser, by
    webhook and by link, gather what they gathered before; and no rate had to refuse anything for that.
    """
    victims = [await victim(kit, clock, number) for number in range(VICTIMS)]
    strangers = [await stranger(kit) for _ in range(ATTACKERS)]
    gathered = await orders_of(kit, victims, "before")
    before = await kit.store.read(verified)
    forger = make_kit(tmp_path_factory.mktemp("forger"), clock=clock, secret_keys=["another-key-of-32-characters-..."])
    attacker, identify = Attacker(victims, strangers, forger), Identify(Limiter(UNLIMITED))

    # Once each is no quarantine yet: what is asserted serves, behind what is verified.
    await asyncio.gather(*(identify(kit, *attacker.steals_the_cookie(each)) for each in victims))
    assert not await kit.store.read(quarantine.quarantined)
    assert await orders_of(kit, victims, "meanwhile") == gathered
    for start in range(0, ATTACKS, AT_ONCE):
        clock.passes(timedelta(seconds=1))
        attacks = [attacker.attack() for _ in range(min(AT_ONCE, ATTACKS - start))]
        answers = await asyncio.gather(*(identify(kit, request, body) for request, body in attacks))
        assert set(answers) == {()}

    assert await kit.store.read(verified) == before
    assert await orders_of(kit, victims, "after") == gathered
    # The attacks were what they should be.
    assert len(before) == 3 * VICTIMS
    assert {each.customer_id for each in gathered} == {each.names["customer_id"] for each in victims}
    assert all(each.click_id("adroll") and each.email and each.phone for each in gathered)
    assert await kit.store.read(asserted) > 6 * VICTIMS
    assert {each.visitor for each in victims} <= set(await kit.store.read(quarantine.quarantined))
    refused = {"identify.token.forged", "identify.token.expired", "identify.token.visitor"}
    assert set(kit.faults.counts) == refused


# ---------------------------------------------------------------- probing


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_a_known_email_is_answered_to_the_byte_as_an_unknown_one(tmp_path: Path, parser: str) -> None:
    """Over real sockets: verified, asserted, erased, frozen and unknown, from a fresh browser each, and twice."""
    kit = attacked_kit(tmp_path)
    kit.open()
    for name in ("verified", "erased"):
        kit.sync.identify(visitor=VisitorId(f"{name:-<22}"), email=f"{name}@example.com")
    kit.sync.erase(email="erased@example.com")
    shop = Shop(kit)
    with serving(shop, parser) as server:

        def said(body: dict[str, str], cookie: bytes) -> Any:
            sent = post(b"/kit/identify", asked_json(body), b"Cookie: " + cookie)
            (answer,) = server.ask(sent)
            return answer.status, [header for header in answer.headers if header[0] != b"date"], answer.body

        def browser() -> bytes:
            (answer,) = server.ask(post(b"/kit/collect", b"{}"))
            return next(value.partition(b";")[0] for name, value in answer.headers if name == b"set-cookie")

        for _ in range(26):
            said({"email": "frozen@example.com"}, browser())
        said({"email": "asserted@example.com"}, browser())
        cookies = [browser() for _ in range(5)]
        told = ("verified", "asserted", "erased", "frozen", "unknown")
        answers = [
            said({"email": f"{name}@example.com"}, cookie)
            for _ in range(2)
            for name, cookie in zip(told, cookies, strict=True)
        ]
    kit.store.close()

    assert answers[0][0] == 204
    assert answers == [answers[0]] * 10
