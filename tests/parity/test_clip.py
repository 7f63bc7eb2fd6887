"""Our CLIP equals transformers' and open_clip's, taken from disk as they or OpenAI would have written it."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from torch import Tensor, nn

from tfcli.engine.adopt import adopt_blueprint
from tfcli.engine.build import build
from tfcli.engine.compose import compose
from tfcli.errors import WeightsError
from tfcli.models.clip import CLIP
from tfcli.weights.load import LoadReport, blueprint, load_weights

pytestmark = pytest.mark.parity

EMBED, CONTEXT, VOCABULARY = 20, 12, 50
OURS = "tfcli.models.clip.CLIP"
TEXT = {"context_length": CONTEXT, "vocab_size": VOCABULARY, "width": 64, "heads": 1, "layers": 2}
VIT = {"image_size": 24, "layers": 3, "width": 128, "patch_size": 6}
RESNET = {"image_size": 64, "layers": [2, 1, 2, 1], "width": 16}


def close(mine: Tensor, theirs: Tensor) -> bool:
    """To 1e-5 of the largest value."""
    return mine.shape == theirs.shape and bool((mine - theirs).abs().max() <= 1e-5 * theirs.abs().max().clamp(min=1))


def images(side: int) -> Tensor:
    return torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(7))


def tokens() -> Tensor:
    """Rows of start, words, end and padding, of several lengths."""
    rows = torch.randint(1, VOCABULARY - 2, (5, CONTEXT), generator=torch.Generator().manual_seed(3))
    rows[:, 0] = VOCABULARY - 2
    for row, end in zip(rows, (2, 4, 6, 9, 11), strict=True):
        row[end], row[end + 1 :] = VOCABULARY - 1, 0
    return rows


def randomise(net: nn.Module, seed: int = 0) -> Any:
    """Fill all parameters and statistics of `net` so that every part matters. Returns it in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if not tensor.is_floating_point() or tensor.ndim == 0:
                continue
            noise = torch.randn(tensor.shape, generator=generator)
            if name.endswith("running_var"):
                tensor.copy_(noise.abs() + 0.5)
            elif tensor.ndim > 1:
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(noise * 0.2 + (1.0 if name.endswith("weight") else 0.0))
        net.logit_scale.fill_(2.5)
    return net.eval()


def mine(weights: Path | str, *overrides: str) -> tuple[CLIP, LoadReport, DictConfig]:
    """`model=clip model.weights=...`: sized by the checkpoint, built, loaded."""
    config = compose("train", ["model=clip", *overrides]).config
    found = blueprint(OURS, str(weights))
    assert found is not None
    OmegaConf.set_struct(config, False)
    typed = [override.partition("=")[0] for override in overrides]
    config.model = found.apply(OmegaConf.to_container(config.model, resolve=False), typed)
    config.data.update(found.data)
    net = build(config.model).eval()
    return net, load_weights(net, str(weights)), config


def transformers_clip(folder: Path, *, image_act: str = "gelu", text_act: str = "quick_gelu") -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers")
        config = transformers.CLIPConfig(
            vision_config={
                "hidden_size": 48,
                "intermediate_size": 80,
                "num_hidden_layers": 3,
                "num_attention_heads": 4,
                "image_size": 24,
                "patch_size": 6,
                "hidden_act": image_act,
                "layer_norm_eps": 1e-3,
            },
            text_config={
                "hidden_size": 32,
                "intermediate_size": 72,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
                "vocab_size": VOCABULARY,
                "max_position_embeddings": CONTEXT,
                "hidden_act": text_act,
                "bos_token_id": VOCABULARY - 2,
                "eos_token_id": VOCABULARY - 1,
                "pad_token_id": 0,
            },
            projection_dim=EMBED,
        )
        net = randomise(transformers.CLIPModel(config))
        transformers.utils.logging.disable_progress_bar()
        net.save_pretrained(folder)
    return net


def open_clip_net(vision: dict[str, Any], *, quick_gelu: bool = True) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        open_clip = pytest.importorskip("open_clip")
        net = open_clip.model.CLIP(EMBED, dict(vision), dict(TEXT), quick_gelu=quick_gelu)
    return randomise(net)


def open_clip_folder(net: Any, folder: Path, vision: dict[str, Any], *, quick_gelu: bool, suffix: str) -> None:
    folder.mkdir()
    settings = {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": TEXT}
    settings |= {"quick_gelu": True} if quick_gelu else {}
    preset = {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic", "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": preset}))
    state = {name: tensor.contiguous() for name, tensor in net.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, folder / "open_clip_model.safetensors")
    else:
        torch.save(state, folder / "open_clip_pytorch_model.bin")


class Tree(nn.Module):
    """A module with the tensors of a state dict under their dotted names, as a traced model keeps them."""

    def __init__(self, state: dict[str, Tensor]):
        super().__init__()
        inner: dict[str, dict[str, Tensor]] = {}
        for name, tensor in state.items():
            head, dot, rest = name.partition(".")
            if dot:
                inner.setdefault(head, {})[rest] = tensor
            elif tensor.is_floating_point():
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))
            else:
                self.register_buffer(name, tensor)
        for name, part in inner.items():
            self.add_module(name, Tree(part))

    def forward(self, x: Tensor) -> Tensor:
        return x


