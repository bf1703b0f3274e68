"""The kit in an ASGI app: the middleware that captures, the endpoints of kit.js, its tag, and the dashboard."""

from kit.capture import visitor_of as visitor_of
from kit.web.assets import pixels_tag as pixels_tag
from kit.web.assets import script_tag as script_tag
from kit.web.dashboard import dashboard as dashboard
from kit.web.endpoints import endpoints as endpoints
from kit.web.limits import PostLimits as PostLimits
from kit.web.limits import Rate as Rate
from kit.web.middleware import CaptureMiddleware as CaptureMiddleware
