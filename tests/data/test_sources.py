from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from written import packaged_source

from tfcli.data.columns.filecolumn import FileColumn
from tfcli.data.common.fetch import shared_folders
from tfcli.data.common.request import Request
from tfcli.data.sources import adapters
from tfcli.data.sources.digits import digits
from tfcli.data.sources.torchvision_sets import Torchvision
from tfcli.errors import DataError

CONF = Path(__file__).parents[2] / "conf" / "data"


def named(source: str) -> list[str]:
    """Return the packaged sets with such a source."""
    return [path.stem for path in sorted(CONF.glob("[!_]*.yaml")) if source in path.read_text(encoding="utf-8")]


TORCHVISION, PAIRED = named("torchvision_sets.Torchvision"), named("sources.pairedfiles.")
assert TORCHVISION
assert PAIRED


def read(name: str) -> dict:
    return yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))


def source(name: str) -> Torchvision:
    keywords = read(name)["source"]
    keywords.pop("_target_")
    return Torchvision(**keywords)


def load(name: str, root: Path, **kwargs):
    return source(name).load(Request(name=name, root=root, facts=read(name), **kwargs))


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (10, 20, 30)).save(path)


@pytest.mark.parametrize("name", TORCHVISION)
def test_configs_state_their_facts(name):
    config = read(name)
    assert config["name"] == name
    for fact in ("licence", "url", "download_bytes", "counts", "citation", "num_classes"):
        assert config.get(fact), fact
    classes = config["source"].get("classes", "classes")
    if isinstance(classes, list):
        assert len(classes) == config["num_classes"] == len(set(classes))


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_missing_set_says_how_to_get_it(name, tmp_path):
    with pytest.raises(DataError) as caught:
        load(name, tmp_path / "data")
    text = str(caught.value)
    assert read(name)["url"] in text
    assert str(tmp_path / "data" / name) in text
    assert read(name)["source"]["expects"][0].split("|")[0] in text


# ---- layouts as torchvision expects them, small


def make_dtd(root):
    for split in ("train", "val", "test"):
        lines = [f"{c}/{c}_{split}{i}.jpg" for c in ("banded", "dotted") for i in range(2)]
        for line in lines:
            photo(root / "dtd/dtd/images" / line)
        labels = root / f"dtd/dtd/labels/{split}1.txt"
        labels.parent.mkdir(parents=True, exist_ok=True)
        labels.write_text("\n".join(lines))


def make_aircraft(root):
    data = root / "fgvc-aircraft-2013b/data"
    data.mkdir(parents=True)
    (data / "variants.txt").write_text("707-320\nA 300\n")
    for split, start in (("train", 0), ("val", 2), ("test", 4)):
        lines = [f"{start} 707-320", f"{start + 1} A 300"]
        (data / f"images_variant_{split}.txt").write_text("\n".join(lines))
        for line in lines:
            photo(data / "images" / f"{line.split()[0]}.jpg")


def make_food101(root):
    meta = root / "food-101/meta"
    meta.mkdir(parents=True)
    for split in ("train", "test"):
        listing = {c: [f"{c}/{split}{i}" for i in range(2)] for c in ("apple_pie", "waffles")}
        (meta / f"{split}.json").write_text(str(listing).replace("'", '"'))
        for names in listing.values():
            for n in names:
                photo(root / "food-101/images" / f"{n}.jpg")


def make_sun397(root):
    (root / "SUN397").mkdir(parents=True)
    (root / "SUN397/ClassName.txt").write_text("/a/abbey\n/z/zoo/inside\n")
    for folder in ("a/abbey", "z/zoo/inside"):
        for i in range(5):
            photo(root / "SUN397" / folder / f"sun_{i}.jpg")


def make_caltech101(root):
    for name in ("BACKGROUND_Google", "Faces_easy", "ant"):
        for i in range(1, 6):
            photo(root / "caltech101/101_ObjectCategories" / name / f"image_{i:04d}.jpg")


def make_eurosat(root):
    for c in ("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture", "PermanentCrop"):
        for i in range(5):
            photo(root / "eurosat/2750" / c / f"{c}_{i}.jpg")


