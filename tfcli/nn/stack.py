"""A stack of blocks with its positions: the transformer itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from tfcli.nn.attention import Attention, Plan
from tfcli.nn.blocks import Block, Mlp
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.shapes import Float


class Stack(nn.Module):
    """`depth` blocks over tokens that stand at places.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        attn: makes one attention, called as `attn(width, heads=heads, dropout=...)`.
        pos: makes one position, called as `pos(width, heads=heads, extent=..., special=...)`.
        extent: size of each axis of the coordinates.
        special: number of special tokens.
        mlp_width: hidden width of the MLPs; four times the width by default.
        activation: of the MLPs.
        norm_eps: epsilon of every layer norm.
        post_norm: see `Block`.
        stem_norm: whether a layer norm follows the positions, before the first block.
        final_norm: whether a layer norm follows the last block; pre-norm stacks need one there or after pooling.
        dropout: on the embedded tokens and inside the blocks; `attention_dropout` on the attention weights.
        drop_path: probability of skipping a branch, rising linearly from 0 in the first block to this in the last.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: int,
        heads: int,
        attn: Callable[..., Attention],
        pos: Callable[..., Position],
        extent: tuple[int, ...],
        special: int = 0,
        mlp_width: int | None = None,
        activation: str = "gelu",
        norm_eps: float = 1e-6,
        post_norm: bool = False,
        stem_norm: bool = False,
        final_norm: bool = True,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        drop_path: float = 0.0,
    ):
        super().__init__()
        first = pos(width, heads=heads, extent=extent, special=special)
        others = depth - 1 if first.at == "every" else 0
        self.positions = nn.ModuleList(
            [first, *(pos(width, heads=heads, extent=extent, special=special) for _ in range(others))]
        )
        self.stem_norm = nn.LayerNorm(width, eps=norm_eps) if stem_norm else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(
                attn(width, heads=heads, dropout=attention_dropout),
                Mlp(width, hidden=mlp_width or 4 * width, activation=activation, dropout=dropout),
                width=width,
                norm_eps=norm_eps,
                post_norm=post_norm,
                dropout=dropout,
                drop_path=drop_path * layer / max(depth - 1, 1),
            )
            for layer in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=norm_eps) if final_norm else nn.Identity()

    def forward(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        places = places.to(x.device)
        positions = cast(list[Position], self.positions)
        pos = positions[0]
        plan = Plan(places, bias=pos.bias(places, places), rotate=lambda t: pos.rotate(t, places))
        at_every_layer = pos.at != "stem"
        if not at_every_layer:
            x = pos.add(x, places)
        x = self.drop(self.stem_norm(x))
        for layer, block in enumerate(self.blocks):
            if at_every_layer:
                x = positions[layer % len(positions)].add(x, places)
            x = block(x, plan)
        return self.norm(x)
