"""Training and evaluation transforms: uint8 (Y, X, 3) images in, uint8 (3, Y, X) tensors of the model's size out.

The arithmetic is torchvision.transforms.v2's. What is ours is the addressing: every sample brings a 64-bit seed, a
function of (seed, epoch, index), so its augmentation is the same whatever the batch, the worker or the rank. The
random state of the process is put back afterwards.

torchvision takes two seconds to import and is imported on first use: evaluation alone needs none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import torch
from torch import Tensor
from torch.random import fork_rng

from tfcli.bounds import Bounds, Count, Fraction, NotNegative, Share
from tfcli.data.images.arrays import mirror, mirrored, offsets, one_batch, pixels_first, shift
from tfcli.data.images.pictures import LEVELS
from tfcli.data.images.resize import ON_TENSORS, Fit

if TYPE_CHECKING:
    from tfcli.data.images.spatial import Sample


@dataclass(frozen=True)
class Augment:
    """Augmentation of training images.

    Args:
        crop: `resized` (a random part of the image, brought to size), `padded` (zero padding of an eighth of the side
            and a random crop of the old size: the CIFAR recipe) or `none`.
        scale: share of the image's area that a resized crop takes, (least, most).
        flip: probability of a mirror image.
        randaugment: magnitude of RandAugment; 0 is off.
        randaugment_kind: `torchvision` (the paper's, magnitudes 1..30) or `timm` (DeiT's, 0..10: see
            `GrowingRandAugment`).
        randaugment_ops: operations for an image.
        randaugment_std: deviation of each operation's magnitude; `timm` alone has it.
        autoaugment: a policy of AutoAugment (`imagenet`, `cifar10`, `svhn`), in place of RandAugment; `none` is off.
        color_jitter: strength of brightness, contrast and saturation changes; 0 is off.
        hue: strength of its changes of hue, at most 0.5, a half turn of the circle of colours.
        jitter_fraction: probability of `color_jitter` and `hue`, where they are on.
        grayscale: probability that all colour goes.
        blur: probability of a Gaussian blur whose deviation is drawn from 0.1 to 2 pixels (SimCLR's and DINO's).
        solarize: probability that what is lighter than the middle is inverted.
        erasing: probability that a random rectangle is painted over.
        erasing_fill: `mean` (the mean colour) or `pixel` (noise, a colour for each pixel).
        mixup, cutmix: alpha of the Beta distribution; 0 is off; with both, each batch draws one of the two.
        repeats: how often a global batch holds an image, each time augmented anew (Hoffer et al. 2020); an epoch then
            has as many images as ever, but so many times fewer different ones.

    Raises:
        ValueError: there is no such choice, two exclude each other, or a range begins above its end.
    """

    crop: Literal["resized", "padded", "none"] = "resized"
    scale: tuple[Share, Share] = (0.08, 1.0)
    flip: Fraction = 0.5
    randaugment: Annotated[int, Bounds(low=0, high=30)] = 0
    randaugment_kind: Literal["torchvision", "timm"] = "torchvision"
    randaugment_ops: Count = 2
    randaugment_std: NotNegative = 0.0
    autoaugment: Literal["none", "imagenet", "cifar10", "svhn"] = "none"
    color_jitter: NotNegative = 0.0
    hue: Annotated[float, Bounds(low=0, high=0.5)] = 0.0
    jitter_fraction: Fraction = 1.0
    grayscale: Fraction = 0.0
    blur: Fraction = 0.0
    solarize: Fraction = 0.0
    erasing: Fraction = 0.0
    erasing_fill: Literal["mean", "pixel"] = "mean"
    mixup: NotNegative = 0.0
    cutmix: NotNegative = 0.0
    repeats: Count = 1

    def __post_init__(self):
        for key, hint in get_type_hints(Augment).items():
            if get_origin(hint) is Literal and getattr(self, key) not in get_args(hint):
                raise ValueError(
                    f"`data.augment.{key}` must be one of {', '.join(get_args(hint))}, but is {getattr(self, key)!r}."
                )
        least, most_area = self.scale
        if least > most_area:
            raise ValueError(
                f"`data.augment.scale` must be (least, most), but is [{least:g}, {most_area:g}]: write "
                f"data.augment.scale=[{most_area:g},{least:g}]."
            )
        if self.randaugment and self.autoaugment != "none":
            raise ValueError("`data.augment` takes randaugment or autoaugment, not both: set one to 0 or none.")
        most = 30 if self.randaugment_kind == "torchvision" else LEVELS
        if self.randaugment > most:
            raise ValueError(
                f"`data.augment.randaugment` must be at most {most} for randaugment_kind={self.randaugment_kind}, "
                f"but is {self.randaugment}."
            )
        if self.randaugment_std and self.randaugment_kind == "torchvision":
            raise ValueError(
                "`data.augment.randaugment_std`: torchvision's RandAugment draws no magnitudes; "
                "randaugment_kind=timm does."
            )


def normalise(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return uint8 images (B, 3, Y, X) as floats with mean 0 and deviation 1 per channel; floats stay as they are."""
    if image.is_floating_point():
        return image
    shift, scale = _channels(tuple(mean), tuple(std), image.device)
    return image.float().sub_(shift).mul_(scale)


