"""Consent managers' cookies: what each calls yes and no, and that nothing else is one."""

import json
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.consent import Cookiebot, Didomi, OneTrust
from kit.consent.answer import LONGEST_VALUE, Answer, Say
from kit.errors import ConfigurationError

VECTORS: Any = json.loads((Path(__file__).parent / "vectors.json").read_text())
CLOSED = {"OptanonAlertBoxClosed": "2026-11-21T12:00:00.000Z"}
TARGETING = OneTrust(groups={"C0004"})


# ---------------------------------------------------------------- OneTrust


def test_onetrusts_own_cookie_is_read() -> None:
    """Group by group, as the cookie in OneTrust's writing has them."""
    text = VECTORS["onetrust"]["text"]

    said = {group: OneTrust(groups={group}).answer(text, CLOSED).say for group in ("C0002", "C0004", "C0009")}

    assert said == {"C0002": Say.NO, "C0004": Say.YES, "C0009": Say.NOTHING}


@pytest.mark.parametrize(
    ("value", "jar", "say"),
    [
        ("groups=C0004%3A1", CLOSED, Say.YES),
        ("groups=C0004:1", CLOSED, Say.YES),
        ("groups=C0004%3A1", {}, Say.IMPLIED),
        ("groups=C0004%3A1&AwaitingReconsent=true", CLOSED, Say.IMPLIED),
        ("groups=C0004%3A0", {}, Say.NO),
        ("groups=C0004%3A0", CLOSED, Say.NO),
        ("groups=C0004%3A1%2CC0004%3A0", CLOSED, Say.NO),
        ("groups=C0004%3A1&groups=C0004%3A0", CLOSED, Say.NO),
        ("groups=C0004%3A2", CLOSED, Say.UNREADABLE),
        ("groups=C0004", CLOSED, Say.UNREADABLE),
        ("groups=C00041%3A1%2CXC0004%3A1", CLOSED, Say.NOTHING),
        ("hosts=C0004%3A1&isGpcEnabled=0", CLOSED, Say.NOTHING),
        ("", CLOSED, Say.NOTHING),
        ("&a=b" * 100, CLOSED, Say.UNREADABLE),
        ("groups=C0004%3A1" + "&" * LONGEST_VALUE, CLOSED, Say.UNREADABLE),
    ],
)
def test_a_group_that_is_off_is_a_no_and_one_that_is_on_a_yes_after_the_banner(
    value: str, jar: dict[str, str], say: Say
) -> None:
    """What is on before the banner was closed, or while consent is to be renewed, no visitor chose."""
    assert TARGETING.answer(value, jar).say is say


def test_all_groups_asked_for_must_be_on() -> None:
    """One off is a no, one not listed leaves it open."""
    both = OneTrust(groups=["C0002", "C0004"])

    said = [both.answer(f"groups={states}", CLOSED).say for states in ("C0002:1,C0004:1", "C0002:0,C0004:1", "C0004:1")]

    assert said == [Say.YES, Say.NO, Say.NOTHING]


# ---------------------------------------------------------------- Cookiebot


@pytest.mark.parametrize("text", VECTORS["cookiebot"]["strings"], ids=lambda text: text[:12])
def test_cookiebots_own_cookies_are_read(text: str) -> None:
    """Refused, outside of the regions, chosen, and allowed without a choice."""
    assert Cookiebot().answer(text, {}).say is Say(VECTORS["cookiebot"]["strings"][text])


def test_cookiebots_category_is_the_shops() -> None:
    """Statistics and marketing are decided apart."""
    text = "{stamp:'x',necessary:true,preferences:false,statistics:true,marketing:false,method:'explicit',ver:1}"

    assert Cookiebot(category="statistics").answer(text, {}).say is Say.YES
    assert Cookiebot(category="preferences").answer(text, {}).say is Say.NO


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("", Say.UNREADABLE),
        ("1", Say.UNREADABLE),
        ("true", Say.UNREADABLE),
        ("marketing:true", Say.UNREADABLE),
        ("{marketing:true", Say.UNREADABLE),
        ("{}", Say.UNREADABLE),
        ("{statistics:true}", Say.UNREADABLE),
        ("{marketing:1}", Say.UNREADABLE),
        ("{xmarketing:true}", Say.UNREADABLE),
        ("{stamp:'marketing:true'}", Say.UNREADABLE),
        ("{stamp:',marketing:true,'}", Say.UNREADABLE),
        ("{marketing:true,marketing:false}", Say.NO),
        ("{marketing:true}", Say.YES),
        ("{marketing:true}" + " " * LONGEST_VALUE, Say.UNREADABLE),
    ],
)
def test_only_the_category_itself_counts_in_cookiebots_cookie(text: str, say: Say) -> None:
    """Not a mention of it elsewhere, nor half a cookie."""
    assert Cookiebot().answer(text, {}).say is say


