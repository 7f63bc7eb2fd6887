"""CLIP checkpoints of OpenAI, open_clip and transformers: what each says of its own size, and its tensors for ours.

`clip_names` knows the names of tensors. The activation is not in the weights: transformers and open_clip state it
beside them, OpenAI's are all QuickGELU. A wrong one shifts the features a little and costs accuracy without a word, so
it is set from the checkpoint wherever that tells.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import isqrt
from typing import Any

from tfcli.errors import WeightsError
from tfcli.models.clip import CLIP
from tfcli.models.vit import PatchEncoder
from tfcli.weights import open_clip_facts
from tfcli.weights.clip_names import PATCHES, POOL_TABLE, TABLES, as_transformers, detect, renamed
from tfcli.weights.files import Checkpoint
from tfcli.weights.layout import PLAIN, Layout
from tfcli.weights.names import State, count, known_activation, their_activation, usual_heads
from tfcli.weights.positions import resize_positions
from tfcli.weights.preprocessing import OPENAI_MEAN, OPENAI_STD

READS = {"clip": "CLIP"}
SHAPES = ("embed_width", "width", "depth", "mlp_width", "patch_size", "blocks", "vocab_size")
"""Settings, of a tower or of all, that the tensors fix, so that no other value can be typed."""
HOLDS = {
    "image._target_": "tfcli.models.clip.VisionTransformer",
    "text._target_": "tfcli.models.text_encoder.TextTransformer",
    **{f"{tower}.{key}": value for tower in ("image", "text") for key, value in PLAIN.items()},
    "image.stem": "patch",
    "image.post_norm": False,
    "image.attn.causal": False,
    "text.attn.pattern._target_": ("tfcli.nn.patterns.Full", "tfcli.nn.patterns.Causal"),
}
"""Values that transformers' CLIP can hold, see `tfcli.weights.layout`."""
SIZES = {(768, 32): "vit_b32", (768, 16): "vit_b16", (1024, 14): "vit_l14"}
RESNETS: dict[tuple[int, ...], str] = {
    (3, 4, 6, 3): "rn50",
    (3, 4, 23, 3): "rn101",
    (4, 6, 10, 6): "rn50x4",
    (6, 8, 18, 8): "rn50x16",
    (3, 15, 36, 10): "rn50x64",
}


