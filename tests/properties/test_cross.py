"""Attention to a memory: what padding it, keeping it, moving it and looking at it may change."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.parts import PATTERNS, POSITIONS, SEQUENTIAL, WIDTH, stack
from properties.test_stacks import close

from tfcli.nn.attention import Attention, set_kernel
from tfcli.nn.cache import Cache, Memory
from tfcli.nn.capture import capture
from tfcli.nn.patterns import Causal
from tfcli.nn.places import Places
from tfcli.nn.positions import Position
from tfcli.nn.stack import Stack

kinds = st.sampled_from(list(POSITIONS))
lengths = st.integers(2, 9)


def decoder(n: int, **more):
    return stack(extent=(n,), special=0, cross=True, causal=True, **more)


def padded_memory(m: int, *, batch: int = 2) -> Memory:
    """Every other sample's last token is padding."""
    valid = torch.ones(batch, m, dtype=torch.bool)
    valid[::2, m - 1] = False
    return Memory(torch.randn(batch, m, WIDTH), valid)


@settings(max_examples=25, deadline=None)
@given(
    kind=kinds,
    pattern=st.sampled_from(["full", *SEQUENTIAL]),
    n=lengths,
    m=lengths,
    post_norm=st.booleans(),
    cuts=st.lists(st.integers(1, 8), max_size=3),
)
def test_cached_decoding_with_a_memory_is_the_full_forward(kind, pattern, n, m, post_norm, cuts):
    net = decoder(n, kind=kind, pattern=PATTERNS[pattern], post_norm=post_norm)
    x, places, memory, cache = torch.randn(2, n, WIDTH), Places.grid(n), padded_memory(m), Cache()
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    parts = []
    for a, b in pairwise(edges):
        parts.append(net(x[:, a:b], places[a:b], cache=cache, memory=None if a else memory))
    close(torch.cat(parts, 1), net(x, places, memory=memory))


@settings(max_examples=25, deadline=None)
@given(n=lengths, m=lengths, more=st.integers(1, 5), post_norm=st.booleans())
def test_padding_of_the_memory_changes_nothing(n, m, more, post_norm):
    net, x, places = decoder(n, post_norm=post_norm), torch.randn(2, n, WIDTH), Places.grid(n)
    tokens = torch.randn(2, m, WIDTH)
    longer = torch.cat([tokens, torch.randn(2, more, WIDTH)], 1)
    valid = (torch.arange(m + more) < m).expand(2, -1)
    for kernel in ("exact", "explicit", "flex"):
        set_kernel(net, kernel)
        close(net(x, places, memory=Memory(longer, valid)), net(x, places, memory=Memory(tokens)))


@settings(max_examples=20, deadline=None)
@given(kind=kinds, n=lengths, m=lengths)
def test_kernels_agree_on_a_memory_and_capture_shows_its_weights(kind, n, m):
    net, x, places, memory = decoder(n, kind=kind), torch.randn(2, n, WIDTH), Places.grid(n), padded_memory(m)
    before = net(x, places, memory=memory)
    with capture(net) as trace:
        close(net(x, places, memory=memory), before)
    weights = trace.attention["blocks.1.cross"]
    assert weights.shape == (2, 2, n, m)
    close(weights.sum(-1), torch.ones(2, 2, n))
    assert not weights[0, :, :, m - 1].any()
    set_kernel(net, "explicit")
    close(net(x, places, memory=memory), before)


def test_a_memory_has_no_order_and_the_target_no_future():
    net, x, places, memory = decoder(6), torch.randn(1, 6, WIDTH), Places.grid(6), torch.randn(1, 5, WIDTH)
    before = net(x, places, memory=Memory(memory))
    close(net(x, places, memory=Memory(memory[:, torch.randperm(5)])), before)
    other = torch.cat([x[:, :3], torch.randn(1, 3, WIDTH)], 1)
    after = net(other, places, memory=Memory(memory))
    close(after[:, :3], before[:, :3])
    assert not torch.allclose(after[:, 3:], before[:, 3:], atol=1e-3)


@pytest.mark.parametrize("rows", [[1, 0, 2], [0, 0, 1, 1, 2, 2], [2, 0]])
def test_samples_that_move_take_their_memory_along(rows):
    net, x, places, memory = decoder(8), torch.randn(3, 8, WIDTH), Places.grid(8), padded_memory(5, batch=3)
    cache, rows = Cache(), torch.tensor(rows)
    net(x[:, :4], places[:4], cache=cache, memory=memory)
    cache.reorder(rows)
    cache.reorder(torch.arange(len(rows)))
    close(net(x[rows, 4:], places[4:], cache=cache), net(x, places, memory=memory)[rows, 4:])


def test_a_memory_is_projected_once_and_copied_only_for_another_sentence():
    net, memory, cache = decoder(6), padded_memory(5), Cache()
    calls = []
    keep = cache.keep
    cache.keep = lambda layer, make: keep(layer, lambda: calls.append(layer) or make())
    for i in range(4):
        net(torch.randn(2, 1, WIDTH), Places.line(1, start=i, extent=6), cache=cache, memory=memory)
    assert calls == [block.cross for block in net.blocks]
    kept = cache.memory.tokens
    cache.reorder(torch.tensor([0, 1]))
    assert cache.memory.tokens is kept
    cache.reorder(torch.tensor([0, 0, 1, 1]))
    kept = cache.memory.tokens
    cache.reorder(torch.tensor([1, 0, 2, 2]))  # beams change places within their sentences
    assert cache.memory.tokens is kept
    cache.reorder(torch.tensor([1, 2, 2, 2]))
    assert cache.memory.tokens is not kept


def test_a_step_asks_a_pattern_once_and_a_causal_one_not_at_all():
    asked = []

    class Counting(Causal):
        def mask(self, query, key):
            asked.append(len(query))
            return super().mask(query, key)

    net, cache = stack(pattern=Counting(), extent=(6,), special=0), Cache()
    for i in range(4):
        net(torch.randn(2, 1, WIDTH), Places.line(1, start=i, extent=6), cache=cache)
    assert not asked
    net, cache = stack(pattern=Counting(), extent=(6,), special=0), Cache()
    net(torch.randn(2, 2, WIDTH), Places.line(2, extent=6), cache=cache)
    net(torch.randn(2, 2, WIDTH), Places.line(2, start=2, extent=6), cache=cache)
    assert asked == [2]  # two tokens after two, for both layers; the first pass needs no mask


def test_what_validation_worked_out_serves_training():
    for kind in ("rope", "learned", "sinusoidal"):
        net, places = decoder(7, kind=kind, pattern=PATTERNS["window"]), Places.line(5, extent=7)
        places._memo.clear()
        x, memory = torch.randn(2, 5, WIDTH), padded_memory(4)
        with torch.inference_mode():
            net(x, places, memory=memory)
        net(x, places, memory=memory).sum().backward()


def test_cross_attention_has_biases_where_self_attention_has():
    for biased in (True, False):
        attn = partial(Attention, bias=biased)
        net = Stack(8, depth=1, heads=2, attn=attn, pos=Position, extent=(4,), cross=True, causal=True)
        assert (net.blocks[0].cross.qkv.bias is not None) is biased
        assert net(torch.randn(1, 4, 8), Places.line(4), memory=Memory(torch.randn(1, 3, 8))).shape == (1, 4, 8)
