"""The shipped files: where they are found, and the tag that loads kit.js."""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import jinja2
import pytest

from kit.capture import FOREIGN_CLICKS, OWN_CLICKS
from kit.capture.query import UTM
from kit.consent import ConsentRule
from kit.errors import ConfigurationError
from kit.web import assets, pixels_tag, script_tag
from kit.web.jinja import install
from tests.support import make_kit
from tests.web import minified

SOURCES = {name: minified.files(name).source.read_text() for name in minified.NAMES}
SCRIPT = SOURCES["kit"]
_BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def test_both_folders_are_found_from_a_checkout() -> None:
    """Edits show at once: the folders are the ones that are edited."""
    assert (assets.STATIC / "kit.js").is_file()
    assert assets.TEMPLATES.name == "templates"


def test_the_version_is_the_files_own_digest() -> None:
    """A page that was rendered with another file asks for another name."""
    script = assets.kit_js()

    assert script.version == hashlib.sha256(script.body).hexdigest()[:12]
    assert script.body == (assets.STATIC / "kit.min.js").read_bytes()
    assert script.integrity == "sha384-" + base64.b64encode(hashlib.sha384(script.body).digest()).decode()


def test_the_file_is_read_once() -> None:
    """Serving kit.js costs no read while it is the same."""
    assert assets.kit_js() is assets.kit_js()


def test_the_tag_names_the_version_and_blocks_nothing() -> None:
    """The tag is one async script under the prefix that the endpoints are mounted at."""
    version = assets.kit_js().version

    assert script_tag() == f'<script src="/kit/kit.{version}.js" async></script>'
    assert script_tag("/a/b/") == f'<script src="/a/b/kit.{version}.js" async></script>'


def test_a_template_prints_the_tag_as_it_is_and_its_values_escaped() -> None:
    """No value of the shop's can end an attribute."""
    page = assets.environment().from_string(
        "{{ script_tag(nonce='a\"><b', consent='opt_in', params=['awc', 'irclickid']) }}"
    )

    text = page.render(script_tag=script_tag)

    assert 'nonce="a&#34;&gt;&lt;b" data-consent="opt_in" data-params="awc irclickid">' in text
    assert text.startswith("<script src=")


def test_the_tag_says_what_the_page_knows() -> None:
    """Who is signed in, where Rockerbox's own tag comes from, and the digest for a policy that asks for one."""
    tag = script_tag(
        integrity=True, email="ann@example.com", customer_id="42", phone="5550109999",
        rockerbox="source-1", rockerbox_domain="rb.shop.com",
    )  # fmt: skip

    assert f'integrity="{assets.kit_js().integrity}"' in tag
    assert 'data-email="ann@example.com" data-customer-id="42" data-phone="5550109999"' in tag
    assert 'data-rockerbox="source-1" data-rockerbox-domain="rb.shop.com"' in tag


@pytest.mark.parametrize("domain", ["https://rb.shop.com", "rb.shop.com/x", "rb", "rb.shop.com@evil.example", ""])
def test_a_domain_that_is_none_is_refused(domain: str) -> None:
    """A script would be loaded from it."""
    with pytest.raises(ConfigurationError, match="rockerbox_domain"):
        script_tag(rockerbox="source-1", rockerbox_domain=domain)


@pytest.mark.parametrize(
    ("rule", "waits"), [("opt_in", True), ("opt_out", False), (lambda scope: True, True)], ids=["in", "out", "function"]
)
def test_a_template_needs_one_line(tmp_path: Path, rule: ConsentRule, waits: bool) -> None:
    """The kit's own settings stand in the tag without being repeated: its consent, its further parameters."""
    environment = jinja2.Environment(autoescape=True)
    install(environment, make_kit(tmp_path, consent=rule, click_params={"awc": "awin"}), prefix="/t", rockerbox="src")

    text = environment.from_string("{{ kit_script(nonce='n0nce') }}").render()

    version, wait = assets.kit_js().version, ' data-consent="opt_in"' if waits else ""
    assert text == (
        f'<script src="/t/kit.{version}.js" async nonce="n0nce"{wait} data-params="awc" data-rockerbox="src"></script>'
    )


