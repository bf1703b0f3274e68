"""What a destination decides for itself: whom it takes, whose yes it needs, how large, how often, how long."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

import httpx
import pytest

from kit import ConfigurationError
from kit.configuration import checked_destinations
from kit.delivery.batch import Ready, batches, fingerprint, judged, prepared, sending_of
from kit.delivery.lease import Lease
from kit.delivery.pace import Spacing
from kit.delivery.retry import backoff, settle
from kit.destinations import Destination
from kit.destinations.base import Answer, Json, Judgement, Sending, Skip, first_sending
from kit.destinations.wire import Exchange
from kit.model import ClickId, Consent, Conversion, DeliveryState, Dispatch, Identifiers, Verdict
from kit.store.attempts import Settlement
from kit.store.outbox import Claimed
from kit.store.rows import conversion_text, identifiers_text
from tests.delivery.test_retry import CLAIMED
from tests.support import FPC, NOON, adroll, rokt

LEASED = Lease("token", {1}, NOON + timedelta(seconds=70), 70.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel(Destination):
    """A shop's own destination that takes ten small events at once."""

    vendor: ClassVar[str] = "parcel"
    largest_request: ClassVar[int | None] = 2_000

    name: str = "parcel"

    def batch_limit(self, sending: Sending) -> int:
        return 10

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        return None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        return {"id": dispatch.event_id, "note": dispatch.conversion.extra.get("note")}

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        return httpx.Request("POST", "https://parcel.example/", content=b"".join(one.payload for one in sendings))


def looked_at(destination: Destination, claimed: Claimed = CLAIMED) -> Ready | Settlement:
    return prepared(destination, claimed, LEASED, may_send=lambda consent: consent.granted is not False, now=NOON)


@pytest.mark.parametrize(
    ("takes", "taken"),
    [
        (None, True),
        ({"purchase"}, True),
        ({"refund"}, False),
        (lambda dispatch: dispatch.conversion.order_id == "1", True),
        (lambda dispatch: dispatch.conversion.extra.get("brand") == "b", False),
    ],
)
def test_a_shop_says_what_a_destination_takes(
    takes: Collection[str] | Callable[[Dispatch], bool] | None, taken: bool
) -> None:
    """By names or by a function: two brands of one shop go to two accounts of one vendor."""
    found = looked_at(Parcel(takes=takes))

    assert isinstance(found, Ready) == taken
    if isinstance(found, Settlement):
        assert (found.state, found.reason, found.curable) == (DeliveryState.SKIPPED, "policy", False)


@pytest.mark.parametrize(
    ("granted", "signal", "told"),
    [
        (True, "cookie", True),
        (True, "shop", True),
        (True, "opt_out", False),
        (None, "none", False),
        (False, "gpc", False),
    ],
)
def test_a_destination_may_need_somebodys_yes(granted: bool | None, signal: str, told: bool) -> None:
    """Also in a shop that is opt_out, whose rule alone is nobody's yes."""
    claimed = replace(CLAIMED, consent=Consent(granted=granted, signal=signal, at=NOON))

    found = looked_at(Parcel(consent="opt_in"), claimed)

    assert isinstance(found, Ready) == told
    if isinstance(found, Settlement):
        assert (found.reason, found.curable) == ("consent", True)
    assert isinstance(looked_at(Parcel(), claimed), Ready) == (granted is not False)


def clicked(**ages: float) -> Claimed:
    """Return a delivery of an order of ten days ago, with clicks that were so many days old then."""
    at = NOON - timedelta(days=10)
    clicks = tuple(ClickId(vendor, f"{vendor}-click", at - timedelta(days=days)) for vendor, days in ages.items())
    given = {"order_id": "1", "value": "19.90", "currency": "USD"}
    return replace(
        CLAIMED, at=at, said=conversion_text(Conversion(**given)), known=identifiers_text(Identifiers(click_ids=clicks))
    )


@pytest.mark.parametrize(
    ("days", "window", "told"), [(30, 30, True), (30.1, 30, False), (0.4, 0.5, True), (0.6, 0.5, False), (90, 90, True)]
)
@pytest.mark.parametrize("made", [adroll, rokt])
def test_a_vendor_is_told_no_click_older_than_its_window(
    made: Callable[..., Destination], days: float, window: float, told: bool
) -> None:
    """As old as it was when the order was placed; another vendor's window is its own."""
    destination = made(click_window=timedelta(days=window), base_url="http://127.0.0.1:1")
    claimed = clicked(**{destination.vendor: days})
    known = replace(claimed.identifiers, first_party_cookie=FPC, email="jane@example.com", ip="12.34.56.89")
    known = replace(known, url="https://shop.com/", user_agent="Browser/1.0")
    claimed = replace(claimed, known=identifiers_text(known))

    found = looked_at(destination, claimed)

    assert isinstance(found, Ready)
    assert (f"{destination.vendor}-click".encode() in found.sending.payload) == told
    assert isinstance(looked_at(made(base_url="http://127.0.0.1:1"), claimed), Ready)


