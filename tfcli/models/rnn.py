"""Recurrent encoder-decoder without attention (Cho et al. 2014) or with it (Bahdanau et al. 2015, RNNsearch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Rate
from tfcli.nn.blocks import Dropout
from tfcli.nn.cache import SourceRows
from tfcli.nn.capture import HookPoint
from tfcli.nn.init import init_xavier
from tfcli.nn.recurrent import Additive, CellName, Recurrent
from tfcli.nn.token_embeddings import TokenEmbeddings
from tfcli.shapes import Bool, Float, Int

ATTENTIONS = ("none", "additive")


@dataclass
class EncodedSource:
    """An encoded source sentence.

    Attributes:
        annotations: the encoder's state at each token.
        summary: the encoder's last states, of both directions.
        keys: keys of the annotations, for attention.
        gates: contribution of each annotation to the decoder's gates.
        bias: minus infinity where there is padding; None where there is none.
    """

    annotations: Float[Tensor, "B M D"]
    summary: Float[Tensor, "B D"]
    keys: Float[Tensor, "B M A"] | None = None
    gates: Float[Tensor, "B M G"] | None = None
    bias: Float[Tensor, "B M"] | None = None

    def __getitem__(self, rows: Int[Tensor, "R"]) -> EncodedSource:
        keys, gates, bias = (None if t is None else t[rows] for t in (self.keys, self.gates, self.bias))
        return EncodedSource(self.annotations[rows], self.summary[rows], keys, gates, bias)


class DecoderState:
    """The state of step-wise decoding: the encoded source and the decoder's recurrent state.

    Args:
        source: encoded source.
        state: recurrent state before the first token.
    """

    def __init__(self, source: EncodedSource, state: tuple[Tensor, ...]):
        self.source, self.state = source, state
        self._sources = SourceRows()

    def reorder(self, rows: Int[Tensor, "R"]) -> None:
        """Let each row continue another row; see `Cache.reorder`."""
        self.state = tuple(part[rows] for part in self.state)
        if self._sources.reorder(rows, len(self.source.summary)):
            self.source = self.source[rows]


class RNN(nn.Module):
    """Bidirectional encoder, decoder and maxout output layer.

    Without attention the context of every step is the encoder's last states (Cho et al. 2014, section 2.2). With
    attention the context of each step is its own average of the annotations (Bahdanau et al. 2015, section 3). The
    output layer reads the state after the step (equation 4); the appendix uses the state before it.

    Args:
        width: H of each direction of the encoder and of the decoder.
        vocab_size: V, the size of the vocabulary.
        embed_width: width of the embeddings.
        attention: none or additive.
        cell: gru or lstm (torch's), or gru_paper; see `Recurrent`.
        bidirectional: whether the encoder reads the source in both directions.
        align_width: width of the attention's hidden layer; H by default.
        output_width: width of the maxout layer before the output; that of the embeddings by default.
        tied: one matrix is both embeddings and the output layer; otherwise there are three.
        target_vocab_size: V of the target; that of the source by default, and always where `tied`.
        paper_init: draw matrices from N(0, 0.01^2), those of the attention from N(0, 0.001^2), and set v to zero
            (appendix B.1), in place of Xavier's; recurrent matrices are orthogonal in either case.
        dropout: dropout on embeddings and before the output.

    Raises:
        ValueError: there is no such attention or cell, `vocab_size` is not known, or the sizes do not allow tying.
    """

    def __init__(
        self,
        width: Count,
        *,
        vocab_size: Count | None,
        embed_width: Count,
        attention: Literal["none", "additive"] = "none",
        cell: CellName = "gru",
        bidirectional: bool = True,
        align_width: Count | None = None,
        output_width: Count | None = None,
        tied: bool = False,
        target_vocab_size: Count | None = None,
        paper_init: bool = False,
        dropout: Rate = 0.0,
    ):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"`model.attention` must be one of {', '.join(ATTENTIONS)}, but is {attention!r}.")
        output_width = output_width or embed_width
        self.words = TokenEmbeddings(
            embed_width,
            vocab_size=vocab_size,
            tied=tied,
            target_vocab_size=target_vocab_size,
            output_width=output_width,
            output_bias=True,
        )
        source_width = width * (1 + bidirectional)
        self.drop = Dropout(dropout)
        self.encoder = Recurrent(embed_width, width, cell=cell, bidirectional=bidirectional)
        self.decoder = Recurrent(embed_width + source_width, width, cell=cell)
        self.attention = Additive(width, source_width, hidden=align_width or width) if attention == "additive" else None
        self.alignment = HookPoint()
        self.start = nn.Linear(source_width if self.attention is None else width, self.decoder.parts * width)
        self.readout = nn.Linear(width + embed_width + source_width, 2 * output_width)
        self.reset_parameters(paper=paper_init)

    def reset_parameters(self, *, paper: bool) -> None:
        """Initialise the linear maps as Xavier-uniform, or all parts except recurrent matrices as in the paper."""
        for part in (self.attention, self.start, self.readout):
            if part is not None:
                init_xavier(part)
        if not paper:
            return
        for name, parameter in self.named_parameters():
            if parameter.ndim > 1 and "weight_hh" not in name:
                nn.init.normal_(parameter, std=0.001 if name.startswith("attention") else 0.01)
        if self.attention is not None:
            nn.init.zeros_(self.attention.score.weight)

    def forward(
        self,
        source: Int[Tensor, "B M"],
        tokens: Int[Tensor, "B N"],
        *,
        valid: Bool[Tensor, "B M"] | None = None,
    ) -> Float[Tensor, "B N V"]:
        """Return the logits of the token after each token of the target."""
        return self._decode(tokens, self.begin(source, valid))

    def begin(self, source: Int[Tensor, "B M"], valid: Bool[Tensor, "B M"] | None = None) -> DecoderState:
        """Encode the source; return the state from which `step` decodes.

        Args:
            valid: False for padding, which follows the sentence; None where there is none.
        """
        annotations, (summary, *_) = self.encoder(self.drop(self.words.source(source)), valid=valid)
        encoded, first = EncodedSource(annotations, summary), summary
        if self.attention is not None:
            encoded.keys = self.attention.key(annotations)
            encoded.gates = self.decoder.project(annotations, start=self.words.embed.embedding_dim)
            if valid is not None:
                encoded.bias = torch.zeros_like(valid, dtype=annotations.dtype).masked_fill(~valid, -torch.inf)
            first = summary[:, -self.decoder.width :]  # of the backward direction, which ends at the first token
        return DecoderState(encoded, torch.tanh(self.start(first)).chunk(self.decoder.parts, -1))

    def step(self, token: Int[Tensor, "B"], state: DecoderState) -> Float[Tensor, "B V"]:
        """Return the logits of the token after this one, and update the state."""
        return self._decode(token[:, None], state)[:, 0]

    def _decode(self, tokens: Tensor, state: DecoderState) -> Tensor:
        y = self.drop(self.words.target(tokens))
        if self.attention is None:
            context = state.source.summary[:, None].expand(-1, y.shape[1], -1)
            hidden, state.state = self.decoder(torch.cat([y, context], -1), state.state)
        else:
            hidden, context = self._attend(y, state, self.attention)
        out = self.readout(torch.cat([hidden, y, context], -1)).unflatten(-1, (-1, 2)).amax(-1)
        return self.words.logits(self.drop(out))

    def _attend(self, y: Tensor, state: DecoderState, attention: Additive) -> tuple[Tensor, Tensor]:
        """Compute states and contexts step by step; `begin` has projected the annotations to the gates."""
        source, hidden, weights = state.source, [], []
        keys, gates = cast(Tensor, source.keys), cast(Tensor, source.gates)
        for target_gates in self.decoder.project(y, bias=True).unbind(1):
            weights.append(attention(state.state[0], keys, source.bias))
            state.state = self.decoder.step(target_gates + (weights[-1][:, None] @ gates)[:, 0], state.state)
            hidden.append(state.state[0])
        alignment = self.alignment(torch.stack(weights, 1)[:, None])  # (B, 1, N, M)
        return torch.stack(hidden, 1), alignment[:, 0] @ source.annotations

    @property
    def layers(self) -> int:
        return 2

    def layer_of(self, name: str) -> int:
        """Return 0 for embeddings, 1 for the encoder, 2 for the decoder and its attention, 3 for the output."""
        if name.startswith(("words.output", "readout")):
            return 3
        return {"words": 0, "encoder": 1}.get(name.partition(".")[0], 2)
