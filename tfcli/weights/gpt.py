"""GPT-1 and GPT-2 checkpoints of transformers under our names, and what each says of its own size.

Files on the hub have no `transformer.` before their names, those that transformers writes today have it. Their linear
maps are stored input by output, ours output by input. The output (`lm_head`) is the table of embeddings: a file may
have it under either name, or both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from tfcli.errors import WeightsError
from tfcli.models.gpt import GPT
from tfcli.weights import kinds
from tfcli.weights.files import Checkpoint
from tfcli.weights.layout import PLAIN, Layout, written
from tfcli.weights.names import ACTIVATIONS, Renames, State, count, rename, their_activation
from tfcli.weights.positions import fit_line

READS = {"gpt2": "GPT-2", "openai-gpt": "GPT-1"}
TABLE = "stack.positions.0.table"
NAMES: Renames = [
    (r"(wte|tokens_embed)\.", "embed."),
    (r"(wpe|positions_embed)\.weight$", TABLE),
    (r"h\.(\d+)\.ln_(\d)\.", r"stack.blocks.\1.norm\2."),
    (r"h\.(\d+)\.attn\.c_attn\.", r"stack.blocks.\1.attention.qkv."),
    (r"h\.(\d+)\.attn\.c_proj\.", r"stack.blocks.\1.attention.out."),
    (r"h\.(\d+)\.mlp\.c_fc\.", r"stack.blocks.\1.mlp.fc1."),
    (r"h\.(\d+)\.mlp\.c_proj\.", r"stack.blocks.\1.mlp.fc2."),
    (r"ln_f\.", "stack.norm."),
    (r"(score|multiple_choice_head\.summary)\.", "head."),
]
TRANSPOSED = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
MASKS = re.compile(r"h\.\d+\.attn\.(masked_)?bias")
STATED = {
    "width": "n_embd",
    "depth": "n_layer",
    "mlp_width": "n_inner",
    "context": "n_positions",
    "vocab_size": "vocab_size",
}
"""Names in config.json of the sizes that the tensors show too."""
OPTIONAL = ("head", "marks")
"""Parts that a checkpoint may lack, and then stay as they were made, or have in vain."""
HOLDS = PLAIN | {"post_norm": False, "head": None}
"""Values that transformers' GPT-2 can hold, see `tfcli.weights.layout`."""
SIZES = {(768, 12): "gpt2", (1024, 24): "gpt2_medium", (1280, 36): "gpt2_large", (1600, 48): "gpt2_xl"}


def detect(state: State) -> str | None:
    """Return GPT-1 or GPT-2 by the names of transformers; None for our own or another family's."""
    names = {name.removeprefix("transformer.") for name in state}
    if "h.0.attn.c_attn.weight" not in names:
        return None
    return "GPT-2" if "wpe.weight" in names else "GPT-1" if "positions_embed.weight" in names else None


def convert(state: State, net: GPT, *, config: dict[str, Any] | None = None) -> tuple[State, list[str], dict[str, Any]]:
    """Rename, transpose, fit the positions to the context of `net`.

    Args:
        state: tensors by the names in the file.
        net: the model to fit them to.
        config: what stands beside the file, as in `Checkpoint.config`.

    Returns:
        Tensors by our names, lines for the log, no settings.

    Raises:
        WeightsError: the model's context is longer than the checkpoint's, or its output is not its embeddings.
    """
    notes: list[str] = []
    if detect(state):
        state = _scaled(_renamed(state), config or {}, notes=notes)
    state = fit_line(state, TABLE, net, context=net.context, notes=notes)
    return state, notes, {}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Read a checkpoint's own sizes; None for our own names, which do not tell the heads.

    Returns:
        Settings of the model, none of the data, and lines for the log.
    """
    source = detect(checkpoint.state)
    if source is None:
        return None
    config, state = checkpoint.config, _renamed(checkpoint.state)
    kinds.need(state, (TABLE, "embed.weight", "stack.blocks.0.mlp.fc1.weight"), kind=source)
    sizes = _sizes(state)
    kinds.agree(config, {theirs: sizes[ours] for ours, theirs in STATED.items()})
    settings, notes = _settings(source, config, sizes["width"])
    tokenizer = {"kind": "byte_bpe" if source == "GPT-2" else "bpe", "vocab_size": sizes["vocab_size"]}
    return {**sizes, **settings, "tokenizer": tokenizer}, {}, notes


def export(state: State, settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a language model of ours as transformers' GPT2LMHeadModel.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: none; a language model has no head.
    """
    theirs = {
        f"transformer.{name}": tensor.mT.contiguous() if TRANSPOSED.fullmatch(name) else tensor
        for name, tensor in written(state, NAMES).items()
    }
    sizes = _sizes(state)
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: sizes[ours] for ours, theirs in STATED.items()},
        "n_head": settings["heads"],
        "activation_function": their_activation(settings["activation"]),
        "layer_norm_epsilon": settings["norm_eps"],
        "resid_pdrop": settings["dropout"],
        "embd_pdrop": settings["dropout"],
        "attn_pdrop": settings["attention_dropout"],
    }
    return Layout(library="transformers", architecture="GPT2LMHeadModel", state=theirs, config=config)


