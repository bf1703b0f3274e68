"""The holdout: who is in it depends on the e-mail alone, and its share is what it says."""

import hashlib

import pytest

from kit.destinations import Holdout, Rockerbox, Rokt
from kit.errors import ConfigurationError

from .dispatch_samples import dispatch, sending

CUSTOMERS = [f"customer-{number}@example.com" for number in range(20_000)]


def held(holdout: Holdout) -> set[str]:
    return {customer for customer in CUSTOMERS if holdout.holds(customer)}


@pytest.mark.parametrize("percent", [1, 5, 12.5, 50])
def test_its_share_is_what_it_says(percent: float) -> None:
    """Of 20,000 customers as many as it should, within four standard deviations."""
    share = percent / 100
    spread = 4 * (20_000 * share * (1 - share)) ** 0.5

    assert abs(len(held(Holdout(name="2026-q4", percent=percent))) - 20_000 * share) < spread


def test_who_is_held_never_changes() -> None:
    """A customer's draw is the same on every machine and in every release: these were drawn once."""
    holdout = Holdout(name="2026-q4", percent=5)

    assert [number for number in range(150) if holdout.holds(CUSTOMERS[number])] == [8, 93, 97, 110]


def test_an_address_and_its_digest_are_one_customer() -> None:
    """However a list spells somebody, the draw is one."""
    holdout = Holdout(name="2026-q4", percent=50)
    for customer in CUSTOMERS[:200]:
        digest = hashlib.sha256(customer.encode()).hexdigest()

        assert holdout.holds(customer) == holdout.holds(f" {customer.upper()} ") == holdout.holds(digest.upper())


def test_a_larger_share_keeps_who_was_held_before() -> None:
    """Raising the percentage adds customers and lets nobody go."""
    assert held(Holdout(name="2026-q4", percent=5)) < held(Holdout(name="2026-q4", percent=10))


def test_another_name_draws_others() -> None:
    """Whoever was spared in one quarter is not spared in the next by that: 5 % of 5 % are."""
    both = held(Holdout(name="2026-q4", percent=5)) & held(Holdout(name="2027-q1", percent=5))

    assert 10 < len(both) < 100


def test_a_stamp_says_which_arm() -> None:
    """The name for who is held back, "none" for who is not, nothing where no e-mail tells."""
    holdout = Holdout(name="2026-q4", percent=50)
    stamps = {customer: holdout.stamp(customer) for customer in CUSTOMERS[:50]}

    assert {customer for customer, stamp in stamps.items() if stamp == "2026-q4"} == held(holdout) & stamps.keys()
    assert set(stamps.values()) == {"2026-q4", "none"}
    assert (holdout.stamp(None), holdout.stamp(""), holdout.stamp("customer-17")) == (None, None, None)
    assert not holdout.holds("customer-17")


@pytest.mark.parametrize(
    ("setting", "given"),
    [
        ("Holdout.name", {"name": ""}),
        ("Holdout.name", {"name": "q 4"}),
        ("Holdout.name", {"name": "q4\n"}),
        ("Holdout.name", {"name": "x" * 65}),
        ("Holdout.name", {"name": "none"}),
        ("Holdout.name", {"name": 5}),
        ("Holdout.name", {"name": None}),
        ("Holdout.percent", {"percent": "5"}),
        ("Holdout.percent", {"percent": True}),
        ("Holdout.percent", {"percent": None}),
        ("Holdout.percent", {"percent": 0}),
        ("Holdout.percent", {"percent": 100}),
        ("Holdout.percent", {"percent": float("nan")}),
    ],
)
def test_what_cannot_be_is_refused(setting: str, given: dict[str, object]) -> None:
    """At start, naming the setting."""
    with pytest.raises(ConfigurationError) as raised:
        Holdout(**{"name": "2026-q4", "percent": 5} | given)  # type: ignore[arg-type]

    assert raised.value.setting == setting


@pytest.mark.parametrize("customer", [0, 1, 8, 93])
def test_every_destination_stamps_the_same_arm(customer: int) -> None:
    """What an audience leaves out is what the conversions are stamped with, on each surface."""
    holdout, email = Holdout(name="2026-q4", percent=5), CUSTOMERS[customer]
    told = dispatch({"order_id": "1", "email": email})
    arm = "2026-q4" if customer in {8, 93} else "none"

    bodies = [
        sending(destination, told).payload.decode()
        for destination in (
            Rokt(account="12345", holdout=holdout, mode="shadow"),
            Rokt(api_key="key", api_secret="secret", holdout=holdout),
            Rockerbox(advertiser="acme", holdout=holdout),
        )
    ]

    assert f'{{"name":"holdout","value":"{arm}"}}' in bodies[0]
    assert all(f'"holdout":"{arm}"' in body for body in bodies[1:])


def test_nobody_is_stamped_where_nobody_can_tell() -> None:
    """An order by a click id alone is in no arm."""
    told = dispatch({"order_id": "1"}, click_ids={"rokt": "click"})

    assert (
        "holdout"
        not in sending(
            Rokt(account="12345", holdout=Holdout(name="q", percent=50), mode="shadow"), told
        ).payload.decode()
    )
