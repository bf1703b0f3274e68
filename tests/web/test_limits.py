"""Limits on posts: generous for people, strict for floods, and in memory that a flood cannot grow."""

import tracemalloc
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Connection, func, select
from starlette.requests import Request

from kit import Kit
from kit.errors import ConfigurationError
from kit.store.tables import events
from kit.web.limits import Buckets, Limiter, PostLimits, Rate
from tests.support import make_kit
from tests.web.test_endpoints import SAME, client_of, cookies_of, post

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
    rates = [limits.visitor, limits.address, limits.identity]
    tracemalloc.start()

    kept = [Buckets(rate, remembered=limits.remembered, seconds=seconds) for rate in rates if rate is not None]
    for number in range(limits.remembered + 1_000):
        for buckets, length in zip(kept, (22, 15, 64), strict=True):
            buckets.take(f"{number:0{length}d}")
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert [len(buckets) for buckets in kept] == [limits.remembered] * 3
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
    return PostLimits(**{"visitor": None, "address": None, "identity": None, **given})  # type: ignore[arg-type]


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


@pytest.mark.parametrize("path", ["/consent", "/reset"])
async def test_a_decision_and_a_sign_out_are_never_limited(kit: Kit, path: str) -> None:
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
