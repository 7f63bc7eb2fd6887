"""Generation settings of a checkpoint: `generation_config.json` (for older ones `config.json`) read, and written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tfcli.weights.files import read_json

FILE = "generation_config.json"
USUAL: dict[str, Any] = {
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "max_length": 20,
    "max_new_tokens": None,
    "bad_words_ids": None,
    "forced_eos_token_id": None,
    "renormalize_logits": False,
    "temperature": 1.0,
    "top_k": None,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
}
"""Settings that are read, with transformers' defaults."""
NEUTRAL: dict[str, Any] = {
    "do_sample": False,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "min_length": 0,
    "min_new_tokens": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "sequence_bias": None,
    "exponential_decay_length_penalty": None,
    "typical_p": 1.0,
    "min_p": None,
    "guidance_scale": None,
}
"""Settings that are not supported, with the value at which each changes nothing."""
SAMPLED = {"temperature": "temperature", "top_k": "top_k", "top_p": "top_p", "repetition_penalty": "repetition_penalty"}


def stated(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that are stated, by transformers' names; empty where none are."""
    content = read_json(folder / FILE)
    known = USUAL | NEUTRAL
    return {key: value for key, value in (content or config).items() if key in known and value is not None}


def search(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return settings of `task` for a translator's search, and lines for the log; none where nothing is stated."""
    found = stated(folder, config)
    if not found:
        return {}, []
    facts = USUAL | found
    bad = facts["bad_words_ids"] or []
    rules = {
        "penalty": "power",
        "early": facts["early_stopping"],
        # The mark that a translation begins with counts in transformers' max_length.
        "longest": facts["max_new_tokens"] or facts["max_length"] - 1,
        "banned": [ids[0] for ids in bad if len(ids) == 1],
        "renormalise": bool(facts["renormalize_logits"]),
        "ends": facts["forced_eos_token_id"] is not None,
    }
    beams, alpha = facts["num_beams"], facts["length_penalty"]
    source = FILE if (folder / FILE).is_file() else "config.json"
    said = ", ".join(f"{key} {value}" for key, value in {"beams": beams, "alpha": alpha, **rules}.items())
    odd = {"bad_words_ids": [ids for ids in bad if len(ids) != 1] or None}
    odd |= {"repetition_penalty": facts["repetition_penalty"] if facts["repetition_penalty"] != 1 else None}
    more = {key: value for key, value in odd.items() if value is not None}
    lines = [f"translations are searched for as {source} states: {said}", *unread(found, source, more)]
    return {"beams": beams, "alpha": alpha, "search": rules}, lines


def as_stated(task: dict[str, Any], *, context: int, end: int) -> tuple[dict[str, Any], list[str]]:
    """Return a translator's search as `generation_config.json` states it, and a line for what cannot be said there.

    Args:
        task: `config.task` of the run, as plain values.
        context: the most tokens that the model reads and writes.
        end: the id that ends a translation.
    """
    rules = task["search"]
    settings = {
        "num_beams": task["beams"],
        "length_penalty": task["alpha"],
        "early_stopping": rules["early"],
        "max_length": min(rules["longest"] or context, context) + 1,  # with the mark that a translation begins with
        "bad_words_ids": [[number] for number in rules["banned"]] or None,
        "renormalize_logits": rules["renormalise"],
        "forced_eos_token_id": end if rules["ends"] else None,
    }
    unsaid = f"{FILE} cannot state `task.search.penalty={rules['penalty']}`: transformers divides by |Y|^alpha"
    return settings, [unsaid] if rules["penalty"] != "power" else []


def sampler(folder: Path, config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return what is stated of drawing tokens, by the names of a `Sampler`, and lines for the log."""
    found = stated(folder, config) if (folder / FILE).is_file() else {}
    drawn = {ours: found[theirs] for theirs, ours in SAMPLED.items() if theirs in found}
    if found.get("do_sample") is False:
        drawn["temperature"] = 0.0
    said = ", ".join(f"{key} {value}" for key, value in drawn.items())
    lines = [f"tokens are drawn as {FILE} states, but for what you gave: {said}"] if drawn else []
    return drawn, [*lines, *unread({k: v for k, v in found.items() if k != "do_sample"}, FILE)]


def unread(found: dict[str, Any], source: str, more: dict[str, Any] | None = None) -> list[str]:
    """Return a line that names what is stated and not taken, `more` among it."""
    odd = {key: found[key] for key, value in NEUTRAL.items() if key in found and found[key] != value} | (more or {})
    named = ", ".join(f"{key} {value}" for key, value in odd.items())
    return [f"not taken of {source}, and transformers would write otherwise: {named}"] if odd else []
