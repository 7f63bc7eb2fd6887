"""What features depend on, seen from the settings: each change of them is another entry of the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tfcli.engine.probe import encoder
from tfcli.engine.runs.named import frozen_job
from tfcli.errors import ConfigError
from tfcli.probes import store

BASE = ("model=vit", "data=digits", "model.weights=random", "features.threads=1", "features.precision=32")


def digests(*changes: str) -> dict[str, str]:
    frozen = encoder.prepare(*frozen_job([*BASE, "model.depth=1", "model.width=24", *changes]))
    encoder.choose_precision(frozen)
    entries = {s: store.entry(Path(), encoder.facts(frozen, s), frozen.data.counts[s]) for s in ("train", "test")}
    return {split: entry.folder.name for split, entry in entries.items()}


@pytest.fixture(scope="module")
def base() -> dict[str, str]:
    return digests()


@pytest.mark.parametrize(
    "change",
    [
        "features.precision=bf16",
        "features.layer=stack.blocks.0",
        "features.pool=mean",
        "data.mean=[0.1,0.1,0.1]",
        "data.interpolation=bicubic",
        "model.heads=3",
        "seed=1",  # other random weights
    ],
)
def test_what_changes_features_misses_every_split(base, change: str):
    other = digests(change)
    assert all(other[split] != base[split] for split in base)


def test_what_changes_a_split_misses_that_split(base):
    other = digests("data.limit_train=100")
    assert other["train"] != base["train"]
    assert other["test"] == base["test"]
    assert digests("data.split_seed=1")["train"] != base["train"]


@pytest.mark.parametrize("change", ["linear.C=1.0", "knn.ks=[1]", "features.batch_size=7", "heads=[knn]"])
def test_what_heads_do_changes_no_features(base, change: str):
    assert digests(change) == base


def test_precision_auto_is_remembered_and_agrees_with_fp32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path))
    words = [*BASE[:-1], "features.precision=auto", "data.limit_test=20"]
    first = encoder.prepare(*frozen_job(words))
    encoder.choose_precision(first)
    assert first.precision in ("32", "bf16")

    def forbidden(steps: list) -> list:
        raise AssertionError("measured again")

    monkeypatch.setattr(encoder.numerics, "time_in_turns", forbidden)
    again = encoder.prepare(*frozen_job(words))
    x, label = encoder.fetch_features(again, "test")
    assert again.precision == first.precision
    exact, same = encoder.fetch_features(encoder.prepare(*frozen_job([*words, "features.precision=32"])), "test")
    assert torch.nn.functional.cosine_similarity(x, exact).min() > 0.999
    assert torch.equal(label, same)


def test_several_devices_give_the_same_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path))
    jobs = [frozen_job([*BASE, f"features.devices={n}", "features.refresh=true"]) for n in (1, 2)]
    found = [encoder.fetch_features(encoder.prepare(*job), "test")[0] for job in jobs]
    assert torch.allclose(*found, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pixels", "digits", "flowers"], "after MODEL and DATA come settings"),
        (["pixels", "data=digits", "flowers"], "already given"),
        (["pixles", "digits"], "Did you mean `pixels`"),
        (["pixels"], "which data set"),
    ],
)
def test_words_that_do_not_fit_are_answered(words: list[str], said: str, monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        frozen_job(words)


@pytest.mark.slow
def test_every_set_of_labels_composes_with_encoders_of_any_size():
    from tfcli.engine.config.compose import compose
    from tfcli.engine.config.configs import options

    for data in options("data"):
        for model in ("pixels", "resnet56", "vit_b16", "clip"):
            if data not in ("folder", "captions"):  # these want to be told where they are
                compose("probe", [f"model={model}", f"data={data}"] if model != "clip" else [f"data={data}", *CLIP])


CLIP = ("model=clip_vit_b32", "model.weights=x")


def test_unusable_files_are_left_out_up_to_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import numpy as np
    from PIL import Image

    from tfcli.errors import DataError, PolicyStop

    monkeypatch.setenv("TFCLI_CACHE", str(tmp_path / "cache"))
    for number in range(40):
        file = tmp_path / "set" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8, 3), 6 * number, dtype=np.uint8)).save(file)
    (tmp_path / "set" / "a" / "0.png").write_bytes(b"no image")
    words = ["pixels", "folder", f"data.root={tmp_path / 'set'}", "features.threads=1"]
    with pytest.raises(DataError, match=r"0\.png"):
        everything(words)
    with pytest.raises(PolicyStop, match=r"max_bad_fraction"):
        everything([*words, "data.on_error=skip", "data.max_bad_fraction=0.01"])
    skipping = [*words, "data.on_error=skip", "data.max_bad_fraction=0.2"]
    assert sum(len(label) for _, label in everything(skipping)) == 39
    assert {row["cache"] for row in encoder.cached(encoder.prepare(*frozen_job(skipping)))} == {"hit"}


def everything(words: list[str]) -> list:
    frozen = encoder.prepare(*frozen_job(words))
    return [encoder.fetch_features(frozen, split) for split in ("train", "val", "test")]
