"""A word's vectors: alike where a model has read the same, and told apart by what it has read."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf

from tfcli.engine.use.contextual_embeddings import word_vectors
from tfcli.engine.use.language_model import LoadedLanguageModel
from tfcli.errors import ConfigError, IncompatibleError
from tfcli.models.bert import BERT
from tfcli.models.gpt import GPT
from tfcli.nn.attention import Attention
from tfcli.nn.capture import capture
from tfcli.nn.positions import Learned
from tfcli.text.tokenizer import make

CORPUS = ["he sat on the bank of the river", "the bank lent money", "a bank of banks", "the riverbank"]


def loaded(family, kind: str, **facts) -> LoadedLanguageModel:
    torch.manual_seed(0)
    tokenizer = make(kind, texts=CORPUS, vocab_size=60)
    sizes = {"width": 16, "depth": 3, "heads": 4, "context": 40, "attn": Attention, "pos": Learned, "head": None}
    net = family(vocab_size=tokenizer.vocab_size, **sizes).eval()
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5)  # as untrained it would hardly look around
    config = OmegaConf.create({"model": {"context": 40, **facts}})
    return LoadedLanguageModel(net=net, config=config, choices={"model": "tiny", "data": "corpus"}, tokenizer=tokenizer)


def test_bert_reads_both_sides_of_a_word_and_gpt_what_stands_before():
    sentences = ["the bank lent money", "the bank of the river"]
    for family, kind, facts, alike in ((BERT, "wordpiece", {"layout": "cls"}, False), (GPT, "chars", {}, True)):
        found = word_vectors(loaded(family, kind, **facts), sentences, "Bank")
        assert [w.sentence for w in found.words] == [0, 1]
        assert found.static[0, 1] == pytest.approx(1.0, abs=1e-5)
        assert found.layers.shape == (3, 2, 2)
        assert bool((found.layers[:, 0, 1] > 1 - 1e-5).all()) == alike


def test_a_word_is_the_mean_of_its_pieces_after_each_block():
    model = loaded(GPT, "chars")
    found = word_vectors(model, ["a bank of Bank banks"], "bank")
    assert [(w.text, w.places) for w in found.words] == [("bank", [2, 3, 4, 5]), ("Bank", [10, 11, 12, 13])]
    ids = [model.tokenizer.bos_id, *model.tokenizer.encode(["a bank of Bank banks"])[0]]
    with capture(model.net) as trace, torch.no_grad():
        model.net.features(torch.tensor([ids]))
    last = trace.outputs["stack.blocks.2"][0]
    by_hand = torch.nn.functional.cosine_similarity(last[3:7].mean(0), last[11:15].mean(0), dim=0)
    assert found.layers[2, 0, 1] == pytest.approx(by_hand.item(), abs=1e-5)
    first = word_vectors(model, ["a bank of Bank banks"], "bank", pool="first")
    by_hand = torch.nn.functional.cosine_similarity(last[3], last[11], dim=0)
    assert first.layers[2, 0, 1] == pytest.approx(by_hand.item(), abs=1e-5)
    assert first.static[0, 1] < 0.99  # a capital is another character


def test_what_has_no_such_word_or_vectors_is_refused():
    model = loaded(GPT, "chars")
    with pytest.raises(
        ConfigError, match=r"sentence 2, `the riverbank`, does not contain it. Did you mean `riverbank`"
    ):
        word_vectors(model, ["the bank", "the riverbank"], "bank")
    with pytest.raises(ConfigError, match="sentence 1 has 47 tokens, more than the 40"):
        word_vectors(model, ["bank" + " of" * 14], "bank")
    model.net = torch.nn.Linear(2, 2)
    with pytest.raises(IncompatibleError, match="tiny has no vectors of words"):
        word_vectors(model, ["the bank"], "bank")
