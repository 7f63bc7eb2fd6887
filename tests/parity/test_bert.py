"""Our BERT equals transformers', with each of its heads, its weights taken from disk through our converter."""

from __future__ import annotations

import pytest
import torch
from parity.language import TEXT, blocks, gradients, ours, reference
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from tfcli.errors import WeightsError
from tfcli.models.bert import BERT
from tfcli.weights.bert import convert
from tfcli.weights.blueprint import blueprint
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity

SIZES = {
    "config": "BertConfig",
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 16,
    "layer_norm_eps": 1e-3,
    "hidden_dropout_prob": 0.2,
}
ATOL = {"atol": 1e-5, "rtol": 0.0}
VALID = torch.arange(9) < torch.tensor([9, 4, 6])[:, None]
SEGMENTS = (torch.arange(9) > 2).long().expand(3, 9)
READ = {"input_ids": TEXT, "token_type_ids": SEGMENTS, "attention_mask": VALID.long()}


def test_tokens_pooled_and_every_hidden_state(tmp_path):
    theirs = reference(tmp_path, "BertModel", **SIZES)
    net, report = ours(BERT, tmp_path, head=None)
    with torch.no_grad():
        expected = theirs(**READ, output_hidden_states=True)
        mine = net.features(TEXT, SEGMENTS, VALID)
    assert_close(mine.tokens[VALID], expected.last_hidden_state[VALID], **ATOL)
    assert_close(mine.pooled, expected.pooler_output, **ATOL)
    for state, other in zip(blocks(net, TEXT, SEGMENTS, VALID), expected.hidden_states[1:], strict=True):
        assert_close(state[VALID], other[VALID], **ATOL)
    assert report.notes == []
    found = blueprint("tfcli.models.bert.BERT", str(tmp_path))
    assert {"context": 16, "norm_eps": 1e-3, "dropout": 0.2, "segments": 2}.items() <= found.model.items()


def test_pre_training_and_its_gradients_tensor_by_tensor(tmp_path):
    theirs = reference(tmp_path, "BertForPreTraining", **SIZES)
    net, report = ours(BERT, tmp_path)
    assert report.notes == []
    labels = torch.where(torch.rand(3, 9, generator=torch.Generator().manual_seed(2)) < 0.5, TEXT, -100)
    labels = torch.where(VALID, labels, -100)
    following = torch.tensor([0, 1, 1])
    expected = theirs(**READ, labels=labels, next_sentence_label=following)
    features = net.features(TEXT, SEGMENTS, VALID)
    logits, next_logits = net.masked_logits(features.tokens), net.next_logits(features.pooled)
    assert_close(logits[VALID], expected.prediction_logits[VALID], **ATOL)
    assert_close(next_logits, expected.seq_relationship_logits, **ATOL)
    loss = cross_entropy(logits.flatten(0, 1), labels.flatten()) + cross_entropy(next_logits, following)
    assert_close(loss, expected.loss, **ATOL)
    loss.backward()
    expected.loss.backward()
    norms = gradients(theirs, net, convert)
    assert len(norms) == len(list(net.parameters()))
    for name, other, mine in norms:
        assert_close(mine, other, rtol=1e-4, atol=1e-6, msg=name)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "head", "changes"),
    [
        ("BertForSequenceClassification", "classes", {"num_labels": 5}),
        ("BertForSequenceClassification", "score", {"num_labels": 1}),
        ("BertForTokenClassification", "tags", {"num_labels": 5}),
        ("BertForQuestionAnswering", "span", {}),
        ("BertForMultipleChoice", "choice", {}),
        ("BertForNextSentencePrediction", "pretrain", {}),
        ("BertForMaskedLM", "pretrain", {}),
    ],
)
def test_every_head(name, head, changes, tmp_path):
    theirs = reference(tmp_path, name, **SIZES, **changes)
    net, report = ours(BERT, tmp_path, head=head, num_classes=5 if changes else None)
    read = {key: torch.stack([t, t], 1) for key, t in READ.items()} if head == "choice" else READ
    out = theirs(**read)
    inputs = (read["input_ids"], read["token_type_ids"], read["attention_mask"].bool())
    if name == "BertForNextSentencePrediction":
        assert_close(net.next_logits(net.features(*inputs).pooled), out.logits, **ATOL)
        assert report.notes == ["masked: new, since the checkpoint has none"]
        return
    mine = net(*inputs)
    if head == "span":
        assert_close(mine[VALID], torch.stack([out.start_logits, out.end_logits], -1)[VALID], **ATOL)
    elif head in ("tags", "pretrain"):
        assert_close(mine[VALID], out.logits[VALID], **ATOL)
    else:
        assert_close(mine, out.logits.squeeze(-1), **ATOL)
    parts = ("pooler", "next") if name == "BertForMaskedLM" else ()
    assert report.notes == [f"{part}: new, since the checkpoint has none" for part in parts]
    assert not report.new_head


def test_files_as_the_oldest_are(tmp_path):
    """`gamma` and `beta`, a copy of the embeddings as output, ids of positions; with and without `bert.`."""
    theirs = reference(tmp_path, "BertForPreTraining", **SIZES)
    state = load_file(tmp_path / "model.safetensors")
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in state.items()
    }
    old["bert.embeddings.position_ids"] = torch.arange(16)[None]
    old["cls.predictions.decoder.weight"] = state["bert.embeddings.word_embeddings.weight"].clone()
    old["cls.predictions.decoder.bias"] = state["cls.predictions.bias"].clone()
    bare = {name.removeprefix("bert."): tensor for name, tensor in old.items()}
    for tensors in (old, bare):
        save_file(tensors, tmp_path / "model.safetensors")
        net, report = ours(BERT, tmp_path)
        assert report.notes == []
        with torch.no_grad():
            assert_close(net(TEXT, SEGMENTS, VALID)[VALID], theirs(**READ).prediction_logits[VALID], **ATOL)
    save_file({**old, "cls.predictions.decoder.bias": torch.ones(60)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"cls\.predictions\.decoder\.bias is not its cls\.predictions\.bias"):
        load_weights(net, str(tmp_path))


def test_a_pre_trained_model_is_given_a_new_head(tmp_path):
    reference(tmp_path, "BertForPreTraining", **SIZES)
    _, report = ours(BERT, tmp_path, head="classes", num_classes=3)
    assert report.new_head
    assert report.notes == [
        "head of 3 classes: new, since the checkpoint has none",
        "masked: left out, since this model has none",
        "next: left out, since this model has none",
    ]
    assert "pooler" not in str(report.notes)


def test_what_is_not_read_is_said(tmp_path):
    reference(tmp_path, "BertModel", **SIZES, is_decoder=True)
    with pytest.raises(WeightsError, match="no BERT that is read: is_decoder"):
        blueprint("tfcli.models.bert.BERT", str(tmp_path))
    reference(tmp_path / "wide", "BertModel", **{**SIZES, "hidden_size": 48})
    reference(tmp_path / "thin", "BertModel", **SIZES)
    net, _ = ours(BERT, tmp_path / "thin", head=None)
    with pytest.raises(WeightsError, match="a BERT of width 48, depth 3, with a vocabulary of 60"):
        load_weights(net, str(tmp_path / "wide"))
