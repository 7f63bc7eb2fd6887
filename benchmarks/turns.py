"""What benchmarks of training share: `tfcli train` in this process, in turns with a bare PyTorch loop.

After every few of our steps the fit stops for as many bare ones, so both meet the same disturbances. Our step lasts
from the start of one batch to the start of the next, and so holds the reading of data, logging and all else between
them. The first step of each turn is left out; medians of the others are reported.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

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
        options: of AdamW.
    """

    def __init__(self, net: torch.nn.Module, loss: Callable[[], torch.Tensor], *, adamw: str, **options: Any):
        self.net, self.loss, self.adamw = net.train(), loss, adamw
        self.optimizer = torch.optim.AdamW(net.parameters(), **options, fused=adamw == "fused" or None)

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


def fit(
    overrides: list[str], *, task: type[pl.LightningModule] | None = None, watcher: Turns | None = None
) -> tuple[Path, Record]:
    """`tfcli train` in this process, its lines kept off the terminal. Returns the run's folder and record.

    Args:
        overrides: settings.
        task: its class, to which `watcher` is added.
    """
    job = compose("train", overrides)
    if task and watcher:
        globals()["Watched"] = type("Watched", (task,), {"configure_callbacks": lambda self: [watcher]})
        job.config.task._target_ = f"{__name__}.Watched"
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stderr(nowhere):
        return train(job.config, job.choices, job.overrides)


def compare(
    bare: Bare, overrides: list[str], *, task: type[pl.LightningModule], turn: int, turns: int, amount: int, unit: str
) -> dict[str, Any]:
    """One fit of ours with turns of the bare loop in it.

    Args:
        bare: the other side.
        overrides: settings of ours.
        turn: steps of one side before the other's turn; `turns` of each.
        amount: what a step takes, in `unit`.

    Raises:
        SystemExit: the two models have not as many parameters.
    """
    watcher = Turns(bare, turn)
    limits = [f"trainer.max_steps={turn * turns + 1}", "trainer.max_epochs=100", "trainer.test=none"]
    folder, record = fit([*overrides, *limits], task=task, watcher=watcher)
    params = sum(p.numel() for p in bare.net.parameters())
    if record.params["total"] != params:
        raise SystemExit(f"ours has {record.params['total']:,} parameters, the other {params:,}")
    pairs = list(zip((t[1:] for t in watcher.ours_s), (t[1:] for t in watcher.bare_s), strict=False))
    ours_s, bare_s = (median(s for pair in pairs for s in pair[side]) for side in (0, 1))
    by_turn = sorted(median(b) / median(a) for a, b in pairs)
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
        "steps": sum(len(a) for a, _ in pairs),
    }
