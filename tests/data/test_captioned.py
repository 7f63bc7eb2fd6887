"""Batches of images with captions: addressed draws, both kinds of evaluation, and sets that have captions alone."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from tfcli.data.common.rows import taken
from tfcli.data.common.workers import Ranks
from tfcli.data.module import DataModule
from tfcli.data.sources.captions import Captions
from tfcli.data.synthetic.objects import COLOURS, HELD_OUT, PAIR_NAMES, SHAPES, SIZES
from tfcli.data.synthetic.shapes import ShapesWorld
from tfcli.data.synthetic.source import Shapes
from tfcli.data.views.captioned import CaptionedImages
from tfcli.engine.tools.preview import samples
from tfcli.errors import ConfigError, DataError
from tfcli.text.tokenizer import make

PAIRED = ("image", "caption")
CONF = Path(__file__).parents[2] / "conf"


@pytest.fixture
def folder(tmp_path) -> Path:
    """Thirty small photographs with one to three captions each."""
    random = np.random.default_rng(0)
    lines = ["image\tcaption"]
    for i in range(30):
        Image.fromarray(random.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
        lines += [f"{i}.png\twording {k} of picture {i}" for k in range(1 + i % 3)]
    (tmp_path / "captions.tsv").write_text("\n".join(lines))
    return tmp_path


def photographs(folder: Path, **kwargs) -> DataModule:
    settings = {"image_size": 16, "batch_size": 4, "cache": "memory", "workers": 0, "augment": {"flip": 0.0}}
    data = DataModule(Captions(), name="captions", columns=PAIRED, root=folder, **(settings | kwargs))
    data.prepare()
    data.encode(make("words", context=8, texts=[t for s in data.counts if data.counts[s] for t in data.texts(s)]))
    return data


def shapes(**kwargs) -> DataModule:
    source = Shapes(num_train=300, num_val=40, num_test=50, num_pairs=24, **kwargs.pop("source", {}))
    settings = {"image_size": 32, "eval_crop": 1.0, "augment": {"crop": "none", "flip": 0.0}, "workers": 0}
    data = DataModule(source, name="shapes", **(settings | kwargs))
    data.serve(CaptionedImages(), ("image", "caption"))
    data.encode(make("words", context=16, texts=data.texts("train")))
    return data


def all_captions(data: DataModule, split: str) -> list[list[str]]:
    return taken(data.rows[split]["caption"])


def words(data: DataModule, tokens: torch.Tensor) -> list[str]:
    return [data.tokenizer.decode(row) for row in tokens.tolist()]


def drawn(loader) -> dict[int, tuple[list[int], torch.Tensor]]:
    return {
        int(i): (tokens.tolist(), image)
        for batch in loader
        for i, tokens, image in zip(batch["index"], batch["tokens"], batch["image"], strict=True)
    }


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[i][0] == b[i][0] and torch.equal(a[i][1], b[i][1]) for i in a)


# ---- training batches


def test_a_set_of_captions_is_captioned_by_itself(folder):
    data = photographs(folder)
    assert data.counts == {"train": 22, "val": 2, "test": 6}
    assert data.num_classes == 0
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert set(batch) == {"image", "tokens", "index"}
    assert batch["tokens"].dtype == torch.int64
    assert batch["tokens"].shape == (4, 8)


@pytest.mark.parametrize("workers", [0, 2])
def test_captions_belong_to_seed_epoch_and_index(folder, workers):
    reference = drawn(photographs(folder).train_dataloader())
    loader = photographs(folder, batch_size=7, workers=workers).train_dataloader()
    assert equal(drawn(loader), reference)
    later = [drawn(loader) for _ in range(4)]
    assert any(later[0][i][0] != reference[i][0] for i in reference)
    data = photographs(folder)
    for i in reference:  # over the epochs every caption of an image is met, and none of another's
        found = set(words(data, torch.tensor([epoch[i][0] for epoch in [reference, *later]])))
        assert found <= set(data.rows["train"]["caption"][i])
    assert not equal(drawn(photographs(folder, seed=1).train_dataloader()), reference)


def test_resuming_in_the_middle_of_an_epoch(folder):
    straight = photographs(folder).train_dataloader()
    epochs = [list(straight) for _ in range(2)]
    data = photographs(folder)
    data.start_epoch, data.start_batch = 1, 3
    loader = data.train_dataloader()
    loader.sampler.set_epoch(1)
    for a, b in itertools.zip_longest(epochs[1][3:], loader):
        assert torch.equal(a["tokens"], b["tokens"])
        assert torch.equal(a["image"], b["image"])


def test_two_ranks_share_an_epoch_in_equal_batches(folder):
    modules = [photographs(folder) for _ in range(2)]
    for rank, data in enumerate(modules):
        data.ranks = Ranks(rank, 2)
    seen = [[len(b["index"]) for b in data.train_dataloader()] for data in modules]
    assert seen[0] == seen[1]
    evaluated = [i for data in modules for (loader,) in [data.test_dataloader()] for b in loader for i in b["index"]]
    assert sorted(int(i) for i in evaluated) == list(range(6))


def read_everything(folder: Path, cache: str) -> None:
    data = photographs(folder, cache=cache)
    for loader in (data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()):
        list(loader)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_skipped_files_leave_batches_of_equal_size(folder, cache):
    bad = {folder / f"{i}.png" for i in range(3)}
    for path in bad:
        path.write_bytes(b"no image")
    data = photographs(folder, cache=cache, on_error="skip", max_bad_fraction=0.2, val_fraction=0.0)
    batches = [data.on_after_batch_transfer(b, 0) for b in data.train_dataloader()]
    assert all(len(b["image"]) == len(b["tokens"]) == len(b["index"]) for b in batches)
    assert [len(b["index"]) for b in batches[:-1]] == [4] * (len(batches) - 1)
    with pytest.raises(DataError, match="not an image file"):
        read_everything(folder, cache)


def test_long_captions_are_cut_and_noted(folder):
    data = photographs(folder)
    assert not any("longer than" in note for note in data.notes)
    data.encode(make("words", context=5, texts=data.texts("train")))
    assert any("100.0% of the captions are longer than 5 tokens" in note for note in data.notes)
    assert next(iter(data.train_dataloader()))["tokens"].shape == (4, 5)


def test_what_does_not_fit_captions_is_refused(folder):
    with pytest.raises(ConfigError, match="mixup"):
        photographs(folder, augment={"mixup": 0.2})
    data = shapes()
    with pytest.raises(DataError, match="no texts of a split `tset`"):
        data.texts("tset")
    untold = DataModule(Captions(), name="captions", columns=PAIRED, root=folder, image_size=16, workers=0)
    with pytest.raises(ValueError, match="tokenizer"):
        untold.train_dataloader()


# ---- evaluation batches


def test_evaluation_has_all_captions_and_their_owners(folder):
    data = photographs(folder)
    (loader,) = data.test_dataloader()
    (batch,) = list(loader)
    expected = all_captions(data, "test")
    assert batch["owner"].tolist() == [i for i, own in enumerate(expected) for _ in own]
    assert words(data, batch["tokens"]) == [text for own in expected for text in own]
    assert "label" not in batch


def test_pairs_and_labels_are_both_evaluated():
    data = shapes(watch_test=True)
    assert data.counts == {"train": 300, "val": 24, "test": 24}
    loaders = data.val_dataloader()
    kinds = [next(iter(loader)).keys() for loader in loaders]
    assert ["owner" in keys for keys in kinds] == [True, False, True, False]
    assert [sum(len(b["index"]) for b in loader) for loader in loaders] == [24, 40, 24, 50]
    assert len(data.test_dataloader()) == 2
    plain = DataModule(Shapes(num_train=300, num_val=40, num_test=50), name="shapes", image_size=32, workers=0)
    plain.prepare()
    assert plain.counts == {"train": 300, "val": 40, "test": 50}
    assert plain.fingerprint != data.fingerprint
    assert plain.fingerprints == data.fingerprints


def test_the_fingerprint_sees_the_captions(folder):
    before = photographs(folder).fingerprint
    assert photographs(folder).fingerprint == before
    file = folder / "captions.tsv"
    file.write_text(file.read_text().replace("wording 0 of picture 7", "wording 9 of picture 7"))
    assert photographs(folder).fingerprint != before


def test_blank_batches_and_samples(folder):
    data = photographs(folder)
    batch = data.blank(5)
    assert batch["image"].shape == (5, 3, 16, 16)
    assert batch["tokens"].shape == (5, 8)
    shown = samples(data, "train", PAIRED, 6, augmented=False)
    assert [sample["image"].shape for sample in shown] == [(16, 16, 3)] * 6
    assert all(sample["caption"][0].startswith("wording 0") for sample in shown)
    with pytest.raises(DataError, match="no split `vla`, only train, val, test"):
        samples(data, "vla", PAIRED, 3, augmented=False)


# ---- shapes and real data


def test_captioned_shapes_are_described_truly_and_never_held_out():
    held = [name for name, out in zip(PAIR_NAMES, HELD_OUT, strict=True) if out]
    data = shapes(source={"test_split": "comp"})
    for split in ("train", "val", "test"):
        assert not any(name in text for name in held for text in data.texts(split))
    assert len(data.texts("train")) == 5 * 300
    assert len(data.texts("val")) == 24
    objects = ShapesWorld(32, k=2, vary=True).batch(np.arange(300), fields=("objects",))["objects"]
    assert set(objects[:, :, 6].sum(1).tolist()) == {1, 2}
    for scene, texts in zip(objects, all_captions(data, "train"), strict=True):
        pairs = [f"{COLOURS[o[0]]} {SHAPES[o[1]]}" for o in scene if o[6]]
        assert all(pair in text for pair in pairs for text in texts)
        assert all(SIZES[scene[0][2]] in text or not any(s in text.split(pairs[0])[0] for s in SIZES) for text in texts)
    assert any("never shows" in note for note in data.notes)


def test_objects_of_captioned_shapes_are_at_least_four_pixels_in_radius():
    from tfcli.data.synthetic.sprites import radii

    assert radii(32).min() >= 4


def test_real_flickr8k_from_end_to_end(real_data):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides=["data=flickr8k", f"data.root={real_data}", "data.workers=0"])
    data = instantiate(config.data)
    data.prepare()
    data.encode(make("words", context=40, texts=data.texts("train")))
    assert data.counts == {"train": 800, "val": 100, "test": 100}
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["image"].shape == (128, 3, 64, 64)
    (loader,) = data.test_dataloader()
    assert sum(len(b["owner"]) for b in loader) == 500
    assert any("officially" in note for note in data.notes)
