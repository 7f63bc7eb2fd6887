"""Base of metrics that keep every sample until the end, for figures that sums cannot give."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torchmetrics import Metric

from tfcli.metrics.intervals import Figures
from tfcli.shapes import Int


class Gathered(Metric):
    """Rows kept by the index of their sample, and figures of all of them together.

    Exact however the samples are dealt out: each rank brings its share of any size, rows are measured in order of
    index, and an index that comes twice counts once. `update` calls `keep`; `figures` measures.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.kept: dict[int, Any] = {}

    def reset(self) -> None:
        """Forget everything."""
        super().reset()
        self.kept = {}

    def keep(self, index: Int[Tensor, "B"], rows: Iterable[Any]) -> None:
        """Remember a row of each sample: anything that can be pickled."""
        self.kept.update(zip(index.tolist(), rows, strict=True))

    def compute(self) -> dict[str, float]:
        """The figures by name."""
        return {name: value for name, (value, _) in self.figures(self.rows(), intervals=False).items()}

    def with_intervals(self) -> Figures:
        """Each figure with its 95 % interval.

        Raises:
            ValueError: nothing was seen.
        """
        return self.figures(self.rows(), intervals=True)

    def figures(self, rows: list[Any], *, intervals: bool) -> Figures:
        """Measure all rows; where `intervals` are not asked for and cost time, (NaN, NaN) may stand in their place."""
        raise NotImplementedError

    def rows(self) -> list[Any]:
        """The rows of all ranks in order of index."""
        parts: list[Any] = [self.kept]
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            parts = [None] * dist.get_world_size()
            dist.all_gather_object(parts, self.kept)
        whole = {index: row for part in parts for index, row in part.items()}
        if not whole:
            raise ValueError("there is nothing to measure: no sample was seen.")
        return [whole[index] for index in sorted(whole)]
