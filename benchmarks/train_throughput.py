"""Images per second of our ViT through the whole trainer, beside a bare PyTorch loop over timm's ViT of the same size.

    python benchmarks/train_throughput.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--no-accuracy]

Ours is `tfcli train`: a composed config, the data module, callbacks, metrics and CSV logger, in this process. The other
is what a careful person writes: timm's model in train mode, cross-entropy, gradients clipped to a norm of 1, AdamW (the
faster of PyTorch's default and fused), normalised float batches already in memory.

Both run in one process in turns. After every few of our steps the fit stops for as many bare ones, so both meet the
same disturbances. Our step lasts from the start of one batch to the start of the next, and so holds the reading of
data, logging and all else between them. The first step of each turn is left out; medians of the others are reported.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from timm.models import VisionTransformer
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))
from tfcli.engine.compose import compose
from tfcli.engine.record import Record, read_config
from tfcli.engine.run import train
from tfcli.tasks.classify import Classify

clock = time.perf_counter
AIMS = {("small", "32"): 0.9, ("large", "32"): 1.0, ("large", "auto"): 1.8}


@dataclass(frozen=True)
class Size:
    """A model and its batches. `turn` is the number of steps of one side before the other's turn."""

    name: str
    overrides: tuple[str, ...]
    image_size: int
    patch_size: int
    width: int
    depth: int
    heads: int
    batch: int
    classes: int
    turn: int
    turns: int


SMALL = Size("small", ("model=vit", "data=shapes"), 32, 4, 96, 6, 6, 64, 48, turn=10, turns=20)
LARGE = Size(
    "large", ("model=vit_ti16", "data=folder", "data.cache=memory"), 224, 16, 192, 12, 3, 32, 10, turn=4, turns=8
)


class Bare:
    """The bare loop over timm's model; each call is one step, on the next of eight batches."""

    def __init__(self, size: Size, *, adamw: str):
        torch.manual_seed(0)
        shape = {"img_size": size.image_size, "patch_size": size.patch_size, "embed_dim": size.width}
        net = VisionTransformer(**shape, depth=size.depth, num_heads=size.heads, num_classes=size.classes)
        self.net, self.adamw, self.taken = net.train(), adamw, 0
        self.optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=0.05, fused=adamw == "fused" or None)
        self.images = torch.randn(8, size.batch, 3, size.image_size, size.image_size)
        self.labels = torch.randint(size.classes, (8, size.batch))

    def __call__(self) -> None:
        batch = self.taken % 8
        loss = cross_entropy(self.net(self.images[batch]), self.labels[batch])
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()
        self.taken += 1


def seconds(step: Callable[[], None]) -> float:
    start = clock()
    step()
    return clock() - start


def faster_bare(size: Size) -> Bare:
    """The bare loop with that of PyTorch's AdamWs that is faster here."""
    loops = [Bare(size, adamw="default"), Bare(size, adamw="fused")]
    times = [[seconds(loop) for loop in loops] for _ in range(size.turn + 1)][1:]
    return min(zip((median(t) for t in zip(*times, strict=True)), loops, strict=True), key=lambda pair: pair[0])[1]


@dataclass
class Turns(pl.Callback):
    """Clocks our batches from start to start; after every `turn` of them, as many bare steps, not counted in ours."""

    bare: Bare
    turn: int
    ours_s: list[list[float]] = field(default_factory=lambda: [[]])
    bare_s: list[list[float]] = field(default_factory=list)
    mark: float | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
        if self.mark is not None and batch_idx:  # between epochs lies a validation
            self.ours_s[-1].append(clock() - self.mark)
        if len(self.ours_s[-1]) == self.turn:
            self.bare_s.append([seconds(self.bare) for _ in range(self.turn)])
            self.ours_s.append([])
        self.mark = clock()


class Watched(Classify):
    """Our task with `watcher` among the callbacks."""

    watcher: Turns

    def configure_callbacks(self) -> list[pl.Callback]:
        return [self.watcher]


def fit(overrides: list[str], *, watcher: Turns | None = None) -> tuple[Path, Record]:
    """`tfcli train` in this process, its lines kept off the terminal. Returns the run's folder and record."""
    job = compose("train", overrides)
    if watcher:
        Watched.watcher = watcher
        job.config.task._target_ = f"{__name__}.Watched"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        return train(job.config, job.choices, job.overrides)


