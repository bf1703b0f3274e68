"""The shipped files: where they are found, and the tag that loads kit.js."""

import gzip
import hashlib
import re

import jinja2
import pytest

from kit.capture import FOREIGN_CLICKS, OWN_CLICKS
from kit.capture.query import UTM
from kit.web import assets, script_tag

SCRIPT = (assets.STATIC / "kit.js").read_text()


def test_both_folders_are_found_from_a_checkout() -> None:
    """Edits show at once: the folders are the ones that are edited."""
    assert (assets.STATIC / "kit.js").is_file()
    assert assets.TEMPLATES.name == "templates"


def test_the_version_is_the_files_own_digest() -> None:
    """A page that was rendered with another file asks for another name."""
    script = assets.kit_js()

    assert script.version == hashlib.sha256(script.body).hexdigest()[:12]
    assert script.body == (assets.STATIC / "kit.js").read_bytes()


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


def test_kit_js_is_small() -> None:
    """It weighs at most 3 KB on the wire."""
    assert len(gzip.compress(SCRIPT.encode(), 9)) <= 3_072


def test_kit_js_needs_no_leave_of_a_strict_content_security_policy() -> None:
    """No eval, no inline handler, no element written into the page."""
    assert not re.search(r"\beval\b|new Function|innerHTML|document\.write|createElement|setAttribute", SCRIPT)
