"""MixUp and CutMix of the images of a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
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
        with _random_state_kept():
            kind, drawn = self._draw(image, seed)
            # As the transform's `forward` does for a pair, without its search for images in a nested structure.
            drawn |= {"labels": label, "batch_size": len(label)}
            return kind.transform(image, drawn), kind.transform(label, drawn)

    def several(self, images: list[Tensor], labels: list[Tensor], seeds: list[int]) -> list[tuple[Tensor, Tensor]]:
        """Return what a call returns for each of several batches, by the same arithmetic."""
        kind = self.kinds[0]
        if len(images) == 1 or len(self.kinds) > 1 or not isinstance(kind, v2.MixUp) or not one_shape(images):
            return [self(i, label, seed=s) for i, label, s in zip(images, labels, seeds, strict=True)]
        with _random_state_kept():
            shares = [self._draw(i, seed)[1]["lam"] for i, seed in zip(images, seeds, strict=True)]
        image, target = torch.stack(images), one_hot(torch.stack(labels), kind.num_classes).float()
        share, rest = torch.tensor([shares, [1 - s for s in shares]], device=image.device)
        image, target = (
            part.roll(1, 1).mul_(rest.view(shape)).add_(part.mul(share.view(shape)))
            for part, shape in ((image, (-1, 1, 1, 1, 1)), (target, (-1, 1, 1)))
        )
        return list(zip(image, target, strict=True))

    def _draw(self, image: Tensor, seed: int) -> tuple[v2.Transform, dict[str, Any]]:
        """Return the kind of a batch's mixture and its parameters."""
        torch.default_generator.manual_seed(seed)
        kind = self.kinds[int(torch.randint(len(self.kinds), ()))]
        return kind, kind.make_params([image])


def one_shape(tensors: list[Tensor]) -> bool:
    """Return whether all tensors have the same shape."""
    return len({tensor.shape for tensor in tensors}) == 1


@contextmanager
def _random_state_kept() -> Iterator[None]:
    before = torch.default_generator.get_state()  # `fork_rng` would look for GPUs at every batch
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


@lru_cache(8)  # a mixture is made anew for every batch, and torchvision's takes 0.2 ms to build
def _kinds(mixup: float, cutmix: float, num_classes: int) -> list[v2.Transform]:
    return [
        kind(alpha=float(alpha), num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, mixup), (v2.CutMix, cutmix))
        if alpha > 0
    ]
