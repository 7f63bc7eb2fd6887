"""Watch over a fit: repeatable randomness, what is logged, and a progress line."""

from __future__ import annotations

import sys
import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import Checkpoint

from tfcli.data.hashing import seed_for
from tfcli.engine.terminal import say


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

    def __init__(self, every_steps: int):
        self.every_steps = every_steps
        self.losses: list[torch.Tensor] = []  # of the batches of this step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx: int) -> None:
        self.losses.append(batch_loss(trainer, outputs))
        if (batch_idx + 1) % trainer.accumulate_grad_batches and batch_idx + 1 < trainer.num_training_batches:
            return
        losses, self.losses = self.losses, []
        step = trainer.global_step
        if step % self.every_steps or not trainer.is_global_zero:
            return
        loss, rate = float(torch.stack(losses).mean()), trainer.optimizers[0].param_groups[-1]["lr"]
        for logger in trainer.loggers:
            logger.log_metrics({"train/loss_step": loss, "lr": rate, "epoch": trainer.current_epoch}, step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        values = {n: float(v) for n, v in trainer.callback_metrics.items() if n.startswith("train/")}
        for logger in trainer.loggers if trainer.is_global_zero else []:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, trainer.global_step)


class Progress(Checkpoint):  # as a `Checkpoint` it is called last, when the task has logged its epoch
    """One bar with throughput and time left on a terminal; elsewhere a line an epoch, and one a minute in long epochs.

    Args:
        unit: what is counted: images or tokens.
        monitor: the figure that is shown beside the loss.
    """

    REFRESH_S, LINE_S = 0.25, 60.0

    def __init__(self, unit: str = "images", monitor: str = "val/accuracy"):
        self.unit, self.monitor = unit, monitor
        self.seen = 0  # images or tokens since the fit began, over all ranks
        self.busy_s = 0.0  # time in training batches and between them, validation left out
        self.live: Any = None
        self.task: Any = None
        self.note = ""

    @property
    def rate(self) -> float:
        return self.seen / self.busy_s if self.busy_s else 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = self.lined = self.drawn = time.monotonic()
        if trainer.is_global_zero and sys.stderr.isatty():
            self._open(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.mark = time.monotonic()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx: int) -> None:
        now = time.monotonic()
        self.seen += batch.get("amount", len(batch["index"])) * trainer.world_size
        self.busy_s += now - self.mark
        self.mark = now
        if not trainer.is_global_zero:
            return
        if self.live and now - self.drawn > self.REFRESH_S:
            self.drawn = now
            self._draw(trainer, batch_idx + 1, float(batch_loss(trainer, outputs)))
        elif not self.live and now - self.lined > self.LINE_S:
            self._line(trainer, batch_idx + 1, f"train/loss {float(batch_loss(trainer, outputs)):.3f}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        names = dict.fromkeys(("train/loss", "train/accuracy", "val/loss", self.monitor))
        shown = [name for name in names if name in trainer.callback_metrics]
        self.note = "   ".join(f"{name} {float(trainer.callback_metrics[name]):.3f}" for name in shown)
        if self.live:
            self._draw(trainer, trainer.num_training_batches, None)
        else:
            self._line(trainer, trainer.num_training_batches, self.note)

    def close(self) -> None:
        """Leave the last state on the screen. Safe to call twice."""
        if self.live:
            self.live.stop()
            self.live = None

    def _line(self, trainer: pl.Trainer, batch: float, note: str) -> None:
        self.lined = time.monotonic()
        say(f"{self._where(trainer, batch)}   {note}")

    def _where(self, trainer: pl.Trainer, batch: float) -> str:
        total = trainer.num_training_batches
        part = "" if batch >= total else f" {batch}/{total}"
        left = clock(self._left(trainer, batch))
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        return f"{epoch}{part} · {self.rate:,.0f} {self.unit}/s · {left} left"

    def _left(self, trainer: pl.Trainer, batch: float) -> float:
        done = trainer.current_epoch * trainer.num_training_batches + batch
        total = (trainer.max_epochs or 1) * trainer.num_training_batches
        ran = max(1, done - self.began)
        return (total - done) * (time.monotonic() - self.start) / ran

    def _open(self, trainer: pl.Trainer) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = [TextColumn("{task.fields[head]}"), BarColumn(24), TextColumn("{task.fields[tail]}")]
        self.live = Bar(*columns, console=Console(stderr=True), refresh_per_second=4)
        self.live.start()
        self.task = self.live.add_task("fit", total=trainer.num_training_batches, head="", tail="")

    def _draw(self, trainer: pl.Trainer, batch: float, loss: float | None) -> None:
        head = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        note = (
            self.note
            if loss is None
            else f"train/loss {loss:.3f}   "
            + "   ".join(p for p in self.note.split("   ") if not p.startswith("train/loss"))
        )
        tail = f"{self.rate:,.0f} {self.unit}/s · {clock(self._left(trainer, batch))} left   {note}"
        self.live.update(self.task, completed=batch, head=head, tail=tail)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.start, self.began = time.monotonic(), 0

    def on_train_batch_start(self, trainer, pl_module, batch: Any, batch_idx: int) -> None:
        if self.seen == 0:
            self.began = trainer.current_epoch * trainer.num_training_batches + batch_idx
            self.start = time.monotonic()


def clock(seconds: float) -> str:
    """Seconds as 0:42, 12:05 or 3:07:09."""
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    return f"{hours}:{m:02}:{s:02}" if hours else f"{m}:{s:02}"
