"""Every family with every position and every attention: what it claims to take it trains with, the rest is refused.

One file of each class trains, its sizes cut down; the other files differ in numbers alone, and `test_sizes` builds them
with theirs. Every pair of a position and an attention trains in the plainest family; in the others each position
and each attention does, in pairs that change from family to family.
"""

from __future__ import annotations

from functools import cache
from inspect import signature

import pytest
import torch
from contract.families import attends, composed, node, reads_images

from tfcli.engine.config.build import build, plain
from tfcli.engine.config.compose import compose
from tfcli.engine.config.configs import options
from tfcli.errors import ConfigError, IncompatibleError

SMALL = {"width": 24, "depth": 2, "heads": 2, "mlp_width": 32, "embed_width": 8, "image_size": 16, "patch_size": 4}
MODELS = sorted(filter(reads_images, options("model")))
"""Families of text have tests of their own (`test_language_models`)."""
POSITIONS, ATTENTIONS = sorted(options("pos")), sorted(options("attn"))
PICKY = {"linear": ["queries", "scores"], "performer": ["scores"], "linformer": ["scores"], "reformer": ["scores"]}
"""What positions must not act on, written here a second time: the files must not forget it."""


ATTENDING = list(filter(attends, MODELS))
FIRST = list({node("model", model)["_target_"]: model for model in reversed(ATTENDING)}.values())
"""One file of each class: of the others only the numbers differ."""


def small(model: str, *, pos: str | None = None, attn: str | None = None) -> dict:
    """The model's node, every part cut down to a few numbers, with other parts where `pos=` and `attn=` put them."""
    node = _cut(plain(composed(model).model))
    if "embed_width" in node:  # of the joint space of two towers
        node["embed_width"] = SMALL["embed_width"]
    if "num_classes" in node:
        node["num_classes"] = 3
    return swapped(node, pos, attn, rank=4)  # the rank of linformer lies below the few tokens there are


def swapped(node: dict, pos: str | None, attn: str | None, *, rank: int | None = None) -> dict:
    """The node with the parts that `pos=` and `attn=` put in."""
    place = node if "attn" in node else node["image"]
    if pos:
        place["pos"] = part("pos", pos)
    if attn:
        place["attn"] = part("attn", attn)
        if attn == "linformer" and rank:
            place["attn"] = {**place["attn"], "kernel": {**place["attn"]["kernel"], "rank": rank}}
    return node


def _cut(node):
    if not isinstance(node, dict):
        return node
    part = {key: _cut(value) for key, value in node.items()}
    if {"depth", "patch_size", "context"} & part.keys():  # of a tower, not of a pattern
        part |= {key: value for key, value in SMALL.items() if key in part}
    if "stem_width" in part:  # of a hybrid's ResNet, whose further stages would need larger patches
        part |= {"stem_width": 8, "blocks": part["blocks"][:1]}
    return part | ({"vocab_size": 11, "context": 6} if "context" in part else {})


@cache
def part(group: str, name: str) -> dict:
    return plain(
        compose("train", ["model=vit", f"{group}={name}", *(["pos=none"] if group == "attn" else [])]).config[group]
    )


