"""Measure how soon a command answers, in turns with a bare `import torch`.

    python benchmarks/start.py [--turns 5]

A tiny ViT, a tiny GPT and a cache of features are made once in a temporary folder. What is counted is the processor
time of a process and its children, so that a busy machine disturbs little: until the first output, and to the end.
Exits with 1 where a command takes longer than its bound. That of a probe is for its first line alone: fitting heads and
drawing figures come after it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from PIL import Image

TFCLI = [sys.executable, "-m", "tfcli"]
SHORT = ["trainer.max_steps=1", "trainer.test=none", "trainer.precision=32", "logger=csv"]
TINY = ["model.width=16", "model.depth=1", "model.heads=2", *SHORT]
VIT = ["train", "vit", "digits", *TINY, "run.dir=vit"]
GPT = ["train", "gpt", "text", "data.root=text.txt", *TINY, "run.dir=gpt"]
PROBE = ["probe", "pixels", "digits", "data.image_size=8", "data.limit_train=200", "data.limit_test=120"]
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Timed:
    """A command, and how many seconds more than bare torch it may take to its first output and to its end."""

    command: list[str]
    first: float | None = None
    whole: float | None = None


BARE = "import torch"
TIMED = {
    BARE: Timed([sys.executable, "-c", "import torch; print('done', flush=True)"]),
    "help": Timed([*TFCLI, "--help"]),
    "completion": Timed([*TFCLI, "_complete", "fish", "--", "train", "model=v"]),
    "--cfg job": Timed([*TFCLI, "train", "model=vit", "data=digits", "--cfg", "job"]),
    "predict, one image": Timed([*TFCLI, "predict", "./vit", "image.png"], first=1.5, whole=1.5),
    "sample, one token": Timed([*TFCLI, "sample", "./gpt", "--text", "a", "--length", "1"], first=1.0, whole=1.0),
    "probe, from cache": Timed([*TFCLI, *PROBE], first=1.0),
}


def seconds(timed: Timed, folder: Path) -> tuple[float, float]:
    """Return the processor time of a command until its first output, and to its end with that of its children.

    Raises:
        SystemExit: it failed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = {**os.environ, "TFCLI_CACHE": str(folder / "cache")}
    out, log = subprocess.PIPE, subprocess.STDOUT
    with subprocess.Popen(timed.command, cwd=folder, env=environment, stdout=out, stderr=log) as process:
        assert process.stdout is not None
        text = os.read(process.stdout.fileno(), 1 << 16)
        first = taken(process.pid) if text else None
        text += process.stdout.read()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise SystemExit(f"{' '.join(timed.command)} failed:\n{text.decode()}")
    total = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (total if first is None else first), total


def taken(pid: int) -> float | None:
    """Return the processor time of a process and of its children that have ended; None where it has ended itself."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(") ")[2].split()
    return sum(map(int, fields[11:15])) / TICKS if fields[0] != "Z" else None


def prepare(folder: Path) -> None:
    """Make the runs, the image and the cache that the commands use."""
    draw = random.Random(0)
    lines = (" ".join(draw.choices(["a", "cat", "sees", "the", "dog"], k=8)) for _ in range(2000))
    (folder / "text.txt").write_text("\n".join(lines), encoding="utf-8")
    Image.new("L", (8, 8), 128).save(folder / "image.png")
    for words in (VIT, GPT, PROBE):
        seconds(Timed([*TFCLI, *words]), folder)


def shown(values: list[float]) -> str:
    """Format a median and its quartiles."""
    low, _, high = quantiles(values, n=4)
    return f"{median(values):.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=5, help="at least 2")
    turns = parser.parse_args().turns
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        rows = [{what: seconds(timed, folder) for what, timed in TIMED.items()} for _ in range(turns)]
    print(f"processor seconds, median and quartiles of {turns} turns, {time.strftime('%Y-%m-%d')}\n")
    print("| command | first output | more than torch | to the end | more than torch |\n|---|---|---|---|---|")
    late = []
    for what, timed in TIMED.items():
        cells = [what]
        for i, bound in enumerate((timed.first, timed.whole)):
            more = median(row[what][i] - row[BARE][i] for row in rows)
            cells += [shown([row[what][i] for row in rows]), f"{more:+.2f}" + (f" (bound {bound})" if bound else "")]
            if bound and more > bound:
                late.append(f"{what}: {more:.2f} s more than a bare import of torch; the bound is {bound} s")
        print(f"| {' | '.join(cells)} |")
    if late:
        sys.exit("\n".join(late))


if __name__ == "__main__":
    main()