def openai_archive(net: Any, file: Path, side: int) -> None:
    """What OpenAI publishes: a TorchScript archive, matrices in half precision, sizes among its attributes."""
    half = (nn.Linear, nn.Conv2d, nn.MultiheadAttention)
    for module in net.modules():
        if isinstance(module, half):
            for parameter in module.parameters(recurse=False):
                parameter.data = parameter.data.half()
    state = {name: tensor for name, tensor in net.state_dict().items() if name != "attn_mask"}
    for name in ("visual.proj", "text_projection"):
        state |= {name: state[name].half()} if name in state else {}
    sizes = {"input_resolution": side, "context_length": CONTEXT, "vocab_size": VOCABULARY}
    state |= {name: torch.tensor(number) for name, number in sizes.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that TorchScript is deprecated
        torch.jit.save(torch.jit.trace(Tree(state), torch.zeros(1)), str(file))
    net.load_state_dict({name: tensor.float() for name, tensor in state.items() if name not in sizes}, strict=False)
    net.float()


def assert_equal_to_open_clip(net: CLIP, theirs: Any, side: int) -> None:
    image, text, scale = theirs(images(side), tokens())
    assert close(net.encode_image(images(side)), theirs.encode_image(images(side)))
    assert close(net.encode_text(tokens()), theirs.encode_text(tokens()))
    assert close(net(images(side), tokens()), scale * image @ text.mT)


@torch.no_grad()
def test_transformers_folder(tmp_path: Path) -> None:
    theirs = transformers_clip(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    net, report, config = mine(tmp_path)
    expected = theirs(input_ids=tokens(), pixel_values=images(24))
    vision = theirs.vision_model(images(24))
    assert close(net.features(images(24)).tokens, vision.last_hidden_state)
    assert close(net.features(images(24)).pooled, vision.pooler_output)
    assert close(net.encode_image(images(24)), theirs.visual_projection(vision.pooler_output))
    assert close(net.encode_text(tokens()), theirs.text_projection(theirs.text_model(tokens()).pooler_output))
    assert close(net(images(24), tokens()), expected.logits_per_image)
    assert report.settings == {
        "image.activation": "gelu",
        "image.norm_eps": 1e-3,
        "text.activation": "quick_gelu",
        "text.norm_eps": 1e-5,
    }
    assert config.data.mean == [0.5] * 3
    assert config.data.image_size == 24


@torch.no_grad()
def test_transformers_names_in_memory(tmp_path: Path) -> None:
    theirs = transformers_clip(tmp_path)
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert close(mine(tmp_path)[0].encode_text(tokens()), theirs.get_text_features(tokens()).pooler_output)


@torch.no_grad()
@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("quick_gelu", [True, False])
@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
def test_open_clip_folder(tmp_path: Path, vision: dict[str, Any], quick_gelu: bool, suffix: str) -> None:
    theirs = open_clip_net(vision, quick_gelu=quick_gelu)
    open_clip_folder(theirs, tmp_path / "own", vision, quick_gelu=quick_gelu, suffix=suffix)
    net, report, config = mine(tmp_path / "own")
    assert_equal_to_open_clip(net, theirs, vision["image_size"])
    assert report.settings["text.activation"] == ("quick_gelu" if quick_gelu else "gelu")
    assert (config.data.mean, config.data.std) == ([0.5] * 3, [0.25] * 3)
    assert config.model.tokenizer.kind == "clip"


@torch.no_grad()
@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
def test_openai_archive(tmp_path: Path, vision: dict[str, Any]) -> None:
    theirs, side = open_clip_net(vision), vision["image_size"]
    openai_archive(theirs, tmp_path / "ViT.pt", side)
    net, report, config = mine(tmp_path / "ViT.pt")
    assert_equal_to_open_clip(net, theirs, side)
    assert report.settings["text.activation"] == "quick_gelu"
    assert config.data.mean == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    assert (config.data.image_size, config.data.interpolation, config.data.eval_crop) == (side, "bicubic", 1.0)


@torch.no_grad()
@pytest.mark.parametrize("vision", [VIT, RESNET], ids=["vit", "resnet"])
def test_plain_state_dict_names_its_guess(tmp_path: Path, vision: dict[str, Any]) -> None:
    theirs = open_clip_net(vision)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "x.pt")
    assert_equal_to_open_clip(mine(tmp_path / "x.pt")[0], theirs, vision["image_size"])
    found = blueprint(OURS, str(tmp_path / "x.pt"))
    assert found
    (note,) = found.notes
    assert "states neither activation nor heads" in note
    assert "64 channels a head" in note


@torch.no_grad()
def test_a_typed_activation_stays(tmp_path: Path) -> None:
    theirs = open_clip_net(VIT, quick_gelu=False)
    torch.save(theirs.state_dict(), tmp_path / "x.pt")
    net, _, config = mine(tmp_path / "x.pt", "model.image.activation=gelu", "model.text.activation=gelu")
    assert_equal_to_open_clip(net, theirs, 24)
    assert config.model.image.activation == "gelu"


def test_what_is_typed_of_a_tower_is_said_or_refused_by_name(tmp_path: Path) -> None:
    transformers_clip(tmp_path)
    weights = f"model.weights={tmp_path}"
    config = compose("train", ["model=clip", weights, "model.image.heads=2"]).config
    _, said = adopt_blueprint(config, {"model.image.heads"}, blueprint(OURS, str(tmp_path)))
    assert "`model.image.heads` stays 2, as it was typed; the weights were trained with 4" in said
    config = compose("train", ["model=clip", weights, "model.text.width=64"]).config
    with pytest.raises(WeightsError, match=r"`model\.text\.width=64` was typed, but the weights in .* are made for"):
        adopt_blueprint(config, {"model.text.width"}, blueprint(OURS, str(tmp_path)))


@torch.no_grad()
@pytest.mark.parametrize("side", [12, 36])
def test_vit_at_another_size_resamples_its_positions_as_transformers_does(tmp_path: Path, side: int) -> None:
    theirs = transformers_clip(tmp_path)
    net = _at(tmp_path, side)
    report = load_weights(net, str(tmp_path))
    expected = theirs.get_image_features(images(side), interpolate_pos_encoding=True).pooler_output
    assert close(net.encode_image(images(side)), expected)
    assert f"positions 4x4 -> {side // 6}x{side // 6}, as transformers does: bicubic" in report.notes


@torch.no_grad()
@pytest.mark.parametrize("side", [12, 36])
def test_vit_at_another_size_resamples_its_positions_as_open_clip_does(tmp_path: Path, side: int) -> None:
    theirs, other = open_clip_net(VIT), open_clip_net(VIT | {"image_size": side})
    from open_clip.model import resize_pos_embed

    open_clip_folder(theirs, tmp_path / "own", VIT, quick_gelu=True, suffix=".safetensors")
    state = theirs.state_dict()
    resize_pos_embed(state, other)
    other.load_state_dict(state)
    net = _at(tmp_path / "own", side)
    load_weights(net, str(tmp_path / "own"))
    assert close(net.encode_image(images(side)), other.encode_image(images(side)))


@torch.no_grad()
def test_resnet_at_another_size(tmp_path: Path) -> None:
    torch.save(open_clip_net(RESNET).state_dict(), tmp_path / "x.pt")
    net = _at(tmp_path / "x.pt", 96)
    report = load_weights(net, str(tmp_path / "x.pt"))
    assert "positions 2x2 -> 3x3, as open_clip does: bicubic, antialias" in report.notes
    assert net.encode_image(images(96)).shape == (3, EMBED)


def _at(weights: Path, side: int) -> CLIP:
    """The model that the checkpoint is for, at another size of image."""
    config = compose("train", ["model=clip"]).config
    found = blueprint(OURS, str(weights))
    assert found is not None
    OmegaConf.set_struct(config, False)
    config.model = found.apply(OmegaConf.to_container(config.model, resolve=False))
    config.data.image_size = side
    return build(config.model).eval()


def test_gradients_equal_open_clip(tmp_path: Path) -> None:
    theirs = open_clip_net(VIT)
    torch.save(theirs.state_dict(), tmp_path / "x.pt")
    net = mine(tmp_path / "x.pt")[0].train()
    image, text, scale = theirs.train()(images(24), tokens())
    (scale * image @ text.mT).logsumexp(1).sum().backward()
    net(images(24), tokens()).logsumexp(1).sum().backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    for ours, reference in {
        "logit_scale": theirs.logit_scale,
        "image.cls_token": theirs.visual.class_embedding,
        "image.stack.positions.0.table": theirs.visual.positional_embedding,
        "image.stack.stem_norm.weight": theirs.visual.ln_pre.weight,
        "image.stack.blocks.1.attention.qkv.weight": theirs.visual.transformer.resblocks[1].attn.in_proj_weight,
        "text.embed.weight": theirs.token_embedding.weight,
        "text.stack.blocks.0.mlp.fc1.weight": theirs.transformer.resblocks[0].mlp.c_fc.weight,
    }.items():
        assert close(gradients[ours].reshape(reference.shape), reference.grad), ours
