"""URLs fit to be kept and sent: scheme, host, path and allow-listed parameters. Fragment and user info go."""

import re
from collections.abc import Container, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote, urlsplit

from kit.capture.hosts import host_name
from kit.capture.query import LONGEST_QUERY, pairs_of

LONGEST_URL = 2_048

_PLAIN = re.compile(rb"[!#-;=?-\[\]_a-z|~]*").fullmatch
_SCHEMES = frozenset({"http", "https", "android-app"})


def page_url(scope: Mapping[str, Any], host: bytes, pairs: Iterable[bytes], *, plain: bool = False) -> str | None:
    """Return this request's URL with these `name=value` pairs of its query, or None; `plain` pairs need no quoting.

    The Host header is a claim of the client's: it is checked for its form and used for nothing but this text.
    """
    return assembled(scope.get("scheme", "http"), host, whole_path(scope), pairs, plain=plain)


def whole_path(scope: Mapping[str, Any]) -> bytes:
    """Return the path as the browser asked for it."""
    path: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    # Hypercorn and granian leave the root path out of the path; Starlette's Mount lengthens it and keeps the first.
    root = scope.get("app_root_path") or scope.get("root_path")
    if root and not path.startswith(root.encode("utf-8", "replace")):
        path = root.encode("utf-8", "replace") + path
    return path


def assembled(scheme: str, host: bytes, path: bytes, pairs: Iterable[bytes], *, plain: bool = False) -> str | None:
    """Return the URL of these parts, as `page_url` does."""
    page = _page(scheme, host, path) if len(path) <= LONGEST_URL else None
    return _with_query(page, b"&".join(pairs), plain=plain) if page is not None else None


# Advertisements lead to few pages.
@lru_cache(maxsize=512)
def _page(scheme: str, host: bytes, path: bytes) -> str | None:
    return _assembled(f"{scheme}://{host.decode('ascii')}", path.partition(b"?")[0]) if host_name(host) else None


def clean_url(url: str, allowed: Container[bytes]) -> str | None:
    """Return a URL that a browser posted, by the same rule; None when it is not an http URL."""
    try:
        parts = urlsplit(url[: 2 * LONGEST_QUERY])
    except ValueError:
        return None
    host = parts.netloc.rpartition("@")[2]
    if (
        "\\" in parts.netloc
        or parts.scheme not in _SCHEMES
        or not host.isascii()
        or host_name(host.encode("ascii")) is None
    ):
        return None
    pairs = pairs_of(parts.query.encode("utf-8", "replace")) if parts.query and allowed else ()
    kept = b"&".join([pair for pair in pairs if pair.partition(b"=")[0] in allowed])
    page = _assembled(f"{parts.scheme}://{host}", parts.path.encode("utf-8", "replace"))
    return _with_query(page, kept) if page is not None else None


# Browsers send no more than the origin across sites by default, so few values are most of them.
@lru_cache(maxsize=512)
def clean_referrer(referrer: bytes) -> str | None:
    """Return scheme, host and path of a referrer, or None when it is not an http URL."""
    return clean_url(referrer.decode("latin-1"), ())


def _assembled(origin: str, path: bytes) -> str | None:
    url = origin + (path.decode("ascii") if _PLAIN(path) else quote(path, safe="/%:@!$&()*+,;=~-._"))
    return url if len(url) <= LONGEST_URL else None


def _with_query(url: str, query: bytes, *, plain: bool = False) -> str:
    if not query:
        return url
    # A cut through a click id would make another one of it: the query stands whole or not at all.
    whole = f"{url}?{query.decode('ascii') if plain or _PLAIN(query) else quote(query, safe='%=&+')}"
    return whole if len(whole) <= LONGEST_URL else url
