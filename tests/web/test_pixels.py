"""`/pixels`: whose word is noted, of which orders, and that its answer tells nothing."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select

from kit import Conversion, Kit
from kit.store.limits import Limits
from kit.store.tables import pixel_reports
from kit.web import Rate
from kit.web.limits import PostLimits
from tests.support import make_kit
from tests.web.test_endpoints import SAME, client_of, post

HERE = "http://localhost:8000"


async def noted(kit: Kit) -> list[tuple[str, str]]:
    def read(connection: Connection) -> list[tuple[str, str]]:
        query = select(pixel_reports.c.order_id, pixel_reports.c.vendor).order_by(pixel_reports.c.id)
        return [(row[0], row[1]) for row in connection.execute(query)]

    return await kit.store.read(read)


async def test_a_visitors_page_says_whose_pixel_reported_an_order(tmp_path: Path) -> None:
    """Once for each vendor; the order may be reported here later, or never."""
    kit = make_kit(tmp_path)

    async with client_of(kit, base_url=HERE) as client:
        await post(client, "/collect", {})
        answers = [
            await post(client, "/pixels", {"order_id": order, "pixel": pixel})
            for order, pixel in ((" 1001 ", "adroll"), ("1001", "rokt"), ("1001", "adroll"), ("1002", "rockerbox"))
        ]
        found = await noted(kit)

    assert {(answer.status_code, answer.content) for answer in answers} == {(204, b"")}
    assert found == [("1001", "adroll"), ("1001", "rokt"), ("1002", "rockerbox")]
    assert not kit.faults.counts


@pytest.mark.parametrize(
    "body",
    [
        [],
        "1001",
        {},
        {"order_id": "1001"},
        {"pixel": "adroll"},
        {"order_id": "1001", "pixel": "facebook"},
        {"order_id": "1001", "pixel": ["adroll"]},
        {"order_id": 1001, "pixel": "adroll"},
        {"order_id": "", "pixel": "adroll"},
        {"order_id": "x" * 129, "pixel": "adroll"},
        {"order_id": "a\x00b", "pixel": "adroll"},
        {"order_id": None, "pixel": "adroll"},
    ],
)
async def test_what_no_page_of_ours_says_is_counted_and_not_kept(tmp_path: Path, body: Any) -> None:
    """An order's id is as strict as a report's; the answer is everybody's."""
    kit = make_kit(tmp_path)

    async with client_of(kit, base_url=HERE) as client:
        await post(client, "/collect", {})
        answer = await post(client, "/pixels", body)
        found = await noted(kit)

    assert answer.status_code == 204
    assert (found, kit.faults.counts["pixels.input"]) == ([], 1)


@pytest.mark.parametrize(
    ("consent", "headers", "cookies"),
    [
        ("opt_in", {}, {}),
        ("opt_out", {"sec-gpc": "1"}, {}),
        ("opt_out", {}, {"kit-consent": "denied"}),
        ("opt_out", {}, {"kit": "forged"}),
    ],
)
async def test_nothing_is_noted_of_who_is_no_visitor(
    tmp_path: Path, consent: Any, headers: dict[str, str], cookies: dict[str, str]
) -> None:
    """Without consent, or without a cookie of ours."""
    kit = make_kit(tmp_path, consent=consent)

    async with client_of(kit, base_url=HERE) as client:
        await post(client, "/collect", {})
        known = {**client.cookies, **cookies}
        sent = {**SAME, **headers, "cookie": "; ".join(f"{name}={value}" for name, value in known.items())}
        answer = await post(client, "/pixels", {"order_id": "1001", "pixel": "adroll"}, sent)
        found = await noted(kit)

    assert (answer.status_code, found) == (204, [])


async def test_it_is_limited_as_other_posts_are(tmp_path: Path) -> None:
    """A flood from one browser is answered, and not kept."""
    kit = make_kit(tmp_path)
    limits = PostLimits(visitor=Rate(posts=3, per=PostLimits().identity.per))  # type: ignore[union-attr]

    async with client_of(kit, base_url=HERE, limits=limits) as client:
        await post(client, "/collect", {})
        for number in range(10):
            await post(client, "/pixels", {"order_id": str(number), "pixel": "adroll"})
        found = await noted(kit)

    assert 0 < len(found) <= 3
    assert kit.faults.counts["limits.visitor"] >= 7


async def test_a_store_that_fills_leaves_its_room_to_orders(tmp_path: Path) -> None:
    """From 80 % of a limit on a note is refused, and an order is not."""
    kit = make_kit(tmp_path, limits=Limits(waiting=10, ballast_bytes=None))

    async with client_of(kit, base_url=HERE) as client:
        await post(client, "/collect", {})
        for number in range(3):
            await kit.report(Conversion(order_id=str(number), email="jane@example.com"))
        kit.store._room._looked = float("-inf")
        await kit.report(Conversion(order_id="3", email="jane@example.com"))
        answer = await post(client, "/pixels", {"order_id": "1", "pixel": "adroll"})
        found = await noted(kit)

    assert (answer.status_code, found, kit.faults.counts["pixels"]) == (204, [], 1)
