"""Cross-attention to a memory of another width equals PyTorch's, and transformers' IDEFICS, Perceiver and LeViT."""

from __future__ import annotations

import pytest
import torch
import transformers
from parity.test_vit import ATOL, randomise
from torch import Tensor, nn
from transformers.models.idefics import modeling_idefics as idefics
from transformers.models.levit import modeling_levit as levit
from transformers.models.perceiver import modeling_perceiver as perceiver

from tfcli.nn.attention import Plan
from tfcli.nn.blocks import Block, make_mlp
from tfcli.nn.cache import Memory
from tfcli.nn.cross import CrossAttention, Gate
from tfcli.nn.patterns import Within
from tfcli.nn.places import Places
from tfcli.nn.positions import Position

pytestmark = pytest.mark.parity

WIDTH, OTHER, HEADS = 24, 20, 4
VALID = torch.arange(7) < torch.tensor([[4], [7]])


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape) + sum(shape)))


@torch.no_grad()
@pytest.mark.parametrize("kernel", ["exact", "explicit", "flex"])
def test_a_memory_of_another_width_is_read_as_by_torch(kernel: str) -> None:
    theirs = nn.MultiheadAttention(WIDTH, HEADS, kdim=OTHER, vdim=OTHER, batch_first=True)
    randomise(theirs).eval()
    ours = CrossAttention(WIDTH, heads=HEADS, memory_width=OTHER, kernel=kernel).eval()
    q_bias, kv_bias = theirs.in_proj_bias.split([WIDTH, 2 * WIDTH])
    maps = {"q.weight": theirs.q_proj_weight, "q.bias": q_bias, "kv.bias": kv_bias}
    maps["kv.weight"] = torch.cat([theirs.k_proj_weight, theirs.v_proj_weight])
    ours.load_state_dict(maps | {f"out.{name}": t for name, t in theirs.out_proj.state_dict().items()})
    x, memory = draw(2, 5, WIDTH), draw(2, 7, OTHER)
    expected, _ = theirs(x, memory, memory, key_padding_mask=~VALID)
    found = ours(x, Plan(Places.line(5), memory=Memory(memory, VALID)))
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=ATOL)


STARTS = torch.tensor([2, 4])
"""Where in a text of seven words two images stand."""


@torch.no_grad()
def test_a_gated_block_is_idefics() -> None:
    """Two images of three tokens; the words before the first see none."""
    facts = transformers.IdeficsConfig(
        hidden_size=WIDTH, num_attention_heads=HEADS, intermediate_size=40, vision_config={"embed_dim": OTHER}
    )
    facts._attn_implementation = "eager"
    theirs = randomise(idefics.IdeficsGatedCrossAttentionLayer(facts, layer_idx=0)).eval()
    ours = Block(
        None,
        nn.Sequential(make_mlp(WIDTH, hidden=40, activation="swiglu"), Gate()),
        cross=CrossAttention(WIDTH, heads=HEADS, memory_width=OTHER, pattern=Within(), bias=False, gated=True),
        width=WIDTH,
        norm="rms",
        norm_eps=facts.rms_norm_eps,
    ).eval()
    attention, mlp = theirs.cross_attn, theirs.mlp
    maps = {
        "cross.q.weight": attention.q_proj.weight,
        "cross.kv.weight": torch.cat([attention.k_proj.weight, attention.v_proj.weight]),
        "cross.out.weight": attention.o_proj.weight,
        "cross.gate.alpha": theirs.alpha_cross_attn,
        "cross_norm.weight": theirs.input_layernorm.weight,
        "norm2.weight": theirs.post_attention_layernorm.weight,
        "mlp.0.fc1.weight": torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
        "mlp.0.fc2.weight": mlp.down_proj.weight,
        "mlp.1.alpha": theirs.alpha_dense,
    }
    ours.load_state_dict(maps)
    x, memory = draw(2, 7, WIDTH), draw(2, 6, OTHER)
    image = (torch.arange(7)[:, None] >= STARTS).sum(1) - 1  # which each word sees; -1: none
    seen = image[:, None] == torch.arange(6) // 3
    expected = theirs(
        x,
        image_hidden_states=memory,
        image_attention_mask=torch.where(seen, 0.0, torch.finfo(torch.float32).min).expand(2, 1, -1, -1),
        cross_attention_gate=(image >= 0).expand(2, -1),
    )
    stretches = torch.stack([STARTS, torch.tensor([4, 7])], 1).repeat_interleave(3, 0)
    places = Places(stretches, torch.zeros(6, dtype=torch.bool), (7, 8))
    found = ours(x, Plan(Places.line(7), memory=Memory(memory, places=places)))
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=ATOL)


