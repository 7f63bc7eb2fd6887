"""`model.weights=RUN`: what a run hands on to the next one, and what it does not."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from conftest import TINY

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import Composition, compose
from tfcli.engine.loading import from_run
from tfcli.engine.loading.from_checkpoint import net_state, read_checkpoint
from tfcli.engine.runs.saved_config import find_checkpoint
from tfcli.engine.train.prepare import prepare
from tfcli.errors import ConfigError, RunError
from tfcli.text.tokenizer import make
from tfcli.weights.load import load_weights

NODE = {"width": 16, "depth": 1, "heads": 2, "context": 8, "vocab_size": 20}


@cache
def _composed(*words: str) -> Composition:
    return compose("train", [*words])


def composed(*words: str) -> Composition:
    """A composition of one's own, composed once."""
    return deepcopy(_composed(*words))


def run_of_gpt(folder: Path, *, head: str | None = None, classes: tuple[str, ...] = ()) -> Path:
    """The folder that a run of a small GPT leaves."""
    config = composed("model=gpt", "pos=rope", "model.dropout=0.3").config
    for key, value in NODE.items():
        config.model[key] = value
    config.model.head, config.model.num_classes = head, len(classes) or None
    net = build(config.model)
    (folder / "checkpoints").mkdir(parents=True)
    state = {f"net.{name}": tensor for name, tensor in net.state_dict().items()}
    facts = {"classes": list(classes), "version": "0"}
    torch.save(
        {"state_dict": state, "tfcli": facts, "pytorch-lightning_version": "2"}, folder / "checkpoints/best.ckpt"
    )
    saved = plain(config)
    (folder / "config.yaml").write_text(yaml.safe_dump({**saved, "choices": {"model": "gpt"}, "numerics": {}}))
    make("chars", texts=["abcdefghijklmnop"]).save(folder)
    return folder


def test_an_image_run_goes_on_with_its_size_and_its_head(tiny_run, tmp_path):
    words = ["model=vit", "data=digits", f"model.weights={tiny_run}", *TINY[4:], f"run.root={tmp_path}"]
    job = compose("train", words)
    from_run.resolve_run(job.config, job.overrides)
    parts = prepare(job.config, job.choices, job.overrides)
    ours, theirs = parts.task.net.state_dict(), net_state(read_checkpoint(find_checkpoint(tiny_run, "best")))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert f"the model is the one of run {tiny_run.name}" in parts.notes
    assert not any("head" in line for line in parts.notes)


def test_sizes_positions_and_tokenizer_are_the_runs_the_rest_is_ones_own(tmp_path):
    run = run_of_gpt(tmp_path / "run")
    config = composed("model=gpt", "attn=windows").config
    config.model.weights, config.model.context = str(run), 4
    path, said = from_run.adopt_run(config, run, {"model.weights", "model.context", "attn"})
    model = config.model
    assert {key: model[key] for key in NODE} == {**NODE, "context": 4}
    assert model.pos._target_.endswith("Rope")
    assert model.attn.pattern._target_.endswith("Windows")
    assert model.dropout == 0.0
    assert path == run / "tokenizer.json"
    assert said == ["the model is the one of run run, but for attn, model.context"]


@pytest.mark.parametrize(
    ("head", "classes", "asked", "said"),
    [
        (None, (), ("classes", ["no", "yes"]), "head of 2 classes: new, since the checkpoint has none"),
        ("classes", ("no", "yes"), ("classes", ["no", "yes"]), None),
        ("classes", ("bad", "good"), ("classes", ["no", "yes"]), "new, since the run's knows bad, good"),
        ("score", (), ("choice", []), "head: new, since the run's gives score"),
        ("classes", ("no", "yes"), (None, []), "head: left out, since this model has none"),
    ],
)
def test_a_head_is_taken_only_where_it_means_the_same(tmp_path, head, classes, asked, said):
    run = run_of_gpt(tmp_path / "run", head=head, classes=classes)
    kind, names = asked
    config = composed("model=gpt").config
    from_run.adopt_run(config, run, {"model.weights"})
    config.model.head, config.model.num_classes = kind, len(names) or None
    net = build(config.model)
    report = load_weights(net, str(run), num_classes=len(names) or None, classes=names)
    stored = torch.load(run / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(net.embed.weight, stored["net.embed.weight"])
    if kind and not report.new_head:
        assert torch.equal(net.head.weight, stored["net.head.weight"])
    assert (said is None) == (not [note for note in report.notes if note.startswith("head")])
    assert said is None or any(said in note for note in report.notes)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (["model=vit", "data=digits"], ConfigError, "is of GPT .*this model is of ViT; weights pass only inside"),
        (["model=gpt", "model.tokenizer.kind=bpe"], ConfigError, "is bpe, but the run's tokenizer has chars"),
        (["model=gpt", "model.tokenizer.path={other}"], ConfigError, "the tokenizer does not match the model"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path, words, error, said):
    run = run_of_gpt(tmp_path / "run")
    other = make("chars", texts=["ponmlkjihgfedcba!"]).save(tmp_path / "other")
    words = [word.format(other=other) for word in words]
    config = compose("train", [*words, f"model.weights={run}"]).config
    with pytest.raises(error, match=said):
        from_run.adopt_run(config, run, {word.partition("=")[0] for word in words})


def test_latest_is_named_by_its_path_before_the_new_run_is_the_latest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = run_of_gpt(tmp_path / "outputs/train/gpt-shakespeare/20260101-000000-abcd")
    (tmp_path / "outputs/latest").symlink_to(run)
    for word in ("latest", "abcd", "gpt-shakespeare", str(run)):
        job = composed("model=gpt")
        job.config.model.weights = word
        job.overrides.append(f"model.weights={word}")
        from_run.resolve_run(job.config, job.overrides)
        assert job.config.model.weights == str(run)
        assert job.overrides == ["model=gpt", f"model.weights={run}"]
    (run / "checkpoints/best.ckpt").unlink()
    with pytest.raises(RunError, match="has no checkpoint; it ended before its first one"):
        from_run.resolve_run(job.config, job.overrides)
    elsewhere = composed("model=gpt")
    elsewhere.config.model.weights = "openai-community/gpt2"
    from_run.resolve_run(elsewhere.config, elsewhere.overrides)
    assert elsewhere.config.model.weights == "openai-community/gpt2"
