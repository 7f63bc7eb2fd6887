"""A stack of any position, pattern and kernel: what permuting, shifting, hiding and remembering tokens may change."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.parts import APPROXIMATIONS, PATTERNS, POSITIONS, SEQUENTIAL, SHIFTLESS, WIDTH, stack

from tfcli.errors import IncompatibleError
from tfcli.nn.cache import Cache
from tfcli.nn.places import Places

extents = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)
kinds = st.sampled_from(list(POSITIONS))


def close(ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def fitting(extent: tuple[int, ...], pattern: str) -> tuple[int, ...]:
    return (*extent, 2) if pattern == "axial" and len(extent) == 1 else extent


@settings(max_examples=80, deadline=None)
@given(extent=extents, special=st.integers(0, 2), kind=kinds, pattern=st.sampled_from(list(PATTERNS)), data=st.data())
def test_permuting_tokens_with_their_places_permutes_the_output(extent, special, kind, pattern, data):
    extent = fitting(extent, pattern)
    at = data.draw(st.sampled_from(getattr(POSITIONS[kind], "func", POSITIONS[kind]).placements))
    net = stack(kind=kind, pattern=PATTERNS[pattern], extent=extent, special=special, at=at)
    places = Places.grid(*extent, special=special)
    x = torch.randn(2, len(places), WIDTH)
    shuffle = torch.randperm(len(places))
    close(net(x, places)[:, shuffle], net(x[:, shuffle], places[shuffle]))


@settings(max_examples=25, deadline=None)
@given(name=st.sampled_from([n for n in APPROXIMATIONS if n != "reformer"]), n=st.integers(2, 9), causal=st.booleans())
def test_the_same_of_approximations(name, n, causal):
    """But Reformer's, whose chunks depend on the order in which equal buckets come."""
    pattern = "causal" if causal and "linformer" not in name else "full"
    net = stack(kind="learned", pattern=PATTERNS[pattern], kernel=APPROXIMATIONS[name], extent=(n,), special=0)
    places = Places.grid(n)
    x = torch.randn(2, n, WIDTH)
    shuffle = torch.randperm(n)
    close(net(x, places)[:, shuffle], net(x[:, shuffle], places[shuffle]))


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(SHIFTLESS),
    pattern=st.sampled_from(["full", "causal", "sliding", "dilated", "causal sliding"]),
    shift=st.lists(st.integers(0, 3), min_size=2, max_size=2),
)
def test_relative_kinds_ignore_a_shift(kind, pattern, shift):
    net = stack(kind=kind, pattern=PATTERNS[pattern], extent=(6, 6), special=0)
    here = Places.grid(3, 3)
    places = Places(here.coords, here.special, (6, 6))
    shifted = Places(here.coords + torch.tensor(shift), here.special, (6, 6))
    x = torch.randn(1, 9, WIDTH)
    close(net(x, shifted), net(x, places))


@pytest.mark.parametrize("kind", ["learned", "learned2d", "random", "sinusoidal"])
def test_absolute_kinds_do_not(kind):
    net = stack(kind=kind, extent=(6,), special=0)
    x, here = torch.randn(1, 3, WIDTH), Places.grid(6)
    assert not torch.allclose(net(x, here[:3]), net(x, here[3:]), atol=1e-3)


