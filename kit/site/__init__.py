"""Looks at a shop from outside: what a browser will do with the kit's cookies there. `kit doctor --site URL`."""

import ssl
from datetime import UTC, datetime

from kit.doctor import Finding
from kit.site.facts import Resolve
from kit.site.findings import judged
from kit.site.visiting import visit


async def examine_site(url: str, *, resolve: Resolve | None = None, tls: ssl.SSLContext | None = None) -> list[Finding]:
    """Visit this page as a browser would and return what was found; it makes one visitor, without an order.

    `resolve` finds a host's addresses, `tls` says whom to trust; left out, this machine's resolver and certifi.
    Raises ConfigurationError for what is no http URL.
    """
    return judged(await visit(url, resolve=resolve, tls=tls), datetime.now(UTC))
