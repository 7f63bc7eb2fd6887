"""What benchmarks of training share: `tfcli train` in this process, in turns with a bare PyTorch loop.

After every few of our steps the fit stops for as many of each bare loop, so all meet the same disturbances. Our step
lasts from the start of one batch to the start of the next, and so holds the reading of data, logging and all else in
between. The first step of each turn is left out; a turn counts with the mean of its others, because some work is done
for several steps at once, and the median of the turns is reported. The processor time is that of this process and its
children, among them the loader's processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch

from benchmarks.clock import processor_s
from tfcli.engine.config.compose import compose
from tfcli.engine.runs.record import Record, read_config
from tfcli.engine.train.run import train

LEFT_OUT = "left out: validation, test, checkpoints, the first step of each turn and all before the first step"


CLOCKS = {"wall": time.perf_counter, "cpu": processor_s}
clock = CLOCKS["wall"]


def set_clock(name: str) -> None:
    """Count wall seconds, or those of the processor."""
    global clock
    clock = CLOCKS[name]


def seconds(step: Callable[[], Any]) -> float:
    """How long a call takes."""
    start = clock()
    step()
    return clock() - start


class Bare:
    """What a careful person writes: loss, backward, gradients clipped to a norm of 1, AdamW; each call is one step.

    Args:
        net: in train mode.
        loss: of the next of some batches in memory.
        adamw: fused, or PyTorch's default.
        bf16: autocast the loss on the CPU.
        optimizer: factory of another optimizer, called with the net.
        options: of AdamW.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        loss: Callable[[], torch.Tensor],
        *,
        adamw: str = "fused",
        bf16: bool = False,
        optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer] | None = None,
        **options: Any,
    ):
        self.net, self.loss, self.bf16 = net.train(), loss, bf16
        fused = adamw == "fused" or None
        self.optimizer = optimizer(net) if optimizer else torch.optim.AdamW(net.parameters(), **options, fused=fused)

    def __call__(self) -> None:
        with torch.autocast("cpu", torch.bfloat16) if self.bf16 else nullcontext():
            loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()


def fastest(loops: dict[str, Callable[[], Bare]], *, turn: int) -> dict[str, Bare]:
    """Make loops and return the one that is fastest here, by its name."""
    made = {name: make() for name, make in loops.items()}
    times = [[seconds(loop) for loop in made.values()] for _ in range(turn + 1)][1:]
    middle = dict(zip(made, (median(t) for t in zip(*times, strict=True)), strict=True))
    best = min(middle, key=lambda name: middle[name])
    return {best: made[best]}


@dataclass
class Turns(pl.Callback):
    """Clocks our batches from start to start; after every `turn` of them, as many of each bare loop, not counted."""

    bares: tuple[Bare, ...]
    turn: int
    ours_s: list[list[float]] = field(default_factory=lambda: [[]])
    bares_s: list[list[list[float]]] = field(default_factory=list)  # of each turn and loop
    mark: float | None = None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx: int) -> None:
        if self.mark is not None and batch_idx:  # between epochs lies a validation
            self.ours_s[-1].append(clock() - self.mark)
        if len(self.ours_s[-1]) == self.turn:
            self.bares_s.append([[seconds(bare) for _ in range(self.turn)] for bare in self.bares])
            self.ours_s.append([])
        self.mark = clock()


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile of sorted values."""
    return values[len(values) // 4], median(values), values[-1 - len(values) // 4]


def fit(
    overrides: list[str], *, task: type[pl.LightningModule] | None = None, watcher: pl.Callback | None = None
) -> tuple[Path, Record]:
    """`tfcli train` in this process, its lines kept off the terminal. Returns the run's folder and record.

    Args:
        overrides: settings.
        task: its class, to which `watcher` is added.
    """
    job = compose("train", overrides)
    with ExitStack() as stack:
        if task and watcher:
            stack.enter_context(patch.object(task, "configure_callbacks", lambda self: [watcher]))
        stack.enter_context(redirect_stderr(stack.enter_context(open(os.devnull, "w", encoding="utf-8"))))
        return train(job.config, job.choices, job.overrides)


def compare(
    bares: dict[str, Bare],
    overrides: list[str],
    *,
    task: type[pl.LightningModule],
    turn: int,
    turns: int,
    amount: int,
    unit: str,
) -> dict[str, Any]:
    """One fit of ours with turns of the bare loops in it.

    Args:
        bares: the loops by their names. `ratio` is how many times as fast ours is, `excess_ms` what a step of ours
            takes more: lower quartile, median and upper quartile of the turns.
        overrides: settings of ours.
        turn: steps of one side before the next one's turn; `turns` of each.
        amount: what a step takes, in `unit`.

    Raises:
        SystemExit: the models have not as many parameters.
    """
    watcher = Turns(tuple(bares.values()), turn)
    limits = [f"trainer.max_steps={turn * turns + 1}", "trainer.max_epochs=100", "trainer.test=none"]
    folder, record = fit([*overrides, *limits], task=task, watcher=watcher)
    for name, bare in bares.items():
        if record.params["total"] != (params := sum(p.numel() for p in bare.net.parameters())):
            raise SystemExit(f"ours has {record.params['total']:,} parameters, {name} {params:,}")
    both = zip(watcher.ours_s, watcher.bares_s, strict=False)  # the last turn of ours has no bare one after it
    sides = [(ours[1:], *(bare[1:] for bare in bares)) for ours, bares in both]
    middles = [[fmean(side) for side in turn] for turn in sides]
    ours_s, *bares_s = (median(side) for side in zip(*middles, strict=True))
    numerics = read_config(folder)["numerics"]
    return {
        "settled": f"{numerics['precision']}, {numerics['kernel']}",
        "params": record.params["total"],
        "unit": unit,
        "ms": 1e3 * ours_s,
        "per_s": amount / ours_s,
        "steps": sum(len(ours) for ours, *_ in sides),
        "bares": {
            name: {
                "ms": 1e3 * bare_s,
                "per_s": amount / bare_s,
                "ratio": quartiles(sorted(m[i] / m[0] for m in middles)),
                "excess_ms": quartiles(sorted(1e3 * (m[0] - m[i]) for m in middles)),
            }
            for i, (name, bare_s) in enumerate(zip(bares, bares_s, strict=True), start=1)
        },
    }


def described(row: dict[str, Any]) -> str:
    """Return the lines of a row: ours, and below it each bare loop with the ratio and its quartiles."""
    unit = row["unit"]
    lines = [
        f"{row['size']}, {row['precision']} ({row['settled']}; {row['params']:,} parameters): "
        f"{row['ms']:,.1f} ms, {row['per_s']:,.1f} {unit}/s over {row['steps']} steps"
    ]
    for name, bare in row["bares"].items():
        low, middle, high = bare["ratio"]
        lines.append(
            f"    {name}: {bare['ms']:,.1f} ms, {bare['per_s']:,.1f} {unit}/s; "
            f"ratio {middle:.2f} [{low:.2f}, {high:.2f}]"
        )
    return "\n".join(lines)
