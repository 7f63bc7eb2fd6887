"""Base classes of objectives: optimizer, schedule, resumable sums over an epoch, test figures, metrics of a split."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, lru_cache, partial
from inspect import signature
from typing import Any, ClassVar

import pytorch_lightning as pl
import torch
import torch.distributed
from torch import Tensor, nn

from tfcli.metrics.info import LOSS, Declared
from tfcli.metrics.intervals import UNKNOWN, Figures
from tfcli.metrics.left_out import LeftOut
from tfcli.shapes import Float, Int
from tfcli.tasks.gather import all_rows
from tfcli.tasks.optim import clip_gradients
from tfcli.tasks.protocols import Horizon

ADDED_AT_ONCE = 16
"""Training batches whose figures are added to the epoch's at once, in a tenth of the time."""


class Objective(pl.LightningModule):
    """A LightningModule with one net. `horizon` must be set before fitting.

    Args:
        net: the model.
        optim: factory of the optimizer, called as `optim(net)`.
        schedule: factor on the learning rate, called as `schedule(step, total=..., epoch=...)`.

    Attributes:
        net_protocol: protocol of `net` (`tfcli.models.protocols`), which is checked before anything is built.
        train_figures: title and direction of the figures under train/.
        main_figure: the figure that summarises a run.
        monitored: the validation figure that chooses the best checkpoint; None: the main figure.
        next_command: a command to try with the trained model.
        evaluated: the splits of the validation loaders, in their order.
        test_results: figures of the last test, with 95 % intervals.
        confusion: confusion matrix of the last test (rows are true classes), where there are classes.
        left_out: figures of the last test that could not be computed.
        outcomes: (N, 3) index, label and predicted class of each sample of the last test, where there are classes.
    """

    net_protocol: ClassVar[type | None] = None
    train_figures: ClassVar[Declared] = {"loss": LOSS}
    main_figure: ClassVar[str] = "loss"
    monitored: ClassVar[str | None] = None
    next_command: str = "tfcli predict latest FILE"

    def __init__(
        self,
        net: nn.Module,
        *,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., float],
    ):
        super().__init__()
        if isinstance(schedule, partial):  # Hydra examines each call of its own partials, which takes 0.1 ms
            schedule = partial(schedule.func, *schedule.args, **schedule.keywords)
        self.net, self.optim, self.schedule = net, optim, schedule
        self.horizon: Horizon | None = None
        self.evaluated = ("val",)
        self.test_results: dict[str, tuple[float, tuple[float, float]]] = {}
        self.left_out = LeftOut()
        self.confusion: Tensor | None = None
        self.outcomes: Tensor | None = None
        self._sums: Tensor | None = None  # of this epoch, on this rank
        self._waiting: list[list[Tensor | float]] = []  # values of the last batches, which are not yet in the sums

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "training_step" in vars(cls):  # Lightning asks for its arguments at every step, which Python derives anew
            cls.training_step.__signature__ = signature(cls.training_step)  # type: ignore[attr-defined]

    def figures(self, split: str) -> Declared:
        """Return title and direction of each figure of a split, in the order of the tables."""
        return {}

    def guesses(self, data: Any) -> dict[str, float]:
        """Return the test figures of guessing (chance, the most frequent class), by `method/figure`."""
        return {}

    def baselines(self, data: Any) -> dict[str, float]:
        """Return the test figures of simple models, fitted on the same data, by `method/figure`."""
        return {}

    def setup_data(self, data: Any) -> None:
        """Set up the metrics from the data module (class names, references). It is called before anything else.

        Keep columns, not the data themselves: a task is copied to be timed.
        """

    def configure_optimizers(self):
        optimizer = self.optim(self.net)
        horizon = self.horizon
        assert horizon is not None

        @lru_cache(1)  # all parameter groups need the same step
        def factor(step: int) -> float:
            return self.schedule(step, total=horizon.total, epoch=horizon.epoch)

        # A plain function, because the scheduler saves the attributes of other callables in the checkpoint.
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rate, "interval": "step"}}

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning names the current hook some fifty times a step; torch's own would look for parameters each time.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @cached_property
    def _parameters_to_clip(self) -> list[nn.Parameter]:
        return list(self.parameters())  # once: to list them takes longer than to clip

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        clip_gradients(self, self._parameters_to_clip, gradient_clip_val)

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        share = self._share()
        super().backward(loss if share == 1 else loss * share, *args, **kwargs)

    def _share(self) -> float:
        """Return the factor on a loss that makes a step's gradient the mean over its batches.

        Lightning divides every loss by `trainer.accumulate`, but the last step of an epoch may have fewer batches.
        """
        size = self.trainer.accumulate_grad_batches
        if size == 1:
            return 1.0
        first = self.trainer.fit_loop.batch_idx // size * size
        return size / min(size, self.trainer.num_training_batches - first)

    def add(self, *values: Tensor | float) -> None:
        """Add to the sums of this epoch, for instance the loss times the number of samples, and this number."""
        self._waiting.append([v.detach() if isinstance(v, Tensor) else v for v in values])
        if len(self._waiting) == ADDED_AT_ONCE:
            self._add_waiting()

    def _add_waiting(self) -> None:
        """Add the waiting values to the sums, batch by batch, since floating-point sums depend on their order."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        made = partial(torch.full, (), dtype=torch.float, device=self.device)
        flat = [v.float() if isinstance(v, Tensor) else made(fill_value=v) for values in waiting for v in values]
        for new in torch.stack(flat).view(len(waiting), -1):
            self._sums = new if self._sums is None else self._sums + new

    def epoch_sums(self) -> Tensor | None:
        """Return the sums of the epoch over all ranks, and reset them; None where nothing was added."""
        self._add_waiting()
        sums, self._sums = self._sums, None
        if sums is not None and self.trainer.world_size > 1:
            torch.distributed.all_reduce(sums)
        return sums

    def test_figures(
        self, names: str, with_intervals: Callable[[], Figures], compute: Callable[[], dict[str, float]]
    ) -> Figures:
        """Return the figures of a test: without intervals where these fail, and none where all fail.

        Args:
            names: names of the figures, for the report on figures that are left out.
            with_intervals, compute: methods of a metric.
        """
        with self.left_out.guard(f"intervals of {names}"):
            return with_intervals()
        with self.left_out.guard(names):
            return {name: (value, UNKNOWN) for name, value in compute().items()}
        return {}

    def on_test_start(self) -> None:
        self.left_out = LeftOut()

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Save the sums of each rank separately, since floating-point sums depend on their order."""
        self._add_waiting()
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