def make_gtsrb(root):
    base = root / "gtsrb"
    for c in range(2):
        photo(base / "GTSRB/Training" / f"{c:05d}" / "0.ppm")
    photo(base / "GTSRB/Final_Test/Images/00000.ppm")
    (base / "GT-final_test.csv").write_text(
        "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n00000.ppm;8;8;0;0;0;0;1\n"
    )


def make_country211(root):
    for split in ("train", "valid", "test"):
        for c in ("AD", "ZW"):
            photo(root / "country211" / split / c / f"{split}.jpg")


def make_rendered_sst2(root):
    for split in ("train", "valid", "test"):
        for c in ("negative", "positive"):
            photo(root / "rendered-sst2" / split / c / f"{split}.png")


def make_svhn(root):
    from scipy.io import savemat

    root.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", 6), ("test", 4)):
        images = np.zeros((32, 32, 3, count), dtype=np.uint8)
        images[1, 2, 0] = 7
        savemat(
            root / f"{split}_32x32.mat", {"X": images, "y": np.array([[10 if i == 0 else i] for i in range(count)])}
        )


def make_stl10(root):
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split, count in (("train", 4), ("test", 3)):
        images = np.zeros((count, 3, 96, 96), dtype=np.uint8)
        images[:, 0, 5, 2] = 9  # column-major in the file: row 2, column 5
        images.tofile(folder / f"{split}_X.bin")
        np.arange(1, count + 1, dtype=np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "unlabeled_X.bin").write_bytes(b"")


def make_cifar100(root):
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        content = {"data": np.zeros((4, 3072), dtype=np.uint8), "fine_labels": [0, 1, 2, 99]}
        (folder / split).write_bytes(pickle.dumps(content, protocol=4))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": [f"class_{i}" for i in range(100)]}, protocol=4))


def make_fashion_mnist(root):
    raw = root / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        head = lambda *n: b"".join(i.to_bytes(4, "big") for i in n)  # noqa: E731
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head(2051, 3, 28, 28) + bytes(3 * 784))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(head(2049, 3) + bytes([0, 1, 9]))


def make_imagenet(root):
    import torch

    for split in ("train", "val"):
        for wnid in ("n01", "n02", "n03"):
            photo(root / split / wnid / f"{split}.jpg")
    names = {"n01": ("crane", "bird crane"), "n02": ("crane", "lifting crane"), "n03": ("tench", "Tinca tinca")}
    torch.save((names, ["n01"]), root / "meta.bin")


LAYOUTS = {
    "dtd": (make_dtd, {"train": 4, "val": 4, "test": 4}, ["banded", "dotted"]),
    "aircraft": (make_aircraft, {"train": 2, "val": 2, "test": 2}, ["707-320", "A 300"]),
    "food101": (make_food101, {"train": 4, "test": 4}, ["apple pie", "waffles"]),
    "sun397": (make_sun397, {"train": 8, "test": 2}, ["abbey", "zoo/inside"]),
    "caltech101": (make_caltech101, {"train": 8, "test": 2}, ["Faces easy", "ant"]),
    "eurosat": (make_eurosat, {"train": 28, "test": 7}, None),
    "gtsrb": (make_gtsrb, {"train": 2, "test": 1}, None),
    "country211": (make_country211, {"train": 2, "val": 2, "test": 2}, ["AD", "ZW"]),
    "rendered_sst2": (make_rendered_sst2, {"train": 2, "val": 2, "test": 2}, ["negative", "positive"]),
    "svhn": (make_svhn, {"train": 6, "test": 4}, None),
    "stl10": (make_stl10, {"train": 4, "test": 3}, None),
    "cifar100": (make_cifar100, {"train": 4, "test": 4}, None),
    "fashion_mnist": (make_fashion_mnist, {"train": 3, "test": 3}, None),
    "imagenet": (make_imagenet, {"train": 3, "test": 3}, ["crane, bird crane", "crane, lifting crane", "tench"]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_torchvision_layouts_are_read(name, tmp_path):
    make, counts, classes = LAYOUTS[name]
    make(tmp_path / name)
    loaded = load(name, tmp_path, verify=name not in ("svhn", "stl10", "cifar100"))
    assert loaded.counts == counts
    if classes:
        assert loaded.classes["label"] == classes
    for items in loaded.splits.values():
        if isinstance(items["image"], FileColumn):
            assert all(path.exists() for path in items["image"].paths)
        else:
            assert items["image"].take(np.array([1, 0])).shape == (2, *items["image"].size, 3)
    if name in ("sun397", "caltech101", "eurosat"):
        assert any("no official test split" in note for note in loaded.notes)
        assert not set(loaded.splits["train"]["image"].paths) & set(loaded.splits["test"]["image"].paths)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if shared_folders(read(name)["source"]["expects"])])