@pytest.mark.parametrize("made", [adroll, rokt])
def test_a_click_that_is_too_old_identifies_nobody(made: Callable[..., Destination]) -> None:
    """With nothing else the delivery is skipped and says why; a later report may bring what is wanting."""
    destination = made(click_window=timedelta(days=7))

    found = looked_at(destination, clicked(gclid=80, **{destination.vendor: 40.5}))

    assert isinstance(found, Settlement)
    assert (found.state, found.reason, found.curable) == (DeliveryState.SKIPPED, "identifier", True)
    assert found.detail == "the click is 40 days old, the window is 7 days"


def test_only_a_window_is_blamed_that_is_in_the_way() -> None:
    """An old click beside something else that is wrong, and a click that no check asks for, change no reason."""
    elsewhere = looked_at(adroll(click_window=timedelta(days=7)), clicked(gclid=40))
    asks = looked_at(Parcel(click_window=timedelta(days=7), takes=_has_a_click), clicked(gclid=40))

    assert isinstance(elsewhere, Settlement)
    assert (elsewhere.reason, "days old" in (elsewhere.detail or "")) == ("identifier", False)
    assert isinstance(asks, Settlement)
    assert asks.reason == "policy"


def _has_a_click(dispatch: Dispatch) -> bool:
    return bool(dispatch.identifiers.click_ids)


def test_a_dispatch_within_the_window_is_not_copied() -> None:
    """An event without clicks, or with fresh ones alone, is the same object."""
    for claimed in (CLAIMED, clicked(gclid=3)):
        dispatch = Dispatch(event_id="1", at=claimed.at, conversion=claimed.conversion, identifiers=claimed.identifiers)
        assert Parcel().within_window(dispatch) is dispatch


def test_what_is_only_shown_is_within_the_window_too() -> None:
    """`first_sending`, which the contract of the sandbox and `kit doctor` build by, has the same body."""
    claimed = clicked(adroll=40)
    dispatch = Dispatch(event_id="1", at=claimed.at, conversion=claimed.conversion, identifiers=claimed.identifiers)

    shown = first_sending(adroll(click_window=timedelta(days=7)), dispatch, now=NOON)

    assert b"adroll-click" not in shown.payload


def test_a_request_is_no_larger_than_the_vendor_takes() -> None:
    """Six bodies of 300 bytes in requests of 2,000: three each; one that is too large alone is not held up."""
    ready = [
        Ready(CLAIMED, sending_of(replace(CLAIMED, delivery_id=number), b"x" * length), LEASED, limit=10)
        for number, length in enumerate([300] * 6 + [5_000, 10])
    ]

    found = list(batches(Parcel(), ready))

    assert [[each.sending.delivery_id for each in batch] for batch in found] == [[0, 1, 2], [3, 4, 5], [6], [7]]


def test_what_the_vendor_is_not_through_with_is_followed() -> None:
    """Back to pending with the body to send next, when it asked for it; no attempt is counted."""
    asked = Judgement(verdict=Verdict.OK, detail="PENDING", wait=timedelta(hours=6), follow=b'{"id": 7}')

    settled = settle(CLAIMED, asked, alone=True, smaller=None, repeat_is_safe=True, now=NOON, dice=lambda: 0.5)

    assert (settled.state, settled.payload, settled.due_at) == ("pending", b'{"id": 7}', NOON + timedelta(hours=6))
    assert settled.uncounted


@pytest.mark.parametrize(("alone", "state", "limit"), [(False, "pending", 1), (True, "dead", None)])
def test_what_was_refused_in_company_is_sent_once_more_by_itself(alone: bool, state: str, limit: int | None) -> None:
    """A batch was taken but for one; alone its own fault shows."""
    said = Judgement(verdict=Verdict.INVALID, again_alone=True)

    settled = settle(CLAIMED, said, alone=alone, smaller=None, repeat_is_safe=True, now=NOON, dice=lambda: 0.5)

    assert (settled.state, settled.batch_limit) == (state, limit)


