"""GPT: what it reads, how it starts, and what its heads make of several sequences."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.errors import DataError
from tfcli.models.gpt import GPT
from tfcli.nn.attention import Attention
from tfcli.nn.cache import Cache
from tfcli.nn.patterns import Causal, Full, SlidingWindow, Windows
from tfcli.nn.positions import Learned
from tfcli.nn.relative import Rope


def gpt(**changes) -> GPT:
    torch.manual_seed(0)
    sizes = {"width": 24, "vocab_size": 13, "depth": 2, "heads": 4, "context": 12, "attn": Attention, "pos": Learned}
    return GPT(**{**sizes, **changes}).eval()


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(0, 13, (3, 10), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("post_norm", [False, True])
def test_logits_come_from_the_last_tokens_and_the_embeddings(tokens, post_norm):
    net = gpt(post_norm=post_norm)
    assert_close(net(tokens), net.features(tokens).tokens @ net.embed.weight.T)
    names = [name for name, _ in net.named_parameters() if "norm" in name]
    assert ("stack.norm.weight" in names) != post_norm
    assert not any(name.startswith("head") for name, _ in net.named_parameters())


@pytest.mark.parametrize("pattern", [None, Windows(4), SlidingWindow(5)])
def test_nothing_that_follows_is_seen_whatever_the_pattern(tokens, pattern):
    net = gpt(attn=lambda width, **rest: Attention(width, **{"pattern": pattern, **rest}))
    other = tokens.clone()
    other[:, 6:] = (other[:, 6:] + 1) % 13
    assert_close(net(other)[:, :6], net(tokens)[:, :6])
    assert (net(other)[:, 6:] - net(tokens)[:, 6:]).abs().max() > 1e-3


@pytest.mark.parametrize("pos", [Learned, Rope])
def test_tokens_one_by_one_give_what_all_at_once_give(tokens, pos):
    net, cache = gpt(pos=pos), Cache()
    pieces = [net(piece, cache) for piece in tokens.split([4, 1, 1, 3, 1], 1)]
    assert_close(torch.cat(pieces, 1), net(tokens), atol=1e-5, rtol=1e-5)


def test_the_context_is_the_limit_with_and_without_a_cache(tokens):
    net, cache = gpt(context=8), Cache()
    net(tokens[:, :8], cache)
    with pytest.raises(DataError, match="sequence of 9 tokens is longer than the model's context of 8"):
        net(tokens[:, :1], cache)
    with pytest.raises(DataError, match="sequence of 10 tokens"):
        net(tokens)


def test_branches_that_meet_on_the_residual_start_smaller_the_more_there_are():
    """Each N(0, 0.02^2 / 2 L): the deviation of the sum stays what one branch alone would have (GPT-2, section 2.3)."""
    deep, post = gpt(width=96, depth=8, heads=4), gpt(width=96, depth=8, heads=4, post_norm=True)
    for name in ("attention.out", "mlp.fc2"):
        weight = deep.get_parameter(f"stack.blocks.3.{name}.weight")
        assert weight.std().item() == pytest.approx(0.02 / 4, rel=0.03)
        assert post.get_parameter(f"stack.blocks.3.{name}.weight").std().item() == pytest.approx(0.02, rel=0.03)
    for name in ("embed.weight", "stack.blocks.3.attention.qkv.weight", "stack.positions.0.table"):
        assert deep.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.1)


def test_the_last_valid_token_is_read_and_padding_changes_nothing(tokens):
    net = gpt(head="classes", num_classes=3)
    valid = torch.tensor([10, 4, 1])[:, None] > torch.arange(10)
    found = net.classify(tokens, valid)
    for row, length in enumerate((10, 4, 1)):
        assert_close(found[row], net.classify(tokens[row : row + 1, :length])[0], atol=1e-6, rtol=1e-5)


def test_similarity_does_not_know_which_text_came_first(tokens):
    """The two orders of a pair through the same net, their extract vectors added (GPT-1, section 3.3)."""
    net = gpt(head="score")
    both = torch.stack([tokens, tokens.flip(1)], 1)
    assert net.classify(both).shape == (3,)
    assert_close(net.classify(both), net.classify(both.flip(1)))
    single = net.features(tokens).pooled + net.features(tokens.flip(1)).pooled
    assert_close(net.classify(both), net.head(single)[:, 0])


def test_choices_are_scored_each_on_its_own(tokens):
    net = gpt(head="choice")
    choices = torch.stack([tokens, tokens.flip(1), tokens.roll(1, 1)], 1)
    scores = net.classify(choices)
    assert scores.shape == (3, 3)
    assert_close(net.classify(choices.flip(1)), scores.flip(1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vocab_size": None}, r"`model\.vocab_size` must be a number"),
        ({"head": "classes"}, r"`model\.num_classes` must be a number for a head of classes"),
        ({"heads": 5}, "`heads` must divide `width`"),
    ],
)
def test_what_cannot_be_built_is_said(changes, said):
    with pytest.raises(ValueError, match=said):
        gpt(**changes)


def test_layers_are_numbered_from_the_embeddings_up():
    net = gpt(head="classes", num_classes=2)
    layers = {name: net.layer_of(name) for name, _ in net.named_parameters()}
    assert layers["embed.weight"] == layers["stack.positions.0.table"] == 0
    assert layers["stack.blocks.1.mlp.fc1.weight"] == net.layers == 2
    assert layers["stack.norm.weight"] == layers["head.weight"] == 3


def test_layers_of_gpt3_are_dense_and_banded_in_turn():
    config = compose("train", ["model=gpt3_small", "attn.patterns.banded.size=64", "model.vocab_size=100"]).config
    with torch.device("meta"):
        net = build(config.model)
    assert [a.pattern for a in net.stack.attentions] == [Full() & Causal(), SlidingWindow(64) & Causal()] * 6
