"""Read a ViT's settings from its checkpoint: sizes from the tensors, the rest from its library's `config.json`."""

from __future__ import annotations

import re
from math import isqrt
from typing import Any

from tfcli.errors import WeightsError
from tfcli.weights.names import State, count, known_activation, usual_heads
from tfcli.weights.vit_names import PATCHES

EPSILONS = {
    "vit": 1e-12,
    "deit": 1e-12,
    "vit_mae": 1e-12,
    "vit_msn": 1e-6,
    "dinov2": 1e-6,
    "dinov2_with_registers": 1e-6,
}
"""Model types of transformers that are read -> the epsilon of their norms where `config.json` has none."""
USUAL_EPSILONS = {"transformers": 1e-12, "timm": 1e-6, "torchvision": 1e-6}
TRAINING = {
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "drop_path_rate": "drop_path",
}
"""Training settings in transformers, which a new run states itself -> our setting."""
TIMM_HEADS = {"tiny": 3, "small": 6, "medium": 8, "base": 12, "large": 16, "huge": 16}
"""The word for a size in timm's names -> heads, for one that was made with another width."""
TIMM_ODD_HEADS = {"vit_base_patch16_gap": 16, "vit_giantopt_": 16, "test_vit4": 3, "test_vit3": 3, "test_vit": 2}
TIMM_TANH = r"vit_(?:base_patch32|so400m_patch16|giantopt_patch16)_siglip|vit_large_patch16_siglip_(?:gap_)?512"
TIMM_LACKING = {
    "_rpn_": "a norm after each branch",
    "_rope_": "rotary positions of its own",
    "_pe_": "rotary positions of its own",
    "_lingbot_": "rotary positions of its own",
    "_dinov3_": "rotary positions of its own",
}
"""Part of a name of an architecture -> a feature that neither tensors nor `model_args` tell and our ViT has not."""
TIMM_POOLS = {"token": "class", "avg": "mean", "map": "attention"}


def sizes(state: State) -> dict[str, Any]:
    """Return the settings that the shapes of tensors under our names fix, but for pooling and registers."""
    patches, fc1, fc2 = (state[name] for name in (PATCHES, *(f"stack.blocks.0.mlp.fc{i}.weight" for i in (1, 2))))
    found: dict[str, Any] = {
        "width": patches.shape[0],
        "depth": count(state, r"stack\.blocks\.(\d+)\."),
        "mlp_width": fc2.shape[1],
        "patch_size": patch_size(state),
        "stem": "patch",
        "norm": "layer" if "stack.blocks.0.norm1.bias" in state else "rms",
        "post_norm": False,
        "layer_scale": 1.0 if "stack.blocks.0.scale1.gamma" in state else None,
    }
    root = state.get("patch_embed.root.conv.weight")
    if root is not None:
        found["stem"] = {
            "_target_": "tfcli.nn.hybrid.HybridEmbed",
            "_partial_": True,
            "blocks": stages(state),
            "stem_width": root.shape[0],
        }
    if len(fc1) == 2 * fc2.shape[1]:
        found |= {"activation": "swiglu", "mlp_bias": "stack.blocks.0.mlp.fc1.bias" in state}
    if "stack.stem_norm.weight" in state:
        found["stem_norm"] = True
    return found


def patch_size(state: State) -> int:
    """Return the side of a token in pixels of the image."""
    stride = 4 * 2 ** max(len(stages(state)) - 1, 0) if "patch_embed.root.conv.weight" in state else 1
    return int(state[PATCHES].shape[-1] * stride)


def stages(state: State) -> list[int]:
    """Return the number of blocks in each stage of the ResNet before the patches."""
    number = count(state, r"patch_embed\.stages\.(\d+)\.")
    return [count(state, rf"patch_embed\.stages\.{stage}\.(\d+)\.") for stage in range(number)]