def test_each_destination_has_its_own_patience() -> None:
    """How long a delivery is tried, and the longest pause in between."""
    old = replace(CLAIMED, created_at=NOON - timedelta(days=20), attempts=15)
    given: dict[str, Any] = {"alone": True, "smaller": None, "repeat_is_safe": True, "now": NOON, "dice": lambda: 1.0}

    patient = settle(
        old,
        Judgement(verdict=Verdict.TRANSIENT),
        horizon=timedelta(days=60),
        longest=timedelta(hours=6),
        **given,
    )
    usual = settle(old, Judgement(verdict=Verdict.TRANSIENT), **given)

    assert (patient.state, patient.due_at) == ("pending", NOON + timedelta(hours=6))
    assert (usual.state, usual.reason) == ("dead", "expired")
    assert isinstance(looked_at(Parcel(horizon=timedelta(days=60)), old), Ready)
    assert backoff(15, dice=lambda: 1.0) == timedelta(hours=1)


@pytest.mark.parametrize(
    ("verdict", "refused", "in_doubt"),
    [
        (Verdict.UNKNOWN, False, True),
        (Verdict.TRANSIENT, True, False),
        (Verdict.THROTTLE, True, False),
        (Verdict.NOT_SENT, False, None),
        (Verdict.SETUP, True, False),
    ],
)
def test_an_idempotency_keys_history_is_kept(verdict: Verdict, refused: bool, in_doubt: bool | None) -> None:
    """Answered and not taken; no answer; never sent: what a repeat's 409 means depends on it (faults.md 2.2)."""
    settled = settle(
        CLAIMED,
        Judgement(verdict=verdict),
        alone=True,
        smaller=None,
        repeat_is_safe=True,
        now=NOON,
        dice=lambda: 0.5,
    )

    assert (settled.refused, settled.in_doubt) == (refused, in_doubt)


async def test_requests_are_spaced() -> None:
    """Of ten that are asked for at once, the last begins after nine tenths of a second, in a clock that is held."""
    now, slept = 100.0, list[float]()

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    spacing = Spacing(10, steady=lambda: now, sleep=sleep)
    for _ in range(10):
        await spacing.wait()
    now += 5
    await spacing.wait()

    assert slept == pytest.approx([0.1 * number for number in range(1, 10)])
    endless = Spacing(None, steady=lambda: now, sleep=sleep)
    await endless.wait()
    assert len(slept) == 9


