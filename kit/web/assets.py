"""The files that ship with the kit: static/ and templates/, of an installed wheel or of a checkout."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from kit.errors import ConfigurationError

_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
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
class Asset:
    """A file of static/ as it stands now.

    `version` is the first 12 hex digits of its SHA-256, `integrity` what the attribute of that name holds of it.
    """

    body: bytes
    version: str
    integrity: str


def static_file(name: str) -> Asset:
    """Return the file, read again only when it has changed."""
    found = (STATIC / name).stat()
    return _read(name, found.st_mtime_ns, found.st_size)


def minified(script: str) -> Asset:
    """Return a script as browsers get it; static/{script}.js is its source."""
    return static_file(f"{script}.min.js")


def kit_js() -> Asset:
    """Return kit.js as browsers get it."""
    return minified("kit")


@lru_cache(maxsize=8)
def _read(name: str, changed_at: int, size: int) -> Asset:  # noqa: ARG001 - the cache's key
    body = (STATIC / name).read_bytes()
    integrity = "sha384-" + base64.b64encode(hashlib.sha384(body).digest()).decode()
    return Asset(body, hashlib.sha256(body).hexdigest()[:12], integrity)


def script_tag(
    prefix: str = "/kit",
    *,
    nonce: str | None = None,
    integrity: bool = False,
    consent: str | None = None,
    params: Sequence[str] = (),
    email: str | None = None,
    customer_id: str | None = None,
    phone: str | None = None,
    identity: str | None = None,
    rockerbox: str | None = None,
    rockerbox_domain: str | None = None,
) -> Markup:
    """Return the script element of kit.js for a page, to be printed by a template.

    `prefix`            where `endpoints(kit)` is mounted.
    `nonce`             the page's Content-Security-Policy nonce.
    `integrity`         names the digest, for a policy that asks for one; same origin only. While two versions are being
                        rolled out side by side, a page of the one may then refuse the file of the other.
    `consent`           pass "opt_in" where the kit has consent="opt_in": nothing is posted before `kit.consent(true)`.
    `params`            further query parameters to read, those of `Kit(click_params=...)`.
    `email`, `customer_id`, `phone`  who is signed in, on a page that no cache keeps: as `kit.identify({...})` does.
    `identity`          what `attribution.identity_token(request, ...)` returned: then it is not the page's word but the
                        shop's, and the three above are for Rockerbox's tag alone.
    `rockerbox`         the source id of Rockerbox's All Pages pixel (CLIENT_AUTH_ID, not the advertiser's id): kit.js
                        then loads that tag, from `rockerbox_domain` where the shop has one of its own, "rb.shop.com".
    """
    if rockerbox_domain is not None and not _DOMAIN.fullmatch(rockerbox_domain):
        raise ConfigurationError("script_tag(rockerbox_domain=...)", "is no host name such as rb.shop.com")
    given = {
        "data-params": " ".join(params) or None,
        "data-email": email,
        "data-customer-id": customer_id,
        "data-phone": phone,
        "data-token": identity,
        "data-rockerbox": rockerbox,
        "data-rockerbox-domain": rockerbox_domain,
    }
    return _tag("kit", prefix, given, nonce=nonce, integrity=integrity, consent=consent)


def pixels_tag(
    order_id: str,
    prefix: str = "/kit",
    *,
    nonce: str | None = None,
    integrity: bool = False,
    consent: str | None = None,
) -> Markup:
    """Return the script element of kit.pixels.js for the page that confirms this order, before the vendors' own tags.

    It notes whose pixel reports the order too. The rest is as in `script_tag`.
    """
    return _tag("kit.pixels", prefix, {"data-order": order_id}, nonce=nonce, integrity=integrity, consent=consent)


def _tag(
    name: str, prefix: str, data: Mapping[str, str | None], *, nonce: str | None, integrity: bool, consent: str | None
) -> Markup:
    if consent not in {None, "opt_in"}:
        raise ConfigurationError("consent of the script's tag", 'is neither None nor "opt_in"')
    script = minified(name)
    given = {
        "nonce": nonce,
        "integrity": script.integrity if integrity else None,
        "data-consent": consent,
        **data,
    }
    attributes = Markup("").join(
        Markup(' {}="{}"').format(name, value) for name, value in given.items() if value is not None
    )
    source = f"{prefix.rstrip('/')}/{name}.{script.version}.js"
    return Markup('<script src="{}" async{}></script>').format(source, attributes)
