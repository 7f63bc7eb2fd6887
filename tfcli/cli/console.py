"""The one place for output: results on stdout, progress and logs on stderr.

A table is drawn by rich on a terminal, as plain aligned text in a pipe, as one JSON document with `--json`.
`NO_COLOR` and `COLUMNS` are honoured. Text that the output's encoding lacks is written with ASCII stand-ins, then `?`.
A reader that went away (`| head`) silences what is left to say; the command itself goes on to its end.
"""

from __future__ import annotations

import json as json_
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from tfcli.engine.runs.format import cell, is_numeric, to_csv, to_markdown
from tfcli.engine.runs.record import finite
from tfcli.engine.runs.terminal import is_terminal, readable, say, status, width, write

__all__ = ["emit_json", "is_terminal", "out", "say", "status", "table", "width"]


def out(line: str = "") -> None:
    """Print one line of a result on stdout."""
    write(sys.stdout, line + "\n")


def emit_json(obj: Any) -> None:
    """Print one JSON document on stdout; NaN and infinities as null, paths as text."""
    encoding = (sys.stdout.encoding or "utf-8").lower()
    ascii_only = not encoding.startswith("utf")
    write(sys.stdout, json_.dumps(finite(obj), indent=1, ensure_ascii=ascii_only, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    return value._asdict() if hasattr(value, "_asdict") else str(value)


def table(
    title: str | None,
    columns: Mapping[str, str] | Sequence[str],
    rows: Sequence[Mapping[str, Any]],
    *,
    json: bool = False,
    format: str = "text",
    empty: str = "",
    notes: Sequence[str] = (),
    style: Mapping[str, Callable[[Any], str]] | None = None,
    optional: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> None:
    """Show `rows` (mappings) under `columns` (key -> heading, or keys that are their own headings).

    json: the rows, whole, as a JSON list instead. format: `text`, `csv`, `markdown` or `json`.
    empty: what to say on stderr when there are no rows. notes: lines below the table (text only).
    style: key -> function from a value to a rich style name, for terminals.
    optional: keys of columns to leave out, in this order, where a terminal is too narrow for all.
    whole: keys of columns that are never cut or broken, however narrow the terminal: names that one copies.
    """
    if not isinstance(columns, Mapping):
        columns = {name: name for name in columns}
    if json or format == "json":
        emit_json([dict(row) for row in rows])
    elif format == "csv":
        write(sys.stdout, to_csv(columns, rows))
    elif format == "markdown":
        write(sys.stdout, to_markdown(columns, rows))
    elif not rows:
        say(empty or "nothing to show")
    elif is_terminal():
        _rich_table(title, _narrowed(columns, rows, optional), rows, notes, style or {}, whole)
    else:
        for line in plain_lines(title, columns, rows, notes, fit=lambda widths: _fit(widths, list(columns), whole)):
            out(line)


def _rich_table(title, columns, rows, notes, style, whole) -> None:
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for key, head in columns.items():
        right = is_numeric([row.get(key) for row in rows])
        least = max(len(cell(row.get(key))) for row in rows) if key in whole else None
        justify: Literal["left", "right"] = "right" if right else "left"
        drawn.add_column(Text(head), justify=justify, no_wrap=right or key in whole, overflow="fold", min_width=least)
    for row in rows:
        drawn.add_row(*(Text(cell(row.get(k)), style=style[k](row.get(k)) if k in style else "") for k in columns))
    buffer = io.TextIOWrapper(io.BytesIO(), encoding=sys.stdout.encoding or "utf-8", errors="replace")
    buffer.isatty = sys.stdout.isatty  # type: ignore[method-assign]  # rich decides on colours by the real stream
    console = Console(file=buffer, width=width(), highlight=False)
    console.print(drawn, crop=False)
    for note in notes:
        console.print(Text(note, style="dim"))
    buffer.seek(0)
    write(sys.stdout, "\n".join(line.rstrip() for line in buffer.read().split("\n")))


def _narrowed(columns, rows, optional) -> dict[str, str]:
    kept = dict(columns)
    natural = {k: max([len(head), *(len(cell(row.get(k))) for row in rows)]) for k, head in kept.items()}
    for key in optional:
        if sum(natural[k] + 2 for k in kept) - 2 > width():
            kept.pop(key, None)
    return kept


def plain_lines(
    title: str | None,
    columns: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    notes: Sequence[str] = (),
    *,
    fit: Callable[[list[int]], list[int]] = lambda widths: widths,
) -> list[str]:
    """Return a table as aligned lines of text, its columns as wide as `fit` makes them."""
    texts = [list(columns.values()), *([cell(row.get(key)) for key in columns] for row in rows)]
    lines = [[readable(sys.stdout, text) for text in line] for line in texts]
    right = [is_numeric([row.get(key) for row in rows]) for key in columns]
    widths = fit([max(len(line[i]) for line in lines) for i in range(len(columns))])
    found = [title] if title else []
    for line in lines:
        cut = [t if len(t) <= w else t[: max(w - 1, 0)] + "…" for t, w in zip(line, widths, strict=True)]
        padded = (t.rjust(w) if r else t.ljust(w) for t, w, r in zip(cut, widths, right, strict=True))
        found.append("  ".join(padded).rstrip())
    return [*found, *notes]


def _fit(widths: list[int], keys: list[str], whole: Sequence[str]) -> list[int]:
    """Narrow the widest columns until a line fits `COLUMNS`, where that is set; a pipe has no width of its own."""
    asked = os.environ.get("COLUMNS", "")
    if not asked.isdigit() or int(asked) < 20:
        return widths
    widths = list(widths)
    free = [i for i, key in enumerate(keys) if key not in whole]
    while free and sum(widths) + 2 * (len(widths) - 1) > int(asked):
        widest = max(free, key=lambda i: widths[i])
        if widths[widest] <= 6:
            break
        widths[widest] -= 1
    return widths
