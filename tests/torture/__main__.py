"""`python -m tests.torture number=20000 kills=250 freezes=60 engine=sqlite seed=1`; see `make torture`."""

import json
import signal
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

from tests.torture.databases import postgresql, sqlite
from tests.torture.evidence import gather
from tests.torture.plan import Plan
from tests.torture.report import summary, table
from tests.torture.run import run

_DEFAULTS = {"number": "2000", "kills": "30", "freezes": "6", "pg_kills": "0", "engine": "sqlite", "seed": "1"}


def tortured(plan: Plan) -> dict[str, Any]:
    """Run the plan on a store of its own, and return its summary."""
    with tempfile.TemporaryDirectory(prefix="kit-torture-") as folder:
        if plan.engine == "sqlite":
            return _on(plan, sqlite(Path(folder)), Path(folder))
        with postgresql() as (url, blows):
            return _on(plan, url, Path(folder), blows=blows)


def _on(plan: Plan, store: str, folder: Path, **further: Any) -> dict[str, Any]:
    told = run(plan, store, folder, **further)
    return summary(gather(plan, store, told))


def plan_of(asked: dict[str, str]) -> Plan:
    given = _DEFAULTS | {name: value for name, value in asked.items() if value}
    if unknown := set(given) - {*_DEFAULTS, "report"} or given["engine"] not in {"sqlite", "postgresql"}:
        sys.exit(f"not understood: {unknown or given['engine']}; {__doc__}")
    numbers = {name: int(given[name]) for name in ("number", "kills", "freezes", "pg_kills", "seed")}
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    return Plan(engine="sqlite" if given["engine"] == "sqlite" else "postgresql", start=start, **numbers)


def main() -> NoReturn:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))
    asked = dict(argument.partition("=")[::2] for argument in sys.argv[1:])
    said = tortured(plan_of(asked))
    if asked.get("report"):
        Path(asked["report"]).write_text(json.dumps(said, indent=1) + "\n")
    print(table(said))
    sys.exit(0 if said["green"] else 1)


if __name__ == "__main__":
    main()
