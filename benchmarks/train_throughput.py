"""Images per second of our ViT through the whole trainer, beside a bare PyTorch loop over timm's ViT of the same size.

    python benchmarks/train_throughput.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--no-accuracy]
    python benchmarks/train_throughput.py --only micro --threads 1 --clock cpu

Ours is `tfcli train`: a composed config, the data module, callbacks, metrics and CSV logger, in this process. The other
is what a careful person writes: timm's model in train mode, cross-entropy, gradients clipped to a norm of 1, AdamW (the
faster of PyTorch's default and fused), normalised float batches already in memory.

A micro model's step is mostly Python. There a third loop takes its turns: our model, our optimizer and our batches
without Lightning, data module or log. What a step of the trainer takes more than one of it is what the trainer costs.

Both run in one process in turns; `turns.py` says how they are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.models import VisionTransformer
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))
from turns import CLOCKS, Bare, compare, faster, fit, set_clock

from tfcli.engine.config.compose import compose
from tfcli.engine.train.prepare import prepare
from tfcli.tasks.classify import Classify, classification_loss

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
DIGITS = ("model=vit", "data=digits", "model.width=32", "model.depth=2", "model.heads=2", "data.baseline=false")
MICRO = Size("micro", (*DIGITS, "trainer.val_every_epochs=1000"), 8, 2, 32, 2, 2, 16, 10, turn=20, turns=30)
MICRO_MS = 1.0  # the most that a step of the trainer may take more than one of our bare loop
LARGE = Size(
    "large", ("model=vit_ti16", "data=folder", "data.cache=memory"), 224, 16, 192, 12, 3, 32, 10, turn=4, turns=8
)


def bare(size: Size, adamw: str) -> Bare:
    """The bare loop over timm's model, on one of eight batches after the other."""
    torch.manual_seed(0)
    shape = {"img_size": size.image_size, "patch_size": size.patch_size, "embed_dim": size.width}
    net = VisionTransformer(**shape, depth=size.depth, num_heads=size.heads, num_classes=size.classes)
    images = torch.randn(8, size.batch, 3, size.image_size, size.image_size)
    labels = torch.randint(size.classes, (8, size.batch))
    batches = cycle(zip(images, labels, strict=True))

    def loss() -> torch.Tensor:
        image, label = next(batches)
        return cross_entropy(net(image), label)

    return Bare(net, loss, adamw=adamw, lr=1e-3, weight_decay=0.05)


def own_bare(overrides: list[str]) -> Bare:
    """The bare loop over our model with our optimizer, on eight of our own batches one after the other."""
    job = compose("train", overrides)
    parts = prepare(job.config, job.choices, job.overrides)
    data, task = parts.datamodule, parts.task
    batches = cycle([data.on_after_batch_transfer(b, 0) for b in islice(data.train_dataloader(), 8)])

    def loss() -> torch.Tensor:
        batch = next(batches)
        return classification_loss(task.net(batch["image"]), batch["label"], batch.get("target"))

    return Bare(task.net, loss, adamw="our", optimizer=task.optim)


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
    parser.add_argument("--only", choices=("micro", "small", "large"), help="one of the sizes")
    parser.add_argument("--turns", type=int, help="of each side (default: 30 micro, 20 small, 8 large)")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args()
    set_clock(args.clock)
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
        for size in (s for s in (MICRO, SMALL, LARGE) if args.only in (None, s.name)):
            turns = args.turns or (2 if args.quick else size.turns)
            size = Size(**{**vars(size), "turns": turns, "turn": 3 if args.quick else size.turn})
            data = [f"data.root={scratch}/images"] if size.name == "large" else []
            if data:
                write_images(Path(scratch, "images"), size)
            other = faster(partial(bare, size), turn=size.turn)
            for precision in ("32",) if size.name == "micro" else ("32", "auto"):
                own = [
                    *size.overrides,
                    *common,
                    *data,
                    f"trainer.precision={precision}",
                    f"data.batch_size={size.batch}",
                ]
                amounts = {"turn": size.turn, "turns": size.turns, "amount": size.batch, "unit": "images"}
                further = (own_bare(own),) if size.name == "micro" else ()
                row = compare(other, own, task=Classify, further=further, **amounts)
                aim = AIMS.get((size.name, precision))
                rows.append({"size": size.name, "precision": precision, **row, "aim": aim})
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
    if row["size"] == "micro":
        low, middle, high = row["excess_ms"][1]
        print(
            f"      our model in a bare loop: {row['bares_ms'][1]:.2f} ms; the trainer takes {middle:.2f} ms more "
            f"(quartiles of turns {low:.2f} to {high:.2f}, at most {MICRO_MS})",
            flush=True,
        )


if __name__ == "__main__":
    main()
