"""Marian checkpoints of transformers and torch.nn.Transformer's state dicts under our names.

Marian's files name the one table of embeddings `model.shared`, and may repeat it under each side's name and the
output's; positions that some of them carry are sinusoids, and left out. torch.nn.Transformer has no embeddings: they
stay as they were made, unless the file has them under our names.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tfcli.errors import WeightsError
from tfcli.models.transformer import Transformer
from tfcli.weights import kinds
from tfcli.weights.files import Checkpoint
from tfcli.weights.generation import search
from tfcli.weights.layout import PLAIN, Layout, written
from tfcli.weights.names import ACTIVATIONS, Renames, State, count, fuse, rename, split, their_activation
from tfcli.weights.positions import fit_line

__all__ = ["blueprint", "convert", "describe", "detect", "export", "search"]
READS = {"marian": "Marian"}
LAYER = r"(encoder|decoder)\.layers\.(\d+)\."
OURS = r"\1.blocks.\2."
MARIAN: Renames = [
    (r"encoder\.embed_tokens\.", "words.embed."),
    (r"decoder\.embed_tokens\.", "words.target_embed."),
    (r"lm_head\.weight$", "words.output_weight"),
    (r"final_logits_bias$", "words.output_bias"),
    (LAYER + r"self_attn\.([qkv])_proj\.", OURS + r"attention.\3."),
    (LAYER + r"self_attn\.out_proj\.", OURS + "attention.out."),
    (LAYER + r"self_attn_layer_norm\.", OURS + "norm1."),
    (LAYER + r"encoder_attn\.([qkv])_proj\.", OURS + r"cross.\3."),
    (LAYER + r"encoder_attn\.out_proj\.", OURS + "cross.out."),
    (LAYER + r"encoder_attn_layer_norm\.", OURS + "cross_norm."),
    (LAYER + r"(fc[12])\.", OURS + r"mlp.\3."),
    (LAYER + r"final_layer_norm\.", OURS + "norm2."),
]
TORCH: Renames = [
    (LAYER + r"self_attn\.in_proj_", OURS + "attention.qkv."),
    (LAYER + r"self_attn\.out_proj\.", OURS + "attention.out."),
    (LAYER + r"multihead_attn\.in_proj_", OURS + "cross.qkv."),
    (LAYER + r"multihead_attn\.out_proj\.", OURS + "cross.out."),
    (LAYER + r"linear([12])\.", OURS + r"mlp.fc\3."),
    (LAYER + r"norm1\.", OURS + "norm1."),
    (r"encoder\.layers\.(\d+)\.norm2\.", r"encoder.blocks.\1.norm2."),
    (r"decoder\.layers\.(\d+)\.norm2\.", r"decoder.blocks.\1.cross_norm."),
    (r"decoder\.layers\.(\d+)\.norm3\.", r"decoder.blocks.\1.norm2."),
]
HOLDS = PLAIN | {
    "pos._target_": "tfcli.nn.positions.Sinusoidal",
    "pos.base": 10000.0,
    "attn.causal": False,
    "post_norm": True,
    "final_norm": (None, False),
    "norm_eps": 1e-5,
    "tied": True,
}
"""Values that transformers' Marian can hold, see `tfcli.weights.layout`."""
TABLES = ("words.embed.weight", "words.target_embed.weight", "words.output_weight")
BIAS = "words.output_bias"
LACKABLE = (*TABLES, BIAS)
"""Parts that a checkpoint may lack, and then stay as they were made."""


def detect(state: State) -> str | None:
    """Return marian or torch by the names; None for our own or another family's."""
    names = {name.removeprefix("model.").removeprefix("transformer.") for name in state}
    if "decoder.layers.0.encoder_attn.q_proj.weight" in names:
        return "marian"
    return "torch" if "decoder.layers.0.multihead_attn.in_proj_weight" in names else None


