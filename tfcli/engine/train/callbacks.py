"""Callbacks of a fit: repeatable randomness, logged metrics, and a progress line."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint

from tfcli.data.common.counter_rng import seed_for
from tfcli.engine.runs.ranks import SharedStatus, Stage
from tfcli.engine.runs.terminal import clear_status, is_terminal, say, status, width
from tfcli.metrics.info import Declared, FigureInfo
from tfcli.tasks.protocols import Task


def monitors(task: Task) -> tuple[str, ...]:
    """Return the metrics that checkpoints and early stopping may monitor, the task's default first."""
    names = task.figures("val") if "val" in task.evaluated else ()
    chosen = task.monitored or task.main_figure
    return (
        *(f"val/{name}" for name in sorted(names, key=lambda name: name != chosen)),
        *(f"train/{name}" for name in task.train_figures),
    )


class Heartbeat(Callback):
    """Reports to the other ranks how far this one is, so that one which hangs can be named."""

    def __init__(self, shared: SharedStatus):
        self.shared = shared

    def on_train_batch_start(self, trainer, pl_module, batch: Any, batch_idx: int) -> None:
        self.shared.beat(Stage.FORWARD_PASS)

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        self.shared.beat(Stage.BACKWARD_PASS)

    def on_before_optimizer_step(self, trainer, pl_module, optimizer: Any) -> None:
        self.shared.beat(Stage.OPTIMIZER_STEP)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx: int) -> None:
        self.shared.beat(Stage.LOADING_OF_THE_NEXT_BATCH)

    def on_validation_batch_start(
        self, trainer, pl_module, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.shared.beat(Stage.VALIDATION)

    def on_test_batch_start(self, trainer, pl_module, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.shared.beat(Stage.TEST)


class AddressedRandomness(Callback):
    """Seeds the model's own randomness (dropout, drop path) by seed, rank and batch before each batch.

    A resumed run therefore draws what the uninterrupted one would have drawn, without random states in checkpoints.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = seed_for(self.seed, "model", trainer.global_rank, trainer.current_epoch, batch_idx)
        if trainer.strategy.root_device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch's own would walk the stack for GPUs that nobody uses
        else:
            torch.manual_seed(seed)


def batch_loss(trainer: pl.Trainer, outputs: Any) -> torch.Tensor:
    """Return a training batch's own loss, which Lightning has divided by the batches of a step."""
    return outputs["loss"].detach() * trainer.accumulate_grad_batches


class TrainLog(Checkpoint):  # as a `Checkpoint` it is called last, when the task has logged its epoch
    """Writes train/loss_step and the learning rate every few steps, and the epoch's figures before it is saved."""

    figures: ClassVar[Declared] = {"loss_step": FigureInfo("loss of a step", lower_is_better=True)}

    def __init__(self, every_steps: int):
        self.every_steps = every_steps
        self.losses: list[torch.Tensor] = []  # of the batches of this step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx: int) -> None:
        self.losses.append(outputs["loss"])
        if (batch_idx + 1) % trainer.accumulate_grad_batches and batch_idx + 1 < trainer.num_training_batches:
            return
        losses, self.losses = self.losses, []
        step = trainer.global_step
        if step % self.every_steps or not trainer.is_global_zero:
            return
        loss = float(torch.stack(losses).detach().mean()) * trainer.accumulate_grad_batches
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        for logger in trainer.loggers:
            logger.log_metrics({"train/loss_step": loss, "lr": rate, "epoch": trainer.current_epoch}, step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("train/")}
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, trainer.global_step)


class Progress(Checkpoint):  # as a `Checkpoint` it is called last, when the task has logged its epoch
    """Prints a line for each epoch, and one a minute in long epochs; on a terminal also a bar that is redrawn below.

    Args:
        unit: what is counted: images or tokens.
        shown: the figures that are shown after an epoch.
    """

    REFRESH_S, LINE_S = 0.25, 60.0

    def __init__(self, unit: str = "images", shown: Sequence[str] = ("train/loss",)):
        self.unit, self.shown = unit, tuple(shown)
        self.seen = 0  # images or tokens since the fit began, over all ranks
        self.busy_s = 0.0  # time in training batches and between them, validation left out
        self.figures: list[str] = []  # of the epoch before
        self.validated = -1  # the last epoch that was

    @property
    def rate(self) -> float:
        return self.seen / self.busy_s if self.busy_s else 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.start, self.began = time.monotonic(), 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = self.lined = self.drawn = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.monotonic()

    def on_train_batch_start(self, trainer, pl_module, batch: Any, batch_idx: int) -> None:
        if self.seen == 0:
            self.began = trainer.current_epoch * trainer.num_training_batches + batch_idx
            self.start = time.monotonic()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx: int) -> None:
        now = time.monotonic()
        self.seen += batch.get("amount", len(batch["index"])) * trainer.world_size
        self.busy_s += now - self.mark
        self.mark = now
        if not trainer.is_global_zero:
            return
        if now - self.lined > self.LINE_S:
            self._line(trainer, batch_idx + 1, [f"train/loss {float(batch_loss(trainer, outputs)):.3f}"])
        if now - self.drawn > self.REFRESH_S and is_terminal(sys.stderr):
            self.drawn = now
            loss = f"train/loss {float(batch_loss(trainer, outputs)):.3f}"
            figures = [loss, *(figure for figure in self.figures if not figure.startswith("train/loss"))]
            where, done = self._where(trainer, batch_idx + 1), (batch_idx + 1) / trainer.num_training_batches
            status(bar(where, done, figures, width() - 1))

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.validated = trainer.current_epoch

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        found = trainer.callback_metrics
        validated = self.validated == trainer.current_epoch
        fresh = [name for name in self.shown if name in found and (validated or name.startswith("train/"))]
        self.figures = [f"{name} {float(found[name]):.3f}" for name in fresh]
        self._line(trainer, trainer.num_training_batches, self.figures)

    def close(self) -> None:
        """Take the bar off the screen. Safe to call twice."""
        clear_status()

    def _line(self, trainer: pl.Trainer, batch: float, figures: list[str]) -> None:
        self.lined = time.monotonic()
        epoch, rest = self._where(trainer, batch)
        total = trainer.num_training_batches
        part = "" if batch >= total else f" {batch}/{total}"
        say("   ".join([f"{epoch}{part} · {rest}", *figures]))

    def _where(self, trainer: pl.Trainer, batch: float) -> tuple[str, str]:
        """Return the epoch, and rate and time left, in words."""
        done, total = trainer.current_epoch * trainer.num_training_batches + batch, batches(trainer)
        left = max(0, total - done) * (time.monotonic() - self.start) / max(1, done - self.began)
        epoch = f"epoch {trainer.current_epoch + 1}/{-(-total // int(trainer.num_training_batches))}"
        return epoch, f"{self.rate:,.0f} {self.unit}/s · {clock(left)} left"


