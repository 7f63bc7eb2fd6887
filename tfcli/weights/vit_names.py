"""ViT, DeiT and DINOv2 checkpoints of transformers, timm and torchvision: whose they are, and our names for theirs.

The format is told by the names. Transformers' files carry the names of its 4.x modules, also when 5.x writes them
(`encoder.layer.0.attention.attention.query`); those of 5.x in memory (`layers.0.attention.q_proj`) are taken as well.
"""

from __future__ import annotations

import re
from typing import Any

import torch

from tfcli.errors import WeightsError
from tfcli.weights.names import Renames, State, fuse, rename

TABLE = "stack.positions.0.table"
PATCHES = "patch_embed.proj.weight"
FIRST = ("cls_token", "dist_token", "register_tokens")
"""Special tokens in the order in which every library puts them before the patches."""

BLOCK = r"(?:encoder\.layer|layers)\.(\d+)\."
TRANSFORMERS: Renames = [
    (r"embeddings\.cls_token$", "cls_token"),
    (r"embeddings\.distillation_token$", "dist_token"),
    (r"embeddings\.register_tokens$", "register_tokens"),
    (r"embeddings\.position_embeddings$", TABLE),
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (BLOCK + r"(?:layernorm_before|norm1)\.", r"stack.blocks.\1.norm1."),
    (BLOCK + r"(?:layernorm_after|norm2)\.", r"stack.blocks.\1.norm2."),
    (BLOCK + r"attention\.attention\.(query|key|value)\.", r"stack.blocks.\1.attention.\2."),
    (BLOCK + r"attention\.q_proj\.", r"stack.blocks.\1.attention.query."),
    (BLOCK + r"attention\.k_proj\.", r"stack.blocks.\1.attention.key."),
    (BLOCK + r"attention\.v_proj\.", r"stack.blocks.\1.attention.value."),
    (BLOCK + r"attention\.(?:output\.dense|o_proj)\.", r"stack.blocks.\1.attention.out."),
    (BLOCK + r"layer_scale([12])\.lambda1$", r"stack.blocks.\1.scale\2.gamma"),
    (BLOCK + r"(?:intermediate\.dense|mlp\.weights_in)\.", r"stack.blocks.\1.mlp.fc1."),
    (BLOCK + r"(?:output\.dense|mlp\.weights_out)\.", r"stack.blocks.\1.mlp.fc2."),
    (BLOCK + r"mlp\.", r"stack.blocks.\1.mlp."),
    (r"layernorm\.", "stack.norm."),
    (r"(?:cls_)?classifier\.", "head."),
    (r"distillation_classifier\.", "head_dist."),
]
TIMM: Renames = [
    (r"pos_embed$", TABLE),
    (r"reg_token$", "register_tokens"),
    (r"patch_embed\.backbone\.(?:stem\.)?(conv|norm)\.", r"patch_embed.root.\1."),
    (r"patch_embed\.backbone\.stages\.(\d+)\.blocks\.(\d+)\.", r"patch_embed.stages.\1.\2."),
    (r"norm_pre\.", "stack.stem_norm."),
    (r"blocks\.(\d+)\.attn\.qkv\.", r"stack.blocks.\1.attention.qkv."),
    (r"blocks\.(\d+)\.attn\.proj\.", r"stack.blocks.\1.attention.out."),
    (r"blocks\.(\d+)\.ls([12])\.", r"stack.blocks.\1.scale\2."),
    (r"blocks\.", "stack.blocks."),
    (r"norm\.", "stack.norm."),
    (r"fc_norm\.", "head_norm."),
    (r"attn_pool\.latent$", "attention_pool.query"),
    (r"attn_pool\.proj\.", "attention_pool.out."),
    (r"attn_pool\.", "attention_pool."),
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
    "pooler": r"pooler\.",
    "mask token": r"embeddings\.mask_token|mask_token$",
    "decoder": r"decoder\.|decoder_",
    "pre_logits layer": r"(?:heads\.)?pre_logits\.",
}
LACKING = {
    "attention and MLP side by side in one block": r"blocks\.\d+\.(?:attns|ffns|in_proj|mlp_out_proj)\b",
    "differential attention": r"blocks\.\d+\.attn\.lambda_",
    "qk-norm (a norm of queries and keys)": r".*(?:attn|attention)\w*\.(?:q_norm|k_norm)\.",
    "a norm inside its attention": r"blocks\.\d+\.attn\.norm\.",
    "a norm inside its MLP": r"blocks\.\d+\.mlp\.norm\.",
    "relative position biases": r".*(?:relative_position|rel_pos)",
    "biases of queries and values without those of keys": r"blocks\.\d+\.attn\.[qv]_bias$",
    "rotary positions of its own": r"(?:.*\.)?rope",
    "a norm after its patches": r"patch_embed\.norm\.",
    "a stem of convolutions other than BiT's ResNet": r"patch_embed\.(?:backbone|conv|stem|stages)\b",
}
"""A feature that our ViT has not -> the names in a file that show it, as the library writes them."""
PREFIX = re.compile(r"(?:vit|deit|dinov2|dinov2_with_registers)\.(?=embeddings|encoder|layers|layernorm|pooler)")