def test_a_policy_in_code_is_the_same_set_up_in_every_process() -> None:
    """A function's repr holds its address; the fingerprint must not."""

    def only_us(dispatch: Dispatch) -> bool:
        return dispatch.conversion.currency == "USD"

    def made() -> Callable[[Dispatch], bool]:
        return lambda dispatch: True

    assert fingerprint(Parcel(takes=made())) == fingerprint(Parcel(takes=made()))
    assert fingerprint(Parcel(takes=only_us)) != fingerprint(Parcel(takes=made()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"consent": "always"}, r"parcel\.consent"),
        ({"takes": "purchase"}, r"parcel\.takes: is a text; pass a set"),
        ({"max_in_flight": 0}, r"parcel\.max_in_flight"),
        ({"requests_per_second": 0.0}, r"parcel\.requests_per_second"),
        ({"horizon": timedelta(0)}, r"parcel\.horizon"),
        ({"longest_wait": timedelta(seconds=-1)}, r"parcel\.longest_wait"),
        ({"consent": ["shop"]}, r"parcel\.consent"),
        ({"takes": 5}, r"parcel\.takes: is no set of texts; pass a set such as"),
        ({"takes": [5]}, r"parcel\.takes: is no set of texts"),
        ({"takes": {"purchse"}}, r"parcel\.takes: names 'purchse'; write 'purchase', or pass a function"),
        ({"takes": {"Purchase"}}, r"parcel\.takes: names 'Purchase'; write 'purchase'"),
        ({"takes": ["page-view"]}, r"parcel\.takes: names 'page-view'; write 'page_view'"),
        ({"max_in_flight": "4"}, r"parcel\.max_in_flight: is no whole number; write 4"),
        ({"max_in_flight": True}, r"parcel\.max_in_flight"),
        ({"requests_per_second": "5"}, r"parcel\.requests_per_second: is no number"),
        ({"requests_per_second": float("nan")}, r"parcel\.requests_per_second"),
        ({"horizon": 5}, r"parcel\.horizon: is no duration; write timedelta"),
        ({"longest_wait": None}, r"parcel\.longest_wait: is no duration"),
        ({"click_window": 30}, r"parcel\.click_window: is no duration"),
        ({"mode": "Live"}, r"parcel\.mode"),
        ({"mode": ["live"]}, r"parcel\.mode"),
        ({"name": ""}, r"destinations: the name '' is not 1 to 64"),
        ({"name": "x" * 65}, r"destinations: the name 'x+' is not 1 to 64"),
        ({"name": "two\nlines"}, r"destinations: the name 'two\\nlines' is not"),
        ({"name": " parcel"}, r"destinations: the name ' parcel' is not"),
        ({"name": 5}, r"destinations: one has a int for a name; pass a text"),
        ({"click_window": timedelta(0)}, r"parcel\.click_window: is not longer than nothing"),
        ({"click_window": timedelta(days=-7)}, r"parcel\.click_window"),
        ({"click_window": timedelta(days=91)}, r"parcel\.click_window: .* write timedelta\(days=90\) or less"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_at_start(given: dict[str, Any], said: str) -> None:
    """The message names the destination and the field."""
    with pytest.raises(ConfigurationError, match=said):
        checked_destinations([Parcel(**given)])


@pytest.mark.parametrize(
    ("takes", "warned"),
    [
        (None, []),
        (lambda dispatch: True, []),
        ({"purchase", "refund", "marketing_event"}, []),
        ({"newsletter"}, ["takes names 'newsletter', no event of the kit's: it is right if you report it so"]),
        ({"purchases"}, ["takes names 'purchases', no event of the kit's: it is right if you report it so"]),
    ],
)
def test_a_name_of_the_shops_own_is_taken_and_warned_of(takes: Any, warned: list[str]) -> None:
    """A slip of the pen leaves out every order, and a shop may have names of its own: `kit doctor` tells of it."""
    (destination,) = checked_destinations([Parcel(takes=takes)])

    assert list(destination.warnings()) == warned


@pytest.mark.parametrize("given", [5, None, {"parcel": Parcel()}])
def test_what_is_no_list_of_destinations_is_refused(given: Any) -> None:
    """By name, and not by Python's own words."""
    with pytest.raises(ConfigurationError, match=r"destinations: is a \w+; pass a list"):
        checked_destinations(given)


def test_a_conversion_of_a_test_is_not_part_of_this() -> None:
    """`takes` is asked before shadow: what is left out has no payload."""
    claimed = replace(CLAIMED, said=conversion_text(Conversion(order_id="1", test=True)))

    found = looked_at(Parcel(takes=()), claimed)

    assert isinstance(found, Settlement)
    assert (found.reason, found.payload) == ("policy", None)


@pytest.mark.parametrize("raises", ["allows", "wants", "batch_limit", "check", "payload"])
def test_own_code_that_raises_ends_its_own_delivery_alone(raises: str) -> None:
    """One order on which a shop's destination fails is dead and says why; the others of its claim go on."""

    class Faulty(Parcel):
        def _fail(self, *args: Any, **named: Any) -> Any:
            raise LookupError("jane@example.com")

    setattr(Faulty, raises, Faulty._fail)

    found = looked_at(Faulty())

    assert isinstance(found, Settlement)
    assert (found.state, found.reason, found.detail) == (DeliveryState.DEAD, "unmappable", "LookupError")


@pytest.mark.parametrize("answer", [None, 7, ["ok"], []])
def test_an_answer_that_own_code_cannot_judge_is_unknown(answer: Any) -> None:
    """The bytes have left: the attempt ends, and says that nobody can tell."""

    class Faulty(Parcel):
        def judge(self, *args: Any, **named: Any) -> Any:
            return answer

    (found,) = judged(Faulty(), [sending_of(CLAIMED, b"{}")], Exchange(sent=True, answer=Answer(status=200)), now=NOON)

    assert (found.verdict, found.detail) == (Verdict.UNKNOWN, "the answer could not be judged")


def test_a_key_keeps_its_doubt_while_the_vendor_turns_it_away() -> None:
    """A 429 or a 401 after a lost answer says nothing of that one: the key stays, and a 409 settles it."""
    doubtful = replace(CLAIMED, in_doubt=True)
    for verdict in (Verdict.THROTTLE, Verdict.SETUP):
        settled = settle(
            doubtful,
            Judgement(verdict=verdict),
            alone=True,
            smaller=None,
            repeat_is_safe=True,
            now=NOON,
            dice=lambda: 0.5,
        )
        assert (settled.refused, settled.in_doubt) == (False, None)
