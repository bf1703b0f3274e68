"""What a page's HTML says of kit.js: its script elements, and the policies in its meta elements."""

import re
from html.parser import HTMLParser

import httpx

from kit.site.facts import Tag, web_url

_FILE = re.compile(r"kit(\.[0-9a-f]{12})?\.js")


class Markup(HTMLParser):
    """Reads a page as it came; `tags` are the script elements of kit.js in order, `policies` those of the page itself.

    What scripts would add to the page is not seen.
    """

    def __init__(self, page: httpx.URL, body: bytes) -> None:
        super().__init__()
        self.tags: list[Tag] = []
        self.policies: list[str] = []
        self._base = page
        self.feed(body.decode("utf-8", "replace"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        if tag == "script":
            self._script(found)
        elif tag == "base" and found.get("href"):
            self._base = web_url(self._base, found["href"]) or self._base
        elif tag == "meta" and found.get("http-equiv", "").lower() == "content-security-policy":
            self.policies.append(found.get("content", ""))

    def parse_html_declaration(self, i: int) -> int:
        # A comment to browsers; the parser raises AssertionError for some of them.
        bogus = self.rawdata.startswith("<![", i)
        return self.parse_bogus_comment(i) if bogus else super().parse_html_declaration(i)

    def _script(self, attributes: dict[str, str]) -> None:
        url = web_url(self._base, attributes.get("src", ""))
        if url is not None and _FILE.fullmatch(url.path.rpartition("/")[2]):
            self.tags.append(Tag(url=url, attributes=attributes))
