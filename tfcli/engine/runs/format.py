"""Format values as text: numbers, CSV, Markdown, and means over seeds. No torch."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """Mean and sample standard deviation (None for a single value) of `n` finite values, and the best one."""

    mean: float
    std: float | None
    n: int
    best: float

    def __str__(self) -> str:
        return number(self.mean) if self.std is None else f"{number(self.mean)} ± {number(self.std)}"


def spread(values: Sequence[float], *, lower_is_better: bool = False) -> Spread | None:
    """Return the spread of the finite `values`; None when there are none."""
    kept = [v for v in values if math.isfinite(v)]
    if not kept:
        return None
    std = statistics.stdev(kept) if len(kept) > 1 else None
    return Spread(statistics.fmean(kept), std, len(kept), min(kept) if lower_is_better else max(kept))


def number(value: float) -> str:
    """Format a number: three decimals below ten, fewer above, powers of ten where three decimals would all be zero."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 0.001 <= abs(value) < 10:
        return f"{value:.3f}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """Format seconds: `31 s`, `4:12 min`, `2:05 h`."""
    if value is None:
        return ""
    if value < 100:
        return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d} h"


def size(value: float | None) -> str:
    """Format bytes with a decimal unit: `551 MB`."""
    if value is None:
        return ""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def cell(value: Any) -> str:
    """Format a value for a table: nothing for None, `yes`/`no`, short numbers, lists joined by commas.

    Control characters (a newline in a class name) are escaped, so that a row stays a row.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Spread):
        return str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, (list, tuple)):
        return ", ".join(cell(v) for v in value)
    text = str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def to_csv(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return CSV with the keys of `columns` as header and values in full precision."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        values = (row.get(key) for key in columns)
        writer.writerow(["" if v is None else v.mean if isinstance(v, Spread) else v for v in values])
    return out.getvalue()


def to_markdown(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a GitHub table; numbers are aligned right."""
    cells = [[cell(row.get(key)).replace("|", "\\|") for key in columns] for row in rows]
    widths = [max([len(head), 3, *(len(line[i]) for line in cells)]) for i, head in enumerate(columns.values())]
    right = [is_numeric([row.get(key) for row in rows]) for key in columns]

    def line(texts: Sequence[str]) -> str:
        padded = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(texts, widths, right, strict=True))
        return "| " + " | ".join(padded) + " |"

    rule = "| " + " | ".join("-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)) + " |"
    return "\n".join([line(list(columns.values())), rule, *(line(c) for c in cells)]) + "\n"


def is_numeric(values: Sequence[Any]) -> bool:
    """Return whether a column holds numbers only, and so is aligned right."""
    kept = [v for v in values if v is not None]
    return bool(kept) and all(isinstance(v, (int, float, Spread)) and not isinstance(v, bool) for v in kept)
