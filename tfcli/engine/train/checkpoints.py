"""Write checkpoints that cannot be lost.

They are written whole or not at all, checked when read, and can be resumed from in mid-epoch.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO

import tfcli
from tfcli.engine.loading.from_checkpoint import is_whole, read_checkpoint
from tfcli.engine.runs.signals import Stop
from tfcli.engine.train.finite import last_good, on_any_rank, set_aside
from tfcli.errors import Interrupted, PolicyStop, RunError, TfcliError
from tfcli.files import sync_folder
from tfcli.weights.pickles import load_pickle

LITTLE_S = 30.0  # training that a stop may cost where it cannot be saved


class AtomicIO(TorchCheckpointIO):
    """Writes beside the target, fsyncs, renames.

    Lightning's own writer goes through the system's temporary folder, from where a move to another file system is a
    copy that a kill tears.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint. Raises TfcliError when the disk is full; the file that was there stays as it was."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files of killed writers; the lock on the run ensures that nobody is writing now."""
    for stray in folder.glob(".*.tmp"):
        stray.unlink(missing_ok=True)


def newest_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """Return the checkpoint to resume from, and a line for each one that had to be passed over.

    The checkpoint is None where the run was stopped before its first one.

    Raises:
        RunError: there are checkpoints, but none is whole.
    """
    passed: list[str] = []
    found = [folder / name for name in ("last.ckpt", "best.ckpt") if (folder / name).exists()]
    for path in found:
        if is_whole(path):
            return path, passed
        passed.append(f"`{path}` is torn (cut short or changed on disk) and was passed over.")
    if not found:
        return None, passed
    raise RunError(
        f"there is no whole checkpoint in `{folder}`. {' '.join(passed)} `tfcli rerun {folder.parent}` starts it anew."
    )


class EpochWeights(Checkpoint):
    """Keeps the weights of the last epochs' ends, to be averaged when all is done (Vaswani et al. 2017, section 6.1).

    Args:
        folder: of the checkpoints.
        keep: how many.
    """

    def __init__(self, folder: Path, *, keep: int):
        self.folder, self.keep = folder, keep

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        with replacing(self.folder / f"epoch-{trainer.current_epoch + 1:05}.pt") as file:
            torch.save(pl_module.state_dict(), file)
        for old in epoch_weights(self.folder)[: -self.keep]:
            old.unlink(missing_ok=True)

    def average(self) -> Path | None:
        """Write `average.ckpt`: the last checkpoint with the mean of the kept weights. None where there are none.

        Raises:
            PolicyStop: the mean is not finite.
        """
        kept = [load_pickle(path, mapped=False) for path in epoch_weights(self.folder)]
        if not kept:
            return None
        checkpoint = read_checkpoint(self.folder / "last.ckpt")
        state = checkpoint["state_dict"]
        for name, value in state.items():
            if value.is_floating_point():
                state[name] = torch.stack([one[name].float() for one in kept]).mean(0).to(value.dtype)
                if value.isfinite().all() and not state[name].isfinite().all():
                    raise PolicyStop(f"the mean of the last epochs' `{name}` is not finite. {last_good(self.folder)}")
        with replacing(self.folder / "average.ckpt") as file:
            torch.save(checkpoint, file)
        return self.folder / "average.ckpt"


def epoch_weights(folder: Path) -> list[Path]:
    """Return the files of `EpochWeights`, the oldest first."""
    return sorted(folder.glob("epoch-*.pt"))


