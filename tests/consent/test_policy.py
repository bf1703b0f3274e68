"""What counts before what: GPC, the function, a no, a yes, what is implied, the rule."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.consent import ConsentPolicy, ConsentRule, Cookiebot, Didomi, Gpp, OneTrust, Signals, Tcf, UsPrivacy, weigh
from kit.consent.answer import LONGEST_VALUE
from kit.consent.signals import Sum, asked_of, hear, summed
from kit.errors import ConfigurationError
from kit.model import Consent
from tests.consent.strings import tc_string, vendor_field

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
GPC = (b"sec-gpc", b"1")
NEEDED = frozenset({1, 3, 4, 7})
BOTH = vendor_field({20, 130})
TCF_YES = f"euconsent-v2={tc_string(purposes=NEEDED, vendors=BOTH, disclosed=BOTH)}"
TCF_NO = f"euconsent-v2={tc_string(vendors=BOTH, disclosed=BOTH)}"
TCF_NOT_ADROLL = f"euconsent-v2={tc_string(purposes=NEEDED, vendors=vendor_field({20}), disclosed=BOTH)}"
TCF_BROKEN = "euconsent-v2=broken"
US_OUT, US_IN, US_BROKEN = "usprivacy=1YYN", "usprivacy=1YNN", "usprivacy=no"
GPP_OUT, GPP_IN = "__gpp=DBABLA~BVVVkkkkkpFY.QA", "__gpp=DBABLA~BVQqAAAACg"
ONE_YES = "OptanonConsent=groups=C0004%3A1; OptanonAlertBoxClosed=2026-11-21"
ONE_NO = "OptanonConsent=groups=C0004%3A0; OptanonAlertBoxClosed=2026-11-21"
BOT_YES = "CookieConsent={marketing:true%2Cmethod:%27explicit%27}"
OWN_YES, OWN_NO = "kit-consent=granted", "kit-consent=denied"
READ = (
    Tcf(purposes=NEEDED),
    Gpp(tcf=Tcf(purposes=NEEDED)),
    UsPrivacy(),
    OneTrust(groups={"C0004"}),
    Cookiebot(),
    Didomi(purposes={"ads"}),
)


def cookie(text: str) -> tuple[bytes, bytes]:
    return (b"cookie", text.encode())


def says(answer: object) -> ConsentRule:
    return cast("ConsentRule", lambda scope: answer)


def decided(rule: ConsentRule | Signals, *headers: tuple[bytes, bytes]) -> Consent:
    return ConsentPolicy(rule).decide({"headers": headers}, now=NOON)


@pytest.mark.parametrize(
    ("rule", "headers", "granted", "signal", "kept"),
    [
        ("opt_in", [], None, "none", False),
        ("opt_out", [], True, "opt_out", True),
        ("opt_in", [GPC], False, "gpc", False),
        ("opt_out", [GPC], False, "gpc", False),
        ("opt_in", [cookie("kit-consent=granted"), GPC], False, "gpc", False),
        ("opt_out", [(b"sec-gpc", b"0")], True, "opt_out", True),
        ("opt_in", [cookie("a=1; kit-consent=granted; b=2")], True, "cookie", True),
        ("opt_in", [cookie("a=1"), cookie('kit-consent="granted"')], True, "cookie", True),
        ("opt_in", [cookie("kit-consent=what; kit-consent=granted")], True, "cookie", True),
        ("opt_in", [cookie("a=kit-consent;kit-consent=granted")], True, "cookie", True),
        ("opt_out", [cookie("kit-consent=denied")], False, "cookie", False),
        ("opt_in", [cookie("kit-consent=yes")], None, "none", False),
        ("opt_in", [cookie("xkit-consent=granted; kit-consent-x=granted")], None, "none", False),
        (says(True), [], True, "function", True),
        (says(False), [cookie("kit-consent=granted")], False, "function", False),
        (says(True), [cookie("kit-consent=denied")], True, "function", True),
        (says(True), [GPC], False, "gpc", False),
        (says(None), [cookie("kit-consent=granted")], True, "cookie", True),
        (says(None), [], None, "none", False),
        (says("yes"), [], None, "none", False),
    ],
)
def test_without_signals_the_strongest_of_gpc_function_cookie_and_rule_decides(
    rule: ConsentRule, headers: list[tuple[bytes, bytes]], granted: bool | None, signal: str, kept: bool
) -> None:
    """`Sec-GPC: 1` forbids always; a function beats the cookie, the cookie the rule."""
    consent = decided(rule, *headers)

    assert consent == Consent(granted=granted, signal=signal, at=NOON)
    assert ConsentPolicy(rule).may_keep(consent) is kept


@pytest.mark.parametrize(
    ("rule", "cookies", "granted", "signal"),
    [
        # 1 and 2: GPC stands in the next test; a function that answers beats every signal.
        (says(True), [TCF_NO, US_OUT, OWN_NO], True, "function"),
        (says(False), [TCF_YES, OWN_YES], False, "function"),
        (says(None), [TCF_YES], True, "tcf"),
        # 3: one no, of any of them.
        ("opt_out", [TCF_NO], False, "tcf"),
        ("opt_out", [TCF_NO, ONE_YES, BOT_YES, OWN_YES], False, "tcf"),
        ("opt_out", [TCF_YES, GPP_OUT], False, "gpp"),
        ("opt_out", [TCF_YES, US_OUT], False, "us_privacy"),
        ("opt_out", ['usprivacy="1YYN"'], False, "us_privacy"),
        ("opt_out", [TCF_YES, ONE_NO], False, "onetrust"),
        ("opt_out", [TCF_YES, "CookieConsent=0"], False, "cookiebot"),
        ("opt_in", [TCF_YES, OWN_NO], False, "cookie"),
        ("opt_in", [OWN_NO, US_OUT, TCF_NO], False, "tcf"),
        # 4: one yes.
        ("opt_in", [TCF_YES], True, "tcf"),
        ("opt_in", [ONE_YES, TCF_YES], True, "tcf"),
        ("opt_in", [ONE_YES], True, "onetrust"),
        ("opt_in", [BOT_YES, US_BROKEN], True, "cookiebot"),
        ("opt_in", [US_IN, OWN_YES], True, "cookie"),
        # 6: nothing is said, or nothing that can be read, or nothing that a visitor said.
        ("opt_in", ["a=1"], None, "none"),
        ("opt_out", ["a=1"], True, "opt_out"),
        ("opt_in", [TCF_BROKEN], None, "none"),
        ("opt_out", [TCF_BROKEN], True, "opt_out"),
        ("opt_in", [US_IN, GPP_IN, "CookieConsent=-1"], None, "none"),
        ("opt_out", [US_IN], True, "opt_out"),
        ("opt_in", ["xeuconsent-v2" + TCF_YES[12:]], None, "none"),
        ("opt_in", [TCF_YES.replace("=", "-x=", 1)], None, "none"),
    ],
)
def test_of_the_signals_one_no_counts_before_one_yes(
    rule: ConsentRule, cookies: list[str], granted: bool | None, signal: str
) -> None:
    """In any order of the cookies: a function, a no, a yes, the rule."""
    signals = Signals(rule=rule, read=READ)

    for ordered in (cookies, cookies[::-1]):
        assert decided(signals, cookie("; ".join(ordered))) == Consent(granted=granted, signal=signal, at=NOON)


@given(st.sets(st.sampled_from([TCF_YES, ONE_YES, BOT_YES, OWN_YES, US_IN, GPP_IN])))
def test_gpc_forbids_whatever_else_is_said(cookies: set[str]) -> None:
    """No string, no banner and no function of the shop's takes `Sec-GPC: 1` back."""
    rules: Sequence[ConsentRule] = ("opt_in", "opt_out", says(True))
    for rule in rules:
        signals = Signals(rule=rule, read=READ, implied=True)

        assert decided(signals, cookie("; ".join(cookies)), GPC) == Consent(granted=False, signal="gpc", at=NOON)


