"""A visitor's browser, as far as its requests go: it keeps the cookies of one host and sends what Firefox sends."""

from collections.abc import Mapping
from http.cookies import SimpleCookie
from types import TracebackType

import httpx

PERSON = {"user-agent": "Mozilla/5.0 (X11; Linux x64) Firefox/145.0", "x-forwarded-for": "12.34.56.89"}
PAGE = {"accept": "text/html", "sec-fetch-mode": "navigate", "sec-fetch-site": "none"}
FETCH = {"accept": "*/*", "sec-fetch-mode": "cors", "sec-fetch-site": "same-origin"}


class Browser:
    """Opens pages of `host` at `url`, where a proxy that ends TLS hands them over."""

    def __init__(self, url: str, host: str = "www.shop.com", *, cookies: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.cookies = dict(cookies or {})
        headers = {"host": host, "x-forwarded-proto": "https", **PERSON}
        self.client = httpx.AsyncClient(base_url=url, headers=headers, trust_env=False, verify=False, timeout=30)

    async def __aenter__(self) -> "Browser":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.client.aclose()

    async def open(self, path: str) -> httpx.Response:
        return await self._ask("GET", path, PAGE)

    async def submit(self, path: str) -> httpx.Response:
        """Send an HTML form."""
        return await self._ask("POST", path, PAGE)

    async def fetch(self, path: str, body: Mapping[str, object]) -> httpx.Response:
        """Post JSON, as a script in the page does."""
        return await self._ask("POST", path, FETCH, json=body)

    async def _ask(self, method: str, path: str, headers: Mapping[str, str], json: object = None) -> httpx.Response:
        cookie = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {**headers, "cookie": cookie} if cookie else dict(headers)
        answer = await self.client.request(method, path, headers=sent, json=json)
        self.client.cookies.clear()
        for line in set_cookies(answer):
            self.cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
        return answer


def set_cookies(answer: httpx.Response) -> list[str]:
    return answer.headers.get_list("set-cookie")


def attributes(answer: httpx.Response) -> dict[str, str]:
    """Return the attributes of each cookie that was set, by its name."""
    return {line.partition("=")[0]: line.partition("; ")[2] for line in set_cookies(answer)}
