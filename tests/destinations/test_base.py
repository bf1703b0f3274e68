"""What all destinations share: statuses, waiting times, and a vendor's words made fit to be kept."""

from datetime import timedelta

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.destinations import Rockerbox
from kit.destinations.base import (
    endpoint,
    error_named,
    extras,
    json_object,
    judge_status,
    judge_whole,
    masked,
    require_base_url,
    retry_after,
    without_empty,
)
from kit.errors import ConfigurationError
from kit.identity import EMPTY_SHA256
from kit.model import Conversion, Mode, Verdict

from .dispatch_samples import NOW, answer


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("bad jane.doe+tag@example.com, sorry", "bad [email], sorry"),
        ("?email=jane%40example.com&x=1", "?email=[email]"),
        ("Authorization: Token SAT-123456", "Authorization: Token [secret]"),
        ("jwt expired: eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhcHAifQ.c2ln-bmF0", "jwt expired: [secret]"),
        ("basic cnB1Yi0xMTExOnJzZWM=", "basic [secret]"),
        ("key rsec-22-22 and rpub-1111.", "key [secret] and [secret]"),
        ("our word OURS here", "our word [secret] here"),
        ("fab1e2e699b3b927cbf875046a64f2225df02d5cb306f3857424c2bbb87be61f", "[hash]"),
        ("ip 12.34.56.89 or 2001:db8::ff00:42:8329", "ip [ip] or [ip]"),
        ("+1 (323) 867-5309, 323-867-5309, 3238675309", "[number], [number], [number]"),
        ("event ff3bd69c-ca74-4337-af91-4d5d0bd00e38 at 2025-12-22T10:21:29Z", None),
        ("two\r\nlines\x1b[31m and\ttabs", "two lines [31m and tabs"),
        ("", ""),
    ],
)
def test_words_are_masked_in_one_line(said: str, kept: str | None) -> None:
    """No address, token, digest, ip, number or control character; event ids and times stay (None: unchanged)."""
    assert masked(said, secrets=("OURS", "")) == (said if kept is None else kept)


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (r'{"m":"call \u002B15551234567"}', '{"m":"call [number]"}'),
        (r'{"m":"jane\u002Btag@example.com"}', '{"m":"[email]"}'),
        (r'{"m":"{\"m\":\"jane\\u0040example.com\"}"}', r'{"m":"{\"m\":\"[email]\"}"}'),
        (r"jane\u002540example.com, f\u00fcr \ud83d\ude00", "[email], f\u00fcr \U0001f600"),
        ("/u/jane%252Btag%252540example.com", "[email]"),
        ("/t/%2B15551234567/%0a", "/t/[number]/"),
        (r"no ours, no OU\u0052S, no %4Furs", "no [secret], no [secret], no [secret]"),
        (r"nor n\u00f6rd, nor no\u0308rd, nor N%C3%96RD", "nor [secret], nor [secret], nor [secret]"),
        ("a%41 is %61%41", "[secret] is [secret]"),
        ("no%20one f\u00fcr no\u0308 one", None),
        (r'{"m":"100%25 f\u00fcr C:\users at 5%"}', None),
    ],
)
def test_what_hides_in_escapes_is_masked(said: str, kept: str | None) -> None:
    """Those of JSON, of URLs and of both, in any case and in pieces; words that hide nothing keep theirs (None)."""
    assert masked(said, secrets=("OURS", "no\u0308rd", "a%41")) == (said if kept is None else kept)


@pytest.mark.parametrize(
    "number",
    [
        "(555)123-4567", "555.123.4567", "+49 30/1234567", "030/1234567", "0176-12345678", "0176 123 4567",
        "(030) 1234567", "020 7946 0958", "0049 176 1234567", "01 23 45 67 89",
    ],
)  # fmt: skip
def test_a_phone_number_is_masked_as_people_write_it(number: str) -> None:
    """In a country's own way too, among words."""
    assert masked(f"phone {number}, sorry") == "phone [number], sorry"


@pytest.mark.parametrize(
    "said",
    [
        "19.90 USD, 1,234.56 of 0.12345678",
        "HTTP 503 at 01/15/2024 10:21:29, 15.01.2026 08:00, 05/2026",
        "007 2024-01-15 10:00, 0042 2025-12-22T10:21:29+01:00",
        "order 12345678, A-00012345 and 001-1234 by v1.0.12345",
        "event ab-0123-456789012, ff3bd69c-ca74-0337-9191-4d5d0bd00e38",
    ],
)
def test_other_numbers_stay(said: str) -> None:
    """Money, days, orders of fewer than nine digits, versions and ids."""
    assert masked(said) == said


