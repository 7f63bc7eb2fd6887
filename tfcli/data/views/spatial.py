"""Images and clips with masks, boxes, points or a right view; one random draw transforms all parts of a sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tfcli.data.common.rows import Columns
from tfcli.data.images.decode import BadImage
from tfcli.data.images.imageset import Images, reader
from tfcli.data.images.spatial import KINDS, PLACES, Sample, sanitized
from tfcli.errors import ConfigError


class SegmentedImages:
    """Images with the class of each pixel: `{"image" (B, 3, Y, X), "mask" (B, Y, X) uint8, "index" (B)}`; 255: void."""

    unit, reads_text = "images", False

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Spatial:
        return Spatial(rows, ("image", "mask"))


class BoxedImages:
    """Images with boxes: `{"image" (B, 3, Y, X), "boxes" (B, K, 4), "boxes_valid" (B, K), "index" (B)}`.

    Boxes are left, top, right, bottom in pixels of the returned image; padding and boxes outside of the crop are not
    valid. With labels there is `label`: (B) of images, or (B, K) of boxes, padded with -1.
    """

    unit, reads_text = "images", False

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Spatial:
        return Spatial(rows, ("image", "boxes"), beside=("label",))


class StereoPairs:
    """Rectified pairs: `{"image", "right" (B, 3, Y, X), "disparity" (B, Y, X), "index" (B)}`, `occluded` where given.

    Disparities are in pixels of the returned image; -1 where they are unknown. Both views have the same crop. Mirror
    images are refused: they would exchange left and right, and no set has disparities of the right view. So are
    rotations and shears, after which the rows are no longer epipolar lines.
    """

    unit, reads_text = "pairs", False

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Spatial:
        """Lay out the pairs of a split.

        Raises:
            ConfigError: the augmentation would destroy the geometry of a pair.
        """
        augment = rows["image"].augmented.augment
        if augment.flip or augment.randaugment or augment.autoaugment != "none":
            raise ConfigError(
                "a stereo pair cannot be mirrored or rotated, since its disparities would be wrong: set "
                "data.augment.flip=0, data.augment.randaugment=0 and data.augment.autoaugment=none."
            )
        return Spatial(rows, ("image", "right", "disparity", "occluded"))


class Clips:
    """Clips: `{"clip" (B, T, 3, Y, X), "index" (B)}`, all frames of one geometry; `label` (B) where given."""

    unit, reads_text = "clips", False

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Spatial:
        return Spatial(rows, ("clip",), beside=("label",))


class Spatial:
    """Samples of several spatial columns of one split.

    Args:
        rows: the table.
        columns: the columns that are transformed together, the picture first; those that the table lacks are left out.
        beside: columns of numbers that are returned unchanged, where the table has them.

    Raises:
        ConfigError: MixUp or CutMix is on.
    """

    counted, cut = "images", 0

    def __init__(self, rows: Columns, columns: Sequence[str], *, beside: Sequence[str] = ()):
        self.lead = columns[0]
        self.image: Images = rows[self.lead]
        self.image.check_unmixed("masks, boxes or a second view")
        self.others = {name: rows[name] for name in columns[1:] if name in rows}
        self.beside = {name: rows[name] for name in beside if name in rows}
        self.lengths, self.notes = np.ones(len(self.image), dtype=np.int64), list[str]()

    @property
    def in_memory(self) -> bool:
        return self.image.in_memory

    @property
    def bytes_each(self) -> int:
        """Return the bytes of a sample as it passes between processes."""
        return sum(part.nbytes for part in self.blank(1, seed=0).values())

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None) -> dict[str, Any]:
        samples, rows, bad = self.image.together(self.lead, rows, self.others, seed=seed, epoch=epoch, copies=copies)
        batch: dict[str, Any] = {}
        for name in samples[0]:
            batch |= _joined(name, samples)
        for name, column in self.beside.items():
            value = reader(column, rows)
            cells = [torch.as_tensor(value(position)) for position in range(len(rows))]
            batch[name] = (
                pad_sequence(cells, batch_first=True, padding_value=-1) if cells[0].ndim else torch.stack(cells)
            )
        batch["index"] = torch.from_numpy(rows)
        return batch | {"bad": bad} if bad else batch

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        """Return the first readable sample, repeated: only a sample says how many frames or boxes there are."""
        for row in range(len(self.lengths)):
            try:
                one = self.batch(np.array([row]), seed=seed, epoch=0)
            except BadImage:
                if self.image.skip and row + 1 < len(self.lengths):
                    continue
                raise
            break
        return {name: torch.cat([part] * size) for name, part in one.items()} | {"index": torch.arange(size)}


def _joined(name: str, samples: Sequence[Sample]) -> dict[str, Tensor]:
    """Return one column of some samples as tensors of a batch: pictures and fields, or places and which are valid."""
    kind = KINDS[name]
    if kind not in PLACES:
        return {name: torch.stack([sample[name].as_subclass(Tensor) for sample in samples]).contiguous()}
    found = [sanitized(sample[name]) for sample in samples]
    values, valid = (pad_sequence(list(part), batch_first=True) for part in zip(*found, strict=True))
    return {name: values, f"{name}_valid": valid}
