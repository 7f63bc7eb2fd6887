"""The parts of the core by themselves; what holds for all of them together is in `tests/properties`."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.parts import APPROXIMATIONS, PATTERNS, WIDTH, stack
from torch.testing import assert_close

from tfcli.errors import IncompatibleError
from tfcli.nn.approximations import Linear, Linformer, Performer
from tfcli.nn.attention import Attention, Plan, cycle, set_kernel
from tfcli.nn.blocks import Block, DropPath, Mlp, make_dropout, make_mlp
from tfcli.nn.capture import capture
from tfcli.nn.hashing import Reformer
from tfcli.nn.kernels import exact, explicit
from tfcli.nn.patterns import Causal, Full, Predicate, SlidingWindow, Windows, bigbird, longformer
from tfcli.nn.places import Places
from tfcli.nn.positions import Learned, Learned2d, Sinusoidal
from tfcli.nn.relative import Relative, RelativeBuckets, Rope, alibi_slopes
from tfcli.nn.view import View


def test_without_positions_a_special_token_sees_a_bag():
    net = stack(kind="none")
    places = Places.grid(3, 3, special=1)
    x = torch.randn(1, 10, WIDTH)
    shuffle = torch.cat([torch.tensor([0]), 1 + torch.randperm(9)])
    torch.testing.assert_close(net(x, places)[:, 0], net(x[:, shuffle], places)[:, 0], atol=1e-5, rtol=1e-4)
    assert not torch.allclose(stack().eval()(x, places)[:, 0], stack().eval()(x[:, shuffle], places)[:, 0], atol=1e-4)


@given(offset=st.integers(0, 20), start=st.integers(0, 20))
@settings(max_examples=20, deadline=None)
def test_products_of_sinusoids_depend_on_the_offset_alone(offset, start):
    table = Sinusoidal(32, heads=4, extent=(64,), special=0).vectors(Places.grid(64))
    torch.testing.assert_close(table[start] @ table[start + offset], table[0] @ table[offset], atol=1e-4, rtol=1e-4)


def test_sinusoids_match_the_formula_and_leave_special_tokens_alone():
    table = Sinusoidal(8, heads=2, extent=(5,), special=1).vectors(Places.grid(5, special=1))
    assert table[0].abs().sum() == 0
    for i in range(4):
        angle = 3 * 10_000 ** (-i / 4)
        assert table[4, i] == pytest.approx(torch.tensor(angle).sin().item(), abs=1e-6)
        assert table[4, 4 + i] == pytest.approx(torch.tensor(angle).cos().item(), abs=1e-6)


def test_placements_own_as_many_tables_as_they_should():
    tables = {at: len(stack(at=at).positions) for at in ("stem", "shared", "every")}
    assert tables == {"stem": 1, "shared": 1, "every": 2}
    places = Places.grid(3, 3, special=1)
    x = torch.randn(1, 10, WIDTH)
    outs = [stack(at=at).eval()(x, places) for at in ("stem", "shared")]
    assert not torch.allclose(*outs, atol=1e-4)


def test_patterns_combine():
    near = Predicate(lambda q, k: (q - k).abs().amax(-1) <= 1)
    both = (near & Causal()).mask(Places.grid(4), Places.grid(4))
    assert both.tolist() == [[j <= i and i - j <= 1 for j in range(4)] for i in range(4)]
    either = (near | Causal()).mask(Places.grid(4), Places.grid(4))
    assert either.tolist() == [[j <= i + 1 for j in range(4)] for i in range(4)]
    assert (near & Full(), Full() & near, near | Full()) == (near, near, Full())


def test_special_tokens_see_and_are_seen_through_any_pattern():
    mask = Causal().mask(Places.grid(3, special=1), Places.grid(3, special=1))
    assert mask[0].all()
    assert mask[:, 0].all()
    assert not mask[1, 3]


def test_layers_take_patterns_in_turn():
    patterns = [Full(), SlidingWindow(2), Windows(2)]
    net = stack(
        attn=cycle(patterns=dict(zip("abc", patterns, strict=True)), causal=True), depth=5, extent=(8,), special=0
    )
    assert [a.pattern for a in net.attentions] == [patterns[layer % 3] & Causal() for layer in range(5)]
    assert [a.kernel.__name__ for a in net.attentions[:3]] == ["exact", "flex", "partition"]
    x, places = torch.randn(1, 8, WIDTH), Places.grid(8)
    before = net(x, places)
    for kernel in ("exact", "partition"):
        set_kernel(net, kernel)
        assert_close(net(x, places), before, atol=1e-5, rtol=1e-4)
    mixed = cycle(patterns={"dense": Full(), "windows": Windows(2)}, kernel="partition")
    assert [a.kernel.__name__ for a in stack(attn=mixed).attentions] == ["exact", "partition"]
    with pytest.raises(IncompatibleError, match="needs a pattern of windows"):
        stack(attn=cycle(patterns={"dense": Full()}, kernel="partition"))


def test_tokens_are_dropped_between_the_halves_of_a_stack():
    """As in a masked autoencoder: each sample keeps tokens of its own, which know where they stand."""
    net, places = stack(kind="learned", extent=(3, 3), special=1), Places.grid(3, 3, special=1)
    x = torch.randn(2, 10, WIDTH)
    index = torch.stack([torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(9)[:4]]) for _ in x])
    kept = net.embed(x, places).take_along_dim(index[..., None], 1)
    out = net.run(kept, places.take(index))
    for sample in range(2):
        alone = x[sample : sample + 1, index[sample]]
        assert_close(out[sample : sample + 1], net(alone, places[index[sample]]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kernel", ["exact", "explicit"])
def test_the_scale_is_a_factor_on_the_products(kernel):
    """T5 has 1: its queries are not divided by the root of a head's width."""
    torch.manual_seed(0)
    net = Attention(8, heads=2, kernel=kernel, scale=1.0)
    x = torch.randn(1, 5, 8)
    q, k, v = net.qkv(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    want = net.out(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert_close(net(x, Plan(Places.grid(5))), want)


def test_masks_are_made_once_for_all_layers():
    calls = []

    class Counting(SlidingWindow):
        def mask(self, query, key):
            calls.append(1)
            return super().mask(query, key)

    stack(pattern=Counting(2), extent=(4,), special=0)(torch.randn(1, 4, WIDTH), Places.grid(4))
    assert len(calls) == 1


def test_capture_shows_weights_and_changes_nothing():
    net = stack().eval()
    places = Places.grid(3, 3, special=1)
    x = torch.randn(2, 10, WIDTH)
    before = net(x, places)
    with capture(net) as trace:
        during = net(x, places)
    torch.testing.assert_close(before, during, atol=1e-5, rtol=1e-4)
    weights = trace.attention["blocks.1.attention"]
    assert weights.shape == (2, 2, 10, 10)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 10))
    assert set(trace.outputs) >= {"blocks.0", "blocks.0.mlp", "norm"}
    assert all(block.attention.kernel is exact for block in net.blocks)


