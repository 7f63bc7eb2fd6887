"""The original encoder-decoder Transformer for translation.

Vaswani et al. 2017, "Attention Is All You Need", section 3.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from tfcli.bounds import Count, Positive, Rate
from tfcli.errors import DataError
from tfcli.nn.blocks import Activation
from tfcli.nn.cache import Cache, Memory
from tfcli.nn.init import init_xavier
from tfcli.nn.places import Places
from tfcli.nn.stack import Stack
from tfcli.nn.token_embeddings import TokenEmbeddings
from tfcli.shapes import Bool, Float, Int


class Transformer(nn.Module):
    """An encoder stack over the source and a causal decoder stack with cross-attention over the target.

    There is no dropout after the MLP's activation, unlike in torch.nn.Transformer. The sines of the positions come
    before the cosines, as in tensor2tensor and Marian; the paper's order is a permutation of channels.

    Args:
        width: D, the width of the tokens.
        vocab_size: V, the size of the vocabulary.
        depth: number of blocks of the encoder, and of the decoder unless `decoder_depth` is given.
        context: longest sequence in tokens, of source and of target.
        decoder_depth: number of blocks of the decoder; None: `depth`.
        activation: activation of the MLPs; relu in the paper.
        post_norm: normalise after the residual sum.
        final_norm: whether a norm follows each stack; None: only where `post_norm` is off. torch.nn.Transformer always
            has these norms.
        norm_eps: epsilon of the norms.
        tied: one matrix is both embeddings and the output layer (section 3.4); otherwise there are three.
        target_vocab_size: V of the target; that of the source by default, and always where `tied`.
        scale: multiply embeddings by the square root of D.
        output_bias: whether the output layer has a bias (Marian).
        dropout: dropout on the embedded tokens and in the blocks.
        blocks: further arguments of `Stack`: heads, attn (made causal in the decoder), pos, mlp_width, norm,
            layer_scale, attention_dropout, drop_path.

    Raises:
        ValueError: `heads` does not divide `width`, `vocab_size` is not known, or tied vocabularies differ.
        IncompatibleError: attention and positions do not fit together, or the attention cannot be causal.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        depth: Count,
        context: Count,
        decoder_depth: Count | None = None,
        activation: Activation = "relu",
        post_norm: bool = True,
        final_norm: bool | None = None,
        norm_eps: Positive = 1e-6,
        tied: bool = True,
        target_vocab_size: Count | None = None,
        scale: bool = True,
        output_bias: bool = False,
        dropout: Rate = 0.1,
        **blocks: Any,
    ):
        super().__init__()
        self.context = context
        self.words = TokenEmbeddings(
            width,
            vocab_size=vocab_size,
            tied=tied,
            target_vocab_size=target_vocab_size,
            output_bias=output_bias,
            scale=width**0.5 if scale else 1.0,
        )
        stack = partial(
            Stack,
            width,
            extent=(context,),
            activation=activation,
            post_norm=post_norm,
            final_norm=not post_norm if final_norm is None else final_norm,
            norm_eps=norm_eps,
            dropout=dropout,
            mlp_dropout=0.0,
            **blocks,
        )
        self.encoder = stack(depth=depth)
        self.decoder = stack(depth=decoder_depth or depth, cross=True, causal=True)
        init_xavier(self.encoder)
        init_xavier(self.decoder)

    def forward(
        self,
        source: Int[Tensor, "B M"],
        tokens: Int[Tensor, "B N"],
        *,
        valid: Bool[Tensor, "B M"] | None = None,
    ) -> Float[Tensor, "B N V"]:
        """Return the logits of the token after each token of the target; padding after the target is not seen.

        Raises:
            DataError: source or target are longer than the context.
        """
        places = self._places(tokens.shape[1])
        memory = self.encode(source, valid)
        return self.words.logits(self.decoder(self.words.target(tokens), places, memory=memory))

    def encode(self, source: Int[Tensor, "B M"], valid: Bool[Tensor, "B M"] | None = None) -> Memory:
        """Encode the source, for the decoder's cross-attention.

        Args:
            valid: False for padding; None where there is none.
        """
        x = self.encoder(self.words.source(source), self._places(source.shape[1]), valid=valid)
        return Memory(x, valid)

    def begin(self, source: Int[Tensor, "B M"], valid: Bool[Tensor, "B M"] | None = None) -> Cache:
        """Return the cache from which `step` decodes."""
        return Cache(self.encode(source, valid))

    def step(self, token: Int[Tensor, "B"], state: Cache) -> Float[Tensor, "B V"]:
        """Return the logits of the token after this one, and update the state.

        Raises:
            DataError: there are more tokens than the context.
        """
        places = self._places(1, start=len(state))
        x = self.decoder(self.words.target(token[:, None]), places, cache=state)
        return self.words.logits(x[:, 0])

    def _places(self, length: int, *, start: int = 0) -> Places:
        if start + length > self.context:
            raise DataError(
                f"a sequence of {start + length} tokens is longer than the model's context of {self.context}."
            )
        return Places.line(length, start=start, extent=self.context)

    @property
    def layers(self) -> int:
        return self.encoder.layers + self.decoder.layers

    def layer_of(self, name: str) -> int:
        """Return 0 for embeddings and positions, then the encoder's blocks, then the decoder's; its norm comes last."""
        part, _, rest = name.partition(".")
        if part == "encoder":
            return min(self.encoder.layer_of(rest), self.encoder.layers)
        if part == "decoder":
            layer = self.decoder.layer_of(rest)
            return layer + self.encoder.layers if layer else 0
        return 0 if rest.startswith(("embed", "target_embed")) else self.layers + 1
