"""What a Content-Security-Policy lets a page load and post to (CSP level 3, the parts that concern a script tag)."""

import re
from collections.abc import Sequence

import httpx

from kit.site.facts import Tag, host, origin

_SCRIPT = ("script-src-elem", "script-src", "default-src")
_CONNECT = ("connect-src", "default-src")
_PORTS = {"https": 443, "http": 80}
_SOURCE = re.compile(
    r"(?:(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://)?(?P<host>\*|(?:\*\.)?[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]+|\*))?(?P<path>/.*)?"
)


def forbids_script(policies: Sequence[str], tag: Tag, page: httpx.URL) -> str:
    """Return the directive that keeps a browser from loading the tag, "" when all policies let it."""
    for name, sources in _governing(policies, _SCRIPT):
        if not _lets_tag(sources, tag, page):
            return f"{name} {' '.join(sources)}".strip()
    return ""


def forbids_posting(policies: Sequence[str], target: httpx.URL, page: httpx.URL) -> str:
    """Return the directive that keeps kit.js from posting there, "" when all policies let it."""
    for name, sources in _governing(policies, _CONNECT):
        if not any(_matches(source, target, page) for source in sources):
            return f"{name} {' '.join(sources)}".strip()
    return ""


def _governing(policies: Sequence[str], names: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return of each policy the first of these directives that it has. A header may hold several policies."""
    found = []
    for policy in (one for header in policies for one in header.split(",")):
        directives: dict[str, list[str]] = {}
        for words in (part.split() for part in policy.split(";")):
            if words:
                directives.setdefault(words[0].lower(), words[1:])
        found += [(name, directives[name]) for name in names if name in directives][:1]
    return found


def _lets_tag(sources: Sequence[str], tag: Tag, page: httpx.URL) -> bool:
    nonce, digests = tag.attributes.get("nonce"), tag.attributes.get("integrity", "").split()
    if nonce and f"'nonce-{nonce}'" in sources:
        return True
    if digests and all(f"'{digest}'" in sources for digest in digests):
        return True
    # With it, lists of hosts count for nothing: only a nonce or a digest lets a tag of the page's own source in.
    if "'strict-dynamic'" in (source.lower() for source in sources):
        return False
    return any(_matches(source, tag.url, page) for source in sources)


def _matches(source: str, url: httpx.URL, page: httpx.URL) -> bool:
    lowered = source.lower()
    if lowered == "'self'":
        return origin(url) == origin(page)
    if lowered == "*" or lowered == f"{url.scheme}:":
        return True
    parts = _SOURCE.fullmatch(source)
    if parts is None:
        return False
    # A policy's http covers https as well; without a scheme it is the page's.
    scheme = (parts["scheme"] or page.scheme).lower()
    return (
        url.scheme in {scheme, "https" if scheme == "http" else scheme}
        and parts["port"] in {"*", str(url.port or _PORTS[url.scheme]), None if url.port is None else "*"}
        and _is_host(host(url), parts["host"].lower())
        and _is_path(url.path, parts["path"] or "")
    )


def _is_host(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else pattern in {"*", name}


def _is_path(path: str, pattern: str) -> bool:
    return path.startswith(pattern) if pattern[-1:] in {"", "/"} else path == pattern
