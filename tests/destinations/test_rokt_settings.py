"""Which credentials choose which surface, and what is said of those that cannot be."""

from collections.abc import Callable
from typing import Any

import pytest

from kit.configuration import destinations_of
from kit.destinations import Destination, Rokt
from kit.errors import ConfigurationError
from kit.model import Mode
from kit.settings import read

from .dispatch_samples import NOW, dispatch, sending
from .rokt_samples import conversions, v1, v2

V1 = {"app_id": "app-id-1", "app_secret": "app-secret-1"}
V2 = {"public_key": "rpub-1111", "secret_key": "rsec-2222"}
API = {"api_key": "key-1", "api_secret": "secret-1"}


def url_of(destination: Rokt) -> str:
    told = dispatch(email="a@b.co")
    return str(destination.build([sending(destination, told)]).url)


@pytest.mark.parametrize(
    ("destination", "url", "together"),
    [
        (v2(), "https://api.rokt.com/v2/events", 100),
        (v1(), "https://api.rokt.com/v1/events", 1),
        (conversions(), "https://s2s.us2.mparticle.com/v2/events", 100),
        (conversions(pod="eu1"), "https://s2s.eu1.mparticle.com/v2/events", 100),
        (conversions(base_url="https://inbound.mparticle.com/s2s"), "https://inbound.mparticle.com/s2s/v2/events", 100),
        (conversions(base_url="http://127.0.0.1:8900/r"), "http://127.0.0.1:8900/r/v2/events", 100),
        (Rokt(account="1", mode=Mode.SHADOW), "https://api.rokt.com/v2/events", 100),
        (Rokt(account="1", app_id="a", mode=Mode.SHADOW), "https://api.rokt.com/v1/events", 1),
        (Rokt(api_key="k", mode=Mode.SHADOW), "https://s2s.us2.mparticle.com/v2/events", 100),
    ],
)
def test_the_credentials_choose_the_surface(destination: Rokt, url: str, together: int) -> None:
    """One class; the shop's code says nothing about surfaces."""
    assert url_of(destination) == url
    assert destination.batch_limit(sending(destination, dispatch(email="a@b.co"))) == together
    assert str(destination.trial(now=NOW).request.url) in url


