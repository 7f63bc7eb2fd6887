"""Names of the classes that a checkpoint's head knows, as its owner states them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

UNNAMED = re.compile(r"label_?\d+", re.IGNORECASE)
"""Names that transformers writes where nobody named a class."""
CODE = re.compile(r"n\d{8}")
"""The name of an ImageNet class's folder."""


def stated(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the names in a `config.json` of transformers (`id2label`) or timm (`label_names`); none where it has none.

    Args:
        config: as in `tfcli.weights.files.Checkpoint`.
    """
    named = config.get("id2label")
    if isinstance(named, dict) and all(str(key).isdigit() for key in named):
        ordered = {int(key): str(name) for key, name in named.items()}
        names = tuple(ordered[i] for i in sorted(ordered))
        whole = sorted(ordered) == list(range(len(names)))
        return names if whole and not all(UNNAMED.fullmatch(name) for name in names) else ()
    listed_there = config.get("label_names") or (config.get("pretrained_cfg") or {}).get("label_names")
    return tuple(map(str, listed_there)) if isinstance(listed_there, list) else ()


def no_choice(config: dict[str, Any]) -> str:
    """Return what a head answers in place of one class of several, as transformers' `config.json` states it; or "".

    Its outputs are no logits of a softmax, though nothing in the tensors shows it.
    """
    kind = config.get("problem_type")
    if kind == "multi_label_classification":
        return f"says yes or no to each label on its own (config.json: problem_type {kind})"
    if kind == "regression":
        return f"gives numbers, not classes (config.json: problem_type {kind})"
    named = config.get("id2label")
    if kind is None and isinstance(named, dict) and len(named) == 1:
        return "gives one number, not classes (config.json: one label)"
    return ""


def imagenet() -> tuple[str, ...]:
    """Return the 1,000 classes of ImageNet in the order that all public classifiers have them."""
    from torchvision.models import ResNet18_Weights

    return tuple(ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def agree(theirs: Sequence[str], ours: Sequence[str]) -> bool:
    """Return whether two lists name the same classes: one of each two names has all words of the other.

    So `tench` is `tench, Tinca tinca`, and `0` is `0 - zero`. Codes of ImageNet's folders agree with any 1,000 names.
    """
    if len(theirs) != len(ours):
        return False
    if len(ours) == 1000 and all(CODE.fullmatch(name) for name in ours):
        return True
    words = [[set(re.findall(r"[^\W_]+", name.casefold())) for name in names] for names in (theirs, ours)]
    return all(a <= b or b <= a for a, b in zip(*words, strict=True))


def listed(names: Sequence[str]) -> str:
    """Return the first names and how many there are, for a message."""
    return f"{', '.join(names[:3])}{', ...' * (len(names) > 3)} ({len(names):,})"
