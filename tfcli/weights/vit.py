"""ViT and DeiT checkpoints of transformers, timm and torchvision, under our names.

The format is told by the names. Transformers' files carry the names of its 4.x modules, also when 5.x writes them
(`encoder.layer.0.attention.attention.query`); those of 5.x in memory (`layers.0.attention.q_proj`) are taken as well.
The layer norms' epsilon is not in the weights: it comes from `config.json` or, for timm and torchvision, is 1e-6.
"""

from __future__ import annotations

import re
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from tfcli.models.deit import DeiT
from tfcli.models.vit import ViT
from tfcli.nn.embeddings import PatchEmbed
from tfcli.weights.names import Renames, State, count, fuse, rename
from tfcli.weights.positions import resize_positions

TABLE = "stack.positions.0.table"

TRANSFORMERS: Renames = [
    (r"(?:vit\.)?embeddings\.cls_token", "cls_token"),
    (r"(?:vit\.)?embeddings\.position_embeddings", TABLE),
    (r"(?:vit\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.layernorm_before\.", r"stack.blocks.\1.norm1."),
    (r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.layernorm_after\.", r"stack.blocks.\1.norm2."),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.attention\.(query|key|value)\.", r"stack.blocks.\1.attention.\2."),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.q_proj\.", r"stack.blocks.\1.attention.query."),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.k_proj\.", r"stack.blocks.\1.attention.key."),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.v_proj\.", r"stack.blocks.\1.attention.value."),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"stack.blocks.\1.attention.out."),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.o_proj\.", r"stack.blocks.\1.attention.out."),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.intermediate\.dense\.", r"stack.blocks.\1.mlp.fc1."),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.output\.dense\.", r"stack.blocks.\1.mlp.fc2."),
    (r"(?:vit\.)?layers\.(\d+)\.mlp\.", r"stack.blocks.\1.mlp."),
    (r"(?:vit\.)?layernorm\.", "stack.norm."),
    (r"classifier\.", "head."),
    (r"embeddings\.distillation_token", "dist_token"),
    (r"cls_classifier\.", "head."),
    (r"distillation_classifier\.", "head_dist."),
]
TIMM: Renames = [
    (r"pos_embed", TABLE),
    (r"patch_embed\.backbone\.(?:stem\.)?(conv|norm)\.", r"patch_embed.root.\1."),
    (r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.", r"patch_embed.stages.\1.\2."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"stack.blocks.\1.attention.qkv."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"stack.blocks.\1.attention.out."),
    (r"blocks\.", "stack.blocks."),
    (r"norm\.", "stack.norm."),
    (r"fc_norm\.", "head_norm."),
]
TORCHVISION: Renames = [
    (r"class_token", "cls_token"),
    (r"conv_proj\.", "patch_embed.proj."),
    (r"encoder\.pos_embedding", TABLE),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_(\d)\.", r"stack.blocks.\1.norm\2."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_", r"stack.blocks.\1.attention.qkv."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.", r"stack.blocks.\1.attention.out."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.", r"stack.blocks.\1.mlp.fc1."),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.", r"stack.blocks.\1.mlp.fc2."),
    (r"encoder\.ln\.", "stack.norm."),
    (r"heads\.head\.", "head."),
]
NAMES = {"transformers": TRANSFORMERS, "timm": TIMM, "torchvision": TORCHVISION}
LEFT_OUT = {
    "pooler": r"(?:vit\.)?pooler\.",
    "mask token": r"(?:vit\.)?embeddings\.mask_token",
    "pre_logits layer": r"(?:heads\.)?pre_logits\.",
}
SIZES = {(192, 12): "ti", (384, 12): "s", (768, 12): "b", (1024, 24): "l", (1280, 32): "h"}
"""Width and depth -> the letter in our size files' names."""
HYBRIDS = {
    ("b", (3, 4, 9)): "vit_r50_b16",
    ("s", (2, 2, 2, 2)): "vit_r26_s32",
    ("l", (3, 4, 6, 3)): "vit_r50_l32",
    ("ti", ()): "vit_r_ti16",
}
"""The same letter and the blocks of a ResNet in front -> our size file."""


def detect(state: State) -> str | None:
    """Whose names these are; None for our own names or another family's."""
    names = list(state)
    if any("embeddings.patch_embeddings.projection." in name for name in names):
        return "transformers"
    if any(name.startswith("encoder.layers.encoder_layer_") for name in names):
        return "torchvision"
    if any(re.match(r"blocks\.\d+\.attn\.qkv\.", name) for name in names):
        return "timm"
    return None


