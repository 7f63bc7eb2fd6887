"""Cross-attention, decoder blocks and whole Transformers equal PyTorch's, and transformers' Marian from its files."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from parity.language import gradients, ours, reference
from parity.test_vit import ATOL, randomise
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tfcli.decoding.sampling import until
from tfcli.decoding.search import beam_search
from tfcli.errors import WeightsError
from tfcli.models.transformer import Transformer
from tfcli.nn.attention import Attention, Plan
from tfcli.nn.blocks import Block, make_mlp
from tfcli.nn.cache import Memory
from tfcli.nn.capture import capture
from tfcli.nn.cross import CrossAttention
from tfcli.nn.places import Places
from tfcli.nn.positions import Sinusoidal
from tfcli.weights.load import load_weights
from tfcli.weights.transformer import convert

pytestmark = pytest.mark.parity

WIDTH, HEADS = 24, 4


def draws(*lengths: int) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randn(2, length, WIDTH, generator=drawn) for length in lengths]


def take(ours: Attention | CrossAttention, theirs: nn.MultiheadAttention) -> None:
    """The same weights; both have the queries', keys' and values' rows in one matrix."""
    ours.load_state_dict(
        {
            "qkv.weight": theirs.in_proj_weight,
            "qkv.bias": theirs.in_proj_bias,
            "out.weight": theirs.out_proj.weight,
            "out.bias": theirs.out_proj.bias,
        }
    )


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["exact", "explicit"])
def test_attention_to_a_memory_is_torchs(kernel: str) -> None:
    theirs = randomise(nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)).eval()
    ours = CrossAttention(WIDTH, heads=HEADS, kernel=kernel).eval()
    take(ours, theirs)
    x, memory = draws(5, 7)
    valid = torch.arange(7) < torch.tensor([[4], [7]])
    expected, weights = theirs(x, memory, memory, key_padding_mask=~valid)
    found = ours(x, Plan(Places.line(5), memory=Memory(memory, valid)))
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=ATOL)
    assert weights[0, :, 4:].abs().sum() == 0


@torch.no_grad()
@pytest.mark.parametrize("post_norm", [True, False])
def test_decoder_blocks_are_torchs(post_norm: bool) -> None:
    theirs = nn.TransformerDecoderLayer(WIDTH, HEADS, 32, batch_first=True, norm_first=not post_norm)
    randomise(theirs).eval()
    ours = Block(
        Attention(WIDTH, heads=HEADS, causal=True),
        make_mlp(WIDTH, hidden=32, activation="relu"),
        cross=CrossAttention(WIDTH, heads=HEADS),
        width=WIDTH,
        norm_eps=1e-5,
        post_norm=post_norm,
    ).eval()
    take(ours.attention, theirs.self_attn)
    take(ours.cross, theirs.multihead_attn)
    pairs = {"norm1": "norm1", "cross_norm": "norm2", "norm2": "norm3", "mlp.fc1": "linear1", "mlp.fc2": "linear2"}
    for name, other in pairs.items():
        ours.get_submodule(name).load_state_dict(theirs.get_submodule(other).state_dict())
    x, memory = draws(6, 5)
    valid = torch.arange(5) < torch.tensor([[3], [5]])
    mask = nn.Transformer.generate_square_subsequent_mask(6)
    expected = theirs(x, memory, tgt_mask=mask, tgt_is_causal=True, memory_key_padding_mask=~valid)
    found = ours(x, Plan(Places.line(6), memory=Memory(memory, valid)))
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=ATOL)


SOURCE = torch.randint(4, 59, (3, 7), generator=torch.Generator().manual_seed(5))
TARGET = torch.randint(4, 59, (3, 5), generator=torch.Generator().manual_seed(6))
VALID = torch.arange(7) < torch.tensor([[7], [4], [1]])
SIZES = {"depth": 2, "heads": HEADS, "context": 16, "mlp_width": 40, "attn": Attention, "pos": Sinusoidal}


