"""The shop's signed word in a real browser: it makes a verified link, and nobody but the endpoint is shown it."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from playwright.async_api import Route
from sqlalchemy import select

from kit import Kit
from kit.model import VisitorId
from kit.store.tables import links
from kit.web import script_tag

from .shop import Shop, Window

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

OpenShop = Callable[..., AbstractAsyncContextManager[Shop]]

HOUR = timedelta(hours=1)
WHO = {"email": "ann@example.com", "customer_id": "42"}
LOADER = "window.RB = {calls: [], track(...values) {this.calls.push(values)}}"


async def token_for(kit: Kit, window: Window) -> str:
    """Return what the shop signs for the visitor of this window."""
    return kit.tokens.issued(VisitorId(await window.visitor()), WHO, max_age=HOUR)


async def linked(kit: Kit) -> list[tuple[Any, ...]]:
    columns = (links.c.kind, links.c.level, links.c.source)
    rows = await kit.store.read(lambda connection: connection.execute(select(*columns).order_by(links.c.kind)).all())
    return [tuple(row) for row in rows]


VERIFIED = [("customer", "verified", "token"), ("email", "verified", "token")]


async def test_the_tag_carries_the_shops_word(shop: OpenShop) -> None:
    """Beside it stand the values for Rockerbox's tag, which is not told the token."""
    async with shop() as opened, opened.window(scripts=(LOADER,)) as window:
        await window.open("/cached")
        token = await token_for(opened.kit, window)
        tag = script_tag("/kit", identity=token, email="Ann@Example.com", customer_id="42")

        async def serve(route: Route) -> None:
            await route.fulfill(content_type="text/html", body=f"<!doctype html>{tag}")

        await window.page.route("**/signed", serve)
        async with window.page.expect_response("**/kit/identify"):
            await window.open("/signed")
        told = await window.page.evaluate("RB.calls")
        kept = await linked(opened.kit)

    assert window.posted("identify") == [{**WHO, "token": token}]
    assert kept == VERIFIED
    assert told == [["identify", {"email": "ann@example.com", "external_id": "42"}]]
    assert window.errors == []


async def test_a_call_with_the_token_alone_is_enough(shop: OpenShop) -> None:
    """`kit.identify({token})` says who it is; Rockerbox is told nothing."""
    async with shop() as opened, opened.window(scripts=(LOADER,)) as window:
        await window.open("/cached")
        heard = await window.page.evaluate("token => kit.identify({token})", await token_for(opened.kit, window))
        told = await window.page.evaluate("RB.calls")
        kept = await linked(opened.kit)

    assert (heard, kept, told) == (True, VERIFIED, [])


async def test_a_forms_own_token_is_not_taken_for_the_shops(shop: OpenShop) -> None:
    """Many forms have such a field against forgery; what was typed beside it counts."""
    async with shop() as opened, opened.window() as window:
        await window.open("/cached")
        async with window.page.expect_response("**/kit/identify"):
            await window.page.evaluate(
                """() => {
                    document.body.innerHTML =
                        '<form data-kit-identify><input name=token value=x><input type=email value="a@b.test"></form>';
                    document.forms[0].addEventListener("submit", (event) => event.preventDefault());
                    document.forms[0].requestSubmit();
                }"""
            )
        kept = await linked(opened.kit)

    assert window.posted("identify") == [{"email": "a@b.test"}]
    assert kept == [("email", "asserted", "page")]
