"""Windows and tables of offsets against transformers' Swin and BEiT; windows by partition against the dense mask."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from tfcli.nn.attention import Attention, Plan, set_kernel
from tfcli.nn.kernels import exact, partition
from tfcli.nn.offset_tables import RelativeTable
from tfcli.nn.patterns import Windows
from tfcli.nn.places import Places
from tfcli.nn.stack import Stack
from tfcli.nn.view import View

WIDTH, HEADS, SIZE = 16, 2, 4


@pytest.mark.parity
@pytest.mark.parametrize("kernel", ["partition", "exact", "explicit"])
@pytest.mark.parametrize("shift", [0, 2, 1])
@pytest.mark.parametrize("grid", [(8, 8), (7, 10), (4, 4)])
def test_a_block_of_swin(grid, shift, kernel):
    """Also where windows do not fit the grid: what fills it up is seen."""
    swin = pytest.importorskip("transformers.models.swin.modeling_swin")
    torch.manual_seed(0)
    config = swin.SwinConfig(window_size=SIZE, attn_implementation="eager", layer_norm_eps=1e-5)
    theirs = swin.SwinLayer(config, WIDTH, grid, HEADS, shift_size=shift).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    ours = Stack(
        WIDTH,
        depth=1,
        heads=HEADS,
        attn=partial(Attention, pattern=Windows(SIZE, shift)),
        pos=partial(RelativeTable, size=SIZE),
        extent=grid,
        norm_eps=1e-5,
        final_norm=False,
    ).eval()
    state = theirs.state_dict()
    names = {"norm1": "layernorm_before", "norm2": "layernorm_after", "attention.out": "attention.o_proj"}
    names |= {
        f"mlp.fc{i}": next(n[:-7] for n in state if n.startswith("mlp") and n.endswith(f"fc{i}.weight")) for i in (1, 2)
    }
    parts = {f"blocks.0.{a}.{end}": state[f"{b}.{end}"] for a, b in names.items() for end in ("weight", "bias")}
    for end in ("weight", "bias"):
        parts[f"blocks.0.attention.qkv.{end}"] = torch.cat([state[f"attention.{n}_proj.{end}"] for n in "qkv"])
    parts["positions.0.table"] = state["attention.relative_position_bias.relative_position_bias_table"]
    ours.load_state_dict(parts)
    set_kernel(ours, kernel)
    x = torch.randn(2, grid[0] * grid[1], WIDTH)
    assert_close(ours(x, Places.grid(*grid)), theirs(x, grid)[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parity
def test_the_table_of_beit():
    beit = pytest.importorskip("transformers.models.beit.modeling_beit")
    theirs = beit.BeitRelativePositionBias(beit.BeitConfig(image_size=(24, 16), patch_size=4, num_attention_heads=3))
    torch.nn.init.normal_(theirs.relative_position_bias_table)
    ours = RelativeTable(48, heads=3, extent=(6, 4), special=1)
    ours.load_state_dict({"table": theirs.relative_position_bias_table.detach()})
    places = Places.grid(6, 4, special=1)
    index = theirs.generate_relative_position_index((6, 4))
    assert torch.equal(ours.rows(places, places), index)
    assert_close(ours.bias(places, places), theirs.relative_position_bias_table[index].permute(2, 0, 1))


@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("special", [0, 1])
def test_windows_of_7_on_56_by_56_tokens_are_the_dense_mask(shift, special):
    torch.manual_seed(0)
    places, pattern = Places.grid(56, 56, special=special), Windows(7, shift)
    pos = RelativeTable(8, heads=1, extent=(56, 56), special=special, std=0.5)
    valid = torch.rand(1, len(places)) > 0.1
    q, k, v = torch.randn(3, 1, 1, len(places), 4)
    view = View(pattern, places, places, valid=valid, pos=pos)
    assert_close(partition(q, k, v, view), exact(q, k, v, view), atol=1e-5, rtol=1e-4)
    cells = view.cells
    share = cells.rows.numel() * cells.columns.shape[1] / len(places) ** 2
    assert share < (0.016 if shift == 0 and not special else 0.022)


class Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes how many numbers the largest tensor has that is made meanwhile."""

    largest = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


@pytest.mark.parametrize("size", [7, 9])
def test_224_by_224_tokens_never_make_a_tensor_of_queries_times_keys(size):
    """50,176 tokens, whose scores would be 2.5 billion; 9 does not divide 224."""
    attention = Attention(8, heads=1, pattern=Windows(size, size // 2), extent=(224, 224))
    pos, places = RelativeTable(8, heads=1, extent=(224, 224), special=0, size=size), Places.grid(224, 224)
    with Largest() as noted:
        attention(torch.randn(1, len(places), 8), Plan(places, pos)).sum().backward()
    assert noted.largest <= 1.2 * len(places) * size**2
    assert attention.qkv.weight.grad.isfinite().all()
