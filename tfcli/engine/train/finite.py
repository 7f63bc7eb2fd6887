"""Stop a run at a number that is not finite: in a loss, in the weights, or in an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed
from pytorch_lightning import Callback

from tfcli.errors import PolicyStop

ADVICE = "Try a smaller `optim.lr`, a longer warm-up, or `trainer.precision=32`."


class Finite(Callback):
    """Stops before a loss that is not finite reaches the weights, and before such weights are validated or saved.

    On a CPU every loss is checked; on a GPU, where a check makes the device wait, only every `every_steps` batches.

    Args:
        every_steps: see above.
        kept: returns a sentence that names the last good checkpoint.
    """

    def __init__(self, every_steps: int, *, kept: Callable[[pl.Trainer], str]):
        self.every_steps, self.kept = every_steps, kept
        self.unseen: torch.Tensor | None = None

    def on_before_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: torch.Tensor) -> None:
        if loss.device.type != "cpu":
            bad = ~loss.detach().isfinite()
            self.unseen = bad if self.unseen is None else self.unseen | bad
            if trainer.fit_loop.batch_idx % self.every_steps or not bool(self.unseen):
                return
        elif isfinite(loss.item()):
            return
        self._stop(trainer, f"the loss is {float(loss.detach())}", trainer.global_step + 1)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.check_weights(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        for name in not_finite(found) if not trainer.sanity_checking else ():
            if not name.startswith("train/"):
                self._stop(trainer, f"`{name}` is {found[name]}", trainer.global_step)

    def check_weights(self, trainer: pl.Trainer) -> None:
        """Check every parameter and buffer that a checkpoint would hold; a buffer may hold infinities, as masks do.

        Raises:
            PolicyStop: one is not finite, on any rank.
        """
        module = trainer.lightning_module
        bad = [name for name, weight in module.named_parameters() if not bool(weight.isfinite().all())]
        bad += [name for name, buffer in module.named_buffers() if bool(buffer.isnan().any())]
        if on_any_rank(trainer, int(bool(bad))):
            which = f"`{bad[0]}`" if bad else "a tensor of another rank"
            more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
            self._stop(trainer, f"the weights are no longer finite ({which}{more})", trainer.global_step)

    def _stop(self, trainer: pl.Trainer, what: str, step: int) -> None:
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        raise PolicyStop(
            f"{what} at step {step} (epoch {trainer.current_epoch + 1}, learning rate {rate:.3g}, "
            f"precision {trainer.precision}). {self.kept(trainer)} {ADVICE}"
        )


def not_finite(figures: dict[str, float]) -> list[str]:
    """Return the losses among `figures` that are not finite."""
    return [name for name, value in figures.items() if name.endswith("loss") and not isfinite(value)]


def check_test_results(figures: dict[str, float], checkpoint: Path | None) -> None:
    """Refuse a test loss that is not finite, after all figures are written.

    Args:
        figures: of the test.
        checkpoint: the tested checkpoint; one that no validation has found good is set aside.

    Raises:
        PolicyStop: names the checkpoint that is left to resume from.
    """
    for name in not_finite(figures):
        message = f"`{name}` is {figures[name]}."
        if checkpoint is not None:
            message = f"`{name}` of `{checkpoint}` is {figures[name]}."
            if checkpoint.name != "best.ckpt":
                message += f" It is set aside as `{set_aside(checkpoint).name}`."
            message += f" {last_good(checkpoint.parent)}"
        raise PolicyStop(f"{message} {ADVICE}")


def set_aside(checkpoint: Path) -> Path:
    """Rename a checkpoint of which no finite loss is known, so that no command takes it. Returns its new path."""
    return checkpoint.replace(checkpoint.with_name("suspect.ckpt"))


def last_good(folder: Path) -> str:
    """Return a sentence that names the last good checkpoint of a folder."""
    found = [folder / name for name in ("last.ckpt", "best.ckpt") if (folder / name).exists()]
    return f"The last good checkpoint is `{found[0]}`." if found else "There is no good checkpoint yet."


def on_any_rank(trainer: pl.Trainer, wish: int, *, group: Any = None) -> int:
    """Return the largest `wish` of all ranks; all must ask.

    Args:
        group: a process group on the CPU; None: that of the training.
    """
    if trainer.world_size > 1:
        flag = torch.tensor(wish, device=trainer.strategy.root_device if group is None else "cpu")
        torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MAX, group=group)
        wish = int(flag)
    return wish