def batches(trainer: pl.Trainer) -> int:
    """Return the batches of the whole fit, on one rank: of `max_epochs`, or of `max_steps` where they end first."""
    each, size = int(trainer.num_training_batches), trainer.accumulate_grad_batches
    total = (trainer.max_epochs or 1) * each
    if trainer.max_steps < 0:
        return total
    epochs, steps = divmod(trainer.max_steps, -(-each // size))
    return min(total, epochs * each + steps * size)


BAR = 24
"""Columns of a bar that has room."""


def bar(where: tuple[str, str], done: float, figures: list[str], columns: int) -> str:
    """Return a progress line of at most so many columns: where there is no room, figures go first, then the bar.

    Args:
        where: what stands before and after the bar, and is always kept.
        done: from 0 to 1.
        figures: shown after the rest, the first ones first.
        columns: of the terminal.
    """
    epoch, rest = where
    room = columns - len(epoch) - len(rest) - 2
    size = min(BAR, room) if room >= 4 else 0
    full = round(size * done)
    line = f"{epoch} {'━' * full}{'─' * (size - full)} {rest}" if size else f"{epoch} · {rest}"
    for figure in figures:
        if len(line) + 3 + len(figure) > columns:
            break
        line += f"   {figure}"
    return line


def clock(seconds: float) -> str:
    """Format seconds as 0:42, 12:05 or 3:07:09."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
