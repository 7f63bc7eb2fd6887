"""GPT-2 as one would write it by hand: the bare side of benchmarks of language models."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

Kept = list[tuple[Tensor, Tensor]]
"""Keys and values of each block, (B, H, N, E) each, with room for the tokens to come."""


class Block(nn.Module):
    """A pre-norm block with causal attention through PyTorch's `scaled_dot_product_attention`, or two products."""

    def __init__(self, width: int, heads: int, *, explicit: bool = False):
        super().__init__()
        self.heads, self.explicit = heads, explicit
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, kept: tuple[Tensor, Tensor] | None = None, start: int = 0) -> Tensor:
        """Return the tokens (B, N, D); with `kept` they follow `start` tokens, whose keys and values lie there."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if kept is not None:
            end = start + x.shape[1]
            for store, new in zip(kept, (k, v), strict=True):
                store[:, :, start:end] = new
            k, v = (store[:, :, :end] for store in kept)
        if self.explicit:
            hidden = torch.full((q.shape[2], k.shape[2]), -torch.inf, dtype=q.dtype).triu(1 + k.shape[2] - q.shape[2])
            mixed = (q * q.shape[-1] ** -0.5 @ k.mT + hidden).softmax(-1).to(v.dtype) @ v
        else:
            mixed = scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.down(gelu(self.up(self.norm2(x)), approximate="tanh"))


class BareGPT(nn.Module):
    """GPT-2 (Radford et al. 2019) without dropout; the output shares the weights of the embedding.

    Args:
        width: D.
        depth: number of blocks.
        heads: H.
        context: longest sequence in tokens.
        vocab_size: V.
        explicit: attention by two matrix products and a softmax, which in bf16 is faster to train on a CPU.
    """

    def __init__(self, width: int, *, depth: int, heads: int, context: int, vocab_size: int, explicit: bool = False):
        super().__init__()
        self.embed, self.place = nn.Embedding(vocab_size, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, explicit=explicit) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.02 / (2 * depth) ** 0.5 if "out." in name or "down." in name else 0.02)

    def forward(self, tokens: Tensor, kept: Kept | None = None, start: int = 0) -> Tensor:
        """Return the logits (B, N, V) of the token after each of `tokens` (B, N), which follow `start` kept ones."""
        places = torch.arange(start, start + tokens.shape[1], device=tokens.device)
        x = self.embed(tokens) + self.place(places)
        for i, block in enumerate(self.blocks):
            x = block(x, kept[i] if kept is not None else None, start)
        return self.norm(x) @ self.embed.weight.T

    @torch.inference_mode()
    def room(self, length: int) -> Kept:
        """Return room for the keys and values of `length` tokens of one text."""
        shape = (1, self.blocks[0].heads, length, self.embed.embedding_dim // self.blocks[0].heads)
        like = self.embed.weight
        return [(like.new_empty(shape), like.new_empty(shape)) for _ in self.blocks]

    def greedy(self, tokens: Tensor, count: int) -> Iterator[int]:
        """Yield the `count` likeliest next tokens, one after the other, with keys and values kept."""
        kept, start = self.room(tokens.shape[1] + count), 0
        for _ in range(count):
            with torch.inference_mode():
                token = self(tokens, kept, start)[:, -1].argmax(-1)
            start += tokens.shape[1]
            tokens = token[:, None]
            yield int(token)
