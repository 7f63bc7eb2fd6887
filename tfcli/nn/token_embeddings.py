"""Token embeddings and output layer of models that read one text and write another."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from tfcli.shapes import Float, Int


class TokenEmbeddings(nn.Module):
    """Source embeddings, target embeddings and output layer: one shared matrix or three (Vaswani et al. 2017, 3.4).

    Args:
        width: D of the embeddings.
        vocab_size: V, the size of the vocabulary.
        tied: whether there is one matrix.
        target_vocab_size: V of the target; that of the source by default, and always where `tied`.
        output_width: width of the output layer's input; D by default, and always where `tied`.
        output_bias: whether the output layer has a bias.
        scale: factor on the embeddings.

    Raises:
        ValueError: `vocab_size` is not known, or the sizes do not allow tying.
    """

    def __init__(
        self,
        width: int,
        *,
        vocab_size: int | None,
        tied: bool,
        target_vocab_size: int | None = None,
        output_width: int | None = None,
        output_bias: bool = False,
        scale: float = 1.0,
    ):
        super().__init__()
        if not vocab_size:
            raise ValueError("`model.vocab_size` must be a number; null takes the tokenizer's, and there is none.")
        targets, output_width = target_vocab_size or vocab_size, output_width or width
        if tied and (targets, output_width) != (vocab_size, width):
            raise ValueError(
                "with tied embeddings and output, `model.target_vocab_size` must be `model.vocab_size` "
                f"({vocab_size}) and the width of the output that of the embeddings ({width}), but they are {targets} "
                f"and {output_width}. Untie them with model.tied=false."
            )
        self.scale = scale
        self.embed = nn.Embedding(vocab_size, width)
        self.target_embed = None if tied else nn.Embedding(targets, width)
        self.output_weight = None if tied else nn.Parameter(torch.empty(targets, output_width))
        self.output_bias = nn.Parameter(torch.zeros(targets)) if output_bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the embeddings from N(0, 1 / D) and the output layer as Xavier-uniform."""
        for table in (self.embed, self.target_embed):
            if table is not None:
                nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
        if self.output_weight is not None:
            nn.init.xavier_uniform_(self.output_weight)

    def source(self, tokens: Int[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
        """Embed the tokens of the source."""
        return self.embed(tokens) * self.scale

    def target(self, tokens: Int[Tensor, "B N"]) -> Float[Tensor, "B N D"]:
        """Embed the tokens of the target."""
        return (self.embed if self.target_embed is None else self.target_embed)(tokens) * self.scale

    def logits(self, hidden: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows V"]:
        """Return the logits of the next token."""
        return linear(hidden, self.embed.weight if self.output_weight is None else self.output_weight, self.output_bias)