def test_a_set_unpacked_by_hand_is_read_with_and_without_its_own_folder(name, tmp_path):
    make, counts, classes = LAYOUTS[name]
    make(tmp_path / "made")
    inner = shared_folders(read(name)["source"]["expects"])
    (tmp_path / "made" / inner[0]).rename(tmp_path / inner[0])
    for root in (tmp_path / inner[0], tmp_path / "photos"):
        if root.name == "photos":
            (tmp_path / inner[0]).rename(root)
        loaded = load(name, root, verify=name not in ("svhn", "stl10", "cifar100"))
        assert loaded.counts == counts
        assert loaded.classes["label"] == classes or classes is None
        for items in loaded.splits.values():
            paths = items["image"].paths if isinstance(items["image"], FileColumn) else []
            assert all(path.is_file() and root in path.parents for path in paths)
            assert len(items["image"].take(np.array([0]))) == 1


def test_the_steps_for_pets_by_hand_work(real_data, tmp_path):
    with pytest.raises(
        DataError, match=r"get images.tar.gz, annotations.tar.gz from https://\S+, unpack what is packed"
    ):
        load("pets", tmp_path / "absent")
    real = real_data / "pets" / "oxford-iiit-pet"
    unpacked = tmp_path / "my pets"  # both archives in one folder
    unpacked.mkdir()
    for name in ("images", "annotations"):
        (unpacked / name).symlink_to(real / name)
    itself = tmp_path / "elsewhere" / "oxford-iiit-pet"
    itself.parent.mkdir()
    itself.symlink_to(real)
    expected = load("pets", real_data / "pets")
    for root in (unpacked, itself, itself.parent):
        loaded = load("pets", root)
        assert loaded.counts == expected.counts
        here, there = (found.splits["train"]["image"].paths[0] for found in (loaded, expected))
        assert here.is_relative_to(root)
        assert here.read_bytes() == there.read_bytes()


def test_arrays_keep_rows_and_columns(tmp_path):
    make_svhn(tmp_path)
    make_stl10(tmp_path)
    svhn = load("svhn", tmp_path, verify=False).splits["train"]
    assert svhn["label"].tolist() == [0, 1, 2, 3, 4, 5]
    assert svhn["image"].take(np.array([0]))[0, 1, 2].tolist() == [7, 0, 0]
    stl10 = load("stl10", tmp_path, verify=False).splits["train"]
    assert stl10["image"].take(np.array([0]))[0, 2, 5].tolist() == [9, 0, 0]


def test_pcam_without_h5py_names_the_command(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "h5py", None)
    for name in read("pcam")["source"]["expects"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match="pip install"):
        load("pcam", tmp_path)


