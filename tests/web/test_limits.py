"""Limits on posts: generous for people, strict for floods, and in memory that a flood cannot grow."""

import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, func, select
from starlette.requests import Request

from kit import Kit
from kit.errors import ConfigurationError
from kit.model import VisitorId
from kit.store.people import newest_consents
from kit.store.tables import consents, events
from kit.web.limits import Buckets, Limiter, PostLimits, Rate
from tests.support import Browser, Page, make_kit
from tests.web.test_endpoints import SAME, client_of, cookies_of, post

ADDRESS = {**SAME, "x-forwarded-for": "12.34.56.89"}
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


# ---------------------------------------------------------------- buckets


@pytest.mark.parametrize("posts", [1, 7, 60, 100, 1_200])
def test_as_many_pass_at_once_as_the_rate_says(seconds: Seconds, posts: int) -> None:
    """One more does not, and a bucket is full again after the rate's time."""
    buckets = Buckets(Rate(posts=posts, per=MINUTE), remembered=10, seconds=seconds)

    first = [buckets.take("a") for _ in range(posts + 3)]
    seconds.now += 60.0
    again = [buckets.take("a") for _ in range(posts + 3)]

    assert first == again == [True] * posts + [False] * 3


def test_what_was_refused_costs_nothing(seconds: Seconds) -> None:
    """Somebody who goes on asking is let in again at the same pace as somebody who waits."""
    buckets = Buckets(Rate(posts=2, per=timedelta(seconds=20)), remembered=10, seconds=seconds)

    answers = []
    for _ in range(21):
        answers.append(buckets.take("a"))
        seconds.now += 1.0

    assert [place for place, allowed in enumerate(answers) if allowed] == [0, 1, 10, 20]


def test_each_key_has_a_bucket_of_its_own(seconds: Seconds) -> None:
    """One that is empty holds nobody else up."""
    buckets = Buckets(Rate(posts=1, per=DAY), remembered=10, seconds=seconds)

    assert [buckets.take(key) for key in ("a", "a", "b", "a", "b")] == [True, False, True, False, False]


def test_a_clock_that_stands_still_or_goes_back_locks_nobody_out_for_longer(seconds: Seconds) -> None:
    """What is owed is at most one full bucket."""
    buckets = Buckets(Rate(posts=2, per=MINUTE), remembered=10, seconds=seconds)

    taken = [buckets.take("a") for _ in range(100)]
    seconds.now += 30.0

    assert taken.count(True) == 2
    assert buckets.take("a")


def test_a_million_keys_take_no_more_room_than_are_remembered(seconds: Seconds) -> None:
    """A flood of new addresses pushes out the oldest; who is active all the while stays, and stays limited."""
    buckets = Buckets(Rate(posts=1, per=DAY), remembered=1_000, seconds=seconds)
    buckets.take("active")

    largest, refusals = 0, 0
    for key in range(1_000_000):
        buckets.take(key)
        if key % 500 == 0:
            refusals += not buckets.take("active")
            largest = max(largest, len(buckets))

    assert (largest, len(buckets)) == (1_000, 1_000)
    assert refusals == 2_000
    assert buckets.take(0), "the oldest key is forgotten"


def test_what_is_remembered_of_all_kinds_takes_under_32_mib(seconds: Seconds) -> None:
    """Full of visitors' ids, addresses and identities' keys, at the default settings."""
    limits = PostLimits()
    rates = [limits.visitor, limits.address, limits.asserted, limits.identity]
    tracemalloc.start()

    kept = [Buckets(rate, remembered=limits.remembered, seconds=seconds) for rate in rates if rate is not None]
    for number in range(limits.remembered + 1_000):
        for buckets, length in zip(kept, (22, 15, 22, 64), strict=True):
            buckets.take(f"{number:0{length}d}")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [len(buckets) for buckets in kept] == [limits.remembered] * 4
    assert used < 32 * 2**20


@pytest.mark.parametrize(
    "made",
    [
        lambda: Rate(posts=0, per=MINUTE),
        lambda: Rate(posts=1, per=timedelta(0)),
        lambda: PostLimits(remembered=0),
    ],
)
def test_a_limit_that_lets_nobody_in_is_refused_at_start(made: Callable[[], object]) -> None:
    """None is how no limit is written."""
    with pytest.raises(ConfigurationError):
        made()


