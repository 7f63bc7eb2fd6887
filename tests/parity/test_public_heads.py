"""`predict --text` with public weights: the head they have, their own names, transformers' answers."""

from __future__ import annotations

import json

import pytest
import torch
from parity.language import BERT, LINES, saved

from tfcli.cli.app import app
from tfcli.errors import ConfigError, WeightsError
from tfcli.text.tokenizer import make

pytestmark = pytest.mark.parity


@pytest.fixture
def ask(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> list[dict]:
        capsys.readouterr()
        app(["predict", "bert", "model.weights=theirs", *words, "--json"], standalone_mode=False)
        return json.loads(capsys.readouterr().out)

    return run


def framed(text: str, second: str = "") -> dict[str, torch.Tensor]:
    tokenizer = make("wordpiece", texts=LINES, vocab_size=60)
    parts = [tokenizer.encode([part])[0] for part in (text, second) if part]
    ids = [tokenizer.cls_id, *(i for part in parts for i in (*part, tokenizer.sep_id))]
    kinds = [0] * (len(parts[0]) + 2)
    return {"input_ids": torch.tensor([ids]), "token_type_ids": torch.tensor([kinds + [1] * (len(ids) - len(kinds))])}


@torch.no_grad()
def test_a_classifier_has_its_own_labels(ask, tmp_path):
    names = {0: "sad", 1: "glad", 2: "neither"}
    theirs = saved(tmp_path / "theirs", "BertForSequenceClassification", **BERT, id2label=names)
    found = ask("--text", LINES[0], "--text", LINES[5])
    for row, line in zip(found, (LINES[0], LINES[5]), strict=True):
        chance, best = theirs(**framed(line)).logits.softmax(1)[0].sort(descending=True)
        assert row["classes"] == [names[i] for i in best.tolist()]
        assert row["probabilities"] == pytest.approx(chance.tolist(), abs=1e-5)
    ids = saved(tmp_path / "theirs", "BertForSequenceClassification", **BERT, num_labels=2)
    (row,) = ask("--text", LINES[0], "--pair", LINES[1])
    expected = ids(**framed(LINES[0], LINES[1])).logits.softmax(1)[0]
    assert row["classes"][0] == f"LABEL_{int(expected.argmax())}"


@torch.no_grad()
def test_scores_tags_and_spans(ask, tmp_path):
    theirs = saved(tmp_path / "theirs", "BertForSequenceClassification", **BERT, num_labels=1)
    assert ask("--text", LINES[0])[0]["answer"] == pytest.approx(float(theirs(**framed(LINES[0])).logits), abs=1e-4)
    theirs = saved(tmp_path / "theirs", "BertForTokenClassification", **BERT, id2label={0: "O", 1: "B", 2: "I"})
    (row,) = ask("--text", "the good cat")
    best = theirs(**framed("the good cat")).logits.argmax(-1)[0].tolist()
    assert row["tags"][0]["tag"] == {0: "O", 1: "B", 2: "I"}[best[1]]
    saved(tmp_path / "theirs", "BertForQuestionAnswering", **BERT)
    assert ask("--text", "the good cat", "--pair", LINES[0])[0]["answer"] in LINES[0]


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_outputs_that_are_no_choice_among_classes_are_not_shown_as_one(ask, tmp_path, problem):
    saved(tmp_path / "theirs", "BertForSequenceClassification", **BERT, num_labels=3, problem_type=problem)
    with pytest.raises(WeightsError, match=f"no trained `head` .*problem_type {problem}"):
        ask("--text", LINES[0])


def test_weights_without_a_head_answer_nothing(ask, tmp_path):
    saved(tmp_path / "theirs", "BertForMaskedLM", **BERT)
    with pytest.raises(ConfigError, match="has no head that answers texts"):
        ask("--text", LINES[0])