@pytest.mark.parametrize(
    ("said", "begins"),
    [
        ("%25" * 1_700, "%25%25"),
        ("%" + "25" * 2_500 + "40", "%[hash]"),
        ("\\" * 5_000, "\\\\"),
        ("\\u" * 2_500, "\\u\\u"),
        ("\\u0025" * 900, "\\u0025"),
        ("\\ud83d" * 900, "\\ud83d"),
        ("%00@%0a" * 800, "[email]"),
        ("0" * 5_000, "[hash]"),
        ("012 345678 " * 450, "[number] [number]"),
        ("eyJ-" * 1_250, "[secret]"),
        ("a\u0301\u0316" * 1_700, "a\u0301\u0316"),
    ],
)
def test_words_that_are_made_to_be_hard_are_masked_the_same(said: str, begins: str) -> None:
    """Five thousand characters of nothing but escapes, digits or marks: still one short line."""
    found = masked(said, secrets=("OURS",))

    assert found.startswith(begins)
    assert len(found) <= 300
    assert found.isprintable()


@given(st.text(alphabet="%25402Bu0dD8\\ \n@a", max_size=400))
def test_masked_escapes_are_one_printable_line(text: str) -> None:
    """Whatever they stand for: a line's end, half of a character, nothing."""
    assert masked(text).isprintable()
    assert len(masked(text)) <= 300


@given(st.text(max_size=6000))
def test_masked_words_are_short(text: str) -> None:
    """Three hundred printable characters at most, whatever the vendor said."""
    assert len(masked(text)) <= 300
    assert masked(text).isprintable()


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        ("1.5", 1.5),
        ("3600", 3600),
        ("1e9", 86_400),
        ("inf", 86_400),
        ("Thu, 15 Jan 2026 00:00:30 GMT", 30),
        ("Wed, 14 Jan 2026 00:00:00 GMT", 0),
        ("Thu, 15 Jan 2036 00:00:00 GMT", 86_400),
        ("7, 9", 7),
        ("-1", None),
        ("NaN", None),
        ("soon", None),
        ("", None),
        ("Mon, 02 Sep 2019 10:00:00 +99999999999", None),
        ("Mon, 02 Sep 99999999999999999999 10:00:00 GMT", None),
    ],
)
def test_a_waiting_time_is_read_or_nothing(header: str, seconds: float | None) -> None:
    """Seconds or an HTTP date, never negative, at most a day."""
    wait = retry_after(httpx.Headers({"retry-after": header}), now=NOW)

    assert wait == (None if seconds is None else timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("statuses", "verdict"),
    [
        ((200, 201, 204), Verdict.OK),
        ((301, 302, 307, 308, 401, 403, 404, 410), Verdict.SETUP),
        ((408, 425, 500, 502, 503, 504), Verdict.TRANSIENT),
        ((429,), Verdict.THROTTLE),
        ((413,), Verdict.OVERSIZE),
        ((400, 405, 409, 411, 414, 415, 422, 431), Verdict.INVALID),
    ],
)
def test_a_status_has_one_meaning(statuses: tuple[int, ...], verdict: Verdict) -> None:
    """faults.md T6-T12."""
    assert {judge_status(answer(status), now=NOW).verdict for status in statuses} == {verdict}


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'"x"', b"null", b"{", b"\xff{}", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_object_is_none(body: bytes) -> None:
    """An empty, cut, endless or other body is no JSON object, and nothing raises."""
    assert json_object(body) is None


def test_without_empty_keeps_zero() -> None:
    """Nothing said is left out; zero is something."""
    assert without_empty({"a": None, "b": "", "c": [], "d": {}, "e": 0, "f": "x"}) == {"e": 0, "f": "x"}


def test_what_a_shop_adds_takes_no_name_of_ours_and_no_digest_of_nothing() -> None:
    """In any case of letters; the rest passes as it was written."""
    extra = {"Email": "x@y.z", "email": "x@y.z", "digest": f" {EMPTY_SHA256.upper()}", "note": "Email"}

    found = extras(Conversion(order_id="1", extra=extra), ours={"email"})

    assert found == {"note": "Email"}


