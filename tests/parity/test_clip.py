"""Our CLIP equals transformers' and open_clip's, taken from disk as they or OpenAI would have written it."""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from parity.folders import composed
from safetensors.torch import save_file
from torch import Tensor, nn

from tfcli.engine.config.build import build
from tfcli.engine.config.compose import compose
from tfcli.engine.loading.adopt import adopt_weights
from tfcli.errors import WeightsError
from tfcli.models.clip import CLIP
from tfcli.weights import open_clip_facts
from tfcli.weights.blueprint import blueprint
from tfcli.weights.load import load_weights
from tfcli.weights.load_report import LoadReport

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
    config = composed("train", ["model=clip", *overrides]).config
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


def open_clip_net(
    vision: dict[str, Any], text: dict[str, Any] = TEXT, *, quick_gelu: bool = True, **others: Any
) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        open_clip = pytest.importorskip("open_clip")
        net = open_clip.model.CLIP(EMBED, dict(vision), dict(text), quick_gelu=quick_gelu, **others)
    return randomise(net)


def open_clip_folder(
    net: Any,
    folder: Path,
    vision: dict[str, Any],
    text: dict[str, Any] = TEXT,
    *,
    quick_gelu: bool,
    suffix: str,
    **others: Any,
) -> None:
    folder.mkdir()
    settings = {"embed_dim": EMBED, "vision_cfg": vision, "text_cfg": text, **others}
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


def test_a_transformers_folder_that_reads_texts_elsewhere_is_refused(tmp_path: Path) -> None:
    transformers_clip(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["text_config"]["eos_token_id"] = 7
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="reads its texts at token 7"):
        blueprint(OURS, str(tmp_path))


@torch.no_grad()
def test_transformers_names_in_memory(tmp_path: Path) -> None:
    theirs = transformers_clip(tmp_path)
    state = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert close(mine(tmp_path)[0].encode_text(tokens()), theirs.get_text_features(tokens()).pooler_output)


@torch.no_grad()
@pytest.mark.parametrize(
    ("vision", "quick_gelu", "suffix"),
    [
        pytest.param(vision, quick_gelu, suffix, marks=[] if (suffix == ".bin") != quick_gelu else pytest.mark.slow)
        for vision in (VIT, RESNET)
        for quick_gelu in (True, False)
        for suffix in (".safetensors", ".bin")
    ],
)
def test_open_clip_folder(tmp_path: Path, vision: dict[str, Any], quick_gelu: bool, suffix: str) -> None:
    theirs = open_clip_net(vision, quick_gelu=quick_gelu)
    open_clip_folder(theirs, tmp_path / "own", vision, quick_gelu=quick_gelu, suffix=suffix)
    net, report, config = mine(tmp_path / "own")
    assert_equal_to_open_clip(net, theirs, vision["image_size"])
    assert report.settings["text.activation"] == ("quick_gelu" if quick_gelu else "gelu")
    assert (config.data.mean, config.data.std) == ([0.5] * 3, [0.25] * 3)
    assert config.model.tokenizer.kind == "clip"


