"""Our ViT equals transformers', timm's and torchvision's, with their weights taken through our converter from disk."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tfcli.models.vit import ViT
from tfcli.nn.attention import Attention
from tfcli.nn.capture import capture
from tfcli.nn.positions import Learned, Position
from tfcli.weights.load import load_weights

pytestmark = pytest.mark.parity

WIDTH, DEPTH, HEADS, PATCH, SIDE, CLASSES = 24, 3, 4, 4, 16, 5
ATOL = 1e-5


def ours(**changes) -> ViT:
    options = {"depth": DEPTH, "heads": HEADS, "image_size": SIDE, "patch_size": PATCH, "num_classes": CLASSES}
    options |= {"attn": partial(Attention), "pos": partial(Learned), "mlp_width": 40}
    return ViT(WIDTH, **(options | changes)).eval()


def images(side: int = SIDE) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))


def randomise(net: nn.Module, seed: int = 0) -> nn.Module:
    """Fill all parameters and floating-point buffers of `net`; variances stay positive. Returns it in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim > 1:
                tensor.copy_(noise * (1.5 / tensor[0].numel() ** 0.5 if tensor.shape[0] > 1 else 0.3))
            else:
                tensor.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
    return net.eval()


def transformers_vit(
    folder: Path, *, eps: float = 1e-12, name: str = "ViTForImageClassification", **changes
) -> nn.Module:
    transformers = _quietly("transformers")
    config = transformers.ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=HEADS,
        intermediate_size=40,
        image_size=SIDE,
        patch_size=PATCH,
        num_labels=CLASSES,
        layer_norm_eps=eps,
        **changes,
    )
    net = randomise(getattr(transformers, name)(config))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers.utils.logging.disable_progress_bar()
        net.save_pretrained(folder)
    return net


def timm_vit(**changes) -> nn.Module:
    timm = _quietly("timm")
    options = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    options |= {"mlp_ratio": 40 / WIDTH, "num_classes": CLASSES}
    return randomise(timm.models.VisionTransformer(**(options | changes)))


def torchvision_vit(**changes) -> nn.Module:
    torchvision = _quietly("torchvision")
    options = {"image_size": SIDE, "patch_size": PATCH, "num_layers": DEPTH, "num_heads": HEADS, "hidden_dim": WIDTH}
    return randomise(
        torchvision.models.VisionTransformer(**(options | {"mlp_dim": 40, "num_classes": CLASSES} | changes))
    )


def _quietly(name: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the references say of themselves while being imported
        return pytest.importorskip(name)


def stored(net: nn.Module, file: Path) -> str:
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, file)
    else:
        torch.save(net.state_dict(), file)
    return str(file)


def block_outputs(net: ViT, image: Tensor) -> list[Tensor]:
    with capture(net) as trace, torch.no_grad():
        net(image)
    return [trace.outputs[f"stack.blocks.{layer}"] for layer in range(DEPTH)]


@torch.no_grad()
def test_transformers_folder_gives_equal_logits_and_hidden_states(tmp_path: Path) -> None:
    theirs = transformers_vit(tmp_path, eps=1e-3)
    net = ours()
    report = load_weights(net, str(tmp_path), num_classes=CLASSES)
    expected = theirs(images(), output_hidden_states=True)
    assert torch.allclose(net(images()), expected.logits, atol=ATOL)
    for mine, hidden in zip(block_outputs(net, images()), expected.hidden_states[1:], strict=True):
        assert torch.allclose(mine, hidden, atol=ATOL)
    assert report.settings == {"heads": HEADS, "activation": "gelu", "norm_eps": 1e-3}
    assert report.notes == ["norm_eps 1e-06 -> 0.001: as the checkpoint's"]
    assert not report.new_head


@torch.no_grad()
def test_transformers_names_in_memory_are_taken_too(tmp_path: Path) -> None:
    theirs = transformers_vit(tmp_path / "folder", eps=1e-6)
    assert "vit.layers.0.attention.q_proj.weight" in theirs.state_dict()
    net = ours()
    load_weights(net, stored(theirs, tmp_path / "memory.safetensors"), num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()).logits, atol=ATOL)


@torch.no_grad()
def test_transformers_backbone_without_head_leaves_the_pooler_out(tmp_path: Path) -> None:
    theirs = transformers_vit(tmp_path, eps=1e-6, name="ViTModel")
    net = ours()
    report = load_weights(net, str(tmp_path), num_classes=CLASSES)
    assert torch.allclose(net.features(images()).tokens, theirs(images()).last_hidden_state, atol=ATOL)
    assert report.new_head
    assert report.notes == ["pooler: left out", f"head of {CLASSES} classes: new, since the checkpoint has none"]


@torch.no_grad()
@pytest.mark.parametrize("side", [8, 24])
def test_positions_are_resized_as_transformers_does(tmp_path: Path, side: int) -> None:
    theirs = transformers_vit(tmp_path, eps=1e-6)
    net = ours(image_size=side)
    report = load_weights(net, str(tmp_path), num_classes=CLASSES)
    assert torch.allclose(net(images(side)), theirs(images(side), interpolate_pos_encoding=True).logits, atol=ATOL)
    assert report.notes == [f"positions 4x4 -> {side // 4}x{side // 4}, as transformers does: bicubic"]


