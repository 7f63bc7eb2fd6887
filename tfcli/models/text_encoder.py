"""Text encoders with one vector for each text: the text towers of CLIP.

Radford et al. 2021, "Learning Transferable Visual Models From Natural Language Supervision", sections 2.3 and 2.4.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Positive
from tfcli.nn.init import init_by_width
from tfcli.nn.places import Places
from tfcli.nn.stack import Stack
from tfcli.shapes import Bool, Float, Int


class TextTransformer(nn.Module):
    """A causal transformer whose output is the end-of-text token (section 2.4).

    That token has the largest id, so its place is the row's argmax; the padding after it is hidden by the causal
    pattern. `pos` initialises the positions (the release: standard deviation 0.01).

    Args:
        width: D, the width of the tokens.
        context: N, the length to which texts are padded.
        vocab_size: V; the last id is the end of the text.
        embed_width: E of the joint space.
        norm_eps: epsilon of the layer norms.
        blocks: further arguments of `Stack`: depth, heads, attn (with a causal pattern, `conf/attn/causal`), pos,
            mlp_width, activation (quick_gelu for OpenAI's weights, gelu for most others; a wrong activation lowers the
            accuracy without any error).

    Raises:
        ValueError: a token could see later tokens, or `vocab_size` is not known yet.
    """

    def __init__(
        self,
        width: Count,
        *,
        context: Count,
        vocab_size: Count | None,
        embed_width: Count,
        norm_eps: Positive = 1e-5,
        **blocks: Any,
    ):
        super().__init__()
        vocab_size = check_vocabulary(vocab_size)
        self.embed = nn.Embedding(vocab_size, width)
        self.stack = Stack(width, extent=(context,), norm_eps=norm_eps, **blocks)
        places = Places.line(context)
        for pattern in {attention.pattern for attention in self.stack.attentions}:
            if bool(pattern.mask(places, places).triu(1).any()):
                raise ValueError(f"`model.text.attn` must be causal, since padding follows the text, but is {pattern}.")
        self.proj = nn.Linear(width, embed_width, bias=False)
        self.context, self.vocab_size, self.embed_width = context, vocab_size, embed_width
        self.layers = self.stack.layers
        nn.init.normal_(self.embed.weight, std=0.02)
        nn.init.normal_(self.proj.weight, std=width**-0.5)
        init_by_width(self.stack)

    def forward(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B E"]:
        end = tokens.argmax(1)
        if not (self.training or torch.compiler.is_compiling()):  # padding costs time and changes no result
            tokens = tokens[:, : int(end.max()) + 1]
        x = self.stack(self.embed(tokens), Places.line(tokens.shape[1], extent=self.context))
        return self.proj(x[torch.arange(len(x), device=x.device), end])

    def layer_of(self, name: str) -> int:
        return self.stack.layer_in_model(name, stem=("embed",))


class TextBag(nn.Module):
    """A bag of words: the projected mean of the token embeddings (section 2.3).

    Args:
        width: D of the token embeddings.
        context: N, the length to which texts are padded.
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
        words = self.is_word(tokens)[..., None]
        return self.proj((self.embed(tokens) * words).sum(1) / words.sum(1).clamp(min=1))

    def is_word(self, tokens: Int[Tensor, "B N"]) -> Bool[Tensor, "B N"]:
        """Return True for the tokens between the start and the end of the text."""
        place = torch.arange(tokens.shape[1], device=tokens.device)
        return (place > 0) & (place < tokens.argmax(1)[:, None])

    def layer_of(self, name: str) -> int:
        return 0 if name.startswith("embed") else self.layers + 1


def check_vocabulary(vocab_size: int | None) -> int:
    """Raise ValueError unless there are start, end and at least one word; return the size."""
    if not isinstance(vocab_size, int) or vocab_size < 3:
        raise ValueError(
            f"`model.text.vocab_size` must be a number of at least 3 (start, end and a word), but is {vocab_size}; "
            "null uses the tokenizer's size."
        )
    return vocab_size
