"""A sandbox whose clock stands at the time of the contract's vectors, and a client into it without a socket."""

from collections.abc import AsyncIterator

import httpx
import pytest

from kit.sandbox import Sandbox

from .vectors import NOW, VECTORS


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox(VECTORS, clock=lambda: NOW)


@pytest.fixture
def lenient() -> Sandbox:
    return Sandbox(VECTORS, clock=lambda: NOW, strict=False)


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        yield client


@pytest.fixture
async def lenient_client(lenient: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=lenient.transport(), base_url="http://sandbox.test") as client:
        yield client
