"""BERT checkpoints of transformers under our names, and what each says of its own size.

The names are those of transformers' BertForPreTraining and what it is cut down to or fine-tuned into, with or without
`bert.` before them; the oldest files call a norm's weight gamma and its bias beta. The output of the masked head is the
table of embeddings with a bias of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from tfcli.errors import WeightsError
from tfcli.models.bert import BERT
from tfcli.weights import kinds
from tfcli.weights.files import Checkpoint
from tfcli.weights.layout import PLAIN, Layout, labels, prefixed, written
from tfcli.weights.names import ACTIVATIONS, Renames, State, count, fuse, rename, split, their_activation
from tfcli.weights.positions import fit_line

READS = {"bert": "BERT"}
TABLE = "stack.positions.0.table"
NAMES: Renames = [
    (r"embeddings\.word_embeddings\.", "embed."),
    (r"embeddings\.token_type_embeddings\.", "segment_embed."),
    (r"embeddings\.position_embeddings\.weight$", TABLE),
    (r"embeddings\.LayerNorm\.", "stack.stem_norm."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"stack.blocks.\1.attention.out."),
    (r"encoder\.layer\.(\d+)\.attention\.self\.", r"stack.blocks.\1.attention."),
    (r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.", r"stack.blocks.\1.norm1."),
    (r"encoder\.layer\.(\d+)\.intermediate\.dense\.", r"stack.blocks.\1.mlp.fc1."),
    (r"encoder\.layer\.(\d+)\.output\.dense\.", r"stack.blocks.\1.mlp.fc2."),
    (r"encoder\.layer\.(\d+)\.output\.LayerNorm\.", r"stack.blocks.\1.norm2."),
    (r"pooler\.dense\.", "pooler."),
    (r"cls\.predictions\.transform\.dense\.", "masked.map."),
    (r"cls\.predictions\.transform\.LayerNorm\.", "masked.norm."),
    (r"cls\.predictions\.bias$", "masked.bias"),
    (r"cls\.seq_relationship\.", "next."),
    (r"(classifier|qa_outputs)\.", "head."),
]
ANSWERS = {
    "ForSequenceClassification": "classes",
    "ForTokenClassification": "tags",
    "ForQuestionAnswering": "span",
    "ForMultipleChoice": "choice",
}
"""Endings of transformers' classes with a head -> the head's kind."""
OPTIONAL = ("pooler", "masked", "next", "head")
"""Parts that a checkpoint may lack, and then stay as they were made, or have in vain."""
STATED = {
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "mlp_width": "intermediate_size",
    "context": "max_position_embeddings",
    "vocab_size": "vocab_size",
    "segments": "type_vocab_size",
}
"""Names in config.json of the sizes that the tensors show too."""
HOLDS = PLAIN | {"attn.causal": False, "post_norm": True, "pool": "class"}
"""Values that transformers' BERT can hold, see `tfcli.weights.layout`."""
SIZES = {(768, 12): "bert_base", (1024, 24): "bert_large"}


def detect(state: State) -> str | None:
    """Return which library's names these are; None for our own or another family's."""
    names = {name.removeprefix("bert.") for name in state}
    wanted = {"embeddings.word_embeddings.weight", "encoder.layer.0.attention.self.query.weight"}
    return "transformers" if wanted <= names else None


