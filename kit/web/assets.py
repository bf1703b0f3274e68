"""The files that ship with the kit: static/ and templates/, of an installed wheel or of a checkout."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kit.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parents[1]


def _folder(name: str) -> Path:
    """Return the folder beside the package's own files (a wheel has it there), else the one beside the package."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


STATIC = _folder("static")
TEMPLATES = _folder("templates")


def environment() -> Environment:
    """Return a Jinja environment over templates/ that escapes everything and refuses an undefined name."""
    return Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True, slots=True)
class Script:
    """kit.js as it stands now. `version` is the first 12 hex digits of its SHA-256."""

    body: bytes
    version: str


def kit_js() -> Script:
    """Return kit.js, read again only when the file has changed."""
    found = (STATIC / "kit.js").stat()
    return _read(found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1)
def _read(changed_at: int, size: int) -> Script:  # noqa: ARG001 - the cache's key
    body = (STATIC / "kit.js").read_bytes()
    return Script(body, hashlib.sha256(body).hexdigest()[:12])


def script_tag(
    prefix: str = "/kit", *, nonce: str | None = None, consent: str | None = None, params: Sequence[str] = ()
) -> Markup:
    """Return the script element of kit.js for a page, to be printed by a template.

    `prefix`   where `endpoints(kit)` is mounted.
    `nonce`    the page's Content-Security-Policy nonce.
    `consent`  pass "opt_in" where the kit has consent="opt_in": nothing is posted before `kit.consent(true)`.
    `params`   further query parameters to read, those of `Kit(click_params=...)`.
    """
    if consent not in {None, "opt_in"}:
        raise ConfigurationError("script_tag(consent=...)", 'is neither None nor "opt_in"')
    given = {"nonce": nonce, "data-consent": consent, "data-params": " ".join(params) or None}
    attributes = Markup("").join(
        Markup(' {}="{}"').format(name, value) for name, value in given.items() if value is not None
    )
    return Markup('<script src="{}/kit.{}.js" async{}></script>').format(
        prefix.rstrip("/"), kit_js().version, attributes
    )
