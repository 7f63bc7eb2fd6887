"""Our positions equal those of the models of transformers that carry them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity.test_vit import ATOL, _quietly
from torch import Tensor

from tfcli.nn.places import Places
from tfcli.nn.positions import Sinusoidal
from tfcli.nn.relative import Alibi, RelativeBuckets, Rope

pytestmark = pytest.mark.parity

HEADS, HEAD_WIDTH, TOKENS = 3, 8, 11
WIDTH = HEADS * HEAD_WIDTH


def transformers(family: str) -> Any:
    _quietly("transformers")
    from importlib import import_module

    return import_module(f"transformers.models.{family}.modeling_{family}")


def queries_and_keys() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(7)
    q, k = (torch.randn(2, HEADS, TOKENS, HEAD_WIDTH, generator=draw) for _ in range(2))
    return q, k


def rope(**options: Any) -> Rope:
    return Rope(WIDTH, heads=HEADS, extent=(TOKENS,), special=0, **options)


def assert_turned_alike(pos: Rope, theirs: tuple[Tensor, Tensor]) -> None:
    places = Places.grid(TOKENS)
    for mine, other in zip((pos.rotate(t, places) for t in queries_and_keys()), theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=ATOL, rtol=ATOL)


def test_interleaved_rotation_is_roformers() -> None:
    module = transformers("roformer")
    table = module.RoFormerSinusoidalPositionalEmbedding(TOKENS, HEAD_WIDTH)
    with torch.no_grad():
        table.weight.copy_(table.create_weight())
    turned = module.RoFormerSelfAttention.apply_rotary_position_embeddings(
        table((1, TOKENS))[None, None], *queries_and_keys()
    )
    assert_turned_alike(rope(layout="interleaved"), turned)


@pytest.mark.parametrize("base", [10_000.0, 100.0])
def test_half_rotation_is_llamas(base: float) -> None:
    module = transformers("llama")
    config = module.LlamaConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    q, k = queries_and_keys()
    cos, sin = module.LlamaRotaryEmbedding(config)(q, torch.arange(TOKENS)[None])
    assert_turned_alike(rope(base=base), module.apply_rotary_pos_emb(q, k, cos, sin))


@pytest.mark.parametrize("fraction", [0.25, 0.5])
def test_rotation_in_part_is_gpt_neoxs(fraction: float) -> None:
    module = transformers("gpt_neox")
    config = module.GPTNeoXConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": fraction},
    )
    q, k = queries_and_keys()
    cos, sin = module.GPTNeoXRotaryEmbedding(config)(q, torch.arange(TOKENS)[None])
    assert cos.shape[-1] == HEAD_WIDTH * fraction
    assert_turned_alike(rope(fraction=fraction), module.apply_rotary_pos_emb(q, k, cos, sin))


def test_sinusoids_are_roformers() -> None:
    table = transformers("roformer").RoFormerSinusoidalPositionalEmbedding(TOKENS, WIDTH).create_weight()
    mine = Sinusoidal(WIDTH, heads=HEADS, extent=(TOKENS,), special=0).vectors(Places.grid(TOKENS))
    torch.testing.assert_close(mine, table, atol=ATOL, rtol=ATOL)


@pytest.mark.parametrize("heads", [2, 8, 6, 12])
def test_alibi_is_blooms_under_a_causal_mask(heads: int) -> None:
    """Bloom's bias grows with the key's place and is one for all queries: it differs by a constant in each row."""
    theirs = transformers("bloom").build_alibi_tensor(torch.ones(1, TOKENS), heads, torch.float32)
    places = Places.grid(TOKENS)
    mine = Alibi(heads * 4, heads=heads, extent=(TOKENS,), special=0).bias(places, places)
    future = torch.ones(TOKENS, TOKENS, dtype=torch.bool).triu(1)
    scores = torch.randn(heads, TOKENS, TOKENS, generator=torch.Generator().manual_seed(7))
    one, other = ((scores + bias).masked_fill(future, -torch.inf).softmax(-1) for bias in (mine, theirs))
    torch.testing.assert_close(one, other, atol=1e-6, rtol=ATOL)
    assert not torch.allclose(one, scores.masked_fill(future, -torch.inf).softmax(-1), atol=1e-3)


@given(
    buckets=st.sampled_from([4, 8, 32, 64]),
    far=st.integers(1, 200),
    bidirectional=st.booleans(),
    offsets=st.lists(st.integers(-300, 300), min_size=1, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_buckets_are_t5s(buckets: int, far: int, bidirectional: bool, offsets: list[int]) -> None:
    far += buckets // 2
    pos = RelativeBuckets(
        WIDTH,
        heads=HEADS,
        extent=(TOKENS,),
        special=0,
        buckets=buckets,
        max_distance=far,
        bidirectional=bidirectional,
    )
    offset = torch.tensor([offsets])
    theirs = transformers("t5").T5Attention._relative_position_bucket(
        offset, bidirectional=bidirectional, num_buckets=buckets, max_distance=far
    )
    assert pos.bucket(offset).tolist() == theirs.tolist()


@torch.no_grad()
@pytest.mark.parametrize("decoder", [False, True])
def test_the_bias_of_buckets_is_t5s(decoder: bool) -> None:
    module = transformers("t5")
    config = module.T5Config(
        d_model=WIDTH,
        num_heads=HEADS,
        d_kv=HEAD_WIDTH,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=9,
        is_decoder=decoder,
    )
    theirs = module.T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    pos = RelativeBuckets(
        WIDTH, heads=HEADS, extent=(TOKENS,), special=0, buckets=8, max_distance=9, bidirectional=not decoder
    )
    pos.table.copy_(theirs.relative_attention_bias.weight.normal_())
    places = Places.grid(TOKENS)
    torch.testing.assert_close(pos.bias(places, places), theirs.compute_bias(TOKENS, TOKENS)[0])