@pytest.mark.parametrize("name", APPROXIMATIONS)
def test_capture_shows_what_an_approximation_comes_to(name):
    net = stack(kernel=APPROXIMATIONS[name])
    places, x = Places.grid(3, 3, special=1), torch.randn(2, 10, WIDTH)
    before = net(x, places)
    with capture(net) as trace:
        torch.testing.assert_close(net(x, places), before, atol=1e-5, rtol=1e-4)
    assert trace.attention["blocks.0.attention"].shape == (2, 2, 10, 10)


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


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9, 1.0])
def test_dropout_drops_each_with_its_probability_and_keeps_the_mean(p):
    torch.manual_seed(0)
    drop, x = make_dropout(p), torch.full((301, 333), 3.0, requires_grad=True)
    out = drop(x)
    dropped = out == 0
    spread = 5 * (p * (1 - p) / x.numel()) ** 0.5
    assert dropped.float().mean().item() == pytest.approx(p, abs=spread)
    assert dropped.float().mean(0).std().item() == pytest.approx((p * (1 - p) / len(x)) ** 0.5, rel=0.2)  # independent
    assert (dropped[:, 1:] & dropped[:, :-1]).float().mean().item() == pytest.approx(p * p, abs=2 * spread)
    assert_close(out[~dropped], torch.full_like(out[~dropped], 3 / (1 - p) if p < 1 else 0))
    out.sum().backward()
    assert_close(x.grad, out.detach() / 3)
    assert drop.eval()(x) is x
    assert not torch.equal(drop.train()(x) == 0, dropped) or p == 1


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
        (lambda: Sinusoidal(10, heads=2, extent=(2, 2), special=0), ["width", "4", "10"]),
        (lambda: Learned2d(9, heads=3, extent=(2, 2), special=0), ["width", "2", "9"]),
        (lambda: Rope(12, heads=2, extent=(2, 2), special=0), ["head", "4", "6"]),
        (lambda: Rope(16, heads=2, extent=(2,), special=0, at="stem"), ["pos.at", "shared", "stem"]),
        (lambda: RelativeBuckets(16, heads=2, extent=(2,), special=0, buckets=3), ["pos.buckets", "3"]),
        (lambda: SlidingWindow(0), ["attn.pattern.size", "0"]),
        (lambda: Linformer(heads=2, head_width=4, extent=(3,), special=0, rank=4), ["rank", "3", "4"]),
        (lambda: Performer(heads=2, head_width=4, extent=(3,), special=0, num_features=0), ["num_features", "0"]),
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


