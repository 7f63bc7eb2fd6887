"""Outputs of public weights have the names that the weights state; a data set never renames them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from parity.folders import quietly, saved
from parity.test_vit import randomise

from tfcli.cli.app import app
from tfcli.errors import ConfigError, WeightsError

pytestmark = pytest.mark.parity

NAMES = ["egyptian mau", "pug", "samoyed"]
MOBILENET = "weights/imagenet_mobilenet_v2/mobilenet_v2_torchvision_fp16.pt"


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of transformers with a classifier of three named classes, beside a photograph and class folders."""
    transformers = quietly("transformers")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
    named = {"id2label": dict(enumerate(NAMES)), "label2id": {name: i for i, name in enumerate(NAMES)}}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8, **named)
    folder = saved(randomise(transformers.ViTForImageClassification(config)), tmp_path / "theirs")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    monkeypatch.chdir(tmp_path)
    return folder


def class_folders(root: Path, names: list[str]) -> None:
    import numpy as np
    from PIL import Image

    for number, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for i in range(8):
            pixels = np.random.default_rng((number, i)).integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    shutil.copy(root / names[0] / "0.png", "cat.png")


def predicted(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[set[str], str]:
    """The names in `predict --json`, and what it says on stderr."""
    capsys.readouterr()
    app(["predict", *words, "cat.png", "--json", "--top", "9"], standalone_mode=False)
    captured = capsys.readouterr()
    return set(json.loads(captured.out)[0]["classes"]), captured.err


def test_a_photograph_is_named_by_the_weights_alone(theirs, capsys):
    class_folders(Path("own"), ["a", "b"])
    names, said = predicted(capsys, "vit", "model.weights=theirs")
    assert names == set(NAMES)
    assert "images are seen as preprocessor_config.json states: squashed to 16 x 16 px (bilinear, transformers)" in said


def test_what_is_typed_of_the_images_wins_and_makes_up_for_what_is_not_possible(theirs, capsys):
    class_folders(Path("own"), ["a"])
    _, said = predicted(capsys, "vit", "model.weights=theirs", "data.interpolation=bicubic")
    assert "but for data.interpolation, which you gave: squashed to 16 x 16 px (bicubic, transformers)" in said
    file = theirs / "preprocessor_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_pad": True}))
    with pytest.raises(WeightsError, match=r"`preprocessor_config.json` .* states `do_pad`.* all of data.image_size, "):
        predicted(capsys, "vit", "model.weights=theirs")
    typed = ["data.image_size=16", "data.resize=squash", "data.eval_crop=1.0", "data.interpolation=nearest"]
    typed += ["data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]"]
    assert predicted(capsys, "vit", "model.weights=theirs", *typed)[0] == set(NAMES)


def test_a_data_set_never_renames_outputs(theirs, capsys):
    class_folders(Path("own"), ["a", "b", "c"])
    names, said = predicted(capsys, "vit", "model.weights=theirs", "data=folder", "data.root=own")
    assert names == set(NAMES)
    assert "as the weights name them, egyptian mau, pug, samoyed (3), not as `data=folder`: a, b, c (3)" in said
    words = ["vit", "model.weights=theirs", "data=folder", "data.root=own", "trainer.precision=32", "logger=csv"]
    with pytest.raises(WeightsError, match=r"knows egyptian mau, pug, samoyed \(3\), the data have a, b, c \(3\)"):
        app(["evaluate", f"model={words[0]}", *words[1:]], standalone_mode=False)
    class_folders(Path("same"), ["Egyptian_Mau", "Pug", "Samoyed"])
    words[3] = "data.root=same"
    capsys.readouterr()
    app(["evaluate", f"model={words[0]}", *words[1:], "--json"], standalone_mode=False)
    assert "test/accuracy" in json.loads(capsys.readouterr().out)["metrics"]


def test_another_number_of_classes_is_an_error_with_both_lists(theirs, capsys):
    class_folders(Path("own"), ["a", "b"])
    with pytest.raises(ConfigError, match=r"knows egyptian mau, pug, samoyed \(3\), `data=folder` has a, b \(2\)"):
        predicted(capsys, "vit", "model.weights=theirs", "data=folder", "data.root=own")
    words = ["model=vit", "model.weights=theirs", "data=folder", "data.root=own", "logger=csv"]
    with pytest.raises(WeightsError, match=r"head 3 -> 2 classes: new, since .* samoyed \(3\), .* a, b \(2\)"):
        app(["evaluate", *words], standalone_mode=False)


def test_weights_without_names_are_asked_for_a_data_set(theirs, capsys):
    class_folders(Path("own"), ["a", "b", "c"])
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(config | {"id2label": {str(i): f"LABEL_{i}" for i in range(3)}}))
    with pytest.raises(ConfigError, match=r"names no classes and has 3 outputs \(.* 1,000\): name the data set"):
        predicted(capsys, "vit", "model.weights=theirs")
    assert predicted(capsys, "vit", "model.weights=theirs", "data=folder", "data.root=own")[0] == {"a", "b", "c"}


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_outputs_that_are_no_choice_among_classes_are_not_shown_as_one(theirs, capsys, problem):
    class_folders(Path("own"), ["Egyptian_Mau", "Pug", "Samoyed"])
    config = json.loads((theirs / "config.json").read_text())
    (theirs / "config.json").write_text(json.dumps(config | {"problem_type": problem}))
    with pytest.raises(WeightsError, match=f"no trained `head` .*problem_type {problem}"):
        predicted(capsys, "vit", "model.weights=theirs")
    words = ["model=vit", "model.weights=theirs", "data=folder", "data.root=own", "logger=csv"]
    with pytest.raises(WeightsError, match=f"no trained `head` .*problem_type {problem}"):
        app(["evaluate", *words], standalone_mode=False)


def test_real_imagenet_weights_name_real_photographs(real_data, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    weights = real_data / MOBILENET
    images = real_data / "pets/oxford-iiit-pet/images"
    for breed in ("Siamese", "Persian", "pug", "samoyed"):
        shutil.copy(sorted(images.glob(f"{breed}_*.jpg"))[2], f"{breed}.jpg")
    statistics = ["data.mean=[0.5,0.5,0.5]", "data.std=[0.5,0.5,0.5]"]
    app(["predict", "mobilenet_v2", f"model.weights={weights}", *statistics, ".", "--json"], standalone_mode=False)
    captured = capsys.readouterr()
    best = {Path(row["file"]).stem: row["classes"][0] for row in json.loads(captured.out)}
    assert best == {"Siamese": "Siamese cat", "Persian": "Persian cat", "pug": "pug", "samoyed": "Samoyed"}
    assert "their 1,000 outputs are taken for ImageNet's" in captured.err