def stated(source: str, config: dict[str, Any], *, width: int) -> dict[str, Any]:
    """Return heads, activation and epsilon as far as the checkpoint's `config.json` tells.

    Raises:
        WeightsError: it is of a kind that is not read.
    """
    if source == "transformers" and config.get("model_type"):
        kind = str(config["model_type"])
        if kind not in EPSILONS:
            raise WeightsError(
                f"the checkpoint is transformers' {kind}, which is not supported; {', '.join(EPSILONS)} are."
            )
        return {
            "heads": int(config.get("num_attention_heads", 12)),
            "activation": known_activation(config.get("hidden_act", "gelu")),
            "norm_eps": float(config.get("layer_norm_eps", EPSILONS[kind])),
        }
    if source != "timm" or not config.get("architecture"):
        return {}
    name, made_with = str(config["architecture"]), config.get("model_args") or {}
    for part, feature in TIMM_LACKING.items():
        if part in f"{name}_":
            raise WeightsError(f"this checkpoint ({name}) uses {feature}, which tfcli's ViT does not have.")
    usual_activation = "quick_gelu" if "quickgelu" in name else "gelu_tanh" if re.match(TIMM_TANH, name) else "gelu"
    own_norm = made_with.get("norm_layer")
    found = {
        "activation": known_activation(made_with.get("act_layer") or usual_activation),
        "norm_eps": 1e-5 if "_clip_" in name and not own_norm else 1e-6,
    }
    heads = made_with.get("num_heads") or next((n for part, n in TIMM_ODD_HEADS.items() if part in name), None)
    if heads is None:
        word = next((word for word in name.split("_") if word in TIMM_HEADS), None)
        heads = usual_heads(width) if "embed_dim" not in made_with else TIMM_HEADS.get(str(word))
    return found | ({"heads": int(heads)} if heads else {})


def pool(state: State, source: str, config: dict[str, Any]) -> str:
    """Return what the head of a ViT reads: class, mean or attention.

    Raises:
        WeightsError: our ViT cannot pool so.
    """
    made_with = config.get("model_args") or {} if source == "timm" else {}
    theirs = (config.get("global_pool") or made_with.get("global_pool")) if source == "timm" else "token"
    by_names = "attention" if "attention_pool.query" in state else "mean" if "head_norm.weight" in state else "class"
    found = TIMM_POOLS.get(theirs) if theirs else by_names
    lacking = ""
    if found is None:
        lacking = f"`{theirs}` pooling"
    elif not any(f"{norm}.weight" in state for norm in ("stack.norm", "head_norm")):
        lacking = "no norm after its last block"
    elif found == "class" and "cls_token" not in state:
        found = "normed_mean"  # no other pooling does without both
    elif found == "mean" and by_names != "mean":
        found = "normed_mean"
    with_special = made_with.get("pool_include_prefix", config.get("architecture") == "test_vit3")
    if not lacking and found != "class" and with_special:
        lacking = "the class token and registers pooled with the patches"
    if lacking:
        raise WeightsError(f"this checkpoint uses {lacking}, which tfcli's ViT does not have.")
    return str(found)


def grid_side(entries: int, special: int, *, config: dict[str, Any], patch_size: int) -> int:
    """Return the side of the grid of patches that a position table is for.

    It may have an entry for each special token, for none (timm's `no_embed_class`) or for the class token alone
    (DINOv2 with registers).

    Raises:
        WeightsError: it is not that of a square grid.
    """
    grids = [entries - own for own in (special, 0, 1) if own < entries]
    sides = [isqrt(cells) for cells in grids if isqrt(cells) ** 2 == cells]
    if not sides:
        raise WeightsError(
            f"a position table of {entries} entries, {special} of them special, is not that of a square grid."
        )
    said = (stated_side(config) or 0) // patch_size
    return said if said in sides else sides[0]


def stated_side(config: dict[str, Any]) -> int | None:
    """Return the side of the images that a model is made for, where its config states it.

    Raises:
        WeightsError: the images are no squares.
    """
    size = config.get("image_size") or (config.get("model_args") or {}).get("img_size")
    size = size or (config.get("pretrained_cfg") or {}).get("input_size")
    if isinstance(size, list) and size[-1] != size[-2]:
        raise WeightsError(f"this checkpoint reads images of {size[-2]} x {size[-1]} px; tfcli's are square.")
    return size[-1] if isinstance(size, list) else size


def assumed(source: str, said: dict[str, Any], *, width: int) -> tuple[dict[str, Any], list[str]]:
    """Return heads, activation and epsilon where neither tensors nor a config tell, and a line that says so."""
    heads, eps = usual_heads(width), USUAL_EPSILONS[source]
    words = {
        "heads": (heads, f"{heads} heads of {width // heads} channels"),
        "activation": ("gelu", "gelu"),
        "norm_eps": (eps, f"{eps:g}"),
    }
    missing = {key: value for key, (value, _) in words.items() if key not in said}
    if not missing:
        return {}, []
    what = ", ".join(f"`model.{key}` ({words[key][1]})" for key in missing)
    return missing, [f"not stated by the file, so taken as published models of {source} have it: {what}"]