@lru_cache(8)  # on a GPU each copy of them would make the device wait
def _channels(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Return what is subtracted from and multiplied with pixels 0..255, (3, 1, 1) each."""
    with torch.inference_mode(False):
        values = torch.tensor([[255 * m for m in mean], [1 / (255 * s) for s in std]], device=device)
    return values[0].view(3, 1, 1), values[1].view(3, 1, 1)


class EvalTransform:
    """Evaluation transform, the same in every epoch: resized and centre-cropped as `fit` says."""

    def __init__(self, fit: Fit):
        self.fit, self.size = fit, fit.image_size

    def one(self, image: np.ndarray, seed: np.uint64 | None = None) -> Tensor:
        """Transform one image of any size."""
        return pixels_first(self.fit(image))

    def batch(self, images: np.ndarray, seeds: np.ndarray | None = None) -> Tensor:
        """Transform images (B, Y, X, 3) of one size."""
        return one_batch(self.fit(images))

    def sample(self, sample: Sample, seed: np.uint64 | None = None) -> Sample:
        """Return the parts of a sample, transformed with its image; padding is void."""
        from tfcli.data.images.spatial import fitted

        return fitted(sample, self.fit)

    sample_of_batch = sample


class TrainTransform:
    """Random crop, mirror image, RandAugment or AutoAugment, colour jitter, erasing, in this order; one seed a sample.

    A sample of several parts (`tfcli.data.images.spatial`) is moved by one draw, and its image is that of a sample that
    has no other part. Colours and erased rectangles are of pictures alone.

    Args:
        fit: how evaluation brings an image to size, which is done first where the crop is not `resized`; a resized crop
            takes its size and its interpolation, bilinear in place of one that torchvision has not for tensors.
        augment: what to do.
        fill: mean colour, three numbers 0..255, for erased rectangles and what comes in from beyond the edges.
        noise: deviation of each channel, for rectangles of noise.
    """

    def __init__(
        self,
        fit: Fit,
        *,
        augment: Augment,
        fill: Sequence[float] = (0.0, 0.0, 0.0),
        noise: Sequence[float] = (0.0, 0.0, 0.0),
    ):
        self.size, self.augment, self.fit = fit.image_size, augment, fit
        self.fill, self.noise = tuple(fill), tuple(noise)
        self.plain = EvalTransform(fit)

    @cached_property
    def steps(self) -> list:
        """The steps for a sample."""
        from torchvision.transforms import v2

        return [*self._crop(), v2.RandomHorizontalFlip(self.augment.flip), *self.extra]

    @cached_property
    def extra(self) -> list:
        """The steps after crop and mirror image."""
        return [*self._policy(), *self._painting()]

    def cropped(self, scale: tuple[float, float], size: int | None = None, **changes: Any) -> TrainTransform:
        """Return the same augmentation of random crops.

        Args:
            scale: share of the image's area that a crop takes, (least, most).
            size: of the crops, in pixels; None: as the images.
            changes: further settings of `Augment`.
        """
        fit = replace(self.fit, image_size=size or self.size)
        augment = replace(self.augment, crop="resized", scale=scale, **changes)
        return TrainTransform(fit, augment=augment, fill=self.fill, noise=self.noise)

    def _crop(self) -> list:
        from torchvision.transforms import v2

        from tfcli.data.images.spatial import FILL

        if self.augment.crop == "resized":
            scale = tuple(self.augment.scale)
            mode = v2.InterpolationMode(ON_TENSORS.get(self.fit.interpolation, "bilinear"))
            return [v2.RandomResizedCrop(self.size, scale=scale, interpolation=mode, antialias=True)]
        if self.augment.crop == "padded":
            return [v2.RandomCrop(self.size, padding=self.size // 8, fill=FILL)]
        return []

    def _policy(self) -> list:
        """Return the step of RandAugment or AutoAugment, if any."""
        augment = self.augment
        if augment.autoaugment == "none" and not augment.randaugment:
            return []
        from torchvision.transforms import v2

        from tfcli.data.images.augment import AutoAugment, GrowingRandAugment, RandAugment

        if augment.autoaugment != "none":
            policy, fill = v2.AutoAugmentPolicy(augment.autoaugment), [round(v) for v in self.fill]
            return [AutoAugment(policy, interpolation=v2.InterpolationMode.BILINEAR, fill=fill)]
        if augment.randaugment_kind == "timm":
            std, num_ops = augment.randaugment_std, augment.randaugment_ops
            return [GrowingRandAugment(augment.randaugment, std=std, num_ops=num_ops, fill=self.fill)]
        return [RandAugment(num_ops=augment.randaugment_ops, magnitude=augment.randaugment)]

    def _painting(self) -> list:
        """Return the steps of colour jitter, grey, blur, solarisation and erasing."""
        steps: list = []
        augment, strength = self.augment, self.augment.color_jitter
        if not any((strength, augment.hue, augment.grayscale, augment.blur, augment.solarize, augment.erasing)):
            return steps
        from torchvision.transforms import v2

        from tfcli.data.images.augment import NoiseErasing, OnPictures

        if strength or augment.hue:
            jitter = v2.ColorJitter(
                brightness=strength, contrast=strength, saturation=strength, hue=augment.hue or None
            )
            steps.append(jitter if augment.jitter_fraction == 1 else v2.RandomApply([jitter], augment.jitter_fraction))
        if augment.grayscale:
            steps.append(v2.RandomGrayscale(augment.grayscale))
        if augment.blur:
            blurred = v2.GaussianBlur(max(3, self.size // 10 | 1), sigma=(0.1, 2.0))
            steps.append(v2.RandomApply([blurred], augment.blur))
        if augment.solarize:
            steps.append(v2.RandomSolarize(128, augment.solarize))
        if augment.erasing and augment.erasing_fill == "pixel":
            steps.append(NoiseErasing(augment.erasing, mean=self.fill, std=self.noise))
        elif augment.erasing:
            steps.append(v2.RandomErasing(p=augment.erasing, value=[round(v) for v in self.fill]))
        return [OnPictures(step) for step in steps]

    def one(self, image: np.ndarray, seed: np.uint64) -> Tensor:
        """Augment one image of any size with its seed."""
        tensor = pixels_first(image) if self.augment.crop == "resized" else self.plain.one(image)
        with fork_rng(devices=[]):
            return self._run(self.steps, tensor, seed).contiguous()

    def batch(self, images: np.ndarray, seeds: np.ndarray) -> Tensor:
        """Augment images (B, Y, X, 3) of one size with (B,) seeds.

        Padded crops and mirror images of a whole batch are one gather each, with offsets hashed from the seeds. A loop
        over torchvision's transforms would take longer for 32-pixel images than a small network's whole step.
        """
        if self.augment.crop == "resized":
            with fork_rng(devices=[]):
                pairs = zip(images, seeds, strict=True)
                return torch.stack([self._run(self.steps, pixels_first(i), s).contiguous() for i, s in pairs])
        if self.augment.crop == "padded":
            images = shift(images, seeds, padding=max(1, images.shape[1] // 8))
        result = mirror(self.plain.batch(images), seeds, self.augment.flip)
        if self.extra:
            with fork_rng(devices=[]):
                pairs = zip(result, seeds, strict=True)
                result = torch.stack([self._run(self.extra, i, s).contiguous() for i, s in pairs])
        return result

    def sample(self, sample: Sample, seed: np.uint64) -> Sample:
        """Augment a sample of any size with its seed; its image equals that of `one`."""
        if self.augment.crop != "resized":
            sample = self.plain.sample(sample)
        with fork_rng(devices=[]):
            return self._run(self.steps, sample, seed)

    def sample_of_batch(self, sample: Sample, seed: np.uint64) -> Sample:
        """Augment a sample of a set whose images have one size; its image equals that of `batch`."""
        if self.augment.crop == "resized":
            return self.sample(sample, seed)
        from torchvision.transforms.v2 import functional as F

        from tfcli.data.images.spatial import FILL, pictures

        if self.augment.crop == "padded":
            rows, columns = next(iter(pictures(sample).values())).shape[-2:]
            padding = max(1, rows // 8)
            y, x = (int(offset.item()) for offset in offsets(seed, padding))
            for name, part in sample.items():
                part = F.pad(part, [padding], fill=FILL.get(type(part), 0))
                sample = sample | {name: F.crop(part, y, x, rows, columns)}
        sample = self.plain.sample(sample)
        if mirrored(seed, self.augment.flip):
            sample = {name: F.horizontal_flip(part) for name, part in sample.items()}
        with fork_rng(devices=[]):
            return self._run(self.extra, sample, seed)

    @staticmethod
    def _run(steps: list, image: Any, seed: np.uint64) -> Any:
        # Not torch.manual_seed: that would reseed the accelerators' generators too.
        torch.default_generator.manual_seed(int(seed) >> 1)
        for step in steps:
            image = step(image)
        return image
