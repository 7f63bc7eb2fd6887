"""GPT: a causal transformer that predicts the next token.

Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", section 3; Radford et al. 2019,
"Language Models are Unsupervised Multitask Learners", section 2.3; Brown et al. 2020, section 2.1.
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
from tfcli.nn.blocks import Activation
from tfcli.nn.cache import Cache
from tfcli.nn.init import init_normal
from tfcli.nn.places import Places
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int
from tfcli.text.frames import MARKS

HEADS = ("classes", "score", "choice")


class GPT(nn.Module):
    """Token embeddings, positions and causal blocks; the transposed embeddings give the logits.

    With `post_norm` this is GPT-1 (no last norm, all maps N(0, 0.02)), without it GPT-2 and GPT-3 (a last norm; the
    last map of each residual branch is scaled by (2 L)^-1/2). Every second layer of GPT-3 is banded (`attn=banded`).

    A head reads the last token that is not padding. A model with a head also has embeddings of the three marks of
    fine-tuning (2018, section 3.3), start, delimiter and extract, whose ids are negative (`tfcli.text.frames`).

    Args:
        width: D, the width of the tokens.
        vocab_size: V, the size of the vocabulary.
        context: longest sequence in tokens.
        activation: activation of the MLPs; gelu_tanh in the code of all three papers.
        post_norm: normalise after the residual sum.
        norm_eps: epsilon of the norms.
        dropout: dropout on the embedded tokens, in the blocks and before the head.
        head: output of `classify`: classes (K scores for a text), score (one number), choice (a score for each of the
            sequences of a sample); None: there is no head.
        num_classes: K, the number of classes.
        blocks: further arguments of `Stack`: depth, heads, attn (always made causal), pos, mlp_width, norm,
            layer_scale, attention_dropout, drop_path.

    Raises:
        ValueError: `heads` does not divide `width`, `vocab_size` is not known, or there is no such head.
        IncompatibleError: attention and positions do not fit together, or the attention cannot be causal.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        context: Count,
        activation: Activation = "gelu_tanh",
        post_norm: bool = False,
        norm_eps: Positive = 1e-5,
        dropout: Rate = 0.0,
        head: Literal["classes", "score", "choice"] | None = None,
        num_classes: Natural | None = None,
        **blocks: Any,
    ):
        super().__init__()
        vocab_size = check_vocabulary(vocab_size)
        self.context, self.kind = context, head
        self.embed = nn.Embedding(vocab_size, width)
        self.marks = nn.Embedding(len(MARKS), width) if head else None
        self.stack = Stack(
            width,
            extent=(context,),
            causal=True,
            activation=activation,
            post_norm=post_norm,
            norm_eps=norm_eps,
            final_norm=not post_norm,
            dropout=dropout,
            mlp_dropout=0.0,
            **blocks,
        )
        self.layers = self.stack.layers
        self.head = make_head(head, width, num_classes=num_classes, kinds=HEADS) if head else None
        self.head_drop = nn.Dropout(dropout)
        init_normal(self, residual_branches=0 if post_norm else 2 * self.layers)

    readouts = ("head",)
    """Parts that read the last layer, and on which no other layer depends."""

    def forward(self, tokens: Int[Tensor, "B N"], cache: Cache | None = None) -> Float[Tensor, "B N V"]:
        """Return the logits of the token after each token; with a cache, `tokens` continue the cached ones.

        Raises:
            DataError: there are more tokens, cached ones included, than the context.
        """
        return self.logits(self._read(tokens, cache))

    def logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Return the logits of the next token from tokens of the last layer; a loss may pass some of them only."""
        return linear(hidden, self.embed.weight)

    def features(self, tokens: Int[Tensor, "B N"], valid: Bool[Tensor, "B N"] | None = None) -> Features:
        """Return the tokens of the last layer, and the last valid token of each row.

        Args:
            tokens: token ids; padding follows the text, so that causal attention hides it.
            valid: False for padding; None where there is none.
        """
        hidden = self._read(tokens)
        if valid is None:
            return Features(hidden, hidden[:, -1])
        last = valid.shape[1] - 1 - valid.int().flip(1).argmax(1)
        return Features(hidden, hidden[torch.arange(len(hidden), device=hidden.device), last])

    def classify(self, tokens: Int[Tensor, "B *C N"], valid: Bool[Tensor, "B *C N"] | None = None) -> Tensor:
        """Return the head's output: classes (B, K), score (B) or choice (B, C).

        A sample may have several sequences (B, C, N): choice scores each of them, and the other heads read the sum of
        their extract tokens, as GPT-1 does with the two orders of a pair.
        """
        assert self.head is not None, "this model was built without a head"
        rows, length = tokens.shape[:-1], tokens.shape[-1]
        flat = None if valid is None else valid.reshape(-1, length)
        pooled = self.features(tokens.reshape(-1, length), flat).pooled.unflatten(0, rows)
        if self.kind != "choice" and pooled.ndim == 3:
            pooled = pooled.sum(1)
        out = self.head(self.head_drop(pooled))
        return out if self.kind == "classes" else out.squeeze(-1)

    def _read(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        start = 0 if cache is None else len(cache)
        if start + tokens.shape[1] > self.context:
            raise DataError(
                f"a sequence of {start + tokens.shape[1]} tokens is longer than the model's context of {self.context}."
            )
        places = Places.line(tokens.shape[1], start=start, extent=self.context)
        return self.stack(self._embed(tokens), places, cache=cache)

    def _embed(self, tokens: Tensor) -> Tensor:
        if self.marks is None:
            return self.embed(tokens)
        marks = self.marks((-1 - tokens).clamp(min=0))
        return torch.where((tokens < 0)[..., None], marks, self.embed(tokens.clamp(min=0)))

    def layer_of(self, name: str) -> int:
        """Return 0 for embeddings and positions, 1 to depth for the blocks, depth + 1 for last norm and head."""
        return self.stack.layer_in_model(name, stem=("embed",))
