"""BERT: a bidirectional transformer encoder, pre-trained by masked language modelling.

Devlin et al. 2019, "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding", sections 3 to 4.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tfcli.bounds import Count, Natural, Positive, Rate
from tfcli.errors import DataError
from tfcli.models.heads import check_vocabulary, make_head
from tfcli.models.protocols import Features
from tfcli.nn.blocks import ACTIVATIONS, Activation
from tfcli.nn.init import init_normal
from tfcli.nn.places import Places
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int

HEADS = ("classes", "score", "span", "tags", "choice")
WITHOUT_POOLER = ("span", "tags")
POOLS = ("class", "mean")


class MaskedHead(nn.Module):
    """The masked-token head: a linear map, activation, norm, then the transposed embeddings with a bias.

    Args:
        width: D, the width of the tokens.
        vocab_size: V, the size of the vocabulary.
        activation: activation between map and norm.
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

    Two ablations are `post_norm=false` (pre-norm) and `attn=causal` (left-to-right).

    Args:
        width: D, the width of the tokens.
        vocab_size: V, the size of the vocabulary.
        context: longest sequence in tokens.
        segments: number of segments; the tokens of the second text of a pair have segment 1.
        activation: activation of the MLPs and the masked-token head: gelu, the exact form.
        post_norm: normalise after the residual sum; otherwise a norm follows the last block.
        norm_eps: epsilon of all norms.
        pool: input of the pooler: class ([CLS]) or mean (of all tokens except padding, as in sentence encoders; Reimers
            and Gurevych 2019, section 3).
        dropout: dropout on the embedded tokens, in the blocks and before the head.
        head: pretrain (masked tokens and next sentence), classes (K scores for a text), score (one number), span
            (scores of start and end for each token), tags (K scores for each token), choice (a score for each of the
            sequences of a sample); None: there is no head.
        num_classes: K, the number of classes.
        blocks: further arguments of `Stack`: depth, heads, attn, pos, mlp_width, norm, layer_scale, attention_dropout,
            drop_path.

    Raises:
        ValueError: `heads` does not divide `width`, `vocab_size` is not known, or there is no such head or pool.
        IncompatibleError: attention and positions do not fit together.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        context: Count,
        segments: Count = 2,
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
            extent=(context,),
            activation=activation,
            post_norm=post_norm,
            norm_eps=norm_eps,
            stem_norm=True,
            final_norm=not post_norm,
            dropout=dropout,
            mlp_dropout=0.0,
            **blocks,
        )
        self.layers = self.stack.layers
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
    """Parts that read the last layer, and on which no other layer depends."""

    def features(
        self,
        tokens: Int[Tensor, "B N"],
        segments: Int[Tensor, "B N"] | None = None,
        valid: Bool[Tensor, "B N"] | None = None,
    ) -> Features:
        """Return the tokens of the last layer, and the pooler's output for the first one, [CLS], or for their mean.

        Args:
            tokens: token ids.
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
        """Return the logits of the original tokens at `hidden`, which for speed are the masked places alone."""
        assert self.masked is not None, "this model was built without the heads of pre-training"
        return self.masked(hidden, self.embed.weight)

    def next_logits(self, pooled: Float[Tensor, "B D"]) -> Float[Tensor, "B 2"]:
        """Return the logits of next-sentence prediction: the second text follows the first (0) or is random (1)."""
        assert self.next is not None, "this model was built without the heads of pre-training"
        return self.next(pooled)

    def classify(
        self,
        tokens: Int[Tensor, "B *C N"],
        segments: Int[Tensor, "B *C N"] | None = None,
        valid: Bool[Tensor, "B *C N"] | None = None,
    ) -> Tensor:
        """Return the head's output: classes (B, K), score (B), span (B, N, 2), tags (B, N, K); choice (B, C)."""
        assert self.head is not None, "this model was built without a head"
        rows, length = tokens.shape[:-1], tokens.shape[-1]
        others = (None if t is None else t.reshape(-1, length) for t in (segments, valid))
        features = self.features(tokens.reshape(-1, length), *others)
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
        """Return the head's output (see `classify`); in pre-training logits (B, N, V); without a head (B, N, D)."""
        if self.head is not None:
            return self.classify(tokens, segments, valid)
        hidden = self.features(tokens, segments, valid).tokens
        return hidden if self.masked is None else self.masked_logits(hidden)

    def layer_of(self, name: str) -> int:
        """Return 0 for embeddings and positions, 1 to depth for the blocks, depth + 1 for the pooler and the heads."""
        return self.stack.layer_in_model(name, stem=("embed", "segment_embed"))