@pytest.mark.parametrize(
    ("cookies", "granted", "signal"),
    [
        ([US_IN], True, "opt_out"),
        ([GPP_IN], True, "opt_out"),
        (["CookieConsent=-1"], True, "opt_out"),
        ([US_IN, US_OUT.replace("usprivacy", "us_privacy")], False, "us_privacy"),
        ([US_IN, OWN_NO], False, "cookie"),
        ([US_IN, OWN_YES], True, "cookie"),
        ([US_IN, TCF_BROKEN], None, "none"),
        (["usprivacy=1---"], None, "none"),
        ([], None, "none"),
    ],
)
def test_implied_permission_counts_as_opt_out_where_the_shop_wants_it(
    cookies: list[str], granted: bool | None, signal: str
) -> None:
    """It bears the name of the rule that it follows, for it is nobody's word; an unreadable signal is in its way."""
    signals = Signals(rule="opt_in", read=READ, implied=True)

    assert decided(signals, cookie("; ".join(cookies))) == Consent(granted=granted, signal=signal, at=NOON)


def test_nothing_is_read_that_was_not_asked_for() -> None:
    """A shop that reads OneTrust alone is deaf to a TC string, and one without signals to all."""
    every = cookie(f"{TCF_NO}; {GPP_OUT}; {US_OUT}; {ONE_YES}")

    assert decided(Signals(rule="opt_in", read=[OneTrust(groups={"C0004"})]), every).signal == "onetrust"
    assert decided("opt_out", every).signal == "opt_out"
    assert decided("opt_in", every).signal == "none"