@torch.no_grad()
@pytest.mark.parametrize("side", [8, 24])
def test_positions_are_resized_as_timm_does(tmp_path: Path, side: int) -> None:
    theirs = timm_vit()
    file = stored(theirs, tmp_path / "timm.safetensors")
    theirs.set_input_size(img_size=(side, side))
    net = ours(image_size=side)
    load_weights(net, file, num_classes=CLASSES)
    assert torch.allclose(net(images(side)), theirs(images(side)), atol=ATOL)


@torch.no_grad()
@pytest.mark.parametrize("side", [8, 24])
def test_positions_are_resized_as_torchvision_does(tmp_path: Path, side: int) -> None:
    theirs, other = torchvision_vit(), torchvision_vit(image_size=side)
    from torchvision.models.vision_transformer import interpolate_embeddings

    file = stored(theirs, tmp_path / "torchvision.pth")
    other.load_state_dict(interpolate_embeddings(side, PATCH, theirs.state_dict()))
    net = ours(image_size=side)
    load_weights(net, file, num_classes=CLASSES)
    assert torch.allclose(net(images(side)), other(images(side)), atol=ATOL)


@torch.no_grad()
@pytest.mark.parametrize("pool", ["class", "mean"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_timm(tmp_path: Path, pool: str, suffix: str) -> None:
    changes = {"global_pool": "avg", "class_token": False} if pool == "mean" else {}
    theirs = timm_vit(**changes)
    net = ours(pool=pool)
    load_weights(net, stored(theirs, tmp_path / f"timm{suffix}"), num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()), atol=ATOL)
    _, layers = theirs.forward_intermediates(images(), output_fmt="NLC", return_prefix_tokens=False)
    for mine, hidden in zip(block_outputs(net, images()), layers, strict=True):
        assert torch.allclose(mine[:, int(pool == "class") :], hidden, atol=ATOL)


@torch.no_grad()
def test_timm_without_a_position_for_the_class_token(tmp_path: Path) -> None:
    theirs = timm_vit(no_embed_class=True)
    net = ours()
    load_weights(net, stored(theirs, tmp_path / "timm.pth"), num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()), atol=ATOL)


@torch.no_grad()
def test_torchvision(tmp_path: Path) -> None:
    theirs = torchvision_vit()
    net = ours()
    load_weights(net, stored(theirs, tmp_path / "torchvision.pth"), num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()), atol=ATOL)


@torch.no_grad()
def test_torchvision_files_of_old_name_the_mlp_otherwise(tmp_path: Path) -> None:
    theirs = torchvision_vit()
    old = {
        name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): t
        for name, t in theirs.state_dict().items()
    }
    torch.save(old, tmp_path / "old.pth")
    net = ours()
    load_weights(net, str(tmp_path / "old.pth"), num_classes=CLASSES)
    assert torch.allclose(net(images()), theirs(images()), atol=ATOL)


def test_representation_layer_takes_its_head_with_it(tmp_path: Path) -> None:
    net = ours()
    report = load_weights(
        net, stored(torchvision_vit(representation_size=WIDTH), tmp_path / "in21k.pth"), num_classes=CLASSES
    )
    assert report.new_head
    assert "pre_logits layer: left out" in report.notes
    assert net.head.weight.abs().sum() == 0


def test_gradients_equal_timm(tmp_path: Path) -> None:
    theirs = timm_vit()
    net = ours()
    load_weights(net, stored(theirs, tmp_path / "timm.safetensors"), num_classes=CLASSES)
    for model in (net, theirs):
        nn.functional.cross_entropy(model(images()), torch.tensor([1, 3])).backward()
    pairs = {
        "patch_embed.proj.weight": "patch_embed.proj.weight",
        "cls_token": "cls_token",
        "stack.positions.0.table": "pos_embed",
        "stack.blocks.0.attention.qkv.weight": "blocks.0.attn.qkv.weight",
        "stack.blocks.1.norm2.bias": "blocks.1.norm2.bias",
        "stack.blocks.2.mlp.fc1.weight": "blocks.2.mlp.fc1.weight",
        "head.bias": "head.bias",
    }
    mine, others = dict(net.named_parameters()), dict(theirs.named_parameters())
    for name, reference in pairs.items():
        expected = others[reference].grad
        assert torch.allclose(mine[name].grad.reshape(expected.shape), expected, atol=ATOL), name


@torch.no_grad()
def test_other_positions_leave_the_learned_table_out(tmp_path: Path) -> None:
    net = ours(pos=partial(Position))
    report = load_weights(net, stored(timm_vit(), tmp_path / "timm.pth"), num_classes=CLASSES)
    assert any("learned positions: left out" in note for note in report.notes)


SIZES = {
    "ti16": (192, 12, 3, 16, 224, 5_717_416),
    "s16": (384, 12, 6, 16, 224, 22_050_664),
    "b16": (768, 12, 12, 16, 224, 86_567_656),
    "b16 at 384": (768, 12, 12, 16, 384, 86_859_496),
    "b32": (768, 12, 12, 32, 224, 88_224_232),
    "l16": (1024, 24, 16, 16, 224, 304_326_632),
    "l32": (1024, 24, 16, 32, 224, 306_535_400),
    "h14": (1280, 32, 16, 14, 224, 632_045_800),
}


@pytest.mark.parametrize("size", SIZES)
def test_published_parameter_counts(size: str) -> None:
    width, depth, heads, patch, side, expected = SIZES[size]
    with torch.device("meta"):
        net = ViT(
            width,
            depth=depth,
            heads=heads,
            image_size=side,
            patch_size=patch,
            num_classes=1000,
            attn=partial(Attention),
            pos=partial(Learned),
        )
    assert sum(parameter.numel() for parameter in net.parameters()) == expected