# ---------------------------------------------------------------- at the endpoints


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return make_kit(tmp_path, insecure_cookies=False)


def limits(**given: Rate) -> PostLimits:
    none = dict.fromkeys(("visitor", "address", "asserted", "identity", "everybody"))
    return PostLimits(**{**none, **given})  # type: ignore[arg-type]


async def emails(kit: Kit, visitor: str) -> str | None:
    return (await kit.identifiers(visitor=visitor)).email


async def visitor_of(client: httpx.AsyncClient) -> str:
    return cookies_of(await post(client, "/collect", {}))["__Host-kit"].value[1:23]


async def test_past_a_visitors_limit_nothing_is_kept_and_the_answer_is_the_same(kit: Kit) -> None:
    """The second post of one visitor comes to nothing; another visitor's is kept."""
    async with client_of(kit, limits=limits(visitor=Rate(posts=1, per=DAY))) as client:
        visitor = await visitor_of(client)
        allowed = await post(client, "/identify", {"email": "one@example.com"})
        refused = await post(client, "/identify", {"email": "two@example.com"})
        found = await emails(kit, visitor)
        client.cookies.clear()
        other = await visitor_of(client)
        await post(client, "/identify", {"email": "other@example.com"})
        found_other = await emails(kit, other)

    assert (refused.status_code, refused.content, refused.headers) == (204, b"", allowed.headers)
    assert (found, found_other) == ("one@example.com", "other@example.com")
    assert kit.faults.counts["limits.visitor"] == 1


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("12.34.56.89", "12.34.56.89", True),
        ("12.34.56.89", "12.34.56.90", False),
        ("2600:1f18:1:2::1", "2600:1f18:1:2:ffff::2", True),
        ("2600:1f18:1:2::1", "2600:1f18:1:3::1", False),
        ("10.0.0.5", "10.0.0.5", False),
    ],
)
async def test_an_address_has_one_bucket_whatever_visitors_it_shows(
    kit: Kit, first: str, second: str, same: bool
) -> None:
    """An IPv6 address counts by its /64; one that is not global is the shop's own proxy, and counts for nobody."""
    async with client_of(kit, limits=limits(address=Rate(posts=1, per=DAY))) as client:
        await post(client, "/collect", {}, {**SAME, "x-forwarded-for": first})
        client.cookies.clear()
        answer = await post(client, "/collect", {}, {**SAME, "x-forwarded-for": second})

    assert answer.status_code == 204
    assert bool(cookies_of(answer)) is not same
    assert kit.faults.counts["limits.address"] == int(same)


async def test_one_identity_is_told_of_so_often_by_whomever(kit: Kit) -> None:
    """A poisoned e-mail stops being linked; spelling it otherwise does not help, and other e-mails are linked."""
    async with client_of(kit, limits=limits(identity=Rate(posts=1, per=DAY))) as client:
        found = []
        for email in ("jane@example.com", "JANE@example.com", "bob@example.com"):
            client.cookies.clear()
            visitor = await visitor_of(client)
            await post(client, "/identify", {"email": email})
            found.append(await emails(kit, visitor))

    assert found == ["jane@example.com", None, "bob@example.com"]
    assert kit.faults.counts["limits.identity"] == 1


async def test_a_signed_in_persons_pages_are_kept_however_fast_they_are_opened(kit: Kit) -> None:
    """What every page says again is counted, and lost on none: a link that is there stays, and other posts go on."""
    async with client_of(kit) as client:
        visitor = await visitor_of(client)
        for _ in range(40):
            await post(client, "/identify", {"email": "jane@example.com"})
        await post(client, "/track", {"name": "add_to_cart"})
        found = await emails(kit, visitor)
        reported = await kit.store.read(_reported)

    assert (found, reported) == ("jane@example.com", 1)
    assert kit.faults.counts["limits.asserted"] >= 20
    assert set(kit.faults.counts) == {"limits.asserted"}


