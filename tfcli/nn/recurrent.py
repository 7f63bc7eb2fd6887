"""Recurrent layers and additive attention, for the sequence models before the transformer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from tfcli.shapes import Bool, Float

State = tuple[Tensor, ...]
"""State of a recurrent cell, (B, H) each: its output, and for an LSTM its memory cell."""


class PaperGRU(nn.Module):
    """The GRU as defined by Cho et al. 2014 and Bahdanau et al. 2015 (appendix A.1.1).

    The reset gate acts before the recurrent matrix, and the update gate weighs the new state; in torch.nn.GRU the reset
    gate acts after it, and the update gate weighs the old state. The order of the rows is torch's: reset, update, new.
    There is one bias.

    Args:
        inputs: width of the inputs.
        width: H, the width of the state.
        bidirectional: whether a second GRU reads the sequence backwards.
    """

    def __init__(self, inputs: int, width: int, *, bidirectional: bool = False):
        super().__init__()
        self.suffixes = ("l0", "l0_reverse") if bidirectional else ("l0",)
        for suffix in self.suffixes:
            self.register_parameter(f"weight_ih_{suffix}", nn.Parameter(torch.empty(3 * width, inputs)))
            self.register_parameter(f"weight_hh_{suffix}", nn.Parameter(torch.empty(3 * width, width)))
            self.register_parameter(f"bias_ih_{suffix}", nn.Parameter(torch.zeros(3 * width)))

    def forward(
        self, x: Float[Tensor, "B N D"], state: Float[Tensor, "S B H"], valid: Bool[Tensor, "B N"] | None
    ) -> tuple[Float[Tensor, "B N SH"], Float[Tensor, "S B H"]]:
        """Return the states after each input, both directions concatenated, and the last state of each direction."""
        sides, ends = [], []
        for suffix, h in zip(self.suffixes, state, strict=True):
            gates = linear(x, getattr(self, f"weight_ih_{suffix}"), getattr(self, f"bias_ih_{suffix}")).unbind(1)
            states = [h] * x.shape[1]
            for place in range(x.shape[1]) if suffix == "l0" else reversed(range(x.shape[1])):
                (new,) = paper_gru(gates[place], (h,), getattr(self, f"weight_hh_{suffix}"))
                h = new if valid is None else torch.where(valid[:, place, None], new, h)
                states[place] = h
            sides.append(torch.stack(states, 1))
            ends.append(h)
        return torch.cat(sides, -1), torch.stack(ends)


def gru(gates: Tensor, state: State, weight: Tensor, bias: Tensor | None = None) -> State:
    """Compute one step of torch.nn.GRU.

    Args:
        gates: (B, 3 H), the input's contribution to each gate, its bias included.
        state: the state before.
        weight, bias: the recurrent ones.
    """
    (h,) = state
    r, z, n = gates.chunk(3, -1)
    rh, zh, nh = linear(h, weight, bias).chunk(3, -1)
    n = torch.tanh(torch.addcmul(n, torch.sigmoid(r + rh), nh))
    return (torch.lerp(n, h, torch.sigmoid(z + zh)),)


def paper_gru(gates: Tensor, state: State, weight: Tensor, bias: Tensor | None = None) -> State:
    """Compute one step of `PaperGRU`. Arguments as for `gru`."""
    (h,) = state
    cut = [2 * h.shape[-1]]
    (gate, new), (recurrent, candidate) = gates.tensor_split(cut, -1), weight.tensor_split(cut)
    r, z = torch.sigmoid(gate + linear(h, recurrent)).chunk(2, -1)
    return (torch.lerp(h, torch.tanh(new + linear(r * h, candidate)), z),)


def lstm(gates: Tensor, state: State, weight: Tensor, bias: Tensor | None = None) -> State:
    """Compute one step of torch.nn.LSTM, which has four gates. Arguments as for `gru`."""
    h, memory = state
    i, f, g, o = (gates + linear(h, weight, bias)).chunk(4, -1)
    memory = torch.sigmoid(f) * memory + torch.sigmoid(i) * torch.tanh(g)
    return torch.sigmoid(o) * torch.tanh(memory), memory


CellName = Literal["gru", "lstm", "gru_paper"]
CELLS: dict[str, tuple[Callable[..., nn.Module], Callable[..., State]]] = {
    "gru": (nn.GRU, gru),
    "lstm": (nn.LSTM, lstm),
    "gru_paper": (PaperGRU, paper_gru),
}


class Recurrent(nn.Module):
    """A recurrent layer, which processes a whole sequence or one step.

    Args:
        inputs: width of the inputs.
        width: H, the width of the state.
        cell: gru, lstm (torch's) or gru_paper.
        bidirectional: whether a second cell reads the sequence backwards; the outputs are concatenated.

    Raises:
        ValueError: there is no such cell.
    """

    def __init__(self, inputs: int, width: int, *, cell: CellName = "gru", bidirectional: bool = False):
        super().__init__()
        if cell not in CELLS:
            raise ValueError(f"`model.cell` must be one of {', '.join(CELLS)}, but is {cell!r}.")
        make, self.advance = CELLS[cell]
        more = {} if make is PaperGRU else {"batch_first": True}
        self.layer = make(inputs, width, bidirectional=bidirectional, **more)
        self.width, self.parts, self.sides = width, 2 if cell == "lstm" else 1, 1 + bidirectional
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw orthogonal recurrent matrices (one for each gate) and Xavier-uniform input ones; set the biases.

        Biases are 0, but 1 for the forget gate of an LSTM.
        """
        for name, parameter in self.layer.named_parameters():
            if name.startswith("weight"):
                for gate in parameter.data.split(self.width):
                    (nn.init.orthogonal_ if "_hh_" in name else nn.init.xavier_uniform_)(gate)
            else:
                nn.init.zeros_(parameter)
                if self.parts == 2 and "_ih_" in name:
                    parameter.data[self.width : 2 * self.width] = 1.0

    def forward(
        self, x: Float[Tensor, "B N D"], state: State | None = None, *, valid: Bool[Tensor, "B N"] | None = None
    ) -> tuple[Float[Tensor, "B N SH"], State]:
        """Return the output at each place, and the last states of both directions, concatenated.

        Args:
            state: the state before the first input; None: zeros.
            valid: False for padding, which follows the sequence and is not read; None where there is none.
        """
        first = state or (x.new_zeros(len(x), self.sides * self.width),) * self.parts
        parts = [t.unflatten(-1, (self.sides, -1)).transpose(0, 1).contiguous() for t in first]
        if isinstance(self.layer, PaperGRU):
            y, end = self.layer(x, parts[0], valid)
            return y, (end.transpose(0, 1).flatten(1),)
        packed: Tensor | PackedSequence = x
        if valid is not None:
            packed = pack_padded_sequence(x, valid.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        y, ends = self.layer(packed, tuple(parts) if self.parts == 2 else parts[0])
        if valid is not None:
            y, _ = pad_packed_sequence(y, batch_first=True, total_length=x.shape[1])
        return y, tuple(end.transpose(0, 1).flatten(1) for end in (ends if self.parts == 2 else (ends,)))

    def project(self, x: Float[Tensor, "*rows D"], *, start: int = 0, bias: bool = False) -> Float[Tensor, "*rows G"]:
        """Return the contribution of the input channels from `start` on to the gates of one direction."""
        weight = cast(Tensor, self.layer.weight_ih_l0)[:, start : start + x.shape[-1]]
        return linear(x, weight, cast(Tensor, self.layer.bias_ih_l0) if bias else None)

    def step(self, gates: Float[Tensor, "B G"], state: State) -> State:
        """Return the next state of one direction from the input's contribution to the gates (see `project`)."""
        return self.advance(gates, state, self.layer.weight_hh_l0, getattr(self.layer, "bias_hh_l0", None))


class Additive(nn.Module):
    """Additive attention of a state over annotations: softmax_j of v . tanh(W s + U h_j) (Bahdanau et al. 2015, A.1.2).

    Args:
        width: width of the state.
        memory_width: width of the annotations.
        hidden: width of the hidden layer.
    """

    def __init__(self, width: int, memory_width: int, *, hidden: int):
        super().__init__()
        self.query = nn.Linear(width, hidden)
        self.key = nn.Linear(memory_width, hidden, bias=False)
        self.score = nn.Linear(hidden, 1, bias=False)

    def forward(
        self, s: Float[Tensor, "B D"], keys: Float[Tensor, "B M A"], bias: Float[Tensor, "B M"] | None
    ) -> Float[Tensor, "B M"]:
        """Return the attention weights of one state, which sum to one.

        Args:
            keys: `key` of the annotations, computed once.
            bias: minus infinity where an annotation is padding; None where there is no padding.
        """
        scores = self.score(torch.tanh(keys + self.query(s)[:, None]))[..., 0]
        return (scores if bias is None else scores + bias).softmax(-1)
