"""View of several random crops of each image, for objectives that compare crops of the same image."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tfcli.bounds import Count, Fraction, Natural, Share
from tfcli.data.common.counter_rng import hash64
from tfcli.data.common.rows import Columns
from tfcli.data.images.imageset import Images, addressed
from tfcli.data.images.transforms import TrainTransform
from tfcli.errors import ConfigError


class Crops:
    """Random crops of each image: `{"crops": [(B, 3, Y, X), ...], "index" (B)}`, the global ones first.

    Two global crops and no local ones are the two views of SimCLR (Chen et al. 2020) and MoCo (He et al. 2020); DINO
    adds local ones of a smaller size (Caron et al. 2021, section 3.1, after the multi-crop of SwAV). Every crop is
    drawn for itself, addressed by (seed, epoch, row, crop), and the rest of `data.augment` follows it; each file is
    decoded once. Evaluation draws, too: the same crops in every epoch.

    Args:
        global_crops: large crops, of the size of the set's images.
        local_crops: small ones.
        global_scale, local_scale: share of the image's area that a crop takes, (least, most).
        local_size: side of the small ones in pixels.
        blur, solarize: probabilities of the first global crop, the further ones, and the local ones, as DINO's
            (1, 0.1, 0.5) and (0, 0.2, 0); None: those of `data.augment`.

    Raises:
        ConfigError: a scale's least is more than its most.
    """

    unit, reads_text = "images", False

    def __init__(
        self,
        *,
        global_crops: Count = 2,
        local_crops: Natural = 0,
        global_scale: tuple[Share, Share] = (0.4, 1.0),
        local_scale: tuple[Share, Share] = (0.05, 0.4),
        local_size: Count = 96,
        blur: tuple[Fraction, Fraction, Fraction] | None = None,
        solarize: tuple[Fraction, Fraction, Fraction] | None = None,
    ):
        self.global_crops, self.local_crops = global_crops, local_crops
        self.global_scale, self.local_scale, self.local_size = global_scale, local_scale, local_size
        self.changes: list[dict[str, Any]] = [
            {name: value for name, value in (("blur", blur), ("solarize", solarize)) if value is not None}
            for blur, solarize in zip(blur or (None,) * 3, solarize or (None,) * 3, strict=True)
        ]
        for name, (least, most) in (("global_scale", global_scale), ("local_scale", local_scale)):
            if least > most:
                raise ConfigError(f"`task.view.{name}` must be [least, most], but is [{least}, {most}].")

    def encode(self, rows: Columns, tokenizer: Any, *, length: int | None, train: bool) -> Cropped:
        """Lay out the crops of a split.

        Raises:
            ConfigError: MixUp or CutMix is on.
        """
        rows["image"].check_unmixed("several crops of an image")
        augment: TrainTransform = rows["image"].augmented
        first, further, local = self.changes
        large = [augment.cropped(self.global_scale, **changes) for changes in (first, further)]
        small = [augment.cropped(self.local_scale, self.local_size, **local)] * self.local_crops
        return Cropped(rows["image"], [large[0], *[large[1]] * (self.global_crops - 1), *small])


class Cropped:
    """Crops of the images of one split.

    Args:
        image: the images.
        transforms: one for each crop.
    """

    counted, cut = "images", 0

    def __init__(self, image: Images, transforms: list[TrainTransform]):
        self.image, self.transforms = image, transforms
        self.lengths, self.notes = np.ones(len(image), dtype=np.int64), list[str]()

    @property
    def in_memory(self) -> bool:
        return self.image.in_memory

    @property
    def bytes_each(self) -> int:
        """Return the bytes of a sample as it passes between processes."""
        return sum(3 * transform.size**2 for transform in self.transforms)

    def batch(self, rows: np.ndarray, *, seed: int, epoch: int, copies: np.ndarray | None = None) -> dict[str, Any]:
        drawn = addressed(rows, seed=seed, epoch=epoch, copies=copies)
        seeds = [hash64(drawn, "crop", number) for number in range(len(self.transforms))]

        def crops(image: np.ndarray, position: int) -> list[torch.Tensor]:
            return [t.one(image, own[position]) for t, own in zip(self.transforms, seeds, strict=True)]

        found, kept, bad = self.image.each(rows, crops)
        batch = {"crops": [torch.stack(own) for own in zip(*found, strict=True)], "index": torch.from_numpy(rows[kept])}
        return batch | {"bad": bad} if bad else batch

    def blank(self, size: int, *, seed: int) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(seed)
        shapes = [(size, 3, transform.size, transform.size) for transform in self.transforms]
        crops = [torch.randint(0, 256, shape, generator=draw, dtype=torch.uint8) for shape in shapes]
        return {"crops": crops, "index": torch.arange(size)}