def compare(size: Size, bare: Bare, precision: str, common: list[str]) -> dict:
    """One fit of ours with turns of the bare loop in it."""
    watcher = Turns(bare, size.turn)
    limit = size.turn * size.turns + 1
    overrides = [*size.overrides, *common, f"trainer.precision={precision}", f"data.batch_size={size.batch}"]
    overrides += [f"trainer.max_steps={limit}", "trainer.max_epochs=100", "trainer.test=none"]
    folder, record = fit(overrides, watcher=watcher)
    params = sum(p.numel() for p in bare.net.parameters())
    if record.params["total"] != params:
        raise SystemExit(f"{size.name}: ours has {record.params['total']:,} parameters, timm's {params:,}")
    turns = list(zip((t[1:] for t in watcher.ours_s), (t[1:] for t in watcher.bare_s), strict=False))
    ours_s, bare_s = (median(s for turn in turns for s in turn[side]) for side in (0, 1))
    by_turn = sorted(median(b) / median(a) for a, b in turns)
    numerics = read_config(folder)["numerics"]
    return {
        "size": size.name,
        "precision": precision,
        "settled": f"{numerics['precision']}, {numerics['kernel']}",
        "bare_adamw": bare.adamw,
        "ours_ms": 1e3 * ours_s,
        "bare_ms": 1e3 * bare_s,
        "ours_images_per_s": size.batch / ours_s,
        "bare_images_per_s": size.batch / bare_s,
        "ratio": bare_s / ours_s,
        "ratio_quartiles": [by_turn[len(by_turn) // 4], by_turn[-1 - len(by_turn) // 4]],
        "aim": AIMS.get((size.name, precision)),
        "steps": sum(len(a) for a, _ in turns),
    }


def write_images(root: Path, size: Size) -> None:
    """JPEG files of 256 x 256 pixels, blurred noise, ten classes: enough for one epoch of the measurement."""
    noise = np.random.default_rng(0)
    for split, count in (("train", size.batch * (size.turn * size.turns + 2)), ("val", 20), ("test", 20)):
        for i in range(count):
            folder = root / split / f"class{i % size.classes}"
            folder.mkdir(parents=True, exist_ok=True)
            coarse = Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            coarse.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=90)


def accuracies(common: list[str], *, steps: int) -> dict[str, float]:
    """Test accuracy on digits (360 images) of the small model, same seed, in both precisions; best by validation."""
    overrides = ["model=vit", "data=digits", f"trainer.max_steps={steps}", "trainer.max_epochs=1000", *common]
    overrides += ["data.baseline=false", "trainer.val_every_epochs=5"]
    return {p: fit([*overrides, f"trainer.precision={p}"])[1].metrics["test/accuracy"] for p in ("32", "bf16")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short turns: does it run?")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for both (default: 2)")
    parser.add_argument("--no-accuracy", action="store_true", help="do not train to compare accuracies")
    parser.add_argument("--only", choices=("small", "large"), help="one of the sizes")
    parser.add_argument("--turns", type=int, help="of each side (default: 20 small, 8 large)")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args()
    global clock
    clock = {"wall": time.perf_counter, "cpu": time.process_time}[args.clock]
    torch.set_num_threads(args.threads)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["TFCLI_CACHE"] = scratch  # `auto` is measured anew
        common = [
            f"run.root={scratch}/runs",
            "logger=csv",
            "trainer.accelerator=cpu",
            f"trainer.threads={args.threads}",
        ]
        for size in (s for s in (SMALL, LARGE) if args.only in (None, s.name)):
            turns = args.turns or (2 if args.quick else size.turns)
            size = Size(**{**vars(size), "turns": turns, "turn": 3 if args.quick else size.turn})
            data = [f"data.root={scratch}/images"] if size.name == "large" else []
            if data:
                write_images(Path(scratch, "images"), size)
            bare = faster_bare(size)
            for precision in ("32", "auto"):
                rows.append(compare(size, bare, precision, common + data))
                if not args.json:
                    show(rows[-1])
        accuracy = None if args.no_accuracy else accuracies(common, steps=20 if args.quick else 400)
    if args.json:
        print(json.dumps({"threads": args.threads, "clock": args.clock, "rows": rows, "accuracy": accuracy}, indent=1))
    elif accuracy:
        print("digits, test accuracy: " + ", ".join(f"{p} {value:.3f}" for p, value in accuracy.items()))


def show(row: dict) -> None:
    low, high = row["ratio_quartiles"]
    aim = f", aim {row['aim']}" if row["aim"] else ""
    print(
        f"{row['size']:5} {row['precision']:>4} ({row['settled']}): "
        f"ours {row['ours_ms']:.1f} ms, {row['ours_images_per_s']:.1f} images/s; "
        f"timm fp32, {row['bare_adamw']} AdamW: {row['bare_ms']:.1f} ms, {row['bare_images_per_s']:.1f} images/s; "
        f"ratio {row['ratio']:.2f} (quartiles of turns {low:.2f} to {high:.2f}{aim})",
        flush=True,
    )


if __name__ == "__main__":
    main()
