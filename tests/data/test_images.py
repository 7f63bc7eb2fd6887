from __future__ import annotations

import gc
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from contract.families import columns_of_sets
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from tfcli.data.columns.pixels import ArrayPixels
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.order import Address
from tfcli.data.common.workers import Ranks, choose_workers
from tfcli.data.module import DataModule
from tfcli.data.sources.digits import Digits
from tfcli.data.sources.folder import Folder
from tfcli.engine.train.prepare import Finished
from tfcli.errors import ConfigError, DataError, PolicyStop

CONF = Path(__file__).parents[2] / "conf"
SETS = [name for name, found in columns_of_sets().items() if "image" in found]


def composed(name: str, *overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[f"data={name}", *overrides]).data


def digits(**kwargs) -> DataModule:
    settings = {"image_size": 8, "num_classes": 10, "eval_crop": 1.0, "augment": {"crop": "padded"}, "workers": 0}
    return DataModule(Digits(), name="digits", **(settings | kwargs))


@pytest.fixture
def tree(tmp_path) -> Path:
    """Forty small photographs of two classes, no two alike."""
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for i in range(20):
            pixels = random.integers(0, 256, (20 + i % 3, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "tree" / name / f"{i}.png")
    return tmp_path / "tree"


def photographs(tree: Path, **kwargs) -> DataModule:
    settings = {"image_size": 16, "batch_size": 4, "cache": "memory", "workers": 0}
    return DataModule(Folder(), name="folder", root=tree, **(settings | kwargs))


def by_index(loader) -> dict[int, torch.Tensor]:
    return {int(i): image for batch in loader for i, image in zip(batch["index"], batch["image"], strict=True)}


def equal(a: dict[int, torch.Tensor], b: dict[int, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[i], b[i]) for i in a)


# ---- configs


@pytest.mark.parametrize("name", SETS)
def test_every_config_builds_its_module(name):
    config = composed(name)
    data = instantiate(config)
    assert isinstance(data, DataModule)
    assert data.name == name
    assert config.image_size % config.patch_size == 0
    assert data.given_classes == config.num_classes
    if config.num_classes:
        assert data.num_classes == config.num_classes


def test_shapes_classes_follow_the_label():
    assert [composed("shapes", f"data.label={label}").num_classes for label in ("colour", "shape", "pair")] == [
        8,
        6,
        48,
    ]
    assert composed("shapes", "data.label=count", "data.objects=3").num_classes == 3


# ---- digits


def test_digits_counts_and_batches():
    data = digits(batch_size=32)
    data.prepare()
    assert data.counts == {"train": 1293, "val": 144, "test": 360}
    assert data.classes == [str(i) for i in range(10)]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (32, 3, 8, 8)
    assert batch["image"].dtype == torch.uint8
    assert batch["image"].max() == 255
    assert batch["label"].dtype == batch["index"].dtype == torch.int64
    assert torch.equal(batch["image"][:, 0], batch["image"][:, 2])
    finished = data.on_after_batch_transfer(dict(batch), 0)
    assert finished["image"].dtype == torch.float32
    assert len(data.test_dataloader()) == 6
    assert sum(len(b["label"]) for b in data.test_dataloader()) == 360
    assert data.arrays("test")[0].shape == (360, 8, 8, 3)


def test_splits_do_not_overlap_and_follow_their_seed():
    whole = Digits()
    data = digits()
    data.prepare()
    train, val = data.rows["train"]["image"], data.rows["val"]["image"]
    assert not set(train.rows) & set(val.rows)
    assert len(train) + len(val) == whole.load(data.request).counts["train"]
    other = digits(split_seed=1)
    other.prepare()
    assert set(other.rows["val"]["image"].rows) != set(val.rows)
    assert np.array_equal(other.arrays("test")[0], data.arrays("test")[0])
    assert other.fingerprint != data.fingerprint
    again = digits()
    again.prepare()
    assert again.fingerprint == data.fingerprint


def test_limits_and_no_validation():
    data = digits(limit_train=100, limit_test=37, val_fraction=0.0, watch_test=True)
    data.prepare()
    assert data.counts == {"train": 100, "val": 0, "test": 37}
    assert [len(loader) for loader in data.val_dataloader()] == [1]
    assert digits(val_fraction=0.0).val_dataloader() == []
    assert len(digits(watch_test=True).val_dataloader()) == 2


# ---- addressed randomness


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_belongs_to_seed_epoch_and_index(tree, workers):
    augment = {"crop": "resized", "randaugment": 5, "color_jitter": 0.2, "erasing": 0.5}
    reference = by_index(photographs(tree, augment=augment).train_dataloader())
    assert len(reference) == 29  # 40 less 8 for test and 3 for validation
    loader = photographs(tree, augment=augment, batch_size=7, workers=workers).train_dataloader()
    assert equal(by_index(loader), reference)
    second = by_index(loader)
    assert not any(torch.equal(second[i], reference[i]) for i in reference)
    assert not equal(by_index(photographs(tree, augment=augment, seed=1).train_dataloader()), reference)


@pytest.mark.parametrize("augment", [{"crop": "padded", "mixup": 0.2}, {"crop": "resized"}, {"repeats": 2}])
def test_batches_that_are_read_and_finished_at_once_are_those_of_their_own(augment):
    data = digits(augment={"crop": "none", **augment}, batch_size=40)
    loader = data.train_dataloader()
    assert 1 < loader.ahead < len(loader)  # more than one group, and the last batch is smaller
    alone = [data.on_after_batch_transfer(loader.dataset[address], 0) for address in loader.sampler]
    loader.sampler.set_epoch(0)
    together = list(Finished(loader, data.on_after_batch_transfer))
    assert len(together) == len(alone) == len(loader)
    for one, other in zip(alone, together, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_in_the_middle_of_an_epoch(tree, workers):
    straight = photographs(tree).train_dataloader()
    epochs = [list(straight) for _ in range(3)]
    data = photographs(tree, workers=workers)
    data.start_epoch, data.start_batch = 1, 5
    loader = data.train_dataloader()
    assert len(loader) == len(straight)
    loader.sampler.set_epoch(1)
    for expected, found in ((epochs[1][5:], list(loader)), (epochs[2], list(loader))):
        assert len(expected) == len(found)
        for a, b in zip(expected, found, strict=True):
            assert torch.equal(a["index"], b["index"])
            assert torch.equal(a["image"], b["image"])


def test_cache_modes_change_nothing(tree, tmp_path, monkeypatch):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    results = {mode: photographs(tree, cache=mode) for mode in ("memory", "disk", "none")}
    train = {mode: by_index(data.train_dataloader()) for mode, data in results.items()}
    test = {mode: by_index(data.test_dataloader()) for mode, data in results.items()}
    for mode in ("disk", "none"):
        assert equal(train[mode], train["memory"])
        assert equal(test[mode], test["memory"])
    assert len({data.fingerprint for data in results.values()}) == 1
    assert len({tuple(data.sources("val")) for data in results.values()}) == 1
    assert equal(by_index(photographs(tree, cache="disk", workers=2).train_dataloader()), train["memory"])


@pytest.mark.parametrize("cache", ["memory", "disk", "none"])
def test_splits_travel_to_other_processes(tree, tmp_path, monkeypatch, cache):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    data = photographs(
        tree,
        cache=cache,
        augment={"randaugment_kind": "timm", "randaugment": 3, "erasing": 0.5, "erasing_fill": "pixel"},
    )
    train, address = data.train_dataloader().dataset, Address(2, 0, np.array([4, 1]))
    assert torch.equal(pickle.loads(pickle.dumps(train))[address]["image"], train[address]["image"])


def test_ranks_share_the_epoch_and_evaluate_exactly(tree):
    modules = [photographs(tree, batch_size=4, limit_test=7) for _ in range(2)]
    for rank, data in enumerate(modules):
        data.ranks = Ranks(rank, 2)
    train = [[b["index"].tolist() for b in data.train_dataloader()] for data in modules]
    assert [len(b) for b in train[0]] == [len(b) for b in train[1]]
    assert {i for rank in train for b in rank for i in b} == set(range(29))
    test = [i for data in modules for b in data.test_dataloader() for i in b["index"].tolist()]
    assert sorted(test) == list(range(7))


def test_copies_are_augmented_each_its_own_way(tree):
    def images(ranks: int = 1, **kwargs) -> dict[tuple[int, int], torch.Tensor]:
        found, many = {}, {"augment": {"scale": [0.3, 1.0], "repeats": 3}, "limit_train": 24, **kwargs}
        for rank in range(ranks):
            data = photographs(tree, batch_size=12 // ranks, **many)
            data.ranks = Ranks(rank, ranks)
            for address, batch in zip(data.train_dataloader().sampler, data.train_dataloader(), strict=True):
                assert batch["index"].tolist() == address.indices.tolist()
                found |= dict(zip(zip(address.indices, address.copies, strict=True), batch["image"], strict=True))
        return found

    one = images()
    assert len(one) == 24
    assert len({index for index, _ in one}) == 8
    for index in {index for index, _ in one}:
        assert not any(torch.equal(one[index, a], one[index, b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert equal(one, images(ranks=2))
    assert equal(one, images(workers=2))


def test_mixing_is_addressed_and_gives_targets(tree):
    def batches(**kwargs):
        data = photographs(tree, augment={"mixup": 0.8, "cutmix": 1.0}, **kwargs)
        return [data.on_after_batch_transfer(b, 0) for b in data.train_dataloader()]

    one, two = batches(), batches(workers=2)
    for a, b in zip(one, two, strict=True):
        assert torch.equal(a["image"], b["image"])
        if len(a["image"]) > 1:
            assert torch.equal(a["target"], b["target"])
            assert a["target"].shape == (len(a["image"]), 2)
            assert torch.allclose(a["target"].sum(1), torch.ones(len(a["image"])))
    assert len({float(b["target"].max()) for b in one if "target" in b}) > 1
    evaluated = photographs(tree, augment={"mixup": 0.8})
    assert "mix" not in next(iter(evaluated.val_dataloader()))


def test_blank_batches_fit_and_draw_nothing():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    data = digits(augment={"crop": "padded", "mixup": 0.2})
    data.prepare()
    batch = data.blank(5)
    assert batch["image"].shape == (5, 3, 8, 8)
    assert batch["target"].shape == (5, 10)
    assert torch.equal(before, torch.get_rng_state())


# ---- bad data


def spoil(tree: Path, count: int) -> list[str]:
    paths = sorted((tree / "cat").iterdir())[:count]
    for path in paths:
        path.write_bytes(b"not an image")
    return [str(path) for path in paths]


def everything(data: DataModule) -> int:
    """Read all splits as an epoch does; how many images there were."""
    loaders = (data.train_dataloader(), data.val_dataloader(), data.test_dataloader())
    return sum(len(data.on_after_batch_transfer(batch, 0)["label"]) for loader in loaders for batch in loader)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_raise_names_the_file(tree, cache):
    bad = spoil(tree, 1)
    data = photographs(tree, cache=cache)
    with pytest.raises(DataError, match=bad[0]):
        everything(data)


@pytest.mark.parametrize(("cache", "workers"), [("memory", 0), ("none", 0), ("none", 2)])
def test_skip_lists_exactly_the_bad_files(tree, cache, workers):
    bad = spoil(tree, 3)
    data = photographs(tree, cache=cache, workers=workers, on_error="skip", max_bad_fraction=0.1)
    assert everything(data) == 37
    assert sorted(path for path, _ in data.bad_files) == bad
    told = {name for split in ("train", "val", "test") for name in data.sources(split)}
    assert (not told & {"/".join(Path(path).parts[-2:]) for path in bad}) == (cache == "memory")


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_too_many_bad_files_stop_by_policy(tree, cache):
    spoil(tree, 8)
    data = photographs(tree, cache=cache, on_error="skip", max_bad_fraction=0.1)
    with pytest.raises(PolicyStop):
        everything(data)


def test_an_error_in_a_worker_keeps_its_path(tree):
    bad = spoil(tree, 20)
    loader = photographs(tree, cache="none", workers=2).train_dataloader()
    with pytest.raises(DataError) as caught:
        list(loader)
    del loader
    gc.collect()
    assert str(caught.value).split(": ")[0] in bad
    assert "Traceback" not in str(caught.value)


class Fixed:
    """A source of given labels."""

    def __init__(self, labels, classes):
        self.labels, self.classes = np.array(labels, dtype=np.int64), classes

    def load(self, request):
        pixels = ArrayPixels(np.zeros((len(self.labels), 4, 4), dtype=np.uint8))
        rows = {"image": pixels, "label": self.labels}
        return LoadedTables(dict.fromkeys(("train", "val", "test"), rows), {"label": self.classes})


@pytest.mark.parametrize(
    ("labels", "classes", "given", "message"),
    [
        ([0, 1, 0], ["a", "b"], 5, "is 5, but set has 2 classes"),
        ([0, 0, 0], ["a"], None, "1 class"),
        ([0, 1, 2], ["a", "b"], None, r"label of number 2 is 2, outside 0\.\.1"),
        ([], ["a", "b"], None, "no image is left"),
    ],
)
def test_sets_that_cannot_be_trained_on(labels, classes, given, message):
    with pytest.raises(DataError, match=message):
        DataModule(Fixed(labels, classes), name="set", num_classes=given, image_size=4).prepare()


def test_fewer_samples_than_a_batch_are_one_batch():
    data = DataModule(Fixed([0, 1, 0], ["a", "b"]), name="set", image_size=4, augment={"crop": "none"}, workers=0)
    assert [len(b["label"]) for b in data.train_dataloader()] == [3]


def test_wrong_words_are_refused():
    for key in ("cache", "on_error", "interpolation"):
        with pytest.raises(ConfigError, match=key):
            digits(**{key: "maybe"})


# ---- files of the user, workers, real data


def test_files_of_the_user(tree):
    data = photographs(tree, on_error="skip")
    paths = [*sorted((tree / "dog").iterdir())[:5]]
    paths[2].write_text("no image")
    batches = list(data.files_dataloader(paths))
    assert [i for b in batches for i in b["index"].tolist()] == [0, 1, 3, 4]
    assert batches[0]["image"].dtype == torch.float32
    assert batches[0]["label"].tolist() == [-1] * 4
    with pytest.raises(DataError, match=str(paths[2])):
        list(photographs(tree).files_dataloader(paths))
    (marked,) = photographs(tree).files_dataloader(paths, mark_bad=True)
    assert marked["index"].tolist() == [0, 1, -3, 3, 4]
    assert torch.equal(marked["image"][marked["index"] >= 0], batches[0]["image"])


def test_workers_are_chosen_from_the_cores(monkeypatch):
    monkeypatch.setattr("tfcli.data.common.workers.cores", lambda: 16)

    def count(asked="auto", **kwargs):
        settings = {"in_memory": False, "ranks": Ranks(), "batches": 100, "bytes_a_batch": 1000}
        return choose_workers(asked, **(settings | kwargs))

    assert count() == (8, None)
    assert count(ranks=Ranks(0, 4)) == (3, None)
    assert count(batches=2) == (2, None)
    monkeypatch.setattr("tfcli.data.common.workers.cores", lambda: 2)
    assert count() == (1, None)
    assert count(in_memory=True) == (0, None)
    assert count(2) == (2, None)
    reduced, note = count(64)
    assert reduced == 2
    assert "64" in note
    assert count(1, bytes_a_batch=10**15)[0] == 0


def test_real_pets_from_end_to_end(real_data):
    data = instantiate(composed("pets", f"data.root={real_data}", "data.image_size=64", "data.workers=0"))
    data.prepare()
    assert data.counts == {"train": 233, "val": 26, "test": 111}
    assert any("officially" in note for note in data.notes)
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert batch["image"].shape == (64, 3, 64, 64)
    assert abs(float(batch["image"].mean())) < 1


def test_real_cifar10_subset(real_data):
    data = instantiate(composed("cifar10", f"data.root={real_data}", "data.verify=false", "data.workers=0"))
    data.prepare()
    assert data.counts == {"train": 3425, "val": 380, "test": 761}
    assert any("verification off" in note for note in data.notes)
    assert next(iter(data.test_dataloader()))["image"].shape == (128, 3, 32, 32)