def convert(
    state: State, net: BERT, *, config: dict[str, Any] | None = None
) -> tuple[State, list[str], dict[str, Any]]:
    """Rename, fuse query, key and value, fit the positions to the context of `net`.

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
        state = _renamed(state)
    return fit_line(state, TABLE, net, context=net.context, notes=notes), notes, {}


def blueprint(checkpoint: Checkpoint) -> tuple[dict[str, Any], dict[str, Any], list[str]] | None:
    """Read a checkpoint's own sizes; None for our own names, which do not tell the heads.

    Returns:
        Settings of the model, none of the data, and lines for the log.

    Raises:
        WeightsError: it is of a kind that is not read.
    """
    if detect(checkpoint.state) is None:
        return None
    config, state = checkpoint.config, _renamed(checkpoint.state)
    kinds.need(state, (TABLE, "segment_embed.weight", "stack.blocks.0.mlp.fc1.weight"), kind="BERT")
    sizes = _sizes(state)
    kinds.agree(config, {theirs: sizes[ours] for ours, theirs in STATED.items()})
    settings, notes = _settings(config, sizes["width"])
    tokenizer = {"kind": "wordpiece", "vocab_size": sizes["vocab_size"]}
    return {**sizes, "post_norm": True, **settings, "tokenizer": tokenizer}, {}, notes


def export(state: State, settings: dict[str, Any], classes: Sequence[str] = ()) -> Layout:
    """Return a model of ours as transformers' BERT with the head that it has.

    Args:
        state: tensors by our names.
        settings: `config.model` as plain values, checked against `HOLDS`.
        classes: names of the head's outputs.
    """
    head, sizes = settings.get("head"), _sizes(state)
    endings: dict[str | None, str] = {kind: ending for ending, kind in ANSWERS.items()}
    endings |= {"score": endings["classes"], "pretrain": "ForPreTraining", None: "Model"}
    theirs = written(split(state), NAMES)
    if head == "span":
        theirs = {name.replace("classifier.", "qa_outputs."): tensor for name, tensor in theirs.items()}
    if head is not None:
        theirs = prefixed(theirs, "bert.", ("cls.", "classifier.", "qa_outputs."))
    config = {
        "architectures": [f"Bert{endings[head]}"],
        "model_type": "bert",
        **{theirs: sizes[ours] for ours, theirs in STATED.items()},
        "num_attention_heads": settings["heads"],
        "hidden_act": their_activation(settings["activation"]),
        "layer_norm_eps": settings["norm_eps"],
        "hidden_dropout_prob": settings["dropout"],
        "attention_probs_dropout_prob": settings["attention_dropout"],
    }
    if head in ("classes", "tags", "score"):
        config |= labels(classes, len(state["head.weight"]))
    if head in ("classes", "score"):
        config["problem_type"] = "regression" if head == "score" else "single_label_classification"
    frames = ("{cls} $A {sep}", "{cls} $A {sep} $B:1 {sep}:1")
    return Layout(
        library="transformers", architecture=config["architectures"][0], state=theirs, config=config, frames=frames
    )


def _sizes(state: State) -> dict[str, int]:
    """Return the sizes that the tensors show, by our names of tensors and settings."""
    vocab_size, width = state["embed.weight"].shape
    return {
        "width": width,
        "depth": count(state, r"stack\.blocks\.(\d+)\."),
        "mlp_width": state["stack.blocks.0.mlp.fc1.weight"].shape[0],
        "context": len(state[TABLE]),
        "vocab_size": vocab_size,
        "segments": len(state["segment_embed.weight"]),
    }


def head_of(checkpoint: Checkpoint) -> tuple[str, int] | None:
    """Return what the head answers (see `tfcli.models.bert`) and its outputs; None for a checkpoint without one.

    The config's `architectures` tells it, or else the tensors: of a head with one output that it gives a score.
    """
    state = checkpoint.state
    bias = next((state[f"{name}.bias"] for name in ("classifier", "qa_outputs") if f"{name}.bias" in state), None)
    if bias is None or detect(state) is None:
        return None
    built = str(next(iter(checkpoint.config.get("architectures") or []), ""))
    kind = next((kind for name, kind in ANSWERS.items() if built.endswith(name)), None)
    if kind is None:
        pooled = any("pooler." in name for name in state)
        kind = "span" if "qa_outputs.bias" in state else "classes" if pooled else "tags"
    return ("score" if kind == "classes" and len(bias) == 1 else kind), len(bias)


def describe(state: State) -> str:
    """Return, for an error's text, the model that weights under our names are for, or nothing if they are no BERT's."""
    if "segment_embed.weight" not in state or TABLE not in state:
        return ""
    vocab_size, width = state["embed.weight"].shape
    depth = count(state, r"stack\.blocks\.(\d+)\.")
    name = SIZES.get((width, depth))
    size = f" The file is a BERT of width {width}, depth {depth}, with a vocabulary of {vocab_size:,}"
    return size + (f": try `model={name}`." if name else ".")


def _renamed(state: State) -> State:
    """Return the state under our names, in our shapes; whatever is unknown keeps its own name and is refused later.

    Raises:
        WeightsError: the output is not the table of embeddings, or its two biases differ.
    """
    state = {_modern(name.removeprefix("bert.")): tensor for name, tensor in state.items()}
    state.pop("embeddings.position_ids", None)
    for copy, kept in (("weight", "embeddings.word_embeddings.weight"), ("bias", "cls.predictions.bias")):
        output = state.pop(f"cls.predictions.decoder.{copy}", None)
        if output is None:
            continue
        first = state.setdefault(kept, output)
        if not (output.is_meta or torch.equal(output, first)):
            raise WeightsError(f"the checkpoint's cls.predictions.decoder.{copy} is not its {kept}, as a BERT's is.")
    return fuse({rename(name, NAMES): tensor for name, tensor in state.items()})


def _modern(name: str) -> str:
    return re.sub(r"LayerNorm\.(gamma|beta)$", lambda m: f"LayerNorm.{'weight' if m[1] == 'gamma' else 'bias'}", name)


def _settings(config: dict[str, Any], width: int) -> tuple[dict[str, Any], list[str]]:
    """Read config.json under our names, with what is assumed where it states nothing, and lines for the log.

    Raises:
        WeightsError: it is of a kind that is not read.
    """
    unread = ("is_decoder", "add_cross_attention", "pruned_heads", "quantization_config")
    odd = [key for key in unread if config.get(key)]
    if config.get("position_embedding_type") not in (None, "absolute"):
        odd.append(f"position_embedding_type {config['position_embedding_type']}")
    activation = ACTIVATIONS.get(str(config.get("hidden_act", "gelu")))
    if not activation:
        odd.append(f"hidden_act {config['hidden_act']}")
    if odd:
        raise WeightsError(f"the checkpoint is no BERT that is read: {', '.join(odd)}.")
    facts = {
        "heads": config.get("num_attention_heads"),
        "activation": activation,
        "norm_eps": config.get("layer_norm_eps", 1e-12),
        "dropout": config.get("hidden_dropout_prob"),
        "attention_dropout": config.get("attention_probs_dropout_prob"),
    }
    heads = max(width // 64, 1)
    assumed = {"num_attention_heads": heads, "hidden_act": "gelu", "layer_norm_eps": 1e-12}
    notes = kinds.assumed(config, assumed)
    other = config.get("classifier_dropout")
    if other is not None and other != config.get("hidden_dropout_prob"):
        notes.append(f"classifier_dropout {other}: not taken, the head's dropout is that of the blocks (model.dropout)")
    facts["heads"] = facts["heads"] or heads
    return {key: value for key, value in facts.items() if value is not None}, notes
