"""Find out whose weights a checkpoint holds, before a tensor of it is taken.

Its config says so, or else its tensors' names and shapes do. A converter declares what it reads: READS, a table of
transformers' `model_type`s and what these are called.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

import tfcli.weights
from tfcli.errors import WeightsError
from tfcli.weights.files import Checkpoint
from tfcli.weights.names import State

FOREIGN = {
    "DistilBERT": r"(distilbert\.)?transformer\.layer\.\d+\.attention\.q_lin\.",
    "RoBERTa": r"roberta\.|lm_head\.(dense|layer_norm)\.",
    "ALBERT": r"(albert\.)?encoder\.albert_layer_groups\.",
    "ELECTRA": r"electra\.|embeddings_project\.|(discriminator|generator)_predictions\.",
    "DeBERTa": r"(deberta\.)?encoder\.(rel_embeddings\.|layer\.\d+\.attention\.self\.(in_proj|pos_proj)\.)|deberta\.",
    "MPNet": r"(mpnet\.)?encoder\.relative_attention_bias\.",
    "GPT-Neo": r"(transformer\.)?h\.\d+\.attn\.attention\.q_proj\.",
    "GPT-J": r"(transformer\.)?h\.\d+\.attn\.q_proj\.",
    "GPT-NeoX": r"(gpt_neox\.)?layers\.\d+\.attention\.query_key_value\.",
    "BLOOM or Falcon": r"(transformer\.)?h\.\d+\.self_attention\.query_key_value\.",
    "Llama or one of its kind": r"(model\.)?layers\.\d+\.(mlp\.(gate_proj|gate_up_proj)|self_attn\.qkv_proj)\.",
    "T5": r"(encoder|decoder)\.block\.\d+\.layer\.\d+\.(SelfAttention|EncDecAttention)\.",
    "BART": r"(model\.)?(encoder|decoder)\.layernorm_embedding\.",
    "M2M-100, Pegasus or OPT": r"(model\.)?decoder\.(layer_norm|final_layer_norm)\.",
    "Whisper": r"(model\.)?encoder\.conv1\.",
}
"""Families that have no model here, and a name that a tensor of theirs begins with."""
PADDED = "RoBERTa, CamemBERT or XLM-RoBERTa"


def check(checkpoint: Checkpoint, converter: ModuleType | None, *, model: str, weights: str) -> None:
    """Refuse a checkpoint of a family that the model's converter does not read.

    Args:
        converter: of the model; one that declares no READS is not asked.
        model: what `model=` calls the family.
        weights: as they were asked for.

    Raises:
        WeightsError: with whose weights they are, how that is known, and the model that reads them if there is one.
    """
    reads = getattr(converter, "READS", None)
    if converter is None or reads is None:
        return
    stated = _stated(checkpoint.config)
    found = _by_config(*stated, reads) if stated else None
    found = found or _by_names(checkpoint.state, converter, stated=bool(stated))
    if found is None:
        return
    name, how = found
    ours = " and ".join(dict.fromkeys(reads.values()))
    tables = {kind: list(getattr(other, "READS", {}).values()) for kind, other in converters()}
    others = sorted((k for k, names in tables.items() if name in names), key=lambda k: tables[k].index(name))
    raise WeightsError(
        f"`{weights}` holds weights of {name} ({how}). `model={model}` reads {ours} alone; "
        + (f"`model={others[0]}` reads these." if others else f"no model here reads {name}.")
    )


def agree(config: dict[str, Any], facts: dict[str, Any]) -> None:
    """Refuse a config.json that states other sizes than its tensors have.

    Args:
        facts: sizes of the tensors, by what the config calls them; those that it does not state are not compared.

    Raises:
        WeightsError: with what differs.
    """
    stated = {key: config[key] for key in facts if isinstance(config.get(key), int)}
    wrong = [f"{key} {value}, but {facts[key]}" for key, value in stated.items() if value != facts[key]]
    if wrong:
        raise WeightsError(f"config.json is not of these weights: it states {'; '.join(wrong)} by the tensors.")


def assumed(config: dict[str, Any], values: dict[str, Any]) -> list[str]:
    """Return a line for the log that says what is assumed of settings that no config states and no tensor tells."""
    missing = {key: value for key, value in values.items() if config.get(key) is None}
    if not missing:
        return []
    where = "config.json does not state" if config else "there is no config.json, which would state"
    said = ", ".join(f"{key} ({value} assumed)" for key, value in missing.items())
    return [f"{where} {said}: as published models of this width have it"]


def need(state: State, names: Collection[str], *, kind: str) -> None:
    """Refuse a file that lacks tensors without which nothing can be said of its size.

    Raises:
        WeightsError: with their names.
    """
    missing = [name for name in names if name not in state]
    if missing:
        raise WeightsError(f"the checkpoint is no whole {kind}: it lacks {', '.join(missing)}.")


def converters() -> Iterator[tuple[str, ModuleType]]:
    """Yield the families' converters by their models' names."""
    for module in iter_modules(tfcli.weights.__path__):
        found = import_module(f"tfcli.weights.{module.name}")
        if hasattr(found, "convert"):
            yield module.name, found


def detectors() -> Iterator[tuple[str, Callable[[State], str | None]]]:
    """Return the names of the families' checkpoints, and a function that says whose names a state has."""
    for _, other in converters():
        if getattr(other, "READS", None) and hasattr(other, "detect"):
            yield next(iter(other.READS.values())), other.detect


