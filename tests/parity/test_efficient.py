"""Windows, low rank, RMS norm and SwiGLU equal transformers' or their closed form."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from parity.test_vit import ATOL, _quietly, randomise
from torch import Tensor

from tfcli.nn.approximations import Linformer
from tfcli.nn.attention import Attention, Plan
from tfcli.nn.blocks import GatedMlp, make_norm
from tfcli.nn.patterns import SlidingWindow, longformer
from tfcli.nn.places import Places

pytestmark = pytest.mark.parity

WIDTH, HEADS, TOKENS = 24, 4, 24


def tokens() -> Tensor:
    return torch.randn(2, TOKENS, WIDTH, generator=torch.Generator().manual_seed(7))


def transformers_longformer(size: int) -> Any:
    """One self-attention; global tokens are projected as the others are, which the paper leaves open to learning."""
    transformers = _quietly("transformers")
    from transformers.models.longformer.modeling_longformer import LongformerSelfAttention

    config = transformers.LongformerConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, attention_window=[size], attention_probs_dropout_prob=0.0
    )
    net = randomise(LongformerSelfAttention(config, layer_id=0))
    for name in ("query", "key", "value"):
        getattr(net, f"{name}_global").load_state_dict(getattr(net, name).state_dict())
    return net


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["exact", "explicit", "flex"])
@pytest.mark.parametrize(("size", "count"), [(4, 0), (6, 0), (12, 0), (4, 1), (4, 3)])
def test_sliding_windows_are_longformers(size: int, count: int, kernel: str) -> None:
    theirs = transformers_longformer(size)
    pattern = longformer(size=size, count=count) if count else SlidingWindow(size)
    net = Attention(WIDTH, heads=HEADS, pattern=pattern, kernel=kernel, extent=(TOKENS,)).eval()
    for leaf in ("weight", "bias"):
        rows = torch.cat([getattr(getattr(theirs, name), leaf) for name in ("query", "key", "value")])
        getattr(net.qkv, leaf).copy_(rows)
    net.out.weight.copy_(torch.eye(WIDTH))  # theirs stands in another module
    net.out.bias.zero_()
    everywhere = (torch.arange(TOKENS) < count).expand(2, -1)
    expected = theirs(
        tokens(),
        attention_mask=everywhere * 10_000.0,
        is_index_masked=torch.zeros(2, TOKENS, dtype=torch.bool),
        is_index_global_attn=everywhere,
        is_global_attn=count > 0,
    )[0]
    torch.testing.assert_close(net(tokens(), Plan(Places.grid(TOKENS))), expected, atol=ATOL, rtol=ATOL)


@torch.no_grad()
@pytest.mark.parametrize("share", ["none", "heads", "values"])
def test_low_rank_is_the_papers_formula(share: str) -> None:
    """softmax(Q W (E K W)^T / sqrt(d)) F V W for each head (Wang et al. 2020, equation 7)."""
    rank, wide = 5, WIDTH // HEADS
    net = Attention(WIDTH, heads=HEADS, kernel=partial(Linformer, rank=rank, share=share), extent=(TOKENS,), special=0)
    randomise(net)
    mix = net.approximation
    assert isinstance(mix, Linformer)
    x, heads = tokens(), []
    rows = net.qkv.weight.split(wide), net.qkv.bias.split(wide)
    for head in range(HEADS):
        q, k, v = (x @ rows[0][head + HEADS * part].T + rows[1][head + HEADS * part] for part in range(3))
        own = head if share == "none" else 0
        e = mix.mix_k[own]
        f = mix.mix_k[own] if mix.mix_v is None else mix.mix_v[own]
        assert e.shape == (rank, TOKENS)
        heads.append((q @ (e @ k).mT / wide**0.5).softmax(-1) @ (f @ v))
    expected = torch.cat(heads, -1) @ net.out.weight.T + net.out.bias
    torch.testing.assert_close(net(x, Plan(Places.grid(TOKENS))), expected, atol=ATOL, rtol=ATOL)
    assert (mix.mix_v is None) == (share == "values")


def llama_config(**options: Any) -> Any:
    return _quietly("transformers").LlamaConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=40, **options
    )


@torch.no_grad()
def test_swiglu_is_llamas() -> None:
    config = llama_config()
    from transformers.models.llama.modeling_llama import LlamaMLP

    theirs, net = randomise(LlamaMLP(config)), GatedMlp(WIDTH, hidden=40)
    net.fc1.weight.copy_(torch.cat([theirs.gate_proj.weight, theirs.up_proj.weight]))
    net.fc2.weight.copy_(theirs.down_proj.weight)
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for p in theirs.parameters())
    torch.testing.assert_close(net(tokens()), theirs(tokens()), atol=ATOL, rtol=ATOL)


@torch.no_grad()
@pytest.mark.parametrize("eps", [1e-6, 1e-1])
def test_rms_norm_is_llamas(eps: float) -> None:
    _quietly("transformers")
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    theirs, net = randomise(LlamaRMSNorm(WIDTH, eps=eps)), make_norm("rms", WIDTH, eps=eps)
    net.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(net(tokens()), theirs(tokens()), atol=ATOL, rtol=ATOL)
