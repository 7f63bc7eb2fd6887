"""Attention to a memory: what padding it, keeping it, moving it and looking at it may change."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.parts import APPROXIMATIONS, PATTERNS, POSITIONS, SEQUENTIAL, WIDTH, stack
from properties.test_stacks import close

from tfcli.errors import IncompatibleError
from tfcli.nn.approximations import Linear, Linformer
from tfcli.nn.attention import Attention, Plan, set_kernel
from tfcli.nn.cache import Cache, Memory
from tfcli.nn.capture import capture
from tfcli.nn.cross import CrossAttention
from tfcli.nn.hashing import Reformer
from tfcli.nn.patterns import Causal, Within
from tfcli.nn.places import Places
from tfcli.nn.positions import Learned, Position
from tfcli.nn.relative import Alibi, Rope
from tfcli.nn.stack import Stack

kinds = st.sampled_from(list(POSITIONS))
lengths = st.integers(2, 9)


def decoder(n: int, *, cross=True, **more):
    return stack(extent=(n,), special=0, cross=cross, causal=True, **more)


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
        net, places = decoder(7, kind=kind, pattern=PATTERNS["sliding"]), Places.line(5, extent=7)
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


OTHER = 20
"""Width of a memory that is not the tokens'."""


def reader(n: int, **more) -> Stack:
    """A decoder whose memory has another width, and heads of two widths."""
    return decoder(n, cross=partial(CrossAttention, memory_width=OTHER, head_width=6, value_width=10, **more))


def in_stretches(starts: list[int], n: int) -> Places:
    """The places of memory tokens, each last before the words from its start to the next one's."""
    coords = torch.tensor(list(zip(starts, [*starts[1:], n], strict=True)))
    return Places(coords, torch.zeros(len(starts), dtype=torch.bool), (n, n + 1))


@settings(max_examples=25, deadline=None)
@given(
    starts=st.lists(st.integers(0, 8), min_size=1, max_size=4, unique=True).map(sorted),
    pattern=st.sampled_from(["full", "last"]),
    gated=st.booleans(),
    cuts=st.lists(st.integers(1, 8), max_size=3),
)
def test_a_memory_of_another_width_can_be_kept(starts, pattern, gated, cuts):
    net = reader(9, pattern=Within() if pattern == "last" else None, gated=gated)
    x, places, cache = torch.randn(2, 9, WIDTH), Places.grid(9), Cache()
    valid = torch.ones(2, len(starts), dtype=torch.bool)
    valid[0, 1:] = False
    memory = Memory(torch.randn(2, len(starts), OTHER), valid, in_stretches(starts, 9))
    parts = []
    for a, b in pairwise(sorted({0, 9, *cuts})):
        parts.append(net(x[:, a:b], places[a:b], cache=cache, memory=None if a else memory))
    before = net(x, places, memory=memory)
    close(torch.cat(parts, 1), before)
    for kernel in ("exact", "explicit", "flex"):
        set_kernel(net, kernel)
        close(net(x, places, memory=memory), before)
    with capture(net):
        close(net(x, places, memory=memory), before)
    shorter = Memory(memory.tokens[:1, :1], places=in_stretches(starts, 9)[:1])
    close(net(x[:1], places, memory=shorter), before[:1])


def test_each_text_has_its_images_at_places_of_its_own():
    """As of texts one by one, also with a cache and for samples that move."""
    net, x, places = reader(6, pattern=Within()), torch.randn(2, 6, WIDTH), Places.line(6)
    tokens, valid = torch.randn(2, 2, OTHER), torch.tensor([[True, True], [True, False]])
    own = [in_stretches([1, 3], 6), in_stretches([2, 6], 6)]
    both = Places(*(torch.stack([getattr(one, key) for one in own]) for key in ("coords", "special")), own[0].extent)
    alone = [net(x[i : i + 1], places, memory=Memory(tokens[i : i + 1], valid[i : i + 1], own[i])) for i in range(2)]
    memory, cache, rows = Memory(tokens, valid, both), Cache(), torch.tensor([1, 0, 1])
    close(net(x, places, memory=memory), torch.cat(alone))
    net(x[:, :3], Places.line(3, extent=6), cache=cache, memory=memory)
    cache.reorder(rows)
    later = net(x[rows, 3:], Places.line(3, start=3, extent=6), cache=cache)
    close(later, torch.cat(alone)[rows, 3:])


