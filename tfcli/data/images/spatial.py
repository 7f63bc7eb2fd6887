"""Columns that are transformed together with an image: masks, boxes, points, the right view, disparities, clips.

They are torchvision's tv_tensors, so that one random draw of a geometric transform serves all parts of a sample. A part
with a value for each pixel is a `Field`: it is resampled to the nearest pixel, and padding has its `void` value. The
name of a column says its kind (`KINDS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F
from torchvision.transforms.v2.functional import register_kernel

from tfcli.data.images.arrays import pixels_first
from tfcli.data.images.disparity import UNKNOWN
from tfcli.data.images.masks import VOID
from tfcli.data.images.pictures import CLIPS, IMAGES, PICTURES
from tfcli.data.images.resize import Fit, cut, nearest

Sample = dict[str, Any]
"""The parts of a sample, all on the same canvas: column to tv_tensor."""


class Field(tv_tensors.Mask):
    """A value for each pixel of an image, (Y, X).

    Attributes:
        void: the value of padding.
        kept: type of the values.
    """

    void: ClassVar[float] = 0
    kept: ClassVar[torch.dtype] = torch.uint8

    def widened(self, factor: float) -> Field:
        """Return the field for an image that was made `factor` times wider."""
        return self


class ClassField(Field):
    """Class of each pixel; 255 is not judged."""

    void = VOID


class DepthField(Field):
    """Depth of each pixel; 0 where there is none."""

    kept = torch.float32


class DisparityField(Field):
    """Disparity of each pixel in pixels, so that it grows with the image's width; -1 where it is not known."""

    void, kept = UNKNOWN, torch.float32

    def widened(self, factor: float) -> DisparityField:
        plain = self.as_subclass(Tensor)
        return DisparityField(torch.where(plain > 0, plain * factor, plain))


KINDS: dict[str, type[tv_tensors.TVTensor]] = {
    **dict.fromkeys(IMAGES, tv_tensors.Image),
    **dict.fromkeys(CLIPS, tv_tensors.Video),
    "mask": ClassField,
    "instance": Field,
    "support": Field,
    "depth": DepthField,
    "occluded": Field,
    "disparity": DisparityField,
    "boxes": tv_tensors.BoundingBoxes,
    "amodal": tv_tensors.BoundingBoxes,
    "target_box": tv_tensors.BoundingBoxes,
    "points": tv_tensors.KeyPoints,
}
"""Kind of a column by its name."""
PLACES = (tv_tensors.BoundingBoxes, tv_tensors.KeyPoints)
"""Kinds whose values are positions in the image, in pixels of its file."""
FILL: dict[Any, Any] = {kind: kind.void for kind in KINDS.values() if issubclass(kind, Field)} | {"others": 0}
"""Value of padding by kind, as torchvision's transforms take it."""


def pictures(sample: Sample) -> Sample:
    """Return the images and clips of a sample."""
    return {name: part for name, part in sample.items() if isinstance(part, tv_tensors.Image | tv_tensors.Video)}


@register_kernel(F.resized_crop, Field)
def _resized_crop(field: Field, top: int, left: int, height: int, width: int, size: list[int], **_: Any) -> Field:
    """Crop and resample to the pixel with the nearest centre; torchvision's own masks are half a pixel off."""
    rows = torch.from_numpy(nearest(height, size[0])) + top
    columns = torch.from_numpy(nearest(width, size[1])) + left
    values = field.as_subclass(Tensor)[..., rows[:, None], columns]
    return type(field)(values).widened(size[1] / width)


class MisfitError(ValueError):
    """Two parts of a sample that cannot lie on one canvas.

    Args:
        column: the one that does not fit.
        reason: why.
    """

    def __init__(self, column: str, reason: str):
        self.column, self.reason = column, reason
        super().__init__(f"`{column}` {reason}")


