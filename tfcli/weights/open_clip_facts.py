"""Read what open_clip's `open_clip_config.json` states of a CLIP's two towers, and refuse by name what ours have not.

open_clip builds a model from every key of `model_cfg`, and many leave no trace in the tensors: another pooling, a mask,
an epsilon. One that is not understood would change the result without a word, so each is taken, known to change
nothing, at its default, or refused.
"""

from __future__ import annotations

import json
import re
from typing import Any

from tfcli.errors import WeightsError
from tfcli.weights.names import State

Lacking = dict[str, tuple[Any, str]]
BLOCKS: Lacking = {
    "ls_init_value": (None, "LayerScale"),
    "block_type": ("default", "blocks of another kind"),
    "qk_norm": (False, "norms of queries and keys"),
    "scaled_cosine_attn": (False, "attention by scaled cosines"),
    "scale_heads": (False, "a learned scale of each head"),
    "scale_attn_inner": (False, "a norm before attention's output layer"),
    "scale_attn": (False, "a norm after attention"),
    "scale_fc": (False, "a norm inside the MLP"),
}
TOWERS: dict[str, Lacking] = {
    "vision_cfg": BLOCKS
    | {
        "attentional_pool": (False, "an attentional pool"),
        "no_ln_pre": (False, "no norm before the first block"),
        "pool_type": ("tok", "another pooling of the image's tokens than the class token"),
        "global_average_pool": (False, "a mean over the image's tokens"),
        "input_patchnorm": (False, "a norm of the patches"),
        "timm_model_name": (None, "an image tower of timm"),
    },
    "text_cfg": BLOCKS
    | {
        "embed_cls": (False, "a class token of the text, as CoCa has it"),
        "no_causal_mask": (False, "a text tower without causal mask"),
        "pool_type": ("argmax", "another pooling of the text's tokens than the one at the end of the text"),
        "proj_bias": (False, "a bias of the text's projection"),
        "proj_type": ("linear", "another projection of the text than a linear one"),
        "hf_model_name": (None, "a text tower of transformers"),
        "hf_tokenizer_name": (None, "a tokenizer of transformers"),
        "tokenizer_mode": (None, "another cleaning of texts before they are cut into tokens"),
        "tokenizer_kwargs": (None, "another cleaning of texts before they are cut into tokens"),
    },
    "": {
        "init_logit_bias": (None, "a bias of the scores, as SigLIP has it"),
        "multimodal_cfg": (None, "a decoder of captions, as CoCa has it"),
    },
}
"""Part of `model_cfg` -> key -> the one value that our CLIP has, open_clip's default, and what another value means."""
HARMLESS = {
    "vision_cfg": r"layers|width|head_width|mlp_ratio|patch_size|image_size|pos_embed_type|patch_dropout|output_tokens"
    r"|attn_pooler_\w+|n_queries|final_ln_after_pool|act_kwargs|norm_kwargs|grad_checkpointing|timm_(?!model_name)\w+",
    "text_cfg": r"context_length|vocab_size|width|heads|layers|mlp_ratio|pad_id|eos_id|output_tokens"
    r"|final_ln_after_pool|act_kwargs|norm_kwargs|grad_checkpointing|hf_(?!model_name|tokenizer)\w+|pooler_type|proj",
    "": r"embed_dim|quick_gelu|(?:force_)?custom_text|init_logit_scale|nonscalar_logit_scale|cast_dtype|output_dict"
    r"|vision_cfg|text_cfg",
}
"""Keys that are read below, that the tensors show, that matter in training alone, or that only a refused key uses."""
TRACES = {
    r"(?:.*\.)?ls_[12]\.gamma": "LayerScale",
    r"(?:.*\.)?attn\.ln_[qk]\..*": "norms of queries and keys",
    r"(?:.*\.)?attn\.ln_inner\..*": "a norm before attention's output layer",
    r"(?:.*\.)?attn\.head_scale": "a learned scale of each head",
    r"(?:.*\.)?attn\.logit_scale": "attention by scaled cosines",
    r"(?:.*\.)?resblocks\.\d+\.ln_attn\..*": "a norm after attention",
    r"(?:.*\.)?mlp\.ln\..*": "a norm inside the MLP",
    r"visual\.attn_pool.*": "an attentional pool",
    r"visual\.trunk\..*": "an image tower of timm",
    r"text_decoder\..*": "a decoder of captions, as CoCa has it",
    r"(?:text\.)?cls_emb": "a class token of the text, as CoCa has it",
    r"text\.transformer\.(?!resblocks\.).*": "a text tower of transformers",
    r"(?:text\.)?text_projection\..*": "a text projection with a bias",
    r"logit_bias": "a bias of the scores, as SigLIP has it",
}
"""Names of tensors -> the feature that they belong to."""