@pytest.mark.parametrize(
    ("base_url", "query", "url"),
    [
        ("https://a.test", (), "https://a.test/api"),
        ("https://a.test/", (("x", "1"),), "https://a.test/api?x=1"),
        ("https://a.test/to/", (("x", "a b&c=d"), ("y", "2")), "https://a.test/to/api?x=a+b%26c%3Dd&y=2"),
    ],
)
def test_an_endpoint_is_the_base_the_path_and_the_query(
    base_url: str, query: tuple[tuple[str, str], ...], url: str
) -> None:
    """One slash between them, and a value that cannot break out of its parameter."""
    assert str(endpoint(base_url, "/api", *query)) == url


@pytest.mark.parametrize(
    ("status", "body", "known"),
    [
        (200, b"", True),
        (204, b" \n", True),
        (200, b"{}", True),
        (200, b" {} ", True),
        (200, b"[]", False),
        (200, b'{"ok": true}', False),
        (200, b'{"error": "unknown advertiser"}', False),
        (200, b"<html>", False),
        (400, b"<html>", True),
        (503, b"", True),
    ],
)
def test_a_destination_that_says_nothing_of_answers_knows_these(status: int, body: bytes, known: bool) -> None:
    """A success says nothing, or an empty object; what a refusal's body holds is for people."""
    assert Rockerbox(mode=Mode.SHADOW).is_known(answer(status, body)) is known


def test_a_destination_warns_of_nothing_by_itself() -> None:
    """What `kit doctor` shows of settings is what a vendor's own file says."""
    assert list(Rockerbox(mode=Mode.SHADOW).warnings()) == []


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"error": "unknown advertiser"}, '"unknown advertiser"'),
        ({"errors": ["x"]}, '["x"]'),
        ({"Errors": ["x"]}, '["x"]'),
        ({"errorCode": 7}, "7"),
        ({"error_message": "x"}, '"x"'),
        ({"success": False}, '{"success": false}'),
        ({"ok": False, "id": 1}, '{"ok": false}'),
        ({"status": "rejected"}, '"rejected"'),
        ({"status": "FAILED"}, '"FAILED"'),
        ({"result": "error"}, '"error"'),
        ({"status": 400}, "400"),
        ([{"id": 1}, {"error": "x"}], '"x"'),
        ({"data": {"results": [{}, {"error": "x"}]}}, '"x"'),
        ({"error": None, "errors": [], "error_count": 0}, None),
        ({"success": True, "status": "ok"}, None),
        ({"status": 200}, None),
        ({"message": "error"}, None),
        ({}, None),
        ([], None),
        (None, None),
        ("error", None),
    ],
)
def test_an_error_that_a_success_names_is_found(body: object, error: str | None) -> None:
    """By whichever of the usual names, in any case; what is empty or says that all is well names none."""
    assert error_named(answer(200, body)) == error


@pytest.mark.parametrize("body", [b"", b"<error/>", b'{"error"', b"[" * 100_000, b"\xff"])
def test_what_is_no_json_names_no_error(body: bytes) -> None:
    """Nothing raises; its shape is strange, and is shown as that."""
    assert error_named(answer(200, body)) is None


def test_an_error_in_a_success_is_a_refusal_in_masked_words() -> None:
    """Whatever destination has no reading of its own; of many each is sent again alone."""
    given = answer(200, {"error": "no jane@example.com at OURS " + "x" * 400})

    found = judge_whole(given, now=NOW, secrets=("OURS",))

    assert (found.verdict, found.again_alone) == (Verdict.INVALID, True)
    assert found.detail.startswith('HTTP 200 with an error: "no [email] at [secret] ')
    assert len(found.detail) <= 300


@pytest.mark.parametrize(
    ("url", "instead"),
    [
        ("https://a.test/v2/events", "https://a.test"),
        ("https://a.test/v2/events/", "https://a.test"),
        ("https://a.test/v2", "https://a.test"),
        ("https://a.test:81/to/v2/bulkevents", "https://a.test:81/to"),
    ],
)
def test_a_url_that_was_pasted_whole_is_refused(url: str, instead: str) -> None:
    """What requests add would stand there twice; the message says what to write."""
    with pytest.raises(ConfigurationError) as caught:
        require_base_url("X.base_url", url, "/v2/events", "/v2/bulkevents")

    assert caught.value.reason.endswith(f"write {instead}")


@pytest.mark.parametrize("url", ["https://a.test", "https://a.test/", "https://a.test/to", "https://a.test/xv2"])
def test_a_url_with_a_path_of_its_own_is_taken(url: str) -> None:
    """A proxy of the shop's may stand under any other path."""
    require_base_url("X.base_url", url, "/v2/events")
