"""A class for each pixel: a small fully convolutional network, and its objective (Long et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.bounds import Count
from tfcli.data.common.rows import taken
from tfcli.data.images.masks import VOID
from tfcli.metrics.info import FigureInfo
from tfcli.shapes import Float
from tfcli.tasks.objective import Objective


class Segmenter(Protocol):
    """Images in, one score a class and pixel out."""

    def segment(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K Y X"]: ...


class Convolutional(nn.Module):
    """Convolutions that see 32 pixels on, of one resolution.

    Args:
        width: channels.
        num_classes: K.
    """

    def __init__(self, width: Count, *, num_classes: int):
        super().__init__()
        steps: list[nn.Module] = [nn.Conv2d(3 + 2, width, 3, padding=1)]
        for dilation in (2, 4, 8):
            steps += [nn.BatchNorm2d(width), nn.GELU(), nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)]
        self.steps = nn.Sequential(*steps, nn.BatchNorm2d(width), nn.GELU(), nn.Conv2d(width, num_classes, 1))

    def segment(self, image: Float[Tensor, "B C Y X"]) -> Float[Tensor, "B K Y X"]:
        """Return the scores of each pixel, which knows where in the image it is."""
        y, x = (torch.linspace(-1, 1, side, device=image.device) for side in image.shape[-2:])
        place = torch.stack(torch.meshgrid(y, x, indexing="ij")).expand(len(image), -1, -1, -1)
        return self.steps(torch.cat([image, place], 1))


class Segment(Objective):
    """Trains and measures a segmentation: the share of right pixels, and the mean over classes of their overlap.

    Args:
        net: `net.segment(image)` gives logits (B, K, Y, X).
        num_classes: K.
        optim, schedule: as in `Objective`.
    """

    net_protocol = Segmenter
    main_figure: ClassVar[str] = "mean_iou"
    next_command: ClassVar[str] = "tfcli evaluate latest"

    def __init__(
        self, net: nn.Module, *, num_classes: Count, optim: Callable[..., Any], schedule: Callable[..., float]
    ):
        super().__init__(net, optim=optim, schedule=schedule)
        self.num_classes = num_classes
        self.register_buffer("seen", torch.zeros(num_classes, num_classes), persistent=False)

    def figures(self, split: str) -> dict[str, FigureInfo]:
        return {"mean_iou": FigureInfo("mean overlap"), "accuracy": FigureInfo("pixels right")}

    def guesses(self, data: Any) -> dict[str, float]:
        """Measure the commonest class of training, at the size of the files."""
        train, test = (np.bincount(self._pixels(data, split), minlength=256)[:VOID] for split in ("train", "test"))
        return {"commonest class/accuracy": float(test[train.argmax()] / test.sum())}

    @staticmethod
    def _pixels(data: Any, split: str) -> np.ndarray:
        return np.concatenate([mask.ravel() for mask in taken(data.rows[split]["mask"])])

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = cross_entropy(self.net.segment(batch["image"]).float(), batch["mask"].long(), ignore_index=VOID)
        self.add(loss * len(batch["mask"]), len(batch["mask"]))
        return loss

    def on_train_epoch_end(self) -> None:
        total, count = self.epoch_sums()
        self.log("train/loss", total / count, logger=False)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        if "spare" not in batch:
            right, guess = batch["mask"].long(), self.net.segment(batch["image"]).argmax(1)
            pairs = (right * self.num_classes + guess)[right != VOID]
            self.seen += torch.bincount(pairs, minlength=self.num_classes**2).view_as(self.seen)

    test_step = validation_step

    def _measured(self) -> dict[str, float]:
        seen, both = self.seen, self.seen.diagonal()
        union = seen.sum(0) + seen.sum(1) - both
        found = {"mean_iou": float((both / union)[union > 0].mean()), "accuracy": float(both.sum() / seen.sum())}
        self.seen.zero_()
        return found

    def on_validation_epoch_end(self) -> None:
        self.log_dict({f"val/{name}": value for name, value in self._measured().items()})

    def on_test_epoch_end(self) -> None:
        self.test_results = {f"test/{name}": (value, (value, value)) for name, value in self._measured().items()}