@torch.no_grad()
@pytest.mark.parametrize("prefix", ["", "transformer."])
@pytest.mark.parametrize("post_norm", [True, False])
def test_whole_transformers_are_torchs(post_norm: bool, prefix: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the nested tensors of its fast path
        theirs = randomise(nn.Transformer(WIDTH, HEADS, 2, 3, 40, batch_first=True, norm_first=not post_norm))
    net = Transformer(
        WIDTH, vocab_size=60, decoder_depth=3, post_norm=post_norm, final_norm=True, norm_eps=1e-5, **SIZES
    ).eval()
    state = {prefix + name: tensor for name, tensor in theirs.state_dict().items()}
    torch.save(state, tmp_path / "torch.pt")
    report = load_weights(net, str(tmp_path / "torch.pt"))
    assert report.notes == ["words.embed.weight: new, since the checkpoint has none"]
    where = Sinusoidal(WIDTH, heads=HEADS, extent=(16,), special=0).vectors
    source, target = (net.words.source(t) + where(Places.line(t.shape[1])) for t in (SOURCE, TARGET))
    masks = {"src_key_padding_mask": ~VALID, "memory_key_padding_mask": ~VALID}
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = theirs(source, target, tgt_mask=mask, tgt_is_causal=True, **masks)
    torch.testing.assert_close(
        net(SOURCE, TARGET, valid=VALID), expected @ net.words.embed.weight.T, atol=ATOL, rtol=ATOL
    )


MARIAN = {
    "config": "MarianConfig",
    "d_model": WIDTH,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 16,
    "pad_token_id": 59,
    "eos_token_id": 0,
    "decoder_start_token_id": 59,
}
KINDS = {
    "as published": {"activation_function": "swish", "scale_embedding": True},
    "relu, not scaled": {"activation_function": "relu", "scale_embedding": False},
    "two vocabularies": {
        "activation_function": "swish",
        "share_encoder_decoder_embeddings": False,
        "tie_word_embeddings": False,
        "decoder_vocab_size": 63,
    },
}


@pytest.fixture(params=KINDS.values(), ids=KINDS)
def marian(request, tmp_path):
    theirs = reference(tmp_path, "MarianMTModel", **MARIAN, **request.param)
    theirs = type(theirs).from_pretrained(tmp_path).eval()  # its sinusoids are made anew
    return theirs, *ours(Transformer, tmp_path, pos=Sinusoidal)


def test_logits_gradients_and_states_are_marians(marian) -> None:
    theirs, net, report = marian
    assert report.notes == []
    expected = theirs(input_ids=SOURCE, attention_mask=VALID.int(), decoder_input_ids=TARGET, output_hidden_states=True)
    with capture(net) as trace:
        logits = net(SOURCE, TARGET, valid=VALID)
    torch.testing.assert_close(logits, expected.logits, atol=ATOL, rtol=ATOL)
    for side, states in (("encoder", expected.encoder_hidden_states), ("decoder", expected.decoder_hidden_states)):
        rows = VALID if side == "encoder" else TARGET >= 0  # padding sees itself in ours
        for layer, state in enumerate(states[1:]):
            found = trace.outputs[f"{side}.blocks.{layer}"]
            torch.testing.assert_close(found[rows], state[rows], atol=ATOL, rtol=ATOL)
    for out in (logits, expected.logits):
        cross_entropy(out.flatten(0, 1), TARGET.flatten()).backward()
    norms = gradients(theirs, net, convert)
    assert len(norms) == len(list(net.parameters())) - 1  # the bias of the output is none of theirs to train
    for name, other, mine in norms:
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6, msg=name)


@torch.no_grad()
def test_translations_are_marians_step_by_step_and_by_beams(marian) -> None:
    theirs, net, _ = marian
    more = {"attention_mask": VALID.int(), "max_new_tokens": 8, "forced_eos_token_id": None, "do_sample": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on settings of theirs that are not given
        greedy = theirs.generate(SOURCE, output_logits=True, return_dict_in_generate=True, **more)
        beams = theirs.generate(
            SOURCE, num_beams=3, num_return_sequences=3, early_stopping=True, length_penalty=0.0, **more
        )
    state, start = net.begin(SOURCE, VALID), torch.full((3,), 59)
    for i, logits in enumerate(greedy.logits):
        torch.testing.assert_close(net.step(greedy.sequences[:, i], state), logits, atol=ATOL, rtol=ATOL)
    state = net.begin(SOURCE, VALID)
    step = partial(net.step, state=state)
    found = beam_search(step(start), step, state.reorder, beams=3, limits=torch.full((3,), 8), stop=[0], alpha=0.0)
    expected = [until(row[1:], [0, 59]) for row in beams.tolist()]
    assert [one.tokens for some in found for one in some] == expected


def test_other_kinds_and_other_embeddings_are_refused(tmp_path: Path) -> None:
    reference(tmp_path / "one", "MarianMTModel", **MARIAN | {"decoder_ffn_dim": 32})
    with pytest.raises(WeightsError, match="encoder and decoder of 40 and 32"):
        ours(Transformer, tmp_path / "one", pos=Sinusoidal)
    reference(tmp_path / "two", "MarianMTModel", **MARIAN | KINDS["two vocabularies"])
    with pytest.raises(WeightsError, match="differ"):
        ours(Transformer, tmp_path / "two", pos=Sinusoidal, tied=True, target_vocab_size=None)
