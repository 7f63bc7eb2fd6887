"""BERT: a transformer that reads both ways, and learns by filling in words.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", sections 3 to 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tfcli.bounds import Count, Natural, Positive, Rate
from tfcli.errors import DataError
from tfcli.models.heads import check_vocabulary, make_head
from tfcli.models.protocols import Features
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.blocks import ACTIVATIONS, Activation
from tfcli.nn.init import init_normal
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int

HEADS = ("classes", "score", "span", "tags", "choice")
WITHOUT_POOLER = ("span", "tags")
POOLS = ("class", "mean")


class MaskedHead(nn.Module):
    """From tokens of the last layer to logits over the vocabulary: a map, a norm, and the embeddings with a bias.

    Args:
        width: D.
        vocab_size: V.
        activation: between map and norm.
        norm_eps: epsilon of the norm.
    """

    def __init__(self, width: int, *, vocab_size: int, activation: str, norm_eps: float):
        super().__init__()
        self.map = nn.Linear(width, width)
        self.act = ACTIVATIONS[activation]()
        self.norm = nn.LayerNorm(width, eps=norm_eps)
        self.bias = nn.Parameter(torch.zeros(vocab_size))

    def forward(self, hidden: Float[Tensor, "*rows D"], embeddings: Float[Tensor, "V D"]) -> Float[Tensor, "*rows V"]:
        return linear(self.norm(self.act(self.map(hidden))), embeddings, self.bias)


class BERT(nn.Module):
    """Embeddings of tokens, segments and positions, summed and normed; post-norm blocks; a pooler; a head.

    `post_norm=false` and `attn=causal` make the ablations of both ways and
    of the norms' place.

    Args:
        width: D.
        vocab_size: V.
        depth: number of blocks.
        heads: H.
        context: the longest sequence.
        attn: makes an attention (`conf/attn`).
        pos: makes a position (`conf/pos`).
        segments: how many there are; a token of the second text of a pair is of segment 1.
        mlp_width: hidden width of the MLPs; 4 D by default.
        activation: gelu, the exact form.
        post_norm: normalise after the residual sum; else there is a last norm.
        norm_eps: epsilon of all norms.
        pool: class (the pooler reads [CLS]) or mean (of all tokens but padding, as sentence encoders do; Reimers and
            Gurevych 2019, section 3).
        dropout: on the embedded tokens, in the blocks and before the head.
        head: pretrain (masked tokens and next sentence), classes (a score for each of K), score (a number), span (where
            it starts and ends), tags (K scores a token), choice (a score for each of the sequences of a sample); None:
            there is no head.
        num_classes: K.
        blocks: what else a `Stack` takes: norm, layer_scale, attention_dropout, drop_path.

    Raises:
        ValueError: `heads` does not divide `width`, `vocab_size` is not known, or there is no such head or pool.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        depth: Count,
        heads: Count,
        context: Count,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        segments: Count = 2,
        mlp_width: Count | None = None,
        activation: Activation = "gelu",
        post_norm: bool = True,
        norm_eps: Positive = 1e-12,
        pool: Literal["class", "mean"] = "class",
        dropout: Rate = 0.0,
        head: Literal["pretrain", "classes", "score", "span", "tags", "choice"] | None = "pretrain",
        num_classes: Natural | None = None,
        **blocks: Any,
    ):
        super().__init__()
        vocab_size = check_vocabulary(vocab_size)
        if pool not in POOLS:
            raise ValueError(f"`model.pool` must be one of {', '.join(POOLS)}, but is {pool!r}.")
        self.context, self.kind, self.pool = context, head, pool
        self.embed = nn.Embedding(vocab_size, width)
        self.segment_embed = nn.Embedding(segments, width)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=(context,),
            mlp_width=mlp_width,
            activation=activation,
            post_norm=post_norm,
            norm_eps=norm_eps,
            stem_norm=True,
            final_norm=not post_norm,
            dropout=dropout,
            mlp_dropout=0.0,
            **blocks,
        )
        self.pooler = None if head in WITHOUT_POOLER else nn.Linear(width, width)
        self.masked = self.next = self.head = None
        if head == "pretrain":
            self.masked = MaskedHead(width, vocab_size=vocab_size, activation=activation, norm_eps=norm_eps)
            self.next = nn.Linear(width, 2)
        elif head:
            self.head = make_head(head, width, num_classes=num_classes, kinds=("pretrain", *HEADS))
        self.head_drop = nn.Dropout(dropout)
        init_normal(self, truncated=True)

    readouts = ("pooler", "masked", "next", "head")
    """Parts that read the last layer, on which no other layer depends."""

    def features(
        self,
        tokens: Int[Tensor, "B N"],
        segments: Int[Tensor, "B N"] | None = None,
        valid: Bool[Tensor, "B N"] | None = None,
    ) -> Features:
        """The tokens of the last layer, and the pooler's tanh of the first of them, [CLS], or of their mean.

        Args:
            tokens: ids.
            segments: 0 or 1; None: all 0.
            valid: False for padding, which no other token sees; None where there is none.

        Raises:
            DataError: there are more tokens than the context.
        """
        length = tokens.shape[1]
        if length > self.context:
            raise DataError(f"a sequence of {length} tokens is longer than the model's context of {self.context}.")
        x = self.embed(tokens) + self.segment_embed(torch.zeros_like(tokens) if segments is None else segments)
        hidden = self.stack(x, Places.line(length, extent=self.context), valid=valid)
        pooled = hidden[:, 0]
        if self.pool == "mean":
            kept = hidden.new_ones(tokens.shape) if valid is None else valid.to(hidden)
            pooled = (kept[:, None] @ hidden)[:, 0] / kept.sum(1, keepdim=True)
        return Features(hidden, pooled if self.pooler is None else self.pooler(pooled).tanh())

    def masked_logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Of the token that stands where `hidden` is: for speed, of the masked ones alone."""
        assert self.masked is not None, "this model was built without the heads of pre-training"
        return self.masked(hidden, self.embed.weight)

    def next_logits(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]:
        """Of whether the second text follows the first (0) or is any other (1)."""
        assert self.next is not None, "this model was built without the heads of pre-training"
        return self.next(pooled)

    def classify(
        self,
        tokens: Int[Tensor, "B *C N"],
        segments: Int[Tensor, "B *C N"] | None = None,
        valid: Bool[Tensor, "B *C N"] | None = None,
    ) -> Tensor:
        """Return classes (B, K), score (B), span (B, N, 2), tags (B, N, K); choice (B, C) of (B, C, N)."""
        assert self.head is not None, "this model was built without a head"
        rows, length = tokens.shape[:-1], tokens.shape[-1]
        more = (None if t is None else t.reshape(-1, length) for t in (segments, valid))
        features = self.features(tokens.reshape(-1, length), *more)
        if self.kind in WITHOUT_POOLER:
            return self.head(self.head_drop(features.tokens))
        out = self.head(self.head_drop(features.pooled)).unflatten(0, rows)
        return out if self.kind == "classes" else out.squeeze(-1)

    def forward(
        self,
        tokens: Int[Tensor, "B *C N"],
        segments: Int[Tensor, "B *C N"] | None = None,
        valid: Bool[Tensor, "B *C N"] | None = None,
    ) -> Tensor:
        """Return in pre-training logits (B, N, V) of every token; without a head, tokens (B, N, D)."""
        if self.head is not None:
            return self.classify(tokens, segments, valid)
        hidden = self.features(tokens, segments, valid).tokens
        return hidden if self.masked is None else self.masked_logits(hidden)

    @property
    def layers(self) -> int:
        return self.stack.layers

    def layer_of(self, name: str) -> int:
        """Return 0 for embeddings and positions, 1 to depth for the blocks, depth + 1 for the pooler and the heads."""
        part, _, rest = name.partition(".")
        if part == "stack":
            return self.stack.layer_of(rest)
        return 0 if part in ("embed", "segment_embed") else self.layers + 1
