"""What a GPU gives: our training, extraction, probes, sampling and attention beside bare loops, in six minutes.

    python benchmarks/gpu.py [--only PART ...] [--json FILE]
    python benchmarks/gpu.py --device cpu --tiny      # does each part run? the figures mean nothing

Ours is `tfcli train` in this process. The other side is what a careful person writes, with the same batches, sizes,
parameters, precision (bf16 autocast, fp32 weights), fused AdamW and clipping: timm and open_clip, a GPT-2 by hand in
plain `scaled_dot_product_attention`, transformers' BERT with the head on masked tokens alone. Both are compiled
(`--no-compile`: neither). FLOPs are counted by `torch.utils.flop_counter` on the bare model, the attention of GPT in
full; their share is that of the fastest bf16 product of two square matrices, measured in the same run.

Each part has its time; what an earlier part leaves is given to the later ones. A part that fails or is out of time says
so in its row. Exit codes: 0 every part has its figures, 1 a part has none, 2 there is no GPU or the command is wrong.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1]))

LIMITS_S: dict[str, float] = {
    "ceiling": 15, "vit_b16": 75, "gpt2": 65, "vit_ti16": 35, "resnet50": 35, "bert_base": 35, "clip_b32": 35,
    "extraction": 15, "linear": 10, "knn": 8, "sampling": 10, "attention": 17,
}  # fmt: skip
"""The parts in their order, and the seconds of each; compiling and the import of libraries count."""

LEFT_OUT = (
    "validation, tests and checkpoints: no figure has them, although the program writes one after the last step",
    "reading, decoding and augmentation of inputs, but for the rows `our loader`, whose images are decoded once before",
    "CUDA graphs and max-autotune: torch.compile in its default mode on both sides",
    "compiling and warm-up: they stand in the column `set-up` (ours + bare)",
    "several GPUs",
)


class LimitReached(BaseException):
    """The time of a part is over. Like an interrupt it passes handlers of ordinary errors."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise `LimitReached` in the block after so many seconds, and again every five until the block is left.

    A single call into C, for instance a product on the device, is finished first.
    """

    def ring(signum: int, frame: Any) -> None:
        raise LimitReached

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001), 5.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def measure(
    parts: dict[str, Callable[[], Iterable[dict[str, Any]]]],
    limits: dict[str, float],
    *,
    began: float,
    told: Callable[[dict[str, Any]], Any] = lambda row: None,
) -> list[dict[str, Any]]:
    """Run the parts one after the other; return their rows. A part that fails adds one with its `error`.

    Args:
        parts: by name, in order; each gives its rows as it has them.
        limits: seconds of each; a part may last until the sum of all up to its own.
        began: when the program began, by `time.monotonic`.
        told: is called with each row.
    """
    rows: list[dict[str, Any]] = []
    end = began
    for name, part in parts.items():
        end += limits[name]
        start = time.monotonic()

        def keep(row: dict[str, Any], name: str = name, start: float = start) -> None:
            rows.append({"part": name, "seconds": round(time.monotonic() - start, 1), **row})
            told(rows[-1])

        try:
            with limit(end - start):
                for row in part():
                    keep(row)
        except LimitReached:
            keep({"error": f"out of time after {time.monotonic() - start:.0f} s"})
        except (Exception, SystemExit) as error:  # noqa: BLE001  # its row says it
            lines = str(error).strip().splitlines()
            keep({"error": f"{type(error).__name__}: {lines[0][:200] if lines else ''}"})
        free()
    return rows


def free() -> None:
    """Give back the device's memory, and forget what was compiled, where torch is in use."""
    gc.collect()
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
    if "torch" in sys.modules and sys.modules["torch"].cuda.is_available():
        sys.modules["torch"].cuda.empty_cache()


def add_shares(rows: Sequence[dict[str, Any]]) -> None:
    """Add to each row with `flops` of one image or token the shares of the ceiling of ours and the bare loop."""
    top = next((row["ours"] for row in rows if row["part"] == "ceiling" and "ours" in row), None)
    for row in rows:
        if top and row.get("flops"):
            row["share"], row["bare_share"] = (row[side] * row["flops"] / top for side in ("ours", "bare"))