def refuse_by_tensors(state: State) -> None:
    """Refuse a checkpoint under open_clip's names whose tensors show what our CLIP has not.

    Raises:
        WeightsError: it has such a tensor, or a ViT without the norm before its blocks.
    """
    for name in state:
        feature = next((feature for pattern, feature in TRACES.items() if re.fullmatch(pattern, name)), None)
        if feature:
            raise WeightsError(f"this checkpoint has {feature} (`{name}`), which tfcli's CLIP does not have.")
    if "visual.class_embedding" in state and "visual.ln_pre.weight" not in state:
        raise WeightsError(
            "this checkpoint has no norm before the first block (no `visual.ln_pre.weight`), and tfcli's CLIP has one."
        )


def stated(model_cfg: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return heads, activation and epsilon of each tower as open_clip would build them from `model_cfg`.

    Raises:
        WeightsError: a key asks for what our CLIP has not, or is not known here.
    """
    towers = {part: model_cfg.get(part) or {} for part in ("vision_cfg", "text_cfg")}
    for part, settings in {"": model_cfg, **towers}.items():
        if not isinstance(settings, dict):
            raise _refused(part, "", settings, "not a table of settings")
        for key, value in settings.items():
            _check(part, key, value)
    vision, text = towers["vision_cfg"], towers["text_cfg"]
    width, head_width = vision.get("width", 768), vision.get("head_width", 64)
    resnet = isinstance(vision.get("layers"), list)
    quick = bool(model_cfg.get("quick_gelu"))
    return {
        "image": {"heads": max(width * (32 if resnet else 1) // head_width, 1)}
        | ({} if resnet else _kinds("vision_cfg", vision, quick)),
        "text": {"heads": text.get("heads", 8)} | _kinds("text_cfg", text, quick),
    }


def _check(part: str, key: str, value: Any) -> None:
    """Refuse a value that would change the result."""
    if key == "image_size" and isinstance(value, list) and len(set(value)) > 1:
        raise WeightsError(f"this checkpoint reads images of {value[0]} x {value[1]} px; tfcli's are square.")
    if re.fullmatch(HARMLESS[part], key):
        return
    default, feature = TOWERS[part].get(key, (None, "a key that is not known here"))
    if value not in (default, None, {}, ""):
        raise _refused(part, key, value, feature)


def _kinds(part: str, settings: dict[str, Any], quick: bool) -> dict[str, Any]:
    """Return activation and epsilon of a tower."""
    shape, norm = settings.get("act_kwargs") or {}, settings.get("norm_kwargs") or {}
    if set(norm) - {"eps"}:
        raise _refused(part, "norm_kwargs", norm, "layer norms with more than an epsilon")
    if shape not in ({}, {"approximate": "none"}, {"approximate": "tanh"}) or (shape and quick):
        raise _refused(part, "act_kwargs", shape, "another activation")
    activation = "quick_gelu" if quick else "gelu_tanh" if shape.get("approximate") == "tanh" else "gelu"
    return {"activation": activation, "norm_eps": float(norm.get("eps", 1e-5))}


def _refused(part: str, key: str, value: Any, feature: str) -> WeightsError:
    name = ".".join(filter(None, ("model_cfg", part, key)))
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return WeightsError(
        f"`{name}: {shown}` in open_clip_config.json means {feature}, which tfcli's CLIP does not have."
    )
