"""Places of each sample: a batch of them is the samples one by one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.parts import APPROXIMATIONS, PATTERNS, POSITIONS, WIDTH, stack

from tfcli.errors import IncompatibleError
from tfcli.nn.cache import Cache
from tfcli.nn.places import Places

TABLES = [
    "learned",
    "learned2d",
    "random",
    "relative",
    "relative, clipped",
    "relative on axes",
    "relative table",
    "relative table of windows",
]
"""Kinds that take whole-number coordinates alone."""


def close(ours, theirs) -> None:
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=1e-4)


def kept(extent: tuple[int, ...], special: int, *, batch: int = 3) -> tuple[Places, torch.Tensor]:
    """A grid, and which tokens each sample of a batch keeps of it: the special ones and some of the others."""
    places = Places.grid(*extent, special=special)
    number = len(places) - special
    some = [special + torch.randperm(number)[: max(1, number // 2)] for _ in range(batch)]
    return places, torch.stack([torch.cat([torch.arange(special), own]) for own in some])


@settings(max_examples=50, deadline=None)
@given(
    extent=st.lists(st.integers(1, 4), min_size=2, max_size=3).map(tuple),
    special=st.integers(0, 2),
    kind=st.sampled_from(list(POSITIONS)),
    pattern=st.sampled_from(list(PATTERNS)),
    padded=st.booleans(),
    seed=st.integers(0, 99),
)
def test_a_batch_of_places_is_its_samples_one_by_one(extent, special, kind, pattern, padded, seed):
    net = stack(kind=kind, pattern=PATTERNS[pattern], extent=extent, special=special)
    torch.manual_seed(seed)
    places, index = kept(extent, special)
    x = torch.randn(*index.shape, WIDTH)
    valid = torch.rand(index.shape) > 0.3 if padded else None
    own = places.take(index)
    together = net(x, own, valid=valid)
    for sample in range(len(x)):
        alone = None if valid is None else valid[sample : sample + 1]
        close(together[sample : sample + 1], net(x[sample : sample + 1], places[index[sample]], valid=alone))
    assert not own._memo


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(list(APPROXIMATIONS)), causal=st.booleans(), seed=st.integers(0, 99))
def test_so_it_is_of_approximations(name, causal, seed):
    pattern = "causal" if causal and "linformer" not in name else "full"
    net = stack(pattern=PATTERNS[pattern], kernel=APPROXIMATIONS[name], extent=(9,), special=0)
    torch.manual_seed(seed)
    places, index = kept((9,), 0)
    x = torch.randn(*index.shape, WIDTH)
    together = net(x, places.take(index))
    for sample in range(len(x)):
        close(together[sample : sample + 1], net(x[sample : sample + 1], places[index[sample]]))


@pytest.mark.parametrize("kind", [kind for kind in POSITIONS if kind not in TABLES])
def test_real_places_between_whole_ones_are_taken(kind):
    net = stack(kind=kind, extent=(4, 4), special=1)
    places = Places.grid(4, 4, special=1)
    real = Places(places.coords.double(), places.special, places.extent)
    x = torch.randn(2, 17, WIDTH)
    close(net(x, real), net(x, places))
    between = Places(real.coords + 0.4 * ~places.special[:, None], places.special, places.extent)
    assert net(x, between).isfinite().all()


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_refuses_real_places(kind):
    places = Places.grid(4, special=1)
    with pytest.raises(IncompatibleError, match=r"whole-number coordinates.*pos=rope"):
        stack(kind=kind, extent=(4,))(torch.randn(1, 5, WIDTH), Places(places.coords.float(), places.special, (4,)))


@pytest.mark.parametrize(
    ("kind", "pattern"),
    [(k, "causal") for k in POSITIONS] + [("rope", p) for p in ("causal sliding", "causal windows")],
)
def test_a_cache_holds_the_places_of_each_sample(kind, pattern):
    """Prompts of unlike length, padded before their beginning, go on each from its own place."""
    net = stack(kind=kind, pattern=PATTERNS[pattern], extent=(9,), special=0)
    lengths = torch.tensor([4, 2])
    coords = (torch.arange(7) - (4 - lengths)[:, None]).clamp(min=0)[..., None]
    valid = torch.arange(7) >= (4 - lengths)[:, None]
    places = Places(coords, torch.zeros(2, 7, dtype=torch.bool), (9,))
    x, cache = torch.randn(2, 7, WIDTH), Cache()
    whole = net(x, places, valid=valid)
    steps = [net(x[:, a:b], places[a:b], valid=valid[:, a:b], cache=cache) for a, b in ((0, 4), (4, 5), (5, 7))]
    close(torch.cat(steps, 1)[valid], whole[valid])


def test_a_cache_refuses_what_may_look_ahead():
    net, places = stack(pattern=PATTERNS["sliding"], extent=(9,), special=0), Places.grid(9)
    own, cache = places.take(torch.arange(9).expand(2, -1)), Cache()
    net(torch.randn(2, 4, WIDTH), own[:4], cache=cache)
    with pytest.raises(IncompatibleError, match="only for a causal pattern"):
        net(torch.randn(2, 1, WIDTH), own[4:5], cache=cache)


class Asked(torch.utils._python_dispatch.TorchDispatchMode):
    """Fails where the value of a tensor is asked for, at which a GPU would wait."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        assert "_local_scalar_dense" not in name, "a value was asked for"
        assert not name.startswith(("aten.nonzero", "aten.unique", "aten._unique", "aten.masked_select")), name
        assert not (name == "aten.index.Tensor" and any(i is not None and i.dtype == torch.bool for i in args[1])), name
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "pattern"), [(k, "full") for k in POSITIONS] + [("relative buckets", p) for p in PATTERNS]
)
def test_places_of_each_sample_never_make_a_gpu_wait(kind, pattern):
    net, (places, index) = stack(kind=kind, pattern=PATTERNS[pattern], extent=(4, 4)), kept((4, 4), 1)
    x = torch.randn(*index.shape, WIDTH)
    net(x, places.take(index))  # what depends on the grid's size alone is worked out once
    with Asked():
        net(x, places.take(index))


def test_taking_twice_is_taking_at_once():
    places, index = kept((4, 4), 1)
    again = torch.stack([torch.randperm(index.shape[1])[:4] for _ in index])
    twice, once = places.take(index).take(again), places.take(index.gather(1, again))
    assert torch.equal(twice.coords, once.coords)
    assert torch.equal(twice.special, once.special)
