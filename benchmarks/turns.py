"""What benchmarks of training share: `tfcli train` in this process, in turns with a bare PyTorch loop.

After every few of our steps the fit stops for as many bare ones, so both meet the same disturbances. Our step lasts
from the start of one batch to the start of the next, and so holds the reading of data, logging and all else between
them. The first step of each turn is left out; medians of the others are reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch

from tfcli.engine.config.compose import compose
from tfcli.engine.runs.record import Record, read_config
from tfcli.engine.train.run import train

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
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
        optimizer: factory of another optimizer, called with the net.
        options: of AdamW.
    """

    def __init__(
        self,
        net: torch.nn.Module,
        loss: Callable[[], torch.Tensor],
        *,
        adamw: str,
        optimizer: Callable[[torch.nn.Module], torch.optim.Optimizer] | None = None,
        **options: Any,
    ):
        self.net, self.loss, self.adamw = net.train(), loss, adamw
        fused = adamw == "fused" or None
        self.optimizer = optimizer(net) if optimizer else torch.optim.AdamW(net.parameters(), **options, fused=fused)

    def __call__(self) -> None:
        loss = self.loss()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        self.optimizer.step()


def faster(make: Callable[[str], Bare], *, turn: int) -> Bare:
    """The bare loop with that of PyTorch's AdamWs that is faster here."""
    loops = [make("default"), make("fused")]
    times = [[seconds(loop) for loop in loops] for _ in range(turn + 1)][1:]
    return min(zip((median(t) for t in zip(*times, strict=True)), loops, strict=True), key=lambda pair: pair[0])[1]


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
    overrides: list[str], *, task: type[pl.LightningModule] | None = None, watcher: Turns | None = None
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
    bare: Bare,
    overrides: list[str],
    *,
    task: type[pl.LightningModule],
    turn: int,
    turns: int,
    amount: int,
    unit: str,
    further: tuple[Bare, ...] = (),
) -> dict[str, Any]:
    """One fit of ours with turns of the bare loop in it.

    Args:
        bare: the other side.
        further: loops that take their turns too; `excess_ms` is what a step of ours takes more than one of each loop.
        overrides: settings of ours.
        turn: steps of one side before the other's turn; `turns` of each.
        amount: what a step takes, in `unit`.

    Raises:
        SystemExit: the two models have not as many parameters.
    """
    watcher = Turns((bare, *further), turn)
    limits = [f"trainer.max_steps={turn * turns + 1}", "trainer.max_epochs=100", "trainer.test=none"]
    folder, record = fit([*overrides, *limits], task=task, watcher=watcher)
    params = sum(p.numel() for p in bare.net.parameters())
    if record.params["total"] != params:
        raise SystemExit(f"ours has {record.params['total']:,} parameters, the other {params:,}")
    both = zip(watcher.ours_s, watcher.bares_s, strict=False)  # the last turn of ours has no bare one after it
    sides = [(ours[1:], *(bare[1:] for bare in bares)) for ours, bares in both]
    ours_s, *bares_s = (median(s for side in sides for s in side[i]) for i in range(2 + len(further)))
    bare_s = bares_s[0]
    by_turn = sorted(median(b) / median(a) for a, b, *_ in sides)
    excess = [sorted(1e3 * (median(s[0]) - median(s[i])) for s in sides) for i in range(1, 2 + len(further))]
    numerics = read_config(folder)["numerics"]
    return {
        "settled": f"{numerics['precision']}, {numerics['kernel']}",
        "params": params,
        "bare_adamw": bare.adamw,
        "ours_ms": 1e3 * ours_s,
        "bare_ms": 1e3 * bare_s,
        f"ours_{unit}_per_s": amount / ours_s,
        f"bare_{unit}_per_s": amount / bare_s,
        "ratio": bare_s / ours_s,
        "ratio_quartiles": [by_turn[len(by_turn) // 4], by_turn[-1 - len(by_turn) // 4]],
        "bares_ms": [1e3 * s for s in bares_s],
        "excess_ms": [quartiles(e) for e in excess],
        "steps": sum(len(ours) for ours, *_ in sides),
    }
