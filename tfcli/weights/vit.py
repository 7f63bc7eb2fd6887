"""ViT checkpoints of transformers, timm and torchvision: what each says of its model, and its tensors for ours.

`vit_names` knows the names of tensors. What is in no tensor (heads, activation, epsilon of the norms) stands in
`config.json`; where that says nothing, or is not there, what is assumed is said (`vit_facts`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tfcli.errors import WeightsError
from tfcli.models.deit import DeiT
from tfcli.models.vit import ViT
from tfcli.nn.embeddings import PatchEmbed
from tfcli.weights import vit_facts as facts
from tfcli.weights import vit_names as names
from tfcli.weights.files import Checkpoint
from tfcli.weights.layout import PLAIN, Layout, labels, prefixed, written
from tfcli.weights.names import State, count, split, their_activation
from tfcli.weights.positions import resize_positions
from tfcli.weights.vit_names import PATCHES, TABLE, detect

READS = {"vit": "ViT", "deit": "DeiT", "vit_mae": "MAE", "vit_msn": "MSN"} | dict.fromkeys(
    ("dinov2", "dinov2_with_registers"), "DINOv2"
)
SHAPES = ("width", "depth", "mlp_width", "patch_size", "stem", "pool", "registers", "norm", "stem_norm", "mlp_bias")
"""Settings that the tensors fix, so that no other value can be typed."""
SIZES = {(192, 12): "ti", (384, 12): "s", (768, 12): "b", (1024, 24): "l", (1280, 32): "h"}
"""Width and depth -> the letter in our size files' names."""
HOLDS = PLAIN | {
    "attn.causal": False,
    "pool": "class",
    "registers": 0,
    "stem": "patch",
    "post_norm": False,
    "stem_norm": False,
}
"""Values that transformers' ViT can hold, see `tfcli.weights.layout`."""
HYBRIDS = {
    ("b", (3, 4, 9)): "vit_r50_b16",
    ("s", (2, 2, 2, 2)): "vit_r26_s32",
    ("l", (3, 4, 6, 3)): "vit_r50_l32",
    ("ti", ()): "vit_r_ti16",
}
"""Size letter and blocks of the ResNet stem -> our size file."""


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Return what a checkpoint says of its model and the size of its images; None for our own names.

    Raises:
        WeightsError: it is of another kind, or uses a feature that our ViT does not have.
    """
    return plan(checkpoint, family="ViT")


def plan(checkpoint: Checkpoint, *, family: str) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Return settings of the model, settings of the data, and lines for the log; None for our own names.

    Args:
        checkpoint: the shapes of its tensors suffice.
        family: ViT or DeiT.

    Raises:
        WeightsError: it is of another kind, or uses a feature that our model does not have.
    """
    config, source = checkpoint.config, detect(checkpoint.state)
    if source is None:
        names.refuse_foreign(config, family=family)
        return None
    state = names.renamed(checkpoint.state, source, family=family, notes=[])
    shapes = facts.sizes(state)
    told = facts.stated(source, config, width=shapes["width"]) | shapes
    missing, notes = facts.assumed(source, told, width=shapes["width"])
    model = told | missing
    special = names.special_tokens(state)
    if family == "ViT":
        pool = facts.pool(state, source, config)
        model |= {"pool": pool, "registers": special - (pool == "class")}
        if pool == "attention":
            gated = model["activation"] == "swiglu"
            model["pool_activation"] = "silu" if gated else model["activation"]
    elif special != 2:
        raise WeightsError("this checkpoint uses registers, which tfcli's DeiT does not have.")
    data: dict[str, Any] = {}
    if TABLE in state:
        entries = state[TABLE].shape[-2]
        side = facts.grid_side(entries, special, config=config, patch_size=model["patch_size"])
        data["image_size"] = side * model["patch_size"]
        theirs = facts.stated_side(config) or data["image_size"]
        if theirs % model["patch_size"]:
            notes.append(f"its library shows it images of {theirs} px, of which patches cover {data['image_size']}")
    for key, ours in facts.TRAINING.items():
        if config.get(key):
            notes.append(f"trained with {key} {config[key]}, which is not taken: a run says its own `model.{ours}`")
    return model, data, notes


def convert(
    state: State, net: ViT | DeiT, *, config: dict[str, Any] | None = None
) -> tuple[State, list[str], dict[str, Any]]:
    """Rename, fuse query, key and value, resize the positions for `net` as the checkpoint's library does.

    Args:
        state: tensors by the names in the file.
        net: the model to fit them to.
        config: what stands beside the file, as in `Checkpoint.config`.

    Returns:
        Tensors by our names, lines for the log, and settings of `net` that the checkpoint implies (`norm_eps` ...).

    Raises:
        WeightsError: the position table is not that of a square grid, or the model lacks a feature.
    """
    notes: list[str] = []
    config = config or {}
    source = detect(state)
    if source is None:
        eps = (config.get("run", {}).get("model") or {}).get("norm_eps")
        settings: dict[str, Any] = {} if eps is None else {"norm_eps": float(eps)}
        return _fit_table(dict(state), net, "transformers", config, notes), notes, settings
    state = names.renamed(state, source, family=type(net).__name__, notes=notes)
    shapes = facts.sizes(state)
    told = facts.stated(source, config, width=shapes["width"]) | shapes
    settings = {"norm_eps": facts.USUAL_EPSILONS[source]}
    settings |= {key: told[key] for key in ("heads", "activation", "norm_eps") if key in told}
    if TABLE not in state and _learns_positions(net):
        raise WeightsError("this checkpoint has no positions, and this model learns them: say `pos=none`.")
    rule = "dinov2_with_registers" if config.get("model_type") == "dinov2_with_registers" else source
    state = _fit_table(state, net, rule, config, notes)
    settings["pos.resample"] = rule
    if isinstance(net, ViT):
        state = _fit_pool(state, net, facts.pool(state, source, config), notes)
    return names.with_zero_biases(state, net.state_dict()), notes, settings