def table(rows: Sequence[dict[str, Any]], title: str) -> Table:
    """Return the table of all rows."""
    made = Table(title=title, title_justify="left")
    for name in ("part", "ours", "bare", "ours / bare", "share of ceiling", "set-up", "s", ""):
        made.add_column(name, justify="left" if name in ("part", "") else "right", overflow="fold")
    for row in rows:
        part = ", ".join([row["part"], *([row["what"]] if "what" in row else [])])
        if "error" in row:
            made.add_row(part, "", "", "", "", "", f"{row['seconds']:.0f}", row["error"])
            continue
        low, high = row.get("ratio_quartiles", (0, 0))
        made.add_row(
            part,
            speed(row["ours"], row["unit"]),
            speed(row["bare"], row["unit"]) if "bare" in row else "",
            f"{row['ratio']:.2f} [{low:.2f}, {high:.2f}]" if "ratio" in row else "",
            f"{row['share']:.1%} / {row['bare_share']:.1%}" if "share" in row else "",
            " + ".join(f"{s:.0f}" for s in row["setup_s"]) if "setup_s" in row else "",
            f"{row['seconds']:.0f}",
            row["note"],
        )
    return made


def speed(value: float, unit: str) -> str:
    """Return a speed in words: 4,100 images/s, 612 TFLOP/s."""
    if unit == "FLOP/s":
        return f"{value / 1e12:,.3g} TFLOP/s"
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:,.3g} {unit}"


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Return the checked arguments; a wrong one ends the program with exit code 2."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=tuple(LIMITS_S), metavar="PART", help=", ".join(LIMITS_S))
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all figures to a file")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, not compiled: does each part run?")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="default: unless --tiny")
    given = parser.parse_args(words)
    if given.device == "cpu" and not given.tiny:
        parser.error("--device cpu needs --tiny: its figures would say nothing of a GPU")
    return given


def main(words: Sequence[str] | None = None) -> int:
    """Measure, print the table, and return the exit code."""
    began = time.monotonic()
    given = parse(words)
    import torch

    if given.device == "cuda" and not torch.cuda.is_available():
        print("there is no GPU here that torch can use; `--device cpu --tiny` tries each part", file=sys.stderr)
        return 2
    from benchmarks import gpu_parts as parts

    chosen = [name for name in LIMITS_S if name in (given.only or LIMITS_S)]
    if "ceiling" not in chosen and given.device == "cuda":
        chosen.insert(0, "ceiling")  # without it there are no shares
    device = torch.cuda.get_device_name(0) if given.device == "cuda" else "CPU, tiny"
    out = Console(width=None if sys.stdout.isatty() else 200)
    told = partial(print, file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TFCLI_CACHE"] = f"{scratch}/cache"
        compiled = given.compile if given.compile is not None else not given.tiny
        place = parts.Place(given.device, given.tiny, compiled, Path(scratch), 0.05 if given.tiny else 4.0)
        cases = parts.training_cases(place)
        if {"gpt2", "bert_base"} & set(chosen):
            parts.write_words(place)
        known: dict[str, Callable[[], Iterable[dict[str, Any]]]] = {
            **{name: partial(parts.train_part, case, place) for name, case in cases.items()},
            **{name: partial(getattr(parts, name), place) for name in LIMITS_S if name not in cases},
        }
        rows = measure(
            {name: known[name] for name in chosen},
            dict.fromkeys(chosen, 120.0) if given.tiny else LIMITS_S,
            began=began,
            told=lambda row: told(f"{row['part']}: {row.get('error') or speed(row['ours'], row['unit'])}"),
        )
    add_shares(rows)
    seconds = time.monotonic() - began
    title = (
        f"{device}, torch {torch.__version__}, {date.today()}, {'' if compiled else 'not '}compiled, {seconds:.0f} s"
    )
    out.print(table(rows, title))
    out.print("Left out: " + "; ".join(LEFT_OUT) + ".")
    if given.json:
        facts = {"device": device, "torch": torch.__version__, "date": str(date.today()), "compiled": compiled}
        facts |= {"seconds": round(seconds, 1), "left_out": LEFT_OUT, "rows": rows}
        given.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return int(any("error" in row for row in rows))


if __name__ == "__main__":
    sys.exit(main())