@pytest.mark.parametrize("kind", [kind for kind in POSITIONS if kind != "none"])
def test_every_kind_tells_places_apart(kind):
    """Two tokens change places: without positions the third cannot notice."""
    for extent in ((6,), (2, 3)):
        x, places = torch.randn(1, 6, WIDTH), Places.grid(*extent)
        swapped = x[:, [1, 0, 2, 3, 4, 5]]
        moved = {name: stack(kind=name, extent=extent, special=0) for name in ("none", kind)}
        close(moved["none"](x, places)[:, 2], moved["none"](swapped, places)[:, 2])
        assert not torch.allclose(moved[kind](x, places)[:, 2], moved[kind](swapped, places)[:, 2], atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(kind=kinds, pattern=st.sampled_from(SEQUENTIAL), n=st.integers(2, 9), data=st.data())
def test_causal_outputs_ignore_the_future(kind, pattern, n, data):
    cut = data.draw(st.integers(1, n - 1))
    net = stack(kind=kind, pattern=PATTERNS[pattern], extent=(n,), special=0)
    hidden(net, n, cut)


@settings(max_examples=30, deadline=None)
@given(name=st.sampled_from(["linear", "performer"]), n=st.integers(2, 300), data=st.data())
def test_causal_approximations_ignore_the_future(name, n, data):
    """Over several chunks, too. (Reformer's future moves the borders of its chunks.)"""
    cut = data.draw(st.integers(1, n - 1))
    hidden(stack(pattern=PATTERNS["causal"], kernel=APPROXIMATIONS[name], extent=(n,), special=0), n, cut)


def hidden(net, n: int, cut: int) -> None:
    x = torch.randn(1, n, WIDTH)
    other = x.clone()
    other[:, cut:] = torch.randn(1, n - cut, WIDTH)
    places = Places.grid(n)
    close(net(x, places)[:, :cut], net(other, places)[:, :cut])


@settings(max_examples=40, deadline=None)
@given(
    kind=kinds,
    pattern=st.sampled_from([*SEQUENTIAL, "linear", "performer"]),
    n=st.integers(2, 10),
    cuts=st.lists(st.integers(1, 9), max_size=3),
)
def test_cached_decoding_is_the_full_forward(kind, pattern, n, cuts):
    more = {"pattern": PATTERNS["causal"], "kernel": APPROXIMATIONS[pattern]} if pattern in APPROXIMATIONS else {}
    if more and kind not in ("none", "learned", "learned2d", "random", "sinusoidal"):
        kind = "learned"
    net = stack(kind=kind, **(more or {"pattern": PATTERNS[pattern]}), extent=(n,), special=0)
    x, places, cache = torch.randn(2, n, WIDTH), Places.grid(n), Cache()
    edges = sorted({0, n, *(cut for cut in cuts if cut < n)})
    parts = [net(x[:, a:b], places[a:b], cache=cache) for a, b in pairwise(edges)]
    close(torch.cat(parts, 1), net(x, places))
    assert len(cache) == n


def test_a_cache_grows_in_few_copies_follows_beams_and_remembers_padding():
    n = 20
    net = stack(kind="rope", pattern=PATTERNS["causal"], extent=(n,), special=0)
    x, places = torch.randn(3, n, WIDTH), Places.grid(n)
    valid = torch.ones(3, n, dtype=torch.bool)
    valid[1, :2] = False  # a shorter prompt, padded on its left
    cache = Cache()
    steps = [net(x[:, :4], places[:4], valid=valid[:, :4], cache=cache)]
    steps += [net(x[:, i : i + 1], places[i : i + 1], cache=cache) for i in range(4, n)]
    whole = net(x, places, valid=valid)
    close(torch.cat(steps, 1)[valid], whole[valid])

    beams, rows = Cache(), torch.tensor([2, 2, 0])
    net(x[:, :5], places[:5], cache=beams)
    beams.reorder(rows)
    mixed = torch.cat([x[rows, :5], x[:, 5:6]], 1)
    close(net(x[:, 5:6], places[5:6], cache=beams)[:, 0], net(mixed, places[:6])[:, 5])


@pytest.mark.parametrize("pattern", ["full", "sliding", "longformer", "prefix"])
def test_patterns_that_look_ahead_are_refused_a_cache(pattern):
    net = stack(pattern=PATTERNS[pattern], extent=(8,), special=0)
    x, places, cache = torch.randn(1, 8, WIDTH), Places.grid(8), Cache()
    net(x[:, :1], places[:1], cache=cache)
    if pattern == "prefix":  # it looks ahead within its prefix alone
        cache = Cache()
        net(x[:, :3], places[:3], cache=cache)
        close(net(x[:, 3:], places[3:], cache=cache), net(x, places)[:, 3:])
        return
    with pytest.raises(IncompatibleError, match="only for a causal pattern"):
        net(x[:, 1:2], places[1:2], cache=cache)


@settings(max_examples=30, deadline=None)
@given(
    kind=kinds,
    pattern=st.sampled_from(
        ["full", "causal", "sliding", "bigbird", *(n for n in APPROXIMATIONS if "former" not in n)]
    ),
    n=st.integers(3, 9),
    length=st.integers(1, 8),
)
def test_padding_changes_nothing(kind, pattern, n, length):
    length = min(length, n - 1)
    if pattern in APPROXIMATIONS:
        kind, more = "learned", {"kernel": APPROXIMATIONS[pattern]}
    else:
        more = {"pattern": PATTERNS[pattern]}
    net = stack(kind=kind, extent=(n,), special=0, **more)
    places, x = Places.grid(n), torch.randn(1, n, WIDTH)
    valid = (torch.arange(n) < length)[None]
    alone = net(x[:, :length], places[:length])
    close(net(x, places, valid=valid)[:, :length], alone)
    assert net(x, places, valid=valid).isfinite().all()


@settings(max_examples=40, deadline=None)
@given(
    kind=kinds,
    pattern=st.sampled_from(["full", "causal", "sliding", "bigbird", *APPROXIMATIONS]),
    post_norm=st.booleans(),
    lengths=st.lists(st.integers(1, 7), min_size=1, max_size=3),
)
def test_training_without_the_tokens_of_padding_has_the_same_outputs_and_gradients(kind, pattern, post_norm, lengths):
    if pattern in APPROXIMATIONS:
        kind, more = "learned", {"kernel": APPROXIMATIONS[pattern]}
    else:
        more = {"pattern": PATTERNS[pattern]}
    net = stack(kind=kind, extent=(8,), special=0, post_norm=post_norm, **more)
    places, valid = Places.grid(8), torch.arange(8) < torch.tensor(lengths)[:, None]
    x, weight = torch.randn(len(lengths), 8, WIDTH), torch.randn(int(valid.sum()), WIDTH)

    def trained(on: bool) -> list[torch.Tensor]:
        seen: list[int] = []
        handle = net.blocks[0].mlp.register_forward_hook(lambda mlp, given, out: seen.append(out.shape[:2].numel()))
        net.train(on).zero_grad()
        tokens = x.clone().requires_grad_()
        torch.manual_seed(0)
        out = net(tokens, places, valid=valid)[valid]
        (out * weight).sum().backward()
        handle.remove()
        added = kind in POSITIONS and net.positions[0].at != "stem" and net.positions[0].applies_to == "tokens"
        assert seen == [len(out) if on and not added else valid.numel()]
        return [out, tokens.grad, *(p.grad.clone() for p in net.parameters() if p.grad is not None)]

    for ours, theirs in zip(trained(True), trained(False), strict=True):
        close(ours, theirs)


def test_padding_is_computed_where_random_numbers_are_drawn_for_it():
    net = stack(kind="none", extent=(8,), special=0, dropout=0.5)
    places, valid, x = Places.grid(8), torch.arange(8)[None] < 3, torch.randn(1, 8, WIDTH)
    assert net.train()(x, places, valid=valid)[0, 5].abs().sum() > 0
    assert stack(kind="none", extent=(8,), special=0).train()(x, places, valid=valid)[0, 5].abs().sum() == 0
