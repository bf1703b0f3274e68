"""AdRoll's first-party cookie by contracts.md 1.3."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from kit import Conversion
from kit.capture import first_party_cookie
from kit.destinations import AdRoll
from tests.delivery.world import world
from tests.support import Browser

PURCHASE = Conversion(order_id="1", url="https://shop.com/thanks")
HEX = b"0123456789abcdef0123456789abcdef"


@pytest.mark.parametrize(
    ("value", "normalised"),
    [
        (HEX + b"-1763700000000", HEX + b"-1763700000000"),
        (HEX, HEX),
        (HEX + b"-a_1763700000", HEX + b"-a_1763700000"),
        (HEX + b"-s2-1763700000000", HEX + b"-1763700000000"),
        (HEX + b"-", HEX),
        (b"AbCdEfGhIjKlMnOpQrStUvWxYz012345-1763700000000", b"AbCdEfGhIjKlMnOpQrStUvWxYz012345-1763700000000"),
        (HEX + b"-2025-11-21T04:40:00Z", HEX + b"-1763700000000"),
        (HEX + b"-Fri, 21 Nov 2025 04:40:00 GMT", HEX + b"-1763700000000"),
        (HEX[:31], None),
        (b"", None),
        (HEX + b"<script>", None),
        (HEX + b"\xff", None),
        (HEX * 5, None),
        (HEX * 5000, None),
        (b'"' + HEX + b'"', None),
    ],
)
def test_a_value_is_read_as_the_pixel_reads_it(value: bytes, normalised: bytes | None) -> None:
    """Every shape seen in the wild is taken, normalised as AdRoll's pixel does; anything else is quietly none."""
    assert first_party_cookie.normalised(value) == (normalised.decode() if normalised else None)


def test_a_new_one_has_the_shape_of_adrolls_own() -> None:
    """32 lower-case hex digits, a hyphen, 13 digits of epoch milliseconds; and never the same."""
    one, two = first_party_cookie.mint(1763700000.5), first_party_cookie.mint(1763700000.5)

    assert re.fullmatch(r"[0-9a-f]{32}-1763700000500", one.value)
    assert one.value != two.value
    assert first_party_cookie.normalised(one.kept) == one.value


def test_of_several_the_first_valid_one_is_taken() -> None:
    """A pixel and a server may both have set theirs: the choice is deterministic."""
    cookies = b"x__adroll_fpc=%s; __adroll_fpc=bad; __adroll_fpc=%s-1; __adroll_fpc=%s-2" % (HEX[::-1], HEX, HEX)

    found = first_party_cookie.first_valid(cookies)

    assert found is not None
    assert found.value == HEX.decode() + "-1"
    assert HEX.decode() not in repr(found)


def test_a_valid_value_is_written_back_as_it_stood() -> None:
    """What is sent is normalised; the cookie itself is not changed."""
    found = first_party_cookie.first_valid(b"__adroll_fpc=" + HEX + b"-s2-1763700000000")

    assert found is not None
    assert found.kept == HEX + b"-s2-1763700000000"
    assert found.value == HEX.decode() + "-1763700000000"


@pytest.mark.parametrize("row", json.loads((Path(__file__).parent / "cookies.json").read_text()), ids=str)
async def test_the_cookie_is_sent_and_set_as_the_table_says(tmp_path: Path, row: dict[str, Any]) -> None:
    """contracts.md 9.0 from the browser to AdRoll: the pixel's is told normalised and kept as it stands, or made."""
    async with world(tmp_path, AdRoll) as it:
        browser = Browser(it.kit)
        if row["cookie"] is not None:
            browser.cookies["__adroll_fpc"] = row["cookie"]
        if row.get("consent") is False:
            browser.headers["sec-gpc"] = "1"

        page = await browser.open("/")
        await browser.open("/thanks", act=lambda page: it.kit.report(PURCHASE, request=page))
        await it.drain()

        (told,) = await it.rows()
        made = [line for line in page.set_cookies if line.startswith("__adroll_fpc=")]
        if row["sent"] is None:
            assert (told.state, made) == ("skipped", [])
            return
        (event,) = it.sandbox.adroll.accepted
        if row["sent"] != "anew":
            assert event["identifiers"]["first_party_cookie"] == row["sent"]
            assert [line.partition(";")[0] for line in made] == [f"__adroll_fpc={row.get('kept', row['cookie'])}"]
            return
        value, *attributes = made[0].removeprefix("__adroll_fpc=").split("; ")
        assert re.fullmatch(r"[0-9a-f]{32}-[0-9]{13}", value)
        assert event["identifiers"]["first_party_cookie"] == value
        assert {"Max-Age=31536000", "Path=/", "SameSite=Lax"} <= set(attributes)
        assert "HttpOnly" not in attributes
