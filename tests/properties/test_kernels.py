"""Kernels agree for every pattern, forward and backward; approximations with their weights, and with the exact one."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.parts import APPROXIMATIONS, PATTERNS

from tfcli.nn import approximations as approx
from tfcli.nn.hashing import Reformer
from tfcli.nn.kernels import exact, explicit, fused_blocks, gathered_blocks, partition
from tfcli.nn.patterns import Axial, Causal, Full, Pattern, Windows
from tfcli.nn.places import Places
from tfcli.nn.view import View, block_map

extents = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)
patterns = st.sampled_from(list(PATTERNS.values()))


def drawn(seed: int, n: int, *, heads: int = 2, width: int = 4, batch: int = 2) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, heads, n, width, generator=draw).requires_grad_() for _ in range(3)]


def gradients(out: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    return list(torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), inputs))


def close(ours, theirs, atol=2e-5) -> None:
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    extent=extents,
    special=st.integers(0, 2),
    pattern=patterns,
    size=st.sampled_from([1, 2, 4, 8]),
    bias=st.sampled_from(["none", "shared", "own"]),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_kernels_agree(extent, special, pattern, size, bias, padded, seed):
    if isinstance(pattern, Axial) and len(extent) == 1:
        extent = (*extent, 2)
    places = Places.grid(*extent, special=special)
    n = len(places)
    q, k, v = drawn(seed, n)
    draw = torch.Generator().manual_seed(seed)
    shape = {"none": None, "shared": (2, n, n), "own": (2, 2, n, n)}[bias]
    view = View(
        pattern,
        places,
        places,
        bias=torch.randn(shape, generator=draw) if shape else None,
        valid=torch.rand(2, n, generator=draw) > 0.3 if padded else None,
    )
    blocks = block_map(pattern.mask(places, places), size)
    outs = [
        exact(q, k, v, view),
        explicit(q, k, v, view),
        gathered_blocks(q, k, v, view, blocks),
        partition(q, k, v, view),
    ]
    slopes = [gradients(out, [q, k, v]) for out in outs]
    for other in (1, 2, 3):
        close(outs[other], outs[0])
        close(slopes[other], slopes[0])


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.filterwarnings("ignore:.*flex_attention called without torch.compile.*")
def test_flex_attention_agrees_on_the_same_blocks(name):
    from torch.nn.attention.flex_attention import flex_attention

    places = Places.grid(12, 12, special=1)
    q, k, v = (t.detach() for t in drawn(0, len(places), width=16))
    view = View(PATTERNS[name], places, places, bias=torch.randn(2, len(places), len(places)))
    if view.pattern_mask is None:
        pytest.skip("a full pattern has no blocks to leave out")
    ours = fused_blocks(q, k, v, view, block_map(view.pattern_mask, 128), attend=flex_attention)
    close(ours, exact(q, k, v, view))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 40), m=st.integers(1, 40), size=st.integers(1, 9), seed=st.integers(0, 99))
def test_blocks_hold_the_whole_mask_and_nothing_twice(n, m, size, seed):
    mask = torch.rand(n, m, generator=torch.Generator().manual_seed(seed)) > 0.7
    blocks = block_map(mask, size)
    again = torch.zeros(-(-n // size) * size, -(-m // size) * size, dtype=torch.int)
    rows = []
    for group in blocks.groups:
        rows += group.rows.tolist()
        for row, columns, tile in zip(group.rows, group.columns, group.mask, strict=True):
            for i, column in enumerate(columns):
                place = (slice(row * size, (row + 1) * size), slice(column * size, (column + 1) * size))
                again[place] += tile[:, i * size : (i + 1) * size].int()
    assert sorted(rows) == list(range(-(-n // size)))
    assert (again[:n, :m] == mask.int()).all()
    assert again.sum() == mask.sum()


def test_windows_by_mask_are_windows_by_partition():
    """Also Swin's shifted ones: its cyclic roll and region mask come to a shift of the coordinates."""
    side, size = 8, 4
    places = Places.grid(side, side)
    q, k, v = (t.detach() for t in drawn(3, side * side))

    def parts(t, shift):
        t = t.unflatten(2, (side, side)).roll((-shift, -shift), (2, 3))
        return t.unflatten(3, (-1, size)).unflatten(2, (-1, size)).transpose(3, 4).flatten(4, 5)  # (B, H, wy, wx, S, E)

    for shift in (0, 2):
        region = torch.zeros(side, side)
        cuts = (slice(0, -size), slice(-size, -shift or None), slice(-shift, None) if shift else slice(0, 0))
        for i, rows in enumerate(cuts):
            for j, columns in enumerate(cuts):
                region[rows, columns] = 3 * i + j
        own = region.unflatten(1, (-1, size)).unflatten(0, (-1, size)).transpose(1, 2).flatten(2, 3)
        mask = own[..., :, None] == own[..., None, :]
        windows = explicit_windows(*(parts(t, shift) for t in (q, k, v)), mask if shift else torch.ones_like(mask))
        merged = windows.unflatten(4, (size, size)).transpose(3, 4).flatten(2, 3).flatten(3, 4)
        merged = merged.roll((shift, shift), (2, 3)).flatten(2, 3)
        pattern = Windows(size, shift)
        close(exact(q, k, v, View(pattern, places, places)), merged)


