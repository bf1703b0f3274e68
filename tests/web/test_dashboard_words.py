"""The dashboard's words: each reason and state of the kit has some, and what a shop adds stays as it is."""

import re
from datetime import timedelta
from pathlib import Path

import pytest

from kit.model import Consent, DeliveryState
from kit.web.dashboard import words
from tests.support import NOON

KIT = Path(__file__).parents[2] / "kit"
#: Not of a delivery: reasons for which a row is left out of a file.
FILES = {"currency", "order_id", "test", "value"}


def test_every_reason_of_the_kit_has_words() -> None:
    """Whoever adds a reason finds this test."""
    sources = [path.read_text() for folder in ("destinations", "delivery") for path in (KIT / folder).rglob("*.py")]
    codes = {code for text in sources for code in re.findall(r'(?:Skip\(|_dead\(one, |reason = )"(\w+)"', text)} - FILES

    assert {"identifier", "expired", "rejected", "pixel_reports"} < codes
    assert [code for code in sorted(codes) if words.reason("rokt", code) == code.replace("_", " ")] == []


def test_every_state_has_a_word() -> None:
    """No delivery can stand where the dashboard does not know it."""
    assert set(words.STATES) == set(DeliveryState)


@pytest.mark.parametrize("code", ["our_own_reason", "{odd}", "{0.__class__}", "100 %"])
def test_a_reason_of_a_shops_own_destination_stays_as_it_is(code: str) -> None:
    """It is text, and no pattern."""
    assert words.reason("our-own", code) == code.replace("_", " ")
    assert words.advice("our-own", "skipped", code) is None


@pytest.mark.parametrize(
    ("detail", "said"),
    [
        ("cookie", "the visitor refused"),
        ("gpc", "the browser refuses (Global Privacy Control)"),
        ("nobody decided", "nobody decided yet"),
        ("opt_out", "nobody said yes, which Rokt waits for"),
        ("onetrust", "the visitor refused (onetrust)"),
        ("tcf -adroll -rokt", "the visitor's yes leaves Rokt out (tcf)"),
        ("tcf -adroll", "the visitor refused (tcf -adroll)"),
        (None, "the visitor's consent does not allow it"),
    ],
)
def test_a_refusal_is_told_by_whom(detail: str | None, said: str) -> None:
    """The visitor, the browser, the shop, or nobody yet."""
    assert words.reason("rokt", "consent", detail) == said


@pytest.mark.parametrize(
    ("granted", "signal", "said"),
    [
        (True, "opt_out", "Allowed, by the shop's rule: nobody refused"),
        (True, "tcf -adroll -own", "Allowed, by a TCF consent string; not for AdRoll, own"),
        (False, "gpc", "Refused, by Sec-GPC, the browser's Global Privacy Control"),
        (None, "none", "Not known"),
        (True, "our-signal", "Allowed, by our-signal"),
    ],
)
def test_a_decision_is_a_sentence(granted: bool | None, signal: str, said: str) -> None:
    """Yes, no or not known, by which signal, and whom it leaves out."""
    assert words.consent(Consent(granted=granted, signal=signal, at=NOON)) == said


@pytest.mark.parametrize(
    ("duration", "said"),
    [
        (timedelta(0), "0 seconds"),
        (timedelta(seconds=-5), "0 seconds"),
        (timedelta(seconds=1), "1 second"),
        (timedelta(seconds=119), "1 minute"),
        (timedelta(hours=23, minutes=59), "23 hours"),
        (timedelta(days=3, hours=12), "3 days"),
    ],
)
def test_a_duration_is_said_in_its_largest_unit(duration: timedelta, said: str) -> None:
    """Three days and a half are three days."""
    assert words.length(duration) == said