async def test_past_the_rate_of_everybody_pages_assert_nothing_and_all_else_goes_on(kit: Kit) -> None:
    """A flood of identify refuses no collect, no track, no decision and no signed token, and is answered as before."""
    async with client_of(kit, limits=limits(everybody=Rate(posts=3, per=DAY))) as client:
        answers, linked = [], []
        for number in range(5):
            client.cookies.clear()
            visitor = await visitor_of(client)
            answers.append(await post(client, "/identify", {"email": f"v{number}@example.com"}))
            linked.append(await emails(kit, visitor))
        tracked = await post(client, "/track", {"name": "add_to_cart"})
        token = kit.tokens.issued(VisitorId(visitor), {"email": "jane@example.com"}, max_age=MINUTE)
        await post(client, "/identify", {"token": token})
        signed = await emails(kit, visitor)
        reported = await kit.store.read(_reported)

    assert linked == ["v0@example.com", "v1@example.com", "v2@example.com", None, None]
    assert {(each.status_code, each.content, tuple(each.headers.raw)) for each in answers} == {
        (204, b"", ((b"cache-control", b"no-store"),))
    }
    assert (tracked.status_code, reported, signed) == (204, 1, "jane@example.com")
    assert dict(kit.faults.counts) == {"limits.everybody": 2}


@pytest.mark.parametrize("narrower", ["visitor", "asserted", "identity"])
async def test_what_a_narrower_limit_refuses_takes_nothing_from_everybody(kit: Kit, narrower: str) -> None:
    """One visitor's hundred posts, or a hundred of one e-mail, leave the others their turn."""
    given = {narrower: Rate(posts=2, per=DAY), "everybody": Rate(posts=3, per=DAY)}
    async with client_of(kit, limits=limits(**given)) as client:
        await visitor_of(client)
        for _ in range(100):
            await post(client, "/identify", {"email": "victim@example.com"})
        client.cookies.clear()
        other = await visitor_of(client)
        await post(client, "/identify", {"email": "jane@example.com"})
        found = await emails(kit, other)

    assert found == "jane@example.com"
    assert set(kit.faults.counts) == {f"limits.{narrower}"}


async def test_who_has_no_visitor_takes_nothing_from_those_who_have(kit: Kit) -> None:
    """Posts without a cookie link nobody: a million of them neither use an e-mail's turns up nor everybody's."""
    rate = Rate(posts=1, per=DAY)
    async with client_of(kit, limits=limits(asserted=rate, identity=rate, everybody=rate)) as client:
        for _ in range(20):
            await post(client, "/identify", {"email": "jane@example.com"})
        visitor = await visitor_of(client)
        await post(client, "/identify", {"email": "jane@example.com"})
        found = await emails(kit, visitor)

    assert found == "jane@example.com"
    assert not kit.faults.counts


async def test_the_rate_of_everybody_is_200_a_second(seconds: Seconds, kit: Kit) -> None:
    """Of a thousand visitors that assert a thousand e-mails at once two hundred pass, and as many a second later."""
    limiter = Limiter(PostLimits(), seconds=seconds)
    requests = [await captured(kit) for _ in range(1_000)]

    passed = []
    for turn in range(2):
        seconds.now += turn
        found = [limiter.passed_asserting(request, [f"{turn} {place}"]) for place, request in enumerate(requests)]
        passed.append((found.count(None), found.count("everybody")))

    assert passed == [(200, 800), (200, 800)]


async def captured(kit: Kit) -> Request:
    """Return a request of a visitor of its own."""
    browser = Browser(kit)
    await browser.open("/")
    found: list[Request] = []

    async def look(page: Page) -> None:
        found.append(Request(page.scope))

    await browser.open("/", act=look)
    return found[0]


# ---------------------------------------------------------------- decisions


async def test_a_yes_past_the_limit_is_not_kept_and_a_no_always_is(kit: Kit) -> None:
    """Whatever was posted before it, and however often: the visitor's newest no is in the cookie and in the store."""
    full = Rate(posts=3, per=DAY)

    async with client_of(kit, limits=limits(visitor=full, address=full)) as client:
        visitor = await visitor_of(client)
        cookie = client.cookies["__Host-kit"]
        answers = []
        for granted in (True, True, True, False, False, True, False):
            # Who holds on to the cookie that a no takes away goes on as the same visitor.
            client.cookies.set("__Host-kit", cookie, domain="www.shop.com")
            answers.append(await post(client, "/consent", {"granted": granted}, ADDRESS))
            kept = (await kit.store.read(partial(newest_consents, visitors={visitor})))[visitor]
            assert granted or kept.granted is False
        rows = await kit.store.read(_decided)

    assert {each.status_code for each in answers} == {204}
    assert [answered(each) for each in answers] == ["granted", "granted", "granted", "denied", "denied", None, "denied"]
    assert rows == [True, False]
    assert sum(kit.faults.counts.values()) == 1


