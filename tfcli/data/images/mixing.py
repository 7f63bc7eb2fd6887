"""MixUp and CutMix of the images of a batch."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torchvision.transforms import v2

from tfcli.data.images.transforms import Augment


class Mix:
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019) of neighbours in a batch, from torchvision.

    One random draw serves the whole batch and is a function of the batch's seed. The mixture therefore does not depend
    on the loader processes, but on the batch size.
    """

    def __init__(self, augment: Augment, *, num_classes: int):
        self.kinds = _kinds(augment.mixup, augment.cutmix, num_classes)

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __call__(self, image: Tensor, label: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return mixed images (B, 3, Y, X) float and their targets (B, K)."""
        before = torch.default_generator.get_state()  # `fork_rng` would look for GPUs at every batch
        try:
            torch.default_generator.manual_seed(seed)
            kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
            return kind(image, label)
        finally:
            torch.default_generator.set_state(before)


@lru_cache(8)  # a mixture is made anew for every batch, and torchvision's takes 0.2 ms to build
def _kinds(mixup: float, cutmix: float, num_classes: int) -> list[v2.Transform]:
    return [
        kind(alpha=float(alpha), num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        if alpha > 0
    ]