def convert(
    state: State, net: ViT | DeiT, *, config: dict[str, Any] | None = None
) -> tuple[State, list[str], dict[str, Any]]:
    """Rename, fuse query, key and value, resize the positions for `net`, set its norms' epsilon to the checkpoint's.

    Args:
        state: tensors by the names in the file.
        net: the model to fit them to.
        config: what stands beside the file, as in `Checkpoint.config`.

    Returns:
        Tensors by our names, lines for the log, and settings of `net` that the weights imply (`norm_eps`).

    Raises:
        WeightsError: the position table is not that of a square grid.
    """
    notes: list[str] = []
    settings: dict[str, Any] = {}
    config = config or {}
    source = detect(state)
    if source:
        renames = NAMES[source]
        state = _leave_out({name.removeprefix("deit."): tensor for name, tensor in state.items()}, notes)
        state = fuse({rename(name, renames): tensor for name, tensor in state.items()})
        settings["norm_eps"] = _set_eps(
            net, float(config.get("layer_norm_eps", 1e-6)) if source == "transformers" else 1e-6, notes
        )
    else:
        state = dict(state)
        eps = (config.get("run", {}).get("model") or {}).get("norm_eps")
        if eps is not None:
            settings["norm_eps"] = _set_eps(net, float(eps), notes)
    if TABLE in state and ("dist_token" in state) == hasattr(net, "dist_token"):  # else refused, with the shapes
        state[TABLE] = _table(state[TABLE], net, notes)
        if not any(name == TABLE for name, _ in net.named_parameters()):
            del state[TABLE]
            notes.append("learned positions: left out, since this model has other positions (`pos=`)")
    return state, notes, settings


def torchvision_name(net: ViT) -> str | None:
    """What torchvision calls a ViT of this size, if it has one."""
    if not isinstance(net.patch_embed, PatchEmbed):
        return None
    letter = SIZES.get((net.patch_embed.proj.out_channels, len(net.stack.blocks)))
    name = f"vit_{letter}_{net.patch_embed.proj.kernel_size[0]}"
    return name if name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14") else None


def describe(state: State) -> str:
    """For an error's text: the model that weights under our names are for, or nothing if they are no ViT's."""
    patches = state.get("patch_embed.proj.weight")
    if patches is None or patches.ndim != 4:
        return ""
    width, depth = patches.shape[0], count(state, r"stack\.blocks\.(\d+)\.")
    letter = SIZES.get((width, depth), "")
    kind, family = ("distilled DeiT", "deit") if "dist_token" in state else ("ViT", "vit")
    name = f"{family}_{letter}{patches.shape[-1]}" if letter else None
    size = f"width {width}, depth {depth}, patch {patches.shape[-1]}"
    if "patch_embed.root.conv.weight" in state:
        stages = range(count(state, r"patch_embed\.stages\.(\d+)\."))
        blocks = tuple(count(state, rf"patch_embed\.stages\.{stage}\.(\d+)\.") for stage in stages)
        name = HYBRIDS.get((letter, blocks))
        size = f"width {width}, depth {depth}, on a ResNet of blocks {list(blocks)}"
    pool = ", pool=mean" if "cls_token" not in state else ""
    return f" The file is a {kind} of {size}{pool}" + (f": try `model={name}`." if name else ".")


def _leave_out(state: State, notes: list[str]) -> State:
    for what, pattern in LEFT_OUT.items():
        kept = {name: tensor for name, tensor in state.items() if not re.match(pattern, name)}
        if len(kept) < len(state):
            notes.append(f"{what}: left out")
            if what.startswith("pre_logits"):  # the head was trained on its output
                kept = {name: tensor for name, tensor in kept.items() if not re.match(r"head\.|heads\.head\.", name)}
                notes.append("head: left out with the layer it read")
        state = kept
    return state


def _table(table: Tensor, net: ViT | DeiT, notes: list[str]) -> Tensor:
    special = int(net.places.special.sum())
    table = table.reshape(-1, table.shape[-1])
    if special and isqrt(len(table)) ** 2 == len(table):  # timm's no_embed_class: the class token has no position
        table = torch.cat([table.new_zeros(special, table.shape[1]), table])
    if special == 0 and isqrt(len(table)) ** 2 != len(table):
        return table  # a class token's entry: refused with the shapes
    table, note = resize_positions(table, net.patch_embed.grid, special=special)
    notes.extend([note] if note else [])
    return table


def _set_eps(net: ViT | DeiT, eps: float, notes: list[str]) -> float:
    norms = [module for module in net.modules() if isinstance(module, nn.LayerNorm)]
    before = {norm.eps for norm in norms}
    if before != {eps}:
        notes.append(f"norm_eps {', '.join(f'{value:g}' for value in sorted(before))} -> {eps:g}: as the checkpoint's")
    for norm in norms:
        norm.eps = eps
    return eps
