"""Parts of DeiT's recipe that torchvision lacks: RandAugment whose operations grow, and erasing with noise.

With them torchvision's policies for samples of several parts, which its own refuse. All of them take an image, or a
sample (`tfcli.data.images.spatial`) whose other parts go where its picture goes, and draw from torch's generator, which
`tfcli.data.images.transforms` seeds for each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import atan, degrees
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from tfcli.data.images.pictures import LEVELS
from tfcli.data.images.spatial import FILL, Sample, pictures


class OnPictures:
    """A step that changes colours: it is applied to the pictures of a sample only, with one random draw for all.

    Args:
        step: takes an image, or a dictionary of images.
    """

    def __init__(self, step: Callable[[Any], Any]):
        self.step = step

    def __call__(self, image: Tensor | Sample) -> Tensor | Sample:
        return image | self.step(pictures(image)) if isinstance(image, dict) else self.step(image)


class _Moving:
    """Mixin that extends torchvision's policies to samples: geometric operations also move masks and boxes."""

    moves = ("ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate")
    _others: Sample

    def forward(self, image: Tensor | Sample) -> Tensor | Sample:
        if not isinstance(image, dict):
            self._others = {}
            return super().forward(image)  # type: ignore[misc]  # of the policy
        picture = pictures(image)
        self._others = {name: part for name, part in image.items() if name not in picture}
        picture = super().forward(picture)  # type: ignore[misc]
        return image | picture | self._others

    def _apply_image_or_video_transform(self, image: Tensor, transform_id: str, magnitude: float, **how: Any) -> Tensor:
        apply = super()._apply_image_or_video_transform  # type: ignore[misc]
        if transform_id in self.moves:
            filled = how | {"fill": FILL}
            self._others = {n: apply(part, transform_id, magnitude, **filled) for n, part in self._others.items()}
        return apply(image, transform_id, magnitude, **how)


class RandAugment(_Moving, v2.RandAugment):
    """RandAugment (Cubuk et al. 2020) of an image or a sample with one picture."""


class AutoAugment(_Moving, v2.AutoAugment):
    """AutoAugment (Cubuk et al. 2019) of an image or a sample with one picture."""


class GrowingRandAugment:
    """RandAugment as DeiT uses it, timm's `rand-m9-mstd0.5-inc1` (Cubuk et al. 2020; Touvron et al. 2021, table 9).

    It differs from the paper's, which torchvision has: every operation grows with the magnitude, a magnitude is drawn
    anew for each operation, an operation that was drawn is applied with probability one half, and what an image loses
    at its edges is filled with the mean colour. Of timm's it differs in the interpolation, bilinear where timm is
    bicubic, and in keeping at least one bit when it posterises, where timm at times keeps none (a black image, which
    Pillow has come to refuse).

    Args:
        magnitude: 0 to 10, the mean of what is drawn.
        std: its deviation.
        num_ops: operations drawn for an image, with replacement.
        fill: mean colour, three numbers 0..255.
    """

    def __init__(self, magnitude: float, *, std: float = 0.5, num_ops: int = 2, fill: Sequence[float] = (0, 0, 0)):
        self.magnitude, self.std, self.num_ops = magnitude, std, num_ops
        self.fill = [float(round(value)) for value in fill]

    def __call__(self, image: Any) -> Any:
        """Transform one uint8 image (3, Y, X), or a sample."""
        names = list(OPERATIONS)
        for _ in range(self.num_ops):
            name, applied = names[int(torch.randint(len(names), ()))], bool(torch.rand(()) < 0.5)
            magnitude = self.magnitude + self.std * float(torch.randn(()))
            if applied:
                image = self._applied(name, image, min(max(magnitude, 0.0), LEVELS) / LEVELS)
        return image

    def _applied(self, name: str, image: Any, share: float) -> Any:
        if not isinstance(image, dict):
            return OPERATIONS[name](image, share, self.fill)
        state, moved = torch.get_rng_state(), dict(image)
        picture = pictures(image)
        for part, value in (image if name in MOVES else picture).items():
            torch.set_rng_state(state)  # an operation draws its sign: the same for each part
            fill = self.fill if part in picture else [float(FILL.get(type(value), 0))]
            moved[part] = OPERATIONS[name](value, share, fill)
        return moved


