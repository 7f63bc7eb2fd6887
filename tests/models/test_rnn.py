"""Recurrent translators: cells and attention against closed forms and PyTorch's, padding, steps, beams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tfcli.models.rnn import RNN
from tfcli.nn.capture import capture
from tfcli.nn.recurrent import CELLS, Additive, Recurrent

H, E, V = 6, 5, 13
KINDS = [(cell, attention) for cell in CELLS for attention in ("none", "additive")]
SOURCE = torch.randint(0, V, (3, 7), generator=torch.Generator().manual_seed(1))
TOKENS = torch.randint(0, V, (3, 4), generator=torch.Generator().manual_seed(2))
LENGTHS = torch.tensor([7, 4, 1])
VALID = torch.arange(7) < LENGTHS[:, None]


def model(cell: str = "gru", attention: str = "additive", **changes) -> RNN:
    torch.manual_seed(0)
    net = RNN(H, vocab_size=V, embed_width=E, cell=cell, attention=attention, **changes).eval()
    for parameter in net.parameters():  # what starts at zero would hide a mistake
        nn.init.normal_(parameter, std=0.5)
    return net


def close(mine, other) -> None:
    torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("cell", "attention"), KINDS)
@torch.no_grad()
def test_padding_changes_nothing_and_each_sentence_is_alone(cell, attention):
    net = model(cell, attention)
    together = net(SOURCE, TOKENS, valid=VALID)
    longer = torch.cat([SOURCE, torch.randint(0, V, (3, 3))], 1)
    close(net(longer, TOKENS, valid=torch.arange(10) < LENGTHS[:, None]), together)
    for row, length in enumerate(LENGTHS.tolist()):
        close(net(SOURCE[row : row + 1, :length], TOKENS[row : row + 1])[0], together[row])


@pytest.mark.parametrize(("cell", "attention"), KINDS)
@torch.no_grad()
def test_steps_are_the_whole_and_rows_may_move(cell, attention):
    net = model(cell, attention)
    whole = net(SOURCE, TOKENS, valid=VALID)
    state = net.begin(SOURCE, VALID)
    for place in range(4):
        close(net.step(TOKENS[:, place], state), whole[:, place])
    for rows in ([0, 0, 1, 1, 2, 2], [2, 0]):
        state, rows = net.begin(SOURCE, VALID), torch.tensor(rows)
        net.step(TOKENS[:, 0], state)
        state.reorder(rows)
        before = state.source
        state.reorder(torch.arange(len(rows)))
        assert state.source is before  # only another sentence's row makes a copy
        for place in range(1, 4):
            close(net.step(TOKENS[rows, place], state), whole[rows, place])


@pytest.mark.parametrize("cell", CELLS)
def test_every_option_trains(cell):
    for more in (
        {"attention": "none", "bidirectional": False, "tied": True},
        {"bidirectional": False, "align_width": 3, "output_width": 4, "target_vocab_size": V + 2},
        {"paper_init": True, "dropout": 0.2},
    ):
        net = RNN(H, vocab_size=V, embed_width=E, cell=cell, **{"attention": "additive", **more}).train()
        out = net(SOURCE, TOKENS, valid=VALID)
        assert out.shape == (3, 4, more.get("target_vocab_size", V))
        out.square().sum().backward()
        idle = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert not idle


@pytest.mark.parametrize(("cell", "theirs"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
@torch.no_grad()
def test_cells_are_torchs_at_once_and_step_by_step(cell, theirs):
    torch.manual_seed(0)
    other, x = theirs(E, H, batch_first=True, bidirectional=True), torch.randn(3, 7, E)
    ours = Recurrent(E, H, cell=cell, bidirectional=True)
    ours.layer.load_state_dict(other.state_dict())
    for row, length in enumerate(LENGTHS.tolist()):
        y, (end, *_) = ours(x, valid=VALID)
        expected, last = other(x[row : row + 1, :length])
        close(y[row, :length], expected[0])
        close(end[row], (last if cell == "gru" else last[0])[:, 0].flatten())
    state = (torch.zeros(3, H),) * ours.parts
    for place in range(7):
        state = ours.step(ours.project(x[:, place], bias=True), state)
        close(state[0], other(x)[0][:, place, :H])


@torch.no_grad()
def test_the_papers_cell_follows_its_formula():
    torch.manual_seed(0)
    ours, x = Recurrent(E, H, cell="gru_paper"), torch.randn(1, 5, E)
    nn.init.normal_(ours.layer.bias_ih_l0)
    w, u, b = (p.numpy().reshape(3, H, -1) for p in ours.layer.parameters())
    b, s = b[..., 0], np.zeros(H)
    sigmoid = lambda t: 1 / (1 + np.exp(-t))  # noqa: E731
    y, _ = ours(x)
    for place, e in enumerate(x[0].numpy()):
        r, z = (sigmoid(w[i] @ e + u[i] @ s + b[i]) for i in (0, 1))
        s = (1 - z) * s + z * np.tanh(w[2] @ e + u[2] @ (r * s) + b[2])
        assert y[0, place].numpy() == pytest.approx(s, abs=1e-5)


@torch.no_grad()
def test_additive_attention_follows_its_formula():
    torch.manual_seed(0)
    net, s, h = Additive(H, 4, hidden=3), torch.randn(2, H), torch.randn(2, 5, 4)
    w, b, u, v = (p.numpy() for p in (net.query.weight, net.query.bias, net.key.weight, net.score.weight[0]))
    bias = torch.zeros(2, 5)
    bias[1, 3:] = -torch.inf
    found = net(s, net.key(h), bias).numpy()
    for row, length in ((0, 5), (1, 3)):
        e = np.array([v @ np.tanh(w @ s[row].numpy() + b + u @ h[row, j].numpy()) for j in range(length)])
        assert found[row, :length] == pytest.approx(np.exp(e) / np.exp(e).sum(), abs=1e-6)
        assert not found[row, length:].any()


@pytest.mark.parametrize(("cell", "theirs"), [("gru", nn.GRU), ("lstm", nn.LSTM)])
@torch.no_grad()
def test_uniform_attention_is_torchs_cell_with_the_mean_as_context(cell, theirs):
    net = model(cell)
    nn.init.zeros_(net.attention.score.weight)
    other = theirs(E + 2 * H, H, batch_first=True)
    other.load_state_dict(net.decoder.layer.state_dict())
    x = net.words.source(SOURCE[:1])
    annotations, ends = net.encoder.layer(x)
    backward = (ends if cell == "gru" else ends[0])[1]  # has read the first word last
    first = torch.tanh(net.start(backward))[None].chunk(net.decoder.parts, -1)
    y = net.words.target(TOKENS[:1])
    mean = annotations.mean(1, keepdim=True).expand(-1, 4, -1)
    hidden, _ = other(torch.cat([y, mean], -1), first if cell == "lstm" else first[0])
    deep = net.readout(torch.cat([hidden, y, mean], -1)).unflatten(-1, (-1, 2)).amax(-1)
    close(net(SOURCE[:1], TOKENS[:1]), net.words.logits(deep))


@torch.no_grad()
def test_capture_sees_the_alignment():
    net = model()
    with capture(net) as trace:
        net(SOURCE, TOKENS, valid=VALID)
    weights = trace.attention["alignment"]
    assert weights.shape == (3, 1, 4, 7)
    close(weights.sum(-1), torch.ones(3, 1, 4))
    assert not weights.mT[:, 0][~VALID].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vocab_size": None}, ["model.vocab_size"]),
        ({"tied": True, "output_width": 7}, ["model.tied=false", "7"]),
    ],
)
def test_wrong_options_say_what_they_must_be(options, words):
    with pytest.raises(ValueError) as error:
        RNN(H, **{"vocab_size": V, "embed_width": E, **options})
    assert all(word in str(error.value) for word in words)