def test_a_signal_may_stand_in_a_cookie_of_another_name() -> None:
    """OneTrust keeps the TC string in a cookie of its own."""
    signals = Signals(rule="opt_in", read=[Tcf(purposes=NEEDED, cookies=["eupubconsent-v2"])])

    assert decided(signals, cookie(TCF_YES.replace("euconsent", "eupubconsent"))).granted is True
    assert decided(signals, cookie(TCF_YES)).granted is None


def test_of_two_cookies_of_one_name_the_first_counts() -> None:
    """Browsers send the one that was set for this page, rather than for all of the domain, first."""
    signals = Signals(rule="opt_in", read=READ)

    assert decided(signals, cookie(f"{ONE_NO}; OptanonConsent=groups=C0004%3A1")).granted is False
    assert decided(signals, cookie(f"{ONE_YES}; OptanonConsent=groups=C0004%3A0")).granted is True


@pytest.mark.parametrize(
    ("cookies", "total"),
    [
        ([TCF_YES], Sum(True, "tcf")),
        ([TCF_NOT_ADROLL], Sum(True, "tcf", frozenset({"adroll"}))),
        ([TCF_NOT_ADROLL, ONE_YES], Sum(True, "tcf", frozenset({"adroll"}))),
        ([TCF_BROKEN, ONE_YES], Sum(True, "onetrust", frozenset({"adroll"}))),
        ([TCF_NOT_ADROLL, US_OUT], Sum(False, "us_privacy")),
        ([TCF_BROKEN], None),
    ],
)
def test_a_yes_does_not_cover_a_destination_that_any_signal_excludes(cookies: list[str], total: Sum | None) -> None:
    """Another signal's yes does not replace the vendor's own, not even where the string cannot be read."""
    heard = hear("; ".join(cookies).encode(), asked_of(READ))

    assert summed(heard, implied=False) == total


@pytest.mark.parametrize(
    ("cookies", "vendors", "consent"),
    [
        ([TCF_NOT_ADROLL], {"adroll": 130}, Consent(granted=True, signal="tcf -adroll", at=NOON)),
        (
            [TCF_BROKEN, OWN_YES],
            {"adroll": 130, "ads": 1},
            Consent(granted=True, signal="cookie -adroll -ads", at=NOON),
        ),
        ([TCF_NOT_ADROLL], {"adroll-of-the-german-branch-office": 130}, Consent(granted=False, signal="tcf", at=NOON)),
    ],
)
def test_a_decision_says_which_destinations_its_yes_leaves_out(
    cookies: list[str], vendors: dict[str, int], consent: Consent
) -> None:
    """It is kept and shown with the decision's name; where that has no room, the yes is none."""
    signals = Signals(rule="opt_in", read=[Tcf(purposes=NEEDED, vendors=vendors)])

    found = decided(signals, cookie("; ".join(cookies)))

    assert found == consent
    assert [found.covers(name) for name in ("adroll", "rokt")] == ["-adroll" not in found.signal.split(), True]


def test_not_known_is_kept_under_opt_out_alone() -> None:
    """A decision without a signal, of an order with no browser, follows the rule."""
    unknown = Consent(granted=None, signal="none", at=NOON)
    rules: Sequence[ConsentRule | Signals] = [
        "opt_out", "opt_in", says(True), Signals(rule="opt_out", read=READ), Signals(rule="opt_in", read=READ),
    ]  # fmt: skip

    assert [ConsentPolicy(rule).may_keep(unknown) for rule in rules] == [True, False, False, True, False]


def test_a_function_that_raises_has_said_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """The shop's fault takes no page down, keeps nothing, and is told once, without what it held."""

    def rule(scope: Mapping[str, Any]) -> bool:
        raise ValueError("jane@example.com")

    policy = ConsentPolicy(rule)
    consents = [policy.decide({"headers": []}, now=NOON) for _ in range(3)]

    assert {consent.granted for consent in consents} == {None}
    assert not policy.may_keep(consents[0])
    assert policy.decide({"headers": [GPC]}, now=NOON).signal == "gpc"
    assert len(caplog.records) == 1
    assert "jane" not in caplog.text


