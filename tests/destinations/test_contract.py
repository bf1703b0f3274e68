"""The contract that is shipped for a shop's own destinations, kept by ours; and it finds what breaks it."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, ClassVar

import httpx
import pytest

from kit.destinations import AdRoll, Destination, Rockerbox, Rokt
from kit.destinations.base import Answer, Json, Judgement, Sending, Skip, judge_status
from kit.model import Dispatch, Verdict
from kit.sandbox.contract import DestinationContract


class TestAdRoll(DestinationContract):
    destination = AdRoll(advertisable="ADV", pixel="PIX", token="a-secret-token", mode="live")
    secrets = ["a-secret-token"]


class TestRoktBasic(DestinationContract):
    destination = Rokt(account="12345", public_key="rpub-1111", secret_key="rsec-2222", mode="live")
    secrets = ["rsec-2222"]


class TestRockerbox(DestinationContract):
    destination = Rockerbox(advertiser="an-advertiser", mode="live")
    secrets = ["an-advertiser"]


# ---------------------------------------------------------------- it finds what breaks it


@dataclass(frozen=True, slots=True, kw_only=True)
class Careless(Destination):
    """Breaks one promise at a time."""

    vendor: ClassVar[str] = "careless"

    name: str = "careless"
    token: str = "a-secret-token"
    breaks: str = ""

    def check(self, dispatch: Dispatch, *, now: datetime) -> Skip | None:
        if self.breaks == "check":
            assert dispatch.identifiers.email is not None
        return Skip("Not For Us!") if self.breaks == "code" else None

    def payload(self, dispatch: Dispatch, *, now: datetime) -> Json:
        body: dict[str, Any] = {"id": dispatch.event_id}
        if self.breaks == "pure":
            body["sent"] = str(uuid.uuid4())
        if self.breaks == "notation":
            body["value"] = str(dispatch.conversion.value)
        return body

    def build(self, sendings: Sequence[Sending]) -> httpx.Request:
        scheme = "http" if self.breaks == "plain" else "https"
        if self.breaks == "batch":
            (_,) = sendings
        return httpx.Request("POST", f"{scheme}://vendor.example/", content=b"".join(one.payload for one in sendings))

    def batch_limit(self, sending: Sending) -> int:
        return 10

    def judge(self, sendings: Sequence[Sending], answer: Answer, *, now: datetime) -> Sequence[Judgement]:
        if self.breaks == "number":
            return [judge_status(answer, now=now)]
        if self.breaks == "success":
            return [Judgement(verdict=Verdict.OK)] * len(sendings)
        if self.breaks == "echo":
            return [replace(judge_status(answer, now=now), detail=answer.body.decode(errors="replace")[:300])]
        if self.breaks == "status":
            return [judge_status(answer, now=now)] * len(sendings)
        return Destination.judge(self, sendings, answer, now=now)

    def remarks(self, dispatch: Dispatch, *, now: datetime) -> Sequence[str]:
        if self.breaks == "remark":
            return [f"not {dispatch.conversion.email}"]
        return "one remark" if self.breaks == "remarks" else ["one remark"]


BREAKS = {
    "repr": "test_no_secret_is_in_its_repr",
    "check": "test_a_check_is_a_reason_or_none",
    "code": "test_a_check_is_a_reason_or_none",
    "plain": "test_what_it_takes_can_be_built",
    "pure": "test_the_same_event_has_the_same_bytes",
    "notation": "test_a_body_holds_nothing_that_may_not_leave",
    "batch": "test_a_full_batch_can_be_built",
    "number": "test_every_answer_is_judged",
    "success": "test_only_success_is_success",
    "status": "test_a_success_that_names_an_error_is_none",
    "remark": "test_what_it_remarks_is_short_and_nobodys",
    "remarks": "test_what_it_remarks_is_short_and_nobodys",
    "echo": "test_what_is_kept_of_an_answer_is_short_and_masked",
}


@pytest.mark.parametrize(("breaks", "found_by"), BREAKS.items())
def test_a_broken_promise_is_found(breaks: str, found_by: str) -> None:
    """Each by the test that is named for it."""

    class Tried(DestinationContract):
        destination = Careless(breaks=breaks)
        secrets = ["a-secret-token"]

    with pytest.raises(Exception):  # noqa: B017 - whatever a test fails with
        getattr(Tried(), found_by)()


def test_a_careful_one_passes() -> None:
    """The same class without the fault: what the tests above find is the fault."""

    class Tried(DestinationContract):
        destination = Careless()

    tests = [name for name in dir(Tried) if name.startswith("test_")]
    for name in tests:
        getattr(Tried(), name)()
    assert len(tests) >= 12