def convert(
    state: State, net: Transformer, *, config: dict[str, Any] | None = None
) -> tuple[State, list[str], dict[str, Any]]:
    """Rename, fuse query, key and value, fit learned positions to the context of `net`.

    Args:
        state: tensors by the names in the file.
        net: the model to fit them to.
        config: what stands beside the file, as in `Checkpoint.config`.

    Returns:
        Tensors by our names, lines for the log, no settings.

    Raises:
        WeightsError: the model's context is longer than the checkpoint's.
    """
    notes: list[str] = []
    source = detect(state)
    if source == "marian":
        state = _from_marian(state, tied=net.words.target_embed is None)
    elif source == "torch":
        state = {rename(name.removeprefix("transformer."), TORCH): tensor for name, tensor in state.items()}
    for side in ("encoder", "decoder"):
        state = fit_line(state, f"{side}.positions.0.table", net, context=net.context, notes=notes)
    return state, notes, {}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Read a Marian checkpoint's own sizes; None for others, which do not tell the heads.

    Returns:
        Settings of the model, none of the data, and lines for the log.

    Raises:
        WeightsError: it is of a kind that is not read.
    """
    if detect(checkpoint.state) != "marian":
        return None
    stated = checkpoint.config
    activation = ACTIVATIONS.get(stated.get("activation_function", "gelu"))
    sides = [[stated.get(f"{side}_{key}") for side in ("encoder", "decoder")] for key in ("attention_heads", "ffn_dim")]
    odd = [f"encoder and decoder of {one} and {other}" for one, other in sides if one != other]
    odd += [key for key in ("quantization_config",) if stated.get(key)]
    if not activation:
        odd.append(f"activation_function {stated['activation_function']}")
    if odd or not stated:
        raise WeightsError(f"the checkpoint is a Marian of a kind that is not read: {', '.join(odd) or 'no config'}.")
    tied = stated.get("share_encoder_decoder_embeddings", True) and stated.get("tie_word_embeddings", True)
    state = _from_marian(checkpoint.state, tied=tied)
    vocab_size, width = state[TABLES[0]].shape
    depths = {side: count(state, side + r"\.blocks\.(\d+)\.") for side in ("encoder", "decoder")}
    mlp_width = len(state["encoder.blocks.0.mlp.fc1.weight"])
    facts = {"d_model": width, "vocab_size": vocab_size, "encoder_ffn_dim": mlp_width}
    kinds.agree(stated, facts | {f"{side}_layers": depth for side, depth in depths.items()})
    drops = [key for key in ("activation_dropout", "encoder_layerdrop", "decoder_layerdrop") if stated.get(key)]
    notes = [f"{key} {stated[key]}: not taken; training has none of it here" for key in drops]
    model = {
        "width": width,
        "depth": depths["encoder"],
        "decoder_depth": depths["decoder"],
        "heads": stated["encoder_attention_heads"],
        "mlp_width": mlp_width,
        "context": stated.get("max_position_embeddings", 512),
        "vocab_size": vocab_size,
        "tied": tied,
        "target_vocab_size": None if tied else len(state[TABLES[1]]),
        "scale": bool(stated.get("scale_embedding", False)),
        "output_bias": True,
        "activation": activation,
        "norm_eps": 1e-5,
        "post_norm": True,
        "final_norm": False,
        "dropout": stated.get("dropout", 0.1),
        "attention_dropout": stated.get("attention_dropout", 0.0),
    }
    return model, {}, notes


def export(state: State, settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a model of ours as transformers' MarianMTModel; an output without a bias has one of zeros there.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: none; a translator has no head.
    """
    vocab_size, width = state[TABLES[0]].shape
    state = {BIAS: torch.zeros(vocab_size), **state}
    theirs = written(split({name: t for name, t in state.items() if name != TABLES[0]}, parts=("q", "k", "v")), MARIAN)
    bias = theirs.pop("final_logits_bias")
    theirs = {"shared.weight": state[TABLES[0]].detach().cpu().clone(), **theirs}
    depths = {f"{side}_layers": count(state, side + r"\.blocks\.(\d+)\.") for side in ("encoder", "decoder")}
    mlp_width = len(state["encoder.blocks.0.mlp.fc1.weight"])
    config = {
        "architectures": ["MarianMTModel"],
        "model_type": "marian",
        "is_encoder_decoder": True,
        "d_model": width,
        "vocab_size": vocab_size,
        "decoder_vocab_size": vocab_size,
        "max_position_embeddings": settings["context"],
        **depths,
        **{f"{side}_attention_heads": settings["heads"] for side in ("encoder", "decoder")},
        **{f"{side}_ffn_dim": mlp_width for side in ("encoder", "decoder")},
        "activation_function": their_activation(settings["activation"]),
        "scale_embedding": settings["scale"],
        "dropout": settings["dropout"],
        "attention_dropout": settings["attention_dropout"],
        "activation_dropout": 0.0,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
    }
    return Layout(
        library="transformers",
        architecture="MarianMTModel",
        state={"final_logits_bias": bias[None], **{f"model.{name}": tensor for name, tensor in theirs.items()}},
        config=config,
        frames=("$A {eos}",),
    )


def describe(state: State) -> str:
    """Return, for an error's text, the model that weights under our names are for; nothing for another family's."""
    if TABLES[0] not in state or "decoder.blocks.0.cross.qkv.weight" not in state:
        return ""
    width, depth = state[TABLES[0]].shape[1], count(state, r"encoder\.blocks\.(\d+)\.")
    name = {(512, 6): "transformer_base", (1024, 6): "transformer_big"}.get((width, depth))
    size = f" The file is a Transformer of width {width}, depth {depth}"
    return size + (f": try `model={name}`." if name else ".")


def _from_marian(state: State, *, tied: bool) -> State:
    """Return the state under our names.

    Raises:
        WeightsError: its tables differ, but are to be tied.
    """
    state = {name.removeprefix("model."): tensor for name, tensor in state.items() if "embed_positions" not in name}
    shared = state.pop("shared.weight", None)
    state = fuse({rename(name, MARIAN): tensor for name, tensor in state.items()}, parts=("q", "k", "v"))
    if BIAS in state:
        state[BIAS] = state[BIAS].reshape(-1)
    if shared is not None:
        state = dict.fromkeys(TABLES[:2], shared) | state
    kinds.need(state, (*TABLES[:2], "encoder.blocks.0.mlp.fc1.weight"), kind="Marian")
    state.setdefault(TABLES[2], state[TABLES[1]])
    if not tied:
        return state
    table, *others = (state[name] for name in TABLES)
    if any(not (other.is_meta or torch.equal(other, table)) for other in others):
        raise WeightsError("the checkpoint's embeddings and output differ, but the model's are one (model.tied).")
    return {name: tensor for name, tensor in state.items() if name not in TABLES[1:]}