async def test_a_no_takes_no_turn_of_anybody(kit: Kit) -> None:
    """A household whose members all refuse is not kept from saying yes later."""
    full = Rate(posts=1, per=DAY)

    async with client_of(kit, limits=limits(visitor=full, address=full)) as client:
        for _ in range(10):
            await post(client, "/consent", {"granted": False}, ADDRESS)
        answer = await post(client, "/consent", {"granted": True}, ADDRESS)

    assert answered(answer) == "granted"
    assert dict(kit.faults.counts) == {"limits.address": 9}


async def test_new_visitors_without_end_who_say_no_do_not_fill_the_store(kit: Kit) -> None:
    """One address, a new visitor each time: what is past the limit counts in its own browser alone."""
    async with client_of(kit, limits=limits(address=Rate(posts=5, per=DAY))) as client:
        answers = []
        for _ in range(20):
            client.cookies.clear()
            await post(client, "/reset", {}, ADDRESS)
            answers.append(answered(await post(client, "/consent", {"granted": False}, ADDRESS)))
        rows = await kit.store.read(_decided)

    assert answers == ["denied"] * 20
    assert rows == [False] * 5
    assert kit.faults.counts["limits.address"] == 15


@pytest.mark.parametrize("body", [{}, [], "no", {"granted": 0}, {"granted": "false"}, {"granted": None}])
async def test_what_is_no_decision_is_counted_like_a_yes(kit: Kit, body: object) -> None:
    """Only what is kept as a no goes past a limit."""
    async with client_of(kit, limits=limits(address=Rate(posts=1, per=DAY))) as client:
        answers = [await post(client, "/consent", body, ADDRESS) for _ in range(2)]

    assert [each.status_code for each in answers] == [400, 204]
    assert kit.faults.counts["limits.address"] == 1


def answered(answer: httpx.Response) -> str | None:
    """Return what the answer puts into the cookie that pages can read."""
    cookie = cookies_of(answer).get("kit-consent")
    return cookie.value if cookie is not None else None


def _decided(connection: Connection) -> list[bool]:
    return list(
        connection.scalars(select(consents.c.granted).where(consents.c.signal == "page").order_by(consents.c.id))
    )


@pytest.mark.parametrize("path", ["/consent", "/reset"])
async def test_a_no_and_a_sign_out_are_never_limited(kit: Kit, path: str) -> None:
    """Whoever has posted too much may still say no, and still hand the device on."""
    full = Rate(posts=1, per=DAY)

    async with client_of(kit, limits=limits(visitor=full, address=full)) as client:
        await visitor_of(client)
        await post(client, "/collect", {})
        answers = [await post(client, path, {"granted": False}) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert answers[0].headers.get_list("set-cookie") != []


async def test_tracked_events_past_the_limit_are_not_reported(kit: Kit) -> None:
    """An add-to-cart in a loop is stored as often as the limit says."""
    async with client_of(kit, limits=limits(visitor=Rate(posts=2, per=DAY))) as client:
        await visitor_of(client)
        for _ in range(5):
            await post(client, "/track", {"name": "add_to_cart"})
        waiting = await kit.store.read(_reported)

    assert waiting == 2
    assert kit.faults.counts["limits.visitor"] == 3


def _reported(connection: Connection) -> int:
    return connection.scalars(select(func.count()).select_from(events)).one()


def test_a_request_that_nobody_captured_is_past_no_limit(seconds: Seconds) -> None:
    """Without a visitor and an address there is nothing to count by."""
    limiter = Limiter(limits(visitor=Rate(posts=1, per=DAY), address=Rate(posts=1, per=DAY)), seconds=seconds)
    request = Request({"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""})

    assert [limiter.passed(request) for _ in range(3)] == [None, None, None]