def assembled(parts: Mapping[str, np.ndarray], *, full: tuple[int, int] | None = None) -> Sample:
    """Return the parts of a sample as tv_tensors on one canvas: that of the first image or clip.

    Args:
        parts: by column: images (Y, X, 3) uint8, clips (T, Y, X, 3) uint8, fields (Y, X), boxes (K, 4) as left, top,
            right, bottom, one box (4,), points (K, 2) as x, y. Boxes and points are in pixels of the file.
        full: rows and columns of the image in its file, where it may have been reduced after reading; fields are whole.

    Raises:
        MisfitError: a field has another size than `full`, or an image, a clip or a field has other proportions than
            the first picture.
    """
    first = next(name for name in parts if name in PICTURES)
    rows, columns = canvas = parts[first].shape[-3:-1]
    if full is not None:
        check_sizes({name: value for name, value in parts.items() if issubclass(KINDS[name], Field)}, full)
    full = full or canvas
    sample: Sample = {}
    for name, value in parts.items():
        kind = KINDS[name]
        if issubclass(kind, Field):
            sample[name] = _field(kind, name, value, canvas)
        elif kind is tv_tensors.BoundingBoxes:
            scale = np.array([columns / full[1], rows / full[0]] * 2)
            boxes = torch.from_numpy(np.asarray(value).reshape(-1, 4) * scale).float()
            sample[name] = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=canvas)  # type: ignore[call-overload]  # as documented
        elif kind is tv_tensors.KeyPoints:
            scale = np.array([columns / full[1], rows / full[0]])
            points = torch.from_numpy(np.asarray(value).reshape(-1, 2) * scale).float()
            sample[name] = tv_tensors.KeyPoints(points, canvas_size=canvas)
        else:
            if value.shape[-3:-1] != canvas:
                raise MisfitError(name, f"is {_size(value.shape[-3:-1])}, but `{first}` is {_size(canvas)}")
            sample[name] = kind(pixels_first(value))
    return sample


def check_sizes(parts: Mapping[str, Any], full: tuple[int, int] | None = None) -> None:
    """Check that images and fields have the size of their image.

    Args:
        parts: by column, as in the files; other columns are ignored.
        full: rows and columns of the image in its file; by default those of the part `image`, if it is there.

    Raises:
        MisfitError: a part has another size.
    """
    if full is None and "image" in parts:
        full = parts["image"].shape[:2]
    if full is None:
        return
    for name, value in parts.items():
        kind = KINDS.get(name)
        if kind and (kind is tv_tensors.Image or issubclass(kind, Field)) and value.shape[:2] != full:
            raise MisfitError(name, f"is {_size(value.shape[:2])}, but `image` is {_size(full)}")


def _field(kind: type[Field], name: str, value: np.ndarray, canvas: tuple[int, int]) -> Field:
    """Return a field on the canvas of an image that may have been reduced."""
    rows, columns = value.shape
    if abs(rows * canvas[1] - columns * canvas[0]) > max(rows, columns, *canvas):
        raise MisfitError(name, f"is {_size(value.shape)}, which are not the proportions of {_size(canvas)}")
    if value.shape != canvas:
        value = value[nearest(rows, canvas[0])[:, None], nearest(columns, canvas[1])]
    return kind(torch.from_numpy(np.ascontiguousarray(value)).to(kind.kept)).widened(canvas[1] / columns)


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"


def fitted(sample: Sample, fit: Fit) -> Sample:
    """Return the parts of a sample, resized and cropped with its image; padding is void."""
    canvas = tuple(next(iter(pictures(sample).values())).shape[-2:])
    if canvas == (fit.image_size, fit.image_size) == fit.step.shape(*canvas):
        return sample
    return {name: _fitted(part, fit) for name, part in sample.items()}


def _fitted(part: tv_tensors.TVTensor, fit: Fit) -> tv_tensors.TVTensor:
    if isinstance(part, tv_tensors.Image | tv_tensors.Video):
        return tv_tensors.wrap(pixels_first(fit(part.movedim(-3, -1).numpy())), like=part)
    canvas = part.shape if isinstance(part, Field) else part.canvas_size  # type: ignore[attr-defined]
    shape = fit.step.shape(*canvas)
    top, left = map(fit.offset, shape)
    if isinstance(part, Field):
        resized = part.numpy()[nearest(canvas[0], shape[0])[:, None], nearest(canvas[1], shape[1])]
        square = cut(resized[..., None], top, left, side=fit.image_size, fill=(part.void,))[..., 0]
        return type(part)(torch.from_numpy(np.ascontiguousarray(square))).widened(shape[1] / canvas[1])
    moved = F.resize(part, list(shape)).as_subclass(Tensor)
    moved = moved - torch.tensor([left, top] * (moved.shape[-1] // 2))
    return tv_tensors.wrap(moved, like=part, canvas_size=(fit.image_size, fit.image_size))


def sanitized(places: tv_tensors.BoundingBoxes | tv_tensors.KeyPoints) -> tuple[Tensor, Tensor]:
    """Return boxes (K, 4) clipped to their canvas, or points (K, 2), and (K,) whether each is still inside.

    A box is inside if at least a pixel of it is, a point if it lies on the canvas. The others become zeros and keep
    their rows, so that the labels of boxes still match.
    """
    rows, columns = places.canvas_size
    plain, ends = places.as_subclass(Tensor), torch.tensor([columns, rows])
    if isinstance(places, tv_tensors.KeyPoints):
        valid = ((plain >= 0) & (plain <= ends - 1)).all(1)
    else:
        plain = plain.clamp(min=0).minimum(ends.repeat(2))
        valid = (plain[:, 2:] - plain[:, :2] >= 1).all(1)
    return plain * valid[:, None], valid