@pytest.mark.parametrize("pattern", ["windows", "sliding", "axial", "bigbird"])
def test_tokens_of_a_map_look_at_another_map_by_any_pattern(pattern):
    """By every kernel as by the mask: the map is the memory, and some of its places ask."""
    places = Places.grid(6, 6)
    some = torch.tensor([0, 2, 4, 12, 14, 35])
    net = CrossAttention(WIDTH, heads=2, memory_width=OTHER, pattern=PATTERNS[pattern]).eval()
    plan = Plan(places[some], memory=Memory(torch.randn(2, 36, OTHER), places=places))
    x = torch.randn(2, 6, WIDTH)
    before = net(x, plan)
    for kernel in ("explicit", "exact", "flex", "partition"):
        set_kernel(net, kernel)
        close(net(x, plan), before)
    q, k = net.q(x).unflatten(-1, (2, -1)).transpose(1, 2), net.kv(plan.memory.tokens)[..., :WIDTH]
    scores = q @ k.unflatten(-1, (2, -1)).transpose(1, 2).mT * (WIDTH / 2) ** -0.5
    seen = PATTERNS[pattern].mask(places[some], places)
    with capture(net) as trace:
        net(x, plan)
    close(trace.attention[""], scores.masked_fill(~seen, -torch.inf).softmax(-1))


def test_words_before_the_first_image_are_as_without_any():
    net = reader(6, pattern=Within())
    x, places = torch.randn(1, 6, WIDTH, requires_grad=True), Places.grid(6)
    for block in net.blocks:
        torch.nn.init.ones_(block.cross.out.bias)
    seen = {}
    for image in (0.0, 1.0):
        seen[image] = net(x, places, memory=Memory(torch.full((1, 2, OTHER), image), places=in_stretches([2, 4], 6)))
    same = (seen[0.0] == seen[1.0]).all(-1)[0]
    assert same[:2].all()
    assert not same[2:].any()
    seen[1.0].sum().backward()
    assert x.grad.isfinite().all()
    for block in net.blocks:
        torch.nn.init.zeros_(block.cross.out.weight)
        torch.nn.init.zeros_(block.cross.out.bias)
    blind = net(x, places, memory=Memory(torch.zeros(1, 2, OTHER), places=in_stretches([2, 4], 6)))
    close(blind[:, :2], seen[0.0][:, :2])


def test_a_long_memory_is_read_block_by_block_past_its_padding():
    """Flex leaves out blocks of the mask; a token that sees nothing, and padding, must not come back by it."""
    net = CrossAttention(WIDTH, heads=2, memory_width=OTHER, pattern=Within(), kernel="flex").eval()
    starts = list(range(10, 300, 2))
    valid = torch.rand(2, len(starts)) < 0.7
    plan = Plan(Places.line(300), memory=Memory(torch.randn(2, len(starts), OTHER), valid, in_stretches(starts, 300)))
    x = torch.randn(2, 300, WIDTH)
    by_blocks = net(x, plan)
    set_kernel(net, "explicit")
    close(by_blocks, net(x, plan))
    assert not by_blocks[:, :10].any()


def test_a_gate_starts_shut_and_opens():
    net, x, places = reader(4, gated=True), torch.randn(1, 4, WIDTH), Places.grid(4)
    memories = [Memory(torch.randn(1, 3, OTHER)) for _ in range(2)]
    assert torch.equal(*(net(x, places, memory=memory) for memory in memories))
    net(x, places, memory=memories[0]).sum().backward()
    gates = [block.cross.gate.alpha for block in net.blocks]
    assert all(gate.grad.abs() > 0 for gate in gates)
    with torch.no_grad():
        gates[0].fill_(1.0)
    assert not torch.equal(*(net(x, places, memory=memory) for memory in memories))


