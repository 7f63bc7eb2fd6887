"""Recurrent encoder and decoder, without attention (Cho et al. 2014) or with it (Bahdanau et al. 2015, RNNsearch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tfcli.bounds import Count, Rate
from tfcli.nn.blocks import Dropout
from tfcli.nn.cache import Owners
from tfcli.nn.capture import Watched
from tfcli.nn.init import init_xavier
from tfcli.nn.recurrent import Additive, CellName, Recurrent
from tfcli.nn.words import Words
from tfcli.shapes import Bool, Float, Int

ATTENTIONS = ("none", "additive")


@dataclass
class Reading:
    """Encoded source sentence.

    Attributes:
        annotations: the encoder's state at each word.
        summary: its last states, of both directions.
        keys: of the annotations, for attention.
        gates: what each annotation would give to the decoder's gates, were it the context.
        bias: minus infinity where there is padding; None where there is none.
    """

    annotations: Float[Tensor, "B M D"]
    summary: Float[Tensor, "B D"]
    keys: Float[Tensor, "B M A"] | None = None
    gates: Float[Tensor, "B M G"] | None = None
    bias: Float[Tensor, "B M"] | None = None

    def __getitem__(self, rows: Int[Tensor, "R"]) -> Reading:
        keys, gates, bias = (None if t is None else t[rows] for t in (self.keys, self.gates, self.bias))
        return Reading(self.annotations[rows], self.summary[rows], keys, gates, bias)


class Decoding:
    """A translation under way: what was read, and the decoder's state.

    Args:
        reading: of the source.
        state: of the decoder, before the first word.
    """

    def __init__(self, reading: Reading, state: tuple[Tensor, ...]):
        self.reading, self.state = reading, state
        self._owners = Owners()

    def reorder(self, rows: Int[Tensor, "R"]) -> None:
        """Let each sample go on from another; see `Cache.reorder`."""
        self.state = tuple(part[rows] for part in self.state)
        if self._owners.move(rows, len(self.reading.summary)):
            self.reading = self.reading[rows]


class RNN(nn.Module):
    """An encoder that reads the source both ways, a decoder that writes the translation, deep output.

    Without attention all that the decoder learns of the source is the encoder's last states, at every step (Cho et al.
    2014, section 2.2). With it, each step has a context of its own, an average of the annotations (Bahdanau et al.
    2015, section 3). The layer before the output reads the state after the step (equation 4); the appendix writes the
    state before it.

    Args:
        width: H of either direction of the encoder and of the decoder.
        vocab_size: V.
        embed_width: of the embeddings.
        attention: none or additive.
        cell: gru or lstm (torch's), or gru_paper; see `Recurrent`.
        bidirectional: whether the encoder reads both ways.
        align_width: of the layer that compares state and annotation; H by default.
        output_width: of the layer before the output, whose units are the larger of two each (maxout); that of the
            embeddings by default.
        tied: one matrix embeds both sides and gives the logits; otherwise there are three.
        target_vocab_size: of the target; V by default, and necessarily where `tied`.
        paper_init: matrices N(0, 0.01^2), those of the attention N(0, 0.001^2), and v zero (appendix B.1), in place of
            Xavier's; recurrent ones are orthogonal in either case.
        dropout: on embeddings and before the output.

    Raises:
        ValueError: there is no such attention or cell, `vocab_size` is not known, or what is tied does not fit.
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
        self.words = Words(
            embed_width,
            vocab_size=vocab_size,
            tied=tied,
            target_vocab_size=target_vocab_size,
            output_width=output_width,
            output_bias=True,
        )
        read = width * (1 + bidirectional)
        self.drop = Dropout(dropout)
        self.encoder = Recurrent(embed_width, width, cell=cell, bidirectional=bidirectional)
        self.decoder = Recurrent(embed_width + read, width, cell=cell)
        self.attention = Additive(width, read, hidden=align_width or width) if attention == "additive" else None
        self.alignment = Watched()
        self.start = nn.Linear(read if self.attention is None else width, self.decoder.parts * width)
        self.readout = nn.Linear(width + embed_width + read, 2 * output_width)
        self.reset_parameters(paper=paper_init)

    def reset_parameters(self, *, paper: bool) -> None:
        """Recurrent layers and tables by their own; the rest Xavier-uniform, or all by the paper."""
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
        """Logits of what follows each token of the target."""
        return self._write(tokens, self.begin(source, valid))

    def begin(self, source: Int[Tensor, "B M"], valid: Bool[Tensor, "B M"] | None = None) -> Decoding:
        """Return the state from which `step` decodes.

        Args:
            valid: False for padding, which stands behind; None where there is none.
        """
        annotations, (summary, *_) = self.encoder(self.drop(self.words.source(source)), valid=valid)
        reading, first = Reading(annotations, summary), summary
        if self.attention is not None:
            reading.keys = self.attention.key(annotations)
            reading.gates = self.decoder.project(annotations, start=self.words.embed.embedding_dim)
            if valid is not None:
                reading.bias = torch.zeros_like(valid, dtype=annotations.dtype).masked_fill(~valid, -torch.inf)
            first = summary[:, -self.decoder.width :]  # of the direction that ends at the first word
        return Decoding(reading, torch.tanh(self.start(first)).chunk(self.decoder.parts, -1))

    def step(self, token: Int[Tensor, "B"], state: Decoding) -> Float[Tensor, "B V"]:
        """Logits of what follows this token and those of the steps before."""
        return self._write(token[:, None], state)[:, 0]

    def _write(self, tokens: Tensor, state: Decoding) -> Tensor:
        y = self.drop(self.words.target(tokens))
        if self.attention is None:
            context = state.reading.summary[:, None].expand(-1, y.shape[1], -1)
            hidden, state.state = self.decoder(torch.cat([y, context], -1), state.state)
        else:
            hidden, context = self._attend(y, state, self.attention)
        out = self.readout(torch.cat([hidden, y, context], -1)).unflatten(-1, (-1, 2)).amax(-1)
        return self.words.logits(self.drop(out))

    def _attend(self, y: Tensor, state: Decoding, attention: Additive) -> tuple[Tensor, Tensor]:
        """States and contexts, step by step: what an annotation gives to the gates is worked out beforehand."""
        reading, hidden, weights = state.reading, [], []
        keys, gates = cast(Tensor, reading.keys), cast(Tensor, reading.gates)
        for given in self.decoder.project(y, bias=True).unbind(1):
            weights.append(attention(state.state[0], keys, reading.bias))
            state.state = self.decoder.step(given + (weights[-1][:, None] @ gates)[:, 0], state.state)
            hidden.append(state.state[0])
        seen = self.alignment(torch.stack(weights, 1)[:, None])  # (B, 1, N, M)
        return torch.stack(hidden, 1), seen[:, 0] @ reading.annotations

    @property
    def layers(self) -> int:
        return 2

    def layer_of(self, name: str) -> int:
        """0 for embeddings, 1 for the encoder, 2 for the decoder and its attention, 3 for the output."""
        if name.startswith(("words.output", "readout")):
            return 3
        return {"words": 0, "encoder": 1}.get(name.partition(".")[0], 2)