def export(state: State, settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a model of ours as transformers' ViTForImageClassification.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: names of the head's outputs.
    """
    return lay_out(state, settings, classes, kind="vit", architecture="ViTForImageClassification")


def lay_out(state: State, settings: dict[str, Any], classes: Sequence[str], *, kind: str, architecture: str) -> Layout:
    """Return a model as the class `architecture` of transformers, whose `model_type` is `kind`."""
    table = {TABLE: state[TABLE].reshape(1, -1, state[TABLE].shape[-1])}
    theirs = prefixed(
        written(split(state | table), names.TRANSFORMERS), f"{kind}.", ("classifier.", "distillation_classifier.")
    )
    sizes = facts.sizes(state)
    config = {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["depth"],
        "num_attention_heads": settings["heads"],
        "intermediate_size": sizes["mlp_width"],
        "hidden_act": their_activation(settings.get("activation", "gelu")),
        "layer_norm_eps": settings["norm_eps"],
        "image_size": settings["image_size"],
        "patch_size": sizes["patch_size"],
        "num_channels": 3,
        "qkv_bias": True,
        **{theirs: settings.get(ours, 0.0) for theirs, ours in facts.TRAINING.items() if ours != "drop_path"},
    }
    return Layout(
        library="transformers",
        architecture=architecture,
        state=theirs,
        config=config | labels(classes, len(state["head.weight"])),
    )


def torchvision_name(net: ViT) -> str | None:
    """Return torchvision's name of a ViT of this size, if it has one."""
    if not isinstance(net.patch_embed, PatchEmbed):
        return None
    patches = net.patch_embed.proj
    return _torchvision_name(patches.out_channels, len(net.stack.blocks), patches.kernel_size[0])


def torchvision_name_of(settings: dict[str, Any]) -> str | None:
    """Return torchvision's name of a ViT of these settings, before it is built."""
    return _torchvision_name(*(settings.get(key) for key in ("width", "depth", "patch_size")))


def _torchvision_name(width: Any, depth: Any, patch_size: Any) -> str | None:
    name = f"vit_{SIZES.get((width, depth))}_{patch_size}"
    return name if name in ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32", "vit_h_14") else None


def describe(state: State) -> str:
    """Return, for an error's text, the model that weights under our names are for, or nothing if they are no ViT's."""
    patches = state.get(PATCHES)
    if patches is None or patches.ndim != 4:
        return ""
    width, depth = patches.shape[0], count(state, r"stack\.blocks\.(\d+)\.")
    letter = SIZES.get((width, depth), "")
    kind, family = ("distilled DeiT", "deit") if "dist_token" in state else ("ViT", "vit")
    name = f"{family}_{letter}{patches.shape[-1]}" if letter and patches.shape[-1] in (4, 8, 14, 16, 32) else None
    size = f"width {width}, depth {depth}, patch {patches.shape[-1]}"
    if "patch_embed.root.conv.weight" in state:
        blocks = tuple(facts.stages(state))
        name = HYBRIDS.get((letter, blocks))
        size = f"width {width}, depth {depth}, on a ResNet of blocks {list(blocks)}"
    pool = ", pool=mean" if "cls_token" not in state else ""
    return f" The file is a {kind} of {size}{pool}" + (f": try `model={name}`." if name else ".")


def _fit_pool(state: State, net: ViT, pool: str, notes: list[str]) -> State:
    """Fit special tokens, the last norm and the head to what the head of `net` reads.

    Raises:
        WeightsError: the checkpoint's head reads something else.
    """
    if pool != net.pool:
        raise WeightsError(f"this checkpoint's head reads `pool={pool}`, this model's `pool={net.pool}`.")
    state = names.settle_tokens(state, own_class=pool == "class")
    if pool == "class":  # a norm is of each token alone: before pooling or after it is the same
        state = {name.replace("head_norm.", "stack.norm."): tensor for name, tensor in state.items()}
    head = state.get("head.weight")
    if head is not None and head.shape[1] == 2 * net.head.in_features:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("head.")}
        notes.append("head: left out, since it reads class token and mean of patches side by side, as tfcli's does not")
    return state


def _fit_table(state: State, net: ViT | DeiT, source: str, config: dict[str, Any], notes: list[str]) -> State:
    """Give every special token an entry and resize the table, or leave it out where `net` has other positions.

    Raises:
        WeightsError: the table is not that of a square grid.
    """
    if TABLE not in state:
        return state
    if not _learns_positions(net):
        notes.append("learned positions: left out, since this model has other positions (`pos=`)")
        return {name: tensor for name, tensor in state.items() if name != TABLE}
    special = names.special_tokens(state)
    if special != int(net.places.special.sum()):
        return state  # refused later, with the shapes
    table = state[TABLE].reshape(-1, state[TABLE].shape[-1])
    side = facts.grid_side(len(table), special, config=config, patch_size=facts.patch_size(state))
    own = len(table) - side**2
    table = torch.cat([table[:own], table.new_zeros(special - own, table.shape[1]), table[own:]])
    table, note = resize_positions(table, net.patch_embed.grid, special=special, source=source)
    notes.extend([note] if note else [])
    return {**state, TABLE: table}


def _learns_positions(net: ViT | DeiT) -> bool:
    return any(name == TABLE for name, _ in net.named_parameters())
