"""A sandbox whose clock stands at the time of the contract's vectors, and a client into it without a socket."""

from collections.abc import AsyncIterator

import httpx
import pytest

from kit.sandbox import Addresses, Sandbox

from .vectors import VECTORS, Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> Sandbox:
    return Sandbox(VECTORS, clock=clock)


@pytest.fixture
def lenient(clock: Clock) -> Sandbox:
    return Sandbox(VECTORS, clock=clock, strict=False)


@pytest.fixture
async def client(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=sandbox.transport(), base_url="http://sandbox.test") as client:
        yield client


@pytest.fixture
async def lenient_client(lenient: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=lenient.transport(), base_url="http://sandbox.test") as client:
        yield client


@pytest.fixture
async def served(sandbox: Sandbox) -> AsyncIterator[Addresses]:
    async with sandbox.serving() as addresses:
        yield addresses
