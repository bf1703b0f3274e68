"""The dashboard in a real Chromium: it works without a script, fits a phone, and can be read by everybody."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Page
from starlette.applications import Starlette
from starlette.routing import Mount

from kit import Conversion, Kit
from kit.destinations import AdRoll, Rokt
from kit.sandbox.sockets import served_in_loop
from kit.store.tables import deliveries
from kit.web import dashboard
from tests.delivery.world import World, world

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

#: What a page lacks for somebody who does not see it, or sees it narrow.
WANTING = """() => {
  const found = [];
  const all = (selector) => [...document.querySelectorAll(selector)];
  const name = (it) => (it.getAttribute("aria-label") || it.textContent).trim();
  if (document.documentElement.lang !== "en" || !document.title) found.push("no language or title");
  if (all("h1").length !== 1) found.push("not one h1");
  let level = 0;
  for (const heading of all("h1, h2, h3, h4")) {
    const next = Number(heading.tagName[1]);
    if (next > level + 1) found.push("skips to " + heading.outerHTML);
    if (!name(heading)) found.push("an empty heading");
    level = next;
  }
  for (const field of all("input:not([type=hidden]), select"))
    if (!field.labels.length || !name(field.labels[0])) found.push("no label: " + field.outerHTML);
  for (const table of all("table")) {
    if (!table.caption) found.push("no caption: " + table.outerHTML.slice(0, 80));
    for (const head of table.querySelectorAll("thead th")) if (head.scope !== "col") found.push("a th without scope");
  }
  for (const it of all("a[href], button, summary")) if (!name(it)) found.push("no name: " + it.outerHTML);
  for (const it of all("[aria-labelledby]"))
    if (!document.getElementById(it.getAttribute("aria-labelledby"))) found.push("no such label: " + it.outerHTML);
  const ids = all("[id]").map((it) => it.id);
  if (new Set(ids).size !== ids.length) found.push("an id twice");
  if (all("[style], style, script").length) found.push("a style or script in the page");
  if (document.documentElement.scrollWidth > innerWidth) found.push("wider than the window");
  return found;
}"""

#: The least contrast of any text with what stands behind it (WCAG 2.2, 1.4.3 asks for 4.5).
CONTRAST = """() => {
  const rgb = (text) => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = (color) => {
    const [r, g, b] = color.map((part) => (part /= 255) <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (it) => {
    for (; it; it = it.parentElement) {
      const found = rgb(getComputedStyle(it).backgroundColor);
      if (found.length === 3 || found[3] > 0) return found.slice(0, 3);
    }
    return [255, 255, 255];
  };
  let least = 21;
  for (const it of document.querySelectorAll("body *")) {
    if (![...it.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(it).color).slice(0, 3)), light(behind(it))];
    least = Math.min(least, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return least;
}"""


@asynccontextmanager
async def open_dashboard(browser: Browser, kit: Kit, **options: Any) -> AsyncIterator[tuple[Page, str]]:
    """The dashboard of this kit in a window of its own, with no script allowed."""
    app = Starlette(routes=[Mount("/attribution", dashboard(kit, authorize=lambda _: True))])
    async with served_in_loop(app, "127.0.0.1", 0) as url:
        context = await browser.new_context(java_script_enabled=options.pop("scripts", False), **options)
        try:
            yield await context.new_page(), f"{url}/attribution/"
        finally:
            await context.close()


async def _orders(shop: World) -> None:
    """One that was sent, one that failed, one that is held, one that waits; and a long name everywhere."""
    for order in ("sent", "failed", "held", "x" * 128):
        await shop.order(order)
    await shop.drain()
    await shop.order("waiting")
    await shop.kit.report(Conversion(order_id="refused", email="jane@example.com"), consent=False)

    def change(connection: Any, asked: Any) -> list[None]:
        rows = deliveries.update().where(deliveries.c.destination == "rokt")
        words = {"detail": "HTTP 400: " + "wort" * 60}
        connection.execute(rows.where(deliveries.c.event == 2).values(state="dead", reason="rejected", **words))
        connection.execute(rows.where(deliveries.c.event == 3).values(state="held", reason="outcome_unknown", **words))
        return [None]

    await shop.kit.store.write(change, None)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_every_page_can_be_read_by_everybody(browser: Browser, tmp_path: Path, scheme: str, width: int) -> None:
    """Headings in order, labels, captions, names, contrast, no sideways scrolling; light and dark, wide and narrow."""
    async with world(tmp_path, AdRoll, Rokt) as shop:
        await _orders(shop)
        options = {"scripts": True, "color_scheme": scheme, "viewport": {"width": width, "height": 800}}
        async with open_dashboard(browser, shop.kit, **options) as (page, url):
            said: list[str] = []
            page.on("console", lambda message: said.append(message.text))
            await page.goto(f"{url}orders")
            links = page.locator("tbody th a")
            addresses = [f"{url}{await link.get_attribute('href')}" for link in await links.all()]
            for address in (
                url,
                f"{url}?days=28",
                f"{url}orders",
                f"{url}orders?destination=rokt&state=dead",
                *addresses,
            ):
                await page.goto(address)
                for details in await page.locator("summary").all():
                    await details.click()
                assert await page.evaluate(WANTING) == [], address
                assert await page.evaluate(CONTRAST) >= 4.5, address

    assert len(addresses) == 6
    assert said == []


async def test_a_marketer_finds_the_order_and_sends_it_again(browser: Browser, tmp_path: Path) -> None:
    """From the number on the overview to the order, its reason and the button; with no script at all."""
    async with world(tmp_path, AdRoll, Rokt) as shop:
        await _orders(shop)
        async with open_dashboard(browser, shop.kit) as (page, url):
            await page.goto(url)
            await page.get_by_role("link", name="1 failed").click()
            await page.get_by_role("link", name="failed", exact=True).click()
            heading = await page.get_by_role("heading", level=1).text_content()
            why = await page.get_by_text("Rokt refused it.").count()
            await page.get_by_role("button", name="Send it again to Rokt").click()
            said = await page.get_by_role("status").text_content()
            there = page.url
    rows = {row.order_id: row.state for row in await shop.rows() if row.destination == "rokt"}
    shop.kit.store.close()

    assert (heading, why, said) == ("Order failed", 1, "It will be sent again.")
    assert there.startswith(f"{url}order?id=")
    assert rows["failed"] == "pending"
    assert rows["held"] == "held"


async def test_an_operator_narrows_the_list_and_pauses(browser: Browser, tmp_path: Path) -> None:
    """By the form's own fields and the keyboard; what is paused says so, and goes on again."""
    async with world(tmp_path, AdRoll, Rokt) as shop:
        await _orders(shop)
        async with open_dashboard(browser, shop.kit) as (page, url):
            await page.goto(f"{url}orders")
            await page.get_by_label("Destination").select_option("rokt")
            await page.get_by_label("State").select_option("held")
            await page.get_by_role("button", name="Show").press("Enter")
            listed = await page.locator("tbody th a").all_text_contents()
            await page.get_by_label("Order id").fill("waiting")
            await page.get_by_label("Destination").select_option("")
            await page.get_by_label("State").select_option("")
            await page.get_by_label("Order id").press("Enter")
            found = await page.locator("tbody th a").all_text_contents()
            await page.get_by_role("link", name="Overview").click()
            await page.get_by_role("button", name="Pause Rokt").click()
            paused = await page.get_by_text("Rokt is paused by operator").count()
            await page.get_by_role("button", name="Go on Rokt").click()
            gone_on = await page.get_by_role("button", name="Pause Rokt").count()

    assert (listed, found) == (["held"], ["waiting"])
    assert (paused, gone_on) == (1, 1)
