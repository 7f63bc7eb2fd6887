"""tfcli viz: what is drawn is what the model attended to and what the run has measured."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import tfcli
from omegaconf import OmegaConf
from PIL import Image
from torch.testing import assert_close

from tfcli.engine.runs.figures import confusion_of, curves_of, lengths_of
from tfcli.engine.runs.record import Record, read_record
from tfcli.engine.use.attention import (
    AttentionWeights,
    attention_in_text,
    attention_of_image,
    attention_of_text,
    attention_to_source,
)
from tfcli.engine.use.language_model import LoadedLanguageModel
from tfcli.engine.use.translate import translations
from tfcli.errors import ConfigError, DataError, IncompatibleError, RunError
from tfcli.models.bert import BERT
from tfcli.models.gpt import GPT
from tfcli.models.rnn import RNN
from tfcli.models.transformer import Transformer
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned
from tfcli.text.tokenizer import make

CORPUS = ["the cat saw the dog", "a dog sat\non the mat"]
SIZES = {"width": 16, "depth": 2, "heads": 4, "context": 32, "attn": Attention, "pos": Learned}


def loaded(family, kind: str, sizes=SIZES, **facts) -> LoadedLanguageModel:
    torch.manual_seed(0)
    tokenizer = make(kind, texts=CORPUS, vocab_size=262 if kind == "byte_bpe" else 60)
    sizes = sizes | ({"head": facts["head"], "num_classes": 2} if "head" in facts else {})
    net = family(vocab_size=tokenizer.vocab_size, **sizes).eval()
    config = OmegaConf.create({"model": {"context": 32, **facts}})
    return LoadedLanguageModel(net=net, config=config, choices={"model": "tiny", "data": "corpus"}, tokenizer=tokenizer)


def test_a_text_is_read_with_its_marks_and_nothing_ahead_is_seen():
    looked = attention_in_text(loaded(GPT, "chars"), "a dog\nsat")
    assert looked.rows == looked.columns == ["<bos>", *"a␣dog↵sat"]
    for layer in looked.layers:
        assert layer.shape == (4, 10, 10)
        assert np.triu(layer, 1).max() == 0
        assert layer.sum(-1) == pytest.approx(np.ones((4, 10)), abs=1e-5)
    looked = attention_in_text(loaded(BERT, "wordpiece", layout="cls"), "the cat")
    assert (looked.rows[0], looked.rows[-1]) == ("[CLS]", "[SEP]")
    assert "".join(looked.rows[1:-1]).replace("##", "") == "thecat"
    assert "".join(attention_in_text(loaded(GPT, "byte_bpe"), "the cat").rows[1:]) == "the␣cat"
    assert np.triu(looked.layers[0], 1).max() > 0
    assert attention_in_text(loaded(GPT, "words", layout="start", head="classes"), "the cat").rows == [
        "<start>", "the", "cat", "<extract>",
    ]  # fmt: skip


RECURRENT = {"width": 16, "embed_width": 8}


@pytest.mark.parametrize(
    ("family", "sizes", "heads"),
    [(Transformer, SIZES, [4, 4]), (RNN, {**RECURRENT, "attention": "additive"}, [1])],
)
def test_a_translation_looks_at_its_source(family, sizes, heads):
    of = loaded(family, "words", sizes)
    source = "the cat saw the dog"
    looked = attention_to_source(of, source)
    assert looked.columns == [*source.split(), "<eos>"]
    said = [row for row in looked.rows if row != "<eos>"]
    assert looked.facts["translation"].split() == [word for word in said if word not in ("<pad>", "<bos>")]
    shape = (len(looked.rows), len(looked.columns))
    assert [layer.shape for layer in looked.layers] == [(count, *shape) for count in heads]
    assert all(layer.sum(-1) == pytest.approx(np.ones(layer.shape[:2]), abs=1e-5) for layer in looked.layers)
    assert not np.allclose(attention_to_source(of, "a mat").layers[-1][:, 0, 0], looked.layers[-1][:, 0, 0])


def test_what_a_translator_does_not_read_is_said(capsys):
    of = loaded(Transformer, "words")
    translations(of, ["the cat", "the cat saw the dog " * 8], beam=1, alpha=0.6)
    assert "a text is longer than the 32 tokens that the model takes" in capsys.readouterr().err
    translations(of, ["the cat"], beam=1, alpha=0.6)
    assert "longer" not in capsys.readouterr().err


def test_without_attention_there_is_nothing_to_look_at():
    with pytest.raises(IncompatibleError, match="no attention to look at"):
        attention_to_source(loaded(RNN, "words", RECURRENT), "the cat")


def test_layers_and_heads_are_counted_from_one(tmp_path):
    layers = [np.full((2, 3, 3), 0.1), np.stack([np.eye(3), np.ones((3, 3))])]
    looked = AttentionWeights(layers, list("abc"), list("abc"))
    assert (looked.pick(None, 1)[0] == np.eye(3)).all()
    assert looked.pick(1, None) == (pytest.approx(layers[0][0]), "layer 1 of 2, mean of 2 heads")
    for choice in ((0, None), (3, None), (1, 3)):
        with pytest.raises(ConfigError, match="numbered from 1 to 2"):
            looked.pick(*choice)
    with np.load(looked.save(tmp_path / "a.npz")) as kept:
        assert (kept["layer2"] == layers[1]).all()
        assert list(kept["rows"]) == list("abc")


def test_an_image_is_seen_by_the_best_checkpoint_as_in_testing(tiny_run, tmp_path):
    image = (np.random.default_rng(0).random((8, 8)) * 255).astype(np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    files, looked = attention_of_image(tiny_run, [], tmp_path / "x.png", layer=1, folder=tmp_path / "made")
    assert [file.name for file in files] == ["attention.png", "attention.npz"]
    assert all(file.stat().st_size > 1000 for file in files)
    assert looked.rows[:2] == ["class token", "patch 0,0"]
    assert {layer.shape for layer in looked.layers} == {(4, len(looked.rows), len(looked.rows))}
    assert looked.facts["grid"][0] * looked.facts["grid"][1] == len(looked.rows) - 1
    assert_close(torch.tensor(looked.layers[1]).sum(-1), torch.ones(4, len(looked.rows)))
    with pytest.raises(ConfigError, match="`--layer 5`"):
        attention_of_image(tiny_run, [], tmp_path / "x.png", layer=5, folder=tmp_path)
    (tmp_path / "no.png").write_text("no image")
    with pytest.raises(DataError, match=r"no\.png"):
        attention_of_image(tiny_run, [], tmp_path / "no.png", layer=None, folder=tmp_path)


def test_curves_and_confusion_are_those_of_the_run(tiny_run, tmp_path):
    record = read_record(tiny_run)
    assert confusion_of(tiny_run, tmp_path / "a.png")["accuracy"] == pytest.approx(record.metrics["test/accuracy"])
    drawn = curves_of(tiny_run, tmp_path / "b.png")
    assert len(drawn["loss"]["train"]) == 2
    with pytest.raises(RunError, match="has no curves"):
        curves_of(tmp_path, tmp_path / "c.png")
    with pytest.raises(RunError, match="tested no classifier"):
        confusion_of(tmp_path, tmp_path / "c.png")


def translator(folder: Path, model: str, shift: float, *overrides: str) -> Path:
    folder.mkdir()
    metrics = {"test/bleu": 30.0, "test/bleu/length=9": 40.0 + shift, "test/bleu/length=20": 30.0 + shift}
    record = Record("train", "finished", model, "multi30k", "translate", overrides=list(overrides), metrics=metrics)
    record.intervals = {name: [value - 1, value + 1] for name, value in metrics.items()}
    record.write(folder)
    return folder


def test_lengths_name_runs_of_one_model_by_what_differs(tmp_path):
    common = ("model=rnn", "data=multi30k")
    runs = [
        translator(tmp_path / "a", "transformer", 0.0, "model=transformer", "data=multi30k"),
        translator(tmp_path / "b", "rnn", -2.0, *common, "model.attention=additive"),
        translator(tmp_path / "c", "rnn", -8.0, *common, "model.attention=none", "run.dir=c"),
    ]
    drawn = lengths_of(runs, tmp_path / "l.png", score=None)
    assert list(drawn) == ["transformer", "rnn model.attention=additive", "rnn model.attention=none"]
    assert drawn["rnn model.attention=none"] == [[9.0, 32.0, 31.0, 33.0], [20.0, 22.0, 21.0, 23.0]]
    with pytest.raises(RunError, match=r"only bleu\. Did you mean `bleu`"):
        lengths_of(runs, tmp_path / "l.png", score="bleau")
    Record("train", "finished", "vit", "pets").write(runs[0])
    with pytest.raises(RunError, match="no figures by length"):
        lengths_of(runs, tmp_path / "l.png", score=None)


def test_the_verb_writes_where_it_says_and_refuses_in_a_line(tiny_run, tmp_path):
    done = tfcli("viz", "confusion", str(tiny_run), "--out", "made", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["files"] == ["made/confusion.png"], done.stderr
    assert (tmp_path / "made" / "confusion.png").is_file()
    done = tfcli("viz", "attention", str(tiny_run), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "give one thing to look at" in done.stderr
    with pytest.raises(ConfigError, match="takes no text"):
        attention_of_text(tiny_run, [], "hello", layer=None, head=None, folder=tmp_path)
