"""The Starlette shop under a prefix of another app. Starlette starts and ends the outermost app alone."""

from starlette.applications import Starlette
from starlette.routing import Mount

from tests.frameworks import starlette_shop

app = Starlette(routes=[Mount("/shop", starlette_shop.app)], lifespan=starlette_shop.attribution.lifespan)
