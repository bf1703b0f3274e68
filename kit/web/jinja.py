"""The kit's scripts in a shop's own templates: `{{ kit_script() }}`, `{{ kit_pixels(order.id) }}`."""

from functools import partial

from jinja2 import Environment

from kit.capture import FOREIGN_CLICKS, OWN_CLICKS
from kit.capture.query import UTM
from kit.kit import Kit
from kit.model import Consent
from kit.web.assets import pixels_tag, script_tag

_READ_ALWAYS = {name for name, _ in OWN_CLICKS + FOREIGN_CLICKS} | set(UTM)


def install(environment: Environment, kit: Kit, *, prefix: str = "/kit", rockerbox: str | None = None) -> None:
    """Give all templates of this environment `script_tag` and `pixels_tag` with this kit's own settings.

    For Starlette that is `install(templates.env, attribution)`, then `{{ kit_script(nonce=...) }}` in each page and
    `{{ kit_pixels(order.id) }}` in the one that confirms an order. They wait for `kit.consent(true)` unless the kit is
    opt_out: what a function or another signal says, the page cannot know.
    """
    unknown = Consent(granted=None, signal="none", at=kit.clock())
    consent = None if kit.rules.consent.may_keep(unknown) else "opt_in"
    environment.globals["kit_pixels"] = partial(pixels_tag, prefix=prefix, consent=consent)
    environment.globals["kit_script"] = partial(
        script_tag,
        prefix,
        consent=consent,
        params=[watched.name for watched in kit.rules.watched.values() if watched.name not in _READ_ALWAYS],
        rockerbox=rockerbox,
    )