def _stated(config: dict[str, Any]) -> tuple[str, str] | None:
    """Return the family that config.json names, in its letters, and how; None where it names none."""
    kind = str(config.get("model_type") or "")
    how = f"config.json: model_type {kind}"
    if not kind:
        architecture = next(iter(config.get("architectures") or []), "")
        kind = re.sub(r"(For[A-Z]|Model|LMHead|DoubleHeads|MTModel|PreTrained).*", "", str(architecture))
        how = f"config.json: architectures {architecture}"
    return (kind, how) if kind else None


def _by_config(kind: str, how: str, reads: dict[str, str]) -> tuple[str, str] | None:
    """Return the family that is named, if it is another than those that are read."""
    plain = _plain(kind)
    if plain in map(_plain, reads):
        return None
    every = {_plain(name): name for name in FOREIGN}
    every |= {_plain(key): name for _, other in converters() for key, name in getattr(other, "READS", {}).items()}
    return every.get(plain, kind), how


def _plain(kind: str) -> str:
    return re.sub(r"[-_]", "", kind.lower())


def _by_names(state: State, converter: ModuleType, *, stated: bool) -> tuple[str, str] | None:
    """Return another family, if the tensors' names (or shapes, where no config states one) are its; and how known."""
    for name, pattern in FOREIGN.items():
        found = next((key for key in state if re.match(pattern, key)), None)
        if found:
            return name, f"by its tensor {found}"
    detect = getattr(converter, "detect", None)
    if detect is not None and detect(state):
        return None if stated else _padded(state)
    found = next((name for name, detect in detectors() if detect(state)), None)
    if found is None or found in converter.READS.values():
        return None
    return found, f"by its {len(state):,} tensors' names"


def _padded(state: State) -> tuple[str, str] | None:
    """Tell RoBERTa from BERT: equal names, but its positions begin after the padding's row, which is zero."""
    tables = {key.removeprefix("bert."): tensor for key, tensor in state.items() if "embeddings." in key}
    places, kinds = (tables.get(f"embeddings.{name}_embeddings.weight") for name in ("position", "token_type"))
    if places is None:
        return None
    if kinds is not None and (len(places), len(kinds)) == (514, 1):
        return PADDED, "by its 514 positions and one kind of token; a BERT has 512 and two"
    if len(places) > 1 and not places.is_meta and not bool(places[1].any()):
        return PADDED, "by the second row of its positions, which is zero as that of padding is"
    return None
