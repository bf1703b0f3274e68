"""What a request carries: click ids, AdRoll's cookie, the visitor cookie, the client's address."""

from collections.abc import MutableMapping
from typing import Any

from kit.capture.due import removal_line as removal_line
from kit.capture.page_views import PageView as PageView
from kit.capture.page_views import page_view as page_view
from kit.capture.rules import FOREIGN_CLICKS as FOREIGN_CLICKS
from kit.capture.rules import OWN_CLICKS as OWN_CLICKS
from kit.capture.rules import CaptureRules as CaptureRules
from kit.capture.rules import Faults as Faults
from kit.capture.state import STATE as STATE
from kit.capture.state import Capture as Capture
from kit.capture.state import Collected as Collected
from kit.capture.state import Shared as Shared
from kit.capture.state import late
from kit.model import Visit, Visitor


def capture_of(request: object) -> Capture | None:
    """Return the request's state, or None when no middleware saw it. Takes a request with `.scope`, or the scope."""
    scope = request if isinstance(request, MutableMapping) else getattr(request, "scope", None)
    if not isinstance(scope, MutableMapping):
        return None
    state: Any = scope.get(STATE)
    if isinstance(state, tuple):
        # A late reader; the next one finds the same visitor. It holds a copy of the scope, so the two are no circle.
        scope[STATE] = state = late(state, scope)
    return state if isinstance(state, Capture) else None


def visitor_of(request: object) -> Visitor | None:
    """Return the visitor of a request (or of its ASGI scope): verified, or minted on this very page.

    A minted visitor's cookie is set with this answer, unless the answer may be kept by a shared cache. None without
    consent, for bots, for requests that open no page and have no verified cookie, and when no middleware saw it.
    """
    capture = capture_of(request)
    if capture is None:
        return None
    try:
        return capture.visitor()
    except Exception:  # noqa: BLE001 - the page that asks must not fail for our fault
        capture.faults.count("capture.visitor")
        return None


def visit_of(request: object) -> Visit | None:
    """Return what a request (or its ASGI scope) shows of its visitor, or None when no middleware saw it.

    Its visitor is None unless the request's own cookie was verified, and then there is no address either.
    """
    capture = capture_of(request)
    if capture is None:
        return None
    try:
        return capture.visit()
    except Exception:  # noqa: BLE001 - an order is reported without its visit rather than not at all
        capture.faults.count("capture.visit")
        return None