def _sizes(state: State) -> dict[str, int]:
    """Return the sizes that the tensors show, by our names of tensors and settings."""
    vocab_size, width = state["embed.weight"].shape
    return {
        "width": width,
        "depth": count(state, r"stack\.blocks\.(\d+)\."),
        "mlp_width": state["stack.blocks.0.mlp.fc1.weight"].shape[0],
        "context": len(state[TABLE]),
        "vocab_size": vocab_size,
    }


def describe(state: State) -> str:
    """Return, for an error's text, the model that weights under our names are for, or nothing if they are no GPT's."""
    if "embed.weight" not in state or TABLE not in state or "stack.blocks.0.mlp.fc1.weight" not in state:
        return ""
    width, depth = state["embed.weight"].shape[1], count(state, r"stack\.blocks\.(\d+)\.")
    name = SIZES.get((width, depth)) if "stack.norm.weight" in state else "gpt1" if width == 768 else None
    size = f" The file is a GPT of width {width}, depth {depth}, context {len(state[TABLE])}"
    return size + (f": try `model={name}`." if name else ".")


def _renamed(state: State) -> State:
    """Return the state under our names, in our shapes; whatever is unknown keeps its own name and is refused later.

    Raises:
        WeightsError: the output is not the table of embeddings.
    """
    state = {name.removeprefix("transformer."): tensor for name, tensor in state.items()}
    output = state.pop("lm_head.weight", None)
    found = {
        rename(name, NAMES): tensor.mT if TRANSPOSED.fullmatch(name) else tensor
        for name, tensor in state.items()
        if not MASKS.fullmatch(name)
    }
    if output is not None:
        embeddings = found.setdefault("embed.weight", output)
        if not (output.is_meta or torch.equal(output, embeddings)):
            raise WeightsError("the checkpoint's output (lm_head) is not its table of embeddings, as a GPT's is.")
    if "head.weight" in found and "head.bias" not in found:  # of transformers' sequence classifiers
        found["head.bias"] = torch.zeros(len(found["head.weight"]))
    return found


def _scaled(state: State, config: dict[str, Any], *, notes: list[str]) -> State:
    """Return the weights with GPT-2's two odd scales of the attention scores moved into the maps of the queries.

    Scores without the square root of the head's width (`scale_attn_weights=false`), or divided by the number of the
    layer (`scale_attn_by_inverse_layer_idx`), are those of queries that are so much longer or shorter.
    """
    unscaled, by_layer = not config.get("scale_attn_weights", True), config.get("scale_attn_by_inverse_layer_idx")
    if not unscaled and not by_layer:
        return state
    scaled = dict(state)
    for name, tensor in state.items():
        match = re.fullmatch(r"stack\.blocks\.(\d+)\.attention\.qkv\.(weight|bias)", name)
        if match:
            width = len(tensor) // 3
            heads = config.get("n_head") or max(width // 64, 1)
            factor = ((width // heads) ** 0.5 if unscaled else 1.0) / (int(match[1]) + 1 if by_layer else 1)
            scaled[name] = torch.cat([tensor[:width] * factor, tensor[width:]])
    odd = {"scale_attn_weights=false": unscaled, "scale_attn_by_inverse_layer_idx": by_layer}
    notes.append(
        f"{' and '.join(key for key, there in odd.items() if there)}: the queries are scaled to give the same scores"
    )
    return scaled


def _settings(source: str, config: dict[str, Any], width: int) -> tuple[dict[str, Any], list[str]]:
    """Read config.json under our names, with what is assumed where it states nothing, and lines for the log.

    Raises:
        WeightsError: the attention or the activation is of a kind that is not read.
    """
    one = source == "GPT-1"
    odd = [key for key in ("add_cross_attention", "pruned_heads", "quantization_config") if config.get(key)]
    if not config.get("tie_word_embeddings", True):
        odd.append("tie_word_embeddings false")
    key = "afn" if one else "activation_function"
    name = str(config.get(key) or "gelu_new")
    activation = ACTIVATIONS.get("gelu_new" if one and name == "gelu" else name)
    if not activation:
        odd.append(f"{key} {name}")
    if odd:
        raise WeightsError(f"the checkpoint is a {source} of a kind that is not read: {', '.join(odd)}.")
    heads = max(width // 64, 1)
    notes = kinds.assumed(config, {"n_head": heads, key: "gelu_new", "layer_norm_epsilon": 1e-5})
    kept, other = config.get("resid_pdrop"), config.get("embd_pdrop")
    if None not in (kept, other) and kept != other:
        notes.append(f"embd_pdrop {other}: not taken, there is one dropout, of resid_pdrop {kept} (model.dropout)")
    facts = {
        "heads": config.get("n_head") or heads,
        "activation": activation,
        "norm_eps": config.get("layer_norm_epsilon", 1e-5),
        "post_norm": one,
        "dropout": config.get("resid_pdrop"),
        "attention_dropout": config.get("attn_pdrop"),
    }
    return {key: value for key, value in facts.items() if value is not None}, notes