def test_pcam(tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "pcam").mkdir()
    for split in ("train", "valid", "test"):
        stem = tmp_path / f"pcam/camelyonpatch_level_2_split_{split}"
        with h5py.File(f"{stem}_x.h5", "w") as file:
            file["x"] = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 96, 96, 3), dtype=np.uint8)
        with h5py.File(f"{stem}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 0, 1, 1], dtype=np.uint8).reshape(5, 1, 1, 1)
    train = load("pcam", tmp_path).splits["train"]
    assert train["label"].tolist() == [0, 1, 0, 1, 1]
    pixels = pickle.loads(pickle.dumps(train["image"]))
    assert pixels.take(np.array([4, 1, 4]))[:, 0, 0, 0].tolist() == [4, 1, 4]


def test_checksums_are_compared_unless_told_otherwise(tmp_path):
    make_cifar100(tmp_path)
    with pytest.raises(DataError, match="verify=false"):
        load("cifar100", tmp_path)
    loaded = load("cifar100", tmp_path, verify=False)
    assert any("verification off" in note for note in loaded.notes)
    assert len(loaded.classes["label"]) == 100


class Hostile:
    def __reduce__(self):
        import os

        return os.system, ("echo hostile",)


def test_an_unverified_pickle_is_not_executed(tmp_path, capfd):
    make_cifar100(tmp_path)
    (tmp_path / "cifar-100-python/test").write_bytes(pickle.dumps({"data": Hostile()}))
    with pytest.raises(DataError, match="system"):
        load("cifar100", tmp_path, verify=False)
    assert "hostile" not in capfd.readouterr().out
    (tmp_path / "cifar-100-python/test").write_bytes(b"")
    with pytest.raises(DataError, match="cannot be read"):
        load("cifar100", tmp_path, verify=False)


def test_a_split_without_any_image_is_an_error(tmp_path):
    make_dtd(tmp_path)
    for path in (tmp_path / "dtd/dtd/images").rglob("*test*.jpg"):
        path.unlink()
    with pytest.raises(DataError, match="none of the 4 images of the test split"):
        load("dtd", tmp_path)


def test_checksums_are_removed_from_a_subclass_only():
    import torchvision

    bare = adapters.without_checksums(torchvision.datasets.CIFAR10)
    assert bare.__name__ == "CIFAR10"
    assert bare.train_list[0] == ["data_batch_1", None]
    assert torchvision.datasets.CIFAR10.train_list[0][1]
    assert adapters.without_checksums(torchvision.datasets.MNIST).__name__ == "MNIST"


def test_real_pets(real_data):
    loaded = load("pets", real_data)
    assert loaded.counts == {"train": 259, "test": 111}
    assert np.bincount(loaded.splits["train"]["label"]).tolist() == [7] * 37
    for items in loaded.splits.values():
        for path, label in zip(items["image"].paths, items["label"], strict=True):
            name = loaded.classes["label"][label].replace(" ", "_")
            assert path.name.lower().startswith(name.lower())
    assert load("pets", real_data / "pets").where == real_data / "pets"


def test_real_flowers(real_data):
    loaded = load("flowers", real_data)
    assert loaded.counts == {"train": 1020, "val": 1020, "test": 6149}
    assert loaded.classes["label"][0] == "pink primrose"
    assert len(loaded.classes["label"]) == 102


def test_real_cifar10_and_mnist(real_data):
    cifar = load("cifar10", real_data, verify=False)
    assert cifar.counts == {"train": 3805, "test": 761}
    with pytest.raises(DataError, match="verify=false"):
        load("cifar10", real_data)
    mnist = load("mnist", real_data)
    assert mnist.counts == {"train": 6000, "test": 1500}
    assert mnist.splits["train"]["image"].take(np.array([0])).shape == (1, 28, 28, 3)


@pytest.mark.parametrize("name", [*PAIRED, "videos"])
def test_a_missing_set_of_files_says_what_is_expected(name, tmp_path):
    config, source = read(name), packaged_source(name)
    request = Request(name=name, root=tmp_path / "data", facts=config)
    assert source.locate(request) is None
    with pytest.raises(DataError) as caught:
        source.load(request)
    text = str(caught.value)
    assert f"The data set {name} is not in {tmp_path / 'data'} (tfcli has no way to download it)" in text
    assert config.get("url") or config["licence"] == "yours"
    assert (config.get("url") or "data.root=FOLDER") in text
    for expected in getattr(source, "expects", ["*.mp4"]):
        assert expected in text


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits

    assert np.array_equal(digits(), np.column_stack(load_digits(return_X_y=True)))
