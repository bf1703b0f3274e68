"""Consent: GPC over everything, then the shop's function, then the cookie, then the rule."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from kit.consent import ConsentPolicy, ConsentRule, decide, may_keep
from kit.errors import ConfigurationError
from kit.model import Consent

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
GPC = (b"sec-gpc", b"1")


def cookie(text: str) -> tuple[bytes, bytes]:
    return (b"cookie", text.encode())


def says(answer: object) -> ConsentRule:
    return cast("ConsentRule", lambda scope: answer)


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
def test_the_strongest_signal_decides(
    rule: ConsentRule, headers: list[tuple[bytes, bytes]], granted: bool | None, signal: str, kept: bool
) -> None:
    """`Sec-GPC: 1` forbids always; a function beats the cookie, the cookie the rule."""
    consent = decide(rule, {"headers": headers}, now=NOON)

    assert consent == Consent(granted=granted, signal=signal, at=NOON)
    assert may_keep(rule, consent) is kept


def test_not_known_is_kept_under_opt_out_alone() -> None:
    """A decision without a signal, of an order with no browser, follows the rule."""
    unknown = Consent(granted=None, signal="none", at=NOON)

    assert [may_keep(rule, unknown) for rule in ("opt_out", "opt_in", says(True))] == [True, False, False]


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


@pytest.mark.parametrize("rule", ["optin", "", None, True])
def test_what_is_no_rule_is_refused_at_start(rule: object) -> None:
    """There is no default and no guess: a wrong word stops the shop before its first visitor."""
    with pytest.raises(ConfigurationError, match="consent"):
        ConsentPolicy(cast("ConsentRule", rule))


def test_an_async_function_is_refused_at_start() -> None:
    """A coroutine would count as a yes to a careless reader; it is no answer."""

    async def rule(scope: Mapping[str, Any]) -> bool:
        return True

    with pytest.raises(ConfigurationError, match="async"):
        ConsentPolicy(cast("ConsentRule", rule))
