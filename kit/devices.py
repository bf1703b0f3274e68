"""What a browser is called by people: "iPhone · Safari", from its User-Agent. Asked only when somebody looks."""

from functools import lru_cache

UNKNOWN = "an unknown browser"
#: What the list calls a phone whose maker does not say its model.
_NO_MODEL = "Generic_Android"


# The library is of the extras `cli` and `dashboard`, and its first answer takes a tenth of a second.
@lru_cache(maxsize=1024)
def device_name(user_agent: str | None) -> str:
    """Return the device and the browser in words; "an unknown browser" for what `ua-parser` does not know.

    Also where the library is not there: it comes with the extras `cli` and `dashboard`.
    """
    try:
        from ua_parser import parse
    except ImportError:
        return UNKNOWN
    found = parse(user_agent) if user_agent else None
    if found is None:
        return UNKNOWN
    system = found.os.family if found.os is not None else None
    device = found.device.family if found.device is not None and found.device.brand != _NO_MODEL else system
    browser = _plain(found.user_agent.family) if found.user_agent is not None else None
    return " · ".join(filter(None, (device, browser))) or UNKNOWN


def _plain(browser: str) -> str:
    """Return a browser's name without what its device says already: Chrome Mobile iOS is Chrome."""
    return " ".join(word for word in browser.split() if word not in {"Mobile", "iOS"}) or browser