@torch.no_grad()
def test_a_block_with_heads_of_two_widths_is_perceivers() -> None:
    theirs = perceiver.PerceiverLayer(
        transformers.PerceiverConfig(),
        is_cross_attention=True,
        qk_channels=16,
        v_channels=12,
        num_heads=HEADS,
        q_dim=WIDTH,
        kv_dim=OTHER,
        widening_factor=2,
    )
    randomise(theirs).eval()
    norm = nn.LayerNorm(OTHER)
    ours = Block(
        None,
        make_mlp(WIDTH, hidden=2 * WIDTH),
        cross=CrossAttention(WIDTH, heads=HEADS, memory_width=OTHER, head_width=4, value_width=3, memory_norm=norm),
        width=WIDTH,
        norm_eps=1e-5,
    ).eval()
    attention = theirs.attention.self
    pairs = {
        "cross_norm": attention.layernorm1,
        "cross.memory_norm": attention.layernorm2,
        "cross.q": attention.query,
        "cross.out": theirs.attention.output.dense,
        "norm2": theirs.layernorm,
        "mlp.fc1": theirs.mlp.dense1,
        "mlp.fc2": theirs.mlp.dense2,
    }
    for name, part in pairs.items():
        ours.get_submodule(name).load_state_dict(part.state_dict())
    for key in ("weight", "bias"):
        both = [getattr(attention.key, key), getattr(attention.value, key)]
        getattr(ours.cross.kv, key).copy_(torch.cat(both))
    latents, memory = draw(2, 5, WIDTH), draw(2, 7, OTHER)
    (expected,) = theirs(latents, inputs=memory, inputs_mask=torch.where(VALID, 0.0, -1e9)[:, None, None])
    found = ours(latents, Plan(Places.line(5), memory=Memory(memory, VALID)))
    torch.testing.assert_close(found, expected, atol=ATOL, rtol=ATOL)


class NormedLinear(nn.Sequential):
    """A linear map and a batch norm."""

    def __init__(self, width_in: int, width_out: int):
        super().__init__(nn.Linear(width_in, width_out, bias=False), nn.BatchNorm1d(width_out))

    def forward(self, x: Tensor) -> Tensor:
        return self[1](self[0](x).flatten(0, 1)).unflatten(0, x.shape[:2])


class Distances(Position):
    """A learned bias for the distances on each axis."""

    applies_to = "scores"

    def __init__(self, table: Tensor, order: list[tuple[int, ...]]):
        super().__init__(1, heads=1, extent=(), special=0)
        self.table, self.order = table, order

    def bias(self, query: Places, key: Places) -> Tensor:
        far = (query.coords[:, None] - key.coords[None]).abs().tolist()
        return self.table[:, torch.tensor([[self.order.index(tuple(pair)) for pair in row] for row in far])]


@pytest.mark.parametrize("training", [False, True])
def test_some_of_the_tokens_read_all_of_them_as_in_levit(training: bool) -> None:
    """A map of 4 x 4 becomes one of 2 x 2 and wider: queries are a subset, each projection has a norm behind it."""
    theirs = levit.LevitAttentionSubsample(WIDTH, 32, 5, HEADS, 2, 2, 4, 2)
    randomise(theirs)
    theirs.train(training)
    x, places, index = draw(3, 16, WIDTH), Places.grid(4, 4), torch.tensor([0, 2, 8, 10])
    every, some = places.coords, places.coords[index]
    offsets = (some[:, None] - every[None]).abs().flatten(0, 1)
    order = list(dict.fromkeys(map(tuple, offsets.tolist())))
    ours = CrossAttention(
        WIDTH,
        heads=HEADS,
        head_width=5,
        value_width=10,
        projection=NormedLinear,
        pos=Distances(theirs.attention_biases, order),
        out=nn.Sequential(nn.Hardswish(), NormedLinear(40, 32)),
    ).train(training)
    rows = torch.arange(60).view(HEADS, 15)  # there each head's keys and values lie side by side
    rows = torch.cat([rows[:, :5].flatten(), rows[:, 5:].flatten()])
    for mine, other, picked in (
        (ours.q, theirs.queries, slice(None)),
        (ours.kv, theirs.keys_values, rows),
        (ours.out[1], theirs.projection, slice(None)),
    ):
        mine[0].weight.data = other.linear.weight.data[picked].clone()
        for name, tensor in other.batch_norm.state_dict().items():
            mine[1].state_dict()[name].copy_(tensor[picked] if tensor.ndim else tensor)
    found = ours(x[:, index], Plan(places[index], memory=Memory(x, places=places)))
    torch.testing.assert_close(found, theirs(x), atol=ATOL, rtol=ATOL)
