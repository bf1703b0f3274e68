"""What kit.pixels.js posts: a vendor's pixel reported an order from the page."""

from starlette.requests import Request

from kit.capture import visit_of
from kit.errors import InvalidInput
from kit.kit import UNANSWERED, Kit
from kit.model import clean_text
from kit.store.events import report_from_page
from kit.store.pixels import PIXELS, PixelReport, keep_pixel_reports


async def note_pixel(kit: Kit, request: Request, body: object) -> tuple[()]:
    """Note which pixel reported an order, for `kit why` and `kit doctor`. The answer never tells what came of it."""
    visit = visit_of(request)
    if visit is None or visit.visitor is None:
        return ()
    noted = _noted(kit, body)
    if noted is None:
        kit.faults.count("pixels.input")
        return ()
    try:
        until = await kit.ready()
        # Anybody can post these: they too leave room for orders.
        kit.store.check_room(report_from_page)
        await kit.store.write(keep_pixel_reports, noted, until=until)
    except UNANSWERED as error:
        kit.faults.count("pixels", error)
    return ()


def _noted(kit: Kit, body: object) -> PixelReport | None:
    said = body if isinstance(body, dict) else {}
    vendor = said.get("pixel")
    if not isinstance(vendor, str) or vendor not in PIXELS:
        return None
    try:
        order_id = clean_text("order_id", said.get("order_id"), longest=128)
    except InvalidInput:
        return None
    return PixelReport(order_id=order_id, vendor=vendor, at=kit.clock())
