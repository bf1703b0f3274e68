"""`make bench`: runs every benchmark, or the ones named. `--json FILE` keeps the figures."""

import argparse
import dataclasses
import importlib
import json
import platform
import sqlite3
from pathlib import Path

BENCHMARKS = ("middleware", "report", "stall", "growth", "drain", "identify")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    asked = parser.parse_args()
    unknown = set(asked.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {sorted(unknown)[0]!r}; there are {', '.join(BENCHMARKS)}")
    figures = {
        name: [dataclasses.asdict(row) for row in importlib.import_module(f"tests.benchmarks.bench_{name}").run()]
        for name in asked.names or BENCHMARKS
    }
    print(f"\nCPython {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {platform.machine()}")
    if asked.json:
        asked.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
