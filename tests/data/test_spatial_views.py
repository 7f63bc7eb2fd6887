"""Views of several spatial columns, on the real files beside the project and on small files written here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from written import write

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.images.decode import decode
from tfcli.data.images.masks import VOID
from tfcli.data.module import DataModule
from tfcli.data.views.crops import Crops
from tfcli.data.views.spatial import BoxedImages, Clips, SegmentedImages, StereoPairs
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.tools.preview import samples
from tfcli.errors import ConfigError, DataError


def served(name: str, view: Any, root: Path, *settings: str) -> DataModule:
    """Return the data module of a packaged set, laid out by a view."""
    words = [f"data={name}", f"data.root={root}", "data.workers=0", "data.batch_size=4", *settings]
    data = build(compose("data", words).config.data)
    data.serve(view, data.columns)
    data.encode()
    return data


def camvid(root: Path, count: int = 6) -> Path:
    """Write a CamVid whose pictures show their masks: a bar, of class 8, and what is not labelled."""
    for number in range(count):
        mask = np.zeros((40, 60), dtype=np.uint8)
        mask[10:30, 10 + 5 * number : 20 + 5 * number] = 8
        mask[:4] = 11
        write(root / f"CamVid/train/{number}.png", np.repeat((mask * 20)[..., None], 3, -1))
        write(root / f"CamVid/trainannot/{number}.png", mask)
    write(root / "CamVid/train.txt", "".join(f"train/{n}.png trainannot/{n}.png\n" for n in range(count)))
    return root


FEW = ("data.val_fraction=0", "data.test_fraction=0", "data.image_size=32")


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_masks_are_served_with_their_images(tmp_path, cache):
    data = served("camvid", SegmentedImages(), camvid(tmp_path), *FEW, f"data.cache={cache}")
    assert data.classes[8] == "car"
    for epoch in range(3):
        batch = data._set("train").samples.batch(np.arange(6), seed=0, epoch=epoch)
        assert batch["image"].shape == (6, 3, 32, 32)
        assert batch["mask"].dtype == torch.uint8
        assert set(batch["mask"].unique().tolist()) <= {0, 8, VOID}
        bar = batch["mask"] == 8
        bright = batch["image"][:, 0] > 75
        assert float(bright[bar].float().mean()) > 0.95
        assert float(bright[batch["mask"] == 0].float().mean()) < 0.03
    blank, real = data.blank(3), data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert {name: (value.shape[1:], value.dtype) for name, value in blank.items()} == {
        name: (value.shape[1:], value.dtype) for name, value in real.items()
    }
    assert real["image"].is_floating_point()


def test_a_torn_mask_is_named_or_left_out(tmp_path):
    root = camvid(tmp_path)
    write(root / "CamVid/trainannot/2.png", b"torn")
    data = served("camvid", SegmentedImages(), root, *FEW)
    with pytest.raises(DataError, match=r"trainannot/2\.png: not an image"):
        list(data.train_dataloader())
    write(root / "CamVid/trainannot/2.png", np.zeros((20, 30), dtype=np.uint8))  # the proportions of the image
    said = r"trainannot/2\.png: the mask is 20 x 30, but `image` is 40 x 60"
    with pytest.raises(DataError, match=said):
        list(data.train_dataloader())
    whole = served("camvid", SegmentedImages(), root, *FEW, "data.cache=none", "data.decode_size=100000")
    with pytest.raises(DataError, match=said):
        samples(whole, "train", ["image", "mask"], 6, augmented=False)
    data = served("camvid", SegmentedImages(), root, *FEW, "data.on_error=skip", "data.max_bad_fraction=0.5")
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == [0, 1, 3, 4, 5]
    assert [Path(path).name for path, _ in data.bad_files] == ["2.png"]
    write(root / "CamVid/trainannot/0.png", b"torn")
    assert data.blank(2)["mask"].shape == (2, 32, 32)
    assert data._set("train").samples.bytes_each == 32 * 32 * (3 + 1) + 8


class Framed:
    """A source of image files with boxes, those of odd rows twice; and of the class of each box."""

    def __init__(self, root: Path):
        self.root = root

    def load(self, request: Any) -> LoadedTables:
        boxes = [[[20, 10, 50, 40]] * (1 + row % 2) for row in range(6)]
        paths = [write(self.root / f"{row}.png", self.picture()) for row in range(6)]
        labels = [[3] * len(own) for own in boxes]
        table = {"image": FileColumn(paths, decode), "boxes": boxes, "label": labels}
        return LoadedTables({split: table for split in ("train", "val", "test")})

    @staticmethod
    def picture() -> np.ndarray:
        image = np.zeros((80, 120, 3), dtype=np.uint8)
        image[10:40, 20:50] = 250
        return image


def test_boxes_lie_on_reduced_images_and_labels_stay_beside_them(tmp_path):
    settings = {"image_size": 20, "eval_crop": 1.0, "augment": {"crop": "resized", "scale": (0.2, 1.0)}, "workers": 0}
    data = DataModule(Framed(tmp_path), name="framed", columns=["image", "boxes", "label"], **settings)
    data.serve(BoxedImages(), ["image", "boxes"])
    data.encode()
    seen = 0
    for epoch in range(4):
        batch = data._set("train").samples.batch(np.arange(6), seed=0, epoch=epoch)
        assert batch["boxes"].shape == (6, 2, 4)
        assert batch["label"].tolist() == [[3, -1], [3, 3]] * 3
        assert not batch["boxes_valid"][::2, 1].any()
        for image, box, valid in zip(batch["image"], batch["boxes"][:, 0], batch["boxes_valid"][:, 0], strict=True):
            y, x = np.nonzero(image[0].numpy() > 125)
            if valid:
                seen += 1
                assert np.abs(box.numpy() - [x.min(), y.min(), x.max() + 1, y.max() + 1]).max() <= 1
    assert seen > 12


@pytest.mark.parametrize("name", ["kitti2015", "middlebury2014", "flying_things"])
def test_real_pairs_are_cropped_alike(real_data, name):
    few = ("data.val_fraction=0", "data.test_fraction=0", "data.image_size=160", "data.cache=none")
    data = served(name, StereoPairs(), real_data, *few)
    batch = data._set("train").samples.batch(np.arange(1), seed=0, epoch=1)
    assert ("occluded" in batch) == (name == "middlebury2014")
    image, right, disparity = (batch[key][0].float() for key in ("image", "right", "disparity"))
    row, column = torch.nonzero(disparity > 0, as_tuple=True)
    there = (column - disparity[row, column]).round().long()
    row, column, there = (part[there >= 0] for part in (row, column, there))
    assert len(row) > 500
    off, chance = ((right[:, row, place] - image[:, row, column]).abs().mean() for place in (there, there.roll(97)))
    assert off < chance / 2
    mirrored = ["data.augment.flip=0.5"]
    with pytest.raises(ConfigError, match=r"data\.augment\.flip=0"):
        served(name, StereoPairs(), real_data, *few, *mirrored)


def test_real_clips_keep_one_geometry(real_data):
    pytest.importorskip("av")
    data = served("videos", Clips(), real_data, "data.frames=3", "data.side=48", "data.image_size=32", *FEW[:2])
    batch = data._set("train").samples.batch(np.array([3, 4]), seed=0, epoch=0)
    assert batch["clip"].shape == (2, 3, 3, 32, 32)
    assert not torch.equal(batch["clip"][0, 0], batch["clip"][0, 2])


def test_crops_are_normalised_in_every_split(tmp_path):
    settings = {"image_size": 20, "eval_crop": 1.0, "workers": 0, "batch_size": 2}
    data = DataModule(Framed(tmp_path), name="framed", columns=["image", "boxes", "label"], **settings)
    data.serve(Crops(local_crops=1, local_size=8), ["image"])
    data.encode()
    for loader in (data.train_dataloader(), data.val_dataloader()):
        batch = data.on_after_batch_transfer(next(iter(loader)), 0)
        assert [crop.is_floating_point() for crop in batch["crops"]] == [True] * 3
        assert batch["crops"][2].shape[-2:] == (8, 8)


VIEWS = {
    "mask": (SegmentedImages(), ("image", "mask")),
    "boxes": (BoxedImages(), ("image", "boxes")),
    "stereo": (StereoPairs(), ("image", "right", "disparity", "occluded")),
    "clips": (Clips(), ("clip",)),
    "crops": (Crops(local_crops=1, local_size=16), ("image",)),
}
SCENES = ("data=shapes", "data.num_train=10", "data.num_val=4", "data.num_test=4", "data.workers=0")


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_serves_each_generated_scene_once_and_by_its_address(name):
    view, needs = VIEWS[name]
    data = build(compose("data", [*SCENES, "data.batch_size=4", "data.augment.crop=padded"]).config.data)
    data.serve(view, needs)
    data.encode()
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.train_dataloader()]
    assert sorted(torch.cat([batch["index"] for batch in batches]).tolist()) == list(range(10))
    blank = data.blank(4)
    assert blank.keys() == batches[0].keys()
    samples = data._set("train").samples
    together = samples.batch(np.array([7, 2]), seed=0, epoch=1)
    alone = samples.batch(np.array([2]), seed=0, epoch=1)
    for key, part in together.items():
        pairs = zip(part, alone[key], strict=True) if key == "crops" else [(part, alone[key])]
        assert all(torch.equal(two[1], one[0]) for two, one in pairs), key
    assert len(next(iter(data.val_dataloader()))["index"]) == 4


@pytest.mark.parametrize("name", ["mask", "crops"])
def test_mixtures_are_refused(name):
    view, needs = VIEWS[name]
    data = build(compose("data", [*SCENES, "data.augment.mixup=0.2"]).config.data)
    data.serve(view, needs)
    with pytest.raises(ConfigError, match=r"data\.augment\.mixup and \.cutmix cannot mix"):
        data.encode()