def test_what_cannot_work_together_is_refused_when_built():
    mixed = partial(Linformer, rank=2)
    cases = [
        (
            lambda: Attention(8, heads=2, kernel=Linear, pattern=SlidingWindow(2), extent=(4,)),
            ["linear", "slidingwindow(size=2)"],
        ),
        (lambda: Attention(8, heads=2, kernel=mixed, causal=True, extent=(4,)), ["linformer", "causal()"]),
        (lambda: Attention(8, heads=2, kernel=Linear, causal=True, extent=(4, 4)), ["linear", "stand on 2"]),
        (lambda: Attention(8, heads=2, kernel=Performer, causal=True, extent=(4,), special=1), ["performer", "with 1"]),
        (lambda: Attention(8, heads=2, kernel=Reformer, dropout=0.1, extent=(64,)), ["reformer", "attention_dropout"]),
        (lambda: Attention(8, heads=2, pattern=PATTERNS["axial"], extent=(4,)), ["axial", "two axes"]),
        (lambda: Attention(8, heads=2, kernel="partition", pattern=SlidingWindow(2)), ["partition", "slidingwindow"]),
        (lambda: stack(kind="alibi", kernel=Performer), ["performer", "scores", "Alibi"]),
        (lambda: stack(kind="rope", kernel=Linear), ["linear", "queries", "Rope"]),
    ]
    for make, words in cases:
        with pytest.raises(IncompatibleError) as error:
            make()
        assert all(word in str(error.value) for word in words), str(error.value)


def test_sparse_patterns_run_block_by_block_where_that_pays():
    for pattern, kernel in {"full": "exact", "causal": "exact", "sliding": "flex", "bigbird": "flex"}.items():
        assert stack(pattern=PATTERNS[pattern]).blocks[0].attention.kernel.__name__ == kernel
    places = Places.grid(600)
    assert View(SlidingWindow(8), places, places).blocks.share < 0.3
    assert View(SlidingWindow(900), places, places).blocks is None
    assert View(SlidingWindow(8), places[:100], places[:100]).blocks is None


def test_bigbird_and_longformer_see_what_their_papers_say():
    places = Places.grid(60)
    mask = bigbird(size=5, width=3, count=2).mask(places, places)
    tiles = mask.unflatten(1, (12, 5)).unflatten(0, (12, 5)).transpose(1, 2)
    assert (tiles.flatten(2).any(-1) == tiles.flatten(2).all(-1)).all()  # whole blocks
    blocks = tiles[..., 0, 0]
    assert blocks[0].all()
    assert blocks[-1].all()
    assert blocks[:, 0].all()
    assert blocks[:, -1].all()
    middle = blocks[1:-1].sum(1)
    assert ((middle >= 4) & (middle <= 7)).all()  # 3 neighbours, 2 ends (which may be neighbours), up to 2 random ones
    assert middle.float().mean() > 5
    other = bigbird(size=5, width=3, count=2, seed=1).mask(places, places)
    assert not torch.equal(mask, other)
    long = longformer(size=4, count=1).mask(places, places)
    assert long[0].all()
    assert long[:, 0].all()
    assert long[30].nonzero()[:, 0].tolist() == [0, 28, 29, 30, 31, 32]


def test_tables_have_as_many_parameters_as_the_vit_paper_says():
    """ViT-B/16: 197 tokens of width 768; 1-D 151,296, 2-D 11,520, relative 391 offsets of a head's 64."""
    common = {"heads": 12, "extent": (14, 14), "special": 1}
    count = {kind: sum(p.numel() for p in kind(768, **common).parameters()) for kind in (Learned, Learned2d, Relative)}
    assert count[Learned] == 151_296
    assert count[Learned2d] == (14 + 14) * 384 + 768 == 11_520
    assert count[Relative] == (2 * 196 - 1) * 64 + 3 * 64  # the class token: as a query, as a key, with itself


def test_rope_turns_pairs_by_their_place():
    rope = Rope(8, heads=2, extent=(9,), special=0, base=100.0)
    t = torch.tensor([[[[1.0, 0, 0, 0]]]])
    turned = rope.rotate(t, Places.grid(9)[3:4]).flatten()
    assert turned.tolist() == pytest.approx([torch.tensor(3.0).cos().item(), 0, torch.tensor(3.0).sin().item(), 0])
    other = Rope(8, heads=2, extent=(9,), special=0, base=100.0, layout="interleaved")
    turned = other.rotate(torch.tensor([[[[0, 0, 1.0, 0]]]]), Places.grid(9)[3:4]).flatten()
    angle = torch.tensor(3 * 100**-0.5)
    assert turned.tolist() == pytest.approx([0, 0, angle.cos().item(), angle.sin().item()])


def test_alibi_slopes_are_those_of_the_paper():
    assert alibi_slopes(8) == [2.0**-h for h in range(1, 9)]
    assert alibi_slopes(12)[:8] == alibi_slopes(8)
    assert alibi_slopes(12)[8:] == pytest.approx([2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5])


def test_every_block_option_trains():
    places = Places.grid(3, 3, special=1)
    for options in (
        {"norm": "rms", "activation": "swiglu"},
        {"activation": "gelu_tanh", "layer_scale": 1e-3},
        {"activation": "relu", "post_norm": True, "final_norm": False},
        {"activation": "quick_gelu", "drop_path": 0.3, "dropout": 0.1, "attention_dropout": 0.1, "stem_norm": True},
    ):
        net = stack(**options).train()
        net(torch.randn(4, 10, WIDTH), places).square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_a_gated_mlp_has_as_many_parameters_as_a_plain_one():
    counts = [sum(p.numel() for p in make_mlp(96, activation=name).parameters()) for name in ("gelu", "swiglu")]
    assert counts[1] == pytest.approx(counts[0], rel=0.02)