class NoiseErasing:
    """Random erasing (Zhong et al. 2020) with a colour drawn for each pixel, timm's mode `pixel`.

    timm draws from N(0, 1) after the normalisation; here it is the same noise before it, so it ends where 0 and 255 do.

    Args:
        probability: that an image loses a rectangle.
        mean, std: of each channel, 0..255.
    """

    def __init__(self, probability: float, *, mean: Sequence[float], std: Sequence[float]):
        self.probability = probability
        self.mean, self.std = (torch.tensor(values)[:, None, None] for values in (mean, std))
        self.rectangle = v2.RandomErasing(scale=(0.02, 1 / 3), ratio=(0.3, 1 / 0.3), value="random")  # type: ignore[arg-type]  # as documented

    def __call__(self, image: Any) -> Any:
        """Erase the same rectangle of one uint8 image (3, Y, X), or of several."""
        if torch.rand(()) >= self.probability:
            return image
        drawn = self.rectangle.make_params(list(image.values()) if isinstance(image, dict) else [image])
        if drawn["v"] is None:  # ten rectangles did not fit
            return image
        drawn["v"] = (drawn["v"] * self.std + self.mean).round().clamp(0, 255).to(torch.uint8)
        if isinstance(image, dict):
            return {name: F.erase(picture, **drawn) for name, picture in image.items()}
        return F.erase(image, **drawn)


def _signed(value: float) -> float:
    return value if torch.rand(()) < 0.5 else -value


def _factor(share: float) -> float:
    """Return the factor of an enhancement; 1 changes nothing."""
    return max(0.1, 1 + _signed(0.9 * share))


def _rotate(image: Tensor, share: float, fill: list[float]) -> Tensor:
    return F.rotate(image, _signed(30 * share), interpolation=v2.InterpolationMode.BILINEAR, fill=fill)


def _move(
    image: Tensor,
    fill: list[float],
    *,
    shear: tuple[float, float] = (0.0, 0.0),
    shift: tuple[float, float] = (0.0, 0.0),
) -> Tensor:
    """Shear (slopes on x and y) about the corner, or shift by shares of the side."""
    rows, columns = F.get_size(image)
    return F.affine(
        image,
        angle=0.0,
        translate=[shift[0] * columns, shift[1] * rows],
        scale=1.0,
        shear=[degrees(atan(slope)) for slope in shear],
        center=[0.0, 0.0],
        interpolation=v2.InterpolationMode.BILINEAR,
        fill=fill,
    )


def _solarize(image: Tensor, share: float) -> Tensor:
    threshold = 256 - int(256 * share)
    return F.solarize(image, threshold) if threshold < 256 else image


def _solarize_add(image: Tensor, share: float) -> Tensor:
    """Add brightness to the dark pixels."""
    return torch.where(image < 128, (image.short() + int(110 * share)).clamp(max=255).to(image.dtype), image)


OPERATIONS: dict[str, Callable[[Tensor, float, list[float]], Tensor]] = {
    "auto_contrast": lambda image, share, fill: F.autocontrast(image),
    "equalize": lambda image, share, fill: F.equalize(image),
    "invert": lambda image, share, fill: F.invert(image),
    "rotate": _rotate,
    "posterize": lambda image, share, fill: F.posterize(image, max(1, 4 - int(4 * share))),
    "solarize": lambda image, share, fill: _solarize(image, share),
    "solarize_add": lambda image, share, fill: _solarize_add(image, share),
    "colour": lambda image, share, fill: F.adjust_saturation(image, _factor(share)),
    "contrast": lambda image, share, fill: F.adjust_contrast(image, _factor(share)),
    "brightness": lambda image, share, fill: F.adjust_brightness(image, _factor(share)),
    "sharpness": lambda image, share, fill: F.adjust_sharpness(image, _factor(share)),
    "shear_x": lambda image, share, fill: _move(image, fill, shear=(_signed(0.3 * share), 0.0)),
    "shear_y": lambda image, share, fill: _move(image, fill, shear=(0.0, _signed(0.3 * share))),
    "translate_x": lambda image, share, fill: _move(image, fill, shift=(_signed(0.45 * share), 0.0)),
    "translate_y": lambda image, share, fill: _move(image, fill, shift=(0.0, _signed(0.45 * share))),
}
"""Operations on an image, by the magnitude's share of the largest; the fill is the colour beyond the edges."""
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
"""The geometric ones among them."""
