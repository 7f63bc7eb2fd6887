"""CLIP's own promises: what a text tower may see, what the scale may become, what layers are called."""

from __future__ import annotations

from functools import partial
from math import log

import pytest
import torch
from torch import Tensor, nn

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.models.clip import CLIP, ModifiedResNet, TextBag, TextTransformer, VisionTransformer
from tfcli.models.protocols import ImageEncoder, ImageTextEncoder
from tfcli.nn.attention import Attention
from tfcli.nn.patterns import Causal
from tfcli.nn.positions import Learned, Position, Sinusoidal

EMBED, CONTEXT, VOCABULARY = 16, 10, 30
CAUSAL = partial(Attention, pattern=Causal())


def image_tower(**changes) -> VisionTransformer:
    options = {"depth": 3, "heads": 2, "image_size": 16, "patch_size": 4, "embed_width": EMBED}
    return VisionTransformer(24, **(options | {"attn": Attention, "pos": Learned} | changes))


def resnet_tower(**changes) -> ModifiedResNet:
    return ModifiedResNet((1, 2, 1, 1), **({"width": 8, "embed_width": EMBED, "image_size": 64, "heads": 4} | changes))


def text_tower(**changes) -> TextTransformer:
    options = {"depth": 2, "heads": 2, "context": CONTEXT, "vocab_size": VOCABULARY, "embed_width": EMBED}
    return TextTransformer(20, **(options | {"attn": CAUSAL, "pos": Learned} | changes))


def clip(image: nn.Module | None = None, text: nn.Module | None = None, **changes) -> CLIP:
    torch.manual_seed(0)
    return CLIP(EMBED, image=image or image_tower(), text=text or text_tower(), **changes)


def tokens(*ends: int) -> Tensor:
    rows = torch.randint(1, VOCABULARY - 2, (len(ends), CONTEXT), generator=torch.Generator().manual_seed(1))
    rows[:, 0] = VOCABULARY - 2
    for row, end in zip(rows, ends, strict=True):
        row[end], row[end + 1 :] = VOCABULARY - 1, 0
    return rows


def images(side: int = 16) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(2))


TOWERS = {
    "vit": (image_tower, 16),
    "vit with a stem of convolutions": (partial(image_tower, stem="conv"), 16),
    "vit with sinusoids": (partial(image_tower, pos=Sinusoidal), 16),
    "resnet": (resnet_tower, 64),
}


@torch.no_grad()
@pytest.mark.parametrize("tower", TOWERS)
def test_an_image_is_its_projected_features(tower: str) -> None:
    make, side = TOWERS[tower]
    net = clip(make()).eval()
    assert isinstance(net, ImageTextEncoder)
    assert isinstance(net, ImageEncoder)
    features = net.features(images(side))
    assert torch.equal(net.encode_image(images(side)), net.project(features.pooled))
    assert net.encode_image(images(side)).shape == (3, EMBED)
    assert features.tokens.shape[1] == (4 if tower == "resnet" else 17)
    if tower == "resnet":
        assert net.project(features.pooled) is features.pooled
    else:
        assert features.pooled.shape == (3, 24)


@torch.no_grad()
def test_logits_are_scaled_cosines() -> None:
    net = clip().eval()
    image, text = net.encode_image(images()), net.encode_text(tokens(2, 5))
    cosine = nn.functional.cosine_similarity(image[:, None], text[None], dim=-1)
    assert torch.allclose(net(images(), tokens(2, 5)), cosine / 0.07, atol=1e-5)


def test_the_scale_is_held_at_its_limit_and_only_there() -> None:
    net = clip()
    for start, expected in ((2.0, 2.0), (9.0, log(100.0))):
        net.logit_scale.data.fill_(start)
        net.clamp_scale()
        assert net.logit_scale.item() == pytest.approx(expected)
    assert net.scale.item() == pytest.approx(100.0)
    net.scale.backward()
    assert net.logit_scale.grad is not None


@torch.no_grad()
@pytest.mark.parametrize("make", [text_tower, partial(TextBag, 20, context=CONTEXT, vocab_size=VOCABULARY)])
def test_what_follows_the_end_of_a_text_does_not_matter(make) -> None:
    tower = make(embed_width=EMBED).eval()
    rows, noisy = tokens(3, 6, 9), tokens(3, 6, 9)
    noisy[0, 4:], noisy[1, 7:] = 5, 9
    assert torch.allclose(tower(rows), tower(noisy), atol=1e-6)
    assert torch.allclose(tower(rows[:1]), tower(rows)[:1], atol=1e-6)
    assert torch.allclose(tower.train()(rows), tower.eval()(rows), atol=1e-6)
    assert not torch.allclose(tower(rows)[0], tower(rows)[1])


