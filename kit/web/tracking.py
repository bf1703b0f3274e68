"""What pages report by `kit.track`: a browser's word, about its own visitor alone."""

import re
import uuid
from collections.abc import Collection, Mapping

from pydantic import ValidationError
from starlette.requests import Request

from kit.capture import visit_of
from kit.errors import ConfigurationError, InvalidInput
from kit.kit import UNANSWERED, Kit
from kit.model import Conversion, VisitorId, clean_text

#: What a page may report unless the shop says otherwise: nothing of it is an order or a page view.
TRACKED = frozenset(
    "add_to_cart product_search signup_plan signup_trial form_fill demo_request contact_sales gated_content live_chat "
    "high_value_page".split()
)
MOST_ITEMS = 100

#: Who is meant is never taken from a page: the visitor's own cookie says it.
_TAKEN = ("name", "items", "value", "currency", "keywords", "url")
_CLIENT_ID = re.compile("[A-Za-z0-9_-]{8,64}")
_FROM_PAGES = uuid.UUID("0d7a5b1e-3c0f-5f5c-9a5e-6f0a1b7c2d94")


def checked_names(track: Collection[str]) -> frozenset[str]:
    """Return the names; a single text, and what is no event's name, is refused."""
    if isinstance(track, str):
        raise ConfigurationError("endpoints(track=...)", 'is a text; pass a set such as {"add_to_cart"}')
    try:
        return frozenset(clean_text("name", name, longest=64) for name in track)
    except InvalidInput as error:
        raise ConfigurationError("endpoints(track=...)", "holds what is no event's name") from error


class Track:
    """The verb of `/track`: reports an event of a listed name. Its answer never tells what came of it."""

    def __init__(self, names: frozenset[str]) -> None:
        self.names = names

    async def __call__(self, kit: Kit, request: Request, body: object) -> tuple[()]:
        visit = visit_of(request)
        if visit is None or visit.visitor is None:
            return ()
        # The request's own address is this endpoint's.
        page = {"url": visit.referrer} if visit.referrer else {}
        conversion = self.conversion({**page, **body}, visit.visitor.id) if isinstance(body, dict) else None
        if conversion is None:
            kit.faults.count("track.input")
            return ()
        try:
            await kit.report_from_page(conversion, request)
        except UNANSWERED as error:
            kit.faults.count("track", error)
        return ()

    def conversion(self, body: Mapping[str, object], visitor: VisitorId) -> Conversion | None:
        """Return the event that the page reports, or None for one that is not listed, too large or malformed."""
        name, items = body.get("name"), body.get("items") or []
        if not isinstance(name, str) or name not in self.names:
            return None
        if not isinstance(items, list) or len(items) > MOST_ITEMS:
            return None
        said = {field: body[field] for field in _TAKEN if body.get(field) not in (None, "")}
        try:
            return Conversion.model_validate({**said, **_key(name, body, visitor)})
        except ValidationError:
            return None


def _key(name: str, body: Mapping[str, object], visitor: VisitorId) -> Mapping[str, object]:
    """Return what tells a repeat. A page's own id is its visitor's alone: no page can take another event's place."""
    if name == "purchase" and body.get("order_id"):
        return {"order_id": body["order_id"]}
    given = body.get("event_id")
    if not isinstance(given, str) or not _CLIENT_ID.fullmatch(given):
        return {"event_id": str(uuid.uuid4())}
    return {"event_id": str(uuid.uuid5(_FROM_PAGES, f"{visitor}\x1f{name}\x1f{given}"))}
