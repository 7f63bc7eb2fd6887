"""BERT: what it reads, how many parameters each head leaves it, and that padding is not seen."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tfcli.errors import DataError
from tfcli.models.bert import BERT
from tfcli.nn.attention import Attention
from tfcli.nn.positions import Learned


def bert(**changes) -> BERT:
    torch.manual_seed(0)
    sizes = {"width": 24, "vocab_size": 13, "depth": 2, "heads": 4, "context": 12, "attn": Attention, "pos": Learned}
    return BERT(**{**sizes, **changes}).eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 13, (3, 10), generator=torch.Generator().manual_seed(1))


SHAPES = {"classes": (3, 5), "score": (3,), "span": (3, 10, 2), "tags": (3, 10, 5), None: (3, 10, 24)}


@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("head", [*SHAPES, "pretrain"])
def test_padding_and_what_stands_in_it_change_nothing(tokens, head, pool):
    net = bert(head=head, num_classes=5, pool=pool)
    lengths = torch.tensor([10, 4, 7])[:, None]
    valid = torch.arange(10) < lengths
    segments = (torch.arange(10) >= 3).long().expand(3, 10)
    out = net(tokens, segments, valid)
    assert out.shape == SHAPES.get(head, (3, 10, 13))
    other = torch.where(valid, tokens, (tokens + 1) % 13)
    for row, length in enumerate(lengths.flatten().tolist()):
        alone = net(tokens[row : row + 1, :length], segments[row : row + 1, :length])[0]
        for found in (out, net(other, segments, valid)):
            assert_close(found[row][: len(alone)] if alone.ndim > 1 else found[row], alone, atol=1e-5, rtol=1e-5)


def test_the_pooler_reads_the_first_token_or_the_mean(tokens):
    for pool, read in (("class", lambda hidden: hidden[:, 0]), ("mean", lambda hidden: hidden.mean(1))):
        net = bert(pool=pool)
        features = net.features(tokens)
        assert_close(features.pooled, net.pooler(read(features.tokens)).tanh())


def test_segments_are_told_apart_and_tokens_see_what_follows(tokens):
    net = bert(head=None)
    assert (net(tokens) - net(tokens, torch.ones_like(tokens))).abs().max() > 1e-3
    other = tokens.clone()
    other[:, 9] = (other[:, 9] + 1) % 13
    assert (net(tokens) - net(other))[:, 0].abs().max() > 1e-4


def test_masked_logits_of_some_places_are_those_of_all(tokens):
    net = bert()
    hidden = net.features(tokens).tokens
    where = torch.zeros(3, 10, dtype=torch.bool)
    where[0, 2] = where[2, 7] = True
    assert_close(net.masked_logits(hidden[where]), net(tokens)[where])
    assert net.next_logits(net.features(tokens).pooled).shape == (3, 2)


def test_choices_are_scored_each_on_its_own(tokens):
    net = bert(head="choice")
    choices = torch.stack([tokens, tokens.flip(1)], 1)
    assert net(choices).shape == (3, 2)
    assert_close(net(choices.flip(1)), net(choices).flip(1))


@pytest.mark.parametrize(
    ("sizes", "head", "vocab_size", "count"),
    [
        ("base", None, 30_522, 109_482_240),
        ("base", None, 28_996, 108_310_272),
        ("large", None, 30_522, 335_141_888),
        ("large", None, 28_996, 333_579_264),
        ("base", "classes", 30_522, 109_483_778),
        ("base", "span", 30_522, 108_893_186),
        ("base", "pretrain", 28_996, 108_932_934),
        ("large", "pretrain", 30_522, 336_226_108),
    ],
)
def test_parameters_of_the_published_models(sizes, head, vocab_size, count):
    widths = {"base": (768, 12, 12), "large": (1024, 24, 16)}[sizes]
    width, depth, heads = widths
    with torch.device("meta"):
        net = bert(width=width, depth=depth, heads=heads, context=512, vocab_size=vocab_size, head=head, num_classes=2)
    assert sum(p.numel() for p in net.parameters()) == count


def test_what_cannot_be_read_is_said(tokens):
    with pytest.raises(DataError, match="sequence of 10 tokens is longer than the model's context of 8"):
        bert(context=8)(tokens)


def test_layers_are_numbered_from_the_embeddings_up():
    net = bert(head="classes", num_classes=2)
    layers = {name: net.layer_of(name) for name, _ in net.named_parameters()}
    stem = ("embed.weight", "segment_embed.weight", "stack.positions.0.table", "stack.stem_norm.weight")
    assert {layers[name] for name in stem} == {0}
    assert layers["stack.blocks.1.norm2.bias"] == net.layers == 2
    assert layers["pooler.weight"] == layers["head.weight"] == 3
