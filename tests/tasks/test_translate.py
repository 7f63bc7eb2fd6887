"""Translation: the loss by its formulas, pairs as ids, searches that do not mind the batch; what attention is for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from tfcli.data.synthetic.symbols import reversal
from tfcli.data.views.translations import Translations
from tfcli.models.rnn import RNN
from tfcli.models.transformer import Transformer
from tfcli.nn.attention import Attention
from tfcli.nn.capture import capture
from tfcli.nn.positions import Sinusoidal
from tfcli.tasks.schedule import inverse_sqrt
from tfcli.tasks.translate import smoothed_loss, translate
from tfcli.text import tokenizer as tokenizers

V, START, STOP = 17, 2, 3
NETS = {
    "transformer": lambda: Transformer(16, vocab_size=V, depth=2, heads=2, context=12, attn=Attention, pos=Sinusoidal),
    "rnn": lambda: RNN(8, vocab_size=V, embed_width=6),
    "rnn with attention": lambda: RNN(8, vocab_size=V, embed_width=6, attention="additive"),
}


@pytest.mark.parametrize(("mode", "others"), [("torch", V), ("t2t", V - 1)])
def test_smoothed_labels_follow_their_convention(mode, others):
    torch.manual_seed(0)
    logits, target = torch.randn(3, 5, V), torch.randint(0, V, (3, 5))
    target[0, 2:] = target[2, 4:] = -100
    logs, seen = logits.log_softmax(-1), target >= 0
    labels = torch.full((3, 5, V), 0.1 / others)
    right = torch.nn.functional.one_hot(target.clamp(min=0), V)
    labels = labels + (0.9 if mode == "torch" else 0.9 - 0.1 / others) * right
    assert labels.sum(-1) == pytest.approx(torch.ones(3, 5), abs=1e-5)
    expected = -(labels * logs).sum(-1)[seen].mean()
    assert smoothed_loss(logits, target, smoothing=0.1, mode=mode) == pytest.approx(expected.item(), abs=1e-5)
    plain = cross_entropy(logits[seen], target[seen])
    assert smoothed_loss(logits, target, smoothing=0.0, mode=mode) == pytest.approx(plain.item(), abs=1e-5)


def test_the_learning_rate_is_the_papers():
    width, warmup = 512, 4000
    for step in (1, 100, 3999, 4000, 4001, 50_000):
        paper = width**-0.5 * min(step**-0.5, step * warmup**-1.5)
        factor = inverse_sqrt(step - 1, total=100_000, epoch=1000, warmup_steps=warmup)
        assert (width * warmup) ** -0.5 * factor == pytest.approx(paper)


def test_a_target_is_read_from_its_start_and_said_to_its_end():
    tokenizer = tokenizers.make("words", texts=["a b c d"], vocab_size=None)
    rows = {"source": ["a b", "c"], "target": ["b", "c d a"]}
    batch = Translations().encode(rows, tokenizer, length=None, train=True).batch(np.arange(2), seed=0, epoch=0)
    a, b, c, d = (tokenizer.encode([word])[0][0] for word in "abcd")
    start, end, pad = tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id
    assert batch["source"].tolist() == [[a, b, end], [c, end, pad]]
    assert batch["valid"].tolist() == [[True, True, True], [True, True, False]]
    assert batch["tokens"].tolist() == [[start, b, pad, pad], [start, c, d, a]]
    assert batch["target"].tolist() == [[b, end, -100, -100], [c, d, a, end]]


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("name", NETS)
def test_a_sentence_is_translated_as_if_it_were_alone(name, beams):
    torch.manual_seed(1)
    net, lengths = NETS[name]().eval(), [7, 2, 4]
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    source = torch.randint(4, V, (3, 7))
    valid = torch.arange(7) < torch.tensor(lengths)[:, None]
    options = {"start": START, "stop": STOP, "beams": beams, "longer": 4, "longest": 10}
    together = translate(net, source, valid, **options)
    for row, length in enumerate(lengths):
        (alone,) = translate(net, source[row : row + 1, :length], valid[row : row + 1, :length], **options)
        assert [one.tokens for one in together[row]] == [one.tokens for one in alone]
        assert len(alone) == beams
        assert all(len(one.tokens) <= min(length + 4, 10) for one in alone)


def learned(attention: str, *, steps: int) -> tuple[RNN, float]:
    """A network trained to turn strings of 20 letters round, and how many of the longest it turns to the letter."""
    torch.manual_seed(0)
    letter = {chr(ord("a") + i): i + 4 for i in range(20)}

    def pairs(split: str, indices: np.ndarray, longest: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        strings = reversal(0, split, indices, shortest=4, longest=longest)["source"]
        ids = [[letter[c] for c in string.split()] for string in strings]
        source = torch.tensor([[*row, STOP] + [0] * (12 - len(row)) for row in ids])
        target = torch.tensor([[*row[::-1], STOP] + [-100] * (12 - len(row)) for row in ids])
        return source, source > 0, target

    net = RNN(64, vocab_size=24, embed_width=64, attention=attention, tied=True)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    rate = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, steps)
    for step in range(steps):
        source, valid, target = pairs("train", np.arange(64 * step, 64 * step + 64), 12)
        start = torch.full((64, 1), START)
        logits = net(source, torch.cat([start, target[:, :-1].clamp(min=0)], 1), valid=valid)
        smoothed_loss(logits, target, smoothing=0.0).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
    source, valid, target = pairs("test", np.arange(2000), 12)
    long = valid.sum(1) >= 12  # 11 and 12 letters, and the end mark
    found = translate(net.eval(), source[long], valid[long], start=START, stop=STOP, beams=1)
    right = [row[row > STOP].tolist() for row in target[long]]
    return net, sum(one[0].tokens == other for one, other in zip(found, right, strict=True)) / len(right)


@pytest.mark.slow
def test_long_strings_are_turned_round_with_attention_alone_and_its_alignment_is_the_other_diagonal():
    steps = 150
    net, exact = learned("additive", steps=steps)
    _, without = learned("none", steps=steps)
    assert exact >= 0.9, (exact, without)
    assert without <= 0.4, (exact, without)
    source = torch.randint(4, 24, (100, 12))
    tokens = torch.cat([torch.full((100, 1), START), source.flip(1)[:, :-1]], 1)
    with capture(net) as trace, torch.no_grad():
        net(torch.cat([source, torch.full((100, 1), STOP)], 1), tokens)
    looked_at = trace.attention["alignment"][:, 0].argmax(-1)
    assert (looked_at == torch.arange(11, -1, -1)).float().mean() >= 0.9
