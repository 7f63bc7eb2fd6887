from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tfcli.cli.data import data
from tfcli.data.columns.pixels import ArrayPixels
from tfcli.data.columns.tables import LoadedTables
from tfcli.data.images.inspect import inspect
from tfcli.data.images.preview import sheet, spread
from tfcli.data.synthetic.questions import ANSWERS
from tfcli.errors import ConfigError, DataError


def run(*words: str) -> str:
    result = CliRunner().invoke(data, list(words))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


@pytest.fixture
def tree(tmp_path):
    for c, name in enumerate(("ab", "cd")):
        for split, count in (("train", 4), ("test", 2)):
            (tmp_path / "tree" / split / name).mkdir(parents=True)
            for i in range(count):
                image = Image.new("RGB", (20, 16), (40 * i, 100 * c, 10 if split == "test" else 0))
                image.save(tmp_path / "tree" / split / name / f"{i}.png")
    return tmp_path / "tree"


def test_status_lists_every_set_without_torch(tmp_path):
    code = (
        "import sys; from typer.testing import CliRunner; from tfcli.cli.data import data;"
        f"r = CliRunner().invoke(data, ['status', 'data.root={tmp_path}', '--json']);"
        "assert r.exit_code == 0, r.output; assert 'torch' not in sys.modules; print(r.stdout)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    rows = {row["set"]: row for row in json.loads(done.stdout)}
    assert len(rows) >= 21
    assert rows["digits"]["here"] == rows["shapes"]["here"] == "yes"
    assert rows["pets"]["here"] == "no"
    assert rows["pets"]["where"] == str(tmp_path / "pets")
    assert rows["food101"]["size"] == "5.0 GB"
    assert rows["imagenet"]["licence"]
    text = run("status", "pets", f"data.root={tmp_path}")
    assert "CC BY-SA" in text
    assert "imagenet" not in text


def test_check_reports_equal_images(tree):
    same = (tree / "train" / "ab" / "0.png").read_bytes()
    (tree / "test" / "cd" / "0.png").write_bytes(same)
    (row,) = json.loads(run("status", "folder", "--check", f"data.root={tree}", "--json"))
    assert (row["train"], row["test"], row["duplicates"], row["unreadable"]) == (8, 4, 1, 0)
    text = run("status", "folder", "--check", f"data.root={tree}")
    assert "ab/0.png (train)" in text
    assert "cd/0.png (test)" in text
    for path in (tree / "test" / "ab").iterdir():
        path.unlink()
    (row,) = json.loads(run("status", "folder", "--check", f"data.root={tree}", "--json"))
    assert row["here"] == "unusable"
    assert "without a single image" in row["error"]


def test_check_of_arrays():
    images = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
    images[5] = images[1]
    parts = {"train": images[:3], "test": images[3:]}
    splits = {
        split: {"image": ArrayPixels(part), "label": np.zeros(3, dtype=np.int64)} for split, part in parts.items()
    }
    assert inspect(LoadedTables(splits, {"label": ["a", "b"]})).duplicates == [("1", "2")]


def test_get(tmp_path):
    facts = json.loads(run("get", "digits", "--json"))
    assert facts["counts"] == {"train": 1437, "test": 360}
    with pytest.raises(DataError, match="TFCLI_OFFLINE"):
        run("get", "pets", f"data.root={tmp_path}")
    with pytest.raises(ConfigError, match="pets"):
        run("get", "pet")
    with pytest.raises(ConfigError, match=r"`data preview` shows .* one set at a time"):
        run("preview", "camvid,easy_vqa")


@pytest.mark.parametrize("augmented", [False, True])
def test_preview(tree, tmp_path, augmented):
    out = tmp_path / "new" / "sheet.png"
    flags = ["--augmented"] if augmented else []
    said = run(
        "preview", "folder", f"data.root={tree}", "data.image_size=16", "--count", "5", "--out", str(out), *flags
    )
    assert said.strip() == str(out)
    with Image.open(out) as sheet:
        assert sheet.format == "PNG"
        assert sheet.width > 5 * 128
    with pytest.raises(DataError, match="Did you mean `train`"):
        run("preview", "folder", f"data.root={tree}", "--split", "trian")


def test_preview_draws_the_columns_that_are_named(tmp_path):
    few = ("data.num_train=20", "data.num_val=5", "data.num_test=5")
    words = ("preview", "shapes", *few, "--out", str(tmp_path / "sheet.png"))
    answered = ("--columns", "image,question,answer", "--count", "3", "--json")
    document = json.loads(run(*words, *answered))
    assert document["columns"] == ["image", "question", "answer"]
    assert [row.keys() for row in document["rows"]] == [{"row", "question", "answer"}] * 3
    assert all(row["answer"] in ANSWERS for row in document["rows"])
    with Image.open(document["path"]) as sheet:
        assert sheet.width == 3 * 170 - 10 + 32
    run(*words, "--columns", "boxes, depth,clip", "--count", "1")
    said = run(*words[:-2], "--columns", "program,story,truth", "--count", "2").splitlines()
    assert said[0].split() == ["row", "program", "story", "truth"]
    assert all(" | " in line and line.endswith(("true", "false")) for line in said[1:])
    run(*words, "--columns", "mask,boxes", "--count", "2", "--augmented")
    with pytest.raises(ConfigError, match=r"no column `maks`. Did you mean `mask`"):
        run(*words, "--columns", "maks")
    with pytest.raises(ConfigError, match="not regions"):
        run(*words, "--columns", "image,regions", "--augmented")


def test_texts_are_checked_and_shown_as_rows(tmp_path):
    head = "id,words,gold\n"
    (tmp_path / "train.csv").write_text(
        head + "".join(f"{i},text {i} {'long ' * 30},{'ab'[i % 2]}\n" for i in range(40))
    )
    (tmp_path / "test.csv").write_text(head + f"7,text 8 {'long ' * 30},b\n8,other,a\n")
    settings = (f"data.root={tmp_path}", "data.columns={text: words, label: gold}")
    (row,) = json.loads(run("status", "table", "--check", *settings, "--json"))
    assert (row["train"], row["val"], row["test"], row["duplicates"], row["unreadable"]) == (40, None, 2, 1, 0)
    rows = json.loads(run("preview", "table", *settings, "--count", "3", "--json"))
    assert [row["label"] for row in rows] == ["b" if int(row["text"].split()[1]) % 2 else "a" for row in rows]
    said = run("preview", "table", *settings, "--count", "3").splitlines()
    assert [line.split()[1] for line in said] == ["text"] * 4
    assert all("…" in line for line in said[1:])
    with pytest.raises(DataError, match="Did you mean `test`"):
        run("preview", "table", *settings, "--split", "tset")


def test_contact_sheets_take_any_name():
    images = np.zeros((3, 8, 8, 3), dtype=np.uint8)
    names = ["日本語", "a\nb", "a very long name that cannot possibly fit below an image"]
    samples = [{"image": image, "name": name} for image, name in zip(images, names, strict=True)]
    assert sheet(samples, ["image", "name"], {}).width == 3 * 170 - 10 + 32
    assert spread(np.array([0, 0, 0, 1, 1, 2]), 5).tolist() == [0, 3, 5, 1, 4]