def trains(net: torch.nn.Module) -> None:
    """Forward and backward: finite, and every parameter has a part in it."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 16, 16)
    if "tokens" in signature(net.forward).parameters:
        out = net(images, torch.tensor([[1, 2, 10, 0, 0, 0], [3, 4, 5, 6, 7, 10]]))
    else:
        torch.nn.init.normal_(net.head.weight)  # it starts at zero, and would hide the rest
        out = net(images)
    out = out if isinstance(out, torch.Tensor) else torch.cat(list(out))
    assert out.isfinite().all()
    out.square().sum().backward()
    idle = [name for name, p in net.named_parameters() if p.requires_grad and p.grad is None]
    assert not idle


def fits(pos: str, attn: str) -> bool:
    return part("pos", pos)["applies_to"] not in PICKY.get(attn, [])


def pairs(start: int) -> list[tuple[str, str]]:
    """Pairs that fit, in which each attention and each position stands at least once; another `start`, other pairs."""
    turns = [POSITIONS[(start + shift) % len(POSITIONS) :] + POSITIONS for shift in range(len(ATTENTIONS))]
    found = [(next(pos for pos in turn if fits(pos, attn)), attn) for attn, turn in zip(ATTENTIONS, turns, strict=True)]
    return found + [(pos, "full") for pos in POSITIONS if pos not in dict(found)]


EVERY = [(pos, attn) for pos in POSITIONS for attn in ATTENTIONS]
FITTING = [pair for pair in EVERY if fits(*pair)]
for attn in ATTENTIONS:
    part("attn", attn)  # composed once for all families, and counted for none


@pytest.mark.slow
@pytest.mark.parametrize(("pos", "attn"), FITTING)
def test_every_pair_that_fits_trains(pos, attn):
    trains(build(small("vit", pos=pos, attn=attn)))


@pytest.mark.parametrize("model", FIRST)
def test_positions_and_attentions_train_or_are_refused_by_name(model):
    lined = "context" in node("model", model)  # words and patches stand in one line
    trains(build(small(model)))
    for pos, attn in pairs(FIRST.index(model)):
        if not (lined and attn == "axial"):
            trains(build(small(model, pos=pos, attn=attn)))
    for pos, attn in EVERY:
        if lined and attn == "axial":
            with pytest.raises(IncompatibleError, match="needs tokens on two axes"):
                build(small(model, pos=pos, attn=attn))
        elif not fits(pos, attn):
            with pytest.raises(IncompatibleError, match=f"{attn} attention cannot take positions"):
                build(small(model, pos=pos, attn=attn))


@pytest.mark.parametrize("attn", PICKY)
def test_pairs_that_do_not_fit_are_refused_when_composed(attn):
    """Before torch is there: the config alone says it (see `test_nothing_heavy_is_imported`)."""
    for place, pos in {part("pos", pos)["applies_to"]: pos for pos in POSITIONS}.items():
        words = ["model=vit", f"attn={attn}", f"pos={pos}"]
        if place in PICKY[attn]:
            with pytest.raises(ConfigError, match=f"{attn} attention cannot take positions that act on"):
                compose("train", words)
        else:
            compose("train", words)


@pytest.mark.parametrize("pos", POSITIONS)
def test_placements_that_make_no_sense_are_refused_when_composed(pos):
    placements = part("pos", pos)["placements"]
    assert placements == {"none": ["stem"], "rope": ["shared"], "alibi": ["shared"]}.get(
        pos, ["every", "shared"] if "relative" in pos else ["stem", "every", "shared"]
    )
    for at in ("stem", "every", "shared"):
        if at in placements:
            node = small("vit", pos=pos)
            trains(build({**node, "pos": {**node["pos"], "at": at}}))
        else:
            with pytest.raises(ConfigError, match=r"`pos\.at` must be"):
                compose("train", ["model=vit", f"pos={pos}", f"pos.at={at}"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["attn=linformer", "attn.causal=true"], "linformer attention takes a full pattern, but is given a causal one"),
        (["attn=linear", "attn.pattern._target_=tfcli.nn.patterns.Axial"], "linear attention takes a full or causal"),
        (["attn=sliding", "attn.kernel=fast"], "must be one of auto, exact, explicit, flex, partition"),
        (["attn=sliding", "attn.pattern.size=0"], r"`attn\.pattern\.size` must be a whole number of at least 1"),
        (["attn=windws"], "Did you mean `windows`"),
        (["pos=roap"], "Did you mean `rope`"),
        (["pos=rope", "pos.at=middle"], r"`pos\.at` must be"),
        (["model=resnet18", "pos=rope"], "has no positions to swap"),
    ],
)
def test_slips_are_named(words, said):
    with pytest.raises(ConfigError, match=said):
        compose("train", ["model=vit", *words] if "model=resnet18" not in words else words)


@pytest.mark.parametrize("pos", POSITIONS)
@pytest.mark.parametrize("model", ["vit", pytest.param("clip", marks=pytest.mark.slow)])
def test_positions_in_place_survive_saving(model, pos):
    node = small(model, pos=pos)
    torch.manual_seed(1)
    one = build(node)
    torch.manual_seed(2)
    two = build(node)
    two.load_state_dict(one.state_dict())
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(two.eval().features(images).pooled, one.eval().features(images).pooled)


@pytest.mark.parametrize(
    "options_",
    [
        {"pool": "mean", "registers": 2},
        {"pool": "attention"},
        {"pool": "attention", "registers": 1, "norm": "rms", "activation": "swiglu"},
        {"stem": "overlap", "post_norm": True},
        {"stem": "conv", "layer_scale": 0.1},
    ],
)
def test_every_option_of_a_vit_trains(options_):
    net = build({**small("vit"), **options_})
    trains(net)
    special = options_.get("registers", 0) + (options_.get("pool", "class") == "class")
    assert net.features(torch.randn(1, 3, 16, 16)).tokens.shape == (1, 16 + special, 24)
