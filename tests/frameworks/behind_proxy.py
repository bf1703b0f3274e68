"""The Starlette shop where hypercorn and granian believe the proxy before them: https, and the visitor's address."""

from granian.utils.proxies import wrap_asgi_with_proxy_headers
from hypercorn.middleware import ProxyFixMiddleware

from tests.frameworks.starlette_shop import app

by_hypercorn = ProxyFixMiddleware(app, mode="legacy", trusted_hops=1)  # type: ignore[arg-type]  # plain ASGI
by_granian = wrap_asgi_with_proxy_headers(app, trusted_hosts="127.0.0.1")
