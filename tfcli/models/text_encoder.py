"""Encoders of a text as one vector: the text towers of CLIP.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", sections 2.3 and 2.4.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive
from tfcli.nn.attention import AttentionFactory
from tfcli.nn.blocks import Activation
from tfcli.nn.init import init_by_width
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int


class TextTransformer(nn.Module):
    """A causal transformer, read at the end-of-text token (section 2.4).

    That token is the one with the largest id, so its place is the row's argmax; what follows it is padding, which the
    causal pattern hides. Positions start as `pos` says (the release: deviation 0.01).

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        context: N, the length that texts are padded to.
        vocab_size: V; the last id is the end of the text.
        embed_width: E of the joint space.
        attn: makes an attention with a causal pattern (`conf/attn/causal`).
        pos: makes a position (`conf/pos`).
        mlp_width: hidden width of the MLPs; 4 D by default.
        activation: quick_gelu for OpenAI's weights, gelu for most others; a wrong one costs accuracy without a word.
        norm_eps: epsilon of the layer norms.

    Raises:
        ValueError: a token could see what follows it, or `vocab_size` is not known yet.
    """

    def __init__(
        self,
        width: Count,
        *,
        depth: Count,
        heads: Count,
        context: Count,
        vocab_size: Count | None,
        embed_width: Count,
        attn: AttentionFactory,
        pos: Callable[..., Position],
        mlp_width: Count | None = None,
        activation: Activation = "gelu",
        norm_eps: Positive = 1e-5,
    ):
        super().__init__()
        vocab_size = check_vocabulary(vocab_size)
        self.embed = nn.Embedding(vocab_size, width)
        self.stack = Stack(
            width,
            depth=depth,
            heads=heads,
            attn=attn,
            pos=pos,
            extent=(context,),
            mlp_width=mlp_width,
            activation=activation,
            norm_eps=norm_eps,
        )
        places = Places.line(context)
        for pattern in {attention.pattern for attention in self.stack.attentions}:
            if bool(pattern.mask(places, places).triu(1).any()):
                raise ValueError(f"`model.text.attn` must be causal, since padding follows the text, but is {pattern}.")
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.context, self.vocab_size, self.embed_width, self.layers = context, vocab_size, embed_width, depth
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        init_by_width(self.stack)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        end = tokens.argmax(1)
        if not (self.training or torch.compiler.is_compiling()):  # padding changes nothing but the time
            tokens = tokens[:, : int(end.max()) + 1]
        x = self.stack(self.embed(tokens), Places.line(tokens.shape[1], extent=self.context))
        return self.proj(x[torch.arange(len(x), device=x.device), end])

    def layer_of(self, name: str) -> int:
        part, _, rest = name.partition(".")
        if part == "stack":
            return self.stack.layer_of(rest)
        return 0 if part == "embed" else self.layers + 1


class TextBag(nn.Module):
    """A text tower without order: the mean of the words' vectors, projected (section 2.3's bag of words).

    Args:
        width: D of the words.
        context: N, the length that texts are padded to.
        vocab_size: V; the last id is the end of the text.
        embed_width: E of the joint space.
    """

    layers = 1

    def __init__(self, width: Count, *, context: Count, vocab_size: Count | None, embed_width: Count):
        super().__init__()
        vocab_size = check_vocabulary(vocab_size)
        self.embed = nn.Embedding(vocab_size, width)
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.context, self.vocab_size, self.embed_width = context, vocab_size, embed_width
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.proj.weight, std=width**-0.5)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        words = self.words(tokens)[..., None]
        return self.proj((self.embed(tokens) * words).sum(1) / words.sum(1).clamp(min=1))

    def words(self, tokens: Int[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """True between the start and the end of the text."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return (place > 0) & (place < tokens.argmax(1)[:, None])

    def layer_of(self, name: str) -> int:
        return 0 if name.startswith("embed") else self.layers + 1


def check_vocabulary(vocab_size: int | None) -> int:
    if not isinstance(vocab_size, int) or vocab_size < 3:
        raise ValueError(
            f"`model.text.vocab_size` must be a number of at least 3 (start, end and a word), but is {vocab_size}; "
            "null takes the tokenizer's."
        )
    return vocab_size
