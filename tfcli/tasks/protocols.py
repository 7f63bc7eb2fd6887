"""Protocols of tasks and data modules: the engine knows nothing else of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tfcli.data.common.workers import Ranks
from tfcli.metrics.info import Declared
from tfcli.metrics.left_out import LeftOut


@dataclass(frozen=True)
class Horizon:
    """The length of a run and of an epoch in optimizer steps, for the schedule."""

    total: int
    epoch: int


class Task(Protocol):
    """A LightningModule with one objective.

    Attributes:
        net: the model.
        schedule: factor on the learning rate, called as `schedule(step, total=..., epoch=...)`.
        horizon: length of the run; the engine sets it before fitting.
        evaluated: the splits of the validation loaders, in their order; the engine sets them.
        train_figures: title and direction of the figures under train/.
        main_figure: the figure that summarises a run.
        monitored: the validation figure that chooses the best checkpoint; None: the main figure.
        next_command: a command to try with the trained model.
        test_results: figures of the last test with 95 % intervals, over all ranks.
        confusion: confusion matrix of the last test (rows are true classes), where the task has classes.
        outcomes: (N, 3) index, label and predicted class of each test sample, where the task has classes.
    """

    net: nn.Module
    schedule: Callable[..., float]
    horizon: Horizon | None
    evaluated: tuple[str, ...]
    test_results: dict[str, tuple[float, tuple[float, float]]]
    left_out: LeftOut
    confusion: Tensor | None
    outcomes: Tensor | None
    train_figures: ClassVar[Declared]
    main_figure: ClassVar[str]
    monitored: ClassVar[str | None]
    next_command: str

    def figures(self, split: str) -> Declared:
        """Return title and direction of each figure of a split, in the order of the tables."""
        ...

    def guesses(self, data: Any) -> dict[str, float]:
        """Return the test figures of guessing, by `method/figure`; called after a test."""
        ...

    def baselines(self, data: Any) -> dict[str, float]:
        """Return the test figures of simple models, by `method/figure`; called where the data set enables them.

        They depend on the data, the tokenizer and the settings of the task alone, neither on the seed nor on the net:
        the engine keeps them for later runs.
        """
        ...

    def setup_data(self, data: Any) -> None:
        """Set up the metrics from the data module; called before anything else."""
        ...

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor: ...

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> Any: ...


class Data(Protocol):
    """A LightningDataModule whose order and augmentation are functions of (seed, epoch, index).

    Attributes:
        classes: names of the classes, known after `prepare`.
        counts: number of samples of train, val and test.
        fingerprint: digest of the set's content and splits; `fingerprints` has one for each split.
        notes: messages for the user, one line each.
        bad_files: unusable files that are left out, with reasons; `on_skip` is called with those found while reading.
        ranks: rank of this process and number of processes; the engine sets it before `prepare`.
        unit: name of a sample: images, windows, sentences.
        counted: unit of a speed: images or tokens.
        tokenizer: tokenizer of the texts, as passed to `encode`.
        class_tokens: tokens (K, T, L) of each class's prompts, for zero-shot figures; the engine sets them.
        view: layout of the samples.
        rows: columns of each split.
        start_epoch, start_batch: where training begins; the engine sets them to resume.
    """

    classes: list[str]
    counts: dict[str, int]
    fingerprint: str
    fingerprints: dict[str, str]
    notes: list[str]
    bad_files: list[tuple[str, str]]
    on_skip: Callable[[list[tuple[str, str]]], object] | None
    batch_size: int
    watch_test: bool
    baseline: bool
    mean: tuple[float, ...]
    std: tuple[float, ...]
    start_epoch: int
    start_batch: int
    ranks: Ranks
    tokenizer: Any
    class_tokens: Tensor | None
    view: Any
    rows: dict[str, dict[str, Any]]

    @property
    def unit(self) -> str: ...

    @property
    def counted(self) -> str: ...

    @property
    def num_classes(self) -> int: ...

    def serve(self, view: Any, needs: Sequence[str]) -> None:
        """Set the view of the task and the columns that it needs; called before `prepare`."""
        ...

    def prepare(self) -> None: ...

    def encode(self, tokenizer: Any = None, *, longest: int | None = None) -> None:
        """Lay out the samples; `longest` is the model's limit in tokens."""
        ...

    def batches(self, world: int) -> int:
        """Return the number of training batches of an epoch on each of `world` ranks."""
        ...

    def texts(self, split: str) -> list[str]:
        """Return all texts of a split, captions included."""
        ...

    def labels(self, split: str) -> np.ndarray:
        """Return the labels (N,) of a split, in its own order; empty where it has none."""
        ...

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the images (N, Y, X, 3) uint8 of a split and their labels (N,), for baselines on small sets."""
        ...

    def files_dataloader(self, paths: Sequence[str | Path]) -> DataLoader:
        """Return batches of a user's files, in order, preprocessed as in evaluation; `prepare` is not needed."""
        ...

    def blank(self, size: int) -> dict[str, Tensor]:
        """Return a training batch of noise with the right shapes, for measuring time and memory."""
        ...
