"""Images per second of our ViT through the whole trainer, beside bare PyTorch loops over timm's ViT of the same size.

    python benchmarks/train_throughput.py [--quick] [--json] [--threads 2] [--clock wall|cpu] [--no-accuracy]
    python benchmarks/train_throughput.py --only micro --threads 1 --clock cpu

Ours is `tfcli train`: a composed config, the data module, callbacks, metrics and CSV logger, in this process. The other
sides are what a careful person writes: timm's model in train mode, cross-entropy, gradients clipped to a norm of 1,
AdamW, normalised float batches already in memory. One computes in fp32 with the faster of PyTorch's AdamWs, one in bf16
autocast with the faster of fused attention and two matrix products, where the CPU has such products. Ours in `auto`
stands beside both: the faster is the limit.

A micro model's step is mostly Python. There a further loop takes its turns: our model, our optimizer and our batches
without Lightning, data module or log. What a step of the trainer takes more than one of it is what the trainer costs.

Left out: validation, test, checkpoints, and all before the first step. `turns.py` says how the steps are timed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from timm.models import VisionTransformer
from torch.nn.functional import cross_entropy

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.turns import CLOCKS, LEFT_OUT, Bare, compare, described, fastest, fit, set_clock
from tfcli.engine.config.compose import compose
from tfcli.engine.train.prepare import prepare
from tfcli.probes.precision import has_bfloat16
from tfcli.tasks.classify import Classify, classification_loss


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
MICRO = Size("micro", (*DIGITS, "trainer.val_every_epochs=1000"), 8, 2, 32, 2, 2, 16, 10, turn=33, turns=30)
MICRO_MS = 1.0  # the most that a step of the trainer may take more than one of our bare loop
QUICK = {"turn": 3, "turns": 2, "batch": 4}
OWN = "our model, optimizer and batches in a bare loop"
LARGE = Size(
    "large", ("model=vit_ti16", "data=folder", "data.cache=memory"), 224, 16, 192, 12, 3, 32, 10, turn=4, turns=8
)


def bare(size: Size, *, adamw: str = "fused", bf16: bool = False, fused: bool = True) -> Bare:
    """Return the bare loop over timm's model, on one of eight batches after the other."""
    torch.manual_seed(0)
    shape = {"img_size": size.image_size, "patch_size": size.patch_size, "embed_dim": size.width}
    net = VisionTransformer(**shape, depth=size.depth, num_heads=size.heads, num_classes=size.classes)
    for block in net.blocks:
        block.attn.fused_attn = fused
    images = torch.randn(8, size.batch, 3, size.image_size, size.image_size)
    labels = torch.randint(size.classes, (8, size.batch))
    batches = cycle(zip(images, labels, strict=True))

    def loss() -> torch.Tensor:
        image, label = next(batches)
        return cross_entropy(net(image).float(), label)

    return Bare(net, loss, adamw=adamw, bf16=bf16, lr=1e-3, weight_decay=0.05)


def peers(size: Size) -> dict[str, Bare]:
    """Return timm's loops in fp32 and in bf16, each with the settings that are fastest here."""
    whole = {f"timm, fp32, {kind} AdamW": partial(bare, size, adamw=kind) for kind in ("fused", "default")}
    half = {
        "timm, bf16, fused attention": partial(bare, size, bf16=True),
        "timm, bf16, attention by two products": partial(bare, size, bf16=True, fused=False),
    }
    halves = fastest(half, turn=size.turn) if has_bfloat16(torch.device("cpu")) else {}
    return fastest(whole, turn=size.turn) | halves


def own_bare(overrides: list[str]) -> Bare:
    """The bare loop over our model with our optimizer, on eight of our own batches one after the other."""
    job = compose("train", overrides)
    parts = prepare(job.config, job.choices, job.overrides)
    data, task = parts.datamodule, parts.task
    batches = cycle([data.on_after_batch_transfer(b, 0) for b in islice(data.train_dataloader(), 8)])

    def loss() -> torch.Tensor:
        batch = next(batches)
        return classification_loss(task.net(batch["image"]), batch["label"], batch.get("target"))

    return Bare(task.net, loss, optimizer=task.optim)


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


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two short turns, small batches: does it run?")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU, for all (default: 2)")
    parser.add_argument("--no-accuracy", action="store_true", help="do not train to compare accuracies")
    parser.add_argument("--only", choices=("micro", "small", "large"), help="one of the sizes")
    parser.add_argument("--turn", type=int, help="steps of a turn (default: 20 micro, 10 small, 4 large)")
    parser.add_argument("--turns", type=int, help="of each side (default: 30 micro, 20 small, 8 large)")
    parser.add_argument("--batch", type=int, help="images of a batch (default: 16 micro, 64 small, 32 large)")
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall", help="which seconds (default: wall)")
    args = parser.parse_args(words)
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
            asked = {"turn": args.turn, "turns": args.turns, "batch": args.batch}
            asked = {name: value or (QUICK[name] if args.quick else None) for name, value in asked.items()}
            size = replace(size, **{name: value for name, value in asked.items() if value})
            data = [f"data.root={scratch}/images"] if size.name == "large" else []
            if data:
                write_images(Path(scratch, "images"), size)
            others = peers(size)
            for precision in ("32",) if size.name == "micro" else ("32", "auto"):
                own = [
                    *size.overrides,
                    *common,
                    *data,
                    f"trainer.precision={precision}",
                    f"data.batch_size={size.batch}",
                ]
                bares = others | {OWN: own_bare(own)} if size.name == "micro" else others
                amounts = {"turn": size.turn, "turns": size.turns, "amount": size.batch, "unit": "images"}
                rows.append(
                    {"size": size.name, "precision": precision, **compare(bares, own, task=Classify, **amounts)}
                )
                if not args.json:
                    show(rows[-1])
        accuracy = None if args.no_accuracy else accuracies(common, steps=20 if args.quick else 400)
    facts = {"threads": args.threads, "clock": args.clock, "left_out": LEFT_OUT}
    if args.json:
        print(json.dumps({**facts, "rows": rows, "accuracy": accuracy}, indent=1))
        return
    if accuracy:
        print("digits, test accuracy: " + ", ".join(f"{p} {value:.3f}" for p, value in accuracy.items()))
    print(f"{args.threads} threads, {args.clock} time; {LEFT_OUT}")


def show(row: dict) -> None:
    print(described(row), flush=True)
    if OWN in row["bares"]:
        low, middle, high = row["bares"][OWN]["excess_ms"]
        print(f"    the trainer takes {middle:.2f} ms more than it [{low:.2f}, {high:.2f}], aim {MICRO_MS}", flush=True)


if __name__ == "__main__":
    main()
