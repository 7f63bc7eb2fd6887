"""CLIP checkpoints of OpenAI, open_clip and transformers, under our names, and what each says of its own size.

OpenAI's archives and open_clip's files share their names; transformers splits query, key and value. The activation is
not in the weights: transformers and open_clip state it beside them, OpenAI's are all QuickGELU. A wrong one shifts the
features a little and costs accuracy without a word, so it is set from the checkpoint wherever that tells.
"""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from math import isqrt
from pathlib import Path
from typing import Any

from tfcli.data.common.paths import cache_root, data_root
from tfcli.errors import WeightsError
from tfcli.models.clip import CLIP
from tfcli.models.resnet import ModifiedResNet
from tfcli.weights import open_clip_facts
from tfcli.weights.fetch import Unreachable, download, offline
from tfcli.weights.files import Checkpoint
from tfcli.weights.names import Renames, State, fuse, known_activation, rename, usual_heads
from tfcli.weights.positions import resize_positions
from tfcli.weights.preprocessing import OPENAI_MEAN, OPENAI_STD

READS = {"clip": "CLIP"}
MERGES = "bpe_simple_vocab_16e6.txt.gz"
MERGES_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES_URL = f"https://github.com/openai/CLIP/raw/main/clip/{MERGES}"
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
SHAPES = ("embed_width", "width", "depth", "mlp_width", "patch_size", "blocks", "vocab_size")
"""Settings, of a tower or of all, that the tensors fix, so that no other value can be typed."""
LEFT_OUT = re.compile(
    r"input_resolution|context_length|vocab_size|(?:text\.)?attn_mask|.*embeddings\.position_ids|.*\.attn_mask"
)
SIZES = {(768, 32): "vit_b32", (768, 16): "vit_b16", (1024, 14): "vit_l14"}
RESNETS: dict[tuple[int, ...], str] = {
    (3, 4, 6, 3): "rn50",
    (3, 4, 23, 3): "rn101",
    (4, 6, 10, 6): "rn50x4",
    (6, 8, 18, 8): "rn50x16",
    (3, 15, 36, 10): "rn50x64",
}


def detect(state: State) -> str | None:
    """Return whose names these are: openai (open_clip's too), transformers, or None for ours or another family's."""
    if "visual.conv1.weight" in state or any(name.startswith("visual.trunk.") for name in state):
        return "openai"
    return "transformers" if "vision_model.embeddings.patch_embedding.weight" in state else None


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
    state = _renamed(state, source)
    settings = {
        f"{tower}.{key}": value for tower, values in stated.items() for key, value in values.items() if key != "heads"
    }
    library = "transformers" if source in ("transformers", None) else "open_clip"
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
    state = _renamed(checkpoint.state, source)
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


def describe(state: State) -> str:
    """For an error's text: the model that weights under our names are for, or nothing if they are no CLIP's."""
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


def merges_file(beside: Path | None = None) -> Path:
    """OpenAI's list of byte pairs, which its tokenizer is made of; found on this machine or fetched (1.3 MiB, MIT).

    Args:
        beside: a folder to look in first, such as the checkpoint's.

    Raises:
        WeightsError: it is not here and cannot be fetched, or what is here is another file.
    """
    target = cache_root() / "tokenizers" / MERGES
    shared = data_root() / "tokenizers"
    places = [shared / MERGES, shared / "clip" / MERGES, target, Path("~/.cache/clip").expanduser() / MERGES]
    spec = find_spec("open_clip")  # its wheel carries the file
    places += [Path(folder) / MERGES for folder in (spec.submodule_search_locations or [])] if spec else []
    if beside is not None:
        places.insert(0, beside / MERGES)
    for place in places:
        if place.is_file():
            if hashlib.sha256(place.read_bytes()).hexdigest() != MERGES_SHA256:
                raise WeightsError(f"`{place}` differs from OpenAI's file of that name (by its SHA-256): remove it.")
            return place
    try:
        if offline():
            raise Unreachable("TFCLI_OFFLINE=1 forbids the network")
        return download(MERGES_URL, target, sha256=MERGES_SHA256, about="licence MIT, OpenAI's byte pairs for CLIP")
    except Unreachable as error:
        raise WeightsError(
            f"CLIP's tokenizer needs {MERGES}, which is not on this machine and could not be fetched ({error}). Looked "
            f"for {', '.join(f'`{place}`' for place in places)}. By hand: fetch {MERGES_URL} (1.3 MiB, MIT) on another "
            "machine and copy it to one of these, or say `model.tokenizer.path=FILE`."
        ) from error


def _renamed(state: State, source: str | None) -> State:
    """Under our names, in our shapes; whatever is unknown keeps its own name and is refused later."""
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


def _stated(state: State, source: str | None, config: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Heads, activation and epsilon of each tower, as far as the files tell."""
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
    names = {name for name, _ in net.named_parameters()}
    image: Any = net.image
    resnet = isinstance(image, ModifiedResNet)
    table = POOL_TABLE if resnet else TABLES["image"]
    if table in state and hasattr(image, "attention_pool" if resnet else "patch_embed"):
        side = image.image_size // 32 if resnet else 0
        grid = (side, side) if resnet else image.patch_embed.grid
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


def _depth(state: State, tower: str) -> int:
    return len({name.split(".")[3] for name in state if name.startswith(f"{tower}.stack.blocks.")})


def _vit_size(state: State) -> dict[str, Any]:
    width, patch_size = state[PATCHES].shape[0], state[PATCHES].shape[-1]
    return {
        "_target_": "tfcli.models.clip.VisionTransformer",
        "width": width,
        "depth": _depth(state, "image"),
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
        "depth": _depth(state, "text"),
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
