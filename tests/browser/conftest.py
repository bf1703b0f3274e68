"""A real Chromium, started once, and a shop for each test."""

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from .shop import Shop, open_shop

_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_ARGS = [
    "--host-resolver-rules=MAP *.shop.test 127.0.0.1",
    *(
        "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync"
    ).split(),
]

# Playwright takes the back-forward cache away, which visitors have.
_WITHOUT = ["--disable-back-forward-cache"]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    path = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if path is None:
        pytest.skip("no Chromium on this machine; `apt-get install chromium` brings one")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=_ARGS, ignore_default_args=_WITHOUT)
        yield browser
        await browser.close()


@pytest.fixture
def shop(browser: Browser, tmp_path: Path) -> OpenShop:
    """Opens a shop: `async with shop(consent="opt_in") as opened`."""

    def opened(**options: Any) -> AbstractAsyncContextManager[Shop]:
        return open_shop(browser, tmp_path, **options)

    return opened