@pytest.mark.parametrize(("rule", "waits"), [("opt_in", True), ("opt_out", False)])
def test_the_page_that_confirms_an_order_names_it(tmp_path: Path, rule: ConsentRule, waits: bool) -> None:
    """With the same settings as kit.js's tag, and no order's id can end the attribute."""
    environment = jinja2.Environment(autoescape=True)
    install(environment, make_kit(tmp_path, consent=rule), prefix="/t/")

    text = environment.from_string("{{ kit_pixels(order, nonce='n0nce') }}").render(order='1"><b')

    version, wait = assets.minified("kit.pixels").version, ' data-consent="opt_in"' if waits else ""
    expected = (
        f'<script src="/t/kit.pixels.{version}.js" async nonce="n0nce"{wait} data-order="1&#34;&gt;&lt;b"></script>'
    )
    assert text == expected
    assert f'integrity="{assets.minified("kit.pixels").integrity}"' in pixels_tag("1001", integrity=True)


@pytest.mark.parametrize("tag", [script_tag, partial(pixels_tag, "1001")])
def test_a_consent_that_is_none_is_refused(tag: Callable[..., object]) -> None:
    """A typing error would post before anybody was asked."""
    with pytest.raises(ConfigurationError, match="opt_in"):
        tag(consent="opt-in")


def test_templates_escape_and_refuse_an_undefined_name() -> None:
    """A page never shows a visitor's text as markup, nor nothing where something was meant."""
    environment = assets.environment()

    assert environment.from_string("{{ name }}").render(name="<b>") == "&lt;b&gt;"
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ name }}").render()


def test_kit_js_reads_the_same_parameters_as_the_server() -> None:
    """Both lists are the server's, in its order of preference."""
    clicks = re.search(r'CLICKS = "([^"]*)"', SCRIPT)
    utm = re.search(r'UTM = "([^"]*)"', SCRIPT)

    assert clicks is not None
    assert utm is not None
    assert clicks[1].split() == [name for name, _ in OWN_CLICKS + FOREIGN_CLICKS]
    assert utm[1].split() == list(UTM)


@pytest.mark.parametrize(("name", "most"), [("kit", 3_072), ("kit.pixels", 1_024)])
def test_a_script_is_small(name: str, most: int) -> None:
    """On the wire: 3 KB on every page, and 1 KB more on the one that confirms an order."""
    assert len(gzip.compress(assets.minified(name).body, 9)) <= most


@pytest.mark.parametrize("name", minified.NAMES)
def test_the_minified_file_is_what_the_source_builds_to(name: str) -> None:
    """Whoever changes a script in static/ runs `make kit.js`."""
    _, built, told = minified.files(name)

    assert (built.read_text(), told.read_text()) == minified.built(name)


@pytest.mark.parametrize(("name", "least"), [("kit", 300), ("kit.pixels", 60)])
def test_the_source_map_leads_to_the_same_words(name: str, least: int) -> None:
    """Each place that it names says there what stands in the source, and most of what is long enough is named."""
    files = minified.files(name)
    told = json.loads(files.map.read_text())
    source, built = SOURCES[name].split("\n"), files.built.read_text().split("\n")
    word = re.compile(r'"(?:[^"\\]|\\.)*"|[\w$]+')
    places = list(_places(told["mappings"]))

    assert (told["version"], told["sources"]) == (3, [f"{name}.js"])
    assert len(places) > least
    for line, column, source_line, source_column in places:
        here, there = word.match(built[line], column), word.match(source[source_line], source_column)
        assert here is not None
        assert there is not None
        assert here.group() == there.group()


def _places(mappings: str) -> Iterator[tuple[int, int, int, int]]:
    source_line = source_column = 0
    for line, segments in enumerate(mappings.split(";")):
        column = 0
        for segment in filter(None, segments.split(",")):
            numbers = list(_numbers(segment))
            column, source_line, source_column = (
                column + numbers[0],
                source_line + numbers[2],
                source_column + numbers[3],
            )
            yield line, column, source_line, source_column


def _numbers(segment: str) -> Iterator[int]:
    number = shift = 0
    for digit in map(_BASE64.index, segment):
        number |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            yield -(number >> 1) if number & 1 else number >> 1
            number = shift = 0


def test_the_scripts_need_no_leave_of_a_strict_content_security_policy() -> None:
    """No eval, no inline handler; the one element that is made is Rockerbox's tag, where the shop asks for that."""
    assert not re.search(r"\beval\b|new Function|innerHTML|document\.write|setAttribute", "".join(SOURCES.values()))
    assert "".join(SOURCES.values()).count("createElement") == 1
