"""The registry of published figures and the words for what differs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tfcli.engine.config.configs import options
from tfcli.engine.runs.published import entries, family, gap, in_words, published_for
from tfcli.errors import ConfigError

CONF = Path(__file__).parents[2] / "conf"
SUITE = yaml.safe_load((CONF / "suite/clip27.yaml").read_text(encoding="utf-8"))
NINE = {"rn50", "rn101", "rn50x4", "rn50x16", "rn50x64", "vit_b32", "vit_b16", "vit_l14", "vit_l14_336"}
PER_CLASS = {"aircraft", "pets", "caltech101", "flowers"}
OTHER = {"voc2007", "kinetics700", "hateful_memes"}


def test_every_entry_is_complete_and_names_data_that_there_are():
    names = set(options("data")) | set(SUITE["missing"])
    for entry in entries():
        assert entry["data"] in names
        ends = entry["value"] if isinstance(entry["value"], list) else [entry["value"]] * 2
        assert 0 < ends[0] <= ends[1] < (100 if "perplexity" in entry["metric"] or "bleu" in entry["metric"] else 1)
        assert entry["source"]
        assert entry["protocol"]
        assert entry.get("test_images", entry.get("test_rows", 1)) > 0


def test_every_model_with_a_published_clip_figure_has_a_config():
    models = {entry["model"] for entry in entries() if family(entry["model"]) == "clip"}
    assert models == {f"clip_{name}" for name in NINE}
    assert models <= set(options("model"))


def test_the_suite_is_the_27_sets_and_each_can_be_read_and_asked_for():
    assert len(SUITE["data"]) == len(set(SUITE["data"])) == 20
    assert len(SUITE["data"]) + len(SUITE["missing"]) == 27
    assert set(SUITE["data"]) <= set(options("data")) & set(options("prompts"))
    assert not set(SUITE["missing"]) & set(options("data"))
    assert all(SUITE["missing"].values())


@pytest.mark.parametrize("data", [*SUITE["data"], *SUITE["missing"]])
@pytest.mark.parametrize(("table", "head"), [(10, "linear"), (11, "zeroshot")])
def test_the_papers_tables_are_whole(data, table, head):
    found = [e for e in entries(data) if e["source"] == f"Radford et al. 2021, Table {table}"]
    assert {e["model"] for e in found} == {f"clip_{name}" for name in NINE}
    (metric,) = {e["metric"] for e in found}
    assert metric.startswith(f"{head}/")
    if data not in OTHER:
        assert metric == f"{head}/accuracy" + ("_per_class" if data in PER_CLASS else "")


@pytest.mark.parametrize(
    ("data", "metric", "model", "value"),
    [
        ("imagenet", "zeroshot/accuracy", "clip_vit_l14_336", 0.762),
        ("imagenet", "zeroshot/accuracy", "clip_rn50", 0.596),
        ("stl10", "zeroshot/accuracy", "clip_vit_l14", 0.993),
        ("food101", "zeroshot/accuracy", "clip_rn50", 0.811),
        ("imagenet", "linear/accuracy", "clip_vit_l14_336", 0.854),
        ("flowers", "linear/accuracy_per_class", "clip_vit_b32", 0.969),
        ("country211", "linear/accuracy", "clip_vit_l14_336", 0.464),
        ("pcam", "linear/accuracy", "clip_vit_l14_336", 0.856),
    ],
)
def test_figures_at_the_edges_of_the_papers_tables(data, metric, model, value):
    paper = [e for e in entries(data) if e["metric"] == metric and e["source"].startswith("Radford")]
    assert [e["value"] for e in paper if e["model"] == model] == [value]


def test_zero_shot_figures_of_the_paper_agree_with_others_measurements():
    """Templates and test splits differ where they are not compared here."""
    for data in ("food101", "cifar100", "sun397", "cars", "dtd", "pets", "flowers", "stl10", "gtsrb", "imagenet"):
        found: dict[str, dict[str, float]] = {}
        for entry in entries(data):
            if entry.get("pretraining", "").endswith("(WIT)") and entry["metric"].startswith("zeroshot/accuracy"):
                found.setdefault(entry["model"], {})[entry["source"]] = entry["value"]
        for model, sources in found.items():
            paper = sources["Radford et al. 2021, Table 11"]
            measured = sources["mlfoundations/open_clip, docs/openclip_results.csv"]
            assert measured == pytest.approx(paper, abs=0.041), (data, model)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("vit", "vit"),
        ("vit_b_16", "vit"),
        ("resnet34", "resnet"),
        ("resnet56", "resnet_cifar"),
        ("mobilenet_v2", "mobilenet_v2"),
        ("clip", "clip"),
        ("clip_vit_l14_336", "clip"),
    ],
)
def test_families(model, expected):
    assert family(model) == expected


def test_the_homework_and_nothing_that_differs():
    (found,) = published_for("resnet34", "pets", "IMAGENET1K_V1", counts={"val": 0, "test": 3669})
    assert found["value"] == 0.9
    assert found["differs"] == ""


def test_differences_are_said_in_words():
    found = published_for("vit", "pets", counts={"val": 26, "test": 111})[0]
    assert found["differs"].split("; ") == [
        "model vit_l16, ours vit",
        "pre-trained on ImageNet-21k, ours from scratch",
        "at 384 px, ours at 224",
        "trained on train + val, ours on train alone",
        "on 3,669 test images, ours on 111",
    ]


def test_nothing_is_said_of_training_where_nothing_was_trained():
    def differs(trained: bool) -> str:
        counts = {"val": 26, "test": 3669}
        return published_for("vit_l16", "pets", "mine.pt", counts=counts, image_size=384, trained=trained)[0]["differs"]

    assert (
        differs(True)
        == "pre-trained on ImageNet-21k, ours started from mine.pt; trained on train + val, ours on train alone"
    )
    assert differs(False) == "pre-trained on ImageNet-21k, ours are mine.pt"


def test_the_nearest_comes_first():
    sources = [entry["source"] for entry in published_for("vit_b_16", "imagenet", "IMAGENET1K_V1")]
    assert sources[0] == "torchvision, vit_b_16 IMAGENET1K_V1"
    values = [entry["value"] for entry in published_for("resnet56", "cifar10")]
    assert values[:2] == [0.9339, 0.9303]
    assert published_for("vit", "digits") == []
    assert published_for("vit", "pets", metric="test/loss") == []


@pytest.mark.parametrize(
    "weights",
    [
        "openai/clip-vit-base-patch32",
        "/some/where/ViT-B-32.pt",
        "ViT-B/32",
        "timm/vit_base_patch32_clip_224.openai",
        "folders/clip-vit-base-patch32/",
    ],
)
def test_the_checkpoint_says_which_clip_it_is(weights):
    found = published_for(
        "clip", "flowers", weights, "zeroshot/accuracy_per_class", counts={"val": 1020, "test": 6149}, image_size=224
    )
    assert found[0]["value"] == 0.667
    assert found[0]["source"] == "Radford et al. 2021, Table 11"
    assert found[0]["differs"] == ""
    assert "model clip_vit_l14" in found[-1]["differs"] or "clip_rn" in found[-1]["differs"]


def test_another_clip_is_told_apart():
    laion = "laion/CLIP-ViT-B-32-laion2B-s34B-b79K"
    found = published_for("clip_vit_b32", "pets", laion, "zeroshot/accuracy_per_class", image_size=224)
    assert (found[0]["value"], found[0]["differs"]) == (0.9076, "")
    assert found[1]["differs"].endswith(f"ours started from {laion}")
    large = published_for("clip", "pets", "ViT-L/14@336px", "linear/accuracy_per_class", image_size=336)[0]
    assert (large["value"], large["differs"]) == (0.951, "trained on train + val, ours on train alone")
    scratch = published_for("clip_vit_b32", "cifar10", None, "zeroshot/accuracy", image_size=224)[0]
    assert scratch["differs"] == "pre-trained on 400M pairs (WIT), ours from scratch"


def test_what_a_head_was_fitted_on_is_compared():
    def differs(metric: str, fitted_on: str | None) -> str:
        return published_for(
            "clip_vit_b32", "flowers", "ViT-B-32.pt", metric, image_size=224, counts={"val": 9}, fitted_on=fitted_on
        )[0]["differs"]

    assert differs("linear/accuracy_per_class", "train + val") == ""
    assert differs("linear/accuracy_per_class", "train") == "trained on train + val, ours on train alone"
    assert differs("linear/accuracy", "train") == ""
    assert differs("linear/accuracy", "train + val") == "fitted on train alone, ours on train + val"


def test_ranges_have_words_and_distances():
    (range_,) = published_for("clip_vit_b32", "flowers", "ViT-B-32.pt", "knn/accuracy")
    assert in_words(range_["value"]) == "0.80-0.90"
    assert in_words(0.6667) == "0.667"
    assert [round(gap(ours, [0.8, 0.9]), 3) for ours in (0.7, 0.85, 0.93)] == [-0.1, 0.0, 0.03]
    assert [round(gap(ours, 0.8), 3) for ours in (0.7, 0.8, 0.93)] == [-0.1, 0.0, 0.13]


def test_a_table_of_the_users_own(tmp_path, monkeypatch):
    folder = tmp_path / "conf/published"
    folder.mkdir(parents=True)
    table = "data: mine\ntest_images: 10\ntables: [{of: openai, metric: m, source: s, protocol: p, values: {VALUES}}]"
    monkeypatch.chdir(tmp_path)
    (folder / "mine.yaml").write_text(table.replace("VALUES", "vit_b32: 0.5"))
    (found,) = entries("mine")
    assert (found["model"], found["value"], found["image_size"]) == ("clip_vit_b32", 0.5, 224)
    (folder / "mine.yaml").write_text(table.replace("VALUES", "vit_b23: 0.5"))
    with pytest.raises(ConfigError, match="Did you mean `vit_b32`"):
        entries("mine")
