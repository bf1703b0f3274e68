"""URLs that are kept: scheme, host, path and allow-listed parameters, and nothing a person typed into them."""

from typing import Any

import pytest

from kit.capture.reading import Reading
from kit.capture.rules import CaptureRules
from kit.capture.urls import clean_referrer, clean_url
from kit.consent import ConsentPolicy

ALLOWED = frozenset({b"adct", b"utm_source"})


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://shop.com/a?adct=1&email=jane@x.com&utm_source=b#frag", "https://shop.com/a?adct=1&utm_source=b"),
        ("https://jane:pw@shop.com:8443/a", "https://shop.com:8443/a"),
        ("https://shop.com", "https://shop.com"),
        ("HTTP://shop.com/ü ?x=1", "http://shop.com/%C3%BC%20"),
        ("https://shop.com/a?adct=%C3%A9", "https://shop.com/a?adct=%C3%A9"),
        ("javascript:alert(1)", None),
        ("/relative", None),
        ("https://", None),
        ("https://[::1", None),
        ("https://shop.com\\@evil", None),
        ("https://shöp.com/", None),
        ("https://shop.com/" + "a" * 3000, None),
        ("https://shop.com/a?adct=" + "a" * 3000, "https://shop.com/a"),
        ("", None),
    ],
)
def test_a_url_keeps_what_is_allowed_and_nothing_else(url: str, kept: str | None) -> None:
    """Fragment, user info and every other parameter go; what is no http URL is none."""
    assert clean_url(url, ALLOWED) == kept


def test_a_referrer_keeps_no_parameter_at_all() -> None:
    """A search page's query is not ours to keep."""
    assert clean_referrer(b"https://www.google.com/search?q=my+illness&adct=1#x") == "https://www.google.com/search"
    assert clean_referrer(b"\xff\xfe") is None


def reading(**settings: Any) -> Reading:
    rules = CaptureRules(secret_keys=[b"k" * 20], consent=ConsentPolicy("opt_out"), **settings)
    scope = {
        "type": "http",
        "scheme": "https",
        "headers": [(b"host", b"shop.com")],
        "path": "/ü",
        "query_string": b"adct=1&mail=x",
    }
    return Reading(rules, scope)


def test_a_scope_without_raw_path_gives_its_path_encoded() -> None:
    """Some servers give no raw_path; the kept URL is ASCII all the same."""
    assert reading().url() == "https://shop.com/%C3%BC?adct=1"


def test_the_shops_own_rule_replaces_ours(caplog: pytest.LogCaptureFixture) -> None:
    """`clean_url` gets the whole URL and decides; when it raises the URL is not kept, and that is said once."""

    def broken(url: str) -> str:
        raise ValueError(url)

    failing = reading(clean_url=broken)

    assert reading(clean_url=lambda url: url.upper()).url() == "HTTPS://SHOP.COM/%C3%BC?ADCT=1&MAIL=X"
    assert reading(clean_url=lambda url: None).url() is None
    assert [failing.url(), failing.url()] == [None, None]
    assert len(caplog.records) == 1
    assert "shop.com" not in caplog.text