def detect(state: State) -> str | None:
    """Return which library's names these are; None for our own names or another family's."""
    names = list(state)
    if any("embeddings.patch_embeddings.projection." in name for name in names):
        return "transformers"
    if any(name.startswith("encoder.layers.encoder_layer_") for name in names):
        return "torchvision"
    if any(name.startswith("blocks.0.") for name in names) and any(name.startswith("patch_embed.") for name in names):
        return "timm"
    return None


def renamed(state: State, source: str, *, family: str, notes: list[str]) -> State:
    """Return the tensors under our names; an unknown one keeps its own and is refused later.

    Args:
        state: tensors by the names in the file.
        source: whose names they are, see `detect`.
        family: ViT or DeiT, for the text of an error.
        notes: lines for the log, to which a part that is left out adds one.

    Raises:
        WeightsError: the checkpoint uses a feature that our model does not have.
    """
    state = _leave_out({PREFIX.sub("", name, count=1): tensor for name, tensor in state.items()}, notes)
    ours = {rename(name, NAMES[source]): (name, tensor) for name, tensor in state.items()}
    for feature, pattern in LACKING.items():
        if any(re.match(pattern, name) for name in _unknown(ours)):
            raise WeightsError(f"this checkpoint uses {feature}, which tfcli's {family} does not have.")
    found = _gated(fuse({name: tensor for name, (_, tensor) in ours.items()}))
    patches = found.get(PATCHES)
    if patches is None or patches.ndim != 4:
        raise WeightsError(f"the checkpoint is no {family} that is read: it has no map of patches.")
    if patches.shape[-1] != patches.shape[-2]:
        raise WeightsError(f"this checkpoint uses patches that are no squares, which tfcli's {family} does not have.")
    if "patch_embed.root.conv.weight" not in found and patches.shape[1] != 3:
        raise WeightsError(
            f"this checkpoint reads images of {patches.shape[1]} channels, which tfcli's {family} does not."
        )
    if family == "DeiT" and "dist_token" not in found:
        raise WeightsError("the checkpoint is a ViT, without a distillation token: take `model=vit`.")
    if family == "ViT" and "head_dist.weight" in found:
        raise WeightsError("the checkpoint is a distilled DeiT, with two heads: take `model=deit`.")
    return found


def refuse_foreign(config: dict[str, Any], *, family: str) -> None:
    """Refuse a folder whose tensors have names of no ViT, by what its library calls the model.

    Raises:
        WeightsError: `config.json` says whose it is.
    """
    for key, library in (("model_type", "transformers"), ("architecture", "timm")):
        if isinstance(config.get(key), str):
            raise WeightsError(f"the checkpoint is the {config[key]} of {library}, which is not read as a {family}.")


def settle_tokens(state: State, *, own_class: bool) -> State:
    """Make registers of the special tokens that nothing reads, such as a class token where the patches are pooled.

    Args:
        state: tensors by our names.
        own_class: whether the model reads a class token.
    """
    unread = FIRST[own_class:]
    others = [state[name] for name in unread if name in state]
    state = {name: tensor for name, tensor in state.items() if name not in unread}
    return state | ({"register_tokens": torch.cat(others, 1)} if others else {})


def special_tokens(state: State) -> int:
    """Return how many special tokens stand before the patches."""
    return sum(state[name].shape[-2] for name in FIRST if name in state)


def with_zero_biases(state: State, wanted: State) -> State:
    """Add a bias of zeros wherever `wanted` has one and the checkpoint was made without (`qkv_bias=False`): it adds
    nothing.
    """
    names = [name for name in wanted if name.endswith(".bias") and name not in state]
    names = [name for name in names if re.search(r"(?:qkv|out|fc1|fc2|proj|kv|q)\.bias$", name)]
    return state | {name: wanted[name].new_zeros(wanted[name].shape) for name in names if _weight(name) in state}


def _weight(bias: str) -> str:
    return bias.removesuffix("bias") + "weight"


def _unknown(ours: dict[str, Any]) -> list[str]:
    """Return the names in the file that our names have no place for."""
    known = re.compile(
        rf"{re.escape(TABLE)}|cls_token|dist_token|register_tokens|head(?:_dist|_norm)?\.|attention_pool\.(?![qk]_norm)"
        r"|patch_embed\.(?:proj|root)\.|patch_embed\.stages\.\d+\.\d+\.(?:conv|norm|downsample)"
        r"|stack\.(?:norm|stem_norm)\."
        r"|stack\.blocks\.\d+\.(?:norm[12]|scale[12]|mlp\.(?:fc1|fc2|fc1_[gx])|attention\.(?:qkv|out|query|key|value))\."
    )
    return [theirs for name, (theirs, _) in ours.items() if not known.match(name)]


def _gated(state: State) -> State:
    """Stack the two maps of a gated MLP that are stored apart: the gate's rows first."""
    for name in [name for name in state if ".mlp.fc1_g." in name]:
        value = state.pop(name.replace("fc1_g", "fc1_x"))
        state[name.replace("fc1_g", "fc1")] = torch.cat([state.pop(name), value])
    return state


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