def test_positions_turn_the_keys_of_a_memory_too():
    """Tokens and memory that move together see each other as before; one that moves alone does not."""
    net = CrossAttention(WIDTH, heads=2, pos=Rope(WIDTH, heads=2, extent=(30,), special=0)).eval()
    x, memory = torch.randn(1, 4, WIDTH), torch.randn(1, 5, WIDTH)

    def read(start: int, other: int, cache: Cache | None = None) -> torch.Tensor:
        places = Places.line(5, start=other, extent=30)
        plan = Plan(Places.line(4, start=start, extent=30), memory=Memory(memory, places=places), cache=cache)
        return net(x, plan)

    close(read(0, 0), read(9, 9))
    assert not torch.allclose(read(0, 0), read(0, 9), atol=1e-3)
    cache = Cache()
    close(read(3, 1, cache), read(3, 1, cache))
    close(read(3, 1, cache), read(3, 1))


@pytest.mark.parametrize("name", ["linear", "performer"])
def test_some_approximations_can_look_at_a_memory(name):
    net = CrossAttention(WIDTH, heads=2, memory_width=OTHER, kernel=APPROXIMATIONS[name]).eval()
    x, memory = torch.randn(2, 4, WIDTH), torch.randn(2, 7, OTHER)
    valid = (torch.arange(7) < 5).expand(2, -1)
    padded, shorter = Memory(memory, valid), Memory(memory[:, :5])
    before = net(x, Plan(Places.line(4), memory=shorter))
    close(net(x, Plan(Places.line(4), memory=padded)), before)
    with capture(net) as trace:
        close(net(x, Plan(Places.line(4), memory=padded)), before)
    assert trace.attention[""].shape == (2, 2, 4, 7)


@pytest.mark.parametrize(
    ("kernel", "more", "message"),
    [
        (Reformer, {}, "reformer attention .* cannot look at a memory"),
        (Linformer, {}, "linformer attention .* cannot look at a memory"),
        (Linear, {"pattern": Causal()}, "takes a full pattern, but was given causal"),
        (Linear, {"dropout": 0.1}, "no weights to drop"),
        ("auto", {"pos": Learned(WIDTH, heads=2, extent=(4,), special=0)}, "Learned adds to the tokens"),
        (Linear, {"pos": Alibi(WIDTH, heads=2, extent=(4,), special=0)}, "positions that act on scores, as Alibi do"),
    ],
)
def test_what_cannot_look_at_a_memory_says_so(kernel, more, message):
    with pytest.raises(IncompatibleError, match=message):
        CrossAttention(WIDTH, heads=2, kernel=kernel, **more)


def test_a_memory_of_the_tokens_width_keeps_the_names_of_old_checkpoints():
    """And their order, by which optimizers keep their states."""
    names = [name for name, _ in decoder(4).blocks[0].named_parameters()]
    parts = ("norm1", "attention.qkv", "attention.out", "norm2", "mlp.fc1", "mlp.fc2")
    cross = ("cross.qkv", "cross.out", "cross_norm")
    assert names == [f"{part}.{kind}" for part in (*parts, *cross) for kind in ("weight", "bias")]


class KeysScore(Position):
    """Each key has a score of its own, as one half of DeBERTa's position has: what it says of one place."""

    applies_to = "scores"

    def scores(self, q, k, query, key):
        return k[..., :1].mT.expand(*q.shape[:3], -1)


@pytest.mark.parametrize("across", [False, True])
def test_a_position_sees_the_keys(across):
    """Keys that were cached, and those of a memory, as those of the moment."""
    cross = partial(CrossAttention, pos=KeysScore(WIDTH, heads=2, extent=(6,), special=0)) if across else True
    net = decoder(6, kind="none" if across else KeysScore, cross=cross)
    x, places, memory, cache = torch.randn(2, 6, WIDTH), Places.line(6), padded_memory(4), Cache()
    before = net(x, places, memory=memory)
    for i in range(6):
        close(net(x[:, i : i + 1], Places.line(1, start=i, extent=6), cache=cache, memory=memory), before[:, i : i + 1])
    without = decoder(6, kind="none")
    without.load_state_dict(net.state_dict(), strict=False)
    assert not torch.allclose(without(x, places, memory=memory), before, atol=1e-3)
