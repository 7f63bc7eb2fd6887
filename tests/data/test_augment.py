"""DeiT's RandAugment and erasing against timm's, which is where its paper took them from."""

from __future__ import annotations

import random
import warnings
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from tfcli.data.images.augment import OPERATIONS, GrowingRandAugment, NoiseErasing

FILL = (124.0, 116.0, 104.0)


@cache
def timms_module(name: str) -> ModuleType:
    """A module of timm's, imported on first use: not every worker runs these tests."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(f"timm.data.{name}")


@pytest.fixture(scope="module")
def image() -> Tensor:
    """A smooth picture with edges: interpolations then differ little."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 48), torch.linspace(0, 1, 48), indexing="ij")
    channels = [200 * x + 20, 180 * y + 40, 220 * (x * y).sqrt()]
    picture = torch.stack(channels)
    picture[:, 12:30, 20:40] = 255 - picture[:, 12:30, 20:40]
    return picture.round().to(torch.uint8)


THEIRS = {
    "auto_contrast": "AutoContrast",
    "equalize": "Equalize",
    "invert": "Invert",
    "rotate": "Rotate",
    "posterize": "PosterizeIncreasing",
    "solarize": "SolarizeIncreasing",
    "solarize_add": "SolarizeAdd",
    "colour": "ColorIncreasing",
    "contrast": "ContrastIncreasing",
    "brightness": "BrightnessIncreasing",
    "sharpness": "SharpnessIncreasing",
    "shear_x": "ShearX",
    "shear_y": "ShearY",
    "translate_x": "TranslateXRel",
    "translate_y": "TranslateYRel",
}


def timms(name: str, magnitude: float, image: Tensor, seed: int) -> Tensor:
    from PIL import Image

    random.seed(seed)
    fill = tuple(round(v) for v in FILL)
    apply = timms_module("auto_augment").AugmentOp(
        name, prob=1.0, magnitude=magnitude, hparams={"img_mean": fill, "interpolation": 2}
    )
    return torch.from_numpy(np.array(apply(Image.fromarray(image.permute(1, 2, 0).numpy())))).permute(2, 0, 1)


def test_the_operations_are_timms():
    assert [THEIRS[name] for name in OPERATIONS] == timms_module("auto_augment")._RAND_INCREASING_TRANSFORMS


@pytest.mark.parametrize("magnitude", [1, 5, 9, 9.7])
@pytest.mark.parametrize("name", THEIRS)
def test_each_operation_is_timms(image, name, magnitude):
    expected = [timms(THEIRS[name], magnitude, image, seed).float() for seed in range(6)]
    for seed in range(4):
        torch.manual_seed(seed)
        found = OPERATIONS[name](image, magnitude / 10, list(FILL)).float()
        # Both draw a sign: ours is one of theirs, but for rounding and a pixel's width at the edges.
        assert min(float((found - other).abs().mean()) for other in expected) < 2, name


def test_images_change_as_often_and_as_much_as_timms(image):
    from PIL import Image

    fill = tuple(round(v) for v in FILL)
    theirs = timms_module("auto_augment").rand_augment_transform(
        "rand-m8-mstd0.5-inc1", {"img_mean": fill, "interpolation": 2}
    )
    ours = GrowingRandAugment(8, std=0.5, fill=FILL)  # at 9 timm asks Pillow for no bits at times, which it refuses
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    draws = (lambda: torch.from_numpy(np.array(theirs(picture))).permute(2, 0, 1), lambda: ours(image))
    changes = [torch.stack([(draw().float() - image.float()).abs().mean() for _ in range(1200)]) for draw in draws]
    still = [float((change == 0).float().mean()) for change in changes]
    assert still[1] == pytest.approx(still[0], abs=0.05)
    assert still[1] == pytest.approx(0.25, abs=0.05)  # neither of two operations, each with probability one half
    assert float(changes[1].mean()) == pytest.approx(float(changes[0].mean()), rel=0.12)


def test_noise_is_standard_normal_once_normalised_and_as_large_as_timms():
    mean, std = torch.tensor(FILL), torch.tensor([58.0, 57.0, 57.0])
    blank = torch.full((3, 40, 40), 7, dtype=torch.uint8)
    ours = NoiseErasing(0.5, mean=mean.tolist(), std=std.tolist())
    torch.manual_seed(0)
    images = [ours(blank) for _ in range(800)]
    touched = torch.stack([(image != 7).any(0).float().mean() for image in images])
    assert float((touched > 0).float().mean()) == pytest.approx(0.5, abs=0.06)

    random.seed(0)
    theirs = timms_module("random_erasing").RandomErasing(1.0, mode="pixel", device="cpu")
    areas = torch.stack([(theirs(torch.full((3, 40, 40), 9.0)) != 9.0).any(0).float().mean() for _ in range(800)])
    assert float(touched[touched > 0].mean()) == pytest.approx(float(areas.mean()), rel=0.1)

    pixels = torch.cat([image[:, (image != 7).all(0)] for image in images], 1).float()
    normal = (pixels - mean[:, None]) / std[:, None]
    assert float(normal.mean()) == pytest.approx(0, abs=0.05)
    assert float(normal.std()) == pytest.approx(1, abs=0.05)  # a little less: 0 and 255 are its ends