# ---------------------------------------------------------------- Didomi


def didomi(**token: Any) -> str:
    return b64encode(json.dumps(token).encode()).decode()


def test_didomis_own_token_is_read() -> None:
    """All purposes of the published token are enabled, and of two vendors one is."""
    vector = VECTORS["didomi"]
    signal = Didomi(purposes=vector["purposes"], vendors={"adroll": vector["vendors"][3], "rokt": "c:rokt"})

    assert signal.answer(vector["text"], {}) == Answer(Say.YES, frozenset({"rokt"}))


@pytest.mark.parametrize(
    ("value", "say"),
    [
        (didomi(purposes={"enabled": ["ads", "measure"]}), Say.YES),
        (didomi(purposes={"enabled": ["ads", "measure"]}).replace("=", "%3D"), Say.YES),
        (didomi(purposes={"enabled": ["ads"], "disabled": ["measure"]}), Say.NO),
        (didomi(purposes={"enabled": ["ads", "measure"], "disabled": ["ads"]}), Say.NO),
        (didomi(purposes={"enabled": ["ads"]}), Say.NOTHING),
        (didomi(purposes_li={"enabled": ["ads", "measure"]}), Say.NOTHING),
        (didomi(), Say.NOTHING),
        (didomi(purposes=["ads", "measure"]), Say.UNREADABLE),
        (didomi(purposes={"enabled": "ads measure"}), Say.UNREADABLE),
        (didomi(purposes={"enabled": [1]}), Say.UNREADABLE),
        (b64encode(b"[]").decode(), Say.UNREADABLE),
        (b64encode(b"\xff{}").decode(), Say.UNREADABLE),
        (b64encode(b"[" * 2_500).decode(), Say.UNREADABLE),
        ("{}", Say.UNREADABLE),
        ("", Say.UNREADABLE),
        ("\u00e9", Say.UNREADABLE),
        ("A" * (LONGEST_VALUE + 4), Say.UNREADABLE),
    ],
)
def test_a_purpose_that_is_disabled_is_a_no_and_all_enabled_a_yes(value: str, say: Say) -> None:
    """A purpose that the token does not mention has not been decided."""
    assert Didomi(purposes={"ads", "measure"}).answer(value, {}).say is say


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OneTrust(groups=()), "OneTrust"),
        (lambda: OneTrust(groups={""}), "OneTrust"),
        (lambda: Didomi(purposes=()), "Didomi"),
        (lambda: Cookiebot(category="ads"), "Cookiebot"),
        (lambda: OneTrust(groups={"C0004"}, cookies=()), "cookies"),
    ],
)
def test_what_cannot_be_set_up_is_refused_at_start(make: Any, message: str) -> None:
    """What must be allowed is the shop's decision; nothing is no decision."""
    with pytest.raises(ConfigurationError, match=message):
        make()


def test_one_name_may_stand_for_a_list_of_one() -> None:
    """`groups="C0004"` is not read letter by letter."""
    assert OneTrust(groups="C0004").answer("groups=C0004:1", CLOSED).say is Say.YES


SIGNALS = [TARGETING, Cookiebot(), Didomi(purposes={"ads"})]


@given(st.sampled_from(SIGNALS), st.text(max_size=200) | st.text("groups=C0004:1%,{}marketing'tru-", max_size=120))
def test_no_text_raises_or_grants_before_the_banner(signal: Any, text: str) -> None:
    """Any text is an answer; a visitor's yes needs more than what hypothesis writes."""
    assert signal.answer(text, {}).say is not Say.YES


@given(st.dictionaries(st.text(max_size=8), st.recursive(st.none() | st.booleans() | st.text(max_size=5), st.lists)))
def test_no_json_raises_in_didomis_token(token: dict[str, Any]) -> None:
    """Whatever shape the token has, it is an answer."""
    assert Didomi(purposes={"ads"}).answer(didomi(**token), {}).say in {Say.NOTHING, Say.UNREADABLE}
