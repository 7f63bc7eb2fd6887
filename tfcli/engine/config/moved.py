"""Translate names that have changed since a run, a sweep or a config was saved. Imports nothing of ours.

Only what was saved is translated, and before anything judges it; a new command that uses an old name is refused with
the new one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

PATTERNS = "tfcli.nn.patterns"
WINDOW_SIZE = 4
"""The `size` of the option `attn=local`, of which a command need not have spoken."""


def turned(size: int, shift: int) -> int:
    """Return where the first of `Windows` begins, whose `shift` ran the other way in `Local`."""
    return (size - shift) % size


def windows(node: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Windows` for those of `Local`."""
    return {**node, "shift": turned(node["size"], node.get("shift", 0))}


TARGETS = {
    f"{PATTERNS}.Window": f"{PATTERNS}.SlidingWindow",
    f"{PATTERNS}.Local": f"{PATTERNS}.Windows",
    "tfcli.data.synthetic.asked.AskedShapes": "tfcli.data.synthetic.source.Shapes",
    "tfcli.models.clip.ModifiedResNet": "tfcli.models.resnet.ModifiedResNet",
    "tfcli.models.clip.TextTransformer": "tfcli.models.text_encoder.TextTransformer",
    "tfcli.models.clip.TextBag": "tfcli.models.text_encoder.TextBag",
}
"""Old dotted name -> new."""
ROOMS = {
    "views": ("framed", "masked", "streams", "translations"),
    "sources": (
        "adapters", "captions", "corpora", "digits", "folder", "parallel", "questions", "tagged", "texttables",
    ),
}  # fmt: skip
"""Rooms of tfcli.data and the modules that lay beside them; names of other ones stand in no config."""
MODULES = {f"tfcli.data.{name}": f"tfcli.data.{room}.{name}" for room, names in ROOMS.items() for name in names} | {
    "tfcli.data.sources": "tfcli.data.sources.torchvision_sets",
}
"""Old module -> new, where the names in it are the same."""
IMAGES, TEXTS = ("images", "images.images"), ("texts", "texts.texts")
JOINED = {
    **{f"tfcli.data.{module}.ImageData": "tfcli.data.module.DataModule" for module in IMAGES},
    **{f"tfcli.data.{module}.TextData": "tfcli.data.module.DataModule" for module in TEXTS},
}
"""Old dotted name -> new, of parts that have become one."""
VIEWS = {
    "tfcli.tasks.classify.Classify": "tfcli.data.views.labelled.LabelledImages",
    "tfcli.tasks.distill.Distill": "tfcli.data.views.labelled.LabelledImages",
    "tfcli.tasks.contrastive.Contrastive": "tfcli.data.views.captioned.CaptionedImages",
}
"""Task -> the view that it did not name before it could be chosen."""


def viewed(node: dict[str, Any]) -> dict[str, Any]:
    """Return a task's node with its view."""
    return {"view": {"_target_": VIEWS[node["_target_"]]}} | node


DATA = ("tfcli.data.module.DataModule", *JOINED)


def named_columns(node: dict[str, Any]) -> dict[str, Any]:
    """Return a set's node whose `columns` are what it gives, which `kinds` once listed beside a table's own names."""
    columns = node.get("columns")
    if "kinds" in node and not isinstance(columns, dict):
        columns = dict.fromkeys(node["kinds"]) if "columns" in node else node["kinds"]
    return {key: value for key, value in node.items() if key != "kinds"} | ({"columns": columns} if columns else {})


def asked(node: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Shapes` for those of `AskedShapes`."""
    return {"scene_objects" if key == "objects" else key: value for key, value in node.items()}


ARGUMENTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    f"{PATTERNS}.Local": windows,
    "tfcli.data.synthetic.asked.AskedShapes": asked,
    **dict.fromkeys(VIEWS, viewed),
    **dict.fromkeys(DATA, named_columns),
}
"""Old dotted name -> what makes the new part's node of the old one, where arguments have changed too."""
KEYS = {"acts": "applies_to"}
"""Old key of a part of `tfcli.nn` -> new."""
SETTINGS = {"data.kinds": "data.columns"}
"""Old key of a setting -> new."""
OPTIONS = {"attn": {"window": "sliding", "local": "windows"}}
"""Group -> old option -> new."""
RENAMED = {
    ("attn", name): "it is now called `attn=sliding` (a token sees its neighbourhood; once `window`) or `attn=windows` "
    "(the axes are cut into windows; once `local`)"
    for name in OPTIONS["attn"]
}
"""Answers to a new command with an old option, by group and option."""


def values(config: Any) -> Any:
    """Return a saved config with today's names: of its parts, and of the options that were its `choices`."""
    new = _nodes(config)
    if not has_old_options(config) or not isinstance(new.get("choices"), dict):
        return new
    return new | {"choices": {g: OPTIONS.get(g, {}).get(name, name) for g, name in new["choices"].items()}}


def has_old_options(node: Any) -> bool:
    """Return whether a saved config holds parts by which an option with an old name is known to be ours."""
    if isinstance(node, dict):
        target = str(node.get("_target_"))
        return (target.startswith(PATTERNS) and target in TARGETS) or any(
            has_old_options(value) for value in node.values()
        )
    return isinstance(node, list) and any(has_old_options(value) for value in node)


def _nodes(node: Any) -> Any:
    if isinstance(node, list):
        return [_nodes(value) for value in node]
    if isinstance(node, str):
        return target(node)
    if not isinstance(node, dict):
        return node
    old = str(node.get("_target_"))
    keys = KEYS if old.startswith("tfcli.nn.") else {}
    return ARGUMENTS.get(old, dict)({keys.get(key) or key: _nodes(value) for key, value in node.items()})


def target(name: str) -> str:
    """Return today's dotted name of a part."""
    module, _, part = name.rpartition(".")
    return (TARGETS | JOINED).get(name) or (f"{MODULES[module]}.{part}" if module in MODULES else name)


def overrides(texts: Sequence[str], options: Callable[[str], Collection[str]] = lambda group: ()) -> list[str]:
    """Return the settings of a saved command with today's names.

    Args:
        texts: as they were typed.
        options: the options of a group as it is now; where a user's own has an old name, no option is translated.
    """
    keyed = ["".join((SETTINGS.get(key, key), *rest)) for key, *rest in (text.partition("=") for text in texts)]
    given = dict(text.partition("=")[::2] for text in keyed)
    renamed = [_override(text, given) for text in keyed]
    own = renamed != keyed and any(OPTIONS[group].keys() & set(options(group)) for group in OPTIONS)
    return keyed if own else renamed


def _override(text: str, given: dict[str, str]) -> str:
    key, equals, value = text.partition("=")
    group = key.lstrip("+").partition("@")[0]
    if value in OPTIONS.get(group, {}):
        return f"{key}={OPTIONS[group][value]}"
    node, inside, _ = key.partition(".pattern.shift")
    option = given.get(node) or given.get(f"attn@{node}")
    if equals and inside and option == "local" and value.isdigit():
        size = int(given.get(f"{node}.pattern.size", WINDOW_SIZE))
        return f"{key}={turned(size, int(value))}"
    return text
