"""CaptureRules: a setting that cannot work stops the shop at start, and no secret is shown."""

from typing import Any

import pytest

from kit.capture import CaptureRules
from kit.consent import ConsentPolicy
from kit.errors import ConfigurationError


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"secret_keys": []}, "secret_keys"),
        ({"secret_keys": b"one-key-that-is-no-list"}, "secret_keys"),
        ({"secret_keys": [b"short"]}, "secret_keys"),
        ({"secret_keys": ["text-where-bytes-belong"]}, "secret_keys"),
        ({"cookie_domain": "co.uk"}, "cookie_domain"),
        ({"cookie_domain": "127.0.0.1"}, "cookie_domain"),
        ({"cookie_domain": "shop.com; Secure"}, "cookie_domain"),
        ({"trusted_proxies": ["10.0.0.1/8x"]}, "trusted_proxies"),
        ({"trusted_proxies": "10.0.0.0/8"}, "trusted_proxies"),
    ],
)
def test_a_setting_that_cannot_work_is_named_at_start(settings: dict[str, Any], named: str) -> None:
    """ConfigurationError says which setting, and repeats no value."""
    with pytest.raises(ConfigurationError) as caught:
        CaptureRules(**{"secret_keys": [b"k" * 20], "consent": ConsentPolicy("opt_in"), **settings})

    assert caught.value.setting == named
    assert "short" not in str(caught.value)


def test_no_key_stands_in_a_repr() -> None:
    """The rules may be printed; their keys may not."""
    rules = CaptureRules(
        secret_keys=[b"very-secret-key-0123"], consent=ConsentPolicy("opt_in"), cookie_domain=".Shop.com"
    )

    assert "secret-key" not in repr(rules)
    assert rules.cookie_domain == "shop.com"
    assert rules.cookie_name == b"__Secure-kit"
