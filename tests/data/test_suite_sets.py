"""The sets of the 27-set table that need an adapter, in torchvision's layouts, small."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tfcli.data.columns.tables import LoadedTables
from tfcli.data.common.request import Request
from tfcli.data.sources.torchvision_sets import Torchvision
from tfcli.errors import DataError

CONF = Path(__file__).parents[2] / "conf" / "data"


def load(name: str, root: Path, *, verify: bool = True) -> LoadedTables:
    config = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    source = Torchvision(**{k: v for k, v in config["source"].items() if k != "_target_"})
    return source.load(Request(name=name, root=root, facts=config, verify=verify))


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 8), (10, 20, 30)).save(path)


def test_cars(tmp_path):
    from scipy.io import savemat

    base = tmp_path / "cars/stanford_cars"
    rows = {"train": [("00001.jpg", 2), ("00002.jpg", 1)], "test": [("00001.jpg", 1)]}
    (base / "devkit").mkdir(parents=True)
    savemat(
        base / "devkit/cars_meta.mat", {"class_names": np.array(["Acura RL Sedan 2012", "Geo Metro"], dtype=object)}
    )
    for split, path in (("train", "devkit/cars_train_annos.mat"), ("test", "cars_test_annos_withlabels.mat")):
        kind = [("class", np.uint8), ("fname", object)]
        pairs = np.array([(label, file) for file, label in rows[split]], dtype=kind)
        if len(pairs) == 1:
            pairs = np.repeat(pairs, 2)  # scipy squeezes a single row away
        savemat(base / path, {"annotations": pairs})
        for file, _ in rows[split]:
            photo(base / f"cars_{split}" / file)
    loaded = load("cars", tmp_path)
    assert loaded.classes["label"] == ["Acura RL Sedan 2012", "Geo Metro"]
    assert loaded.splits["train"]["label"].tolist() == [1, 0]
    assert loaded.splits["test"]["image"].paths[0] == base / "cars_test/00001.jpg"


@pytest.mark.parametrize("table", ["fer2013.csv", "icml_face_data.csv"])
def test_fer2013(tmp_path, table):
    folder = tmp_path / "fer2013/fer2013"
    folder.mkdir(parents=True)
    space = " " if table.startswith("icml") else ""
    lines = [f"emotion,{space}Usage,{space}pixels"]
    for emotion, usage in ((3, "Training"), (0, "Training"), (6, "PublicTest"), (5, "PrivateTest")):
        lines.append(f"{emotion},{usage},{' '.join(str((i + emotion) % 256) for i in range(48 * 48))}")
    (folder / table).write_text("\n".join(lines))
    with pytest.raises(DataError, match="verify=false"):
        load("fer2013", tmp_path)
    loaded = load("fer2013", tmp_path, verify=False)
    assert loaded.splits["train"]["label"].tolist() == [3, 0]
    assert loaded.splits["test"]["label"].tolist() == [6, 5]
    image = loaded.splits["train"]["image"].take(np.array([0]))
    assert image.shape == (1, 48, 48, 3)
    assert image[0, 0, 2].tolist() == [5, 5, 5]
    assert loaded.classes["label"][6] == "neutral"


def test_clevr_counts(tmp_path):
    base = tmp_path / "clevr_counts/clevr/CLEVR_v1.0"
    (base / "scenes").mkdir(parents=True)
    for split, counts in (("train", (3, 10)), ("val", (7,))):
        names = [f"CLEVR_{split}_{i:06d}.png" for i in range(len(counts))]
        for name in names:
            photo(base / "images" / split / name)
        scenes = [{"image_filename": n, "objects": [{}] * count} for n, count in zip(names, counts, strict=True)]
        (base / f"scenes/CLEVR_{split}_scenes.json").write_text(json.dumps({"scenes": scenes}))
    loaded = load("clevr_counts", tmp_path)
    assert loaded.splits["train"]["label"].tolist() == [0, 7]
    assert loaded.classes["label"][loaded.splits["test"]["label"][0]] == "7"