TAKEN: list[tuple[str, dict[str, Any]]] = [
    ("vision_cfg", {"norm_kwargs": {"eps": 0.1}}),
    ("text_cfg", {"norm_kwargs": {"eps": 0.1}}),
    ("vision_cfg", {"act_kwargs": {"approximate": "tanh"}}),
    ("text_cfg", {"act_kwargs": {"approximate": "tanh"}}),
    ("vision_cfg", {"head_width": 32}),
    ("text_cfg", {"heads": 4}),
    ("vision_cfg", {"final_ln_after_pool": True, "patch_dropout": 0.5, "pos_embed_type": "sin_cos_2d"}),
    ("vision_cfg", {"output_tokens": False, "image_size": [24, 24], "pool_type": "tok", "block_type": None}),
    ("text_cfg", {"pad_id": 1, "eos_id": 3, "pool_type": "argmax", "proj_type": "linear", "no_causal_mask": False}),
    ("model_cfg", {"nonscalar_logit_scale": True, "init_logit_scale": 1.0, "init_logit_bias": None}),
]
REFUSED: list[tuple[str, dict[str, Any]]] = [
    ("vision_cfg", {"pool_type": "avg"}),
    ("vision_cfg", {"no_ln_pre": True}),
    ("vision_cfg", {"attentional_pool": True, "attn_pooler_heads": 4}),
    ("vision_cfg", {"block_type": "custom"}),
    ("vision_cfg", {"image_size": [24, 54]}),
    ("vision_cfg", {"norm_kwargs": {"elementwise_affine": False}}),
    ("text_cfg", {"pool_type": "last"}),
    ("text_cfg", {"pool_type": "first"}),
    ("text_cfg", {"pool_type": "eos"}),
    ("text_cfg", {"no_causal_mask": True}),
    ("text_cfg", {"embed_cls": True}),
    ("text_cfg", {"proj_bias": True}),
    ("text_cfg", {"proj_type": "none"}),
    ("text_cfg", {"hf_model_name": "roberta-base"}),
    ("text_cfg", {"tokenizer_kwargs": {"clean": "canonicalize"}}),
    ("text_cfg", {"of_tomorrow": 1}),
    ("model_cfg", {"init_logit_bias": -10.0}),
    ("model_cfg", {"multimodal_cfg": {"layers": 1}}),
    *(
        (part, {key: 0.1 if key == "ls_init_value" else True})
        for part in ("vision_cfg", "text_cfg")
        for key in ("ls_init_value", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_fc")
    ),
]
NOT_BUILT = {"hf_model_name", "tokenizer_kwargs", "of_tomorrow", "multimodal_cfg", "norm_kwargs"}
"""Keys that open_clip's own tiny model is not built with; the folder's config alone states them."""


def drawn(part: str, settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Settings of the two towers, and of the model, with `settings` in one of them."""
    parts = {"vision_cfg": VIT, "text_cfg": TEXT, "model_cfg": {}}
    parts[part] = parts[part] | settings
    return parts["vision_cfg"], parts["text_cfg"], parts["model_cfg"]


@torch.no_grad()
@pytest.mark.parametrize(("part", "settings"), TAKEN, ids=str)
def test_what_open_clip_states_of_a_tower_is_taken(tmp_path: Path, part: str, settings: dict[str, Any]) -> None:
    vision, text, others = drawn(part, settings)
    theirs = open_clip_net(vision, text, quick_gelu=False, **others)
    open_clip_folder(theirs, tmp_path / "own", vision, text, quick_gelu=False, suffix=".safetensors", **others)
    assert_equal_to_open_clip(mine(tmp_path / "own")[0], theirs, 24)


@pytest.mark.parametrize(("part", "settings"), REFUSED, ids=str)
def test_what_our_towers_have_not_is_refused_by_name(tmp_path: Path, part: str, settings: dict[str, Any]) -> None:
    vision, text, others = drawn(part, settings)
    built = drawn(part, {} if NOT_BUILT & settings.keys() else settings)
    theirs = open_clip_net(built[0], built[1], quick_gelu=False, **built[2])
    open_clip_folder(theirs, tmp_path / "own", vision, text, quick_gelu=False, suffix=".safetensors", **others)
    key = next(iter(settings))
    named = r"24(?: x |, )54" if key == "image_size" else rf"`model_cfg\.({part}\.)?{key}: "
    with pytest.raises(WeightsError, match=named):
        blueprint(OURS, str(tmp_path / "own"))


@pytest.mark.parametrize(
    ("part", "settings", "feature"),
    [
        ("text_cfg", {"ls_init_value": 0.1}, "LayerScale"),
        ("vision_cfg", {"ls_init_value": 0.1}, "LayerScale"),
        ("vision_cfg", {"no_ln_pre": True}, "no norm before the first block"),
        ("vision_cfg", {"attentional_pool": True, "attn_pooler_heads": 4}, "an attentional pool"),
        ("vision_cfg", {"qk_norm": True}, "norms of queries and keys"),
        ("vision_cfg", {"scaled_cosine_attn": True}, "scaled cosines"),
        ("vision_cfg", {"scale_heads": True}, "scale of each head"),
        ("vision_cfg", {"scale_attn_inner": True}, "before attention's output layer"),
        ("vision_cfg", {"scale_attn": True}, "a norm after attention"),
        ("vision_cfg", {"scale_fc": True}, "a norm inside the MLP"),
        ("text_cfg", {"proj_bias": True}, "projection with a bias"),
        ("model_cfg", {"init_logit_bias": -10.0}, "as SigLIP has it"),
    ],
    ids=str,
)
def test_tensors_alone_name_the_feature(tmp_path: Path, part: str, settings: dict[str, Any], feature: str) -> None:
    vision, text, others = drawn(part, settings)
    torch.save(open_clip_net(vision, text, **others).state_dict(), tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=feature):
        blueprint(OURS, str(tmp_path / "x.pt"))


def test_every_key_of_open_clips_config_is_known_and_its_default_passes() -> None:
    model = pytest.importorskip("open_clip.model")
    vision, text = (dataclasses.asdict(kind()) for kind in (model.CLIPVisionCfg, model.CLIPTextCfg))
    open_clip_facts.stated({"embed_dim": 512, "vision_cfg": vision, "text_cfg": text})
    for part, defaults in (("vision_cfg", vision), ("text_cfg", text)):
        unknown = defaults.keys() - open_clip_facts.TOWERS[part].keys()
        assert all(re.fullmatch(open_clip_facts.HARMLESS[part], key) for key in unknown)


@torch.no_grad()
def test_a_resnets_heads_are_of_the_width_that_open_clip_states(tmp_path: Path) -> None:
    vision = RESNET | {"head_width": 32}
    theirs = open_clip_net(vision)
    open_clip_folder(theirs, tmp_path / "own", vision, quick_gelu=True, suffix=".safetensors")
    assert_equal_to_open_clip(mine(tmp_path / "own")[0], theirs, 64)


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
    _, _, said = adopt_weights(config, {"model.image.heads"})
    assert "`model.image.heads` stays 2, as it was typed; the weights were trained with 4" in said
    config = compose("train", ["model=clip", weights, "model.text.width=64"]).config
    with pytest.raises(WeightsError, match=r"`model\.text\.width=64` was typed, but the weights in .* are made for"):
        adopt_weights(config, {"model.text.width"})


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
@pytest.mark.parametrize("side", [pytest.param(12, marks=pytest.mark.slow), 36])
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
    config = composed("train", ["model=clip"]).config
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