def convert(
    state: State, net: CLIP, *, config: dict[str, Any] | None = None
) -> tuple[State, list[str], dict[str, Any]]:
    """Rename, fuse query, key and value, fit the positions to `net`.

    Args:
        state: tensors by the names in the file.
        net: the model to fit them to.
        config: what stands beside the file, as in `Checkpoint.config`.

    Returns:
        Tensors by our names, lines for the log, and settings of `net` that the checkpoint implies, for instance
            `{"image.activation": "quick_gelu", "image.norm_eps": 1e-05}`.

    Raises:
        WeightsError: a position table is not that of a square grid, or an activation is not known here.
    """
    notes: list[str] = []
    source = detect(state)
    stated = _stated(state, source, config or {})
    state = renamed(state, source)
    settings = {
        f"{tower}.{key}": value for tower, values in stated.items() for key, value in values.items() if key != "heads"
    }
    library = "transformers" if source in ("transformers", None) else "open_clip"
    if source is not None:  # a run of ours says itself
        settings["image.pos.resample"] = library
    _fit_positions(state, net, library, notes)
    return state, notes, settings


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Read a checkpoint's own sizes and preprocessing; None for our own names, which do not tell the heads.

    Returns:
        Settings of the model (`image` and `text` whole), settings of the data, and lines for the log.

    Raises:
        WeightsError: it is a CLIP, but of a kind that is not read here.
    """
    source = detect(checkpoint.state)
    if source is None:
        return None
    state = renamed(checkpoint.state, source)
    stated = _stated(checkpoint.state, source, checkpoint.config)
    notes: list[str] = []
    if "activation" not in stated["text"]:
        notes.append(
            "the file states neither activation nor heads, so they are taken as OpenAI's: quick_gelu (others' "
            "is mostly gelu: `model.image.activation=gelu model.text.activation=gelu`), 64 channels a head"
        )
        stated = {tower: {"activation": "quick_gelu"} | values for tower, values in stated.items()}
    try:
        text = _text_size(state) | stated["text"]
        vit = PATCHES in state
        heads = {key: value for key, value in stated["image"].items() if key == "heads"}
        image = (_vit_size(state) | stated["image"]) if vit else (_resnet_size(state) | heads)
        side = isqrt(len(state[TABLES["image"] if vit else POOL_TABLE]) - 1)
        embed_width = state["text.proj.weight"].shape[0]
    except (KeyError, IndexError, ValueError) as error:
        raise WeightsError(f"`{checkpoint.path}` is a CLIP of a kind that is not read here: no {error}.") from error
    image |= {"image_size": "${data.image_size}", "embed_width": "${model.embed_width}"}
    text |= {"embed_width": "${model.embed_width}"}
    model = {"embed_width": embed_width, "image": image, "text": text, "tokenizer": {"kind": "clip"}}
    pixels = side * (image["patch_size"] if vit else 32)
    data = {"image_size": pixels, "resize": "shorter", "eval_crop": 1.0, "interpolation": "bicubic"}
    return model, data | {"mean": OPENAI_MEAN, "std": OPENAI_STD}, notes


def export(state: State, settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a model of ours as transformers' CLIPModel.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: none; a CLIP has no head.
    """
    image, text = settings["image"], settings["text"]
    sizes, words = _vit_size(state), _text_size(state)
    config = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": settings["embed_width"],
        "vision_config": _tower(sizes, image)
        | {"image_size": image["image_size"], "patch_size": sizes["patch_size"], "num_channels": 3},
        "text_config": _tower(words, text)
        | {
            "max_position_embeddings": words["context"],
            "vocab_size": words["vocab_size"],
            "eos_token_id": words["vocab_size"] - 1,
        },
    }
    frames = ("{bos} $A {eos}",)
    theirs = as_transformers(state)
    return Layout(library="transformers", architecture="CLIPModel", state=theirs, config=config, frames=frames)


def _tower(sizes: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["depth"],
        "intermediate_size": sizes["mlp_width"],
        "projection_dim": settings["embed_width"],
        "num_attention_heads": settings["heads"],
        "hidden_act": their_activation(settings.get("activation", "gelu")),
        "layer_norm_eps": settings.get("norm_eps", 1e-5),
    }


def describe(state: State) -> str:
    """Return, for an error's text, the model that weights under our names are for, or nothing if they are no CLIP's."""
    if "text.proj.weight" not in state:
        return ""
    patches = state.get(PATCHES)
    if patches is not None and patches.ndim == 4:
        name = SIZES.get((patches.shape[0], patches.shape[-1]))
        size = f"a ViT of width {patches.shape[0]}, patch {patches.shape[-1]}"
    else:
        blocks = _blocks(state)
        name, size = RESNETS.get(blocks), f"a ResNet of {', '.join(map(str, blocks))} blocks"
    return f" The file is a CLIP with {size}" + (f": try `model=clip_{name}`." if name else ".")


