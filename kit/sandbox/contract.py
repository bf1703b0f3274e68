"""The contract that every destination keeps, as tests that a shop runs against its own class.

    from kit.sandbox.contract import DestinationContract

    class TestParcel(DestinationContract):
        destination = Parcel(token="secret-token", mode="live")
        secrets = ["secret-token"]

pytest collects the methods; nothing is sent anywhere.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import ClassVar

import httpx

from kit.destinations.base import (
    LONGEST_DETAIL,
    Answer,
    Destination,
    Judgement,
    Sending,
    Skip,
    first_sending,
    is_loopback,
)
from kit.model import ClickId, Conversion, Dispatch, Identifiers, Item, Verdict, VisitorId, event_id_of

NOW = datetime(2026, 1, 15, tzinfo=UTC)
#: SHA-256 and MD5 of nothing: they identify nobody, and no vendor may be sent one.
_OF_NOTHING = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "d41d8cd98f00b204e9800998ecf8427e",
)
_IN_POWERS = re.compile(r'[":\[,] ?-?[0-9]+(\.[0-9]+)?[eE][+-]?[0-9]+["\],}]')
_EMAIL = "jane.doe@example.com"
_STATUSES = (*range(200, 207), 301, 302, 307, 400, 401, 403, 404, 408, 409, 410, 413, 422, 425, 429, 500, 502, 503, 504)
_BODIES = (b"", b"{}", b"[]", b"null", b"<html>", b"\xff\xfe", b"[" * 5_000, b'{"data": {"unprocessedRecords": 7}}')

#: Ways in which a success says that it is none.
_REFUSALS = (
    b'{"error": "unknown account"}',
    b'{"errors": [{"message": "unknown account"}]}',
    b'{"success": false}',
    b'{"status": "rejected"}',
)

_SAMPLES = (
    Conversion(
        order_id="order-1",
        value=Decimal("1E+2"),
        currency="USD",
        email=_EMAIL,
        phone="+1 323 867 5309",
        customer_id="customer-1",
        first_name="Jane",
        items=(Item(id="shoe-1", name="Shoe", price=Decimal("56.78"), quantity=2),),
        extra={"note": "a gift"},
    ),
    Conversion(order_id="order-2", value=Decimal("0.1"), currency="JPY"),
    Conversion(name="refund", order_id="order-1", value=Decimal(-5), currency="USD", email=_EMAIL),
    Conversion(name="add_to_cart", event_id="cart-1", items=(Item(id="shoe-1"),)),
    Conversion(name="page_view", event_id="view-1"),
    Conversion(name="a name of the shop's own", event_id="own-1", email=_EMAIL),
)


class DestinationContract:
    """Subclass it with a name that pytest collects.

    `destination`  the object under test, with credentials in it.
    `samples`      what the shop reports; the usual kinds when left out.
    `secrets`      texts that may never be seen in a repr or in what is kept of an answer.
    """

    destination: ClassVar[Destination]
    samples: ClassVar[Sequence[Conversion]] = _SAMPLES
    secrets: ClassVar[Sequence[str]] = ()

    def test_it_has_a_name_and_a_vendor(self) -> None:
        """Both are kept with deliveries and clicks, in columns of 64 characters."""
        for name in (self.destination.name, self.destination.vendor):
            assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}", name), name

    def test_no_secret_is_in_its_repr(self) -> None:
        """A repr ends up in logs and error pages: declare the field with `repr=False`."""
        for secret in self.secrets:
            assert secret not in repr(self.destination)

    def test_a_check_is_a_reason_or_none(self) -> None:
        """It never raises, whatever is known of the buyer; the same question has the same answer."""
        for told in self._dispatches():
            skip = self.destination.check(told, now=NOW)
            assert skip == self.destination.check(told, now=NOW)
            if skip is not None:
                assert isinstance(skip, Skip)
                assert re.fullmatch(r"[a-z0-9_]{1,32}", skip.code), "a code is one short word, stored and filtered by"

    def test_what_it_takes_can_be_built(self) -> None:
        """Whatever passes `check` has a JSON body and a request; something of the samples does."""
        taken = [self._sending(told) for told in self._taken()]
        assert taken, "check() leaves out every sample; give samples= that it takes"
        for sending in taken:
            request = self.destination.build([sending])
            assert isinstance(request, httpx.Request)
            assert request.url.scheme == "https" or is_loopback(request.url.host)

    def test_the_same_event_has_the_same_bytes(self) -> None:
        """Payload and request are pure: no time of day, no random id in them, or a retry is another event."""
        for told in self._taken():
            one, other = self._sending(told), self._sending(told)
            assert one.payload == other.payload
            first, second = self.destination.build([one]), self.destination.build([other])
            assert (first.url, first.headers, first.content) == (second.url, second.headers, second.content)

    def test_a_body_holds_nothing_that_may_not_leave(self) -> None:
        """No digest of nothing, no NaN, no number in powers of ten."""
        for told in self._taken():
            text = self._sending(told).payload.decode()
            assert not any(digest in text.lower() for digest in _OF_NOTHING)
            assert not _IN_POWERS.search(text), "an amount is written in plain digits"

    def test_a_full_batch_can_be_built(self) -> None:
        """As many as `batch_limit` says fit into one request."""
        for told in self._taken():
            sending = self._sending(told)
            limit = self.destination.batch_limit(sending)
            assert limit >= 1
            self.destination.build([replace(sending, delivery_id=number) for number in range(limit)])

    def test_every_answer_is_judged(self) -> None:
        """One judgement for each delivery, whatever status and body came; nothing raises."""
        for sendings in self._batches():
            for answer in _answers():
                judged = self.destination.judge(sendings, answer, now=NOW)
                assert len(judged) == len(sendings), answer
                assert all(isinstance(each, Judgement) and each.verdict in Verdict for each in judged), answer

    def test_only_success_is_success(self) -> None:
        """A refusal or an outage is never taken for a delivery; 409 may be, for what the vendor has already."""
        for sendings in self._batches():
            for answer in _answers():
                if answer.status >= 300 and answer.status != 409:
                    judged = self.destination.judge(sendings, answer, now=NOW)
                    assert not any(each.verdict is Verdict.OK for each in judged), answer

    def test_a_success_that_names_an_error_is_none(self) -> None:
        """A vendor may answer 200 and refuse in its body: that is no delivery, nor a shape that was foreseen as one."""
        for sendings in self._batches():
            for answer in (Answer(status=status, body=body) for status in (200, 202) for body in _REFUSALS):
                judged = self.destination.judge(sendings, answer, now=NOW)
                assert not any(each.verdict is Verdict.OK for each in judged), answer

    def test_what_it_remarks_is_short_and_nobodys(self) -> None:
        """A remark is kept with the delivery: a few words, and none of the buyer's."""
        for told in self._taken():
            remarks = self.destination.remarks(told, now=NOW)
            assert not isinstance(remarks, str), "return a list of remarks"
            for remark in remarks:
                assert 0 < len(remark) <= LONGEST_DETAIL
                assert not any(text and text in remark for text in (_EMAIL, "867", *self.secrets)), remark

    def test_a_wrong_set_up_burns_nothing(self) -> None:
        """401, 403 and 404 pause the destination: they say nothing about the delivery."""
        for sendings in self._batches():
            for status in (401, 403, 404):
                judged = self.destination.judge(sendings, Answer(status=status), now=NOW)
                assert {each.verdict for each in judged} == {Verdict.SETUP}, status

    def test_a_vendor_that_asks_for_time_gets_it(self) -> None:
        """429 holds the destination back, for as long as Retry-After says."""
        answer = Answer(status=429, headers=httpx.Headers({"retry-after": "7"}))
        for sendings in self._batches():
            for each in self.destination.judge(sendings, answer, now=NOW):
                assert (each.verdict, each.wait) == (Verdict.THROTTLE, timedelta(seconds=7))

    def test_what_is_kept_of_an_answer_is_short_and_masked(self) -> None:
        """A vendor may repeat what it was sent: no address, no secret, 300 characters at most."""
        echo = json.dumps({"errors": [{"message": " ".join((_EMAIL, *self.secrets, "x" * 1_000))}]}).encode()
        for sendings in self._batches():
            for status in (200, 400, 401, 500):
                for each in self.destination.judge(sendings, Answer(status=status, body=echo), now=NOW):
                    assert len(each.detail) <= LONGEST_DETAIL + 100
                    assert not any(text in each.detail for text in (_EMAIL, *self.secrets)), each.detail

    def test_it_says_whether_a_repeat_is_safe(self) -> None:
        """After an outcome that nobody knows this decides between sending again and asking a person."""
        for told in self._taken():
            assert self.destination.repeat_is_safe(self._sending(told), now=NOW) in {True, False}

    # ------------------------------------------------------------ pieces

    def _dispatches(self) -> Iterator[Dispatch]:
        for conversion in self.samples:
            for known in (Identifiers(), self._known()):
                yield Dispatch(event_id=event_id_of(conversion), at=NOW, conversion=conversion, identifiers=known)

    def _taken(self) -> list[Dispatch]:
        return [told for told in self._dispatches() if self.destination.check(told, now=NOW) is None]

    def _batches(self) -> Iterator[list[Sending]]:
        for told in self._taken():
            sending = self._sending(told)
            yield [sending]
            if self.destination.batch_limit(sending) > 1:
                yield [sending, replace(sending, delivery_id=2, event_id="another")]

    def _known(self) -> Identifiers:
        return Identifiers(
            visitor=VisitorId("v" * 22),
            click_ids=(ClickId(self.destination.vendor, "0123456789abcdef0123456789abcdef", NOW),),
            first_party_cookie="0123456789abcdef0123456789abcdef-1700000000000",
            email=_EMAIL,
            customer_id="customer-1",
            ip="12.34.56.89",
            user_agent="Browser/1.0",
            url="https://shop.example/thanks",
        )

    def _sending(self, told: Dispatch) -> Sending:
        return first_sending(self.destination, told, now=NOW)


def _answers() -> Iterator[Answer]:
    for status in _STATUSES:
        for body in _BODIES:
            yield Answer(status=status, body=body)
    yield Answer(status=200, body=b'{"data"', cut=True)
