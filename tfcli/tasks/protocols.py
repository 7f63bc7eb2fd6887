"""Protocols of tasks and data modules: all that the engine knows of them."""

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
    """Length of a run in optimizer steps, for its schedule."""

    total: int
    epoch: int


class Task(Protocol):
    """A LightningModule with one objective.

    Attributes:
        net: the model.
        schedule: the learning rate's factor, called as `schedule(step, total=..., epoch=...)`.
        horizon: set by the engine before fitting.
        evaluated: the splits of the validation loaders, in their order; set by the engine.
        train_figures: title and direction of what is logged under train/.
        main_figure: the figure that stands for a run where there is room for one.
        monitored: the validation figure that chooses the best checkpoint; None: the main figure.
        next_command: a command to try with the trained model.
        test_results: after a test, each figure with its 95 % interval, over all ranks.
        confusion: after a test, right classes against guessed ones, where the task has classes.
        outcomes: after a test, (N, 3) index, label and guess of each sample, where the task has classes.
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
    next_command: ClassVar[str]

    def figures(self, split: str) -> Declared:
        """Title and direction of each figure that an evaluation of a split gives, in the order of tables."""
        ...

    def guesses(self, data: Any) -> dict[str, float]:
        """Return the figures of guessing on the test samples, by `what/figure`; called after a test."""
        ...

    def baselines(self, data: Any) -> dict[str, float]:
        """Return the figures of simple models on the test samples, by `what/figure`, where the data set wants them."""
        ...

    def setup_data(self, data: Any) -> None:
        """Take from the data what measuring needs; called before anything else."""
        ...

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor: ...

    def predict_step(self, batch: dict[str, Tensor], batch_idx: int) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: dict[str, Any], strict: bool = True) -> Any: ...


class Data(Protocol):
    """A LightningDataModule whose order and augmentation are functions of (seed, epoch, index).

    Attributes:
        classes: names of the classes, known after `prepare`.
        counts: samples of train, val and test.
        fingerprint: digest of what the set holds and how it is split; `fingerprints` of each split alone.
        notes: what the user should be told, a line each.
        bad_files: unusable files that are left out, and why; `on_skip` is called with those met while reading.
        ranks: this process and how many read the set; the engine says it before `prepare`.
        unit: what a sample is called: images, windows, sentences.
        counted: what a speed is of: images or tokens.
        tokenizer: of the texts, as `encode` was given it.
        class_tokens: tokens (K, T, L) of texts that say each class, for zero-shot figures; the engine sets them.
        view: lays out the samples.
        rows: of each split, the columns that are served.
        start_epoch, start_batch: where training begins; set by the engine to resume.
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
        """Say what is served, before `prepare`: the view of a task and the columns that it needs."""
        ...

    def prepare(self) -> None: ...

    def encode(self, tokenizer: Any = None, *, longest: int | None = None) -> None:
        """Lay out the samples; `longest` is how many tokens the model takes."""
        ...

    def batches(self, world: int) -> int:
        """Training batches of an epoch, on each of so many ranks."""
        ...

    def texts(self, split: str) -> list[str]:
        """All texts of a split, captions included."""
        ...

    def labels(self, split: str) -> np.ndarray:
        """The labels (N,) of a split, in its own order; empty where it has none."""
        ...

    def arrays(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images (N, Y, X, 3) uint8 of a split and their labels (N,), for baselines on small sets."""
        ...

    def files_dataloader(self, paths: Sequence[str | Path]) -> DataLoader:
        """Batches of a user's files, in order, as evaluation sees them; `index` counts them. Needs no `prepare`."""
        ...

    def blank(self, size: int) -> dict[str, Tensor]:
        """A training batch of noise in the right shapes, as a task gets it: for measuring."""
        ...
