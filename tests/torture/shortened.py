"""Makes kit.delivery's waits short enough for a run of minutes: the one place that reaches into the kit."""

import sys
from collections.abc import Mapping
from datetime import timedelta

from kit.delivery import lane, retry, worker
from tests.torture import plan

_WAITS: Mapping[str, timedelta] = {
    "LEASE": plan.LEASE,
    "DEADLINE": plan.DEADLINE,
    "MARGIN": plan.MARGIN,
    "RENEW": plan.LEASE / 3,
    # Not below a lease: a gate that a probe passes is closed for a lease's time.
    "PROBE_EVERY": plan.LEASE + timedelta(seconds=1),
    "_FIRST": timedelta(seconds=0.5),
    "LONGEST": timedelta(seconds=3),
    "_UNREACHABLE": timedelta(seconds=0.5),
    "_FAILING": timedelta(seconds=0.5),
}


def shorten() -> None:
    """Set each wait wherever kit.delivery has it by name. Raises AttributeError when one has gone."""
    modules = [sys.modules[name] for name in sys.modules if name.startswith("kit.delivery.")]
    assert {lane, retry, worker} <= set(modules)
    for name, wait in _WAITS.items():
        holders = [module for module in modules if hasattr(module, name)]
        if not holders:
            raise AttributeError(f"kit.delivery has no {name} any more")
        for module in holders:
            setattr(module, name, wait)
