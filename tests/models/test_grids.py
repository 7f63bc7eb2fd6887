"""Images of another size than a ViT was built for: its grid comes from the input."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from nn.parts import PATTERNS, POSITIONS
from omegaconf import OmegaConf
from torch.testing import assert_close

from tfcli.engine.config.compose import compose
from tfcli.engine.loading.from_checkpoint import load_state
from tfcli.engine.runs.saved_config import config_for_this_machine
from tfcli.engine.train.prepare import pattern_notes, record_setting, size_notes
from tfcli.errors import ConfigError, DataError, IncompatibleError
from tfcli.models.resnet import ModifiedResNet
from tfcli.models.vit import ViT
from tfcli.nn.approximations import Linformer
from tfcli.nn.attention import Attention
from tfcli.nn.offset_tables import RelativeTable
from tfcli.nn.patterns import Causal, SlidingWindow, Windows
from tfcli.nn.places import Places
from tfcli.nn.positions import Learned
from tfcli.nn.resampling import RULES
from tfcli.weights.positions import resize_positions


def vit(image_size: int = 32, *, pos=Learned, **attn) -> ViT:
    torch.manual_seed(0)
    sizes = {"depth": 2, "heads": 2, "patch_size": 4, "num_classes": 3, "registers": 1}
    net = ViT(48, image_size=image_size, attn=partial(Attention, **attn), pos=pos, **sizes).eval()
    for table in net.stack.positions.parameters():
        torch.nn.init.normal_(table, std=0.5)
    return net


@pytest.mark.parametrize(
    ("kind", "pattern"), [(k, "full") for k in POSITIONS] + [("learned", p) for p in PATTERNS if p != "full"]
)
def test_a_vit_built_for_32_px_reads_16_24_and_48(kind, pattern):
    net = vit(pos=POSITIONS[kind], pattern=PATTERNS[pattern])
    for rows, columns in ((16, 16), (24, 24), (48, 48), (24, 40)):
        tokens = net.features(torch.randn(1, 3, rows, columns)).tokens
        assert tokens.shape == (1, 2 + rows * columns // 16, 48)
        assert tokens.isfinite().all()
    assert net.places_of(24, 24) is net.places_of(24, 24)
    assert net.places_of(32, 32) is net.places


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("side", [16, 24, 48])
def test_it_is_the_vit_whose_table_was_resized_when_it_was_loaded(side, rule):
    net, other = vit(pos=partial(Learned, resample=rule)), vit(side)
    state = net.state_dict()
    name = "stack.positions.0.table"
    state[name], note = resize_positions(state[name], (side // 4, side // 4), special=2, source=rule)
    other.load_state_dict(state)
    image = torch.randn(2, 3, side, side)
    assert_close(net.features(image).tokens, other.features(image).tokens, atol=1e-5, rtol=1e-4)
    assert size_notes(net, side) == [note]
    assert size_notes(net, 32) == size_notes(other, side) == []


@pytest.mark.parametrize(("model", "key"), [("vit", "model.pos"), ("clip", "model.image.pos")])
def test_the_rule_of_a_checkpoint_becomes_part_of_the_config(model, key):
    config = compose("train", [f"model={model}", "data=shapes"]).config
    record_setting(config, f"{key}.resample", "timm")
    assert OmegaConf.select(config, f"{key}.resample") == "timm"
    assert OmegaConf.select(config, f"{key}._target_").endswith("Learned")


def test_a_trained_model_keeps_its_size_when_it_is_shown_others(tiny_run):
    built = config_for_this_machine(tiny_run, [])[0].model.image_size
    config, _ = config_for_this_machine(tiny_run, ["data.image_size=24"])
    assert (config.data.image_size, config.model.image_size) == (24, built)
    with pytest.raises(ConfigError, match=rf"model.image_size=24`.* built for {built}.*`data.image_size=24` lets it"):
        config_for_this_machine(tiny_run, ["model.image_size=24"])
    patch = config.model.patch_size
    close = (
        rf"multiple of {patch}, the `model.patch_size` .* but is {24 * patch + 1}. Nearest: {24 * patch}, {25 * patch}"
    )
    with pytest.raises(ConfigError, match=close):
        config_for_this_machine(tiny_run, [f"data.image_size={24 * patch + 1}"])


def test_a_typed_setting_that_the_weights_do_not_fit_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"`model.width=5`: the weights of .* do not fit.*size mismatch"):
        load_state(torch.nn.Linear(2, 2), torch.nn.Linear(5, 5).state_dict(), tmp_path, ["model.width=5", "seed=1"])


def test_a_pattern_that_hides_nothing_is_said_to_be_full_attention():
    wide, narrow = vit(pattern=Windows(100)), vit(pattern=Windows(4))
    said = "attn.pattern.size=100 covers the whole 8x8 grid: this is full attention"
    assert pattern_notes(wide, {"pattern": {"size": 100}}) == [said]
    assert pattern_notes(narrow, {"pattern": {"size": 4}}) == pattern_notes(vit(), {}) == []
    assert (Causal() & SlidingWindow(20)).covers(Places.grid(8))
    assert not (Causal() & SlidingWindow(6)).covers(Places.grid(8))


def test_clips_residual_network_refuses_another_size():
    net = ModifiedResNet((1, 1, 1, 1), width=8, embed_width=8, image_size=32, heads=4)
    with pytest.raises(DataError, match="images of 32 px only, but the images have 64 x 64"):
        net.features(torch.randn(1, 3, 64, 64))


def test_offsets_of_a_larger_grid_keep_what_they_meant():
    """A table that is linear in the offset stays so, except at its borders, where it is flat."""
    pos = RelativeTable(8, heads=1, extent=(8, 8), special=1)
    steps = torch.cartesian_prod(torch.arange(-7.0, 8), torch.arange(-7.0, 8)).sum(1)
    with torch.no_grad():
        pos.table[:-3, 0], pos.table[-3:, 0] = steps / 8, torch.tensor([5.0, 6.0, 7.0])
    places = Places.grid(12, 12, special=1)
    bias = pos.bias(places, places)[0]
    assert_close(bias[0, 1:], torch.full((144,), 5.0))
    assert_close(bias[1:, 0], torch.full((144,), 6.0))
    offset = (places.coords[1:, None] - places.coords[None, 1:]).float()
    inside = (offset.abs() <= 6).all(-1)
    assert_close(bias[1:, 1:][inside], (offset.sum(-1) / 12)[inside], atol=0.05, rtol=0)


def test_what_cannot_be_cut_or_resampled_is_refused():
    with pytest.raises(DataError, match="30 x 30 pixels cannot be cut into patches of 4"):
        vit().features(torch.randn(1, 3, 30, 30))
    with pytest.raises(IncompatibleError, match=r"linformer attention is built for a grid of \(8, 8\)"):
        vit(kernel=partial(Linformer, rank=4)).features(torch.randn(1, 3, 24, 24))
    with pytest.raises(ConfigError, match=r"`pos\.resample` must be .*transformers.*nearest"):
        compose("train", ["model=vit", "data=digits", "pos.resample=nearest"])
