"""CLIP as a user meets it: trained on shapes, probed, asked about pictures; and a public archive beside it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from conftest import tfcli
from PIL import Image

from tfcli.data.synthetic.objects import HELD_OUT, PAIR_NAMES
from tfcli.data.synthetic.shapes import ShapesWorld

pytestmark = pytest.mark.slow

SMALL = ("trainer.threads=1", "trainer.precision=32", "logger=csv")
EXACT = ("features.threads=1", "features.precision=32")


def go(*words: str, cwd: Path, code: int = 0):
    done = tfcli(*words, cwd=cwd, env={"TFCLI_CACHE": str(cwd / "cache")})
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `run`, 60 steps of CLIP on shapes."""
    work = tmp_path_factory.mktemp("clip")
    few = ("data.num_train=5120", "data.num_val=200", "data.num_test=300", "data.num_pairs=100")
    go("train", "model=clip", "data=shapes", *few, "trainer.max_epochs=3", *SMALL, "run.dir=run", cwd=work)
    return work


def test_a_run_leaves_retrieval_and_zero_shot_figures_beside_chance(trained: Path):
    record = json.loads((trained / "run" / "results.json").read_text())
    assert record["task"] == "contrastive"
    figures, chance = record["metrics"], record["baselines"]
    assert figures["test/zeroshot_accuracy"] > 5 * chance["chance/zeroshot_accuracy"]
    for way in ("image_to_text", "text_to_image"):
        assert figures[f"test/{way}_r1"] <= figures[f"test/{way}_r5"] <= figures[f"test/{way}_r10"]
        assert figures[f"test/{way}_r10"] > 2 * chance[f"chance/{way}_r10"]
    assert (trained / "run" / "tokenizer.json").exists()
    assert (trained / "run" / "figures" / "curves.png").exists()


def test_it_is_evaluated_again_to_the_same_figures(trained: Path):
    record = json.loads((trained / "run" / "results.json").read_text())
    again = json.loads(go("evaluate", "run", "--json", cwd=trained).stdout)
    assert again["metrics"]["test/image_to_text_r1"] == record["metrics"]["test/image_to_text_r1"]
    assert again["metrics"]["test/zeroshot_accuracy"] == record["metrics"]["test/zeroshot_accuracy"]
    new = json.loads(go("evaluate", "run", "data.test_split=comp", "--json", cwd=trained).stdout)
    assert new["metrics"]["test/zeroshot_accuracy"] != record["metrics"]["test/zeroshot_accuracy"]


def test_its_features_beat_pixels_under_every_head(trained: Path):
    few = (
        "data.num_train=1000",
        "data.num_val=200",
        "data.num_test=300",
        "features.threads=1",
        "features.precision=32",
    )
    heads = ("--heads", "zeroshot,linear,knn,fewshot", "fewshot.shots=[1,4]")
    ours = json.loads(go("probe", "run", "shapes", *few, *heads, "--json", cwd=trained).stdout)["metrics"]
    pixels = json.loads(go("probe", "pixels", "shapes", *few, "--json", cwd=trained).stdout)["metrics"]
    assert ours["linear/accuracy"] > pixels["linear/accuracy"] + 0.1
    assert ours["knn/accuracy"] > pixels["knn/accuracy"] + 0.1
    assert ours["fewshot/n=1/accuracy"] < ours["fewshot/n=4/accuracy"]
    assert ours["zeroshot/templates"] == 4
    layer = ("features.layer=image.stack.blocks.0", "--heads", "zeroshot,knn", "--json")
    inside = go("probe", "run", "shapes", *few, *layer, cwd=trained)
    assert not any(name.startswith("zeroshot") for name in json.loads(inside.stdout)["metrics"])
    templates = ("a photo of a {}", "nothing about {} at all")
    rows = json.loads(go("prompts", "try", "shapes", *templates, "--model", "run", *few, "--json", cwd=trained).stdout)
    assert rows[-1]["accuracy"] == ours["zeroshot/accuracy"]
    assert [row["template"] for row in rows][:2] == list(templates)


def test_the_homeworks_report_has_its_three_answers(trained: Path):
    few = ("data.num_train=600", "data.num_val=200", "data.num_test=200", *EXACT)
    words = ("protocol=hw5", "zeroshot.templates=simple", "run.dir=hw")
    done = go("probe", "run", "shapes", *few, *words, cwd=trained)
    report = (trained / "hw" / "report.md").read_text()
    for part in (
        "## Zero-shot, `a photo of a {}.`",
        "## Linear probe",
        "## k nearest neighbours",
        "tfcli probe run shapes",
    ):
        assert part in report
    drawn = re.findall(r"\]\((figures/.*?)\)", report)
    assert {"figures/samples.png", "figures/zeroshot.png", "figures/linear.png", "figures/knn.png"} == set(drawn)
    assert all((trained / "hw" / name).stat().st_size > 5000 for name in drawn)
    record = json.loads((trained / "hw" / "results.json").read_text())["metrics"]
    assert {"linear/normalised/accuracy", "linear/as_they_are/accuracy"} <= set(record)
    assert record["knn/accuracy"] == max(record[f"knn/k={k}/accuracy"] for k in (1, 3, 5, 7, 11, 21))
    assert "knn.select=test" in done.stdout