@torch.no_grad()
def test_a_bag_has_no_order_and_a_transformer_has() -> None:
    rows = tokens(5)
    swapped = rows[:, [0, 2, 1, 4, 3, 5, *range(6, CONTEXT)]]
    bag = TextBag(20, context=CONTEXT, vocab_size=VOCABULARY, embed_width=EMBED)
    assert torch.allclose(bag(rows), bag(swapped), atol=1e-6)
    assert not torch.allclose(text_tower().eval()(rows), text_tower().eval()(swapped), atol=1e-3)
    mean = bag.embed(rows[0, 1:5]).mean(0)
    assert torch.allclose(bag(rows)[0], bag.proj(mean), atol=1e-6)


def test_an_empty_text_is_no_accident() -> None:
    empty = torch.tensor([[VOCABULARY - 2, VOCABULARY - 1, *[0] * (CONTEXT - 2)]])
    for tower in (text_tower(), TextBag(20, context=CONTEXT, vocab_size=VOCABULARY, embed_width=EMBED)):
        assert bool(tower(empty).isfinite().all())


@pytest.mark.parametrize("image", [image_tower, resnet_tower])
def test_layers_are_level_at_the_top(image) -> None:
    net = clip(image())
    layers = {name: net.layer_of(name) for name, _ in net.named_parameters()}
    deepest = net.image.layers
    assert net.layers == deepest >= 3
    assert set(layers.values()) <= set(range(net.layers + 2))
    assert layers["text.stack.blocks.1.mlp.fc1.weight"] == net.layers
    assert layers["text.stack.blocks.0.mlp.fc1.weight"] == net.layers - 1
    for name in ("text.embed.weight", "text.stack.positions.0.table"):
        assert layers[name] == 0
    for name in ("logit_scale", "text.proj.weight", "text.stack.norm.weight"):
        assert layers[name] == net.layers + 1
    if image is image_tower:
        assert layers["image.patch_embed.proj.weight"] == layers["image.stack.stem_norm.weight"] == 0
        assert layers["image.stack.blocks.0.norm1.weight"] == 1
    else:
        assert layers["image.conv1.weight"] == 0
        assert layers["image.layer2.1.conv1.weight"] == 3
        assert layers["image.attention_pool.positions"] == net.layers + 1


def test_a_fresh_resnet_block_passes_its_input_through() -> None:
    block = resnet_tower().layer1[0]
    x = torch.randn(2, 8, 4, 4)
    assert torch.allclose(block.eval()(x), block.downsample(x).relu(), atol=1e-6)


WRONG = {
    "model.image.embed_width": (lambda: CLIP(EMBED, image=image_tower(embed_width=9), text=text_tower()), "equal"),
    "model.text.attn": (lambda: text_tower(attn=Attention), "causal"),
    "model.text.vocab_size": (lambda: text_tower(vocab_size=None), "the tokenizer's"),
    "patch_size": (lambda: image_tower(stem="conv", patch_size=6, image_size=12), "power of two"),
    "model.image.heads": (lambda: resnet_tower(heads=7), "divide"),
    "image_size": (lambda: resnet_tower(image_size=50), "multiple of 32"),
    "model.image.blocks": (lambda: ModifiedResNet((1, 1), width=8, embed_width=4, image_size=32, heads=4), "four"),
    "model.logit_scale_start": (lambda: clip(logit_scale_start=200.0), "logit_scale_max"),
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_values_are_named(key: str) -> None:
    make, reason = WRONG[key]
    with pytest.raises(ValueError, match=reason) as caught:
        make()
    assert key in str(caught.value)


def test_positions_of_both_towers_swap_from_the_shell() -> None:
    words = ["model=clip", "pos=none", "pos@model.text.pos=sinusoidal", "model.text.vocab_size=40"]
    net = build(compose("train", words).config.model)
    assert type(net.image.stack.positions[0]) is Position
    assert type(net.text.stack.positions[0]) is Sinusoidal


@pytest.mark.parametrize("name", ["clip", "clip_bag"])
def test_the_laptop_sizes_build_and_learn(name: str) -> None:
    torch.manual_seed(0)
    config = compose("train", [f"model={name}", "model.text.vocab_size=30", f"model.text.context={CONTEXT}"]).config
    net = build(config.model)
    assert sum(parameter.numel() for parameter in net.parameters()) < 500_000
    rows = tokens(3, 5, 7)
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    for _ in range(20):
        logits = net(images(32), rows)
        loss = nn.functional.cross_entropy(logits, torch.arange(3)) + nn.functional.cross_entropy(
            logits.mT, torch.arange(3)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5
    assert all(parameter.grad is not None for parameter in net.parameters())