def explicit_windows(q, k, v, mask):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return scores.masked_fill(~mask, -torch.inf).softmax(-1) @ v


COUNTS = {
    "sliding": lambda n: sum(min(n, i + 3) - max(0, i - 2) for i in range(n)),
    "windows": lambda n: (n // 3) * 9 + (n % 3) ** 2,
    "causal": lambda n: n * (n + 1) // 2,
    "dilated": lambda n: sum(1 for i in range(n) for d in (-4, -2, 0, 2, 4) if 0 <= i + d < n),
}


@pytest.mark.parametrize("name", COUNTS)
@settings(max_examples=15, deadline=None)
@given(n=st.integers(1, 30))
def test_masks_let_through_as_many_as_their_formulas_say(name, n):
    places = Places.grid(n)
    assert int(PATTERNS[name].mask(places, places).sum()) == COUNTS[name](n)


def built(make, extent, special=0, heads=2, width=4):
    torch.manual_seed(0)
    return make(heads=heads, head_width=width, extent=extent, special=special).eval()


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(list(APPROXIMATIONS)),
    n=st.integers(2, 20),
    causal=st.booleans(),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_approximations_are_what_their_weights_say(name, n, causal, padded, seed):
    kernel = built(APPROXIMATIONS[name], (n,))
    pattern: Pattern = Causal() if causal and kernel.causal else Full()
    q, k, v = drawn(seed, n)
    k = q if kernel.shared else k
    places = Places.grid(n)
    valid = None
    if padded:
        valid = torch.rand(2, n, generator=torch.Generator().manual_seed(seed)) > 0.3
        valid[:, 0] = True
    view = View(pattern, places, places, valid=valid)
    ours, theirs = kernel(q, k, v, view), kernel.weights(q, k, view) @ v
    if valid is not None:  # what padding itself makes of it is nobody's business
        ours, theirs = (t.masked_fill(~valid[:, None, :, None], 0) for t in (ours, theirs))
    close(ours, theirs)
    close(gradients(ours, [q, v]), gradients(theirs, [q, v]), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 20), seed=st.integers(0, 99))
def test_a_linformer_of_full_rank_is_exact(n, seed):
    q, k, v = drawn(seed, n)
    close(built(partial(approx.Linformer, rank=n), (n,))(q, k, v), exact(q, k, v))


@torch.no_grad()
def error(make, *, n=64, seeds=6) -> float:
    """Mean square distance from exact attention over draws of the data and of the kernel."""
    total = 0.0
    for seed in range(seeds):
        q, k, v = (t.detach() * 0.6 for t in drawn(seed, n, width=8))
        total += float((built(make(seed), (n,), width=8)(q, k, v) - exact(q, k, v)).square().mean())
    return total / seeds


