"""Images come to size as the libraries bring them there, to the last bit."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from tfcli.data.images.resize import Fit, Resize, describe
from tfcli.errors import ConfigError


@pytest.fixture
def photo() -> np.ndarray:
    """Noise over a slope: every pixel counts."""
    noise = np.random.default_rng(0).integers(0, 128, (61, 90, 3), dtype=np.uint8)
    return noise + np.linspace(0, 127, 90, dtype=np.uint8)[None, :, None]


def test_equals_torchvisions_preset_on_pillow_images(photo):
    draw = random.Random(0)
    names = ["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]
    for _ in range(40):
        side, crop = draw.randint(8, 120), draw.randint(8, 120)
        name, squash = draw.choice(names), draw.random() < 0.5
        theirs = v2.Compose(
            [v2.Resize([side, side] if squash else [side], InterpolationMode(name)), v2.CenterCrop(crop)]
        )
        fit = Fit(crop, crop / side, "squash" if squash else "shorter", name)
        assert np.array_equal(fit(photo), np.asarray(theirs(Image.fromarray(photo)))), (side, crop, name, squash)


def test_the_longer_side_and_no_change_of_size(photo):
    long = Fit(50, 1.0, "longer", fill=(9, 8, 7))(photo)
    assert np.array_equal(long[8:42], np.asarray(Image.fromarray(photo).resize((50, 34), Image.Resampling.BILINEAR)))
    assert (long[:8] == (9, 8, 7)).all()
    assert (long[42:] == (9, 8, 7)).all()
    assert np.array_equal(Fit(40, 1.0, "none")(photo), photo[10:50, 25:65])
    assert np.array_equal(Fit(41, 1.0, "none", resizer="transformers")(photo), photo[10:51, 24:65])
    assert np.array_equal(Fit(43, 1.0, "none")(photo), photo[9:52, 24:67])  # 47 / 2 rounds to 24, and down to 23
    assert np.array_equal(Fit(43, 1.0, "none", resizer="transformers")(photo), photo[9:52, 23:66])


def test_a_batch_is_its_images(photo):
    for fit in (Fit(24, interpolation="bicubic"), Fit(24, 1.2, resizer="transformers")):
        together = fit(np.stack([photo, photo[::-1]]))
        assert np.array_equal(together[1], fit(photo[::-1].copy()))


def test_an_image_of_the_squares_size_is_resized_all_the_same(photo):
    image = photo[:56, :56]
    assert not np.array_equal(Fit(56, 0.875)(image), image)
    assert np.array_equal(Fit(56, 1.0)(image), image)


def test_only_what_keeps_the_proportions_serves_in_place_of_the_image():
    assert Resize(30).reduces(61, 90)
    assert Resize(30, "longer").reduces(61, 90)
    assert not Resize(61).reduces(61, 90)
    assert not Resize(30, "squash").reduces(61, 90)


def test_it_is_told_in_a_line():
    data = {"image_size": 224, "eval_crop": 224 / 248, "resize": "shorter", "interpolation": "bicubic"}
    data |= {"resizer": "pillow", "fill": [0, 0, 0], "mean": [0.485, 0.456, 0.406], "std": [0.5] * 3}
    assert describe(data) == (
        "shorter side to 248 px (bicubic, pillow), the central 224 px, mean [0.485, 0.456, 0.406], std [0.5, 0.5, 0.5]"
    )
    squash = data | {"resize": "squash", "eval_crop": 1.0}
    assert describe(squash).startswith("squashed to 224 x 224 px (bicubic, pillow), mean")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"resize": "shortest"}, "one of shorter, longer, squash, none"),
        ({"interpolation": "cubic"}, "one of nearest, box, bilinear"),
        ({"interpolation": "box", "resizer": "transformers"}, "set data.resizer=pillow"),
        ({"crop": 0.0}, "more than 0"),
    ],
)
def test_what_cannot_be_is_refused(change, reason):
    with pytest.raises(ConfigError, match=reason):
        Fit(**{"image_size": 32} | change)
