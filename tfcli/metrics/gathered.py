"""Base class of metrics that store every sample until the end, for figures that cannot be computed from sums."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from tfcli.metrics.intervals import Figures
from tfcli.shapes import Int


class Gathered(Metric):
    """A metric that stores a row for each sample by its index, and computes figures from all rows.

    It is exact for any distribution of the samples over ranks and batches: rows are sorted by index, and an index that
    occurs twice counts once. A subclass calls `keep` in `update`, and computes in `figures`.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Any] = {}

    def reset(self) -> None:
        """Delete all rows."""
        super().reset()
        self.kept = {}

    def keep(self, index: Int[Tensor, "B"], rows: Iterable[Any]) -> None:
        """Store a row for each sample: any object that can be pickled."""
        self.kept.update(zip(index.tolist(), rows, strict=True))

    def compute(self) -> dict[str, float]:
        """Return the figures by name."""
        return {name: value for name, (value, _) in self.figures(self.rows(), intervals=False).items()}

    def with_intervals(self) -> Figures:
        """Return each figure with its 95 % interval.

        Raises:
            ValueError: there are no samples.
        """
        return self.figures(self.rows(), intervals=True)

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        """Compute the figures of all rows; without `intervals` the intervals may be (NaN, NaN) to save time."""
        raise NotImplementedError

    def rows(self) -> list[Any]:
        """Return the rows of all ranks in order of index."""
        parts: list[Any] = [self.kept]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            parts = [None] * dist.get_world_size()
            dist.all_gather_object(parts, self.kept)
        whole = {index: row for part in parts for index, row in part.items()}
        if not whole:
            raise ValueError("there is nothing to measure: no sample was seen.")
        return [whole[index] for index in sorted(whole)]
