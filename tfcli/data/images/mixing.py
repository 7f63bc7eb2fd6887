"""MixUp and CutMix of the images of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.random import fork_rng
from torchvision.transforms import v2

from tfcli.data.images.transforms import Augment


class Mix:
    """MixUp (Zhang et al. 2018) or CutMix (Yun et al. 2019) of neighbours in a batch, from torchvision.

    One random draw serves the whole batch and is a function of the batch's seed. The mixture therefore does not depend
    on the loader processes, but on the batch size.
    """

    def __init__(self, augment: Augment, *, num_classes: int):
        self.kinds = [
            kind(alpha=float(alpha), num_classes=num_classes)
            for kind, alpha in ((v2.MixUp, augment.mixup), (v2.CutMix, augment.cutmix))
            if alpha > 0
        ]

    def __bool__(self) -> bool:
        return bool(self.kinds)

    def __call__(self, image: Tensor, label: Tensor, *, seed: int) -> tuple[Tensor, Tensor]:
        """Return mixed images (B, 3, Y, X) float and their targets (B, K)."""
        with fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
            return kind(image, label)
