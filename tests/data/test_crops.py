"""Several crops of each image: sizes, scales, draws of their own, files that are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from written import write

from tfcli.data.columns.pixels import ArrayPixels
from tfcli.data.images.cache import Store
from tfcli.data.images.decode import BadImage
from tfcli.data.images.imageset import Images
from tfcli.data.images.resize import Fit
from tfcli.data.images.transforms import Augment, EvalTransform, TrainTransform
from tfcli.data.views.crops import Cropped, Crops
from tfcli.errors import ConfigError

PIXELS = np.random.default_rng(0).integers(0, 256, (8, 40, 40, 3), dtype=np.uint8)
DINO = Crops(local_crops=3, global_scale=(0.5, 1.0), local_scale=(0.05, 0.2), local_size=16)


def cropped(view: Crops, pixels: ArrayPixels | Store, *, train: bool = True, skip: bool = False) -> Cropped:
    """Lay out the crops of images."""
    augmented = TrainTransform(Fit(32, 1.0), augment=Augment(crop="padded", flip=0.0))
    transform = augmented if train else EvalTransform(Fit(32, 1.0))
    images = Images(pixels, np.arange(len(pixels)), transform=transform, augmented=augmented, skip=skip)
    return view.encode({"image": images}, None, length=None, train=train)


@pytest.mark.parametrize("train", [True, False])
def test_each_crop_is_drawn_for_itself_and_addressed(train):
    samples = cropped(DINO, ArrayPixels(PIXELS), train=train)
    rows = np.array([5, 2, 7])
    batch = samples.batch(rows, seed=0, epoch=3)
    assert [crop.shape for crop in batch["crops"]] == [(3, 3, 32, 32)] * 2 + [(3, 3, 16, 16)] * 3
    assert batch["index"].tolist() == rows.tolist()
    assert not torch.equal(*batch["crops"][:2])
    assert not torch.equal(*batch["crops"][2:4])
    alone = samples.batch(rows[1:2], seed=0, epoch=3)
    assert all(torch.equal(one[0], many[1]) for one, many in zip(alone["crops"], batch["crops"], strict=True))
    again = [samples.batch(rows, seed=0, epoch=4), samples.batch(rows, seed=1, epoch=3)]
    assert not any(torch.equal(other["crops"][0], batch["crops"][0]) for other in again)
    blank = samples.blank(4, seed=0)
    assert [crop.shape[1:] for crop in blank["crops"]] == [crop.shape[1:] for crop in batch["crops"]]


def test_a_crop_takes_its_share_of_the_image():
    y, x = np.mgrid[:40, :40].astype(np.uint8)
    ramp = np.broadcast_to(np.stack([6 * y, 6 * x, 0 * x], -1), (8, 40, 40, 3))
    batch = cropped(DINO, ArrayPixels(ramp.copy())).batch(np.arange(8), seed=0, epoch=0)
    for number, crop in enumerate(batch["crops"]):
        height, width = ((crop[:, c].flatten(1).amax(1) - crop[:, c].flatten(1).amin(1)) / 6 + 1 for c in (0, 1))
        share = height * width / 1600
        low, high = (0.5, 1.0) if number < 2 else (0.05, 0.2)
        assert low - 0.1 < float(share.min())
        assert float(share.max()) < high + 0.1
        assert len(set(share.tolist())) > 3


def test_two_views_are_the_case_without_local_crops():
    batch = cropped(Crops(), ArrayPixels(PIXELS)).batch(np.arange(8), seed=0, epoch=0)
    assert [crop.shape for crop in batch["crops"]] == [(8, 3, 32, 32)] * 2


def test_files_are_decoded_once_and_bad_ones_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    paths = [write(tmp_path / f"{number}.png", PIXELS[number]) for number in range(4)]
    paths[2].write_bytes(b"torn")
    store, seen = Store.of_files(paths, resize=None), []
    one = store.one
    monkeypatch.setattr(store, "one", lambda row: seen.append(row) or one(row))
    batch = cropped(DINO, store, skip=True).batch(np.arange(4), seed=0, epoch=0)
    assert seen == [0, 1, 2, 3]
    assert batch["index"].tolist() == [0, 1, 3]
    assert [path for path, _ in batch["bad"]] == [str(paths[2])]
    assert {len(crop) for crop in batch["crops"]} == {3}
    with pytest.raises(BadImage, match=r"2\.png"):
        cropped(DINO, store).batch(np.arange(4), seed=0, epoch=0)


def test_scales_are_least_and_most():
    with pytest.raises(ConfigError, match=r"`task.view.local_scale` must be \[least, most\], but is \[0.5, 0.1\]"):
        Crops(local_crops=1, local_scale=(0.5, 0.1))


def test_each_kind_of_crop_has_its_own_blur_and_solarisation():
    view = Crops(global_crops=3, local_crops=1, local_size=16, blur=(1.0, 0.0, 0.0), solarize=(0.0, 1.0, 0.0))
    first, *further, local = cropped(view, ArrayPixels(PIXELS)).batch(np.arange(8), seed=0, epoch=0)["crops"]
    assert [int(crop.max()) < 128 for crop in further] == [True, True]
    assert int(local.max()) > 128
    plain = cropped(Crops(global_crops=3), ArrayPixels(PIXELS)).batch(np.arange(8), seed=0, epoch=0)["crops"][0]
    assert int(first.max()) > 128
    assert float(first.float().std()) < float(plain.float().std())
