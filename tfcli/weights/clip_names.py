"""CLIP checkpoints of OpenAI, open_clip and transformers: whose they are, and our names for theirs.

OpenAI's archives and open_clip's files share their names; transformers splits query, key and value.
"""

from __future__ import annotations

import re

from tfcli.weights.layout import written
from tfcli.weights.names import Renames, State, fuse, inverse, rename, split

TABLES = {"image": "image.stack.positions.0.table", "text": "text.stack.positions.0.table"}
POOL_TABLE = "image.attention_pool.positions"
PATCHES = "image.patch_embed.proj.weight"

OPENAI: Renames = [
    (r"visual\.class_embedding$", "image.cls_token"),
    (r"visual\.positional_embedding$", TABLES["image"]),
    (r"visual\.ln_pre\.", "image.stack.stem_norm."),
    (r"visual\.ln_post\.", "image.norm."),
    (r"visual\.proj$", "image.proj.weight"),
    (r"visual\.transformer\.resblocks\.", "image.stack.blocks."),
    (r"visual\.attnpool\.positional_embedding$", POOL_TABLE),
    (r"visual\.attnpool\.c_proj\.", "image.attention_pool.out."),
    (r"visual\.attnpool\.", "image.attention_pool."),
    (r"visual\.", "image."),
    (r"(?:text\.)?token_embedding\.", "text.embed."),
    (r"(?:text\.)?positional_embedding$", TABLES["text"]),
    (r"(?:text\.)?transformer\.resblocks\.", "text.stack.blocks."),
    (r"(?:text\.)?ln_final\.", "text.stack.norm."),
    (r"(?:text\.)?text_projection$", "text.proj.weight"),
]
OPENAI_INSIDE: Renames = [
    (r"(.*stack\.blocks\.\d+)\.ln_(\d)\.", r"\1.norm\2."),
    (r"(.*stack\.blocks\.\d+)\.attn\.in_proj_", r"\1.attention.qkv."),
    (r"(.*stack\.blocks\.\d+)\.attn\.out_proj\.", r"\1.attention.out."),
    (r"(.*stack\.blocks\.\d+)\.mlp\.c_fc\.", r"\1.mlp.fc1."),
    (r"(.*stack\.blocks\.\d+)\.mlp\.c_proj\.", r"\1.mlp.fc2."),
    (r"(image\.layer\d\.\d+\.downsample)\.1\.", r"\1.2."),  # ours begins with the pool
    (r"(image\.layer\d\.\d+\.downsample)\.0\.", r"\1.1."),
]
TRANSFORMERS: Renames = [
    (r"vision_model\.embeddings\.class_embedding$", "image.cls_token"),
    (r"vision_model\.embeddings\.patch_embedding\.", "image.patch_embed.proj."),
    (r"vision_model\.embeddings\.position_embedding\.weight$", TABLES["image"]),
    (r"vision_model\.pre_layrnorm\.", "image.stack.stem_norm."),  # so written there
    (r"vision_model\.post_layernorm\.", "image.norm."),
    (r"vision_model\.encoder\.layers\.", "image.stack.blocks."),
    (r"visual_projection\.", "image.proj."),
    (r"text_model\.embeddings\.token_embedding\.", "text.embed."),
    (r"text_model\.embeddings\.position_embedding\.weight$", TABLES["text"]),
    (r"text_model\.encoder\.layers\.", "text.stack.blocks."),
    (r"text_model\.final_layer_norm\.", "text.stack.norm."),
    (r"text_projection\.", "text.proj."),
]
TRANSFORMERS_INSIDE: Renames = [
    (r"(.*stack\.blocks\.\d+)\.layer_norm(\d)\.", r"\1.norm\2."),
    (r"(.*stack\.blocks\.\d+)\.self_attn\.([qkv])_proj\.", r"\1.attention.\2."),
    (r"(.*stack\.blocks\.\d+)\.self_attn\.out_proj\.", r"\1.attention.out."),
]
LEFT_OUT = re.compile(
    r"input_resolution|context_length|vocab_size|(?:text\.)?attn_mask|.*embeddings\.position_ids|.*\.attn_mask"
)


def detect(state: State) -> str | None:
    """Return whose names these are: openai (open_clip's too), transformers, or None for ours or another family's."""
    if "visual.conv1.weight" in state or any(name.startswith("visual.trunk.") for name in state):
        return "openai"
    return "transformers" if "vision_model.embeddings.patch_embedding.weight" in state else None


def renamed(state: State, source: str | None) -> State:
    """Return tensors by our names, in our shapes; whatever is unknown keeps its own name and is refused later."""
    if source is None:
        return dict(state)
    state = {name: tensor for name, tensor in state.items() if not LEFT_OUT.fullmatch(name)}
    if source == "openai":
        found = {rename(rename(name, OPENAI), OPENAI_INSIDE): tensor for name, tensor in state.items()}
        if "image.cls_token" in found:  # a ViT, whose one convolution cuts the patches
            found[PATCHES] = found.pop("image.conv1.weight")
        transposed = ("image.proj.weight", "text.proj.weight")
        state = {
            name: tensor.mT if name in transposed and tensor.ndim == 2 else tensor for name, tensor in found.items()
        }
    else:
        renamed = {rename(rename(name, TRANSFORMERS), TRANSFORMERS_INSIDE): t for name, t in state.items()}
        state = fuse(renamed, parts=("q", "k", "v"))
    if "image.cls_token" in state:
        state["image.cls_token"] = state["image.cls_token"].reshape(1, 1, -1)
    if "logit_scale" in state:
        state["logit_scale"] = state["logit_scale"].reshape(())  # open_clip's may be a list of one
    return state


def as_transformers(state: State) -> State:
    """Return tensors by transformers' names, from ours."""
    inside = inverse(TRANSFORMERS_INSIDE)
    apart = {rename(name, inside): tensor for name, tensor in split(state, parts=("q", "k", "v")).items()}
    apart["image.cls_token"] = apart["image.cls_token"].reshape(-1)
    return {"logit_scale": apart.pop("logit_scale").detach().cpu().clone(), **written(apart, TRANSFORMERS)}
