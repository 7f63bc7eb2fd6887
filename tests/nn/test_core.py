"""The core: kernels agree, positions and patterns are functions of coordinates."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tfcli.nn.attention import Attention, Plan, set_kernel
from tfcli.nn.blocks import Block, DropPath, Mlp
from tfcli.nn.capture import capture
from tfcli.nn.kernels import exact, explicit
from tfcli.nn.patterns import Causal, Full, Pattern
from tfcli.nn.places import Places
from tfcli.nn.positions import Learned, Position, Sinusoidal
from tfcli.nn.stack import Stack

KINDS = [Position, Learned, Sinusoidal]
extents = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple)


def stack(*, kind=Learned, pattern=None, extent=(3, 3), special=1, at="stem", width=24, heads=4, **more) -> Stack:
    torch.manual_seed(0)
    attn = partial(Attention, pattern=pattern or Full())
    return Stack(
        width, depth=2, heads=heads, attn=attn, pos=partial(kind, at=at), extent=extent, special=special, **more
    )


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(1, 4),
    n=st.integers(1, 9),
    m=st.integers(1, 9),
    masked=st.booleans(),
    biased=st.booleans(),
    seed=st.integers(0, 99),
)
def test_exact_and_explicit_kernels_agree(heads, n, m, masked, biased, seed):
    draw = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(2, heads, size, 5, generator=draw) for size in (n, m, m))
    mask = torch.rand(n, m, generator=draw) > 0.4 if masked else None
    if mask is not None:
        mask[:, 0] = True  # no row may be empty
    bias = torch.randn(heads, n, m, generator=draw) if biased else None
    torch.testing.assert_close(
        exact(q, k, v, mask=mask, bias=bias), explicit(q, k, v, mask=mask, bias=bias), atol=2e-6, rtol=1e-5
    )


@settings(max_examples=25, deadline=None)
@given(
    extent=extents,
    special=st.integers(0, 2),
    kind=st.sampled_from(KINDS),
    causal=st.booleans(),
    at=st.sampled_from(["stem", "every", "shared"]),
)
def test_permuting_tokens_with_their_places_permutes_the_output(extent, special, kind, causal, at):
    net = stack(kind=kind, pattern=Causal() if causal else Full(), extent=extent, special=special, at=at).eval()
    places = Places.grid(*extent, special=special)
    x = torch.randn(2, len(places), 24)
    shuffle = torch.randperm(len(places))
    torch.testing.assert_close(net(x, places)[:, shuffle], net(x[:, shuffle], places[shuffle]), atol=1e-5, rtol=1e-4)


def test_without_positions_a_special_token_sees_a_bag():
    net = stack(kind=Position).eval()
    places = Places.grid(3, 3, special=1)
    x = torch.randn(1, 10, 24)
    shuffle = torch.cat([torch.tensor([0]), 1 + torch.randperm(9)])
    torch.testing.assert_close(net(x, places)[:, 0], net(x[:, shuffle], places)[:, 0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(stack().eval()(x, places)[:, 0], stack().eval()(x[:, shuffle], places)[:, 0], atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(n=st.integers(2, 8), cut=st.integers(1, 7))
def test_causal_outputs_ignore_the_future(n, cut):
    cut = min(cut, n - 1)
    net = stack(pattern=Causal(), extent=(n,), special=0).eval()
    x = torch.randn(1, n, 24)
    other = x.clone()
    other[:, cut:] = torch.randn(1, n - cut, 24)
    places = Places.grid(n)
    torch.testing.assert_close(net(x, places)[:, :cut], net(other, places)[:, :cut], atol=1e-5, rtol=1e-4)


@given(offset=st.integers(0, 20), start=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_products_of_sinusoids_depend_on_the_offset_alone(offset, start):
    table = Sinusoidal(32, heads=4, extent=(64,), special=0).table(Places.grid(64))
    torch.testing.assert_close(table[start] @ table[start + offset], table[0] @ table[offset], atol=1e-4, rtol=1e-4)


def test_sinusoids_match_the_formula_and_leave_special_tokens_alone():
    table = Sinusoidal(8, heads=2, extent=(5,), special=1).table(Places.grid(5, special=1))
    assert table[0].abs().sum() == 0
    for i in range(4):
        angle = 3 * 10_000 ** (-i / 4)
        assert table[4, i] == pytest.approx(torch.tensor(angle).sin().item(), abs=1e-6)
        assert table[4, 4 + i] == pytest.approx(torch.tensor(angle).cos().item(), abs=1e-6)


def test_placements_own_as_many_tables_as_they_should():
    tables = {at: len(stack(at=at).positions) for at in ("stem", "shared", "every")}
    assert tables == {"stem": 1, "shared": 1, "every": 2}
    places = Places.grid(3, 3, special=1)
    x = torch.randn(1, 10, 24)
    outs = [stack(at=at).eval()(x, places) for at in ("stem", "shared")]
    assert not torch.allclose(*outs, atol=1e-4)


def test_patterns_combine():
    near = Pattern(lambda q, k: (q - k).abs().amax(-1) <= 1, name="near")
    both = (near & Causal()).mask(Places.grid(4), Places.grid(4))
    assert both.tolist() == [[j <= i and i - j <= 1 for j in range(4)] for i in range(4)]
    either = (near | Causal()).mask(Places.grid(4), Places.grid(4))
    assert either.tolist() == [[j <= i + 1 for j in range(4)] for i in range(4)]
    assert "near" in (near & Causal()).name


def test_special_tokens_see_and_are_seen_through_any_pattern():
    mask = Causal().mask(Places.grid(3, special=1), Places.grid(3, special=1))
    assert mask[0].all()
    assert mask[:, 0].all()
    assert not mask[1, 3]


def test_masks_are_made_once_for_all_layers():
    calls = []

    class Counting(Causal):
        def mask(self, query, key):
            calls.append(1)
            return super().mask(query, key)

    stack(pattern=Counting(), extent=(4,), special=0)(torch.randn(1, 4, 24), Places.grid(4))
    assert len(calls) == 1


def test_capture_shows_weights_and_changes_nothing():
    net = stack().eval()
    places = Places.grid(3, 3, special=1)
    x = torch.randn(2, 10, 24)
    before = net(x, places)
    with capture(net) as trace:
        during = net(x, places)
    torch.testing.assert_close(before, during, atol=1e-5, rtol=1e-4)
    weights = trace.attention["blocks.1.attention"]
    assert weights.shape == (2, 4, 10, 10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 10))
    assert set(trace.outputs) >= {"blocks.0", "blocks.0.mlp", "norm"}
    assert all(block.attention.kernel is exact for block in net.blocks)


def test_pre_and_post_norm_follow_their_formulas():
    torch.manual_seed(0)
    for post in (False, True):
        block = Block(Attention(8, heads=2), Mlp(8, hidden=16), width=8, post_norm=post).eval()
        x, plan = torch.randn(1, 5, 8), Plan(Places.grid(5))
        if post:
            h = block.norm1(x + block.attention(x, plan))
            want = block.norm2(h + block.mlp(h))
        else:
            h = x + block.attention(block.norm1(x), plan)
            want = h + block.mlp(block.norm2(h))
        torch.testing.assert_close(block(x, plan), want)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    path = DropPath(0.25).train()
    out = path(torch.ones(4000, 3))
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (out.std(1) == 0).all()
    assert out.mean().item() == pytest.approx(1, abs=0.05)
    assert (path.eval()(torch.ones(4, 3)) == 1).all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Attention(10, heads=3), ["heads", "3", "10"]),
        (lambda: Attention(8, heads=2, kernel="flash"), ["attn.kernel", "exact", "flash"]),
        (lambda: Sinusoidal(10, heads=2, extent=(2, 2), special=0), ["width", "4", "10"]),
        (lambda: Learned(8, heads=2, extent=(2,), special=0, at="middle"), ["pos.at", "middle"]),
        (lambda: Mlp(8, hidden=8, activation="swish"), ["activation", "swish"]),
        (lambda: DropPath(1.0), ["drop_path", "1.0"]),
    ],
)
def test_wrong_arguments_say_what_they_must_be(make, words):
    with pytest.raises(ValueError) as error:
        make()
    assert all(word in str(error.value) for word in words)


def test_set_kernel_reaches_every_attention():
    net = stack()
    set_kernel(net, "explicit")
    assert all(block.attention.kernel is explicit for block in net.blocks)
