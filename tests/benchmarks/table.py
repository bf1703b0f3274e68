"""How a benchmark's figures are shown: one table, ratios beside them."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    name: str
    value: str
    rate: str = ""
    ratio: str = ""


def show(title: str, rows: Sequence[Row]) -> None:
    widths = [max(len(getattr(row, name)) for row in rows) for name in ("name", "value", "rate")]
    print(f"\n{title}\n")
    for row in rows:
        print(f"  {row.name:<{widths[0]}}  {row.value:>{widths[1]}}  {row.rate:>{widths[2]}}  {row.ratio}".rstrip())
