"""The sandbox's own pages: what the vendors got, as a page and as JSON; faults scripted and everything forgotten."""

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from kit.sandbox import page
from kit.sandbox.rokt import Rokt
from kit.sandbox.vendor import Vendor

_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_NO_STORE = {"Cache-Control": "no-store"}

#: How many calls /calls.json returns when `limit` does not say.
_CALLS = 500

#: What a header line can carry over a socket.
HeaderName = Annotated[str, StringConstraints(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$", max_length=256)]
HeaderValue = Annotated[str, StringConstraints(pattern=r"^[\t\x20-\x7e\xa0-\xff]*$", max_length=8192)]
Headers = dict[HeaderName, HeaderValue] | list[tuple[HeaderName, HeaderValue]]
RetryAfter = int | float | HeaderValue


class _FaultBody(BaseModel):
    """The JSON of `POST /faults`; the fields are those of `Vendor.answers`, and `expire_tokens` is Rokt's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vendor: str
    status: int | None = Field(default=None, ge=200, le=599)
    headers: Headers = {}
    retry_after: RetryAfter | list[RetryAfter] | None = None
    body: JsonValue = None
    delay: float = Field(default=0.0, ge=0, le=3600)
    drip: float = Field(default=0.0, ge=0, le=60)
    reset: Literal["before", "during", "after"] | None = None
    close: bool = False
    gzipped: bool = False
    refuse: list[str] = []
    counts: bool | None = None
    times: int | None = Field(default=1, ge=1)
    about: list[str] = []
    expire_tokens: Literal[True] | None = None


_OF_NO_FAULT = {"vendor", "expire_tokens"}


class Control:
    """`GET /`, `/calls.json`, `/views.json`; `POST /faults`, `/clear`."""

    def __init__(self, vendors: Sequence[Vendor], clear: Callable[[], None]) -> None:
        self._vendors = {vendor.name: vendor for vendor in vendors}
        self._forget = clear

    @property
    def routes(self) -> list[Route]:
        return [
            Route("/", self._page),
            Route("/calls.json", self._calls),
            Route("/views.json", self._views),
            Route("/faults", self._faults, methods=["POST"]),
            Route("/clear", self._clear, methods=["POST"]),
        ]

    async def _page(self, request: Request) -> Response:
        return HTMLResponse(page.html([*self._vendors.values()]), headers=_PAGE_HEADERS)

    async def _calls(self, request: Request) -> Response:
        try:
            limit = int(request.query_params.get("limit", _CALLS))
        except ValueError:
            return _wrong("limit is not a whole number")
        return JSONResponse(page.calls_json([*self._vendors.values()], max(limit, 0)), headers=_NO_STORE)

    async def _views(self, request: Request) -> Response:
        return JSONResponse(page.views_json([*self._vendors.values()]), headers=_NO_STORE)

    async def _faults(self, request: Request) -> Response:
        try:
            given = _FaultBody.model_validate_json(await request.body())
        except ValidationError as exc:
            return _wrong(*(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in exc.errors()))
        vendor = self._vendors.get(given.vendor)
        if vendor is None:
            return _wrong(f"vendor: is none of {', '.join(self._vendors)}")
        if given.expire_tokens:
            if not isinstance(vendor, Rokt):
                return _wrong("expire_tokens: is for rokt alone")
            vendor.expire_tokens()
        fault = given.model_dump(exclude=_OF_NO_FAULT, exclude_unset=True)
        if fault or not given.expire_tokens:
            vendor.answers(**fault)
        return JSONResponse({"waiting": vendor.faults}, status_code=201)

    async def _clear(self, request: Request) -> Response:
        self._forget()
        return Response(status_code=204)


def _wrong(*problems: str) -> Response:
    return JSONResponse({"errors": problems}, status_code=400)
