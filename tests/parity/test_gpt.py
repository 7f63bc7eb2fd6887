"""Our GPT equals transformers' GPT-2 and GPT-1, its weights taken from disk through our converter."""

from __future__ import annotations

import warnings

import pytest
import torch
from parity.language import TEXT, blocks, gradients, ours, reference
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from tfcli.errors import WeightsError
from tfcli.models.gpt import GPT
from tfcli.nn.blocks import through
from tfcli.nn.cache import Cache
from tfcli.nn.relative import Rope
from tfcli.weights.blueprint import blueprint
from tfcli.weights.gpt import convert
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity

SIZES = {"n_embd": 24, "n_layer": 3, "n_head": 4, "n_positions": 16}
TWO = {"config": "GPT2Config", "n_inner": 40, "layer_norm_epsilon": 1e-3, "resid_pdrop": 0.2, **SIZES}
ONE = {"config": "OpenAIGPTConfig", "layer_norm_epsilon": 1e-3, **SIZES}
LM = [("GPT2LMHeadModel", TWO), ("OpenAIGPTLMHeadModel", ONE)]
ATOL = {"atol": 1e-5, "rtol": 0.0}


@pytest.fixture(params=LM, ids=["gpt2", "gpt1"])
def pair(request, tmp_path):
    name, sizes = request.param
    theirs = reference(tmp_path, name, **sizes)
    return theirs, *ours(GPT, tmp_path), tmp_path


def test_logits_and_every_hidden_state(pair):
    theirs, net, report, folder = pair
    hidden = blocks(net, TEXT)
    with torch.no_grad():
        expected = theirs(TEXT, output_hidden_states=True)
        assert_close(net(TEXT), expected.logits, **ATOL)
        hidden[-1] = through(net.stack.norm, hidden[-1])
    for mine, other in zip(hidden, expected.hidden_states[1:], strict=True):
        assert_close(mine, other, **ATOL)
    assert report.notes == []
    found = blueprint("tfcli.models.gpt.GPT", str(folder))
    assert {"context": 16, "norm_eps": 1e-3, "dropout": theirs.config.resid_pdrop}.items() <= found.model.items()


@torch.no_grad()
def test_what_is_generated_with_a_cache(pair):
    theirs, net, *_ = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on settings of theirs that are not given
        options = {"use_cache": True, "output_logits": True, "return_dict_in_generate": True, "do_sample": False}
        expected = theirs.generate(TEXT, max_new_tokens=7, pad_token_id=0, eos_token_id=None, **options)
    cache, tokens = Cache(), TEXT
    for i in range(7):
        logits = net(tokens[:, len(cache) :], cache)[:, -1]
        assert_close(logits, expected.logits[i], **ATOL)
        tokens = torch.cat([tokens, logits.argmax(1, keepdim=True)], 1)
    assert torch.equal(tokens, expected.sequences)


