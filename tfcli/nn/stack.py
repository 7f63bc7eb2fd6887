"""A stack of transformer blocks with its positional embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import prod
from typing import Any, cast

from torch import Tensor, nn
from torch.compiler import is_compiling

from tfcli.bounds import Count, NotNegative, Positive, Rate
from tfcli.errors import IncompatibleError
from tfcli.nn.attention import Attention, AttentionFactory, Plan
from tfcli.nn.blocks import Activation, Block, Norm, make_dropout, make_mlp, make_norm, through
from tfcli.nn.cache import Cache, Memory
from tfcli.nn.cross import CrossAttention
from tfcli.nn.patterns import Causal, Full
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.shapes import Bool, Float

LARGEST_CHECKED = 2048
"""Places of the largest grid whose masks are made in order to say that a pattern hides nothing."""

LARGEST_SHARE = 0.9
"""Share of tokens that are no padding above which padding is computed, too: to leave it out would cost as much."""


class Stack(nn.Module):
    """`depth` transformer blocks over tokens with coordinates.

    Args:
        width: D, the width of the tokens.
        depth: number of blocks.
        heads: H, the number of attention heads.
        attn: factory of attentions (`conf/attn`), called as `attn(width, heads=..., dropout=..., extent=...,
            special=...)`; or several factories, which the layers use in turn.
        pos: factory of positions (`conf/pos`), called as `pos(width, heads=..., extent=..., special=...)`.
        extent: size of each axis of the coordinates.
        special: number of special tokens.
        cross: whether each block has cross-attention to a memory of width D between attention and MLP, with a full
            pattern and without positions; or a factory of another one for each block, called as `cross(width,
            heads=..., dropout=..., bias=...)`.
        causal: whether no token sees later tokens, whatever the pattern of `attn`.
        mlp_width: hidden width of the MLPs; by default four times the width, 8/3 of it for swiglu.
        mlp_bias: whether the maps of the MLPs have biases; None: all except swiglu's.
        activation: activation of the MLPs: gelu, gelu_tanh, quick_gelu, relu, silu or swiglu.
        norm: layer or rms.
        norm_eps: epsilon of every norm.
        post_norm: normalise after the residual sum, as the original Transformer and BERT do.
        layer_scale: initial value of a learned factor on each channel of a branch; None: there is no factor.
        stem_norm: whether a norm follows the positions, before the first block.
        final_norm: whether a norm follows the last block; pre-norm stacks need one there or after pooling.
        dropout: dropout on the embedded tokens and on the output of each branch of a block.
        mlp_dropout: dropout after the activation of the MLPs; None: equal to `dropout`, as in ViT.
        attention_dropout: dropout on the attention weights.
        drop_path: probability of dropping a branch, rising linearly from 0 in the first block to this in the last.

    Raises:
        ValueError: `heads` does not divide `width`, or an argument has an unknown value.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: int,
        *,
        depth: Count,
        heads: Count,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        extent: tuple[int, ...],
        special: int = 0,
        cross: bool | Callable[..., CrossAttention] = False,
        causal: bool = False,
        mlp_width: Count | None = None,
        mlp_bias: bool | None = None,
        activation: Activation = "gelu",
        norm: Norm = "layer",
        norm_eps: Positive = 1e-6,
        post_norm: bool = False,
        layer_scale: NotNegative | None = None,
        stem_norm: bool = False,
        final_norm: bool = True,
        dropout: Rate = 0.0,
        mlp_dropout: Rate | None = None,
        attention_dropout: Rate = 0.0,
        drop_path: Rate = 0.0,
    ):
        super().__init__()
        first = pos(width, heads=heads, extent=extent, special=special)
        others = depth - 1 if first.at == "every" else 0
        self.positions = nn.ModuleList(
            [first, *(pos(width, heads=heads, extent=extent, special=special) for _ in range(others))]
        )
        self.stem_norm = make_norm(norm, width, eps=norm_eps) if stem_norm else None
        self.drop = make_dropout(dropout)
        makers = [attn] if callable(attn) else list(attn)
        if causal:
            makers = [partial(make, causal=True) for make in makers]
        make_cross = CrossAttention if cross is True else cross

        def block(layer: int) -> Block:
            drops: dict[str, Any] = {"dropout": dropout, "inner_dropout": mlp_dropout}
            make = makers[layer % len(makers)]
            attention = make(width, heads=heads, dropout=attention_dropout, extent=extent, special=special)
            biased = attention.qkv.bias is not None
            return Block(
                attention,
                make_mlp(width, hidden=mlp_width, activation=activation, bias=mlp_bias, **drops),
                cross=make_cross(width, heads=heads, dropout=attention_dropout, bias=biased) if make_cross else None,
                width=width,
                norm=norm,
                norm_eps=norm_eps,
                post_norm=post_norm,
                dropout=dropout,
                drop_path=drop_path * layer / max(depth - 1, 1),
                layer_scale=layer_scale,
            )

        self.draws = bool(dropout or mlp_dropout or drop_path)
        self.blocks = nn.ModuleList(block(layer) for layer in range(depth))
        self.norm = make_norm(norm, width, eps=norm_eps) if final_norm else None
        self.patterns = {attention.pattern for attention in self.attentions}
        for attention in self.attentions:
            approximation = attention.approximation
            if approximation is not None and first.applies_to in approximation.refuses:
                raise IncompatibleError(
                    f"{approximation.name} attention cannot take positions that act on {first.applies_to}, such as "
                    f"{type(first).__name__}: change `pos` or `attn`."
                )

    @property
    def attentions(self) -> list[Attention]:
        """The self-attention of each block."""
        return [cast(Attention, cast(Block, block).attention) for block in self.blocks]

    @property
    def layers(self) -> int:
        """Number of blocks."""
        return len(self.blocks)

    def note_patterns(self, sizes: Mapping[str, int]) -> list[str]:
        """Return a log line for each pattern that hides nothing on the grid that the stack is built for.

        Args:
            sizes: settings of patterns and their values; the one that a pattern was made with is named.
        """
        extent, notes = cast(Position, self.positions[0]).extent, []
        for pattern in self.patterns if prod(extent) <= LARGEST_CHECKED else ():
            if isinstance(pattern, Full | Causal) or not pattern.covers(Places.grid(*extent)):
                continue
            size = getattr(pattern, "size", None)
            named = next((f"{key}={value}" for key, value in sizes.items() if size in (None, value)), str(pattern))
            grid = f"{'x'.join(map(str, extent))} grid" if len(extent) > 1 else f"context of {extent[0]}"
            kind = "causal" if pattern.is_causal else "full"
            notes.append(f"{named} covers the whole {grid}: this is {kind} attention")
        return notes

    def layer_of(self, name: str) -> int:
        """Return the layer of a parameter: 0 before the blocks, 1 to depth in the blocks, depth + 1 for the last norm.

        Args:
            name: name inside the stack, for instance `blocks.3.mlp.fc1.weight`.
        """
        part, _, rest = name.partition(".")
        if part == "blocks":
            return int(rest.partition(".")[0]) + 1
        return self.layers + 1 if part == "norm" else 0

    def layer_in_model(self, name: str, *, stem: tuple[str, ...]) -> int:
        """Return the layer of a parameter of a model whose blocks are this stack, for learning rates by layer.

        Args:
            name: name inside the model, for instance `stack.blocks.3.mlp.fc1.weight`.
            stem: parts of the model before the stack, whose layer is 0; the other parts follow it (depth + 1).
        """
        part, _, rest = name.partition(".")
        if part == "stack":
            return self.layer_of(rest)
        return 0 if part in stem else self.layers + 1

    def forward(self, x: Float[Tensor, "B N D"], places: Places, **context: Any) -> Float[Tensor, "B N D"]:
        """Return the tokens after the last block: `embed`, then `run`; between them an encoder may drop or pack tokens.

        Args:
            x: embedded tokens, without positions.
            places: their coordinates.
            context: `valid`, `cache` and `memory`, as for `run`.
        """
        return self.run(self.embed(x, places), places, **context)

    def embed(self, x: Float[Tensor, "B N D"], places: Places) -> Float[Tensor, "B N D"]:
        """Return the input of the first block: the tokens with the positions of the stem, after norm and dropout."""
        positions = cast(list[Position], self.positions)
        if positions[0].at == "stem":
            x = positions[0].add(x, places.to(x.device))
        return through(self.drop, through(self.stem_norm, x))

    def run(
        self,
        x: Float[Tensor, "B N D"],
        places: Places,
        *,
        valid: Bool[Tensor, "B N"] | None = None,
        cache: Cache | None = None,
        memory: Memory | None = None,
    ) -> Float[Tensor, "B N D"]:
        """Return the tokens after the last block.

        Args:
            x: all tokens that `embed` returned, or some of them.
            places: their coordinates, for instance `places.take(index)` of the tokens that each sample keeps.
            valid: False for padding, which no other token sees; None where there is none.
            cache: cache of earlier tokens, to which these are added; see `Cache`.
            memory: memory of cross-attention; with a cache, only the first pass needs it.
        """
        places = places.to(x.device)
        if cache is not None:
            cache.begin(places, valid, memory)
            for pattern in self.patterns:
                cache.check(pattern, len(places))
            valid, memory = cache.valid, cache.memory
        positions = cast(list[Position], self.positions)
        at_every_layer = positions[0].at != "stem"
        apart = cache is None and memory is None and not (at_every_layer and positions[0].applies_to == "tokens")
        rows = self._without_padding(x, valid) if apart else None
        plan = Plan(places, positions[0], valid, cache, memory, rows=rows)
        x = plan.packed(x)
        for layer, block in enumerate(self.blocks):
            if at_every_layer:
                pos = positions[layer % len(positions)]
                x, plan = pos.add(x, places), plan.at(pos)
            x = block(x, plan)
        return plan.unpacked(through(self.norm, x))

    def _without_padding(self, x: Tensor, valid: Tensor | None) -> Tensor | None:
        """Return the `rows` of `Plan` where a pass over the tokens that are no padding takes less time.

        The results are the same, so it is done in training only, where no random numbers are drawn for padding; and on
        a CPU, because to count the tokens makes other devices wait; and not compiled, because their number varies.
        """
        if valid is None or self.draws or not self.training or x.device.type != "cpu" or is_compiling():
            return None
        rows = valid.flatten().nonzero()[:, 0]
        return rows if len(rows) <= LARGEST_SHARE * valid.numel() else None
