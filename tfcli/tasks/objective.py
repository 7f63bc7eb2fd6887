"""Base of every objective: an optimizer and its schedule, sums over an epoch that survive a kill, test figures."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
import torch.distributed
from torch import Tensor, nn

from tfcli.metrics.info import LOSS, Declared
from tfcli.metrics.intervals import UNKNOWN, Figures
from tfcli.metrics.left_out import LeftOut
from tfcli.tasks.optim import clip_gradients
from tfcli.tasks.protocols import Horizon


class Objective(pl.LightningModule):
    """A LightningModule with one net. `horizon` must be set before fitting.

    Args:
        net: the model.
        optim: makes an optimizer, called as `optim(net)`.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.

    Attributes:
        net_protocol: what it asks of `net` (`tfcli.models.protocols`); read from the source before anything is built.
        train_figures: title and direction of what is logged under train/.
        main_figure: the figure that stands for a run where there is room for one.
        monitored: the validation figure that chooses the best checkpoint; None: the main figure.
        next_command: a command to try with the trained model.
        evaluated: the splits of the validation loaders, in their order.
        test_results: of the last test, each figure with its 95 % interval.
        confusion: of the last test, right classes against guessed ones, where there are classes.
        left_out: of the last test, what could not be measured.
        outcomes: of the last test, (N, 3) index, label and guess of each sample in the split's order, where there are
            classes.
    """

    net_protocol: ClassVar[type | None] = None
    train_figures: ClassVar[Declared] = {"loss": LOSS}
    main_figure: ClassVar[str] = "loss"
    monitored: ClassVar[str | None] = None
    next_command: ClassVar[str] = "tfcli predict latest FILE"

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
    ):
        super().__init__()
        self.net, self.optim, self.schedule = net, optim, schedule
        self.horizon: Horizon | None = None
        self.evaluated = ("val",)
        self.test_results: dict[str, tuple[float, tuple[float, float]]] = {}
        self.left_out = LeftOut()
        self.confusion: Tensor | None = None
        self.outcomes: Tensor | None = None
        self._sums: Tensor | None = None  # of this epoch, on this rank

    def figures(self, split: str) -> Declared:
        """Return title and direction of each figure that an evaluation of a split gives, in the order of tables."""
        return {}

    def guesses(self, data: Any) -> dict[str, float]:
        """Measure what guessing gives on the test samples, by `what/figure`: chance, the most frequent class."""
        return {}

    def baselines(self, data: Any) -> dict[str, float]:
        """Measure simple models, fitted on the same data, on the test samples, by `what/figure`."""
        return {}

    def setup_data(self, data: Any) -> None:
        """Take from the data what measuring needs: names of tags, right translations. Called before anything else.

        Keep columns, not the data themselves: a task is copied to be timed.
        """

    def configure_optimizers(self):
        optimizer = self.optim(self.net)
        horizon = self.horizon
        assert horizon is not None

        @lru_cache(1)  # all groups ask for the same step, and Hydra's partials are slow to answer
        def factor(step: int) -> float:
            return self.schedule(step, total=horizon.total, epoch=horizon.epoch)

        # A plain function: of other callables the scheduler would put the attributes into the checkpoint.
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        clip_gradients(self, gradient_clip_val)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        share = self._share()
        super().backward(loss if share == 1 else loss * share, *args, **kwargs)

    def _share(self) -> float:
        """Return what makes a step's gradient the mean over its batches.

        Lightning divides every loss by `trainer.accumulate`, but an epoch's last step may have fewer batches.
        """
        size = self.trainer.accumulate_grad_batches
        first = self.trainer.fit_loop.batch_idx // size * size
        return size / min(size, self.trainer.num_training_batches - first)

    def add(self, *values: Tensor | float) -> None:
        """Add to the sums of this epoch, for instance loss times samples, and samples."""
        with torch.no_grad():
            new = torch.stack([torch.as_tensor(v, device=self.device).detach().float() for v in values])
        self._sums = new if self._sums is None else self._sums + new

    def epoch_sums(self) -> Tensor | None:
        """The sums of the epoch over all ranks, which start anew; None where nothing was added."""
        sums, self._sums = self._sums, None
        if sums is not None and self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
        return sums

    def test_figures(
        self, what: str, with_intervals: Callable[[], Figures], compute: Callable[[], dict[str, float]]
    ) -> Figures:
        """The figures of a test; without their intervals where these cannot be computed, or none where nothing can.

        Args:
            what: names the figures, for those that are left out.
            with_intervals, compute: of a metric.
        """
        with self.left_out.guard(f"intervals of {what}"):
            return with_intervals()
        with self.left_out.guard(what):
            return {name: (value, UNKNOWN) for name, value in compute().items()}
        return {}

    def on_test_start(self) -> None:
        self.left_out = LeftOut()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Keep the sums of each rank by themselves, since floating-point sums depend on their order."""
        sums, world = self._sums, self.trainer.world_size
        if sums is not None:
            every = [torch.empty_like(sums) for _ in range(world)] if world > 1 else [sums]
            if world > 1:
                torch.distributed.all_gather(every, sums)
            sums = torch.stack(every)  # (ranks, sums)
        checkpoint["train_sums"] = sums

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        sums, rank = checkpoint.get("train_sums"), self.trainer.global_rank
        if sums is None:
            return
        rows = sums.view(-1, sums.shape[-1])  # older checkpoints hold one row, over all ranks
        if len(rows) == self.trainer.world_size:
            self._sums = rows[rank].to(self.device)
        elif rank == 0:
            self._sums = rows.sum(0).to(self.device)
