"""Cross-attention and decoder blocks equal PyTorch's."""

from __future__ import annotations

import pytest
import torch
from parity.test_vit import ATOL, randomise
from torch import Tensor, nn

from tfcli.nn.attention import Attention, Plan
from tfcli.nn.blocks import Block, make_mlp
from tfcli.nn.cache import Memory
from tfcli.nn.places import Places

pytestmark = pytest.mark.parity

WIDTH, HEADS = 24, 4


def draws(*lengths: int) -> list[Tensor]:
    drawn = torch.Generator().manual_seed(3)
    return [torch.randn(2, length, WIDTH, generator=drawn) for length in lengths]


def take(ours: Attention, theirs: nn.MultiheadAttention) -> None:
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
    ours = Attention(WIDTH, heads=HEADS, kernel=kernel).eval()
    take(ours, theirs)
    x, memory = draws(5, 7)
    valid = torch.arange(7) < torch.tensor([[4], [7]])
    expected, weights = theirs(x, memory, memory, key_padding_mask=~valid)
    found = ours(x, Plan(Places.line(5), memory=Memory(memory, valid)), across=True)
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
        cross=Attention(WIDTH, heads=HEADS),
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