def test_the_doctor_is_told_of_test_traffic() -> None:
    """Events of the environment `development` count nowhere."""
    assert list(conversions(environment="development").warnings()) == [
        "environment is development: Rokt counts none of it"
    ]
    assert [*conversions().warnings(), *v2().warnings()] == []
    (strange,) = v2(takes={"purchase", "own_name"}).warnings()
    assert "own_name" in strange
    assert list(v2(takes={"own_name"}, event_types={"own_name": "hotel_booking"}).warnings()) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r'KIT_ROKT_PUBLIC_KEY: is missing; live needs the key that begins with rpub-; mode="shadow" needs none'),
        (V2 | {"public_key": ""}, "KIT_ROKT_PUBLIC_KEY: is missing"),
        (V2 | {"secret_key": ""}, "KIT_ROKT_SECRET_KEY: is missing"),
        (V2 | {"public_key": "rsec-2222"}, "KIT_ROKT_PUBLIC_KEY: must begin with rpub-"),
        (V2 | {"secret_key": "rpub-1111"}, "KIT_ROKT_SECRET_KEY: must begin with rsec-"),
        (V2 | {"secret_key": "rsec-2222\n"}, "KIT_ROKT_SECRET_KEY: holds a space"),
        (V2 | {"secret_key": "rsec-\u00e9"}, "KIT_ROKT_SECRET_KEY: holds a letter that is not ASCII"),
        (V1 | {"app_id": ""}, "KIT_ROKT_APP_ID: is missing; live needs the app_id of the Event API v1"),
        (V1 | {"app_secret": ""}, "KIT_ROKT_APP_SECRET: is missing"),
        (V1 | {"app_id": "rpub-1111"}, "KIT_ROKT_APP_ID: begins with rpub-, as a public_key does; write it as public_"),
        (V1 | {"app_secret": "rsec-2222"}, "KIT_ROKT_APP_SECRET: begins with rsec-, .* write it as secret_key="),
        (V1 | {"app_secret": "app 2222"}, "KIT_ROKT_APP_SECRET: holds a space"),
        (API | {"api_key": ""}, "KIT_ROKT_API_KEY: is missing; live needs the api_key of the Conversions API"),
        (API | {"api_secret": ""}, "KIT_ROKT_API_SECRET: is missing"),
        (API | {"api_key": "rpub-1111"}, "KIT_ROKT_API_KEY: begins with rpub-"),
        (V1 | V2, "Rokt: is given public_key and app_id, of Event API v2 and Event API v1; write public_key and secr"),
        (V2 | API, "Rokt: is given public_key and api_key, of Event API v2 and Conversions API"),
        (V1 | V2 | API, "Rokt: is given public_key and app_id and api_key"),
        ({"public_key": "rpub-1111", "app_secret": "app-2222"}, "Rokt: is given public_key and app_secret"),
        ({"app_id": "a", "api_secret": "b-2222"}, "Rokt: is given app_id and api_secret"),
        (V2 | {"account": ""}, r"Rokt\.account: is missing; the Event API v2 needs it"),
        (V1 | {"account": ""}, r"Rokt\.account: is missing; the Event API v1 needs it"),
        (V2 | {"account": "1" * 65}, r"Rokt\.account: is longer than 64"),
        (API | {"account": "1 2"}, r"Rokt\.account: holds a space"),
        (API | {"account": "", "postback": True}, r"Rokt\.account: is missing; postback needs it"),
        (V2 | {"base_url": "http://api.rokt.com"}, r"Rokt\.base_url: must begin with https"),
        (API | {"base_url": "http://s2s.us2.mparticle.com"}, r"Rokt\.base_url: must begin with https"),
        (
            API | {"base_url": "https://api.rokt.com"},
            r"Rokt\.base_url: is not on mparticle\.com.* leave it out and wri",
        ),
        (API | {"base_url": "https://evilmparticle.com"}, r"Rokt\.base_url: is not on mparticle\.com"),
        (API | {"base_url": "https://mparticle.com.evil.com"}, r"Rokt\.base_url: is not on mparticle\.com"),
        (API | {"base_url": "https://s2s.mparticle.com:8443"}, r"Rokt\.base_url: must be .* no port"),
        (API | {"base_url": "https://s2s.mparticle.com/%2e%2e/x"}, r"Rokt\.base_url: must be .* no %"),
        (API | {"base_url": "https://u:p@s2s.mparticle.com"}, r"Rokt\.base_url: must be .* no user"),
        (API | {"base_url": "https://s2s.mparticle.com?x=1"}, r"Rokt\.base_url: must be .* no query"),
        (V2 | {"postback_url": "http://apps.rokt.com"}, r"Rokt\.postback_url: must begin with https"),
        (API | {"pod": "us9"}, r"Rokt\.pod: is none of au1, eu1, us1, us2"),
        (API | {"environment": "staging"}, r'Rokt\.environment: is neither "production" nor "development"'),
        (V2 | {"environment": "development"}, r"Rokt\.environment: is of the Conversions API alone; write api_key and"),
        (V1 | {"audiences": {"purchase": ("buyers", "add")}}, r"Rokt\.audiences: is of the Conversions API alone"),
        (V2 | {"pod": "moon"}, r"Rokt\.pod: is of the Conversions API alone; write .* or leave it out"),
        (V1 | {"amount_as": "float"}, r"Rokt\.amount_as: is of the Conversions API alone"),
        (API | {"audiences": {"purchase": ("buyers", "remove")}}, r"Rokt\.audiences\[.purchase.\]: is not such as"),
        (API | {"audiences": {"purchase": "buyers"}}, r"Rokt\.audiences\[.purchase.\]: is not such as"),
        (API | {"amount_as": "float"}, r'Rokt\.amount_as: is neither "string" nor "number"'),
        (V2 | {"hashing": "md5"}, r'Rokt\.hashing: asks for MD5, which Rokt does not take; write hashing="strict"'),
        (V2 | {"hashing": {"emailmd5"}}, r"Rokt\.hashing: asks for MD5"),
        (
            V2 | {"hashing": "none"},
            r'Rokt\.hashing: is neither "strict", "hightouch" nor "raw", nor a set of .* email,',
        ),
        (V2 | {"hashing": {"email", "dob"}}, r"Rokt\.hashing: is neither"),
        (V2 | {"hashing": None}, r"Rokt\.hashing: is neither"),
        (V2 | {"hashing": [None]}, r"Rokt\.hashing: is neither"),
        (V2 | {"hashing": ["email", ["lastname"]]}, r"Rokt\.hashing: is neither"),
        (V2 | {"names": "long"}, r'Rokt\.names: is neither "compact" nor "spaced"'),
        (V2 | {"names": ["compact"]}, r'Rokt\.names: is neither "compact" nor "spaced"'),
        (V2 | {"holdout": "q:5"}, r'Rokt\.holdout: is a str; pass Holdout\(name="2026-q4", percent=5\)'),
        (V2 | {"event_types": None}, r'Rokt\.event_types: is a NoneType; pass \{"purchase": "conversion"\}'),
        (V2 | {"event_types": {"purchase": ""}}, r"Rokt\.event_types\['purchase'\]: is not a text of 1 to 128"),
        (V2 | {"event_types": {"purchase": "x" * 129}}, r"Rokt\.event_types\['purchase'\]: is not a text of 1 to 128"),
        (V2 | {"event_types": {"purchase": 5}}, r"Rokt\.event_types\['purchase'\]: is not a text"),
        (V2 | {"event_types": {5: "conversion"}}, r"Rokt\.event_types: "),
        (V2 | {"conversion_types": ["order"]}, r"Rokt\.conversion_types: is a list; pass"),
        (V2 | {"conversion_types": {"purchase": "a\n"}}, r"Rokt\.conversion_types\['purchase'\]: is not a text"),
        (V2 | {"audiences": None}, r"Rokt\.audiences: is a NoneType; pass"),
        (API | {"audiences": {"purchase": (5, "add")}}, r"Rokt\.audiences\['purchase'\]: is not such as"),
        (API | {"audiences": {"purchase": ("", "add")}}, r"Rokt\.audiences\['purchase'\]: is not such as"),
        (API | {"audiences": {"purchase": ("buyers", ["add"])}}, r"Rokt\.audiences\['purchase'\]: is not such as"),
        (API | {"audiences": {"purchase": 7}}, r"Rokt\.audiences\['purchase'\]: is not such as"),
        (API | {"pod": ["us1"]}, r"Rokt\.pod: is none of"),
        (API | {"environment": None}, r"Rokt\.environment: is neither"),
        (V2 | {"clamp": "no"}, r"Rokt\.clamp: is a str; write True or False"),
        (V2 | {"send_ip": 1}, r"Rokt\.send_ip: is a int; write True or False"),
        (V2 | {"postback": "false"}, r"Rokt\.postback: is a str; write True or False"),
        (V2 | {"account": 12345}, r"Rokt\.account: is a int; pass a text"),
        (V2 | {"public_key": 5}, r"KIT_ROKT_PUBLIC_KEY: is a int; pass a text"),
        (
            V2 | {"base_url": "https://api.rokt.com/v2/events"},
            r"Rokt\.base_url: ends in /v2/events, which is added to it; write https://api\.rokt\.com$",
        ),
        (V1 | {"base_url": "https://api.rokt.com/v1/events/"}, r"Rokt\.base_url: ends in /v1/events"),
        (
            API | {"base_url": "https://s2s.us2.mparticle.com/v2/events"},
            r"Rokt\.base_url: ends in /v2/events, .* write https://s2s\.us2\.mparticle\.com$",
        ),
        (
            API | {"base_url": "https://inbound.mparticle.com/s2s/v2/bulkevents"},
            r"ends in /v2/bulkevents, .*\.com/s2s$",
        ),
        (V2 | {"postback_url": "https://apps.rokt.com/api/conv"}, r"Rokt\.postback_url: ends in /api/conv"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], message: str) -> None:
    """The error names the setting and what to write instead, and never the key."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        Rokt(**{"account": "12345"} | settings)

    assert "2222" not in str(caught.value)


def test_shadow_needs_no_keys_and_no_secret_is_in_a_repr() -> None:
    """Staging starts with an account id alone; a half pair is no error there."""
    assert Rokt(account="12345", mode=Mode.SHADOW).secret_key == ""
    assert Rokt(account="12345", app_secret="x", mode=Mode.SHADOW).app_id == ""
    for made in (v1(), v2(), conversions()):
        assert not any(word in repr(made) for word in ("rsec", "app-secret", "secret-1", "app-id", "key-1"))
        assert not any(word in repr(made.authentication) for word in ("app-secret",))


# ---------------------------------------------------------------- from the environment


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Destination]]:
    """Return what makes destinations of `KIT_ROKT_*` variables."""

    def made(**variables: str) -> list[Destination]:
        for name, text in variables.items():
            monkeypatch.setenv(f"KIT_ROKT_{name.upper()}", text)
        return destinations_of(read())

    return made


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"account": "1", **V2}, {"account": "1", "base_url": ""} | V2),
        ({"account": "1", **V1, "base_url": "https://a.rokt.com"}, {"base_url": "https://a.rokt.com"} | V1),
        (
            {**API, "pod": "eu1", "environment": "development", "base_url": "https://a.rokt.com"},
            {"account": "", "pod": "eu1", "environment": "development", "base_url": ""} | API,
        ),
        (
            {"account": "1", **API, "conversions_url": "https://s2s.au1.mparticle.com"},
            {"account": "1", "base_url": "https://s2s.au1.mparticle.com"} | API,
        ),
        ({"account": "1", **V2, "hashing": "hightouch"}, {"hashing": "hightouch"}),
        ({"account": "1", **V2, "hashing": "email, zipcode"}, {"hashing": frozenset({"email", "zipcode"})}),
        ({"account": "1", **V2, "hashing": "email"}, {"hashing": frozenset({"email"})}),
        ({"account": "1", **V2, "hashing": ""}, {"hashing": "strict"}),
        ({"account": "1", **V2, "api_key": "", "app_id": ""}, V2),
        ({"account": "1", **V2, "conversions_url": "https://s2s.au1.mparticle.com"}, {"base_url": ""}),
    ],
)
def test_the_environment_chooses_the_surface(
    environment: Callable[..., list[Destination]], variables: dict[str, str], expected: dict[str, Any]
) -> None:
    """Switching is a matter of variables; each surface takes the address that is its own."""
    (made,) = environment(**variables)

    assert {name: getattr(made, name) for name in expected} == expected


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (V2 | {"audience": "true"}, V2),
        (V1 | {"deletion": "true"}, V1),
        (V2 | V1 | {"deletion": "true"}, V2),
        (V2 | V1 | {"audience": "true"}, V1),
        (V2 | V1 | {"audience": "true", "deletion": "true"}, V2),
        (API | V2 | V1 | {"audience": "true", "deletion": "true"}, API),
    ],
)
def test_a_pair_may_be_there_for_another_purpose(
    environment: Callable[..., list[Destination]], variables: dict[str, str], expected: dict[str, str]
) -> None:
    """What audiences and deletions need does not choose the surface of events, unless it is all there is."""
    made = environment(account="1", **variables)[0]

    assert isinstance(made, Rokt)
    assert {name: getattr(made, name) for name in V2 | V1 | API if getattr(made, name)} == expected


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"secret_key": "rsec-2222"}, "KIT_ROKT_ACCOUNT or KIT_ROKT_API_KEY.*: is missing beside KIT_ROKT_SECRET_KEY"),
        ({"api_secret": "2222"}, "KIT_ROKT_ACCOUNT or KIT_ROKT_API_KEY.*: is missing beside KIT_ROKT_API_SECRET"),
        ({"account": "1", "api_secret": "2222"}, "KIT_ROKT_API_KEY: is missing"),
        ({"account": "1", **V2, **V1}, "Rokt: is given public_key and app_id"),
        ({**API, "environment": "staging"}, "KIT_ROKT_ENVIRONMENT: Input should be 'production' or 'development'"),
        ({**API, "hashing": "md5"}, r"Rokt\.hashing: asks for MD5"),
        ({**API, "hashing": "email,dob"}, r"Rokt\.hashing: is neither"),
        ({"account": "1", **V2, "pod": "moon"}, r"Rokt\.pod: is of the Conversions API alone"),
        ({"account": "1", **V2, "pod": "eu1"}, r"Rokt\.pod: is of the Conversions API alone"),
        (
            {"account": "1", **V2, "conversions_url": "http://evil.com"},
            "KIT_ROKT_CONVERSIONS_URL: must begin with",
        ),
        (
            {"account": "1", **V2, "conversions_url": "https://evil.com"},
            "KIT_ROKT_CONVERSIONS_URL: is not on mp",
        ),
        ({**API, "base_url": "http://evil.com"}, "KIT_ROKT_BASE_URL: must begin with https"),
        ({**API, "base_url": "https://api.rokt.com/v2/events"}, "KIT_ROKT_BASE_URL: ends in /v2/events"),
        ({"account": "1", **V2, "audience_url": "http://evil.com"}, "KIT_ROKT_AUDIENCE_URL: must begin with https"),
        ({"account": "1", **V2, "holdout": "q"}, "KIT_ROKT_HOLDOUT: is not a name and a percentage"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(
    environment: Callable[..., list[Destination]], variables: dict[str, str], message: str
) -> None:
    """What is missing beside what was given, and never a secret."""
    with pytest.raises(ConfigurationError, match=message) as caught:
        environment(**variables)

    assert "2222" not in str(caught.value)