def test_pictures_are_named_by_labels_in_words(trained: Path):
    scene = ShapesWorld(32).batch(np.arange(400), split="test", fields=("image", "label"))
    wanted = PAIR_NAMES.index("red circle"), PAIR_NAMES.index("cyan cross")
    assert not HELD_OUT[list(wanted)].any()
    for number, pair in enumerate(wanted):
        image = scene["image"][np.flatnonzero(scene["label"] == pair)[0]]
        Image.fromarray(image.transpose(1, 2, 0)).save(trained / f"{number}.png")
    words = ("predict", "run", "0.png", "1.png", "--labels", "a red circle,a cyan cross", "--json")
    rows = json.loads(go(*words, cwd=trained).stdout)
    assert [row["classes"][0] for row in rows] == ["a red circle", "a cyan cross"]
    assert all(abs(sum(row["probabilities"]) - 1) < 1e-5 for row in rows)
    plain = json.loads(go("predict", "run", "0.png", "--json", cwd=trained).stdout)
    assert "red" in plain[0]["classes"][0]


def test_a_sweep_over_sets_of_one_run_is_one_table(trained: Path):
    few = (*EXACT, "data.limit_train=200", "data.limit_test=100")
    done = go("knn", "run", "digits,shapes", "-m", *few, "--json", cwd=trained)
    rows = json.loads(done.stdout)["rows"]
    assert [row["data"] for row in rows] == ["digits", "shapes"]
    assert all(0 < row["accuracy"] <= 1 for row in rows)


def test_random_weights_are_probed_only_when_asked_for(trained: Path):
    small = (
        "data.num_train=200",
        "data.num_val=100",
        "data.num_test=100",
        "features.threads=1",
        "features.precision=32",
    )
    done = go("zeroshot", "clip", "shapes", "model.weights=random", *small, cwd=trained)
    assert "the weights are random" in done.stderr
    refused = go("zeroshot", "clip", "shapes", *small, cwd=trained, code=2)
    assert "openai/clip-vit-base-patch32" in refused.stderr
    assert "tfcli train model=clip" in refused.stderr


def test_unseen_pairs_are_named_after_300_steps(tmp_path: Path):
    """The demonstration at less than half its length: seen and unseen pairs among all 48."""
    few = ("trainer.max_steps=300", "trainer.max_epochs=4", "data.num_train=20000")
    go("train", "model=clip", "data=shapes", *few, *SMALL, "run.dir=run", cwd=tmp_path)
    seen = json.loads((tmp_path / "run" / "results.json").read_text())["metrics"]["test/zeroshot_accuracy"]
    new = json.loads(go("evaluate", "run", "data.test_split=comp", "--json", cwd=tmp_path).stdout)["metrics"]
    assert seen > 0.8
    assert new["test/zeroshot_accuracy"] > 0.4


def test_a_folder_of_another_library_is_probed_as_it_lies(trained: Path):
    """Size, transform and tokenizer come from the checkpoint's own files."""
    transformers = pytest.importorskip("transformers")
    from tfcli.text.tokenizer import make

    words = make("bpe", context=16, texts=["a photo of the number: zero one two three four five"], vocab_size=300)
    text = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    image = {**text, "image_size": 24, "patch_size": 8}
    text |= {"vocab_size": words.vocab_size, "max_position_embeddings": 16, "eos_token_id": words.eos_id}
    config = transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=20)
    theirs = trained / "theirs"
    transformers.CLIPModel(config).save_pretrained(theirs)
    words.save(theirs)
    few = ("data.limit_train=100", "data.limit_test=60", "zeroshot.templates=bare", *EXACT)
    done = go("probe", "clip", "digits", "model.weights=theirs", *few, "--json", cwd=trained)
    record = json.loads(done.stdout)
    assert "sized as its weights are" in done.stderr
    assert {"zeroshot/accuracy", "linear/accuracy", "knn/accuracy"} <= set(record["metrics"])
    shown = json.loads(
        go("features", "ls", "clip", "digits", "model.weights=theirs", *few, "--json", cwd=trained).stdout
    )
    assert {row["cache"] for row in shown} == {"hit"}
    rows = [row for row in json.loads(go("features", "ls", "--json", cwd=trained).stdout) if row["width"] == 32]
    (entry,) = [row for row in rows if (row["facts"]["data"], row["facts"]["split"]) == ("digits", "test")]
    assert entry["facts"]["transform"]["image_size"] == 24
    assert entry["facts"]["transform"]["interpolation"] == "bicubic"
    torn = trained / "torn"
    torn.mkdir()
    for file in theirs.iterdir():
        content = file.read_bytes()
        (torn / file.name).write_bytes(content[: len(content) // 2] if file.suffix == ".safetensors" else content)
    refused = go("probe", "clip", "digits", "model.weights=torn", *few, cwd=trained, code=2)
    assert "not a whole safetensors file" in refused.stderr