def test_an_unreadable_signal_is_counted_and_logged_once_without_its_content(caplog: pytest.LogCaptureFixture) -> None:
    """The operator learns which signal, and nothing of what the visitor sent."""
    policy = ConsentPolicy(Signals(rule="opt_in", read=READ))

    for _ in range(3):
        policy.decide({"headers": [cookie("euconsent-v2=jane@example.com; usprivacy=jane")]}, now=NOON)

    assert policy.unreadable == {"tcf": 3, "us_privacy": 3}
    assert [record.__dict__["kit.signal"] for record in caplog.records] == ["tcf", "us_privacy"]
    assert "jane" not in caplog.text


@pytest.mark.parametrize("rule", ["optin", "", None, True, ["opt_in"]])
def test_what_is_no_rule_is_refused_at_start(rule: object) -> None:
    """There is no default and no guess: a wrong word stops the shop before its first visitor."""
    with pytest.raises(ConfigurationError, match="consent"):
        ConsentPolicy(cast("ConsentRule", rule))
    with pytest.raises(ConfigurationError, match="consent"):
        ConsentPolicy(Signals(rule=cast("ConsentRule", rule), read=READ))


@pytest.mark.parametrize("read", [(), "tcf", [None], [Tcf]])
def test_what_is_no_list_of_signals_is_refused_at_start(read: Any) -> None:
    """A class instead of its value, a name, nothing at all."""
    with pytest.raises(ConfigurationError, match="read"):
        Signals(rule="opt_in", read=read)


def test_an_async_function_is_refused_at_start() -> None:
    """A coroutine would count as a yes to a careless reader; it is no answer."""

    async def rule(scope: Mapping[str, Any]) -> bool:
        return True

    with pytest.raises(ConfigurationError, match="async"):
        ConsentPolicy(cast("ConsentRule", rule))


NAMES = [name for signal in READ for name in signal.cookies] + ["kit-consent", "OptanonAlertBoxClosed", "other"]


@given(
    st.lists(st.tuples(st.sampled_from(NAMES), st.text(max_size=60) | st.text("Y1-N~.ABD", max_size=60)), max_size=6)
)
def test_no_cookie_raises_or_grants(pairs: list[tuple[str, str]]) -> None:
    """Whatever stands in any of these cookies is a decision, and under opt_in not a yes."""
    header = "; ".join(f"{name}={value}" for name, value in pairs if value != "granted").encode()

    assert decided(Signals(rule="opt_in", read=READ, implied=False), (b"cookie", header)).granted is not True


@pytest.mark.parametrize("name", NAMES)
def test_a_cookie_without_end_is_not_looked_into(name: str) -> None:
    """What is longer than browsers keep is unreadable, whatever it begins with."""
    start = {"euconsent-v2": TCF_YES[13:], "__gpp": GPP_OUT[6:], "CookieConsent": BOT_YES[14:]}.get(name, "1YYN")
    header = f"{name}={start}{'A' * LONGEST_VALUE * 4}"

    assert decided(Signals(rule="opt_in", read=READ), cookie(header)).granted is None


@pytest.mark.parametrize(
    ("earlier", "later", "counts"),
    [
        (("tcf -adroll", True, 0), ("cookie", True, 8), "cookie -adroll"),
        (("tcf -adroll", True, 0), ("page", True, 8), "page -adroll"),
        (("tcf -adroll", True, 0), ("tcf", True, 8), "tcf"),
        (("tcf -adroll", True, 8), ("cookie", True, 0), "tcf -adroll"),
        (("tcf -adroll", True, 0), ("cookie", False, 8), "cookie"),
        (("tcf -adroll", True, 0), ("function", True, 8), "function"),
    ],
)
def test_a_banners_cookie_outlives_the_string_and_keeps_its_exceptions(
    earlier: tuple[str, bool, int], later: tuple[str, bool, int], counts: str
) -> None:
    """A browser lets go of a script's cookie after a week: the server's own one says yes, and to whom not."""
    decisions = [
        Consent(granted=granted, signal=signal, at=NOON + timedelta(days=days))
        for signal, granted, days in (earlier, later)
    ]

    assert weigh(decisions, said=None, now=NOON + timedelta(days=9)).signal == counts


def test_exceptions_without_room_are_a_no() -> None:
    """Nobody who was left out is told because a name was too long."""
    earlier = Consent(granted=True, signal="tcf -a-destination-of-great-length", at=NOON)

    found = Consent(granted=True, signal="cookie", at=NOON + timedelta(days=1)).after(earlier)

    assert (found.granted, found.signal) == (False, "cookie")