def _stated(state: State, source: str | None, config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return heads, activation and epsilon of each tower, as far as the files tell."""
    found: dict[str, dict[str, Any]] = {"image": {}, "text": {}}
    if source == "transformers":
        for tower, key, heads in (("image", "vision_config", 12), ("text", "text_config", 8)):
            part = config.get(key) or {}
            end, ids = part.get("eos_token_id") or 2, state.get("text_model.embeddings.token_embedding.weight", ())
            if tower == "text" and 2 < end < min(len(ids), 49408) - 1:  # of 2 transformers makes the largest id, too
                raise WeightsError(
                    f"this checkpoint reads its texts at token {end} (config.json: text_config.eos_token_id); tfcli's "
                    "CLIP reads them at the largest id, the end of the text in CLIP's own vocabulary."
                )
            found[tower] = {
                "heads": int(part.get("num_attention_heads", heads)),
                "activation": known_activation(part.get("hidden_act", "quick_gelu")),
                "norm_eps": float(part.get("layer_norm_eps", 1e-5)),
            }
    elif source == "openai":
        theirs = config.get("open_clip", {}).get("model_cfg")
        if theirs:
            found = open_clip_facts.stated(theirs)
        else:
            known = {"activation": "quick_gelu"} if "input_resolution" in state else {}
            found = {tower: {"norm_eps": 1e-5, **known} for tower in found}
        open_clip_facts.refuse_by_tensors(state)
    else:
        run = config.get("run", {}).get("model") or {}
        for tower in found:
            part = run.get(tower) or {}
            found[tower] = {key: part[key] for key in ("activation", "norm_eps") if key in part}
    return found


def _fit_positions(state: State, net: CLIP, source: str, notes: list[str]) -> None:
    names, image = {name for name, _ in net.named_parameters()}, net.image
    if isinstance(image, PatchEncoder):
        table, grid = TABLES["image"], image.patch_embed.grid
    else:
        table, grid = POOL_TABLE, (image.image_size // 32,) * 2
    if table in state:
        state[table], note = resize_positions(state[table], grid, special=1, source=source)
        notes.extend([note] if note else [])
    text, context = state.get(TABLES["text"]), net.text.context
    if text is not None and len(text) > context:
        state[TABLES["text"]] = text[:context]
        notes.append(f"text positions {len(text)} -> {context}: the first of them")
    for tower, table in TABLES.items():
        if table in state and table not in names and hasattr(getattr(net, tower), "stack"):
            del state[table]
            notes.append(f"learned positions of the {tower} tower: left out, since this model has others (`pos=`)")


def _blocks(state: State) -> tuple[int, ...]:
    names = [re.fullmatch(r"image\.layer(\d)\.(\d+)\.conv1\.weight", name) for name in state]
    stages = [int(match[1]) for match in names if match]
    return tuple(stages.count(stage) for stage in (1, 2, 3, 4))


def _vit_size(state: State) -> dict[str, Any]:
    width, patch_size = state[PATCHES].shape[0], state[PATCHES].shape[-1]
    return {
        "_target_": "tfcli.models.clip.VisionTransformer",
        "width": width,
        "depth": count(state, r"image\.stack\.blocks\.(\d+)\."),
        "heads": usual_heads(width),
        "mlp_width": state["image.stack.blocks.0.mlp.fc1.weight"].shape[0],
        "patch_size": patch_size,
        "stem": "patch",
        "norm_eps": 1e-5,
        "attn": "${attn}",
        "pos": "${pos}",
    }


def _resnet_size(state: State) -> dict[str, Any]:
    width = state["image.layer1.0.conv1.weight"].shape[0]
    return {
        "_target_": "tfcli.models.resnet.ModifiedResNet",
        "blocks": list(_blocks(state)),
        "width": width,
        "heads": width // 2,
    }


def _text_size(state: State) -> dict[str, Any]:
    vocab_size, width = state["text.embed.weight"].shape
    return {
        "_target_": "tfcli.models.text_encoder.TextTransformer",
        "width": width,
        "depth": count(state, r"text\.stack\.blocks\.(\d+)\."),
        "heads": max(width // 64, 1),
        "mlp_width": state["text.stack.blocks.0.mlp.fc1.weight"].shape[0],
        "context": len(state[TABLES["text"]]),
        "vocab_size": vocab_size,
        "norm_eps": 1e-5,
        "attn": {
            "_target_": "tfcli.nn.attention.Attention",
            "_partial_": True,
            "pattern": {"_target_": "tfcli.nn.patterns.Causal"},
            "kernel": "auto",
        },
        "pos": {"_target_": "tfcli.nn.positions.Learned", "_partial_": True, "at": "stem", "std": 0.02},
    }
