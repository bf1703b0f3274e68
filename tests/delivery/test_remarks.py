"""What an operator should know of a delivery that was taken all the same: a destination's remarks stay with it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from kit.delivery.batch import Ready
from kit.delivery.retry import settle
from kit.destinations import Rockerbox
from kit.destinations.base import Judgement
from kit.model import Conversion, Dispatch, Verdict
from kit.store.attempts import Settlement
from kit.store.rows import conversion_text
from tests.delivery.test_policy import Parcel, looked_at
from tests.delivery.test_retry import CLAIMED
from tests.delivery.world import world

ADVERTISER = {"advertiser": "sandbox-advertiser"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remarking(Rockerbox):
    """Rockerbox, of which there is something to say each time, and an address that must not be said."""

    def remarks(self, dispatch: Dispatch, *, now: datetime) -> Sequence[str]:
        return ("phone left out: not ten digits", "not jane@example.com")


@pytest.fixture(autouse=True)
def remarking(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world's Rockerbox remarks."""
    monkeypatch.setattr("tests.delivery.world.rockerbox", lambda **fields: Remarking(**ADVERTISER | fields))


async def test_a_remark_stays_with_what_was_delivered(tmp_path: Path) -> None:
    """`kit why` reads the delivery's detail: the answer, then each remark, masked like a vendor's words."""
    async with world(tmp_path, Rockerbox) as it:
        await it.order()
        await it.drain()

        (row,) = await it.rows()
        assert (row.state, row.detail) == ("delivered", "HTTP 200; phone left out: not ten digits; not [email]")


async def test_a_remark_outlives_a_retry(tmp_path: Path) -> None:
    """The vendor's first answer is 500, without a remark: the delivery that it takes later has them all the same."""
    async with world(tmp_path, Rockerbox) as it:
        it.sandbox.rockerbox.answers(500, body="")
        await it.order()
        await it.drain()
        (row,) = await it.rows()
        assert (row.state, row.detail) == ("pending", "HTTP 500")

        it.clock.passes(timedelta(seconds=5))
        await it.drain()

        (row,) = await it.rows()
        assert (row.state, row.detail) == ("delivered", "HTTP 200; phone left out: not ten digits; not [email]")


def test_what_is_not_sent_yet_has_no_remark() -> None:
    """A refusal's detail is the vendor's words alone: what is remarked is of a body that was taken."""
    settled = settle(
        CLAIMED, Judgement(verdict=Verdict.INVALID, detail="HTTP 400"), alone=True, smaller=None, repeat_is_safe=True,
        now=CLAIMED.at, dice=lambda: 1.0, remarks=("phone left out",),
    )  # fmt: skip

    assert settled.detail == "HTTP 400"


def test_a_shadow_says_what_it_would_have_remarked() -> None:
    """A shop that tries a destination out learns the same of its orders as a live one."""
    known = replace(CLAIMED, said=conversion_text(Conversion(order_id="1", customer_id="c-1")))

    found = looked_at(Remarking(mode="shadow"), known)

    assert isinstance(found, Settlement)
    assert found.detail == "the destination is in shadow mode; phone left out: not ten digits; not [email]"


def test_a_destination_without_remarks_keeps_the_answer_alone() -> None:
    """A shop's own destination need not know of remarks."""
    found = looked_at(Parcel())

    assert isinstance(found, Ready)
    assert found.remarks == ()