class Checkpoints(Checkpoint):
    """Saves `last.ckpt` at each epoch's end, between times, and when asked to stop; `best.ckpt` at the best validation.

    In mid-epoch it saves between two batches. A stop during validation is granted at once, and the run resumes from the
    save before; training is repeatable, so only time is lost.

    Args:
        folder: where the two files go.
        stop: the request to stop that a signal makes.
        monitor: the validation metric by which `best` is chosen.
        lower_is_better: whether a smaller value of it is better.
        every_minutes: minutes after which to save in mid-epoch.
        every_steps: optimizer steps after which to save in mid-epoch.
        facts: plain values stored with each checkpoint.

    Attributes:
        check: called with the trainer before each save; raises where there is nothing worth keeping.
    """

    def __init__(
        self,
        folder: Path,
        *,
        stop: Stop,
        monitor: str,
        lower_is_better: bool,
        every_minutes: float,
        every_steps: int | None,
        facts: dict[str, Any],
    ):
        self.folder, self.stop, self.monitor = folder, stop, monitor
        self.every_s, self.every_steps, self.facts = every_minutes * 60, every_steps, facts
        self.sign = -1 if lower_is_better else 1
        self.best: float | None = None
        self.improved = False
        self.saved_at = time.monotonic()
        self.check: Callable[[pl.Trainer], None] = lambda trainer: None
        self.saved_step = self.proven_step = -1  # of the last save; of the last weights that validation found finite
        self.position = (0, 0)  # epoch and batch at which training goes on
        self.group: Any = None

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "improved": self.improved, "proven_step": self.proven_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.improved = state_dict["best"], state_dict.get("improved", False)
        self.proven_step = state_dict.get("proven_step", -1)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.held += 1  # from now on a request is granted between two steps
        self.stop.doing = "in training"
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step or -1
        if self.improved and trainer.is_global_zero and is_whole(self.folder / "last.ckpt"):
            self._keep_as_best()  # the run was killed between the two
        self.improved = False

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx: int) -> None:
        left = trainer.num_training_batches - batch_idx - 1
        # A stop in a validation goes back to the last save: little may lie between the two.
        signum, late = self._agreed(trainer, every_s=min(self.every_s, LITTLE_S) if left == 1 else self.every_s)
        if not left and not signum:
            return  # the end of the epoch saves
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        ends = trainer.global_step == trainer.max_steps  # with more of them the epoch would go on
        due = stepped and (ends or (self.every_steps and trainer.global_step % self.every_steps == 0))
        if not left:
            self._stop(trainer, signum)  # Lightning has counted the batch but not the epoch: go back to the save before
        if (signum and stepped) or due or (late and stepped):
            self.position = (trainer.current_epoch, batch_idx + 1)
            self.save(trainer)
        if signum and stepped:
            self._stop(trainer, signum)

    def on_validation_batch_end(
        self, trainer, pl_module, outputs, batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # Ranks may have unequal numbers of these batches: each stops by itself, and rank 0 ends the others.
        if self.stop.signum and not trainer.sanity_checking:
            self._stop(trainer, self.stop.signum)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking:
            return
        self.proven_step = trainer.global_step
        if value is None:
            return
        score = float(value)
        if self.best is None or (score - self.best) * self.sign > 0:
            self.best, self.improved = score, True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.saved_step < trainer.global_step:  # else `trainer.max_steps` has cut the epoch short
            self.position = (trainer.current_epoch + 1, 0)
            self.save(trainer)
        if self.improved and trainer.is_global_zero:
            self._keep_as_best()
        self.improved = False
        signum, _ = self._agreed(trainer, every_s=self.every_s)
        if signum and trainer.current_epoch + 1 < (trainer.max_epochs or 0):
            self._stop(trainer, signum)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.stop.held -= 1

    def _keep_as_best(self) -> None:
        copy_atomic(self.folder / "last.ckpt", self.folder / "best.ckpt")

    def on_save_checkpoint(self, trainer, pl_module, checkpoint: dict[str, Any]) -> None:
        checkpoint["tfcli"] = {"version": tfcli.__version__, "position": list(self.position), **self.facts}

    def save(self, trainer: pl.Trainer) -> None:
        """Write `last.ckpt`."""
        self.check(trainer)
        trainer.save_checkpoint(self.folder / "last.ckpt")
        self.saved_at, self.saved_step = time.monotonic(), trainer.global_step

    def kept(self, trainer: pl.Trainer) -> str:
        """Return a sentence that names the last good checkpoint.

        `last.ckpt` is set aside where its very weights have just given a loss that is not finite.
        """
        last = self.folder / "last.ckpt"
        if self.proven_step < self.saved_step == trainer.global_step and trainer.is_global_zero and last.exists():
            set_aside(last)
        return last_good(self.folder)

    def _agreed(self, trainer: pl.Trainer, *, every_s: float) -> tuple[int, bool]:
        """Return the signal that any rank has received, and whether a save is overdue; all ranks answer alike."""
        if trainer.world_size > 1 and self.group is None:
            # On the CPU, where it costs 0.2 ms a step: a GPU's group would make every step wait for the device.
            self.group = torch.distributed.new_group(backend="gloo")
        overdue = time.monotonic() - self.saved_at > every_s
        wish = on_any_rank(trainer, 2 * self.stop.signum + overdue, group=self.group)
        if wish >= 2:  # else a signal that comes now is not forgotten
            self.stop.signum, self.stop.agreed = wish // 2, True
        return wish // 2, bool(wish % 2)

    def _stop(self, trainer: pl.Trainer, signum: int) -> None:
        self.stop.grant()
        word = "interrupted" if signum == signal.SIGINT else "terminated"
        raise Interrupted(
            signum,
            f"{word} in epoch {trainer.current_epoch + 1} after step {trainer.global_step}. "
            f"Continue with `tfcli resume {self.folder.parent}`.",
        )


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file so that the target is the old one or the whole new one; a source that is not there is left.

    Raises:
        TfcliError: the disk is full.
    """
    with suppress(FileNotFoundError), open(source, "rb") as old, replacing(target) as new:
        shutil.copyfileobj(old, new)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file beside `path` that takes its place when all of it is on the disk.

    Raises:
        TfcliError: it cannot be written; what was at `path` is still there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # torch reports a failed write as a RuntimeError
        written, free = temporary.stat().st_size if temporary.exists() else 0, shutil.disk_usage(path.parent).free
        temporary.unlink(missing_ok=True)
        raise TfcliError(
            f"`{path}` could not be written after {written / 2**20:.0f} MiB, "
            f"with {free / 2**20:.0f} MiB free: {(str(error).splitlines() or [''])[0]}. "
            f"The checkpoint before it is intact: make room, then `tfcli resume {path.parents[1]}`."
        ) from error
    sync_folder(path.parent)