def test_errors_fall_as_ranks_and_features_grow():
    for name, kinds in {
        "performer": [lambda s, m=m: partial(approx.Performer, num_features=m, seed=s) for m in (8, 32, 128, 512)],
        "linformer": [lambda s, m=m: partial(approx.Linformer, rank=m) for m in (4, 16, 32, 64)],
    }.items():
        errors = [error(kind) for kind in kinds]
        assert errors == sorted(errors, reverse=True), (name, errors)
        assert errors[-1] < errors[0] / 4, (name, errors)


def test_more_rounds_of_hashing_come_nearer_to_shared_attention():
    @torch.no_grad()
    def distance(rounds: int) -> float:
        total = 0.0
        for seed in range(4):
            q, _, v = (t.detach() for t in drawn(seed, 64, width=8))
            kernel = built(partial(Reformer, chunk=16, rounds=rounds, seed=seed), (64,), width=8)
            scores = (q @ torch.nn.functional.normalize(q, dim=-1).mT) * 8**-0.5
            scores = scores.masked_fill(torch.eye(64, dtype=torch.bool), -1e5)
            total += float((kernel(q, q, v) - scores.softmax(-1) @ v).square().mean())
        return total

    distances = [distance(rounds) for rounds in (1, 2, 4, 8)]
    assert distances == sorted(distances, reverse=True)


@pytest.mark.parametrize("n", [256, 1024])  # the buckets of a long text are pairs of buckets
@torch.no_grad()
def test_hashing_finds_the_nearest_key(n):
    torch.manual_seed(0)
    q = torch.nn.functional.normalize(torch.randn(1, 1, n, 16), dim=-1)
    q[:, :, n // 2 :] = torch.nn.functional.normalize(q[:, :, : n // 2] + 0.05 * torch.randn(1, 1, n // 2, 16), dim=-1)
    kernel = built(partial(Reformer, chunk=32, rounds=8), (n,), heads=1, width=16)
    seen = kernel.weights(q, q) > 0
    nearest = (q @ q.mT).masked_fill(torch.eye(n, dtype=torch.bool), -1).argmax(-1, keepdim=True)
    assert seen.gather(-1, nearest).float().mean() >= 0.9
    close(kernel(q, q, q), kernel.weights(q, q) @ q)


def test_random_features_are_unbiased_and_orthogonal_ones_vary_less():
    torch.manual_seed(0)
    q, k = torch.randn(2, 8, 8) * 0.5  # eight pairs
    truth = ((q * k).sum(-1) * 8**-0.5).exp()

    def estimates(orthogonal: bool) -> torch.Tensor:
        values = []
        for seed in range(1000):
            draw = torch.Generator().manual_seed(seed)
            w = approx.random_projection(8, 8, orthogonal=orthogonal, generator=draw)
            a, b = (t * 8**-0.25 for t in (q, k))
            features = [(t @ w.T - t.square().sum(-1, keepdim=True) / 2).exp() * 8**-0.5 for t in (a, b)]
            values.append((features[0] * features[1]).sum(-1))
        return torch.stack(values)

    free, orthogonal = estimates(False), estimates(True)
    for found in (free, orthogonal):
        assert ((found.mean(0) - truth).abs() < 3.5 * found.std(0) / 1000**0.5).all()
    assert orthogonal.var(0).mean() < 0.9 * free.var(0).mean()


def test_features_are_drawn_anew_when_asked():
    kernel = built(partial(approx.Performer, num_features=4, redraw_steps=2, seed=1), (5,)).train()
    first = kernel.projection.clone()
    q, k, v = (t.detach() for t in drawn(0, 5))
    kernel(q, k, v)
    assert torch.equal(kernel.projection, first)
    kernel(q, k, v)
    assert not torch.equal(kernel.projection, first)
    after = kernel.projection.clone()
    kernel.eval()(q, k, v)
    kernel(q, k, v)
    assert torch.equal(kernel.projection, after)
