"""No verb takes a figure or a word from a part that nobody has trained."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from parity.language import BERT, LINES, saved

from tfcli.cli.app import app
from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.errors import WeightsError
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity

QUICK = ("trainer.precision=32", "trainer.threads=1", "logger=csv")
TABLE = ("model=bert", "task=text_classify", "data=table", "data.root=own.tsv", "model.weights=theirs", *QUICK)
WORDS = ("model=bert", "data=text", "data.root=own.txt", "model.weights=theirs", "model.context=16", *QUICK)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    rows = [f"{line}\t{line.split()[1]}" for line in LINES * 8]
    (tmp_path / "own.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    (tmp_path / "own.txt").write_text("\n".join(LINES * 40) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(*words: str) -> str:
    with pytest.raises(WeightsError) as error:
        app(list(words), standalone_mode=False)
    assert not Path("outputs").exists() or not list(Path("outputs").rglob("config.yaml"))
    return str(error.value)


def test_a_classifier_without_its_head_is_not_evaluated_and_the_remedy_trains_it(folder, capsys):
    saved(folder / "theirs", "BertModel", **BERT)
    said = refused("evaluate", *TABLE)
    assert said.startswith("`theirs` has no trained `head` for this model (head of 2 classes: new,")
    remedy = shlex.split(said.partition("`tfcli ")[2].partition("`")[0])
    app([*remedy, "trainer.max_epochs=1", "data.baseline=false"], standalone_mode=False)
    capsys.readouterr()
    app(["words", "bert", "model.weights=theirs", "--word", "cat", *LINES[:2], "--json"], standalone_mode=False)
    assert capsys.readouterr().out  # the layers are trained, whatever reads the last of them


def test_perplexity_needs_a_masked_head_and_next_sentences_theirs(folder, capsys):
    saved(folder / "theirs", "BertModel", **BERT)
    assert "no trained `masked` and `next`" in refused("evaluate", *WORDS)
    saved(folder / "theirs", "BertForMaskedLM", **BERT)
    assert "no trained `pooler` and `next`" in refused("evaluate", *WORDS)
    capsys.readouterr()
    app(["evaluate", *WORDS, "task.view.next_sentence=false", "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out)["metrics"]["test/perplexity"] > 1


def test_images_without_a_head_are_not_classified(folder):
    small = ["model=vit", "data=digits", "model.width=16", "model.depth=1", "model.heads=2"]
    config = compose("train", small).config
    config.data.num_classes = 10
    state = build(config.model).state_dict()
    torch.save({name: t for name, t in state.items() if not name.startswith("head.")}, "theirs.pt")
    assert "no trained `head`" in refused("evaluate", *small, "model.weights=theirs.pt", *QUICK)
    torch.save({**state, "head.weight": torch.ones(7, 16), "head.bias": torch.ones(7)}, "theirs.pt")
    assert "head 7 -> 10 classes: new" in refused("evaluate", *small, "model.weights=theirs.pt", *QUICK)


def test_torchs_transformer_without_its_words_says_nothing(tmp_path):
    config = compose("train", ["model=transformer", "model.width=16", "model.vocab_size=20", "model.depth=1"]).config
    net = build(config.model)
    theirs = torch.nn.Transformer(16, 4, 1, 1, 256, batch_first=True)
    state = {k: t for k, t in theirs.state_dict().items() if not k.startswith(("encoder.norm", "decoder.norm"))}
    torch.save(state, tmp_path / "torch.pt")
    report = load_weights(net, str(tmp_path / "torch.pt"))
    with pytest.raises(WeightsError, match=r"no trained `words\.embed\.weight`"):
        report.refuse_untrained("Train it first.")
