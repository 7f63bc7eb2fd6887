"""Read the words of a command before Hydra does. Imports no torch.

Names stand for settings (`tfcli train vit digits`), and values are quoted as Hydra's grammar wants, which knows only
ASCII letters.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from difflib import get_close_matches

from tfcli.engine.config.configs import Configs
from tfcli.errors import ConfigError


def expand_names(words: Sequence[str], configs: Configs) -> list[str]:
    """Expand names that stand for settings: `vit digits` is short for `model=vit data=digits`.

    Raises:
        ConfigError: a word without `=` names no model, data set or experiment, or one of each.
    """
    return [word if "=" in word or word[:1] in "~+" else _name(word, configs) for word in words]


def _name(word: str, configs: Configs) -> str:
    """Return the setting that a name stands for, or that several names with commas do (of a sweep)."""
    pools = {group: [*configs.options(group)] for group in ("model", "data", "experiment")}
    pools["model"] += configs.classifiers()
    fits = [group for group, names in pools.items() if set(word.split(",")) <= set(names)]
    if len(fits) == 1:
        return f"{fits[0]}={word}"
    meant = [f"{group}=…" for group in configs.groups() if group == word]
    meant += [f"{group}={word}" for group in configs.groups() if word in configs.options(group)]
    if not meant:
        close = get_close_matches(word, [name for names in pools.values() for name in names], n=1, cutoff=0.6)
        meant = [f"{group}={name}" for name in close for group, names in pools.items() if name in names]
    hint = f" Did you mean {' or '.join(f'`{setting}`' for setting in meant)}?" if meant else ""
    raise ConfigError(f"`{word}` is not a setting.{hint} Settings are written key=value, for instance `model=vit`.")


_WORDS = re.compile(r"[A-Za-z0-9_ /+.%*@?|:-]*")
_MEANS_MORE = re.compile(r"""[,\[\]{}'"$\\]|^\w+\(""")
"""Lists, mappings, quotes, interpolations, escapes and functions, which the grammar reads."""


def literal(text: str) -> str:
    """Return an override with its value in quotes where that is plain text and yet no word of the grammar.

    So a folder may be called `/home/学生/Fotos (1)`, a file `epoch=3.ckpt`; and `~/photos`, which a shell leaves as it
    is behind `key=`, is the user's own.
    """
    key, equals, value = text.partition("=")
    if not equals or _MEANS_MORE.search(value):
        return text
    if value == "~" or value.startswith("~/"):
        value = os.path.expanduser(value)
    return f"{key}={value}" if _WORDS.fullmatch(value) else f"{key}='{value}'"