def test_gradients_tensor_by_tensor(pair):
    theirs, net, *_ = pair
    loss = cross_entropy(net(TEXT)[:, :-1].flatten(0, 1), TEXT[:, 1:].flatten())
    loss.backward()
    expected = theirs(TEXT, labels=TEXT).loss
    expected.backward()
    assert_close(loss, expected, **ATOL)
    norms = gradients(theirs, net, convert)
    assert len(norms) == len(list(net.parameters()))
    for name, other, mine in norms:
        assert_close(mine, other, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("name", ["GPT2LMHeadModel", "OpenAIGPTLMHeadModel"])
def test_files_as_they_lie_on_the_hub(name, tmp_path):
    """Without `transformer.` and with the masks of old releases, and a copy of the embeddings as output."""
    theirs = reference(tmp_path, name, **dict(LM)[name])
    state = {key.removeprefix("transformer."): t for key, t in load_file(tmp_path / "model.safetensors").items()}
    embeddings = next(t for key, t in state.items() if key in ("wte.weight", "tokens_embed.weight"))
    masks = {f"h.{i}.attn.bias": torch.ones(1, 1, 16, 16).tril() for i in range(3)}
    extra = {"h.0.attn.masked_bias": torch.tensor(-1e4), "lm_head.weight": embeddings.clone()}
    save_file({**state, **masks, **extra}, tmp_path / "model.safetensors")
    net, report = ours(GPT, tmp_path)
    with torch.no_grad():
        assert_close(net(TEXT), theirs(TEXT).logits, **ATOL)
    assert report.notes == []
    save_file({**state, "lm_head.weight": embeddings + 1}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"output \(lm_head\) is not its table of embeddings"):
        load_weights(net, str(tmp_path))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "sizes"), [("OpenAIGPTDoubleHeadsModel", ONE), ("GPT2DoubleHeadsModel", TWO)], ids=["gpt1", "gpt2"]
)
def test_choices_at_the_last_token(name, sizes, tmp_path):
    theirs = reference(tmp_path, name, **sizes)
    net, report = ours(GPT, tmp_path, head="choice")
    choices = torch.stack([TEXT, TEXT.flip(1)], 1)
    ends = torch.tensor([[8, 3], [5, 8], [0, 2]])
    expected = theirs(choices, mc_token_ids=ends)
    assert_close(net.classify(choices, torch.arange(9) <= ends[:, :, None]), expected.mc_logits, **ATOL)
    assert_close(net(TEXT), expected.logits[:, 0], **ATOL)
    assert report.notes == ["marks: new, since the checkpoint has none"]
    plain, report = ours(GPT, tmp_path)
    assert report.notes == ["head: left out, since this model has none"]
    assert_close(plain(TEXT), expected.logits[:, 0], **ATOL)


@torch.no_grad()
def test_classes_and_a_head_for_other_classes(tmp_path):
    theirs = reference(tmp_path, "GPT2ForSequenceClassification", **TWO, num_labels=4, pad_token_id=0)
    net, _ = ours(GPT, tmp_path, head="classes", num_classes=4)
    padded = torch.cat([TEXT, torch.zeros(3, 2, dtype=torch.long)], 1)
    assert_close(net.classify(padded, padded != 0), theirs(padded).logits, **ATOL)
    _, report = ours(GPT, tmp_path, head="classes", num_classes=3)
    assert report.new_head
    assert report.notes[0] == "head 4 -> 3 classes: new"
    _, report = ours(GPT, tmp_path, head="score")
    assert report.new_head


def test_a_shorter_context_takes_the_first_positions_a_longer_one_is_refused(tmp_path):
    theirs = reference(tmp_path, "GPT2LMHeadModel", **TWO)
    net, report = ours(GPT, tmp_path, context=9)
    with torch.no_grad():
        assert_close(net(TEXT), theirs(TEXT).logits, **ATOL)
    assert report.notes == ["positions 16 -> 9: the first of them"]
    with pytest.raises(WeightsError, match="positions for 16 tokens, the model a context of 17"):
        ours(GPT, tmp_path, context=17)
    _, report = ours(GPT, tmp_path, context=17, pos=Rope)
    assert report.notes == ["learned positions: left out, since this model has other positions (`pos=`)"]


def test_what_is_not_read_or_of_another_size_is_said(tmp_path):
    reference(tmp_path / "odd", "GPT2LMHeadModel", **TWO, add_cross_attention=True)
    with pytest.raises(WeightsError, match="a kind that is not read: add_cross_attention"):
        blueprint("tfcli.models.gpt.GPT", str(tmp_path / "odd"))
    reference(tmp_path / "wide", "GPT2LMHeadModel", **{**TWO, "n_embd": 48})
    reference(tmp_path / "thin", "GPT2LMHeadModel", **TWO)
    net, _ = ours(GPT, tmp_path / "thin")
    with pytest.raises(WeightsError, match="a GPT of width 48, depth 3, context 16"):
        load_weights(net, str(tmp_path / "wide"))