class MeasuredObjective(Objective):
    """An objective whose `measured` has the metrics `val_` and `test_`, which its `measure` updates.

    A metric has `declared`, `compute()` and `with_intervals()`, like `ClassificationMetrics`. Logs `train_figures`, and
    under val/ and test/ the figures of the metrics.
    """

    measured: nn.ModuleDict

    def figures(self, split: str) -> Declared:
        return self.metric(split).declared

    def metric(self, split: str) -> Any:
        """Return the metric of a split."""
        return self.measured[f"{split}_"]

    def measure(self, split: str, batch: dict[str, Tensor]) -> None:
        """Add a batch to a split's figures."""
        raise NotImplementedError

    # ---- training

    def average(self, loss: Tensor, target: Tensor) -> None:
        """Add a batch to the epoch's train/loss, weighted by its number of targets."""
        count = (target >= 0).sum() if target.ndim > 1 else target.new_tensor(len(target))
        self.add(loss.detach() * count, count)

    def on_train_epoch_end(self) -> None:
        sums = self.epoch_sums()  # of each of `train_figures`, then of what they are divided by
        if sums is not None:
            figures = {f"train/{name}": sums[i] / sums[-1] for i, name in enumerate(self.train_figures)}
            # Without the loggers: the engine writes the epoch's figures together with its checkpoint.
            self.log_dict(figures, logger=False)

    # ---- evaluation

    def on_validation_epoch_start(self) -> None:
        for split in self.evaluated:
            self.metric(split).reset()

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        if "spare" not in batch:
            self.measure(self.evaluated[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        for split in self.evaluated:  # may include the test set, for its curve; it chooses nothing
            self.log_dict({f"{split}/{name}": value for name, value in self.metric(split).compute().items()})
            self.metric(split).reset()

    def on_test_epoch_start(self) -> None:
        self.metric("test").reset()

    def test_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        if "spare" not in batch:
            self.measure("test", batch)

    def on_test_epoch_end(self) -> None:
        metric = self.metric("test")
        metric.sync(should_sync=self.trainer.world_size > 1)
        figures = self.test_figures(", ".join(metric.declared), metric.with_intervals, metric.compute)
        self.test_results = {f"test/{name}": figure for name, figure in figures.items()}


class ClassChoice(MeasuredObjective):
    """An objective whose `scores(batch)` returns logits (B, K), and whose `measure` passes them to `keep`."""

    def __init__(self, net: nn.Module, **objective: Any):
        super().__init__(net, **objective)
        self._predictions: list[Tensor] = []  # of this rank's test samples

    def scores(self, batch: dict[str, Tensor]) -> Float[Tensor, "B K"]:
        """Return the logits of a batch."""
        raise NotImplementedError

    def keep(self, split: str, index: Int[Tensor, "B"], label: Int[Tensor, "B"], logits: Float[Tensor, "B K"]) -> None:
        """Keep the predictions for test samples."""
        if split == "test":
            self._predictions.append(torch.stack([index, label, logits.argmax(1)], 1))

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._predictions = []

    def on_test_epoch_end(self) -> None:
        super().on_test_epoch_end()
        self.confusion = self.metric("test").confusion.cpu()
        self.outcomes = all_rows(self._predictions)

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Any]:
        """Return the probabilities (B, K) of the classes, and the index of each row."""
        return {"probability": self.scores(batch).float().softmax(1), "index": batch["index"]}
