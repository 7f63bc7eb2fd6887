"""Figures are written, and return the numbers that they show."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tfcli.viz import probe
from tfcli.viz.attention import heads, matrix, over_image, rollout
from tfcli.viz.confusion import confusion
from tfcli.viz.curves import curves
from tfcli.viz.lengths import lengths


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_curves_return_epoch_means_and_the_best_epoch(tmp_path):
    rows = []
    for epoch in range(4):
        rows += [(epoch, epoch * 10 + k, "train/loss_step", 1.0 / (epoch + 1)) for k in (0, 5)]
        rows += [(epoch, epoch * 10 + 10, "train/loss", 1.0 / (epoch + 1))]
        rows += [(epoch, epoch * 10 + 10, "val/accuracy", (0.5, 0.7, 0.9, 0.8)[epoch])]
    rows += [(3, 40, "test/accuracy", 0.85), (3, 40, "val/loss", float("nan"))]
    drawn = curves(rows, tmp_path / "figures" / "curves.png", title="a $run$ with _ and 字")
    assert is_png(tmp_path / "figures" / "curves.png")
    assert drawn["best"] == {"metric": "val/accuracy", "epoch": 3, "value": 0.9}
    assert drawn["loss"]["train"][1] == [2, 0.5]
    assert drawn["accuracy"]["test"] == [[4, 0.85]]
    assert "val" not in drawn["loss"]
    assert [p.name for p in (tmp_path / "figures").iterdir()] == ["curves.png"]


def test_curves_of_a_run_that_logged_nothing_or_little(tmp_path):
    assert curves([], tmp_path / "a.png")["best"] is None
    drawn = curves([(0, 1, "train/loss", 2.0)], tmp_path / "b.png", monitor="val/other")
    assert drawn["best"]["metric"] == "train/loss"
    assert is_png(tmp_path / "b.png")


@pytest.mark.parametrize("size", [2, 10, 37, 102])
def test_confusion_for_few_and_many_classes(tmp_path, size):
    matrix = [[9 if i == j else int(j == (i + 1) % size) for j in range(size)] for i in range(size)]
    names = [f"class {i} with a rather long name" if i % 5 == 0 else f"c{i}" for i in range(size)]
    numbers = confusion(matrix, tmp_path / "confusion.png", names=names)
    assert is_png(tmp_path / "confusion.png")
    assert numbers["accuracy"] == pytest.approx(0.9)
    assert numbers["per_class"] == pytest.approx([0.9] * size)
    assert numbers["pairs"][0] == {"true": names[0], "predicted": names[1], "count": 1, "share": 0.1}


def test_confusion_lists_the_most_confused_first_and_marks_empty_classes(tmp_path):
    matrix = [[5, 0, 3], [1, 8, 0], [0, 0, 0]]
    numbers = confusion(matrix, tmp_path / "c.png", names=["猫🐈", "$x_1$", "new\nline"], pairs=1)
    assert numbers["pairs"] == [{"true": "猫🐈", "predicted": "new\nline", "count": 3, "share": 0.375}]
    assert numbers["shares"][2] is None
    assert confusion([[0, 0], [0, 0]], tmp_path / "d.png")["accuracy"] is None


def test_confusion_refuses_what_is_no_matrix(tmp_path):
    with pytest.raises(ValueError, match="square"):
        confusion([[1, 2]], tmp_path / "c.png")
    with pytest.raises(ValueError, match="2 classes, but has 1"):
        confusion([[1, 2], [3, 4]], tmp_path / "c.png", names=["a"])


def test_a_home_that_cannot_be_written_does_not_matter(tmp_path):
    home = tmp_path / "home"
    home.write_text("a file, so that no user, root included, can make a folder in it")
    code = "import sys; from tfcli.viz.curves import curves; curves([(0, 1, 'train/loss', 2.0)], sys.argv[1])"
    left_out = ("MPLCONFIGDIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    environment = {k: v for k, v in os.environ.items() if k not in left_out}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path / "a.png")],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert is_png(tmp_path / "a.png")


def test_heads_of_a_probe_are_drawn(tmp_path):
    swept = {
        "linear/as_they_are": {"C": [(0.01, 0.3), (1.0, 0.6), (100.0, 0.5)], "unit": False},
        "linear/normalised": {"C": [(0.01, 0.2), (1.0, 0.5), (100.0, 0.6)], "unit": True},
    }
    shots = [{"n": 1, "mean": 0.3, "std": 0.02}, {"n": 2, "mean": 0.4, "std": 0.01}]
    templates = [(f"a {{}} {i}", 0.1 * i) for i in range(30)]
    made = [
        probe.against_penalty(swept, tmp_path / "linear.png", "x on y"),
        probe.bars(templates, tmp_path / "templates.png", "x on y", "accuracy of one template"),
        probe.against_neighbours({"test": [(1, 0.5), (3, 0.6)], "val": [], "best_k": 3}, tmp_path / "knn.png", "x"),
        probe.against_shots(shots, 0.5, tmp_path / "fewshot.png", "x on y"),
    ]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in made)


def softmaxed(*shape):
    weights = np.exp(np.random.default_rng(0).normal(size=shape))
    return weights / weights.sum(-1, keepdims=True)


def test_rollout_of_two_layers_by_hand():
    first, second = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.5, 0.5], [0.4, 0.6]]]), np.array([[[0.0, 1.0], [0.6, 0.4]]])
    # half of the mean of heads, half the token itself: first [.75 .25; .1 .9], second [.5 .5; .3 .7]
    assert rollout([first, second]) == pytest.approx(np.array([[0.425, 0.575], [0.295, 0.705]]))
    assert rollout([softmaxed(4, 7, 7)] * 5).sum(1) == pytest.approx(np.ones(7))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (40, 25), (130, 130)])
def test_attention_of_few_and_many_tokens(tmp_path, rows, columns):
    weights = softmaxed(4, rows, columns)
    names = [[f"{side}{i}$猫" for i in range(count)] for side, count in (("r", rows), ("c", columns))]
    matrix(weights[0], tmp_path / "a.png", rows=names[0], columns=names[1], title="a model on $x$")
    heads([weights, weights[:2]], tmp_path / "b.png", title="layers of unlike numbers of heads")
    assert is_png(tmp_path / "a.png")
    assert is_png(tmp_path / "b.png")
    with pytest.raises(ValueError, match=rf"must be \({rows}, {columns + 1}\)"):
        matrix(weights[0], tmp_path / "c.png", rows=names[0], columns=[*names[1], "more"])


def test_attention_lies_on_the_patches_it_is_of(tmp_path):
    from matplotlib.image import imread

    lit = np.zeros((2, 2))
    lit[0, 1] = 1.0
    over_image(np.full((8, 8, 3), 128, np.uint8), {"lit": lit}, tmp_path / "a.png", title="one patch")
    picture = imread(tmp_path / "a.png")[..., :3]
    right = picture[:, picture.shape[1] // 2 :]
    places = np.argwhere(right[..., 0] - right[..., 2] > 0.3)  # yellow
    middle = np.array(right.shape[:2]) / 2
    assert len(places) > 1000
    assert (places.mean(0) - middle)[0] < 0 < (places.mean(0) - middle)[1]


def test_scores_by_length_are_drawn_in_order_of_length(tmp_path):
    points = {"one": [(20, 0.2, 0.1, 0.3), (10, 0.5, 0.4, 0.6)], "none": []}
    drawn = lengths(points, tmp_path / "a.png", score="BLEU", title="x on y")
    assert drawn == {"one": [[10, 0.5, 0.4, 0.6], [20, 0.2, 0.1, 0.3]]}
    assert is_png(tmp_path / "a.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        lengths({"none": []}, tmp_path / "b.png", score="BLEU", title="x on y")
