"""Resizing and cropping of images for evaluation, by the rule of the library that a checkpoint comes from.

torchvision, timm and open_clip resize with Pillow. transformers resizes tensors with torchvision, which rounds a few
values in a thousand differently, and rounds an odd margin of a crop down where the others round half to even.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from PIL import Image

from tfcli.errors import ConfigError

RULES = ("shorter", "longer", "squash", "none")
"""Which side becomes `side` pixels long: the shorter, the longer, both (squash) or none."""
RESIZERS = ("pillow", "transformers")
INTERPOLATIONS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
ON_TENSORS = {"nearest": "nearest-exact", "bilinear": "bilinear", "bicubic": "bicubic", "lanczos": "lanczos"}
"""Interpolations of torchvision for tensors: our name and torchvision's."""
SETTINGS = ("image_size", "resize", "eval_crop", "interpolation", "resizer", "fill", "mean", "std")
"""Settings of `config.data` that determine the preprocessing of an image in evaluation."""


@dataclass(frozen=True)
class Resize:
    """A change of size; every interpolation except `nearest` is antialiased.

    Args:
        side: the new length of the side that `rule` names, in pixels.
        rule: one of RULES.
        interpolation: one of INTERPOLATIONS.
        resizer: one of RESIZERS.
    """

    side: int
    rule: str = "shorter"
    interpolation: str = "bilinear"
    resizer: str = "pillow"

    def shape(self, rows: int, columns: int) -> tuple[int, int]:
        """Return the height and width of the result."""
        if self.rule == "none":
            return rows, columns
        if self.rule == "squash":
            return self.side, self.side
        if self.rule == "longer":
            ratio = max(rows, columns) / self.side
            return max(1, round(rows / ratio)), max(1, round(columns / ratio))
        longer = int(self.side * max(rows, columns) / min(rows, columns))
        return (self.side, longer) if rows <= columns else (longer, self.side)

    def reduces(self, rows: int, columns: int) -> bool:
        """Return whether the result is smaller and keeps the aspect ratio, so that it can replace the image."""
        return self.rule in ("shorter", "longer") and self.shape(rows, columns)[0] < rows

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize (Y, X, 3) or (B, Y, X, 3) uint8."""
        rows, columns = self.shape(*image.shape[-3:-1])
        if (rows, columns) == image.shape[-3:-1]:
            return image
        if self.resizer == "pillow" and image.ndim == 4:
            return np.stack([self(one) for one in image])
        if self.resizer == "pillow":
            method = Image.Resampling[self.interpolation.upper()]
            return np.asarray(Image.fromarray(image).resize((columns, rows), method))
        import torch
        from torchvision.transforms.v2 import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        pixels = torch.from_numpy(np.array(image)).movedim(-1, -3).contiguous()
        mode = InterpolationMode(ON_TENSORS[self.interpolation])
        resized = F.resize(pixels, [rows, columns], interpolation=mode, antialias=True)
        return resized.movedim(-3, -1).numpy()


@dataclass(frozen=True)
class Fit:
    """A change of size followed by a central square crop; smaller images are padded.

    Args:
        image_size: side of the square, in pixels.
        crop: side of the square as a fraction of the resized side: 0.875 for photographs, 1 for small square images.
        resize: one of RULES.
        interpolation, resizer: as in `Resize`.
        fill: colour of the padding, three numbers in 0..255.

    Raises:
        ConfigError: a choice is unknown, `crop` is not positive, or `transformers` lacks the interpolation.
    """

    image_size: int
    crop: float = 0.875
    resize: str = "shorter"
    interpolation: str = "bilinear"
    resizer: str = "pillow"
    fill: tuple[int, ...] = field(default=(0, 0, 0))

    def __post_init__(self):
        for key, choices in (("resize", RULES), ("interpolation", INTERPOLATIONS), ("resizer", RESIZERS)):
            if getattr(self, key) not in choices:
                raise ConfigError(f"`data.{key}` must be one of {', '.join(choices)}, but is {getattr(self, key)!r}.")
        if not self.crop > 0:
            raise ConfigError(f"`data.eval_crop` must be more than 0, but is {self.crop}.")
        if self.resizer == "transformers" and self.interpolation not in ON_TENSORS:
            raise ConfigError(
                f"`data.interpolation={self.interpolation}` is not possible with data.resizer=transformers, which has "
                f"{', '.join(ON_TENSORS)}: set data.resizer=pillow."
            )

    @cached_property
    def step(self) -> Resize:
        """The change of size without the crop."""
        return Resize(round(self.image_size / self.crop), self.resize, self.interpolation, self.resizer)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Resize and crop (Y, X, 3) or (B, Y, X, 3) uint8 to `image_size` rows and columns."""
        return self._middle(self.step(image))

    def _middle(self, image: np.ndarray) -> np.ndarray:
        return cut(image, *map(self.offset, image.shape[-3:-1]), side=self.image_size, fill=self.fill)

    def offset(self, length: int) -> int:
        """Return the position of the square in a resized side of `length` pixels; a negative one means padding."""
        excess = length - self.image_size
        if excess < 0:
            return -(-excess // 2)
        return excess // 2 if self.resizer == "transformers" else round(excess / 2)


def cut(image: np.ndarray, top: int, left: int, *, side: int, fill: tuple[float, ...]) -> np.ndarray:
    """Return a square crop, which may extend beyond the image.

    Args:
        image: (..., Y, X, C).
        top, left: position of the square's first pixel; negative outside the image.
        side: side of the square, in pixels.
        fill: C numbers, the colour outside the image.
    """
    rows, columns = image.shape[-3:-1]
    if rows < side or columns < side:
        shape = (*image.shape[:-3], max(rows, side), max(columns, side), image.shape[-1])
        padded = np.empty(shape, dtype=image.dtype)
        padded[:] = fill
        y, x = max(0, -top), max(0, -left)
        padded[..., y : y + rows, x : x + columns, :] = image
        image = padded
    top, left = max(0, top), max(0, left)
    return image[..., top : top + side, left : left + side, :]


def nearest(length: int, wanted: int) -> np.ndarray:
    """Return the nearest of `length` source pixels for each of `wanted` target pixels, (wanted,) int64."""
    return (2 * np.arange(wanted) + 1) * length // (2 * wanted)


def describe(data: dict) -> str:
    """Describe the preprocessing of images by these settings of `config.data` in one line."""
    size, side = data["image_size"], round(data["image_size"] / data["eval_crop"])
    how = f"{data['interpolation']}, {data['resizer']}"
    first = {
        "shorter": f"shorter side to {side} px ({how})",
        "longer": f"longer side to {side} px ({how})",
        "squash": f"squashed to {side} x {side} px ({how})",
        "none": "not resized",
    }[data["resize"]]
    cut = "" if data["resize"] == "squash" and side == size else f", the central {size} px"
    if data["resize"] in ("longer", "none") or side < size:
        cut += f" padded with {list(data['fill'])}"
    mean, std = ("[" + ", ".join(f"{value:.4g}" for value in data[key]) + "]" for key in ("mean", "std"))
    return f"{first}{cut}, mean {mean}, std {std}"
