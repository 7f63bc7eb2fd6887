"""Caption files of every layout, what is wrong with bad ones, and Flickr8k."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tfcli.data.common.request import Request
from tfcli.data.common.rows import height
from tfcli.data.sources.captionfiles import read_captions
from tfcli.data.sources.captions import Captions, Flickr8k
from tfcli.errors import DataError

TEXTS = {"a.png": ["a red, round thing", "something red"], "b.png": ["a blue thing"], "c.png": ["ein grünes Ding"]}
ROWS = [(image, text) for image, texts in TEXTS.items() for text in texts]


def draw(folder: Path, names=tuple(TEXTS)) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((8, 8, 3), 6 * i, dtype=np.uint8)).save(folder / name)


def table(path: Path, rows, *, head: str, separator: str) -> Path:
    def cell(text: str) -> str:
        return f'"{text}"' if separator in text else text

    lines = [head, *(separator.join(cell(text) for text in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def coco(path: Path) -> Path:
    ids = {name: i for i, name in enumerate(TEXTS)}
    content = {
        "images": [{"id": i, "file_name": name} for name, i in ids.items()],
        "annotations": [{"image_id": ids[image], "caption": text} for image, text in ROWS],
    }
    path.write_text(json.dumps(content))
    return path


def karpathy(path: Path) -> Path:
    images = [{"filename": n, "split": "train", "sentences": [{"raw": t} for t in texts]} for n, texts in TEXTS.items()]
    path.write_text(json.dumps({"dataset": "x", "images": images}))
    return path


WRITERS = {
    "tsv": lambda p: table(p / "captions.tsv", ROWS, head="filepath\ttitle", separator="\t"),
    "csv": lambda p: table(p / "captions.csv", ROWS, head="image,caption", separator=","),
    "txt": lambda p: table(p / "captions.txt", ROWS, head="image,caption", separator=","),
    "columns": lambda p: table(p / "captions.csv", [("x", t, i) for i, t in ROWS], head="id,Text,IMG", separator=","),
    "jsonl": lambda p: _write(p / "captions.jsonl", "\n".join(json.dumps({"image": i, "caption": t}) for i, t in ROWS)),
    "json": lambda p: _write(p / "captions.json", json.dumps([{"image": i, "captions": t} for i, t in TEXTS.items()])),
    "coco": lambda p: coco(p / "captions.json"),
    "karpathy": lambda p: karpathy(p / "dataset.json"),
}


def _write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def load(root: Path, source: Captions | None = None, **kwargs):
    return (source or Captions()).load(Request(name="captions", root=root, **({"test_fraction": 0.0} | kwargs)))


@pytest.mark.parametrize("layout", WRITERS)
@pytest.mark.parametrize("where", [".", "images"])
def test_every_layout_says_the_same(tmp_path, layout, where):
    draw(tmp_path / where)
    file = WRITERS[layout](tmp_path)
    for root in (tmp_path, file):
        train = load(root).splits["train"]
        assert [path.name for path in train["image"].paths] == list(TEXTS)
        assert train["caption"] == list(TEXTS.values())
        assert all(path.is_file() for path in train["image"].paths)
        assert "label" not in train


@pytest.mark.parametrize("folder", ["images", "."])
def test_where_the_first_image_is_missing_the_others_are_found(tmp_path, folder):
    draw(tmp_path / folder)
    rows = [("gone.png", "x"), *((image, text) for image, text in ROWS), ("gone.png", "y")]
    table(tmp_path / "captions.tsv", rows, head="image\tcaption", separator="\t")
    with pytest.raises(DataError, match=rf"2 rows name .*: line 2 .*gone.png\), line {len(rows) + 1}\.$"):
        load(tmp_path)
    files = [path for items in load(tmp_path, skip=True).splits.values() for path in items["image"].paths]
    assert sorted(path.name for path in files if not path.is_file()) == ["gone.png"]


def test_splits_are_carved_by_image(tmp_path):
    names = [f"{i}.png" for i in range(40)]
    draw(tmp_path, names)
    rows = [(name, f"text {k} of {name}") for k in range(3) for name in names]  # an image's captions are not together
    table(tmp_path / "captions.tsv", rows, head="image\tcaption", separator="\t")
    loaded = load(tmp_path, test_fraction=0.25)
    train, test = loaded.splits["train"], loaded.splits["test"]
    assert (height(train), height(test)) == (30, 10)
    assert not set(train["image"].paths) & set(test["image"].paths)
    for items in (train, test):
        for path, texts in zip(items["image"].paths, items["caption"], strict=True):
            assert texts == [f"text {k} of {path.name}" for k in range(3)]
    assert "10 of 40 images set aside (data.test_fraction=0.25" in loaded.notes[0]
    assert load(tmp_path, test_fraction=0.25, split_seed=1).splits["test"]["image"].paths != test["image"].paths


def test_splits_by_file_and_by_column(tmp_path):
    draw(tmp_path)
    by_file, by_column = tmp_path / "files", tmp_path / "column"
    for folder in (by_file, by_column):
        draw(folder / "images")
    for (name, texts), split in zip(TEXTS.items(), ("train", "valid", "test"), strict=True):
        table(by_file / f"captions-{split}.tsv", [(name, t) for t in texts], head="image\tcaption", separator="\t")
    rows = [(i, t, s) for (i, t), s in zip(ROWS, ("train", "restval", "dev", "test"), strict=True)]
    table(by_column / "all.csv", rows, head="image,caption,split", separator=",")
    for folder in (by_file, by_column):
        pairs = load(folder).splits
        assert {split: [p.name for p in items["image"].paths] for split, items in pairs.items()} == {
            "train": ["a.png"],
            "val": ["b.png"],
            "test": ["c.png"],
        }


BAD = {
    "no column .*images.*it has picture, caption.*data.image_column": ("t.csv", "picture,caption\na.png,x\n"),
    "no column .*captions.*it has image, words": ("t.tsv", "image\twords\na.png\tx\n"),
    "1 rows without a caption: line 3": ("t.csv", "image,caption\na.png,x\nb.png, \n"),
    "1 rows without an image: line 2": ("t.csv", "image,caption\n,x\n"),
    "line 3: 3 columns, but the header has 2.*quotes": ("t.csv", "image,caption\na.png,x\na.png,x, y\n"),
    "2 rows name an image that is not there: line 2 .*gone.png.*, line 4": (
        "t.csv",
        "image,caption\ngone.png,x\na.png,y\nalso.png,z\n",
    ),
    "has no captions": ("t.csv", "image,caption\n"),
    "line 2: not JSON": ("t.jsonl", '{"image": "a.png", "caption": "x"}\n{"image": \n'),
    "line 1: an object is expected": ("t.jsonl", "[1, 2]\n"),
    "no column for the captions .*it has image, words": ("t.json", '[{"image": "a.png", "words": "x"}]'),
    "must be text": ("t.json", '[{"image": "a.png", "caption": 3}]'),
    "neither a list of objects": ("t.json", '{"a": 1}'),
    "two images have the id 1": (
        "t.json",
        '{"images": [{"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}], "annotations": []}',
    ),
    "1 rows of images that are not listed: annotation 1": (
        "t.json",
        '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 2, "caption": "x"}]}',
    ),
    "lacks `file_name`": ("t.json", '{"images": [{"id": 1}], "annotations": []}'),
    "the split is `trian`.*Did you mean `train`": ("t.csv", "image,caption,split\na.png,x,trian\n"),
    "no captions of a split `train`, only of val": ("t.csv", "image,caption,split\na.png,x,val\n"),
    "1 images are in train and in val": ("t.csv", "image,caption,split\na.png,x,train\na.png,y,val\n"),
    "there is no caption file": ("t.md", "hello"),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_wrong_is_said_with_its_place(tmp_path, message):
    draw(tmp_path, ("a.png", "b.png"))
    name, content = BAD[message]
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"(?s){message}"):
        load(tmp_path)


def test_a_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_bytes(b"image\tcaption\na.png\tx\nb.png\t\xff\xfe\n")
    with pytest.raises(DataError, match="line 3: not UTF-8"):
        read_captions(path)


def test_the_first_ten_of_many_are_shown(tmp_path):
    path = table(tmp_path / "t.csv", [("a.png", " ")] * 25, head="image,caption", separator=",")
    with pytest.raises(DataError, match=r"25 rows without a caption: line 2, .*line 11, and 15 more"):
        read_captions(path)


def test_choices_that_the_user_must_make(tmp_path):
    draw(tmp_path)
    for name in ("captions.csv", "captions2.csv"):
        table(tmp_path / name, ROWS, head="picture,caption", separator=",")
    with pytest.raises(DataError, match=r"2 files may hold.*data.file=NAME"):
        load(tmp_path)
    with pytest.raises(DataError, match="no column `image`"):
        load(tmp_path, Captions(file="captions.csv", image_column="image"))
    assert load(tmp_path, Captions(file="captions.csv", image_column="picture")).counts["train"] == 3
    with pytest.raises(DataError, match="there is no caption file"):
        load(tmp_path, Captions(file="other.csv"))
    with pytest.raises(DataError, match=r"there is no caption file(.|\n)*no such folder"):
        load(tmp_path / "absent")


# ---- Flickr8k


def flickr(folder: Path, *, kaggle: bool, lists: bool) -> Path:
    names = [f"{i}_x.jpg" for i in range(10)]
    draw(folder / ("Images" if kaggle else "Flicker8k_Dataset"), names)
    rows = [(name, f"caption {k} , of {name}") for name in names for k in range(5)]
    if kaggle:
        table(folder / "captions.txt", rows, head="image,caption", separator=",")
    else:
        lines = [f"{name}#{i % 5}\t{text}" for i, (name, text) in enumerate(rows)]
        odd = "2258277193_586949ec62.jpg.1#0\tan entry that the authors' file has"
        (folder / "Flickr8k.token.txt").write_text("\n".join([*lines, odd]))
    for split, chosen in (("train", names[:6]), ("dev", names[6:8]), ("test", names[8:9])) if lists else ():
        (folder / f"Flickr_8k.{split}Images.txt").write_text("\n".join(chosen))
    return folder


@pytest.mark.parametrize("kaggle", [True, False])
def test_flickr8k_in_both_layouts(tmp_path, kaggle):
    root = flickr(tmp_path / "flickr8k", kaggle=kaggle, lists=True)
    loaded = Flickr8k().load(Request(name="flickr8k", root=tmp_path))
    assert loaded.counts == {"train": 6, "val": 2, "test": 1}
    assert loaded.splits["test"]["caption"] == [[f"caption {k} , of 8_x.jpg" for k in range(5)]]
    assert any("1 images are in no list" in note for note in loaded.notes)
    assert kaggle or any("no image's name" in note for note in loaded.notes)
    without = flickr(tmp_path / "plain", kaggle=kaggle, lists=False)
    carved = Flickr8k().load(Request(name="flickr8k", root=without))
    assert carved.counts == {"train": 8, "test": 2}
    (root / ("Images" if kaggle else "Flicker8k_Dataset") / "3_x.jpg").unlink()
    with pytest.raises(DataError, match=r"5 rows name an image that is not there: line \d+ .*3_x.jpg\), line \d+, "):
        Flickr8k().load(Request(name="flickr8k", root=root))
    assert Flickr8k().load(Request(name="flickr8k", root=root, skip=True)).counts["train"] == 6


def test_flickr8k_that_is_missing_says_how_to_get_it(tmp_path):
    with pytest.raises(DataError, match=r"flickr8k is not in(.|\n)*Flickr8k.token.txt(.|\n)*example.org"):
        Flickr8k().load(Request(name="flickr8k", root=tmp_path, facts={"url": "https://example.org"}))


def test_real_flickr8k_subset_in_three_layouts(real_data):
    root = real_data / "flickr8k"
    loaded = Flickr8k().load(Request(name="flickr8k", root=real_data))
    assert loaded.counts == {"train": 800, "val": 100, "test": 100}
    train = loaded.splits["train"]
    kaggle = dict(zip((p.name for p in train["image"].paths), train["caption"], strict=True))
    assert all(len(texts) == 5 for texts in kaggle.values())
    coco = load(root / "captions_train.json").splits["train"]
    assert {p.name: sorted(t) for p, t in zip(coco["image"].paths, coco["caption"], strict=True)} == {
        name: sorted(t) for name, t in kaggle.items()
    }
    assert load(root).counts == {"train": 800, "val": 100, "test": 100}
